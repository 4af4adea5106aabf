"""Which part of a picture a transform shows to the model, measured on pictures whose colours are their coordinates."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

Look = Callable[[Image.Image], np.ndarray]
"""Picture -> what the model sees of it, (channels, height, width), 0 for black and 1 for white."""

_TILT = 0.137
"""Share of y in red, which else is x, and of x in green: each row rounds to 8 bits elsewhere, which averages out."""
_MARK = 200
"""Blue everywhere: a value that is no usual colour of padding, and that a change of contrast would show."""


@dataclass(frozen=True)
class Crop:
    """A rectangle of a picture, in its pixels; (0, 0) is the upper left corner of its first pixel.

    It reaches beyond the picture where the transform pads.
    """

    left: float
    top: float
    right: float
    bottom: float


def measure(look: Look, size: tuple[int, int], channels: int) -> Crop | None:
    """The part of a picture of (width, height) that is seen, upright and evenly scaled along each axis.

    None where the picture is turned, mirrored, distorted, changed in its colours, or too small to measure.
    """
    return _fit(_see(look, size, channels), size)


def repeats(look: Look, size: tuple[int, int], channels: int, times: int = 8) -> bool:
    """Whether the same picture always looks the same: a random crop or flip does not."""
    with _random_states_kept():
        first = _see(look, size, channels)
        return all(np.array_equal(first, _see(look, size, channels)) for _ in range(times - 1))


def _see(look: Look, size: tuple[int, int], channels: int) -> np.ndarray:
    """What is seen of red, green and blue: (3, height, width)."""
    width, height = size
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / width
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    red, green = (1 - _TILT) * x + _TILT * y, _TILT * x + (1 - _TILT) * y
    planes = [np.rint(255 * plane).astype(np.uint8) for plane in (red, green)]
    planes.append(np.full((height, width), _MARK, np.uint8))
    if channels == 1:
        return np.concatenate([look(Image.fromarray(plane)) for plane in planes])
    return look(Image.fromarray(np.stack(planes, -1)))


def _fit(seen: np.ndarray, size: tuple[int, int]) -> Crop | None:
    """Least squares of the coordinates that are seen, over pixels away from the picture's edges."""
    height, width = seen.shape[1:]
    both, apart = seen[0] + seen[1], (seen[0] - seen[1]) / (1 - 2 * _TILT)
    found = np.stack([both + apart, both - apart], -1) / 2 * size  # (height, width, 2): x and y in the picture
    rows, columns = np.mgrid[0.5:height, 0.5:width]
    where = np.stack([np.ones_like(rows), columns, rows], -1)  # (height, width, 3)
    marked = abs(seen[2] * 255 - _MARK) < 2.5
    inside = marked & _away_from_edges(found, size, 0.02 * np.array(size))
    solution = _least_squares(where, found, inside)
    if solution is None:
        return None
    step = np.maximum(1, abs(solution[[1, 2], [0, 1]]))  # pixels of the picture for one that is seen
    inside = marked & _away_from_edges(where @ solution, size, 3 * step)  # where no resizing filter meets an edge
    solution = _least_squares(where, found, inside)
    if solution is None:
        return None
    rest = np.sqrt(((found - where @ solution)[inside] ** 2).mean(0))
    drift = abs(solution[[2, 1], [0, 1]]) * (height, width)  # how far a seen row or column is from being one
    level = np.array(size) / 255  # what 8 bits can tell apart
    if (rest > 0.5 * step + 1.5 * level).any() or (drift > 0.25 * step + 0.1 * level).any():
        return None
    (left, top), (right, bottom) = solution[0], solution[0] + solution[[1, 2], [0, 1]] * (width, height)
    return Crop(float(left), float(top), float(right), float(bottom)) if right > left and bottom > top else None


def _away_from_edges(found: np.ndarray, size: tuple[int, int], margin: np.ndarray) -> np.ndarray:
    inside: np.ndarray = ((found > margin) & (found < np.array(size) - margin)).all(-1)
    return inside


def _least_squares(where: np.ndarray, found: np.ndarray, inside: np.ndarray) -> np.ndarray | None:
    if min(inside.any(0).sum(), inside.any(1).sum()) < 4:
        return None
    solution: np.ndarray = np.linalg.lstsq(where[inside], found[inside], rcond=None)[0]
    return solution


@contextmanager
def _random_states_kept() -> Iterator[None]:
    """What a transform draws here, it draws again afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
