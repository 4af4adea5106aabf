"""Which route through layers and heads brings a patch to the class token? The strongest, and where all of them pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import torch
import traitlets

from tokentm import TokenTM, Trace
from tokentm.errors import InvalidOptionError
from tokentm.names import ClassNames
from tokentm.paths import Paths, strongest
from tokentm.plots import COLOURS, Picture, Plot, lay, lay_picture, outline, panels, scale
from tokentm.renamed import renamed
from tokentm_widgets import payload
from tokentm_widgets.base import Position, TraceWidget, front_end, styles
from tokentm_widgets.progress import Progress, Reporter, reporter, reporting
from tokentm_widgets.schema import Dims, ExplainedData

MOST = 100
"""More paths than this are no picture any more: lines cover each other, and every one is written out in the list."""


_SENT = ("tokens", "heads", "values", "total", "through", "stayed")
"""Fields of :class:`tokentm.paths.Paths`."""


class PathExplorerData(ExplainedData):
    """The strongest K paths of every patch, see :class:`tokentm.paths.Paths`."""

    layers: Annotated[int, Dims("size", "L")]
    headCount: Annotated[int, Dims("size", "H")]
    count: Annotated[int, Dims("size", "K")]
    prefixNames: list[str]
    tokens: Annotated[bytes, Dims("int16", "B P K L+1")]
    heads: Annotated[bytes, Dims("int16", "B P K L")]
    values: Annotated[bytes, Dims("float32", "B P K")]
    total: Annotated[bytes, Dims("float32", "B P")]
    through: Annotated[bytes, Dims("float32", "B P L H")]
    stayed: Annotated[bytes, Dims("float32", "B P L")]


class PathExplorer(TraceWidget):
    """The contribution of a chosen patch, taken apart into the paths that TokenTM sums over.

    The strongest paths are drawn from the patch to the readout, a step a layer; a table says how much of the
    contribution moves through each head of each layer, over all paths. All data is there at once; no kernel is asked.

    Args:
        trace: from :func:`tokentm.record`.
        images: the picture as the model saw it, or one for each image of the trace; None shows the map alone.
        classes: class names: a list in the order of the outputs or a dict by index; None takes the model's own.
        method: the reading of TokenTM; ``TokenTM(normaliser="mean")`` gives paths of several moves more weight.
        count: how many paths are kept for each patch, 1 .. 100.
        progress: show a progress bar where computing takes longer than a second; or a function that hears of the
            share done and may cancel by raising, see :mod:`tokentm_widgets.progress`.

    Attributes:
        index: which image (or class) of the trace is shown, 0 .. B-1.
        patch: the patch whose paths are shown, row-major 0 .. P-1; None shows the one that contributes most.

    Raises:
        InvalidOptionError: pictures or class names that do not fit the trace, a count below 1 or above 100, an unknown
            keyword, or something else than a trace.
        traitlets.TraitError: an attribute set to a value that does not exist, with those that do.

    Example:
        >>> PathExplorer(trace, images=scene.image, classes=demo.classes).paths[0].values.shape
        torch.Size([196, 5])
    """

    _esm, _css, _schema = front_end("path_explorer"), styles("path_explorer"), PathExplorerData

    index = Position("B")
    patch = Position("P", optional=True)
    opacity = traitlets.Float(0.8, min=0, max=1).tag(sync=True)

    reading = (
        "A patch contributes along many paths: in each layer a head moves it to another token, or it stays. Drawn are "
        "the strongest paths of the chosen patch; click another patch of the picture to see its own."
    )

    by_keys = "Keys: on the picture the arrows choose a patch; Escape goes back to the one that contributes most."

    @property
    def heading(self) -> str:
        return f"Through which heads a patch speaks for {self._names[self.index]}"

    @renamed(image="images")
    def __init__(
        self,
        trace: Trace,
        images: Picture | Sequence[Picture] | None = None,
        classes: ClassNames | None = None,
        method: TokenTM | None = None,
        count: int = 5,
        *,
        progress: Progress = True,
        **state: Any,
    ) -> None:
        self._open(trace, images, classes, state)
        _require_count(count)
        self._method = method
        with reporting(progress, "looking for paths") as report:
            self.paths = _strongest(trace, method, count, self._names, report)
        super().__init__(
            {
                **self._explained(),
                **{name: torch.stack([getattr(paths, name) for paths in self.paths]) for name in _SENT},
                "layers": len(trace.layers),
                "headCount": self.paths[0].through.shape[2],
                "count": count,
                "prefixNames": payload.prefix_names(trace),
            },
            **state,
        )

    def figure(self) -> Plot:
        """How much of the shown patch's contribution moves through each head of each layer, as a figure."""
        paths = self.paths[self.index]
        patch = int(paths.total.argmax()) if self.patch is None else self.patch
        row, column = divmod(patch, self._trace.layout.columns)
        where = f"row {row + 1}, column {column + 1}"
        shares = (paths.through[patch] / paths.total[patch].clamp(min=torch.finfo(torch.float32).tiny)).T.cpu().numpy()
        heads, layers = shares.shape
        described = f"Share of the contribution of the patch at {where} to {self._names[self.index]}"
        alt = f"{described} that moves through each head of each layer"
        layout, grid = self._trace.layout, (self._trace.layout.rows, self._trace.layout.columns)
        picture = self._pictures[self.index % len(self._pictures)] if self._pictures else None
        table = 0.4 * layers + 1.9  # inches, with its bar
        figure, axes = panels(1 + (picture is not None), grid, alt, aside=table)
        if picture is not None:
            lay_picture(axes[0], picture, grid)
        totals = paths.total.unflatten(0, grid).cpu().numpy()
        lay(axes[-1], totals, picture, opacity=self.opacity, offset=layout.offset)
        axes[-1].set_title("contribution", fontsize=9)
        for axis in axes:
            outline(axis, patch, grid, layout.offset)
        width, height = figure.get_size_inches()
        axis = figure.add_axes(
            (1 - (table - 0.55) / width, 0.55 / height, 0.4 * layers / width, 1 - 1.2 / height), label="heads"
        )
        ends = (0.0, float(shares.max()))
        axis.imshow(shares, cmap=COLOURS, vmin=0, aspect="auto", interpolation="nearest")
        axis.set_xlabel("layer", fontsize=9)
        axis.set_ylabel("head", fontsize=9)
        axis.set_title("share that moves through each head", fontsize=9)
        axis.set_xticks(range(layers), [str(i + 1) for i in range(layers)], fontsize=8)
        axis.set_yticks(range(heads), [str(h + 1) for h in range(heads)], fontsize=8)
        scale(figure, ends, over=False)
        figure.suptitle(f"{self._names[self.index]}: patch at {where}")
        return figure

    def __repr__(self) -> str:
        names = ", ".join(dict.fromkeys(self._names))
        return f"PathExplorer({names}; {self._data['count']} paths through {self._data['layers']} layers)"


def _strongest(trace: Trace, method: TokenTM | None, count: int, names: Sequence[str], report: Reporter) -> list[Paths]:
    """The paths of every explained score, one after the other."""
    found = []
    for index, name in enumerate(names):
        of_this = reporter(report, (index / len(names), (index + 1) / len(names)))
        found.append(strongest(trace, method, index, count, partial(_tell, of_this, f"looking for paths to {name}")))
    return found


def _tell(report: Reporter, doing: str, share: float) -> None:
    report(share, doing)


def _require_count(count: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count > MOST:
        raise InvalidOptionError(
            f"expected a count of 1 to {MOST} paths for each patch; got {count!r}. More than {MOST} cannot be told "
            "apart in the diagram; tokentm.paths.strongest(trace, count=...) gives them as numbers."
        )
