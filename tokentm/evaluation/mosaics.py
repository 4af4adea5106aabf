"""Mosaics: pictures whose right answer is known by construction, from any pictures with labels.

Class A stands in two diagonal quadrants, class B in the two others. A map for A should be higher on A's quadrants, if
the model uses them; whether it does is measured by taking quadrants away (:func:`control`). Four pictures make a
mosaic, none is used twice.

Source: the idea of a grid of pictures of known classes is that of the grid pointing game, Böhle, Fritz, Schiele,
"Convolutional Dynamic Alignment Networks for Interpretable Classifications", CVPR 2021.

Departures: two classes in place of four or nine, diagonally, so that neither place nor class is told by a half of the
picture; and the control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tokentm.evaluation.datasets import DataError, Dataset, Sample
from tokentm.evaluation.observed import observe
from tokentm.evaluation.removal import Remover
from tokentm.outputs import Meaning

Recognises = Callable[[Sequence[Sample]], Sequence[bool]]
"""Which of some samples the model gets right."""

_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Four pictures and how they are laid.

    Attributes:
        name: of the two classes' pictures.
        parts: the samples, quadrants in row-major order: above left, above right, below left, below right.
        classes: class A, of the first and last quadrant, and class B, of the two others.
    """

    name: str
    parts: tuple[Sample, Sample, Sample, Sample]
    classes: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Mosaics:
    """Mosaics of a data set with labels, see :func:`mosaics_of`."""

    items: tuple[Mosaic, ...]
    classes: int | None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Mosaic:
        return self.items[index]

    def identity(self, index: int) -> str:
        """What stands in the quadrants, and of which classes."""
        return f"{self.items[index].name} {self.items[index].classes}"


def mosaics_of(
    dataset: Dataset, count: int | None = None, recognises: Recognises | None = None, seed: int = 0
) -> Mosaics:
    """Lay pictures of a data set to mosaics, always the same ones for a seed.

    Pictures are drawn by chance, once each. Two of a class become a diagonal, two diagonals of different classes a
    mosaic, as soon as they are there; drawing ends with the last mosaic that was asked for, or with the pictures.

    Args:
        dataset: pictures with one label each.
        count: how many mosaics; fewer where pictures do not suffice; None makes as many as can be.
        recognises: asked of pictures before they are used; None uses all.

    Raises:
        DataError: pictures without labels or of one class alone, too few of them, or none that the model gets right.
    """
    generator = np.random.default_rng(seed)
    seen: dict[int, int] = {}
    right: dict[int, int] = {}
    waiting: dict[int, Sample] = {}
    diagonals: list[tuple[Sample, Sample]] = []
    made: list[Mosaic] = []
    for sample, good in _asked(dataset, generator.permutation(len(dataset)).tolist(), recognises):
        label = sample.label
        if label is None:
            raise DataError(
                f"expected pictures with one label each; {sample.name} has none. Pass folder:PATH, for example."
            )
        seen[label] = seen.get(label, 0) + 1
        if not good:
            continue
        right[label] = right.get(label, 0) + 1
        if label not in waiting:
            waiting[label] = sample
            continue
        diagonal = (waiting.pop(label), sample)
        other = next((one for one in diagonals if one[0].label != label), None)
        if other is None:
            diagonals.append(diagonal)
            continue
        diagonals.remove(other)
        made.append(_laid(other, diagonal, bool(generator.integers(2))))
        if len(made) == count:
            break
    if not made:
        raise DataError(_why_none(seen, right))
    return Mosaics(tuple(made), dataset.classes)


def _asked(dataset: Dataset, order: Sequence[int], recognises: Recognises | None) -> Iterator[tuple[Sample, bool]]:
    """Samples in an order, each with whether it is to be used."""
    for first in range(0, len(order), _AT_ONCE):
        samples = [dataset[i] for i in order[first : first + _AT_ONCE]]
        good = [True] * len(samples) if recognises is None else recognises(samples)
        yield from zip(samples, good, strict=True)


def _laid(one: tuple[Sample, Sample], two: tuple[Sample, Sample], exchanged: bool) -> Mosaic:
    a, b = (two, one) if exchanged else (one, two)
    assert a[0].label is not None
    assert b[0].label is not None
    name = " / ".join(part.name for part in (a[0], b[0], b[1], a[1]))
    return Mosaic(name, (a[0], b[0], b[1], a[1]), (a[0].label, b[0].label))


def _why_none(seen: dict[int, int], right: dict[int, int]) -> str:
    expected = "expected at least two pictures of each of two classes, which a mosaic is laid of;"
    if len(seen) < 2:
        return f"{expected} found {len(seen)} class in all. Add folders of other classes."
    if not right:
        return (
            f"{expected} the model gets none of the {sum(seen.values())} pictures right. Are labels in the order of "
            "its outputs, pictures prepared as in training? --include-wrong (recognises=None) uses all of them."
        )
    enough = sum(number >= 2 for number in right.values())
    return (
        f"{expected} found {enough} such class(es): of {sum(seen.values())} pictures of {len(seen)} classes, "
        f"{sum(right.values())} of {len(right)} are to be used, which the model gets right. Add pictures, or use all "
        "with --include-wrong (recognises=None)."
    )


def compose(images: Tensor) -> Tensor:
    """Lay four prepared pictures each to a mosaic of the same size: (B, 4, C, H, W) -> (B, C, H, W).

    Each is halved in size, every pixel the mean of 2 x 2, and put into a quadrant, row-major. What a transform did to
    the pictures, a crop for instance, is done before, so that the mosaic is seen whole.

    Raises:
        DataError: an odd height or width.

    Example:
        >>> compose(torch.arange(4.0).view(1, 4, 1, 1, 1).expand(1, 4, 1, 2, 2))
        tensor([[[[0., 1.],
                  [2., 3.]]]])
    """
    if images.ndim != 5 or images.shape[1] != 4 or images.shape[3] % 2 or images.shape[4] % 2:
        raise DataError(
            f"expected four pictures for each mosaic, (B, 4, C, H, W), of an even height and width; got "
            f"{tuple(images.shape)}."
        )
    small = F.avg_pool2d(images.flatten(0, 1), 2).unflatten(0, (len(images), 4))
    above, below = torch.cat((small[:, 0], small[:, 1]), 3), torch.cat((small[:, 2], small[:, 3]), 3)
    return torch.cat((above, below), 2)


def quadrants(rows: int, columns: int) -> Tensor:
    """Where class A stands on a grid of patches, bool (rows, columns); class B stands on the rest.

    Raises:
        DataError: an odd number of rows or columns: a patch would lie in two quadrants.

    Example:
        >>> quadrants(2, 4).int()
        tensor([[1, 1, 0, 0],
                [0, 0, 1, 1]], dtype=torch.int32)
    """
    if rows % 2 or columns % 2 or rows < 2 or columns < 2:
        raise DataError(
            f"expected an even number of rows and columns of patches, so that quadrants are made of whole patches; got "
            f"{rows} x {columns}. Take a model of another patch or image size."
        )
    above, left = torch.arange(rows) < rows // 2, torch.arange(columns) < columns // 2
    return above[:, None] == left


def control(remove: Remover, own: Tensor, target: Tensor, outputs: Meaning = "softmax") -> Tensor:
    """Does taking away the class's own quadrants hurt its log-odds more than taking away the others? (B,), 1 or 0.

    0.5 where both hurt alike. It tells of the model, not of a map: only where it is 1 a right map has to be higher on
    the class's own quadrants.

    Args:
        remove: gone (B, P), bool -> logits (B, classes), for example :class:`tokentm.evaluation.Removal`.
        own: patches of the class's own quadrants, (B, P), bool.
        target: class index per image, (B,).
        outputs: what the logits mean, see :data:`tokentm.outputs.Meaning`.
    """
    without_own, without_others = (observe(remove(gone), target, outputs).log_odds for gone in (own, ~own))
    if without_own is None or without_others is None:
        raise DataError("expected a model of at least two classes, to lay mosaics of two; it has one output.")
    return ((without_own < without_others).to(without_own) + (without_own <= without_others).to(without_own)) / 2
