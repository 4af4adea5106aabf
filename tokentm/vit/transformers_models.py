"""Models of Hugging Face: three families described, and how all others are called and what their configurations tell.

Recognised by name: transformers is never imported here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tokentm.errors import UnsupportedModelError
from tokentm.vit.anatomy import Anatomy, Block, Pooling
from tokentm.vit.guide import Guide

# class name -> (attribute of the backbone, tokens before the patches and registers, what the classifier reads)
_CLASSIFIERS: dict[str, tuple[str, int, Pooling]] = {
    "ViTForImageClassification": ("vit", 1, "class token"),
    "DeiTForImageClassification": ("deit", 2, "class token"),
    "DeiTForImageClassificationWithTeacher": ("deit", 2, "class and distillation token"),
    "Dinov2ForImageClassification": ("dinov2", 1, "class token and average of patches"),
    "Dinov2WithRegistersForImageClassification": ("dinov2_with_registers", 1, "class token and average of patches"),
}
SUPPORTED = "Hugging Face's ViT, DeiT and DINOv2 for image classification"


def is_one(model: object) -> bool:
    """Whether this is one of the supported classifiers or a subclass."""
    return _kind(model) is not None


def _kind(model: object) -> str | None:
    for cls in type(model).__mro__:
        if cls.__module__.startswith("transformers.models.") and cls.__name__ in _CLASSIFIERS:
            return cls.__name__
    return None


def describe(model: Any) -> Anatomy:
    """The anatomy of a model that :func:`is_one`.

    Raises:
        UnsupportedModelError: names the part that differs.
    """
    name = type(model).__name__
    attribute, prefix, pooling = _CLASSIFIERS[_kind(model) or name]
    try:
        backbone = getattr(model, attribute)
        layers = list(backbone.layers if hasattr(backbone, "layers") else backbone.encoder.layer)
        embeddings, _ = backbone.embeddings, backbone.layernorm
        blocks = tuple(_block(layer) for layer in layers)
        patch = embeddings.patch_embeddings.patch_size
    except AttributeError as error:
        raise UnsupportedModelError(
            f"{name} is not laid out as expected ({error}). Written for transformers 5; upgrade with "
            "pip install --upgrade transformers."
        ) from error
    height, width = (patch, patch) if isinstance(patch, int) else patch
    return Anatomy(
        name=name,
        model=model,
        blocks=blocks,
        prefix=prefix + getattr(model.config, "num_register_tokens", 0),
        embedding=embeddings.patch_embeddings.projection,
        pooling=pooling,
        pool=None,
        pool_rows="token",
        channels=model.config.num_channels,
        size=None,  # positions are interpolated
        patch=(height, width),
        switches=_switches(model),
        call=_plain if attribute.startswith("dinov2") else _interpolating,
        logits=_logits,
        outputs=_outputs(model.config),
        class_names=_names(model.config),
        final=backbone.layernorm,
        head=model.cls_classifier if hasattr(model, "cls_classifier") else model.classifier,
    )


def _logits(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output.logits


_MEANINGS: dict[str, Literal["softmax", "sigmoid", "none"]] = {
    "regression": "none",
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
}


def _outputs(config: Any) -> Literal["softmax", "sigmoid", "none"] | None:
    """What the configuration says of the logits; with one label and no word, these models are trained to regress."""
    if config.problem_type is None and config.num_labels == 1:
        return "none"
    return _MEANINGS.get(config.problem_type)


def _names(config: Any) -> tuple[str, ...] | None:
    """The configuration's names of the classes, unless they are the made-up LABEL_0, LABEL_1 ..."""
    names = {int(index): str(name) for index, name in (config.id2label or {}).items()}
    if sorted(names) != list(range(config.num_labels)) or all(n == f"LABEL_{i}" for i, n in names.items()):
        return None
    return tuple(names[index] for index in range(config.num_labels))


def _block(layer: Any) -> Block:
    attention = layer.attention
    scaled = hasattr(layer, "layer_scale1")
    stages: tuple[Any, ...] = (attention.o_proj, layer.layer_scale1.lambda1) if scaled else (attention.o_proj,)
    # one dropout or drop path module serves attention and FFN in turn
    update: nn.Module = layer.drop_path if scaled else layer.dropout
    second: nn.Module = layer.norm2 if scaled else layer.layernorm_after
    return Block(
        module=layer,
        heads=attention.num_attention_heads,
        normed=layer.norm1 if scaled else layer.layernorm_before,
        path=stages,
        update=update,
        mid=second,
        normed_mid=second,
        ffn_update=update,
    )


# models that are found by running them


def is_pretrained(model: Any) -> bool:
    """Whether this is a model of transformers, or a subclass."""
    return hasattr(model, "config") and any(cls.__module__.startswith("transformers.") for cls in type(model).__mro__)


def guide(model: Any) -> Guide:
    """How a model that :func:`is_pretrained` is called with images alone, and what its configuration tells."""
    takes = signature(model.forward).parameters
    if "input_ids" in takes and hasattr(model, "get_image_features"):
        call: Any = _image_tower_of_patches if "spatial_shapes" in takes else _image_tower
    elif "spatial_shapes" in takes:
        call = _in_patches
    elif "noise" in takes:
        call = _nothing_masked
    else:
        more = any(one.kind is one.VAR_KEYWORD for one in takes.values())  # handed down to the backbone
        call = _interpolating if "interpolate_pos_encoding" in takes or more else _plain
    configured = _size_of(model)
    return Guide(call, () if configured is None else (configured,), _switches(model), _completed)


def _completed(anatomy: Anatomy) -> Anatomy:
    """With what the configuration tells of the classes, where the outputs are those of a classifier."""
    model: Any = anatomy.model
    labels = getattr(model.config, "num_labels", None)
    if anatomy.headless or "ImageClassification" not in type(model).__name__:
        return anatomy
    if anatomy.classes not in (None, labels):
        return anatomy
    return replace(anatomy, outputs=_outputs(model.config), class_names=_names(model.config))


def _configs(model: Any) -> Iterator[Any]:
    """The configuration, and that of the images where the model has several."""
    config = model.config
    yield from (getattr(config, "vision_config", None) or config, config)


def _size_of(model: Any) -> tuple[int, int] | None:
    """(height, width) that the configuration names."""
    for config in _configs(model):
        size = getattr(config, "image_size", None)
        if isinstance(size, int):
            return size, size
        if isinstance(size, (tuple, list)) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None


def _patch_of(model: Any) -> int:
    return int(next(size for config in _configs(model) if (size := getattr(config, "patch_size", None)) is not None))


def _switches(model: Any) -> tuple[tuple[Any, str, Any], ...]:
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    found: list[tuple[Any, str, Any]] = [
        # attention that no function mode sees into
        (config, "_attn_implementation", "sdpa")
        for config in configs.values()
        if getattr(config, "_attn_implementation", None) not in (None, "eager", "sdpa")
    ]
    # recomputation during the backward pass would run where nothing is recorded
    found += [(m, "gradient_checkpointing", False) for m in model.modules() if hasattr(m, "gradient_checkpointing")]
    if getattr(model.config, "mask_ratio", 0):
        found.append((model.config, "mask_ratio", 0.0))
    return tuple(found)


def _plain(model: Any, images: Tensor) -> Any:
    return model(images)


def _interpolating(model: Any, images: Tensor) -> Any:
    """Positions of another size than the configured one are interpolated, as the model's own code does it."""
    if _size_of(model) in (None, tuple(images.shape[2:])):
        return model(images)
    try:
        return model(images, interpolate_pos_encoding=True)
    except TypeError:  # one that takes any size by itself
        return model(images)


def _image_tower(model: Any, images: Tensor) -> Any:
    """Of a model of images and texts, what it makes of images."""
    if tuple(images.shape[2:]) == _size_of(model):
        return model.get_image_features(pixel_values=images)
    return model.get_image_features(pixel_values=images, interpolate_pos_encoding=True)


def _patches(model: Any, images: Tensor) -> dict[str, Tensor]:
    """Images as sequences of patches (rows, columns, within a patch: rows, columns, channels), all of them real."""
    side = _patch_of(model)
    rows, columns = images.shape[2] // side, images.shape[3] // side
    patches = images.unflatten(3, (columns, side)).unflatten(2, (rows, side)).permute(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": patches.flatten(3).flatten(1, 2).flatten(2),
        "pixel_attention_mask": torch.ones(len(images), rows * columns, dtype=torch.long, device=images.device),
        "spatial_shapes": torch.tensor([[rows, columns]] * len(images), device=images.device),
    }


def _in_patches(model: Any, images: Tensor) -> Any:
    return model(**_patches(model, images))


def _image_tower_of_patches(model: Any, images: Tensor) -> Any:
    return model.get_image_features(**_patches(model, images))


def _nothing_masked(model: Any, images: Tensor) -> Any:
    """A masked autoencoder keeps the patches of least noise, sorted by it: rising noise leaves all in their order."""
    side = _patch_of(model)
    count = (images.shape[2] // side) * (images.shape[3] // side)
    noise = torch.arange(float(count), device=images.device).expand(len(images), -1)
    return model(images, noise=noise)
