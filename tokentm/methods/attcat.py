"""AttCAT: how far each token moves the score, weighed by the attention to it, over all layers. Class-specific.

Source: Qiang et al., "AttCAT: Explaining Transformers via Attentive Class Activation Tokens", NeurIPS 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm.errors import UnsupportedModelError
from tokentm.methods.method import method
from tokentm.trace import LayerTrace, Trace

_ROUNDING = 100
"""How many roundings of its terms a sum must exceed to mean anything."""


@method("attcat", class_specific=True, signed=True)
def attcat(trace: Trace) -> Tensor:
    """sum_l mean_h a^{l,h}_j <h^l_j, dscore/dh^l_j>: a what the readout attends to, h^l what block l puts out.

    Scores are signed: negative where a token speaks against the class. Departure: written for the class token of BERT;
    here the readout's row of attention takes its place, whatever the model reads.

    Raises:
        UnsupportedModelError: the inner products cancel to rounding. A norm does not see how long a token is, so where
            nothing but norms reads the tokens, as in a model of two blocks, <h, dscore/dh> is zero.
    """
    parts = torch.stack([_attentive_activation(trace, layer) for layer in trace.layers], dim=1)
    maps = parts.cumsum(1)
    terms = torch.stack([_attentive_activation(trace, layer, absolute=True) for layer in trace.layers], dim=1).sum(1)
    least = _ROUNDING * torch.finfo(terms.dtype).eps * terms.amax(1)
    cancelled = (maps[:, -1].abs().amax(1) < least).nonzero().flatten().tolist()
    if cancelled:
        raise UnsupportedModelError(
            f"expected activations whose inner products with their gradients add up to something; for image(s) "
            f"{cancelled} they cancel to rounding, as where nothing but norms reads the tokens. AttCAT cannot explain "
            "this model; take another method."
        )
    return maps


def _attentive_activation(trace: Trace, layer: LayerTrace, absolute: bool = False) -> Tensor:
    terms = layer.stream_out * layer.stream_out_gradient
    activation = (terms.abs() if absolute else terms).sum(-1)
    attention = torch.einsum("bn,bnm->bm", trace.readout, layer.attention.mean(1))
    return (attention * activation)[:, trace.layout.prefix :]
