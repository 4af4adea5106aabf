"""Fused attention: the weights that nobody kept are computed again, part by part, where the backward pass needs them.

    S = scale Q K^T + mask        A = softmax(S)        o = A V

and with g = dscore / do, once the gradient arrives,

    G = g V^T                                dscore / dA, which TokenTM reads
    dS = A * (G - rowsum(g * o))             the softmax, differentiated: rowsum(A * G) = g . o
    dQ = scale dS K      dK = scale dS^T Q      dV = A^T g

A fused backward pass computes A and G, too, and shows them to nobody. Here whoever follows the gradient takes its place
(:func:`attend`), sees both, and gives dQ, dK and dV back (:class:`Backward`): they are computed once, for two uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

Gradients = tuple[Tensor, Tensor, Tensor]
"""dQ, dK and dV, each (B, H, N, d)."""

Part = tuple[slice, slice, slice]
"""Some images, heads and rows."""


@dataclass(frozen=True, eq=False)
class Fused:
    """An attention that was computed in one fused step, and what its weights can be computed from again.

    Attributes:
        query, key, value: (B, H, N, d).
        mask: what is added to the attention logits, or which of them count, (B, H, N, N), or None.
        scale: of the attention logits.
        mixed: o, the output of the heads before the projection, (B, H, N, d); in the first block the leaf of the graph.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float
    mixed: Tensor

    def contiguous(self) -> Fused:
        """The same, its queries, keys and values laid out for products of matrices."""
        return replace(self, query=self.query.contiguous(), key=self.key.contiguous(), value=self.value.contiguous())

    def at(self, rows: Tensor | slice) -> Fused:
        """Only some rows: only what some tokens take, from all tokens."""
        mask = None if self.mask is None else self.mask[:, :, rows]
        return replace(self, query=self.query[:, :, rows], mask=mask, mixed=self.mixed[:, :, rows])

    def part(self, part: Part) -> Fused:
        """Only some images, heads and rows, each row from all tokens."""
        key, value = self.key[part[:2]], self.value[part[:2]]
        mask = None if self.mask is None else self.mask[part]
        return Fused(self.query[part], key, value, mask, self.scale, self.mixed[part])

    def weights(self) -> Tensor:
        """A, (B, H, rows, N); nothing else refers to the result."""
        logits = (self.query * self.scale) @ self.key.transpose(-2, -1)
        if self.mask is not None:
            boolean = self.mask.dtype == torch.bool
            logits = logits.masked_fill_(~self.mask, -torch.inf) if boolean else logits.add_(self.mask)
        return logits.softmax(-1)


@dataclass(frozen=True, eq=False)
class Held:
    """An attention whose weights the model itself has computed and keeps for its own backward pass.

    Attributes:
        attention: A, (B, H, N, N).
        value: (B, H, N, d).
        mixed: o, the output of the heads before the projection, (B, H, N, d), a node of the graph.
    """

    attention: Tensor
    value: Tensor
    mixed: Tensor

    def contiguous(self) -> Held:
        """The same, its values laid out for products of matrices."""
        return replace(self, value=self.value.contiguous())

    def at(self, rows: Tensor | slice) -> Held:
        """Only some rows: only what some tokens take, from all tokens."""
        return replace(self, attention=self.attention[:, :, rows], mixed=self.mixed[:, :, rows])

    def part(self, part: Part) -> Held:
        """Only some images, heads and rows, each row from all tokens."""
        return Held(self.attention[part], self.value[part[:2]], self.mixed[part])

    def weights(self) -> Tensor:
        """A, (B, H, rows, N); not to be changed."""
        return self.attention


def parts(images: int, heads: int, rows: int, at_once: int) -> list[Part]:
    """Cut a layer into parts of at most ``at_once`` rows: whole images, else heads of an image, else rows of a head.

    A part is one row at least, and the parts of a head come one after the other, its first rows first.
    """

    def cut(count: int, step: int) -> list[slice]:
        step = max(1, step)
        return [slice(first, min(first + step, count)) for first in range(0, count, step)]

    return list(product(cut(images, at_once // (heads * rows)), cut(heads, at_once // rows), cut(rows, at_once)))


class Backward:
    """dQ, dK and dV of an attention, added up part by part, for C scores of each image, which share A.

    Args:
        fused: the attention, of the rows that the gradients reach.
        gradient: g of these rows, (B, H, rows, C, d).
    """

    def __init__(self, fused: Fused, gradient: Tensor) -> None:
        self.fused, self.gradient, self.scores = fused, gradient, gradient.shape[3]
        self.inner = (gradient * fused.mixed.unsqueeze(3)).sum(-1, keepdim=True)
        images, heads, tokens, width = fused.key.shape
        self.query = gradient.new_empty(gradient.shape)
        self.key = gradient.new_empty((images, heads, self.scores, tokens, width))
        self.value = gradient.new_empty((images, heads, tokens, self.scores, width))

    def add(self, part: Part, attention: Tensor, weighted: Tensor) -> None:
        """Take a part's A, (.., rows, N), which may be overwritten, and G * A of each score, (.., rows, C, N); parts
        come in the order of :func:`parts`.
        """
        fused, of, first = self.fused.part(part), part[:2], part[2].start == 0
        out = attention.unsqueeze(3) if self.scores == 1 else None
        _product(self.value[of], attention.transpose(-2, -1), self.gradient[part].flatten(3), first)
        logits = torch.addcmul(weighted, attention.unsqueeze(3), self.inner[part], value=-1, out=out)
        _product(self.key[of], logits.flatten(3).transpose(-2, -1), fused.query, first, fused.scale)
        _product(self.query[part], logits.flatten(2, 3), fused.key, True, fused.scale)

    def gradients(self, rows: Tensor | slice) -> Gradients:
        """What has been added up, (B C, H, N, d) each, the queries' at their rows among all."""
        key, value, query = self.key.transpose(1, 2), _scores_first(self.value), _scores_first(self.query)
        if query.shape[3] != key.shape[3]:
            among_all = key.new_zeros(key.shape)
            among_all[:, :, :, rows] = query
            query = among_all
        return query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)


def _scores_first(made: Tensor) -> Tensor:
    """(B, H, rows, C, d) -> (B, C, H, rows, d)."""
    return made.permute(0, 3, 1, 2, 4)


def _product(total: Tensor, left: Tensor, right: Tensor, first: bool, factor: float = 1.0) -> None:
    """total = factor left right, for each image and head; added to what is there already unless it is the first."""
    left, right = left.flatten(0, 1), right.flatten(0, 1)
    kept = 0 if first else 1  # 0: nothing is read of it
    total.view(len(left), left.shape[1], right.shape[2]).baddbmm_(left, right, beta=kept, alpha=factor)


class Relay:
    """Where a gradient is sent on from; ``follower`` is told it, and answers with the gradients that go on.

    An object of its own: while nobody follows, the graph refers to nothing that refers to the graph.
    """

    follower: Callable[[Tensor], Gradients | None] | None = None


def attend(
    run: Callable[[Tensor, Tensor, Tensor], Tensor], relay: Relay, query: Tensor, key: Tensor, value: Tensor
) -> Tensor:
    """Run a fused attention, (B, H, N, d) each; its backward pass is the follower's of ``relay``."""
    return _Attend.apply(run, relay, query, key, value)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, run: Any, relay: Relay, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        context.relay = relay
        return run(query, key, value)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        assert context.relay.follower is not None, "a gradient came while nobody follows it"
        return (None, None, *told(context.relay.follower, gradient))


def told(follower: Callable[[Tensor], Any], gradient: Tensor) -> Any:
    """What a function answers that is told a gradient, (B, ...), in the middle of a backward pass.

    Where the gradients of C scores come at once, stacked by ``torch.vmap``, it is told all of them, (C B, ...).
    """
    return _Told.apply(follower, gradient)


class _Told(torch.autograd.Function):
    @staticmethod
    def forward(follower: Any, gradient: Tensor) -> Any:
        return follower(gradient)

    @staticmethod
    def setup_context(context: Any, inputs: Any, output: Any) -> None:
        """Nothing goes back through a backward pass."""

    @staticmethod
    def vmap(_info: Any, axes: Any, follower: Any, gradient: Tensor) -> Any:
        stacked = gradient.movedim(axes[1], 0)
        answer = follower(stacked.flatten(0, 1))
        if answer is None:
            return None, None
        return tuple(one.unflatten(0, stacked.shape[:2]) for one in answer), (0,) * len(answer)


ATTENTION = "_AttendBackward"
"""Name of the node of the graph that :func:`attend` makes."""
