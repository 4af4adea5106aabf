"""Groups of things that lie close together, from their distances alone: average linkage. A pure function of tensors.

Source: Sokal and Michener, "A Statistical Method for Evaluating Systematic Relationships", University of Kansas Science
Bulletin 38, 1958; distances to a merged group by the rule of Lance and Williams, "A General Theory of Classificatory
Sorting Strategies", The Computer Journal 9, 1967.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cosine_distances(vectors: Tensor) -> Tensor:
    """1 - cos of every two vectors, (T, P) -> (T, T), in float64, 0 to themselves. One of length zero has no direction:
    its cosine to others counts as 0.

    Example:
        >>> cosine_distances(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
        tensor([[0., 1.],
                [1., 0.]], dtype=torch.float64)
    """
    lengths = torch.linalg.vector_norm(vectors.double(), dim=1, keepdim=True)
    directions = torch.where(lengths > 0, vectors / lengths, 0.0)
    return (1 - directions @ directions.T).clamp(min=0).fill_diagonal_(0)


def average_linkage(distances: Tensor, groups: int | None = None, cut: float | None = None) -> Tensor:
    """Merge the two groups with the least average distance between their members, again and again: (T, T) -> (T,).

    Args:
        distances: symmetric.
        groups: merge until so many are left; None until one is left.
        cut: merge only groups that lie no further apart than this; None merges at any distance.

    Returns:
        The number of each one's group: groups are numbered in the order of their first members. Of pairs that lie
        equally close, the first is merged.

    Example:
        >>> average_linkage(torch.tensor([[0.0, 9.0, 1.0], [9.0, 0.0, 8.0], [1.0, 8.0, 0.0]]), groups=2)
        tensor([0, 1, 0])
    """
    between = distances.double().clone().fill_diagonal_(torch.inf)
    count = len(between)
    sizes = torch.ones(count, dtype=between.dtype, device=between.device)
    group = torch.arange(count, device=between.device)  # by the number of its first member
    for _ in range(count - max(1, 1 if groups is None else groups)):
        first, second = divmod(int(between.argmin()), count)  # the upper triangle comes first: first < second
        if cut is not None and not between[first, second] <= cut:
            break
        total = sizes[first] + sizes[second]
        merged = (sizes[first] * between[first] + sizes[second] * between[second]) / total
        merged[first] = torch.inf
        between[first], between[:, first] = merged, merged
        between[second], between[:, second] = torch.inf, torch.inf
        sizes[first] = total
        group[group == second] = first
    return torch.unique(group, return_inverse=True)[1]
