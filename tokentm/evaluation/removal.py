"""What would the model say without these patches? Four ways to take patches away, or other pictures in their place."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from tokentm.errors import InvalidOptionError
from tokentm.hooks import keeping
from tokentm.isolation import isolated
from tokentm.outputs import same
from tokentm.trace import Trace

Replacement = Literal["drop", "zero", "mean", "blur"]

Remover = Callable[[Tensor], Tensor]
"""gone (B, P), bool -> logits (B, classes) of the same images without these patches."""


class Removal:
    """Logits of recorded images with some patches gone: ``Removal(trace)(gone)``.

    Args:
        trace: whose model and images.
        replace: "drop" takes the tokens out of the sequence, after their positions were added, so that nothing stands
            in their place; "zero" fills the pixels with the mean colour of the training set (zero, normalised); "mean"
            with the mean colour of the image; "blur" with the image blurred over one patch. Or other pictures of the
            same shape, (B, C, H, W), whose pixels stand there then.
        index: only this image of the record, ``count`` times over, so that each copy can lose other patches.

    Attributes:
        outputs: what the logits mean, see :data:`tokentm.outputs.Meaning`.

    Raises:
        InvalidOptionError: an unknown replacement; "drop" for a model that knows positions inside its blocks (rotary,
            relative), whose tokens cannot move up, or for one that would have no token left.
        ModelChangedError: the model is no longer what was recorded.

    Example:
        >>> gone = torch.zeros(1, 196, dtype=torch.bool)
        >>> gone[0, :98] = True
        >>> Removal(trace, "zero")(gone).shape
        torch.Size([1, 16])
    """

    def __init__(
        self, trace: Trace, replace: Replacement | Tensor = "drop", *, index: int | None = None, count: int = 1
    ) -> None:
        if not isinstance(replace, Tensor) and replace not in get_args(Replacement):
            raise InvalidOptionError(
                f"expected a replacement among {', '.join(get_args(Replacement))}; got {replace!r}."
            )
        if not isinstance(trace, Trace):
            raise InvalidOptionError(
                f"expected a record from tokentm.record(model, images); got {type(trace).__name__}."
            )
        if index is not None and (not isinstance(index, int) or not 0 <= index < len(trace.logits) or count < 1):
            raise InvalidOptionError(
                f"expected an index from 0 to {len(trace.logits) - 1} and a count of at least 1; got {index!r} and "
                f"{count!r}."
            )
        if isinstance(replace, Tensor) and (replace.shape, replace.dtype) != (trace.images.shape, trace.images.dtype):
            raise InvalidOptionError(
                f"expected pictures {trace.images.dtype} {tuple(trace.images.shape)}, as the recorded images; got "
                f"{replace.dtype} {tuple(replace.shape)}."
            )
        self._anatomy = trace.check_model()
        self._trace, self._replace, self._index = trace, replace, index
        self._images, self._logits, self._layout = trace.images, trace.logits, trace.layout
        if index is not None:
            self._images = trace.images[index].expand(count, -1, -1, -1)
            self._logits = trace.logits[index].expand(count, -1)
        self.outputs = trace.outputs
        self._everything_gone: Tensor | None = None
        if isinstance(replace, str) and replace == "drop":
            isolated(self._check_that_tokens_may_move)

    def score(self, logits: Tensor) -> Tensor:
        """The explained score of such logits, (B, classes) -> (B,)."""
        if self._index is None:
            return self._trace.score(logits)
        # a target may differ between the images of its batch, so it is asked in the place of this one
        found, batch = [], self._trace.logits.clone()
        for one in logits:
            batch[self._index] = one
            found.append(self._trace.score(batch)[self._index].clone())
        return torch.stack(found)

    def __call__(self, gone: Tensor) -> Tensor:
        """gone (B, P), bool; the same number in every image for "drop" -> logits (B, classes).

        Raises:
            InvalidOptionError: another shape or dtype.
            ModelChangedError: the model is no longer what was recorded.
        """
        expected = (len(self._images), self._layout.rows * self._layout.columns)
        if not isinstance(gone, Tensor) or gone.dtype != torch.bool or tuple(gone.shape) != expected:
            found = f"{gone.dtype} {tuple(gone.shape)}" if isinstance(gone, Tensor) else type(gone).__name__
            raise InvalidOptionError(f"expected which patches are gone as bool {expected}; got {found}.")
        self._trace.check_state()
        if not gone.any():
            return self._logits
        if gone.all():  # every ranking ends there
            if self._everything_gone is None:
                self._everything_gone = isolated(lambda: self._without(gone))
            return self._everything_gone
        return isolated(lambda: self._without(gone))

    def of(self, which: Tensor, gone: Tensor) -> Tensor:
        """Logits of some of the images, in any order and as often as asked: (n, classes).

        Args:
            which: their numbers, (n,).
            gone: which patches each of them lacks, (n, P), bool; as many in each for "drop".

        Raises:
            ModelChangedError: the model is no longer what was recorded.
        """
        self._trace.check_state()
        return isolated(lambda: self._without(gone, which))

    @torch.no_grad()
    def _without(self, gone: Tensor, which: Tensor | slice = slice(None)) -> Tensor:
        anatomy, images = self._anatomy, self._images[which]
        if isinstance(self._replace, Tensor) or self._replace != "drop":
            hidden = self._pixels(gone)
            return anatomy.answer(torch.where(hidden, self._fill[which], images))
        counts = gone.sum(1)
        if (counts != counts[0]).any():
            raise InvalidOptionError(
                f"expected the same number of dropped patches in every image; got {counts.tolist()}. Drop them one "
                "image at a time, or replace pixels."
            )
        patches = (~gone).nonzero()[:, 1].view(len(gone), -1)
        return self._keep(patches, images)

    def _keep(self, patches: Tensor, images: Tensor) -> Tensor:
        anatomy, prefix = self._anatomy, self._layout.prefix
        special = torch.arange(prefix, device=patches.device).expand(len(patches), -1)
        kept = torch.cat((special, patches + prefix), dim=1)
        if kept.shape[1] == 0:
            raise InvalidOptionError(
                f"{anatomy.name}: expected a token to be left when all patches are dropped; this model has no class "
                "token. Replace pixels instead: replace='zero'."
            )
        with keeping(anatomy, kept):
            return anatomy.answer(images)

    @torch.no_grad()
    def _check_that_tokens_may_move(self) -> None:
        """Blocks that know no positions give the same logits for the same tokens in another order. One image tells."""
        patches = self._layout.rows * self._layout.columns
        reversed_order = torch.arange(patches - 1, -1, -1, device=self._images.device)
        try:
            logits = self._keep(reversed_order.expand(1, -1), self._images[:1])
            if patches + self._layout.prefix > 1:
                self._keep(reversed_order[: max(1, patches - 1)].expand(1, -1), self._images[:1])
            movable = same(logits, self._logits[:1])
        except RuntimeError:  # positions of a fixed number of tokens
            movable = False
        if not movable:
            raise InvalidOptionError(
                f"{self._anatomy.name}: expected blocks without positions of their own, so that tokens can be "
                "dropped; found that the order of tokens counts (rotary or relative positions). Replace pixels "
                "instead: replace='zero'."
            )

    def _pixels(self, gone: Tensor) -> Tensor:
        """The patches that are gone, in pixels, (B, 1, H, W): each where its token looks, up to the image's edge.

        Where tokens look beside their patches, what no token looks at goes with the nearest patch at the edge.
        """
        layout, (height, width) = self._layout, self._images.shape[2:]
        grid = gone.unflatten(1, (layout.rows, layout.columns))
        row = _nearest(height, layout.rows, layout.offset[0]).to(gone.device)
        column = _nearest(width, layout.columns, layout.offset[1]).to(gone.device)
        return grid[:, row][:, :, column].unsqueeze(1)

    @cached_property
    def _fill(self) -> Tensor:
        images = self._images
        if isinstance(self._replace, Tensor):
            return self._replace if self._index is None else self._replace[self._index].expand_as(images)
        if self._replace == "zero":
            return torch.zeros_like(images)
        if self._replace == "mean":
            return images.mean((2, 3), keepdim=True).expand_as(images)
        # two patches to each side, or as much as reflection at the border allows
        height, width = images.shape[2:]
        patch = height // self._layout.rows
        reach = [min(2 * patch, side - 1) for side in (width, height)]
        return gaussian_blur(images, [2 * r + 1 for r in reach], [float(patch), float(patch)])


def _nearest(pixels: int, patches: int, offset: float) -> Tensor:
    """Which row (or column) of patches each row (or column) of pixels belongs to; the offset is in patches."""
    patch = pixels // patches
    return ((torch.arange(pixels) - round(offset * patch)) // patch).clamp(0, patches - 1)
