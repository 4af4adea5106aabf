"""Generic attention explainability: rollout of attention times its positive gradient. Class-specific.

Source: Chefer, Gur, Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
Transformers", ICCV 2021, equations 5 and 6.
"""

from __future__ import annotations

import torch

from tokentm import aggregation
from tokentm.explanation import Explanation
from tokentm.trace import Trace


def generic_attention(trace: Trace) -> Explanation:
    """C_l = (I + mean_h relu(G^h * A^h)) C_{l-1} from C_0 = I: TokenTM with the gradient alone."""
    contribution = torch.eye(trace.layout.tokens).to(trace.logits).expand(len(trace.logits), -1, -1)
    maps = []
    for layer in trace.layers:
        contribution = aggregation.aggregate(contribution, (layer.gradient * layer.attention).relu().mean(1))
        maps.append(aggregation.read(contribution, trace.readout, trace.layout.prefix))
    return Explanation.of(trace, "generic_attention", maps[-1], torch.stack(maps, dim=1))
