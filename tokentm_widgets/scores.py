"""Scores of several methods for one record, and units in which they can be compared. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from tokentm import Method, Trace, methods
from tokentm.errors import InvalidOptionError, TokenTMError
from tokentm_widgets.progress import Progress, reporter


def scores_of(
    trace: Trace, asked: Sequence[str | Method], progress: Progress = False
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Scores (B, P) by method, float32, and the reasons of those that cannot read the trace.

    A reporter given as ``progress`` hears of every method before it is computed, and of the end.

    Raises:
        InvalidOptionError: an unknown method, or one named twice.
        TokenTMError: the first method's own error, where none of them can read the trace.
    """
    if (
        isinstance(asked, str)
        or not isinstance(asked, Iterable)
        or isinstance(asked, Tensor)
        or not (listed := [*asked])
    ):
        raise InvalidOptionError(
            f"expected a list of methods; got {asked if isinstance(asked, str) else type(asked).__name__!r}. Pictures "
            "are given by images=, one method as a list of one."
        )
    scores: dict[str, Tensor] = {}
    errors: dict[str, TokenTMError] = {}
    report = reporter(progress)
    for i, (one, method) in enumerate([(one, methods.get(one)) for one in listed]):
        name = one if isinstance(one, str) else ""
        report(i / len(listed), f"computing {name or _called(method)}")
        try:
            explanation = method(trace)
        except TokenTMError as error:
            name = name or _called(method)
            errors[name] = error
            continue
        name = name or explanation.method
        if name in scores:
            raise InvalidOptionError(
                f"expected each method once; got {name!r} twice. A callable is known by the name in its Explanation: "
                "dataclasses.replace(explanation, method='another name')."
            )
        scores[name] = explanation.scores.detach().float().cpu()
    report(1.0, "computed the methods")
    if not scores:
        raise next(iter(errors.values()))
    return scores, {name: str(error) for name, error in errors.items()}


def _called(method: Method) -> str:
    """How a method that was given as a function is called, before its explanation tells."""
    return str(getattr(method, "__name__", repr(method)))


def share(scores: Tensor) -> Tensor:
    """Scores (..., P) divided by the mean of their sizes, so that the average patch has size 1; zeros stay zeros."""
    return scores / scores.abs().mean(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)


def rank(scores: Tensor) -> Tensor:
    """Share of the patches that score less than each one, ties counted half, (..., P): from 0.5 / P to 1 - 0.5 / P."""
    ordered = scores.sort(-1).values
    below = torch.searchsorted(ordered, scores.contiguous(), right=False)
    up_to = torch.searchsorted(ordered, scores.contiguous(), right=True)
    return (below + up_to).to(scores.dtype) / (2 * scores.shape[-1])


def agreement(ranks: Tensor) -> Tensor:
    """Spearman's rank correlation of every two methods, (M, B, P) -> (B, M, M); NaN where a map ranks nothing."""
    return torch.stack(
        [torch.from_numpy(np.atleast_2d(_corrcoef(of))) for of in ranks.double().transpose(0, 1).numpy()]
    )


def _corrcoef(rows: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # a constant row has no correlation: NaN is the answer
        return np.corrcoef(rows)
