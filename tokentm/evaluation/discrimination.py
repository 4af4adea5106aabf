"""Class discrimination: of two objects in one picture, does the map of a class lie on the one that was asked for?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokentm.errors import InvalidOptionError


@dataclass(frozen=True)
class DiscriminationScores:
    """One number per map, (B,) each, in 0 .. 1; 0.5 is what a map that ignores the class reaches on average.

    Attributes:
        picks: 1 where the map is higher, on average over the mask, on the named object than on the other; 0.5 where
            both are equal.
        share: the named object's share of what the map puts on either, as means over the masks; 0.5 for a map that is
            zero on both.
    """

    picks: Tensor
    share: Tensor


def discrimination(heatmap: Tensor, named: Tensor, other: Tensor) -> DiscriminationScores:
    """Compare heat maps (B, H, W) of a class with the masks (B, H, W), bool, of its object and of another one.

    Negative scores, of methods that have them, count in ``picks`` and not in ``share``.

    Raises:
        InvalidOptionError: shapes that differ, a mask that is not boolean or is empty.
    """
    if not heatmap.shape == named.shape == other.shape or named.dtype != torch.bool or other.dtype != torch.bool:
        raise InvalidOptionError(
            f"expected heat maps and boolean masks of one shape (B, H, W); got {tuple(heatmap.shape)}, "
            f"{named.dtype} {tuple(named.shape)} and {other.dtype} {tuple(other.shape)}."
        )
    empty = (~(named.flatten(1).any(1) & other.flatten(1).any(1))).nonzero().flatten().tolist()
    if empty:
        raise InvalidOptionError(f"expected two visible objects; a mask of map(s) {empty} is empty.")
    mine, theirs = _mean(heatmap, named), _mean(heatmap, other)
    mine_up, theirs_up = _mean(heatmap.clamp(min=0), named), _mean(heatmap.clamp(min=0), other)
    total = mine_up + theirs_up
    return DiscriminationScores(
        picks=((mine > theirs).to(heatmap) + (mine >= theirs).to(heatmap)) / 2,
        share=torch.where(total > 0, mine_up / total.clamp(min=1e-30), 0.5),
    )


def _mean(heatmap: Tensor, mask: Tensor) -> Tensor:
    return (heatmap * mask).sum((1, 2)) / mask.sum((1, 2))
