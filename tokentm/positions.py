"""Where in the picture each token looks, measured: which tokens move, and how far, when patches of the picture change.

A token stands for the place around which the pixels lie that it depends on. Tokens that depend on one patch alone show
it in three changes of a picture; for overlapping stems each row and each column of patches changes by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tokentm.errors import UnsupportedModelError
from tokentm.hooks import embed
from tokentm.vit import Anatomy, Layout

_STEP = 0.05
"""Size of the change, in standard deviations of the pixels: small, so that a stem with kinks is linear within it."""

_AT_ONCE = 4
"""Pictures that are embedded together."""

_EXACT = 0.02
"""How far, in patches, a measured centre may be off where every token depends on one patch alone."""

_LARGEST_OFFSET = 1.0
"""In patches; tokens that look farther aside are refused."""

_STEPS = 1 / 8
"""Offsets are rounded to this fraction of a patch; smaller ones cannot be told from the scatter of deep stems."""

_SCATTER = 0.45
_SCATTER_AT_EDGES = 0.75
"""How far, in patches, a token may look beside the common offset; at the edges padding cuts off what it sees."""


def measure(anatomy: Anatomy, like: Tensor, rows: int, columns: int) -> Layout:
    """The layout of the tokens, with the offset at which they look at the picture.

    Args:
        like: images (B, C, H, W) whose size, dtype and device count.
        rows, columns: the grid that the patch embedding puts out.

    Raises:
        UnsupportedModelError: tokens are not in row-major order, do not depend on the picture, or look at places that
            are no grid over it.
    """
    centres = _exact_centres(anatomy, like, rows, columns)
    if centres is None:  # another number of tokens: the run says how many there should be
        return Layout(anatomy.prefix, rows, columns)
    grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).view(-1, 2)
    if (centres - grid).abs().max() < _EXACT:
        return Layout(anatomy.prefix, rows, columns)
    still = ~centres.isfinite().all(1)
    if still.any():
        behind = anatomy.prefix > 0 and bool(still[-anatomy.prefix :].all()) and int(still.sum()) == anatomy.prefix
        raise UnsupportedModelError(
            f"{anatomy.name}: expected every patch token to change with the picture, found some that do not"
            + (
                f": the last {anatomy.prefix} of them. Class and register tokens must stand before the patches."
                if behind
                else ". A map of them would show nothing; look at the patch embedding and its hooks."
            )
        )
    centres = _centres(anatomy, like, rows, columns)
    assert centres is not None
    beside = centres - grid
    inner = _inner(rows, columns)
    offset = beside[inner if inner.any() else ~inner].quantile(0.5, 0)
    scatter = (beside - offset).abs().amax(1)
    allowed = torch.where(inner, _SCATTER, _SCATTER_AT_EDGES)
    if (scatter > allowed).any() or float(offset.abs().max()) > _LARGEST_OFFSET:
        patch = int((scatter - allowed).argmax())
        row, column = (float(v) for v in centres[patch])
        raise UnsupportedModelError(
            f"{anatomy.name}: expected patch tokens in row-major order, each looking at its own place of the picture "
            f"(or all shifted alike), found token {anatomy.prefix + patch}, the patch at row {patch // columns}, "
            f"column {patch % columns} of {rows} x {columns}, looking around row {row:.2f}, column {column:.2f}. A map "
            f"would lie on the wrong place. {anatomy.advice}."
        )
    down, right = (round(float(v) / _STEPS) * _STEPS if abs(float(v)) >= _STEPS else 0.0 for v in offset)
    return Layout(anatomy.prefix, rows, columns, (down, right))


def _inner(rows: int, columns: int) -> Tensor:
    """Which patches do not lie at an edge of the picture, (P,)."""
    inside = torch.zeros(rows, columns, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    return inside.flatten()


def _centres(anatomy: Anatomy, like: Tensor, rows: int, columns: int) -> Tensor | None:
    """Mean row and column of what each patch token depends on, (P, 2), NaN where it does not move.

    One row of patches changes after the other, then one column after the other: a row counts by the square of how far
    a token then moves. None where there is another number of tokens.
    """
    base, noise = _noise(like)
    height, width = like.shape[2:]
    tall, wide = torch.arange(height) * rows // height, torch.arange(width) * columns // width
    where = [*((tall == r)[:, None] for r in range(rows)), *((wide == c)[None] for c in range(columns))]
    moved = _moves(anatomy, like, base, [noise * one for one in where])
    if moved.shape[1] != rows * columns:
        return None
    by_row, by_column = moved.split((rows, columns))
    return torch.stack([_mean_index(by_row), _mean_index(by_column)], 1)


def _exact_centres(anatomy: Anatomy, like: Tensor, rows: int, columns: int) -> Tensor | None:
    """The same from three changes of the picture, right where every token depends on one patch alone.

    The noise grows with the square root of the row, then of the column, so that the square of a move grows with it.
    """
    base, noise = _noise(like)
    height, width = like.shape[2:]
    row, column = torch.arange(height) * rows // height + 1, torch.arange(width) * columns // width + 1
    moved = _moves(anatomy, like, base, [noise, noise * row.sqrt()[:, None], noise * column.sqrt()[None]])
    if moved.shape[1] != rows * columns:
        return None
    return (moved[1:] / moved[0] - 1).T


def _noise(like: Tensor) -> tuple[Tensor, Tensor]:
    """A picture of noise, and a small change of it, (C, H, W) each."""
    generator = torch.Generator().manual_seed(0)
    base, change = (torch.randn(like.shape[1:], generator=generator) for _ in range(2))
    return base, _STEP * change


def _moves(anatomy: Anatomy, like: Tensor, base: Tensor, changes: Sequence[Tensor]) -> Tensor:
    """Squared distance by which each change of a picture moves each patch token: (changes, P), float64."""
    prefix = anatomy.prefix
    still = embed(anatomy, base[None].to(like))[:, prefix:].double().cpu()
    found = []
    for first in range(0, len(changes), _AT_ONCE):
        pictures = torch.stack([base + change for change in changes[first : first + _AT_ONCE]]).to(like)
        tokens = embed(anatomy, pictures)[:, prefix:].double().cpu()
        found.append((tokens - still).square().sum(-1))
    return torch.cat(found)


def _mean_index(weights: Tensor) -> Tensor:
    """(n, P) -> mean of 0 .. n-1 with these weights, (P,)."""
    return (torch.arange(len(weights)).double() @ weights) / weights.sum(0)
