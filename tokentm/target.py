"""From what a user calls a target to one score per image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tokentm.errors import InvalidTargetError
from tokentm.outputs import Meaning
from tokentm.questions import ClassScore, Difference

Target = int | Sequence[int] | Tensor | Callable[[Tensor], Tensor] | None
"""None: the predicted class. int: one class for all images. Sequence or tensor (B,): one class per image.
Callable: logits (B, classes) -> scores (B,), for example a difference of two classes. Those that have a name, such as
:func:`tokentm.log_odds`, are callables that know their class, see :mod:`tokentm.questions`."""


def bind(target: Target, logits: Tensor, outputs: Meaning, names: Sequence[str] | None) -> Target:
    """The target; one with a name, with the classes that it means in these logits (B, classes).

    Args:
        outputs: what the logits mean.
        names: the model's names of its classes, where it has some.

    Raises:
        InvalidTargetError: a class that the model does not have, or no probabilities where they are needed.
    """
    return target.bind(logits, outputs, names) if isinstance(target, (ClassScore, Difference)) else target


def resolve(target: Target, logits: Tensor) -> tuple[Tensor, Tensor | None]:
    """Scores to explain (B,), still attached to the logits' graph, and the class indices (B,).

    The indices are None for a callable that is about no class. A target with a name must have been bound to the model's
    answer before (``bind``); one that was not takes the class that these logits predict.

    Raises:
        InvalidTargetError: an index out of range, a wrong number of targets, a wrong type, or scores of a wrong shape.
    """
    batch, classes = logits.shape
    if callable(target):
        scores = _called(target, logits)
        if not isinstance(scores, Tensor) or scores.shape != (batch,) or scores.dtype != logits.dtype:
            found = f"{scores.dtype} {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
            raise InvalidTargetError(
                f"expected the target function to turn logits ({batch}, {classes}) into {logits.dtype} scores "
                f"({batch},); got {found}. Example: lambda logits: logits[:, 3] - logits[:, 7]."
            )
        if not torch.isfinite(scores).all():
            raise InvalidTargetError(
                f"expected finite scores from the target function; got {scores.detach().tolist()}."
            )
        return scores, target.indices(logits) if isinstance(target, ClassScore) else None
    index = _indices(target, logits)
    wrong = [i for i in index.tolist() if not 0 <= i < classes]
    if wrong:
        raise InvalidTargetError(f"expected class indices from 0 to {classes - 1}; got {wrong}.")
    return logits.gather(1, index[:, None]).squeeze(1), index


def check_target(target: Target, logits: Tensor, scores: Tensor) -> None:
    """A score must depend on the logits of its own image, and on no other's; ``scores`` are those of ``resolve``.

    Raises:
        InvalidTargetError: scores without a gradient, or a function that mixes the images of a batch.
    """
    if not scores.requires_grad:
        raise InvalidTargetError(
            "expected a target function that depends on the logits; its scores carry no gradient. "
            "Avoid detach(), item() and argmax in it."
        )
    if not callable(target) or len(logits) == 1:
        return
    own = logits.detach().requires_grad_()
    again = _called(target, own)
    if not again.requires_grad:
        return
    weight = torch.linspace(1, 2, len(own)).to(own)  # what image j gives to the score of i comes with i's weight
    plain, weighted = (
        torch.autograd.grad((factor * again).sum(), own, retain_graph=True, allow_unused=True)[0]
        for factor in (torch.ones_like(weight), weight)
    )
    if plain is None or weighted is None:
        return
    mixed = (weighted - weight[:, None] * plain).abs().amax(1)
    wrong = (mixed > _MIXED * plain.abs().max().clamp(min=torch.finfo(own.dtype).tiny)).nonzero().flatten().tolist()
    if wrong:
        raise InvalidTargetError(
            "expected a target function whose score of an image depends on the logits of that image alone; found "
            f"that other images' scores depend on the logits of image(s) {wrong} of the batch. Does it sum or "
            "normalise over all images (a missing dim=1), or compare images with each other? Compare with a constant: "
            "other = model(images).detach() beforehand."
        )


_MIXED = 1e-4
"""Largest share of the gradient, beyond rounding, that may go to another image's logits."""


def _called(target: Callable[[Tensor], Tensor], logits: Tensor) -> Any:
    """The function's scores; it is given a copy, so that it may work in place."""
    try:
        return target(logits.clone())
    except Exception as error:
        raise InvalidTargetError(
            f"expected a function of logits {tuple(logits.shape)}; the one that was given raised "
            f"{type(error).__name__}: {error}"
        ) from error


def _indices(target: Target, logits: Tensor) -> Tensor:
    batch = len(logits)
    if target is None:
        return logits.detach().argmax(1)
    if isinstance(target, int) and not isinstance(target, bool) and not 0 <= target < logits.shape[1]:
        raise InvalidTargetError(f"expected class indices from 0 to {logits.shape[1] - 1}; got {[target] * batch}.")
    if isinstance(target, int) and not isinstance(target, bool):
        return torch.full((batch,), target, device=logits.device)
    try:
        if isinstance(target, (str, bool)):
            raise TypeError
        index = torch.as_tensor(target)
        integral = not (index.dtype.is_floating_point or index.dtype.is_complex or index.dtype == torch.bool)
        integral = integral and index.layout == torch.strided and not index.is_meta
    except (TypeError, ValueError, RuntimeError, OverflowError, NotImplementedError):
        integral = False
    if not integral:
        raise InvalidTargetError(
            f"expected None, a class index, one index per image or a function of the logits; got {target!r}. "
            "Look a class name up first, for example classes.index('cat')."
        )
    if index.ndim == 0:
        index = index.expand(batch)
    if index.shape != (batch,):
        raise InvalidTargetError(
            f"expected one target for each of the {batch} image(s); got shape {tuple(index.shape)}. To explain several "
            "classes of one image, repeat it: images.expand(k, -1, -1, -1) with k targets."
        )
    return index.to(logits.device, torch.long)
