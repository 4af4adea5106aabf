"""The patches that drive a class, and what is shown of them: a piece of the picture, and the picture with its map."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import BytesIO

from PIL import Image
from torch import Tensor

AROUND = 1
"""How many patches of the picture are shown on each side of a driving patch."""

LONGEST = 128
"""Most pixels along the longer side of what is kept of a picture, or of a piece of it."""

_QUALITY = 85  # of JPEG


@dataclass(frozen=True)
class DrivingPatch:
    """A patch that contributes much to a class.

    Attributes:
        explained: the class, which the model predicts for its picture.
        picture: number of the picture in the survey.
        patch: which patch of it, row-major from 0.
        contribution: by TokenTM, for that class.
        share: of the contributions of all patches of the picture, 0 .. 1.
        crop: the patch with its neighbours, as far as the picture goes, a JPEG; see :func:`window`.
    """

    explained: int
    picture: int
    patch: int
    contribution: float
    share: float
    crop: bytes


@dataclass(frozen=True, eq=False)  # equality of tensors has no single answer
class SeenPicture:
    """A picture as the model saw it, small, and its map.

    Attributes:
        jpeg: at most :data:`LONGEST` pixels along its longer side.
        scores: contribution of each patch to the predicted class, (P,).
    """

    jpeg: bytes
    scores: Tensor


def driving_patches(scores: Tensor, explained: Tensor, top: int) -> list[DrivingPatch]:
    """Of each class the patches that contribute most, see :func:`strongest`; their crops are empty yet.

    Args:
        scores: contribution of each patch, (B, P).
        explained: the class of each picture, (B,).
        top: how many of each class.
    """
    totals = scores.sum(1)
    found: list[DrivingPatch] = []
    for picture, of in enumerate(explained.tolist()):
        values, patches = (one[:top] for one in scores[picture].sort(descending=True, stable=True))
        total = float(totals[picture])
        found += [
            DrivingPatch(of, picture, patch, value, value / total if total > 0 else 0.0, b"")
            for value, patch in zip(values.tolist(), patches.tolist(), strict=True)
        ]
    return strongest(found, top)


def strongest(patches: Iterable[DrivingPatch], top: int) -> list[DrivingPatch]:
    """Of each class the ``top`` that contribute most: classes in order, the strongest first, then by place."""
    of_class: dict[int, list[DrivingPatch]] = {}
    for one in patches:
        of_class.setdefault(one.explained, []).append(one)
    return [
        one
        for explained in sorted(of_class)
        for one in sorted(of_class[explained], key=lambda p: (-p.contribution, p.picture, p.patch))[:top]
    ]


def cropped(one: DrivingPatch, seen: Image.Image, grid: tuple[int, int]) -> DrivingPatch:
    """The same with its piece of the picture that the model saw."""
    top, left, height, width = window(one.patch, grid)
    across, down = seen.width / grid[1], seen.height / grid[0]
    box = (round(left * across), round(top * down), round((left + width) * across), round((top + height) * down))
    return replace(one, crop=jpeg(seen.crop(box)))


def window(patch: int, grid: tuple[int, int]) -> tuple[int, int, int, int]:
    """What is shown around a patch, in patches: top, left, height, width. It lies inside the grid (rows, columns), so a
    patch at the edge is not in its middle.

    Example:
        >>> window(0, (14, 14)), window(15, (14, 14)), window(30, (14, 14))
        ((0, 0, 3, 3), (0, 0, 3, 3), (1, 1, 3, 3))
    """
    sides = [min(2 * AROUND + 1, count) for count in grid]
    place = divmod(patch, grid[1])
    first = [min(max(at - AROUND, 0), count - side) for at, count, side in zip(place, grid, sides, strict=True)]
    return first[0], first[1], sides[0], sides[1]


def jpeg(picture: Image.Image) -> bytes:
    """A picture as a JPEG of at most :data:`LONGEST` pixels along its longer side."""
    small = picture.convert("RGB")
    small.thumbnail((LONGEST, LONGEST))
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
