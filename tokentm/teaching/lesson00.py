"""Exercise of the quickstart."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

import tokentm
from tokentm.teaching.core import Exercise, Misstep, tensor

_ASKED = ("cat", "car")


@cache
def _shares() -> dict[tuple[str, str], float]:
    """(class that was asked for, object) -> share of that class's map on that object, in the quickstart's scene."""
    demo = tokentm.load_demo()
    scene = demo.scene(17, classes=list(_ASKED))
    images = demo.transform(scene.image).expand(2, -1, -1, -1)
    heat = tokentm.explain(demo.model, images, [demo.classes.index(name) for name in _ASKED]).heatmap()
    return {
        (asked, name): float((heat[i] * torch.from_numpy(mask)).sum() / heat[i].sum())
        for i, asked in enumerate(_ASKED)
        for name, mask in scene.masks.items()
    }


def _close(answer: Any, asked: str, name: str) -> bool:
    found, wanted = _number(answer), _shares()[asked, name]
    return abs(found - wanted) <= 1e-3 * wanted


def _number(answer: Any) -> float:
    if getattr(answer, "shape", ()) not in ((), (1,)):
        raise Misstep(f"a share is one number; yours has shape {tuple(answer.shape)}. Sum over the pixels of the car.")
    return float(tensor(answer, getattr(answer, "shape", ()), "one number").reshape(()))


def is_a_share(answer: Any) -> str | None:
    if not 0 <= _number(answer) <= 1:
        return "a share lies between 0 and 1: divide by the sum of the whole map."
    return None


def asks_for_the_car(answer: Any) -> str | None:
    if _close(answer, "cat", "car"):
        return "that is the cat's map on the car: explain again, with target=car."
    return None


def looks_at_the_car(answer: Any) -> str | None:
    if _close(answer, "car", "cat"):
        return "that is the car's map on the cat's pixels: ask for the share on the car."
    return None


def is_the_share(answer: Any) -> str | None:
    if not _close(answer, "car", "car"):
        return "wanted: the map's sum on the car's pixels, divided by the sum of the whole map."
    return None


SHARE = Exercise(
    properties=(is_a_share, asks_for_the_car, looks_at_the_car, is_the_share),
    right="the map follows the question. Asked about the car, most of it lies on the car.",
    hints=(
        "begin with the explain line of section 2, and ask for the car.",
        "share_on takes the name of an object and an explanation: give it the car, and the car's explanation.",
    ),
    function=False,
)
