"""Several methods or ablations on one image: small multiples on one scale, and their differences from one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
import traitlets
from torch import Tensor

from tokentm import Method, Trace
from tokentm.names import ClassNames
from tokentm.plots import COLOURS, DIFFERENCES, Picture, Plot, lay, lay_picture, outline, panels, scale
from tokentm.renamed import renamed
from tokentm_widgets import payload
from tokentm_widgets.base import Position, TraceWidget, front_end, styles
from tokentm_widgets.progress import Progress, reporting
from tokentm_widgets.schema import Colours, Dims, ExplainedData
from tokentm_widgets.scores import agreement, rank, scores_of, share
from tokentm_widgets.titles import CHANCE, MethodTitle, titles_of

METHODS = ("tokentm", "generic_attention", "gradient_rollout", "rollout", "attention", "random")
"""Those that read the record; others, such as "transformer_attribution", run the model once more and take longer."""


class MethodComparisonData(ExplainedData):
    """Maps in all units, and Spearman's correlation of every two methods."""

    methods: Annotated[list[str], Dims("list", "M")]
    titles: dict[str, MethodTitle]
    chance: Annotated[list[bool], Dims("list", "M")]
    failures: dict[str, str]
    scores: Annotated[bytes, Dims("float32", "M B P")]
    share: Annotated[bytes, Dims("float32", "M B P")]
    rank: Annotated[bytes, Dims("float32", "M B P")]
    agreement: Annotated[bytes, Dims("float32", "B M M")]
    differences: Colours


class MethodComparison(TraceWidget):
    """What several methods say about the same decision, side by side and on one scale.

    Methods give numbers of different units; they can be compared only as shares or as ranks. All data is there at
    once; no kernel is asked. A method that cannot read this model says why in its place.

    Args:
        trace: from :func:`tokentm.record`.
        methods: names from ``tokentm.methods.METHODS`` or ``ABLATIONS``, or callables; each name at most once. Those of
            :data:`METHODS` come from the record alone; some others run the model again.
        images: the picture as the model saw it, or one for each image of the trace; None shows the maps alone.
        classes: class names: a list in the order of the outputs or a dict by index; None takes the model's own.
        progress: show a progress bar where computing takes longer than a second; or a function that hears of the
            share done and may cancel by raising, see :mod:`tokentm_widgets.progress`.

    Attributes:
        index: which image (or class) of the trace is shown, 0 .. B-1.
        patch: the patch whose numbers are read in every map, row-major 0 .. P-1; None for none.
        unit: "share": a score divided by the mean size of the scores of its map, so 1 is an average patch; "rank":
            the share of patches that score less, ties counted half, 0 .. 1.
        reference: name of the method that all others are compared with; None shows the maps themselves.
        scale: "one": all maps have one scale, which the method ``random`` has no part in; "own": each its own.
        opacity: of the maps over the picture, 0 .. 1.

    Raises:
        InvalidOptionError: an unknown method, one named twice, pictures in place of methods, pictures and names that do
            not fit the trace, an unknown keyword, or something else than a trace.
        TokenTMError: the first method's own error, where none of them can read the trace.
        traitlets.TraitError: an attribute set to a value that does not exist, with those that do.

    Example:
        >>> comparison = MethodComparison(trace, images=scene.image, classes=demo.classes)
        >>> comparison.reference = "tokentm"
    """

    _esm, _css, _schema = front_end("method_comparison"), styles("method_comparison"), MethodComparisonData

    index = Position("B")
    patch = Position("P", optional=True)
    unit = traitlets.Enum(("share", "rank"), "share").tag(sync=True)
    reference = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    scale = traitlets.Enum(("one", "own"), "one").tag(sync=True)
    opacity = traitlets.Float(0.8, min=0, max=1).tag(sync=True)

    reading = (
        "Every map says, by one method, how much each patch of the picture contributed to the answer. Bright patches "
        "count most. Methods have units of their own: compare where they look, not how bright they are. Click a patch "
        "to read it in every map."
    )

    by_keys = "Keys: on the picture the arrows choose a patch, whose numbers are read in every map; Escape clears it."

    @property
    def heading(self) -> str:
        return f"What speaks for {self._names[self.index]}, by {len(self._data['methods'])} methods"

    @renamed(image="images")
    def __init__(
        self,
        trace: Trace,
        methods: Sequence[str | Method] = METHODS,
        images: Picture | Sequence[Picture] | None = None,
        classes: ClassNames | None = None,
        *,
        progress: Progress = True,
        **state: Any,
    ) -> None:
        self._open(trace, images, classes, state)
        with reporting(progress, "computing methods") as report:
            scores, self.failures = scores_of(trace, methods, report)
        self.maps = {
            "share": {name: share(values) for name, values in scores.items()},
            "rank": {name: rank(values) for name, values in scores.items()},
        }
        super().__init__(
            {
                **self._explained(),
                "methods": list(scores),
                "titles": titles_of([*scores, *self.failures]),
                "chance": [name == CHANCE for name in scores],
                "failures": self.failures,
                "scores": torch.stack([*scores.values()]),
                **{unit: torch.stack([*of.values()]) for unit, of in self.maps.items()},
                "agreement": agreement(torch.stack([*self.maps["rank"].values()])),
                "differences": payload.colour_table(DIFFERENCES),
            },
            **state,
        )

    def shown(self) -> dict[str, Tensor]:
        """The map of each method as it is shown now, (P,): in the chosen unit, less the reference where one is set."""
        maps = {name: values[self.index] for name, values in self.maps[self.unit].items()}
        if self.reference is None:
            return maps
        return {name: values - maps[self.reference] for name, values in maps.items() if name != self.reference}

    def figure(self) -> Plot:
        """The maps as they are shown now, on one scale, as a figure."""
        maps = {name: values.unflatten(0, self._grid).numpy() for name, values in self.shown().items()}
        name, against = self._names[self.index], f", less {self.reference}" if self.reference else ""
        alt = f"Maps of {', '.join(maps) or 'no other method'} for {name}, as {self.unit}s{against}, on one scale"
        picture = self._pictures[self.index % len(self._pictures)] if self._pictures else None
        first = picture is not None
        figure, axes = panels(len(maps) + first, self._grid, alt, aside=0.9)
        if picture is not None:
            lay_picture(axes[0], picture, self._grid)
        if maps:
            compared = [values for method, values in maps.items() if method != CHANCE] or [*maps.values()]
            low, high = min(m.min() for m in compared), max(m.max() for m in compared)
            if self.reference:
                low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
            colours = DIFFERENCES if self.reference else COLOURS
            for axis, (method, values) in zip(axes[first:], maps.items(), strict=True):
                lay(
                    axis,
                    values,
                    picture,
                    ends=(low, high),
                    opacity=self.opacity,
                    glows=not self.reference,
                    colours=colours,
                    offset=self._trace.layout.offset,
                )
                axis.set_title(method, fontsize=9)
            scale(figure, (low, high), picture is not None, self.opacity, not self.reference, colours)
        for axis in axes if self.patch is not None else ():
            outline(axis, self.patch, self._grid, self._trace.layout.offset)
        figure.suptitle(f"{name}: {self.unit}{against}")
        return figure

    @property
    def _grid(self) -> tuple[int, int]:
        return self._trace.layout.rows, self._trace.layout.columns

    @traitlets.validate("reference")
    def _known(self, proposal: traitlets.Bunch) -> str | None:
        known = self.maps["share"]
        if proposal["value"] is not None and proposal["value"] not in known:
            raise traitlets.TraitError(
                f"expected a reference among {', '.join(known)} or None; got {proposal['value']!r}."
            )
        return proposal["value"]

    def named_choices(self, data: Mapping[str, Any]) -> dict[str, list[Any]]:
        return {"reference": [None, *data["methods"]]}

    def __repr__(self) -> str:
        return f"MethodComparison({', '.join(dict.fromkeys(self._names))}; {', '.join(self.maps['share'])})"
