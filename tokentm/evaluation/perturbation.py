"""The perturbation test: does the probability or the score follow when patches are taken away in order of relevance?

Sources: Samek et al., "Evaluating the Visualization of What a Deep Neural Network Has Learned", 2017 (AOPC); Petsiuk,
Das, Saenko, "RISE", BMVC 2018 (deletion, insertion); Chefer et al., CVPR 2021 (positive and negative perturbation of
ViTs), which the TokenTM paper follows; Blücher, Vielhaben, Strodthoff, "Decoupling Pixel Flipping and Occlusion
Strategy for Consistent XAI Benchmarks", TMLR 2024 (symmetric relevance gain).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tokentm.evaluation.observed import Measured, check, meaning_for, observe
from tokentm.evaluation.removal import Remover
from tokentm.outputs import Meaning

FRACTIONS = tuple(k / 10 for k in range(11))
"""Shares of the patches that are taken away, from nothing to everything."""

_INNER = slice(1, 10)
"""10 % to 90 %, the range of the paper's test."""


class Curves(NamedTuple):
    """What happens while patches go, (B, 11) each; see :class:`tokentm.evaluation.observed.Observed`.

    value: the probability of the explained class, or the score where a function is explained. hit: 1 where the model's
    answer is the explained class, else 0; log_probability, log_odds: of the explained class, in nats. The last three
    are None for a score.
    """

    value: Tensor
    hit: Tensor | None
    log_probability: Tensor | None
    log_odds: Tensor | None


@dataclass(frozen=True)
class PerturbationScores:
    """One number per image, (B,) each. Areas: trapezoidal rule, divided by the range, so a constant curve gives itself.

    What is measured is the probability p of the explained class; where a function is explained, its score takes the
    place of p, and what only a class has is None.

    Attributes:
        positive: area under the accuracy curve from 10 % to 90 %, most relevant patches first; lower is better. None
            for a score.
        negative: the same, least relevant first; higher is better. The picture with nothing taken away is in neither.
        deletion: area under p from 0 % to 100 %, most relevant first; lower is better.
        insertion: area under p while patches come back, most relevant first, from nothing to the whole picture; higher
            is better. Bringing back the first k is taking away the last P - k, so this is the curve of ``negative``
            read backwards.
        aopc: mean over 10 % .. 90 % of p(0 %) - p(k), most relevant first; higher is better.
        lodds: mean over 10 % .. 90 % of log p(k) - log p(0 %), most relevant first; lower is better; in nats. None
            for a score.
        srg: symmetric relevance gain, the area between the curves of p from 0 % to 100 %, least relevant first minus
            most relevant first, which is insertion - deletion; higher is better, 0 for a ranking by chance on average.
            -1 .. 1 for a probability.
        log_odds_deletion, log_odds_insertion, log_odds_srg: the same three areas of log p / (1 - p), in nats, which
            still moves where p rounds to 0 or 1. None for a score.

    Departures:
        SRG is published of areas of p, of accuracy, and of logits; figures above 1 cannot be areas of p. ``negative`` -
        ``positive`` is that of accuracy, over 10 % .. 90 %.
    """

    positive: Tensor | None
    negative: Tensor | None
    deletion: Tensor
    insertion: Tensor
    aopc: Tensor
    lodds: Tensor | None
    srg: Tensor
    log_odds_deletion: Tensor | None
    log_odds_insertion: Tensor | None
    log_odds_srg: Tensor | None


def ranking(scores: Tensor) -> Tensor:
    """Patch indices, most relevant first, (B, P). Ties are broken by one fixed shuffle, not by where a patch lies."""
    tied = shuffle(scores.shape[1]).to(scores.device)
    return tied[scores[:, tied].argsort(dim=1, descending=True, stable=True)]


def shuffle(patches: int) -> Tensor:
    """The order in which equal patches go, always the same one, (P,)."""
    return torch.randperm(patches, generator=torch.Generator().manual_seed(0))


def without_first(remove: Remover, order: Tensor, counts: Iterable[int]) -> Iterator[Tensor]:
    """Logits (B, classes) while the first patches of an order (B, P) go: once for each of the counts, as asked for."""
    for count in counts:
        gone = torch.zeros(order.shape, dtype=torch.bool, device=order.device)
        yield remove(gone.scatter_(1, order[:, :count], True))


def curves(remove: Remover, order: Tensor, target: Measured, outputs: Meaning | None = None) -> Curves:
    """Take away the first 0 %, 10 % ... 100 % of an order of patches (B, P), and measure; see :func:`perturbation`."""
    check(order, target)
    meaning = meaning_for(remove, outputs)
    counts = [round(fraction * order.shape[1]) for fraction in FRACTIONS]
    seen = [observe(logits, target, meaning) for logits in without_first(remove, order, counts)]
    values, *others = zip(*seen, strict=True)
    return Curves(torch.stack(values, 1), *map(_stack, others))


def _stack(steps: Sequence[Tensor | None]) -> Tensor | None:
    there = [step for step in steps if step is not None]
    return torch.stack(there, 1) if there else None


def perturbation(
    remove: Remover, scores: Tensor, target: Measured, outputs: Meaning | None = None
) -> PerturbationScores:
    """Score a ranking of patches.

    Args:
        remove: gone (B, P), bool -> logits (B, classes), for example :class:`tokentm.evaluation.Removal`.
        scores: relevance of each patch, (B, P).
        target: explained class per image, (B,), whose probability is measured; or a function, logits -> (B,), whose
            score is.
        outputs: what the logits mean, see :data:`tokentm.outputs.Meaning`; None asks ``remove``, as ``Removal`` knows,
            else "softmax".

    Raises:
        InvalidOptionError: scores that are not one row of patches per target, no target, or a class of a model whose
            outputs have no probabilities.

    Example:
        >>> trace = tokentm.record(model, images)
        >>> remove = tokentm.evaluation.Removal(trace)
        >>> perturbation(remove, tokentm.TokenTM()(trace).scores, trace.target).aopc.shape
        torch.Size([1])
    """
    check(scores, target)
    order = ranking(scores)
    first, last = (curves(remove, one, target, outputs) for one in (order, order.flip(1)))
    logs = first.log_probability
    deletion, insertion = _area(first.value), _area(last.value)
    of_odds = [None if one.log_odds is None else _area(one.log_odds) for one in (first, last)]
    return PerturbationScores(
        positive=None if first.hit is None else _area(first.hit[:, _INNER]),
        negative=None if last.hit is None else _area(last.hit[:, _INNER]),
        deletion=deletion,
        insertion=insertion,
        aopc=(first.value[:, :1] - first.value[:, _INNER]).mean(1),
        lodds=None if logs is None else (logs[:, _INNER] - logs[:, :1]).mean(1),
        srg=insertion - deletion,
        log_odds_deletion=of_odds[0],
        log_odds_insertion=of_odds[1],
        log_odds_srg=None if of_odds[0] is None or of_odds[1] is None else of_odds[1] - of_odds[0],
    )


def _area(curve: Tensor) -> Tensor:
    return torch.trapezoid(curve, dim=1) / (curve.shape[1] - 1)
