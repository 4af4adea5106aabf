"""ALTI, aggregation of layer-wise token-to-token interactions: rollout of how near each part comes to the whole.
Class-agnostic.

Source: Ferrando, Gallego, Costa-jussa, "Measuring the Mixing of Contextual Information in the Transformer", EMNLP 2022.

A block's attention puts out a sum of what it takes from each token, and of a bias that belongs to none:

    y_i = sum_j T_i(x_j) + b_i          T_i(x_j) = s_i sum_h A^h_ij P_h v^h_j + [i = j] x_i
    c_ij = max(0, |y_i|_1 - |y_i - T_i(x_j)|_1)          M = c with rows that sum to 1          C_l = M_l C_{l-1}

Departures: the paper's models normalise after the residual, and y_i is what that norm makes of the sum, with its
deviation held constant; here y_i is the residual stream after attention, for a ViT normalises before attention, where
each token has its own norm and T_i(x_j) holds it exactly. A row without any positive c_ij, which the paper does not
speak of, is the token itself. The readout's row takes the place of the class token's. The FFN, which mixes no tokens,
is left out, as in the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm import aggregation
from tokentm.isolation import checkpoint
from tokentm.methods.method import method
from tokentm.trace import LayerTrace, Trace

AT_ONCE = 2**20
"""Numbers of T that are built at once for each image: rows of (N, D)."""


@method("alti", class_specific=False)
def alti(trace: Trace) -> Tensor:
    """C_l = M_l C_{l-1} from C_0 = I, rows of every C_l sum to 1: the readout's row after every layer, (B, L, P)."""
    contribution = torch.eye(trace.layout.tokens).to(trace.readout)
    maps = []
    for layer in trace.layers:
        contribution = mixing(layer) @ contribution
        maps.append(aggregation.read(contribution, trace.readout, trace.layout.prefix))
    return torch.stack(maps, dim=1)


def mixing(layer: LayerTrace) -> Tensor:
    """M, how much of token i after a block's attention is token j before it: (B, N, N), rows sum to 1.

    Example:
        >>> mixing(trace.layers[0]).sum(-1)  # ones
    """
    transformed = torch.einsum("bhjd,hDd->bjhD", layer.value, layer.head_projection)
    taking = layer.attention * layer.output_factor[:, None, :, None]
    tokens, width = layer.stream.shape[1:]
    rows = max(1, AT_ONCE // (tokens * width))
    parts = []
    for first in range(0, tokens, rows):
        checkpoint()
        parts.append(_rows(layer, transformed, taking[:, :, first : first + rows], first))
    return torch.cat(parts, dim=1)


def _rows(layer: LayerTrace, transformed: Tensor, taking: Tensor, first: int) -> Tensor:
    """The rows of M from ``first`` on.

    Args:
        transformed: P_h v^h_j, (B, N, H, D).
        taking: s_i A^h_ij of these rows, (B, H, R, N).
    """
    here = slice(first, first + taking.shape[2])
    whole, stream = layer.stream_mid[:, here], layer.stream[:, here]
    taken = torch.einsum("bhij,bjhD->bijD", taking, transformed)
    from_itself = taken.diagonal(first, 1, 2).transpose(1, 2) + stream
    itself = torch.eye(taken.shape[2], dtype=torch.bool, device=taken.device)[here]
    distance = torch.where(
        itself, (whole - from_itself).abs().sum(-1).unsqueeze(-1), (whole.unsqueeze(2) - taken).abs().sum(-1)
    )
    near = (whole.abs().sum(-1, keepdim=True) - distance).relu()
    total = near.sum(-1, keepdim=True)
    return torch.where(total > 0, near / torch.where(total > 0, total, 1.0), itself.to(near))
