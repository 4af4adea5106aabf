"""Transformer attribution: rollout of the positive gradient times the relevance of attention. Class-specific.

Source: Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention Visualization", CVPR 2021, equations 3 to 15.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm import aggregation
from tokentm.errors import InvalidTargetError
from tokentm.hooks import recording
from tokentm.methods.method import method
from tokentm.relevance import CHEFER, RelevancePropagation
from tokentm.trace import Trace


@method("transformer_attribution", class_specific=True, reruns_model=True)
def transformer_attribution(trace: Trace) -> Tensor:
    """C_l = (I + mean_h relu(G^h * R^h)) C_{l-1} from C_0 = I: R the relevance of A, by layer-wise propagation.

    Rules of propagation: :mod:`tokentm.relevance.chefer`.

    Raises:
        UnsupportedModelError: the model does something that has no rule.
        InvalidTargetError: a target whose relevance adds up to zero, such as the difference of two classes.
    """
    mixings = (
        (layer.gradient * relevance).relu().mean(1)
        for layer, relevance in zip(trace.layers, _relevance(trace), strict=True)
    )
    return aggregation.roll(mixings, trace.readout, trace.layout.prefix)


def _check_total(relevance: Tensor) -> None:
    """The rule of sums hands down shares of the total; where that is zero only rounding would be left."""
    if (relevance.sum(1).abs() < 1e-4 * relevance.abs().sum(1)).any():
        raise InvalidTargetError(
            "expected a target whose relevance at the logits does not cancel; got one that does, such as the "
            "difference of two classes, or log-odds, of which as much speaks for as against. Transformer attribution "
            "explains one class: pass its index, or take another method."
        )


def _relevance(trace: Trace) -> tuple[Tensor, ...]:
    """Relevance of every attention, (B, H, N, N) each: 1 at the explained logit, handed down from there."""
    anatomy = trace.check_model()
    # entered first: it then sees what the recording made of every attention call
    with RelevancePropagation(anatomy.name, CHEFER), recording(anatomy, graph_from="stream") as passes:
        logits = anatomy.answer(trace.images)
    start = logits.detach().requires_grad_()
    at_logits = torch.autograd.grad(trace.score(start).sum(), start)[0]
    _check_total(at_logits)
    return torch.autograd.grad(logits, [block.attention[0] for block in passes.blocks], at_logits)
