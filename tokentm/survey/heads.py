"""What one attention head does, in a number: how far it looks, how widely, and how much of it the object gets."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tokentm.vit import Layout


def attention_distance(attention: Tensor, layout: Layout, image_size: tuple[int, int]) -> Tensor:
    """How far away what a head takes is, on average: (B, H, N, N) -> (B, H), in pixels of the image.

        sum_ij A_ij |p_i - p_j| / sum_ij A_ij          i, j patches; p their centres

    A head that takes nothing of any patch has distance 0.

    Args:
        attention: A, rows sum to 1; ``[b, h, i, j]`` = how much output i takes from token j.
        layout: which tokens are patches, and how they form a grid.
        image_size: (height, width) in pixels.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, section 4.5 (mean attention distance).

    Departures: prefix tokens have no place, so what patches take of them, and what they take themselves, is left out,
    and the weights of the rest are divided by their sum.

    Example:
        >>> attention_distance(trace.layers[0].attention, trace.layout, trace.image_size).shape
        torch.Size([1, 4])
    """
    among = attention[..., layout.prefix :, layout.prefix :]
    height, width = image_size
    row, column = torch.meshgrid(torch.arange(layout.rows), torch.arange(layout.columns), indexing="ij")
    places = torch.stack((row * (height / layout.rows), column * (width / layout.columns)), -1).flatten(0, 1).to(among)
    apart = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
    far = (among * apart).sum((-1, -2))
    return far / among.sum((-1, -2)).clamp(min=torch.finfo(among.dtype).tiny)


def attention_entropy(attention: Tensor) -> Tensor:
    """How widely a head looks: the entropy of what a token takes, averaged over all tokens, in nats.

        mean_i  - sum_j A_ij log A_ij

    0 where every token takes one token alone, log N where all are taken alike. (B, H, N, N) -> (B, H).

    Example:
        >>> attention_entropy(torch.full((1, 1, 4, 4), 0.25))
        tensor([[1.3863]])
    """
    return torch.special.entr(attention).sum(-1).mean(-1)


def share_on_object(attention: Tensor, readout: Tensor, covered: Tensor) -> Tensor:
    """Of what the tokens that the classifier reads take of patches, the share that lies on an object.

        sum_p a_p m_p / sum_p a_p          a = e^T A, the rows of the read tokens, each as much as it is read

    A head that looks everywhere alike has the share of the picture that the object covers. Where a class token is read
    it is that token's attention; where an average, or an attention pooling, that of all final tokens as they are read.

    Args:
        attention: A, (B, H, N, N).
        readout: e, share of each final token in what the classifier reads, (B, N); see :class:`tokentm.Trace`.
        covered: m, share of each patch that the object covers, (B, P), see :func:`coverage`; the patches are the last P
            of N tokens.

    Returns:
        (B, H), 0 .. 1; 0 where nothing of any patch is taken.

    Example:
        >>> covered = coverage(torch.from_numpy(scene.masks["cat"]), trace.layout)[None]
        >>> share_on_object(trace.layers[7].attention, trace.readout, covered).shape  # a share for each head
        torch.Size([1, 4])
    """
    taken = torch.einsum("bi,bhij->bhj", readout, attention)[..., -covered.shape[1] :]
    inside = (taken * covered.unsqueeze(1)).sum(-1)
    return inside / taken.sum(-1).clamp(min=torch.finfo(taken.dtype).tiny)


def coverage(mask: Tensor, layout: Layout) -> Tensor:
    """Share of each patch that a mask covers, there where the patch's token looks: (height, width), bool -> (P,).

    Beyond the edge of the picture there is no object.

    Example:
        >>> coverage(torch.tensor([[True, False], [True, True]]), Layout(1, 1, 2))
        tensor([1.0000, 0.5000])
    """
    height, width = mask.shape
    down, right = (
        round(shift * side / count)
        for shift, side, count in zip(layout.offset, (height, width), (layout.rows, layout.columns), strict=True)
    )
    moved = F.pad(mask.float(), (-right, right, -down, down))
    return F.adaptive_avg_pool2d(moved[None, None], (layout.rows, layout.columns)).flatten()
