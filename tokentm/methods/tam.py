"""TAM, transition attention maps: attention as a Markov chain, ended by an integrated gradient. Class-specific.

Source: Yuan, Li, Xiong, Cao, Dou, "Explaining Information Flow Inside Vision Transformers Using Markov Chain",
NeurIPS 2021 workshop XAI4Debugging.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm.hooks import recording
from tokentm.methods.method import method
from tokentm.trace import Trace

STEPS = 20
"""Points of the integral, from the black image (normalised zero) to the image."""


@method("tam", class_specific=True, reruns_model=True)
def tam(trace: Trace) -> Tensor:
    """s_L = readout row of A_L; s <- s A_l + s down to a third of the depth; times relu(integral of dscore/dA_L).

    A_l is the mean over heads. The authors begin at layer 4 of 12. Departures: at a third of the depth of any model;
    the readout's row takes the place of the class token's. Runs the model STEPS times.
    """
    rows = [layer.attention.mean(1) for layer in trace.layers]
    state = torch.einsum("bn,bnm->bm", trace.readout, rows[-1])
    for attention in reversed(rows[len(rows) // 3 : -1]):
        state = state + torch.einsum("bn,bnm->bm", state, attention)
    integral = torch.einsum("bn,bnm->bm", trace.readout, integrated(trace))
    return (state * integral)[:, trace.layout.prefix :]


def integrated(trace: Trace) -> Tensor:
    """relu of the mean gradient at the last attention on the way from black to the image, averaged over heads.

    Runs the model STEPS times.

    Returns:
        (B, N, N).
    """
    anatomy, total = trace.check_model(), torch.zeros_like(trace.layers[-1].gradient)
    for step in range(STEPS):
        with recording(anatomy, graph_from="last attention") as passes:
            logits = anatomy.answer(trace.images * (step / (STEPS - 1)))
        total += torch.autograd.grad(trace.score(logits).sum(), passes.blocks[-1].attention[0])[0]
    return (total / STEPS).relu().mean(1)
