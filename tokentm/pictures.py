"""From pictures to what a model takes, with the model's own preprocessing, and back to what the model saw of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from tokentm import vit
from tokentm.crops import Crop, measure, repeats
from tokentm.discovery import describe, likely_channels
from tokentm.errors import InvalidImagesError, InvalidOptionError, TokenTMError
from tokentm.reading import EXPECTED, Picture, no_picture, read
from tokentm.renamed import renamed

if TYPE_CHECKING:
    from tokentm.explanation import Explanation

__all__ = ["Crop", "Picture", "Prepared", "Transform", "listed", "prepare", "read", "seen"]

Transform = Callable[..., Any]
"""PIL picture -> tensor (channels, H, W), or a Hugging Face image processor."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """Pictures as a model takes them.

    Attributes:
        images: (B, C, H, W), normalised, in the model's dtype and on its device.
        mean, std: what they were normalised with, per channel; None where the transform does not tell.
        originals: the pictures before the transform, upright, in RGB (grey for a model of one channel).
        transform: what prepared them.
    """

    images: Tensor
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    originals: tuple[Image.Image, ...] = field(default=(), repr=False)
    transform: Transform | None = field(default=None, repr=False)

    @property
    def seen(self) -> list[Image.Image]:
        """What the model sees of each picture, resized and cropped: what a map must be laid over.

        Raises:
            InvalidOptionError: the transform does not tell its mean and standard deviation.
        """
        if self.mean is None or self.std is None:
            raise InvalidOptionError(
                "expected a transform that tells how it normalises (timm's, torchvision's with a Normalize, an image "
                "processor); this one does not. Use tokentm.seen(images, mean, std)."
            )
        return seen(self.images, self.mean, self.std)

    @property
    def crops(self) -> list[Crop | None]:
        """Which rectangle of each original picture the model sees, in pixels of the original.

        Measured by sending pictures whose colours are coordinates through the transform. None where that is no upright
        rectangle or not always the same one (turned, mirrored, random), where the picture is too small to tell (a few
        pixels), and where mean and standard deviation or the originals are not known.
        """
        return list(self._crops)

    def on_originals(self, explanation: Explanation) -> list[Tensor]:
        """The heat maps at the sizes of the original pictures, (H0, W0) each, NaN where the model saw nothing.

        Args:
            explanation: of these images; or of several classes for one image.

        Raises:
            InvalidOptionError: the explanation is of other images, or the crop of a picture is not known.

        Example:
            >>> prepared = tokentm.prepare(model, "cat.jpg")
            >>> heat = prepared.on_originals(tokentm.explain(model, prepared.images))[0]
        """
        height, width = explanation.image_size
        maps = []
        for index, (original, crop) in enumerate(self.originals_of(explanation)):
            device = explanation.scores.device
            x = (torch.arange(original.width, device=device, dtype=torch.float64) + 0.5 - crop.left) * (
                width / (crop.right - crop.left)
            )
            y = (torch.arange(original.height, device=device, dtype=torch.float64) + 0.5 - crop.top) * (
                height / (crop.bottom - crop.top)
            )
            heat = explanation.values_at(index, y, x)
            unseen = ((y < 0) | (y >= height))[:, None] | ((x < 0) | (x >= width))
            maps.append(heat.masked_fill(unseen, math.nan))
        return maps

    def originals_of(self, explanation: Explanation) -> list[tuple[Image.Image, Crop]]:
        """For each explained image, the original picture and the part of it that the model saw.

        Raises:
            InvalidOptionError: the explanation is of other images, or the crop of a picture is not known.
        """
        count, explained = len(self.images), len(explanation.scores)
        size = tuple(self.images.shape[2:])
        if count not in (1, explained) or size != tuple(explanation.image_size):
            raise InvalidOptionError(
                f"expected an explanation of these {count} images of {size} pixels (height, width), or of one of them "
                f"for several classes; got one of {explained} images of {tuple(explanation.image_size)}. Explain "
                "prepared.images."
            )
        known = [(original, crop) for original, crop in zip(self.originals, self.crops, strict=False) if crop]
        if len(known) < count:
            unknown = [i for i, crop in enumerate(self.crops) if crop is None]
            reason = "mirrored, turned, random, of unknown mean, or of a picture of a few pixels"
            raise InvalidOptionError(
                f"expected a transform that shows an upright rectangle of each picture; which part of picture(s) "
                f"{unknown} the model saw is not known ({reason if self.originals else 'made without originals'}). "
                "Take tokentm.prepare(model, images) with the transform for evaluation, or lay the map over what the "
                "model saw: explanation.plot(images=prepared)."
            )
        return [known[i % count] for i in range(explained)]

    @cached_property
    def _crops(self) -> tuple[Crop | None, ...]:
        if self.mean is None or not self.originals:
            return (None,) * len(self.images)
        channels = self.images.shape[1]
        sizes = sorted({original.size for original in self.originals}, key=math.prod)
        try:
            known = repeats(self._look, sizes[0], channels)
            found = {size: measure(self._look, size, channels) if known else None for size in sizes}
        except TokenTMError:  # a transform that cannot take the pictures that are measured with
            return (None,) * len(self.images)
        return tuple(found[original.size] for original in self.originals)

    def _look(self, picture: Image.Image) -> np.ndarray:
        """What the model sees of another picture: (C, H, W), from 0 to 1."""
        assert self.transform is not None
        image = _apply(self.transform, picture, self.images.shape[1]).detach().cpu().double()
        if image.shape != self.images.shape[1:]:
            raise InvalidOptionError(f"expected a transform to {tuple(self.images.shape[1:])}; got {image.shape}.")
        scale, shift = (image.new_tensor(v)[:, None, None] for v in (self.std, self.mean))
        looked: np.ndarray = (image * scale + shift).numpy()
        return looked


def listed(images: Picture | Sequence[Picture]) -> Sequence[Picture]:
    """One picture or several, as a sequence.

    Raises:
        InvalidImagesError: neither pictures nor paths.
    """
    if isinstance(images, (Image.Image, str, PathLike)):
        return [images]
    if isinstance(images, Prepared):
        raise InvalidImagesError(f"{EXPECTED}; got Prepared, which holds that tensor. Pass prepared.images.")
    if not isinstance(images, Sequence) or isinstance(images, (bytes, bytearray)):
        raise no_picture(images)
    return images


@renamed(pictures="images")
def prepare(
    model: nn.Module,
    images: Picture | Sequence[Picture],
    transform: Transform | None = None,
    anatomy: vit.Anatomy | None = None,
) -> Prepared:
    """Pictures through the model's own preprocessing.

    Args:
        model: a ViT, see :func:`tokentm.describe`.
        images: one PIL picture or path, or several. A photograph's orientation mark is obeyed, 16-bit greyscale scaled
            to 8 bits, and what is transparent laid on white.
        transform: what the model was trained with. None asks the model: timm's data configuration, or the image
            processor saved beside a Hugging Face model. torchvision's models do not know theirs: pass
            ``weights.transforms()``.
        anatomy: its description, for a model of your own, see :class:`tokentm.Anatomy`.

    Returns:
        :class:`Prepared`: ``images`` for the model, ``seen`` to lay a map over, ``crops`` of the original pictures.

    Raises:
        InvalidImagesError: not a picture, a file that is none, or a model that takes neither 1 nor 3 channels.
        InvalidOptionError: the model does not know its transform, or the transform fails or gives no tensor (C, H, W)
            of the model's channels.

    Example:
        >>> prepared = tokentm.prepare(model, "cat.jpg")
        >>> tokentm.explain(model, prepared.images).plot(images=prepared)
    """
    pictures = listed(images)
    if not pictures:
        raise InvalidImagesError(f"{EXPECTED}; got none. Pass at least one.")
    vit.check_kind(model)
    if transform is None or vit.family_of(model) is not None:
        anatomy = describe(model) if anatomy is None else anatomy
    # a model that nobody knows is described later on, with the pictures, whose size the transform tells
    channels = likely_channels(model) if anatomy is None else anatomy.channels
    opened = tuple(read(picture, channels) for picture in pictures)
    if transform is None:
        assert anatomy is not None
        transform = transform_of(anatomy)
    tensors = [_apply(transform, picture, channels) for picture in opened]
    if len({tensor.shape for tensor in tensors}) > 1:
        sizes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise InvalidOptionError(
            f"expected a transform that makes all pictures the same size; got {sizes}. Let it resize and crop to one "
            "(height, width)."
        )
    mean, std = _normalisation(transform, channels)
    weight = next(model.parameters(), tensors[0])
    return Prepared(torch.stack(tensors).to(weight), mean, std, opened, transform)


def seen(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> list[Image.Image]:
    """The pictures as the model saw them, cropped and resized: (B, C, H, W), normalised -> B pictures (W, H).

    Three channels make RGB pictures, one makes grey ones (mode L).

    Args:
        mean, std: what the transform normalised with, one number per channel.

    Raises:
        InvalidImagesError: not a dense float tensor (B, C, H, W).
        InvalidOptionError: neither 1 nor 3 channels, or not one mean and standard deviation for each.

    Example:
        >>> config = timm.data.resolve_model_data_config(model)
        >>> explanation.plot(images=tokentm.seen(images, config["mean"], config["std"]))
    """
    dense = isinstance(images, Tensor) and images.layout == torch.strided and not images.is_nested
    if not dense or images.ndim != 4 or not images.is_floating_point():
        found = type(images).__name__
        if isinstance(images, Tensor):
            found = f"{images.dtype}, {images.ndim} dimensions, {images.layout}"
        raise InvalidImagesError(
            f"expected a normalised dense float tensor (batch, channels, height, width); got {found}. Pass what the "
            "model was given, for example prepared.images."
        )
    channels = images.shape[1]
    if channels not in (1, 3):
        raise InvalidOptionError(
            f"expected images of 1 or 3 channels, of which pictures can be made; got {channels}. Choose three to look "
            "at: tokentm.seen(images[:, [0, 1, 2]], mean, std) with three means and standard deviations."
        )
    scale, shift = (
        images.new_tensor(_numbers(name, values, channels))[:, None, None]
        for name, values in (("standard deviations", std), ("means", mean))
    )
    pixels = ((images * scale + shift).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(picture[:, :, 0] if channels == 1 else picture) for picture in pixels]


def _numbers(name: str, values: Sequence[float], channels: int) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != channels:
        raise InvalidOptionError(
            f"expected {channels} {name}, one for each channel of the images; got {values!r}. Take those that the "
            "transform normalised with."
        )
    return numbers


def _apply(transform: Transform, picture: Image.Image, channels: int) -> Tensor:
    _check_callable(transform)
    try:
        if hasattr(transform, "image_mean"):
            made = transform(images=picture, return_tensors="pt")["pixel_values"][0]
        else:
            made = transform(picture)
    except TokenTMError:
        raise
    except Exception as error:
        raise InvalidOptionError(
            f"expected a transform from a picture (here {picture.mode}, {picture.width} x {picture.height}) to a float "
            f"tensor ({channels}, H, W); {type(transform).__name__} raised {type(error).__name__}: {error}. "
            f"{_advice(channels)}"
        ) from error
    if not isinstance(made, Tensor) or made.ndim != 3 or len(made) != channels or not made.is_floating_point():
        found = f"{made.dtype} {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise InvalidOptionError(
            f"expected a transform from a picture to a float tensor ({channels}, H, W); got {found}. "
            f"{_advice(channels)}"
        )
    return made


def _check_callable(transform: Any) -> None:
    made = transform.func if isinstance(transform, partial) else transform
    if callable(transform) and not isinstance(made, type):
        return
    if isinstance(transform, str):
        advice = f"Load it first: transformers.AutoImageProcessor.from_pretrained({transform!r})."
    elif callable(transform):
        advice = "That makes a transform when it is called: weights.transforms(), with parentheses."
    elif hasattr(transform, "transforms"):
        advice = "Call what the weights hold: weights.transforms()."
    elif isinstance(transform, dict):
        advice = "Of a configuration of timm, timm.data.create_transform(**config) makes one."
    else:
        advice = "Pass weights.transforms() of torchvision's weights, or a Hugging Face image processor."
    shown = repr(transform) if isinstance(transform, str) else type(transform).__name__
    raise InvalidOptionError(
        f"expected a transform that can be called with a picture, or a Hugging Face image processor; got {shown}. "
        f"{advice}"
    )


def _advice(channels: int) -> str:
    numbers = "one mean and one standard deviation" if channels == 1 else "three means and standard deviations"
    return (
        f"It gets a PIL picture of mode {'L' if channels == 1 else 'RGB'}, and must end in a tensor, normalised with "
        f"{numbers}. One that takes arrays by name (albumentations) must be wrapped: "
        "lambda picture: transform(image=numpy.asarray(picture))['image']."
    )


def transform_of(anatomy: vit.Anatomy) -> Transform:
    """The transform that a model knows of itself: timm's data configuration, or a processor saved beside it.

    Raises:
        InvalidOptionError: the model does not know its transform.
    """
    model: Any = anatomy.model
    if getattr(model, "pretrained_cfg", None):
        config = timm.data.resolve_model_data_config(model)
        # the size this model was built for, which need not be that of its pretrained weights
        config["input_size"] = (anatomy.channels, *model.patch_embed.img_size)
        if anatomy.channels == 1:  # a configuration of three: timm made its weights grey by adding up theirs
            config |= {name: (math.fsum(config[name]) / len(config[name]),) for name in ("mean", "std")}
        return timm.data.create_transform(**config)
    folder = getattr(getattr(model, "config", None), "_name_or_path", "")
    if folder and "transformers" in sys.modules:
        from transformers import AutoImageProcessor

        try:
            return AutoImageProcessor.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise InvalidOptionError(
                f"expected an image processor beside the model in {folder!r}; found none ({error}). Pass transform="
            ) from error
    raise InvalidOptionError(
        f"expected a transform: this {anatomy.name} does not know how its pictures are to be prepared. Pass "
        "transform=, for example weights.transforms() of torchvision's weights or a Hugging Face image processor."
    )


def _normalisation(transform: Any, channels: int) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and standard deviation for each channel that a transform normalises with, where it tells."""
    for part in _parts(transform):
        if hasattr(part, "image_mean"):  # a Hugging Face image processor
            mean, std = (part.image_mean, part.image_std) if part.do_normalize else (0.0, 1.0)
            # pixels are told from 0 to 1, whatever the processor makes of 255 before it normalises
            white = 255 * (getattr(part, "rescale_factor", 1 / 255) if getattr(part, "do_rescale", True) else 1)
            return _per_channel(mean, channels, white), _per_channel(std, channels, white)
        if hasattr(part, "mean") and hasattr(part, "std"):  # Normalize, or torchvision's presets
            return _per_channel(part.mean, channels), _per_channel(part.std, channels)
    return None, None


def _per_channel(values: Any, channels: int, white: float = 1.0) -> tuple[float, ...] | None:
    """One number a channel, of one for all or one for each, relative to white."""
    if values is None:
        return None
    values = values.tolist() if hasattr(values, "tolist") else values
    numbers = [float(value) for value in (values if isinstance(values, (list, tuple)) else [values])]
    if len(numbers) not in (1, channels):
        return None
    return tuple(value / white for value in (numbers if len(numbers) == channels else numbers * channels))


def _parts(transform: Any) -> Iterator[Any]:
    yield from getattr(transform, "transforms", (transform,))
