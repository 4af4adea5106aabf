"""Raw attention: what the readout tokens attend to in the last layer, averaged over heads. Class-agnostic."""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm.methods.method import method
from tokentm.trace import Trace


@method("attention", class_specific=False)
def raw_attention(trace: Trace) -> Tensor:
    """Rows of the mean attention that the readout names, one map per layer; the last layer's is the explanation."""
    rows = [torch.einsum("bn,bhnm->bm", trace.readout, layer.attention) for layer in trace.layers]
    return torch.stack(rows, dim=1)[..., trace.layout.prefix :] / trace.layers[0].attention.shape[1]
