"""Record a ViT once: every quantity that an explanation reads, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokentm import vit
from tokentm.errors import InvalidTargetError, ModelChangedError, NotFiniteError, UnsupportedModelError
from tokentm.hooks import Pass, Passes, recording, relative_error
from tokentm.outputs import Meaning, probabilities
from tokentm.pictures import Picture, Transform, prepare
from tokentm.target import Target, resolve
from tokentm.vit import Anatomy, Block, Layout

IDENTITY_TOLERANCE = 1e-4
"""Largest relative error, in float32, between a layer's attention output and its sum over heads."""

_SAME_MODEL = 1e-3
"""Relative and absolute tolerance between recorded logits and those of the same model again."""


@dataclass(frozen=True, eq=False)  # equality of tensors has no single answer
class BlockTrace:
    """How one block transformed its tokens. B images, N tokens, D width, H heads of width d.

    Attributes:
        stream: x, the residual stream entering the block, (B, N, D).
        normed: LN(x), what attention reads, (B, N, D).
        value: v, the values of each head, (B, H, N, d).
        head_projection: P, how a head's values reach the stream, LayerScale included, (H, D, d).
        output_factor: s, what norms after the heads multiply each output token with, (B, N); ones where there are none.
        bias: b, what attention adds whatever it attends to, (D,), or (B, N, D) after a norm.
        attention_update: x' - x as the model computed it, (B, N, D).
        stream_mid: x', the stream between attention and FFN, (B, N, D).
        normed_mid: LN(x'), what the FFN reads, (B, N, D).
        ffn_update: g(x') = x'' - x', LayerScale included, (B, N, D).
        stream_out: x'', the stream leaving the block, (B, N, D).
        parallel: the FFN reads what attention reads, x'' = x + attention(x) + g(x); ``stream_mid`` is then x plus the
            attention output, which the model itself never forms.
    """

    stream: Tensor
    normed: Tensor
    value: Tensor
    head_projection: Tensor
    output_factor: Tensor
    bias: Tensor
    attention_update: Tensor
    stream_mid: Tensor
    normed_mid: Tensor
    ffn_update: Tensor
    stream_out: Tensor
    parallel: bool

    def update_of(self, mixed: Tensor, tokens: Tensor | None = None) -> Tensor:
        """x'_i - x_i made of what the heads put out, s_i sum_h P_h (A^h v^h)_i + b_i: (B, H, N, d) -> (B, N, D).

        Args:
            tokens: which i; all without.
        """
        side_by_side = _picked(mixed.transpose(1, 2), tokens).flatten(2)
        projected = F.linear(side_by_side, self.head_projection.transpose(0, 1).flatten(1))
        bias = self.bias if self.bias.ndim == 1 else _picked(self.bias, tokens)
        return _picked(self.output_factor, tokens).unsqueeze(-1) * projected + bias

    @property
    def ffn_stream(self) -> Tensor:
        """The stream that the FFN transforms: x', or x in a parallel block; (B, N, D)."""
        return self.stream if self.parallel else self.stream_mid


@dataclass(frozen=True, eq=False)  # equality of tensors has no single answer
class LayerTrace(BlockTrace):
    """Everything that happened in one block: how it transformed its tokens, and how it mixed them.

    Attributes:
        attention: A, rows sum to 1, (B, H, N, N); ``[b, h, i, j]`` = how much output i takes from token j.
        gradient: G, the gradient of the explained score with respect to A, (B, H, N, N).
        stream_out_gradient: gradient of the explained score with respect to x'', (B, N, D).
        identity_error: relative error of s_i sum_h P_h (A^h v^h)_i + b_i against ``attention_update``.
    """

    attention: Tensor
    gradient: Tensor
    stream_out_gradient: Tensor
    identity_error: float

    def rebuilt_update(self) -> Tensor:
        """x'_i - x_i rebuilt from its per-head parts, s_i sum_h P_h (A^h v^h)_i + b_i: (B, N, D)."""
        return self.update_of(self.attention @ self.value)


@dataclass(frozen=True, eq=False)  # equality of tensors has no single answer
class Trace:
    """A recorded forward and backward pass. All tensors are detached; the model keeps nothing of them.

    Attributes:
        layers: one :class:`LayerTrace` per block, first block first.
        layout: which tokens are prefix tokens and how the patches form a grid.
        readout: share of each final token in what the classifier reads, (B, N); for attention pooling its attention,
            averaged over heads.
        logits: (B, classes).
        target: explained class per image, (B,), or None where a function of the logits was explained.
        scores: the explained score per image, (B,).
        images: what the model was given, (B, C, H, W).
        explained: the target as it was asked for.
        anatomy: the model, described; for methods that run it again.
        outputs: what the logits mean, see :data:`tokentm.outputs.Meaning`.
    """

    layers: tuple[LayerTrace, ...]
    layout: Layout
    readout: Tensor
    logits: Tensor
    target: Tensor | None
    scores: Tensor
    images: Tensor
    explained: Target
    anatomy: Anatomy
    outputs: Meaning = "softmax"

    @property
    def probabilities(self) -> Tensor | None:
        """Probability of every class, (B, classes); None for a model whose outputs have none."""
        return probabilities(self.logits, self.outputs)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The model's own names of its classes, where it has some."""
        return self.anatomy.class_names

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        return self.images.shape[2], self.images.shape[3]

    def score(self, logits: Tensor) -> Tensor:
        """The explained score of other logits, (B, classes) -> (B,): same classes, or same function."""
        return resolve(self.explained if self.target is None else self.target, logits)[0]

    @torch.no_grad()
    def check_model(self) -> None:
        """Refuse (ModelChangedError) to run the model again if it is no longer what was recorded."""
        with torch.autocast(self.images.device.type, enabled=False):
            logits = self.anatomy.logits(self.anatomy.model(self.images[:1]))
        recorded = self.logits[:1]
        alike = logits.shape == recorded.shape
        if not alike or not torch.allclose(logits, recorded, rtol=_SAME_MODEL, atol=_SAME_MODEL):
            found = f"differ by up to {(logits - recorded).abs().max():.3g}" if alike else f"are {logits.shape[1]}"
            raise ModelChangedError(
                f"{self.anatomy.name}: expected the model as it was recorded; its {recorded.shape[1]} logits for the "
                f"first image now {found}. Record again after a change of weights or mode: "
                "tokentm.record(model, images)."
            )

    @property
    def embedding(self) -> Tensor:
        """E^0, the tokens entering the first block, position embedding included, (B, N, D)."""
        return self.layers[0].stream

    def __repr__(self) -> str:
        grid = self.layout
        batch, heads, tokens, _ = self.layers[0].attention.shape
        return (
            f"Trace(images={batch}, layers={len(self.layers)}, heads={heads}, "
            f"tokens={tokens} = {grid.prefix} + {grid.rows} x {grid.columns})"
        )


def record(
    model: nn.Module,
    images: Tensor | Picture | Sequence[Picture],
    target: Target = None,
    transform: Transform | None = None,
) -> Trace:
    """Run the model once forward and once backward, and keep everything an explanation needs.

    The model is left exactly as it was found, also when this raises: no gradient is written, no hook stays, no flag
    changes. Six self-checks stand between a model and a wrong picture. The attention of each layer must equal the sum
    of its per-head parts (relative error below 1e-4). Attention and FFN alone must make up what changes the stream from
    the first block to the last. The grid of the patch embedding must tile the image, and the token count must equal
    prefix + rows x columns. The score must depend on exactly the final tokens that the readout names, and its gradient
    must come down to the attention of the first block.

    Args:
        model: a supported ViT of timm, torchvision or Hugging Face, in eval mode.
        images: (B, C, H, W), normalised as the model takes them, on the model's device; or PIL pictures or paths.
        transform: how pictures are prepared, see :func:`tokentm.prepare`; None asks the model.
        target: see :data:`tokentm.target.Target`; None explains the predicted class of each image.

    Returns:
        A :class:`Trace`. Memory: 2 x L x B x H x N^2 numbers for attention and its gradient.

    Raises:
        UnsupportedModelError, InvalidImagesError, InvalidTargetError, NotFiniteError: what was expected, what came,
            what to do next.

    Example:
        >>> demo = tokentm.load_demo()
        >>> trace = tokentm.record(demo.model, demo.transform(demo.scene(3).image)[None])
        >>> trace.layers[0].attention.shape
        torch.Size([1, 4, 197, 197])

    Source: Wu et al., "Token Transformation Matters", CVPR 2024; the identity is the rewriting of a block as
    transformed tokens mixed by attention.
    """
    anatomy, images = checked(model, images, target, transform)
    size = (images.shape[2], images.shape[3])
    with differentiable(images):
        images = images.detach().clone()
        with recording(anatomy) as passes:
            logits = anatomy.logits(anatomy.model(images))
        check_logits(anatomy, logits)
        layout = token_layout(anatomy, passes, size)
        _check_passes(anatomy, passes, layout)
        check_reached(anatomy.name, logits.requires_grad)
        scores, index = resolve(target, logits)
        nodes = [node for one in passes.blocks for node in (one.attention[0], one.stream_out)]
        gradients = _gradients(anatomy.name, scores, nodes)
        readout = final_readout(anatomy, passes, layout)
        check_readout(anatomy, gradients[-1], readout)
        with torch.no_grad():
            layers = tuple(
                _layer(block, i, store, gradients[2 * i], gradients[2 * i + 1], anatomy.name)
                for i, (block, store) in enumerate(zip(anatomy.blocks, passes.blocks, strict=True))
            )
    return Trace(
        layers=layers,
        layout=layout,
        readout=readout,
        logits=logits.detach(),
        target=index,
        scores=scores.detach(),
        images=images,
        explained=target,
        anatomy=anatomy,
    )


def checked(
    model: nn.Module, images: Tensor | Picture | Sequence[Picture], target: Target, transform: Transform | None
) -> tuple[Anatomy, Tensor]:
    """The model, described, and images that it takes; see :func:`record` for what is refused."""
    anatomy = vit.inspect(model)
    if anatomy.classes == 0 and target is None:
        raise InvalidTargetError(
            f"{anatomy.name} returns features, not classes (num_classes=0), so there is no predicted class. Expected a "
            "function of the features, for example lambda features: (features * other).sum(1), or the index of one."
        )
    if not isinstance(images, Tensor):
        images = prepare(model, images, transform).images
    vit.check_images(anatomy, images)
    return anatomy, images


@contextmanager
def differentiable(images: Tensor) -> Iterator[None]:
    """Leave a surrounding no_grad or inference_mode, whose tensors no gradient passes, and autocast, which rounds."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        yield


def _gradients(name: str, scores: Tensor, nodes: list[Tensor]) -> list[Tensor]:
    """Gradients of the scores at the nodes. Images of a batch do not mix, so the sum serves them all at once."""
    check_scores(scores)
    check_reached(name, all(node.requires_grad for node in nodes))
    found = torch.autograd.grad(scores.sum(), nodes, allow_unused=True)
    check_reached(name, found[0] is not None)
    return [torch.zeros_like(n) if g is None else g for n, g in zip(nodes, found, strict=True)]


def check_reached(name: str, reached: bool) -> None:
    """The gradient must come down to the attention of the first block; where it is cut, all below counts as nothing."""
    if not reached:
        raise UnsupportedModelError(
            f"{name}: expected the gradient of the score to reach the attention of the first block, found that it is "
            "cut on the way (detach(), no_grad()). Run the unmodified model."
        )


def check_scores(scores: Tensor) -> None:
    """The scores must carry a gradient."""
    if not scores.requires_grad:
        raise InvalidTargetError(
            "expected a target function that depends on the logits; its scores carry no gradient. "
            "Avoid detach(), item() and argmax in it."
        )


def token_layout(anatomy: Anatomy, passes: Passes, size: tuple[int, int]) -> Layout:
    """The token layout, read from the grid that the patch embedding put out."""
    grids = [tuple(grid.shape) for grid in passes.grids]
    rows, columns = grids[0][-2:] if len(grids) == 1 else (0, 0)
    if (rows * anatomy.patch[0], columns * anatomy.patch[1]) != size:
        raise UnsupportedModelError(
            f"{anatomy.name}: expected one grid of {anatomy.patch} pixel patches that tiles the {size} pixel image, "
            f"found {grids} from its patch embedding. A map would not lie on the picture; run the unmodified model."
        )
    return Layout(anatomy.prefix, rows, columns)


def _check_passes(anatomy: Anatomy, passes: Passes, layout: Layout) -> None:
    name = anatomy.name
    for i, store in enumerate(passes.blocks):
        check_block(name, i, store, layout)
    for i, (below, above) in enumerate(pairwise(passes.blocks)):
        check_joint(name, i, below.stream_out, above.stream)
    check_pool(name, passes.pool)


def check_block(name: str, i: int, store: Pass, layout: Layout) -> None:
    """A block must attend once, over all tokens of the layout."""
    if store.calls != 1:
        raise UnsupportedModelError(
            f"{name}: expected one scaled_dot_product_attention call in block {i}, found {store.calls}. "
            "Its attention cannot be recorded; no map is better than a wrong one."
        )
    tokens = store.stream.shape[1]
    if tokens != layout.tokens:
        raise UnsupportedModelError(
            f"{name}: expected {layout.prefix} prefix tokens + {layout.rows} x {layout.columns} patches = "
            f"{layout.tokens} tokens in block {i}, found {tokens}. Is patch dropout, pruning or merging at work?"
        )


def check_joint(name: str, i: int, below: Tensor, above: Tensor) -> None:
    """Block i + 1 must read what block i wrote."""
    if below is not above and not torch.equal(below, above):
        raise UnsupportedModelError(
            f"{name}: expected block {i + 1} to read what block {i} wrote, found that something changes the stream "
            "between them (a hook, a prompt). Run the unmodified model."
        )


def check_pool(name: str, pool: Pass | None) -> None:
    """Attention pooling must be one attention, rebuilt as the model's own."""
    if pool is not None and (len(pool.attention) != 1 or not pool.mixing_error < IDENTITY_TOLERANCE):
        raise UnsupportedModelError(
            f"{name}: expected one attention in its pooling that agrees with the model's own to "
            f"{IDENTITY_TOLERANCE:g}, found {len(pool.attention)}, error {pool.mixing_error:.3g}. Run the unmodified "
            "model in float32."
        )


def check_logits(anatomy: Anatomy, logits: Any) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise UnsupportedModelError(
            f"{anatomy.name}: expected logits (batch, classes), found {found}. A distilled model in training "
            "returns two heads: call model.eval()."
        )
    if not torch.isfinite(logits).all():
        bad = (~torch.isfinite(logits).all(1)).nonzero().flatten().tolist()
        raise NotFiniteError(
            f"{anatomy.name}: expected finite logits; found NaN or infinity for image(s) {bad}. Look for NaN "
            "in the weights, or run in float64 (model.double(), images.double()) to see whether numbers overflow."
        )


def final_readout(anatomy: Anatomy, passes: Passes, layout: Layout) -> Tensor:
    """Share of each final token in what the classifier reads, (B, N), rows sum to 1."""
    if passes.pool is None:
        share = anatomy.readout(layout).to(passes.blocks[-1].stream_out)
        return share.expand(len(passes.blocks[-1].stream_out), -1).clone()
    rows = passes.pool.attention[0].detach().mean(1)  # over heads, (B, queries, tokens)
    read = rows[:, 0] if anatomy.pool_rows == "token" else rows.mean(1)
    left_out = layout.tokens - read.shape[1]
    if left_out not in (0, layout.prefix):
        raise UnsupportedModelError(
            f"{anatomy.name}: expected its pooling to attend to the patches, with or without the prefix tokens, found "
            f"{read.shape[1]} of {layout.tokens} tokens."
        )
    return F.pad(read, (left_out, 0))


def check_readout(anatomy: Anatomy, gradient: Tensor, readout: Tensor) -> None:
    """The score of every image may depend on exactly the final tokens (B, N, D) that the readout (B, N) names."""
    reached = gradient.abs().sum(2) > 0
    without = (~reached.any(1)).nonzero().flatten().tolist()
    if without:
        raise InvalidTargetError(
            f"expected scores that depend on the image; for image(s) {without} of the batch the gradient at the final "
            "tokens is zero everywhere. Look at the target function and at the classifier head's weights."
        )
    named = readout > 0
    wrong = (reached != named).any(1)
    if wrong.any():
        raise UnsupportedModelError(
            f"{anatomy.name}: expected the score to read final tokens {_span(named[wrong][0])}, found that it reads "
            f"{_span(reached[wrong][0])}. The classifier head differs from a readout by {anatomy.pooling}."
        )


def _span(tokens: Tensor) -> str:
    index = tokens.nonzero().flatten().tolist()
    return str(index) if len(index) <= 4 else f"[{index[0]} .. {index[-1]}] ({len(index)} tokens)"


def _layer(block: Block, i: int, store: Pass, gradient: Tensor, stream_out_gradient: Tensor, name: str) -> LayerTrace:
    attention = store.attention[0].detach()
    kept, errors = block_trace(block, store, attention @ store.value[0].detach())
    identity, *gaps = errors.tolist()
    check_identities(name, i, identity, *gaps)
    return LayerTrace(
        **vars(kept),
        attention=attention,
        gradient=gradient,
        stream_out_gradient=stream_out_gradient,
        identity_error=identity,
    )


def block_trace(block: Block, store: Pass, mixed: Tensor, probed: Tensor | None = None) -> tuple[BlockTrace, Tensor]:
    """How a block transformed its tokens, and how far three identities of it fail: see :func:`check_identities`.

    Args:
        mixed: what the heads put out, A v, (B, H, N, d).
        probed: the tokens at which the identities are looked at; all without.

    Returns:
        the block, and the three relative errors, (3,).
    """
    path = vit.fold(
        block.path, {module: given[0].detach() for module, given in store.inputs.items() if given}, block.heads
    )

    def output(module: nn.Module | None, call: int = 0) -> Tensor | None:
        return None if module is None else store.outputs[module][call].detach()

    def scaled(update: Tensor | None) -> Tensor:
        assert update is not None
        return update if block.scale is None else update * block.scale.detach()

    stream, stream_out = store.stream.detach(), store.stream_out.detach()
    attention_update, ffn_update = scaled(output(block.update)), scaled(output(block.ffn_update, -1))
    normed, normed_mid = output(block.normed), output(block.normed_mid)
    stream_mid = stream + attention_update if block.mid is None else store.inputs[block.mid][0].detach()
    kept = BlockTrace(
        stream=stream,
        normed=stream if normed is None else normed,
        value=store.value[0].detach(),
        head_projection=path.projection,
        output_factor=torch.ones_like(stream[..., 0]) if path.factor is None else path.factor,
        bias=torch.zeros_like(stream[0, 0]) if path.bias is None else path.bias,
        attention_update=attention_update,
        stream_mid=stream_mid,
        normed_mid=stream_mid if normed_mid is None else normed_mid,
        ffn_update=ffn_update,
        stream_out=stream_out,
        parallel=block.parallel,
    )
    of_attention, of_ffn, before, between, after = (
        _picked(one, probed) for one in (attention_update, ffn_update, stream, stream_mid, stream_out)
    )
    errors = (
        relative_error(kept.update_of(mixed, probed), of_attention).clamp(min=store.mixing_error),
        relative_error(before + of_attention, between),
        relative_error(between + of_ffn, after),
    )
    return kept, torch.stack(errors)


def _picked(values: Tensor, tokens: Tensor | None) -> Tensor:
    return values if tokens is None else values.index_select(1, tokens)


def check_identities(name: str, i: int, identity: float, attention: float, ffn: float) -> None:
    """A block must be attention and FFN on a stream, and nothing else; each of the three is a relative error.

    Raises:
        UnsupportedModelError: the attention output is not the sum of its per-head parts, or something else than
            attention or FFN changes the stream.
    """
    check_identity(name, i, identity)
    for part, gap in (("attention", attention), ("FFN", ffn)):
        if not gap < IDENTITY_TOLERANCE:
            raise UnsupportedModelError(
                f"{name}: expected the {part} output alone to change the stream in block {i} (to "
                f"{IDENTITY_TOLERANCE:g}, relative), found {gap:.3g}. Something else writes to the stream (a hook, an "
                "adapter); run the unmodified model in float32."
            )


def check_identity(name: str, i: int, error: float) -> None:
    """The attention output must be the sum of its per-head parts, attention times transformed tokens."""
    if not error < IDENTITY_TOLERANCE:  # also catches NaN
        raise UnsupportedModelError(
            f"{name}: expected the attention output of block {i} to equal the sum of its per-head "
            f"parts to {IDENTITY_TOLERANCE:g} (relative), found {error:.3g}. Something acts between the heads and the "
            "residual stream (a hook, a gate, a low-precision product); run the unmodified model in float32."
        )
