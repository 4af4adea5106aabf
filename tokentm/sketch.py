"""A tensor remembered by a sample of its tokens: enough to tell it from others, and to see whether two add up to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_TOKENS = 32
"""Tokens kept of a sequence, evenly spread, the first and the last among them."""

_ENTRIES = 4096
"""Entries kept of a tensor that is no sequence."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """A sample of a tensor.

    Attributes:
        shape: of the tensor; of tokens (B, N, D), whichever order they came in.
        values: of tokens (B, n, D), n of the N; else some entries in a row.
        sequence_first: whether tokens came as (N, B, D).
    """

    shape: tuple[int, ...]
    values: Tensor
    sequence_first: bool = False

    @classmethod
    def of(cls, tensor: Tensor, images: int) -> Sketch:
        """Of a tensor that a model made of so many images."""
        tensor = tensor.detach()
        if tensor.ndim != 3 or images not in tensor.shape[:2]:
            flat = tensor.reshape(-1)
            return cls(tuple(tensor.shape), flat[:: max(1, len(flat) // _ENTRIES)].clone())
        sequence_first = tensor.shape[0] != images
        if sequence_first:
            tensor = tensor.transpose(0, 1)
        count = tensor.shape[1]
        chosen = torch.linspace(0, count - 1, min(count, _TOKENS)).round().long()
        return cls(tuple(tensor.shape), tensor[:, chosen.to(tensor.device)].clone(), sequence_first)

    @property
    def key(self) -> tuple[object, ...]:
        """What sketches of equal tensors have in common; few others have it."""
        flat = self.values.reshape(-1)
        places = [0, len(flat) // 3, len(flat) // 2, len(flat) - 1] if len(flat) else []
        return (self.shape, self.values.dtype, *flat[places].tolist())

    def equals(self, other: Sketch) -> bool:
        return self.shape == other.shape and torch.equal(self.values, other.values)
