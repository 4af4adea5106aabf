"""From pictures to what a model takes, with the model's own preprocessing, and back to what the model saw of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn

from tokentm import vit
from tokentm.errors import InvalidImagesError, InvalidOptionError

Picture = Image.Image | str | PathLike[str]
Transform = Callable[..., Any]
"""PIL picture -> tensor (3, H, W), or a Hugging Face image processor."""

_EXPECTED = "expected PIL pictures, paths or a normalised float tensor (batch, channels, height, width)"


@dataclass(frozen=True, eq=False)
class Prepared:
    """Pictures as a model takes them.

    Attributes:
        images: (B, 3, H, W), normalised, in the model's dtype and on its device.
        mean, std: what they were normalised with, per channel; None where the transform does not tell.
    """

    images: Tensor
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

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


def prepare(model: nn.Module, pictures: Picture | Sequence[Picture], transform: Transform | None = None) -> Prepared:
    """Pictures through the model's own preprocessing.

    Args:
        model: a supported ViT of timm, torchvision or Hugging Face.
        pictures: one PIL picture or path, or several. A photograph's orientation mark is obeyed.
        transform: what the model was trained with. None asks the model: timm's data configuration, or the image
            processor saved beside a Hugging Face model. torchvision's models do not know theirs: pass
            ``weights.transforms()``.

    Returns:
        :class:`Prepared`: ``images`` for the model, ``seen`` to lay a map over.

    Raises:
        InvalidImagesError: not a picture, or a file that is none.
        InvalidOptionError: the model does not know its transform, or the transform gives no tensor (3, H, W).

    Example:
        >>> prepared = tokentm.prepare(model, "cat.jpg")
        >>> tokentm.explain(model, prepared.images).plot(images=prepared.seen)
    """
    anatomy = vit.inspect(model)
    listed = [pictures] if isinstance(pictures, (Image.Image, str, PathLike)) else pictures
    if not isinstance(listed, Sequence):
        raise InvalidImagesError(f"{_EXPECTED}; got {type(pictures).__name__}.")
    if not listed:
        raise InvalidImagesError(f"{_EXPECTED}; got none.")
    opened = [read(picture) for picture in listed]
    chosen = _own_transform(anatomy) if transform is None else transform
    tensors = [_apply(chosen, picture) for picture in opened]
    if len({tensor.shape for tensor in tensors}) > 1:
        sizes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise InvalidOptionError(f"expected a transform that makes all pictures the same size; got {sizes}.")
    mean, std = _normalisation(chosen)
    return Prepared(torch.stack(tensors).to(anatomy.weight), mean, std)


def seen(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> list[Image.Image]:
    """The pictures as the model saw them, cropped and resized: (B, 3, H, W), normalised -> B RGB pictures (W, H).

    Args:
        mean, std: what the transform normalised with, one number per channel.

    Example:
        >>> config = timm.data.resolve_model_data_config(model)
        >>> explanation.plot(images=tokentm.seen(images, config["mean"], config["std"]))
    """
    scale, shift = (images.new_tensor(list(v))[:, None, None] for v in (std, mean))
    pixels = ((images * scale + shift).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(picture) for picture in pixels]


def read(picture: Picture) -> Image.Image:
    """A picture, or the one in a file, upright and in RGB.

    Raises:
        InvalidImagesError: neither a PIL picture nor a path, or a file that holds no picture.
        FileNotFoundError: there is no such file.
    """
    if isinstance(picture, (str, PathLike)):
        try:
            with Image.open(picture) as opened:
                return ImageOps.exif_transpose(opened).convert("RGB")
        except UnidentifiedImageError as error:
            raise InvalidImagesError(
                f"expected a picture in {Path(picture)}; PIL can read none from it. Convert it to PNG or JPEG."
            ) from error
    if not isinstance(picture, Image.Image):
        raise InvalidImagesError(
            f"{_EXPECTED}; got {type(picture).__name__}. An array becomes a picture with PIL.Image.fromarray, what a "
            "model was given with tokentm.seen(images, mean, std)."
        )
    return ImageOps.exif_transpose(picture).convert("RGB")


def _apply(transform: Transform, picture: Image.Image) -> Tensor:
    if hasattr(transform, "image_mean"):
        made = transform(images=picture, return_tensors="pt")["pixel_values"][0]
    else:
        made = transform(picture)
    if not isinstance(made, Tensor) or made.ndim != 3 or not made.is_floating_point():
        found = f"{made.dtype} {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise InvalidOptionError(f"expected a transform from a picture to a float tensor (3, H, W); got {found}.")
    return made


def _own_transform(anatomy: vit.Anatomy) -> Transform:
    model: Any = anatomy.model
    if getattr(model, "pretrained_cfg", None):
        config = timm.data.resolve_model_data_config(model)
        # the size this model was built for, which need not be that of its pretrained weights
        config["input_size"] = (anatomy.channels, *model.patch_embed.img_size)
        return timm.data.create_transform(**config)
    folder = getattr(getattr(model, "config", None), "_name_or_path", "")
    if folder and "transformers" in sys.modules:
        from transformers import AutoImageProcessor

        try:
            return AutoImageProcessor.from_pretrained(folder)
        except OSError as error:
            raise InvalidOptionError(
                f"expected an image processor beside the model in {folder!r}; found none ({error}). Pass transform="
            ) from error
    raise InvalidOptionError(
        f"expected a transform: this {anatomy.name} does not know how its pictures are to be prepared. Pass "
        "transform=, for example weights.transforms() of torchvision's weights or a Hugging Face image processor."
    )


def _normalisation(transform: Any) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and standard deviation that a transform normalises with, where it tells."""
    for part in _parts(transform):
        if hasattr(part, "image_mean"):  # a Hugging Face image processor
            on = part.do_normalize
            return (tuple(part.image_mean), tuple(part.image_std)) if on else ((0.0,) * 3, (1.0,) * 3)
        if hasattr(part, "mean") and hasattr(part, "std"):  # Normalize, or torchvision's presets
            return tuple(float(v) for v in part.mean), tuple(float(v) for v in part.std)
    return None, None


def _parts(transform: Any) -> Iterator[Any]:
    yield from getattr(transform, "transforms", (transform,))
