"""Run a model and see inside: hooks on its modules, and a function mode that sees every attention call.

The only module that touches hooks. All of them are gone when a ``with`` block ends, however it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tokentm.attention import Fused, Gradients, Relay, attend
from tokentm.vit import Anatomy

GraphFrom = Literal["attention", "stream", "last attention"]


class Pass:
    """What one block, or the attention pooling, showed while the model ran."""

    def __init__(self, module: nn.Module, leaf: bool, stays_fused: bool) -> None:
        self.module = module
        self.leaf = leaf  # its attention begins the autograd graph
        self.stays_fused = stays_fused  # its attention is left to the model's fused function
        self.calls = 0
        self.fused: Fused | None = None
        self.relay = Relay()
        self.stream: Tensor
        self.stream_out: Tensor
        self.attention: list[Tensor] = []
        self.value: list[Tensor] = []
        self.mixing_error = 0.0
        self.inputs: dict[nn.Module, list[Tensor]] = {}
        self.outputs: dict[nn.Module, list[Tensor]] = {}

    def forget(self) -> None:
        """Let go of what only the finishing of a block needs."""
        del self.stream
        self.value.clear()
        for kept in (*self.inputs.values(), *self.outputs.values()):
            kept.clear()


@dataclass(frozen=True, eq=False)
class Passes:
    blocks: list[Pass]
    pool: Pass | None
    grids: list[Tensor]
    """What the patch embedding put out."""


@contextmanager
def recording(
    anatomy: Anatomy, graph_from: GraphFrom = "attention", finish: Callable[[int, Pass], None] | None = None
) -> Iterator[Passes]:
    """While active, a forward pass of the model fills one :class:`Pass` per block.

    Args:
        graph_from: where the autograd graph begins: at the attention of the first block, which is all that gradients
            of every attention need; at the stream that enters it; or at the attention of the last block, and then
            only that block is recorded.
        finish: called with each block's number and pass as soon as the block has run; attention is then left to the
            model's fused function, and what the block showed is let go afterwards.
    """
    blocks = anatomy.blocks[-1:] if graph_from == "last attention" else anatomy.blocks
    passes = Passes(
        blocks=[
            Pass(block.module, i == 0 and graph_from != "stream", finish is not None) for i, block in enumerate(blocks)
        ],
        pool=None if anatomy.pool is None else Pass(anatomy.pool, False, False),
        grids=[],
    )
    with ExitStack() as stack:
        interception = _AttentionInterception()
        running = stack.enter_context(ExitStack())  # holds the interception; closed with the rest where a block raises

        def watch_block(store: Pass, ended: Callable[[Pass], None] | None = None) -> None:
            def enter(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                # while a block runs, and no longer: every function that is called meanwhile takes its time
                running.enter_context(interception)
                interception.store = store
                if graph_from == "stream" and store is passes.blocks[0]:
                    args = (args[0].detach().requires_grad_(), *args[1:])
                store.stream = args[0]
                return args

            def leave(_module: nn.Module, _args: Any, output: Tensor) -> None:
                running.close()
                store.stream_out = output
                if ended is not None:
                    ended(store)
                    store.forget()

            stack.callback(store.module.register_forward_pre_hook(enter).remove)
            stack.callback(store.module.register_forward_hook(leave).remove)

        def watch(store: Pass, module: nn.Module) -> None:
            given, made = store.inputs.setdefault(module, []), store.outputs.setdefault(module, [])
            stack.callback(module.register_forward_pre_hook(lambda _module, args: given.append(args[0])).remove)
            stack.callback(module.register_forward_hook(lambda _module, _args, output: made.append(output)).remove)

        for i, (block, store) in enumerate(zip(blocks, passes.blocks, strict=True)):
            watch_block(store, None if finish is None else partial(finish, i))
            named = (block.normed, block.update, block.mid, block.normed_mid, block.ffn_update, *block.path)
            for module in dict.fromkeys(one for one in named if isinstance(one, nn.Module)):
                watch(store, module)
        if passes.pool is not None:
            watch_block(passes.pool)
        embedded = anatomy.embedding.register_forward_hook(lambda _module, _args, output: passes.grids.append(output))
        stack.callback(embedded.remove)
        for owner, attribute, value in anatomy.switches:
            stack.enter_context(_switched(owner, attribute, value))
        yield passes


def classify(anatomy: Anatomy, images: Tensor, stream: Tensor) -> Tensor:
    """Logits (B, classes) that the model would give if its last block put out this stream (B, N, D)."""
    handle = anatomy.blocks[-1].module.register_forward_hook(lambda _module, _args, _output: stream)
    try:
        return anatomy.logits(anatomy.model(images))
    finally:
        handle.remove()


@contextmanager
def following(
    passes: Passes, arrived: Callable[[int, Tensor], Gradients | None], at_last: Callable[[Tensor], None]
) -> Iterator[None]:
    """While active, a backward pass tells ``at_last`` the gradient at the final tokens, and ``arrived`` the number of
    each block and the gradient at what its heads put out; it goes on with the answer. The first block, where the graph
    begins, is not told of.
    """
    handle = passes.blocks[-1].stream_out.register_hook(at_last)
    for i, store in enumerate(passes.blocks):
        store.relay.follower = partial(arrived, i)
    try:
        yield
    finally:
        handle.remove()
        for store in passes.blocks:
            store.relay.follower = None


@contextmanager
def keeping(anatomy: Anatomy, kept: Tensor) -> Iterator[None]:
    """While active, only some tokens enter the first block: ``kept`` holds their indices, (B, n)."""

    def drop(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0].gather(1, kept.unsqueeze(-1).expand(-1, -1, args[0].shape[-1])), *args[1:])

    handle = anatomy.blocks[0].module.register_forward_pre_hook(drop)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """While active, no parameter asks for a gradient: what does, comes from the images."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in asking:
            parameter.requires_grad = True


@contextmanager
def _switched(owner: Any, attribute: str, value: Any) -> Iterator[None]:
    found = getattr(owner, attribute)
    if found == value:  # nothing to do, and nothing left behind where the class holds the attribute
        yield
        return
    setattr(owner, attribute, value)
    try:
        yield
    finally:
        setattr(owner, attribute, found)


class _AttentionInterception(TorchFunctionMode):
    """Active while a block runs: sees every attention, and makes its weights, or its output, a node of the graph."""

    store: Pass

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attend(self.store, func, *args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._attend_packed(self.store, func, *args, **kwargs)
        return func(*args, **kwargs)

    @classmethod
    def _attend_packed(cls, store: Pass, packed: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """nn.MultiheadAttention projects, attends and projects in one function; no function mode sees inside of it."""
        with torch.no_grad():
            own, weights = packed(*args, **kwargs)
        given = signature(packed).bind(*args, **kwargs).arguments
        query = given["query"]  # (tokens, batch, width)
        plain = all(given.get(name) is None for name in ("bias_k", "bias_v", "key_padding_mask", "attn_mask"))
        if not (plain and query is given["key"] is given["value"] and given["in_proj_weight"] is not None):
            return own, weights  # not recorded, and so refused
        heads = given["num_heads"]
        projected = F.linear(query, given["in_proj_weight"], given["in_proj_bias"]).chunk(3, -1)
        query, key, value = (part.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3) for part in projected)
        mixed = cls._attend(store, F.scaled_dot_product_attention, query, key, value)
        output = F.linear(mixed.permute(2, 0, 1, 3).flatten(2), given["out_proj_weight"], given["out_proj_bias"])
        store.mixing_error = max(float(relative_error(output.detach(), own)), store.mixing_error)
        return output, weights

    @staticmethod
    def _attend(
        store: Pass,
        fused: Callable[..., Tensor],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **options: Any,
    ) -> Tensor:
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        own = partial(fused, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal, scale=scale, **options)
        if query.ndim != 4 or not query.shape[:2] == key.shape[:2] == value.shape[:2]:
            return own(query, key, value)  # heads that share keys: not recorded, and so refused
        store.calls += 1
        if store.stays_fused:
            if store.leaf:
                mixed = node = own(query, key, value).detach().requires_grad_()
            else:
                mixed = attend(own, store.relay, query, key, value)
                node = mixed.detach()
            mask = None if attn_mask is None else attn_mask.expand(*query.shape[:3], key.shape[2])
            store.fused = Fused(query.detach(), key.detach(), value.detach(), mask, scale, node)
            store.value.append(value.detach())
            return mixed
        logits = query @ key.transpose(-2, -1) * scale
        if attn_mask is not None:
            logits = logits.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
        attention = logits.softmax(-1)
        if store.leaf:
            # nothing below needs a gradient, and in a frozen model the graph of all later layers starts here
            attention = attention.detach().requires_grad_()
        mixed = attention @ value
        with torch.no_grad():
            store.mixing_error = float(relative_error(mixed, own(query, key, value)))
        store.attention.append(attention)
        store.value.append(value.clone())  # alone, not a view that keeps all of q, k, v
        return mixed


def relative_error(found: Tensor, expected: Tensor) -> Tensor:
    """|found - expected| / |expected| over all entries, one number; an expected zero allows only zero."""
    difference = torch.linalg.vector_norm((found - expected).float())
    return torch.where(difference == 0, difference, difference / torch.linalg.vector_norm(expected.float()))
