"""Whether attention alone mixes tokens: looked at once for a model that does not change.

One picture runs with a graph from the first tokens on, in which nothing is cut off (``detach``, ``no_grad``). The FFN's
output at a token must depend on x' at this token alone, the values of a token on x at this token alone, and the logits
on the first tokens through the last block alone.
What a gradient of zero cannot tell, the graph tells: what is made of something else does not lead through x' or x.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tokentm.attention import ATTENTION
from tokentm.errors import TokenTMError, UnsupportedModelError
from tokentm.hooks import recording
from tokentm.interception import Connected
from tokentm.passes import Pass, Passes, leads_to, node_of
from tokentm.run import Subject, check_outside
from tokentm.vit import Anatomy, Block

_LARGEST = 1e-5
"""Largest gradient at another token, relative to the largest at the token itself; beyond rounding."""

_tokenwise: WeakKeyDictionary[nn.Module, tuple[Any, ...]] = WeakKeyDictionary()
"""The state in which a model was looked at, and the entries of its blocks."""


def check_tokenwise(given: Subject) -> None:
    """Look at the first image.

    Raises:
        UnsupportedModelError: the FFN or the values of a block mix tokens, or read something else than the stream; or
            the score reads something else than the last block.
    """
    anatomy = given.anatomy
    known = (given.state, *(id(block.entry) for block in anatomy.blocks))
    if _tokenwise.get(anatomy.model) == known:
        return
    first, passes, logits = _looked_at(anatomy, given.images)
    seen = passes.blocks
    starts = [node_of(first), node_of(seen[0].stream)]
    for i, (block, one) in enumerate(zip(anatomy.blocks, seen, strict=True)):
        _check_block(f"{anatomy.name}: ", i, block, one, starts)
        _check_reads(f"{anatomy.name}: ", i, block, one)
    check_outside(anatomy, passes, logits)  # in the run itself, only what comes after the first attention shows
    below = leads_to(logits, [passes.last])
    early = [f"block {one.number} puts out" for one in seen if node_of(one.stream_out) in below]
    if early or starts[1] in below:
        raise UnsupportedModelError(
            f"{anatomy.name}: expected the score to read only what the last block puts out, found that it also reads "
            f"what {early[-1] if early else 'enters the first block'} (features of several layers, a skip connection). "
            "What it takes there would be missing from a map; explain a head on the last layer."
        )
    if starts[0] in below:
        raise UnsupportedModelError(
            f"{anatomy.name}: expected the score to see the picture through the blocks alone, found that it sees it "
            "beside them, too (an ensemble, a path of convolutions). What it takes there would be missing from a map."
        )
    if passes.final is None and _normalised(logits, seen[-1].stream_out):
        raise UnsupportedModelError(
            f"{anatomy.name}: expected a score that reads the last block's stream itself, as it is described, found a "
            "norm of all tokens between. How much is read of each is measured behind it. Name it: final=."
        )
    if passes.pool is not None:
        _check_pool(anatomy, passes.pool, passes.last, logits)
    _tokenwise[anatomy.model] = known


def _looked_at(anatomy: Anatomy, images: Tensor) -> tuple[Tensor, Passes, Tensor]:
    """One image that takes a gradient, or all where one alone does not do, what the model showed, and the logits. The
    run has gone well before.

    Raises:
        UnsupportedModelError: the model does not do the same with images that take a gradient.
    """
    reason: Exception | None = None
    # a model may have reasons of its own for what it cuts off
    modes: tuple[AbstractContextManager[Any], ...] = (Connected(), nullcontext())
    for some, mode in [(some, mode) for some in (images[:1], images) for mode in modes]:
        first = some.detach().clone().requires_grad_()
        try:
            with recording(anatomy, graph_from="stream", stays_fused=True) as passes, mode:
                logits = anatomy.answer(first)
        except torch.cuda.OutOfMemoryError:
            raise
        except (TokenTMError, RuntimeError, ValueError, TypeError) as error:
            reason = error
            continue
        if all(one.calls == 1 and hasattr(one, "stream_out") for one in passes.blocks):
            return first, passes, logits
    found = "found that its blocks then run otherwise" if reason is None else f"{type(reason).__name__}: {reason}"
    raise UnsupportedModelError(
        f"{anatomy.name}: expected a model that can be looked at with an image that takes a gradient, to see whether "
        f"attention alone mixes its tokens; {found}. {anatomy.advice}."
    ) from reason


def _check_reads(name: str, i: int, block: Block, seen: Pass) -> None:
    """The norm that attention, or the FFN, is said to read must be what it reads; where none is named, none may be."""
    between = seen.stream if block.parallel or block.mid is None else seen.inputs[block.mid][0]
    for part, made, norm, source in (
        ("attention", seen.value[0], block.normed, seen.stream),
        ("the FFN", seen.outputs[block.ffn_update][-1], block.normed_mid, between),
    ):
        word = "normed" if part == "attention" else "normed_mid"
        if norm is None:
            if _normalised(made, source):
                raise UnsupportedModelError(
                    f"{name}expected {part} in block {i} to read the stream itself, as it is described, found a norm "
                    f"between. Name it: {word}=."
                )
        elif seen.outputs[norm][0].requires_grad and node_of(source) in leads_to(made, seen.outputs[norm]):
            raise UnsupportedModelError(
                f"{name}expected {part} in block {i} to read what its norm ({word}) makes, found that it also reads "
                "the stream itself. Is another norm meant?"
            )


def _normalised(made: Tensor, source: Tensor) -> bool:
    """Whether a norm reads ``source`` itself on its way to ``made``."""
    if not made.requires_grad:
        return False
    gate = node_of(source)
    same = {gate}  # the source, and views and copies of it
    nodes = leads_to(made, [source])
    while True:
        more = {
            node
            for node in nodes - same
            if node.name().startswith(_VIEWS) and any(one in same for one, _ in node.next_functions)
        }
        if not more:
            break
        same |= more
    return any(
        node.name().startswith(_NORMS) and any(one in same for one, _ in node.next_functions) for node in nodes - same
    )


_VIEWS = ("View", "UnsafeView", "Alias", "Clone", "ToCopy", "Transpose", "Permute", "Expand", "Reshape", "Unsqueeze")
_NORMS = ("NativeLayerNorm", "NativeBatchNorm", "FusedRms", "RmsNorm", "Pow", "Var", "Std", "LinalgVectorNorm", "Norm")
"""How the nodes are called that begin a norm, written as one function or by hand."""


def _check_block(name: str, i: int, block: Block, seen: Pass, starts: Sequence[Any]) -> None:
    read = seen.stream if block.parallel or block.mid is None else seen.inputs[block.mid][0]
    added = seen.outputs[block.ffn_update][-1]
    value = seen.value[0].transpose(1, 2)
    parts = {
        "the FFN's output": (added, read, "the FFN mixes tokens (a convolution, a gate of another token)"),
        "the values": (value, seen.stream, "the values mix tokens (a convolution before the heads)"),
    }
    for part, (made, source, why) in parts.items():
        if not made.requires_grad or made.shape[:2] != source.shape[:2]:
            continue
        below = leads_to(made, [source])
        if any(node.name() == ATTENTION for node in below):
            return  # a wrong description: what it calls the FFN holds an attention, of which the run tells
        if any(start in below for start in starts):
            raise UnsupportedModelError(
                f"{name}expected {part} in block {i} to be made of the stream at this place alone, found that "
                "something else is read, too (an earlier stream). A map would leave it out."
            )
        if _mixes(made, source):
            raise UnsupportedModelError(
                f"{name}expected {part} at a token in block {i} to depend on the stream at this token alone, found "
                f"that {why}. Only attention may mix tokens; a map would leave the other mixing out."
            )


def _check_pool(anatomy: Anatomy, pool: Pass, last: Tensor, logits: Tensor) -> None:
    """Its attention tells what the score reads only if nothing else reads the tokens, and no other queries count."""
    mixed = pool.mixed
    if mixed is None or not mixed.requires_grad:
        return
    if node_of(last) in leads_to(logits, [mixed]):
        raise UnsupportedModelError(
            f"{anatomy.name}: expected the score to read the final tokens through its attention pooling alone, found "
            "that it reads them beside it, too (a class token, a residual connection). A map would leave that out."
        )
    weighted = logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
    (gradient,) = torch.autograd.grad(weighted.sum(), mixed, retain_graph=True)
    read = (gradient.abs().amax((0, 1, 3)) > _LARGEST * gradient.abs().max()).tolist()
    if read != [anatomy.pool_rows == "avg" or i == 0 for i in range(len(read))]:
        asked = "all queries" if anatomy.pool_rows == "avg" else "the first query"
        raise UnsupportedModelError(
            f"{anatomy.name}: expected the score to read {asked} of its attention pooling, found that it reads "
            f"{[i for i, one in enumerate(read) if one]} of {len(read)}. Which tokens it reads is not known."
        )


def _mixes(made: Tensor, source: Tensor) -> bool:
    """Whether (1, N, ...) at some token depends on ``source`` (1, N, D) at another.

    What tokens make is weighed with powers of two, which rounding leaves exact. Where every token counts for itself,
    its gradient is weighed as it is. The powers are the digits of a token's number: any two tokens differ in one.
    """
    weighted = made * torch.randn(made.shape, generator=torch.Generator().manual_seed(0)).to(made)
    of_token = weighted.flatten(2).sum((0, 2))
    (gradient,) = torch.autograd.grad(of_token.sum(), source, retain_graph=True, allow_unused=True)
    if gradient is None:
        return False
    numbers = torch.arange(len(of_token), device=made.device)
    while numbers.any():
        weight = (2.0 ** (numbers % _DIGITS)).to(made)
        (weighed,) = torch.autograd.grad((weight * of_token).sum(), source, retain_graph=True)
        beside = weighed / weight[None, :, None] - gradient
        if beside.abs().max() > _LARGEST * gradient.abs().max():
            return True
        numbers = numbers // _DIGITS
    return False


_DIGITS = 16
"""As a base: few rounds, and powers up to 2^15 that no dtype fears."""
