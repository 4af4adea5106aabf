"""Every family of flat Vision Transformer, tiny: the record is right, the map lies on the patches, nothing stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from test_trace import Interrupted, assert_unchanged, everything_about, same
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import ParallelScalingBlock, ResPostBlock, VisionTransformer
from timm.models.vision_transformer_relpos import ResPostRelPosBlock, VisionTransformerRelPos
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionTransformer

import tokentm
from tokentm import InvalidTargetError, TokenTM, UnsupportedModelError, record

transformers = pytest.importorskip("transformers")

SMALL = {"img_size": (32, 48), "patch_size": 16, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 5}
ROTARY = {"use_rot_pos_emb": True, "swiglu_mlp": True, "attn_type": "rope", "embed_dim": 32}


def hybrid() -> VisionTransformer:
    options = {"img_size": (64, 96), "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 5}
    return timm.create_model("vit_tiny_r_s16_p8_224", **options)


def of_torchvision(**options: object) -> nn.Module:
    sizes = {"image_size": 48, "patch_size": 16, "num_layers": 3, "num_heads": 2, "hidden_dim": 24, "mlp_dim": 48}
    return TorchvisionTransformer(**sizes, num_classes=5, **options)


def of_transformers(kind: str, **options: object) -> nn.Module:
    sizes = {"image_size": 48, "patch_size": 16, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = getattr(transformers, kind.split("For")[0] + "Config")
    return getattr(transformers, kind)(config(**sizes, intermediate_size=48, **{"num_labels": 5, **options}))


FAMILIES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "plain": (lambda: VisionTransformer(**SMALL), 1),
    "post-norm": (lambda: VisionTransformer(**SMALL, block_fn=ResPostBlock), 1),
    "parallel": (lambda: VisionTransformer(**SMALL, block_fn=ParallelScalingBlock, init_values=0.3), 1),
    "SigLIP-like": (lambda: VisionTransformer(**SMALL, class_token=False, global_pool="map"), 0),
    "refined patches": (lambda: VisionTransformer(**SMALL, global_pool="prr"), 1),
    "refined patches, average": (lambda: VisionTransformer(**SMALL, class_token=False, global_pool="prr"), 0),
    "beit": (lambda: Beit(**SMALL, use_rel_pos_bias=True, use_abs_pos_emb=False, init_values=0.3), 1),
    "beit, shared bias": (lambda: Beit(**SMALL, use_shared_rel_pos_bias=True, swiglu_mlp=True, scale_mlp=True), 1),
    "eva": (lambda: Eva(**SMALL, init_values=0.3), 1),
    "eva02": (lambda: Eva(**SMALL | ROTARY, scale_mlp=True, scale_attn_inner=True, qkv_fused=False), 1),
    "eva, post-norm": (lambda: Eva(**SMALL, use_post_norm=True, global_pool="token"), 1),
    "eva, attention pooling": (lambda: Eva(**SMALL, global_pool="map", class_token=False), 0),
    "dinov3": (
        lambda: Eva(**SMALL | ROTARY, rope_type="dinov3", num_reg_tokens=4, no_embed_class=True, use_abs_pos_emb=False,
                    init_values=0.3, global_pool="token", dynamic_img_size=True),
        5,
    ),
    "mixed rotary": (lambda: Eva(**SMALL | ROTARY, rope_type="mixed", no_embed_class=True), 1),
    "grouped queries": (lambda: Eva(**SMALL | ROTARY | {"num_heads": 4}, num_kv_heads=2, qkv_fused=False), 1),
    "relpos": (lambda: VisionTransformerRelPos(**SMALL, rel_pos_type="bias", class_token=True, init_values=0.3), 1),
    "relpos, shared": (lambda: VisionTransformerRelPos(**SMALL, shared_rel_pos=True, fc_norm=True, rel_pos_dim=8), 0),
    "relpos, post-norm": (lambda: VisionTransformerRelPos(**SMALL, block_fn=ResPostRelPosBlock, rel_pos_dim=8), 0),
    "hybrid": (hybrid, 1),
    "torchvision": (of_torchvision, 1),
    "Hugging Face ViT": (lambda: of_transformers("ViTForImageClassification"), 1),
    "Hugging Face DeiT": (lambda: of_transformers("DeiTForImageClassification"), 2),
    "Hugging Face DeiT, distilled": (lambda: of_transformers("DeiTForImageClassificationWithTeacher"), 2),
    "Hugging Face DINOv2": (lambda: of_transformers("Dinov2ForImageClassification", use_swiglu_ffn=True), 1),
    "Hugging Face DINOv2, registers": (lambda: of_transformers("Dinov2WithRegistersForImageClassification"), 5),
}  # fmt: skip
each_family = pytest.mark.parametrize(("build", "prefix"), FAMILIES.values(), ids=FAMILIES.keys())


def spread(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and biases of noticeable size everywhere, so that nothing hides behind an initial 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scales = any(part in name for part in ("norm", "gamma", ".ls", "ln_", "lambda")) and not name.endswith(
                "bias"
            )
            scale = 0.1 if "backbone" in name else 0.3
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale + (1.0 if scales else 0.0))
    return model.eval()


def pixels(count: int = 2, size: tuple[int, int] = (32, 48), seed: int = 1) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def input_of(model: nn.Module, count: int = 2) -> Tensor:
    timm_size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    return pixels(count, timm_size or (48, 48))


def blocks_of(model: nn.Module) -> tuple[nn.Module, ...]:
    return tuple(block.module for block in tokentm.vit.inspect(model).blocks)


def logits_of(output: object) -> Tensor:
    return output if isinstance(output, Tensor) else output.logits


def place(model: nn.Module, images: Tensor, row: int, column: int, patch: int = 16) -> int:
    """Index of the token that a change of one patch's pixels moves most."""
    changed = images.clone()
    changed[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] += 5
    moved = record(model, changed, 0).embedding - record(model, images, 0).embedding
    return int(moved.norm(dim=-1)[0].argmax())


@each_family
def test_the_record_is_the_model_s_own(build, prefix):
    model = spread(build()).double()
    images = input_of(model).double()
    trace = record(model, images, 2)
    torch.testing.assert_close(trace.logits, logits_of(model(images)).detach(), rtol=1e-9, atol=1e-12)
    grid = tuple(trace.image_size[i] // tokentm.vit.inspect(model).patch[i] for i in (0, 1))
    assert (trace.layout.prefix, trace.layout.rows, trace.layout.columns) == (prefix, *grid)
    for layer in trace.layers:
        assert layer.identity_error < 1e-12
        torch.testing.assert_close(layer.stream + layer.rebuilt_update(), layer.stream_mid)
        torch.testing.assert_close(layer.stream_mid + layer.ffn_update, layer.stream_out)
        torch.testing.assert_close(layer.attention.sum(-1), torch.ones_like(layer.attention[..., 0]))
    torch.testing.assert_close(trace.readout.sum(1), torch.ones_like(trace.readout[:, 0]))
    assert TokenTM()(trace).scores.shape == (2, trace.layout.rows * trace.layout.columns)


@each_family
def test_the_gradient_predicts_what_a_change_of_an_attention_weight_does(build, prefix):
    """Scores linear in one attention entry near the record: the model itself, called with that entry changed."""
    model = spread(build()).double()
    images = input_of(model, 1).double()
    trace = record(model, images, 3)
    layer, head, row, column = 1, 1, 0, trace.layout.tokens - 1
    fused = torch.nn.functional.scaled_dot_product_attention

    def score_with(change: float) -> Tensor:
        calls = iter(range(100))

        def changed(query: Tensor, key: Tensor, value: Tensor, *more: object, **options: object) -> Tensor:
            mixed = fused(query, key, value, *more, **options)
            if next(calls) == layer:
                mixed = mixed.clone()
                mixed[0, head, row] += change * value[0, head, column]
            return mixed

        torch.nn.functional.scaled_dot_product_attention = changed
        try:
            return logits_of(model(images))[0, 3].detach()
        finally:
            torch.nn.functional.scaled_dot_product_attention = fused

    slope = (score_with(1e-5) - score_with(-1e-5)) / 2e-5
    torch.testing.assert_close(trace.layers[layer].gradient[0, head, row, column], slope, rtol=1e-5, atol=1e-9)


@each_family
def test_the_model_is_left_as_found(build, prefix):
    model = spread(build())
    for module in blocks_of(model)[1].modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    if hasattr(model, "set_grad_checkpointing"):
        model.set_grad_checkpointing()
    elif hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable()
    logits_of(model(input_of(model))).sum().backward()
    before = everything_about(model)
    tokentm.explain(model, input_of(model), 1)
    assert_unchanged(before, model)


@each_family
def test_the_model_is_left_as_found_when_the_middle_block_raises(build, prefix):
    model = spread(build())

    def fail(*_: object) -> None:
        raise Interrupted

    *_, last = (module for module in blocks_of(model)[1].modules() if isinstance(module, nn.Linear))
    last.register_forward_hook(fail)
    before = everything_about(model)
    with pytest.raises(Interrupted):
        record(model, input_of(model), 1)
    assert_unchanged(before, model)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "hybrid"])
def test_a_patch_of_the_picture_is_the_token_at_its_place_in_the_grid(name):
    build, prefix = FAMILIES[name]
    model = spread(build())
    for row, column in ((0, 0), (0, 2), (1, 0), (1, 1)):
        assert place(model, input_of(model, 1), row, column) == prefix + row * 3 + column


def test_a_hybrid_s_grid_is_that_of_its_features():
    model = timm.create_model("vit_tiny_r_s16_p8_224", img_size=(128, 96), depth=2, num_classes=5).eval()
    trace = record(model, pixels(1, (128, 96)), 0)
    assert trace.layout == tokentm.vit.Layout(1, 4, 3)
    for row, column in ((0, 0), (2, 1), (3, 2)):
        assert place(model, pixels(1, (128, 96)), row, column, patch=32) == 1 + row * 3 + column


@pytest.mark.parametrize("cls", [VisionTransformer, Eva], ids=lambda cls: cls.__name__)
def test_an_image_of_320_by_224_gives_a_map_of_20_by_14(cls):
    model = spread(cls(**SMALL | {"img_size": 224}, dynamic_img_size=True))
    explanation = tokentm.explain(model, pixels(1, (320, 224)), 0)
    assert explanation.grid == (20, 14)
    assert explanation.heatmap().shape == (1, 320, 224)
    for row, column in ((19, 0), (0, 13), (7, 9)):
        assert place(model, pixels(1, (320, 224)), row, column) == 1 + row * 14 + column


POSITIONED: dict[str, Callable[[], nn.Module]] = {
    "registers": lambda: VisionTransformer(**SMALL, reg_tokens=4, no_embed_class=True),
    "distilled": lambda: timm.models.deit.VisionTransformerDistilled(**SMALL),
    "average": lambda: VisionTransformer(**SMALL, class_token=False, global_pool="avg"),
    "SigLIP-like": FAMILIES["SigLIP-like"][0],
    "post-norm": FAMILIES["post-norm"][0],
    "norm after the heads": lambda: Eva(**SMALL, scale_attn_inner=True),
    "parallel": FAMILIES["parallel"][0],
}


@pytest.mark.parametrize("build", POSITIONED.values(), ids=POSITIONED.keys())
@pytest.mark.parametrize("method", [name for name in tokentm.methods.METHODS if name != "random"])
def test_patches_and_positions_permuted_together_permute_the_map(build, method):
    model, images = spread(build()).double(), pixels().double()
    found = tokentm.explain(model, images, 2, method)
    order = torch.tensor([4, 0, 3, 5, 1, 2])
    patches = images.unfold(2, 16, 16).unfold(3, 16, 16).reshape(2, 3, 6, 16, 16)[:, :, order]
    permuted = patches.reshape(2, 3, 2, 3, 16, 16).permute(0, 1, 2, 4, 3, 5).reshape(2, 3, 32, 48)
    prefix = model.pos_embed.shape[1] - 6
    with torch.no_grad():
        model.pos_embed[:, prefix:] = model.pos_embed[:, prefix:][:, order]
    moved = tokentm.explain(model, permuted, 2, method)
    torch.testing.assert_close(moved.logits, found.logits)
    torch.testing.assert_close(moved.scores, found.scores[:, order])
    assert (moved.scores - found.scores).abs().max() > 1e-3 * found.scores.abs().max()


@pytest.mark.parametrize("pool", ["SigLIP-like", "eva, attention pooling", "refined patches"])
def test_the_readout_of_attention_pooling_is_its_own_attention(pool):
    model, images = spread(FAMILIES[pool][0]()), pixels()
    seen: list[Tensor] = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def watch(query: Tensor, key: Tensor, value: Tensor, **options: object) -> Tensor:
        width = query.shape[-1]
        seen.append((query @ key.mT / width**0.5).softmax(-1))
        return fused(query, key, value, **options)

    torch.nn.functional.scaled_dot_product_attention = watch
    try:
        model(images)
    finally:
        torch.nn.functional.scaled_dot_product_attention = fused
    expected = seen[-1].mean(1)[:, 0].detach()
    torch.testing.assert_close(record(model, images).readout, expected)
    assert expected.std() > 1e-3


def test_a_model_without_classes_is_explained_by_a_function_of_its_features():
    model = spread(VisionTransformer(**SMALL | {"num_classes": 0}))
    with pytest.raises(InvalidTargetError, match=r"returns features, not classes: .*24 outputs.*features \* other"):
        record(model, pixels())
    trace = record(model, pixels(), lambda features: features[:, :3].sum(1))
    assert trace.logits.shape == (2, 24)


def test_autocast_does_not_reach_the_record():
    model = spread(VisionTransformer(**SMALL))
    expected = record(model, pixels())
    with torch.autocast("cpu", torch.bfloat16):
        assert model(pixels()).dtype == torch.bfloat16
        assert same(record(model, pixels()), expected)
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_with_the_way_out(dtype):
    model = spread(VisionTransformer(**SMALL)).to(dtype)
    with pytest.raises(UnsupportedModelError, match=r"found 0\.0.*Run the unmodified model in float32"):
        record(model, pixels().to(dtype))


def test_channels_last_gives_the_same_record():
    model = spread(VisionTransformer(**SMALL))
    expected = record(model, pixels())
    found = record(model.to(memory_format=torch.channels_last), pixels().to(memory_format=torch.channels_last))
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.layers[1].gradient, expected.layers[1].gradient)


def test_compiled_models_are_refused_with_the_way_out():
    model = spread(VisionTransformer(**SMALL))
    with pytest.raises(UnsupportedModelError, match=r"Pass what torch\.compile was given, model\._orig_mod"):
        record(torch.compile(model), pixels())
    model.compile()
    with pytest.raises(UnsupportedModelError, match="expected an uncompiled VisionTransformer"):
        record(model, pixels())


def test_a_model_on_another_device_than_the_images_is_refused():
    with pytest.raises(tokentm.InvalidImagesError, match=r"on meta, as the model's weights are; got .* on cpu"):
        record(VisionTransformer(**SMALL).eval().to("meta"), pixels())


def test_a_frozen_model_gives_the_same_record():
    model = spread(FAMILIES["dinov3"][0]())
    assert same(record(model.requires_grad_(False), pixels()), record(model.requires_grad_(True), pixels()))


def test_training_mode_that_would_change_the_model_is_refused():
    model = spread(hybrid_with_batch_norm()).train()
    before = everything_about(model)
    with pytest.raises(UnsupportedModelError, match=r"updates its running statistics because .* Call model\.eval\(\)"):
        record(model, pixels(1, (64, 64)), 0)
    assert_unchanged(before, model)
    record(model.eval(), pixels(1, (64, 64)), 0)


def hybrid_with_batch_norm() -> nn.Module:
    options = {"img_size": 64, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 5}
    return timm.create_model("vit_small_resnet26d_224", **options)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: of_torchvision(attention_dropout=0.1), r"self_attention' \(MultiheadAttention\) drops"),
        (lambda: of_torchvision(dropout=0.1), r"'encoder\.dropout' \(Dropout\) drops"),
        (
            lambda: of_transformers("ViTForImageClassification", attention_probs_dropout_prob=0.1),
            r"ViTAttention\) drops",
        ),
        (lambda: of_transformers("Dinov2ForImageClassification", drop_path_rate=0.1), r"Dinov2DropPath\) drops"),
    ],
)
def test_dropout_of_other_libraries_in_training_is_refused(build, words):
    model = spread(build())
    record(model, pixels(2, (48, 48)))
    with pytest.raises(UnsupportedModelError, match=words):
        record(model.train(), pixels(2, (48, 48)))


def test_a_frozen_torchvision_model_gives_the_same_record():
    model, images = spread(of_torchvision()), pixels(2, (48, 48))
    frozen, free = record(model.requires_grad_(False), images), record(model.requires_grad_(True), images)
    for one, other in zip(frozen.layers, free.layers, strict=True):
        torch.testing.assert_close(one.attention, other.attention)
        torch.testing.assert_close(one.gradient, other.gradient)


def test_dinov2_takes_other_sizes_and_others_say_which_they_take():
    model = spread(of_transformers("Dinov2ForImageClassification"))
    assert tokentm.explain(model, pixels(1, (64, 32)), 0).grid == (4, 2)
    with pytest.raises(tokentm.InvalidImagesError, match=r"expected images of \(48, 48\) pixels .*Resize them\.$"):
        record(of_torchvision().eval(), pixels(1, (64, 32)), 0)
    fixed = spread(VisionTransformer(**SMALL))
    with pytest.raises(tokentm.InvalidImagesError, match=r"Resize them, or call model\.set_input_size"):
        record(fixed, pixels(1, (64, 32)), 0)


def test_positions_of_hugging_face_are_interpolated_for_other_sizes():
    model = spread(of_transformers("ViTForImageClassification"))
    images = pixels(1, (64, 32))
    found = tokentm.explain(model, images, 0)
    assert found.grid == (4, 2)
    torch.testing.assert_close(found.logits, model(images, interpolate_pos_encoding=True).logits.detach())


def test_the_two_halves_that_dinov2_reads_count_by_their_weights():
    model = spread(of_transformers("Dinov2ForImageClassification"))
    with torch.no_grad():
        model.classifier.weight[:, 24:] = model.classifier.weight[:, :24]
    readout = record(model, pixels(1, (32, 32)), 0).readout
    torch.testing.assert_close(readout, torch.tensor([[0.5, 0.125, 0.125, 0.125, 0.125]]))
    with torch.no_grad():
        model.classifier.weight[:, 24:] *= 0.1
    readout = record(model, pixels(1, (32, 32)), 0).readout
    torch.testing.assert_close(readout, torch.tensor([[10, 0.25, 0.25, 0.25, 0.25]]) / 11)


def test_eager_attention_of_transformers_is_recorded_and_stays_eager():
    model = spread(of_transformers("ViTForImageClassification", attn_implementation="eager", qkv_bias=False))
    found = record(model, pixels(2, (48, 48)))
    assert model.config._attn_implementation == "eager"
    torch.testing.assert_close(found.logits, model(pixels(2, (48, 48))).logits.detach())
    model.set_attn_implementation("sdpa")
    assert same(found, record(model, pixels(2, (48, 48))))


def test_rotary_positions_that_jitter_in_training_are_refused():
    model = spread(Eva(**SMALL | ROTARY, rope_type="dinov3", rope_jitter_coords=2.0)).train()
    with pytest.raises(UnsupportedModelError, match=r"'rope' \(RotaryEmbeddingDinoV3\) moves positions at random"):
        record(model, pixels())
    record(model.eval(), pixels())


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights_from_a_local_file_are_explained_like_the_model_they_came_from(tmp_path, ending):
    model = spread(timm.create_model("test_vit", num_classes=5))
    path = str(tmp_path / f"weights.{ending}")
    if ending == "safetensors":
        from safetensors.torch import save_file

        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path)
    images = pixels(1, model.patch_embed.img_size)
    overlay = {"file": path, "num_classes": 5}
    for options in ({"checkpoint_path": path}, {"pretrained": True, "pretrained_cfg_overlay": overlay}):
        loaded = timm.create_model("test_vit", num_classes=5, **options).eval()
        assert same(record(loaded, images), record(model, images))
