"""Libra FullGrad+: input x gradient of every layer, and biases x gradient, that do not cancel. Class-specific; signed.

Source: Mehri, Soleymani Baghshah, Pilehvar, "LibraGrad: Balancing Gradient Flow for Universally Better Vision
Transformer Attributions", CVPR 2025, section 2.1 (FullGrad+) and 3.5 (the gradient). FullGrad itself: Srinivas,
Fleuret, "Full-Gradient Representation for Neural Network Visualization", NeurIPS 2019.
"""

from __future__ import annotations

from torch import Tensor

from tokentm.methods import by_rules
from tokentm.methods.method import method
from tokentm.relevance import LIBRA
from tokentm.trace import Trace


@method("libra_fullgrad_plus", class_specific=True, signed=True, reruns_model=True)
def libra_fullgrad_plus(trace: Trace) -> Tensor:
    """sum_l <x^l_j, G(x^l_j)> + sum_b <b, G(b_j)>: x^l what enters block l, b what is added to token j, such as a bias.

    G is the gradient by the rules of LibraGrad, see :mod:`tokentm.relevance.gradients`. Departures: layers are blocks,
    so what lies before the first of them, the patch embedding with its bias and the positions, counts in x^0; what is
    added to a pooled vector belongs to no patch. Runs the model once more.

    Raises:
        UnsupportedModelError: the model does something that has no rule.
    """
    streams, added = by_rules.at_all_tokens(trace, LIBRA)
    return streams.sum(1) + added
