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
        mass_inside: share of the heat map's positive part that lies on the object; 0 where it has none. Known as
            relevance mass accuracy, inside-total relevance ratio, or localisation.
        rank_inside: of the K highest pixels, K being how many the object covers, the share that lies on it: relevance
            rank accuracy. Of pixels tied for the last places, that share is taken of each that their number allows.
        points_inside: whether the highest pixel lies on the object, 0 or 1: the pointing game. Of several highest, the
            share that does.
        area: share of the picture that the object covers, which is what a map without a clue reaches on average in the
            three before.
    """

    pixel_accuracy: Tensor
    miou: Tensor
    average_precision: Tensor
    mass_inside: Tensor
    rank_inside: Tensor
    points_inside: Tensor
    area: Tensor


def segmentation(heatmap: Tensor, mask: Tensor) -> SegmentationScores:
    """Compare heat maps (B, H, W) with object masks (B, H, W), bool.

    Raises:
        InvalidOptionError: shapes that differ, a mask that is not boolean, or one without any object or background.

    Source: the protocol of Chefer et al., "Transformer Interpretability Beyond Attention Visualization", CVPR 2021,
    which the TokenTM paper follows. Localisation: Kohlbrenner et al., "Towards Best Practice in Explaining Neural
    Network Decisions with LRP", IJCNN 2020 (inside-total relevance ratio); Arras, Osman, Samek, "CLEVR-XAI",
    Information Fusion 2022 (relevance mass and rank accuracy); Zhang et al., "Top-down Neural Attention by Excitation
    Backprop", IJCV 2018 (pointing game).

    Departures: IoU is averaged over images, where Chefer et al. add up pixels of all images. Pixels that are tied count
    as they would on average if chance broke the tie, where the authors leave it to the order of pixels. The pointing
    game has no margin around the object.

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
        rank_inside=_share_of_highest(heatmap, mask, mask.flatten(1).sum(1)),
        points_inside=_share_of_highest(heatmap, mask, torch.ones_like(area, dtype=torch.long)),
        area=area,
    )


def _share_of_highest(heatmap: Tensor, mask: Tensor, counts: Tensor) -> Tensor:
    """Of so many highest pixels of each map, the share inside the mask, (B,); ties as chance breaks them on average."""
    values, inside = heatmap.flatten(1), mask.flatten(1)
    last = values.sort(dim=1, descending=True).values.gather(1, counts[:, None] - 1)
    above, tied = values > last, values == last
    places = counts - above.sum(1)  # for those that are tied
    found = (above & inside).sum(1) + places * (tied & inside).sum(1) / tied.sum(1)
    return (found / counts).to(values.dtype)


def _scaled(heatmap: Tensor) -> Tensor:
    low, high = heatmap.aminmax()
    return (heatmap - low) / (high - low).clamp(min=1e-30)
