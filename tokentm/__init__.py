"""tokentm: look inside a Vision Transformer's decision.

model, images --record--> Trace --method--> Explanation --> plots, widgets, metrics
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tokentm import methods, streaming
from tokentm.demo import load_demo
from tokentm.errors import (
    InvalidImagesError,
    InvalidOptionError,
    InvalidTargetError,
    NotFiniteError,
    TokenTMError,
    UnsupportedModelError,
)
from tokentm.explanation import Explanation
from tokentm.methods import Method, TokenTM
from tokentm.pictures import Picture, Prepared, Transform, prepare, seen
from tokentm.target import Target
from tokentm.trace import LayerTrace, Trace, record
from tokentm.version import __version__

__all__ = [
    "Explanation",
    "InvalidImagesError",
    "InvalidOptionError",
    "InvalidTargetError",
    "LayerTrace",
    "NotFiniteError",
    "Prepared",
    "TokenTM",
    "TokenTMError",
    "Trace",
    "UnsupportedModelError",
    "__version__",
    "explain",
    "load_demo",
    "methods",
    "prepare",
    "record",
    "seen",
]


def explain(
    model: nn.Module,
    images: Tensor | Picture | Sequence[Picture],
    target: Target = None,
    method: str | Method = "tokentm",
    transform: Transform | None = None,
) -> Explanation:
    """Why did the model give this score? One contribution per patch and image.

    Args:
        model: a supported ViT of timm, torchvision or Hugging Face, in eval mode.
        images: (B, C, H, W), normalised as the model takes them, on the model's device; or PIL pictures or paths.
        target: None for the predicted class, one class index, one per image, or a function logits -> scores (B,).
        transform: how pictures are prepared, see :func:`prepare`; None asks the model.
        method: a name from ``tokentm.methods.METHODS`` or a callable such as ``tokentm.TokenTM(normaliser="mean")``.

    Returns:
        An :class:`Explanation` with ``scores`` (B, patches). TokenTM is computed in its streaming form, which needs
        little more than the gradient itself; for ``layer_scores`` too, call the method on a record.

    Raises:
        UnsupportedModelError, InvalidImagesError, InvalidTargetError, InvalidOptionError: expected, found, next step.

    Example:
        >>> demo = tokentm.load_demo()
        >>> picture = demo.scene(3, classes=["cat", "ball"]).image
        >>> tokentm.explain(demo.model, demo.transform(picture)[None], target=demo.classes.index("cat")).grid
        (14, 14)
    """
    chosen = methods.get(method)
    if isinstance(chosen, TokenTM) and streaming.streams(chosen):
        return streaming.explain(model, images, target, chosen, transform)
    return chosen(record(model, images, target, transform))
