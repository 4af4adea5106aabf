"""SaCo: is the group of patches with the larger score really the one that the model misses more?

Source: Wu, Kang, Tang, Hong, Yan, "On the Faithfulness of Vision Transformer Explanations", CVPR 2024, algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm.evaluation.observed import Measured, check, meaning_for, observe
from tokentm.evaluation.perturbation import ranking
from tokentm.evaluation.removal import Remover
from tokentm.outputs import Meaning

GROUPS = 10


def saco(remove: Remover, scores: Tensor, target: Measured, outputs: Meaning | None = None) -> Tensor:
    """Salience-guided faithfulness coefficient, -1 (always the wrong order) .. 1, one per image: (B, P) -> (B,).

    Patches are split by rank into 10 groups. A pair of groups counts with the difference of their mean scores: for the
    map where taking away the more salient group lowers the probability of the explained class more, against it where
    that lowers it less, and for neither where both lower it alike. A map without any difference claims nothing and
    scores 0; so does every map of a model whose answer does not move.

    Args:
        remove, target, outputs: as in :func:`tokentm.evaluation.perturbation`; a function as target is measured itself,
            in place of a probability.
        scores: relevance of each patch, (B, P).

    Departures:
        groups are taken away with ``remove``, where the authors fill in the image's mean colour, which is
        ``Removal(trace, "mean")``;
        a group's salience is its mean score, where the authors add up groups of one size: 196 patches make groups of 20
        and of 19, whose sums differ for a constant map too;
        a tie of two effects counts for neither side, where the authors count it for the map.
    """
    check(scores, target)
    meaning = meaning_for(remove, outputs)

    def measured(gone: Tensor) -> Tensor:
        return observe(remove(gone), target, meaning).value

    patches = scores.shape[1]
    groups = ranking(scores).tensor_split(min(GROUPS, patches), dim=1)
    whole = measured(torch.zeros_like(scores, dtype=torch.bool))
    above = scores - scores.amin(1, keepdim=True)  # only differences count; a constant map becomes exact zeros
    salience, drop = [], []
    for group in groups:
        gone = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, group, True)
        drop.append(whole - measured(gone))
        salience.append(above.gather(1, group).mean(1))
    s, d = torch.stack(salience, 1), torch.stack(drop, 1)
    first, second = torch.triu_indices(len(groups), len(groups), 1)
    claim = s[:, first] - s[:, second]
    kept = (claim * (d[:, first] - d[:, second]).sign()).sum(1)
    total = claim.abs().sum(1)
    return torch.where(total > 0, kept / total.clamp(min=1e-30), 0.0)
