"""The stream read through the model's own head: what it says of any token after any layer, and who wrote what it reads.

    lens       z_l,n = head(every token is x^l_n)           x^l_n: token n after l layers; l = 0 is the embedding

    attribute  score = sum_n G_n . x^L_n + c                G: the slope of the head, its norms held as they were
               x^L_n = x^0_n + sum_l [ sum_h s_n P_h sum_j A^h_nj v^h_j + b_n + g_n ]

The second line puts the third into the sum: each head, FFN, bias and token of the embedding gets its own part. See
:class:`tokentm.blocks.BlockTrace` for s, P, v, b and g.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tokentm.closeness import relative_error
from tokentm.errors import InvalidOptionError, InvalidTargetError, UnsupportedModelError
from tokentm.hooks import classify, running
from tokentm.isolation import checkpoint, isolated
from tokentm.outputs import Meaning, probabilities, same
from tokentm.relevance import HELD, RelevancePropagation
from tokentm.target import Target, bind, check_target, resolve
from tokentm.trace import LayerTrace, Trace
from tokentm.vit import Anatomy, Layout

__all__ = ["Attribution", "Lens", "attribute", "lens"]

_AT_ONCE = 2**24
"""Numbers of the streams that the head is given at once; 64 MB in float32."""

_STRAIGHT = 1e-5
"""Largest share by which the slope of an affine map may seem to change over a distance as long as what it is given."""

_DOES_NOT_FIT = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)
"""What a head raises that takes another number of images, or of tokens, than came in."""


@dataclass(frozen=True, eq=False)  # equality of tensors has no single answer
class Lens:
    """What the head says of single tokens. B images, K layers and M tokens that were asked for, C classes.

    Attributes:
        logits: of each token after each layer, (B, K, M, C).
        answers: logits of the whole stream after each layer, as if the model ended there, (B, K, C).
        layers: which layers, K numbers: 0 is the embedding, l what layer l of 1 .. L puts out.
        tokens: which tokens, M numbers; prefix tokens come first, see ``layout``.
        layout: how the patches lie.
        outputs: what the logits mean, see :data:`tokentm.outputs.Meaning`.
    """

    logits: Tensor
    answers: Tensor
    layers: tuple[int, ...]
    tokens: tuple[int, ...]
    layout: Layout
    outputs: Meaning

    @property
    def probabilities(self) -> Tensor | None:
        """Probability of every class, (B, K, M, C); None for a model whose outputs have none."""
        found = probabilities(self.logits.flatten(0, 2), self.outputs)
        return None if found is None else found.view_as(self.logits)

    @property
    def prediction(self) -> Tensor:
        """The class that each token stands for most, (B, K, M)."""
        return self.logits.argmax(-1)

    def rank_of(self, target: Target) -> Tensor:
        """Place of a class among all classes at each token, 1 where no other has a higher logit: (B, K, M).

        Args:
            target: a class index, or one for each image; None takes what the last of ``answers`` predicts.

        Raises:
            InvalidTargetError: no such class, or a function of the logits, which has no place among classes.
        """
        _, index = resolve(target, self.answers[:, -1])
        if index is None:
            raise InvalidTargetError(f"expected a class index, or one for each image; got {target!r}.")
        own = self.logits.gather(-1, index[:, None, None, None].expand(*self.logits.shape[:3], 1))
        return 1 + (self.logits > own).sum(-1)


def lens(trace: Trace, layers: Sequence[int] | None = None, tokens: Sequence[int] | None = None) -> Lens:
    """Read any token after any layer with the model's own head (the logit lens).

    The head, with all that follows the last block, is given a stream in which every token is the one that is read. So
    the token stands in the place of whatever the head reads: in that of the class token; in that of class and
    distillation token; and an average, or an attention pooling, is of this token alone.

    Args:
        trace: a record, with its model.
        layers: some of 0 .. L; None takes all.
        tokens: some of 0 .. N - 1; None takes all.

    Returns:
        A :class:`Lens`: (B, L + 1, N, C) logits. The head is run in chunks, whose size does not grow with the model.

    Raises:
        InvalidOptionError: a layer or token that there is not.
        ModelChangedError: the model is not what was recorded, or the record was read from a file without it.

    Source: nostalgebraist, "interpreting GPT: the logit lens", 2020; for Vision Transformers Vilas, Schaumlöffel, Roig,
    "Analyzing Vision Transformers for Image Classification in Class Embedding Space", NeurIPS 2023.

    Departures: the last norm comes before the classifier here, also for tokens of early layers, as in the model; and
    models that pool are read, too. The head was trained on the last layer's readout alone: that it finds a class early
    shows that its direction is there; that it finds none shows nothing.

    Example:
        >>> demo = tokentm.load_demo()
        >>> trace = tokentm.record(demo.model, demo.transform(demo.scene(3).image)[None])
        >>> read = lens(trace, layers=[0, 2, 8])
        >>> read.logits.shape
        torch.Size([1, 3, 197, 16])
        >>> read.rank_of(trace.target)[0, :, 0]  # at the class token: from ninth of 16 to first
        tensor([ 9, 10,  1])
    """
    chosen = _chosen("layers", layers, len(trace.layers) + 1)
    read = _chosen("tokens", tokens, trace.layout.tokens)
    return isolated(lambda: _lens(trace, chosen, read))


def _chosen(name: str, asked: Sequence[int] | None, count: int) -> tuple[int, ...]:
    if asked is None:
        return tuple(range(count))
    try:
        found = tuple(operator.index(one) for one in asked)
    except TypeError:
        found = ()
    if not found or not all(0 <= one < count for one in found):
        raise InvalidOptionError(
            f"expected {name} as a list of numbers from 0 to {count - 1}, or None for all; got {asked!r}."
        )
    return found


@torch.no_grad()
def _lens(trace: Trace, layers: tuple[int, ...], tokens: tuple[int, ...]) -> Lens:
    streams = _streams(trace, layers)
    single = streams[:, :, list(tokens)]
    head = _Head.of(trace)
    return Lens(
        logits=head.of_tokens(single.flatten(0, 2)).unflatten(0, single.shape[:3]),
        answers=head.of_streams(streams.flatten(0, 1)).unflatten(0, streams.shape[:2]),
        layers=layers,
        tokens=tokens,
        layout=trace.layout,
        outputs=trace.outputs,
    )


def _streams(trace: Trace, layers: Sequence[int]) -> Tensor:
    """(B, K, N, D)."""
    every = [trace.embedding, *(layer.stream_out for layer in trace.layers)]
    return torch.stack([every[i] for i in layers], 1)


@dataclass(frozen=True, eq=False)
class _Head:
    """What follows the last block, run by running the model, whose last block is made to put out something else.

    Attributes:
        anatomy: the model.
        image: a picture that it takes, (1, C, H, W); none of its numbers reach the head.
        alone: the model can be given this one picture however many streams the head is given.
        tokens: how many tokens a stream has whose tokens are all the same; fewer where that makes no difference.
    """

    anatomy: Anatomy
    image: Tensor
    alone: bool
    tokens: int

    @classmethod
    def of(cls, trace: Trace) -> _Head:
        """The head of a recorded model; the quicker ways to run it are tried, and compared with the sure one."""
        anatomy, size = trace.check_model(), trace.layout.tokens
        sure = cls(anatomy, trace.images[:1], alone=False, tokens=size)
        probes = trace.layers[-1].stream_out[0, [0, -1]]
        expected = sure.of_tokens(probes)
        alone = replace(sure, alone=True)
        found = alone if alone._says(probes, expected) else sure
        short = replace(found, tokens=min(trace.layout.prefix + 1, size))
        return short if short._says(probes, expected) else found

    def _says(self, probes: Tensor, expected: Tensor) -> bool:
        try:
            return same(self.of_tokens(probes), expected)
        except _DOES_NOT_FIT:
            return False

    def of_tokens(self, tokens: Tensor) -> Tensor:
        """Logits of streams in which one token stands in every place: (K, D) -> (K, C)."""
        parts = tokens.split(max(1, _AT_ONCE // (self.tokens * tokens.shape[1])))
        return torch.cat([self._run(part[:, None].repeat(1, self.tokens, 1)) for part in parts])

    def of_streams(self, streams: Tensor) -> Tensor:
        """Logits of whole streams: (K, N, D) -> (K, C)."""
        parts = streams.split(max(1, _AT_ONCE // streams[0].numel()))
        return torch.cat([self._run(part) for part in parts])

    def _run(self, streams: Tensor) -> Tensor:
        checkpoint()
        images = self.image if self.alone else self.image.expand(len(streams), -1, -1, -1)
        with running(self.anatomy):
            return classify(self.anatomy, images, streams)


@dataclass(frozen=True, eq=False)  # equality of tensors has no single answer
class Attribution:
    """A score as a sum of what was written into the stream. B images, L layers, H heads, N tokens; in logits.

    Attributes:
        embedding: of what each token was before the first layer, (B, N).
        by_token: of what each head took from each token, (B, L, H, N); the value bias is part of what it takes.
        attention_bias: of what attention adds whatever it attends to, such as the projection's bias, (B, L).
        ffn_by_token: of what the FFN wrote at each token, its bias with it, (B, L, N).
        constant: what the head adds whatever the stream is, such as the biases of last norm and classifier, (B,).
        scores: the model's own score, (B,).
        explained: the target: the class of each image, or a function of the logits.
        layout: which tokens are patches.
        held: what was held as it was in the pass, in words. Where all that follows the last block is norms and linear
            maps, "deviations of norms" alone ("denominators" of norms that are written by hand). Other heads bend:
            what a part would do by changing "weights of a pooling", "gates of activations", "denominators" such as
            lengths, or "slopes of other functions" such as a maximum over tokens, is not in it.
    """

    embedding: Tensor
    by_token: Tensor
    attention_bias: Tensor
    ffn_by_token: Tensor
    constant: Tensor
    scores: Tensor
    explained: Target
    layout: Layout
    held: tuple[str, ...]

    @property
    def heads(self) -> Tensor:
        """What each head wrote, (B, L, H)."""
        return self.by_token.sum(-1)

    @property
    def by_patch(self) -> Tensor:
        """What each head took from each patch, (B, L, H, P); from prefix tokens it took the rest."""
        return self.by_token[..., self.layout.prefix :]

    @property
    def ffn(self) -> Tensor:
        """What each FFN wrote, (B, L)."""
        return self.ffn_by_token.sum(-1)

    @property
    def total(self) -> Tensor:
        """The sum of all parts, (B,): the score, up to rounding."""
        written = (self.heads.sum((1, 2)), self.attention_bias.sum(1), self.ffn.sum(1))
        return self.embedding.sum(1) + sum(written) + self.constant

    @property
    def error(self) -> float:
        """Relative error of the sum against the score, |total - scores| / |scores|."""
        return float(relative_error(self.total, self.scores))


def attribute(trace: Trace, target: Target = None) -> Attribution:
    """Take a score apart into what each head, FFN, bias and embedded token wrote into the stream that the head reads.

    Directly: what a head wrote that a later layer read, and answered by writing, is the later layer's part. The map
    from the final stream to the score must be affine. Norms become so when their deviations are those of the pass; each
    part is centred by its own mean. Of other heads the weights of an attention pooling, gates (f(x) / x of an
    activation f) and denominators, such as the length of CLIP's features, are held, too; ``held`` says which.

    Args:
        trace: a record, with its model.
        target: linear in the logits: a class index, one per image, :func:`tokentm.difference`, a function such as
            ``lambda logits: logits[:, 3] - logits[:, 7]``; None takes what the record explains.

    Returns:
        An :class:`Attribution`; its parts add up to the score.

    Raises:
        InvalidTargetError: no class of this model, or a target that is not linear in the logits.
        UnsupportedModelError: a head that is no affine map with all that held, such as one that returns probabilities.
        ModelChangedError: the model is not what was recorded, or the record was read from a file without it.

    Source: Elhage et al., "A Mathematical Framework for Transformer Circuits", 2021; by heads and image tokens
    Gandelsman, Efros, Steinhardt, "Interpreting CLIP's Image Representation via Text-Based Decomposition", ICLR 2024.

    Departures: nothing is replaced by an average over a data set; embedding, FFNs and biases are parts beside the
    heads; all readouts are taken apart, not that of a class token alone.

    Example:
        >>> demo = tokentm.load_demo()
        >>> trace = tokentm.record(demo.model, demo.transform(demo.scene(3).image)[None])
        >>> parts = attribute(trace)  # of another target: attribute(trace, tokentm.difference(3, 7))
        >>> parts.by_patch.shape, parts.held
        (torch.Size([1, 8, 4, 196]), ('deviations of norms',))
        >>> parts.scores, parts.total
        (tensor([4.3982]), tensor([4.3982]))
        >>> parts.heads[0].sum(1)  # what all heads of a layer wrote: most of it the third layer
        tensor([-0.1188, -0.2554,  1.4463,  0.7221,  0.1394,  0.6811, -0.0875,  0.2334])
    """
    return isolated(lambda: _attribute(trace, target))


def _attribute(trace: Trace, target: Target) -> Attribution:
    anatomy = trace.check_model()
    explained = _bound(trace, target)
    _check_linear(explained, trace.logits)
    slope = _slope(anatomy, trace, explained)
    gradient = slope.gradient
    rows = gradient.abs().amax((0, 2)).nonzero().flatten()  # only tokens that the head reads
    layers = trace.layers
    return Attribution(
        embedding=(gradient * trace.embedding).sum(-1),
        by_token=torch.stack([_taken(layer, gradient, rows) for layer in layers], 1),
        attention_bias=torch.stack([(gradient * layer.bias).sum((1, 2)) for layer in layers], 1),
        ffn_by_token=torch.stack([(gradient * layer.ffn_update).sum(-1) for layer in layers], 1),
        constant=slope.scores - (gradient * layers[-1].stream_out).sum((1, 2)),
        scores=slope.scores,
        explained=explained,
        layout=trace.layout,
        held=slope.held,
    )


def _taken(layer: LayerTrace, gradient: Tensor, rows: Tensor) -> Tensor:
    """sum_n G_n . s_n P_h A^h_nj v^h_j over the rows n that are read: (B, H, N)."""
    scaled = layer.output_factor[:, rows, None] * gradient[:, rows]
    seen = torch.einsum("bnw,hwd->bhnd", scaled, layer.head_projection)
    return (layer.value * (layer.attention[:, :, rows].transpose(-2, -1) @ seen)).sum(-1)


def _bound(trace: Trace, target: Target) -> Target:
    """The target with the classes that it means; that of the record where none is given."""
    if target is not None:
        return bind(target, trace.logits, trace.outputs, trace.class_names)
    trace.score(trace.logits)  # refused where a file does not hold the function
    return trace.explained if callable(trace.explained) else trace.target


def _check_linear(target: Target, logits: Tensor) -> None:
    """A target must weigh the logits of each image by constants; it may add one."""
    given = logits.clone().requires_grad_()
    scores, _ = resolve(target, given)
    check_target(target, given, scores)
    (weights,) = torch.autograd.grad(scores.sum(), given, create_graph=True)
    if _bends(weights, given):
        raise InvalidTargetError(
            f"expected a target that is linear in the logits, so that parts add up: a class index, "
            f"tokentm.difference(a, b), or a function such as lambda logits: logits[:, 3] - logits[:, 7]; got "
            f"{target!r}. In the place of log-odds or a probability of a class take its logit, target=index, or its "
            "difference to a rival."
        )


def _bends(gradient: Tensor, at: Tensor) -> bool:
    """Whether a gradient changes with the point where it is taken: looked at in one random direction."""
    if not gradient.requires_grad:
        return False
    size = at.detach().square().mean().sqrt()
    direction = size * torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0)).to(gradient)
    (change,) = torch.autograd.grad(gradient, at, direction, allow_unused=True)
    return change is not None and bool(change.abs().max() > _STRAIGHT * gradient.abs().max())


@dataclass(frozen=True, eq=False)
class _Slope:
    """The affine map from the final stream to the score: its gradient (B, N, D), scores (B,), and what was held."""

    gradient: Tensor
    scores: Tensor
    held: tuple[str, ...]


def _slope(anatomy: Anatomy, trace: Trace, target: Target) -> _Slope:
    stream = trace.layers[-1].stream_out.clone().requires_grad_()
    # entered first: it then sees the pooling's attention as what it has been taken apart into
    with (
        RelevancePropagation(anatomy.name, HELD, keeps_kinds=True) as backward,
        running(anatomy, takes_pool_apart=True),
    ):
        logits = classify(anatomy, trace.images, stream)
    scores, _ = resolve(target, logits)
    gradient: Tensor | None = None
    if scores.requires_grad:
        (gradient,) = torch.autograd.grad(scores.sum(), stream, create_graph=True, allow_unused=True)
    if gradient is None or _bends(gradient, stream):
        found = "none of it left" if gradient is None else "one that is not"
        raise UnsupportedModelError(
            f"{anatomy.name}: expected a score that is affine in the final tokens once deviations of norms, weights of "
            f"a pooling, gates of activations and denominators are held, found {found}: behind the last block there is "
            "something else that is no linear map, such as a softmax or sigmoid that makes probabilities. Record a "
            "model that returns logits. tokentm.lens.lens reads any head."
        )
    held = dict.fromkeys(text for kind, text in _HELD.items() if kind in backward.kinds)
    return _Slope(gradient.detach(), scores.detach(), tuple(held))


_HELD = {
    "norm": "deviations of norms",
    "reciprocal": "denominators",
    "softmax": "weights of a pooling",
    "activation": "gates of activations",
    "squashing": "gates of activations",
    "other": "slopes of other functions",
}
"""What rules of ``HELD`` hold, by the kind of function."""
