"""What would the model say without these patches? Four ways to take patches away."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from tokentm.errors import InvalidOptionError
from tokentm.hooks import keeping
from tokentm.trace import Trace

Replacement = Literal["drop", "zero", "mean", "blur"]

Remover = Callable[[Tensor], Tensor]
"""gone (B, P), bool -> logits (B, classes) of the same images without these patches."""

_SAME = 1e-3


class Removal:
    """Logits of recorded images with some patches gone: ``Removal(trace)(gone)``.

    Args:
        trace: whose model and images.
        replace: "drop" takes the tokens out of the sequence, after their positions were added, so that nothing stands
            in their place; "zero" fills the pixels with the mean colour of the training set (zero, normalised); "mean"
            with the mean colour of the image; "blur" with the image blurred over one patch.

    Raises:
        InvalidOptionError: an unknown replacement; "drop" for a model that knows positions inside its blocks (rotary,
            relative), whose tokens cannot move up, or for one that would have no token left.

    Example:
        >>> gone = torch.zeros(1, 196, dtype=torch.bool)
        >>> gone[0, :98] = True
        >>> Removal(trace, "zero")(gone).shape
        torch.Size([1, 16])
    """

    def __init__(self, trace: Trace, replace: Replacement = "drop") -> None:
        if replace not in get_args(Replacement):
            raise InvalidOptionError(
                f"expected a replacement among {', '.join(get_args(Replacement))}; got {replace!r}."
            )
        self._trace, self._replace = trace, replace
        self._anatomy = trace.check_model()
        self._everything_gone: Tensor | None = None
        if replace == "drop":
            self._check_that_tokens_may_move()

    @torch.no_grad()
    def __call__(self, gone: Tensor) -> Tensor:
        """gone (B, P), bool; the same number in every image for "drop" -> logits (B, classes)."""
        if not gone.any():
            return self._trace.logits
        if gone.all():  # every ranking ends there
            if self._everything_gone is None:
                self._everything_gone = self._without(gone)
            return self._everything_gone
        return self._without(gone)

    def _without(self, gone: Tensor) -> Tensor:
        anatomy = self._anatomy
        if self._replace != "drop":
            hidden = self._pixels(gone)
            return anatomy.logits(anatomy.model(torch.where(hidden, self._fill, self._trace.images)))
        counts = gone.sum(1)
        if (counts != counts[0]).any():
            raise InvalidOptionError(
                f"expected the same number of dropped patches in every image; got {counts.tolist()}. Drop them one "
                "image at a time, or replace pixels."
            )
        patches = (~gone).nonzero()[:, 1].view(len(gone), -1)
        return self._keep(patches, self._trace.images)

    def _keep(self, patches: Tensor, images: Tensor) -> Tensor:
        anatomy, prefix = self._anatomy, self._trace.layout.prefix
        special = torch.arange(prefix, device=patches.device).expand(len(patches), -1)
        kept = torch.cat((special, patches + prefix), dim=1)
        if kept.shape[1] == 0:
            raise InvalidOptionError(
                f"{anatomy.name}: expected a token to be left when all patches are dropped; this model has no class "
                "token. Replace pixels instead: replace='zero'."
            )
        with keeping(anatomy, kept):
            return anatomy.logits(anatomy.model(images))

    @torch.no_grad()
    def _check_that_tokens_may_move(self) -> None:
        """Blocks that know no positions give the same logits for the same tokens in another order. One image tells."""
        trace = self._trace
        patches = trace.layout.rows * trace.layout.columns
        reversed_order = torch.arange(patches - 1, -1, -1, device=trace.images.device)
        logits = self._keep(reversed_order.expand(1, -1), trace.images[:1])
        if not torch.allclose(logits, trace.logits[:1], rtol=_SAME, atol=_SAME):
            raise InvalidOptionError(
                f"{self._anatomy.name}: expected blocks without positions of their own, so that tokens can be dropped; "
                "found that the order of tokens counts (rotary or relative positions). Replace pixels instead: "
                "replace='zero'."
            )

    def _pixels(self, gone: Tensor) -> Tensor:
        layout, (height, width) = self._trace.layout, self._trace.image_size
        grid = gone.unflatten(1, (layout.rows, layout.columns))
        tall = grid.repeat_interleave(height // layout.rows, 1)
        return tall.repeat_interleave(width // layout.columns, 2).unsqueeze(1)

    @cached_property
    def _fill(self) -> Tensor:
        images = self._trace.images
        if self._replace == "zero":
            return torch.zeros_like(images)
        if self._replace == "mean":
            return images.mean((2, 3), keepdim=True).expand_as(images)
        # two patches to each side, or as much as reflection at the border allows
        patch = self._trace.image_size[0] // self._trace.layout.rows
        reach = [min(2 * patch, side - 1) for side in reversed(self._trace.image_size)]
        return gaussian_blur(images, [2 * r + 1 for r in reach], [float(patch), float(patch)])
