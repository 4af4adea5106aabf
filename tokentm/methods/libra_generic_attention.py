"""Generic attention explainability with a gradient that does not cancel. Class-specific.

Source: Mehri, Soleymani Baghshah, Pilehvar, "LibraGrad: Balancing Gradient Flow for Universally Better Vision
Transformer Attributions", CVPR 2025, which gives its gradient to the method of Chefer, Gur, Wolf, ICCV 2021.
"""

from __future__ import annotations

from torch import Tensor

from tokentm import aggregation
from tokentm.methods import by_rules
from tokentm.methods.method import method
from tokentm.relevance import LIBRA
from tokentm.trace import Trace


@method("libra_generic_attention", class_specific=True, reruns_model=True)
def libra_generic_attention(trace: Trace) -> Tensor:
    """C_l = (I + mean_h relu(G^h * A^h)) C_{l-1} from C_0 = I: G by the rules of LibraGrad, A the model's own.

    Rules: :mod:`tokentm.relevance.gradients`. G at one attention is taken with all later ones constant.

    Raises:
        UnsupportedModelError: the model does something that has no rule.
    """
    gradients = by_rules.at_attention(trace, LIBRA)
    mixings = ((g * layer.attention).relu().mean(1) for layer, g in zip(trace.layers, gradients, strict=True))
    return aggregation.roll(mixings, trace.readout, trace.layout.prefix)
