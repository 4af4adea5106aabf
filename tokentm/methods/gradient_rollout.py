"""Gradient rollout: attention rollout of attention times its gradient. Class-specific.

Source: Gildenblat, "Exploring Explainability for Vision Transformers", 2020 (jacobgil.github.io/deeplearning/
vision-transformer-explainability). Departure: no discard ratio, which sets a share of each map to zero by hand.
"""

from __future__ import annotations

import torch

from tokentm import aggregation
from tokentm.explanation import Explanation
from tokentm.trace import Trace


def gradient_rollout(trace: Trace) -> Explanation:
    """C_l = normalise_rows(relu(mean_h G^h * A^h) + I) C_{l-1} from C_0 = I: rows of every C_l sum to 1."""
    contribution = torch.eye(trace.layout.tokens).to(trace.logits).expand(len(trace.logits), -1, -1)
    maps = []
    for layer in trace.layers:
        mixing = (layer.gradient * layer.attention).mean(1).relu()
        # (mixing + I) / row sums, written as what aggregate adds the identity to
        contribution = aggregation.aggregate(contribution, mixing) / (1 + mixing.sum(-1, keepdim=True))
        maps.append(aggregation.read(contribution, trace.readout, trace.layout.prefix))
    return Explanation.of(trace, "gradient_rollout", maps[-1], torch.stack(maps, dim=1))
