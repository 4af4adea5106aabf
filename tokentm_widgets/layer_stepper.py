"""Step through the layers of a ViT: attention, transformation weight, their product, contribution so far."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any, TypedDict

import torch
import traitlets
from torch import Tensor

from tokentm import TokenTM, Trace
from tokentm.names import ClassNames
from tokentm.plots import DIFFERENCES, Picture, Plot, patch_maps
from tokentm.renamed import renamed
from tokentm.transformation import necc
from tokentm_widgets import payload
from tokentm_widgets.base import Position, TraceWidget, front_end, styles
from tokentm_widgets.progress import Progress, reporting
from tokentm_widgets.schema import Coded, Colours, Dims, ExplainedData, packed


class HeadData(TypedDict):
    """What patches take through one head: row i of a layer = what patch i takes."""

    attention: Annotated[Coded, Dims("coded", "L P P")]
    update: Annotated[Coded, Dims("coded", "L P P")]


class _OfSteps(ExplainedData):
    layers: Annotated[int, Dims("size", "L")]
    heads: Annotated[int, Dims("size", "H")]
    weightHeads: Annotated[int, Dims("size", "G")]
    prefix: int
    choice: str
    readout: str
    imageOf: Annotated[list[int], Dims("list", "B")]
    gradient: bool
    factors: Colours
    attention: Annotated[Coded, Dims("coded", "I L P P")]
    product: Annotated[Coded, Dims("coded", "I L P P")]
    update: Annotated[Coded, Dims("coded", "B L P P")]
    contribution: Annotated[Coded, Dims("coded", "B L P P")]
    attentionReadout: Annotated[bytes, Dims("float32", "I L H P")]
    updateReadout: Annotated[bytes, Dims("float32", "B L H P")]
    contributionReadout: Annotated[bytes, Dims("float32", "B L P")]
    weight: Annotated[bytes, Dims("float32", "I L G N")]
    ratio: Annotated[bytes, Dims("float32", "I L G N")]
    cosine: Annotated[bytes, Dims("float32", "I L G N")]
    necc: Annotated[bytes, Dims("float32", "I L G N")]


class LayerStepperData(_OfSteps, total=False):
    """Rows of patches hold the mean over heads; ``held``, by "head index", is there in pages without a kernel."""

    held: dict[str, HeadData]


class LayerStepper(TraceWidget):
    """Layers x heads x classes: attention, transformation weight and its two factors, update, contribution so far.

    Stepping, hovering and choosing repaint without the kernel; only what the patches take through a single head is
    asked from it, once a head. The attributes below are the widget's state: read them, set them, observe them.

    Args:
        trace: from :func:`tokentm.record`. To choose between classes of one picture, record it once per class:
            ``record(model, images.expand(3, -1, -1, -1), target=[0, 4, 7])``.
        images: the picture as the model saw it (PIL image or path; see :func:`tokentm.prepare`), or one for each
            image of the trace; None shows the maps alone.
        classes: class names: a list in the order of the outputs or a dict by index; None takes the model's own.
        method: the reading of TokenTM to show; None takes the default.
        progress: show a progress bar where computing takes longer than a second; or a function that hears of the
            share done and may cancel by raising, see :mod:`tokentm_widgets.progress`.

    Attributes:
        layer: layer shown, 0 .. L-1, as in ``trace.layers[layer]``; the last one at first.
        head: head shown, 0 .. H-1; None averages over the heads.
        index: which image (or class) of the trace is shown, 0 .. B-1.
        patch: the patch whose row is shown, row-major 0 .. P-1; None shows what the readout (class token) takes.
        kept: the patch that is ringed and read in every panel, row-major 0 .. P-1; None for none.
        playing: whether the layers advance by themselves.
        speed: how fast, in layers per second: 0.5, 1, 2 or 4.
        scale: "layer" gives every layer the full range of colours, "common" one range to all layers.
        opacity: of the maps over the picture, 0 .. 1.

    Raises:
        InvalidOptionError: pictures or class names that do not fit the trace, an unknown keyword, something else than
            a trace, or a record too large for a browser.
        traitlets.TraitError: an attribute set to a value that does not exist, with those that do.

    Example:
        >>> stepper = LayerStepper(trace, images=scene.image, classes=demo.classes)
        >>> stepper.layer = 3
    """

    _esm, _css, _schema = front_end("layer_stepper"), styles("layer_stepper"), LayerStepperData

    layer = Position("L")
    head = Position("H", optional=True)
    index = Position("B")
    patch = Position("P", optional=True)
    kept = Position("P", optional=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Enum((0.5, 1, 2, 4), 1).tag(sync=True)
    scale = traitlets.Enum(("layer", "common"), "layer").tag(sync=True)
    opacity = traitlets.Float(0.8, min=0, max=1).tag(sync=True)

    reading = (
        "Each layer mixes what patches hold (attention) after it has changed them (the weight: how much of their "
        "length and direction is kept). What speaks for the answer is added up to the contribution. Yellow patches "
        "count most. Drag along the layers, choose a head, point at a patch to read it in every panel."
    )

    @property
    def heading(self) -> str:
        return f"How {self._names[self.index]} came about, layer by layer"

    @renamed(image="images")
    def __init__(
        self,
        trace: Trace,
        images: Picture | Sequence[Picture] | None = None,
        classes: ClassNames | None = None,
        method: TokenTM | None = None,
        *,
        progress: Progress = True,
        **state: Any,
    ) -> None:
        self._open(trace, images, classes, state)
        self._method = method or TokenTM()
        state.setdefault("layer", len(trace.layers) - 1)  # where the map is complete
        with reporting(progress, "computing layers") as report:
            maps = payload.layer_maps(trace, self._method, report)
        several = len(set(maps["imageOf"])) > 1
        super().__init__(
            {
                **self._explained(),
                **maps,
                "layers": len(trace.layers),
                "heads": trace.layers[0].attention.shape[1],
                "weightHeads": maps["weight"].shape[2],
                "prefix": trace.layout.prefix,
                "choice": "Image" if several else "Class" if trace.target is not None else "Explained",
                "names": [f"{i + 1}: {name}" for i, name in enumerate(self._names)] if several else self._names,
                "readout": payload.readout_name(trace),
                "gradient": self._method.gradient,
                "factors": payload.colour_table(DIFFERENCES),
            },
            **state,
        )
        self.on_msg(self._answer)

    def shown(self) -> dict[str, Tensor]:
        """What every panel shows now, by its title, (P,) each: taken by the readout, or by the chosen patch."""
        trace, prefix, index = self._trace, self._trace.layout.prefix, self.index
        layer, step = trace.layers[self.layer], next(islice(self._method.steps(trace), self.layer, None))
        taker = trace.readout[index] if self.patch is None else torch.zeros_like(trace.readout[index])
        if self.patch is not None:
            taker[prefix + self.patch] = 1
        heads = slice(None) if self.head is None else slice(self.head, self.head + 1)
        weigh = heads if self._data["weightHeads"] > 1 else slice(None)
        attention = torch.einsum("n,hnp->hp", taker, layer.attention[index, heads])
        update = torch.einsum("n,hnp->hp", taker, step.head_mixing[index, heads])
        weight = step.weight[index, weigh]
        by_head = {
            "Attention A": attention,
            "Transformation W": weight,
            "A · W": attention * weight,
            "Update": update,
            "Contribution so far": (taker @ step.contribution[index]).unsqueeze(0),
            "Length ratio": step.length_ratio[index, weigh],
            "NECC": necc(step.cosine[index, weigh], self._method.normaliser),
        }
        return {name: values.mean(0)[prefix:] for name, values in by_head.items()}

    def figure(self) -> Plot:
        """The panels as they are now, as a figure; :func:`tokentm.plots.layer_steps` shows all layers at once."""
        maps, name = self.shown(), self._names[self.index]
        if self.patch is not None:  # a patch counts far more in itself than any other does: cap it, as on the screen
            contribution = maps["Contribution so far"]
            others = torch.arange(len(contribution), device=contribution.device) != self.patch
            maps["Contribution so far"] = contribution.clamp(max=contribution[others].max())
        heads = "mean of heads" if self.head is None else f"head {self.head + 1}"
        row, column = divmod(self.patch or 0, self._trace.layout.columns)
        taker = "the readout" if self.patch is None else f"the patch at row {row + 1}, column {column + 1}"
        where = f"layer {self.layer + 1} of {len(self._trace.layers)}, {heads}"
        alt = f"{', '.join(maps)} in {where}, as {taker} takes them, for {name}"
        figure = patch_maps(
            maps,
            (self._trace.layout.rows, self._trace.layout.columns),
            alt,
            self._pictures[self.index % len(self._pictures)] if self._pictures else None,
            () if self.patch is None else self.patch,
            self._trace.layout.offset,
        )
        figure.suptitle(f"{name}: {where}, {taker}")
        return figure

    def offline_data(self) -> dict[str, Any]:
        """The data with what the patches take through every single head, for a page without a kernel."""
        payload.require_room(self._trace, len(self._trace.logits) * self._data["heads"])
        held = {
            f"{head} {index}": self._held(index, head)
            for index in range(len(self._trace.logits))
            for head in range(self._data["heads"])
        }
        return {**self._data, "held": held}

    def _held(self, index: int, head: int) -> dict[str, Any]:
        """The patch rows of one head, as they are sent."""
        return packed(HeadData, payload.head_maps(self._trace, self._method, index, head)).data

    def _answer(self, _widget: TraceWidget, content: dict[str, Any], _buffers: Any) -> None:
        """Send what the front end asks for: the patch rows of one head."""
        if content.get("kind") != "head":
            return
        maps = self._held(content["index"], content["head"])
        buffers = [maps[name][part] for name in ("attention", "update") for part in ("codes", "low", "high")]
        self.send({"kind": "head", "head": content["head"], "index": content["index"]}, buffers)

    def __repr__(self) -> str:
        grid, names = self._trace.layout, ", ".join(dict.fromkeys(self._names))
        return f"LayerStepper({names}; {len(self._trace.layers)} layers, {grid.rows} x {grid.columns} patches)"
