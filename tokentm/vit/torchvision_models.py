"""torchvision's Vision Transformer, described. Recognised by name: its models are never imported here."""

from __future__ import annotations

from typing import Any

from torch import nn

from tokentm.vit.anatomy import Anatomy, Block

SUPPORTED = "torchvision's VisionTransformer (vit_b_16 ... vit_h_14)"


def is_one(model: object) -> bool:
    """Whether this is torchvision's VisionTransformer or a subclass."""
    return any(
        cls.__module__ == "torchvision.models.vision_transformer" and cls.__name__ == "VisionTransformer"
        for cls in type(model).__mro__
    )


def describe(model: Any) -> Anatomy:
    """The anatomy of a model that :func:`is_one`.

    Raises:
        UnsupportedModelError: names the part that differs.
    """
    name = type(model).__name__
    first = next(module for module in model.conv_proj.modules() if isinstance(module, nn.Conv2d))
    return Anatomy(
        name=name,
        model=model,
        blocks=tuple(_block(block) for block in model.encoder.layers),
        prefix=1,
        embedding=model.conv_proj,
        pooling="class token",
        pool=None,
        pool_rows="token",
        channels=first.in_channels,
        size=(model.image_size, model.image_size),
        patch=(model.patch_size, model.patch_size),
        switches=(),
        final=model.encoder.ln,
        head=model.heads,
    )


def _block(block: Any) -> Block:
    return Block(
        module=block,
        heads=block.self_attention.num_heads,
        normed=block.ln_1,
        path=(block.self_attention.out_proj,),
        update=block.dropout,
        mid=block.ln_2,
        normed_mid=block.ln_2,
        ffn_update=block.mlp,
    )
