"""What a model showed while it ran: one :class:`Pass` a block, and all of them with what lies around the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from tokentm.attention import Fused, Held, Relay


class Pass:
    """What one block, or the attention pooling, showed while the model ran."""

    def __init__(self, kind: str, leaf: bool, stays_fused: bool, number: int = 0) -> None:
        self.kind = kind  # of what: the name of a class
        self.number = number
        self.leaf = leaf  # its attention begins the autograd graph
        self.stays_fused = stays_fused  # attention weights are not kept as nodes of the graph
        self.calls = 0
        self.fused: Fused | Held | None = None
        self.relay = Relay()
        self.stream: Tensor
        self.stream_out: Tensor
        self.version = 0  # of stream_out when the block had run: a later one tells of a change in place
        self.attention: list[Tensor] = []
        self.value: list[Tensor] = []
        self.mixed: Tensor | None = (
            None  # what the heads put out, where weights are nodes of the graph, or it was edited
        )
        self.enter: Callable[[Tensor], Tensor] | None = None  # from the stream to what takes its place, both (B, N, D)
        self.edit: Callable[[Tensor], Tensor] | None = None  # from what the heads put out to what takes its place
        self.mixing_error = 0.0
        self.inputs: dict[nn.Module, list[Tensor]] = {}
        self.outputs: dict[nn.Module, list[Tensor]] = {}

    def edited(self, mixed: Tensor) -> Tensor:
        """What the model goes on with in the place of what the heads put out, (B, H, N, d)."""
        assert self.edit is not None
        self.mixed = self.edit(mixed)
        return self.mixed

    def forget(self) -> None:
        """Free what only the observation of a finished block needs."""
        del self.stream
        self.mixed = None
        self.value.clear()
        for kept in (*self.inputs.values(), *self.outputs.values()):
            kept.clear()


@dataclass(eq=False)
class Passes:
    """What a model showed in one pass.

    Attributes:
        blocks: one :class:`Pass` per block.
        pool: that of the attention pooling, where there is one.
        images: how many, known as soon as the first block is entered.
        grids: what the patch embedding put out.
        before: attention calls before the first block.
        outside: what later attention calls outside of the blocks and the pooling made, their nodes in the graph.
        final: what the last norm made of the last block's stream, (B, N, D); None where no such norm was called.
        changed: what was given a stream that somebody had changed since its block wrote it: "block 3", "the last norm".
    """

    blocks: list[Pass]
    pool: Pass | None
    images: int | None = None
    grids: list[Tensor] = field(default_factory=list)
    before: int = 0
    outside: list[Any] = field(default_factory=list)
    final: Tensor | None = None
    changed: str | None = None

    @property
    def last(self) -> Tensor:
        """The final tokens (B, N, D): what the last norm puts out, or where there is none, the last block."""
        return self.blocks[-1].stream_out if self.final is None else self.final


def leads_to(made: Tensor, gates: Iterable[Tensor]) -> set[Any]:
    """The nodes of the graph that ``made`` is made of, down to the gates, which are left out."""
    todo, found = [node_of(made)], {node_of(gate) for gate in gates}
    closed = set(found)
    while todo:
        node = todo.pop()
        if node is not None and node not in found:
            found.add(node)
            todo += [source for source, _ in node.next_functions]
    return found - closed


def node_of(tensor: Tensor) -> Any:
    """The node of the graph that made a tensor, or where its gradient would be added up."""
    if tensor.grad_fn is not None or not tensor.requires_grad:
        return tensor.grad_fn
    return tensor.view_as(tensor).grad_fn.next_functions[0][0]  # type: ignore[union-attr]
