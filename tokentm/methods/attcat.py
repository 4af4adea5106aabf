"""AttCAT: how far each token moves the score, weighed by the attention to it, over all layers. Class-specific.

Source: Qiang et al., "AttCAT: Explaining Transformers via Attentive Class Activation Tokens", NeurIPS 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm.methods.method import method
from tokentm.trace import LayerTrace, Trace


@method("attcat", class_specific=True, signed=True)
def attcat(trace: Trace) -> Tensor:
    """sum_l mean_h a^{l,h}_j <h^l_j, dscore/dh^l_j>: a what the readout attends to, h^l what block l puts out.

    Scores are signed: negative where a token speaks against the class. Departure: written for the class token of BERT;
    here the readout's row of attention takes its place, whatever the model reads.
    """
    parts = torch.stack([_attentive_activation(trace, layer) for layer in trace.layers], dim=1)
    return parts.cumsum(1)


def _attentive_activation(trace: Trace, layer: LayerTrace) -> Tensor:
    activation = (layer.stream_out * layer.stream_out_gradient).sum(-1)
    attention = torch.einsum("bn,bnm->bm", trace.readout, layer.attention.mean(1))
    return (attention * activation)[:, trace.layout.prefix :]
