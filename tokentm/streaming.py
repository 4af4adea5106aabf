"""TokenTM in one forward and one backward pass: of the contribution map, only the row that is read out is ever held.

The explanation is r = e^T U_L ... U_1 C_0 with e the readout. Multiplied from the left, it is a row that goes down
through the layers,

    FFN         r <- r (1 + w_ffn)
    attention   r <- r + mean_h [ r relu(G^h * A^h) W^h ]          relu(G * A W) = relu(G * A) W, since W >= 0
    at last     r <- r L(E^0)

and so does the gradient of the score. Where it passes the attention of a layer, A and G are computed part by part: for
the row, and for the gradient that goes on (see attention.py). So the model keeps its fused attention, no N x N matrix
outlives its layer, and nothing below the first attention and no parameter needs a gradient.

Equal to the full form of :class:`tokentm.TokenTM` up to rounding. Source of the method: Wu et al., "Token
Transformation Matters", CVPR 2024; the streaming form is this project's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from tokentm.attention import Backward, Fused, Gradients, parts
from tokentm.errors import TokenTMError, UnsupportedModelError
from tokentm.explanation import Explanation, require_finite
from tokentm.hooks import Pass, Passes, following, frozen, recording, relative_error
from tokentm.methods import Method, TokenTM
from tokentm.methods.tokentm import Weights
from tokentm.pictures import Picture, Transform
from tokentm.target import Target, resolve
from tokentm.trace import (
    block_trace,
    check_block,
    check_identities,
    check_identity,
    check_joint,
    check_logits,
    check_pool,
    check_reached,
    check_readout,
    check_scores,
    checked,
    differentiable,
    final_readout,
    token_layout,
)
from tokentm.vit import Anatomy, Layout

BUDGET = 64 * 2**20
"""Bytes of attention and its gradient that one layer may hold at once; more are taken in parts."""

_CPU_BUDGET = 8 * 2**20
"""At most so much on a CPU, whose caches hold it: smaller parts are faster there."""

_PROBED = 8  # rows, or a few more, of every part, in which recomputed attention is held against the model's own
_CHECKED = 32  # patches, beside all prefix tokens, at which a layer is held against the sum of its per-head parts


def streams(method: Method) -> bool:
    """Whether a method has a streaming form: every TokenTM but the reading that averages heads before it multiplies."""
    return isinstance(method, TokenTM) and method.head_mean == "after"


def explain(
    model: nn.Module,
    images: Tensor | Picture | Sequence[Picture],
    target: Target,
    method: TokenTM,
    transform: Transform | None = None,
    budget: int = BUDGET,
) -> Explanation:
    """What :func:`tokentm.explain` does for TokenTM; arguments and errors as there.

    One image that was expanded to a batch, one target each, runs forward once.

    Args:
        budget: see :data:`BUDGET`.

    Returns:
        An :class:`Explanation` without ``layer_scores``, which only the full form has.
    """
    anatomy, images = checked(model, images, target, transform)
    batch, size = len(images), (images.shape[2], images.shape[3])
    one = batch > 1 and images.stride(0) == 0  # one image, many targets
    with differentiable(images), frozen(model):
        given = (images[:1] if one else images).detach().clone()
        weights: list[Weights] = []

        @torch.no_grad()
        def finish(i: int, store: Pass) -> None:
            """What is needed of a block, taken as soon as it has run; the rest of it is let go."""
            if doubts:
                return
            try:
                weights.append(weigh(i, store))
            except TokenTMError as error:
                doubts.append(error)  # logits that are not finite say more about why: they are looked at first

        @cache
        def places() -> tuple[Layout, Tensor]:
            layout = token_layout(anatomy, passes, size)
            return layout, _spread(layout, given.device)

        def weigh(i: int, store: Pass) -> Weights:
            layout, probed = places()
            check_block(anatomy.name, i, store, layout)
            if i == 0:
                lengths.append(torch.linalg.vector_norm(store.stream, dim=-1))
            else:
                check_joint(anatomy.name, i - 1, passes.blocks[i - 1].stream_out, store.stream)
            assert store.fused is not None  # it attended once
            _check_mask(anatomy.name, i, store.fused)
            kept, found = block_trace(anatomy.blocks[i], store, store.fused.mixed.detach(), probed)
            errors.append(found)
            return method.weights(kept)

        doubts: list[TokenTMError] = []
        errors: list[Tensor] = []
        lengths: list[Tensor] = []
        with recording(anatomy, finish=finish) as passes:
            logits = anatomy.logits(anatomy.model(given))
        check_logits(anatomy, logits)
        if doubts:
            raise doubts[0]
        check_pool(anatomy.name, passes.pool)
        for i, found in enumerate(errors):  # only now: to look at a number is to wait for a GPU
            check_identities(anatomy.name, i, *found.tolist())
        layout, _ = places()
        readout = final_readout(anatomy, passes, layout)
        check_reached(anatomy.name, logits.requires_grad)
        scores, index = resolve(target, logits.expand(batch, -1))
        check_scores(scores)
        summed = list(scores) if one else [scores.sum()]  # images of a batch do not mix: their sum serves them all
        row = torch.cat(
            [
                _descend(anatomy, passes, weights, method, readout, score, score is not summed[-1], budget)
                for score in summed
            ]
        )
    if method.initialise:
        row = row * lengths[0]
    found = row[:, layout.prefix :]
    require_finite(found, "tokentm")
    return Explanation(
        method="tokentm",
        scores=found,
        layer_scores=found.new_zeros(batch, 0, found.shape[1]),
        grid=(layout.rows, layout.columns),
        logits=logits.detach().expand(batch, -1).clone(),
        target=index,
        image_size=size,
    )


def _check_mask(name: str, i: int, fused: Fused) -> None:
    """A mask that depends on the image takes part in the gradient, which passes around it here."""
    if fused.mask is not None and fused.mask.requires_grad:
        raise UnsupportedModelError(
            f"{name}: expected an attention mask in block {i} that does not depend on the image, found one that does. "
            "Take the full form: tokentm.TokenTM()(tokentm.record(model, images, target))."
        )


def _spread(layout: Layout, device: torch.device) -> Tensor:
    """All prefix tokens and some patches, evenly spread over the picture."""
    patches = torch.linspace(layout.prefix, layout.tokens - 1, _CHECKED, device=device).round().long().unique()
    return torch.cat((torch.arange(layout.prefix, device=device), patches))


def _descend(
    anatomy: Anatomy,
    passes: Passes,
    weights: list[Weights],
    method: TokenTM,
    readout: Tensor,
    score: Tensor,
    keep_graph: bool,
    budget: int,
) -> Tensor:
    """The row of one score, taken down through all layers as its gradient passes them: (B, N)."""
    blocks = passes.blocks
    row, below = readout, len(blocks)  # the row stands under layer ``below``
    errors: dict[int, Tensor] = {}

    def descend(i: int, gradient: Tensor | None) -> Gradients | None:
        """Through one layer; the gradients of its queries, keys and values."""
        nonlocal row
        fused, ffn, onward = blocks[i].fused, weights[i].ffn, None
        assert fused is not None
        under = row if ffn is None else row * (1 + ffn)
        if gradient is not None or not method.gradient:  # a layer that the gradient does not reach mixes nothing
            read = row if anatomy.blocks[i].parallel else under  # in a parallel block r (I + mixing + W_ffn)
            taken, onward, errors[i] = attended(read, fused, weights[i], gradient, i > 0, budget)
            under = under + taken
        row = under
        if not keep_graph:
            blocks[i].fused = None  # its queries, keys and values are not needed any more
        return onward

    @torch.no_grad()
    def arrive(i: int, gradient: Tensor | None) -> Gradients | None:
        """Down to layer i, where a gradient has arrived, and through it."""
        nonlocal below
        for above in range(below - 1, i, -1):
            descend(above, None)
        below = i
        return descend(i, gradient)

    def check(gradient: Tensor) -> None:
        check_readout(anatomy, gradient, readout)

    last, first = blocks[-1].stream_out, blocks[0].fused
    assert first is not None
    gradient = None
    if method.gradient:
        with following(passes, arrive, check):
            (gradient,) = torch.autograd.grad(score, first.mixed, retain_graph=keep_graph, allow_unused=True)
        check_reached(anatomy.name, gradient is not None)
    else:
        check(torch.autograd.grad(score, last, retain_graph=keep_graph)[0])
    arrive(0, gradient)
    for i, error in errors.items():
        check_identity(anatomy.name, i, float(error))
    return row


def attended(
    row: Tensor,
    fused: Fused,
    weights: Weights,
    gradient: Tensor | None,
    onward: bool,
    budget: int,
) -> tuple[Tensor, Gradients | None, Tensor]:
    """What a row takes through one attention layer, mean_h [ r relu(G^h * A^h) W^h ]: (B, N) -> (B, N).

    Args:
        gradient: of the score with respect to what the heads put out, (B, H, N, d); None for r mean_h [ A^h W^h ].
        onward: whether the gradient goes on, to queries, keys and values.

    Returns:
        what the row takes; the gradients that go on, if they do; and how far A v, in a few rows, is from what the
        model's own heads put out, a relative error.
    """
    images, heads, tokens, _ = fused.key.shape
    if weights.output_factor is not None:
        row = row * weights.output_factor
    rows = _counting(row, gradient)
    fused, row = fused.contiguous().at(rows), row[:, rows]
    gradient = None if gradient is None else gradient[:, :, rows].contiguous()
    backward = Backward(fused, gradient) if gradient is not None and onward else None
    row_bytes = 2 * tokens * row.element_size()  # of one head: A and G, or A and its logits
    budget = min(budget, _CPU_BUDGET) if row.device.type == "cpu" else budget
    taken = row.new_zeros(images, heads, 1, tokens)
    rebuilt, own = [], []  # A v in a few rows, and what the model's own heads put out
    for part in parts(images, heads, row.shape[1], budget // row_bytes):
        of, which, where = part
        one = fused.part(part)
        mixing = attention = one.weights()
        few = slice(None, None, max(1, attention.shape[2] // _PROBED))
        rebuilt.append((attention[:, :, few] @ one.value).flatten())
        own.append(one.mixed[:, :, few].flatten())
        if gradient is not None:
            mixing = (gradient[part] @ one.value.transpose(-2, -1)).mul_(attention)
            if backward is not None:
                backward.add(part, attention, mixing)
            mixing.clamp_(min=0)  # relu(G * A)
        taken[of, which] += row[of, None, None, where] @ mixing
    taken = (taken.squeeze(2) * weights.attention).mean(1)
    error = relative_error(torch.cat(rebuilt), torch.cat(own))
    return taken, None if backward is None else backward.gradients(rows), error


def _counting(row: Tensor, gradient: Tensor | None) -> Tensor | slice:
    """The output tokens that count: at the top only few are read, and no others does the gradient reach."""
    counts = row.any(0)
    if gradient is not None and not counts.all():
        counts = counts | (gradient != 0).any(3).any(1).any(0)
    rows = counts.nonzero().flatten()
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows
