"""Methods by rules of relevance: against relevance handed down by hand, and by what the rules promise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import reference
import rules_reference as by_hand
import torch
from conftest import VARIANTS, make_images, make_vit
from test_families import FAMILIES, input_of, spread
from test_methods import Odd
from timm.layers import GluMlp, SwiGLU
from timm.layers.attention_pool import AttentionPoolLatent
from torch import nn
from torch.nn import functional as F
from transformers import activations
from transformers.models.dinov2 import modeling_dinov2

import tokentm
from tokentm import TokenTM, UnsupportedModelError
from tokentm.hooks import recording
from tokentm.methods import METHODS, by_rules
from tokentm.relevance import ATTN_LRP, CP_LRP, HELD, LIBRA, RES_LRP, RelevancePropagation

TARGET = [3, 0]
KINDS = {"four layers": {"depth": 4, "reg_tokens": 2}} | {
    name: {"depth": 3, **options} for name, options in VARIANTS.items()
}
AT_FIRST_TOKENS = {"libra_input_x_gradient": "libra", "cp_lrp": "cp_lrp", "attnlrp": "attnlrp", "reslrp": "reslrp"}


@pytest.fixture(scope="module")
def worked():
    """Record and reference passes of each kind, computed once."""
    kept = {}

    def work(kind: str):
        if kind not in kept:
            model = make_vit(**KINDS[kind]).double()
            pixels = make_images(model).double()
            kept[kind] = model, tokentm.record(model, pixels, TARGET), reference.run(model, pixels, TARGET)
        return kept[kind]

    return work


@pytest.mark.parametrize("kind", KINDS)
def test_relevance_at_the_first_tokens_is_that_handed_down_by_hand(worked, relative, kind):
    model, trace, passes = worked(kind)
    for name, rules in AT_FIRST_TOKENS.items():
        found = METHODS[name](trace)
        assert found.method == name
        assert found.layer_scores.shape == (2, 0, 6)
        assert relative(found.scores, by_hand.first_tokens(model, passes, TARGET, rules)) < 1e-6, name


@pytest.mark.parametrize("kind", KINDS)
def test_fullgrad_plus_is_what_tokens_and_biases_take_by_hand(worked, relative, kind):
    model, trace, passes = worked(kind)
    found = METHODS["libra_fullgrad_plus"](trace).scores
    assert relative(found, by_hand.fullgrad_plus(model, passes, TARGET)) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_generic_attention_with_what_attention_would_take_by_hand(worked, relative, kind):
    model, trace, passes = worked(kind)
    found = METHODS["libra_generic_attention"](trace)
    expected = by_hand.generic_attention(model, passes, TARGET)
    for layer in range(len(model.blocks)):
        assert relative(found.layer_scores[:, layer], expected[:, layer]) < 1e-6


@pytest.mark.parametrize("kind", ["four layers", "norm after the heads", "attention and FFN in parallel"])
def test_tokentm_with_the_gradient_of_libragrad(worked, relative, kind):
    model, trace, passes = worked(kind)
    for one, index in zip(passes, TARGET, strict=True):
        taken = by_hand.relevances(model, one, index, by_hand.RULES["libra"]).attention
        for layer, heads in zip(one.layers, taken, strict=True):
            layer.gradient = [r / a.detach() for r, a in zip(heads, layer.attention, strict=True)]
    try:
        for reading in ({}, {"normaliser": "mean"}, {"positive": "mean"}, {"lengths": "own"}):
            method = TokenTM(backward="libra", **reading)
            expected = reference.tokentm(passes, **reading)
            assert relative(method(trace).layer_scores, expected) < 1e-6, reading
            assert relative(method.scores(trace), expected[:, -1]) < 1e-6, reading
            assert method.reruns_model
            assert method.stream is None
    finally:
        again = reference.run(model, trace.images, TARGET)
        for one, plain in zip(passes, again, strict=True):
            one.layers = plain.layers


def test_the_record_keeps_its_gradient_and_a_map_without_one_runs_nothing_again(worked):
    _, trace, _ = worked("class token")
    before = [layer.gradient.clone() for layer in trace.layers]
    prepared = TokenTM(backward="libra").prepared(trace)
    assert all(map(torch.equal, before, (layer.gradient for layer in trace.layers)))
    assert not torch.allclose(prepared.layers[0].gradient, before[0])
    assert TokenTM().prepared(trace) is trace
    without = TokenTM(backward="libra", gradient=False)
    assert not without.reruns_model
    assert torch.equal(without(trace).scores, TokenTM(gradient=False)(trace).scores)


# what rules promise


@contextmanager
def frozen() -> Iterator[None]:
    """Functions of torch with constants in them, by ``detach``: LibraGrad a second time, in the model's own words."""

    def layer_norm(x, shape, weight=None, bias=None, eps=1e-5):
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt().detach()
        x = x if weight is None else x * weight
        return x if bias is None else x + bias

    def gelu(x, approximate="none"):
        assert approximate == "none"
        return x * ((1 + torch.erf(x / 2**0.5)) / 2).detach()

    def silu(x, inplace=False):
        return x * (1 / (1 + torch.exp(-x))).detach()

    def attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
        logits = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
        return (logits if attn_mask is None else logits + attn_mask).softmax(-1).detach() @ value

    def gated(self, x):
        x = self.act(self.fc1_g(x)) * self.fc1_x(x)
        return self.fc2(self.norm(x / 2 + x.detach() / 2))

    def packed(self, x):
        one, other = self.fc1(x).chunk(2, -1)
        x = self.act(one) * other
        return self.fc2(self.norm(x / 2 + x.detach() / 2))

    def of_dinov2(self, x):
        x = silu(self.gate_proj(x)) * self.up_proj(x)
        return self.down_proj(x / 2 + x.detach() / 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "layer_norm", layer_norm)
        patch.setattr(F, "gelu", gelu)
        patch.setattr(F, "silu", silu)
        patch.setattr(F, "scaled_dot_product_attention", attend)
        patch.setattr(SwiGLU, "forward", gated)
        patch.setattr(GluMlp, "forward", packed)
        patch.setattr(modeling_dinov2.Dinov2SwiGLUFFN, "forward", of_dinov2)
        patch.setattr(activations.GELUActivation, "forward", lambda _self, x: gelu(x))
        yield


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "torchvision"])  # packed: no function to replace
def test_families_hand_down_what_the_model_does_with_constants(name, relative):
    model = spread(FAMILIES[name][0]()).double()
    images = input_of(model).double()
    trace = tokentm.record(model, images, TARGET)
    anatomy, kept = tokentm.describe(model, images), []

    def watch(_module, args):
        kept.append(args[0].detach().requires_grad_())
        return (kept[0], *args[1:])

    handle = anatomy.blocks[0].module.register_forward_pre_hook(watch)
    with frozen():
        logits = anatomy.answer(images)
    handle.remove()
    torch.testing.assert_close(logits, trace.logits)
    gradient = torch.autograd.grad(logits[[0, 1], TARGET].sum(), kept[0])[0]
    expected = (kept[0].detach() * gradient).sum(-1)[:, trace.layout.prefix :]
    assert relative(METHODS["libra_input_x_gradient"](trace).scores, expected) < 1e-9


def worth(trace, rules):
    """What tokens and all constants that are added take together, and what the softmaxes of attention take."""
    softmaxes = []

    def softmax(call):
        made = rules.softmax(call)
        softmaxes.append((call.carrying[0], made))
        return made

    with (
        RelevancePropagation("a model", replace(rules, softmax=softmax), keeps_added=True) as mode,
        recording(trace.anatomy, graph_from="stream") as passes,
    ):
        logits = trace.anatomy.answer(trace.images)
    added = [(one.made, one.bias) for one in mode.added]
    pairs = [(passes.blocks[0].stream, passes.blocks[0].stream), *added]
    if rules.softmax is ATTN_LRP.softmax:
        pairs += [(made, made) for _, made in softmaxes] + [(given, -given) for given, _ in softmaxes]
    nodes = [node for node, _ in pairs]
    reached = torch.autograd.grad(trace.score(logits).sum(), nodes, allow_unused=True)
    parts = [(value.detach() * g).sum() for (_, value), g in zip(pairs, reached, strict=True) if g is not None]
    return sum(parts)


@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_and_constants_take_the_whole_score(name):
    model = spread(FAMILIES[name][0]()).double()
    trace = tokentm.record(model, input_of(model).double(), TARGET)
    for rules in (LIBRA, CP_LRP, ATTN_LRP, RES_LRP):
        torch.testing.assert_close(worth(trace, rules), trace.scores.sum(), rtol=1e-6, atol=1e-6, msg=rules.name)


@pytest.mark.parametrize("name", ["libra_input_x_gradient", "cp_lrp"])
@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_without_biases_the_tokens_take_the_whole_score(name, norm):
    model = make_vit(depth=3, norm_layer=norm, init_values=0.5, class_token=False, global_pool="avg").double()
    with torch.no_grad():
        for parameter, value in model.named_parameters():
            if parameter.endswith("bias"):
                value.zero_()
    trace = tokentm.record(model, make_images(model).double(), TARGET)
    torch.testing.assert_close(METHODS[name](trace).scores.sum(1), trace.scores)


@pytest.mark.parametrize("gated", [True, False], ids=["SwiGLU", "MLP"])
def test_cp_lrp_differs_from_libra_input_x_gradient_in_gated_ffns_alone(gated, relative):
    options = {"mlp_layer": SwiGLU, "act_layer": nn.SiLU} if gated else {}
    model = make_vit(depth=3, **options).double()
    trace = tokentm.record(model, make_images(model).double(), 1)
    one, other = (METHODS[name](trace).scores for name in ("cp_lrp", "libra_input_x_gradient"))
    assert (relative(one, other) > 1e-3) if gated else torch.equal(one, other)


def test_what_is_linear_in_the_rules_is_linear_in_the_score(worked, relative):
    model, trace, _ = worked("class token")
    targets = (1, 2, lambda logits: 2 * logits[:, 1] - 3 * logits[:, 2])
    for name in ("libra_fullgrad_plus", *AT_FIRST_TOKENS):
        one, two, both = (tokentm.explain(model, trace.images, target, name).scores for target in targets)
        assert relative(both, 2 * one - 3 * two) < 1e-12


def test_as_many_images_as_tokens_are_told_from_tokens(tiny, images, relative):
    """Where the axes of images and of tokens are as long as each other, only one image more tells them apart."""
    model = spread(FAMILIES["torchvision"][0]()).double()
    pixels = torch.randn(10, 3, 48, 48, generator=torch.Generator().manual_seed(1)).double()
    found = tokentm.explain(model, pixels, 2, "libra_fullgrad_plus").scores
    alone = [tokentm.explain(model, one[None], 2, "libra_fullgrad_plus").scores for one in pixels]
    assert relative(found, torch.cat(alone)) < 1e-9


def test_biases_count_for_their_tokens_in_either_order_of_axes(relative):
    """torch's packed attention puts tokens before images."""
    model = spread(FAMILIES["torchvision"][0]()).double()
    trace = tokentm.record(model, input_of(model).double(), TARGET)
    with (
        RelevancePropagation("a model", LIBRA, keeps_added=True) as mode,
        recording(trace.anatomy, graph_from="stream"),
    ):
        logits = trace.anatomy.answer(trace.images)
    score, expected, turned = trace.score(logits).sum(), torch.zeros(2, 9).double(), 0
    for one in mode.added:
        (gradient,) = torch.autograd.grad(score, one.made, retain_graph=True, allow_unused=True)
        if gradient is None or gradient.ndim != 3:
            continue
        turned += gradient.shape[0] == 10
        for image in range(2):
            for patch in range(9):
                place = (patch + 1, image) if gradient.shape[0] == 10 else (image, patch + 1)
                expected[image, patch] += (one.bias.expand_as(gradient) * gradient)[place].sum()
    assert turned
    assert relative(by_rules.at_all_tokens(trace, LIBRA)[1], expected) < 1e-9


# single rules


def handed_down(rules, function, *inputs, gradient):
    """What reaches the inputs where ``gradient`` is given to the output of a function; None where nothing does."""
    inputs = [torch.tensor(one, dtype=torch.float64).requires_grad_() for one in inputs]
    with RelevancePropagation("a model", rules):
        output = function(*inputs)
    output_gradient = torch.tensor(gradient, dtype=torch.float64)
    found = torch.autograd.grad(output, inputs, output_gradient, allow_unused=True)
    return [None if one is None else one.tolist() for one in found]


@pytest.mark.parametrize(
    "activation",
    [
        F.silu,
        lambda x: x * torch.sigmoid(x),
        lambda x: torch.mul(torch.sigmoid(x), x),
        lambda x: x / (1 + torch.exp(-x)),
        lambda x: 2 * x * (0.5 * torch.sigmoid(x)),
        lambda x: x * (1 - torch.sigmoid(-x)),
        lambda x: F.silu(x.clone(), inplace=True),
    ],
)
def test_the_gate_of_an_activation_is_a_constant(activation):
    (found,) = handed_down(LIBRA, activation, [[-1.0, 0.0, 2.0]], gradient=[[1.0, 1.0, 10.0]])
    assert found[0] == pytest.approx([1 / (1 + torch.e), 0.5, 10 / (1 + torch.e**-2)])


def test_gelu_by_hand_in_two_ways():
    expected = [0.5 * (1 + torch.erf(torch.tensor(x / 2**0.5, dtype=torch.float64)).item()) for x in (-1.0, 0.0, 2.0)]
    for gelu in (F.gelu, lambda x: x * 0.5 * (1.0 + torch.erf(x / 2**0.5))):
        (found,) = handed_down(LIBRA, gelu, [[-1.0, 0.0, 2.0]], gradient=[[1.0, 1.0, 1.0]])
        assert found[0] == pytest.approx(expected)


def test_activations_that_are_no_gates_count_as_what_they_make_of_their_input():
    for rules in (LIBRA, CP_LRP, ATTN_LRP, RES_LRP):
        (found,) = handed_down(rules, torch.tanh, [[-1.0, 0.0, 2.0]], gradient=[[1.0, 1.0, 1.0]])
        assert found[0] == pytest.approx(
            [torch.tanh(torch.tensor(x)).item() / x if x else 1.0 for x in (-1.0, 0.0, 2.0)]
        )
        (found,) = handed_down(rules, F.relu, [[-1.0, 0.0, 2.0]], gradient=[[3.0, 3.0, 3.0]])
        assert found == [[0.0, 0.0, 3.0]]


def test_what_is_held_is_a_number_and_the_rest_has_its_own_gradient():
    tokens = torch.tensor([[[1.0, -2.0], [3.0, 0.5], [0.0, 1.0]]], dtype=torch.float64)
    weights = tokens.sum(-1, keepdim=True).softmax(1)
    (found,) = handed_down(
        HELD, lambda x: (x.sum(-1, keepdim=True).softmax(1) * x).sum(1), tokens.tolist(), gradient=[[1.0, 10.0]]
    )
    torch.testing.assert_close(torch.tensor(found).double(), weights * torch.tensor([1.0, 10.0]).double())
    assert handed_down(HELD, torch.mul, [[2.0]], [[3.0]], gradient=[[4.0]]) == [[[12.0]], [[8.0]]]
    assert handed_down(HELD, lambda x: x * x, [[2.0]], gradient=[[4.0]]) == [[[16.0]]]
    assert handed_down(HELD, torch.exp, [[0.0]], gradient=[[4.0]]) == [[[4.0]]]
    gated = handed_down(HELD, lambda x: x * torch.sigmoid(x), [[2.0]], gradient=[[1.0]])
    assert gated[0][0] == pytest.approx([1 / (1 + torch.e**-2)])


def test_a_product_gives_half_to_each_or_all_to_what_is_no_gate():
    def gated(u, v):
        return u * F.silu(v)

    gate = 3.0 / (1 + torch.e**-3)
    for rules in (LIBRA, ATTN_LRP, RES_LRP):
        u, v = handed_down(rules, gated, [[2.0]], [[3.0]], gradient=[[4.0]])
        assert u[0] == pytest.approx([2 * gate])
        assert v[0] == pytest.approx([4 / 2 * 2.0 * gate / 3])
    u, v = handed_down(CP_LRP, gated, [[2.0]], [[3.0]], gradient=[[4.0]])
    assert u[0] == pytest.approx([4 * gate])
    assert v is None
    for rules in (LIBRA, CP_LRP):
        assert handed_down(rules, lambda x: x * x, [[3.0]], gradient=[[1.0]]) == [[[3.0]]]  # 3 * 3 is worth 9, once
        assert handed_down(rules, lambda u, v: u * v, [[2.0]], [[5.0]], gradient=[[1.0]]) == [[[2.5]], [[1.0]]]


@pytest.mark.parametrize("width", [4, 7])
def test_norms_are_linear_maps_by_hand(width):
    generator = torch.Generator().manual_seed(width)
    x, gradient, weight, bias = (torch.randn(width, generator=generator).double() for _ in range(4))
    deviation = float(((x - x.mean()) ** 2).mean() + 1e-3) ** 0.5
    expected = (weight * gradient - (weight * gradient).mean()) / deviation
    given = [x[None].tolist()], [gradient[None].tolist()]

    def layer_norm(x):
        return F.layer_norm(x, (width,), weight, bias, 1e-3)

    def written(x):
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-3) * weight + bias

    for function in (layer_norm, written):
        (found,) = handed_down(LIBRA, function, given[0], gradient=given[1])
        torch.testing.assert_close(torch.tensor(found).double().flatten(), expected)

    def rms_norm(x):
        return F.rms_norm(x, (width,), weight, 1e-3)

    def rms_written(x):
        return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-3))

    def by_power(x):
        return weight * x * (x.square().mean(-1, keepdim=True) + 1e-3) ** -0.5

    size = float((x**2).mean() + 1e-3) ** 0.5
    for function in (rms_norm, rms_written, by_power):
        (found,) = handed_down(LIBRA, function, given[0], gradient=given[1])
        torch.testing.assert_close(torch.tensor(found).double().flatten(), weight * gradient / size)
    (found,) = handed_down(LIBRA, lambda x: F.normalize(x, dim=-1), given[0], gradient=given[1])
    torch.testing.assert_close(torch.tensor(found).double().flatten(), gradient / x.norm())


def test_a_residual_sum_by_hand():
    # 3 + 1: both have the sign of the sum; 3 - 1: 2 * 3 and -1 of 5; 1 - 1: nothing is handed up, nothing down
    a, b = handed_down(RES_LRP, torch.add, [[[3.0, 3.0, 1.0]]], [[[1.0, -1.0, -1.0]]], gradient=[[[1.0, 1.0, 1.0]]])
    assert a[0][0] == pytest.approx([1.0, 2 * 2 / 5, 0.0])
    assert b[0][0] == pytest.approx([1.0, 2 / 5, 0.0])
    # R = 2: 3 * 0.8 = 2.4 and -1 * 0.4 = -0.4
    assert handed_down(ATTN_LRP, torch.add, [[[3.0]]], [[[-1.0]]], gradient=[[[1.0]]]) == [[[[1.0]]], [[[1.0]]]]
    # the rule is for the stream (B, N, D): rotary positions are sums, too
    assert handed_down(RES_LRP, torch.add, [[3.0]], [[-1.0]], gradient=[[1.0]]) == [[[1.0]], [[1.0]]]


def test_attention_hands_down_by_hand():
    def mix(q, k, v):
        return (q @ k.mT).softmax(-1) @ v

    q, k, v = [[[1.0, 0.5]]], [[[1.0, 0.0], [0.0, 2.0]]], [[[3.0], [1.0]]]
    at_q, at_k, at_v = handed_down(LIBRA, mix, q, k, v, gradient=[[[1.0]]])
    assert (at_q, at_k) == (None, None)
    assert at_v[0] == [[pytest.approx(0.5)], [pytest.approx(0.5)]]  # both logits are 1
    at_q, at_k, at_v = handed_down(ATTN_LRP, mix, q, k, v, gradient=[[[1.0]]])
    assert at_v[0] == [[pytest.approx(0.25)], [pytest.approx(0.25)]]
    # G at A is v / 2; through the softmax 0.5 * (v_j - 2) / 2 = 0.25 and -0.25; half of it to q and to k
    assert at_q[0][0] == pytest.approx([0.125, -0.25])
    assert at_k[0][0] == pytest.approx([0.125, 0.0625])
    assert at_k[0][1] == pytest.approx([-0.125, -0.0625])


@pytest.mark.parametrize(
    ("function", "name"),
    [(torch.sin, "torch.sin"), (lambda x: x**2, "pow"), (lambda x: x.clamp(max=1), "clamp"), (torch.logit, "logit")],
)
@pytest.mark.parametrize("method", ["libra_fullgrad_plus", "cp_lrp", "attnlrp", "reslrp", "tokentm_libra_gradient"])
def test_a_function_without_a_rule_is_refused_by_name(method, function, name):
    model = make_vit(depth=3)
    model.blocks[1].mlp.act = Odd(lambda x: function(x.sigmoid()))
    trace = tokentm.record(model, make_images(model), 0)
    with pytest.raises(UnsupportedModelError, match=f"with a rule of relevance propagation, found .*{name}.*another"):
        METHODS[method](trace)
    assert torch.isfinite(METHODS["tokentm"](trace).scores).all()


def test_a_function_without_a_rule_is_no_matter_where_nothing_is_handed_down(relative):
    """Attention is a constant for LibraGrad, so what is done to queries is its own business; AttnLRP goes there."""
    model = make_vit(depth=3).double()
    for block in model.blocks:
        block.attn.q_norm = Odd(torch.sin)
    trace = tokentm.record(model, make_images(model).double(), 1)
    assert torch.isfinite(METHODS["libra_input_x_gradient"](trace).scores).all()
    with pytest.raises(UnsupportedModelError, match=r"torch\.sin\. AttnLRP cannot explain"):
        METHODS["attnlrp"](trace)


class InPlace(nn.Module):
    """A block that changes its stream in place."""

    def __init__(self, block) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = block.norm1, block.attn, block.norm2, block.mlp

    def forward(self, x):
        x = x.clone()
        x += self.attn(self.norm1(x))
        x += self.mlp(self.norm2(x))
        return x


def test_sums_in_place_have_a_rule_but_that_of_reslrp():
    a = torch.tensor([[[3.0]]]).double().requires_grad_()
    b = torch.tensor([[[-1.0]]]).double().requires_grad_()
    for rules in (LIBRA, CP_LRP, ATTN_LRP):
        with RelevancePropagation("a model", rules):
            x = a.clone()
            x += b
        assert [one.item() for one in torch.autograd.grad(x, (a, b))] == [1.0, 1.0]
    with RelevancePropagation("a model", RES_LRP):
        x = a.clone()
        x += b
    with pytest.raises(UnsupportedModelError, match=r"a model: .*found .*add_.*ResLRP cannot explain"):
        torch.autograd.grad(x, (a, b))


def test_where_all_ends_at_constants_it_is_refused():
    model = make_vit(depth=3)
    model.norm = Odd(lambda x: torch.ones_like(x) / (1 + x.square()))
    trace = tokentm.record(model, make_images(model), 0)
    for method in ("libra_input_x_gradient", "libra_generic_attention"):
        with pytest.raises(UnsupportedModelError, match=r"hands down from the score to reach the first block, found"):
            METHODS[method](trace)


def test_a_pooling_s_constant_query_takes_nothing(relative):
    model = make_vit(depth=2, global_pool="map", class_token=False).double()
    assert isinstance(model.attn_pool, AttentionPoolLatent)
    trace = tokentm.record(model, make_images(model).double(), 1)
    torch.testing.assert_close(worth(trace, ATTN_LRP), trace.scores.sum())
    assert by_rules.at_first_tokens(trace, ATTN_LRP).shape == (2, 6)
