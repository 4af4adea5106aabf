"""What is measured while patches go: the probability of the explained class, or the score of an explained function.

Which of the two follows from the target; how a probability is made of logits follows from what the outputs mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from tokentm.errors import InvalidOptionError
from tokentm.outputs import Meaning, log_odds, log_probability, probabilities
from tokentm.questions import ClassScore
from tokentm.target import resolve

Measured = Tensor | Callable[[Tensor], Tensor]
"""Class indices (B,), whose probabilities are measured; or logits (B, classes) -> scores (B,), which are measured."""


class Observed(NamedTuple):
    """What some logits say about the target, (B,) each; a score has nothing but its value.

    value: the probability of the explained class, or the score. hit: 1 where the model's answer is the explained class
    (the most probable one; of labels by themselves, one above 0.5), else 0. log_probability, log_odds: of the explained
    class, in nats.
    """

    value: Tensor
    hit: Tensor | None = None
    log_probability: Tensor | None = None
    log_odds: Tensor | None = None


def observe(logits: Tensor, target: Measured, outputs: Meaning) -> Observed:
    """Measure logits (B, classes).

    Raises:
        InvalidOptionError: class indices, for outputs without probabilities.
        InvalidTargetError: a function that gives no score for each image.

    Example:
        >>> observe(torch.tensor([[0.0, 0.0]]), torch.tensor([1]), "softmax").value
        tensor([0.5000])
    """
    if not isinstance(target, Tensor):
        return Observed(resolve(target, logits)[0])
    every = probabilities(logits, outputs)
    if every is not None and not bool(((target >= 0) & (target < logits.shape[1])).all()):
        raise InvalidOptionError(f"expected class indices from 0 to {logits.shape[1] - 1}; got {target.tolist()}.")
    if every is None:
        raise InvalidOptionError(
            "expected a model whose outputs have probabilities, to measure that of a class; this model's have none "
            "(outputs='none'). Measure the score itself: pass a function of the outputs as target, for example "
            "lambda outputs: outputs[:, 0]; or say what the outputs mean: 'softmax', 'sigmoid' or 'probabilities'."
        )
    value = every.gather(1, target[:, None]).squeeze(1)
    one_of_all = outputs == "softmax" or (outputs == "probabilities" and _exclude_each_other(every))
    hit = every.argmax(1) == target if one_of_all else value > 0.5
    of_one = outputs == "softmax" and logits.shape[1] == 1  # the odds against no other class have no end
    odds = None if of_one else log_odds(logits, target, outputs)
    return Observed(value, hit.to(value), log_probability(logits, target, outputs), odds)


def _exclude_each_other(every: Tensor) -> bool:
    return bool(torch.allclose(every.sum(1), torch.ones_like(every[:, 0]), atol=1e-3))


def meaning_for(remove: Any, asked: Meaning | None) -> Meaning:
    """What the logits of a remover mean: what is asked for, else what the remover says, else "softmax"."""
    if asked is not None and asked not in get_args(Meaning):
        raise InvalidOptionError(f"expected outputs among {', '.join(get_args(Meaning))} or None; got {asked!r}.")
    return asked or getattr(remove, "outputs", None) or "softmax"


def check(scores: Tensor, target: Measured) -> None:
    """Refuse what cannot be measured.

    Raises:
        InvalidOptionError: scores that are not one row of patches per target, or no target.
    """
    if not isinstance(target, Tensor) and not callable(target):
        raise InvalidOptionError(
            "expected a target: class indices (B,), for example trace.target, or a function of the logits; got "
            f"{'None' if target is None else type(target).__name__}. A record that explains a function has no class "
            "indices: pass trace.explained."
        )
    if isinstance(target, ClassScore) and target.classes is None:
        raise InvalidOptionError(
            f"expected a score of one class for each image; {target!r} is that of whatever class is predicted, which "
            "changes as patches go. Pass trace.target, whose probability is measured, or trace.explained."
        )
    if isinstance(target, Tensor) and (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool):
        raise InvalidOptionError(f"expected class indices; got {target.dtype}.")
    if not isinstance(scores, Tensor) or not torch.isfinite(scores).all():
        raise InvalidOptionError("expected finite scores (B, P), as explanation.scores is; NaN has no rank.")
    if scores.ndim != 2 or (isinstance(target, Tensor) and target.shape != scores.shape[:1]):
        targets = f"{tuple(target.shape)}" if isinstance(target, Tensor) else "a function"
        raise InvalidOptionError(
            f"expected scores (B, P) and targets (B,); got {tuple(scores.shape)} and {targets}. Scores are those of an "
            "explanation, one row of patches for each image."
        )
