"""What a widget sends to the browser: a record as compact bytes. Pure functions; no widget in sight."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from tokentm import Trace
from tokentm.plots import COLOURS
from tokentm.questions import ClassScore

_LONGEST_SIDE = 448


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

    None where something else than the output of a class was explained, or the outputs have no probabilities.
    """
    of_classes = trace.probabilities
    if trace.target is None or of_classes is None or isinstance(trace.explained, ClassScore):
        return None
    return of_classes.gather(1, trace.target[:, None]).flatten().tolist()


def model_name(trace: Trace) -> str:
    """What the model is, by what was recorded: libraries' names stay when a model is cut or trained anew."""
    kind = "a model" if trace.anatomy is None else type(trace.anatomy.model).__name__
    heads = trace.layers[0].attention.shape[1]
    grid = f"{trace.layout.rows} x {trace.layout.columns} patches"
    return f"{kind} with {len(trace.layers)} layers, {heads} heads and {grid}"


def about(trace: Trace, names: Sequence[str]) -> str:
    """Which model answered what, for a page of its own: each explained score with its probability or itself."""
    odds = probabilities(trace)
    values = [f"{one:.3g}" for one in trace.scores.tolist()] if odds is None else [f"{100 * one:.1f} %" for one in odds]
    answer = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
    return f"Model: {model_name(trace)}. Its answer: {answer}."


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
