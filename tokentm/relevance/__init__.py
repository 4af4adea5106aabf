"""Other backward passes through a Vision Transformer: autograd in which functions hand down by rules.

While :class:`RelevancePropagation` is active, every function that a model calls gets the backward pass that a set of
rules has for it. ``torch.autograd.grad`` then returns what the rules hand down.

| rules | what is handed down | sources |
| --- | --- | --- |
| ``CHEFER`` | relevance | chefer.py |
| ``LIBRA``, ``CP_LRP``, ``ATTN_LRP``, ``RES_LRP`` | a gradient; times its tensor it is relevance | gradients.py |
| ``HELD`` | the gradient of what is left when factors are held at their values | gradients.py |
"""

from tokentm.relevance.chefer import CHEFER
from tokentm.relevance.gradients import ATTN_LRP, CP_LRP, HELD, LIBRA, RES_LRP
from tokentm.relevance.propagation import Added, RelevancePropagation
from tokentm.relevance.rules import Call, Rule, Rules

__all__ = [
    "ATTN_LRP",
    "CHEFER",
    "CP_LRP",
    "HELD",
    "LIBRA",
    "RES_LRP",
    "Added",
    "Call",
    "RelevancePropagation",
    "Rule",
    "Rules",
]
