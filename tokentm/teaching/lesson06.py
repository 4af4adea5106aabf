"""Exercises of lesson 6, is it faithful?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tokentm.teaching.core import Exercise, kind, same, tensor
from tokentm.teaching.fresh import small_vit

Answer = Callable[..., Any]


def _axes() -> Iterator[Tensor]:
    """Shares of patches gone: equal and unequal steps, from 0 or later, to 1 or less."""
    yield torch.linspace(0, 1, 6)
    yield torch.tensor([0.0, 0.05, 0.1, 0.2, 0.5, 1.0])
    yield torch.tensor([0.1, 0.15, 0.4, 0.9])


def _area(area: Answer, gone: Tensor, curve: Tensor) -> Tensor:
    return tensor(area(gone, curve), (len(curve),), "one area for each image")


def _curves(points: int, seed: int = 0) -> Tensor:
    return torch.rand(3, points, generator=torch.Generator().manual_seed(seed))


def a_flat_curve_has_its_own_height(area: Answer) -> str | None:
    for gone in _axes():
        heights = torch.tensor([0.2, 0.7, 1.0])
        found = _area(area, gone, heights[:, None].repeat(1, len(gone)))
        if not same(found, heights):
            return (
                f"a curve that stays at 0.70 from {gone[0]:g} to {gone[-1]:g} gets {found[1]:.2f}. Divide the area by "
                "the width, last minus first, so that a flat curve gives its own height."
            )
    return None


def a_straight_line_has_the_height_of_its_middle(area: Answer) -> str | None:
    for gone in _axes():
        line = torch.stack([1 - gone, 0.2 + 0.5 * gone])
        middle = (line[:, 0] + line[:, -1]) / 2
        found = _area(area, gone, line)
        if not same(found, middle):
            return (
                f"a straight fall from {line[0, 0]:g} to {line[0, -1]:g} has the mean height {middle[0]:.2f}; yours is "
                f"{found[0]:.2f}, at the points {[round(x, 2) for x in gone.tolist()]}. Steps may be of unequal width, "
                "and a step is as high as the mean of its two ends."
            )
    return None


def the_unit_of_the_axis_does_not_matter(area: Answer) -> str | None:
    for gone in _axes():
        curve = _curves(len(gone))
        if not same(_area(area, 196 * gone, curve), _area(area, gone, curve)):
            return "counted in patches instead of shares, the area must be the same: divide by last minus first."
    return None


def it_is_the_area_under_the_lines(area: Answer) -> str | None:
    for gone in _axes():
        curve = _curves(len(gone), 1)
        steps = (curve[:, 1:] + curve[:, :-1]) / 2 * (gone[1:] - gone[:-1])
        if not same(_area(area, gone, curve), steps.sum(1) / (gone[-1] - gone[0])):
            return (
                "for a crooked curve yours is another number. Wanted: between two points a straight line; the area "
                "below it, step by step; the sum, divided by the width. An image has its own row of the curve."
            )
    return None


AREA = Exercise(
    properties=(
        a_flat_curve_has_its_own_height,
        a_straight_line_has_the_height_of_its_middle,
        the_unit_of_the_axis_does_not_matter,
        it_is_the_area_under_the_lines,
    ),
    right="the mean height of a curve, however its points lie.",
    hints=(
        "one step is as wide as gone[k + 1] - gone[k], and as high as the mean of its two ends.",
        "torch.trapezoid(curve, gone, dim=1) sums the steps. What is left to do for a flat curve to give its height?",
    ),
)


def _shuffled(shuffled: Answer, model: nn.Module, seed: int) -> dict[str, Tensor]:
    return {name: kept.detach() for name, kept in shuffled(model, seed).named_parameters()}


def returns_another_model(shuffled: Answer) -> str | None:
    model = small_vit(6)
    made = shuffled(model, 0)
    if not isinstance(made, nn.Module):
        return f"expected a model; yours is {kind(made)}."
    if made is model:
        return "that is the same model: change and return copy.deepcopy(model)."
    before = {name: kept.shape for name, kept in model.named_parameters()}
    if {name: kept.shape for name, kept in made.named_parameters()} != before:
        return "the copy has other parts or shapes than the model. Change numbers, and put them back as view_as."
    return None


def keeps_every_number(shuffled: Answer) -> str | None:
    model = small_vit(6)
    made = _shuffled(shuffled, model, 0)
    for name, kept in model.named_parameters():
        if not torch.equal(made[name].flatten().sort().values, kept.detach().flatten().sort().values):
            return (
                f"{name} has other numbers than before. Do not draw new ones: put the same into another order, "
                "parameter by parameter."
            )
    return None


def moves_them_in_every_parameter(shuffled: Answer) -> str | None:
    model = small_vit(6)
    made = _shuffled(shuffled, model, 0)
    for name, kept in model.named_parameters():
        if kept.numel() >= 10 and torch.equal(made[name], kept):  # a few entries may come back into place by chance
            return f"{name} is as before. Shuffle every parameter: for p in model.parameters()."
    return None


def moves_them_over_rows_and_columns(shuffled: Answer) -> str | None:
    model = small_vit(6)
    made = _shuffled(shuffled, model, 0)
    for name, kept in model.named_parameters():
        if kept.ndim == 2:
            for before, after in ((kept.detach(), made[name]), (kept.detach().T, made[name].T)):
                rows = [sorted(tuple(sorted(row)) for row in one.tolist()) for one in (before, after)]
                if rows[0] == rows[1]:
                    return (
                        f"numbers that shared a row or a column of {name} still do. Flatten it first: then every entry "
                        "can go everywhere."
                    )
    return None


def follows_its_seed_and_leaves_all_others(shuffled: Answer) -> str | None:
    model = small_vit(6)
    state = torch.get_rng_state()
    once = _shuffled(shuffled, model, 1)
    if not torch.equal(torch.get_rng_state(), state):
        return (
            "it uses up the random numbers of the whole program. Take a generator of its own: "
            "torch.Generator().manual_seed(seed)."
        )
    again, other = _shuffled(shuffled, model, 1), _shuffled(shuffled, model, 2)
    if any(not torch.equal(once[name], again[name]) for name in once):
        return "the same seed must give the same model; yours gives another."
    if all(torch.equal(once[name], other[name]) for name in once):
        return "another seed gives the same model: use `seed` for the generator."
    return None


SHUFFLED = Exercise(
    properties=(
        returns_another_model,
        keeps_every_number,
        moves_them_in_every_parameter,
        moves_them_over_rows_and_columns,
        follows_its_seed_and_leaves_all_others,
    ),
    right="the same numbers, and nothing of what was learnt.",
    hints=(
        "three things: a deep copy, a generator with the seed, and a loop over the copy's parameters.",
        "torch.randperm(n, generator=...) is an order of n entries; parameter.numel() counts them.",
        "inside torch.no_grad(): parameter.copy_(parameter.flatten()[order].view_as(parameter)).",
    ),
)


_PICTURES = 100
_SKEWED = (0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.2, 0.2, 0.3, 0.5, 1.5, 4.0)


def _interval(interval: Answer, values: Tensor, seed: int = 0) -> tuple[float, float]:
    found = tensor(interval(values, seed), (2,), "(low, high)")
    return float(found[0]), float(found[1])


def _sample(seed: int) -> Tensor:
    return 0.3 + torch.randn(_PICTURES, generator=torch.Generator().manual_seed(seed))


def has_the_mean_inside(interval: Answer) -> str | None:
    for seed in range(3):
        values = _sample(seed)
        low, high = _interval(interval, values)
        mean = float(values.mean())
        if low > high:
            return f"low is {low:.2f} and high {high:.2f}: return the smaller one first."
        if low == high:
            return (
                "all resamples have the same mean. Draw with replacement: one picture may come twice, another not at "
                "all."
            )
        if not low < mean < high:
            return f"the mean of the values, {mean:.2f}, must lie inside; yours is {low:.2f} to {high:.2f}."
    return None


def is_as_wide_as_the_mean_is_uncertain(interval: Answer) -> str | None:
    ratios = []
    for seed in range(3):
        values = _sample(seed)
        low, high = _interval(interval, values)
        ratios.append((high - low) / (2 * 1.96 * float(values.std()) / _PICTURES**0.5))
    ratio = sum(ratios) / len(ratios)
    if 0.93 < ratio < 1.07:
        return None
    if ratio > 5:
        return (
            f"{ratio:.0f} times too wide: that is where single pictures lie. Average each resample, and take the "
            "quantiles of these means."
        )
    if 0.8 < ratio < 0.88:
        return "that is 90 per cent: 5 below and 5 above. For 95, leave out 2.5 on each side."
    return (
        f"{ratio:.2f} times as wide as {_PICTURES} such pictures allow. Draw as many pictures as there are and take "
        "the mean, 2,000 times; low and high are the quantiles 0.025 and 0.975 of the means."
    )


def follows_the_values_not_a_formula(interval: Answer) -> str | None:
    values = torch.tensor(_SKEWED)
    low, high = _interval(interval, values)
    mean = float(values.mean())
    if (high - mean) < 1.2 * (mean - low):
        return (
            "for values most of which are small and few are large the interval must reach further up than down; yours "
            "is even. Is it the mean plus and minus some standard errors? Redraw the pictures instead."
        )
    return None


def follows_its_seed(interval: Answer) -> str | None:
    values = _sample(3)
    if _interval(interval, values, 1) != _interval(interval, values, 1):
        return "the same values and the same seed must give the same interval. Draw with a generator of that seed."
    if len({_interval(interval, values, seed) for seed in range(3)}) == 1:
        return "every seed gives the same interval: use `seed` for the generator."
    return None


INTERVAL = Exercise(
    properties=(
        has_the_mean_inside,
        is_as_wide_as_the_mean_is_uncertain,
        follows_the_values_not_a_formula,
        follows_its_seed,
    ),
    right="this is how far the mean could have come out otherwise, with other pictures of the same kind.",
    hints=(
        "pretend that your pictures are all there are, and draw as many again from them, with replacement.",
        "torch.randint(len(values), (2000, len(values)), generator=...) draws 2,000 times; index the values with it.",
        "take the mean of each draw, and of these means the quantiles 0.025 and 0.975.",
    ),
)
