"""Every model of the zoo builds, runs, returns what the catalogue says, and is explained rightly or refused rightly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import judging
import pytest
import torch
from judging import IDENTITY, judge, relative
from test_families import FAMILIES, input_of, spread
from torch import nn
from zoo import ZOO, Specimen

import tokentm
from tokentm import Explanation, Trace, UnsupportedModelError, discovery
from tokentm.isolation import isolated

pytestmark = pytest.mark.filterwarnings("ignore::tokentm.ModelFoundWarning")

IN_TURN = "given the stream plus what its attention adds"
SHORTFALLS = {
    # the stream is a map (B, rows, columns, D)
    "Hugging Face VitDetModel": IN_TURN,
    "vit-pytorch simple_vit_with_relative_proj_pos_bias.SimpleViT": "changed in place",
    # tokens behind the patches; with those of YOLOS positions are added between its blocks
    "Hugging Face YolosModel": IN_TURN,
    "vit-pytorch simple_vit_with_register_tokens.SimpleViT": "must stand before the patches",
    "vit-pytorch distill.DistillableViT, with a token": "every patch token to change with the picture",
    "by hand: class token at the end": "must stand before the patches",
    # between the heads and the stream lies what is no module, or no affine one
    "open_clip visual tower, own block": "no chain of modules",
    "vit-pytorch vat.ViT": "no chain of modules",
    "by hand: multi_head_attention_forward": "without a module that holds its output projection",
    # attention that is seen nowhere, or in pieces
    "by hand: exp over its sum": "no attention while it ran",
    "by hand: a module for each head": IN_TURN,
    "by hand: all of it unusual": IN_TURN,
    # norms, FFNs and sums that no module makes, so that no hook sees them
    "by hand: FFN and norm without modules": "by no module",
    "by hand: experts in the FFN": "given the stream plus what its FFN adds",
    "vit-pytorch simple_vit_with_specialized_cls.SimpleViT": "without a norm that is given the stream",
    # it runs twice
    "by hand: checkpointed blocks": "run again for the backward pass",
    # the pictures that it takes are not those that its inside is described for
    "wrapped: resizes its images": "expected images of (32, 48) pixels",
}
"""Flat models that are refused, and in what words."""

UNSEEN = {
    # LayerScale multiplies the sum of what attention and FFN make
    "parallel": "what its FFN adds",
    # an attention behind the blocks, from every patch to every patch, looks like one more block
    "refined patches": "no module in block 3",
    "refined patches, average": "no module in block 3",
}
"""Families in tests/test_families.py that would be refused if nobody had described them, and in what words."""


@pytest.fixture(scope="module", params=ZOO, ids=lambda one: one.name)
def brought(request: pytest.FixtureRequest) -> tuple[Specimen, nn.Module]:
    """A model, built once for all tests and dropped before the next one is built."""
    specimen: Specimen = request.param
    if specimen.gpu and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    try:
        model = specimen.build()
    except ImportError as error:
        pytest.skip(str(error))
    return specimen, model


def test_names_are_unique_and_a_flat_model_tells_its_tokens():
    assert len({one.name for one in ZOO}) == len(ZOO)
    assert all((one.prefix is None) == (one.grid is None) == bool(one.refused) for one in ZOO)


def test_shortfalls_are_flat_models_of_the_zoo():
    assert set(SHORTFALLS) <= {one.name for one in ZOO if one.flat}


def test_it_answers_as_told(brought):
    specimen, model = brought
    images = specimen.images().requires_grad_(specimen.flat)
    output = specimen.call(model, images)
    numbers = specimen.numbers(output)
    assert type(output).__name__ == specimen.output
    assert len(numbers) == 2
    assert torch.isfinite(numbers).all()
    if specimen.classes is not None:
        assert numbers.shape == ((2,) if specimen.classes == 1 else (2, specimen.classes))
    if specimen.flat:
        assert 0.01 < numbers.detach().abs().mean() < 20
        slope = torch.autograd.grad(numbers.reshape(2, -1)[:, 0].sum(), images)[0]
        assert 1e-4 < slope.norm() < 1e3


def test_a_flat_model_is_explained_rightly_and_any_other_is_refused(brought):
    specimen, model = brought
    verdict = judge(specimen, model)
    if specimen.name in SHORTFALLS:
        assert verdict.kind == "shortfall", f"{verdict}; no shortfall any more? Take it out of the list."
        assert SHORTFALLS[specimen.name] in verdict.detail
    else:
        assert verdict.kind == ("supported" if specimen.flat else "refused"), verdict
        assert specimen.flat or verdict.error == "UnsupportedModelError"


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_found_by_running_is_what_its_family_describes(name):
    model = spread(FAMILIES[name][0]())
    images = input_of(model)
    if name in UNSEEN:
        with pytest.raises(UnsupportedModelError, match=UNSEEN[name]):
            isolated(lambda: discovery._from_pass(model, None, images))
        return
    found = isolated(lambda: discovery._from_pass(model, None, images))
    described = tokentm.explain(model, images, 2)
    assert found.prefix == FAMILIES[name][1]
    assert relative(tokentm.explain(model, images, 2, anatomy=found).scores, described.scores) < IDENTITY


def of_layers(**changes: Callable[[Any], Any]) -> Callable[[Trace], Trace]:
    """A record in which quantities of each block are changed."""

    def changed(trace: Trace) -> Trace:
        layers = (replace(one, **{key: act(getattr(one, key)) for key, act in changes.items()}) for one in trace.layers)
        return replace(trace, layers=tuple(layers))

    return changed


MISTAKES: dict[str, tuple[Callable[[Trace], Trace], Callable[[Explanation], Explanation]]] = {
    "logits differ": (lambda trace: replace(trace, logits=1.01 * trace.logits), lambda one: one),
    "identity error": (of_layers(head_projection=lambda one: 1.01 * one), lambda one: one),
    "full form differ": (of_layers(gradient=lambda one: one.relu()[:, :1].expand_as(one)), lambda one: one),
    "moved the token": (of_layers(stream=lambda one: one.roll(1, 1)), lambda one: one),
    "expected 1 + (2, 3)": (
        lambda trace: replace(trace, layout=replace(trace.layout, rows=3, columns=2)),
        lambda one: one,
    ),
    "alone and in a batch": (lambda trace: trace, lambda one: replace(one, scores=one.scores * len(one.scores))),
}


@pytest.mark.parametrize("said", MISTAKES)
def test_the_judge_sees_a_mistake(said, monkeypatch):
    specimen = next(one for one in ZOO if one.name == "by hand: softmax and @")
    record, explain = judging.record, tokentm.explain
    recorded, explained = MISTAKES[said]
    monkeypatch.setattr(judging, "record", lambda *given: recorded(record(*given)))
    monkeypatch.setattr(tokentm, "explain", lambda *given: explained(explain(*given)))
    verdict = judge(specimen)
    assert verdict.kind == "wrong"
    assert said in verdict.detail


def test_the_judge_sees_that_what_is_not_flat_is_accepted_and_that_something_crashes(monkeypatch):
    flat = next(one for one in ZOO if one.name == "by hand: softmax and @")
    verdict = judge(replace(flat, refused="it is another"))
    assert (verdict.kind, "accepted as 1 + 2 x 3" in verdict.detail) == ("wrong", True)
    monkeypatch.setattr(tokentm, "explain", lambda *_given: 1 / 0)
    verdict = judge(flat)
    assert (verdict.kind, verdict.error) == ("wrong", "ZeroDivisionError")
