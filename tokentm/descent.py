"""The row of a contribution map that is read out, folded from a run as the gradient of the score passes its layers.

The explanation is r = e^T U_L ... U_1 C_0 with e the readout. Multiplied from the left, it is a row that goes down
through the layers,

    FFN         r <- r (1 + w_ffn)
    attention   r <- r + mean_h [ r relu(G^h * A^h) W^h ]          relu(G * A W) = relu(G * A) W, since W >= 0
    at last     r <- r L(E^0)

and so does the gradient of the score. Where it passes the attention of a layer, A and G are computed part by part: for
the row, and for the gradient that goes on (see attention.py). So the model keeps its fused attention, no N x N matrix
outlives its layer, and nothing below the first attention and no parameter needs a gradient.

Source of the method: Wu et al., "Token Transformation Matters", CVPR 2024; the streaming form is this project's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tokentm import aggregation
from tokentm.attention import Backward, Fused, Gradients, Held, parts
from tokentm.blocks import BlockTrace
from tokentm.closeness import relative_error
from tokentm.errors import TokenTMError, UnsupportedModelError
from tokentm.hooks import following
from tokentm.isolation import checkpoint
from tokentm.passes import Pass
from tokentm.run import Run, check_gradient, check_identity

BUDGET = 64 * 2**20
"""Bytes of attention and its gradient that one layer may hold at once; more are taken in parts."""

_CPU_BUDGET = 8 * 2**20
"""At most so much on a CPU, whose caches hold it: smaller parts are faster there."""

_PROBED = 8  # rows, or a few more, of every part, on which recomputed attention is compared with the model's own


@dataclass(frozen=True, eq=False)
class Weights:
    """How one layer weighs what it mixes. Where T is not taken per head, H is 1.

    Attributes:
        attention: transformation weight W of the attention layer, (B, H, N).
        ffn: that of the FFN, (B, N); None when the FFN is left out.
        output_factor: what each output token's attention is multiplied with, (B, N); None where it does not count.
    """

    attention: Tensor
    ffn: Tensor | None
    output_factor: Tensor | None


class Weighing(Protocol):
    """What the streaming form needs of a method: TokenTM, in any reading that multiplies before it averages heads."""

    @property
    def name(self) -> str: ...

    @property
    def gradient(self) -> bool: ...

    @property
    def initialise(self) -> bool: ...

    def weights(self, layer: BlockTrace) -> Weights: ...


class Unweighted:
    """Attention times its positive gradient alone, with every token counting the same: generic attention."""

    name = "attention and gradient"
    gradient = True
    initialise = False

    def weights(self, layer: BlockTrace) -> Weights:
        return Weights(torch.ones_like(layer.stream[..., 0]).unsqueeze(1), None, None)


class Folding:
    """Keeps of each block of a run how it weighs what it mixes, and of the first one how long its tokens are."""

    stays_fused = True

    def __init__(self, method: Weighing) -> None:
        self.method = method
        self.weights: list[Weights] = []
        self.lengths: list[Tensor] = []

    def mixed(self, seen: Pass) -> Tensor:
        assert seen.fused is not None  # it attended once
        return seen.fused.mixed.detach()

    def keep(self, i: int, block: BlockTrace, seen: Pass) -> None:
        if i == 0:
            self.lengths.append(torch.linalg.vector_norm(block.stream, dim=-1))
        if isinstance(seen.fused, Fused) and seen.fused.mask is not None and seen.fused.mask.requires_grad:
            # it would take part in the gradient, which passes around it here
            raise UnsupportedModelError(
                f"{seen.kind}: expected an attention mask in block {i} that does not depend on the "
                "image, found one that does. Take the full form: tokentm.TokenTM()(tokentm.record(model, images, "
                "target))."
            )
        self.weights.append(self.method.weights(block))


class Descent:
    """The rows of some scores, taken down through all layers as their gradients pass them: S scores, one of each image
    of a run, or several of its only image.
    """

    def __init__(self, of: Run, weights: list[Weights], method: Weighing, budget: int, keep_graph: bool) -> None:
        self.run, self.weights, self.method = of, weights, method
        self.budget, self.keep_graph = budget, keep_graph
        self.below = len(weights)  # the rows stand under this layer
        self.at_last: Tensor | None = None  # the gradient at the final tokens
        self.current: Tensor | None = None
        self.all_count = False  # whether a gradient has reached every token
        self.errors: dict[int, Tensor] = {}

    def row(self, score: Tensor) -> Tensor:
        """(B, N), without the lengths of the first tokens, of the sum of one score of each image: images do not mix."""

        def back(node: Tensor) -> Tensor | None:
            (gradient,) = torch.autograd.grad(score, node, retain_graph=self.keep_graph, allow_unused=True)
            return gradient

        return self._row(back)

    def rows(self, reads: Tensor) -> Tensor:
        """(S, N), the same for several scores of one image, whose gradients go down in one pass.

        Args:
            reads: gradient of each score with respect to the logits, (S, classes).

        Raises:
            Exception: whatever ``torch.vmap`` says of a model that it cannot take several gradients of at once.
        """
        return self._row(lambda node: self._gradients(self.run.logits, reads, node))

    def tokens(self, layer: int, start: Tensor, reads: Tensor) -> Tensor:
        """(S, N), the same for several scores of tokens inside the only image's pass.

        Args:
            layer: after how many blocks the tokens are taken, at least 1.
            start: the row that each score begins with, (S, N).
            reads: gradient of each score with respect to these tokens, (S, N, D).

        Raises:
            Exception: as :meth:`rows`; one score alone goes down without ``torch.vmap``.
        """
        self.current, self.below = start, layer
        passes = self.run.passes
        first = passes.blocks[0].fused
        assert first is not None
        with following(passes, self._arrive, self._remember):
            gradient = self._gradients(passes.blocks[layer - 1].stream_out, reads, first.mixed)
        check_gradient(self.run.anatomy, gradient)
        return self._at_the_first_tokens(gradient)

    def _gradients(self, made: Tensor, reads: Tensor, node: Tensor) -> Tensor | None:
        """Of S scores at a node, (S, ...), given their gradients (S, ...) with respect to what the model made of its
        only image; None where none arrives.
        """
        reached, keep = True, self.keep_graph

        def one(read: Tensor) -> Tensor:
            nonlocal reached
            (gradient,) = torch.autograd.grad(made, node, read[None], retain_graph=keep, allow_unused=True)
            reached = gradient is not None
            return read if gradient is None else gradient.squeeze(0)

        stacked = one(reads[0])[None] if len(reads) == 1 else torch.vmap(one)(reads)
        return stacked if reached else None

    def _row(self, back: Callable[[Tensor], Tensor | None]) -> Tensor:
        found, passes = self.run, self.run.passes
        first = passes.blocks[0].fused
        assert first is not None
        with following(passes, self._arrive, self._remember):
            gradient = back(first.mixed if self.method.gradient else passes.last)
        if not self.method.gradient:
            self.at_last = gradient
        readout = found.readout(self.at_last)
        if self.method.gradient:
            check_gradient(found.anatomy, gradient)
        elif self.current is None:
            self.current = readout
        return self._at_the_first_tokens(gradient if self.method.gradient else None)

    def _at_the_first_tokens(self, gradient: Tensor | None) -> Tensor:
        """The rows, taken through the first layer and what is left above it, after the checks of all layers."""
        found = self.run
        self._down_to(0, gradient)
        if self.errors:  # looked at in one go: to look at a number is to wait for a GPU
            for i, error in zip(self.errors, torch.stack([*self.errors.values()]).tolist(), strict=True):
                check_identity(found.anatomy, i, error)
        assert self.current is not None
        return self.current

    def _remember(self, gradient: Tensor) -> None:
        self.at_last = gradient

    def _arrive(self, i: int, gradient: Tensor) -> Gradients | None:
        with torch.no_grad():
            return self._down_to(i, gradient)

    @torch.no_grad()
    def _down_to(self, i: int, gradient: Tensor | None) -> Gradients | None:
        """Down to layer i, where a gradient has arrived, and through it; the gradients that go on."""
        checkpoint()
        if self.current is None:
            self.current = self.run.readout(self.at_last)
        for above in range(self.below - 1, i, -1):
            self._through(above, None)
        self.below = i
        return self._through(i, gradient)

    def _through(self, i: int, gradient: Tensor | None) -> Gradients | None:
        """Through one layer; the gradients of its queries, keys and values."""
        seen, weights = self.run.passes.blocks[i], self.weights[i]
        fused, onward = seen.fused, None
        assert fused is not None
        assert self.current is not None

        def taken(row: Tensor) -> Tensor:
            nonlocal onward
            if gradient is None and self.method.gradient:
                return torch.zeros_like(row)  # a layer that the gradient does not reach mixes nothing
            rows: Tensor | slice = slice(None) if self.all_count else _counting(row, gradient)
            self.all_count = isinstance(rows, slice) and len(range(*rows.indices(row.shape[1]))) == row.shape[1]
            mixed, onward, self.errors[i] = attended(row, fused, weights, gradient, i > 0, self.budget, rows)
            return mixed

        parallel = self.run.anatomy.blocks[i].parallel
        self.current = aggregation.descend(self.current, taken, weights.ffn, parallel)
        if not self.keep_graph:
            seen.fused = None  # its queries, keys and values are not needed any more
        return onward


def at_once(found: Run, budget: int) -> int:
    """How many gradients go down together: of each, what an FFN holds, 4 times as wide as the stream, in and out."""
    tokens = found.passes.last
    return max(1, budget // (8 * tokens.numel() * tokens.element_size()))


def together(scores: int, most: int, down: Callable[[slice, bool], Tensor]) -> Iterator[Tensor]:
    """Rows (S, N) of some of the scores of one image after others: of at most so many at once, or of one where an
    operation of the model cannot take several.

    Args:
        down: takes some of the scores down; it is told which, and whether they are the last, after which no graph is
            needed.
    """

    def cut(step: int) -> list[slice]:
        return [slice(first, min(first + step, scores)) for first in range(0, scores, step)]

    some = cut(most)
    try:
        rows = down(some[0], False)
    except TokenTMError:
        raise
    except (RuntimeError, ValueError):  # torch.vmap's, of what it cannot take apart; any other error is the model's own
        yield from (down(score, score.stop == scores) for score in cut(1))
        return
    yield rows
    yield from (down(more, more is some[-1]) for more in some[1:])


def attended(
    row: Tensor,
    fused: Fused | Held,
    weights: Weights,
    gradient: Tensor | None,
    onward: bool,
    budget: int,
    rows: Tensor | slice,
) -> tuple[Tensor, Gradients | None, Tensor]:
    """What rows take through one attention layer, mean_h [ r relu(G^h * A^h) W^h ]: (S, N) -> (S, N).

    There is one row for each image, or several for one image: then its A is computed once, for all of them.

    Args:
        gradient: of the scores with respect to what the heads put out, (S, H, N, d); None for r mean_h [ A^h W^h ].
        onward: whether the gradient goes on, to queries, keys and values, if this is what sends it on.
        rows: the output tokens that count.

    Returns:
        what the rows take; the gradients that go on, if they do; and how far A v, in a few rows, is from what the
        model's own heads put out, a relative error.
    """
    images, heads, tokens, _ = fused.value.shape
    if weights.output_factor is not None:
        row = row * weights.output_factor
    fused, row = fused.contiguous().at(rows), row[:, rows].unflatten(0, (images, -1))
    scores, backward = row.shape[1], None
    if gradient is not None:
        gradient = gradient[:, :, rows].unflatten(0, (images, scores)).permute(0, 2, 3, 1, 4).contiguous()
    if onward and gradient is not None and isinstance(fused, Fused):  # of the other kind the model sends it on itself
        backward = Backward(fused, gradient)
    held = 2 if scores == 1 else 1 + 2 * scores  # A, G * A of each score, and what goes on, in place of A if it can
    row_bytes = held * tokens * row.element_size()  # of one head
    budget = min(budget, _CPU_BUDGET) if row.device.type == "cpu" else budget
    taken = row.new_zeros(images, scores, heads, 1, tokens)
    rebuilt, shown = [], []  # A v in a few rows, and what the model's own heads put out
    for part in parts(images, heads, row.shape[2], budget // row_bytes):
        of, which, where = part
        one = fused.part(part)
        attention = one.weights()
        few = slice(None, None, max(1, attention.shape[2] // _PROBED))
        rebuilt.append((attention[:, :, few] @ one.value).flatten())
        shown.append(one.mixed[:, :, few].flatten())
        mixing = attention.unsqueeze(3).expand(-1, -1, -1, scores, -1)
        if gradient is not None:
            mixing = gradient[part].flatten(2, 3) @ one.value.transpose(-2, -1)
            mixing = mixing.unflatten(2, (-1, scores)).mul_(attention.unsqueeze(3))
            if backward is not None:
                backward.add(part, attention, mixing)
            mixing.clamp_(min=0)  # relu(G * A)
        for score in range(scores):
            taken[of, score, which] += row[of, score, None, None, where] @ mixing[:, :, :, score]
    taken = (taken.squeeze(3) * weights.attention.unsqueeze(1)).mean(2).flatten(0, 1)
    error = relative_error(torch.cat(rebuilt), torch.cat(shown))
    return taken, None if backward is None else backward.gradients(rows), error


def _counting(row: Tensor, gradient: Tensor | None) -> Tensor | slice:
    """The output tokens that count: at the top only few are read, and no others does the gradient reach."""
    counts = row.any(0)
    if gradient is not None and not counts.all():
        counts = counts | (gradient != 0).any(3).any(1).any(0)
    rows = counts.nonzero().flatten()
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows
