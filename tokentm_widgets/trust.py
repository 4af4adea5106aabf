"""How far to trust a map: four checks, each measured and none of them a proof. Pure functions of tensors and records.

They ask whether the map changes with the class, whether the patches that it calls strong matter to the model, whether
other methods point at the same ones, and whether it lies on outlier tokens. Strong is the strongest tenth of the
patches: 20 of 196.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tokentm import Explanation, Trace, methods, tokens
from tokentm.errors import TokenTMError
from tokentm.evaluation.removal import Removal
from tokentm.outputs import probabilities
from tokentm_widgets.progress import Progress, reporter
from tokentm_widgets.scores import agreement, rank
from tokentm_widgets.titles import title_of

DRAWS = 10
"""How many random choices of patches a removal is compared with."""
SEED = 0

_FEW, _MANY = 5 / 20, 14 / 20  # of the strongest patches, shared by two classes
_ALL, _SOME = 0.8, 0.4  # of the other methods, agreeing


@dataclass(frozen=True, eq=False)
class ClassCheck:
    """Does the map change with the class?

    Attributes:
        verdict: "Yes" where at most a quarter of the strongest patches are shared, "Partly" up to seven tenths, else
            "Hardly".
        other: index of the output that it was compared with: the least likely class, or the lowest output.
        scores: the map of that one, (P,).
        correlation: Spearman's rank correlation of the two maps, -1 .. 1; None where one of them ranks nothing.
        shared: patches that are among the strongest of both, row-major.
        count: how many patches were called strongest.
    """

    verdict: Literal["Yes", "Partly", "Hardly"]
    other: int
    scores: Tensor
    correlation: float | None
    shared: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class RemovalCheck:
    """Do these patches matter?

    Attributes:
        verdict: "Yes" or "Not clearly", see :func:`matters`; "No" where nothing is lost without them.
        unit: whether the three numbers are a "probability" or the explained "score".
        whole: of the picture as it is.
        strongest: without the strongest patches.
        random: without as many random ones, mean of :data:`DRAWS` draws.
        count: how many patches were taken away.
    """

    verdict: Literal["Yes", "Not clearly", "No"]
    unit: Literal["probability", "score"]
    whole: float
    strongest: float
    random: float
    count: int


@dataclass(frozen=True)
class MethodCheck:
    """Do other methods agree?

    Attributes:
        verdict: "Yes" where at least four fifths of the others agree, "Mostly" from two fifths on, else "Hardly".
        agreeing: methods that share at least half of the strongest patches.
        others: all methods that were asked.
        count: how many patches were called strongest.
    """

    verdict: Literal["Yes", "Mostly", "Hardly"]
    agreeing: tuple[str, ...]
    others: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class OutlierCheck:
    """Is the map free of outlier tokens?

    Attributes:
        verdict: "Yes" where there are none, "Mostly" where they do not dominate the map, "No" where they do; see
            :func:`tokentm.tokens.findings`.
        patches: the patches of outlier tokens, row-major.
        count: how many patches there are.
        share: of the map's positive mass, what lies on them.
        advice: what helps where they dominate; else empty.
    """

    verdict: Literal["Yes", "Mostly", "No"]
    patches: tuple[int, ...]
    count: int
    share: float
    advice: str


@dataclass(frozen=True, eq=False)
class Trust:
    """The four checks of one map; a text in place of one says why it cannot be made, None that nobody asked for it."""

    classes: ClassCheck | str
    removal: RemovalCheck | str | None
    methods: MethodCheck | str | None
    outliers: OutlierCheck


def strongest(scores: Tensor) -> Tensor:
    """The strongest tenth of the patches, at least one, strongest first; ties in the order of the patches.

    Args:
        scores: (P,).

    Returns:
        Indices of patches, (round(P / 10),): 20 of 196.
    """
    return scores.argsort(descending=True, stable=True)[: tenth(len(scores))]


def tenth(patches: int) -> int:
    """How many of so many patches are called strongest: a tenth, at least one."""
    return max(1, round(patches / 10))


def changes(scores: Tensor, others: Tensor, other: int) -> ClassCheck:
    """Compare a map with that of another class.

    Args:
        scores: of the explained class, (P,).
        others: of the other class, (P,).
        other: its index.
    """
    top = strongest(scores).tolist()
    shared = tuple(sorted(set(top) & set(strongest(others).tolist())))
    part = len(shared) / len(top)
    verdict: Literal["Yes", "Partly", "Hardly"] = "Yes" if part <= _FEW else "Partly" if part <= _MANY else "Hardly"
    correlation = agreement(torch.stack((rank(scores), rank(others)))[:, None])[0, 0, 1].item()
    return ClassCheck(verdict, other, others, None if math.isnan(correlation) else correlation, shared, len(top))


def least_likely(logits: Tensor, target: int) -> int:
    """The output that the model finds least likely, (C,) -> index; never the explained one."""
    return int(logits.index_fill(0, torch.tensor(target, device=logits.device), float("inf")).argmin())


def judged(unit: Literal["probability", "score"], whole: float, without: float, random: float) -> bool:
    """Whether patches matter more than random ones.

    A probability has to fall below half of what it was, and below half of what is left without random patches. A score,
    which has no zero, has to fall, by at least twice as much as random patches move it.
    """
    if unit == "probability":
        return without < whole / 2 and without < random / 2
    return whole - without > 0 and whole - without >= 2 * abs(whole - random)


def matters(trace: Trace, scores: Tensor, progress: Progress = False, index: int = 0) -> RemovalCheck:
    """Paint the strongest patches over with the image's mean colour, and as many random ones, and ask the model.

    Args:
        trace: the record; its model is run ``DRAWS`` + 1 times on one image.
        scores: the map, (P,).
        progress: as :mod:`tokentm_widgets.progress` takes it.
        index: which image of the record.

    Raises:
        ModelChangedError: the model is no longer what was recorded.
    """
    top = strongest(scores)
    gone = torch.cat((hidden(top, len(scores)), drawn(len(scores), len(top))))
    without = measured(trace, answers_without(trace, gone, progress, index), index)
    return removal_check(trace, index, without[0], without[1:], len(top))


def removal_check(trace: Trace, index: int, without: float, randoms: Sequence[float], count: int) -> RemovalCheck:
    """What was measured without ``count`` strongest patches, and without random ones, beside the picture as it is."""
    unit, random = _unit(trace), sum(randoms) / len(randoms)
    whole = measured(trace, trace.logits[index : index + 1], index)[0]
    verdict: Literal["Yes", "Not clearly", "No"] = "Not clearly"
    if without >= whole:
        verdict = "No"
    elif judged(unit, whole, without, random):
        verdict = "Yes"
    return RemovalCheck(verdict, unit, whole, without, random, count)


def hidden(patches: Tensor, of: int) -> Tensor:
    """Some patches out of ``of`` as a mask, (1, of)."""
    return torch.zeros(1, of, dtype=torch.bool).index_fill(1, patches.cpu(), True)


def drawn(of: int, count: int) -> Tensor:
    """``count`` random patches out of ``of``, :data:`DRAWS` times, always the same ones, (DRAWS, of)."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.cat([hidden(torch.randperm(of, generator=generator)[:count], of) for _ in range(DRAWS)])


def answers_without(trace: Trace, gone: Tensor, progress: Progress = False, index: int = 0, batch: int = 1) -> Tensor:
    """The model's logits for one image with patches painted over in its mean colour.

    Args:
        trace: the record.
        gone: masks, (n, P).
        progress: as :mod:`tokentm_widgets.progress` takes it.
        index: which image of the record.
        batch: how many of them the model sees at once.

    Returns:
        (n, C).
    """
    report, found = reporter(progress), []
    gone = gone.to(trace.images.device)
    for first in range(0, len(gone), batch):
        report(first / len(gone), "taking patches away")
        part = gone[first : first + batch]
        if first == 0 or len(part) != batch:
            remove = Removal(trace, "mean", index=index, count=len(part))
        found.append(remove(part).detach())
    return torch.cat(found)


def measured(trace: Trace, logits: Tensor, index: int) -> list[float]:
    """What is asked of logits (n, C) of one image: the explained class's probabilities, or the explained scores."""
    every = probabilities(logits, trace.outputs)
    if trace.target is None:
        return Removal(trace, "mean", index=index).score(logits).tolist()
    return (logits if every is None else every)[:, int(trace.target[index])].tolist()


def agree(scores: Tensor, others: Mapping[str, Tensor]) -> MethodCheck:
    """How many other methods point at the same patches.

    Args:
        scores: the map, (P,).
        others: maps of other methods by name, (P,) each, at least one.
    """
    top = set(strongest(scores).tolist())
    agreeing = tuple(name for name, of in others.items() if 2 * len(top & set(strongest(of).tolist())) >= len(top))
    part = len(agreeing) / len(others)
    verdict: Literal["Yes", "Mostly", "Hardly"] = "Yes" if part >= _ALL else "Mostly" if part >= _SOME else "Hardly"
    return MethodCheck(verdict, agreeing, tuple(others), len(top))


def free_of_outliers(trace: Trace, explanation: Explanation) -> list[OutlierCheck]:
    """Whether outlier tokens hold a map, image by image."""
    return [
        OutlierCheck(
            "No" if found.dominated else "Mostly" if found.patches else "Yes",
            found.patches,
            found.count,
            found.share,
            found.advice,
        )
        for found in tokens.findings(trace, explanation)
    ]


COSTLY = frozenset({"alti"})
"""Methods that read the record alone and yet take longer than all others together: computed where a user asks."""


def others_of(method: str) -> list[str]:
    """The methods that one is compared with: those that read the same record quickly, but no other reading of the same
    method, and not the random one, which agrees with nobody."""
    family, left_out = method.startswith("tokentm"), {method, "random", *COSTLY}
    return [
        name
        for name, one in methods.METHODS.items()
        if not one.reruns_model and name not in left_out and not (family and name.startswith("tokentm"))
    ]


def maps_of(trace: Trace, names: list[str], progress: Progress = False) -> dict[str, Tensor]:
    """Maps of methods by name, (B, P) each; those that cannot read the record are left out."""
    report, found = reporter(progress), {}
    for done, name in enumerate(names):
        report(done / len(names), f"computing {name}")
        try:
            found[name] = methods.get(name)(trace).scores.detach().float().cpu()
        except TokenTMError:
            continue
    return found


def no_other_class(trace: Trace, method: str) -> str:
    """Why a map cannot be compared with that of another class; empty where it can."""
    if not methods.get(method).class_specific:
        return f"{title_of(method).name} gives every class the same map."
    if trace.target is None:
        return "A chosen score was explained, which has no classes to compare."
    if trace.logits.shape[1] < 2:
        return "The model has one output: there is no other class to compare with."
    return ""


def _unit(trace: Trace) -> Literal["probability", "score"]:
    return "score" if trace.target is None or trace.probabilities is None else "probability"
