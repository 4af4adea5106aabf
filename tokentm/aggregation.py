"""From per-layer weights and attention to one contribution per input token. Pure functions of tensors.

Source: Wu et al., "Token Transformation Matters", CVPR 2024. C_l is the contribution map after l layers, (B, N, N):
row i = how much each input token counts in token i of layer l.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
    return weighted if gradient is None else (gradient * weighted).relu_()


def factors(ffn_weight: Tensor | None, parallel: bool) -> tuple[Tensor | float, Tensor | float]:
    """One layer's update of a map, U = diag(stay) + diag(onward) M, where M is what attention mixes.

    (I + W_ffn) (I + M)     stay = onward = 1 + w_ffn
    I + M + W_ffn           stay = 1 + w_ffn, onward = 1, in a parallel block, where the FFN reads what attention reads
    """
    if ffn_weight is None:
        return 1.0, 1.0
    stay = 1 + ffn_weight
    return stay, 1.0 if parallel else stay


def aggregate(contribution: Tensor, mixing: Tensor, ffn_weight: Tensor | None = None, parallel: bool = False) -> Tensor:
    """One layer more: C_l = U C_{l-1}, all (B, N, N) but W_ffn given as its diagonal (B, N); see :func:`factors`."""
    stay, onward = (_column(factor) for factor in factors(ffn_weight, parallel))
    return stay * contribution + onward * (mixing @ contribution)


def descend(row: Tensor, taken: Callable[[Tensor], Tensor], ffn_weight: Tensor | None, parallel: bool) -> Tensor:
    """One layer down: r U, (B, N) -> (B, N), where ``taken(r)`` is r M; see :func:`factors`."""
    stay, onward = factors(ffn_weight, parallel)
    return row * stay + taken(row * onward)


def roll(mixings: Iterable[Tensor], readout: Tensor, prefix: int, normalise: bool = False) -> Tensor:
    """C_l = (I + M_l) C_{l-1} from C_0 = I, and what the readout takes from each patch after every layer: (B, L, P).

    Args:
        mixings: M_l, first layer first, (B, N, N) each.
        readout: (B, N).
        prefix: number of tokens before the patches, left out.
        normalise: divide each row of I + M_l by its sum, so that rows of every C_l sum to 1.
    """
    batch, tokens = readout.shape
    contribution = torch.eye(tokens).to(readout).expand(batch, -1, -1)
    maps = []
    for mixing in mixings:
        contribution = aggregate(contribution, mixing)
        if normalise:
            contribution = contribution / (1 + mixing.sum(-1, keepdim=True))
        maps.append(read(contribution, readout, prefix))
    return torch.stack(maps, dim=1)


def _column(factor: Tensor | float) -> Tensor | float:
    return factor.unsqueeze(-1) if isinstance(factor, Tensor) else factor


def read(contribution: Tensor, readout: Tensor, prefix: int) -> Tensor:
    """What the readout takes from each patch: (B, N, N), (B, N) -> (B, patches), prefix left out."""
    return torch.einsum("bn,bnm->bm", readout, contribution)[:, prefix:]
