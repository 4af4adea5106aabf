"""SaCo: is the group of patches with the larger score really the one that the model misses more?

Source: Wu, Kang, Tang, Hong, Yan, "On the Faithfulness of Vision Transformer Explanations", CVPR 2024, algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm.evaluation.perturbation import ranking
from tokentm.evaluation.removal import Remover

GROUPS = 10


def saco(remove: Remover, scores: Tensor, target: Tensor) -> Tensor:
    """Salience-guided faithfulness coefficient, -1 (always the wrong order) .. 1, one per image: (B, P) -> (B,).

    Patches are split by rank into 10 groups. A pair of groups counts with the difference of their sums of scores: for
    the map where the more salient group lowers the probability of the explained class at least as much, else against
    it. A map without any difference claims nothing and scores 0.

    Departure: groups are taken away with ``remove``, where the authors fill in the image's mean colour, which is
    ``Removal(trace, "mean")``.
    """
    patches = scores.shape[1]
    groups = ranking(scores).tensor_split(min(GROUPS, patches), dim=1)
    whole = _probability(remove, torch.zeros_like(scores, dtype=torch.bool), target)
    salience, drop = [], []
    for group in groups:
        gone = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, group, True)
        drop.append(whole - _probability(remove, gone, target))
        salience.append(scores.gather(1, group).sum(1))
    s, d = torch.stack(salience, 1), torch.stack(drop, 1)
    first, second = torch.triu_indices(len(groups), len(groups), 1)
    claim = s[:, first] - s[:, second]
    kept = torch.where(d[:, first] >= d[:, second], claim, -claim).sum(1)
    total = claim.abs().sum(1)
    return torch.where(total > 0, kept / total.clamp(min=1e-30), 0.0)


def _probability(remove: Remover, gone: Tensor, target: Tensor) -> Tensor:
    return remove(gone).softmax(1).gather(1, target[:, None]).squeeze(1)
