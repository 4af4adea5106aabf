"""Which routes through layers and heads bring a patch to the readout? The sum in TokenTM, taken apart into its terms.

TokenTM multiplies one matrix a layer, (I + W_ffn) (I + mean_h M^h), and multiplied out this is a sum over paths: in
each layer a token stays where it is or moves from token j to token i through one head h, and a path is worth the
product of what it meets. Source of the product: Wu et al., "Token Transformation Matters", CVPR 2024; taking it apart
is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tokentm import aggregation
from tokentm.errors import InvalidOptionError
from tokentm.methods import TokenTM
from tokentm.trace import Trace

STAYED = -1
"""In place of a head: the token stayed where it was in this layer."""

_CANDIDATES = 2**24
"""Most candidate paths held at once; 64 MB in float32."""

_OF_LAYERS = 0.4
"""About the share of the time that the layers' factors take; the rest goes into the search."""


@dataclass(frozen=True, eq=False)
class Paths:
    """The strongest paths of every patch of one image, and where all of them pass.

    P patches, K paths, L layers, H heads. Values have the unit of TokenTM's scores.

    Attributes:
        tokens: where a path is before the first layer and after each layer, (P, K, L + 1).
        heads: through which head it moved in each layer, or ``STAYED``, (P, K, L).
        values: what it contributes, strongest first, (P, K); 0 fills up where there are fewer paths.
        total: contribution of each patch over all its paths, (P,): TokenTM's scores.
        through: share of the total, in its unit, that moves through each head of each layer, (P, L, H).
        stayed: what stays in each layer, (P, L). In every layer ``through.sum(-1) + stayed == total``.
    """

    tokens: Tensor
    heads: Tensor
    values: Tensor
    total: Tensor
    through: Tensor
    stayed: Tensor


class _Layer(NamedTuple):
    """One layer's factors: stay (N,), move (H, N, N) from column to row, and C before the layer, (N, N)."""

    stay: Tensor
    move: Tensor
    before: Tensor


def strongest(
    trace: Trace,
    method: TokenTM | None = None,
    index: int = 0,
    count: int = 5,
    report: Callable[[float], None] | None = None,
) -> Paths:
    """The strongest paths from every patch of one recorded image to the readout.

    All factors are non-negative, so the best continuations of a path do not depend on how it began: they are found
    from the readout down, a layer at a time.

    Args:
        method: the reading of TokenTM; None takes the default.
        index: which image of the trace.
        count: K, paths kept for each patch.
        report: hears of the share of the work done, 0 .. 1, many times; what it raises ends the work.

    Raises:
        InvalidOptionError: an index that does not exist, a count below 1, or a reading that is no sum over paths.

    Example:
        >>> paths = strongest(trace, count=3)
        >>> shares = paths.values[0] / paths.total[0]  # how much of patch 0 its three strongest paths carry
        >>> shares.shape
        torch.Size([3])
    """
    if not 0 <= index < len(trace.logits):
        raise InvalidOptionError(f"expected an index from 0 to {len(trace.logits) - 1}; got {index}.")
    if count < 1:
        raise InvalidOptionError(f"expected a count of at least 1 path; got {count}.")
    tell, method = report or (lambda share: None), method or TokenTM()
    if method.positive != "head" or method.lengths != "first":
        raise InvalidOptionError(
            f"expected a reading of TokenTM whose scores are a sum over paths, each worth a product of its layers; got "
            f"{method.name}, where heads cancel or a path is worth what it meets on its way. Take positive='head' and "
            "lengths='first'."
        )
    layers, total = _layers(trace, method, index, lambda share: tell(_OF_LAYERS * share))
    prefix = trace.layout.prefix
    readout = trace.readout[index]
    through, stayed = _passing(layers, readout)
    tokens, heads, values = _best(layers, readout, count, lambda share: tell(_OF_LAYERS + (1 - _OF_LAYERS) * share))
    start = layers[0].before.diagonal()
    return Paths(
        tokens=tokens[prefix:],
        heads=heads[prefix:],
        values=(start[:, None] * values)[prefix:],
        total=(readout @ total)[prefix:],
        through=through[prefix:],
        stayed=stayed[prefix:],
    )


def _layers(trace: Trace, method: TokenTM, index: int, report: Callable[[float], None]) -> tuple[list[_Layer], Tensor]:
    before = aggregation.initial_map(trace.embedding)[index]
    if not method.initialise:
        before = torch.eye(len(before)).to(before)
    layers: list[_Layer] = []
    for layer, step in zip(trace.layers, method.steps(trace), strict=True):
        report(len(layers) / len(trace.layers))
        move = step.head_mixing[index] / step.head_mixing.shape[1]
        ffn = torch.zeros_like(before[0]) if step.ffn_weight is None else step.ffn_weight[index]
        stay, onward = (
            torch.as_tensor(f).to(before).expand(len(before)) for f in aggregation.factors(ffn, layer.parallel)
        )
        layers.append(_Layer(stay, onward[:, None] * move, before))
        before = step.contribution[index]
    return layers, before


def _passing(layers: list[_Layer], readout: Tensor) -> tuple[Tensor, Tensor]:
    """What moves through each head and what stays, over all paths: (N, L, H), (N, L)."""
    through, stayed = [], []
    for layer in reversed(layers):
        moved = torch.einsum("i,hij->hj", readout, layer.move)
        kept = readout * layer.stay
        through.append((moved @ layer.before).T)
        stayed.append(kept @ layer.before)
        readout = kept + moved.sum(0)
    return torch.stack(through[::-1], 1), torch.stack(stayed[::-1], 1)


def _best(
    layers: list[_Layer], readout: Tensor, count: int, report: Callable[[float], None]
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (N, K, L + 1), heads (N, K, L) and values (N, K) of the best ways from each token to the readout."""
    size = len(readout)
    values = torch.zeros(size, count).to(readout)
    values[:, 0] = readout
    tokens = torch.arange(size, device=readout.device)[:, None, None].expand(size, count, 1)
    heads = tokens[..., :0]
    for done, layer in enumerate(reversed(layers)):
        at_once = max(1, _CANDIDATES // (len(layer.move) * size))
        found = []
        for first in range(0, size, at_once):
            report((done + first / size) / len(layers))
            found.append(_best_steps(layer, values, slice(first, first + at_once)))
        values, to, which, head = (torch.cat(parts) for parts in zip(*found, strict=True))
        here = torch.arange(size, device=to.device)[:, None].expand_as(to)
        heads = torch.cat((head.unsqueeze(-1), heads[to, which]), -1)
        tokens = torch.cat((here.unsqueeze(-1), tokens[to, which]), -1)
    return tokens, heads, values


def _best_steps(layer: _Layer, values: Tensor, block: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best ways on from a block of tokens j, (j, K) each: value, token gone to, which of its ways, through a head.

    Ways on from a token are in order, so a way that is among the K best begins with one of the K best moves, each
    move judged by the best way on from where it leads: K times K candidates are left of all moves times K.
    """
    size, count = values.shape
    firsts = (layer.move[:, :, block] * values[:, :1]).flatten(0, 1).T  # (j, H N), by the best way on
    moves = firsts.topk(min(count, firsts.shape[1]), dim=1).indices
    here = torch.arange(size, device=values.device)[block][:, None]
    factor = layer.move.flatten(0, 1)[moves, here]
    kept = layer.stay[block, None] * values[block]
    moved = factor.unsqueeze(-1) * values[moves % size]  # (j, moves, K)
    best = torch.cat((kept, moved.flatten(1)), 1).topk(count, dim=1)
    stays, move = best.indices < count, moves.gather(1, (best.indices - count).clamp(min=0) // count)
    to = torch.where(stays, here, move % size)
    which = torch.where(stays, best.indices, (best.indices - count) % count)
    return best.values, to, which, torch.where(stays, STAYED, move // size)
