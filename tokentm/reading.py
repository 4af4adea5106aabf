"""A picture from a file or from PIL as 8-bit RGB or grey, as a viewer shows it, or a refusal that says why."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tokentm.errors import InvalidImagesError, MissingFileError, TokenTMError

Picture = Image.Image | str | PathLike[str]

EXPECTED = "expected PIL pictures, paths or a normalised float tensor (batch, channels, height, width)"

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_WINDOW = (
    "Choose the range of values to see and window it to 8 bits first: pixels = numpy.asarray(picture, 'float32'); "
    "PIL.Image.fromarray(((pixels - low) / (high - low) * 255).clip(0, 255).round().astype('uint8'))"
)
_WIDE_MODES = {"I": "32-bit or signed integers", "F": "floating-point numbers"}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
"""Tags of TIFF."""


def read(picture: Picture, channels: int = 3) -> Image.Image:
    """A picture, or the one in a file, upright: RGB, or grey (mode L) for one channel.

    Greyscale of 12 bits (TIFF) or 16 bits is scaled to 8 bits. Transparent parts are laid on white.

    Args:
        channels: how many the model takes, 1 or 3.

    Raises:
        InvalidImagesError: neither a PIL picture nor a path, a file that holds no picture or a damaged one, values
            whose range is not known (32-bit integers, floating-point numbers, 12 bits in a 16-bit file), or a number of
            channels that pictures do not have.
        MissingFileError: there is no such file.
    """
    if channels not in (1, 3):
        raise InvalidImagesError(
            f"expected a normalised float tensor (batch, {channels}, height, width) for a model of {channels} "
            "channels; got PIL pictures or paths, which have 1 or 3. Make that tensor yourself and pass it."
        )
    if isinstance(picture, (str, PathLike)):
        with _refusals(f"in {_name(picture)}", picture), Image.open(picture) as opened:
            return _read(opened, channels)
    if not isinstance(picture, Image.Image):
        raise no_picture(picture)
    with _refusals("that PIL can read"):
        return _read(picture, channels)


def no_picture(given: object) -> InvalidImagesError:
    """The error for what is no picture, with the way to make it one."""
    hint = ""
    if isinstance(given, (bytes, bytearray)):
        hint = " The bytes of a file become a picture with PIL.Image.open(io.BytesIO(data))."
    elif hasattr(given, "read"):
        hint = " An open file becomes a picture with PIL.Image.open(file)."
    elif hasattr(given, "__array__") or hasattr(given, "__array_interface__"):
        hint = (
            " An array becomes a picture with PIL.Image.fromarray, what a model was given with "
            "tokentm.seen(images, mean, std)."
        )
    return InvalidImagesError(f"{EXPECTED}; got {type(given).__name__}.{hint}")


@contextmanager
def _refusals(where: str, path: str | PathLike[str] | None = None) -> Iterator[None]:
    """Turn whatever PIL's many decoders raise into an InvalidImagesError."""
    try:
        yield
    except TokenTMError:
        raise
    except Image.DecompressionBombError as error:
        raise InvalidImagesError(
            f"expected a picture {where} of a size that PIL opens; {error} Make it smaller, or, if you trust it, raise "
            "PIL.Image.MAX_IMAGE_PIXELS."
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        if path is None:
            raise InvalidImagesError(
                f"expected a picture {where}; {reason}. Open the file again, or convert the picture to RGB first."
            ) from error
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", os.fspath(path)):
            raise MissingFileError(
                f"expected the path of a file; {_name(path)} is an address. Download it first: "
                "urllib.request.urlretrieve(address, 'picture.jpg')."
            ) from error
        if isinstance(error, FileNotFoundError):
            raise MissingFileError(
                f"expected a picture {where}; there is no such file. Paths are relative to the folder {os.getcwd()}."
            ) from error
        if isinstance(error, UnidentifiedImageError):
            reason = "PIL can read none from it. Convert it to PNG or JPEG"
        elif isinstance(error, OSError) and os.path.isdir(path):
            reason = (
                "that is a folder. Pass the paths of its pictures, for example list(pathlib.Path(folder).iterdir())"
            )
        else:
            reason = f"it cannot be read ({reason}). Save or download it again"
        raise InvalidImagesError(f"expected a picture {where}; {reason}.") from error


def _name(path: str | PathLike[str]) -> str:
    name = str(os.fspath(path))
    name = name if len(name) <= 200 else f"{name[:200]}..."
    return name if name.isprintable() else repr(name)


def _read(picture: Image.Image, channels: int) -> Image.Image:
    if 0 in picture.size:
        raise InvalidImagesError(
            f"expected a picture of at least one pixel; got {picture.width} x {picture.height}. Look at how it was cut."
        )
    picture.load()
    sixteen_bits = picture.mode in _SIXTEEN_BITS or (picture.mode == "I" and picture.format in ("PNG", "PPM"))
    if picture.mode in _WIDE_MODES and not sixteen_bits:
        raise InvalidImagesError(
            f"expected a picture of 8 or 16 bits; got mode {picture.mode!r}, {_WIDE_MODES[picture.mode]}, of which "
            f"nobody can tell how bright they are meant. {_WINDOW}"
        )
    if sixteen_bits:
        tags: Any = getattr(picture, "tag_v2", {})
        bits = 12 if tags.get(_BITS_PER_SAMPLE) == (12,) else 16
        grey = _grey(ImageOps.exif_transpose(picture), bits, picture.info.get("transparency"))
        if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # PIL obeys this tag for 8 bits only
            grey = ImageOps.invert(grey)
        return grey if channels == 1 else grey.convert("RGB")
    upright = ImageOps.exif_transpose(picture)
    if upright.has_transparency_data:
        upright = _on_white(upright)
    rgb = upright.convert("RGB")
    return rgb.convert("L") if channels == 1 else rgb


def _grey(picture: Image.Image, bits: int, transparent: object) -> Image.Image:
    """12 or 16 bits -> 8 bits, rounded: the darkest value to 0, the brightest to 255."""
    values = np.asarray(picture).astype(np.int64)
    brightest = int(values.max())
    # black is black whatever the range; what else stays below 4096 is 12 or fewer bits in a file of 16
    if bits == 16 and 0 < brightest <= 4095:
        raise InvalidImagesError(
            f"expected 16-bit values up to 65535; the brightest is {brightest}, as of 12 or fewer bits in a 16-bit "
            f"file: as 16 bits it would be almost black. {_WINDOW}, with low = 0 and high = 4095 for 12 bits."
        )
    top = 2**bits - 1
    pixels = (values * 255 + top // 2) // top
    if isinstance(transparent, int):
        pixels[values == transparent] = 255
    return Image.fromarray(pixels.astype(np.uint8))


def _on_white(picture: Image.Image) -> Image.Image:
    """As a viewer shows it, instead of the colour hidden under the transparency."""
    picture = picture.convert("LA") if picture.mode == "La" else picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
