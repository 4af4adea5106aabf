"""Whether a model's numbers can be trusted: looked at once for a model that does not change.

One picture runs a second way, beside a copy that differs by less than rounding to 16 bits would change it. Its logits
must be those that it has among other images, and its map, and with it attention and gradients, must hardly differ from
the copy's: where weights are so large that rounding decides, both ways give different maps, and neither is right.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tokentm.blocks import BlockTrace
from tokentm.descent import BUDGET, Descent, Folding, Weights
from tokentm.errors import NotFiniteError, TokenTMError, UnsupportedModelError
from tokentm.run import Run, Subject, run

_CHANGE = 2.0**-20
"""Size of the change of every pixel, relative: 8 times what rounding to float32 changes."""

_LARGEST = 5e-3
"""How far the map may move, relative: so far rounding moves it, too."""

_SAME = 1e-3
"""How far logits may depend on the other images of a batch, relative to the largest."""

_known: WeakKeyDictionary[nn.Module, tuple[Any, ...]] = WeakKeyDictionary()
"""States of models in which they were found to be steady."""


class _Unweighted:
    """Attention times its positive gradient alone, with every token counting the same."""

    name = "attention and gradient"
    gradient = True
    initialise = False

    def weights(self, layer: BlockTrace) -> Weights:
        return Weights(torch.ones_like(layer.stream[..., 0]).unsqueeze(1), None, None)


def examine(given: Subject) -> Tensor | None:
    """Look at the first image alone; its logits, or None where the model is known or another check will refuse it.

    Raises:
        NotFiniteError: float32 is too coarse for this model.
        UnsupportedModelError: the model does not take one image alone.
    """
    model, first = given.anatomy.model, given.images[:1]
    if _known.get(model) == given.state or first.dtype != torch.float32:
        return None
    noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(0)).to(first)
    try:
        (row, logits), (other, _) = (_map(given, image) for image in (first, first * (1 + _CHANGE * noise)))
    except TokenTMError:
        return None  # what is wrong with this model is said of the images that were asked about
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or len(given.images) == 1:
            raise
        raise UnsupportedModelError(
            f"{given.anatomy.name}: expected a model that takes one image as well as {len(given.images)}; with one it "
            f"raised {type(error).__name__}: {error}"
        ) from error
    moved = float(torch.linalg.vector_norm(other - row) / torch.linalg.vector_norm(row).clamp(min=1e-300))
    if not moved < _LARGEST:
        raise NotFiniteError(
            f"{given.anatomy.name}: expected a map that a change of the pixels by {_CHANGE:.0e} hardly moves, found "
            f"that it moves by {moved:.1%}. Weights are so large that rounding in {first.dtype} decides; run in "
            "float64: model.double(), images.double()."
        )
    _known[model] = given.state
    return logits


def _map(given: Subject, image: Tensor) -> tuple[Tensor, Tensor]:
    """The map (1, P), float64, and the logits (1, classes) of one image, for its predicted class."""
    method = _Unweighted()
    keeper = Folding(method)
    found = run(Subject(given.anatomy, image, given.state), lambda logits: logits.amax(1), keeper)
    row = Descent(found, keeper.weights, method, BUDGET, keep_graph=False).row(found.scores.sum())
    return row[:, found.layout.prefix :].double(), found.logits.detach()


def compare(found: Run, first: Tensor | None) -> None:
    """The first image's logits in its batch must be those that it had in other company.

    Raises:
        UnsupportedModelError: the model mixes the images of a batch.
    """
    if first is None:
        return
    difference = (found.logits.detach()[:1] - first).abs().max()
    if not difference <= _SAME * first.abs().max().clamp(min=1e-6):
        _known.pop(found.anatomy.model, None)
        raise UnsupportedModelError(
            f"{found.anatomy.name}: expected logits of an image that do not depend on the other images of its batch, "
            f"found that they differ by {float(difference):.3g}. Something mixes the images (a statistic of the "
            "batch); pass one image at a time, or run the unmodified model."
        )
