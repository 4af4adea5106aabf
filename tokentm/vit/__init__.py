"""What a supported Vision Transformer is. The only package that knows what a model family looks like.

:func:`inspect` describes the model at hand as an :class:`Anatomy`, or refuses it by name; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from timm.layers import DropPath, PatchDropout, PatchDropoutWithIndices
from torch import Tensor, nn

from tokentm.errors import InvalidImagesError, InvalidOptionError, UnsupportedModelError
from tokentm.vit import timm_models, torchvision_models, transformers_models, xformers_calls
from tokentm.vit.anatomy import Anatomy, Block, Layout
from tokentm.vit.guide import Guide
from tokentm.vit.path import NORMS, HeadPath, affine, fold

__all__ = [
    "NORMS",
    "Anatomy",
    "Block",
    "Family",
    "Guide",
    "HeadPath",
    "Layout",
    "check_blocks",
    "check_images",
    "check_kind",
    "check_mode",
    "check_state",
    "family_of",
    "fold",
    "guide_of",
    "inspect",
    "ready",
    "register",
    "usual_size",
]


@dataclass(frozen=True, eq=False)
class Family:
    """A kind of model, and how to describe one.

    Attributes:
        supported: what it is, in words, for messages.
        is_one: whether a model is one of them.
        describe: the anatomy of one of them; raises :class:`tokentm.UnsupportedModelError` for one that differs.
    """

    supported: str
    is_one: Callable[[Any], bool]
    describe: Callable[[Any], Anatomy]


_FAMILIES = [
    Family(one.SUPPORTED, one.is_one, one.describe) for one in (timm_models, torchvision_models, transformers_models)
]


def register(kind: type[nn.Module], describe: Callable[[Any], Anatomy], supported: str = "") -> None:
    """Make models of a class of your own known to every call: explain, record, prepare, explore and the evaluation.

    What the description claims is checked in every pass, as for the models that are known from the start.

    Args:
        kind: the class; its subclasses count, too. Registered again, the new description takes the place of the old.
        describe: makes an :class:`Anatomy` of a model of this class.
        supported: what such models are, in words, for messages; "" takes the name of the class.

    Raises:
        InvalidOptionError: not a class of modules, or a description that cannot be called.

    Example:
        >>> tokentm.register(
        ...     MyViT,
        ...     lambda model: tokentm.Anatomy(
        ...         model=model,
        ...         blocks=tuple(
        ...             tokentm.Block(
        ...                 module=block, heads=4, normed=block.norm1, path=(block.attn.proj,), update=block.attn,
        ...                 mid=block.norm2, normed_mid=block.norm2, ffn_update=block.mlp,
        ...             )
        ...             for block in model.blocks
        ...         ),
        ...         prefix=1,
        ...         embedding=model.patch_embed,
        ...         patch=(16, 16),
        ...         final=model.norm,
        ...         head=model.head,
        ...     ),
        ... )
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)) or not callable(describe):
        raise InvalidOptionError(
            f"expected a class of torch.nn.Module and a function from a model to its Anatomy; got {kind!r} and "
            f"{describe!r}."
        )
    name = supported or f"{kind.__module__}.{kind.__qualname__}"
    _OWN[kind] = Family(name, lambda model: isinstance(model, kind), describe)


_OWN: dict[type[nn.Module], Family] = {}
"""Registered by the user; the last one that fits describes a model."""


def family_of(model: Any) -> Family | None:
    """The family that describes this model: one that was registered, else one of those known from the start."""
    known = [*reversed(_OWN.values()), *_FAMILIES]
    return next((family for family in known if family.is_one(model)), None)


def guide_of(model: Any) -> Guide:
    """What the library of a model tells of it, whose blocks are found by running it."""
    redirected = xformers_calls.switches(model)
    if transformers_models.is_pretrained(model):
        guide = transformers_models.guide(model)
        return replace(guide, switches=(*guide.switches, *redirected))
    return Guide(sizes=_sizes_of(model), switches=redirected)


def usual_size(anatomy: Anatomy) -> tuple[int, int] | None:
    """(height, width) of the pictures that a model is made for, where it or its configuration tells."""
    embedding = getattr(anatomy.model, "patch_embed", None)  # timm's
    told = (anatomy.size, *guide_of(anatomy.model).sizes, *_sizes_of(embedding))
    return next((size for size in told if size is not None), None)


def _sizes_of(model: Any) -> tuple[tuple[int, int], ...]:
    """Sizes of pictures (height, width) that a model names."""
    found = []
    for name in ("image_size", "img_size"):
        size = getattr(model, name, None)
        if isinstance(size, int) and not isinstance(size, bool):
            found.append((size, size))
        elif isinstance(size, (tuple, list)) and len(size) == 2 and all(isinstance(one, int) for one in size):
            found.append((size[0], size[1]))
    return tuple(found)


_REASONS = {
    "Cait": "its class token enters after the patch layers and has attention layers of its own",
    "ConVit": "its attention is gated with positions, and its class token enters half-way",
    "VisionTransformerSAM": "it attends in windows, and its neck leaves no tokens to read out",
    "Xcit": "it attends over channels, not tokens",
    "SwinTransformer": "it attends in shifted windows and merges patches on the way",
    "SwinTransformerV2": "it attends in shifted windows and merges patches on the way",
    "Levit": "it merges tokens on the way",
    "PoolingVisionTransformer": "it merges tokens on the way",
    "CrossVit": "it runs two token sequences of different patch size",
    "MultiScaleVit": "it merges tokens on the way",
    "Hiera": "it merges tokens on the way",
    "TNT": "it runs a second attention inside every patch",
    "VOLO": "it mixes with outlook attention and merges tokens on the way",
}
"""Why well-known other families are refused, by class name; what others are shows when they run."""


def inspect(model: nn.Module) -> Anatomy:
    """Describe a model of a known family.

    Raises:
        UnsupportedModelError: of no known family, or naming the part that differs from it.
    """
    family = family_of(model)
    if family is None:
        known = "; ".join(one.supported for one in [*_FAMILIES, *_OWN.values()])
        raise UnsupportedModelError(f"expected one of {known}; got {type(model).__module__}.{type(model).__name__}.")
    anatomy = family.describe(model)
    if not isinstance(anatomy, Anatomy):
        raise UnsupportedModelError(
            f"expected an Anatomy from the description of {family.supported}; got {type(anatomy).__name__}."
        )
    check_state(anatomy)
    return replace(anatomy, told_by="family")


def check_kind(model: Any) -> None:
    """Refuse what is no module, and well-known models that are no column of blocks over one token sequence.

    Raises:
        UnsupportedModelError: says why.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(f"expected a torch.nn.Module, a Vision Transformer; got {type(model).__name__}.")
    reason = next((_REASONS[kind.__name__] for kind in type(model).__mro__ if kind.__name__ in _REASONS), None)
    if reason is not None:
        raise UnsupportedModelError(
            f"expected a Vision Transformer that is a column of attention and FFN blocks over one token sequence; got "
            f"{type(model).__module__}.{type(model).__name__}: {reason}. So a map of it could not be trusted."
        )


def ready(anatomy: Anatomy) -> Anatomy:
    """The same as it is now: modules of paths that are no plain linear maps measured, calls of xformers redirected.

    Raises:
        UnsupportedModelError: names a module that is not affine.
    """
    redirected = xformers_calls.switches(anatomy.model)
    if redirected:
        anatomy = replace(anatomy, switches=(*anatomy.switches, *redirected))
    changed = False
    blocks = []
    for i, block in enumerate(anatomy.blocks):
        stages = affine(block.path, f"{anatomy.name}, block {i}", anatomy.weight)
        changed = changed or any(one is not other for one, other in zip(stages, block.path, strict=True))
        blocks.append(replace(block, path=stages))
    return replace(anatomy, blocks=tuple(blocks)) if changed else anatomy


def check_blocks(anatomy: Anatomy) -> None:
    """Refuse a description of blocks without a module of their own that does not tell where they begin and end.

    Raises:
        InvalidOptionError: says what is missing.
    """
    without = [block for block in anatomy.blocks if block.module is None]
    if without and len(without) < len(anatomy.blocks):
        raise InvalidOptionError("expected a module of its own for every block, or for none.")
    if any(block.normed is None for block in without):
        raise InvalidOptionError("expected normed= of every block without a module of its own: it is given x.")
    if without and anatomy.sequence_first:
        raise InvalidOptionError("expected a module of its own for every block of a model with sequence_first=True.")
    if without and anatomy.final is None and anatomy.column is None:
        raise InvalidOptionError(
            "expected final= or column= of an Anatomy whose blocks have no module of their own: the norm that is given "
            "the last block's stream, or the module that puts it out."
        )


def check_state(anatomy: Anatomy) -> None:
    """Refuse a described model that cannot be recorded as it is: see :func:`check_mode`, or with shared blocks.

    Raises:
        UnsupportedModelError: naming what is in the way.
    """
    model, name = anatomy.model, anatomy.name
    check_mode(model, name)
    modules = [block.entry for block in anatomy.blocks]
    if not modules or len(set(modules)) < len(modules):
        found = "one that runs several times (shared weights)" if modules else "none"
        raise UnsupportedModelError(f"{name}: expected blocks of its own for every layer, found {found}.")


def check_mode(model: nn.Module, name: str) -> None:
    """Refuse a model that cannot be run as it is: compiled, made in inference mode, or random.

    Raises:
        UnsupportedModelError: naming what is in the way.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise UnsupportedModelError(
            f"expected {name} in Python; TorchScript does not show its attention. Explain the model that was "
            "scripted, traced or frozen; the weights are the same."
        )
    if hasattr(model, "_orig_mod"):
        raise UnsupportedModelError(
            "expected an uncompiled model; compiled code does not show its attention. Pass what torch.compile was "
            "given, model._orig_mod; the weights are the same."
        )
    for path, module in model.named_modules():
        if module._compiled_call_impl is not None:
            raise UnsupportedModelError(
                f"expected an uncompiled {name}; compiled code does not show its attention. Record the model before "
                "model.compile(), or a copy of it; the weights are the same."
            )
        if any(parameter is not None and parameter.is_inference() for parameter in module._parameters.values()):
            raise UnsupportedModelError(
                f"expected {name} parameters that gradients can pass; found some made under torch.inference_mode(). "
                "Create or load the model outside of it."
            )
        if module.training and (does := _training_effect(module)):
            raise UnsupportedModelError(
                f"expected {name} to answer the same way twice; {path!r} ({type(module).__name__}) {does} "
                "because the model is in training mode. Call model.eval() first."
            )


def _training_effect(module: Any) -> str | None:
    """What makes this module, in training mode, answer differently or change itself."""
    rate = 0.0
    if isinstance(module, nn.Dropout):
        rate = module.p
    elif isinstance(module, nn.MultiheadAttention):
        rate = module.dropout
    elif isinstance(module, DropPath) or type(module).__name__.endswith("DropPath"):
        rate = module.drop_prob or 0.0
    elif hasattr(module, "q_proj") and hasattr(module, "attention_dropout"):  # Hugging Face's attention
        rate = module.attention_dropout
    elif isinstance(module, (PatchDropout, PatchDropoutWithIndices)):
        rate = module.prob
    if rate > 0:
        return "drops parts at random"
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return "normalises with the batch and updates its running statistics"
    if any(getattr(module, name, None) is not None for name in ("shift_coords", "jitter_coords", "rescale_coords")):
        return "moves positions at random"
    return None


def check_images(anatomy: Anatomy, images: Tensor) -> None:
    """Check that the model can take these images.

    Raises:
        InvalidImagesError: not dense (B, C, H, W) with the model's channels, size, dtype and device, or not finite.
    """
    if images.layout != torch.strided or images.is_nested:
        layout = "nested" if images.is_nested else str(images.layout)
        raise InvalidImagesError(
            f"expected a dense floating-point tensor (batch, channels, height, width); got a {layout} one. "
            "Use images.to_dense() of a sparse one, torch.stack(images.unbind()) of a nested one."
        )
    if images.ndim != 4:
        hint = " Add the batch dimension: images[None]." if images.ndim == 3 else ""
        raise InvalidImagesError(
            f"expected 4 dimensions (batch, channels, height, width); got shape {tuple(images.shape)}.{hint}"
        )
    if len(images) == 0:
        raise InvalidImagesError(f"expected at least one image; got shape {tuple(images.shape)}.")
    channels, weight = anatomy.channels, anatomy.weight
    if images.shape[1] != channels:
        convert = {1: "; convert pictures with .convert('L') first", 3: "; convert pictures with .convert('RGB') first"}
        raise InvalidImagesError(
            f"expected {channels} channels; got {images.shape[1]} in shape {tuple(images.shape)}. "
            f"The order is (batch, channels, height, width){convert.get(channels, '')}."
        )
    if images.dtype != weight.dtype or images.device != weight.device:
        raise InvalidImagesError(
            f"expected images of {weight.dtype} on {weight.device}, as the model's weights are; got {images.dtype} on "
            f"{images.device}. Use images.to({str(weight.device)!r}, {weight.dtype})."
        )
    size = tuple(images.shape[2:])
    if anatomy.size is not None and size != anatomy.size:
        can_change = hasattr(anatomy.model, "set_input_size")  # timm's
        change = ", or call model.set_input_size(img_size=...) to change what the model takes" if can_change else ""
        raise InvalidImagesError(
            f"expected images of {anatomy.size} pixels (height, width); got {size}. Resize them{change}."
        )
    if size[0] % anatomy.patch[0] or size[1] % anatomy.patch[1]:
        # the model would leave pixels out, or pad: its patches would not tile the picture that a map is laid over
        raise InvalidImagesError(
            f"expected a size divisible by the patch size {anatomy.patch}; got {size}. Resize or crop."
        )
    if not torch.isfinite(images).all():
        bad = (~torch.isfinite(images.flatten(1)).all(1)).nonzero().flatten().tolist()
        raise InvalidImagesError(
            f"expected finite pixels; found NaN or infinity in image(s) {bad} of the batch. "
            "Look at the transform: a division by a zero standard deviation is a common cause."
        )
