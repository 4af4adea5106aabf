"""LeGrad: how sensitive each layer's own prediction is to its attention. Class-specific.

Source: Bousselham, Boggust, Chaybouti, Strobelt, Kuehne, "LeGrad: An Explainability Method for Vision Transformers via
Feature Formation Sensitivity", ICCV 2025.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm.hooks import classify, recording, running
from tokentm.methods.method import method
from tokentm.trace import Trace


@method("legrad", class_specific=True, reruns_model=True)
def legrad(trace: Trace) -> Tensor:
    """mean_l mean_h mean_i relu(ds^l/dA^{l,h}_ij): s^l the score that the classifier gives to what block l puts out.

    Departures: not scaled to 0 .. 1, which changes no ranking. Runs the model once more for every layer.
    """
    anatomy, parts = trace.check_model(), []
    with recording(anatomy) as passes:
        anatomy.answer(trace.images)
    for block in passes.blocks:
        with running(anatomy):
            logits = classify(anatomy, trace.images, block.stream_out)
        gradient = torch.autograd.grad(trace.score(logits).sum(), block.attention[0], retain_graph=True)[0]
        parts.append(gradient.relu().mean((1, 2))[:, trace.layout.prefix :])
    counted = torch.arange(1, len(parts) + 1).to(trace.logits)[:, None]
    return torch.stack(parts, dim=1).cumsum(1) / counted
