"""TokenTM as a sum over paths: every path enumerated by hand, against what the library keeps of them."""

from __future__ import annotations

from itertools import product

import pytest
import torch

import tokentm
from tokentm.paths import STAYED, strongest

READINGS = [
    {},
    {"normaliser": "mean"},
    {"gradient": False, "normaliser": "mean"},
    {"head_mean": "before", "normaliser": "mean"},
    {"ffn": False, "initialise": False, "normaliser": "mean"},
    {"transformed": "stream"},
]


def every_path(trace, method, index):
    """{(tokens, heads): value}, by going all ways from all patches: plain loops over the definition."""
    steps = list(method.steps(trace))
    count, heads = trace.layout.tokens, trace.layers[0].attention.shape[1]
    choices = [(STAYED, None)] + [(h, i) for h in range(heads) for i in range(count)]
    found = {}
    for start in range(trace.layout.prefix, count):
        for way in product(choices, repeat=len(steps)):
            here, tokens = start, [start]
            value = trace.embedding[index, start].norm().item() if method.initialise else 1.0
            for (head, to), layer, step in zip(way, trace.layers, steps, strict=True):
                ffn = 0.0 if step.ffn_weight is None else step.ffn_weight[index]
                if head == STAYED:
                    value *= 1 + (0.0 if step.ffn_weight is None else ffn[here].item())
                else:
                    value *= step.head_mixing[index, head, to, here].item() / heads
                    here = to
                    if step.ffn_weight is not None and not layer.parallel:
                        value *= 1 + ffn[here].item()
                tokens.append(here)
            found[tuple(tokens), tuple(head for head, _ in way)] = value * trace.readout[index, here].item()
    return found


@pytest.fixture(scope="module")
def trace(tiny, images):
    model = tiny(img_size=(8, 24), reg_tokens=1).double()  # 2 prefix tokens, 3 patches
    return tokentm.record(model, images(model, 2))


@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_all_paths_sum_to_the_scores_and_the_strongest_are_kept(trace, reading):
    method = tokentm.TokenTM(**reading)
    every, paths = every_path(trace, method, 1), strongest(trace, method, index=1, count=4)
    scores = method(trace).scores[1]
    for patch in range(3):
        mine = {way: value for way, value in every.items() if way[0][0] == 2 + patch}
        assert sum(mine.values()) == pytest.approx(scores[patch].item(), rel=1e-9)
        best = sorted(mine.values(), reverse=True)[:4]
        assert paths.values[patch].tolist() == pytest.approx(best, rel=1e-9)
        for k, value in enumerate(paths.values[patch].tolist()):
            way = tuple(paths.tokens[patch, k].tolist()), tuple(paths.heads[patch, k].tolist())
            assert mine[way] == pytest.approx(value, rel=1e-9)
    torch.testing.assert_close(paths.total, scores)


def test_what_passes_each_head_is_the_sum_of_the_paths_that_do(trace):
    method = tokentm.TokenTM(normaliser="mean")
    every, paths = every_path(trace, method, 0), strongest(trace, method)
    for patch, layer, head in product(range(3), range(2), range(-1, 2)):
        passing = [v for (tokens, heads), v in every.items() if tokens[0] == 2 + patch and heads[layer] == head]
        found = paths.stayed[patch, layer] if head == STAYED else paths.through[patch, layer, head]
        assert found.item() == pytest.approx(sum(passing), rel=1e-9)


def test_every_kind_of_model_adds_up(variant, images):
    trace = tokentm.record(variant, images(variant, 2))
    paths, scores = strongest(trace, index=1), tokentm.TokenTM()(trace).scores[1]
    torch.testing.assert_close(paths.total, scores)
    passed = paths.through.sum(-1) + paths.stayed
    torch.testing.assert_close(passed, scores[:, None].expand_as(passed), rtol=1e-4, atol=0)
    assert (paths.values.sum(1) <= scores * 1.0001).all()
    assert (paths.values.diff(dim=1) <= 0).all()


def test_blocks_of_candidates_change_nothing(trace, monkeypatch):
    whole = strongest(trace, count=3)
    monkeypatch.setattr("tokentm.paths._CANDIDATES", 1)
    assert torch.equal(strongest(trace, count=3).tokens, whole.tokens)


def test_wrong_questions_are_refused(trace):
    with pytest.raises(tokentm.InvalidOptionError, match="expected an index from 0 to 1; got 2"):
        strongest(trace, index=2)
    with pytest.raises(tokentm.InvalidOptionError, match="expected a count of at least 1 path; got 0"):
        strongest(trace, count=0)


@pytest.mark.parametrize("reading", [{"positive": "mean"}, {"lengths": "own"}], ids=str)
def test_a_reading_that_is_no_sum_over_paths_is_refused(trace, reading):
    with pytest.raises(tokentm.InvalidOptionError, match=r"a sum over paths.*tokentm_(signed_heads|own_lengths)"):
        strongest(trace, tokentm.TokenTM(**reading))
