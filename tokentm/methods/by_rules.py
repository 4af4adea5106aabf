"""What a set of rules hands down from the explained score: to the tokens that enter blocks, and to attention.

Not a method: what several of them share. The rules are those of :mod:`tokentm.relevance.gradients`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokentm.errors import UnsupportedModelError
from tokentm.hooks import recording
from tokentm.passes import Passes
from tokentm.relevance import Added, RelevancePropagation, Rules
from tokentm.trace import Trace


@dataclass(frozen=True, eq=False)
class _Again:
    """The recorded model, run once more under rules."""

    passes: Passes
    score: Tensor
    added: list[Added]


def _run(trace: Trace, rules: Rules, keeps_added: bool = False) -> _Again:
    anatomy, images = trace.check_model(), trace.images
    if keeps_added and len(images) == trace.layout.tokens:
        images = torch.cat((images, images[:1]))  # one more, so that the axis of images is told by its length
    # entered first: it then sees what the recording made of every attention call
    with (
        RelevancePropagation(anatomy.name, rules, keeps_added) as backward,
        recording(anatomy, graph_from="stream") as passes,
    ):
        logits = anatomy.answer(images)
    return _Again(passes, trace.score(logits[: len(trace.images)]).sum(), backward.added)


def _handed_down(trace: Trace, rules: Rules, score: Tensor, nodes: Sequence[Tensor]) -> list[Tensor]:
    """The gradient at every node; the first of them must be reached."""
    found = torch.autograd.grad(score, nodes, allow_unused=True) if score.requires_grad else (None,)
    if found[0] is None:
        name = "the model" if trace.anatomy is None else trace.anatomy.name
        raise UnsupportedModelError(
            f"{name}: expected what {rules.name} hands down from the score to reach the first block, found that all of "
            "it ends on the way, at something that counts as a constant. Take another method."
        )
    return [torch.zeros_like(node) if g is None else g for node, g in zip(nodes, found, strict=True)]


def at_first_tokens(trace: Trace, rules: Rules) -> Tensor:
    """Relevance of the tokens that enter the first block: sum over width of x * G, patches only, (B, P).

    Raises:
        UnsupportedModelError: the model does something that has no rule.
        ModelChangedError: the model is not what was recorded.
    """
    again = _run(trace, rules)
    first = again.passes.blocks[0].stream
    return _worth(trace, first, _handed_down(trace, rules, again.score, [first])[0])


def at_all_tokens(trace: Trace, rules: Rules) -> tuple[Tensor, Tensor]:
    """Relevance of the tokens that enter each block, and of what is added to tokens in and after the blocks.

    Returns:
        (B, L, P), a map per block; and (B, P), the sum of b * G over width and over all constants b that a function
        adds to the tokens, such as biases of linear maps and norms. What is added to anything else, such as a pooled
        vector, belongs to no token.
    """
    again = _run(trace, rules, keeps_added=True)
    streams = [block.stream for block in again.passes.blocks]
    reached = _handed_down(trace, rules, again.score, [*streams, *(one.made for one in again.added)])
    maps = [_worth(trace, x, g) for x, g in zip(streams, reached, strict=False)]
    total = torch.zeros_like(maps[0])
    for one, gradient in zip(again.added, reached[len(streams) :], strict=True):
        total += _of_tokens(trace, one.bias * gradient, len(total))
    count = len(trace.images)
    return torch.stack(maps, dim=1)[:count], total[:count]


def at_attention(trace: Trace, rules: Rules) -> list[Tensor]:
    """The gradient at the attention of every layer, (B, H, N, N) each."""
    again = _run(trace, rules)
    return _handed_down(trace, rules, again.score, [block.attention[0] for block in again.passes.blocks])


def _worth(trace: Trace, tokens: Tensor, gradient: Tensor) -> Tensor:
    return (tokens.detach() * gradient).sum(-1)[:, trace.layout.prefix :]


def _of_tokens(trace: Trace, relevance: Tensor, batch: int) -> Tensor | float:
    """Sums over width, (B, P), of what is in the order (B, N, D) or (N, B, D), or of patches alone; else nothing."""
    tokens, prefix = trace.layout.tokens, trace.layout.prefix
    if relevance.ndim != 3:
        return 0.0
    of_token = relevance.sum(-1)
    if len(of_token) != batch:
        of_token = of_token.T
    if of_token.shape == (batch, tokens):
        return of_token[:, prefix:]
    return of_token if of_token.shape == (batch, tokens - prefix) else 0.0
