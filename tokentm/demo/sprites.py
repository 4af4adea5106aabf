"""The drawings that demo scenes are made of: what they are, and how they are read from the shipped atlas.

The atlas ``sprites.png`` is rendered once from the Noto Color Emoji font by :mod:`tokentm.demo.render_sprites`
(SIL Open Font License 1.1, see NOTICE). Row = class, column = drawing, cells of :data:`CELL` pixels.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from PIL import Image

CELL = 96
"""Side of one atlas cell in pixels; every drawing fills its cell along the longer side."""

# class -> (drawings the classifier is trained on, drawings it never saw). The split was fixed by hand before the
# first training run, by one rule: the drawing kept out shows the class plainly and has no duplicate among the others.
CATALOGUE: dict[str, tuple[str, str]] = {
    "cat": ("🐱🐈😸🙀😽", "😼"),
    "dog": ("🐶🐕🐩", "🦮"),
    "bird": ("🐦🐤🦆🦅🦢🦜🕊", "🐥"),
    "fish": ("🐠🐡🦈", "🐟"),
    "car": ("🚗🚙🚓🚘🚖🛻", "🚕"),
    "plane": ("✈🛩🛫", "🛬"),
    "boat": ("⛵🚤🚢⛴🛶", "🛥"),
    "ball": ("⚽🏀🏈⚾🏐🏉🎱", "🥎"),
    "flower": ("🌸🌹🌺🌻🌷🏵", "🌼"),
    "fruit": ("🍎🍐🍊🍋🍓🍒🍇", "🍑"),
    "tree": ("🌳🌴🎄", "🌲"),
    "house": ("🏠🏘🏚🛖", "🏡"),
    "cup": ("☕🍺🥛🥤🧋", "🍵"),
    "hat": ("🎩👒🎓🧢⛑", "🪖"),
    "shoe": ("👞🥾🥿👠👢👡", "👟"),
    "clock": ("🕐⏰🕰⌚⏱", "🕗"),
}

CLASSES: tuple[str, ...] = tuple(CATALOGUE)


@cache
def drawings(name: str, seen: bool) -> tuple[np.ndarray, ...]:
    """The drawings of one class, each uint8 ``(CELL, CELL, 4)`` with straight (not premultiplied) alpha."""
    train, held_out = CATALOGUE[name]
    columns = range(len(train)) if seen else range(len(train), len(train) + len(held_out))
    row = CLASSES.index(name)
    atlas = _atlas()
    return tuple(atlas[row * CELL : (row + 1) * CELL, c * CELL : (c + 1) * CELL] for c in columns)


@cache
def _atlas() -> np.ndarray:
    with resources.files("tokentm.demo").joinpath("sprites.png").open("rb") as file:
        return np.asarray(Image.open(file).convert("RGBA"))
