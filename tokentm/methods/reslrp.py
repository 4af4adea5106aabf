"""ResLRP: AttnLRP with a rule for residual sums, in which parts cancel. Class-specific; signed.

Source: ResLRP, Fraunhofer HHI, 2026: the residual rule. Below it: Achtibat et al., "AttnLRP", ICML 2024.
"""

from __future__ import annotations

from torch import Tensor

from tokentm.methods import by_rules
from tokentm.methods.method import method
from tokentm.relevance import RES_LRP
from tokentm.trace import Trace


@method("reslrp", class_specific=True, signed=True, reruns_model=True)
def reslrp(trace: Trace) -> Tensor:
    """R_j = <x_j, G(x_j)>: x_j the token that enters the first block, G what the rules of ResLRP hand down.

    At a sum z = a + b: R_a = w_a a / (w_a a + w_b b) R with w = 2 where the part has the sign of z, else 1; all else as
    AttnLRP. Rules and departures: :mod:`tokentm.relevance.gradients`.

    Raises:
        UnsupportedModelError: the model does something that has no rule, such as a sum in place.
    """
    return by_rules.at_first_tokens(trace, RES_LRP)
