"""Exercises of lesson 5, TokenTM on a real ViT."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

import tokentm
from tokentm.teaching.core import Exercise, same, tensor
from tokentm.teaching.fresh import small_images, small_vit
from tokentm.teaching.watch import borrowed

Answer = Callable[..., Any]

_EXACT = 1e-5
_TARGETS = (0, 3, 1)


def _records() -> Iterator[tokentm.Trace]:
    """Two models with three pictures each; and the second as if it had two more prefix tokens and averaged patches."""
    trace = None
    for seed in (0, 1):
        trace = tokentm.record(small_vit(seed), small_images(seed, 3), _TARGETS)
        yield trace
    if trace is not None:
        layout = replace(trace.layout, prefix=3, rows=2, columns=2)
        readout = torch.tensor([0.0, 0.0, 0.0, 0.25, 0.25, 0.25, 0.25]).expand_as(trace.readout)
        yield replace(trace, layout=layout, readout=readout)


@cache
def _demo_record() -> tokentm.Trace:
    demo = tokentm.load_demo()
    return tokentm.record(demo.model, demo.transform(demo.scene(4000, ["dog", "hat"]).image)[None])


def _map(my_tokentm: Answer, trace: tokentm.Trace) -> Tensor:
    patches = trace.layout.rows * trace.layout.columns
    return tensor(my_tokentm(trace), (len(trace.logits), patches), "(images, patches)")


def gives_a_number_for_every_patch(my_tokentm: Answer) -> str | None:
    for trace in _records():
        shape = tuple(getattr(my_tokentm(trace), "shape", ()))
        batch, tokens, prefix = len(trace.logits), trace.layout.tokens, trace.layout.prefix
        if shape == (batch, tokens):
            return "there is a number for every token; take off the prefix: [:, trace.layout.prefix :]."
        if shape == (batch, tokens, tokens):
            return "this is the whole contribution map. Read it: the readout says how much of each row to take."
        if shape == (batch, tokens - 1) and prefix != 1:
            return f"this record has {prefix} prefix tokens, not 1: take off trace.layout.prefix of them."
        if shape == (tokens - prefix,):
            return f"the record holds {batch} images; yours is the map of one. Keep the first axis throughout."
        _map(my_tokentm, trace)
    return None


def leaves_the_record_alone(my_tokentm: Answer) -> str | None:
    trace = next(_records())
    before = {name: kept.clone() for name, kept in _recorded(trace)}
    my_tokentm(trace)
    for name, kept in _recorded(trace):
        if not torch.equal(kept, before[name]):
            return f"your function changed the record: {name}. Make new tensors; C = C + M @ C, not C += M @ C."
    return None


def _recorded(trace: tokentm.Trace) -> Iterator[tuple[str, Tensor]]:
    yield "trace.readout", trace.readout
    for number, layer in enumerate(trace.layers):
        yield from (
            (f"trace.layers[{number}].{n}", kept) for n, kept in vars(layer).items() if isinstance(kept, Tensor)
        )


def asks_for_the_class(my_tokentm: Answer) -> str | None:
    model, images = small_vit(2), small_images(2, 1)
    one, other = (_map(my_tokentm, tokentm.record(model, images, target)) for target in (0, 3))
    if same(one, other, _EXACT):
        return "the same picture gives the same map for two classes. Multiply with the gradient before relu."
    return None


def treats_every_image_alone(my_tokentm: Answer) -> str | None:
    model, images = small_vit(0), small_images(0, 3)
    together = _map(my_tokentm, tokentm.record(model, images, _TARGETS))
    alone = [_map(my_tokentm, tokentm.record(model, images[i : i + 1], _TARGETS[i])) for i in range(3)]
    if not same(together, torch.cat(alone), 1e-3):  # two records of one picture agree less well than their readings
        return "an image gets another map when others are in the batch. Sum and average over heads and tokens only."
    return None


class _Parts(NamedTuple):
    """One layer: A, G (B, H, N, N), the weights of its tokens W (B, H, N) and g (B, N, 1), and relu(G * (A W))."""

    attention: Tensor
    gradient: Tensor
    weight: Tensor
    ffn: Tensor
    heads: Tensor

    @property
    def mixing(self) -> Tensor:
        return self.heads.mean(1)


def _parts(trace: tokentm.Trace) -> Iterator[_Parts]:
    for layer, step in zip(trace.layers, tokentm.TokenTM().steps(trace), strict=True):
        ffn = torch.zeros(()) if step.ffn_weight is None else step.ffn_weight.unsqueeze(-1)
        yield _Parts(layer.attention, layer.gradient, step.weight, ffn, step.head_mixing)


_Chain = Callable[[Tensor, _Parts], Tensor]


def _with(mixing: Callable[[_Parts], Tensor]) -> _Chain:
    """A layer with another mixing, else as it should be."""
    return lambda C, parts: (1 + parts.ffn) * (C + mixing(parts) @ C)


# what a layer may do instead -> by what that is known
_CHAINS: Mapping[str, _Chain] = {
    "heads are averaged, not added: mean over heads.": _with(lambda p: p.heads.sum(1)),
    "relu is missing: what speaks against the class does not count, head by head, before their mean.": _with(
        lambda p: (p.gradient * p.attention * p.weight.unsqueeze(-2)).mean(1)
    ),
    "relu comes before the mean over heads: heads that disagree must not cancel.": _with(
        lambda p: (p.gradient * p.attention * p.weight.unsqueeze(-2)).mean(1).relu()
    ),
    "the weight belongs to the token that is taken: W multiplies columns of the attention, A[..., i, j] * W[..., j].": (
        _with(lambda p: (p.gradient * p.attention * p.weight.unsqueeze(-1)).relu().mean(1))
    ),
    "a token also keeps what it had: the attention's step is I + mixing, C + mixing @ C.": (
        lambda C, p: (1 + p.ffn) * (p.mixing @ C)
    ),
    "a token also keeps what it had: the FFN's step is I + W, not W alone.": lambda C, p: p.ffn * (C + p.mixing @ C),
    "attention comes before the FFN: C = U_ffn U_attn C.": lambda C, p: (1 + p.ffn) * C + p.mixing @ ((1 + p.ffn) * C),
    "each layer multiplies from the left, U_ffn U_attn C: it reads what the layers below have mixed.": (
        lambda C, p: (C + C @ p.mixing) * (1 + p.ffn.mT)
    ),
}

# a part or a reading of the method -> by what its absence is known
_READINGS: Mapping[str, tokentm.TokenTM] = {
    "C_0 is the diagonal of the token lengths, L(E^0), not the identity.": tokentm.TokenTM(initialise=False),
    "the FFN's step is missing.": tokentm.TokenTM(ffn=False),
    "the change of length is missing in the weight.": tokentm.TokenTM(length=False),
    "the direction, NECC, is missing in the weight.": tokentm.TokenTM(direction=False),
    "this is the reading normaliser='mean'. Wanted is 'sum': NECC over all tokens sums to 1.": tokentm.TokenTM(
        normaliser="mean"
    ),
    "this is the reading transformed='sum'. Wanted is 'head': every head has transformed tokens of its own.": (
        tokentm.TokenTM(transformed="sum")
    ),
    "this is the reading transformed='stream'. Wanted is what the sublayer adds, f(x) and g(x').": tokentm.TokenTM(
        transformed="stream"
    ),
    "this is the reading reference='normed'. Wanted is E from the stream, before the norm.": tokentm.TokenTM(
        reference="normed"
    ),
    "this is the reading head_mean='before'. Multiply gradient and A W head by head, then average.": tokentm.TokenTM(
        head_mean="before"
    ),
}


def _read(trace: tokentm.Trace, contribution: Tensor, readout: Tensor) -> Tensor:
    return torch.einsum("bn,bnm->bm", readout, contribution)[:, trace.layout.prefix :]


def _folded(trace: tokentm.Trace, chain: _Chain, backwards: bool = False) -> Tensor:
    contribution = torch.linalg.vector_norm(trace.embedding, dim=-1).diag_embed()
    parts = list(_parts(trace))
    for layer in reversed(parts) if backwards else parts:
        contribution = chain(contribution, layer)
    return _read(trace, contribution, trace.readout)


def equals_the_library(my_tokentm: Answer) -> str | None:
    for trace in (*_records(), _demo_record()):
        found, wanted = _map(my_tokentm, trace), tokentm.TokenTM()(trace).scores
        if same(found, wanted, _EXACT):
            continue
        *_, last = tokentm.TokenTM().steps(trace)
        row, column = last.contribution[:, 0], last.contribution[:, :, 0]
        if same(found, column[:, trace.layout.prefix :], _EXACT):
            return "it reads a column of the map. What the class token takes stands in its row, C[:, 0]."
        if same(found, row[:, trace.layout.prefix :], _EXACT):
            return "it reads row 0. Not every model reads out a class token: weigh the rows with trace.readout."
        for words, method in _READINGS.items():
            if same(found, method(trace).scores, _EXACT):
                return words
        for words, chain in _CHAINS.items():
            if same(found, _folded(trace, chain), _EXACT):
                return words
        if same(found, _folded(trace, _with(lambda p: p.mixing), backwards=True), _EXACT):
            return "the layers are in the wrong order: begin with trace.layers[0], which reads the embedding."
        off = float((found - wanted).abs().max() / wanted.abs().max())
        return (
            f"off by {off:.2g} of the largest score, on a model of {len(trace.layers)} layers. Compare layer by layer: "
            "next(tokentm.TokenTM().steps(trace)) holds weight, ffn_weight, mixing and contribution of the first."
        )
    return None


def is_written_by_hand(my_tokentm: Answer) -> str | None:
    if names := borrowed(("transformation", "aggregation", "methods", "paths"), my_tokentm, next(_records())):
        module = names[0].rpartition(".")[0]
        return f"right, but it is {module} that computes it. To write that is the task: take the record, and torch."
    return None


MY_TOKENTM = Exercise(
    properties=(
        gives_a_number_for_every_patch,
        leaves_the_record_alone,
        asks_for_the_class,
        treats_every_image_alone,
        equals_the_library,
        is_written_by_hand,
    ),
    right="your TokenTM equals the library's to 1e-5, on this model and on others, on pictures it had never seen.",
    hints=(
        "begin with C = torch.diag_embed(trace.embedding.norm(dim=-1)), and go through trace.layers from the first.",
        "sections 2 and 3 have the weight and the mixing of one layer; then C = C + mixing @ C, and the same for the "
        "FFN, whose weight is a diagonal: W_ffn[..., None] * C.",
        'at the end torch.einsum("bn,bnm->bm", trace.readout, C) takes the rows that are read out; cut off the prefix.',
    ),
)


_WANTED, _OTHER, _THIRD = 1, 4, 2


def _signed(signed: Answer, model: Any, images: Tensor, wanted: int = _WANTED, other: int = _OTHER) -> Tensor:
    return tensor(signed(model, images, wanted, other), (len(images), 6), "(images, patches)")


def _asked(model: Any, images: Tensor, wanted: int, other: int | None = None) -> Tensor:
    if other is None:
        return tokentm.explain(model, images, wanted).scores.double()
    return tokentm.explain(model, images, lambda z: z[:, wanted] - z[:, other]).scores.double()


def has_a_sign_for_every_patch(signed: Answer) -> str | None:
    model, images = small_vit(4), small_images(4)
    found = signed(model, images, _WANTED, _OTHER)
    if isinstance(found, tokentm.Explanation):
        return "that is an Explanation; take its scores."
    tensor(found, (2, 6), "(images, patches)")
    return None


def turns_round_with_the_question(signed: Answer) -> str | None:
    for seed in (4, 5):
        model, images = small_vit(seed), small_images(seed)
        found, turned = (_signed(signed, model, images, *pair) for pair in ((_WANTED, _OTHER), (_OTHER, _WANTED)))
        if not same(-turned, found, _EXACT):
            if (found >= 0).all():
                return (
                    "nothing is below zero: that is one question. Take off the map of the other, why `other` rather "
                    "than `wanted`."
                )
            return "with `wanted` and `other` exchanged, every sign must turn and no size may change; yours differ."
    return None


def knows_no_third_class(signed: Answer) -> str | None:
    model, images = small_vit(4), small_images(4)
    before = _signed(signed, model, images)
    model.state_dict()["head.bias"][_THIRD] += 3
    if not same(_signed(signed, model, images), before, _EXACT):
        return (
            "raising the logit of a third class changes your map, yet the question is about two. Subtract logits, not "
            "probabilities: the softmax holds all classes."
        )
    return None


def is_the_difference_of_the_two_questions(signed: Answer) -> str | None:
    for seed in (4, 5):
        model, images = small_vit(seed), small_images(seed)
        found = _signed(signed, model, images)
        wanted = _asked(model, images, _WANTED, _OTHER) - _asked(model, images, _OTHER, _WANTED)
        if same(found, wanted, _EXACT):
            continue
        if same(-found, wanted, _EXACT):
            return "the signs are the wrong way round: what speaks for `wanted` is positive."
        if same(found, _asked(model, images, _WANTED) - _asked(model, images, _OTHER), _EXACT):
            return (
                "that is the difference of two maps, each of one class. Give explain the difference of logits: a map "
                "keeps what speaks for its score, and that is another thing for a difference."
            )
        return (
            "wanted: the map of logit `wanted` minus logit `other`, minus the map of the same with both exchanged, as "
            "they come, without scaling."
        )
    return None


SIGNED = Exercise(
    properties=(
        has_a_sign_for_every_patch,
        turns_round_with_the_question,
        knows_no_third_class,
        is_the_difference_of_the_two_questions,
    ),
    right="one map for two questions: positive for the one class, negative for the other, and no third one matters.",
    hints=(
        "two questions, two maps: why `wanted` rather than `other`, and why `other` rather than `wanted`?",
        "a target may be a function: target=lambda logits: logits[:, wanted] - logits[:, other].",
    ),
)
