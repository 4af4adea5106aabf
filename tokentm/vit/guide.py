"""What a library tells of a model whose blocks are found by running it: how it is called, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tokentm.vit.anatomy import Anatomy


def _called(model: Any, images: Tensor) -> Any:
    return model(images)


def _unchanged(anatomy: Anatomy) -> Anatomy:
    return anatomy


@dataclass(frozen=True, eq=False)
class Guide:
    """What is known of such a model beside its blocks.

    Attributes:
        call: how the model is called with images (B, C, H, W) alone.
        sizes: (height, width) that it takes, the likeliest first.
        switches: (object, attribute, value) to set while it runs, see :class:`Anatomy`.
        complete: what was found, with what the configuration tells beside it.
    """

    call: Callable[[Any, Tensor], Any] = _called
    sizes: tuple[tuple[int, int], ...] = ()
    switches: tuple[tuple[Any, str, Any], ...] = ()
    complete: Callable[[Anatomy], Anatomy] = _unchanged
