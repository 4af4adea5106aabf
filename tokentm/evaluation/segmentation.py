"""The segmentation test: does the heat map lie on the object? Needs ``pip install tokentm[evaluation]``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokentm.errors import InvalidOptionError
from tokentm.optional import load


@dataclass(frozen=True)
class SegmentationScores:
    """One number per image, (B,) each, in 0 .. 1.

    Attributes:
        pixel_accuracy: share of pixels that the heat map, thresholded at its own mean, puts on the right side.
        miou: intersection over union of the same, averaged over object and background.
        average_precision: area under the precision-recall curve of the heat map itself, no threshold.
        mass_inside: share of the heat map's positive part that lies on the object; 0 where it has none.
        area: share of the picture that the object covers, which is what a map without a clue reaches as mass_inside.
    """

    pixel_accuracy: Tensor
    miou: Tensor
    average_precision: Tensor
    mass_inside: Tensor
    area: Tensor


def segmentation(heatmap: Tensor, mask: Tensor) -> SegmentationScores:
    """Compare heat maps (B, H, W) with object masks (B, H, W), bool.

    Raises:
        InvalidOptionError: shapes that differ, a mask that is not boolean, or one without any object or background.

    Source: the protocol of Chefer et al., "Transformer Interpretability Beyond Attention Visualization", CVPR 2021,
    which the TokenTM paper follows. Departure: IoU is averaged over images, where theirs adds up pixels of all images.

    Example:
        >>> mask = torch.zeros(1, 8, 8, dtype=torch.bool)
        >>> mask[0, 2:4] = True
        >>> segmentation(mask.float(), mask).miou
        tensor([1.])
    """
    metrics = load("torchmetrics.functional.classification")

    if heatmap.shape != mask.shape or heatmap.ndim != 3:
        raise InvalidOptionError(
            f"expected heat maps and masks of one shape (B, H, W); got {tuple(heatmap.shape)} and {tuple(mask.shape)}. "
            "explanation.heatmap(size) gives any size."
        )
    if mask.dtype != torch.bool:
        raise InvalidOptionError(f"expected boolean masks; got {mask.dtype}. Compare with the class's value first.")
    area = mask.flatten(1).float().mean(1)
    if ((area == 0) | (area == 1)).any():
        bad = ((area == 0) | (area == 1)).nonzero().flatten().tolist()
        raise InvalidOptionError(
            f"expected masks with object and background; mask(s) {bad} of the batch have only one."
        )
    marked = heatmap > heatmap.mean((1, 2), keepdim=True)
    positive = heatmap.clamp(min=0)
    inside, total = (positive * mask).sum((1, 2)), positive.sum((1, 2))
    pairs = list(zip(heatmap, marked, mask, strict=True))
    return SegmentationScores(
        pixel_accuracy=metrics.binary_accuracy(marked.int(), mask.int(), multidim_average="samplewise").view(-1),
        miou=torch.stack(
            [metrics.multiclass_jaccard_index(m.int(), truth.int(), num_classes=2) for _, m, truth in pairs]
        ),
        average_precision=torch.stack(
            # scaled to 0 .. 1, which keeps the ranking: outside it torchmetrics would take the values for logits
            [metrics.binary_average_precision(_scaled(h), truth.int()) for h, _, truth in pairs]
        ),
        mass_inside=torch.where(total > 0, inside / total.clamp(min=1e-30), 0.0),
        area=area,
    )


def _scaled(heatmap: Tensor) -> Tensor:
    low, high = heatmap.aminmax()
    return (heatmap - low) / (high - low).clamp(min=1e-30)
