"""How one block of a ViT transformed its tokens, from what it showed while it ran, and how far its identities fail."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokentm import vit
from tokentm.closeness import relative_error
from tokentm.passes import Pass
from tokentm.vit import Block


@dataclass(frozen=True, eq=False)  # equality of tensors has no single answer
class BlockTrace:
    """How one block transformed its tokens. B images, N tokens, D width, H heads of width d.

    Attributes:
        stream: x, the residual stream entering the block, (B, N, D).
        normed: LN(x), what attention reads, (B, N, D).
        value: v, the values of each head, (B, H, N, d).
        head_projection: P, how a head's values reach the stream, LayerScale included, (H, D, d).
        output_factor: s, what norms after the heads multiply each output token with, (B, N); ones where there are none.
        bias: b, what attention adds whatever it attends to, (D,), or (B, N, D) after a norm.
        attention_update: x' - x as the model computed it, (B, N, D).
        stream_mid: x', the stream between attention and FFN, (B, N, D).
        normed_mid: LN(x'), what the FFN reads, (B, N, D).
        ffn_update: g(x') = x'' - x', LayerScale included, (B, N, D).
        stream_out: x'', the stream leaving the block, (B, N, D).
        parallel: the FFN reads what attention reads, x'' = x + attention(x) + g(x); ``stream_mid`` is then x plus the
            attention output, which the model itself never forms.
    """

    stream: Tensor
    normed: Tensor
    value: Tensor
    head_projection: Tensor
    output_factor: Tensor
    bias: Tensor
    attention_update: Tensor
    stream_mid: Tensor
    normed_mid: Tensor
    ffn_update: Tensor
    stream_out: Tensor
    parallel: bool

    def update_of(self, mixed: Tensor) -> Tensor:
        """x'_i - x_i made of what the heads put out, s_i sum_h P_h (A^h v^h)_i + b_i: (B, H, N, d) -> (B, N, D)."""
        side_by_side = mixed.transpose(1, 2).flatten(2)
        projected = F.linear(side_by_side, self.head_projection.transpose(0, 1).flatten(1))
        return self.output_factor.unsqueeze(-1) * projected + self.bias

    @property
    def ffn_stream(self) -> Tensor:
        """The stream that the FFN transforms: x', or x in a parallel block; (B, N, D)."""
        return self.stream if self.parallel else self.stream_mid


@dataclass(frozen=True, eq=False)
class Gaps:
    """How far a block is from what its description claims, each a relative error.

    Attributes:
        update: the attention output against the sum of its per-head parts.
        attention: x' against x plus the attention output.
        ffn: x'' against x' plus the FFN output.
        normed: what the norm before attention was given, against x.
        normed_mid: what the norm before the FFN was given, against what the FFN transforms.
    """

    update: Tensor
    attention: Tensor
    ffn: Tensor
    normed: Tensor
    normed_mid: Tensor

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(cls.__dataclass_fields__)

    def stacked(self) -> Tensor:
        """All of them, (5,), still on the model's device."""
        return torch.stack([getattr(self, name) for name in self.names()])


def observe(block: Block, store: Pass, mixed: Tensor) -> tuple[BlockTrace, Gaps]:
    """How a block transformed its tokens, and how far it is from its description.

    Args:
        mixed: what the heads put out, A v, (B, H, N, d).
    """
    given = {m: store.inputs[m][0].detach() for m in block.path if isinstance(m, nn.Module) and store.inputs[m]}
    stream, stream_out = store.stream.detach(), store.stream_out.detach()
    path = vit.fold(block.path, given, block.heads, stream)

    def output(module: nn.Module | None) -> Tensor | None:
        return None if module is None else store.outputs[module][0].detach()

    def added(module: nn.Module, which: int, scale: Tensor | None) -> Tensor:
        update = store.outputs[module][which].detach()
        return update if scale is None else update * scale.detach()

    attention_update = added(block.update, 0, block.scale)
    ffn_update = added(block.ffn_update, -1, block.ffn_scale)
    normed, normed_mid = output(block.normed), output(block.normed_mid)
    stream_mid = stream + attention_update if block.mid is None else store.inputs[block.mid][0].detach()
    kept = BlockTrace(
        stream=stream,
        normed=stream if normed is None else normed,
        value=store.value[0].detach(),
        head_projection=path.projection,
        output_factor=torch.ones_like(stream[..., 0]) if path.factor is None else path.factor,
        bias=torch.zeros_like(stream[0, 0]) if path.bias is None else path.bias,
        attention_update=attention_update,
        stream_mid=stream_mid,
        normed_mid=stream_mid if normed_mid is None else normed_mid,
        ffn_update=ffn_update,
        stream_out=stream_out,
        parallel=block.parallel,
    )
    nothing = stream.new_zeros((), dtype=torch.float32)

    def beside(module: nn.Module | None, source: Tensor, expected: Tensor) -> Tensor:
        if module is None or store.inputs[module][0] is source:
            return nothing
        return relative_error(store.inputs[module][0].detach(), expected)

    read_by_ffn = store.stream if block.parallel or block.mid is None else store.inputs[block.mid][0]

    gaps = Gaps(
        update=relative_error(kept.update_of(mixed), attention_update).clamp(min=store.mixing_error),
        attention=relative_error(stream + attention_update, stream_mid),
        ffn=relative_error(stream_mid + ffn_update, stream_out),
        normed=beside(block.normed, store.stream, stream),
        normed_mid=beside(block.normed_mid, read_by_ffn, stream if block.parallel else stream_mid),
    )
    return kept, gaps
