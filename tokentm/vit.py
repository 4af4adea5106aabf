"""What a supported Vision Transformer is. The only module that knows what a model family looks like.

A supported model is a column of blocks of one form,

    x' = x + drop_path1(ls1(attn(norm1(x))))        x'' = x' + drop_path2(ls2(mlp(norm2(x'))))

over a sequence of prefix tokens followed by a row-major patch grid, read out at known tokens. :func:`inspect` checks
all of that on the model at hand and refuses by name whatever differs; nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import Attention, DropPath, PatchDropout, PatchEmbed
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from tokentm.errors import InvalidImagesError, UnsupportedModelError

SUPPORTED = "timm's VisionTransformer and VisionTransformerDistilled (vit_*, deit_*, deit3_* with plain blocks)"


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a sequence come from: ``prefix`` special tokens, then ``rows`` x ``columns`` patches."""

    prefix: int
    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        return self.prefix + self.rows * self.columns


def inspect(model: nn.Module) -> VisionTransformer:
    """Return the model if it is a supported ViT, ready to be recorded.

    Raises:
        UnsupportedModelError: naming the model, the part that is not supported, and what is.
    """
    name = type(model).__name__
    if not isinstance(model, VisionTransformer):
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        hint = " Pass the model inside the wrapper." if isinstance(inner, VisionTransformer) else ""
        raise UnsupportedModelError(
            f"expected one of {SUPPORTED}; got {type(model).__module__}.{name}.{hint} "
            "Its blocks, token layout and readout are not known, so a map of it could not be trusted."
        )
    if type(model.patch_embed) is not PatchEmbed:
        raise _refusal(
            name, "patches cut straight from the image (a timm PatchEmbed)", type(model.patch_embed).__name__
        )
    for i, block in enumerate(model.blocks):
        if type(block) is not Block:
            raise _refusal(name, f"block {i} to be a timm Block", type(block).__name__)
        if type(block.attn) is not Attention:
            raise _refusal(name, f"the attention of block {i} to be a timm Attention", type(block.attn).__name__)
        if getattr(block.attn, "gate", None) is not None or not isinstance(block.attn.norm, nn.Identity):
            raise _refusal(name, f"nothing between heads and projection in block {i}", "a gate or a norm there")
    if model.attn_pool is not None:
        raise _refusal(name, "a class token or average pooling", f"attention pooling ({model.global_pool!r})")
    if model.global_pool not in ("token", "avg"):
        raise _refusal(name, "global_pool 'token' or 'avg'", repr(model.global_pool))
    if model.num_classes == 0:
        raise _refusal(name, "a classifier head, whose logits are explained", "num_classes=0")
    if any(module._compiled_call_impl is not None for module in model.modules()):
        raise UnsupportedModelError(
            f"expected an uncompiled {name}; compiled code does not show its attention. Record the model before "
            "model.compile(), or a copy of it; the weights are the same."
        )
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise UnsupportedModelError(
            f"expected {name} parameters that gradients can pass; found some made under torch.inference_mode(). "
            "Create or load the model outside of it."
        )
    for path, module in model.named_modules():
        if module.training and _random_rate(module) > 0:
            raise UnsupportedModelError(
                f"expected a {name} that answers the same way twice; {path!r} ({type(module).__name__}) drops parts "
                "at random because the model is in training mode. Call model.eval() first."
            )
    return model


def _refusal(model: str, expected: str, found: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{model} is not supported: expected {expected}, found {found}. Supported are {SUPPORTED}, read out at a "
        "class token, at class and distillation tokens, or by average pooling."
    )


def _random_rate(module: nn.Module) -> float:
    if isinstance(module, nn.Dropout):
        return module.p
    if isinstance(module, DropPath):
        return module.drop_prob or 0.0
    if isinstance(module, PatchDropout):
        return module.prob
    return 0.0


def check_images(model: VisionTransformer, images: Tensor) -> None:
    """Check that the model can take these images.

    Raises:
        InvalidImagesError: not a tensor (B, C, H, W) of the model's channels, size, dtype and device, or not finite.
    """
    if not isinstance(images, Tensor):
        raise InvalidImagesError(
            f"expected a normalised float tensor (batch, channels, height, width); got {type(images).__name__}. "
            "Turn a picture into a tensor with the model's own transform, for example "
            "timm.data.create_transform(**timm.data.resolve_model_data_config(model))(picture)[None]."
        )
    if images.ndim != 4:
        hint = " Add the batch dimension: images[None]." if images.ndim == 3 else ""
        raise InvalidImagesError(
            f"expected 4 dimensions (batch, channels, height, width); got shape {tuple(images.shape)}.{hint}"
        )
    if len(images) == 0:
        raise InvalidImagesError(f"expected at least one image; got shape {tuple(images.shape)}.")
    weight = model.patch_embed.proj.weight
    channels = model.patch_embed.proj.in_channels
    if images.shape[1] != channels:
        raise InvalidImagesError(
            f"expected {channels} channels; got {images.shape[1]} in shape {tuple(images.shape)}. "
            "The order is (batch, channels, height, width); convert pictures with .convert('RGB') first."
        )
    if images.dtype != weight.dtype or images.device != weight.device:
        raise InvalidImagesError(
            f"expected images of {weight.dtype} on {weight.device}, as the model's weights are; got {images.dtype} on "
            f"{images.device}. Use images.to({str(weight.device)!r}, {weight.dtype})."
        )
    size = tuple(images.shape[2:])
    patch = model.patch_embed.patch_size
    if not model.dynamic_img_size and size != tuple(model.patch_embed.img_size):
        raise InvalidImagesError(
            f"expected images of {tuple(model.patch_embed.img_size)} pixels (height, width); got {size}. Resize them, "
            "or call model.set_input_size(img_size=...) to change what the model takes."
        )
    if size[0] % patch[0] or size[1] % patch[1]:
        # the model would leave pixels out, or pad: its patches would not tile the picture that a map is laid over
        raise InvalidImagesError(f"expected a size divisible by the patch size {patch}; got {size}. Resize or crop.")
    if not torch.isfinite(images).all():
        bad = (~torch.isfinite(images.flatten(1)).all(1)).nonzero().flatten().tolist()
        raise InvalidImagesError(
            f"expected finite pixels; found NaN or infinity in image(s) {bad} of the batch. "
            "Look at the transform: a division by a zero standard deviation is a common cause."
        )


def layout(model: VisionTransformer, images: Tensor) -> Layout:
    """The token layout that the model gives these images (B, C, H, W), read from its patch embedding."""
    rows, columns = model.patch_embed.dynamic_feat_size(tuple(images.shape[2:]))
    return Layout(model.num_prefix_tokens, rows, columns)


def readout(model: VisionTransformer, tokens: Layout) -> Tensor:
    """Share of each final token in what the classifier head reads: (tokens,), sums to 1.

    One class token: 1 there. Distilled: one half each on class and distillation token. Average pooling: equal shares
    of the patch tokens (and of the prefix tokens, where the model pools them too).
    """
    share = torch.zeros(tokens.tokens, dtype=torch.float64)
    if isinstance(model, VisionTransformerDistilled):
        share[:2] = 0.5
    elif model.global_pool == "token":
        share[0] = 1.0
    else:
        first = 0 if model.pool_include_prefix else tokens.prefix
        share[first:] = 1 / (tokens.tokens - first)
    return share


def head_projection(block: Any) -> tuple[Tensor, Tensor]:
    """How the values of each head reach the residual stream: x' - x = sum_h (A^h v^h) P_h^T + b.

    Returns:
        P (heads, D, d): per head its columns of the output projection, rows scaled by LayerScale where there is one.
        b (D,): the projection's bias, scaled likewise.
    """
    proj, heads = block.attn.proj, block.attn.num_heads
    weight = proj.weight.detach()
    bias = torch.zeros_like(weight[:, 0]) if proj.bias is None else proj.bias.detach()
    if not isinstance(block.ls1, nn.Identity):
        gamma = block.ls1.gamma.detach()
        weight, bias = gamma[:, None] * weight, gamma * bias
    return weight.unflatten(1, (heads, -1)).transpose(0, 1).clone(), bias.clone()
