"""Exercises of lesson 4, aggregation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tokentm.teaching.core import Exercise, Misstep, kind, same, tensor

Answer = Callable[..., Any]


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _attentions() -> Iterator[Tensor]:
    """Attention of several layers, (layers, heads, tokens, tokens): all counts different."""
    for seed, (layers, heads, tokens) in enumerate(((1, 2, 4), (2, 1, 3), (3, 2, 5), (5, 3, 4))):
        yield torch.randn(layers, heads, tokens, tokens, generator=_random(seed)).mul(2).softmax(-1)


def _rolled(rollout: Answer, attention: Tensor) -> Tensor:
    tokens = attention.shape[-1]
    return tensor(rollout(attention), (tokens, tokens), "(tokens, tokens)")


def _chain(matrices: Tensor) -> Tensor:
    """U_L ... U_1, the first layer first in ``matrices``."""
    whole = torch.eye(matrices.shape[-1], dtype=matrices.dtype)
    for matrix in matrices:
        whole = matrix @ whole
    return whole


def rows_sum_to_one(rollout: Answer) -> str | None:
    for attention in _attentions():
        layers, heads, _, _ = attention.shape
        found = _rolled(rollout, attention)
        total = found.sum(1)
        if same(total, torch.ones(len(total))):
            continue
        if same(found.sum(0), torch.ones(len(total))):
            return "your columns sum to 1, not your rows: row i says what token i is made of."
        if same(total, torch.full((len(total),), 2.0**layers)):
            return f"rows sum to {2**layers} after {layers} layer(s), 2 for each. Halve A + I."
        if heads > 1 and same(total, torch.full((len(total),), ((heads + 1) / 2) ** layers)):
            return f"rows sum to {((heads + 1) / 2) ** layers:.3g}: heads are averaged, not added."
        return f"rows must sum to 1; your first sums to {total[0]:.3g}."
    return None


def one_layer_is_half_attention_and_half_identity(rollout: Answer) -> str | None:
    for attention in _attentions():
        first, tokens = attention[:1], attention.shape[-1]
        found, mean = _rolled(rollout, first), first[0].mean(0)
        if same(found, mean):
            return "after one layer your map is the attention itself: each token also keeps itself, (A + I) / 2."
        if same(found, torch.eye(tokens)):
            return "after one layer your map is still the identity. Does your loop reach the last layer?"
        if not same(found, (mean + torch.eye(tokens)) / 2):
            return "after one layer the map must be (A + I) / 2, A the mean over the heads; yours is not."
    return None


def later_layers_multiply_from_the_left(rollout: Answer) -> str | None:
    for attention in _attentions():
        U = (attention.mean(1) + torch.eye(attention.shape[-1])) / 2
        found = _rolled(rollout, attention)
        if len(U) > 1 and same(found, _chain(U.flip(0))):
            return "the layers are in the wrong order: the newest multiplies from the left, U @ C."
        for alone in U if len(U) > 1 else ():
            if same(found, alone):
                return "your map knows one layer only: multiply all of them."
        if not same(found, _chain(U)):
            return f"one layer is right; {len(U)} layers are not. Each layer makes C of the C before: C = U @ C."
    return None


ROLLOUT = Exercise(
    properties=(
        rows_sum_to_one,
        one_layer_is_half_attention_and_half_identity,
        later_layers_multiply_from_the_left,
    ),
    right="rows sum to 1, and every layer multiplies from the left.",
    hints=(
        "begin with C = torch.eye(tokens), and go through the layers in a loop.",
        "attention[l].mean(0) is the mean over the heads of layer l.",
        "the newest layer stands on the left: U @ C, with U half of A + I.",
    ),
)


class _Layer(NamedTuple):
    """C (N, N), A and G (H, N, N), w (H, N), w_ffn (N,): what one step of the aggregation takes."""

    C: Tensor
    A: Tensor
    G: Tensor
    w: Tensor
    w_ffn: Tensor

    @property
    def tokens(self) -> int:
        return len(self.C)

    @property
    def parts(self) -> Tensor:
        """relu(G * (A w)) of each head, (H, N, N)."""
        return (self.G * self.A * self.w.unsqueeze(1)).relu()


def _layers() -> Iterator[_Layer]:
    for seed, (heads, tokens) in enumerate(((2, 4), (3, 5), (4, 3))):
        generator = _random(seed)
        yield _Layer(
            torch.rand(tokens, tokens, generator=generator),
            torch.randn(heads, tokens, tokens, generator=generator).mul(2).softmax(-1),
            torch.randn(heads, tokens, tokens, generator=generator),
            torch.rand(heads, tokens, generator=generator) + 0.1,
            torch.rand(tokens, generator=generator) + 0.1,
        )


def _stepped(aggregate: Answer, layer: _Layer) -> Tensor:
    return tensor(aggregate(*layer), (layer.tokens, layer.tokens), "(tokens, tokens)")


def a_layer_that_does_nothing_changes_nothing(aggregate: Answer) -> str | None:
    for layer in _layers():
        still = layer._replace(w=torch.zeros_like(layer.w), w_ffn=torch.zeros_like(layer.w_ffn))
        found = _stepped(aggregate, still)
        if not found.any():
            return "where all weights are 0 nothing is left of C. The residual connection keeps every token: I + ..."
        if same(found, 2 * layer.C) or same(found, 4 * layer.C):
            return "where all weights are 0, C comes out too large. Add the identity once in each U, and C nowhere."
        if not same(found, layer.C):
            return "where all weights are 0, a layer must leave C as it is; yours does not."
    return None


def the_ffn_scales_rows(aggregate: Answer) -> str | None:
    for layer in _layers():
        found = _stepped(aggregate, layer._replace(w=torch.zeros_like(layer.w)))
        factor = 1 + layer.w_ffn
        if same(found, layer.C):
            return "the FFN's weights change nothing: U_ffn = I + diag(w_ffn)."
        if same(found, layer.C * factor):
            return "the FFN transforms the tokens that are there now, the rows of C; you scale its columns."
        if not same(found, factor[:, None] * layer.C):
            return "without attention, row i of C must become (1 + w_ffn[i]) times as large; yours does not."
    return None


def attention_is_weighed_by_the_token_it_takes_from(aggregate: Answer) -> str | None:
    for layer in _layers():
        plain = layer._replace(
            C=torch.eye(layer.tokens),
            A=layer.A[:1],
            G=torch.ones_like(layer.G[:1]),
            w=layer.w[:1],
            w_ffn=torch.zeros_like(layer.w_ffn),
        )
        found, (A, w) = _stepped(aggregate, plain) - torch.eye(layer.tokens), (plain.A[0], plain.w[0])
        if same(found, A * w[:, None]):
            return "you weigh row i of A with w[i]. Token j is what was transformed: weigh column j, A[i, j] * w[j]."
        if same(found, A):
            return "the weights of the attention layer change nothing: A[i, j] * w[j]."
        if not same(found, A * w):
            return (
                "with one head, G = 1, C = I and no FFN, C must become I + A * w, column j times w[j]; yours does not."
            )
    return None


def only_what_speaks_for_the_class_counts(aggregate: Answer) -> str | None:
    for layer in _layers():
        alone = layer._replace(
            C=torch.eye(layer.tokens), A=layer.A[:1], G=layer.G[:1], w=layer.w[:1], w_ffn=torch.zeros_like(layer.w_ffn)
        )
        found, part = _stepped(aggregate, alone) - torch.eye(layer.tokens), alone.A[0] * alone.w[0]
        G = alone.G[0]
        if same(found, part):
            return "the gradient changes nothing: multiply A * w with G, then take the relu."
        if same(found, G * part):
            return "where G is below zero, your map goes below zero: take the relu of G * (A w)."
        if same(found, G.abs() * part):
            return "where G is below zero, nothing is added: relu, not the absolute value."
        if not same(found, G.relu() * part):
            return "with one head, C = I and no FFN, C must become I + relu(G * (A w)); yours does not."
    return None


def heads_speak_for_themselves(aggregate: Answer) -> str | None:
    for layer in _layers():
        heads = len(layer.A)
        several = layer._replace(C=torch.eye(layer.tokens), w_ffn=torch.zeros_like(layer.w_ffn))
        found = _stepped(aggregate, several) - torch.eye(layer.tokens)
        each, weighed = layer.parts, layer.A * layer.w.unsqueeze(1)
        early = (
            layer.G.mean(0).relu() * layer.A.mean(0) * layer.w.mean(0),
            layer.G.mean(0).relu() * weighed.mean(0),
            layer.G.relu().mean(0) * weighed.mean(0),
        )
        if same(found, each.sum(0)):
            return f"the {heads} heads are added; U takes their mean."
        if same(found, (layer.G * weighed).mean(0).relu()):
            return "the relu comes after the mean of the heads: one head's no then cancels another's yes. relu first."
        if any(same(found, wrong) for wrong in early):
            return "heads are averaged before they are multiplied. Multiply head by head; the mean comes last."
        if not same(found, each.mean(0)):
            return "with several heads, U must be I + mean over heads of relu(G * (A w)); yours is not."
    return None


def the_newest_layer_multiplies_from_the_left(aggregate: Answer) -> str | None:
    for layer in _layers():
        identity, found = torch.eye(layer.tokens), _stepped(aggregate, layer)
        attended, transformed = identity + layer.parts.mean(0), identity + layer.w_ffn.diag()
        if same(found, attended @ transformed @ layer.C):
            return "the FFN comes after attention, so it stands further left: U_ffn @ U_attn @ C."
        if same(found, (attended + transformed - identity) @ layer.C):
            return "attention and FFN are added; the FFN reads what attention has written: U_ffn @ U_attn @ C."
        if not same(found, transformed @ attended @ layer.C):
            return "each part is right alone, together they are not. C stands on the far right: U_ffn @ U_attn @ C."
    return None


AGGREGATE = Exercise(
    properties=(
        a_layer_that_does_nothing_changes_nothing,
        the_ffn_scales_rows,
        attention_is_weighed_by_the_token_it_takes_from,
        only_what_speaks_for_the_class_counts,
        heads_speak_for_themselves,
        the_newest_layer_multiplies_from_the_left,
    ),
    right="attention, weight, gradient and FFN, in the right order: this is one layer of TokenTM.",
    hints=(
        "write U_attn and U_ffn in one line each, then multiply: U_ffn @ U_attn @ C.",
        "w[:, None, :] is (heads, 1, tokens): multiplied with A it weighs the columns.",
        "U_attn is the identity and the mean over the heads, .mean(0), of the relu of three factors.",
    ),
)


class _Stack(NamedTuple):
    """Matrices of some layers, the first layer first, and the two ends of the paths."""

    U: list[Tensor]
    start: int
    end: int

    @property
    def size(self) -> int:
        return len(self.U[0])

    def every(self) -> dict[tuple[int, ...], float]:
        """All paths and their values, by the definition."""
        found = {}
        for between in product(range(self.size), repeat=len(self.U) - 1):
            path, value = (self.start, *between, self.end), 1.0
            for matrix, here, there in zip(self.U, path[:-1], path[1:], strict=True):
                value *= matrix[there, here].item()
            found[path] = value
        return found


def _stacks() -> Iterator[_Stack]:
    for seed, (layers, tokens, start, end) in enumerate(((2, 3, 2, 0), (4, 3, 1, 2), (3, 4, 3, 1), (1, 3, 2, 0))):
        yield _Stack(list(torch.rand(layers, tokens, tokens, generator=_random(seed)) + 0.1), start, end)


def _found(paths: Answer, stack: _Stack) -> dict[tuple[int, ...], float]:
    given = paths(*stack)
    if not isinstance(given, dict):
        raise Misstep(f"expected a dict, path -> value; yours is {kind(given)}.")
    wrong = f"expected every path as a tuple of tokens, such as (2, 0, 1); yours has {next(iter(given), None)!r}."
    if not all(isinstance(path, tuple) for path in given):
        raise Misstep(wrong)
    values = tensor(list(given.values()), (len(given),), "one value for each path").tolist() if given else []
    try:
        return {tuple(int(token) for token in path): value for path, value in zip(given, values, strict=True)}
    except (TypeError, ValueError):
        raise Misstep(wrong) from None


def goes_from_start_to_end(paths: Answer) -> str | None:
    for stack in _stacks():
        layers = len(stack.U)
        for path in _found(paths, stack):
            if len(path) != layers + 1:
                return (
                    f"through {layers} layer(s) a path has {layers + 1} tokens: where it starts, and where it is after "
                    f"each layer. Yours has {len(path)}: {path}."
                )
            if stack.start != stack.end and (path[0], path[-1]) == (stack.end, stack.start):
                return f"your path {path} runs from the end to the start. Begin with token {stack.start}."
            if (path[0], path[-1]) != (stack.start, stack.end):
                return f"a path must lead from token {stack.start} to token {stack.end}; yours is {path}."
    return None


def takes_every_way(paths: Answer) -> str | None:
    for stack in _stacks():
        found, wanted = _found(paths, stack), stack.every()
        if missing := sorted(set(wanted) - set(found)):
            visited = " A path may stay, or come back to where it has been." if _repeats(missing[0]) else ""
            return f"{len(found)} of {len(wanted)} paths found; {missing[0]} is missing, for one.{visited}"
        if extra := sorted(set(found) - set(wanted)):
            return f"there is no path {extra[0]}: tokens are numbered from 0 to {stack.size - 1}."
    return None


def _repeats(path: tuple[int, ...]) -> bool:
    return len(set(path)) < len(path)


def each_is_worth_the_product_of_its_steps(paths: Answer) -> str | None:
    for stack in _stacks():
        found, wanted = _found(paths, stack), stack.every()
        if _agree(found, wanted):
            continue
        if _agree(found, stack._replace(U=[matrix.T for matrix in stack.U]).every()):
            return "a step is read from the wrong side: U[to, from] is what goes from one token to the next."
        if _agree(found, stack._replace(U=stack.U[::-1]).every()):
            return "the first step belongs to the first layer, U[0]; yours takes the last layer first."
        path = next(iter(wanted))
        return (
            f"a path is worth the product of its steps, one from each layer: {path} is worth {wanted[path]:.4f}; you "
            f"say {found[path]:.4f}."
        )
    return None


def _agree(found: dict[tuple[int, ...], float], wanted: dict[tuple[int, ...], float]) -> bool:
    return all(abs(found[path] - value) <= 1e-4 * value for path, value in wanted.items())


PATHS = Exercise(
    properties=(
        goes_from_start_to_end,
        takes_every_way,
        each_is_worth_the_product_of_its_steps,
    ),
    right="every path is there, and together they are the product of the layers.",
    hints=(
        "start and end are given. How many tokens lie between them, and which values may each of them take?",
        "itertools.product(range(n), repeat=k) gives all tuples of k numbers from 0 to n - 1.",
        "a step from token a to token b through layer l is U[l][b, a]. Multiply the steps of a path.",
    ),
)
