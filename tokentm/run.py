"""One run: one pass of one model over some images, with all its checks in one order.

    model, images --prepare--> Subject --run--> Run      each block is handed to a keeper as soon as it has been checked

:func:`tokentm.record` keeps every block; the streaming form of TokenTM folds them as they pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokentm import outputs, positions, vit
from tokentm.blocks import BlockTrace, Gaps, observe
from tokentm.discovery import describe
from tokentm.errors import (
    InvalidOptionError,
    InvalidTargetError,
    NotFiniteError,
    TokenTMError,
    UnsupportedModelError,
)
from tokentm.hooks import recording, state_of
from tokentm.outputs import Meaning
from tokentm.passes import Pass, Passes, leads_to
from tokentm.pictures import Picture, Transform, prepare
from tokentm.target import Target, bind, check_target, resolve
from tokentm.vit import Anatomy, Block, Layout

IDENTITY_TOLERANCE = 1e-4
"""Largest relative error, in float32, between what a block did and what its description says."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, described, and images that it takes.

    Attributes:
        anatomy: the model.
        images: (B, C, H, W).
        state: what the model is now, see :func:`tokentm.hooks.state_of`.
    """

    anatomy: Anatomy
    images: Tensor
    state: tuple[Any, ...]


class Keeper(Protocol):
    """What becomes of the blocks of a run.

    Attributes:
        stays_fused: attention is left to the model's fused function; its weights are not kept.
    """

    stays_fused: bool

    def mixed(self, seen: Pass) -> Tensor:
        """What the heads of a block put out, A v, (B, H, N, d)."""

    def keep(self, i: int, block: BlockTrace, seen: Pass) -> None:
        """Called with every block as soon as it has run."""


@dataclass(frozen=True, eq=False)
class Run:
    """A forward pass that passed its checks, with its graph.

    Attributes:
        anatomy, images, state: as in :class:`Subject`; the images a copy.
        layout: the tokens.
        passes: what the model showed.
        logits: (B, classes), with their graph.
        outputs: what the logits mean.
        answers: the logits, one row for each score, (S, classes): those of all images, or of the only one repeated.
        scores: the explained score of each image, or several of the only one, (S,), with their graph.
        target: explained class per image, or None for a function.
        explained: the target as it was asked for; one with a name is bound to this pass.
        errors: relative error of each block's attention output against its per-head parts.
    """

    anatomy: Anatomy
    images: Tensor
    state: tuple[Any, ...]
    layout: Layout
    passes: Passes
    logits: Tensor
    outputs: Meaning
    answers: Tensor
    scores: Tensor
    target: Tensor | None
    explained: Target
    errors: tuple[float, ...]

    def readout(self, gradient: Tensor | None) -> Tensor:
        """Share of each final token in what the score reads, (B, N), rows sum to 1.

        It is the token's share of the gradient's length at the last norm's output: 1 at a class token, 1 / P for an
        average of patches, and what the head makes of it for learnt pooling or halves of different weight. Attention
        pooling tells it itself: its attention, averaged over heads.

        Args:
            gradient: of the scores with respect to the final tokens ``passes.last``, (B, N, D); None where none came.

        Raises:
            InvalidTargetError: a score that depends on no token.
        """
        read = torch.zeros_like(self.passes.last) if gradient is None else gradient
        lengths = torch.linalg.vector_norm(read, dim=2)
        without = (lengths.sum(1) == 0).nonzero().flatten().tolist()
        if without:
            raise InvalidTargetError(
                f"expected scores that depend on the image; for image(s) {without} of the batch the gradient at the "
                "final tokens is zero everywhere. Look at the target function and at the classifier head's weights."
            )
        if self.passes.pool is None:
            return lengths / lengths.sum(1, keepdim=True)
        return _attention_of_pool(self.anatomy, self.passes.pool, self.layout).expand(len(lengths), -1)


def subject(
    model: nn.Module,
    images: Tensor | Picture | Sequence[Picture],
    transform: Transform | None = None,
    described: Anatomy | None = None,
) -> Subject:
    """The model, described, and images that it takes; see :func:`tokentm.record` for what is refused."""
    if not isinstance(images, Tensor):
        images = prepare(model, images, transform, described).images
    anatomy = describe(model, images) if described is None else _own_description(model, described)
    vit.check_images(anatomy, images)
    return Subject(vit.ready(anatomy), images, state_of(model))


def _own_description(model: nn.Module, described: Anatomy) -> Anatomy:
    if not isinstance(described, Anatomy) or described.model is not model:
        found = "of another model" if isinstance(described, Anatomy) else f"a {type(described).__name__}"
        raise InvalidOptionError(
            f"expected anatomy=tokentm.Anatomy(model=model, ...) of the model that is explained; got one {found}."
        )
    if not described.blocks or not all(isinstance(block, Block) for block in described.blocks):
        raise InvalidOptionError("expected an Anatomy with at least one tokentm.Block in its blocks.")
    vit.check_blocks(described)
    vit.check_state(described)
    return described


def run(
    given: Subject,
    target: Target,
    keeper: Keeper,
    asked: Meaning | None = None,
    expand: int | None = None,
) -> Run:
    """Run the model once forward and hand its blocks to the keeper. Call it isolated (see isolation.py).

    Args:
        asked: what the user says that the outputs mean; None finds out.
        expand: how many targets one image has.

    Raises:
        UnsupportedModelError, InvalidTargetError, NotFiniteError: see :func:`tokentm.record`.
    """
    anatomy, images = given.anatomy, given.images.detach().clone()
    layout = _layout(given)
    gaps: list[Gaps] = []
    doubts: list[TokenTMError] = []

    @torch.no_grad()
    def finish(i: int, passes: Passes) -> None:
        """What is needed of a block, taken as soon as it has run; the rest of it is freed."""
        if doubts:
            return
        try:
            _check_layout(anatomy, passes, layout)
            _check_block(anatomy, i, passes, layout)
            seen = passes.blocks[i]
            block, found = _observed(anatomy, i, seen, keeper.mixed(seen))
            gaps.append(found)
            keeper.keep(i, block, seen)
            seen.forget()
        except TokenTMError as error:
            doubts.append(error)  # logits that are not finite say more about why: they are looked at first

    with recording(anatomy, finish=finish, stays_fused=keeper.stays_fused) as passes:
        logits = anatomy.answer(images)
    _check_logits(anatomy, logits, len(images))
    if doubts:
        raise doubts[0]
    _check_ran(anatomy.name, passes)
    check_outside(anatomy, passes, logits)
    if passes.changed:
        raise UnsupportedModelError(_changed(anatomy, passes.changed))
    errors = _check_gaps(anatomy, gaps)
    _check_reached(anatomy, logits.requires_grad)
    meaning = _meaning(anatomy, logits, asked, target)
    expanded = logits if expand is None else logits.expand(expand, -1)
    explained = bind(target, expanded, meaning, anatomy.class_names)
    scores, index = resolve(explained, expanded)
    check_target(explained, expanded, scores)
    return Run(
        anatomy, images, given.state, layout, passes, logits, meaning, expanded, scores, index, explained, errors
    )


def _observed(anatomy: Anatomy, i: int, seen: Pass, mixed: Tensor) -> tuple[BlockTrace, Gaps]:
    try:
        return observe(anatomy.blocks[i], seen, mixed)
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError) as error:
        raise UnsupportedModelError(
            f"{anatomy.name}: expected block {i} to be what its description says, found that their shapes do not fit "
            f"together ({type(error).__name__}: {error}). Look at the Block's path, update, mid and ffn_update."
        ) from error


def check_outside(anatomy: Anatomy, passes: Passes, logits: Tensor) -> None:
    """All attention that logits are made of must lie in the blocks, or in the pooling, which is one attention, rebuilt
    as the model's own.
    """
    name, pool = anatomy.name, passes.pool
    outside = passes.before
    if passes.outside:
        outside += len(leads_to(logits, []).intersection(passes.outside))
    if outside:
        raise UnsupportedModelError(
            f"{name}: expected all attention inside its {len(anatomy.blocks)} blocks, found {outside} "
            "attention call(s) outside of them (a block that is not described, an attention in the head). What they "
            "mix would be missing from a map."
        )
    if pool is not None and (len(pool.attention) != 1 or not pool.mixing_error < IDENTITY_TOLERANCE):
        raise UnsupportedModelError(
            f"{name}: expected one attention in its pooling that agrees with the model's own to "
            f"{IDENTITY_TOLERANCE:g}, found {len(pool.attention)}, error {pool.mixing_error:.3g}. "
            f"{anatomy.advice} in float32."
        )


def check_gradient(anatomy: Anatomy, found: Tensor | None) -> None:
    """The gradient must come down to the attention of the first block; where it is cut, all below counts as nothing."""
    _check_reached(anatomy, found is not None)


def check_identity(anatomy: Anatomy, i: int, error: float) -> None:
    """The attention output must be the sum of its per-head parts, attention times transformed tokens."""
    if not error < IDENTITY_TOLERANCE:  # also catches NaN
        raise UnsupportedModelError(
            f"{anatomy.name}: expected the attention output of block {i} to equal the sum of its per-head "
            f"parts to {IDENTITY_TOLERANCE:g} (relative), found {error:.3g}. Something acts between the heads and the "
            f"residual stream (a hook, a gate, a low-precision product). {anatomy.advice} in float32."
        )


_layouts: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], dict[Any, Layout]]] = WeakKeyDictionary()
"""The state in which a model was measured, and what was found, by size and dtype of its images."""


def _layout(given: Subject) -> Layout:
    """Where the tokens look, measured once for a model that has not changed since."""
    anatomy, images = given.anatomy, given.images
    state, known = _layouts.get(anatomy.model, (None, {}))
    if state != given.state:
        known = {}
        _layouts[anatomy.model] = (given.state, known)
    described = (anatomy.prefix, anatomy.patch, id(anatomy.blocks[0].entry))
    key = (tuple(images.shape[1:]), images.dtype, images.device, described)
    if key not in known:
        rows, columns = (side // patch for side, patch in zip(images.shape[2:], anatomy.patch, strict=True))
        known[key] = positions.measure(anatomy, images, rows, columns)
    return known[key]


def _meaning(anatomy: Anatomy, logits: Tensor, asked: Meaning | None, target: Target) -> Meaning:
    """What the outputs mean; features have no classes, so they need a target."""
    features = anatomy.headless
    if features and target is None and asked is None:
        raise InvalidTargetError(
            f"{anatomy.name} returns features, not classes: it has no head, and its {logits.shape[1]} outputs are its "
            "width. So there is no predicted class. Expected a function of the features, for example lambda features: "
            "(features * other).sum(1), or the index of one."
        )
    return outputs.find(logits, asked, "none" if features else anatomy.outputs)


def _check_layout(anatomy: Anatomy, passes: Passes, layout: Layout) -> None:
    """The patch embedding must have put out one grid that tiles the image."""
    if anatomy.embedding is None:
        return
    grids = [tuple(grid.shape) for grid in passes.grids]
    grid = (layout.rows, layout.columns)
    known = len(grids) == 1 and (
        grids[0][2:] == grid or grids[0][1:3] == grid or (len(grids[0]) == 3 and grids[0][1] == math.prod(grid))
    )
    if not known:
        raise UnsupportedModelError(
            f"{anatomy.name}: expected one grid of {layout.rows} x {layout.columns} patches, {anatomy.patch} pixels "
            f"each, that tiles the image, found {grids} from its patch embedding. A map would not lie on the picture. "
            f"{anatomy.advice}."
        )


def _check_block(anatomy: Anatomy, i: int, passes: Passes, layout: Layout) -> None:
    """A block must attend once, over all tokens of the layout, and read what the block below wrote."""
    name, seen, block = anatomy.name, passes.blocks[i], anatomy.blocks[i]
    if seen.calls != 1:
        raise UnsupportedModelError(
            f"{name}: expected one attention in block {i}, found {seen.calls}: one is a call of "
            "scaled_dot_product_attention or MultiheadAttention, or a softmax over tokens and a product with what it "
            "made, unchanged. So it cannot be recorded, and a map would be wrong."
        )
    tokens = seen.stream.shape[1]
    if tokens != layout.tokens:
        raise UnsupportedModelError(
            f"{name}: expected {layout.prefix} prefix tokens + {layout.rows} x {layout.columns} patches = "
            f"{layout.tokens} tokens in block {i}, found {tokens}. Is patch dropout, pruning or merging at work?"
        )
    if seen.value[0].shape[1] != block.heads:
        raise UnsupportedModelError(
            f"{name}: expected {block.heads} heads in block {i}, as it is described, found {seen.value[0].shape[1]}."
        )
    idle = [type(module).__name__ for module in block.read if not seen.outputs[module]]
    if idle:
        raise UnsupportedModelError(
            f"{name}: expected block {i} to call its {', '.join(idle)}, as it is described, found that it does not. "
            f"{anatomy.advice}."
        )
    if i > 0:
        below: Tensor | None = getattr(passes.blocks[i - 1], "stream_out", None)  # None: it has not run yet
        if below is not seen.stream and (below is None or not torch.equal(below, seen.stream)):
            raise UnsupportedModelError(_changed(anatomy, f"block {i}"))


def _check_ran(name: str, passes: Passes) -> None:
    """Every block must have run to its end."""
    missing = [str(one.number) for one in passes.blocks if not hasattr(one, "stream_out")]
    if missing:
        raise UnsupportedModelError(
            f"{name}: expected the model to run all of its {len(passes.blocks)} blocks, found that it leaves out block "
            f"{', '.join(missing)} (an early exit, a wrapper that takes fewer). Describe those that run, or explain "
            "the model that runs all."
        )


def _changed(anatomy: Anatomy, reader: str) -> str:
    number = reader.removeprefix("block ")
    writer = f"block {int(number) - 1}" if number.isdigit() else "the last block"
    return (
        f"{anatomy.name}: expected {reader} to read what {writer} wrote, found that something changes the stream "
        f"between them (a hook, a prompt). {anatomy.advice}."
    )


def _check_logits(anatomy: Anatomy, logits: Any, images: int) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != images:
        shape = isinstance(logits, Tensor)
        found = f"shape {tuple(logits.shape)}" if shape else type(logits).__name__
        if isinstance(logits, (tuple, list)):
            advice = (
                "A distilled model in training returns two heads: call model.eval(). Of a model that returns features "
                "beside its logits, explain a module whose forward returns the logits alone."
            )
        elif shape and logits.ndim == 1:
            advice = "Scores that were squeezed: return them as a column, output.unsqueeze(1)."
        else:
            advice = "Let the model return one tensor with a row for each image."
        raise UnsupportedModelError(f"{anatomy.name}: expected logits (batch, classes), found {found}. {advice}")
    if not torch.isfinite(logits).all():
        bad = (~torch.isfinite(logits).all(1)).nonzero().flatten().tolist()
        raise NotFiniteError(
            f"{anatomy.name}: expected finite logits; found NaN or infinity for image(s) {bad}. Look for NaN "
            "in the weights, or run in float64 (model.double(), images.double()) to see whether numbers overflow."
        )


def _check_gaps(anatomy: Anatomy, gaps: Sequence[Gaps]) -> tuple[float, ...]:
    """A block must be attention and FFN on a stream, and nothing else; returns the errors of the attention outputs.

    All gaps are looked at in one go: to look at a number is to wait for a GPU.
    """
    errors = []
    for i, found in enumerate(torch.stack([one.stacked() for one in gaps]).tolist()):
        gap = dict(zip(Gaps.names(), found, strict=True))
        check_identity(anatomy, i, gap["update"])
        errors.append(gap["update"])
        texts = {
            "attention": _writes(anatomy, "attention", i, gap["attention"]),
            "ffn": _writes(anatomy, "FFN", i, gap["ffn"]),
            "normed": _reads("attention", i, gap["normed"]),
            "normed_mid": _reads("the FFN", i, gap["normed_mid"]),
        }
        for part, text in texts.items():
            if not gap[part] < IDENTITY_TOLERANCE:
                raise UnsupportedModelError(f"{anatomy.name}: {text}")
    return tuple(errors)


def _writes(anatomy: Anatomy, what: str, i: int, gap: float) -> str:
    return (
        f"expected the {what} output alone to change the stream in block {i} (to {IDENTITY_TOLERANCE:g}, relative), "
        f"found {gap:.3g}. Something else writes to the stream (a hook, an adapter). {anatomy.advice} in float32."
    )


def _reads(what: str, i: int, gap: float) -> str:
    return (
        f"expected the norm before {what} in block {i} to be given the stream that {what} changes, found a relative "
        f"difference of {gap:.3g}. Are two norms exchanged in its description, or does a hook change what it is given?"
    )


def _check_reached(anatomy: Anatomy, reached: bool) -> None:
    if not reached:
        raise UnsupportedModelError(
            f"{anatomy.name}: expected the gradient of the score to reach the attention of the first block, found that "
            f"it is cut on the way (detach(), no_grad()). {anatomy.advice}."
        )


def _attention_of_pool(anatomy: Anatomy, pool: Pass, layout: Layout) -> Tensor:
    """What an attention pooling takes of each final token, (B, N), averaged over heads."""
    rows = pool.attention[0].detach().mean(1)  # (B, queries, tokens)
    read = rows[:, 0] if anatomy.pool_rows == "token" else rows.mean(1)
    left_out = layout.tokens - read.shape[1]
    if left_out not in (0, layout.prefix):
        raise UnsupportedModelError(
            f"{anatomy.name}: expected its pooling to attend to the patches, with or without the prefix tokens, found "
            f"{read.shape[1]} of {layout.tokens} tokens."
        )
    return F.pad(read, (left_out, 0))
