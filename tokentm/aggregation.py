"""From per-layer weights and attention to one contribution per input token. Pure functions of tensors.

Source: Wu et al., "Token Transformation Matters", CVPR 2024. C_l is the contribution map after l layers, (B, N, N):
row i = how much each input token counts in token i of layer l.
"""

from __future__ import annotations

import torch
from torch import Tensor


def initial_map(embedding: Tensor) -> Tensor:
    """C_0 = diag(L(E^0_1), ..., L(E^0_N)): (B, N, D) -> (B, N, N)."""
    return torch.linalg.vector_norm(embedding, dim=-1).diag_embed()


def head_mixing(attention: Tensor, weight: Tensor, gradient: Tensor | None = None) -> Tensor:
    """What each head of one attention layer mixes: (B, H, N, N), (B, H, N) -> (B, H, N, N).

    A^h W^h                      class-agnostic, without a gradient
    relu(G^h * (A^h W^h))        class-specific, with the gradient G of the score; "*" elementwise

    The layer mixes the mean over its heads.
    """
    weighted = attention * weight.unsqueeze(-2)
    return weighted if gradient is None else (gradient * weighted).relu()


def aggregate(contribution: Tensor, mixing: Tensor, ffn_weight: Tensor | None = None, parallel: bool = False) -> Tensor:
    """One layer more: C_l = (I + W_ffn) (I + mixing) C_{l-1}, all (B, N, N) but W_ffn given as its diagonal (B, N).

    In a parallel block attention and FFN read the same tokens: C_l = (I + mixing + W_ffn) C_{l-1}.
    """
    mixed = contribution + mixing @ contribution
    if ffn_weight is None:
        return mixed
    return mixed + ffn_weight.unsqueeze(-1) * (contribution if parallel else mixed)


def read(contribution: Tensor, readout: Tensor, prefix: int) -> Tensor:
    """What the readout takes from each patch: (B, N, N), (B, N) -> (B, patches), prefix left out."""
    return torch.einsum("bn,bnm->bm", readout, contribution)[:, prefix:]
