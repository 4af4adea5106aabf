"""CP-LRP: relevance handed down with attention and the deviation of norms as constants. Class-specific; signed.

Source: Ali, Schnake, Eberle, Montavon, Mueller, Wolf, "XAI for Transformers: Better Explanations through Conservative
Propagation", ICML 2022.
"""

from __future__ import annotations

from torch import Tensor

from tokentm.methods import by_rules
from tokentm.methods.method import method
from tokentm.relevance import CP_LRP
from tokentm.trace import Trace


@method("cp_lrp", class_specific=True, signed=True, reruns_model=True)
def cp_lrp(trace: Trace) -> Tensor:
    """R_j = <x_j, G(x_j)>: x_j the token that enters the first block, G what the rules of CP-LRP hand down.

    Rules and departures: :mod:`tokentm.relevance.gradients`. They are those of ``libra_input_x_gradient`` but for gated
    FFNs, u act(v), such as SwiGLU: here act(v) is a constant, there each takes half. So in a model without them, as
    most ViTs are, both maps are the same.

    Raises:
        UnsupportedModelError: the model does something that has no rule.
    """
    return by_rules.at_first_tokens(trace, CP_LRP)
