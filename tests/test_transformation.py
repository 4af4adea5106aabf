"""Change of length, correlation of direction, and their product: identities that the equations promise."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tokentm.errors import ZeroTokenError
from tokentm.transformation import compare, compare_heads, necc, weight


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_compare_by_hand():
    token = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0], [1.0, 1.0]])
    transformed = torch.tensor([[0.0, 10.0], [0.0, -1.0], [0.0, 7.0], [0.0, 0.0]])
    ratio, cosine = compare(token, transformed)
    torch.testing.assert_close(ratio, torch.tensor([2.0, 0.5, 7.0, 0.0]))
    torch.testing.assert_close(cosine, torch.tensor([0.8, -1.0, 0.0, 0.0]))


def test_an_unchanged_token_has_ratio_and_cosine_one():
    token = normal(2, 7, 24)
    for found in compare(token, token):
        torch.testing.assert_close(found, torch.ones(2, 7).double())


def test_heads_are_compared_as_if_their_tokens_were_built():
    token, value, projection = normal(2, 7, 24), normal(2, 3, 7, 5, seed=1), normal(3, 24, 5, seed=2)
    ratio, cosine = compare_heads(token, value, projection)
    assert ratio.shape == cosine.shape == (2, 3, 7)
    for b, h, n in torch.cartesian_prod(*map(torch.arange, (2, 3, 7))).tolist():
        transformed = projection[h] @ value[b, h, n]
        expected = compare(token[b, n : n + 1], transformed[None])
        torch.testing.assert_close(ratio[b, h, n], expected[0][0])
        torch.testing.assert_close(cosine[b, h, n], expected[1][0])


def test_a_rotation_of_everything_changes_nothing():
    turn = torch.linalg.qr(normal(24, 24, seed=5))[0]
    token, value, projection = normal(2, 7, 24), normal(2, 3, 7, 8, seed=1), normal(3, 24, 8, seed=2)
    before = compare_heads(token, value, projection)
    after = compare_heads(token @ turn.T, value, turn @ projection)
    torch.testing.assert_close(weight(*after), weight(*before))
    transformed = normal(2, 7, 24, seed=3)
    torch.testing.assert_close(
        weight(*compare(token @ turn.T, transformed @ turn.T)), weight(*compare(token, transformed))
    )


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_the_weight_is_linear_in_the_length_of_t(factor):
    token, transformed = normal(2, 7, 24), normal(2, 7, 24, seed=1)
    before, after = weight(*compare(token, transformed)), weight(*compare(token, factor * transformed))
    torch.testing.assert_close(after, factor * before)
    torch.testing.assert_close(weight(*compare(factor * token, transformed)), before / factor)
    torch.testing.assert_close(
        weight(*compare(token, factor * transformed), length=False), weight(*compare(token, transformed), length=False)
    )


def test_the_weight_is_the_product_of_the_parts_left_in():
    ratio, cosine = normal(2, 3, 7).abs(), normal(2, 3, 7, seed=1).tanh()
    for normaliser in ("sum", "mean"):
        shares = necc(cosine, normaliser)
        for length, direction, expected in (
            (True, True, ratio * shares),
            (True, False, ratio),
            (False, True, shares),
            (False, False, torch.ones_like(ratio)),
        ):
            found = weight(ratio, cosine, length=length, direction=direction, normaliser=normaliser)
            torch.testing.assert_close(found, expected)


cosines = st.lists(st.floats(-1, 1), min_size=1, max_size=30)


@given(cosines)
def test_necc_by_its_formula(values):
    total = sum(math.exp(value) for value in values)
    expected = torch.tensor([math.exp(value) / total for value in values], dtype=torch.float64)
    cosine = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(necc(cosine), expected)
    torch.testing.assert_close(necc(cosine, "mean"), expected * len(values))


@given(cosines)
def test_necc_bounds(values):
    """One token against N - 1 others: least e^-1 against e each, most e against e^-1 each."""
    others = len(values) - 1
    shares = necc(torch.tensor(values, dtype=torch.float64))
    assert abs(shares.sum() - 1) < 1e-12
    assert shares.min() >= 1 / (1 + others * math.exp(2)) - 1e-12
    assert shares.max() <= 1 / (1 + others * math.exp(-2)) + 1e-12


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_necc_bounds_are_reached(sign):
    shares = necc(sign * torch.tensor([1.0, -1.0, -1.0, -1.0, -1.0], dtype=torch.float64))
    assert shares[0].item() == pytest.approx(1 / (1 + 4 * math.exp(-2 * sign)))


def test_rounding_never_takes_a_cosine_out_of_range():
    """Parallel tokens in float32: without care the cosine is 1 + 1e-7 for some of them."""
    token = normal(2000, 24).float()
    for transformed in (token * 1e-3, -token):
        assert compare(token, transformed)[1].abs().max() <= 1


def test_a_head_that_gives_nothing_has_weight_zero():
    token, value, projection = normal(1, 4, 6), normal(1, 2, 4, 3, seed=1), normal(2, 6, 3, seed=2)
    value[0, 1, 2] = 0
    ratio, cosine = compare_heads(token, value, projection)
    assert (ratio[0, 1, 2], cosine[0, 1, 2]) == (0, 0)
    assert weight(ratio, cosine)[0, 1, 2] == 0
    assert (ratio == 0).sum() == 1


def test_an_almost_lost_head_has_a_finite_length():
    """v in the null space of the projection: rounding must not make the square negative and its root NaN."""
    value = torch.ones(1, 1, 500, 2) * torch.rand(500, 1, generator=torch.Generator().manual_seed(0))
    row = torch.rand(1, 24, 1, generator=torch.Generator().manual_seed(1))
    ratio, cosine = compare_heads(torch.ones(1, 500, 24), value, torch.cat((row, -row * (1 + 1e-7)), dim=-1))
    assert torch.isfinite(ratio).all()
    assert torch.isfinite(cosine).all()


def test_a_token_without_length_is_refused():
    token = normal(2, 3, 4)
    token[1, 2] = 0
    text = r"tokens of positive length; the token at \(1, 2\) is all zeros, .*such as 'generic_attention'"
    with pytest.raises(ZeroTokenError, match=text):
        compare(token, normal(2, 3, 4))


def test_an_unknown_normaliser_is_refused():
    with pytest.raises(ValueError, match="expected normaliser 'sum' or 'mean'; got 'max'"):
        necc(torch.zeros(3), "max")
