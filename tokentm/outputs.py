"""What the numbers that a model puts out mean: logits of classes or labels, probabilities already, or neither."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from tokentm.errors import InvalidOptionError

Meaning = Literal["softmax", "sigmoid", "probabilities", "none"]
"""How probabilities are made of a model's outputs (B, C).

"softmax": one class of C. "sigmoid": each of C labels by itself, or one logit for yes against no. "probabilities": the
outputs are probabilities. "none": numbers without probabilities, such as features or a regression.
"""


def find(outputs: Tensor, asked: Meaning | None, told: Meaning | None) -> Meaning:
    """What outputs (B, C), still attached to the graph of the pass, mean.

    The user's word counts first, then what the model's configuration tells, then what the outputs show: values that a
    softmax or sigmoid has just made, rows of probabilities that sum to 1, a single logit.

    Raises:
        InvalidOptionError: an unknown meaning was asked for, or "probabilities" for numbers that are none.
    """
    if asked is not None and asked not in get_args(Meaning):
        raise InvalidOptionError(f"expected outputs among {', '.join(get_args(Meaning))} or None; got {asked!r}.")
    values = outputs.detach()
    inside = bool(((values >= 0) & (values <= 1)).all())
    if asked == "probabilities" and not inside:
        low, high = values.aminmax()
        raise InvalidOptionError(
            f"expected outputs from 0 to 1 for outputs='probabilities'; this model's go from {low:.3g} to {high:.3g}. "
            "Leave outputs= out, or say 'softmax', 'sigmoid' or 'none'."
        )
    if asked is not None:
        return asked
    if inside and (_made_by_probabilities(outputs) or _sums_to_one(values)):
        return "probabilities"
    if told is not None:
        return told
    return "sigmoid" if values.shape[1] == 1 else "softmax"


def _made_by_probabilities(outputs: Tensor) -> bool:
    """Whether a softmax or sigmoid made the outputs, but for functions that hardly change numbers, or none."""
    node: Any = outputs.grad_fn
    while node is not None and node.name().startswith(_HARDLY_CHANGING):
        sources = [source for source, _ in node.next_functions if source is not None]
        node = sources[0] if len(sources) == 1 else None
    return node is not None and node.name().startswith(("SoftmaxBackward", "SigmoidBackward"))


_HARDLY_CHANGING = tuple(
    f"{name}Backward"
    for name in (
        *("Clamp", "ClampMin", "ClampMax", "View", "UnsafeView", "Reshape", "Alias", "Clone", "ToCopy", "Squeeze"),
        *("Unsqueeze", "Slice", "Select", "Permute", "Transpose", "T", "Expand", "AsStrided"),
    )
)


def _sums_to_one(values: Tensor) -> bool:
    return values.shape[1] > 1 and bool(torch.allclose(values.sum(1), torch.ones_like(values[:, 0]), atol=1e-5))


def same(outputs: Tensor, others: Tensor) -> bool:
    """Whether outputs are those of the same model and images, computed in another way: to 0.1 % of the largest."""
    if outputs.shape != others.shape:
        return False
    return bool((outputs - others).abs().max() <= 1e-3 * others.abs().max())


def probabilities(outputs: Tensor, meaning: Meaning) -> Tensor | None:
    """Probabilities (B, C) of what a model puts out (B, C); None where there are none.

    Example:
        >>> probabilities(torch.tensor([[0.0, 0.0]]), "softmax")
        tensor([[0.5000, 0.5000]])
    """
    if meaning == "softmax":
        return outputs.softmax(1)
    if meaning == "sigmoid":
        return outputs.sigmoid()
    return outputs if meaning == "probabilities" else None


def probability(outputs: Tensor, index: Tensor, meaning: Meaning) -> Tensor:
    """Probability of one class each: outputs (B, C), classes (B,) -> (B,), 0 .. 1. ``meaning`` is not "none"."""
    every = probabilities(outputs, meaning)
    assert every is not None
    return _of(every, index)


def log_probability(outputs: Tensor, index: Tensor, meaning: Meaning) -> Tensor:
    """Its logarithm, in nats, (B,); from logits where there are logits: finite where the probability rounds to 0."""
    if meaning == "softmax":
        return _of(outputs.log_softmax(1), index)
    chosen = _of(outputs, index)
    if meaning == "sigmoid":
        return F.logsigmoid(chosen)
    return chosen.clamp(min=torch.finfo(chosen.dtype).tiny).log()


def log_odds(outputs: Tensor, index: Tensor, meaning: Meaning) -> Tensor:
    """log p / (1 - p) of one class each, in nats, (B,); finite, too, where the probability of a logit rounds to 1.

    Probabilities themselves, without logits, end at the least and the largest that their dtype tells from 0 and 1.
    """
    chosen = _of(outputs, index)
    if meaning == "softmax":
        others = outputs.scatter(1, index[:, None], -torch.inf).logsumexp(1)
        return chosen - others
    if meaning == "sigmoid":
        return chosen
    limits = torch.finfo(chosen.dtype)
    inside = chosen.clamp(limits.tiny, 1 - limits.eps)
    return inside.log() - (-inside).log1p()


def _of(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(1, index[:, None]).squeeze(1)
