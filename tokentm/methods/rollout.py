"""Attention rollout. Class-agnostic.

Sources: Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020; for other fusions of heads and the
discard ratio Gildenblat, "Exploring Explainability for Vision Transformers", 2020
(jacobgil.github.io/deeplearning/vision-transformer-explainability); for the first layer Chefer, Gur, Wolf, CVPR 2021,
whose code has ``start_layer``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from tokentm import aggregation
from tokentm.errors import InvalidOptionError
from tokentm.explanation import Explanation
from tokentm.methods.discarding import check_discard, without_smallest
from tokentm.methods.method import KNOWN, explained
from tokentm.trace import Trace

Fusion = Literal["mean", "max", "min"]


@dataclass(frozen=True)
class Rollout:
    """C_l = normalise_rows(A + I) C_{l-1} from C_0 = I, A the heads' attention, fused: rows of every C_l sum to 1.

    Args:
        fusion: what is made of the heads: their "mean", as in the paper, or of every entry the "max" or "min".
        discard: share of the entries of A that are set to zero, the smallest of each image and layer; 0 .. 1, less than
            1. The class token's attention to itself, the first entry, always stays.
        start: the first layer that counts, from 0; the layers below it count as the identity.

    Raises:
        InvalidOptionError: an unknown fusion, a share outside of 0 .. 1, no such layer.

    Example:
        >>> Rollout(fusion="max", discard=0.9).name
        'rollout_max_discard_0.9'
        >>> Rollout(start=2)(trace).layer_scores.shape
        torch.Size([1, 8, 196])

    Departures: rows are divided by their own sums, as in the paper; Gildenblat's code divides the entry (i, j) by the
    sum of row j. Without a token before the patches the first entry is a patch's, and has no privilege.
    """

    fusion: Fusion = "mean"
    discard: float = 0.0
    start: int = 0

    def __post_init__(self) -> None:
        if self.fusion not in get_args(Fusion):
            choices = " or ".join(map(repr, get_args(Fusion)))
            raise InvalidOptionError(f"expected fusion {choices}; got {self.fusion!r}.")
        check_discard(self.discard)
        if isinstance(self.start, bool) or not isinstance(self.start, int) or self.start < 0:
            raise InvalidOptionError(
                f"expected start=0 or a higher number, the first layer that counts; got {self.start!r}."
            )

    @property
    def name(self) -> str:
        """What differs from the default, in words: "rollout", "rollout_max", "rollout_discard_0.9" ..."""
        words = [
            *([self.fusion] if self.fusion != "mean" else []),
            *([f"discard_{self.discard:g}"] if self.discard else []),
            *([f"from_{self.start}"] if self.start else []),
        ]
        return "_".join(("rollout", *words))

    class_specific = False
    signed = False
    reruns_model = False
    stream = None

    def __call__(self, trace: Trace) -> Explanation:
        """Explain the recorded images: scores (B, patches) and the same after each layer."""
        return explained(trace, self.name, self._maps)

    def _maps(self, trace: Trace) -> Tensor:
        if self.start >= len(trace.layers):
            raise InvalidOptionError(
                f"expected a layer that the model has, start=0 to {len(trace.layers) - 1}; got {self.start}."
            )
        prefix = trace.layout.prefix
        fused = (_fused(layer.attention, self.fusion) for layer in trace.layers)
        mixings = (
            without_smallest(mixing, self.discard, keep_first=prefix > 0) if i >= self.start else mixing * 0
            for i, mixing in enumerate(fused)
        )
        return aggregation.roll(mixings, trace.readout, prefix, normalise=True)


def _fused(attention: Tensor, fusion: Fusion) -> Tensor:
    """(B, H, N, N) -> (B, N, N)."""
    if fusion == "mean":
        return attention.mean(1)
    return attention.amax(1) if fusion == "max" else attention.amin(1)


KNOWN[Rollout().name] = Rollout()
