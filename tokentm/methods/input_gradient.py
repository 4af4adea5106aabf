"""Input x gradient, and its integral from a black image. Class-specific; signed.

Sources: Shrikumar et al., "Not Just a Black Box", 2016 (input x gradient); Sundararajan, Taly, Yan, "Axiomatic
Attribution for Deep Networks", ICML 2017 (integrated gradients, computed by captum).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tokentm.hooks import running
from tokentm.methods.method import method
from tokentm.optional import load
from tokentm.trace import Trace

STEPS = 20
"""Points of the integral (Gauss-Legendre)."""


@method("input_x_gradient", class_specific=True, signed=True, reruns_model=True)
def input_x_gradient(trace: Trace) -> Tensor:
    """Sum over the pixels and channels of a patch of x * dscore/dx, x the normalised image."""
    anatomy, images = trace.check_model(), trace.images.detach().requires_grad_()
    with running(anatomy):
        scores = trace.score(anatomy.answer(images))
    gradient = torch.autograd.grad(scores.sum(), images)[0]
    return _by_patch(trace, trace.images * gradient)


@method("integrated_gradients", class_specific=True, signed=True, reruns_model=True)
def integrated_gradients(trace: Trace) -> Tensor:
    """The same with the gradient averaged on the way from the normalised zero image. Needs captum.

    The scores and those of the prefix and the baseline add up: their sum is score(x) - score(0), up to the integration
    error of 20 points.
    """
    captum, anatomy = load("captum.attr"), trace.check_model()

    def score(images: Tensor) -> Tensor:
        # captum stacks the points of all images, point by point: (points * B, C, H, W)
        with running(anatomy):
            logits = anatomy.answer(images).unflatten(0, (-1, len(trace.images)))
        return torch.stack([trace.score(one) for one in logits]).flatten()

    attributed = captum.IntegratedGradients(score).attribute(
        trace.images, n_steps=STEPS, internal_batch_size=len(trace.images)
    )
    return _by_patch(trace, attributed.to(trace.images))


def _by_patch(trace: Trace, pixels: Tensor) -> Tensor:
    """(B, C, H, W) -> sums over patches, (B, P)."""
    patch = (pixels.shape[2] // trace.layout.rows, pixels.shape[3] // trace.layout.columns)
    return F.avg_pool2d(pixels.sum(1, keepdim=True), patch, divisor_override=1).flatten(1)
