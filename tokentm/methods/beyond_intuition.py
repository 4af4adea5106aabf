"""Beyond intuition, token-wise: how tokens reach the last layer, times an integrated gradient there. Class-specific.

Source: Chen, Li, Yu, Dou, Yang, "Beyond Intuition: Rethinking Token Attributions inside Transformers", TMLR 2023, and
its code. Attention perception tells how the tokens come together, reasoning feedback what the score makes of them:

    perception   P <- P + mean_h(A^h) W P from P = I          W_j = |sum_h P_h v^h_j| / |x_j|, a diagonal
    feedback     F = mean_h relu(mean over 20 images of dscore/dA_L^h), from the black image to the image
    scores       readout row of F * |P|          "*" elementwise

Departures: the authors' code begins with the sixth of twelve blocks; here it is the same share of any depth. The
readout's row takes the place of the class token's, or of the mean over patches. LayerScale and a norm after the heads
belong to what a token is transformed to, P_h and s_i; the authors' models have none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm import transformation
from tokentm.isolation import checkpoint
from tokentm.methods.method import method
from tokentm.methods.tam import integrated
from tokentm.trace import LayerTrace, Trace


@method("beyond_intuition", class_specific=True, reruns_model=True)
def beyond_intuition(trace: Trace) -> Tensor:
    """Readout row of F * |P|, patches only: (B, P). Runs the model 20 times.

    Raises:
        ZeroTokenError: a token of length zero, against which no change of length can be measured.
    """
    reached = integrated(trace) * perception(trace).abs()
    return torch.einsum("bn,bnm->bm", trace.readout, reached)[:, trace.layout.prefix :]


def perception(trace: Trace) -> Tensor:
    """P, how much each token of the first block that counts reaches each token of the last: (B, N, N)."""
    reached = torch.eye(trace.layout.tokens).to(trace.readout).expand(len(trace.readout), -1, -1)
    for layer in trace.layers[first_layer(len(trace.layers)) :]:
        checkpoint()
        reached = reached + _mixing(layer) @ reached
    return reached


def first_layer(depth: int) -> int:
    """The first of ``depth`` blocks that counts: 5 of 12, counted from 0.

    Example:
        >>> first_layer(12), first_layer(6)
        (5, 2)
    """
    return 5 * depth // 12


def _mixing(layer: LayerTrace) -> Tensor:
    """mean_h(A^h) W: (B, N, N)."""
    transformed = torch.einsum("bhjd,hDd->bjD", layer.value, layer.head_projection)
    ratio, _ = transformation.compare(layer.stream, transformed)
    return layer.attention.mean(1) * layer.output_factor.unsqueeze(-1) * ratio.unsqueeze(1)
