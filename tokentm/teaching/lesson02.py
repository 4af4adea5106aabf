"""Exercises of lesson 2, what attention leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import tokentm
from tokentm.teaching.core import Exercise, attempt, kind, same, tensor

Answer = Callable[..., Any]


class _Layer(NamedTuple):
    """One layer's attention (H, N, N), values (H, N, d) and output matrix (D, H d), and a token i of it."""

    attention: Tensor
    value: Tensor
    matrix: Tensor
    token: int

    @property
    def shape(self) -> tuple[int, int, int]:
        heads, tokens, _ = self.value.shape
        return heads, tokens, self.matrix.shape[0]

    @property
    def transformed(self) -> Tensor:
        """f^h(x_j), (H, N, D)."""
        heads, _, width = self.value.shape
        return torch.einsum("hjd,Dhd->hjD", self.value, self.matrix.unflatten(1, (heads, width)))


def _layers() -> Iterator[_Layer]:
    """Heads, tokens, head width, width: all different, also D other than H d; strides as they come out of a model."""
    for seed, (heads, tokens, narrow, width) in enumerate(((2, 5, 4, 8), (3, 7, 4, 10), (1, 6, 3, 5), (4, 9, 2, 8))):
        generator = torch.Generator().manual_seed(seed)
        attention = torch.randn(heads, tokens, tokens, generator=generator).mul(2).softmax(-1)
        value = torch.randn(tokens, heads, narrow, generator=generator).transpose(0, 1)  # not contiguous
        yield _Layer(attention, value, torch.randn(heads * narrow, width, generator=generator).T, seed + 1)


def _parts(parts: Answer, layer: _Layer) -> Tensor:
    return tensor(parts(*layer), layer.shape, "(heads, tokens, width)")


def has_a_part_for_every_head_and_token(parts: Answer) -> str | None:
    for layer in _layers():
        found, (heads, tokens, width) = parts(*layer), layer.shape
        narrow = layer.value.shape[2]
        shape = tuple(getattr(found, "shape", ()))
        if shape == (tokens, width) and heads > 1:
            return "the heads are summed up already; keep them apart, (heads, tokens, width)."
        if shape == (heads, width):
            return "the tokens are summed up already; keep one part for each token j, (heads, tokens, width)."
        if shape == (heads, tokens, narrow) and narrow != width:
            return f"these parts are {narrow} wide, still inside the head. Bring them to the stream with W_O's columns."
        tensor(found, layer.shape, "(heads, tokens, width)")
    return None


def reads_the_row_of_its_token(parts: Answer) -> str | None:
    for layer in _layers():
        i, j = layer.token, 0
        row, column = layer.attention.clone(), layer.attention.clone()
        row[:, i, j] = 0
        column[:, j, i] = 0
        if _parts(parts, layer._replace(attention=row))[:, j].any():
            if not _parts(parts, layer._replace(attention=column))[:, j].any():
                return "it reads column i of the attention. What token i takes from token j is in row i: A[h, i, j]."
            return "a token that gets no attention must add nothing; yours adds something. Multiply with A[h, i, j]."
    return None


def follows_its_own_value(parts: Answer) -> str | None:
    for layer in _layers():
        value = layer.value.clone()
        value[:, 0] *= 2
        expected = _parts(parts, layer)
        expected[:, 0] *= 2
        if not same(_parts(parts, layer._replace(value=value)), expected):
            return (
                "doubling the values of one token must double that token's parts and leave all others alone; yours "
                "does not. Use each value as it is, without mean or normalisation."
            )
    return None


def sums_to_the_update(parts: Answer) -> str | None:
    for layer in _layers():
        found = _parts(parts, layer).sum((0, 1))
        weighed = layer.attention[:, layer.token].unsqueeze(-1) * layer.transformed
        if len(weighed) > 1 and same(found * len(weighed), weighed.sum((0, 1))):
            return f"all parts together give 1/{len(weighed)} of the update: heads are added, not averaged."
        if not same(found, weighed.sum((0, 1))):
            return (
                "all parts together must give what the layer adds to token i, W_O times the heads side by side; yours "
                "do not. Columns h * d to (h + 1) * d of W_O belong to head h."
            )
    return None


def gives_every_head_its_own_columns(parts: Answer) -> str | None:
    for layer in _layers():
        weighed = layer.attention[:, layer.token].unsqueeze(-1) * layer.transformed
        if not same(_parts(parts, layer), weighed):
            return "the sum is right, but not every part is where it belongs: part [h, j] is head h, token j."
    return None


PARTS = Exercise(
    properties=(
        has_a_part_for_every_head_and_token,
        reads_the_row_of_its_token,
        follows_its_own_value,
        sums_to_the_update,
        gives_every_head_its_own_columns,
    ),
    right="every head's and token's part is apart, and together they are the update.",
    hints=(
        "one part is a number times a vector: attention[h, i, j] times W_O^h v_j.",
        "W_O.unflatten(1, (heads, d)) has the shape (width, heads, d): one matrix for each head.",
        'torch.einsum("hjd,Dhd->hjD", value, ...) takes every value of every head to the stream. Row i comes on top.',
    ),
)

_TOLERANCE = 1e-5


def _pictures(demo: tokentm.demo.Demo, count: int) -> Tensor:
    return torch.stack([demo.transform(demo.scene(3000 + seed).image) for seed in range(count)])


def returns_another_model(twin: Answer) -> str | None:
    model = tokentm.load_demo().model
    copied = twin(model)
    if not isinstance(copied, nn.Module):
        return f"expected a model; yours is {kind(copied)}."
    if copied is model:
        return "that is the same model: change and return copy.deepcopy(model)."
    return None


def changes_what_attention_carries_and_nothing_else(twin: Answer) -> str | None:
    model = tokentm.load_demo().model
    one, other = model.state_dict(), twin(model).state_dict()
    if missing := [name for name in one if name not in other or one[name].shape != other[name].shape]:
        return f"your model has no {missing[0]}, or one of another shape. Change numbers, not parts."
    changed = [name for name in one if not torch.equal(one[name], other[name])]
    # the bias of W_O is added whatever is attended to: no token carries it
    outside = [name for name in changed if ".attn." not in name or name.endswith("attn.proj.bias")]
    if outside:
        return f"{outside[0]} differs too. Leave it: only what attention carries may change, values or W_O."
    if not changed:
        return (
            "the copy is the same in every weight. Change weights, those of the values or W_O in one layer: "
            "a hook changes only what passes between them."
        )
    return None


def attends_the_same_everywhere(twin: Answer) -> str | None:
    demo = tokentm.load_demo()
    images = _pictures(demo, 2)
    one, other = (
        tokentm.record(demo.model, images),
        attempt("the model you return", tokentm.record, twin(demo.model), images),
    )
    for number, (mine, yours) in enumerate(zip(one.layers, other.layers, strict=True), 1):
        if not same(yours.attention.double(), mine.attention, _TOLERANCE):
            if same(yours.stream.double(), mine.stream, _TOLERANCE):
                return f"the attention of layer {number} differs: leave its queries, its keys and its norm alone."
            return (
                f"the attention of layer {number} differs, because a layer below adds something else to the stream, "
                "and queries and keys read the stream. Above which layer is there no attention?"
            )
    return None


def answers_differently(twin: Answer) -> str | None:
    demo = tokentm.load_demo()
    images, copied = _pictures(demo, 16), twin(demo.model)
    with torch.inference_mode():
        one, other = demo.model(images).argmax(1), copied(images).argmax(1)
    if torch.equal(one, other):
        return f"all {len(images)} test pictures keep their class. Make the change larger: multiply W_O by 5, say."
    return None


TWIN = Exercise(
    properties=(
        returns_another_model,
        changes_what_attention_carries_and_nothing_else,
        attends_the_same_everywhere,
        answers_differently,
    ),
    right="two models, one attention, two answers. No attention map can tell them apart.",
    hints=(
        "begin with copy.deepcopy(model). Which weights of a block does its attention not depend on?",
        "attention above a change sees the change. In which layer is nothing above?",
        "multiply the weight of model.blocks[-1].attn.proj with some number, inside torch.no_grad().",
    ),
)
