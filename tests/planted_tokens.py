"""A model in which chosen patches become outlier tokens: very long, and what attention looks for."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from timm.models.vision_transformer import VisionTransformer

from tokentm import Trace


def planted(model: VisionTransformer, trace: Trace, patches: Sequence[int], length: float) -> VisionTransformer:
    """A copy whose position embedding adds one direction of this length to some patches.

    Where a token is mostly this direction, its norm is always the same, and its key is what the queries of the record
    look for on average: the sum over blocks and heads of what maps to the mean query.

    Args:
        model: timm's, with a position of its own for each patch.
        trace: a record of it.
        patches: row-major from 0.
    """
    spoilt, width = copy.deepcopy(model), model.embed_dim
    toward = torch.zeros(width)
    for block, layer in zip(model.blocks, trace.layers, strict=True):
        query, key, _ = block.attn.qkv.weight.detach().split(width)
        queries = (layer.normed.flatten(0, 1) @ query.T + block.attn.qkv.bias.detach()[:width]).mean(0)
        for head in torch.arange(width).chunk(block.attn.num_heads):
            one = (queries[head] @ key[head]) * block.norm1.weight.detach()
            toward += one / one.norm()
    toward -= toward.mean()  # which a LayerNorm takes away
    before = spoilt.pos_embed.shape[1] - trace.layout.rows * trace.layout.columns
    with torch.no_grad():
        for patch in patches:
            spoilt.pos_embed[0, before + patch] += length * toward / toward.norm()
    return spoilt
