"""What every supported Vision Transformer has in common, whatever library it comes from. Only descriptions, no action.

A supported model is a column of blocks over one token sequence: prefix tokens, then a row-major patch grid. A block is

    x' = x + attention(x)        x'' = x' + ffn(x')          or, in parallel,    x'' = x + attention(x) + ffn(x)

and what attention adds is affine in the values of its heads once the statistics of norms are those of the pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Pooling = Literal[
    "class token",
    "class and distillation token",
    "average of patches",
    "average of all tokens",
    "class token and average of patches",
    "attention pooling",
]


def _as_it_is(output: Any) -> Any:
    return output


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a sequence come from: ``prefix`` special tokens, then ``rows`` x ``columns`` patches.

    Attributes:
        offset: how far down and to the right of its patch of the picture the centre lies that a token looks at, in
            patches; (0, 0) unless a stem of padded convolutions shifts it.
    """

    prefix: int
    rows: int
    columns: int
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def tokens(self) -> int:
        return self.prefix + self.rows * self.columns


@dataclass(frozen=True, eq=False)
class Block:
    """One block: which of its modules to watch for which quantity.

    Attributes:
        module: its input is x, its output x''.
        heads: number of heads H.
        normed: its output is what attention reads; None where attention reads x itself (post-norm).
        path: what the concatenated heads pass on their way to the stream, in order: norms, one or more linear maps, and
            LayerScale as the vector it multiplies with.
        update: its output, times ``scale``, is what attention adds to the stream.
        mid: its input is x'; None in a parallel block, where nothing reads x'.
        normed_mid: its output is what the FFN reads; None where the FFN reads x' itself (post-norm).
        ffn_update: its output, times ``scale``, is what the FFN adds. The same module as ``update`` in some models,
            which call it twice.
        scale: LayerScale of a parallel block, which multiplies both updates after they are watched.
        parallel: the FFN reads what attention reads, x'' = x + attention(x) + ffn(x).
    """

    module: nn.Module
    heads: int
    normed: nn.Module | None
    path: tuple[nn.Module | Tensor, ...]
    update: nn.Module
    mid: nn.Module | None
    normed_mid: nn.Module | None
    ffn_update: nn.Module
    scale: Tensor | None = None
    parallel: bool = False


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One model, described.

    Attributes:
        name: the model's class, for messages.
        model: what is called with the images.
        blocks: first to last.
        prefix: number of tokens before the patches.
        embedding: its output (B, D, rows, columns) is the patch grid.
        pooling: which final tokens the classifier reads.
        pool: the attention pooling module, None for every other pooling.
        pool_rows: "token" where the first query of the pool is read, "avg" where all are averaged.
        classes: number of logits; 0 for a model that returns features.
        channels: image channels.
        size: (height, width) the model takes, None where it takes any.
        patch: (height, width) of a patch in pixels.
        switches: (object, attribute, value) to set while recording, put back afterwards.
        logits: from what the model returns to logits (B, classes).
        outputs: what the logits mean, where the model's configuration tells; see :data:`tokentm.outputs.Meaning`.
        class_names: the model's own names of its classes, where it has some.
    """

    name: str
    model: nn.Module
    blocks: tuple[Block, ...]
    prefix: int
    embedding: nn.Module
    pooling: Pooling
    pool: nn.Module | None
    pool_rows: Literal["token", "avg"]
    classes: int
    channels: int
    size: tuple[int, int] | None
    patch: tuple[int, int]
    switches: tuple[tuple[Any, str, Any], ...]
    logits: Callable[[Any], Any] = _as_it_is
    outputs: Literal["softmax", "sigmoid", "none"] | None = None
    class_names: tuple[str, ...] | None = None

    @property
    def weight(self) -> Tensor:
        """Any parameter: all have the dtype and device that images must have."""
        return next(self.model.parameters())

    def readout(self, layout: Layout) -> Tensor:
        """Share of each final token in what the classifier reads, (N,), sums to 1. Not for attention pooling.

        One class token: 1 there. Distilled: one half each on class and distillation token. Average pooling: equal
        shares of the patch tokens (and of the prefix tokens, where the model pools them too). Class token beside the
        average of the patches: one half for each.
        """
        share = torch.zeros(layout.tokens, dtype=torch.float64)
        if self.pooling == "class token":
            share[0] = 1.0
        elif self.pooling == "class and distillation token":
            share[:2] = 0.5
        elif self.pooling == "class token and average of patches":
            share[0] = 0.5
            share[layout.prefix :] = 0.5 / (layout.tokens - layout.prefix)
        else:
            first = 0 if self.pooling == "average of all tokens" else layout.prefix
            share[first:] = 1 / (layout.tokens - first)
        return share
