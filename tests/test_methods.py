"""Every rival against a second implementation, its limits, and what all methods have in common."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import reference
import rivals_reference as rivals
import torch
from torch import nn

import tokentm
from tokentm import TokenTM, UnsupportedModelError
from tokentm.hooks import frozen
from tokentm.methods import ABLATIONS, METHODS, input_gradient
from tokentm.relevance import RelevancePropagation

TARGET = [3, 0]
KINDS = {
    "class token": {"depth": 3},
    "four layers, registers": {"depth": 4, "reg_tokens": 2},
    "average": {"depth": 3, "global_pool": "avg", "class_token": False},
    "average beside registers": {"depth": 3, "global_pool": "avg", "reg_tokens": 1},
}
OTHERS = {
    "distilled": {"distilled": True},
    "LayerScale": {"init_values": 0.5},
    "attention pooling": {"global_pool": "map"},
}
WITHOUT_MODEL = ("gradient_rollout", "generic_attention", "grad_cam")


@pytest.fixture(scope="module")
def worked(request):
    """Model, images and reference passes of each kind, computed once."""
    from conftest import make_images, make_vit

    kept = {}

    def work(kind: str):
        if kind not in kept:
            model = make_vit(**(KINDS | OTHERS)[kind]).double()
            pixels = make_images(model).double()
            kept[kind] = model, pixels, reference.run(model, pixels, TARGET)
        return kept[kind]

    return work


@pytest.mark.parametrize("kind", KINDS | OTHERS)
@pytest.mark.parametrize("method", WITHOUT_MODEL)
def test_methods_on_the_record_equal_their_equations(worked, relative, kind, method):
    model, pixels, passes = worked(kind)
    found = tokentm.explain(model, pixels, TARGET, method).scores
    assert relative(found, getattr(rivals, method)(passes)) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_attcat_equals_its_equation(worked, relative, kind):
    model, pixels, passes = worked(kind)
    found = tokentm.explain(model, pixels, TARGET, "attcat").scores
    assert relative(found, rivals.attcat(model, pixels, TARGET, passes)) < 1e-6  # its terms cancel


@pytest.mark.parametrize("kind", KINDS)
def test_tam_equals_its_equation(worked, relative, kind):
    model, pixels, passes = worked(kind)
    found = tokentm.explain(model, pixels, TARGET, "tam").scores
    assert relative(found, rivals.tam(model, pixels, TARGET, passes)) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_legrad_equals_models_that_end_early(worked, relative, kind):
    model, pixels, _ = worked(kind)
    found = tokentm.explain(model, pixels, TARGET, "legrad").scores
    assert relative(found, rivals.legrad(model, pixels, TARGET)) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_transformer_attribution_equals_relevance_handed_down_by_hand(worked, relative, kind):
    model, pixels, passes = worked(kind)
    found = tokentm.explain(model, pixels, TARGET, "transformer_attribution").scores
    assert relative(found, rivals.transformer_attribution(model, pixels, TARGET, passes)) < 1e-8


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients"])
def test_gradients_of_the_image_equal_their_equations(worked, relative, method):
    model, pixels, _ = worked("class token")
    found = tokentm.explain(model, pixels, TARGET, method).scores
    assert relative(found, getattr(rivals, method)(model, pixels, TARGET, patch=8)) < 1e-7  # captum's weights


def test_integrated_gradients_add_up_to_what_the_image_adds_to_the_score(tiny, images):
    model = tiny().double()
    with torch.no_grad():
        for parameter in model.parameters():  # smooth enough for 20 points
            parameter.mul_(0.3)
    pixels = images(model).double()
    found = tokentm.explain(model, pixels, TARGET, "integrated_gradients").scores.sum(1)
    with torch.no_grad():
        expected = (model(pixels) - model(torch.zeros_like(pixels)))[[0, 1], TARGET]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)
    assert input_gradient.STEPS == 20


def test_tokentm_without_its_parts_is_a_rival(worked, relative):
    model, pixels, _ = worked("class token")
    trace = tokentm.record(model, pixels, TARGET)
    off = {"length": False, "direction": False, "ffn": False, "initialise": False}
    plain = TokenTM(**off, gradient=False)(trace).scores
    assert relative(plain, METHODS["rollout"](trace).scores * 2**3) < 1e-12  # (A + I) / 2 in each of three layers
    assert relative(TokenTM(**off)(trace).scores, METHODS["generic_attention"](trace).scores) < 1e-12


def test_random_knows_the_image_and_nothing_else(tiny, images):
    pixels = images(tiny())
    first = tokentm.explain(tiny(), pixels, 1, "random").scores
    assert torch.equal(first, tokentm.explain(tiny(seed=5), pixels, 2, "random").scores)
    assert torch.equal(first[1:], tokentm.explain(tiny(), pixels[1:], 1, "random").scores)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("method", METHODS)
def test_class_specific_methods_follow_the_target(worked, method):
    model, pixels, _ = worked("class token")
    one, other = (tokentm.explain(model, pixels, target, method).scores for target in (1, 2))
    assert torch.equal(one, other) == (method in ("rollout", "attention", "random"))


@pytest.mark.parametrize("method", METHODS | ABLATIONS)
def test_a_function_of_the_logits_can_be_explained(worked, relative, method):
    model, pixels, _ = worked("class token")
    by_index = tokentm.explain(model, pixels, 1, method).scores
    assert relative(tokentm.explain(model, pixels, lambda logits: logits[:, 1], method).scores, by_index) < 1e-9
    if method not in ("rollout", "attention", "random", "tokentm_no_gradient"):
        contrast = tokentm.explain(model, pixels, lambda logits: logits[:, 1] - logits[:, 2], method).scores
        assert relative(contrast, by_index) > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(tiny, images, method):
    model = tiny(depth=3)
    model.head.weight.requires_grad_(False)
    trace = tokentm.record(model, images(model), 1)
    wanted = [p.requires_grad for p in model.parameters()]
    METHODS[method](trace)

    def stop(_module, _args):
        raise RuntimeError("stopped in the middle block")

    handle = model.blocks[1].register_forward_pre_hook(stop)
    reruns = ("transformer_attribution", "tam", "legrad", "input_x_gradient", "integrated_gradients")
    if method in reruns:
        with pytest.raises(RuntimeError, match="stopped in the middle block"):
            METHODS[method](trace)
    handle.remove()
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model.blocks[0].attn.fused_attn


def test_names_are_told_apart_and_each_ablation_changes_one_part():
    assert not METHODS.keys() & ABLATIONS.keys()
    default = asdict(TokenTM())
    changed = [{k: v for k, v in asdict(method).items() if v != default[k]} for method in ABLATIONS.values()]
    assert all(len(one) == 1 for one in changed)
    assert {name for one in changed for name in one} == default.keys() - {"head_mean"}
    libragrad = asdict(METHODS["tokentm_libragrad"])
    assert {k: v for k, v in libragrad.items() if v != default[k]} == {"transformed": "stream", "head_mean": "before"}


def handed_down(function, *inputs, relevance):
    """What reaches the inputs when ``relevance`` is given to the output of a function."""
    inputs = [torch.tensor(one).requires_grad_() for one in inputs]
    with RelevancePropagation("a model"):
        output = function(*inputs)
    return [found.tolist() for found in torch.autograd.grad(output, inputs, torch.tensor(relevance))]


def test_linear_hands_down_by_what_agrees_in_sign():
    layer = nn.Linear(2, 1)
    layer.weight = nn.Parameter(torch.tensor([[2.0, -3.0]]))
    with frozen(layer):
        # agreeing products: 1 * 2 = 2 and -2 * -3 = 6; 4 * -3 does not count
        assert handed_down(layer, [[1.0, -2.0]], relevance=[[8.0]]) == [[[2.0, 6.0]]]
        assert handed_down(layer, [[1.0, 4.0]], relevance=[[8.0]]) == [[[8.0, 0.0]]]


def test_a_sum_hands_down_by_parts_rescaled_to_the_shares_of_the_whole():
    # 1 + 3 and 6 - 2: parts (2, 12) and (6, -4), totals 14 and 2 of 16
    u, v = handed_down(lambda a, b: a + b, [[1.0, 6.0]], [[3.0, -2.0]], relevance=[[8.0, 8.0]])
    assert torch.tensor(u).flatten().tolist() == pytest.approx([2 / 14 * 14 / 16 * 16, 12 / 14 * 14 / 16 * 16])
    assert torch.tensor(v).flatten().tolist() == pytest.approx([6 / 2 * 2 / 16 * 16, -4 / 2 * 2 / 16 * 16])
    # 1 - 2: parts (-8, 16), shares 8 / 24 and 16 / 24 of 8
    u, v = handed_down(lambda a, b: a + b, [[1.0]], [[-2.0]], relevance=[[8.0]])
    assert [u[0][0], v[0][0]] == pytest.approx([8 / 3, 16 / 3])


def test_the_shares_of_a_sum_are_those_of_each_image():
    together = handed_down(lambda a, b: a + b, [[1.0], [5.0]], [[-2.0], [3.0]], relevance=[[8.0], [8.0]])
    alone = handed_down(lambda a, b: a + b, [[5.0]], [[3.0]], relevance=[[8.0]])
    assert [together[i][1] for i in (0, 1)] == [alone[i][0] for i in (0, 1)]


def test_products_hand_half_to_each():
    u, v = handed_down(torch.matmul, [[1.0, 2.0]], [[3.0], [0.5]], relevance=[[8.0]])
    assert (u, v) == ([[3.0, 1.0]], [[3.0], [1.0]])
    assert handed_down(lambda a, b: a * b, [[2.0]], [[5.0]], relevance=[[8.0]]) == [[[4.0]], [[4.0]]]
    constant = torch.tensor([[3.0], [0.5]])
    assert handed_down(lambda a: a @ constant, [[1.0, 2.0]], relevance=[[8.0]]) == [[[6.0, 2.0]]]


def test_averages_hand_down_in_proportion_and_others_what_they_get():
    (found,) = handed_down(lambda a: a.mean(1), [[1.0, 3.0]], relevance=[8.0])
    assert found == [[2.0, 6.0]]
    for function in (torch.tanh, nn.functional.gelu, lambda a: a.softmax(-1), lambda a: a * 3, lambda a: 2 + a):
        assert handed_down(function, [[1.0, 3.0]], relevance=[[8.0, 2.0]]) == [[[8.0, 2.0]]]


class Odd(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.sin, "torch.sin"),
        (lambda x: x**2, "pow"),
        (lambda x: x - x.roll(1, 0), "roll"),
        (lambda x: 1 / x, "div|reciprocal"),
        (lambda x: torch.ones_like(x.detach()) / x, "div"),
        (lambda x: torch.sin(input=x), "torch.sin"),
        (lambda x: torch.hypot(x, x), "hypot"),
    ],
)
def test_a_function_without_a_rule_is_refused_by_name(tiny, images, function, name):
    model = tiny()
    model.blocks[1].mlp.act = Odd(function)
    trace = tokentm.record(model, images(model), 0)
    with pytest.raises(UnsupportedModelError, match=f"with a rule of relevance propagation, found .*({name})"):
        METHODS["transformer_attribution"](trace)
    assert torch.isfinite(METHODS["tokentm"](trace).scores).all()
