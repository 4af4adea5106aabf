"""AttnLRP: relevance handed down through attention, its softmax included. Class-specific; signed.

Source: Achtibat, Hatefi, Dreyer, Jain, Wiegand, Lapuschkin, Samek, "AttnLRP: Attention-Aware Layer-Wise Relevance
Propagation for Transformers", ICML 2024.
"""

from __future__ import annotations

from torch import Tensor

from tokentm.methods import by_rules
from tokentm.methods.method import method
from tokentm.relevance import ATTN_LRP
from tokentm.trace import Trace


@method("attnlrp", class_specific=True, signed=True, reruns_model=True)
def attnlrp(trace: Trace) -> Tensor:
    """R_j = <x_j, G(x_j)>: x_j the token that enters the first block, G what the rules of AttnLRP hand down.

    A product of two, A v and q k among them, gives half to each; a softmax hands down R_i - a_i sum_k R_k times its
    logit; a norm's deviation and a gate are constants. Rules and departures: :mod:`tokentm.relevance.gradients`.
    Departures here: read at the tokens, not at the pixels; no gamma rule in linear maps, which the paper has for ViTs.

    Raises:
        UnsupportedModelError: the model does something that has no rule.
    """
    return by_rules.at_first_tokens(trace, ATTN_LRP)
