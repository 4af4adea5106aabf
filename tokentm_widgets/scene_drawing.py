"""Scenes out of placed drawings, pixel by pixel; ``front/scene_drawing.js`` draws the same in a browser.

A picture of the scene table is small, 112 x 112, and the model's answer depends on each of its pixels, so nothing here
is left to a browser's own drawing: each pixel is the mean of :data:`SAMPLES` x :data:`SAMPLES` points, a point takes
its colour from the four nearest pixels of the drawing, and all numbers are in double precision, in one order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from tokentm.demo.scenes import SIZE
from tokentm.demo.sprites import CATALOGUE, CELL, CLASSES, drawings

SAMPLES = 3
"""Points along each side of a pixel: a drawing shrunk to 16 pixels is still sampled at every other one of its own."""

BACKGROUNDS = ("stripes", "gradient", "tiles", "discs", "plain")
ENLARGED = 5
"""How many times larger than the scene backgrounds are sent: sharp where the scene is shown large."""

CLASS_OF = {emoji: name for name, both in CATALOGUE.items() for emoji in "".join(both)}
"""Drawing -> its class."""


@dataclass(frozen=True)
class Drawn:
    """A scene as the model gets it.

    Attributes:
        pixels: RGB, uint8, (112, 112, 3).
        owner: which object is seen at each pixel, by its number; -1 where the background is, (112, 112).
    """

    pixels: np.ndarray
    owner: np.ndarray

    @property
    def image(self) -> Image.Image:
        return Image.fromarray(self.pixels)


def composed(background: np.ndarray, objects: Sequence[Mapping[str, Any]]) -> Drawn:
    """Objects on a background, each covering those before it; masks as in :mod:`tokentm.demo.scenes`.

    Args:
        background: RGB, uint8, (112, 112, 3).
        objects: ``sprite``, an emoji of the catalogue; ``x``, ``y``, its middle, and ``size``, in pixels of the scene;
            ``angle``, in degrees, clockwise.

    Example:
        >>> drawn = composed(background("plain"), [{"sprite": "🐱", "x": 56, "y": 56, "size": 60, "angle": 0}])
        >>> drawn.pixels.shape, bool((drawn.owner == 0).any())
        ((112, 112, 3), True)
    """
    canvas = background.astype(np.float64)
    owner = np.full((SIZE, SIZE), -1)
    for i, one in enumerate(objects):
        top, left, layer = _layer(one)
        window = np.s_[top : top + layer.shape[0], left : left + layer.shape[1]]
        share = layer[..., 3:] / 255
        canvas[window] = canvas[window] * (1 - share) + layer[..., :3]
        owner[window][layer[..., 3] > 127.5] = i
    return Drawn(np.floor(canvas + 0.5).clip(0, 255).astype(np.uint8), owner)


def _layer(one: Mapping[str, Any]) -> tuple[int, int, np.ndarray]:
    """Where a drawing begins, and its premultiplied RGBA there, (h, w, 4), within the scene."""
    x, y, size = float(one["x"]), float(one["y"]), float(one["size"])
    turn = float(one["angle"]) * np.pi / 180
    cosine, sine = np.cos(turn), np.sin(turn)
    reach = size * 0.71 + 1  # half a diagonal, and the pixel that it ends in
    left, right = (int(np.clip(np.floor(x + way * reach), 0, SIZE)) for way in (-1, 1))
    top, bottom = (int(np.clip(np.floor(y + way * reach), 0, SIZE)) for way in (-1, 1))
    drawing = np.pad(premultiplied(one["sprite"]).astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    scale, middle = CELL / size, CELL / 2 - 0.5
    down, across = np.mgrid[top:bottom, left:right].astype(np.float64)
    total = np.zeros((bottom - top, right - left, 4))
    for i in range(SAMPLES):
        for j in range(SAMPLES):
            dx, dy = across + (j + 0.5) / SAMPLES - x, down + (i + 0.5) / SAMPLES - y
            u = (cosine * dx + sine * dy) * scale + middle
            v = (cosine * dy - sine * dx) * scale + middle
            inside = (u > -1) & (u < CELL) & (v > -1) & (v < CELL)
            u, v = np.where(inside, u, 0.0), np.where(inside, v, 0.0)
            column, row = np.floor(u).astype(int), np.floor(v).astype(int)
            fu, fv = (u - column)[..., None], (v - row)[..., None]
            upper = drawing[row + 1, column + 1] * (1 - fu) + drawing[row + 1, column + 2] * fu
            lower = drawing[row + 2, column + 1] * (1 - fu) + drawing[row + 2, column + 2] * fu
            total += (upper * (1 - fv) + lower * fv) * inside[..., None]
    return top, left, total / SAMPLES**2


@cache
def premultiplied(sprite: str) -> np.ndarray:
    """A drawing, uint8 (96, 96, 4), its colours times its opacity: what no browser reads exactly from a picture."""
    name = CLASS_OF[sprite]
    seen, unseen = CATALOGUE[name]
    straight = dict(zip(seen + unseen, drawings(name, True) + drawings(name, False), strict=True))[sprite].astype(int)
    opacity = straight[..., 3:]
    return np.concatenate([(2 * straight[..., :3] * opacity + 255) // 510, opacity], -1).astype(np.uint8)


@cache
def sheet() -> bytes:
    """All drawings in one lossless WebP: a row a class, and below them their opacities in grey.

    Opacity stands beside the colours because browsers round the colours of transparent pixels, each in its own way.
    """
    across = max(len("".join(both)) for both in CATALOGUE.values())
    cells = np.zeros((len(CLASSES), CELL, across, CELL, 4), np.uint8)
    for row, both in enumerate(CATALOGUE.values()):
        for column, sprite in enumerate("".join(both)):
            cells[row, :, column] = premultiplied(sprite)
    flat = cells.reshape(len(CLASSES) * CELL, across * CELL, 4)
    return _webp(np.concatenate([flat[..., :3], np.repeat(flat[..., 3:], 3, -1)]))


@cache
def grounds() -> bytes:
    """The backgrounds beside each other, each enlarged, in one lossless WebP."""
    return _webp(np.concatenate([_enlarged(name) for name in BACKGROUNDS], 1))


def background(name: str) -> np.ndarray:
    """One of :data:`BACKGROUNDS`, uint8 (112, 112, 3): the enlarged one, averaged."""
    return averaged(_enlarged(name))


def averaged(enlarged: np.ndarray) -> np.ndarray:
    """Means of squares of pixels, halves rounded up."""
    side = enlarged.shape[0] // SIZE
    sums = enlarged.reshape(SIZE, side, SIZE, side, 3).astype(int).sum((1, 3))
    return ((2 * sums + side**2) // (2 * side**2)).astype(np.uint8)


@cache
def _enlarged(name: str) -> np.ndarray:
    """A background as it is shown, (560, 560, 3)."""
    y, x = (np.mgrid[0 : SIZE * ENLARGED, 0 : SIZE * ENLARGED] + 0.5) / ENLARGED
    if name == "gradient":
        share = ((x + y) / (2 * SIZE))[..., None]
        return (_rgb("#d9c9b8") * (1 - share) + _rgb("#93a3b5") * share).round().astype(np.uint8)
    if name == "stripes":
        along = (x - SIZE / 2) * np.cos(0.5) + (y - SIZE / 2) * np.sin(0.5)
        return _two("#cfd8d2", "#b9c7c1", (along + 100) % 18 < 9)
    if name == "tiles":
        return _two("#cbbfc6", "#b3a4b0", (x // 16 + y // 16) % 2 == 1)
    plain = np.broadcast_to(_rgb("#8fa08c" if name == "discs" else "#a9aaa6"), (*x.shape, 3)).astype(np.uint8)
    if name == "discs":
        for cx, cy, radius, colour in _DISCS:
            plain[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = _rgb(colour)
    return plain


_DISCS = ((22, 30, 17, "#b7a78c"), (88, 84, 22, "#6f8794"), (80, 18, 9, "#c3b6ae"), (30, 92, 12, "#7a6f78"))


def _two(below: str, above: str, where: np.ndarray) -> np.ndarray:
    return np.where(where[..., None], _rgb(above), _rgb(below)).astype(np.uint8)


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], float)


def _webp(pixels: np.ndarray) -> bytes:
    """Lossless; slower methods are a fifth smaller and take ten times as long."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, method=0)
    return buffer.getvalue()
