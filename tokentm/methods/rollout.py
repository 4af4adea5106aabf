"""Attention rollout. Class-agnostic.

Source: Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.
"""

from __future__ import annotations

import torch

from tokentm import aggregation
from tokentm.explanation import Explanation
from tokentm.trace import Trace


def rollout(trace: Trace) -> Explanation:
    """C_l = (A + I) / 2 . C_{l-1} from C_0 = I, A the mean over heads: rows of every C_l sum to 1."""
    batch, _, tokens, _ = trace.layers[0].attention.shape
    contribution = torch.eye(tokens).to(trace.logits).expand(batch, -1, -1)
    maps = []
    for layer in trace.layers:
        contribution = aggregation.aggregate(contribution, layer.attention.mean(1)) / 2
        maps.append(aggregation.read(contribution, trace.readout, trace.layout.prefix))
    return Explanation.of(trace, "rollout", maps[-1], torch.stack(maps, dim=1))
