"""The perturbation test: do the probabilities follow when patches are taken away in order of relevance?

Sources: Samek et al., "Evaluating the Visualization of What a Deep Neural Network Has Learned", 2017 (AOPC); Petsiuk,
Das, Saenko, "RISE", BMVC 2018 (deletion, insertion); Chefer et al., CVPR 2021 (positive and negative perturbation of
ViTs), which the TokenTM paper follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tokentm.errors import InvalidOptionError
from tokentm.evaluation.removal import Remover

FRACTIONS = tuple(k / 10 for k in range(11))
"""Shares of the patches that are taken away, from nothing to everything."""

_INNER = slice(1, 10)
"""10 % to 90 %, the range of the paper's test."""


class Curves(NamedTuple):
    """What happens while patches go, (B, 11) each.

    hit: 1 where the explained class has the highest logit, else 0. log_probability: of the explained class.
    """

    hit: Tensor
    log_probability: Tensor


@dataclass(frozen=True)
class PerturbationScores:
    """One number per image, (B,) each. Areas: trapezoidal rule, divided by the range, so a constant curve gives itself.

    Attributes:
        positive: area under the accuracy curve from 10 % to 90 %, most relevant patches first; lower is better.
        negative: the same, least relevant first; higher is better. The picture with nothing taken away is in neither.
        deletion: area under the probability from 0 % to 100 %, most relevant first; lower is better.
        insertion: area under the probability while patches come back, most relevant first, from nothing to the whole
            picture; higher is better. Bringing back the first k is taking away the last P - k, so this is the curve of
            ``negative`` read backwards.
        aopc: mean over 10 % .. 90 % of p(0 %) - p(k), most relevant first; higher is better.
        lodds: mean over 10 % .. 90 % of log p(k) - log p(0 %), most relevant first; lower is better.
    """

    positive: Tensor
    negative: Tensor
    deletion: Tensor
    insertion: Tensor
    aopc: Tensor
    lodds: Tensor


def ranking(scores: Tensor) -> Tensor:
    """Patch indices, most relevant first, (B, P). Ties are broken by one fixed shuffle, not by where a patch lies."""
    patches = scores.shape[1]
    shuffle = torch.randperm(patches, generator=torch.Generator().manual_seed(0)).to(scores.device)
    return shuffle[scores[:, shuffle].argsort(dim=1, descending=True, stable=True)]


def curves(remove: Remover, order: Tensor, target: Tensor) -> Curves:
    """Take away the first 0 %, 10 % ... 100 % of an order of patches (B, P); target (B,) is the explained class."""
    batch, patches = order.shape
    hits, logs = [], []
    for fraction in FRACTIONS:
        gone = torch.zeros(batch, patches, dtype=torch.bool, device=order.device)
        gone.scatter_(1, order[:, : round(fraction * patches)], True)
        logits = remove(gone)
        hits.append((logits.argmax(1) == target).to(logits))
        logs.append(logits.log_softmax(1).gather(1, target[:, None]).squeeze(1))
    return Curves(torch.stack(hits, 1), torch.stack(logs, 1))


def perturbation(remove: Remover, scores: Tensor, target: Tensor) -> PerturbationScores:
    """Score a ranking of patches.

    Args:
        remove: gone (B, P), bool -> logits (B, classes), for example :class:`tokentm.evaluation.Removal`.
        scores: relevance of each patch, (B, P).
        target: explained class per image, (B,).

    Raises:
        InvalidOptionError: scores that are not one row of patches per target.

    Example:
        >>> trace = tokentm.record(model, images)
        >>> perturbation(Removal(trace), tokentm.TokenTM()(trace).scores, trace.target).aopc
        tensor([0.61])
    """
    if scores.ndim != 2 or target.shape != scores.shape[:1]:
        raise InvalidOptionError(
            f"expected scores (B, P) and targets (B,); got {tuple(scores.shape)} and {tuple(target.shape)}."
        )
    order = ranking(scores)
    first, last = curves(remove, order, target), curves(remove, order.flip(1), target)
    probability, kept = first.log_probability.exp(), last.log_probability.exp()
    return PerturbationScores(
        positive=_area(first.hit[:, _INNER]),
        negative=_area(last.hit[:, _INNER]),
        deletion=_area(probability),
        insertion=_area(kept),
        aopc=(probability[:, :1] - probability[:, _INNER]).mean(1),
        lodds=(first.log_probability[:, _INNER] - first.log_probability[:, :1]).mean(1),
    )


def _area(curve: Tensor) -> Tensor:
    return torch.trapezoid(curve, dim=1) / (curve.shape[1] - 1)
