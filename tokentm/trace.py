"""Record a ViT once: every quantity that an explanation reads, layer by layer. The only module that touches hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tokentm import vit
from tokentm.errors import InvalidTargetError, NotFiniteError, UnsupportedModelError
from tokentm.target import Target, resolve

IDENTITY_TOLERANCE = 1e-4
"""Largest relative error, in float32, between a layer's attention output and its sum over heads."""


@dataclass(frozen=True, eq=False)  # equality of tensors has no single answer
class LayerTrace:
    """What happened in one block. B images, N tokens, D width, H heads of width d.

    Attributes:
        stream: x, the residual stream entering the block, (B, N, D).
        normed: LN(x), what attention reads, (B, N, D).
        attention: A, rows sum to 1, (B, H, N, N); ``[b, h, i, j]`` = how much output i takes from token j.
        gradient: G, the gradient of the explained score with respect to A, (B, H, N, N).
        value: v, the values of each head, (B, H, N, d).
        head_projection: P, how a head's values reach the stream, LayerScale included, (H, D, d).
        attention_update: x' - x as the model computed it, (B, N, D).
        stream_mid: x', the stream between attention and FFN, (B, N, D).
        normed_mid: LN(x'), what the FFN reads, (B, N, D).
        ffn_update: g(x') = x'' - x', LayerScale included, (B, N, D).
        stream_out: x'', the stream leaving the block, (B, N, D).
        identity_error: relative error of sum_h A^h v^h P_h^T + b against ``attention_update``.
    """

    stream: Tensor
    normed: Tensor
    attention: Tensor
    gradient: Tensor
    value: Tensor
    head_projection: Tensor
    attention_update: Tensor
    stream_mid: Tensor
    normed_mid: Tensor
    ffn_update: Tensor
    stream_out: Tensor
    identity_error: float


@dataclass(frozen=True, eq=False)  # equality of tensors has no single answer
class Trace:
    """A recorded forward and backward pass. All tensors are detached; the model keeps nothing of them.

    Attributes:
        layers: one :class:`LayerTrace` per block, first block first.
        layout: which tokens are prefix tokens and how the patches form a grid.
        readout: share of each final token in what the classifier reads, (N,).
        logits: (B, classes).
        target: explained class per image, (B,), or None where a function of the logits was explained.
        scores: the explained score per image, (B,).
        image_size: (height, width) of the images in pixels.
    """

    layers: tuple[LayerTrace, ...]
    layout: vit.Layout
    readout: Tensor
    logits: Tensor
    target: Tensor | None
    scores: Tensor
    image_size: tuple[int, int]

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


def record(model: nn.Module, images: Tensor, target: Target = None) -> Trace:
    """Run the model once forward and once backward, and keep everything an explanation needs.

    The model is left exactly as it was found, also when this raises: no gradient is written, no hook stays, no flag
    changes. Four self-checks stand between a model and a wrong picture. The attention of each layer must equal the sum
    of its per-head parts (relative error below 1e-4). Attention and FFN alone must make up what changes the stream from
    the first block to the last. The token count must equal prefix + rows x columns. The score must depend on exactly
    the final tokens that the readout names.

    Args:
        model: a supported timm ViT, in eval mode.
        images: (B, C, H, W), normalised as the model takes them, on the model's device.
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
    checked = vit.inspect(model)
    vit.check_images(checked, images)
    layout = vit.layout(checked, images)
    # leave a surrounding no_grad or inference_mode, whose tensors no gradient can pass
    with torch.inference_mode(False), torch.enable_grad():
        images = images.detach().clone()
        with _recording(checked) as passes:
            logits = checked(images)
        _check_logits(checked, logits)
        _check_passes(checked, passes, layout)
        scores, index = resolve(target, logits)
        gradients = _gradients(scores, [*(p["attention"] for p in passes), passes[-1]["stream_out"]])
        readout = vit.readout(checked, layout)
        _check_readout(checked, gradients.pop(), readout)
    with torch.no_grad():
        layers = tuple(
            _layer(checked, i, p, gradient) for i, (p, gradient) in enumerate(zip(passes, gradients, strict=True))
        )
    return Trace(
        layers=layers,
        layout=layout,
        readout=readout.to(logits),
        logits=logits.detach(),
        target=index,
        scores=scores.detach(),
        image_size=(images.shape[2], images.shape[3]),
    )


_Pass = dict[str, Any]


@contextmanager
def _recording(model: VisionTransformer) -> Iterator[list[_Pass]]:
    """While active, a forward pass of the model fills one dictionary per block."""
    passes: list[_Pass] = [{"first": i == 0, "calls": 0} for i in range(len(model.blocks))]
    with ExitStack() as stack:
        interception = _AttentionInterception()

        def enter(store: _Pass) -> Callable[..., None]:
            def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
                store["stream"] = args[0]
                interception.store = store

            return hook

        def leave(store: _Pass) -> Callable[..., None]:
            def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:
                store["stream_out"] = output
                interception.store = None

            return hook

        def keep(store: _Pass, name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:
                store[name] = output

            return hook

        def keep_input(store: _Pass, name: str) -> Callable[..., None]:
            def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
                store[name] = args[0]

            return hook

        blocks: list[Any] = list(model.blocks)
        for block, store in zip(blocks, passes, strict=True):
            for register, hook in (
                (block.register_forward_pre_hook, enter(store)),
                (block.register_forward_hook, leave(store)),
                (block.norm1.register_forward_hook, keep(store, "normed")),
                (block.drop_path1.register_forward_hook, keep(store, "attention_update")),
                (block.norm2.register_forward_pre_hook, keep_input(store, "stream_mid")),
                (block.norm2.register_forward_hook, keep(store, "normed_mid")),
                (block.drop_path2.register_forward_hook, keep(store, "ffn_update")),
            ):
                stack.callback(register(hook).remove)
            stack.enter_context(_flag(block.attn, "fused_attn", True))
        # recomputation during the backward pass would run where nothing is recorded
        stack.enter_context(_flag(model, "grad_checkpointing", False))
        stack.enter_context(interception)
        yield passes


@contextmanager
def _flag(module: nn.Module, name: str, value: bool) -> Iterator[None]:
    found = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, found)


class _AttentionInterception(TorchFunctionMode):
    """Sees every call of scaled_dot_product_attention and, inside a block, makes its weights a node of the graph."""

    store: _Pass | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention or self.store is None:
            return func(*args, **kwargs)
        return self._attend(self.store, func, *args, **kwargs)

    @staticmethod
    def _attend(
        store: _Pass,
        fused: Callable[..., Tensor],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        store["calls"] += 1
        logits = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        if attn_mask is not None:
            logits = logits.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
        attention = logits.softmax(-1)
        if store["first"]:
            # nothing below needs a gradient, and in a frozen model the graph of all later layers starts here
            attention = attention.detach().requires_grad_()
        mixed = attention @ value
        with torch.no_grad():
            own = fused(query, key, value, attn_mask, dropout_p, is_causal, **options)
            store["mixing_error"] = _relative_error(mixed, own)
        store["attention"], store["value"] = attention, value.clone()  # alone, not a view that keeps all of q, k, v
        return mixed


def _gradients(scores: Tensor, nodes: list[Tensor]) -> list[Tensor]:
    """Gradients of the scores at the nodes. Images of a batch do not mix, so the sum serves them all at once."""
    if not scores.requires_grad:
        raise InvalidTargetError(
            "expected a target function that depends on the logits; its scores carry no gradient. "
            "Avoid detach(), item() and argmax in it."
        )
    found = torch.autograd.grad(scores.sum(), nodes, allow_unused=True)
    return [torch.zeros_like(n) if g is None else g for n, g in zip(nodes, found, strict=True)]


def _check_passes(model: VisionTransformer, passes: list[_Pass], layout: vit.Layout) -> None:
    name = type(model).__name__
    for i, store in enumerate(passes):
        if store["calls"] != 1:
            raise UnsupportedModelError(
                f"{name}: expected one scaled_dot_product_attention call in block {i}, found {store['calls']}. "
                "Its attention cannot be recorded; no map is better than a wrong one."
            )
        tokens = store["stream"].shape[1]
        if tokens != layout.tokens:
            raise UnsupportedModelError(
                f"{name}: expected {layout.prefix} prefix tokens + {layout.rows} x {layout.columns} patches = "
                f"{layout.tokens} tokens in block {i}, found {tokens}. Is patch dropout, pruning or merging at work?"
            )
    for i, (below, above) in enumerate(pairwise(passes)):
        if not torch.equal(below["stream_out"], above["stream"]):
            raise UnsupportedModelError(
                f"{name}: expected block {i + 1} to read what block {i} wrote, found that something changes the stream "
                "between them (a hook, a prompt). Run the unmodified model."
            )


def _check_logits(model: VisionTransformer, logits: Tensor) -> None:
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise UnsupportedModelError(
            f"{type(model).__name__}: expected logits (batch, classes), found {found}. A distilled model in training "
            "returns two heads: call model.eval()."
        )
    if not torch.isfinite(logits).all():
        bad = (~torch.isfinite(logits).all(1)).nonzero().flatten().tolist()
        raise NotFiniteError(
            f"{type(model).__name__}: expected finite logits; found NaN or infinity for image(s) {bad}. Look for NaN "
            "in the weights, or run in float64 (model.double(), images.double()) to see whether numbers overflow."
        )


def _check_readout(model: VisionTransformer, gradient: Tensor, readout: Tensor) -> None:
    """The score of every image may depend on exactly the final tokens (B, N, D) that the readout (N,) names."""
    reached = gradient.abs().sum(2) > 0
    without = (~reached.any(1)).nonzero().flatten().tolist()
    if without:
        raise InvalidTargetError(
            f"expected scores that depend on the image; for image(s) {without} of the batch the gradient at the final "
            "tokens is zero everywhere. Look at the target function and at the classifier head's weights."
        )
    named = (readout > 0).to(reached.device)
    wrong = (reached != named).any(1)
    if wrong.any():
        raise UnsupportedModelError(
            f"{type(model).__name__}: expected the score to read final tokens {_span(named)}, found that it reads "
            f"{_span(reached[wrong][0])}. The classifier head differs from what global_pool={model.global_pool!r} says."
        )


def _span(tokens: Tensor) -> str:
    index = tokens.nonzero().flatten().tolist()
    return str(index) if len(index) <= 4 else f"[{index[0]} .. {index[-1]}] ({len(index)} tokens)"


def _layer(model: VisionTransformer, i: int, store: _Pass, gradient: Tensor) -> LayerTrace:
    projection, bias = vit.head_projection(model.blocks[i])
    kept = {k: store[k].detach() for k in LayerTrace.__dataclass_fields__ if k in store}
    rebuilt = torch.einsum("bhnd,hod->bno", kept["attention"] @ kept["value"], projection) + bias
    error = max(_relative_error(rebuilt, kept["attention_update"]), store["mixing_error"])
    if not error < IDENTITY_TOLERANCE:  # also catches NaN
        raise UnsupportedModelError(
            f"{type(model).__name__}: expected the attention output of block {i} to equal the sum of its per-head "
            f"parts to {IDENTITY_TOLERANCE:g} (relative), found {error:.3g}. Something acts between the heads and the "
            "residual stream (a hook, a gate, a low-precision product); run the unmodified model in float32."
        )
    for part, before, update, after in (
        ("attention", "stream", "attention_update", "stream_mid"),
        ("FFN", "stream_mid", "ffn_update", "stream_out"),
    ):
        gap = _relative_error(kept[before] + kept[update], kept[after])
        if not gap < IDENTITY_TOLERANCE:
            raise UnsupportedModelError(
                f"{type(model).__name__}: expected the {part} output alone to change the stream in block {i} (to "
                f"{IDENTITY_TOLERANCE:g}, relative), found {gap:.3g}. Something else writes to the stream (a hook, an "
                "adapter); run the unmodified model in float32."
            )
    return LayerTrace(**kept, gradient=gradient, head_projection=projection, identity_error=error)


def _relative_error(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected| over all entries; an expected zero allows only zero."""
    norm = torch.linalg.vector_norm(expected.float())
    difference = torch.linalg.vector_norm((found - expected).float())
    return 0.0 if difference == 0 else float(difference / norm)
