"""What a method says that parts of a model contribute, and how well that predicts what their removal costs.

claims(trace, interventions), Interventions.effects --agreement--> Agreement
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tokentm import aggregation
from tokentm.errors import InvalidOptionError
from tokentm.explanation import Explanation
from tokentm.intervene import Activation, Attention, Edge, Ffn, Intervention, Patches, check_interventions
from tokentm.isolation import isolated
from tokentm.methods import TokenTM
from tokentm.trace import Trace

RESAMPLES = 2000
"""How many samples the bootstrap of :func:`agreement` draws."""

_HELD = 2**22
"""How many resampled numbers are held at once."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """How well claims rank effects: Spearman's correlation, -1 .. 1, and its 95 % bootstrap interval.

    Attributes:
        mean: over the pictures.
        low, high: the interval.
        each: the correlation in each picture, (B,).
        resampled: what the bootstrap draws again: "pictures" where there are several; of one picture its
            "interventions", and the interval then is about this picture alone.
    """

    mean: float
    low: float
    high: float
    each: Tensor = field(repr=False)
    resampled: Literal["pictures", "interventions"]


def claims(source: Trace | Explanation, interventions: Sequence[Intervention]) -> Tensor:
    """What a method says that each part contributes, (B, K), in the unit of its scores.

    Of an explanation by any method: the scores of :class:`Patches`, added up. Of a record, by TokenTM in its default
    reading, of every intervention: what the sum of its map over all patches loses when the part is struck out of the
    product of layers,

        Edge         r_q u_q M^h_qk c_k / H        Head, Attention    summed over all looks of the head, of all heads
        Ffn          sum_i r_i w_i (c + M c)_i     without M c in a parallel block
        Activation   r_k c_k                       Patches            the same at the patch's token, as it enters

    with M^h = relu(G^h * A^h W^h), M its mean over heads, u = 1 + w (1 in a parallel block), r the readout multiplied
    down to this layer, and c_k what token k holds of all patches below it.

    Raises:
        InvalidOptionError: neither a record nor an explanation, a part that there is not, or, of an explanation, a part
            that is no patch: a map says nothing about it.

    Example:
        >>> claims(trace, [Head(3, 0), Ffn(7), Patches(12)]).shape
        torch.Size([1, 3])
        >>> claims(tokentm.explain(model, images, method="rollout"), [Patches(12), Patches((12, 13))]).shape
        torch.Size([1, 2])

    Source: the product is that of Wu et al., CVPR 2024; what a part of it carries is ours, as in
    :mod:`tokentm.paths`.
    """
    if isinstance(source, Trace):
        check_interventions(source, interventions)
        return isolated(lambda: _of_record(source, interventions))
    if not isinstance(source, Explanation):
        raise InvalidOptionError(
            f"expected a record or an explanation, whose claims are asked for; got {type(source).__name__}."
        )
    if not interventions:
        raise InvalidOptionError("expected at least one intervention; got none.")
    return torch.stack([_of_map(source, one) for one in interventions], 1)


def _of_map(source: Explanation, one: Intervention) -> Tensor:
    """(B,)."""
    if not isinstance(one, Patches):
        raise InvalidOptionError(
            f"expected Patches for the claims of a map; it says nothing of {one}. TokenTM's claim of every part: "
            "claims(trace, interventions)."
        )
    patches = source.scores.shape[1]
    wrong = [index for index in one.indices if not 0 <= index < patches]
    if wrong:
        raise InvalidOptionError(f"expected patches from 0 to {patches - 1}; got {wrong}.")
    return source.scores[:, list(one.indices)].sum(1)


def _of_record(source: Trace, interventions: Sequence[Intervention]) -> Tensor:
    flows = _flows(source)
    return torch.stack([_claim(source, flows, one) for one in interventions], 1)


class _Flow(NamedTuple):
    """One layer of TokenTM's product, between what comes from below and what the readout takes from above.

    moved: r_q u_q M^h_qk c_k / H, (B, H, N, N). ffn: r_i w_i (c + M c)_i, (B, N). enters: r_k c_k, (B, N), with the r
    that has passed the layer.
    """

    moved: Tensor
    ffn: Tensor
    enters: Tensor


@torch.no_grad()
def _flows(trace: Trace) -> list[_Flow]:
    method, prefix = TokenTM(), trace.layout.prefix
    layers, below = [], [torch.linalg.vector_norm(trace.embedding, dim=-1)]
    below[0][:, :prefix] = 0
    for layer in trace.layers:
        weights = method.weights(layer)
        heads = method.head_mixing(layer, weights.attention)
        heads = heads / heads.shape[1]
        layers.append((heads, weights.ffn, layer.parallel))
        held = below[-1].unsqueeze(-1)
        below.append(aggregation.aggregate(held, heads.sum(1), weights.ffn, layer.parallel).squeeze(-1))
    row, flows = trace.readout, []
    for (heads, ffn, parallel), held in zip(reversed(layers), reversed(below[:-1]), strict=True):
        mixing = heads.sum(1)
        _, onward = aggregation.factors(ffn, parallel)
        moved = (row * onward)[:, None, :, None] * heads * held[:, None, None, :]
        read = held if parallel else held + (mixing @ held.unsqueeze(-1)).squeeze(-1)
        added = torch.zeros_like(row) if ffn is None else row * ffn * read
        row = aggregation.descend(row, lambda r, m=mixing: (r.unsqueeze(1) @ m).squeeze(1), ffn, parallel)  # type: ignore[misc]
        flows.append(_Flow(moved, added, row * held))
    return flows[::-1]


def _claim(trace: Trace, flows: Sequence[_Flow], one: Intervention) -> Tensor:
    """(B,)."""
    if isinstance(one, Patches):
        return flows[0].enters[:, [trace.layout.prefix + index for index in one.indices]].sum(1)
    flow = flows[one.layer]
    if isinstance(one, Activation):
        return flow.enters[:, one.token]
    if isinstance(one, Ffn):
        return flow.ffn.sum(1)
    if isinstance(one, Attention):
        return flow.moved.sum((1, 2, 3))
    moved = flow.moved[:, one.head]
    return moved[:, one.query, one.key] if isinstance(one, Edge) else moved.sum((1, 2))


def agreement(effects: Tensor, claimed: Tensor, seed: int = 0) -> Agreement:
    """How well claims predict effects: Spearman's rank correlation in each picture, its mean, and a bootstrap interval.

    Equal values share the mean of their ranks. A picture in which all claims, or all effects, are equal ranks nothing
    and counts as 0.

    Args:
        effects: ``Interventions.effects``, (B, K).
        claimed: what was claimed of the same interventions, (B, K), see :func:`claims`.
        seed: of the bootstrap, which draws :data:`RESAMPLES` samples and takes the 2.5 % and 97.5 % quantiles: of
            pictures, or where there is one, of its interventions.

    Raises:
        InvalidOptionError: not two tensors (B, K) of finite numbers, or fewer than two interventions.

    Example:
        >>> from tokentm.intervene import intervene
        >>> heads = [Head(layer, head) for layer in range(8) for head in range(4)]
        >>> found = agreement(intervene(trace, heads).effects, claims(trace, heads))
        >>> round(agreement(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 30.0, 20.0]])).mean, 3)
        0.5
    """
    for given in (effects, claimed):
        if not isinstance(given, Tensor) or given.ndim != 2 or given.shape != effects.shape or given.shape[1] < 2:
            found = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise InvalidOptionError(
                f"expected effects and claims (images, interventions), of two or more interventions; got {found}."
            )
        if not torch.isfinite(given).all():
            raise InvalidOptionError("expected finite effects and claims; NaN and infinity have no rank.")
    first, second = effects.detach().double().cpu(), claimed.detach().double().cpu()
    each = spearman(first, second)
    generator = torch.Generator().manual_seed(seed)
    count, items = each.shape[0], first.shape[1]
    if count > 1:
        drawn = each[torch.randint(count, (RESAMPLES, count), generator=generator)].mean(1)
    else:
        parts = []
        for rows in torch.arange(RESAMPLES).split(max(1, _HELD // items)):
            chosen = torch.randint(items, (len(rows), items), generator=generator)
            parts.append(spearman(first[0][chosen], second[0][chosen]))
        drawn = torch.cat(parts)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    return Agreement(float(each.mean()), low, high, each, "pictures" if count > 1 else "interventions")


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation of rows, (B, K), (B, K) -> (B,); equal values share a rank; 0 where a row ranks nothing.

    Example:
        >>> spearman(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[10.0, 30.0, 20.0]]))
        tensor([0.5000], dtype=torch.float64)
    """
    one, other = (ranks - ranks.mean(1, keepdim=True) for ranks in map(_ranks, (first, second)))
    scale = torch.linalg.vector_norm(one, dim=1) * torch.linalg.vector_norm(other, dim=1)
    return torch.where(scale > 0, (one * other).sum(1) / scale.clamp(min=1e-300), 0.0)


def _ranks(values: Tensor) -> Tensor:
    """Twice the mean rank of each value in its row, up to a constant."""
    values = values.contiguous()
    ordered = values.sort(1).values
    below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (below + up_to).double()
