"""How a model's pictures are prepared, for a page that prepares its reader's own ones; and pictures as raw pixels."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from PIL import Image
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode, v2

from tokentm.discovery import describe
from tokentm.errors import InvalidOptionError
from tokentm.pictures import Transform, transform_of

_FILTERS = {InterpolationMode.BILINEAR: "bilinear", InterpolationMode.BICUBIC: "bicubic"}
_TENSORS = ("MaybeToTensor", "ToTensor", "PILToTensor", "ToImage", "MaybePILToTensor")
_SCALED = ("MaybeToTensor", "ToTensor")
"""Of those, which make 255 one."""


class Preparing(TypedDict):
    """Resize to [shorter side] or [height, width], where there is a size; crop to [height, width]; normalise."""

    size: list[int] | None
    filter: str
    crop: list[int]
    mean: list[float]
    std: list[float]


def preparing(model: nn.Module, transform: Transform | None, size: tuple[int, int]) -> Preparing:
    """What a page does with a picture before the model sees it, pixel by pixel as Pillow does it.

    Args:
        model: whose own transform is taken where none is given.
        transform: Resize, CenterCrop and Normalize of torchvision, or of timm, as ``timm.data.create_transform`` makes.
        size: (height, width) of the images that the model takes.

    Raises:
        InvalidOptionError: a transform that does anything else.
    """
    parts = getattr(transform_of(describe(model)) if transform is None else transform, "transforms", None)
    if parts is None:
        raise _refusal("transforms in a Compose", type(transform).__name__)
    found: dict[str, Any] = {"size": None, "filter": "bilinear", "crop": list(size)}
    tensor = scaled = False
    for part in parts:
        if isinstance(part, (v1.Resize, v2.Resize)):
            mode = InterpolationMode(part.interpolation)
            if mode not in _FILTERS or part.max_size is not None:
                raise _refusal("Resize by bilinear or bicubic interpolation", str(part))
            if tensor or found["size"] is not None:
                raise _refusal("one Resize, of the picture before it is a tensor", str(part))
            sides = [part.size] if isinstance(part.size, int) else list(part.size)
            found["size"] = sides
            found["filter"] = _FILTERS[mode]
        elif isinstance(part, (v1.CenterCrop, v2.CenterCrop)):
            sides = [part.size] * 2 if isinstance(part.size, int) else list(part.size)
            found["crop"] = sides * 2 if len(sides) == 1 else sides
        elif isinstance(part, (v1.Normalize, v2.Normalize)):
            found |= {name: [float(value) for value in getattr(part, name)] for name in ("mean", "std")}
            if not scaled:
                raise _refusal("Normalize of numbers from 0 to 1", "numbers from 0 to 255 before it")
        elif type(part).__name__ in _TENSORS:
            tensor, scaled = True, scaled or type(part).__name__ in _SCALED
        elif isinstance(part, v1.ConvertImageDtype) or (isinstance(part, v2.ToDtype) and part.scale):
            scaled = True
        else:
            raise _refusal("Resize, CenterCrop and Normalize", str(part))
    if "mean" not in found or len(found["mean"]) != 3 or found["crop"] != list(size):
        raise _refusal(f"pictures of three channels, cropped to {size[0]} x {size[1]}", f"{found}")
    return found  # type: ignore[return-value]


def pixels(picture: Image.Image) -> bytes:
    """RGB, a byte a number, row by row."""
    return np.asarray(picture.convert("RGB")).tobytes()


def _refusal(expected: str, found: str) -> InvalidOptionError:
    return InvalidOptionError(
        f"expected a transform of {expected}, as a page can do it with pictures of its reader; found {found}. So this "
        "page takes none."
    )
