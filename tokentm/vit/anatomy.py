"""What every supported Vision Transformer has in common, whatever library it comes from. Only descriptions, no action.

A supported model is a column of blocks over one token sequence: prefix tokens, then a row-major patch grid. A block is

    x' = x + attention(x)        x'' = x' + ffn(x')          or, in parallel,    x'' = x + attention(x) + ffn(x)

and what attention adds is affine in the values of its heads once the statistics of norms are those of the pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

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


def _called(model: Any, images: Tensor) -> Any:
    return model(images)


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
        module: its input is x, its output x''. None for a block without a module of its own, as where a model's
            forward says ``x = attn(norm1(x)) + x``: then ``normed`` is given x, and the block ends where the next one
            begins, the last one at the model's last norm (``Anatomy.final``, or ``Anatomy.column``).
        heads: number of heads H.
        normed: its output is what attention reads; None where attention reads x itself (post-norm).
        path: what the concatenated heads pass on their way to the stream, in order: norms, one or more linear maps, and
            LayerScale as the vector it multiplies with. Other modules (LoRA, a Sequential) are measured, and refused
            if they are not affine.
        update: its output, times ``scale``, is what attention adds to the stream.
        mid: its input is x'; None in a parallel block, where nothing reads x'.
        normed_mid: its output is what the FFN reads; None where the FFN reads x' itself (post-norm).
        ffn_update: its output, times ``ffn_scale``, is what the FFN adds. The same module as ``update`` in some models,
            which call it twice.
        scale, ffn_scale: LayerScale that multiplies an update after it is watched.
        parallel: the FFN reads what attention reads, x'' = x + attention(x) + ffn(x).
    """

    module: nn.Module | None
    heads: int
    normed: nn.Module | None
    path: tuple[nn.Module | Tensor, ...]
    update: nn.Module
    mid: nn.Module | None
    normed_mid: nn.Module | None
    ffn_update: nn.Module
    scale: Tensor | None = None
    ffn_scale: Tensor | None = None
    parallel: bool = False

    @property
    def entry(self) -> nn.Module:
        """The module that is given x first."""
        found = self.module if self.module is not None else self.normed
        assert found is not None  # a description with neither is refused
        return found

    @property
    def kind(self) -> str:
        """Name of its class, for messages."""
        return "block" if self.module is None else type(self.module).__name__

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """What holds its weights, as far as they are told."""
        return self.watched if self.module is None else (self.module,)

    @property
    def read(self) -> tuple[nn.Module, ...]:
        """The modules that must be called: of a linear map on the path only the weight is read."""
        linear = [one for one in self.path if isinstance(one, nn.Linear) and one is not self.update]
        return tuple(one for one in self.watched if one not in linear)

    @property
    def watched(self) -> tuple[nn.Module, ...]:
        """The modules whose inputs or outputs are looked at."""
        named = (self.normed, self.update, self.mid, self.normed_mid, self.ffn_update, *self.path)
        return tuple(dict.fromkeys(one for one in named if isinstance(one, nn.Module)))


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One model, described: which of its modules to watch. The first five attributes are needed, the others can be.

    Nothing in it is believed: the pass measures what it can, and refuses a description that does not fit. Import it
    from ``tokentm``; ``tokentm.explain(model, images, anatomy=...)`` takes one, :func:`tokentm.register` a function
    that makes one of every model of a kind.

    Attributes:
        model: what is called with the images.
        blocks: first to last.
        prefix: number of tokens before the patches.
        embedding: its output is the patches, as a grid (B, D, rows, columns) or in a row, (B, rows columns, D); None
            where no module makes them.
        patch: (height, width) of a patch in pixels.
        name: the model's class, for messages; "" takes the name of its type.
        pooling: which final tokens the classifier reads, in words; how much of each is measured in every pass.
        pool: the attention pooling module, None for every other pooling.
        pool_rows: "token" where the first query of the pool is read, "avg" where all are averaged.
        channels: image channels.
        size: (height, width) the model takes, None where it takes any.
        switches: (object, attribute, value) to set while recording, put back afterwards.
        call: how the model is called with images.
        logits: from what the model returns to logits (B, classes).
        outputs: what the logits mean, where the model's configuration tells; see :data:`tokentm.outputs.Meaning`.
        class_names: the model's own names of its classes, where it has some.
        column: its output is the last block's stream; needed of blocks without a module of their own whose last stream
            no last norm reads whole.
        sequence_first: whether tokens come as (N, B, D), as where nn.TransformerEncoder is made without
            ``batch_first``; blocks then need modules of their own.
        in_place: whether blocks change in place what their modules return (``x += ...``); they are then handed copies.
        told_by: who described it: you, by hand; its family; or a search through what it showed when it ran.
        within: where in the model the one lies through which it is described, for a wrapper around a known one.
        head: the classifier; a module without parameters for a model that returns features; None where it is not told.
        final: the last norm: what it makes of the last block's stream is what the classifier reads.
    """

    model: nn.Module
    blocks: tuple[Block, ...]
    prefix: int
    embedding: nn.Module | None
    patch: tuple[int, int]
    name: str = ""
    pooling: str = ""
    pool: nn.Module | None = None
    pool_rows: Literal["token", "avg"] = "token"
    channels: int = 3
    size: tuple[int, int] | None = None
    switches: tuple[tuple[Any, str, Any], ...] = ()
    call: Callable[[Any, Tensor], Any] = _called
    logits: Callable[[Any], Any] = _as_it_is
    outputs: Literal["softmax", "sigmoid", "none"] | None = None
    class_names: tuple[str, ...] | None = None
    final: nn.Module | None = None
    head: nn.Module | None = None
    column: nn.Module | None = None
    sequence_first: bool = False
    in_place: bool = False
    told_by: Literal["hand", "family", "search"] = "hand"
    within: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", type(self.model).__name__)

    def __str__(self) -> str:
        """In words: what was found, as sentences."""
        count, heads = len(self.blocks), sorted({block.heads for block in self.blocks})
        of = " or ".join(map(str, heads))
        tokens = "no token" if self.prefix == 0 else "1 token" if self.prefix == 1 else f"{self.prefix} tokens"
        through = f" (through model.{self.within})" if self.within else ""
        return (
            f"{self.name}{through}: {count} blocks of {of} heads, {tokens} before the patches of {self.patch[0]} x "
            f"{self.patch[1]} pixels."
        )

    @property
    def advice(self) -> str:
        """What to do where it does not fit the model."""
        first = {
            "family": "",
            "hand": "Look at its description, or run",
            "search": "It was found by running it: describe it yourself (anatomy=), or run",
        }[self.told_by]
        return f"{first or 'Run'} the unmodified model"

    def answer(self, images: Tensor) -> Any:
        """What the model says of images (B, C, H, W), of which it gets a copy: logits (B, classes)."""
        return self.logits(self.call(self.model, images.clone()))

    @property
    def weight(self) -> Tensor:
        """Any parameter: all have the dtype and device that images must have."""
        return next(self.model.parameters())

    @property
    def headless(self) -> bool:
        """Whether the model returns features: its head, whatever its attributes say, does nothing."""
        return self.head is not None and next(self.head.parameters(), None) is None

    @property
    def classes(self) -> int | None:
        """Number of classes where the head tells, 0 for features, None where only a pass can tell."""
        if self.headless or self.head is None:
            return 0 if self.headless else None
        linear = [module for module in self.head.modules() if isinstance(module, nn.Linear)]
        return linear[-1].out_features if linear else None
