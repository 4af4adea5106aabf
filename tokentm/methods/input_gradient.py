"""Input x gradient, and its integral from a black image. Class-specific; signed.

Sources: Shrikumar et al., "Not Just a Black Box", 2016 (input x gradient); Sundararajan, Taly, Yan, "Axiomatic
Attribution for Deep Networks", ICML 2017 (integrated gradients, computed by captum).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tokentm.explanation import Explanation
from tokentm.hooks import frozen
from tokentm.optional import load
from tokentm.trace import Trace

STEPS = 20
"""Points of the integral (Gauss-Legendre)."""


def input_x_gradient(trace: Trace) -> Explanation:
    """Sum over the pixels and channels of a patch of x * dscore/dx, x the normalised image."""
    with torch.enable_grad(), frozen(trace.anatomy.model):
        images = trace.images.detach().requires_grad_()
        scores = trace.score(trace.anatomy.logits(trace.anatomy.model(images)))
        gradient = torch.autograd.grad(scores.sum(), images)[0]
    return Explanation.of(trace, "input_x_gradient", _by_patch(trace, trace.images * gradient))


def integrated_gradients(trace: Trace) -> Explanation:
    """The same with the gradient averaged on the way from the normalised zero image. Needs captum.

    The scores and those of the prefix and the baseline add up: their sum is score(x) - score(0), up to the integration
    error of 20 points.
    """
    captum = load("captum.attr")

    def score(images: Tensor) -> Tensor:
        # captum stacks the points of all images, point by point: (points * B, C, H, W)
        logits = trace.anatomy.logits(trace.anatomy.model(images)).unflatten(0, (-1, len(trace.images)))
        return torch.stack([trace.score(one) for one in logits]).flatten()

    with torch.enable_grad(), frozen(trace.anatomy.model):
        attributed = captum.IntegratedGradients(score).attribute(
            trace.images, n_steps=STEPS, internal_batch_size=len(trace.images)
        )
    return Explanation.of(trace, "integrated_gradients", _by_patch(trace, attributed.to(trace.images)))


def _by_patch(trace: Trace, pixels: Tensor) -> Tensor:
    """(B, C, H, W) -> sums over patches, (B, P)."""
    patch = (pixels.shape[2] // trace.layout.rows, pixels.shape[3] // trace.layout.columns)
    return F.avg_pool2d(pixels.sum(1, keepdim=True), patch, divisor_override=1).flatten(1)
