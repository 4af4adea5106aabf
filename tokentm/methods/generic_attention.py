"""Generic attention explainability: rollout of attention times its positive gradient. Class-specific.

Source: Chefer, Gur, Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
Transformers", ICCV 2021, equations 5 and 6.
"""

from __future__ import annotations

from torch import Tensor

from tokentm import aggregation
from tokentm.methods.method import method
from tokentm.trace import Trace


@method("generic_attention", class_specific=True)
def generic_attention(trace: Trace) -> Tensor:
    """C_l = (I + mean_h relu(G^h * A^h)) C_{l-1} from C_0 = I: TokenTM with the gradient alone."""
    mixings = ((layer.gradient * layer.attention).relu().mean(1) for layer in trace.layers)
    return aggregation.roll(mixings, trace.readout, trace.layout.prefix)
