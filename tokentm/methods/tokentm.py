"""TokenTM: attention weighted by what each layer did to its tokens, aggregated over all layers.

Source: Wu, Duan, Kang, Tang, Yan, "Token Transformation Matters: Towards Faithful Post-hoc Explanation for Vision
Transformer", CVPR 2024, pp. 10926-10935. The paper leaves details open; the choices made here are *readings*, each an
argument of :class:`TokenTM` with a name, never the paper's text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from tokentm import aggregation, streaming, transformation
from tokentm.blocks import BlockTrace
from tokentm.descent import Weights
from tokentm.errors import InvalidOptionError
from tokentm.explanation import Explanation, require_finite
from tokentm.isolation import checkpoint, isolated
from tokentm.methods import by_rules
from tokentm.methods.method import Stream, require_trace
from tokentm.relevance import LIBRA
from tokentm.trace import LayerTrace, Trace

Transformed = Literal["head", "sum", "stream"]
Reference = Literal["stream", "normed"]
HeadMean = Literal["after", "before"]
Backward = Literal["plain", "libra"]
Positive = Literal["head", "mean"]
Lengths = Literal["first", "own"]

_EVERY_ROW = slice(None)


@dataclass(frozen=True, eq=False)
class Step:
    """What TokenTM makes of one layer. Where T is not taken per head, H is 1 in the attention quantities.

    Attributes:
        length_ratio: L(T) / L(E) in the attention layer, (B, H, N).
        cosine: cos(E, T) in the attention layer, (B, H, N).
        weight: transformation weight W of the attention layer, (B, H, N).
        ffn_weight: transformation weight of the FFN, (B, N); None when the FFN is left out.
        head_mixing: A W of each head, or relu(G * A W), or mean_h relu(G) * A W, (B, H, N, N); H is 1 where the
            positive part is taken of the mean over heads.
        mixing: its mean over heads, what the layer adds to the identity, (B, N, N).
        contribution: C_l after this layer, (B, N, N).
    """

    length_ratio: Tensor
    cosine: Tensor
    weight: Tensor
    ffn_weight: Tensor | None
    head_mixing: Tensor
    mixing: Tensor
    contribution: Tensor


@dataclass(frozen=True)
class TokenTM:
    """One contribution per patch and image: ``TokenTM()(trace)``. Every part of the method can be switched.

    Args:
        length: weigh by the change of length L(T) / L(E).
        direction: weigh by NECC, the normalized exponential cosine correlation of E and T.
        ffn: count the transformation in the FFN, U = I + W.
        initialise: start from C_0 = diag(L(E^0)) instead of the identity.
        gradient: class-specific, U = I + mean_h relu(G * (A W)); False gives the class-agnostic map.
        normaliser: NECC by the "sum" over tokens or by their "mean" (a reading).
        transformed: which T (a reading): "head" takes f^h(x), the value-output path of each head; "sum" the sum of
            these over heads; "stream" the stream after the sublayer. In the FFN: g(x') for the first two, else x''.
        reference: which E (a reading): the "stream" before the sublayer, or its "normed" form that the sublayer reads.
        head_mean: when heads are averaged (a reading): "after" gradient and A W are multiplied, head by head, or
            "before", mean_h relu(G) * mean_h (A W).
        backward: what the gradient is (a reading): the "plain" one, or that by the rules of LibraGrad, "libra" (Mehri
            et al., CVPR 2025), see :mod:`tokentm.relevance.gradients`; A stays the model's own. Runs the model again.
        positive: where the positive part is taken (a reading): in every "head", or of the "mean" over heads,
            relu(mean_h G * (A W)), so that heads which speak against the class count against those which speak for it.
        lengths: which length a token counts with (a reading), where ``initialise`` has lengths count: its "first" one,
            L(E^0), or its "own" in each layer, L(E^l), where a path from it last mixes. E^l is what l layers put out,
            C_l = U_l C_{l-1} + diag(s_l (L(E^l) - L(E^{l-1}))), and s_l = prod_k (1 + w_ffn,k) up to l.

    Raises:
        InvalidOptionError: an unknown reading, with the known ones.

    Example:
        >>> tokentm.TokenTM(normaliser="mean")(trace).scores.shape
        torch.Size([1, 196])
    """

    length: bool = True
    direction: bool = True
    ffn: bool = True
    initialise: bool = True
    gradient: bool = True
    normaliser: transformation.Normaliser = "sum"
    transformed: Transformed = "head"
    reference: Reference = "stream"
    head_mean: HeadMean = "after"
    backward: Backward = "plain"
    positive: Positive = "head"
    lengths: Lengths = "first"

    def __post_init__(self) -> None:
        readings = {
            "normaliser": transformation.Normaliser,
            "transformed": Transformed,
            "reference": Reference,
            "head_mean": HeadMean,
            "backward": Backward,
            "positive": Positive,
            "lengths": Lengths,
        }
        for switch in ("length", "direction", "ffn", "initialise", "gradient"):
            if not isinstance(getattr(self, switch), bool):
                raise InvalidOptionError(f"expected {switch} True or False; got {getattr(self, switch)!r}.")
        for name, known in readings.items():
            if getattr(self, name) not in get_args(known):
                choices = " or ".join(map(repr, get_args(known)))
                raise InvalidOptionError(f"expected {name} {choices}; got {getattr(self, name)!r}.")

    @property
    def name(self) -> str:
        """What differs from the default, in words: "tokentm", "tokentm_no_ffn", "tokentm_mean_normaliser" ..."""
        changed = {f.name: getattr(self, f.name) for f in fields(TokenTM) if getattr(self, f.name) != f.default}
        words = ["tokentm" if type(self) is TokenTM else type(self).__name__]
        if (changed.get("transformed"), changed.get("head_mean")) == ("stream", "before"):
            words.append("libragrad")
            del changed["transformed"], changed["head_mean"]
        return "_".join((*words, *(_NAMES[part][value] for part, value in changed.items())))

    @property
    def class_specific(self) -> bool:
        return self.gradient

    signed = False

    @property
    def reruns_model(self) -> bool:
        return self.gradient and self.backward != "plain"

    @property
    def stream(self) -> Stream | None:
        """Without a record; a subclass may have changed any part of the method, so only the method itself streams.

        What streams takes its row through one head, and one layer, at a time.
        """
        streams = (self.head_mean, self.backward, self.positive, self.lengths) == ("after", "plain", "head", "first")
        if type(self) is not TokenTM or not streams:
            return None
        return lambda given, target, outputs: streaming.explain(given, target, self, outputs)

    def __call__(self, trace: Trace) -> Explanation:
        """Explain the recorded images: scores (B, patches) and the same after each layer."""
        require_trace(trace, self.name)
        prefix = trace.layout.prefix
        maps = isolated(
            lambda: [aggregation.read(step.contribution, trace.readout, prefix) for step in self.steps(trace)]
        )
        return Explanation.of(trace, self.name, maps[-1], torch.stack(maps, dim=1))

    def scores(self, trace: Trace) -> Tensor:
        """The scores alone, (B, patches): what a call gives, without the maps after each layer.

        The product of all layers is multiplied from the readout down, so that a row takes the place of a map:
        r <- r U_l, last layer first, then r L(E^0).

        Example:
            >>> torch.testing.assert_close(method.scores(trace), method(trace).scores)
        """
        trace = self.prepared(trace)
        row, lengths = trace.readout, self._lengths(trace)
        with torch.no_grad(), torch.autocast(row.device.type, enabled=False):
            worth = row * lengths[-1]  # the row, each part of it times the length of the token where it last mixed
            for layer, length in zip(reversed(trace.layers), reversed(lengths[:-1]), strict=True):
                weight = self._weight(*self._compare_attention(layer))
                mixing = self.head_mixing(layer, weight).mean(1)
                stay, onward = aggregation.factors(self._ffn_weight(layer), layer.parallel)
                taken = _taken(mixing, row * onward)
                row, worth = row * stay + taken, worth * stay + taken * length
            if lengths[-1] is lengths[0]:
                worth = row * lengths[0]
        return worth[:, trace.layout.prefix :]

    def prepared(self, trace: Trace) -> Trace:
        """The record with the gradients that this reading takes; the same record unless they are not the plain ones.

        Raises:
            UnsupportedModelError: the model does something for which LibraGrad has no rule.
            ModelChangedError: the model is not what was recorded.

        Example:
            >>> layer = method.prepared(trace).layers[3]  # for method.head_mixing(layer, step.weight)
        """
        if not self.reruns_model:
            return trace
        gradients = isolated(lambda: by_rules.at_attention(trace, LIBRA))
        layers = (replace(layer, gradient=one) for layer, one in zip(trace.layers, gradients, strict=True))
        return replace(trace, layers=tuple(layers))

    def steps(self, trace: Trace) -> Iterator[Step]:
        """Go through the layers, first to last, one :class:`Step` each."""
        trace = self.prepared(trace)
        lengths = self._lengths(trace)
        contribution, stayed = lengths[0].diag_embed(), torch.ones_like(lengths[0])
        for layer, before, after in zip(trace.layers, lengths[:-1], lengths[1:], strict=True):
            checkpoint()
            with torch.no_grad(), torch.autocast(contribution.device.type, enabled=False):
                step = self._step(layer, contribution)
                if before is not after:
                    stayed = stayed * aggregation.factors(step.ffn_weight, layer.parallel)[0]
                    step = replace(step, contribution=step.contribution + (stayed * (after - before)).diag_embed())
            contribution = step.contribution
            yield step

    def _lengths(self, trace: Trace) -> list[Tensor]:
        """With which length a token counts before the first layer and after each one, (B, N) each."""
        if not self.initialise:
            first = torch.ones_like(trace.embedding[..., 0])
        else:
            first = torch.linalg.vector_norm(trace.embedding, dim=-1)
        if not self.initialise or self.lengths == "first":
            return [first] * (len(trace.layers) + 1)
        return [first, *(torch.linalg.vector_norm(layer.stream_out, dim=-1) for layer in trace.layers)]

    def _step(self, layer: LayerTrace, contribution: Tensor) -> Step:
        ratio, cosine = self._compare_attention(layer)
        weight = self._weight(ratio, cosine)
        ffn_weight = self._ffn_weight(layer)
        head_mixing = self.head_mixing(layer, weight)
        mixing = head_mixing.mean(1)
        contribution = aggregation.aggregate(contribution, mixing, ffn_weight, layer.parallel)
        require_finite(contribution, self.name)
        return Step(ratio, cosine, weight, ffn_weight, head_mixing, mixing, contribution)

    def head_mixing(self, layer: LayerTrace, weight: Tensor, rows: slice | Tensor = _EVERY_ROW) -> Tensor:
        """What each head mixes into the tokens ``rows`` of a layer, see :class:`Step`: (B, H, R, N), or H = 1.

        Args:
            layer: one of ``method.prepared(trace).layers``, which are those of the trace but for ``backward="libra"``.
            weight: the layer's transformation weight, ``step.weight``, (B, H, N).
            rows: which tokens take, as an index of the attention's rows; all of them unless told.

        Example:
            >>> method.head_mixing(trace.layers[3], step.weight, slice(0, 1)).shape  # what the class token takes
            torch.Size([1, 4, 1, 197])
        """
        attention = layer.attention[:, :, rows]
        gradient = layer.gradient[:, :, rows] if self.gradient else None
        with torch.no_grad(), torch.autocast(attention.device.type, enabled=False):
            if self._scales_outputs:
                attention = attention * layer.output_factor[:, None, rows, None]
            if gradient is None or (self.head_mean == "after" and self.positive == "head"):
                return aggregation.head_mixing(attention, weight, gradient)
            weighted = aggregation.head_mixing(attention, weight)
            if self.head_mean == "after":
                return (gradient * weighted).mean(1, keepdim=True).relu_()
            if self.positive == "head":
                return gradient.relu().mean(1, keepdim=True) * weighted
            return gradient.mean(1, keepdim=True).relu_() * weighted

    def weights(self, layer: BlockTrace) -> Weights:
        """What one layer's transformation makes of attention and FFN; all that the streaming form needs of a layer."""
        return Weights(
            attention=self._weight(*self._compare_attention(layer)),
            ffn=self._ffn_weight(layer),
            output_factor=layer.output_factor if self._scales_outputs else None,
        )

    @property
    def _scales_outputs(self) -> bool:
        """A norm after the heads changes the length of what every output token takes, by a factor of its own."""
        return self.length and self.transformed != "stream"

    def _ffn_weight(self, layer: BlockTrace) -> Tensor | None:
        return self._weight(*self._compare_ffn(layer)) if self.ffn else None

    def _compare_attention(self, layer: BlockTrace) -> tuple[Tensor, Tensor]:
        token = layer.stream if self.reference == "stream" else layer.normed
        if self.transformed == "head":
            return transformation.compare_heads(token, layer.value, layer.head_projection)
        if self.transformed == "sum":
            transformed = torch.einsum("bhnd,hDd->bnD", layer.value, layer.head_projection)
        else:
            transformed = layer.stream_mid
        ratio, cosine = transformation.compare(token, transformed)
        return ratio.unsqueeze(1), cosine.unsqueeze(1)

    def _compare_ffn(self, layer: BlockTrace) -> tuple[Tensor, Tensor]:
        token = layer.ffn_stream if self.reference == "stream" else layer.normed_mid
        transformed = layer.ffn_update
        if self.transformed == "stream":
            transformed = layer.ffn_stream + layer.ffn_update
        return transformation.compare(token, transformed)

    def _weight(self, ratio: Tensor, cosine: Tensor) -> Tensor:
        return transformation.weight(
            ratio, cosine, length=self.length, direction=self.direction, normaliser=self.normaliser
        )


def _taken(mixing: Tensor, row: Tensor) -> Tensor:
    """r M: (B, N, N), (B, N) -> (B, N)."""
    return (row.unsqueeze(1) @ mixing).squeeze(1)


_NAMES: dict[str, dict[object, str]] = {
    "length": {False: "no_length"},
    "direction": {False: "no_direction"},
    "ffn": {False: "no_ffn"},
    "initialise": {False: "no_initialisation"},
    "gradient": {False: "no_gradient"},
    "normaliser": {"mean": "mean_normaliser"},
    "transformed": {"sum": "head_sum", "stream": "stream"},
    "reference": {"normed": "normed_reference"},
    "head_mean": {"before": "heads_first"},
    "backward": {"libra": "libra_gradient"},
    "positive": {"mean": "signed_heads"},
    "lengths": {"own": "own_lengths"},
}
"""How a part that differs from the default is called in a reading's name."""

LIBRAGRAD = TokenTM(transformed="stream", head_mean="before")
"""How the baseline code of LibraGrad (Mehri et al., CVPR 2025) reads the method."""

LIBRA_GRADIENT = TokenTM(backward="libra")
"""With the gradient of LibraGrad, which the paper gives to every method that has one."""
