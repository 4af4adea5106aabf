"""Scenes with a known answer: emoji objects on a procedural background, and an exact mask for each object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from tokentm.demo.sprites import CLASSES, drawings
from tokentm.errors import InvalidOptionError

SIZE = 112
"""Side of a scene in pixels."""

Split = Literal["demo", "train", "validation", "test"]
_SPLITS: tuple[Split, ...] = ("demo", "train", "validation", "test")  # the order is part of the seed: never reorder

SIDES = {1: (40, 80), 2: (36, 58), 3: (30, 46)}
"""Object side in pixels, least and largest, by how many objects share the scene."""

_MIN_VISIBLE = 0.5


@dataclass(frozen=True)
class Scene:
    """One picture and what is truly in it.

    Attributes:
        image: the picture, RGB, 112 x 112.
        classes: names of the objects present, in drawing order (a later object covers an earlier one).
        masks: name -> boolean array (112, 112), the pixels where this object is what one sees.
    """

    image: Image.Image
    classes: tuple[str, ...]
    masks: dict[str, np.ndarray]


def make_scene(
    seed: int,
    classes: str | Sequence[str] | None = None,
    *,
    count: int | None = None,
    seen: bool = True,
    split: Split = "demo",
) -> Scene:
    """Draw the scene that belongs to a seed.

    Args:
        seed: any non-negative integer; the same arguments always give the same scene.
        classes: names of the objects to draw, one to three different ones; None draws them at random.
        count: how many objects when ``classes`` is None; None draws one, two or three.
        seen: True takes the drawings that the demo model was trained on, False the ones kept out.
        split: which independent stream of scenes; the demo model was trained on "train" alone.

    Raises:
        InvalidOptionError: an unknown class name, a repeated one, a count outside 1..3, a negative seed,
            an unknown split.

    Example:
        >>> scene = make_scene(3, classes=["cat", "ball"])
        >>> scene.image.size, scene.classes, scene.masks["cat"].dtype
        ((112, 112), ('cat', 'ball'), dtype('bool'))
    """
    if seed < 0:
        raise InvalidOptionError(f"expected a seed of 0 or more, got {seed}")
    if split not in _SPLITS:
        raise InvalidOptionError(f"expected a split among {', '.join(_SPLITS)}; got {split!r}")
    rng = np.random.default_rng([_SPLITS.index(split), seed])
    names = choose_classes(rng, classes, count)
    canvas = _background(rng)
    lowest, highest = SIDES[len(names)]
    sprites = [_vary(rng, _pick(rng, drawings(name, seen)), int(rng.integers(lowest, highest + 1))) for name in names]
    corners = _place(rng, sprites)
    covered = np.zeros((SIZE, SIZE), dtype=bool)
    masks: dict[str, np.ndarray] = {}
    for sprite, (top, left) in zip(sprites, corners, strict=True):
        window = np.s_[top : top + sprite.shape[0], left : left + sprite.shape[1]]
        alpha = sprite[..., 3:]
        canvas[window] = canvas[window] * (1 - alpha) + sprite[..., :3] * alpha
    # masks from the top object down: what is already covered is not visible any more
    for name, sprite, (top, left) in reversed(list(zip(names, sprites, corners, strict=True))):
        mask = np.zeros((SIZE, SIZE), dtype=bool)
        mask[top : top + sprite.shape[0], left : left + sprite.shape[1]] = sprite[..., 3] > 0.5
        masks[name] = mask & ~covered
        covered |= mask
    pixels = (canvas.clip(0, 1) * 255).round().astype(np.uint8)
    return Scene(Image.fromarray(pixels), tuple(names), {name: masks[name] for name in names})


def choose_classes(rng: np.random.Generator, classes: str | Sequence[str] | None, count: int | None) -> list[str]:
    """Names of one to three different classes: the given ones, checked, or so many by chance."""
    if classes is None:
        count = int(rng.integers(1, 4)) if count is None else count
        if not 1 <= count <= 3:
            raise InvalidOptionError(f"expected a count of 1, 2 or 3 objects, got {count}")
        return [str(name) for name in rng.choice(CLASSES, size=count, replace=False)]
    names = [classes] if isinstance(classes, str) else list(classes)
    unknown = [name for name in names if name not in CLASSES]
    if unknown:
        raise InvalidOptionError(
            f"expected class names among {', '.join(CLASSES)}; got {', '.join(map(repr, unknown))}"
        )
    if not 1 <= len(names) <= 3 or len(set(names)) != len(names):
        raise InvalidOptionError(f"expected one to three different classes, got {names}")
    return names


def _pick(rng: np.random.Generator, options: tuple[np.ndarray, ...]) -> np.ndarray:
    return options[int(rng.integers(len(options)))]


def _vary(rng: np.random.Generator, drawing: np.ndarray, side: int) -> np.ndarray:
    """Flip, turn, resize and tint one drawing: float (h, w, 4) in 0..1, cropped to what is visible."""
    picture = Image.fromarray(drawing)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    angle = float(rng.uniform(-20, 20))
    # premultiplied alpha while resampling, or the transparent black around a drawing would bleed into its edge
    picture = picture.convert("RGBa").resize((side, side), Image.Resampling.BILINEAR)
    picture = picture.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    box = picture.getbbox()
    sprite = np.asarray(picture.convert("RGBA").crop(box), dtype=np.float32) / 255
    rgb = sprite[..., :3] @ _hue_rotation(float(rng.uniform(-0.45, 0.45))).T * np.float32(rng.uniform(0.8, 1.15))
    return np.concatenate([rgb.clip(0, 1), sprite[..., 3:]], axis=-1)[:SIZE, :SIZE]


def _hue_rotation(angle: float) -> np.ndarray:
    """Rotation about the grey axis of RGB space by an angle in radians: hue turns, grey stays."""
    shared, turned = (1 - np.cos(angle)) / 3, np.sin(angle) / np.sqrt(3)
    diagonal, plus, minus = np.cos(angle) + shared, shared + turned, shared - turned
    return np.array([[diagonal, minus, plus], [plus, diagonal, minus], [minus, plus, diagonal]], dtype=np.float32)


def _place(rng: np.random.Generator, sprites: list[np.ndarray]) -> list[tuple[int, int]]:
    """Corners (top, left) such that every object stays inside the scene and at least half visible."""
    while True:
        corners = [
            (int(rng.integers(SIZE - s.shape[0] + 1)), int(rng.integers(SIZE - s.shape[1] + 1))) for s in sprites
        ]
        covered = np.zeros((SIZE, SIZE), dtype=bool)
        for sprite, (top, left) in reversed(list(zip(sprites, corners, strict=True))):
            solid = sprite[..., 3] > 0.5
            window = covered[top : top + solid.shape[0], left : left + solid.shape[1]]
            if (solid & ~window).sum() < _MIN_VISIBLE * solid.sum():
                break
            window |= solid
        else:
            return corners


def _background(rng: np.random.Generator) -> np.ndarray:
    """A varied picture without objects: gradient, clouds, stripes or tiles, then a few plain shapes on top."""
    first = _muted(rng)
    second = first + np.float32(0.7) * (_muted(rng) - first)
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    kind = rng.integers(4)
    if kind == 0:
        blend = (along - along.min()) / np.ptp(along)
    elif kind == 1:
        blend = sum(_clouds(rng, cells) * weight for cells, weight in ((3, 0.55), (7, 0.3), (18, 0.15)))
    elif kind == 2:
        blend = (np.sin(along * np.float32(rng.uniform(10, 70))) * np.float32(0.5) + 0.5) ** 2
    else:
        tiles = rng.integers(3, 10)
        across = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))
        blend = ((np.floor(along * tiles) + np.floor(across * tiles)) % 2).astype(np.float32)
    canvas = first + (second - first) * np.asarray(blend, dtype=np.float32)[..., None]
    for _ in range(int(rng.integers(0, 4))):
        _add_shape(rng, canvas, x, y)
    return canvas + rng.normal(0, rng.uniform(0, 0.06), canvas.shape).astype(np.float32)


def _clouds(rng: np.random.Generator, cells: int) -> np.ndarray:
    coarse = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32) / 255


def _add_shape(rng: np.random.Generator, canvas: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Blend one disc or bar of a random colour into the canvas: something to see that is no object."""
    cx, cy = rng.random(2)
    size = rng.uniform(0.05, 0.22)
    if rng.random() < 0.5:
        inside = (x - cx) ** 2 + (y - cy) ** 2 < size**2
    else:
        turn = rng.uniform(0, np.pi)
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        inside = (np.abs(u) < size) & (np.abs(v) < size * rng.uniform(0.15, 0.8))
    strength = np.float32(rng.uniform(0.3, 0.9))
    canvas[inside] = canvas[inside] * (1 - strength) + _muted(rng) * strength


def _muted(rng: np.random.Generator) -> np.ndarray:
    """A random colour half-way to grey, so that the objects stay the most colourful thing in the picture."""
    colour = rng.random(3, dtype=np.float32)
    return (colour + colour.mean()) / 2
