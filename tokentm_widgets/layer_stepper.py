"""Step through the layers of a ViT: attention, transformation weight, their product, contribution so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import torch
import traitlets
from torch import Tensor

from tokentm import TokenTM, Trace
from tokentm.errors import InvalidOptionError
from tokentm.names import ClassNames
from tokentm.plots import DIFFERENCES, Picture, Plot, patch_maps
from tokentm.renamed import renamed
from tokentm_widgets import payload
from tokentm_widgets.base import Position, TraceWidget, front_end, styles
from tokentm_widgets.layer_panels import MEAN, RowsData, walk
from tokentm_widgets.progress import Progress, Reporter, reporter, reporting
from tokentm_widgets.schema import Colours, Dims, ExplainedData, packed

_TITLES = {
    "Attention A": "attention",
    "Transformation W": "weight",
    "A · W": "product",
    "Update": "update",
    "Contribution so far": "contribution",
    "Length ratio": "ratio",
    "NECC": "necc",
}

FACTORS = ("Transformation W", "Length ratio", "NECC")
"""Panels whose small values are not nothing: drawn at one opacity."""


AT_ONCE = 4 * 2**20
"""Most bytes of rows that are sent before anybody asks: a notebook shows them within a second."""

IN_A_PAGE = 64 * 2**20
"""Most bytes of rows in an exported page; a browser tab holds them all, unpacked."""

STRONGEST = 16
"""Patches of each explained score whose rows a page holds that cannot hold all."""


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
    attentionReadout: Annotated[bytes, Dims("float32", "I L H P")]
    updateReadout: Annotated[bytes, Dims("float32", "B L H P")]
    contributionReadout: Annotated[bytes, Dims("float32", "B L P")]
    weight: Annotated[bytes, Dims("float32", "I L G N")]
    ratio: Annotated[bytes, Dims("float32", "I L G N")]
    cosine: Annotated[bytes, Dims("float32", "I L G N")]
    necc: Annotated[bytes, Dims("float32", "I L G N")]
    taken: list[RowsData]


class LayerStepperData(_OfSteps, total=False):
    """``taken`` are the rows of patches that are there; in a page, ``offered`` are its heads, and nobody is asked.

    ``inPage`` says that the page itself answers what is asked, by the live engine.
    """

    offered: list[int]
    inPage: bool


class LayerStepper(TraceWidget):
    """Layers x heads x classes: attention, transformation weight and its two factors, update, contribution so far.

    Stepping, hovering and choosing repaint without the kernel; what the patches take through a single head is asked
    from it, once a head. Records of many or large images are shown, too: of those, what a patch takes is asked from the
    kernel when it is looked at. A page without a kernel, see :func:`tokentm_widgets.export_html`, holds these rows
    itself: those of all patches, or, where they would be more than 64 MB, those of the patches that contribute most.
    The attributes below are the widget's state: read them, set them, observe them.

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
        InvalidOptionError: pictures or class names that do not fit the trace, an unknown keyword, or something else
            than a trace.
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
        "length and direction is kept). What speaks for the answer is added up to the contribution. Bright patches "
        "count most. Drag along the layers, choose a head, point at a patch to read it in every panel."
    )

    by_keys = (
        "Keys: on the layer's slider the arrows step through the layers; on the picture they choose a patch, and "
        "Escape goes back to what the classifier reads."
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
        state.setdefault("layer", len(trace.layers) - 1)  # where the map is complete
        method = method or TokenTM()
        with reporting(progress, "computing layers") as report:
            self._panels = walk(trace, method, reporter(report, (0.0, 0.8)))
            taken = self._means(reporter(report, (0.8, 1.0)))
        panels, several = self._panels, len(set(self._panels.image_of)) > 1
        super().__init__(
            {
                **self._explained(),
                **panels.sent(),
                "layers": panels.layers,
                "heads": panels.heads,
                "weightHeads": panels.weight.shape[2],
                "prefix": trace.layout.prefix,
                "choice": "Image" if several else "Class" if trace.target is not None else "Explained",
                "names": [f"{i + 1}: {name}" for i, name in enumerate(self._names)] if several else self._names,
                "readout": payload.readout_name(trace),
                "taken": taken,
                "gradient": method.gradient,
                "factors": payload.colour_table(DIFFERENCES),
            },
            **state,
        )
        self.on_msg(self._answer)

    def shown(self) -> dict[str, Tensor]:
        """What every panel shows now, by its title, (P,) each: taken by the readout, or by the chosen patch."""
        maps = self._panels.shown(self.layer, self.head, self.index, self.patch)
        return {title: maps[name] for title, name in _TITLES.items()}

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
            self.opacity,
            FACTORS,
        )
        figure.suptitle(f"{name}: {where}, {taker}")
        return figure

    def offline_data(self, heads: Sequence[int] | None = None, patches: int | None = None) -> dict[str, Any]:
        """The data for a page without a kernel, with the rows of patches that it can show.

        Args:
            heads: single heads to offer beside the mean of all; fewer make a smaller page. None takes all.
            patches: of how many patches that contribute most, to each explained score, to hold the rows; 0 holds what
                the readout takes alone. None takes all patches, or 16 where all would be too much for a page.

        Raises:
            InvalidOptionError: heads that do not exist, or a negative number of patches.
        """
        offered = self._offered(heads)
        whole = len(offered) == self._panels.heads
        kept = self._kept(patches, self._panels.heads if whole else len(offered) + 1)
        taken = []
        for indices, those in zip(self._images(), kept, strict=True):
            if not those:
                continue
            if whole:
                taken.append(self._rows(indices, offered, those))
            else:  # the mean of all heads is no mean of those that are there
                taken.append(self._rows(indices, [MEAN], those))
                if offered:
                    taken.append(self._rows(indices, offered, those, contribution=False))
        return {**self._data, "taken": taken, "offered": offered}

    def named_choices(self, data: Mapping[str, Any]) -> dict[str, list[Any]]:
        return {"head": [None, *data["offered"]]} if "offered" in data else {}

    def _offered(self, heads: Sequence[int] | None) -> list[int]:
        count = self._panels.heads
        if heads is None:
            return list(range(count))
        if not isinstance(heads, Iterable) or not all(isinstance(one, int) and 0 <= one < count for one in heads):
            raise InvalidOptionError(f"expected heads from 0 to {count - 1}, as heads=[0, {count - 1}]; got {heads!r}.")
        return sorted({int(one) for one in heads})

    def _kept(self, patches: int | None, heads: int) -> list[list[int]]:
        """Of each image, the patches whose rows a page holds: all of them, or those that contribute most."""
        if patches is not None and (isinstance(patches, bool) or not isinstance(patches, int) or patches < 0):
            raise InvalidOptionError(f"expected a number of patches, 0 or more, or None for all; got {patches!r}.")
        panels, images = self._panels, self._images()
        if patches is None and panels.patches * self._bytes_a_patch(heads) <= IN_A_PAGE:
            return [list(range(panels.patches)) for _ in images]
        count = STRONGEST if patches is None else patches
        while True:
            kept = [panels.strongest(indices, count) if count else [] for indices in images]
            if patches is not None or max(map(len, kept)) * self._bytes_a_patch(heads) <= IN_A_PAGE:
                return kept
            count //= 2

    def _images(self) -> list[list[int]]:
        """The explained scores of each image."""
        of = self._panels.image_of
        return [[index for index, one in enumerate(of) if one == image] for image in range(max(of) + 1)]

    def _bytes_a_patch(self, heads: int) -> int:
        """What the rows of one patch of every image take: attention of the images, update and contribution of all."""
        images, scores, panels = len(self._images()), len(self._names), self._panels
        return panels.layers * panels.patches * ((images + scores) * heads + scores)

    def _means(self, report: Reporter) -> list[dict[str, Any]]:
        """The rows of all patches, averaged over heads, where they are few enough to be sent at once."""
        if self._panels.patches * self._bytes_a_patch(1) > AT_ONCE:
            return []
        every, images = range(self._panels.patches), self._images()
        return [
            self._rows(indices, [MEAN], every, progress=reporter(report, (i / len(images), (i + 1) / len(images))))
            for i, indices in enumerate(images)
        ]

    def _rows(
        self, indices: Sequence[int], heads: Sequence[int], patches: Sequence[int], **options: Any
    ) -> dict[str, Any]:
        """Rows as they are sent."""
        return packed(RowsData, self._panels.rows(indices, heads, patches, **options)).data

    def _answer(self, _widget: TraceWidget, content: dict[str, Any], _buffers: Any) -> None:
        """Send what the front end asks for: the rows of one patch through all heads, or those of all through one."""
        if content.get("kind") != "rows":
            return
        index, head, patch = content["index"], content["head"], content["patch"]
        heads = range(self._panels.heads) if head is None else [head]
        patches = range(self._panels.patches) if patch is None else [patch]
        rows = self._rows([index], heads, patches, contribution=patch is not None)
        parts = [(name, part) for name, of in rows.items() if isinstance(of, dict) for part in of]
        plain = {name: value for name, value in rows.items() if not isinstance(value, dict)}
        self.send({"kind": "rows", "asked": content, "rows": plain, "parts": parts}, [rows[a][b] for a, b in parts])

    def __repr__(self) -> str:
        grid, names = self._trace.layout, ", ".join(dict.fromkeys(self._names))
        return f"LayerStepper({names}; {len(self._trace.layers)} layers, {grid.rows} x {grid.columns} patches)"
