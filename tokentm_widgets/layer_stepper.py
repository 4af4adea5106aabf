"""Step through the layers of a ViT: attention, transformation weight, their product, contribution so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from tokentm import TokenTM, Trace
from tokentm.plots import Picture, layer_steps, pictures, target_names
from tokentm_widgets import payload

_STATIC = Path(__file__).with_name("static")


class LayerStepper(anywidget.AnyWidget):
    """Attention, transformation weight and contribution of every layer, over the image.

    All data goes to the browser once; stepping, hovering and choosing repaint without the kernel. The attributes below
    are the widget's state: read them, set them, observe them.

    Args:
        trace: from :func:`tokentm.record`. To choose between classes of one picture, record it once per class:
            ``record(model, images.expand(3, -1, -1, -1), target=[0, 4, 7])``.
        image: the picture as the model saw it (PIL image or path; see :func:`tokentm.prepare`), or one for each
            image of the trace; None shows the maps alone.
        classes: class names in the order of the logits.
        method: the reading of TokenTM to show; None takes the default.

    Attributes:
        layer: layer shown, 0 .. L-1, as in ``trace.layers[layer]``.
        head: head shown, 0 .. H-1; None averages over the heads.
        index: which image (or class) of the trace is shown, 0 .. B-1.
        patch: the patch whose row is shown, row-major 0 .. P-1; None shows what the readout (class token) takes.
        playing: whether the layers advance by themselves.

    Raises:
        InvalidOptionError: pictures or class names that do not fit the trace, or a record too large for a browser.
        traitlets.TraitError: an attribute set to a value that does not exist, with those that do.

    Example:
        >>> stepper = LayerStepper(trace, image=scene.image, classes=demo.classes)
        >>> stepper.layer = 3
    """

    _esm = _STATIC / "layer_stepper.js"
    _css = _STATIC / "layer_stepper.css"

    layer = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(None, allow_none=True).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)
    patch = traitlets.Int(None, allow_none=True).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)

    _meta = traitlets.Dict().tag(sync=True)
    _pictures = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _colours = traitlets.Bytes().tag(sync=True)
    _attention = traitlets.Bytes().tag(sync=True)
    _attention_scale = traitlets.Bytes().tag(sync=True)
    _weight = traitlets.Bytes().tag(sync=True)
    _length_ratio = traitlets.Bytes().tag(sync=True)
    _cosine = traitlets.Bytes().tag(sync=True)
    _contribution = traitlets.Bytes().tag(sync=True)
    _contribution_scale = traitlets.Bytes().tag(sync=True)

    def __init__(
        self,
        trace: Trace,
        image: Picture | Sequence[Picture] | None = None,
        classes: Sequence[str] | None = None,
        method: TokenTM | None = None,
        **state: Any,
    ) -> None:
        self._trace, self._method, self._classes = trace, method or TokenTM(), classes
        maps = payload.layer_maps(trace, self._method)
        self._names = target_names(trace, classes)
        several = len(set(maps.image_of)) > 1
        super().__init__(
            _meta={
                "rows": trace.layout.rows,
                "columns": trace.layout.columns,
                "layers": len(trace.layers),
                "heads": maps.attention.shape[2],
                "weightHeads": maps.weight.shape[2],
                "imageOf": list(maps.image_of),
                "choice": "Image" if several else "Class",
                "names": [f"{i + 1}: {name}" for i, name in enumerate(self._names)] if several else self._names,
                "readout": payload.readout_name(trace),
                "probabilities": payload.probabilities(trace),
                "aspect": trace.image_size[1] / trace.image_size[0],
            },
            _pictures=[payload.picture_url(p) for p in pictures(image, trace)],
            _colours=payload.colour_table(),
            _attention=maps.attention.tobytes(),
            _attention_scale=maps.attention_scale.tobytes(),
            _weight=maps.weight.tobytes(),
            _length_ratio=maps.length_ratio.tobytes(),
            _cosine=maps.cosine.tobytes(),
            _contribution=maps.contribution.tobytes(),
            _contribution_scale=maps.contribution_scale.tobytes(),
            **state,
        )

    @traitlets.validate("layer", "head", "index", "patch")
    def _in_range(self, proposal: traitlets.Bunch) -> int | None:
        name, value = proposal["trait"].name, proposal["value"]
        grid = self._trace.layout
        count = {
            "layer": len(self._trace.layers),
            "head": self._trace.layers[0].attention.shape[1],
            "index": len(self._trace.logits),
            "patch": grid.rows * grid.columns,
        }[name]
        if value is not None and not 0 <= value < count:
            optional = " or None" if name in ("head", "patch") else ""
            raise traitlets.TraitError(f"expected {name} from 0 to {count - 1}{optional}; got {value}.")
        return value

    def __repr__(self) -> str:
        grid, names = self._trace.layout, ", ".join(dict.fromkeys(self._names))
        return f"LayerStepper({names}; {len(self._trace.layers)} layers, {grid.rows} x {grid.columns} patches)"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict] | None:
        """The widget, and a still picture of it for pages where no widget can run."""
        bundle = super()._repr_mimebundle_(**options)
        if bundle is None:
            return None
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        still = layer_steps(self._trace, self.index, self._method, self._classes)
        return {**data, **still.bundle(), "text/plain": repr(self)}, metadata
