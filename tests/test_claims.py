"""What TokenTM claims of a part is what its product loses without it; and ranks agree as they do when counted."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from conftest import VARIANTS, make_images, make_vit
from scipy.stats import spearmanr
from torch import Tensor

import tokentm
from tokentm import InvalidOptionError, TokenTM, paths
from tokentm.claims import RESAMPLES, agreement, claims, spearman
from tokentm.intervene import Activation, Attention, Edge, Ffn, Head, Patches


def traced(variant: str = "LayerScale", count: int = 2) -> tokentm.Trace:
    model = make_vit(**VARIANTS[variant], depth=3).eval().double()
    return tokentm.record(model, make_images(model, count))


def total(trace: tokentm.Trace, struck: object = None) -> Tensor:
    """The sum of TokenTM's map over all patches, (B,), by the full matrices, without one part of the product."""
    contribution = torch.linalg.vector_norm(trace.embedding, dim=-1).diag_embed()
    if isinstance(struck, Patches):
        for index in struck.indices:
            contribution[:, trace.layout.prefix + index] = 0
    for number, (layer, step) in enumerate(zip(trace.layers, TokenTM().steps(trace), strict=True)):
        mixing, ffn = step.head_mixing.clone(), step.ffn_weight.clone()
        if getattr(struck, "layer", None) == number:
            if isinstance(struck, Head):
                mixing[:, struck.head] = 0
            elif isinstance(struck, Attention):
                mixing[:] = 0
            elif isinstance(struck, Edge):
                mixing[:, struck.head, struck.query, struck.key] = 0
            elif isinstance(struck, Ffn):
                ffn[:] = 0
            elif isinstance(struck, Activation):
                contribution[:, struck.token] = 0
        mean = sum(mixing.unbind(1)) / mixing.shape[1]
        identity = torch.eye(mean.shape[1], dtype=mean.dtype)
        if layer.parallel:
            update = identity + mean + ffn.diag_embed()
        else:
            update = (identity + ffn.diag_embed()) @ (identity + mean)
        contribution = update @ contribution
    return torch.einsum("bn,bnm->bm", trace.readout, contribution)[:, trace.layout.prefix :].sum(1)


@pytest.mark.parametrize("variant", ["class token", "average with prefix", "attention and FFN in parallel"])
def test_a_claim_is_what_the_map_loses_when_the_part_is_struck_out(variant):
    trace = traced(variant)
    tokens, heads = trace.layout.tokens, range(2)
    parts = [
        *(Head(layer, head) for layer, head in product(range(3), heads)),
        *map(Attention, range(3)),
        *map(Ffn, range(3)),
        *(Edge(layer, 1, query, tokens - 1) for layer, query in product(range(3), (0, 3))),
        *(Activation(layer, token) for layer, token in product(range(3), (0, tokens - 1))),
        Patches(2),
        Patches((0, 5)),
    ]
    found = claims(trace, parts)
    for k, part in enumerate(parts):
        torch.testing.assert_close(found[:, k], total(trace) - total(trace, part), rtol=1e-9, atol=1e-12)
    assert (found != 0).float().mean() > 0.5


def test_the_claim_of_a_head_is_what_passes_through_it_on_all_paths():
    trace = traced()
    for b in range(2):
        through = paths.strongest(trace, index=b).through
        for layer, head in product(range(3), range(2)):
            expected = through[:, layer, head].sum()
            torch.testing.assert_close(claims(trace, [Head(layer, head)])[b, 0], expected)


def test_the_claims_of_patches_are_the_map():
    trace, parts = traced(), [*map(Patches, range(6)), Patches((1, 4))]
    explanation = TokenTM()(trace)
    expected = torch.cat((explanation.scores, explanation.scores[:, [1]] + explanation.scores[:, [4]]), 1)
    torch.testing.assert_close(claims(trace, parts), expected)
    torch.testing.assert_close(claims(explanation, parts), expected)
    other = tokentm.methods.METHODS["rollout"](trace)
    assert torch.equal(claims(other, parts[:6]), other.scores)


@pytest.mark.parametrize(
    ("source", "parts", "words"),
    [
        ("map", [Head(0, 1)], r"expected Patches for the claims of a map; it says nothing of Head\(layer=0, head=1\)"),
        ("map", [Patches(6)], r"expected patches from 0 to 5; got \[6\]"),
        ("map", [], "expected at least one intervention"),
        ("record", [Head(3, 0)], "expected a layer from 0 to 2"),
        ("record", [], "expected at least one intervention"),
        ("nothing", [Patches(0)], "expected a record or an explanation, whose claims are asked for; got str"),
    ],
)
def test_claims_that_nobody_makes_are_refused(source, parts, words):
    trace = traced()
    given = {"map": TokenTM()(trace), "record": trace, "nothing": "rollout"}[source]
    with pytest.raises(InvalidOptionError, match=words):
        claims(given, parts)


def numbers(count: int, seed: int, ties: bool = False) -> Tensor:
    made = torch.randn(count, 9, generator=torch.Generator().manual_seed(seed))
    return (2 * made).round() if ties else made


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_are_correlated_as_elsewhere(ties):
    first, second = numbers(6, 0, ties), numbers(6, 1, ties)
    for row, found in enumerate(spearman(first, second)):
        assert found == pytest.approx(spearmanr(first[row], second[row]).statistic, abs=1e-12)
    assert torch.equal(spearman(first, torch.full_like(first, 0.1)), torch.zeros(6))
    torch.testing.assert_close(spearman(first, -(first**3)), -torch.ones(6, dtype=torch.double))


def counted(samples: list[float]) -> tuple[float, float]:
    low, high = np.quantile(samples, [0.025, 0.975])
    return float(low), float(high)


def test_several_pictures_are_drawn_again_as_a_whole():
    effects, claimed = numbers(40, 0), numbers(40, 1)
    found = agreement(effects, claimed, seed=3)
    each = [spearmanr(effects[b], claimed[b]).statistic for b in range(40)]
    assert found.each.tolist() == pytest.approx(each)
    assert found.mean == pytest.approx(sum(each) / 40)
    drawn = torch.randint(40, (RESAMPLES, 40), generator=torch.Generator().manual_seed(3)).tolist()
    assert (found.low, found.high) == pytest.approx(counted([sum(each[b] for b in rows) / 40 for rows in drawn]))
    assert found.resampled == "pictures"
    assert agreement(effects, claimed, seed=3).low == found.low != agreement(effects, claimed, seed=4).low


def test_of_one_picture_its_interventions_are_drawn_again(monkeypatch):
    effects, claimed = numbers(1, 0), numbers(1, 1)
    monkeypatch.setattr("tokentm.claims.RESAMPLES", 60)
    found = agreement(effects, claimed, seed=3)
    drawn = torch.randint(9, (60, 9), generator=torch.Generator().manual_seed(3))
    samples = [spearmanr(effects[0][rows], claimed[0][rows]).statistic for rows in drawn]
    assert (found.low, found.high) == pytest.approx(counted(samples))
    assert found.mean == pytest.approx(spearmanr(effects[0], claimed[0]).statistic)
    assert found.resampled == "interventions"


@pytest.mark.parametrize(
    ("effects", "claimed", "words"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), r"of two or more interventions; got \(2, 4\)"),
        (torch.zeros(3), torch.zeros(3), r"got \(3,\)"),
        (torch.zeros(2, 1), torch.zeros(2, 1), r"got \(2, 1\)"),
        (torch.zeros(2, 3), [1.0], "got list"),
        (torch.zeros(2, 3), torch.full((2, 3), torch.nan), "expected finite effects and claims"),
    ],
)
def test_what_cannot_be_ranked_is_refused(effects, claimed, words):
    with pytest.raises(InvalidOptionError, match=words):
        agreement(effects, claimed)


def test_a_map_that_is_what_is_measured_agrees_fully():
    effects = numbers(3, 5)
    found = agreement(effects, 7 * effects)
    assert (found.mean, found.low, found.high) == pytest.approx((1, 1, 1))
    assert repr(replace(found, mean=1.0, low=1.0, high=1.0)) == (
        "Agreement(mean=1.0, low=1.0, high=1.0, resampled='pictures')"
    )
