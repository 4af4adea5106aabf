"""Gradient rollout: attention rollout of attention times its gradient. Class-specific.

Source: Gildenblat, "Exploring Explainability for Vision Transformers", 2020 (jacobgil.github.io/deeplearning/
vision-transformer-explainability). Departure: no discard ratio, which sets a share of each map to zero by hand.
"""

from __future__ import annotations

from torch import Tensor

from tokentm import aggregation
from tokentm.methods.method import method
from tokentm.trace import Trace


@method("gradient_rollout", class_specific=True)
def gradient_rollout(trace: Trace) -> Tensor:
    """C_l = normalise_rows(relu(mean_h G^h * A^h) + I) C_{l-1} from C_0 = I: rows of every C_l sum to 1."""
    mixings = ((layer.gradient * layer.attention).mean(1).relu() for layer in trace.layers)
    return aggregation.roll(mixings, trace.readout, trace.layout.prefix, normalise=True)
