"""Image classifiers of Hugging Face, described. Recognised by name: transformers is never imported here."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from tokentm.errors import UnsupportedModelError
from tokentm.vit.anatomy import Anatomy, Block, Pooling

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
        size = embeddings.patch_embeddings.image_size
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
        size=None if attribute.startswith("dinov2") else tuple(size),
        patch=(height, width),
        switches=(
            (model.config, "_attn_implementation", "sdpa"),
            # recomputation during the backward pass would run where nothing is recorded
            *((layer, "gradient_checkpointing", False) for layer in layers),
        ),
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
