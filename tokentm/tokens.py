"""What every token is like in every layer: how long, how much attended to, how much like its neighbours; and outliers.

Some Vision Transformers turn a few patches of a picture into very long tokens that say little about their own place and
keep what the model knows of the whole picture. Maps that follow attention then shine on these patches, whatever is
there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from tokentm.errors import InvalidOptionError, TokenTMError
from tokentm.explanation import Explanation
from tokentm.methods import METHODS
from tokentm.trace import Trace
from tokentm.vit import Layout

if TYPE_CHECKING:
    from tokentm.pictures import Picture, Prepared
    from tokentm.plots import Plot

DEVIATIONS = 3.5
"""From how many robust standard deviations of the log length on a token is long: Iglewicz and Hoaglin's recommendation
for the modified z-score."""

LONGER = 2.0
"""How many times the picture's median length a long token has, at least. Ours: the outliers of the paper have about ten
times the length, and in a picture of many equal patches an ordinary token is soon 3.5 deviations away. On 60 scenes of
the shipped demo model, deviations alone call 14 tokens a picture long after the first block; none is twice as long
after two successive blocks."""

QUARTER = 0.25
"""Share of a map's positive mass from which on outliers dominate it. A convention of ours."""

TIMES = 4.0
"""How many times their share of the patches they then hold, at least: a picture with very many outliers is no case."""

WITH_REGISTERS = {
    384: "vit_small_patch14_reg4_dinov2",
    768: "vit_base_patch14_reg4_dinov2",
    1024: "vit_large_patch14_reg4_dinov2",
    1536: "vit_giant_patch14_reg4_dinov2",
}
"""Models of timm that were trained with registers, by their width."""

GRADIENT_WEIGHTED = ("tokentm", "generic_attention", "legrad")
"""Methods that weigh attention by the gradient of the score, tried in place of a map that outliers dominate."""


@dataclass(frozen=True)
class PrefixToken:
    """A token before the patches.

    Attributes:
        index: its place in the sequence, from 0.
        readout: its share of what the classifier reads, 0 .. 1, mean over the images.
        register: whether the classifier reads no more of it than of some patch: it is there for the other tokens.
    """

    index: int
    readout: float
    register: bool


@dataclass(frozen=True, eq=False)
class Tokens:
    """Every token of a record after every layer. L layers, B images, N tokens, of which the last P are patches.

    Attributes:
        lengths: Euclidean length of the stream that leaves the layer, (L, B, N).
        received: attention received, mean over heads and over all tokens that attend, (L, B, N); they sum to 1 over
            the tokens, so that 1 / N is the average.
        similarity: mean cosine with the patches above, below, left and right, as many as there are, (L, B, N); NaN for
            tokens before the patches, and for a patch without a neighbour.
        outlying: whether the token is an outlier after this layer, (L, B, N), see :func:`inspect`.
        prefix: the tokens before the patches.
        layout: which tokens these are and how the patches form a grid.
        image_size: (height, width) of the images in pixels.
    """

    lengths: Tensor
    received: Tensor
    similarity: Tensor
    outlying: Tensor
    prefix: tuple[PrefixToken, ...]
    layout: Layout
    image_size: tuple[int, int]

    @property
    def outliers(self) -> Tensor:
        """Patches that are outliers after two successive layers, or after the only one, (B, P), boolean."""
        of_patches = self.outlying[..., self.layout.prefix :]
        lasting = of_patches[1:] & of_patches[:-1] if len(of_patches) > 1 else of_patches
        return lasting.any(0)

    def outliers_of(self, index: int) -> tuple[int, ...]:
        """The outliers of one image as patches, row-major from 0."""
        return tuple(self.outliers[index].nonzero().flatten().tolist())

    @property
    def registers(self) -> tuple[int, ...]:
        """Where in the sequence registers are."""
        return tuple(token.index for token in self.prefix if token.register)

    def __repr__(self) -> str:
        layers, images, tokens = self.lengths.shape
        counts = self.outliers.sum(1).tolist()
        return (
            f"Tokens(layers={layers}, images={images}, tokens={tokens}, registers={list(self.registers)}, "
            f"outliers={counts})"
        )

    def plot(self, images: Picture | Sequence[Picture] | Prepared | None = None, index: int = 0) -> Plot:
        """Static figure of one image: where its outliers are, and lengths by layer; see
        :func:`tokentm.token_plots.outliers`."""
        from tokentm import token_plots  # matplotlib only when something is drawn

        return token_plots.outliers(self, images, index)


def inspect(trace: Trace) -> Tokens:
    """Lengths, attention received and likeness to neighbours of every token after every layer, and which are outliers.

    A patch is an outlier after a layer where all of this holds of its token z among the picture's patches:

        log |z| > m + 3.5 * 1.4826 * MAD      m, MAD: median and median absolute deviation of log |z|
        |z| >= 2 exp(m)
        mean cosine with its up to four neighbours < the median of it

    The first two say that it is long, the third that it is no part of an object whose tokens are all long. A group of
    outliers side by side is found as long as most neighbours of each are ordinary. ``outliers`` has those that are
    outliers after two successive layers: what only one block makes long is not what the paper describes.

    Returns:
        :class:`Tokens`, on the record's device.

    Example:
        >>> demo = tokentm.load_demo()
        >>> trace = tokentm.record(demo.model, demo.transform(demo.scene(3).image)[None])
        >>> found = inspect(trace)
        >>> found.lengths.shape, found.registers, found.outliers_of(0)
        (torch.Size([8, 1, 197]), (), ())

    Source: Darcet, Oquab, Mairal, Bojanowski, "Vision Transformers Need Registers", ICLR 2024: high-norm tokens, few in
    number, that appear in the middle layers and hold little of their own patch. Robust deviations: Iglewicz and
    Hoaglin, "How to Detect and Handle Outliers", 1993.

    Departures: the paper cuts the lengths of one model's last layer by eye, at the gap in their histogram over many
    pictures. The cut here is made of one picture's patches in each layer, so that it needs neither the model's usual
    lengths nor other pictures; and likeness to neighbours, which the paper reports of the embedding, is asked of the
    same layer.
    """
    prefix, layout = trace.layout.prefix, trace.layout
    lengths, received, similarity = [], [], []
    for layer in trace.layers:
        stream = layer.stream_out.to(torch.promote_types(layer.stream_out.dtype, torch.float32))
        lengths.append(stream.norm(dim=-1))
        received.append(layer.attention.mean((1, 2)))
        alike = _with_neighbours(stream[:, prefix:], layout)
        similarity.append(F.pad(alike, (prefix, 0), value=math.nan))
    long, alike = torch.stack(lengths), torch.stack(similarity)
    outlying = _outlying(long[..., prefix:], alike[..., prefix:])
    return Tokens(
        lengths=long,
        received=torch.stack(received),
        similarity=alike,
        outlying=F.pad(outlying, (prefix, 0), value=False),
        prefix=_prefix(trace),
        layout=layout,
        image_size=trace.image_size,
    )


def _with_neighbours(patches: Tensor, layout: Layout) -> Tensor:
    """Mean cosine of each patch token with those beside it: (B, P, D) -> (B, P)."""
    grid = F.normalize(patches, dim=-1).unflatten(1, (layout.rows, layout.columns))
    down, right = (grid[:, 1:] * grid[:, :-1]).sum(-1), (grid[:, :, 1:] * grid[:, :, :-1]).sum(-1)

    def added(of_rows: Tensor, of_columns: Tensor) -> Tensor:
        """What pairs have is given to both of the pair."""
        rows, columns = F.pad(of_rows, (0, 0, 1, 1)), F.pad(of_columns, (1, 1))
        return rows[:, 1:] + rows[:, :-1] + columns[:, :, 1:] + columns[:, :, :-1]

    return (added(down, right) / added(torch.ones_like(down), torch.ones_like(right))).flatten(1)


def _outlying(lengths: Tensor, similarity: Tensor) -> Tensor:
    """The criterion of :func:`inspect` for patches: (L, B, P) each -> boolean (L, B, P)."""
    log = lengths.log()
    middle = log.median(-1, keepdim=True).values
    deviation = 1.4826 * (log - middle).abs().median(-1, keepdim=True).values
    long = (log > middle + DEVIATIONS * deviation) & (log >= middle + math.log(LONGER))
    return long & (similarity < similarity.median(-1, keepdim=True).values)


def _prefix(trace: Trace) -> tuple[PrefixToken, ...]:
    readout, prefix = trace.readout.mean(0), trace.layout.prefix
    most = 1.01 * readout[prefix:].max()  # shares are measured: equal ones differ by rounding
    return tuple(PrefixToken(i, readout[i].item(), bool(readout[i] <= most)) for i in range(prefix))


@dataclass(frozen=True)
class OutlierFinding:
    """How much of one image's map lies on outlier tokens.

    Attributes:
        patches: the outliers, row-major from 0.
        count: how many patches there are.
        share: of the map's positive mass, what lies on them, 0 .. 1; 0 for a map without any.
        dominated: they hold at least a quarter of it, and at least four times their share of the patches.
        advice: what helps with this model and this map; empty where nothing is to be helped.
    """

    patches: tuple[int, ...]
    count: int
    share: float
    dominated: bool
    advice: str

    @property
    def part(self) -> float:
        """Their share of the patches, 0 .. 1."""
        return len(self.patches) / self.count

    @property
    def sentence(self) -> str:
        """The finding in words, and what helps."""
        if not self.patches:
            return "No patch has an outlier token, far longer than the others and unlike its neighbours."
        token, whose = (
            ("its token is an outlier", "its") if len(self.patches) == 1 else ("their tokens are outliers", "their")
        )
        held = (
            f"{_percent(self.share)} of the map lies on {len(self.patches)} of {self.count} patches "
            f"({_percent(self.part)}): {token}, far longer than the others and unlike {whose} neighbours."
        )
        if not self.dominated:
            return held
        return (
            f"{held} Such tokens keep what a model knows of the whole picture, so the map may not show where the "
            f"evidence lay. {self.advice}"
        )


def findings(trace: Trace, explanation: Explanation) -> tuple[OutlierFinding, ...]:
    """Whether outlier tokens dominate a map: one finding for each image.

    What it advises is true for this model: a model with registers where it has none, and a method that weighs attention
    by the gradient where one was tried on this record and puts less than a quarter of its map on these patches.

    Args:
        trace: the record.
        explanation: a map of it.

    Raises:
        InvalidOptionError: the explanation is of another record.

    Example:
        >>> trace = tokentm.record(model, images)
        >>> found = findings(trace, tokentm.methods.get("rollout")(trace))
        >>> found[0].dominated, found[0].share, found[0].patches
        (False, 0.0, ())
        >>> print(found[0].sentence)  # where there are some: how much of the map lies on them, and what helps
        No patch has an outlier token, far longer than the others and unlike its neighbours.
    """
    count = trace.layout.rows * trace.layout.columns
    if explanation.scores.shape != (len(trace.logits), count):
        raise InvalidOptionError(
            f"expected a map of this record, of {len(trace.logits)} image(s) with {count} patches; got one of "
            f"{tuple(explanation.scores.shape)}. Call the method with this record: methods.get('rollout')(trace)."
        )
    tokens = inspect(trace)
    outliers, shares = tokens.outliers, shares_on(explanation, tokens.outliers)
    dominated = [dominates(share, int(where.sum()), count) for share, where in zip(shares, outliers, strict=True)]
    others = _gradient_weighted(trace, explanation, outliers) if any(dominated) else {}
    return tuple(
        OutlierFinding(
            patches=tokens.outliers_of(i),
            count=count,
            share=shares[i],
            dominated=dominated[i],
            advice=_advice(trace, {name: of[i] for name, of in others.items()}) if dominated[i] else "",
        )
        for i in range(len(shares))
    )


def shares_on(explanation: Explanation, patches: Tensor) -> list[float]:
    """What share of each map's positive mass lies on some patches, (B, P) boolean; 0 for a map that has none."""
    positive = explanation.scores.clamp(min=0)
    total = positive.sum(1)
    return torch.where(total > 0, (positive * patches).sum(1) / total, 0.0).tolist()


def dominates(share: float, outliers: int, count: int) -> bool:
    """Whether so many outliers among ``count`` patches dominate a map of whose positive mass they hold a share."""
    return outliers > 0 and share >= QUARTER and share >= TIMES * outliers / count


def left_out(explanation: Explanation, tokens: Tokens) -> Explanation:
    """The same maps with nothing on the patches of outlier tokens: what is left says where else evidence lay.

    Args:
        explanation: maps of the record that was inspected.

    Example:
        >>> left_out(explanation, inspect(trace)).plot(images=picture)
    """
    kept = ~tokens.outliers
    return replace(
        explanation,
        method=f"{explanation.method}, outliers left out",
        scores=explanation.scores * kept,
        layer_scores=explanation.layer_scores * kept[:, None],
    )


def _gradient_weighted(trace: Trace, explanation: Explanation, outliers: Tensor) -> dict[str, list[float]]:
    """What methods that weigh attention by the gradient put on outliers, by image."""
    found = {}
    for name in GRADIENT_WEIGHTED:
        if name != explanation.method:
            try:
                found[name] = shares_on(METHODS[name](trace), outliers)
            except TokenTMError:  # it cannot read this record, so it is no advice
                continue
    return found


def register_advice(trace: Trace) -> str:
    """What there is to say of registers where outlier tokens dominate a map of this model, as a sentence."""
    registers = sum(token.register for token in _prefix(trace))
    if registers:
        return f"The model has such tokens in spite of its {registers} register{'' if registers == 1 else 's'}."
    width = trace.embedding.shape[-1]
    named = WITH_REGISTERS.get(width, WITH_REGISTERS[768])
    same = " of the same width" if width in WITH_REGISTERS else ""
    return f"A model with registers{same}, such as {named} of timm, keeps that in tokens beside the picture."


def _advice(trace: Trace, others: dict[str, float]) -> str:
    """What helps with one map: ``others`` are shares on outliers by other methods."""
    least = min(others.values(), default=None)
    if least is None:
        then = ""
    elif least < QUARTER:
        name = next(name for name, share in others.items() if share == least)
        then = f" {name}, which weighs attention by the gradient, puts {_percent(least)} there."
    else:
        then = f" Other methods that weigh attention by the gradient put {_percent(least)} there or more."
    return f"{register_advice(trace)}{then} Or leave these patches out of the map: tokentm.tokens.left_out."


def _percent(share: float) -> str:
    return "less than 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"
