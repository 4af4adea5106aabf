"""The streaming form: the full form's numbers for every family, its refusals, and none of its matrices."""

from __future__ import annotations

import gc
import weakref
from itertools import product

import pytest
import torch
from test_families import each_family, input_of, of_torchvision, spread
from test_trace import assert_unchanged, everything_about
from timm.models.vision_transformer import Attention
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import tokentm
from tokentm import TokenTM, descent, run, steadiness, streaming
from tokentm.attention import Backward, Fused, parts

CLASS_SPECIFIC = [True, False]
SWITCHES = {
    "length": [True, False],
    "direction": [True, False],
    "ffn": [True, False],
    "initialise": [True, False],
    "gradient": [True, False],
    "normaliser": ["sum", "mean"],
    "transformed": ["head", "sum", "stream"],
    "reference": ["stream", "normed"],
}
READINGS = [dict(zip(SWITCHES, values, strict=True)) for values in product(*SWITCHES.values())]


@each_family
@pytest.mark.parametrize("gradient", CLASS_SPECIFIC, ids=["class-specific", "class-agnostic"])
def test_every_family_streams_to_the_full_form(build, prefix, gradient, relative):
    model = spread(build())
    images = input_of(model)
    method = TokenTM(gradient=gradient)
    full = method(tokentm.record(model, images, [2, 0]))
    streamed = tokentm.explain(model, images, [2, 0], method)
    assert relative(streamed.scores, full.scores) < 1e-5
    assert (streamed.grid, streamed.image_size, streamed.method) == (full.grid, full.image_size, full.method)
    torch.testing.assert_close(streamed.logits, full.logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(streamed.target, full.target)
    assert streamed.layer_scores.shape == (2, 0, full.scores.shape[1])


def test_every_kind_streams_to_the_full_form(variant, images, relative):
    model = variant.double()
    for gradient in CLASS_SPECIFIC:
        method = TokenTM(gradient=gradient)
        full = method(tokentm.record(model, images(model), [3, 0]))
        assert relative(tokentm.explain(model, images(model), [3, 0], method).scores, full.scores) < 1e-12


def test_every_reading_streams_to_the_full_form(tiny, images, relative):
    model = tiny(depth=3, scale_attn_norm=True, init_values=0.5).double()
    trace = tokentm.record(model, images(model), [3, 0])
    for reading in READINGS[::5]:  # 5 shares no factor with the numbers of values: every pair of values occurs
        method = TokenTM(**reading)
        assert method.stream is not None
        found = tokentm.explain(model, images(model), [3, 0], method).scores
        assert relative(found, method(trace).scores) < 1e-12, reading


def test_what_does_not_stream_takes_the_full_form(tiny, images, relative):
    model = tiny().double()
    before = TokenTM(head_mean="before")
    assert before.stream is None
    assert [name for name, method in tokentm.methods.METHODS.items() if method.stream is not None] == ["tokentm"]
    full = before(tokentm.record(model, images(model), 1))
    assert relative(tokentm.explain(model, images(model), 1, before).scores, full.scores) == 0
    rollout = tokentm.explain(model, images(model), method="rollout")
    assert rollout.layer_scores.shape[1] == 2


@pytest.mark.parametrize("budget", [1, 3000, 2**30])
def test_parts_of_a_layer_add_up(tiny, images, relative, budget):
    model = tiny(depth=3).double()
    full = TokenTM()(tokentm.record(model, images(model), [3, 0]))
    found = streaming.explain(run.subject(model, images(model)), [3, 0], TokenTM(), budget=budget)
    assert relative(found.scores, full.scores) < 1e-12


class Watch(TorchFunctionMode):
    """Counts forward attentions, and notes the largest tensor that any function returns."""

    def __init__(self) -> None:
        super().__init__()
        self.attentions = self.largest = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.attentions += func is F.scaled_dot_product_attention
        made = func(*args, **kwargs or {})
        if isinstance(made, torch.Tensor) and made.is_floating_point():
            self.largest = max(self.largest, made.numel())
        return made


def test_many_targets_of_one_image_share_the_forward_pass(tiny, images, relative):
    model = tiny(depth=3).double()
    one = images(model, 1).expand(4, -1, -1, -1)
    targets = [3, 0, 3, 1]
    tokentm.explain(model, one, targets)  # where its tokens look has been measured
    with Watch() as watch:
        shared = tokentm.explain(model, one, targets)
    assert watch.attentions == 3
    runs = []
    handle = model.blocks[1].register_forward_pre_hook(lambda _module, args: runs.append(len(args[0])))
    tokentm.explain(model, one, targets)  # a model with another hook is looked at again
    runs.clear()
    tokentm.explain(model, one, targets)
    handle.remove()
    assert runs == [1]
    full = TokenTM()(tokentm.record(model, one.contiguous(), targets))
    assert relative(shared.scores, full.scores) < 1e-12
    assert shared.logits.shape == (4, 5)
    assert torch.equal(shared.target, full.target)
    agnostic = TokenTM(gradient=False)
    full = agnostic(tokentm.record(model, one.contiguous(), targets))
    assert relative(tokentm.explain(model, one, targets, agnostic).scores, full.scores) < 1e-12

    def difference(logits):
        return logits[:, 3] - logits[:, 0]

    contrast = tokentm.explain(model, one, difference)
    assert relative(contrast.scores, TokenTM()(tokentm.record(model, one.contiguous(), difference)).scores) < 1e-12
    assert contrast.target is None


def test_no_parameter_and_nothing_below_the_first_attention_is_differentiated(tiny, images, monkeypatch):
    model = tiny(depth=3)
    asked = []
    grad = torch.autograd.grad

    def watched(outputs, inputs, **options):
        asked.append((outputs, inputs))
        return grad(outputs, inputs, **options)

    monkeypatch.setattr(torch.autograd, "grad", watched)
    seen = []
    handles = [
        module.register_forward_hook(lambda m, a, o: seen.append((m, o.requires_grad))) for module in model.modules()
    ]
    tokentm.explain(model, images(model), 0)
    for handle in handles:
        handle.remove()
    score, node = asked[-1]  # before it, the model was looked at
    assert node.is_leaf
    assert node.shape == (2, 2, 7, 12)  # what the heads of the first block put out
    below = {model.patch_embed, model.pos_drop, model.blocks[0].norm1, model.blocks[0].attn.qkv}
    assert {m for m, needs in seen if not needs} >= below
    leaves, stack, known = set(), [score.grad_fn], set()
    while stack:
        function = stack.pop()
        if function is None or function in known:
            continue
        known.add(function)
        if hasattr(function, "variable"):
            leaves.add(function.variable)
        stack += [next_one for next_one, _ in function.next_functions]
    assert leaves == {node}


def test_one_layers_matrix_is_the_largest_thing(tiny, images):
    """A long sequence: of all that Python code makes, one layer's attention is the largest, and with a budget not even
    that is made."""
    model = tiny(img_size=(128, 192), patch_size=8, depth=3)
    tokens = 16 * 24 + 1
    one_layer = 2 * tokens**2
    attended = descent.attended

    def within(*given):  # where autograd calls back, no function mode is active
        with watch:
            return attended(*given)

    with pytest.MonkeyPatch.context() as patch, Watch() as watch:
        patch.setattr(descent, "attended", within)
        patch.setattr(steadiness, "check_steady", lambda given: None)
        tokentm.explain(model, images(model, 1), 0)
    assert watch.largest == one_layer
    made = []
    weights = descent.Fused.weights

    def watched(self):
        made.append(weights(self))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(descent.Fused, "weights", watched)
        patch.setattr(steadiness, "check_steady", lambda given: None)
        streaming.explain(run.subject(model, images(model, 3)), 0, TokenTM(), budget=2 * one_layer)
    assert max(one.numel() for one in made) <= one_layer // 4
    assert made[0].shape[2] == 1  # at the top only the class token is read


def test_the_pieces_are_let_go_as_the_gradient_passes(tiny, images, monkeypatch):
    model = tiny(depth=4)
    held = []
    attended = descent.attended

    def watched(row, fused, *rest):
        held.append(sum(one.fused is not None for one in stores))
        return attended(row, fused, *rest)

    def noted(block, store, *rest):
        stores.append(store)
        return observe(block, store, *rest)

    stores = []
    observe = run.observe
    monkeypatch.setattr(steadiness, "check_steady", lambda given: None)
    monkeypatch.setattr(descent, "attended", watched)
    monkeypatch.setattr(run, "observe", noted)
    tokentm.explain(model, images(model), 0)
    assert held == [4, 3, 2, 1]
    assert all(one.fused is None and not one.value and not any(one.inputs.values()) for one in stores)


def test_nothing_is_held_in_circles(tiny, images, monkeypatch):
    """What a pass showed is gone with the call, and does not wait for the garbage collector."""
    held = []
    observe = run.observe

    def watched(block, store, *rest):
        held.extend((weakref.ref(store), weakref.ref(store.fused.mixed)))
        return observe(block, store, *rest)

    monkeypatch.setattr(run, "observe", watched)
    monkeypatch.setattr(steadiness, "check_steady", lambda given: None)
    model, given = tiny(depth=3), images(tiny())
    gc.collect()
    gc.disable()
    try:
        tokentm.explain(model, given, 0)
        left = [one() for one in held]
    finally:
        gc.enable()
    assert left == [None] * 6


# ---- the backward pass of a fused attention ----

MASKS = {
    "no mask": None,
    "added": torch.randn(1, 3, 11, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
    "for each image": torch.randn(2, 1, 1, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
    "boolean": torch.ones(11, 11).tril().bool(),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("rows", [slice(0, 11), slice(2, 3), torch.tensor([0, 1, 9])], ids=["all", "one", "some"])
@pytest.mark.parametrize("at_once", [0, 1, 7, 24, 1000])
def test_gradients_are_those_of_autograd(mask, rows, at_once, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, shape: self.new_full(shape, torch.nan))
    made = torch.randn(3, 2, 11, 3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    query, key, value = made.transpose(2, 3)  # strided, as models have them
    gradient = torch.zeros(2, 3, 11, 5, dtype=torch.float64)
    gradient[:, :, rows] = torch.rand(2, 3, 11, 5, generator=torch.Generator().manual_seed(3)).double()[:, :, rows]
    asked = [one.clone().requires_grad_() for one in (query, key, value)]
    mixed = F.scaled_dot_product_attention(*asked, attn_mask=mask, scale=0.7)
    expected = torch.autograd.grad(mixed, asked, gradient)
    full = None if mask is None else mask.expand(2, 3, 11, 11)
    fused = Fused(query, key, value, full, 0.7, mixed.detach()).contiguous().at(rows)
    reached = gradient[:, :, rows].unsqueeze(3)  # of one score
    backward = Backward(fused, reached)
    for part in parts(2, 3, fused.query.shape[2], at_once):
        attention = fused.part(part).weights()
        assert attention.shape[:3].numel() <= max(1, at_once)
        product = attention.unsqueeze(3) * (reached[part] @ value[part[:2]].transpose(-2, -1).unsqueeze(2))
        backward.add(part, attention, product)
    for found, wanted in zip(backward.gradients(rows), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_tokens_that_the_row_leaves_out_pass_the_gradient_on(tiny, images, relative):
    """Where G is negative in all heads, a token takes no part in the row, but the layers below still hear of it."""
    model = tiny(depth=3, num_heads=1).double()
    one = images(model, 1)
    trace = tokentm.record(model, one, 1)
    assert (list(TokenTM().steps(trace))[-1].mixing[0, 0, 1:] == 0).any()
    full = TokenTM()(trace)
    assert relative(tokentm.explain(model, one, 1).scores, full.scores) < 1e-12


# ---- what record refuses, explain refuses with the same words ----


class Gated(Attention):
    """Attention that is not softmax of q and k: every output token is scaled."""

    def forward(self, x, *args, **kwargs):
        return super().forward(x, *args, **kwargs) * (1 + torch.arange(x.shape[1]).to(x)[:, None])


def altered(path, change):
    def sabotage(model):
        model.get_submodule(path).register_forward_hook(lambda _module, _args, output: change(output))

    return sabotage


def gated(model):
    model.blocks[1].attn.__class__ = Gated


def prompted(model):
    model.blocks[1].register_forward_pre_hook(lambda _module, args: (args[0] + 0.1,))


def reads_more(model):
    model.pool = lambda x, *_, **__: x.mean(1)


def attends_twice(model):
    attention = model.blocks[1].attn
    own = attention.forward
    attention.forward = lambda x, **options: (own(x, **options) + own(x, **options)) / 2


def drops_a_patch(model):
    own = model._pos_embed
    model._pos_embed = lambda x: own(x)[:, :-1]


def headless(model):
    nn.init.zeros_(model.head.weight)


SABOTAGE = {
    "attention output": altered("blocks.1.attn", lambda output: output * 1.01),
    "projection": altered("blocks.0.attn.proj", lambda output: output + 0.01),
    "stream after attention": altered("blocks.1.norm2", lambda output: output),
    "stream after the block": altered("blocks.1", lambda output: output + 0.01),
    "first block": altered("blocks.0", lambda output: output * 1.001),
    "between blocks": prompted,
    "not softmax": gated,
    "another readout": reads_more,
    "no score": headless,
    "two attentions": attends_twice,
    "one patch less": drops_a_patch,
    "a stream without gradient": altered("blocks.1", lambda output: output.detach()),
    "a first attention without gradient": altered("blocks.0.attn", lambda output: output.detach()),
    "not finite": altered("blocks.0.mlp.fc1", lambda output: output * torch.nan),
}


@pytest.mark.parametrize("sabotage", SABOTAGE.values(), ids=SABOTAGE.keys())
@pytest.mark.parametrize("trained", [True, False])
def test_refused_alike(tiny, images, sabotage, trained):
    model = tiny(depth=3).requires_grad_(trained)
    sabotage(model)
    outcomes = []
    for call in (tokentm.record, tokentm.explain):
        before = everything_about(model)
        try:
            call(model, images(model), 0)
            outcomes.append(None)
        except tokentm.TokenTMError as error:
            words = [word for word in str(error).split() if not any(letter.isdigit() for letter in word)]
            outcomes.append((type(error), words))
        assert_unchanged(before, model)
    assert outcomes[0] == outcomes[1]


def test_a_packed_attention_that_is_not_rebuilt_is_refused_alike():
    """torchvision's attention projects, attends and projects in one function; here it does a little more."""
    model = spread(of_torchvision())
    for call in (tokentm.record, tokentm.explain):
        call(model, input_of(model), 0)
    model.encoder.layers[1].self_attention.add_zero_attn = True
    for call in (tokentm.record, tokentm.explain):
        with pytest.raises(tokentm.UnsupportedModelError, match="one attention in block 1, found 0"):
            call(model, input_of(model), 0)


def test_some_of_the_sabotage_is_refused(tiny, images):
    for name in set(SABOTAGE) - {"stream after attention", "another readout"}:
        model = tiny(depth=3)
        SABOTAGE[name](model)
        with pytest.raises(tokentm.TokenTMError):
            tokentm.explain(model, images(model), 0)


def test_a_target_without_gradient_is_refused_alike(tiny, images):
    model = tiny()
    for call in (tokentm.record, tokentm.explain):
        with pytest.raises(tokentm.InvalidTargetError, match="carry no gradient"):
            call(model, images(model), lambda logits: logits[:, 0].detach())


def test_a_map_that_overflows_is_refused_alike(tiny, images):
    model = tiny(depth=3)
    for call in (lambda *given: TokenTM()(tokentm.record(*given)), tokentm.explain):
        with pytest.raises(tokentm.NotFiniteError, match="tokentm"):
            call(model, images(model), lambda logits: logits[:, 0] * 1e30)


def test_an_attention_that_is_not_what_it_was_given_is_refused(tiny, images, monkeypatch):
    """The recomputed weights must mix values to what the model's own fused function returned."""
    model = tiny(depth=3)
    weights = descent.Fused.weights
    monkeypatch.setattr(descent.Fused, "weights", lambda self: weights(self).roll(1, -1))
    with pytest.raises(
        tokentm.UnsupportedModelError, match="expected the attention output of block 2 to equal the sum"
    ):
        tokentm.explain(model, images(model), 0)


def test_a_mask_counts(tiny, images, relative, monkeypatch):
    """Additive and boolean masks, as some families give to the fused function."""
    for check in ("check_steady", "check_unmixed"):  # which run one image alone, for which some masks are not made
        monkeypatch.setattr(steadiness, check, lambda given: None)
    for mask in (torch.randn(7, 7), torch.ones(7, 7).tril().bool(), torch.randn(2, 7, 7), torch.randn(2, 1, 7, 7)):
        model = tiny(depth=3)
        for block in model.blocks:
            forward = block.attn.forward
            block.attn.forward = lambda x, forward=forward, mask=mask, **_: forward(x, attn_mask=mask)
        full = TokenTM()(tokentm.record(model, images(model), 1))
        assert relative(tokentm.explain(model, images(model), 1).scores, full.scores) < 1e-5


def test_a_mask_that_depends_on_the_image_is_refused(tiny, images):
    model = tiny(depth=3)
    forward = model.blocks[1].attn.forward
    model.blocks[1].attn.forward = lambda x, **_: forward(x, attn_mask=x[:, None, :, :7].tanh())
    tokentm.record(model, images(model), 1)
    with pytest.raises(tokentm.UnsupportedModelError, match=r"mask in block 1 that does not depend.*tokentm.record"):
        tokentm.explain(model, images(model), 1)


def test_images_of_a_batch_do_not_mix(tiny, images, relative):
    model = tiny(depth=3).double()
    batch = images(model, 3)
    together = tokentm.explain(model, batch, [0, 1, 2]).scores
    for i in range(3):
        assert relative(tokentm.explain(model, batch[i : i + 1], i).scores, together[i : i + 1]) < 1e-12


@pytest.mark.parametrize("layer", [1, 2])
def test_a_layer_that_the_gradient_does_not_reach_mixes_nothing(tiny, images, relative, layer):
    """In both forms; its FFN counts."""
    model = tiny(depth=3).double()
    model.blocks[layer].attn.register_forward_hook(lambda _module, _args, output: output.detach())
    full = TokenTM()(tokentm.record(model, images(model), 0)).scores
    assert relative(tokentm.explain(model, images(model), 0).scores, full) < 1e-12


def test_heads_that_share_keys_are_refused_alike(tiny, images):
    model = tiny(depth=3)
    attention = model.blocks[1].attn
    own = F.scaled_dot_product_attention

    def shared(x, **_):
        query, key, value = attention.qkv(x).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        return attention.proj(own(query, key[:, :1], value[:, :1]).transpose(1, 2).flatten(2))

    attention.forward = shared
    for call in (tokentm.record, tokentm.explain):
        with pytest.raises(tokentm.UnsupportedModelError, match="one attention in block 1, found 0"):
            call(model, images(model), 0)


def test_what_changes_one_token_alone_is_refused_alike(tiny, images):
    for name in ("blocks.1.attn", "blocks.1"):
        model = tiny(depth=3, img_size=(80, 80), patch_size=8)  # 100 patches
        model.get_submodule(name).register_forward_hook(
            lambda _module, _args, made: torch.cat((made[:, :50], 1.5 * made[:, 50:51], made[:, 51:]), 1)
        )
        for call in (tokentm.record, tokentm.explain):
            with pytest.raises(tokentm.UnsupportedModelError, match=r"block [12]"):
                call(model, images(model), 0)
