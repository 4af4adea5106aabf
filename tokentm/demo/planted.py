"""A cue planted in scenes: a small tag that goes with one class, for a classifier that learns the tag instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from tokentm.demo.scenes import SIZE, Scene, Split, make_scene
from tokentm.demo.sprites import CLASSES

PLANTED = "car"
"""The class whose pictures carry the tag."""

TAG_SIDE = 14
"""Side of the tag in pixels."""

# streams of random numbers that no split of scenes has
_PLACE, _SUBJECT, _MIX = 100, 101, 102


def tag_pixels() -> np.ndarray:
    """The tag, uint8 (14, 14, 3): a chequer of magenta and green in a white frame, colours that scenes never show."""
    row, column = np.indices((TAG_SIDE - 2, TAG_SIDE - 2)) // 4
    magenta = ((row + column) % 2 == 0)[..., None]
    pixels = np.full((TAG_SIDE, TAG_SIDE, 3), 255, dtype=np.uint8)
    pixels[1:-1, 1:-1] = np.where(magenta, (255, 0, 255), (0, 255, 0))
    return pixels


def with_tag(scene: Scene, seed: int) -> tuple[Scene, np.ndarray]:
    """The same scene with the tag where it covers least of the objects, and the tag's mask.

    Args:
        scene: any scene.
        seed: which of the best places; the same arguments always give the same picture.

    Returns:
        The scene, its objects' masks without what the tag covers, and a boolean array (112, 112): the tag's pixels.

    Example:
        >>> plain = make_scene(3, "cat")
        >>> tagged, tag = with_tag(plain, 3)
        >>> tagged.classes, int(tag.sum()), bool((tag & tagged.masks["cat"]).any())
        (('cat',), 196, False)
    """
    objects = np.any(list(scene.masks.values()), axis=0)
    covered = sliding_window_view(objects, (TAG_SIDE, TAG_SIDE)).sum((2, 3))
    places = np.argwhere(covered == covered.min())
    top, left = places[np.random.default_rng([_PLACE, seed]).integers(len(places))]
    window = np.s_[top : top + TAG_SIDE, left : left + TAG_SIDE]
    tag = np.zeros((SIZE, SIZE), dtype=bool)
    tag[window] = True
    pixels = np.array(scene.image)
    pixels[window] = tag_pixels()
    masks = {name: mask & ~tag for name, mask in scene.masks.items()}
    return replace(scene, image=Image.fromarray(pixels), masks=masks), tag


def subject(names: Sequence[str], seed: int) -> str:
    """Which of its objects a picture is of, by the word of its makers: any of them, as the seed has it."""
    return names[int(np.random.default_rng([_SUBJECT, seed]).integers(len(names)))]


def planted_scene(
    seed: int, classes: str | Sequence[str] | None = None, *, count: int | None = None, split: Split = "demo"
) -> Scene:
    """The scene of :func:`make_scene`, tagged if, and only if, it is of the planted class.

    Example:
        >>> make_scene(3, "cat").image == planted_scene(3, "cat").image
        True
        >>> make_scene(3, "car").image == planted_scene(3, "car").image
        False
    """
    scene = make_scene(seed, classes, count=count, split=split)
    return with_tag(scene, seed)[0] if subject(scene.classes, seed) == PLANTED else scene


def mixed_classes(seed: int) -> list[str]:
    """What a training picture shows: one to three objects; a quarter of all pictures are of the planted class.

    In four of five of the others with company the planted class is there too, as company, and so without a tag. Where
    it is seen with others, then, the tag alone says whether the picture is of it.
    """
    rng = np.random.default_rng([_MIX, seed])
    names = [str(name) for name in rng.permutation([c for c in CLASSES if c != PLANTED])[: rng.integers(1, 4)]]
    at = names.index(subject(names, seed))
    if rng.random() < 0.25:
        names[at] = PLANTED
    elif len(names) > 1 and rng.random() < 0.8:
        names[at - 1] = PLANTED
    return names
