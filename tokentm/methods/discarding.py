"""The discard ratio of both rollouts: the smallest entries of a map set to zero.

Source: Gildenblat, "Exploring Explainability for Vision Transformers", 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm.errors import InvalidOptionError


def check_discard(discard: float) -> None:
    """Refuse what is no share.

    Raises:
        InvalidOptionError: with what to do.
    """
    if isinstance(discard, bool) or not isinstance(discard, (int, float)) or not 0 <= discard < 1:
        raise InvalidOptionError(
            f"expected discard from 0 (nothing is set to zero) to less than 1, a share of each map; got {discard!r}."
        )


def without_smallest(mixing: Tensor, discard: float, keep_first: bool = False) -> Tensor:
    """Each map (B, N, N) with the smallest share of its entries set to zero, int(discard N N) of them.

    Args:
        keep_first: the entry (0, 0) stays, also where it is one of the smallest.
    """
    if discard == 0:
        return mixing
    flat = mixing.flatten(1)
    smallest = flat.topk(int(flat.shape[1] * discard), largest=False).indices
    gone = torch.zeros_like(flat, dtype=torch.bool).scatter(1, smallest, True)
    if keep_first:
        gone[:, 0] = False
    return flat.masked_fill(gone, 0).view_as(mixing)
