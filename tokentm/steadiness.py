"""Whether a model's numbers can be trusted: looked at once for a model that does not change.

One picture runs twice, the second time changed by little more than what rounding to float32 would change. Its map, and
with it attention and gradients, must hardly differ: where weights are so large that rounding decides, both maps differ,
and neither is right. And the images of a batch must have the logits that they have alone.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tokentm.descent import BUDGET, Descent, Folding, Unweighted
from tokentm.errors import NotFiniteError, TokenTMError, UnsupportedModelError
from tokentm.hooks import running
from tokentm.outputs import same
from tokentm.run import Run, Subject, run
from tokentm.vit import Anatomy

_CHANGE = 2.0**-20
"""Size of the change of every pixel, in standard deviations: 8 times what rounding to float32 changes."""

_LARGEST = 5e-3
"""By how much the map may move, relative; rounding then moves it by about as much."""

_steady: WeakKeyDictionary[nn.Module, tuple[Any, ...]] = WeakKeyDictionary()
"""The state in which a model was found to be steady."""

_unmixed: WeakKeyDictionary[nn.Module, tuple[Any, ...]] = WeakKeyDictionary()
"""The state in which a model was found not to mix the images of a batch."""


def check_steady(given: Subject) -> None:
    """Look at the first image twice. Other dtypes than float32 are finer, or refused: there only its answer must stay.

    Raises:
        NotFiniteError: float32 is too coarse for this model.
        UnsupportedModelError: the model gives other answers to the same picture.
    """
    model, first = given.anatomy.model, given.images[:1]
    if _steady.get(model) == given.state:
        return
    if first.dtype != torch.float32:
        _check_answers(given.anatomy, first, len(given.images))
        _steady[model] = given.state
        return
    noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(0)).to(first)
    try:
        row, other = (_map(given, image) for image in (first, first + _CHANGE * first.std().clamp(min=1) * noise))
    except TokenTMError:
        return  # what is wrong with this model is said of the images that were asked about
    except Exception as error:  # whatever a model raises that takes no image alone
        raise _not_alone(given.anatomy, len(given.images), error) from error
    moved = _distance(row, other)
    if not moved < _LARGEST and not _distance(row, _map(given, first)) < _LARGEST / 10:
        raise _random(given.anatomy, "map")
    if not moved < _LARGEST:
        raise NotFiniteError(
            f"{given.anatomy.name}: expected a map that a change of the pixels by {_CHANGE:.0e} hardly moves, found "
            f"that it moves by {moved:.1%}. Weights are so large, or gradients so small, that "
            f"rounding in {first.dtype} decides; run in float64: model.double(), images.double()."
        )
    _steady[model] = given.state


def _check_answers(anatomy: Anatomy, image: Tensor, images: int) -> None:
    try:
        with torch.no_grad(), running(anatomy):
            one, other = anatomy.answer(image), anatomy.answer(image)
    except RuntimeError as error:
        raise _not_alone(anatomy, images, error) from error
    if isinstance(one, Tensor) and isinstance(other, Tensor) and one.isfinite().all() and not same(one, other):
        raise _random(anatomy, "answer")


def _random(anatomy: Anatomy, what: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{anatomy.name}: expected the same answer to the same picture, found another {what} the second time. "
        "Something in it is random; switch it off, or call model.eval()."
    )


def check_unmixed(found: Run) -> None:
    """The first and the last image of a batch must have the logits that they have alone.

    Raises:
        UnsupportedModelError: the model mixes the images of a batch, or gives other answers to the same picture.
    """
    anatomy, images = found.anatomy, found.images
    if len(images) == 1 or _unmixed.get(anatomy.model) == found.state:
        return
    for i in (0, len(images) - 1):
        try:
            with torch.no_grad(), running(anatomy):
                alone = anatomy.answer(images[i : i + 1])
        except Exception as error:
            raise _not_alone(anatomy, len(images), error) from error
        together = found.logits.detach()[i : i + 1]
        if not same(alone, together):
            raise UnsupportedModelError(
                f"{anatomy.name}: expected logits of image {i} that do not depend on the other images of its batch, "
                f"found that they differ by {float((alone - together).abs().max()):.3g}. Something mixes the images (a "
                "statistic of the batch), or is random; run the unmodified model, or pass one image at a time."
            )
    _unmixed[anatomy.model] = found.state


def _not_alone(anatomy: Anatomy, images: int, error: Exception) -> Exception:
    if "modified by an inplace operation" in str(error):
        return UnsupportedModelError(
            f"{anatomy.name}: expected a model that leaves what its gradient needs as it is; found that it changes "
            "it in place later on (attention weights, values: x *= ..., x.zero_()). Write x = x * ..., on a copy."
        )
    if isinstance(error, torch.cuda.OutOfMemoryError) or images == 1:
        return error
    if type(error).__name__ == "CheckpointError":
        return UnsupportedModelError(
            f"{anatomy.name}: expected blocks that run once; found that they run again for the backward pass "
            "(torch.utils.checkpoint), where nothing is recorded. Switch checkpointing off; the numbers are the same."
        )
    return UnsupportedModelError(
        f"{anatomy.name}: expected a model that takes one image as well as {images}; with one it raised "
        f"{type(error).__name__}: {error}"
    )


def _distance(row: Tensor, other: Tensor) -> float:
    return float(torch.linalg.vector_norm(other - row) / torch.linalg.vector_norm(row).clamp(min=1e-300))


def _map(given: Subject, image: Tensor) -> Tensor:
    """The map (1, P), float64, of one image, for its largest output."""
    method = Unweighted()
    keeper = Folding(method)
    found = run(Subject(given.anatomy, image, given.state), lambda logits: logits.amax(1), keeper)
    row = Descent(found, keeper.weights, method, BUDGET, keep_graph=False).row(found.scores.sum())
    return row[:, found.layout.prefix :].double()
