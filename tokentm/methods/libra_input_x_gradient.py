"""Input x gradient at the first tokens, with a gradient that does not cancel. Class-specific; signed.

Source: Mehri, Soleymani Baghshah, Pilehvar, "LibraGrad: Balancing Gradient Flow for Universally Better Vision
Transformer Attributions", CVPR 2025, section 3.5.
"""

from __future__ import annotations

from torch import Tensor

from tokentm.methods import by_rules
from tokentm.methods.method import method
from tokentm.relevance import LIBRA
from tokentm.trace import Trace


@method("libra_input_x_gradient", class_specific=True, signed=True, reruns_model=True)
def libra_input_x_gradient(trace: Trace) -> Tensor:
    """<x_j, G(x_j)>: x_j the token that enters the first block, G the gradient by the rules of LibraGrad.

    Rules: :mod:`tokentm.relevance.gradients`. In a model without biases, all tokens together are worth the score.
    Departure: x is the token with its position, not the pixels of its patch, so maps can be compared patch by patch.

    Raises:
        UnsupportedModelError: the model does something that has no rule.
    """
    return by_rules.at_first_tokens(trace, LIBRA)
