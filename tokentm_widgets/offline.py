"""The explorer in a page without a kernel: everything that its reader can choose there is computed before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, TypedDict

import torch
from torch import Tensor

from tokentm import Explanation, Trace, methods
from tokentm.errors import InvalidOptionError, TokenTMError
from tokentm.plots import named_classes, target_names
from tokentm_widgets import looking, trust
from tokentm_widgets.base import Widget, as_part
from tokentm_widgets.looking import VIEWS, Looked, Subject, TrustData
from tokentm_widgets.progress import Progress, reporter, reporting
from tokentm_widgets.schema import Dims, packed

TOP = 5
"""How many classes are offered, as on the screen, beside the chosen one."""
_BATCH = 16
PATCHES = 48
"""Of how many patches a page holds what they take in every layer, for every class: a quarter of the demo's."""


class OfferedData(TypedDict):
    """A class that can be chosen in the page."""

    target: int | None
    explained: str
    named: str
    score: float


class OfflineData(TypedDict):
    """Maps of K classes by M methods, and their checks, a class after the other; D methods have maps after layers."""

    offered: list[OfferedData]
    methods: Annotated[list[str], Dims("list", "M")]
    specific: list[bool]
    grown: Annotated[list[str], Dims("list", "D")]
    layers: Annotated[int, Dims("size", "L")]
    scores: Annotated[bytes, Dims("float32", "K M P")]
    growth: Annotated[bytes, Dims("float32", "K D L P")]
    trust: list[TrustData]


def data(
    subject: Subject,
    looked: Looked,
    classes: Sequence[str],
    settings: dict[str, dict[str, Any]],
    patches: int | None = PATCHES,
    progress: Progress = True,
) -> dict[str, Any]:
    """What a page needs beside the explorer's own data.

    Args:
        subject: the model, and how it is asked.
        looked: what is on the screen.
        classes: names of all outputs.
        settings: what was chosen in each view.
        patches: of how many patches to hold what they take in every layer; None for all.
        progress: as :mod:`tokentm_widgets.progress` takes it.

    Returns:
        ``offline``: see :class:`OfflineData`. ``parts``: of each view its ``data``, one for all classes or one for each
        of them, and its ``settings``; or ``why`` it cannot be in the page.
    """
    with reporting(progress, "recording the offered classes") as report:
        several = _of_all(subject, looked)
        trace, answers = several.trace, target_names(several.trace, classes)
        named = named_classes(trace, classes)
        made = _explanations(trace, looked.explanation.method, reporter(report, (0.05, 0.15)))
        measured = _checks(subject, several, made, reporter(report, (0.15, 0.6)))
        grown = {name: grown for name, one in made.items() if (grown := looking.growth(one)) is not None}
        layers = looked.sizes["L"]
        none_grows = torch.zeros(len(answers), 0, layers, looked.sizes["P"])
        values = looked.explanation.probabilities
        odds = looked.explanation.logits if values is None else values
        sent = {
            "offered": [
                {
                    "target": None if trace.target is None else int(trace.target[k]),
                    **{"explained": name, "named": named[k], "score": score},
                }
                for k, (name, score) in enumerate(zip(answers, trace.scores.tolist(), strict=True))
            ],
            "methods": list(made),
            "specific": [methods.get(name).class_specific for name in made],
            "grown": list(grown),
            "layers": layers,
            "scores": torch.stack([one.scores for one in made.values()], 1),
            "growth": torch.stack([*grown.values()], 1) if grown else none_grows,
            "trust": [
                looking.sent_trust(measured[k, name], classes, odds[0]) for k in range(len(answers)) for name in made
            ],
        }
        # the lengths of the named dimensions come with the grid
        grid = {"rows": trace.layout.rows, "columns": trace.layout.columns}
        parts = _parts(several, classes, settings, patches, reporter(report, (0.6, 1)))
    return {"offline": packed(_Gridded, {**grid, **sent}).data, "parts": parts}


class _Gridded(OfflineData):
    rows: int
    columns: int


def offered(logits: Tensor, target: int, unit: str) -> list[int]:
    """The classes that are offered: the likeliest, or the outputs farthest from zero, and the chosen one among them.

    Outputs without probabilities keep the model's order where all find room, as on the screen.

    Args:
        logits: of one image, (C,).
        target: the chosen class.
        unit: what the outputs mean.
    """
    if unit == "none" and len(logits) <= TOP:
        return list(range(len(logits)))
    size = logits.abs() if unit == "none" else logits
    top = size.argsort(descending=True, stable=True)[:TOP].tolist()
    return top if target in top else [*top, target]


def _of_all(subject: Subject, looked: Looked) -> Looked:
    """The picture recorded once for each class that is offered, as one record; a chosen score stays alone."""
    trace = looked.trace
    if trace.target is None:
        return looked
    targets = offered(trace.logits[0], int(trace.target[0]), trace.outputs)
    images = trace.images[:1].expand(len(targets), -1, -1, -1)
    return replace(looked, trace=subject.record(images, torch.tensor(targets, device=images.device)))


def _explanations(trace: Trace, shown: str, progress: Progress) -> dict[str, Explanation]:
    """Explanations by the method that is shown and all that read the record quickly; those that cannot are left out."""
    report, made = reporter(progress), {}
    quick = [name for name, one in methods.METHODS.items() if not one.reruns_model and name not in trust.COSTLY]
    names = [name for name in methods.METHODS if name == shown or name in quick]
    for done, name in enumerate(names):
        report(done / len(names), f"computing {name}")
        try:
            made[name] = methods.get(name)(trace)
        except TokenTMError:
            continue
    return made


def _checks(
    subject: Subject, looked: Looked, made: dict[str, Explanation], progress: Progress
) -> dict[tuple[int, str], trust.Trust]:
    """The checks of every class by every method: the model is run once for each map, and on random patches once."""
    trace = looked.trace
    maps = {name: one.scores.detach().float().cpu() for name, one in made.items()}
    each = [(k, name) for k in range(len(trace.logits)) for name in maps]
    patches = looked.sizes["P"]
    tops = torch.cat([trust.hidden(trust.strongest(maps[name][k]), patches) for k, name in each])
    count = int(tops[0].sum())
    gone = torch.cat((tops, trust.drawn(patches, count)))
    logits = trust.answers_without(trace, gone, progress, batch=_BATCH)
    least = _least_likely(subject, trace, list(maps))
    outliers = {name: trust.free_of_outliers(trace, one) for name, one in made.items()}
    found = {}
    for i, (k, name) in enumerate(each):
        [without] = trust.measured(trace, logits[i : i + 1], k)
        randoms = trust.measured(trace, logits[len(each) :], k)
        others = {other: maps[other][k] for other in trust.others_of(name) if other in maps}
        found[k, name] = trust.Trust(
            trust.no_other_class(trace, name) or trust.changes(maps[name][k], *least[k, name]),
            trust.removal_check(trace, k, without, randoms, count),
            trust.agree(maps[name][k], others) if others else looking.NO_OTHER_METHOD,
            outliers[name][k],
        )
    return found


def _least_likely(subject: Subject, trace: Trace, names: Sequence[str]) -> dict[tuple[int, str], tuple[Tensor, int]]:
    """Maps of the least likely class beside each class that is offered, by those methods that tell classes apart."""
    found: dict[tuple[int, str], tuple[Tensor, int]] = {}
    compared = [name for name in names if not trust.no_other_class(trace, name)]
    if trace.target is None or not compared:
        return found
    beside = [trust.least_likely(logits, int(k)) for logits, k in zip(trace.logits, trace.target, strict=True)]
    for other in dict.fromkeys(beside):
        record = subject.record(trace.images[:1], other)
        for name in compared:
            scores = methods.get(name)(record).scores[0].detach().float().cpu()
            found |= {(k, name): (scores, other) for k, one in enumerate(beside) if one == other}
    return found


def _parts(
    looked: Looked,
    classes: Sequence[str],
    settings: dict[str, dict[str, Any]],
    patches: int | None,
    progress: Progress,
) -> dict[str, Any]:
    """Every view for all classes that are offered, or the reason why it is not in the page."""
    parts: dict[str, Any] = {}
    for done, (name, view) in enumerate(VIEWS.items()):
        part = reporter(progress, (done / len(VIEWS), (done + 1) / len(VIEWS)))
        try:
            with as_part():
                made = _films(looked, classes, part) if name == "removal" else [view.make(looked, classes, part)]
            options = {"patches": patches} if name == "layers" else {}
            sent = [{**one.offline_data(**options), "pictures": []} for one in made]  # the explorer has the picture
            parts[name] = {"data": sent, "settings": _kept(name, made[0], settings[name])}
        except InvalidOptionError as error:  # a record too large for a page
            parts[name] = {"why": str(error)}
    return parts


def _films(looked: Looked, classes: Sequence[str], progress: Progress) -> list[Widget]:
    """A film shows one class; the others have one of their own."""
    count = len(looked.trace.logits)
    return [looking.removal(looked, classes, reporter(progress, (k / count, (k + 1) / count)), k) for k in range(count)]


def _kept(name: str, view: Widget, settings: dict[str, Any]) -> dict[str, Any]:
    chosen = {**looking.settings(name, view), **settings}
    return {name: False if name == "playing" else value for name, value in chosen.items()}
