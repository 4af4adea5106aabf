"""Run a model and see inside: hooks on its modules, and a function mode that sees every attention call.

The only module that touches hooks. All of them are gone when a ``with`` block ends, however it ends, and they act only
in the isolated work that put them there (see isolation.py): whoever else calls the model meanwhile gets the same
numbers. Switches of a model, such as its attention's implementation, are shared: while a model is recorded that returns
its attentions itself, other callers do not get them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as torch_module
from torch.overrides import TorchFunctionMode

from tokentm.attention import Fused, Gradients, Relay, attend
from tokentm.errors import UnsupportedModelError
from tokentm.isolation import Job, checkpoint, current
from tokentm.vit import Anatomy

GraphFrom = Literal["attention", "stream", "last attention"]


class Pass:
    """What one block, or the attention pooling, showed while the model ran."""

    def __init__(self, module: nn.Module, leaf: bool, stays_fused: bool, number: int = 0) -> None:
        self.module = module
        self.number = number
        self.leaf = leaf  # its attention begins the autograd graph
        self.stays_fused = stays_fused  # its attention is left to the model's fused function
        self.calls = 0
        self.fused: Fused | None = None
        self.relay = Relay()
        self.stream: Tensor
        self.stream_out: Tensor
        # a view of stream_out that everybody but the next block is given: its gradient is what they read of it
        self.side: Tensor
        self.passed_on = False  # the next block was given a copy, so the gradient of the view is its own, too
        self.version = 0  # of stream_out when the block had run: a later one tells of a change in place
        self.attention: list[Tensor] = []
        self.value: list[Tensor] = []
        self.mixing_error = 0.0
        self.inputs: dict[nn.Module, list[Tensor]] = {}
        self.outputs: dict[nn.Module, list[Tensor]] = {}

    def forget(self) -> None:
        """Free what only the observation of a finished block needs."""
        del self.stream
        self.value.clear()
        for kept in (*self.inputs.values(), *self.outputs.values()):
            kept.clear()


@dataclass(eq=False)
class Passes:
    """What a model showed in one pass.

    Attributes:
        blocks: one :class:`Pass` per block.
        pool: that of the attention pooling, where there is one.
        grids: what the patch embedding put out.
        outside: attention calls outside of the blocks and the pooling.
        final: what the last norm made of the last block's stream, (B, N, D); None where no such norm was called.
        changed: what was given a stream that somebody had changed since its block wrote it: "block 3", "the last norm".
    """

    blocks: list[Pass]
    pool: Pass | None
    grids: list[Tensor] = field(default_factory=list)
    outside: int = 0
    final: Tensor | None = None
    changed: str | None = None

    @property
    def last(self) -> Tensor:
        """The final tokens (B, N, D): what the last norm puts out, or where there is none, the last block."""
        return self.blocks[-1].stream_out if self.final is None else self.final


class _Hook:
    """A hook that acts only in the isolated work that put it in place."""

    def __init__(self, act: Callable[..., Any]) -> None:
        self.act, self.job = act, current()

    def __call__(self, *given: Any) -> Any:
        if current() is not self.job:
            return None
        checkpoint()
        return self.act(*given)

    def __deepcopy__(self, _memo: Any) -> _Hook:
        """A copy of a model that is made meanwhile, in another thread, gets a hook that does nothing."""
        return _idle_hook()

    def __reduce__(self) -> Any:
        return _idle_hook, ()


def _idle_hook() -> _Hook:
    hook = _Hook(lambda *_given: None)
    hook.job = Job()  # which never runs
    return hook


def _before(stack: ExitStack, module: nn.Module, act: Callable[..., Any]) -> None:
    """Call ``act`` before the module runs, until the stack closes."""
    stack.callback(module.register_forward_pre_hook(_Hook(act)).remove)


def _after(stack: ExitStack, module: nn.Module, act: Callable[..., Any]) -> None:
    """Call ``act`` after the module has run, until the stack closes."""
    stack.callback(module.register_forward_hook(_Hook(act)).remove)


@contextmanager
def recording(
    anatomy: Anatomy,
    graph_from: GraphFrom = "attention",
    finish: Callable[[int, Passes], None] | None = None,
    stays_fused: bool = False,
) -> Iterator[Passes]:
    """While active, a forward pass of the model fills one :class:`Pass` per block. No parameter takes a gradient.

    Args:
        graph_from: where the autograd graph begins: at the attention of the first block, which is all that gradients
            of every attention need; at the stream that enters it; or at the attention of the last block, and then
            only that block is recorded.
        finish: called with each block's number and all passes as soon as the block has run.
        stays_fused: attention is left to the model's fused function.
    """
    blocks = anatomy.blocks[-1:] if graph_from == "last attention" else anatomy.blocks
    passes = Passes(
        blocks=[
            Pass(block.module, i == 0 and graph_from != "stream", stays_fused, i) for i, block in enumerate(blocks)
        ],
        pool=None if anatomy.pool is None else Pass(anatomy.pool, False, False),
    )
    interception = _AttentionInterception(passes)
    with ExitStack() as stack:

        def watch_block(store: Pass, below: Pass | None, ended: Callable[[], None] | None = None) -> None:
            def enter(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                interception.store = store
                if not args or not isinstance(args[0], Tensor):
                    raise UnsupportedModelError(
                        f"{anatomy.name}: expected block {store.number} to be given the stream as its first argument, "
                        "by position; it is called with something else first, or by keyword."
                    )
                if graph_from == "stream" and store is passes.blocks[0]:
                    args = (args[0].detach().requires_grad_(), *args[1:])
                args = _from_below(args, below, passes, f"block {store.number}")
                store.stream = args[0]
                return args

            def leave(_module: nn.Module, _args: Any, returned: Any) -> Any:
                interception.store = None
                output = store.stream_out = _first(returned)
                if ended is not None:
                    with torch._C.DisableTorchFunction():  # a mode takes its time for every function that is called
                        ended()
                store.side = output.view_as(output)
                store.version = output._version
                return (store.side, *returned[1:]) if isinstance(returned, tuple) else store.side

            _before(stack, store.module, enter)
            _after(stack, store.module, leave)

        def watch(store: Pass, module: nn.Module) -> None:
            given, made = store.inputs.setdefault(module, []), store.outputs.setdefault(module, [])
            _before(stack, module, lambda _module, args: given.append(args[0]))
            _after(stack, module, lambda _module, _args, output: made.append(_first(output)))

        below = None
        for i, (block, store) in enumerate(zip(blocks, passes.blocks, strict=True)):
            watch_block(store, below, None if finish is None else partial(finish, i, passes))
            below = store
            for module in block.watched:
                watch(store, module)
        if passes.pool is not None:
            _watch_pool(stack, passes.pool, interception)
        if anatomy.final is not None:
            _watch_final(stack, anatomy.final, passes)
        _after(stack, anatomy.embedding, lambda _module, _args, output: passes.grids.append(output))
        for owner, attribute, value in anatomy.switches:
            stack.enter_context(_switched(owner, attribute, value))
        stack.enter_context(interception)
        yield passes


@contextmanager
def running(anatomy: Anatomy) -> Iterator[None]:
    """While active, the model runs as it does while it is recorded, and no parameter takes a gradient."""
    with ExitStack() as stack:
        for owner, attribute, value in anatomy.switches:
            stack.enter_context(_switched(owner, attribute, value))
        stack.enter_context(ConstantParameters())
        yield


def _watch_pool(stack: ExitStack, store: Pass, interception: _AttentionInterception) -> None:
    def enter(_module: nn.Module, _args: Any) -> None:
        interception.store = store

    def leave(_module: nn.Module, _args: Any, _output: Any) -> None:
        interception.store = None

    _before(stack, store.module, enter)
    _after(stack, store.module, leave)


def _watch_final(stack: ExitStack, norm: nn.Module, passes: Passes) -> None:
    """See the last norm where it is given all of the last block's stream, once; any other call is not a last norm."""
    reads: list[bool] = []

    def enter(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        last = passes.blocks[-1]
        args = _from_below(args, last, passes, "the last norm")
        stream = getattr(last, "stream_out", None)
        reads.append(stream is not None and (args[0] is stream or (last.passed_on and torch.equal(args[0], stream))))
        if stream is not None and not reads[-1] and args[0].shape == stream.shape:
            passes.changed = "the last norm"
        return args

    def leave(_module: nn.Module, _args: Any, output: Tensor) -> None:
        passes.final = output if reads[-1] and sum(reads) == 1 else None

    _before(stack, norm, enter)
    _after(stack, norm, leave)


def _first(output: Any) -> Any:
    """What a module returns, without what some return beside it, such as attention weights."""
    return output[0] if isinstance(output, tuple) and output else output


def _from_below(args: tuple[Tensor, ...], below: Pass | None, passes: Passes, reader: str) -> tuple[Tensor, ...]:
    """The arguments with the stream of the block below in place of the view that others are given of it."""
    stream: Tensor | None = getattr(below, "stream_out", None)
    if below is None or stream is None or not args or not isinstance(args[0], Tensor):
        return args
    if stream._version != below.version:
        passes.changed = passes.changed or reader
    if args[0] is below.side:
        return (stream, *args[1:])
    if args[0].shape == stream.shape and torch.equal(args[0], stream):
        below.passed_on = True
    return args


class _FirstBlockReachedError(Exception):
    """Ends a forward pass at the first block."""


@torch.no_grad()
def embed(anatomy: Anatomy, images: Tensor) -> Tensor:
    """The tokens (B, N, D) that the first block is given; nothing above it runs."""
    found: list[Tensor] = []

    def stop(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        found.extend(args[:1])
        raise _FirstBlockReachedError

    with ExitStack() as stack:
        _before(stack, anatomy.blocks[0].module, stop)
        for owner, attribute, value in anatomy.switches:
            stack.enter_context(_switched(owner, attribute, value))
        with suppress(_FirstBlockReachedError):
            anatomy.model(images)
    if not found or not isinstance(found[0], Tensor):
        raise UnsupportedModelError(
            f"{anatomy.name}: expected the model to call its first block with the stream, found that it does not."
        )
    return found[0]


def classify(anatomy: Anatomy, images: Tensor, stream: Tensor) -> Tensor:
    """Logits (B, classes) that the model would give if its last block put out this stream (B, N, D)."""
    with ExitStack() as stack:
        _after(stack, anatomy.blocks[-1].module, lambda _module, _args, _output: stream)
        return anatomy.logits(anatomy.model(images))


@contextmanager
def following(
    passes: Passes, arrived: Callable[[int, Tensor], Gradients | None], at_last: Callable[[Tensor], None]
) -> Iterator[None]:
    """While active, a backward pass calls ``at_last(gradient)`` at the final tokens and ``arrived(block, gradient)`` at
    what the heads of each block put out; it goes on with the dQ, dK, dV that ``arrived`` returns. Not called for the
    first block, where the graph begins.
    """
    handle = passes.last.register_hook(at_last)
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

    with ExitStack() as stack:
        _before(stack, anatomy.blocks[0].module, drop)
        yield


def state_of(model: nn.Module) -> tuple[Any, ...]:
    """What tells whether a model is still what it was: modules, modes, hooks of others, versions of all tensors."""
    found: list[Any] = [len(hooks) for hooks in _GLOBAL_HOOKS]
    for module in model.modules():
        found.append((id(module), id(type(module).forward), id(module.__dict__.get("forward")), module.training))
        for hooks in (module._forward_pre_hooks, module._forward_hooks):  # their keys are never used twice
            found += [key for key, hook in hooks.items() if not isinstance(hook, _Hook)]
        found += (*module._backward_hooks, *module._backward_pre_hooks)
        for one in (*module._parameters.values(), *module._buffers.values()):
            if one is not None and not one.is_meta:
                found.append((id(one), one.data_ptr(), -1 if one.is_inference() else one._version, _sample(one)))
    return tuple(found)


_GLOBAL_HOOKS = [
    hooks
    for name, hooks in vars(torch_module).items()
    if name.startswith("_global") and name.endswith("hooks") and isinstance(hooks, dict)
]


def _sample(tensor: Tensor) -> float | None:
    """One of its numbers: changes through ``.data`` leave no other trace. On a GPU it would have to be waited for."""
    if tensor.device.type != "cpu" or not tensor.numel() or tensor.layout != torch.strided:
        return None
    return tensor.detach()[tuple(side // 2 for side in tensor.shape)].item()


_switches: dict[tuple[int, str], tuple[int, Any]] = {}
_switching = threading.Lock()


@contextmanager
def _switched(owner: Any, attribute: str, value: Any) -> Iterator[None]:
    """Set an attribute for as long as anybody needs it: the first one sets it, the last one sets it back."""
    key = (id(owner), attribute)
    with _switching:
        count, found = _switches.get(key, (0, getattr(owner, attribute)))
        changes = found != value  # else nothing to do, and nothing left behind where the class holds the attribute
        if changes:
            setattr(owner, attribute, value)
            _switches[key] = (count + 1, found)
    try:
        yield
    finally:
        if changes:
            with _switching:
                count, found = _switches.pop(key)
                if count > 1:
                    _switches[key] = (count - 1, found)
                else:
                    setattr(owner, attribute, found)


class ConstantParameters(TorchFunctionMode):
    """While active, no parameter takes a gradient: what does, comes from the images. In this thread alone; the
    parameters themselves are not touched.
    """

    def __init__(self) -> None:
        super().__init__()
        self.job = current()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if current() is not self.job:  # other work, called from inside
            return func(*args, **(kwargs or {}))
        checkpoint()
        return func(*_constant(args), **({} if not kwargs else {name: _detached(v) for name, v in kwargs.items()}))


_LISTS = (list, tuple)


def _constant(given: Any) -> Any:
    # by type: isinstance asks Parameter's metaclass, which takes longer than most functions do
    for one in given:
        if type(one) is nn.Parameter or type(one) in _LISTS:
            return tuple(_detached(one) for one in given)
    return given


def _detached(one: Any) -> Any:
    if type(one) is nn.Parameter:
        return one.detach()
    if type(one) in _LISTS and any(type(inner) is nn.Parameter for inner in one):
        return type(one)(_detached(inner) for inner in one)
    return one


class _AttentionInterception(ConstantParameters):
    """Active while a model runs: sees every attention, and makes its weights, or its output, a node of the graph.

    ``store`` is that of the block, or the pooling, that runs now; None in between.
    """

    def __init__(self, passes: Passes) -> None:
        super().__init__()
        self.passes = passes
        self.store: Pass | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        attends = func is F.scaled_dot_product_attention or func is F.multi_head_attention_forward
        if not attends or current() is not self.job:
            return super().__torch_function__(func, types, args, kwargs)
        args, kwargs = _constant(args), {name: _detached(value) for name, value in (kwargs or {}).items()}
        if self.store is None:
            self.passes.outside += 1
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._attend(self.store, func, *args, **kwargs)
        return self._attend_packed(self.store, func, *args, **kwargs)

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
