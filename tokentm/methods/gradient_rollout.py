"""Gradient rollout: attention rollout of attention times its gradient. Class-specific.

Source: Gildenblat, "Exploring Explainability for Vision Transformers", 2020 (jacobgil.github.io/deeplearning/
vision-transformer-explainability).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tokentm import aggregation
from tokentm.explanation import Explanation
from tokentm.methods.discarding import check_discard, without_smallest
from tokentm.methods.method import KNOWN, explained
from tokentm.trace import Trace


@dataclass(frozen=True)
class GradientRollout:
    """C_l = normalise_rows(relu(mean_h G^h * A^h) + I) C_{l-1} from C_0 = I: rows of every C_l sum to 1.

    Args:
        discard: share of the entries of relu(mean_h G^h * A^h) that are set to zero, the smallest of each image and
            layer; 0 .. 1, less than 1.

    Raises:
        InvalidOptionError: a share outside of 0 .. 1.

    Example:
        >>> GradientRollout(discard=0.9).name
        'gradient_rollout_discard_0.9'

    Departures: nothing is discarded unless asked for, where the author's default is 0.9; rows are divided by their own
    sums, where the author's code divides the entry (i, j) by the sum of row j.
    """

    discard: float = 0.0

    def __post_init__(self) -> None:
        check_discard(self.discard)

    @property
    def name(self) -> str:
        """What differs from the default, in words: "gradient_rollout", "gradient_rollout_discard_0.9"."""
        return f"gradient_rollout_discard_{self.discard:g}" if self.discard else "gradient_rollout"

    class_specific = True
    signed = False
    reruns_model = False
    stream = None

    def __call__(self, trace: Trace) -> Explanation:
        """Explain the recorded images: scores (B, patches) and the same after each layer."""
        return explained(trace, self.name, self._maps)

    def _maps(self, trace: Trace) -> Tensor:
        mixings = ((layer.gradient * layer.attention).mean(1).relu() for layer in trace.layers)
        kept = (without_smallest(mixing, self.discard) for mixing in mixings)
        return aggregation.roll(kept, trace.readout, trace.layout.prefix, normalise=True)


KNOWN[GradientRollout().name] = GradientRollout()
