"""Random scores: the floor that every method must beat."""

from __future__ import annotations

from zlib import crc32

import torch
from torch import Tensor

from tokentm.methods.method import method
from tokentm.trace import Trace


@method("random", class_specific=False)
def random(trace: Trace) -> Tensor:
    """Independent uniform scores. The seed comes from the image, so an image scores the same in any batch."""
    count = trace.layout.rows * trace.layout.columns
    seeds = [crc32(image.float().cpu().contiguous().numpy().tobytes()) for image in trace.images]
    drawn = [torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(trace.logits)
