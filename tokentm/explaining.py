"""One call from a model and images to an explanation, by whatever method."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from tokentm import methods, texts
from tokentm.errors import InvalidOptionError
from tokentm.explanation import Explanation
from tokentm.methods import Method
from tokentm.outputs import Meaning
from tokentm.pictures import Picture, Transform
from tokentm.run import subject
from tokentm.target import Target
from tokentm.texts import TextTarget
from tokentm.trace import Trace, record
from tokentm.vit import Anatomy


def explain(
    model: nn.Module,
    images: Tensor | Picture | Sequence[Picture],
    target: Target | TextTarget = None,
    method: str | Method | Callable[[Trace], Explanation] = "tokentm",
    transform: Transform | None = None,
    outputs: Meaning | None = None,
    anatomy: Anatomy | None = None,
) -> Explanation:
    """Why did the model give this score? One contribution per patch and image.

    Args:
        model: a ViT of any library or your own, in eval mode, see :func:`describe`.
        images: (B, C, H, W), normalised as the model takes them, on the model's device; or PIL pictures or paths.
        target: None for the predicted class, one class index, one per image, a score with a name (:func:`log_odds`,
            :func:`probability`, :func:`difference` ...), a function logits -> scores (B,), or texts of
            :func:`text_target`.
        method: a name from ``tokentm.methods.METHODS`` or a callable such as ``tokentm.TokenTM(normaliser="mean")``.
        transform: how pictures are prepared, see :func:`prepare`; None asks the model.
        outputs: what the model's outputs mean, see :data:`tokentm.outputs.Meaning`; None finds out.
        anatomy: which of its modules to watch, see :class:`Anatomy`; None takes what :func:`describe` finds.

    Returns:
        An :class:`Explanation` with ``scores`` (B, patches). TokenTM is computed in its streaming form, which needs
        little more than the gradient itself; for ``layer_scores`` too, call the method on a record.

    Raises:
        UnsupportedModelError: the model is not supported, or a check failed; see :func:`record`.
        InvalidImagesError: the images are not what the model takes.
        InvalidTargetError: the target names no class, or its function mixes images or carries no gradient.
        InvalidOptionError: an unknown method or transform, or ``outputs`` that do not fit.
        NotFiniteError: the model makes NaN or infinity of the images, or the method of its record.
        ZeroTokenError: TokenTM meets a token of length zero.

    Example:
        >>> demo = tokentm.load_demo()
        >>> picture = demo.scene(3, classes=["cat", "ball"]).image
        >>> tokentm.explain(demo.model, demo.transform(picture)[None], target=demo.classes.index("cat")).grid
        (14, 14)
    """
    chosen = methods.get(method)
    stream = getattr(chosen, "stream", None)
    if stream is not None:
        return stream(*texts.asked(subject(model, images, transform, anatomy), target), outputs)
    made = chosen(record(model, images, target, transform, outputs, anatomy))
    if not isinstance(made, Explanation):
        raise InvalidOptionError(
            f"expected a method that returns an Explanation; {chosen!r} returned {type(made).__name__}. "
            "Make one with tokentm.Explanation.of(trace, name, scores)."
        )
    return made
