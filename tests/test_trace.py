"""The record: what it holds is what the model did, the model is left as found, and whatever differs is refused."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest
import reference
import timm
import torch
from timm.layers import Attention, PatchEmbed
from timm.models.vision_transformer import (
    DiffParallelScalingBlock,
    ParallelScalingBlock,
    ParallelThingsBlock,
    VisionTransformer,
)
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.overrides import _get_current_function_mode_stack

import tokentm
from tokentm import InvalidTargetError, UnsupportedModelError, record


def everything_about(model: nn.Module) -> dict[str, object]:
    """Every attribute of every module (hooks and flags included) by identity, every tensor by its bits."""
    found: dict[str, object] = {}
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, dict):
                found.update({f"{path}.{key}[{k!r}]": v for k, v in value.items()})
            found[f"{path}.{key}"] = value if not isinstance(value, dict) else len(value)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        found[f"{name}: bits"] = tensor.detach().numpy().tobytes()
        found[f"{name}: writes"] = tensor._version
        found[f"{name}: requires_grad"] = tensor.requires_grad
        found[f"{name}: grad"] = tensor.grad
        found[f"{name}: grad bits"] = None if tensor.grad is None else tensor.grad.numpy().tobytes()
    shared = vars(torch_module)
    found |= {name: len(shared[name]) for name in shared if name.startswith("_global") and name.endswith("hooks")}
    found["modes"] = len(_get_current_function_mode_stack())
    found["gradients on"] = torch.is_grad_enabled()
    return found


def assert_unchanged(before: dict[str, object], model: nn.Module) -> None:
    after = everything_about(model)
    assert before.keys() == after.keys()
    plain = (bytes, int, str, float, tuple, list, type(None))
    wrong = [k for k, v in before.items() if not (v is after[k] or (isinstance(v, plain) and v == after[k]))]
    assert wrong == []


def test_logits_and_scores_are_the_model_s_own(variant, images):
    pixels = images(variant, 3)
    trace = record(variant, pixels, [4, 0, 2])
    torch.testing.assert_close(trace.logits, variant(pixels).detach())
    assert torch.equal(trace.scores, trace.logits[[0, 1, 2], [4, 0, 2]])
    assert trace.target.tolist() == [4, 0, 2]
    assert trace.image_size == (16, 24)


def test_every_quantity_equals_the_reference(variant, images, relative):
    model = variant.double()
    trace = record(model, images(model), [1, 4])
    for image, one in enumerate(reference.run(model, images(model), [1, 4])):
        assert relative(trace.logits[image], one.logits) < 1e-12
        assert relative(trace.readout[image], torch.tensor(one.readout, dtype=torch.float64)) < 1e-12
        assert relative(trace.embedding[image], one.layers[0].x) < 1e-12
        for found, layer in zip(trace.layers, one.layers, strict=True):
            transformed = torch.einsum("hnd,hDd->hnD", found.value[image], found.head_projection)
            bias = found.bias if found.bias.ndim == 1 else found.bias[image]
            for tensor, expected in (
                (found.stream[image], layer.x),
                (found.normed[image], layer.normed),
                (found.attention[image], torch.stack(layer.attention)),
                (found.gradient[image], torch.stack(layer.gradient)),
                (
                    found.output_factor[image][:, None, None] * transformed[:, None],
                    torch.stack([torch.stack(rows) for rows in layer.f]),
                ),
                (bias.expand_as(layer.x), torch.stack(layer.bias)),
                (found.attention_update[image], layer.mid - layer.x),
                (found.stream_mid[image], layer.mid),
                (found.normed_mid[image], layer.normed_mid),
                (found.ffn_update[image], layer.g),
                (found.stream_out[image], layer.out),
            ):
                assert relative(tensor, expected) < 1e-12


def test_a_block_is_mixing_plus_transformation(variant, images):
    trace = record(variant, images(variant))
    for layer in trace.layers:
        rebuilt = torch.zeros_like(layer.stream)
        for h, projection in enumerate(layer.head_projection):
            rebuilt += layer.attention[:, h] @ (layer.value[:, h] @ projection.T)
        rebuilt = layer.output_factor[..., None] * rebuilt + layer.bias
        torch.testing.assert_close(layer.stream + rebuilt, layer.stream_mid, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(layer.rebuilt_update(), rebuilt)
        torch.testing.assert_close(layer.stream_mid + layer.ffn_update, layer.stream_out)
        torch.testing.assert_close(layer.attention.sum(-1), torch.ones_like(layer.attention[..., 0]))
        assert layer.identity_error < 1e-6


@pytest.mark.parametrize(("layer", "head", "row", "column"), [(0, 0, 3, 5), (0, 1, 0, 2), (1, 1, 0, 4)])
def test_the_gradient_is_the_slope_of_the_score_along_an_attention_entry(tiny, images, layer, head, row, column):
    model = tiny().double()
    pixels = images(model, 1)
    trace = record(model, pixels, 3)
    value = trace.layers[layer].value[0, head, column]

    def score_with(change: float) -> Tensor:
        def nudge(_module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
            mixed = args[0].clone()
            mixed[0, row, head * 12 : (head + 1) * 12] += change * value
            return (mixed,)

        handle = model.blocks[layer].attn.proj.register_forward_pre_hook(nudge)
        score = model(pixels)[0, 3].detach()
        handle.remove()
        return score

    slope = (score_with(1e-5) - score_with(-1e-5)) / 2e-5
    torch.testing.assert_close(trace.layers[layer].gradient[0, head, row, column], slope, rtol=1e-6, atol=1e-9)
    assert slope.abs() > 1e-6


def test_only_the_readout_row_of_the_last_attention_has_a_gradient(tiny, images):
    last = record(tiny(), images(tiny())).layers[-1].gradient
    assert last[:, :, 0].abs().max() > 0
    assert last[:, :, 1:].abs().max() == 0


def test_shapes_and_repr(tiny, images):
    model = tiny(reg_tokens=1, num_heads=3, depth=3)
    trace = record(model, images(model))
    assert repr(trace) == "Trace(images=2, layers=3, heads=3, tokens=8 = 2 + 2 x 3)"
    assert trace.embedding is trace.layers[0].stream
    layer = trace.layers[1]
    assert layer.attention.shape == layer.gradient.shape == (2, 3, 8, 8)
    assert layer.value.shape == (2, 3, 8, 8)
    assert layer.head_projection.shape == (3, 24, 8)
    with pytest.raises(FrozenInstanceError):
        trace.logits = None
    with pytest.raises(FrozenInstanceError):
        layer.attention = None


def test_the_record_is_detached_and_shares_no_memory_with_the_model(tiny, images):
    model = tiny()
    pixels = images(model)
    trace = record(model, pixels)
    tensors = [getattr(owner, field.name) for owner in (trace, *trace.layers) for field in fields(owner)]
    tensors = [tensor for tensor in tensors if isinstance(tensor, Tensor)]
    assert len(tensors) == 5 + 2 * 14
    assert not any(tensor.requires_grad for tensor in tensors)
    kept = [tensor.clone() for tensor in tensors]
    with torch.no_grad():
        pixels.zero_()
        for parameter in model.parameters():
            parameter.zero_()
    assert all(map(torch.equal, kept, tensors))


@pytest.mark.parametrize("call", [record, tokentm.explain])
def test_the_model_is_left_as_found(variant, images, call):
    model = variant.requires_grad_(True)
    model.blocks[0].requires_grad_(False)
    model.set_grad_checkpointing()
    attention = next(module for module in model.blocks[1].modules() if hasattr(module, "fused_attn"))
    attention.fused_attn = False
    model.blocks[1].train()
    model(images(model)).sum().backward()
    pixels = images(model).requires_grad_()
    before = everything_about(model)
    call(model, pixels)
    assert_unchanged(before, model)
    assert pixels.grad is None


def test_the_check_for_changes_sees_changes(tiny):
    model = tiny()
    for spoil in (
        lambda: model.blocks[0].mlp.register_forward_hook(lambda *_: None),
        lambda: model.blocks[1].eval().train(),
        lambda: setattr(model.head, "forward", model.head.forward),
        lambda: model.head.bias.data.add_(1),
        lambda: model.head.bias.requires_grad_(False),
        lambda: setattr(model.norm.bias, "grad", torch.zeros(24)),
        lambda: setattr(model.blocks[0].attn, "fused_attn", not model.blocks[0].attn.fused_attn),
    ):
        before = everything_about(model)
        spoil()
        with pytest.raises(AssertionError):
            assert_unchanged(before, model)


class Interrupted(BaseException):
    """Not an Exception, as KeyboardInterrupt is not."""


def test_the_model_is_left_as_found_when_a_block_raises(tiny, images):
    model = tiny(depth=3)
    model.set_grad_checkpointing()
    model.blocks[2].attn.fused_attn = False

    def fail(*_: object) -> None:
        raise Interrupted

    model.blocks[1].mlp.register_forward_hook(fail)
    before = everything_about(model)
    with pytest.raises(Interrupted):
        record(model, images(model))
    assert_unchanged(before, model)


@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode])
def test_the_model_is_left_as_found_when_the_target_raises(tiny, images, grad):
    model = tiny()
    model.set_grad_checkpointing()

    def fail(_logits: Tensor) -> Tensor:
        raise Interrupted

    with grad():
        before = everything_about(model)
        with pytest.raises(Interrupted):
            record(model, images(model), fail)
        assert_unchanged(before, model)
        with pytest.raises(InvalidTargetError):
            record(model, images(model), 99)
        assert_unchanged(before, model)


def test_the_model_is_left_as_found_when_it_is_refused(tiny, images):
    model = tiny()
    model.blocks[1].attn.register_forward_hook(lambda _module, _args, output: output * 1.01)
    before = everything_about(model)
    with pytest.raises(UnsupportedModelError):
        record(model, images(model))
    assert_unchanged(before, model)


def same(first: tokentm.Trace, second: tokentm.Trace) -> bool:
    pairs = [(a.gradient, b.gradient) for a, b in zip(first.layers, second.layers, strict=True)]
    pairs += [(a.attention, b.attention) for a, b in zip(first.layers, second.layers, strict=True)]
    return all(torch.equal(a, b) for a, b in pairs) and torch.equal(first.logits, second.logits)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_any_gradient_mode_gives_the_same_record(tiny, images, mode):
    model = tiny()
    expected = record(model, images(model))
    with mode():
        inside = record(model, images(model))
        assert same(inside, expected)
        tokentm.TokenTM()(inside)
    assert not inside.logits.is_inference()


def test_how_the_model_is_set_up_does_not_change_the_record(tiny, images):
    model = tiny(depth=3)
    expected = record(model, images(model))
    assert same(record(model.requires_grad_(False), images(model)), expected)
    model.set_grad_checkpointing()
    assert same(record(model.requires_grad_(True), images(model)), expected)
    for block in model.blocks:
        block.attn.fused_attn = not block.attn.fused_attn
    assert same(record(model, images(model)), expected)
    assert same(record(model.train(), images(model)), expected)


def test_a_dynamic_image_size_is_recorded_on_the_grid_of_the_images(tiny, images, relative):
    model = tiny(dynamic_img_size=True, reg_tokens=1).double()
    for size, grid in (((40, 16), (5, 2)), ((16, 24), (2, 3)), ((8, 32), (1, 4))):
        pixels = images(model, 2, size=size)
        trace = record(model, pixels, [0, 1])
        assert (trace.layout.rows, trace.layout.columns, trace.layout.prefix) == (*grid, 2)
        assert trace.image_size == size
        expected = reference.tokentm(reference.run(model, pixels, [0, 1]))
        assert relative(tokentm.TokenTM()(trace).layer_scores, expected) < 1e-12


def test_a_user_s_hooks_run_and_stay(tiny, images):
    model = tiny()
    seen: list[str] = []
    handles = [
        model.blocks[0].register_forward_pre_hook(lambda *_: seen.append("before block")),
        model.blocks[1].attn.register_forward_hook(lambda *_: seen.append("after attention")),
        model.blocks[1].norm2.register_forward_hook(lambda *_: seen.append("after norm")),
    ]
    record(model, images(model))
    # before it the model was looked at, once for a model that does not change
    assert seen[-3:] == ["before block", "after attention", "after norm"]
    seen.clear()
    record(model, images(model))
    model(images(model))
    assert seen == ["before block", "after attention", "after norm"] * 2
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("path", ["blocks.1.attn", "blocks.1.attn.proj", "blocks.1.ls1", "blocks.1.drop_path1"])
def test_a_hook_that_alters_the_attention_output_is_refused(tiny, images, path):
    model = tiny(init_values=0.5)
    model.get_submodule(path).register_forward_hook(lambda _module, _args, output: output * 1.01)
    with pytest.raises(UnsupportedModelError) as raised:
        record(model, images(model))
    assert str(raised.value) == (
        "VisionTransformer: expected the attention output of block 1 to equal the sum of its per-head parts to 0.0001 "
        "(relative), found 0.0099. Something acts between the heads and the residual stream (a hook, a gate, a "
        "low-precision product). Run the unmodified model in float32."
    )


@pytest.mark.parametrize(("path", "part"), [("blocks.1.norm2", "attention"), ("blocks.1", "FFN")])
def test_a_hook_that_writes_to_the_stream_is_refused(tiny, images, path, part):
    model = tiny()
    if part == "attention":
        model.get_submodule(path).register_forward_pre_hook(lambda _module, args: (args[0] + 0.1,))
    else:
        model.get_submodule(path).register_forward_hook(lambda _module, _args, output: output + 0.1)
    text = rf"the {part} output alone to change the stream in block 1 .* \(a hook, an adapter\). Run the unmodified"
    with pytest.raises(UnsupportedModelError, match=text):
        record(model, images(model))


@pytest.mark.parametrize("path", ["blocks.0.mlp.fc1", "blocks.1.mlp.fc1", "head"])
def test_logits_that_are_not_finite_are_refused(tiny, images, path):
    model = tiny()
    with torch.no_grad():
        model.get_submodule(path).bias[0] = torch.nan
    with pytest.raises(
        tokentm.NotFiniteError, match=r"finite logits; .* image\(s\) \[0, 1\]\. Look for NaN in the weights"
    ):
        record(model, images(model), 1)


def test_a_low_precision_model_is_refused(tiny, images):
    model = tiny().bfloat16()
    with pytest.raises(UnsupportedModelError, match=r"block 0 .* found 0\.00.* Run the unmodified model in float32"):
        record(model, images(model))


def test_an_attention_that_is_not_softmax_of_q_and_k_is_refused(tiny, images):
    model = tiny()

    def skip_attention(x: Tensor, **_: object) -> Tensor:
        return model.blocks[1].attn.proj(x)

    model.blocks[1].attn.forward = skip_attention
    with pytest.raises(UnsupportedModelError, match="one attention in block 1, found 0"):
        record(model, images(model))


class OverlappingEmbed(PatchEmbed):
    """Stands for an embedding that nobody here knows."""


class GatedAttention(Attention):
    """Looks like timm's, and gates what the heads put out."""

    def __new__(cls, *args: object, **kwargs: object) -> Attention:
        return Attention(*args, gated=True, **kwargs)


class FusedParallelBlock(ParallelScalingBlock):
    """A block of somebody's own."""


class PatchReader(VisionTransformer):
    """Says it reads the class token, and adds a patch."""

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.head(x[:, 0] + 1e-3 * x[:, 4])


class FirstPatchReader(VisionTransformer):
    """Says it averages the patches, and reads the first."""

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.head(x[:, 0])


class PatchDropper(VisionTransformer):
    """Leaves a patch out on the way."""

    def _pos_embed(self, x: Tensor) -> Tensor:
        return super()._pos_embed(x)[:, :-1]


def test_a_head_that_reads_more_than_the_pooling_says_is_measured(tiny, images):
    model = tiny(cls=PatchReader)
    readout = record(model, images(model)).readout
    torch.testing.assert_close(readout, torch.tensor([[1, 0, 0, 0, 1e-3, 0, 0]]).expand(2, -1) / 1.001)


def test_a_head_that_reads_less_than_the_pooling_says_is_measured(tiny, images):
    model = tiny(cls=FirstPatchReader, global_pool="avg", class_token=False)
    assert record(model, images(model)).readout.tolist() == [[1, 0, 0, 0, 0, 0]] * 2


@pytest.mark.parametrize("call", [record, tokentm.explain])
def test_a_pooling_that_attends_twice_is_refused(tiny, images, call):
    model = tiny(global_pool="map", class_token=False)
    own = model.attn_pool.forward
    model.attn_pool.forward = lambda x: (own(x) + own(x)) / 2
    with pytest.raises(UnsupportedModelError, match=r"expected one attention in its pooling that agrees .* found 2"):
        call(model, images(model))


def test_a_token_count_that_does_not_fit_the_grid_is_refused(tiny, images):
    model = tiny(cls=PatchDropper)
    with pytest.raises(UnsupportedModelError, match=r"1 prefix tokens \+ 2 x 3 patches = 7 tokens in block 0, found 6"):
        record(model, images(model))


def test_a_subclass_that_changes_nothing_is_recorded(tiny, images):
    model = tiny(cls=type("Mine", (VisionTransformer,), {}))
    assert same(record(model, images(model)), record(tiny(), images(model)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("swin_tiny_patch4_window7_224", r"swin_transformer\.SwinTransformer: .*attends in shifted windows"),
        ("cait_xxs24_224", r"cait\.Cait: .*its class token enters after the patch layers"),
        ("convit_tiny", r"convit\.ConVit: .*gated with positions"),
        ("samvit_base_patch16_224", r"VisionTransformerSAM: .*attends in windows"),
        ("xcit_nano_12_p16_224", r"xcit\.Xcit: .*over channels"),
        ("levit_128s", r"levit\.LevitDistilled: .*merges tokens"),
    ],
)
def test_other_families_are_refused_by_name(name, words):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=5).eval()
    with pytest.raises(
        UnsupportedModelError,
        match=f"a column of attention and FFN blocks over one token sequence; got timm.models.*{words}",
    ):
        record(model, torch.zeros(1, 3, 224, 224))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block_fn": ParallelThingsBlock}, "block 0 to be .*found ParallelThingsBlock \\(it runs several attentions"),
        ({"block_fn": DiffParallelScalingBlock}, "found DiffParallelScalingBlock \\(differential attention"),
        ({"attn_layer": "diff"}, "softmax attention in block 0, found DiffAttention \\(differential attention"),
        ({"attn_layer": GatedAttention}, "after the heads of block 0, found a gate"),
        ({"block_fn": FusedParallelBlock}, "block 0 to be .*found FusedParallelBlock"),
        ({"embed_layer": OverlappingEmbed}, "a timm PatchEmbed or HybridEmbed, found OverlappingEmbed"),
    ],
    ids=str,
)
def test_other_kinds_of_vision_transformer_are_refused_with_what_differs(tiny, images, options, words):
    model = tiny(**options)
    with pytest.raises(
        UnsupportedModelError, match=f"^VisionTransformer is not supported: .*{words}.* Supported are timm's"
    ):
        record(model, images(model))


@pytest.mark.parametrize("pooling", ["max", "avgmax"])
def test_any_pooling_is_read_as_its_gradient_says(tiny, images, pooling):
    model = tiny(global_pool=pooling)
    given = images(model)
    trace = record(model, given, 1)
    final = model.forward_features(given).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.forward_head(final)[:, 1].sum(), final)
    torch.testing.assert_close(trace.readout, gradient.norm(dim=2) / gradient.norm(dim=2).sum(1, keepdim=True))


def test_a_model_that_returns_tokens_is_refused(tiny, images):
    model = tiny(global_pool="")
    with pytest.raises(UnsupportedModelError, match=r"expected logits \(batch, classes\), found shape \(2, 7, 5\)"):
        record(model, images(model))


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"drop_rate": 0.1}, r"'head_drop' \(Dropout\)"),
        ({"proj_drop_rate": 0.1}, r"'blocks\.0\.attn\.proj_drop' \(Dropout\)"),
        ({"drop_path_rate": 0.1}, r"'blocks\.1\.drop_path1' \(DropPath\)"),
        ({"patch_drop_rate": 0.5}, r"'patch_drop' \(PatchDropout\)"),
    ],
    ids=str,
)
def test_training_mode_with_anything_random_is_refused(tiny, images, options, path):
    model = tiny(train=True, **options)
    with pytest.raises(UnsupportedModelError, match=rf"{path} drops parts at random .* Call model\.eval\(\) first\."):
        record(model, images(model))
    assert model.training
    record(model.eval(), images(model))


def test_a_target_without_gradient_is_refused(tiny, images):
    model = tiny()
    for target in (lambda logits: logits[:, 0].detach(), lambda logits: logits.argmax(1).float()):
        with pytest.raises(InvalidTargetError, match=r"carry no gradient\. Avoid detach\(\), item\(\) and argmax"):
            record(model, images(model), target)


def test_a_score_that_depends_on_no_token_is_refused(tiny, images):
    model = tiny()
    with torch.no_grad():
        model.head.weight[2] = 0
    with pytest.raises(
        InvalidTargetError, match=r"gradient at the final tokens is zero everywhere\. Look at the target"
    ):
        record(model, images(model), 2)
    record(model, images(model), 1)


def test_one_image_without_a_score_is_named(tiny, images):
    model = tiny()
    with pytest.raises(
        InvalidTargetError, match=r"for image\(s\) \[1\] of the batch the gradient at the final tokens is zero"
    ):
        record(model, images(model, 3), lambda logits: logits[:, 0] * torch.tensor([1.0, 0.0, 1.0]))


def test_a_distilled_model_that_returns_two_heads_is_refused(tiny, images):
    model = tiny(distilled=True, train=True)
    model.set_distilled_training()
    with pytest.raises(UnsupportedModelError, match=r"logits \(batch, classes\), found tuple\. .*call model\.eval\(\)"):
        record(model, images(model))
    record(model.eval(), images(model))


def test_parameters_made_in_inference_mode_are_refused(tiny, images):
    with torch.inference_mode():
        model = tiny()
    with pytest.raises(
        UnsupportedModelError, match=r"some made under torch\.inference_mode\(\)\. Create or load the model"
    ):
        record(model, images(model))


def test_a_target_function_contrasts_two_classes(tiny, images, relative):
    model = tiny().double()
    contrast = record(model, images(model), lambda logits: logits[:, 1] - logits[:, 3])
    first, second = (record(model, images(model), target) for target in (1, 3))
    assert contrast.target is None
    assert relative(contrast.scores, first.scores - second.scores) < 1e-12
    for layer, one, other in zip(contrast.layers, first.layers, second.layers, strict=True):
        assert relative(layer.gradient, one.gradient - other.gradient) < 1e-12


def test_a_hook_between_two_blocks_is_refused(tiny, images):
    model = tiny(depth=3)
    model.blocks[2].register_forward_pre_hook(lambda _module, args: (args[0] + 0.01,))
    with pytest.raises(UnsupportedModelError, match=r"expected block 2 to read what block 1 wrote, .* \(a hook"):
        record(model, images(model))


def test_a_compiled_model_is_refused_before_anything_runs(tiny, images):
    model = tiny()
    model.blocks[1].compile()
    with pytest.raises(UnsupportedModelError, match=r"expected an uncompiled .*model\.compile\(\)"):
        record(model, images(model))


def test_records_and_explanations_can_be_compared(tiny, images):
    model = tiny()
    one, other = record(model, images(model)), record(model, images(model))
    assert one == one
    assert one != other
    assert tokentm.TokenTM()(one) != tokentm.TokenTM()(one)
