"""Does an unsupervised segmentation find the objects? Needs ``pip install tokentm[evaluation]``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tokentm.errors import InvalidOptionError
from tokentm.optional import load


def with_background(masks: Tensor) -> Tensor:
    """Masks of objects, and last that of the pixels on none of them: (R, H, W) -> (R + 1, H, W), bool."""
    return torch.cat((masks, ~masks.any(0, keepdim=True)))


def matched_miou(labels: Tensor, regions: Tensor) -> float:
    """Intersection over union of every true region with the cluster that stands for it, averaged over the regions.

    Clusters have no names, so they are matched: each region gets at most one cluster, each cluster at most one region,
    in that way in which the average is the largest (the Hungarian method). A region without a cluster counts 0; pixels
    of clusters without a region count as missed.

    Args:
        labels: number of a cluster for each patch or pixel, (rows, columns), integers; each is repeated over the pixels
            nearest to it.
        regions: what is truly there, (R, H, W), bool: objects and background, see :func:`with_background`. A pixel
            belongs to one of them at most.

    Returns:
        The average, 0 .. 1.

    Raises:
        InvalidOptionError: shapes or types that do not fit, or a region that is empty or overlaps another.

    Example:
        >>> left = torch.tensor([[True, True, False, False]] * 2)
        >>> matched_miou(torch.tensor([[5, 2]]), torch.stack((left, ~left)))
        1.0

    Source: the protocol of unsupervised segmentation, as in Ji, Henriques, Vedaldi, "Invariant Information Clustering
    for Unsupervised Image Classification and Segmentation", ICCV 2019; assignment by Kuhn, "The Hungarian Method for
    the Assignment Problem", Naval Research Logistics Quarterly 2, 1955, as scipy.optimize has it.

    Departures: matched picture by picture, since clusters of one picture have nothing to do with those of another;
    the protocol matches clusters once for a data set.
    """
    whole = not (labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool)
    if labels.ndim != 2 or regions.ndim != 3 or not whole or regions.dtype != torch.bool:
        raise InvalidOptionError(
            f"expected whole numbers (rows, columns) and boolean regions (R, H, W) of one picture; got {labels.dtype} "
            f"{tuple(labels.shape)} and {regions.dtype} {tuple(regions.shape)}. segment(maps)[i] is one picture's."
        )
    empty = (~regions.flatten(1).any(1)).nonzero().flatten().tolist()
    if empty or (regions.sum(0) > 1).any():
        wrong = f"region(s) {empty} without a pixel" if empty else "pixels that belong to several"
        raise InvalidOptionError(f"expected regions that have pixels and do not overlap; got {wrong}. Leave them out.")
    names, numbers = torch.unique(labels, return_inverse=True)
    of_pixel = F.interpolate(numbers[None, None].double(), regions.shape[1:], mode="nearest-exact").long().flatten()
    clusters = F.one_hot(of_pixel, len(names)).double()  # (pixels, clusters)
    truth = regions.flatten(1).double()
    inside = truth @ clusters
    overlap = inside / (truth.sum(1, keepdim=True) + clusters.sum(0) - inside)
    matched = load("scipy.optimize").linear_sum_assignment(overlap.numpy(force=True), maximize=True)
    return float(overlap[matched].sum()) / len(regions)
