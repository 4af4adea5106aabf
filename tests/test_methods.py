"""Every rival against a second implementation, its limits, and what all methods have in common."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import reference
import rivals_reference as rivals
import torch
from conftest import VARIANTS, make_images, make_vit
from torch import nn

import tokentm
from tokentm import TokenTM, UnsupportedModelError
from tokentm.methods import ABLATIONS, METHODS, input_gradient
from tokentm.relevance import CHEFER, RelevancePropagation

TARGET = [3, 0]
KINDS = {"four layers": {"depth": 4, "reg_tokens": 2}} | {
    name: {"depth": 3, **options} for name, options in VARIANTS.items()
}
FEW = ["four layers", "class token", "average", "distilled", "attention pooling"]
RERUNS = [name for name, method in METHODS.items() if method.reruns_model]


@pytest.fixture(scope="module")
def worked():
    """Model, images and reference passes of each kind, computed once."""
    kept = {}

    def work(kind: str):
        if kind not in kept:
            model = make_vit(**KINDS[kind]).double()
            pixels = make_images(model).double()
            kept[kind] = model, pixels, reference.run(model, pixels, TARGET)
        return kept[kind]

    return work


@pytest.mark.parametrize("kind", KINDS)
def test_methods_with_a_map_per_layer_equal_their_equations(worked, relative, kind):
    model, pixels, passes = worked(kind)
    trace = tokentm.record(model, pixels, TARGET)
    expected = {
        "gradient_rollout": rivals.gradient_rollout(passes),
        "generic_attention": rivals.generic_attention(passes),
        "grad_cam": rivals.grad_cam(passes),
        "attcat": rivals.attcat(model, pixels, TARGET, passes),
        "legrad": rivals.legrad(model, pixels, TARGET),
        "transformer_attribution": rivals.transformer_attribution(model, pixels, TARGET, passes),
    }
    for name, maps in expected.items():
        found = METHODS[name](trace)
        assert found.method == name
        for layer in range(len(model.blocks)):
            assert relative(found.layer_scores[:, layer], maps[:, layer]) < 1e-9, (name, layer)
        assert torch.equal(found.scores, found.layer_scores[:, -1]), name


@pytest.mark.parametrize("kind", FEW)
def test_tam_equals_its_equation(worked, relative, kind):
    model, pixels, passes = worked(kind)
    found = tokentm.explain(model, pixels, TARGET, "tam")
    assert relative(found.scores, rivals.tam(model, pixels, TARGET, passes)) < 1e-9
    assert found.method == "tam"
    assert found.layer_scores.shape == (2, 0, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_input_x_gradient_equals_its_equation(worked, relative, kind):
    model, pixels, _ = worked(kind)
    found = tokentm.explain(model, pixels, TARGET, "input_x_gradient")
    assert found.method == "input_x_gradient"
    assert relative(found.scores, rivals.input_x_gradient(model, pixels, TARGET, patch=8)) < 1e-9


@pytest.mark.parametrize("kind", ["class token", "average"])
def test_integrated_gradients_equal_their_equation(worked, relative, kind):
    model, pixels, _ = worked(kind)
    found = tokentm.explain(model, pixels, TARGET, "integrated_gradients")
    assert found.method == "integrated_gradients"
    # captum rounds the weights of the points to float32
    assert relative(found.scores, rivals.integrated_gradients(model, pixels, TARGET, patch=8)) < 1e-7


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients", "attcat"])
def test_what_is_linear_in_the_gradient_is_linear_in_the_score(worked, relative, method):
    model, pixels, _ = worked("class token")
    targets = (1, 2, lambda logits: 2 * logits[:, 1] - 3 * logits[:, 2])
    one, two, both = (tokentm.explain(model, pixels, target, method).scores for target in targets)
    assert relative(both, 2 * one - 3 * two) < 1e-12


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients"])
def test_in_a_linear_model_a_patch_scores_what_it_adds(tiny, images, relative, method):
    """Blocks that add nothing and no norm: the logit is the mean over patches of head . embedding . pixels."""
    model = tiny(global_pool="avg", class_token=False).double()
    model.fc_norm = nn.Identity()
    with torch.no_grad():
        for block in model.blocks:
            for last in (block.attn.proj, block.mlp.fc2):
                last.weight.mul_(1e-30)
                last.bias.zero_()
    pixels = images(model)
    found = tokentm.explain(model, pixels, TARGET, method).scores
    for image, label in enumerate(TARGET):
        for patch in range(6):
            row, column = 8 * (patch // 3), 8 * (patch % 3)
            square = pixels[image, :, row : row + 8, column : column + 8]
            embedded = (model.patch_embed.proj.weight * square).sum((1, 2, 3))
            assert relative(found[image, patch], model.head.weight[label] @ embedded / 6) < 1e-6


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
    assert torch.equal(TokenTM(**off)(trace).layer_scores, METHODS["generic_attention"](trace).layer_scores)


def test_random_knows_the_image_and_nothing_else(tiny, images):
    pixels = images(tiny())
    first = tokentm.explain(tiny(), pixels, 1, "random").scores
    assert torch.equal(first, tokentm.explain(tiny(seed=5), pixels, 2, "random").scores)
    assert torch.equal(first[1:], tokentm.explain(tiny(), pixels[1:], 1, "random").scores)
    assert not torch.equal(first[0], first[1])
    assert (first >= 0).all()
    assert (first < 1).all()
    changed = pixels.clone()
    changed[0, 2, -1, -1] += 1e-3
    again = tokentm.explain(tiny(), changed, 1, "random").scores
    assert torch.equal(first[1], again[1])
    assert not torch.isclose(first[0], again[0]).any()


@pytest.mark.parametrize("method", METHODS)
def test_class_specific_methods_follow_the_target(worked, method):
    model, pixels, _ = worked("class token")
    one, other = (tokentm.explain(model, pixels, target, method).scores for target in (1, 2))
    assert torch.equal(one, other) != METHODS[method].class_specific


@pytest.mark.parametrize("method", METHODS | ABLATIONS)
def test_a_function_of_the_logits_can_be_explained(worked, relative, method):
    model, pixels, _ = worked("class token")
    by_index = tokentm.explain(model, pixels, 1, method).scores
    assert relative(tokentm.explain(model, pixels, lambda logits: logits[:, 1], method).scores, by_index) < 1e-9
    if (METHODS | ABLATIONS)[method].class_specific:
        contrast = tokentm.explain(model, pixels, lambda logits: 2 * logits[:, 1] - logits[:, 2], method).scores
        assert relative(contrast, by_index) > 1e-3


@pytest.mark.parametrize(
    "target", [[3, 0], lambda logits: 2 * logits[:, 1] - logits[:, 0]], ids=["classes", "function"]
)
@pytest.mark.parametrize("method", METHODS | ABLATIONS)
def test_two_images_score_together_what_they_score_alone(worked, relative, method, target):
    model, pixels, _ = worked("class token")
    together = tokentm.explain(model, pixels, target, method)
    for i in range(2):
        alone = tokentm.explain(model, pixels[[i]], target if callable(target) else target[i], method)
        assert relative(together.scores[[i]], alone.scores) < 1e-9
        if alone.layer_scores.numel():
            assert relative(together.layer_scores[[i]], alone.layer_scores) < 1e-9


def state(model):
    """What a method might leave behind."""
    flags = [(p.requires_grad, p.grad is None, p._version) for p in model.parameters()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    return flags, hooks, [vars(m).get("fused_attn") for m in model.modules()], model.training


@pytest.mark.parametrize("method", RERUNS)
def test_the_model_is_left_as_it_was_when_the_target_raises(tiny, images, method):
    model = tiny(depth=3)
    model.head.weight.requires_grad_(False)
    failing = []

    def score(logits):
        if failing:
            raise RuntimeError("no score")
        return logits[:, 1]

    trace = tokentm.record(model, images(model), score)
    failing.append(True)
    before = state(model)
    with pytest.raises(tokentm.InvalidTargetError, match="RuntimeError: no score"):
        METHODS[method](trace)
    assert state(model) == before
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(tiny, images, method):
    model = tiny(depth=3)
    model.head.weight.requires_grad_(False)
    failing = []

    def stop(_module, _args):
        if failing:
            raise RuntimeError("stopped in the middle block")

    handle = model.blocks[1].register_forward_pre_hook(stop)
    trace = tokentm.record(model, images(model), 1)
    before = state(model)
    METHODS[method](trace)
    assert state(model) == before
    failing.append(True)
    if method in RERUNS:
        with pytest.raises(RuntimeError, match="stopped in the middle block"):
            METHODS[method](trace)
    assert state(model) == before
    handle.remove()
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert model.blocks[0].attn.fused_attn


def test_names_are_told_apart_and_each_ablation_changes_one_part():
    assert not METHODS.keys() & ABLATIONS.keys()
    default = asdict(TokenTM())
    changed = [{k: v for k, v in asdict(method).items() if v != default[k]} for method in ABLATIONS.values()]
    assert all(len(one) == 1 for one in changed)
    assert {name for one in changed for name in one} == default.keys() - {"head_mean", "backward"}
    libragrad = asdict(METHODS["tokentm_libragrad"])
    assert {k: v for k, v in libragrad.items() if v != default[k]} == {"transformed": "stream", "head_mean": "before"}


def handed_down(function, *inputs, relevance):
    """What reaches the inputs when ``relevance`` is given to the output of a function."""
    inputs = [torch.tensor(one).requires_grad_() for one in inputs]
    with RelevancePropagation("a model", CHEFER):
        output = function(*inputs)
    return [found.tolist() for found in torch.autograd.grad(output, inputs, torch.tensor(relevance))]


def test_linear_hands_down_by_what_agrees_in_sign():
    layer = nn.Linear(2, 1)
    layer.weight = nn.Parameter(torch.tensor([[2.0, -3.0]]))
    layer.requires_grad_(False)
    # agreeing products: 1 * 2 = 2 and -2 * -3 = 6; 4 * -3 does not count
    assert handed_down(layer, [[1.0, -2.0]], relevance=[[8.0]]) == [[[2.0, 6.0]]]
    assert handed_down(layer, [[1.0, 4.0]], relevance=[[8.0]]) == [[[8.0, 0.0]]]


def test_linear_keeps_the_sum_of_relevance_and_leaves_out_the_bias():
    generator = torch.Generator().manual_seed(0)
    layer, x = nn.Linear(5, 4), torch.rand(3, 5, generator=generator)
    layer.weight = nn.Parameter(torch.rand(4, 5, generator=generator))
    relevance = torch.rand(3, 4, generator=generator)
    (found,) = handed_down(layer.requires_grad_(False), x.tolist(), relevance=relevance.tolist())
    torch.testing.assert_close(torch.tensor(found).sum(1), relevance.sum(1))
    # to 2 outputs by hand: 1 * 1 + 2 * 2 = 5 and 1 * 3 + 2 * 1 = 5
    two = torch.tensor([[1.0, 2.0], [3.0, 1.0]])
    (found,) = handed_down(lambda a: nn.functional.linear(a, two), [[1.0, 2.0]], relevance=[[5.0, 10.0]])
    assert found == [[1 + 6, 4 + 4]]
    (found,) = handed_down(lambda a: nn.functional.linear(input=a, weight=two), [[1.0, 2.0]], relevance=[[5.0, 10.0]])
    assert found == [[1 + 6, 4 + 4]]


def test_where_nothing_was_handed_up_nothing_comes_down():
    disagreeing = torch.tensor([[-1.0, -2.0]])
    assert handed_down(lambda a: nn.functional.linear(a, disagreeing), [[1.0, 2.0]], relevance=[[8.0]]) == [[[0, 0]]]
    assert handed_down(lambda a, b: a + b, [[2.0]], [[-2.0]], relevance=[[8.0]]) == [[[0]], [[0]]]
    assert handed_down(lambda a: a.mean(1), [[2.0, -2.0]], relevance=[8.0]) == [[[0, 0]]]


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
    # rows (1 * 1 + 1 * 1, 1 * 3 + 1 * 1) = (2, 4) and (2 * 1, 2 * 3) = (2, 6)
    u, v = handed_down(
        torch.matmul, [[1.0, 1.0], [2.0, 0.0]], [[1.0, 3.0], [1.0, 1.0]], relevance=[[4.0, 8.0], [2.0, 6.0]]
    )
    assert u == [[(2 + 6) / 2, (2 + 2) / 2], [(2 + 6) / 2, 0]]
    assert v == [[(2 + 2) / 2, (6 + 6) / 2], [2 / 2, 2 / 2]]
    # one factor for two images takes from both
    u, v = handed_down(torch.matmul, [[1.0, 2.0]], [[[3.0], [0.5]], [[1.0], [1.0]]], relevance=[[[8.0]], [[6.0]]])
    assert (u, v) == ([[3 + 1, 1 + 2]], [[[3.0], [1.0]], [[1.0], [2.0]]])
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
        (lambda x: x - x.roll(1, -1), "sub"),
        (lambda x: 1 / x, "div|reciprocal"),
        (lambda x: torch.ones_like(x.detach()) / x, "div"),
        (lambda x: torch.sin(input=x), "torch.sin"),
        (lambda x: torch.hypot(x, x), "hypot"),
    ],
)
def test_a_function_without_a_rule_is_refused_by_name(tiny, images, function, name):
    model = tiny()
    model.blocks[1].mlp.act = Odd(function)
    trace, before = tokentm.record(model, images(model), 0), state(model)
    with pytest.raises(UnsupportedModelError, match=f"with a rule of relevance propagation, found .*({name})"):
        METHODS["transformer_attribution"](trace)
    assert state(model) == before
    assert torch.isfinite(METHODS["tokentm"](trace).scores).all()


def test_relevance_that_cancels_is_refused_rather_than_drawn_from_rounding(worked):
    model, pixels, _ = worked("class token")
    with pytest.raises(tokentm.InvalidTargetError, match="such as the difference of two classes"):
        tokentm.explain(model, pixels, lambda logits: logits[:, 1] - logits[:, 2], "transformer_attribution")
