"""What a widget sends to the browser: a record as compact bytes. Pure functions; no widget in sight."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from tokentm import TokenTM, Trace
from tokentm.errors import InvalidOptionError
from tokentm.plots import COLOURS

LIMIT = 64 * 2**20
"""Most bytes one widget may send; a browser tab holds them all."""

_LONGEST_SIDE = 448


@dataclass(frozen=True)
class LayerMaps:
    """Everything the layer stepper draws.

    I different images, K explained scores (K = I, or one image explained K times), L layers, H heads, Hw heads of the
    transformation weight (1 where it is not taken per head), P patches, Q = 1 + P rows: the readout first, then the
    patches. Row values are ``code * scale / 255``: an error of at most 0.2 % of the row's largest value.

    Attributes:
        image_of: which of the I images each explained score belongs to, K long.
        attention, attention_scale: uint8 (I, L, H, Q, P) and float32 (I, L, H, Q).
        weight, length_ratio, cosine: float32 (I, L, Hw, P), exact.
        contribution, contribution_scale: uint8 (K, L, Q, P) and float32 (K, L, Q); a patch's own cell is capped at the
            largest of the others.
    """

    image_of: tuple[int, ...]
    attention: np.ndarray
    attention_scale: np.ndarray
    weight: np.ndarray
    length_ratio: np.ndarray
    cosine: np.ndarray
    contribution: np.ndarray
    contribution_scale: np.ndarray


def layer_maps(trace: Trace, method: TokenTM) -> LayerMaps:
    """Read a record with one reading of TokenTM, for all layers at once.

    Raises:
        InvalidOptionError: the record is too large for a browser tab.
    """
    batch, heads, tokens, _ = trace.layers[0].attention.shape
    repeated = batch > 1 and all(torch.equal(trace.embedding[0], other) for other in trace.embedding[1:])
    images = slice(0, 1) if repeated else slice(0, batch)
    size = len(trace.layers) * tokens**2 * (heads * len(range(batch)[images]) + batch)
    if size > LIMIT:
        raise InvalidOptionError(
            f"expected a record of at most {LIMIT >> 20} MB in the browser; this one takes {size >> 20} MB "
            f"({batch} image(s), {len(trace.layers)} layers, {heads} heads, {tokens} tokens). "
            "Record fewer images or classes at once, or smaller images; tokentm.plots.layer_steps draws any size."
        )
    prefix = trace.layout.prefix
    attention, contribution = [], []
    weight, ratio, cosine = [], [], []
    for layer, step in zip(trace.layers, method.steps(trace), strict=True):
        attention.append(quantise(_rows(layer.attention[images], trace.readout[images, None], prefix)))
        contribution.append(quantise(_cap_own(_rows(step.contribution, trace.readout, prefix))))
        weight.append(step.weight[images, :, prefix:])
        ratio.append(step.length_ratio[images, :, prefix:])
        cosine.append(step.cosine[images, :, prefix:])
    return LayerMaps(
        image_of=(0,) * batch if repeated else tuple(range(batch)),
        attention=np.stack([codes for codes, _ in attention], axis=1),
        attention_scale=np.stack([scale for _, scale in attention], axis=1),
        weight=_exact(weight),
        length_ratio=_exact(ratio),
        cosine=_exact(cosine),
        contribution=np.stack([codes for codes, _ in contribution], axis=1),
        contribution_scale=np.stack([scale for _, scale in contribution], axis=1),
    )


def _rows(matrix: Tensor, readout: Tensor, prefix: int) -> Tensor:
    """(..., N, N), (..., N) -> (..., 1 + P, P): what the readout takes from each patch, then what each patch takes."""
    return torch.cat((readout.unsqueeze(-2) @ matrix, matrix[..., prefix:, :]), dim=-2)[..., prefix:]


def _cap_own(rows: Tensor) -> Tensor:
    """A patch counts far more in itself than any other does; cap that cell so that the bytes resolve the others."""
    own = torch.eye(rows.shape[-1], dtype=torch.bool, device=rows.device)
    patches = rows[..., 1:, :].masked_fill(own, 0)
    patches = torch.where(own, patches.amax(-1, keepdim=True), patches)
    return torch.cat((rows[..., :1, :], patches), dim=-2)


def _exact(layers: list[Tensor]) -> np.ndarray:
    return torch.stack(layers, dim=1).float().cpu().numpy()


def quantise(rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative rows (..., P) as bytes (..., P) and the largest value of each row (...)."""
    values = rows.float().cpu().numpy()
    scale = values.max(-1)
    codes = np.rint(values / np.where(scale > 0, scale, 1)[..., None] * 255)
    return codes.astype(np.uint8), scale


def probabilities(trace: Trace) -> list[float] | None:
    """Probability of each explained class, None where a function of the logits was explained."""
    if trace.target is None:
        return None
    return trace.logits.softmax(1).gather(1, trace.target[:, None]).flatten().tolist()


def readout_name(trace: Trace) -> str:
    """Which final tokens the classifier reads, in words."""
    shares = trace.readout[0]
    named = (shares > 0).nonzero().flatten().tolist()
    known = {(0,): "class token", (0, 1): "class and distillation token"}
    equal = bool((shares[named] == shares[named[0]]).all())
    return known.get(tuple(named), f"{'mean' if equal else 'attention pooling'} of {len(named)} tokens")


def picture_url(picture: Image.Image) -> str:
    """A picture as a PNG data URL, shrunk to at most 448 pixels."""
    shown = picture.copy()
    shown.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = BytesIO()
    shown.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def colour_table() -> bytes:
    """The 256 colours of the colour map, 3 bytes each."""
    return (colormaps[COLOURS](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes()
