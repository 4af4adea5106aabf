"""What a survey found: the numbers of every picture, and the patches that drive each class."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from tokentm import files
from tokentm.errors import InvalidOptionError
from tokentm.survey.deciding import deciding_layer
from tokentm.survey.driving import DrivingPatch, SeenPicture, strongest

_FORMAT = "tokentm survey 1"
UNKNOWN = -1
"""In place of a label that is not known."""


@dataclass(frozen=True, eq=False)  # equality of tensors has no single answer
class Survey:
    """S pictures looked at by one model of L layers with H heads, C classes and P patches.

    Attributes:
        pictures: their names in the data set, S of them.
        labels: their classes, (S,), :data:`UNKNOWN` where they are not known.
        answers: what the model's head would answer after each layer, the model's own answer last, (S, L).
        distance: mean attention distance of each head, in pixels, (S, L, H); see
            :func:`tokentm.survey.heads.attention_distance`.
        entropy: of each head, in nats, (S, L, H); see :func:`tokentm.survey.heads.attention_entropy`.
        on_object: of what the read tokens take of patches, the share on the object, (S, L, H), NaN in pictures without
            masks; several objects of a picture count as one. See :func:`tokentm.survey.heads.share_on_object`.
        covered: share of the picture that the object covers, (S,), NaN without masks: what ``on_object`` is of a head
            that looks everywhere alike.
        driving: of each predicted class the ``top`` patches that contribute most, over all pictures.
        seen: the pictures of these patches by number, small, with their maps.
        top: how many patches of each class were kept.
        classes: C.
        class_names: names of the classes, where they are known.
        grid: (rows, columns) of patches.
        prefix: how many tokens stand before the patches.
        image_size: (height, width) of the images in pixels.
        offset: how far down and to the right of its patch a token looks, in patches.
        settings: what the numbers depend on, as the command wrote it down.

    Example:
        >>> found = Survey.load("results/survey/survey.safetensors")
        >>> found.distance.mean(0)  # of every head, over all pictures: (8, 4)
        >>> found.decided.bincount()  # after which layer how many pictures were decided
    """

    pictures: tuple[str, ...]
    labels: Tensor
    answers: Tensor
    distance: Tensor
    entropy: Tensor
    on_object: Tensor
    covered: Tensor
    driving: tuple[DrivingPatch, ...]
    seen: Mapping[int, SeenPicture]
    top: int
    classes: int
    class_names: tuple[str, ...] | None
    grid: tuple[int, int]
    prefix: int
    image_size: tuple[int, int]
    offset: tuple[float, float] = (0.0, 0.0)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def predicted(self) -> Tensor:
        """The model's answer, (S,)."""
        return self.answers[:, -1]

    @property
    def decided(self) -> Tensor:
        """The first layer, counted from 1, after which the answer stays the final one, (S,)."""
        return deciding_layer(self.answers)

    @property
    def layers(self) -> int:
        return self.distance.shape[1]

    @property
    def heads(self) -> int:
        return self.distance.shape[2]

    def name(self, explained: int) -> str:
        """What a class is called."""
        return f"class {explained}" if self.class_names is None else self.class_names[explained]

    def of(self, explained: int) -> list[DrivingPatch]:
        """The patches that drive one class, the strongest first; none where no picture was taken for it."""
        return [one for one in self.driving if one.explained == explained]

    def __repr__(self) -> str:
        return (
            f"Survey({len(self.pictures)} pictures, {self.layers} layers, {self.heads} heads, {self.classes} classes)"
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything to one safetensors file; :meth:`load` reads it back equal.

        Raises:
            InvalidOptionError: the file cannot be written; what was there before is kept.
        """
        files.put(path, lambda draft: Path(draft).write_bytes(self.packed()))

    def packed(self) -> bytes:
        """What :meth:`save` writes; the same survey gives the same bytes."""
        numbers = sorted(self.seen)
        pieces = [*(one.crop for one in self.driving), *(self.seen[number].jpeg for number in numbers)]
        told = {
            "pictures": self.pictures,
            "top": self.top,
            "classes": self.classes,
            "class_names": self.class_names,
            "layout": [self.grid, self.prefix, self.image_size, self.offset],
            "driving": [[one.explained, one.picture, one.patch, one.contribution, one.share] for one in self.driving],
            "seen": numbers,
            "lengths": [len(piece) for piece in pieces],
            "settings": dict(self.settings),
        }
        tensors = {
            **{name: getattr(self, name) for name in _SHAPES},
            "maps": torch.stack([self.seen[number].scores for number in numbers]),
            "pieces": _bytes(b"".join(pieces)),
            "told": _bytes(json.dumps(told, sort_keys=True).encode()),
        }
        written = {name: one.detach().cpu().contiguous().clone() for name, one in tensors.items()}
        # all that is told stands in tensors: the order in which metadata are written is not always the same
        return save({**written, "digest": _digest(written)}, {"format": _FORMAT})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Survey:
        """Read what :meth:`save` wrote.

        Raises:
            InvalidOptionError: the file is not such a file, or is damaged.
            NoSuchFileError: there is no file.
        """
        return files.read(path, "Survey.save", {_FORMAT: lambda tensors, _metadata: _restored(tensors)})

    @classmethod
    def merged(cls, parts: Sequence[Survey], settings: Mapping[str, Any]) -> Survey:
        """One survey of all pictures of several, in their order. The strongest patches of all are the strongest of
        what each of them kept.

        Raises:
            InvalidOptionError: parts that look at pictures of different sizes, or of different models.
        """
        first = parts[0]
        for part in parts:
            _require_alike(first, part)
        firsts = [sum(len(part.pictures) for part in parts[:i]) for i in range(len(parts))]
        driving = strongest(
            (
                replace(one, picture=one.picture + begin)
                for part, begin in zip(parts, firsts, strict=True)
                for one in part.driving
            ),
            first.top,
        )
        wanted = {one.picture for one in driving}
        seen = {
            number + begin: one
            for part, begin in zip(parts, firsts, strict=True)
            for number, one in part.seen.items()
            if number + begin in wanted
        }
        tensors: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in _SHAPES}
        return replace(
            first,
            pictures=tuple(name for part in parts for name in part.pictures),
            **tensors,
            driving=tuple(driving),
            seen=seen,
            settings=settings,
        )


_SHAPES = {
    "labels": "S",
    "answers": "SL",
    "distance": "SLH",
    "entropy": "SLH",
    "on_object": "SLH",
    "covered": "S",
}
"""The tensors of a survey and their dimensions."""


def _bytes(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8).copy())


def _digest(tensors: Mapping[str, Tensor]) -> Tensor:
    """A fingerprint of all tensors but itself: damage inside a file of the right length shows."""
    made = sha256()
    for name in sorted(tensors):
        made.update(name.encode())
        made.update(tensors[name].numpy().tobytes())
    return _bytes(made.digest())


def _restored(tensors: dict[str, Tensor]) -> Survey:
    """A survey from what :meth:`Survey.packed` made; raises where its parts do not fit together."""
    digest = tensors.pop("digest")
    if not torch.equal(digest, _digest(tensors)):
        raise ValueError("its content is not what was written")
    told = json.loads(tensors["told"].numpy().tobytes())
    (rows, columns), prefix, (height, width), (down, right) = told["layout"]
    pieces, place = [], 0
    content = tensors["pieces"].numpy().tobytes()
    for length in told["lengths"]:
        pieces.append(content[place : place + length])
        place += length
    numbers, patches = told["seen"], told["driving"]
    crops, pictures = pieces[: len(patches)], pieces[len(patches) :]
    sizes = {"S": len(told["pictures"])}
    for name, dims in _SHAPES.items():
        shape = tuple(sizes.setdefault(dim, size) for dim, size in zip(dims, tensors[name].shape, strict=True))
        if tensors[name].shape != shape:
            raise ValueError(f"{name} does not fit its pictures")
    if tensors["maps"].shape != (len(numbers), rows * columns):
        raise ValueError("its maps do not fit its grid")
    return Survey(
        pictures=tuple(told["pictures"]),
        **{name: tensors[name] for name in _SHAPES},
        driving=tuple(
            DrivingPatch(explained, picture, patch, contribution, share, crop)
            for (explained, picture, patch, contribution, share), crop in zip(patches, crops, strict=True)
        ),
        seen={
            number: SeenPicture(jpeg, scores)
            for number, jpeg, scores in zip(numbers, pictures, tensors["maps"], strict=True)
        },
        top=told["top"],
        classes=told["classes"],
        class_names=None if told["class_names"] is None else tuple(told["class_names"]),
        grid=(rows, columns),
        prefix=prefix,
        image_size=(height, width),
        offset=(down, right),
        settings=told["settings"],
    )


def _require_alike(first: Survey, other: Survey) -> None:
    for name in ("grid", "prefix", "image_size", "offset", "classes", "layers", "heads", "top"):
        one, another = getattr(first, name), getattr(other, name)
        if one != another:
            raise InvalidOptionError(
                f"expected pictures that one model sees alike; {first.pictures[0]} has {name} {one}, "
                f"{other.pictures[0]} has {another}. Prepare all pictures to one size (transform=)."
            )
