"""Attention rollout. Class-agnostic.

Source: Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.
"""

from __future__ import annotations

from torch import Tensor

from tokentm import aggregation
from tokentm.methods.method import method
from tokentm.trace import Trace


@method("rollout", class_specific=False)
def rollout(trace: Trace) -> Tensor:
    """C_l = (A + I) / 2 . C_{l-1} from C_0 = I, A the mean over heads: rows of every C_l sum to 1."""
    mixings = (layer.attention.mean(1) for layer in trace.layers)
    return aggregation.roll(mixings, trace.readout, trace.layout.prefix, normalise=True)
