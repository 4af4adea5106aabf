"""Exercises of lesson 3, length and direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

from tokentm.teaching.core import Exercise, same, tensor

Answer = Callable[..., Any]


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _compared(compare: Answer, E: Tensor, T: Tensor) -> tuple[Tensor, Tensor]:
    answer = compare(E, T)
    if isinstance(answer, tuple) and len(answer) == 2:
        ratio, cosine = (
            tensor(part, tuple(E.shape[:-1]), f"one {name} for every token (is dim=-1 missing?)")
            for name, part in zip(("ratio", "cosine"), answer, strict=True)
        )
    else:
        ratio, cosine = tensor(answer, (2, *E.shape[:-1]), "ratio and cosine, one of each for a token")
    return ratio, cosine


# leading axes, tokens and width: all different
_SHAPES = ((5, 3), (2, 4, 7), (6, 1))


def an_unchanged_token_keeps_length_and_direction(compare: Answer) -> str | None:
    for seed, shape in enumerate(_SHAPES):
        E = _normal(seed, *shape)
        ratio, cosine = _compared(compare, E, E)
        ones = torch.ones(shape[:-1])
        if same(cosine.cos(), ones) and not same(cosine, ones):
            return "the second result is the angle; wanted is its cosine, 1 for a token that is unchanged."
        for name, found in (("ratio L(T) / L(E)", ratio), ("cosine", cosine)):
            if not same(found, ones):
                return f"an unchanged token, T = E, has a {name} of 1; yours is {found.flatten()[0]:.3g}."
    return None


def twice_the_length_is_a_ratio_of_two(compare: Answer) -> str | None:
    for seed, shape in enumerate(_SHAPES):
        E = _normal(seed, *shape)
        twice = torch.full(shape[:-1], 2.0)
        ratio, cosine = _compared(compare, E, 2 * E)
        if same(ratio, twice / 2) and same(cosine, twice):
            return "the ratio comes first, then the cosine."
        if same(ratio, 1 / twice):
            return "a token that becomes twice as long has a ratio of 2; yours is 0.5. Divide L(T) by L(E)."
        if same(ratio, twice**2):
            return "a token that becomes twice as long has a ratio of 2; yours is 4. Length is the root of the square."
        if not same(ratio, twice):
            return f"a token that becomes twice as long has a ratio of 2; yours is {ratio.flatten()[0]:.3g}."
        if not same(cosine, torch.ones(shape[:-1])):
            return (
                "a token that only grows keeps its direction, cosine 1; yours is "
                f"{cosine.flatten()[0]:.3g}. Divide the inner product by both lengths."
            )
    return None


def a_reversed_token_has_cosine_minus_one(compare: Answer) -> str | None:
    E = _normal(3, 4, 5)
    ratio, cosine = _compared(compare, E, -E)
    if not same(cosine, -torch.ones(4)):
        return f"a reversed token, T = -E, has a cosine of -1; yours is {cosine[0]:.3g}."
    if not same(ratio, torch.ones(4)):
        return f"a reversed token is as long as before; your ratio is {ratio[0]:.3g}."
    return None


def lengths_are_euclidean(compare: Answer) -> str | None:
    E, T = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 10.0]])
    ratio, cosine = _compared(compare, E, T)
    if not same(ratio, torch.tensor([2.0])):
        return f"(3, 4) is 5 long and (0, 10) is 10 long, a ratio of 2; yours is {ratio[0]:.3g}."
    if not same(cosine, torch.tensor([0.8])):
        return f"the cosine of (3, 4) and (0, 10) is 0.8; yours is {cosine[0]:.3g}."
    return None


def every_token_is_compared_with_its_own(compare: Answer) -> str | None:
    for seed, shape in enumerate(_SHAPES):
        E, T = _normal(seed, *shape), _normal(seed + 10, *shape)
        ratio, cosine = _compared(compare, E, T)
        if not same(ratio, T.norm(dim=-1) / E.norm(dim=-1)) or not same(cosine, torch.cosine_similarity(E, T, dim=-1)):
            return "right for a single token, wrong for several: token n is compared with T_n, along the last axis."
    return None


def nothing_handed_over_counts_as_zero(compare: Answer) -> str | None:
    E, T = _normal(5, 4, 6), _normal(6, 4, 6)
    T[1] = 0
    ratio, cosine = _compared(compare, E, T)
    if ratio[1] or cosine[1]:
        return f"T = 0 has ratio 0 and cosine 0; yours are {ratio[1]:.3g} and {cosine[1]:.3g}."
    return None


COMPARE = Exercise(
    properties=(
        an_unchanged_token_keeps_length_and_direction,
        twice_the_length_is_a_ratio_of_two,
        a_reversed_token_has_cosine_minus_one,
        lengths_are_euclidean,
        every_token_is_compared_with_its_own,
        nothing_handed_over_counts_as_zero,
    ),
    right="length and direction are measured apart, for any number of tokens.",
    hints=(
        "write the two formulas for the last axis: E.norm(dim=-1) is the length of every token.",
        "the inner product of every pair is (E * T).sum(-1).",
        "torch.cosine_similarity(..., dim=-1) is defined for T = 0 too: it gives 0.",
    ),
)


def _layers() -> Iterator[tuple[Tensor, Tensor]]:
    """E (N, D) and T (H, N, D): heads, tokens and width all different."""
    for seed, (heads, tokens, width) in enumerate(((2, 5, 7), (3, 4, 6), (1, 6, 3), (4, 3, 8))):
        yield _normal(seed, tokens, width), _normal(seed + 20, heads, tokens, width)


def _weighed(weight: Answer, E: Tensor, T: Tensor) -> Tensor:
    return tensor(weight(E, T), tuple(T.shape[:2]), "(heads, tokens)")


def _wanted(E: Tensor, T: Tensor) -> Tensor:
    return T.norm(dim=-1) / E.norm(dim=-1) * torch.cosine_similarity(E, T, dim=-1).softmax(-1)


def unchanged_tokens_share_one_among_the_tokens(weight: Answer) -> str | None:
    for E, T in _layers():
        heads, tokens, _ = T.shape
        found, ones = _weighed(weight, E, E.expand_as(T).clone()), torch.ones(heads, tokens)
        if same(found, ones):
            return (
                f"where nothing changes, all weights of a head share 1: 1/N each, here 1/{tokens}; yours are 1. "
                "Divide by the sum over the tokens."
            )
        if heads not in (1, tokens) and same(found, ones / heads):
            return f"your weights sum to 1 over the {heads} heads of a token; NECC sums over the tokens of a head."
        if heads > 1 and same(found, ones / (heads * tokens)):
            return "your weights sum to 1 over all heads together; every head has its own sum."
        if not same(found, ones / tokens):
            return (
                f"where nothing changes, T = E, every token weighs 1/N, here 1/{tokens} = {1 / tokens:.3g}; yours "
                f"{found[0, 0]:.3g}."
            )
    return None


def is_linear_in_the_length_of_its_token(weight: Answer) -> str | None:
    for E, T in _layers():
        longer = T.clone()
        longer[0, 1] *= 2
        before, after = _weighed(weight, E, T), _weighed(weight, E, longer)
        if not same(after[0, 1], 2 * before[0, 1]):
            factor = float(after[0, 1] / before[0, 1])
            known = {1.0: "Multiply with L(T) / L(E).", 0.5: "Divide L(T) by L(E).", 4.0: "Length counts once."}
            otherwise = "Share out directions alone, by their cosines; the ratio multiplies the share."
            why = known.get(round(factor, 3), otherwise)
            return f"a T twice as long must have twice the weight; yours has {factor:.3g} times the weight. {why}"
    return None


def a_rotation_leaves_it_alone(weight: Answer) -> str | None:
    for E, T in _layers():
        turn = torch.linalg.qr(_normal(7, E.shape[1], E.shape[1]))[0]
        if not same(_weighed(weight, E @ turn, T @ turn), _weighed(weight, E, T), 1e-3):
            return "E and T were rotated together, and your weights changed. Are your lengths Euclidean?"
    return None


def a_reversed_token_weighs_less(weight: Answer) -> str | None:
    for E, T in _layers():
        given = E.expand_as(T).clone()
        given[:, 0] *= -1
        found = _weighed(weight, E, given)
        if (found[:, 0] < 0).any():
            return (
                "a reversed token has a weight below zero. NECC takes the exponential of the cosine: always positive."
            )
        if same(found[:, 0], found[:, 1]):
            return "a reversed token must weigh less than an unchanged one; yours weighs the same."
        if not same(found[:, 0] / found[:, 1], torch.full((len(T),), math.exp(-2))):
            times = float(found[0, 0] / found[0, 1])
            return (
                "a reversed token must weigh exp(-1) / exp(1) = 0.135 times what an unchanged one does; yours weighs "
                f"{times:.3g} times as much."
            )
    return None


def is_the_weight(weight: Answer) -> str | None:
    for E, T in _layers():
        if not same(_weighed(weight, E, T), _wanted(E, T)):
            return "some weights are wrong where T is neither E nor -E: W = L(T) / L(E) * exp(cos) / sum of exp(cos)."
    return None


def nothing_handed_over_weighs_nothing(weight: Answer) -> str | None:
    for E, T in _layers():
        T[0, 1] = 0
        found = _weighed(weight, E, T)
        if found[0, 1]:
            return f"T = 0 weighs 0; yours weighs {found[0, 1]:.3g}."
        if not same(found, _wanted(E, T)):
            return "where T = 0 the cosine counts as 0, also in the sum that the others share; yours does not."
    return None


WEIGHT = Exercise(
    properties=(
        unchanged_tokens_share_one_among_the_tokens,
        is_linear_in_the_length_of_its_token,
        a_rotation_leaves_it_alone,
        a_reversed_token_weighs_less,
        is_the_weight,
        nothing_handed_over_weighs_nothing,
    ),
    right="linear in length, blind to rotation, shared out by direction: this is the transformation weight.",
    hints=(
        "begin with your compare: E gets an axis for the heads by itself, since T has it in front.",
        "the cosines are (heads, tokens). Over which of the two does NECC sum?",
        "cosine.softmax(...) is the exponential and its sum in one.",
    ),
)

# every N with all corners of the cube of cosines that differ: k of the other tokens at 1, the rest at -1
_COUNTS = (1, 2, 3, 7, 197)


def _bounds(bounds: Answer, count: int, normaliser: str) -> tuple[float, float]:
    low, high = tensor(bounds(count, normaliser), (2,), "(smallest, largest)").tolist()
    return low, high


def _reached(count: int) -> tuple[float, float]:
    """Smallest and largest share, by trying all corners: the share is monotone in every cosine."""
    shares = [
        math.exp(own) / (math.exp(own) + up * math.e + (count - 1 - up) / math.e)
        for own, up in product((-1, 1), range(count))
    ]
    return min(shares), max(shares)


def a_single_token_gets_all(bounds: Answer) -> str | None:
    for normaliser in ("sum", "mean"):
        found = _bounds(bounds, 1, normaliser)
        if found[1] > 1 + 1e-6:
            return f"no share is larger than 1; you say {found[1]:.3g}, N = 1. Divide by the sum over all tokens."
        if any(abs(bound - 1) > 1e-6 for bound in found):
            return (
                f'a single token has NECC 1 whatever its cosine is, N = 1 with "{normaliser}"; you say '
                f"{found[0]:.3g} .. {found[1]:.3g}. How many other tokens are there? And exp(cos) is never 0: it lies "
                "between 1/e and e."
            )
    return None


def the_smallest_comes_first(bounds: Answer) -> str | None:
    low, high = _bounds(bounds, 7, "sum")
    if low > high:
        return f"the smallest comes first; you say {low:.3g} .. {high:.3g}."
    return None


def nothing_lies_outside(bounds: Answer) -> str | None:
    for count in _COUNTS:
        low, high = _bounds(bounds, count, "sum")
        least, most = _reached(count)
        if high < most * (1 - 1e-4):
            return (
                f"N = {count}: NECC can be as large as {most:.4f}, and your largest is {high:.4f}. What do all the "
                "other tokens do when one gets the most?"
            )
        if low > least * (1 + 1e-4):
            return (
                f"N = {count}: NECC can be as small as {least:.5f}, and your smallest is {low:.5f}. What do all the "
                "other tokens do when one gets the least?"
            )
    return None


def both_ends_are_reached(bounds: Answer) -> str | None:
    for count in _COUNTS:
        low, high = _bounds(bounds, count, "sum")
        least, most = _reached(count)
        if high > most * (1 + 1e-4):
            return f"N = {count}: no cosines reach your largest, {high:.4f}; the most they reach is {most:.4f}."
        if low < least * (1 - 1e-4):
            return f"N = {count}: no cosines reach your smallest, {low:.5f}; the least they reach is {least:.5f}."
    return None


def the_mean_has_n_times_the_bounds(bounds: Answer) -> str | None:
    for count in _COUNTS:
        pairs = zip(_bounds(bounds, count, "sum"), _bounds(bounds, count, "mean"), strict=True)
        if any(abs(mean - count * share) > 1e-4 * mean for share, mean in pairs):
            return f'the bounds with "sum" are right. Dividing by the mean instead, NECC is N = {count} times as large.'
    return None


BOUNDS = Exercise(
    properties=(
        a_single_token_gets_all,
        the_smallest_comes_first,
        nothing_lies_outside,
        both_ends_are_reached,
        the_mean_has_n_times_the_bounds,
    ),
    right="nothing lies outside, and both ends are reached, with both normalisers.",
    hints=(
        "one token's NECC grows with its own cosine. And with those of the others?",
        "so it is largest with cosines 1, -1, -1, ..., -1. Put them into the formula.",
        "divide numerator and denominator by exp(1): the largest is 1 / (1 + (N - 1) * ...).",
    ),
)
