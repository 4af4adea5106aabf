"""Which route through layers and heads brings a patch to the class token? The strongest, and where all of them pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import traitlets

from tokentm import TokenTM, Trace
from tokentm.paths import Paths, strongest
from tokentm.plots import COLOURS, Picture, Plot, pictures, target_names
from tokentm_widgets import payload
from tokentm_widgets.base import Widget, front_end


class PathExplorer(Widget):
    """The contribution of a chosen patch, taken apart into the paths that TokenTM sums over.

    The strongest paths are drawn from the patch to the readout, a step a layer; a table says how much of the
    contribution moves through each head of each layer, over all paths. All data is there at once; no kernel is asked.

    Args:
        trace: from :func:`tokentm.record`.
        image: the picture as the model saw it, or one for each image of the trace; None shows the map alone.
        classes: class names in the order of the logits.
        method: the reading of TokenTM; ``TokenTM(normaliser="mean")`` gives paths of several moves more weight.
        count: how many paths are kept for each patch.

    Attributes:
        index: which image (or class) of the trace is shown, 0 .. B-1.
        patch: the patch whose paths are shown, row-major 0 .. P-1; None shows the one that contributes most.

    Raises:
        InvalidOptionError: pictures or class names that do not fit the trace, or a count below 1.
        traitlets.TraitError: an attribute set to a value that does not exist, with those that do.

    Example:
        >>> PathExplorer(trace, image=scene.image, classes=demo.classes).paths[0].values.shape
        torch.Size([196, 5])
    """

    _esm = front_end("path_explorer")

    index = traitlets.Int(0).tag(sync=True)
    patch = traitlets.Int(None, allow_none=True).tag(sync=True)
    opacity = traitlets.Float(0.8, min=0, max=1).tag(sync=True)
    playing = traitlets.Bool(False, read_only=True).tag(sync=True)

    def __init__(
        self,
        trace: Trace,
        image: Picture | Sequence[Picture] | None = None,
        classes: Sequence[str] | None = None,
        method: TokenTM | None = None,
        count: int = 5,
        **state: Any,
    ) -> None:
        self._trace, self._names = trace, target_names(trace, classes)
        self.paths: list[Paths] = [strongest(trace, method, index, count) for index in range(len(trace.logits))]
        super().__init__(
            _data={
                **payload.grid(trace),
                **_stacked(self.paths),
                "layers": len(trace.layers),
                "headCount": self.paths[0].through.shape[2],
                "count": count,
                "prefixNames": payload.prefix_names(trace),
                "names": self._names,
                "probabilities": payload.probabilities(trace),
                "pictures": [payload.picture_url(picture) for picture in pictures(image, trace)],
                "colours": payload.colour_table(),
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
        figure = Plot(f"{described} that moves through each head of each layer", 0.7 * layers + 1.6, 0.4 * heads + 1.4)
        axis = figure.subplots()
        drawn = axis.imshow(shares, cmap=COLOURS, vmin=0, aspect="auto")
        axis.set(xlabel="layer", ylabel="head", title=f"{self._names[self.index]}: patch at {where}")
        axis.set_xticks(range(layers), [str(i + 1) for i in range(layers)])
        axis.set_yticks(range(heads), [str(h + 1) for h in range(heads)])
        figure.colorbar(drawn, label="share")
        return figure

    @traitlets.validate("index", "patch")
    def _in_range(self, proposal: traitlets.Bunch) -> int | None:
        name = proposal["trait"].name
        count = {"index": len(self.paths), "patch": len(self.paths[0].total)}[name]
        return self._require(name, proposal["value"], count, " or None" if name == "patch" else "")

    def __repr__(self) -> str:
        names = ", ".join(dict.fromkeys(self._names))
        return f"PathExplorer({names}; {self._data['count']} paths through {self._data['layers']} layers)"


def _stacked(paths: list[Paths]) -> dict[str, bytes]:
    """``tokens`` (B, P, K, L + 1) and ``heads`` (B, P, K, L), int16; the others float32, as in :class:`Paths`."""
    exact = ("values", "total", "through", "stayed")
    return {
        **{name: payload.short_bytes(torch.stack([getattr(p, name) for p in paths])) for name in ("tokens", "heads")},
        **{name: payload.exact_bytes(torch.stack([getattr(p, name) for p in paths])) for name in exact},
    }
