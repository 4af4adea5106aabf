"""A zoo: the models that people bring, tiny and random, each with what is known about it from outside.

`ZOO` lists them; nothing is built or imported before `build()`, which raises ImportError where a package is missing.
A specimen without `refused` is a column of attention and FFN blocks over one token sequence; the others say why not.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import zoo_models as own
from torch import Tensor, nn
from torch.nn import functional as F
from zoo_models import CLASSES, DEPTH, GRID, HEADS, PATCH, SIZE, WIDTH, OwnViT, Wrapped, tiny_timm

Build = Callable[[], nn.Module]
SQUARE, SQUARE_GRID = (48, 48), (3, 3)
WORDS, PADDING = 4, 3


def as_it_is(output: Any) -> Any:
    return output


@dataclass(frozen=True)
class Specimen:
    """One model, and what a test may expect of it.

    Attributes:
        name: unique, for people.
        package: where it comes from.
        build: a new one in eval mode, its weights spread.
        size: (height, width) of an image it takes, not square where the model allows it.
        channels: of an image.
        prefix: special tokens before the patches; None where the model is not flat.
        suffix: special tokens behind the patches.
        grid: (rows, columns) of patches; None where the model is not flat.
        classes: how many; None where it returns features, which need a function for a target.
        refused: why it is no column of attention and FFN blocks over one token sequence; "" where it is one.
        output: name of the type of what a call returns.
        numbers: from what a call returns to numbers (B, K): logits or features.
        inputs: from images (B, C, H, W) to the keyword arguments of a call; None where the images are the only one.
        odd: how it differs from what one expects of a flat model.
        random: two calls differ, also in eval mode.
        gpu: it cannot be run, or not with gradients, without one.
    """

    name: str
    package: str
    build: Build
    size: tuple[int, int] = SIZE
    channels: int = 3
    prefix: int | None = None
    suffix: int = 0
    grid: tuple[int, int] | None = None
    classes: int | None = CLASSES
    refused: str = ""
    output: str = "Tensor"
    numbers: Callable[[Any], Tensor] = as_it_is
    inputs: Callable[[Tensor], dict[str, Any]] | None = None
    odd: str = ""
    random: bool = False
    gpu: bool = False

    @property
    def flat(self) -> bool:
        return not self.refused

    def images(self, count: int = 2, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, self.channels, *self.size, generator=generator)

    def call(self, model: nn.Module, images: Tensor) -> Any:
        """The model's own output."""
        return model(images) if self.inputs is None else model(**self.inputs(images))


def spread(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and biases of noticeable size everywhere, so that nothing hides behind an initial 0 or 1.

    What starts as a constant other than 0 is a scale, of a norm or of LayerScale, and becomes 1 and a bit;
    matrices keep the size of what they multiply.
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for parameter in model.parameters():
            first = parameter.flatten()[:1].sum()
            if parameter.numel() <= 1:
                parameter.copy_(first * (1 + 0.1 * noise(parameter)) if first else torch.tensor(0.5))
            elif first != 0 and (parameter == first).all():
                parameter.copy_(1 + 0.3 * noise(parameter))
            elif parameter.ndim > 1 and len(parameter) > 1:
                parameter.copy_(noise(parameter) / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.3 * noise(parameter))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.copy_(0.3 * noise(module.running_mean))
                module.running_var.copy_(1 + 0.3 * noise(module.running_var).tanh())
    return model.eval()


def spread_after(build: Build) -> Build:
    """The same, ready to be looked at."""

    def ready() -> nn.Module:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            return spread(build())

    return ready


def flat(name: str, package: str, build: Build, prefix: int = 1, **more: Any) -> Specimen:
    """A column of blocks over one token sequence."""
    size = more.get("size", SIZE)
    grid = more.pop("grid", (size[0] // PATCH, size[1] // PATCH))
    return Specimen(name, package, spread_after(build), prefix=prefix, grid=grid, **more)


def other(name: str, package: str, build: Build, refused: str, **more: Any) -> Specimen:
    """Something else, and what."""
    return Specimen(name, package, spread_after(build), refused=refused, **more)


# Hugging Face transformers

HF_SIZES = {
    "patch_size": PATCH,
    "hidden_size": 32,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
}
HF_TEXT = {
    "vocab_size": 60,
    "max_position_embeddings": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
    "eos_token_id": 2,
}
LOGITS: dict[str, Any] = {"output": "ImageClassifierOutput", "numbers": lambda output: output.logits}
POOLED: dict[str, Any] = {
    "output": "BaseModelOutputWithPooling",
    "numbers": lambda output: output.pooler_output,
    "classes": None,
}
LAST: dict[str, Any] = {**POOLED, "numbers": lambda output: output.last_hidden_state.mean(1)}
CLASS_TOKEN: dict[str, Any] = {**POOLED, "numbers": lambda output: output.last_hidden_state[:, 0]}
TWO_TOWERS = "a text tower answers beside the picture's: the answer is the similarity of both, to every text"


def hf_build(kind: str, image: Any, module: str = "transformers", config: str = "", **options: Any) -> Build:
    """A model of this class from its own configuration, or from a part of it."""

    def build() -> nn.Module:
        found = importlib.import_module(module)
        named = config or kind.split("ForImage")[0].removesuffix("Model").removesuffix("Backbone") + "Config"
        source = importlib.import_module(module.replace("modeling", "configuration"))
        sizes = {**HF_SIZES, "image_size": image, "num_labels": CLASSES, **options}
        return getattr(found, kind)(getattr(source, named)(**sizes))

    return build


def hf(kind: str, prefix: int = 1, *, note: str = "", config: dict[str, Any] | None = None, **more: Any) -> Specimen:
    """A flat vision model; its configuration takes a size that is not square unless the specimen's is square."""
    size = more.get("size", SIZE)
    image = more.pop("image", 48 if size == SQUARE else size)
    source = {key: more.pop(key) for key in ("module", "source") if key in more}
    if "source" in source:
        source["config"] = source.pop("source")
    name = f"Hugging Face {kind}" + (f", {note}" if note else "")
    return flat(name, "transformers", hf_build(kind, image, **source, **(config or {})), prefix, **more)


def hf_towers(
    kind: str, family: str, prefix: int, *, note: str = "", options: dict[str, Any] | None = None, **more: Any
) -> Specimen:
    """A model with a configuration for pictures and one for texts."""

    def build() -> nn.Module:
        import transformers

        vision = {**HF_SIZES, "image_size": 48, **({"num_patches": 16} if family == "Siglip2" else {})}
        towers = {"vision_config": vision, "text_config": HF_TEXT, "num_labels": CLASSES, **(options or {})}
        if not family.startswith("Siglip"):
            towers["projection_dim"] = 16
        return getattr(transformers, kind)(getattr(transformers, f"{family}Config")(**towers))

    name = f"Hugging Face {kind}" + (f", {note}" if note else "")
    return flat(name, "transformers", build, prefix, **{"size": SQUARE, **more})


def texts() -> Tensor:
    """Token numbers of four texts."""
    return torch.randint(3, 60, (WORDS, 8), generator=torch.Generator().manual_seed(3))


def with_texts(images: Tensor) -> dict[str, Any]:
    return {"input_ids": texts(), "pixel_values": images}


def interpolated(images: Tensor) -> dict[str, Any]:
    return {"pixel_values": images, "interpolate_pos_encoding": True}


def packed(images: Tensor) -> dict[str, Any]:
    """NaFlex: a sequence of flattened patches, which of them are real, and the grid."""
    rows, columns = images.shape[2] // PATCH, images.shape[3] // PATCH
    patches = images.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 4, 5, 1)
    patches = patches.reshape(len(images), rows * columns, -1)
    return {
        "pixel_values": patches,
        "pixel_attention_mask": torch.ones(patches.shape[:2], dtype=torch.long),
        "spatial_shapes": torch.tensor([[rows, columns]] * len(images)),
    }


def padded(images: Tensor) -> dict[str, Any]:
    """NaFlex as its processor makes it: padding behind the patches, masked."""
    inputs = packed(images)
    more = (0, 0, 0, PADDING)
    mask = F.pad(inputs["pixel_attention_mask"], (0, PADDING))
    return {**inputs, "pixel_values": F.pad(inputs["pixel_values"], more), "pixel_attention_mask": mask}


def and_texts(images: Tensor) -> dict[str, Any]:
    return {**packed(images), "input_ids": texts()}


def in_order(images: Tensor) -> dict[str, Any]:
    """MAE keeps the patches with the smallest noise first: rising noise leaves them in place."""
    patches = images.shape[2] * images.shape[3] // PATCH**2
    return {"pixel_values": images, "noise": torch.arange(float(patches)).expand(len(images), -1)}


def labelled(images: Tensor) -> dict[str, Any]:
    return {"pixel_values": images, "labels": torch.arange(len(images)) % CLASSES}


def by_keyword(**options: Any) -> Callable[[Tensor], dict[str, Any]]:
    return lambda images: {"pixel_values": images, **options}


def timm_in_transformers(kind: str) -> Build:
    def build() -> nn.Module:
        import transformers

        options = {key: value for key, value in own.TIMM.items() if key not in ("num_classes", "patch_size")}
        made = {"architecture": "vit_tiny_patch16_224", "num_labels": CLASSES, "model_args": options}
        return getattr(transformers, kind)(transformers.TimmWrapperConfig(**made))

    return build


def without_pooler() -> nn.Module:
    import transformers

    return transformers.ViTModel(transformers.ViTConfig(**HF_SIZES, image_size=SIZE), add_pooling_layer=False)


NAFLEX = "takes no pictures but their flattened patches, a mask of real ones and the grid"
ATTENTION_POOL = "a query of its own attends to the patches: attention outside of the blocks, only for the readout"
NO_NORM = "a norm in front of the first block; the average of the patches, without any norm behind the blocks"
TWICE = "the final norm is applied twice to what is read"
MEAN_BEHIND = "average of the patches without the class token, norm behind it"
PER_IMAGE: dict[str, Any] = {
    "numbers": lambda output: output.logits_per_image,
    "inputs": with_texts,
    "classes": WORDS,
    "odd": TWO_TOWERS,
}
EMBEDDED: dict[str, Any] = {"numbers": lambda output: output.image_embeds, "classes": None}
EAGER = {"attn_implementation": "eager"}
NOT_SQUARE: dict[str, Any] = {"note": "not square, interpolated", "image": 48, "inputs": interpolated}


def modeling(name: str) -> str:
    """The module of a model that transformers does not export."""
    return f"transformers.models.{name}.modeling_{name}"


def hugging_face_classifiers() -> list[Specimen]:
    vit, dino = "ViTForImageClassification", "Dinov2ForImageClassification"
    registers = {"num_register_tokens": 4}
    return [
        hf(vit, **LOGITS),
        hf(vit, note="eager", config=EAGER, **LOGITS),
        hf(vit, note="eager, attentions", config={**EAGER, "output_attentions": True}, **LOGITS),
        hf(
            vit,
            note="flex attention",
            config={"attn_implementation": "flex_attention"},
            gpu=True,
            odd="compiled while it runs, and no gradient on a CPU",
            **LOGITS,
        ),
        hf(
            vit,
            note="a tuple",
            inputs=by_keyword(return_dict=False),
            output="tuple",
            numbers=lambda output: output[0],
        ),
        hf(vit, note="hidden states asked for", inputs=by_keyword(output_hidden_states=True), **LOGITS),
        hf(vit, note="other size, interpolated", size=(32, 64), image=48, inputs=interpolated, **LOGITS),
        hf(
            vit,
            note="labels given",
            inputs=labelled,
            odd="returns a loss, too",
            **LOGITS,
        ),
        hf("DeiTForImageClassification", 2, odd="the class token is read, the distillation token is not", **LOGITS),
        hf(
            "DeiTForImageClassificationWithTeacher",
            2,
            output="DeiTForImageClassificationWithTeacherOutput",
            numbers=lambda output: output.logits,
        ),
        hf(dino, size=SQUARE, **LOGITS),
        hf(dino, note="other size", image=48, config={"use_swiglu_ffn": True}, **LOGITS),
        hf(dino, note="eager", image=48, config=EAGER, **LOGITS),
        hf(
            dino,
            note="eager, attentions asked for",
            image=48,
            config=EAGER,
            inputs=by_keyword(output_attentions=True),
            **LOGITS,
        ),
        hf(
            dino,
            note="a tuple",
            image=48,
            inputs=by_keyword(return_dict=False),
            output="tuple",
            numbers=lambda output: output[0],
        ),
        hf("Dinov2WithRegistersForImageClassification", 5, image=48, config=registers, **LOGITS),
        hf("BeitForImageClassification", odd=MEAN_BEHIND, **LOGITS),
        hf(
            "BeitForImageClassification",
            note="relative positions, class token",
            config={"use_relative_position_bias": True, "use_mean_pooling": False},
            **LOGITS,
        ),
        hf(
            "Data2VecVisionForImageClassification",
            config={"use_shared_relative_position_bias": True},
            odd=MEAN_BEHIND,
            **LOGITS,
        ),
        hf("ViTMSNForImageClassification", **LOGITS),
        hf("IJepaForImageClassification", 0, odd="average of the patches", **LOGITS),
        *(
            hf_towers(f"{family}ForImageClassification", family, 1, **more, odd=NO_NORM, **LOGITS)
            for family in ("CLIP", "MetaClip2")
            for more in ({}, EAGER_TOWERS, NOT_SQUARE_TOWERS)
        ),
        hf_towers(
            "CLIPForImageClassification",
            "CLIP",
            1,
            note="eager, attentions asked for",
            options=EAGER,
            inputs=by_keyword(output_attentions=True),
            **LOGITS,
        ),
        hf_towers("SiglipForImageClassification", "Siglip", 0, odd="average of the patches", **LOGITS),
        hf_towers("SiglipForImageClassification", "Siglip", 0, **NOT_SQUARE_TOWERS, **LOGITS),
        hf_towers(
            "Siglip2ForImageClassification", "Siglip2", 0, note="NaFlex", size=SIZE, inputs=packed, odd=NAFLEX, **LOGITS
        ),
        hf_towers(
            "Siglip2ForImageClassification",
            "Siglip2",
            0,
            note="NaFlex, padded",
            size=SIZE,
            suffix=PADDING,
            inputs=padded,
            odd=f"{NAFLEX}; masked padding behind the patches",
            **LOGITS,
        ),
        flat(
            "Hugging Face TimmWrapperForImageClassification",
            "transformers",
            timm_in_transformers("TimmWrapperForImageClassification"),
            **LOGITS,
        ),
    ]


EAGER_TOWERS: dict[str, Any] = {"note": "eager", "options": EAGER}
NOT_SQUARE_TOWERS: dict[str, Any] = {"note": "not square, interpolated", "size": SIZE, "inputs": interpolated}


def hugging_face_features() -> list[Specimen]:
    clips = {
        f"{family}VisionModelWithProjection": {
            "source": f"{family}VisionConfig",
            "config": {"projection_dim": 16},
            "output": f"{family}VisionModelOutput",
            **EMBEDDED,
        }
        for family in ("CLIP", "MetaClip2")
    }
    idefics, ovis = modeling("idefics2"), modeling("ovis2")
    return [
        hf("ViTModel", odd="a dense layer and tanh behind the class token", **POOLED),
        flat("Hugging Face ViTModel, without pooler", "transformers", without_pooler, **CLASS_TOKEN),
        hf("DeiTModel", 2, **POOLED),
        hf("Dinov2Model", image=48, **POOLED),
        hf("Dinov2WithRegistersModel", 5, image=48, config={"num_register_tokens": 4}, **POOLED),
        *(
            hf(
                "DINOv3ViTModel",
                5,
                note=note,
                config={"num_register_tokens": 4, **options},
                odd="rotary positions, none added; LayerScale",
                **POOLED,
            )
            for note, options in (("", {}), ("gated FFN", {"use_gated_mlp": True}), ("eager", EAGER))
        ),
        hf("BeitModel", odd="norm behind the average", **{**POOLED, "output": "BeitModelOutputWithPooling"}),
        hf("ViTMSNModel", **{**CLASS_TOKEN, "output": "BaseModelOutput"}),
        hf("IJepaModel", 0, **LAST),
        hf(
            "ViTMAEModel",
            note="nothing masked, in order",
            config={"mask_ratio": 0.0},
            inputs=in_order,
            odd="gathers its tokens in an order given by noise: at random, unless noise is given that rises",
            **{**CLASS_TOKEN, "output": "ViTMAEModelOutput"},
        ),
        *(hf(kind, size=SQUARE, **more) for kind, more in clips.items()),
        *(hf(kind, **NOT_SQUARE, **more) for kind, more in clips.items()),
        hf("CLIPVisionModel", size=SQUARE, odd="a norm in front of the first block", **POOLED),
        hf("MetaClip2VisionModel", size=SQUARE, odd="a norm in front of the first block", **POOLED),
        hf("SiglipVisionModel", 0, size=SQUARE, odd=ATTENTION_POOL, **POOLED),
        hf("SiglipVisionModel", 0, note="without head", size=SQUARE, config={"vision_use_head": False}, **LAST),
        hf("Siglip2VisionModel", 0, note="NaFlex", config={"num_patches": 16}, inputs=packed, odd=NAFLEX, **POOLED),
        hf("Aimv2VisionModel", 0, size=SQUARE, odd=ATTENTION_POOL + "; norms without a mean, gated FFN", **POOLED),
        hf("Aimv2VisionModel", 0, note="without head", size=SQUARE, config={"use_head": False}, **LAST),
        *(
            hf_towers(f"{family}Model", family, prefix, output=f"{family}Output", **PER_IMAGE)
            for family, prefix in (("CLIP", 1), ("MetaClip2", 1), ("Siglip", 0), ("Aimv2", 0))
        ),
        hf_towers(
            "Siglip2Model",
            "Siglip2",
            0,
            note="NaFlex",
            output="Siglip2Output",
            size=SIZE,
            **{**PER_IMAGE, "inputs": and_texts, "odd": f"{TWO_TOWERS}; {NAFLEX}"},
        ),
        hf("MLCDVisionModel", size=SQUARE, odd="rotary positions", **POOLED),
        hf("PixioModel", 8, image=48, odd="the average of eight class tokens", **POOLED),
        hf("Tipsv2VisionModel", 2, image=48, config={"num_register_tokens": 1}, **POOLED),
        hf(
            "Sapiens2Model",
            9,
            config={"num_key_value_heads_per_layer": [2, 1, 2]},
            odd="rotary positions; in the second block two heads share their keys and values",
            **POOLED,
        ),
        hf(
            "RadioModel",
            5,
            image=48,
            config={"max_img_size": 64, "num_cls_tokens": 3, "num_registers": 2},
            output="RadioModelOutput",
            numbers=lambda output: output.summary,
            classes=None,
            odd="class tokens side by side, of several teachers; normalises its own pictures; no final norm",
        ),
        hf(
            "InternVLVisionModel",
            config={"image_size": (48, 48), "patch_size": (PATCH, PATCH)},
            odd="LayerScale as a parameter of the block",
            **{**LAST, "output": "InternVLVisionModelOutputWithPooling"},
        ),
        hf(
            "JanusVisionModel",
            0,
            size=SQUARE,
            odd=f"reads the first patch as if it were a class token; {TWICE}",
            **POOLED,
        ),
        hf("Idefics3VisionTransformer", 0, source="Idefics3VisionConfig", size=SQUARE, **LAST),
        hf("SmolVLMVisionTransformer", 0, source="SmolVLMVisionConfig", size=SQUARE, **LAST),
        hf("Idefics2VisionTransformer", 0, module=idefics, source="Idefics2VisionConfig", size=SQUARE, **LAST),
        hf(
            "Ovis2VisionModel",
            0,
            module=ovis,
            source="Ovis2VisionConfig",
            size=SQUARE,
            config={"vocab_size": 60, "num_visual_indicator_tokens": 2},
            odd="a softmax over a vocabulary at every patch is the answer",
            output="BaseModelOutputWithVisualIndicatorFeatures",
            numbers=lambda output: output.pooler_output.mean(1),
            classes=None,
        ),
        *(
            hf(f"{family}VisionModel", size=SQUARE, **POOLED)
            for family in ("ChineseCLIP", "AltCLIP", "CLIPSeg", "OwlViT", "Owlv2")
        ),
        *(hf(f"{family}VisionModel", size=SQUARE, odd=TWICE, **POOLED) for family in ("Blip", "Blip2", "InstructBlip")),
        hf("GitVisionModel", size=SQUARE, **{**CLASS_TOKEN, "output": "BaseModelOutput"}),
        hf("FlavaImageModel", source="FlavaImageConfig", **POOLED),
        hf("Phi4MultimodalVisionModel", 0, size=SQUARE, odd=ATTENTION_POOL, **POOLED),
        hf("MgpstrModel", source="MgpstrConfig", odd="no final norm", **{**CLASS_TOKEN, "output": "BaseModelOutput"}),
        hf(
            "DPTModel",
            size=SQUARE,
            config={"num_channels": 3},
            **{**POOLED, "output": "BaseModelOutputWithPoolingAndIntermediateActivations"},
        ),
        hf(
            "YolosModel",
            suffix=4,
            config={"num_detection_tokens": 4},
            odd="detection tokens behind the patches",
            **POOLED,
        ),
        hf(
            "VitPoseBackbone",
            0,
            source="VitPoseBackboneConfig",
            output="BackboneOutput",
            numbers=lambda output: output.feature_maps[-1].mean(1),
            classes=None,
            odd="its embedding pads the picture by two pixels; the class token's position is added to all patches",
        ),
        hf(
            "VitDetModel",
            0,
            output="BaseModelOutput",
            numbers=lambda output: output.last_hidden_state.mean((2, 3)),
            classes=None,
            odd="the stream is a map (B, rows, columns, D), never a sequence; no final norm",
        ),
        hf(
            "Dinov2Backbone",
            source="Dinov2Config",
            image=48,
            output="BackboneOutput",
            numbers=lambda output: output.feature_maps[-1].mean((2, 3)),
            classes=None,
            odd="feature maps of chosen layers",
        ),
        flat(
            "Hugging Face TimmWrapperModel",
            "transformers",
            timm_in_transformers("TimmWrapperModel"),
            **{**POOLED, "output": "TimmWrapperModelOutput"},
        ),
    ]


def hf_other(kind: str, refused: str, note: str = "", **more: Any) -> Specimen:
    """One that is not flat; `more` that Specimen does not know goes to its configuration."""
    fields = {key: more.pop(key) for key in list(more) if key in Specimen.__dataclass_fields__}
    source = {key: more.pop(key) for key in ("module", "source") if key in more}
    if "source" in source:
        source["config"] = source.pop("source")

    def build() -> nn.Module:
        found = importlib.import_module("transformers")
        config = source.get("config") or kind.split("ForImage")[0].removesuffix("Model") + "Config"
        return getattr(found, kind)(getattr(found, config)(num_labels=CLASSES, **more))

    fields = {**LOGITS, **fields}
    name = f"Hugging Face {kind}" + (f", {note}" if note else "")
    return other(name, "transformers", build, refused, **{"size": (64, 64), **fields})


NO_ATTENTION = {"output": "ImageClassifierOutputWithNoAttention"}
FEWER_KEYS = "keys and values come from fewer tokens than queries, and it merges tokens"
MERGES = "it merges tokens on the way"
WINDOWS = "it attends in windows and merges tokens on the way"
SHIFTED = "it attends in shifted windows and merges patches on the way"
CNN = "it is a convolutional network: it has no attention"
CONV_MIX = "convolutions mix neighbouring tokens between or inside its blocks"


def hugging_face_others() -> list[Specimen]:
    small = {"hidden_sizes": [8, 16], "depths": [1, 1]}
    pyramid = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
    four = {"num_attention_heads": [1, 1, 2, 2]}
    windows = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "image_size": 64}
    return [
        hf_other("SwinForImageClassification", SHIFTED, output="SwinImageClassifierOutput", **windows),
        hf_other("Swinv2ForImageClassification", SHIFTED, output="Swinv2ImageClassifierOutput", **windows),
        hf_other("DonutSwinForImageClassification", SHIFTED, output="DonutSwinImageClassifierOutput", **windows),
        hf_other(
            "HieraForImageClassification",
            MERGES,
            output="HieraForImageClassificationOutput",
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            image_size=[64, 64],
        ),
        hf_other(
            "LevitForImageClassification",
            MERGES,
            **NO_ATTENTION,
            hidden_sizes=[16, 24, 32],
            num_attention_heads=[1, 1, 2],
            depths=[1, 1, 1],
            key_dim=[8, 8, 8],
            image_size=64,
        ),
        hf_other("PvtForImageClassification", FEWER_KEYS, image_size=64, **pyramid, num_attention_heads=[1, 1, 2, 2]),
        hf_other("PvtV2ForImageClassification", FEWER_KEYS, image_size=64, **pyramid, **four),
        hf_other(
            "SegformerForImageClassification",
            output="SegFormerImageClassifierOutput",
            refused=FEWER_KEYS,
            **pyramid,
            **four,
        ),
        hf_other(
            "MobileViTForImageClassification",
            "convolutions and transformers take turns",
            **NO_ATTENTION,
            image_size=64,
            hidden_sizes=[16, 24, 32],
            neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32],
        ),
        hf_other(
            "MobileViTV2ForImageClassification",
            "convolutions and transformers take turns",
            **NO_ATTENTION,
            image_size=64,
            width_multiplier=0.5,
            base_attn_unit_dims=[16, 24, 32],
        ),
        hf_other(
            "CvtForImageClassification",
            "queries, keys and values come from convolutions, and it merges tokens",
            **NO_ATTENTION,
            embed_dim=[8, 16, 32],
            num_heads=[1, 1, 2],
            depth=[1, 2, 3],
        ),
        hf_other(
            "FocalNetForImageClassification",
            "it mixes tokens by focal modulation, not by attention",
            output="FocalNetImageClassifierOutput",
            image_size=64,
            embed_dim=8,
            depths=[1, 1],
            focal_levels=[1, 1],
            focal_windows=[3, 3],
        ),
        hf_other(
            "PoolFormerForImageClassification",
            "it mixes tokens by pooling, not by attention",
            **NO_ATTENTION,
            **pyramid,
        ),
        hf_other(
            "SwiftFormerForImageClassification",
            "convolutions and additive attention take turns",
            **NO_ATTENTION,
            depths=[1, 1, 1, 1],
            embed_dims=[8, 8, 16, 16],
        ),
        hf_other("ConvNextForImageClassification", CNN, **NO_ATTENTION, **pyramid),
        hf_other("ConvNextV2ForImageClassification", CNN, **NO_ATTENTION, **pyramid),
        hf_other("ResNetForImageClassification", CNN, **NO_ATTENTION, embedding_size=8, **small, layer_type="basic"),
        hf_other("RegNetForImageClassification", CNN, **NO_ATTENTION, embedding_size=8, **small, groups_width=8),
        hf_other(
            "BitForImageClassification",
            CNN,
            **NO_ATTENTION,
            num_groups=8,
            embedding_size=32,
            hidden_sizes=[32, 32, 64, 64],
            depths=[1, 1, 1, 1],
        ),
        hf_other(
            "EfficientNetForImageClassification",
            CNN,
            **NO_ATTENTION,
            image_size=64,
            width_coefficient=0.25,
            depth_coefficient=0.2,
            hidden_dim=320,
        ),
        hf_other("MobileNetV2ForImageClassification", CNN, **NO_ATTENTION, image_size=64, depth_multiplier=0.35),
        hf_other(
            "PerceiverForImageClassificationLearned",
            "a few latents attend to the pixels; there are no patch tokens",
            output="PerceiverClassifierOutput",
            source="PerceiverConfig",
            image_size=64,
            num_latents=8,
            d_latents=32,
            d_model=48,
            num_self_attends_per_block=2,
            num_self_attention_heads=2,
            num_cross_attention_heads=1,
        ),
        hf_other(
            "PixtralVisionModel",
            "all images of a batch are packed into one sequence",
            output="BaseModelOutputWithPooling",
            numbers=lambda output: output.last_hidden_state[0].unflatten(0, (-1, GRID[0] * GRID[1])).mean(1),
            classes=None,
            size=SIZE,
            image_size=48,
            **HF_SIZES,
        ),
        hf_other(
            "SamVisionModel",
            "it attends in windows, and a convolutional neck follows",
            output="SamVisionEncoderOutput",
            numbers=lambda output: output.last_hidden_state.mean((2, 3)),
            classes=None,
            image_size=64,
            window_size=2,
            global_attn_indexes=[1],
            output_channels=16,
            mlp_dim=48,
            **HF_SIZES,
        ),
        hf_other(
            "VitDetModel",
            "it attends in windows in some of its blocks",
            note="with windows",
            output="BaseModelOutput",
            numbers=lambda output: output.last_hidden_state.mean((2, 3)),
            classes=None,
            image_size=64,
            window_size=2,
            window_block_indices=[0, 1],
            **HF_SIZES,
        ),
    ]


# timm


def timm_models() -> list[Specimen]:
    def one(name: str, build: Build, prefix: int = 1, **more: Any) -> Specimen:
        return flat(f"timm {name}", "timm", build, prefix, **more)

    def vit(**options: Any) -> Build:
        return partial(tiny_timm, **options)

    def of(module: str, kind: str, **options: Any) -> Build:
        def build() -> nn.Module:
            found = importlib.import_module(f"timm.models.{module}")
            made = {key: getattr(found, value) if key == "block_fn" else value for key, value in options.items()}
            return getattr(found, kind)(**{**own.TIMM, **made})

        return build

    rotary = {"use_rot_pos_emb": True, "use_abs_pos_emb": False, "embed_dim": 32}
    return [
        one("ViT", vit()),
        one("ViT, unfused attention", unfused),
        one("ViT, features", vit(num_classes=0), classes=None),
        one("ViT, head replaced by an Identity", headless, classes=None, odd="its num_classes still says five"),
        one("ViT, average", vit(global_pool="avg"), odd="norm behind the average"),
        one("ViT, average without class token", vit(global_pool="avg", class_token=False), 0),
        one("ViT, attention pooling", vit(global_pool="map", class_token=False), 0, odd=ATTENTION_POOL),
        one("ViT, registers, LayerScale", vit(reg_tokens=4, no_embed_class=True, init_values=1e-5), 5),
        one("ViT, a norm in front", vit(pre_norm=True)),
        one("ViT, grey and another patch", vit(in_chans=1, patch_size=8, img_size=(24, 32)), channels=1, size=(24, 32),
            grid=(3, 4)),
        one("ViT, norms behind", of("vision_transformer", "VisionTransformer", block_fn="ResPostBlock")),
        one("ViT, parallel", of("vision_transformer", "VisionTransformer", block_fn="ParallelScalingBlock")),
        one("ViT, any size", vit(img_size=48, dynamic_img_size=True), size=(32, 64)),
        one("DeiT, distilled", of("deit", "VisionTransformerDistilled"), 2, odd="the average of two heads"),
        one("BEiT", of("beit", "Beit", use_rel_pos_bias=True, use_abs_pos_emb=False, init_values=0.1)),
        one("PE core", partial(tiny_timm, "vit_pe_core_tiny_patch16_384", num_heads=2, embed_dim=32), 1,
            odd="a norm in front, rotary positions, and " + ATTENTION_POOL),
        one("EVA-02", of("eva", "Eva", **rotary, attn_type="rope", swiglu_mlp=True, scale_mlp=True, qkv_fused=False)),
        one("relative positions", of("vision_transformer_relpos", "VisionTransformerRelPos", class_token=True)),
        one("NaFlexViT", naflex, 5, odd="its pictures may come as patches; positions are resized to the picture"),
        other("timm ViT, several attentions side by side", "timm",
              of("vision_transformer", "VisionTransformer", block_fn="ParallelThingsBlock"),
              "several attentions side by side write to the stream at once"),
        other("timm ViT, differential attention", "timm",
              of("vision_transformer", "VisionTransformer", block_fn="DiffParallelScalingBlock"),
              "its attention is the difference of two softmaxes"),
    ]  # fmt: skip


def unfused() -> nn.Module:
    model = tiny_timm()
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return model


def headless() -> nn.Module:
    model = tiny_timm()
    model.head = nn.Identity()
    return model


def naflex() -> nn.Module:
    import timm

    options = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "num_classes": CLASSES}
    return timm.create_model("naflexvit_base_patch16_par_gap", **options, class_token=True, global_pool="token")


def timm_others() -> list[Specimen]:
    def one(name: str, refused: str, **options: Any) -> Specimen:
        def build() -> nn.Module:
            import timm

            return timm.create_model(name, num_classes=CLASSES, **options)

        side = options.get("img_size", 64)
        return other(f"timm {name}", "timm", build, refused, size=(side, side))

    two = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "img_size": 64, "window_size": 4}
    pyramid = {"embed_dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
    column = {"img_size": 64, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return [
        one("swin_tiny_patch4_window7_224", SHIFTED, **two),
        one("swinv2_tiny_window8_256", SHIFTED, **two),
        one("maxvit_rmlp_pico_rw_256", "windows, grids and convolutions take turns", img_size=256),
        one("coatnet_pico_rw_224", "convolutions come before attention, and it merges tokens", img_size=224),
        one("pvt_v2_b0", FEWER_KEYS, **pyramid),
        one("twins_svt_small", "it attends in windows and to fewer keys, and merges tokens", img_size=64, **pyramid),
        one("coat_lite_tiny", "its attention is factorised, with convolutions, and it merges tokens", img_size=64),
        one("cait_xxs24_224", "two last blocks let only the class token ask, and its heads talk", **column),
        one("xcit_nano_12_p16_224", "it attends between channels, not between tokens", **column),
        one("levit_128s", MERGES, img_size=224),
        one("hiera_tiny_224", MERGES, img_size=224, embed_dim=8, stages=(1, 1, 1, 1)),
        one("mvitv2_tiny", MERGES, img_size=64),
        one("crossvit_tiny_240", "it runs two token sequences of different patch size", img_size=240),
        one("tnt_s_legacy_patch16_224", "it runs a second attention inside every patch", img_size=224, depth=2),
        one("volo_d1_224", "it mixes with outlook attention and merges tokens on the way", img_size=64),
        one("convit_tiny", "its attention is mixed with one of positions only, by a gate", **column),
        one("pit_ti_224", MERGES, img_size=224),
        one("nest_tiny", WINDOWS, img_size=224),
        one("edgenext_xx_small", "convolutions and attention between channels take turns"),
        one("mobilevit_xxs", "convolutions and transformers take turns", img_size=256),
        one("fastvit_t8", CONV_MIX),
        one("repvit_m0_9", CNN, img_size=224),
        one("efficientvit_b0", "its attention is linear, between convolutions"),
        one("efficientvit_m0", "it attends in windows, head after head", img_size=224),
        one("efficientformerv2_s0", "convolutions come before attention, and it merges tokens", img_size=224),
        one("gcvit_xxtiny", "windows with queries of the whole picture take turns", img_size=224),
        one("davit_tiny", "windows and attention between channels take turns", embed_dims=(8, 16), depths=(1, 1),
            num_heads=(1, 2)),
        one("test_resnet", CNN),
        one("resnet18", CNN),
        one("convnext_atto", CNN),
        one("test_efficientnet", CNN),
        one("mixer_s32_224", "a Linear over the tokens mixes them, not attention", img_size=64),
        one("gmlp_ti16_224", "a gate over the tokens mixes them, not attention", img_size=64),
        one("poolformer_s12", "it mixes tokens by pooling, not by attention"),
        one("sequencer2d_s", "it mixes tokens by recurrent networks, not by attention", img_size=224),
    ]  # fmt: skip


# torchvision


def torchvision_models() -> list[Specimen]:
    def vit(image: int = 48, **options: Any) -> Build:
        def build() -> nn.Module:
            from torchvision.models.vision_transformer import VisionTransformer

            sizes = {"num_layers": DEPTH, "num_heads": HEADS, "hidden_dim": WIDTH, "mlp_dim": 48}
            return VisionTransformer(image_size=image, patch_size=PATCH, **sizes, num_classes=CLASSES, **options)

        return build

    def stem() -> nn.Module:
        from torchvision.models.vision_transformer import ConvStemConfig

        layers = [ConvStemConfig(channels, 3, 2) for channels in (8, 12, 16, 24)]
        return vit(64, conv_stem_configs=layers)()

    def features() -> nn.Module:
        model = vit()()
        model.heads = nn.Identity()
        return model

    def traced() -> nn.Module:
        from torchvision.models.feature_extraction import create_feature_extractor

        return create_feature_extractor(vit()(), ["getitem_5"])

    def scripted() -> nn.Module:
        return torch.jit.trace(vit()().eval(), torch.zeros(2, 3, *SQUARE), check_trace=False)

    def named(name: str) -> Build:
        return lambda: importlib.import_module("torchvision").models.get_model(name, num_classes=CLASSES)

    def one(name: str, build: Build, **more: Any) -> Specimen:
        return flat(f"torchvision {name}", "torchvision", build, **{"size": SQUARE, **more})

    def not_flat(name: str, refused: str, side: int = 64) -> Specimen:
        return other(f"torchvision {name}", "torchvision", named(name), refused, size=(side, side))

    return [
        one("ViT", vit()),
        one("ViT, another size", vit(80), size=(80, 80)),
        one("ViT, two layers behind the class token", vit(representation_size=16)),
        one("ViT, convolutional stem", stem, size=(64, 64), odd="a token looks half a patch aside"),
        one("ViT, head replaced by an Identity", features, classes=None),
        not_flat("resnet18", CNN),
        not_flat("mobilenet_v3_small", CNN),
        one(
            "ViT, traced by create_feature_extractor",
            traced,
            classes=None,
            output="dict",
            numbers=lambda output: output["getitem_5"],
            odd="a graph: blocks are never called, their parts are",
        ),
        other(
            "torchvision ViT, TorchScript",
            "torchvision",
            scripted,
            "compiled code does not show its attention",
            size=SQUARE,
        ),
    ]


# open_clip


def open_clip_models() -> list[Specimen]:
    def tower(**options: Any) -> dict[str, Any]:
        sizes = {"layers": DEPTH, "width": 32, "head_width": 16, "patch_size": PATCH, "image_size": SIZE}
        return {**sizes, "mlp_ratio": 1.5, **options}

    def full(kind: str = "CLIP", output_dict: bool = False, **options: Any) -> nn.Module:
        clip = importlib.import_module("open_clip.model")
        words = {"context_length": 8, "vocab_size": 60, "width": 32, "heads": HEADS, "layers": 2}
        return getattr(clip, kind)(16, tower(**options), words, output_dict=output_dict)

    def timm_tower() -> nn.Module:
        from open_clip.timm_model import TimmModel

        model = TimmModel("vit_tiny_patch16_224", 16, image_size=SIZE, pool="", proj="linear", pretrained=False)
        model.trunk = tiny_timm(num_classes=0)
        model.head.proj = nn.Linear(WIDTH, 16)
        return model

    def zero_shot(**options: Any) -> Build:
        def build() -> nn.Module:
            return ZeroShot(full(**options).visual)

        return build

    def visual(name: str, prefix: int = 1, odd: str = "", **options: Any) -> Specimen:
        more = {"classes": None, "odd": odd}
        return flat(f"open_clip visual tower{name}", "open_clip", lambda: full(**options).visual, prefix, **more)

    def image_and_text(images: Tensor) -> dict[str, Any]:
        return {"image": images, "text": texts()}

    front = "a norm in front of the first block, a matrix behind the readout"
    towers: dict[str, Any] = {"inputs": image_and_text, "classes": None, "odd": TWO_TOWERS}
    return [
        visual("", odd=front),
        visual(", average", pool_type="avg", odd="average of the patches after the norm"),
        visual(", norm behind the average", pool_type="avg", final_ln_after_pool=True, no_ln_pre=True),
        visual(", LayerScale", ls_init_value=0.1),
        visual(", attention pooling", attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=2,
               odd=ATTENTION_POOL + ", of four queries the first is read"),
        visual(", own block", block_type="custom", qk_norm=True, scale_attn=True, scale_attn_inner=True, scale_fc=True,
               scale_heads=True, odd="scales per head and norms between heads and projection and behind it"),
        flat("open_clip tower of timm", "open_clip", timm_tower, classes=None),
        flat("open_clip zero-shot classifier", "open_clip", zero_shot(), odd="cosine to fixed texts"),
        flat("open_clip CLIP, image and text", "open_clip", full, output="tuple", numbers=lambda output: output[0],
             **towers),
        flat("open_clip CLIP, image and text, a dict", "open_clip", partial(full, output_dict=True), output="dict",
             numbers=lambda output: output["image_features"], **towers),
        flat("open_clip CLIP, image only", "open_clip", full, output="tuple", numbers=lambda output: output[0],
             classes=None, odd="returns None for the text"),
        flat("open_clip CustomTextCLIP, image and text", "open_clip", partial(full, "CustomTextCLIP"), output="tuple",
             numbers=lambda output: output[0], **towers),
    ]  # fmt: skip


class ZeroShot(nn.Module):
    """Cosine of a picture's features to those of fixed texts, the usual way to classify with CLIP."""

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        self.register_buffer("texts", F.normalize(torch.randn(CLASSES, 16), dim=-1))

    def forward(self, images: Tensor) -> Tensor:
        return 10 * F.normalize(self.visual(images), dim=-1) @ self.texts.T


# In the manner of public repositories


def hub_models() -> list[Specimen]:
    def one(name: str, build: Build, prefix: int = 1, **more: Any) -> Specimen:
        return flat(name, "torch.hub", build, prefix, **more)

    features: dict[str, Any] = {"classes": None}
    asked = {"inputs": lambda images: {"images": images, "is_training": True}, "output": "dict", **features}
    by_hand = "softmax and @; LayerScale; forward of the block takes tensors or lists"
    return [
        one("DINOv2 of torch.hub", own.DinoV2, odd=by_hand, **features),
        one("DINOv2 of torch.hub, square", own.DinoV2, size=SQUARE, **features),
        one("DINOv2 of torch.hub, registers", partial(own.DinoV2, registers=4), 5, **features),
        one("DINOv2 of torch.hub, gated FFN", partial(own.DinoV2, mlp=own.PublicSwiGLU), **features),
        one("DINOv2 of torch.hub, a dict", own.DinoV2, numbers=lambda output: output["x_norm_clstoken"],
            odd="returns tokens with and without norm by name", **asked),
        one("DINOv2 of torch.hub, linear classifier", own.DinoV2Linear, odd="class token and average of the patches"),
        one("DINO of torch.hub", own.DinoV1, odd="attention returns a tuple", **features),
        one("MAE, class token", partial(own.MaskedAutoencoder, average=False), odd="features are pooled already"),
        one("MAE, average", partial(own.MaskedAutoencoder, average=True), odd="the norm is behind the average"),
        one("RETFound", own.Retinal, odd="a sequence of one token is the average"),
        one("MoCo v3", own.MomentumContrast, odd="frozen positions"),
        other("DINOv2 of torch.hub, linear classifier of four layers", "torch.hub", partial(own.DinoV2Linear, layers=3),
              "its classifier reads several layers"),
    ]  # fmt: skip


# vit-pytorch


def vit_pytorch_models() -> list[Specimen]:
    sizes = {"image_size": SIZE, "patch_size": PATCH, "num_classes": CLASSES, "dim": WIDTH, "depth": DEPTH,
             "heads": HEADS, "mlp_dim": 48, "dim_head": 12}  # fmt: skip
    square = {**sizes, "image_size": 48}

    def build(module: str, kind: str, **options: Any) -> Build:
        return lambda: getattr(importlib.import_module(f"vit_pytorch.{module}"), kind)(**options)

    def one(module: str, kind: str, prefix: int, note: str = "", fields: Any = None, **options: Any) -> Specimen:
        made = build(module, kind, **{**sizes, **options})
        name = f"vit-pytorch {module}.{kind}" + (f", {note}" if note else "")
        return flat(name, "vit-pytorch", made, prefix, **(fields or {}))

    def not_flat(module: str, kind: str, refused: str, side: int = 48, fields: Any = None, **options: Any) -> Specimen:
        name = f"vit-pytorch {module}.{kind}"
        return other(name, "vit-pytorch", build(module, kind, **options), refused, size=(side, side), **(fields or {}))

    def distillable() -> nn.Module:
        return build("distill", "DistillableViT", **sizes)()

    def with_memories() -> nn.Module:
        found = importlib.import_module("vit_pytorch.learnable_memory_vit")
        return found.Adapter(vit=found.ViT(**sizes), num_classes=CLASSES, num_memories_per_layer=2)

    def over_all(kind: str) -> Build:
        def made() -> nn.Module:
            inner = nn.TransformerEncoder(own.encoder_layer(), DEPTH, enable_nested_tensor=False)
            options = {key: sizes[key] for key in ("image_size", "patch_size", "num_classes", "dim")}
            return build("efficient", kind, **{**options, "image_size": 48}, transformer=inner)()

        return made

    def around(module: str, kind: str) -> Build:
        return lambda: getattr(importlib.import_module(f"vit_pytorch.{module}"), kind)(build("vit", "ViT", **sizes)())

    stages = {"s1": 8, "s2": 16, "s3": 32}
    inside = "the norms are inside of attention and FFN"
    return [
        one("vit", "ViT", 1, fields={"odd": inside}),
        one("vit", "ViT", 0, "average", pool="mean"),
        one("vit", "ViT", 1, "one head without projection", heads=1, dim_head=WIDTH),
        one("simple_vit", "SimpleViT", 0, fields={"odd": "average of the patches; sine positions"}),
        one("simple_vit_with_register_tokens", "SimpleViT", 0, num_register_tokens=4,
            fields={"suffix": 4, "odd": "registers behind the patches"}),
        one("simple_vit_with_patch_dropout", "SimpleViT", 0),
        one("simple_vit_with_qk_norm", "SimpleViT", 0,
            fields={"classes": None, "odd": "its linear_head is a norm: it returns features"}),
        one("simple_flash_attn_vit", "SimpleViT", 0, use_flash=True),
        one("simple_vit_with_fft", "SimpleViT", 6, freq_patch_size=PATCH,
            fields={"odd": "six tokens of frequencies before the patches: each reads the whole picture"}),
        one("simple_vit_with_specialized_cls", "SimpleViT", 1,
            fields={"odd": "the class token has norms, queries and FFN of its own"}),
        one("simple_vit_with_relative_proj_pos_bias", "SimpleViT", 0,
            fields={"odd": "the stream is a map (B, rows, columns, D); what it adds to scores depends on the tokens"}),
        one("vit_with_patch_dropout", "ViT", 1),
        one("vit_for_small_dataset", "ViT", 1,
            fields={"odd": "a token sees shifted pictures, too, beside its patch; no token attends to itself"}),
        one("vit_5", "ViT", 5, image_size=48,
            fields={"size": SQUARE, "odd": "norms without a mean; LayerScale in a list of the column"}),
        one("vit_detpool", "ViTDetPool", 1, fields={"odd": "the class token is not read"}),
        one("vat", "ViT", 3, num_register_tokens=2, fields={"odd": "registers before the class token"}),
        one("vit_with_decorr", "ViT", 1,
            fields={"output": "tuple", "numbers": lambda output: output[0], "odd": "attention returns a tuple"}),
        flat("vit-pytorch distill.DistillableViT", "vit-pytorch", distillable),
        flat("vit-pytorch distill.DistillableViT, with a token", "vit-pytorch", distillable, suffix=1,
             inputs=lambda images: {"img": images, "distill_token": torch.ones(1, WIDTH)}, output="tuple",
             numbers=lambda output: output[0], odd="a distillation token at the end, given with the call"),
        flat("vit-pytorch efficient.ViT around nn.TransformerEncoder", "vit-pytorch", over_all("ViT"), size=SQUARE),
        flat("vit-pytorch recorder.Recorder around ViT", "vit-pytorch", around("recorder", "Recorder"), output="tuple",
             numbers=lambda output: output[0], odd="hooks of its own; returns all attention maps, too"),
        flat("vit-pytorch extractor.Extractor around ViT", "vit-pytorch", around("extractor", "Extractor"),
             output="tuple", numbers=lambda output: output[0], odd="hooks of its own; returns the last tokens, too"),
        other("vit-pytorch cct.CCT", "vit-pytorch",
              build("cct", "CCT", img_size=SIZE, embedding_dim=WIDTH, n_conv_layers=2, num_heads=HEADS,
                    num_layers=DEPTH,
                    mlp_ratio=2, num_classes=CLASSES, positional_embedding="learnable"),
              "a norm on the stream itself, between attention and FFN"),
        not_flat("parallel_vit", "ViT", "several attentions side by side write to the stream at once", **square),
        not_flat("deepvit", "DeepViT", "its heads talk: attention maps are mixed after the softmax", **square),
        not_flat("cait", "CaiT", "two last blocks let only the class token ask, and its heads talk",
                 **square, cls_depth=1),
        not_flat("rvt", "RvT", "queries, keys and values come from convolutions", **square),
        not_flat("normalized_vit", "nViT", "the stream is turned and normed, not added to", **square),
        not_flat("vit_with_keel_post_ln", "ViT", "norms on the stream, behind the sum", **square),
        not_flat("simple_vit_with_value_residual", "SimpleViT", "values hold the first layer's, too", **square),
        not_flat("simple_vit_orthog_residual_update", "SimpleViT", "it adds only what is orthogonal", **square),
        not_flat("simple_vit_attn_residual", "SimpleViTAttnResidual", "layers attend to earlier layers", **square),
        not_flat("simple_vit_with_hyper_connections", "SimpleViT", "it runs several streams and mixes them",
                 **square, num_residual_streams=2),
        not_flat("simple_uvit", "SimpleUViT", "early blocks are read by late ones beside the stream",
                 **{**square, "depth": 4}),
        not_flat("jumbo_vit", "JumboViT", "a wide class token with an FFN of its own lies beside the stream",
                 **square, num_jumbo_cls=1, jumbo_cls_k=2, jumbo_ff_mult=2),
        not_flat("vit_with_patch_merger", "ViT", MERGES, **square, patch_merge_layer=1, patch_merge_num_tokens=4),
        not_flat("ats_vit", "ViT", "it drops tokens on the way", **square, max_tokens_per_depth=(9, 6, 4)),
        not_flat("t2t", "T2TViT", "attention and unfolding make the tokens, outside of the blocks", 64, image_size=64,
                 dim=WIDTH, depth=2, heads=2, mlp_dim=48, num_classes=CLASSES),
        not_flat("cross_vit", "CrossViT", "it runs two token sequences of different patch size", image_size=48,
                 num_classes=CLASSES, depth=1, sm_dim=16, lg_dim=24),
        not_flat("xcit", "XCiT", "it attends between channels, not between tokens", **square, cls_depth=1),
        other("vit-pytorch learnable_memory_vit.Adapter", "vit-pytorch", with_memories,
              "tokens of each layer's own join its keys and values", size=SIZE),
        not_flat("cvt", "CvT", "queries, keys and values come from convolutions, and it merges tokens", 64,
                 num_classes=CLASSES, **{f"{stage}_{key}": value for stage, width in stages.items() for key, value in
                                         (("emb_dim", width), ("heads", 1), ("depth", 1))}),
    ]  # fmt: skip


# MONAI


def monai_models() -> list[Specimen]:
    sizes = {"img_size": SIZE, "patch_size": (PATCH, PATCH), "hidden_size": WIDTH, "mlp_dim": 48, "num_layers": DEPTH,
             "num_heads": HEADS, "spatial_dims": 2}  # fmt: skip

    def vit(**options: Any) -> Build:
        options = {"in_channels": 3, "classification": True, "num_classes": CLASSES, **options}
        return lambda: importlib.import_module("monai.networks.nets").ViT(**sizes, **options)

    def one(name: str, build: Build, prefix: int = 1, **more: Any) -> Specimen:
        fields = {"output": "tuple", "numbers": lambda output: output[0], **more}
        return flat(f"MONAI ViT, {name}", "monai", build, prefix, **fields)

    tokens: dict[str, Any] = {"numbers": lambda output: output[0].mean(1), "classes": None}
    return [
        one("convolution", vit(proj_type="conv"), odd="tanh behind the classifier; returns all layers' tokens, too"),
        one("perceptron", vit(proj_type="perceptron"), odd="patches by einops and a Linear"),
        one("no tanh", vit(post_activation="", qkv_bias=True, save_attn=True)),
        one("grey", vit(in_channels=1), channels=1),
        one("sine positions", vit(pos_embed_type="sincos")),
        one("features, convolution", vit(classification=False), 0, **tokens),
        one("features, perceptron", vit(classification=False, proj_type="perceptron"), 0, **tokens),
    ]


# Written by hand


def hand_written() -> list[Specimen]:
    def one(name: str, build: Build, prefix: int = 1, **more: Any) -> Specimen:
        return flat(f"by hand: {name}", "written by hand", build, prefix, **more)

    def attention(kind: Build) -> Build:
        return partial(OwnViT, block=partial(own.Block, attention=kind))

    def blocks(kind: Any) -> Build:
        return partial(OwnViT, block=kind)

    fast = "without gradients it runs through one fused function, in which no attention can be seen"
    return [
        one("scaled_dot_product_attention", OwnViT),
        one("softmax and @", attention(own.Products)),
        one("softmax in float32 of a scaled query, kept", attention(own.ScaledQuery)),
        one("exp over its sum", attention(own.ByExponential), odd="no softmax is called"),
        one("attention returns its weights", attention(own.ReturnsWeights)),
        one("nn.Softmax, nn.Dropout, three Linears", attention(own.ThreeLinears)),
        one("einsum, heads first", attention(own.EinsumHeadsFirst)),
        one("einsum, tokens first", attention(own.EinsumTokensFirst), odd="values (B, N, H, D)"),
        one("einops", attention(own.Einops)),
        one("bmm, heads in the batch", attention(own.FoldedHeads), odd="weights (B H, N, N)"),
        one("one head, no axis of heads", attention(own.OneHead), odd="weights (B, N, N)"),
        one("values times transposed weights", attention(own.TransposedValues), odd="v @ weights.T, (B, H, D, N)"),
        one("a module for each head", attention(own.HeadByHead), odd="as many softmaxes as heads in a block"),
        one("bias, cosine and temperature", attention(own.BiasedScores)),
        one("no projection", attention(own.NoProjection)),
        one("nn.MultiheadAttention", attention(own.Packed), odd="asks for the weights, by default"),
        one("nn.MultiheadAttention, no weights", attention(partial(own.Packed, need_weights=False)), odd=fast),
        one("nn.MultiheadAttention, weights per head", attention(partial(own.Packed, average_attn_weights=False))),
        one("multi_head_attention_forward", attention(own.PackedFunction)),
        one("nn.TransformerEncoderLayer", blocks(own.encoder_layer), odd=fast),
        one("nn.TransformerEncoder", own.TorchEncoder, odd=fast),
        one("nn.TransformerEncoder, with its norm", partial(own.TorchEncoder, final=True), odd=fast),
        one("nn.TransformerEncoderLayer, sequence first", own.SequenceFirst, odd="the stream is (N, B, D)"),
        one("no module is a block", own.Loose, odd="the column is four lists"),
        one("no module is a block, fused", partial(own.Loose, own.Fused), odd="the column is four lists"),
        one("attention without a module", blocks(own.Inline)),
        one("residuals in a Sequential", blocks(own.residuals), odd="norms inside the branches"),
        one("FFN and norm without modules", blocks(own.Functional)),
        one("experts in the FFN", blocks(own.MixedExperts), odd="every token weighs two FFNs by itself"),
        one("updates in place", blocks(own.InPlace)),
        one("checkpointed blocks", blocks(own.Checkpointed)),
        one("blocks return a pair", blocks(partial(own.ReturnsPair, own.ReturnsWeights))),
        one("LayerScale without a module", blocks(own.ScaledBlock)),
        one("one learnt number before each update", blocks(own.ReZeroBlock), odd="a scalar LayerScale"),
        one("norms behind attention and FFN", blocks(own.NormedUpdates), odd="x + norm(attention(x))"),
        one("norms before and behind", blocks(own.Sandwich)),
        one("attention and FFN side by side", blocks(own.SideBySide)),
        one("own norm", partial(OwnViT, block=partial(own.Block, norm=own.OwnNorm), norm=own.OwnNorm)),
        one("own norm without a mean", partial(OwnViT, block=partial(own.Block, norm=own.OwnRootNorm))),
        one("batch norm", partial(OwnViT, block=partial(own.Block, norm=own.BatchNormed))),
        one("registers", partial(OwnViT, registers=3), 4),
        one("nn.Unfold and a Linear", partial(OwnViT, patches=own.Unfolded), odd="no convolution"),
        one("patches by views", partial(OwnViT, patches=own.Reshaped), odd="no convolution"),
        one("convolutional stem", partial(OwnViT, patches=own.Stem), odd="a token looks half a patch aside"),
        one("average", partial(OwnViT, readout="mean"), 0),
        one("average, norm behind it", partial(own.PooledThenNormed, readout="mean"), 0),
        one("maximum over the tokens", partial(OwnViT, readout="max"), 0, odd="each feature reads one token"),
        one("learnt pooling", partial(OwnViT, readout="learnt"), 0, odd="weights depend on the tokens"),
        one("all tokens side by side", partial(OwnViT, readout="all"), 0, odd="the classifier has a weight per token"),
        one("class token and average", partial(OwnViT, readout="both")),
        one("class token at the end", partial(OwnViT, readout="last"), 0, suffix=1),
        one("no final norm", own.NoFinalNorm),
        one("two layers, tanh and softmax behind", own.MLPHead, odd="returns probabilities"),
        one("one number, no axis of classes", own.OneClassAgain, classes=1, odd="returns (B,)"),
        one("all of it unusual", partial(OwnViT, block=partial(own.Sandwich, own.HeadByHead), patches=own.Unfolded,
            readout="last", norm=own.OwnRootNorm), 0, suffix=1),
    ]  # fmt: skip


def hand_written_others() -> list[Specimen]:
    def one(name: str, build: Build, refused: str, **more: Any) -> Specimen:
        return other(f"by hand: {name}", "written by hand", build, refused, **more)

    def attention(kind: Build) -> Build:
        return partial(OwnViT, block=partial(own.Block, attention=kind))

    def blocks(kind: Any) -> Build:
        return partial(OwnViT, block=kind)

    outside = "attention outside of the blocks"
    no_softmax = "its attention is no softmax: rows do not sum to one"
    on_stream = "norms on the stream itself, behind the sum"
    return [
        one("depthwise convolution in the FFN", blocks(own.DepthwiseBlock), "the FFN mixes neighbouring tokens"),
        one("convolved values", attention(own.ConvolvedValues), "a value holds several tokens before attention mixes"),
        one("post-norm", blocks(own.PostNorm), on_stream),
        one("nn.TransformerEncoder, post-norm", partial(own.TorchEncoder, norm_first=False), on_stream),
        one("renormed stream", blocks(own.RenormedStream), "the stream is replaced by its norm before it is added to"),
        one("halved sums", blocks(own.HalvedSum), "the stream is scaled down at every sum"),
        one("no residuals", blocks(own.NoResidual), "there is no stream: a block replaces its input"),
        one("merged tokens", partial(own.Merging, readout="first"), "it merges tokens between its blocks"),
        one("attention before the blocks", partial(own.AttentionOutside, behind=False), outside),
        one("attention behind the blocks", partial(own.AttentionOutside, behind=True), outside),
        one("U-ViT", own.LongSkip, "early blocks are read by late ones beside the stream"),
        one("FFN gated by the class token", blocks(own.GatedByClass), "what the FFN writes depends on another token"),
        one("squeeze and excitation", blocks(own.ChannelAttention), "what the FFN writes depends on all tokens"),
        one("gated attention", attention(own.GatedAttention), "a gate of the token multiplies what attention writes"),
        one("talking heads", attention(own.TalkingHeads), "attention maps are mixed between heads after the softmax"),
        one("softmax over the queries", attention(own.WrongAxis), "softmax over the wrong axis"),
        *(
            one(f"{kind} attention", attention(partial(own.WithoutSoftmax, kind)), no_softmax)
            for kind in ("linear", "sigmoid", "ReLU")
        ),
        one("differential attention", attention(own.Differential), "its attention is the difference of two softmaxes"),
        one("fewer keys", attention(own.FewerKeys), "keys and values come from fewer tokens than queries"),
        one("attention over the batch", partial(OwnViT, partial(own.Block, own.OverTheBatch), readout="mean"),
            "it attends to other images of the batch"),
        one("dropout in eval mode", attention(own.AlwaysDrops), "it answers at random, also in eval mode", random=True),
        one("tokens mixed by a Linear", blocks(own.MixedTokens), "a Linear over the tokens mixes them, not attention"),
        one("windows", blocks(own.PrivateWindows), "it attends in windows"),
        one("one block again and again", own.OneBlockAgain, "one block runs several times"),
        one("all layers are read", own.AllLayers, "the classifier reads several layers"),
        one("a path beside the blocks", own.SkipsPatches, "the classifier reads patches that passed no block"),
        one("features centred on the batch", own.CentredOnBatch, "the answer depends on other images of the batch"),
        one("class attention", own.ClassAttention, "a last block lets only the class token ask"),
        one("column by column", partial(OwnViT, patches=own.ColumnByColumn), "patches are not in the order of rows"),
    ]  # fmt: skip


# Wrappings


def hugging_face_backbone(kind: str = "Dinov2Model", **more: Any) -> nn.Module:
    return hf_build(kind, 48, **more)()


def torchvision_backbone() -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    model = VisionTransformer(48, PATCH, DEPTH, HEADS, WIDTH, 48)
    model.heads = nn.Identity()
    return model


def lightning_module() -> nn.Module:
    import lightning

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.model, self.loss = tiny_timm(), nn.CrossEntropyLoss()

        def forward(self, images: Tensor) -> Tensor:
            return self.model(images)

        def training_step(self, batch: Any, index: int) -> Tensor:
            images, labels = batch
            return self.loss(self(images), labels)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters())

    return Classifier()


def lora(model: nn.Module, targets: Any, merged: bool = False, **options: Any) -> nn.Module:
    """The model with low-rank updates of some Linears; merged into them where wanted."""
    import peft

    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=targets, **options))
    return spread(adapted).merge_and_unload() if merged else adapted


def without_classes() -> nn.Module:
    return tiny_timm(num_classes=0)


def wrapped(backbone: Build = without_classes, **options: Any) -> Build:
    return lambda: Wrapped(backbone(), **options)


def resized(images: Tensor) -> Tensor:
    return F.interpolate(images, size=SIZE, mode="bilinear", align_corners=False)


def repeated(images: Tensor) -> Tensor:
    return images.repeat(1, 3, 1, 1)


def wrappings() -> list[Specimen]:
    def one(name: str, build: Build, prefix: int = 1, **more: Any) -> Specimen:
        return flat(f"wrapped: {name}", "wrapping", build, prefix, **more)

    def pooler(backbone: nn.Module, images: Tensor) -> Tensor:
        return backbone(images).pooler_output

    def first_hidden(backbone: nn.Module, images: Tensor) -> Tensor:
        return backbone(pixel_values=images).last_hidden_state[:, 0]

    def first(backbone: Any, images: Tensor) -> Tensor:
        return backbone.forward_features(images)[:, 0]

    def averaged(backbone: Any, images: Tensor) -> Tensor:
        return backbone.forward_features(images)[:, 1:].mean(1)

    def mean_of_all(backbone: nn.Module, images: Tensor) -> Tensor:
        return backbone(images).mean(1)

    def tokens() -> nn.Module:
        return tiny_timm(num_classes=0, global_pool="")

    def imagenet() -> nn.Module:
        from torchvision.transforms import Normalize

        return Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def weight_normed() -> nn.Module:
        model = tiny_timm()
        for name, module in model.named_modules():
            if name.endswith("qkv"):
                nn.utils.parametrizations.weight_norm(module)
        return model

    def normalised() -> nn.Module:
        return nn.Sequential(own.Normalise(), tiny_timm())

    def multi_label() -> nn.Module:
        return hf_build("ViTForImageClassification", SIZE, problem_type="multi_label_classification")()

    def replaced_head() -> nn.Module:
        model = tiny_timm()
        model.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, CLASSES))
        return model

    whole: dict[str, Any] = {"width": None}
    vit = "ViTForImageClassification"
    return [
        one("Sequential(normalise, timm)", normalised),
        one("Sequential(torchvision's Normalize, timm)", lambda: nn.Sequential(imagenet(), tiny_timm())),
        one("weight norm on qkv", weight_normed, odd="weights are computed from two parameters"),
        one("own average of timm's tokens", wrapped(tokens, read=mean_of_all), odd="the class token is averaged, too"),
        one("DataParallel", lambda: nn.DataParallel(tiny_timm())),
        one("DataParallel(Sequential(normalise, timm))", lambda: nn.DataParallel(normalised())),
        one("own head, timm without classes", wrapped()),
        one("own head, first of timm's forward_features", wrapped(tiny_timm, read=first),
            odd="the backbone's own head is never called"),
        one("own head, average of timm's forward_features", wrapped(tiny_timm, read=averaged),
            odd="the backbone's own head is never called"),
        one("own head in the place of timm's", replaced_head),
        one("own head, Hugging Face DINOv2", wrapped(hugging_face_backbone, read=pooler, width=32)),
        one("own head, first hidden state of Hugging Face ViT", wrapped(
            partial(hf_build("ViTModel", SIZE)), read=first_hidden, width=32), odd="the pooler is called and not read"),
        one("own head, torchvision", wrapped(torchvision_backbone), size=SQUARE),
        one("own head, frozen backbone", lambda: frozen(Wrapped(tiny_timm(num_classes=0)))),
        one("own head, DINOv2 of torch.hub", wrapped(own.DinoV2)),
        one("own head around a model written by hand", wrapped(headless_by_hand)),
        one("LightningModule", lightning_module),
        one("LoRA on qkv", lambda: lora(tiny_timm(), ["qkv"])),
        one("LoRA on qkv, own head saved", lambda: lora(tiny_timm(), ["qkv"], modules_to_save=["head"]),
            odd="the head is a wrapper, too"),
        one("LoRA on all Linears", lambda: lora(tiny_timm(), "all-linear"), odd="also the head"),
        one("LoRA on all Linears, merged", lambda: lora(tiny_timm(), "all-linear", merged=True)),
        one("LoRA on Hugging Face ViT", lambda: lora(hf_build(vit, SIZE)(), "all-linear"), **LOGITS),
        one("DoRA on qkv and projection", lambda: lora(tiny_timm(), ["qkv", "attn.proj"], use_dora=True)),
        one("LoRA inside an own head", lambda: Wrapped(lora(tiny_timm(num_classes=0), ["qkv"]))),
        one("head replaced by an Identity", lambda: nn.Sequential(own.Normalise(), headless()), classes=None),
        one("a dict", wrapped(after=lambda logits: {"logits": logits, "odds": logits.softmax(-1)}), output="dict",
            numbers=lambda output: output["logits"]),
        one("a tuple", wrapped(after=lambda logits: (logits, logits.argmax(-1))), output="tuple",
            numbers=lambda output: output[0]),
        one("several labels, sigmoid inside", wrapped(after=torch.sigmoid), odd="returns independent probabilities"),
        one("several labels, Hugging Face", multi_label, **LOGITS),
        one("log of softmax inside", wrapped(after=lambda logits: logits.log_softmax(-1))),
        one("resizes its images", wrapped(tiny_timm, before=resized, **whole), size=(50, 70), grid=GRID,
            odd="patches are not those of the picture it is given"),
        one("repeats a grey channel", wrapped(tiny_timm, before=repeated, **whole), channels=1),
        one("logits of a Hugging Face model", wrapped(
            partial(hf_build(vit, SIZE)), read=lambda backbone, images: backbone(images).logits, **whole)),
        one("wrapped twice", lambda: Wrapped(nn.DataParallel(Wrapped(tiny_timm(num_classes=0))), width=None)),
        one("a temperature", wrapped(tiny_timm, after=lambda logits: logits / 1.7, **whole)),
    ]  # fmt: skip


def frozen(model: Wrapped) -> nn.Module:
    model.backbone.requires_grad_(False)
    return model


def headless_by_hand() -> nn.Module:
    model = OwnViT()
    model.head = nn.Identity()
    return model


def wrappings_others() -> list[Specimen]:
    def one(name: str, build: Build, refused: str, **more: Any) -> Specimen:
        return other(f"wrapped: {name}", "wrapping", build, refused, **more)

    def depths(backbone: Any, images: Tensor) -> Tensor:
        return torch.stack(backbone.get_intermediate_layers(images, n=2)).mean((0, 2))

    return [
        one("an ensemble of two", lambda: own.Ensemble(tiny_timm(), tiny_timm(depth=2)), "it runs two models"),
        one("an ensemble of a ViT and a CNN", lambda: own.Ensemble(tiny_timm(), small_cnn()), "it runs two models"),
        one("mirror images in two calls", lambda: own.TwoViews(tiny_timm(), together=False),
            "it runs its model twice, on changed images"),
        one("mirror images in one batch", lambda: own.TwoViews(tiny_timm(), together=True),
            "it runs its model on a batch of another size"),
        one("reads two layers", wrapped(read=depths), "the classifier reads several layers"),
        one("own head, ResNet", lambda: Wrapped(small_cnn(), width=None), CNN),
    ]  # fmt: skip


def small_cnn() -> nn.Module:
    import timm

    return timm.create_model("test_resnet", num_classes=CLASSES)


ZOO: list[Specimen] = [
    *timm_models(),
    *timm_others(),
    *hugging_face_classifiers(),
    *hugging_face_features(),
    *hugging_face_others(),
    *torchvision_models(),
    *open_clip_models(),
    *hub_models(),
    *vit_pytorch_models(),
    *monai_models(),
    *hand_written(),
    *hand_written_others(),
    *wrappings(),
    *wrappings_others(),
]
