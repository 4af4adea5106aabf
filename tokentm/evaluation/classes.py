"""Class sensitivity: does the map change when another class is explained?

Source: the question is that of Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, asked of the class in
place of the weights; comparing with the least likely class is usual, for example in Quantus' Random Logit test (Sixt,
Granz, Landgraf, "When Explanations Lie", ICML 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokentm.errors import InvalidOptionError
from tokentm.evaluation.sanity import rank_correlation

OTHERS = 5
"""How many other classes a map is compared with, where there are so many."""


@dataclass(frozen=True)
class ClassSensitivity:
    """Spearman's rank correlation of patches, -1 .. 1, (B,) each; lower is better: the map tells classes apart.

    A map that is the same for every class gets 1. A low value alone is no merit, chance has 0: read it beside a test of
    whether the map is right.

    Attributes:
        least_likely: between the map of the explained class and that of the class that the model finds least likely.
        other_classes: mean over several other classes, from the next in likelihood down to the least likely.
    """

    least_likely: Tensor
    other_classes: Tensor


def class_sensitivity(scores: Tensor, others: Tensor) -> ClassSensitivity:
    """Compare maps (B, P) with those of K other classes (B, K, P), the least likely class last.

    Raises:
        InvalidOptionError: shapes that do not belong together, or no other class.

    Example:
        >>> one = torch.tensor([[1.0, 2.0, 3.0]])
        >>> class_sensitivity(one, torch.stack((one, -one), 1)).other_classes
        tensor([0.])
    """
    if scores.ndim != 2 or others.ndim != 3 or others.shape[::2] != scores.shape or others.shape[1] < 1:
        raise InvalidOptionError(
            f"expected maps (B, P), and those of at least one other class (B, K, P); got {tuple(scores.shape)} and "
            f"{tuple(others.shape)}."
        )
    found = torch.stack([rank_correlation(scores, other) for other in others.unbind(1)], 1)
    return ClassSensitivity(least_likely=found[:, -1], other_classes=found.mean(1))


def other_classes(logits: Tensor, explained: Tensor, count: int = OTHERS) -> Tensor:
    """Which other classes to compare with: evenly spaced in likelihood, from the likeliest to the least likely.

    Args:
        logits: (B, C).
        explained: class index per image, (B,).
        count: how many; fewer where there are fewer.

    Returns:
        Indices (B, K), likeliest first, never the explained class.

    Raises:
        InvalidOptionError: one output: there is no other class.

    Example:
        >>> other_classes(torch.tensor([[3.0, 1.0, 2.0, 0.0]]), torch.tensor([0]), 2)
        tensor([[2, 3]])
    """
    others = logits.shape[1] - 1
    if others < 1:
        raise InvalidOptionError(
            "expected a model of at least two classes, to compare maps of different ones; it has one output."
        )
    ranked = logits.scatter(1, explained[:, None], torch.inf).argsort(dim=1, descending=True, stable=True)[:, 1:]
    kept = min(count, others)
    places = [round(k * (others - 1) / max(1, kept - 1)) for k in range(kept)] if kept > 1 else [others - 1]
    return ranked[:, places]
