"""Exercises of lesson 8, your own model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import tokentm
from tokentm.teaching.core import Exercise, Misstep, kind, same, tensor

Answer = Callable[..., Any]
Explain = Callable[[nn.Module, Tensor, Any], tokentm.Explanation]

# rows, columns, height and width of a patch: no two alike, so that nothing can stand in for anything else
_GRIDS = ((2, 5, 8, 8), (6, 4, 16, 14), (3, 7, 4, 10))


def _explanations() -> Iterator[tokentm.Explanation]:
    """Two images each, every patch with a score of its own."""
    for seed, (rows, columns, tall, wide) in enumerate(_GRIDS):
        scores = torch.rand(2, rows * columns, generator=torch.Generator().manual_seed(seed))
        yield tokentm.Explanation(
            method="fresh",
            scores=scores,
            layer_scores=scores.new_zeros(2, 0, rows * columns),
            grid=(rows, columns),
            logits=torch.zeros(2, 3),
            target=torch.tensor([0, 1]),
            image_size=(rows * tall, columns * wide),
        )


def _pixels(explanation: tokentm.Explanation) -> Iterator[tuple[int, int, int]]:
    """(patch, x, y): the first, the last and a middle pixel of every patch."""
    rows, columns = explanation.grid
    tall, wide = explanation.image_size[0] // rows, explanation.image_size[1] // columns
    for patch in range(rows * columns):
        row, column = divmod(patch, columns)
        for y, x in ((0, 0), (tall - 1, wide - 1), (tall // 2, 1)):
            yield patch, column * wide + x, row * tall + y


def _found(score_at: Answer, explanation: tokentm.Explanation, x: int, y: int) -> Tensor:
    return tensor(score_at(explanation, x, y), (2,), "(images,)")


def gives_one_score_for_each_image(score_at: Answer) -> str | None:
    for explanation in _explanations():
        answer = score_at(explanation, 3, 2)
        if isinstance(answer, int | float) or getattr(answer, "shape", None) == ():
            return "the explanation holds 2 images; give the score of each, (images,)."
        _found(score_at, explanation, 3, 2)
    return None


def _swapped(explanation: tokentm.Explanation, x: int, y: int) -> int:
    """The patch of one who takes x for the way down and y for the way across."""
    (rows, columns), (height, width) = explanation.grid, explanation.image_size
    return min(x * rows // height * columns + y * columns // width, rows * columns - 1)


def reads_the_patch_under_the_pixel(score_at: Answer) -> str | None:
    for explanation in _explanations():
        (rows, columns), (height, width) = explanation.grid, explanation.image_size
        inside = [(patch, x, y) for patch, x, y in _pixels(explanation) if x < height and y < width]
        if all(
            same(_found(score_at, explanation, x, y), explanation.scores[:, _swapped(explanation, x, y)])
            for _, x, y in inside
        ):
            return (
                "x counts from the left and chooses the column, y from the top and chooses the row; not the other way."
            )
        for patch, x, y in _pixels(explanation):
            found = _found(score_at, explanation, x, y)
            if same(found, explanation.scores[:, patch]):
                continue
            if same(found, explanation.heatmap()[:, y, x]):
                return (
                    "heatmap() blends neighbouring patches. Read the patch's own score, from scores or heatmap(grid)."
                )
            where = (
                f"on a grid of {rows} x {columns} over {height} x {width} pixels, x = {x}, y = {y} is in patch {patch}"
            )
            if others := [n for n in range(rows * columns) if same(found, explanation.scores[:, n])]:
                return f"{where}; you give the score of patch {others[0]}. Patches need not be square."
            return f"{where}; you give no patch's score."
    return None


SCORE_AT = Exercise(
    properties=(gives_one_score_for_each_image, reads_the_patch_under_the_pixel),
    right="every pixel finds its patch, on grids and patches of any shape.",
    hints=(
        "how many pixels high and wide is a patch? explanation.image_size and explanation.grid know.",
        "row = y // (height // rows); the column likewise from x. Then row by row, as in notebook 01.",
    ),
)


_FIRST = 20
_NAMES = ("class", "picture", "removal")
_MUST = {
    "class": "it gives the same map for any class",
    "picture": "it gives the same map for any picture",
    "removal": "its last patches are needed more than its first",
}


@cache
def _picture() -> Tensor:
    demo = tokentm.load_demo()
    return demo.transform(demo.scene(7003, ["boat", "bird"]).image)[None]


def _same_for_any_class(model: nn.Module, images: Tensor, target: Any) -> tokentm.Explanation:
    """TokenTM for the predicted class, whatever it is asked about."""
    return tokentm.explain(model, images, None)


def _same_for_any_picture(model: nn.Module, images: Tensor, target: Any) -> tokentm.Explanation:
    """TokenTM's map of one picture, whatever it is shown; of the check's picture, so that removal finds nothing."""
    return tokentm.explain(model, _picture(), target)


def _backwards(model: nn.Module, images: Tensor, target: Any) -> tokentm.Explanation:
    explanation = tokentm.explain(model, images, target)
    return replace(explanation, scores=-explanation.scores)


def _asleep(model: nn.Module, images: Tensor, target: Any) -> tokentm.Explanation:
    """One map for everything, and in it the last patches of a good map come first."""
    good = tokentm.explain(model, _picture(), None)
    return replace(good, scores=-good.scores)


_LIARS: tuple[tuple[Explain, set[str], str], ...] = (
    (tokentm.explain, set(), "TokenTM"),
    (_same_for_any_class, {"class"}, "an explainer that explains the predicted class, whatever it is asked about,"),
    (_same_for_any_picture, {"picture"}, "an explainer that has one map for all pictures"),
    (_backwards, {"removal"}, "TokenTM turned upside down"),
    (_asleep, {"class", "picture", "removal"}, "an explainer that has one map for everything, upside down,"),
)


def _doubts(doubts: Answer, explain: Explain) -> set[str]:
    answer = doubts(tokentm.load_demo().model, _picture(), explain)
    if isinstance(answer, str) or not hasattr(answer, "__iter__"):
        raise Misstep(f"expected a set of names, such as {{'class'}} or set(); yours is {kind(answer)}.")
    found = set(answer)
    if unknown := sorted(map(str, found - set(_NAMES))):
        raise Misstep(f"expected names among {', '.join(_NAMES)}; got {', '.join(unknown)}.")
    return found


def trusts_a_good_explainer(doubts: Answer) -> str | None:
    explain, wanted, name = _LIARS[0]
    if wrong := sorted(_doubts(doubts, explain) - wanted):
        return f"{name} passes all three tests here, and you doubt it for: {', '.join(wrong)}."
    return None


def catches_every_liar(doubts: Answer) -> str | None:
    for explain, wanted, name in _LIARS[1:]:
        found = _doubts(doubts, explain)
        for test in _NAMES:
            if test in wanted - found:
                return f"{name} passes your test '{test}', though {_MUST[test]}."
            if test in found - wanted:
                return f"{name} fails your test '{test}' without cause. Let each test change one thing only."
    return None


def asks_about_the_two_likeliest_classes(doubts: Answer) -> str | None:
    asked: list[Any] = []

    def noting(model: nn.Module, images: Tensor, target: Any) -> tokentm.Explanation:
        asked.append(target)
        return tokentm.explain(model, images, target)

    _doubts(doubts, noting)
    with torch.no_grad():
        likeliest = tokentm.load_demo().model(_picture()).topk(2).indices[0].tolist()
    named = {int(one) for one in asked if isinstance(one, Tensor | int)}
    if strange := sorted(named - set(likeliest)):
        return (
            f"you ask about class {strange[0]}; the predicted class and the runner-up are {likeliest[0]} and "
            f"{likeliest[1]}."
        )
    return None


DOUBTS = Exercise(
    properties=(trusts_a_good_explainer, catches_every_liar, asks_about_the_two_likeliest_classes),
    right="four explainers with known faults were caught, each for its own, and a good one was not.",
    hints=(
        "three tests, three ifs, one set. Begin with model(images).topk(2): the predicted class and the runner-up.",
        "'class': explain for both, compare scores. 'picture': explain images and images.flip(3) for the same class. "
        "'removal': topk(20) of scores and of -scores; paint both groups over, in two copies.",
        "to paint: a mask (1, 1, rows, columns) of the patches, repeat_interleave(side, 2).repeat_interleave(side, 3), "
        "then images.masked_fill(mask, 0).",
    ),
)
