"""Several classes of one image: their gradients go down together, and give the maps that each class has alone."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from test_attention_written import Folded, Letters, double
from test_families import each_family, input_of, spread
from torch import nn
from torch.nn import functional as F

import tokentm
from tokentm import TokenTM, attention, descent, run, steadiness, streaming
from tokentm.attention import Backward, Fused, parts

CLASSES = [2, 0, 2, 1]


@pytest.fixture
def asked(monkeypatch):
    """How many scores went down together, one entry for each pass; several without ``torch.vmap`` are an error."""
    sizes: list[int] = []
    rows, row = descent.Descent.rows, descent.Descent.row

    def together(self, reads):
        sizes.append(len(reads))
        return rows(self, reads)

    def alone(self, score):
        sizes.append(1)
        return row(self, score)

    monkeypatch.setattr(descent.Descent, "rows", together)
    monkeypatch.setattr(descent.Descent, "row", alone)
    return sizes


def compared(model, one, method=None, classes=CLASSES):
    """Maps of all classes at once, and of one class after the other."""
    method = method or TokenTM()
    together = tokentm.explain(model, one.expand(len(classes), -1, -1, -1), classes, method)
    alone = torch.cat([tokentm.explain(model, one, target, method).scores for target in classes])
    assert together.target.tolist() == classes
    return together.scores, alone


@each_family
def test_every_family_gives_each_class_the_map_that_it_has_alone(build, prefix, relative, asked):
    model = spread(build()).double()
    one = input_of(model, 1).double()
    tokentm.explain(model, one.expand(2, -1, -1, -1), [0, 1])  # the model has been looked at
    asked.clear()
    together, alone = compared(model, one)
    assert asked == [4, 1, 1, 1, 1]
    assert relative(together, alone) < 1e-12
    assert relative(together[0], together[1]) > 1e-6  # classes differ


@pytest.mark.parametrize("gradient", [True, False])
def test_every_kind_and_mean_gives_each_class_the_map_that_it_has_alone(variant, images, relative, gradient):
    model = variant.double()
    together, alone = compared(model, images(model, 1), TokenTM(gradient=gradient))
    assert relative(together, alone) < 1e-12


@pytest.mark.parametrize("kind", [Letters, Folded])
def test_attention_written_by_hand(kind, relative, asked):
    model = double(kind)
    one = torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(1)).double()
    tokentm.explain(model, one.expand(2, -1, -1, -1), [0, 1])
    asked.clear()
    together, alone = compared(model, one)
    assert asked[0] == 4
    assert relative(together, alone) < 1e-12


@pytest.mark.parametrize("mask", [torch.randn(7, 7).double(), torch.ones(7, 7).tril().bool()], ids=["added", "boolean"])
def test_masks(tiny, images, relative, mask):
    model = tiny(depth=3).double()
    for block in model.blocks:
        forward = block.attn.forward
        block.attn.forward = lambda x, forward=forward, **_: forward(x, attn_mask=mask)
    together, alone = compared(model, images(model, 1))
    assert relative(together, alone) < 1e-12


def test_a_function_of_the_logits(tiny, images, relative):
    model = tiny(depth=3).double()
    one = images(model, 1)
    weights = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).double()
    together = tokentm.explain(model, one.expand(3, -1, -1, -1), lambda logits: (weights * logits.softmax(1)).sum(1))
    alone = [tokentm.explain(model, one, lambda logits, w=w: logits.softmax(1) @ w).scores for w in weights]
    assert relative(together.scores, torch.cat(alone)) < 1e-12


def test_a_budget_bounds_how_many_go_down_together(tiny, images, relative, asked):
    model = tiny(depth=3).double()
    one = images(model, 1)
    expected = torch.cat([tokentm.explain(model, one, target).scores for target in CLASSES])
    given = run.subject(model, one.expand(4, -1, -1, -1))
    for budget, sizes in ((1, [1, 1, 1, 1]), (3 * 8 * 7 * 24 * 8, [3, 1]), (2**30, [4])):
        asked.clear()
        found = streaming.explain(given, CLASSES, TokenTM(), budget=budget)
        assert asked == sizes
        assert relative(found.scores, expected) < 1e-12


def test_attention_is_computed_again_once_for_all_classes(tiny, images, monkeypatch):
    model = tiny(depth=3)
    one = images(model, 1)
    tokentm.explain(model, one.expand(2, -1, -1, -1), [0, 1])
    made = []
    weights = descent.Fused.weights
    monkeypatch.setattr(descent.Fused, "weights", lambda self: made.append(1) or weights(self))
    tokentm.explain(model, one.expand(4, -1, -1, -1), CLASSES)
    assert len(made) == 3


class _Looked(torch.autograd.Function):
    """An identity whose gradient is looked at as a number, which no stack of gradients allows."""

    @staticmethod
    def forward(_context, x):
        return x.view_as(x)

    @staticmethod
    def backward(_context, gradient):
        return gradient if gradient.abs().sum().item() >= 0 else -gradient


class Looking(nn.Module):
    def forward(self, x):
        return _Looked.apply(F.gelu(x))


def test_a_model_that_cannot_take_several_gradients_at_once_takes_one_after_the_other(tiny, images, relative, asked):
    model = tiny(depth=3).double()
    one = images(model, 1)
    expected, _ = compared(model, one)
    model.blocks[1].mlp.act = Looking()
    asked.clear()
    together, alone = compared(model, one)
    assert asked[-9:] == [4, *[1] * 8]
    assert relative(together, expected) < 1e-12
    assert relative(alone, expected) < 1e-12


def test_what_is_refused_of_one_class_is_refused_of_several(tiny, images):
    model = tiny(depth=3)
    one = images(model, 1).expand(3, -1, -1, -1)
    with pytest.raises(tokentm.NotFiniteError, match="tokentm"):
        tokentm.explain(model, one, lambda logits: logits[:, 0] * 1e30)
    with pytest.raises(tokentm.InvalidTargetError, match=r"for image\(s\) \[1\] of the batch the gradient"):
        tokentm.explain(model, one, lambda logits: logits[:, 0] * torch.tensor([1.0, 0.0, 1.0]))
    model.blocks[0].attn.register_forward_hook(lambda _module, _args, output: output.detach())
    with pytest.raises(tokentm.UnsupportedModelError, match="reach the attention of the first block"):
        tokentm.explain(model, one, [0, 1, 2])


def test_nothing_is_held_in_circles(tiny, images, monkeypatch):
    held = []
    observe = run.observe

    def watched(block, store, *rest):
        held.extend((weakref.ref(store), weakref.ref(store.fused.mixed)))
        return observe(block, store, *rest)

    model = tiny(depth=3)
    given = images(model, 1).expand(3, -1, -1, -1)
    tokentm.explain(model, given, [0, 1, 2])  # torch.vmap's first call imports what it needs
    monkeypatch.setattr(run, "observe", watched)
    monkeypatch.setattr(steadiness, "check_steady", lambda given: None)
    gc.collect()
    gc.disable()
    try:
        tokentm.explain(model, given, [0, 1, 2])
        left = [one() for one in held]
    finally:
        gc.enable()
    assert left == [None] * 6


@pytest.mark.parametrize("rows", [slice(0, 11), slice(2, 3), torch.tensor([0, 1, 9])], ids=["all", "one", "some"])
@pytest.mark.parametrize("at_once", [1, 7, 24, 1000])
def test_gradients_of_several_scores_are_those_of_autograd(rows, at_once):
    generator = torch.Generator().manual_seed(2)
    query, key, value = (torch.randn(1, 3, 11, 5, generator=generator).double() for _ in range(3))
    gradients = torch.zeros(4, 3, 11, 5).double()
    gradients[:, :, rows] = torch.randn(4, 3, 11, 5, generator=generator).double()[:, :, rows]
    asked = [one.clone().requires_grad_() for one in (query, key, value)]
    mixed = F.scaled_dot_product_attention(*asked, scale=0.7)
    expected = [torch.autograd.grad(mixed, asked, one[None], retain_graph=True) for one in gradients]
    fused = Fused(query, key, value, None, 0.7, mixed.detach()).at(rows)
    stacked = gradients[None, :, :, rows].permute(0, 2, 3, 1, 4).contiguous()  # (1, heads, rows, scores, d)
    backward = Backward(fused, stacked)
    for part in parts(1, 3, fused.query.shape[2], at_once):
        weights = fused.part(part).weights()
        before = weights.clone()
        backward.add(part, weights, torch.einsum("bhrcd,bhnd,bhrn->bhrcn", stacked[part], value[part[:2]], weights))
        assert torch.equal(weights, before)  # the scores share it
    for found, *wanted in zip(backward.gradients(rows), *expected, strict=True):
        torch.testing.assert_close(found, torch.cat(wanted), rtol=1e-12, atol=1e-12)


def test_who_is_told_a_gradient_is_told_all_that_are_stacked():
    seen = []

    def follower(gradient):
        seen.append(gradient.clone())
        return gradient * 2, gradient + 1

    def both(gradient):
        first, second = attention.told(follower, gradient)
        return first + second

    given = torch.randn(3, 2, 5)
    torch.testing.assert_close(torch.vmap(both)(given), 3 * given + 1)
    assert [one.shape for one in seen] == [(6, 5)]
    torch.testing.assert_close(both(given[0]), 3 * given[0] + 1)
    torch.testing.assert_close(torch.vmap(both, in_dims=1)(given.transpose(0, 1)), 3 * given + 1)
