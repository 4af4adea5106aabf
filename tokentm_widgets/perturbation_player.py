"""Take patches away in the order of several methods, and watch the probabilities, or the explained score, follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
import traitlets
from torch import Tensor

from tokentm import Method, Trace
from tokentm.errors import InvalidOptionError
from tokentm.evaluation.perturbation import ranking, without_first
from tokentm.evaluation.removal import Removal, Replacement
from tokentm.names import ClassNames
from tokentm.outputs import probabilities
from tokentm.plots import Picture, Plot, named_classes
from tokentm.questions import ClassScore
from tokentm.renamed import renamed
from tokentm_widgets.base import Position, TraceWidget, front_end, styles
from tokentm_widgets.progress import Progress, Reporter, reporter, reporting, reporting_each
from tokentm_widgets.schema import Dims, RecordData
from tokentm_widgets.scores import scores_of
from tokentm_widgets.titles import MethodTitle, titles_of

METHODS = ("tokentm", "rollout", "random")
DASHES = ("", "6 3", "2 3", "8 3 2 3")
"""How the lines of the shown classes are broken, so that colour is never the only difference."""
HALVES = (0, 0.5, 1)
_OF_METHODS = 0.2
"""About the share of the time that the maps take; the rest goes into the model's answers."""


class PerturbationPlayerData(RecordData):
    """Rankings, most relevant patch first, and C curves over S steps, most and least relevant first."""

    methods: Annotated[list[str], Dims("list", "M")]
    titles: dict[str, MethodTitle]
    failures: dict[str, str]
    explained: str
    names: Annotated[list[str], Dims("list", "C")]
    unit: str
    dashes: Annotated[list[str], Dims("list", "C")]
    counts: Annotated[list[int], Dims("list", "S")]
    replace: str
    rankings: Annotated[bytes, Dims("int16", "M P")]
    curves: Annotated[bytes, Dims("float32", "M 2 S C")]
    areas: Annotated[bytes, Dims("float32", "M 2")]


class PerturbationPlayer(TraceWidget):
    """The perturbation test as a film: the picture loses patches, curves show what the model still believes.

    A ranking that finds what the model reads makes the probability of the explained class fall early when the most
    relevant patches go first, and late when the least relevant do. Where a function was explained, or the outputs have
    no probabilities, the explained score takes the place of the probability. Everything is computed before the widget
    is shown, a forward pass over all methods and both orders at each step; playing asks no kernel.

    Args:
        trace: from :func:`tokentm.record`.
        methods: whose rankings to follow: names or callables, as in :class:`MethodComparison`.
        images: the picture as the model saw it, or one for each image of the trace; None shows grey.
        classes: class names: a list in the order of the outputs or a dict by index; None takes the model's own.
        index: which image (or class) of the trace is explained, 0 .. B-1.
        shown: classes (indices of logits) that are drawn, at most four, the first of which is measured: their
            probabilities, or their outputs where there are none. None takes the explained class and the two most
            probable others; where there are no probabilities, or a function was explained, the explained score alone.
        replace: how patches are taken away, see :class:`tokentm.evaluation.Removal`. Under "drop" a model without a
            class token keeps its last patch.
        steps: in how many steps all patches go; None takes 28, or one a patch where there are fewer.
        progress: show a progress bar where computing takes longer than a second; or a function that hears of the
            share done and may cancel by raising, see :mod:`tokentm_widgets.progress`.

    Attributes:
        step: how far the film has run, 0 .. number of steps; ``counts[step]`` patches are gone.
        order: "most" takes the most relevant patches first, "least" the least relevant.
        playing: whether the steps advance by themselves.
        speed: how fast, in steps per second: 1, 2, 4 or 8.
        curves: what is measured at each step, by method and order, (methods, 2, steps + 1, curves); not synchronised.
        unit: what the curves are, "probability" or "score".
        counts: how many patches are gone at each step.

    Raises:
        InvalidOptionError: unknown methods, classes or replacements; "drop" for a model that cannot drop tokens.
        traitlets.TraitError: an attribute set to a value that does not exist, with those that do.

    Sources: Samek et al. 2017; Petsiuk et al., BMVC 2018 (deletion, insertion); Chefer et al., CVPR 2021.

    Example:
        >>> player = PerturbationPlayer(trace, images=scene.image, classes=demo.classes)
        >>> sorted(player.areas())
        ['random', 'rollout', 'tokentm']
    """

    _esm, _css, _schema = front_end("perturbation_player"), styles("perturbation_player"), PerturbationPlayerData

    step = Position("S")
    order = traitlets.Enum(("most", "least"), "most").tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Enum((1, 2, 4, 8), 4).tag(sync=True)

    reading = (
        "Each film takes patches away, in the order in which one method ranks them, and the curve shows what the model "
        "then says. If a method finds what the model reads, the curve falls at once when the most relevant patches go "
        "first, and late when they go last."
    )

    by_keys = (
        "Keys: on the slider the arrows take patches away or give them back; Home and End go to the ends of the film."
    )

    @property
    def heading(self) -> str:
        return f"What the model still says of {self._explained_name} when patches go"

    @renamed(image="images")
    def __init__(
        self,
        trace: Trace,
        methods: Sequence[str | Method] = METHODS,
        images: Picture | Sequence[Picture] | None = None,
        classes: ClassNames | None = None,
        *,
        index: int = 0,
        shown: Sequence[int] | None = None,
        replace: Replacement = "drop",
        steps: int | None = None,
        progress: Progress = True,
        **state: Any,
    ) -> None:
        self._open(trace, images, classes, state)
        if isinstance(index, bool) or not 0 <= index < len(trace.logits):
            raise InvalidOptionError(f"expected index from 0 to {len(trace.logits) - 1}; got {index}.")
        patches = trace.layout.rows * trace.layout.columns
        self._index, self._asked, self._explained_name = index, shown, self._names[index]
        if isinstance(trace.explained, ClassScore):  # the score made the ranking; what is drawn is of the class
            self._explained_name = named_classes(trace, self._classes)[index]
        drawn = _drawn(trace, index, shown, self._explained_name, self._classes)
        self._names, self.unit = drawn.names, drawn.unit
        self._pictures = self._pictures[index % len(self._pictures) :][:1] if self._pictures else []
        self.counts = steps_of(patches, steps, keeps_one=replace == "drop" and trace.layout.prefix == 0)
        self._patches = patches
        with reporting(progress, "computing methods") as report:
            scores, self.failures = scores_of(trace, methods, reporter(report, (0.0, _OF_METHODS)))
            rankings = ranking(torch.stack([of[index] for of in scores.values()]))
            removing = reporter(report, (_OF_METHODS, 1.0))
            self.curves = _curves(trace, index, rankings, self.counts, drawn, replace, removing)
        self.methods = list(scores)
        super().__init__(
            {
                "methods": self.methods,
                "titles": titles_of([*self.methods, *self.failures]),
                "failures": self.failures,
                "explained": self._explained_name,
                "names": self._names,
                "unit": self.unit,
                "dashes": list(DASHES[: len(self._names)]),
                "counts": self.counts,
                "replace": replace,
                "rankings": rankings,
                "curves": self.curves,
                "areas": _areas(self.curves, self.counts),
            },
            **state,
        )

    @property
    def probabilities(self) -> Tensor | None:
        """The curves where they are probabilities, of each shown class; None where they are scores."""
        return self.curves if self.unit == "probability" else None

    def areas(self) -> dict[str, float]:
        """Mean of the first curve along the film, by method, in the order shown now.

        The area under the curve, divided by its range. Lower is better for "most", higher for "least".
        """
        areas = _areas(self.curves, self.counts)[:, ("most", "least").index(self.order)]
        return dict(zip(self.methods, areas.tolist(), strict=True))

    def figure(self) -> Plot:
        """The curves of all methods in the order shown now, as a figure; a line marks the step."""
        what = {"probability": "Probabilities", "score": "Scores"}[self.unit]
        alt = f"{what} of {', '.join(self._names)} while the {self.order} relevant patches go, by method"
        figure = Plot(alt, 2.6 * len(self.methods) + 0.6, 2.9)
        axes = figure.subplots(1, len(self.methods), squeeze=False, sharey=True)[0]
        gone = [count / self._patches for count in self.counts]
        number = "{:.2f}".format if self.unit == "probability" else "{:.3g}".format
        low, high = _range(self.curves, self.unit)
        ticks = [low, (low + high) / 2, high]
        labels = [f"{tick:.3g}" for tick in ticks]
        which = ("most", "least").index(self.order)
        for axis, method, curves in zip(axes, self.methods, self.curves[:, which], strict=True):
            for name, dash, curve in zip(self._names, ("-", "--", ":", "-."), curves.T, strict=False):
                axis.plot(gone, curve.numpy(), dash, label=name)
            axis.axvline(gone[self.step], color="0.6", linewidth=1)
            axis.set(title=f"{method}: area {number(self.areas()[method])}", xlabel="share of patches gone")
            # laying out ticks takes longest
            axis.set(xlim=(0, 1), ylim=(low, high), xticks=HALVES, yticks=ticks, yticklabels=labels)
        axes[0].set_ylabel(self.unit)
        axes[-1].legend(fontsize=8)
        return figure

    def __repr__(self) -> str:
        return f"PerturbationPlayer({self._explained_name}; {', '.join(self.methods)}; {self._data['replace']})"


def steps_of(patches: int, steps: int | None, *, keeps_one: bool) -> list[int]:
    """How many patches are gone at each step, from 0 to all of them.

    Args:
        patches: how many there are.
        steps: how many steps; None takes 28, or one a patch where there are fewer.
        keeps_one: whether the last patch stays: with no token left there is nothing to ask the model.

    Raises:
        InvalidOptionError: less than one step, or more than patches.
    """
    steps = min(28, patches) if steps is None else steps
    if not 1 <= steps <= patches:
        raise InvalidOptionError(f"expected 1 to {patches} steps, the number of patches; got {steps}.")
    return sorted({round((patches - keeps_one) * k / steps) for k in range(steps + 1)})


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What is drawn: a name for each curve, what they are, and how they come from logits, (B, C) -> (B, curves)."""

    names: list[str]
    unit: Literal["probability", "score"]
    of: Callable[[Removal, Tensor], Tensor]


def _drawn(trace: Trace, index: int, asked: Sequence[int] | None, explained: str, named: Sequence[str]) -> _Drawn:
    """The curves, the measured one first."""
    without = trace.probabilities is None
    if asked is None and (without or trace.target is None):
        name = explained if trace.target is None else _as_output(explained)
        return _Drawn([name], "score", lambda remove, logits: remove.score(logits)[:, None])
    shown = _shown(trace, index, asked)
    names = [named[c] for c in shown]
    if without:
        return _Drawn([_as_output(name) for name in names], "score", lambda _, logits: logits[:, shown])

    def of(remove: Removal, logits: Tensor) -> Tensor:
        every = probabilities(logits, remove.outputs)
        assert every is not None
        return every[:, shown]

    return _Drawn(names, "probability", of)


def _as_output(name: str) -> str:
    """A class whose output itself is drawn, which is no probability."""
    return name if name.startswith("output ") else f"{name} (output)"


def _shown(trace: Trace, index: int, asked: Sequence[int] | None) -> list[int]:
    """Which classes are drawn, the measured one first."""
    count = trace.logits.shape[1]
    if asked is None:
        assert trace.target is not None
        ranked = trace.logits[index].argsort(descending=True).tolist()
        return list(dict.fromkeys([int(trace.target[index]), *ranked]))[:3]
    if not 1 <= len(set(asked)) == len(asked) <= len(DASHES) or not all(0 <= c < count for c in asked):
        raise InvalidOptionError(
            f"expected 1 to {len(DASHES)} different classes from 0 to {count - 1} to be shown; got {list(asked)}."
        )
    return [int(c) for c in asked]


def _curves(
    trace: Trace,
    index: int,
    rankings: Tensor,
    counts: Sequence[int],
    drawn: _Drawn,
    replace: Replacement,
    report: Reporter,
) -> Tensor:
    """Rankings (M, P) -> what is drawn, most and least relevant first, (M, 2, steps, curves)."""
    orders = torch.stack((rankings, rankings.flip(1)), 1).flatten(0, 1).to(trace.images.device)
    remove = Removal(trace, replace, index=index, count=len(orders))
    told = reporting_each(counts, report, f"removing patches ({replace})")
    seen = [drawn.of(remove, logits) for logits in without_first(remove, orders, told)]
    return torch.stack(seen, 1).unflatten(0, (-1, 2)).detach().float().cpu()


def _range(curves: Tensor, unit: str) -> tuple[float, float]:
    """Ends of the axis: 0 and 1 for probabilities, else those of all curves."""
    if unit == "probability":
        return 0.0, 1.0
    low, high = (float(end) for end in curves.aminmax())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _areas(curves: Tensor, counts: Sequence[int]) -> Tensor:
    """Area under the first curve, divided by the range: (M, 2, S, C) -> (M, 2)."""
    gone = np.asarray(counts, dtype=np.float64)
    area = torch.trapezoid(curves[..., 0].double(), torch.from_numpy(gone), dim=-1)
    return area / (gone[-1] - gone[0])
