"""CAAP, causal attribution via activation patching: what a patch's inner activations do in an empty picture.
Class-specific; signed.

Source: Izadi et al., "Causal Attribution via Activation Patching", 2026 (arXiv 2603.13652).

The abstract fixes this much: for each patch, its activations in the run on the picture are put into a run on a neutral
one, over a range of layers in the middle, and the target class's score is read. The rest of the paper could not be read
when this was written, so these are readings, and may depart from it:

- activations: the residual stream of the patch's own token as it enters each block of the range; all other tokens are
  those of the neutral run, and see the patch through attention;
- neutral: the black image (normalised zero), as for the integrals of other methods here;
- range: from a quarter to three quarters of the depth; never what enters the first block, unless it is the only one;
- score: the explained score, less that of the neutral image as it is, so that a patch that changes nothing scores 0.
  The abstract takes the score itself, which ranks the same.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tokentm.hooks import patching, running
from tokentm.isolation import checkpoint
from tokentm.methods.method import method
from tokentm.trace import Trace

AT_ONCE = 2**22
"""Attention weights of one layer, in all images that the model is given at once."""


@method("caap", class_specific=True, signed=True, reruns_model=True)
def caap(trace: Trace) -> Tensor:
    """score(black image with the patch's activations) - score(black image): (B, P).

    Runs the model on P + 1 images for each image. An interrupt ends it at the next patched block.
    """
    anatomy, prefix = trace.check_model(), trace.layout.prefix
    streams = {i: trace.layers[i].stream for i in patched_layers(len(trace.layers))}
    neutral, tokens = torch.zeros_like(trace.images), torch.arange(prefix, trace.layout.tokens)
    at_once = max(1, AT_ONCE // trace.layers[0].attention.numel())
    gains: list[Tensor] = []
    with torch.no_grad(), running(anatomy):
        plain = trace.score(anatomy.answer(neutral))
        for chosen in tokens.to(neutral.device).split(at_once):
            checkpoint()
            each = chosen.repeat_interleave(len(neutral))  # all images with one patch, then all with the next
            wanted = {i: stream[:, chosen].transpose(0, 1).flatten(0, 1) for i, stream in streams.items()}
            with patching(anatomy, wanted, each):
                logits = anatomy.answer(neutral.repeat(len(chosen), 1, 1, 1))
            gains += [trace.score(one) - plain for one in logits.unflatten(0, (len(chosen), -1))]
    return torch.stack(gains, dim=1)


def patched_layers(depth: int) -> range:
    """The blocks that a patch's activations enter.

    Example:
        >>> patched_layers(12), patched_layers(6), patched_layers(1)
        (range(3, 9), range(1, 4), range(0, 1))
    """
    first = min(max(1, depth // 4), depth - 1)
    return range(first, max(3 * depth // 4, first + 1))
