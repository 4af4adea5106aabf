"""TokenTM: attention weighted by what each layer did to its tokens, aggregated over all layers.

Source: Wu, Duan, Kang, Tang, Yan, "Token Transformation Matters: Towards Faithful Post-hoc Explanation for Vision
Transformer", CVPR 2024, pp. 10926-10935. The paper leaves details open; the choices made here are *readings*, each an
argument of :class:`TokenTM` with a name, never the paper's text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from tokentm import aggregation, streaming, transformation
from tokentm.blocks import BlockTrace
from tokentm.descent import Weights
from tokentm.errors import InvalidOptionError
from tokentm.explanation import Explanation, require_finite
from tokentm.isolation import checkpoint, isolated
from tokentm.methods.method import Stream, require_trace
from tokentm.trace import LayerTrace, Trace

Transformed = Literal["head", "sum", "stream"]
Reference = Literal["stream", "normed"]
HeadMean = Literal["after", "before"]

_EVERY_ROW = slice(None)


@dataclass(frozen=True, eq=False)
class Step:
    """What TokenTM makes of one layer. Where T is not taken per head, H is 1 in the attention quantities.

    Attributes:
        length_ratio: L(T) / L(E) in the attention layer, (B, H, N).
        cosine: cos(E, T) in the attention layer, (B, H, N).
        weight: transformation weight W of the attention layer, (B, H, N).
        ffn_weight: transformation weight of the FFN, (B, N); None when the FFN is left out.
        head_mixing: A W of each head, or relu(G * A W), or mean_h relu(G) * A W, (B, H, N, N).
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

    def __post_init__(self) -> None:
        readings = {
            "normaliser": transformation.Normaliser,
            "transformed": Transformed,
            "reference": Reference,
            "head_mean": HeadMean,
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
    reruns_model = False

    @property
    def stream(self) -> Stream | None:
        """Without a record; a subclass may have changed any part of the method, so only the method itself streams."""
        if type(self) is not TokenTM or self.head_mean != "after":
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
        row = trace.readout
        with torch.no_grad(), torch.autocast(row.device.type, enabled=False):
            for layer in reversed(trace.layers):
                weight = self._weight(*self._compare_attention(layer))
                mixing = self.head_mixing(layer, weight).mean(1)
                row = aggregation.descend(row, partial(_taken, mixing), self._ffn_weight(layer), layer.parallel)
            if self.initialise:
                row = row * torch.linalg.vector_norm(trace.embedding, dim=-1)
        return row[:, trace.layout.prefix :]

    def steps(self, trace: Trace) -> Iterator[Step]:
        """Go through the layers, first to last, one :class:`Step` each."""
        contribution = aggregation.initial_map(trace.embedding)
        if not self.initialise:
            contribution = torch.eye(trace.layout.tokens).to(contribution).expand_as(contribution)
        for layer in trace.layers:
            checkpoint()
            with torch.no_grad(), torch.autocast(contribution.device.type, enabled=False):
                step = self._step(layer, contribution)
            contribution = step.contribution
            yield step

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
            layer: one of ``trace.layers``.
            weight: the layer's transformation weight, ``step.weight``, (B, H, N).
            rows: which tokens take, as an index of the attention's rows; all of them unless told.

        Example:
            >>> method.head_mixing(trace.layers[3], step.weight, slice(0, 1)).shape  # what the class token takes
            torch.Size([1, 12, 1, 197])
        """
        attention = layer.attention[:, :, rows]
        gradient = layer.gradient[:, :, rows] if self.gradient else None
        with torch.no_grad(), torch.autocast(attention.device.type, enabled=False):
            if self._scales_outputs:
                attention = attention * layer.output_factor[:, None, rows, None]
            if gradient is not None and self.head_mean == "before":
                return gradient.relu().mean(1, keepdim=True) * aggregation.head_mixing(attention, weight)
            return aggregation.head_mixing(attention, weight, gradient)

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
}
"""How a part that differs from the default is called in a reading's name."""

LIBRAGRAD = TokenTM(transformed="stream", head_mean="before")
"""How the baseline code of LibraGrad (Mehri et al., CVPR 2025) reads the method."""
