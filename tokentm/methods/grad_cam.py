"""Grad-CAM on attention: the heads of the last layer, weighed by their mean gradient. Class-specific.

Source: Selvaraju et al., "Grad-CAM", ICCV 2017, as Chefer et al., CVPR 2021, carry it over to ViTs: the attention of
the class token in the last layer takes the place of the feature maps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm.methods.method import method
from tokentm.trace import LayerTrace, Trace


@method("grad_cam", class_specific=True)
def grad_cam(trace: Trace) -> Tensor:
    """relu(mean_h a^h w^h): a^h what the readout attends to in head h, w^h the mean over patches of its gradient.

    Departure: the same is done at every layer, to step through; the last layer's map is the explanation.
    """
    return torch.stack([_cam(trace, layer) for layer in trace.layers], dim=1)


def _cam(trace: Trace, layer: LayerTrace) -> Tensor:
    patches = slice(trace.layout.prefix, None)
    # only tokens that are read: where a gradient is spread over several, so is the weight
    attention = torch.einsum("bn,bhnm->bhm", trace.readout, layer.attention)[..., patches]
    weight = torch.einsum("bn,bhnm->bhm", trace.readout, layer.gradient)[..., patches].mean(-1, keepdim=True)
    return (attention * weight).mean(1).relu()
