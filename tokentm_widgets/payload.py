"""What a widget sends to the browser: a record as compact bytes. Pure functions; no widget in sight."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from tokentm import TokenTM, Trace
from tokentm.aggregation import head_mixing, read
from tokentm.errors import InvalidOptionError
from tokentm.plots import COLOURS
from tokentm.transformation import necc
from tokentm_widgets.progress import Progress, reporter

LIMIT = 64 * 2**20
"""Most bytes one widget may send; a browser tab holds them all."""

_LONGEST_SIDE = 448


def layer_maps(trace: Trace, method: TokenTM, progress: Progress = False) -> dict[str, Any]:
    """Everything the layer stepper draws, for all layers, with heads averaged in the patch rows.

    Returns:
        ``imageOf``: which of the different images each explained score belongs to. ``attention``, ``product``,
        ``update``, ``contribution``: row i = what patch i takes. ``attentionReadout``, ``updateReadout``,
        ``contributionReadout``: what the readout takes. ``weight``, ``ratio``, ``cosine``, ``necc``: of each token. The
        dimensions are those of :class:`tokentm_widgets.schema.LayerStepperData`.

    Raises:
        InvalidOptionError: the record is too large for a browser tab.
    """
    images = _different_images(trace)
    of, prefix = slice(0, images), trace.layout.prefix
    require_room(trace, images + len(trace.logits))
    layers: list[dict[str, Tensor]] = []
    report = reporter(progress)
    for layer, step in zip(trace.layers, method.steps(trace), strict=True):
        report(len(layers) / len(trace.layers), "computing layers")
        attention, weight = layer.attention[of], step.weight[of]
        layers.append(
            {
                "attention": attention.mean(1)[:, prefix:, prefix:],
                "product": head_mixing(attention, weight).mean(1)[:, prefix:, prefix:],
                "update": step.mixing[:, prefix:, prefix:],
                "contribution": _cap_own(step.contribution[:, prefix:, prefix:]),
                "attentionReadout": torch.einsum("bn,bhnp->bhp", trace.readout[of], attention)[..., prefix:],
                "updateReadout": torch.einsum("bn,bhnp->bhp", trace.readout, step.head_mixing)[..., prefix:],
                "contributionReadout": read(step.contribution, trace.readout, prefix),
                "weight": weight,
                "ratio": step.length_ratio[of],
                "cosine": step.cosine[of],
                "necc": necc(step.cosine[of], method.normaliser),
            }
        )
    repeated = images < len(trace.logits)
    return {
        "imageOf": [0] * len(trace.logits) if repeated else list(range(images)),
        **{name: torch.stack([one[name] for one in layers], 1) for name in layers[0]},
    }


def head_maps(trace: Trace, method: TokenTM, index: int, head: int) -> dict[str, Tensor]:
    """What patches take through one head, for one explained score: ``attention`` and ``update``, (L, P, P) each."""
    prefix = trace.layout.prefix
    require_room(trace, 1)
    update = [step.head_mixing[index, head, prefix:, prefix:] for step in method.steps(trace)]
    attention = [layer.attention[index, head, prefix:, prefix:] for layer in trace.layers]
    return {"attention": torch.stack(attention), "update": torch.stack(update)}


def grid(trace: Trace) -> dict[str, Any]:
    """How the patches lie: ``rows``, ``columns``, ``aspect``, height over width of the image, and ``offset``.

    ``offset`` is [down, right], in patches: where a token looks, see :class:`tokentm.vit.Layout`.
    """
    height, width = trace.image_size
    return {
        "rows": trace.layout.rows,
        "columns": trace.layout.columns,
        "aspect": height / width,
        "offset": list(trace.layout.offset),
    }


def _different_images(trace: Trace) -> int:
    """1 where one image was explained several times, else the number of images."""
    first, *others = trace.images
    return 1 if all(torch.equal(first, other) for other in others) else len(trace.images)


def require_room(trace: Trace, pairs: int) -> None:
    """Refuse more pairs of patch-by-patch maps in every layer than a browser tab holds.

    Raises:
        InvalidOptionError: by how much, and what to do.
    """
    size = 2 * pairs * len(trace.layers) * (trace.layout.rows * trace.layout.columns) ** 2
    if size > LIMIT:
        raise InvalidOptionError(
            f"expected a record of at most {LIMIT >> 20} MB in the browser; this one takes {size >> 20} MB "
            f"({len(trace.logits)} image(s) or classes, {len(trace.layers)} layers, {trace.layout.tokens} tokens). "
            "Record fewer images or classes at once, or smaller images; tokentm.plots.layer_steps draws any size."
        )


def _cap_own(rows: Tensor) -> Tensor:
    """A patch counts far more in itself than any other does; cap that cell so that the bytes resolve the others."""
    own = torch.eye(rows.shape[-1], dtype=torch.bool, device=rows.device)
    return torch.where(own, rows.masked_fill(own, 0).amax(-1, keepdim=True), rows)


def exact_bytes(values: Tensor) -> bytes:
    """float32, little-endian as every browser reads it."""
    return values.detach().float().cpu().numpy().astype("<f4").tobytes()


def short_bytes(values: Tensor) -> bytes:
    """int16, little-endian."""
    return values.detach().cpu().numpy().astype("<i2").tobytes()


def quantise(rows: Tensor) -> dict[str, bytes]:
    """Rows (..., P) as ``codes``, uint8, between ``low`` and ``high``, the exact ends of each row, float32 (...).

    A value is ``low + code / 255 * (high - low)``: within 0.2 % of the row's range.
    """
    values = rows.detach().float().cpu().numpy()
    low, high = values.min(-1), values.max(-1)
    span = np.where(high > low, high - low, 1)
    codes = np.rint((values - low[..., None]) / span[..., None] * 255).astype(np.uint8)
    return {"codes": codes.tobytes(), "low": low.astype("<f4").tobytes(), "high": high.astype("<f4").tobytes()}


def answers(trace: Trace) -> dict[str, list[float] | None]:
    """What the model answered: of each explained score, its ``probabilities`` and the number itself."""
    return {"probabilities": probabilities(trace), "answers": trace.scores.tolist()}


def probabilities(trace: Trace) -> list[float] | None:
    """Probability of each explained class.

    None where a function of the logits was explained, or the model's outputs have no probabilities.
    """
    of_classes = trace.probabilities
    if trace.target is None or of_classes is None:
        return None
    return of_classes.gather(1, trace.target[:, None]).flatten().tolist()


def readout_name(trace: Trace) -> str:
    """Which final tokens the classifier reads, in words."""
    shares = trace.readout[0]
    named = (shares > 0).nonzero().flatten().tolist()
    known = {(0,): "class token", (0, 1): "class and distillation token"}
    equal = bool((shares[named] == shares[named[0]]).all())
    return known.get(tuple(named), f"{'mean' if equal else 'attention pooling'} of {len(named)} tokens")


def prefix_names(trace: Trace) -> list[str]:
    """What the tokens before the patches are, as far as the model's pooling tells."""
    names = [f"prefix token {i + 1}" for i in range(trace.layout.prefix)]
    if trace.pooling.startswith("class"):
        names[0] = "class token"
    if trace.pooling == "class and distillation token":
        names[1] = "distillation token"
    return names


def picture_url(picture: Image.Image, longest: int = _LONGEST_SIDE) -> str:
    """A picture as a PNG data URL, shrunk to at most so many pixels along its longer side."""
    shown = picture.copy()
    shown.thumbnail((longest, longest))
    buffer = BytesIO()
    shown.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def colour_table(colours: str = COLOURS) -> bytes:
    """The 256 colours of a colour map, 3 bytes each."""
    return (colormaps[colours](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes()
