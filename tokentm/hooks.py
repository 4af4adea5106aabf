"""Run a model and see inside: hooks on its modules, and the function mode of interception.py.

The only module that touches hooks. All of them are gone when a ``with`` block ends, however it ends, and they act only
in the isolated work that put them there (see isolation.py): whoever else calls the model meanwhile gets the same
numbers. Switches of a model, such as its attention's implementation, are shared: while a model is recorded that returns
its attentions itself, other callers do not get them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules import module as torch_module

from tokentm.attention import Gradients, Held, told
from tokentm.errors import UnsupportedModelError
from tokentm.interception import Attended, AttentionInterception, AttentionWatch, ConstantParameters
from tokentm.isolation import Job, checkpoint, current
from tokentm.passes import Pass, Passes
from tokentm.sketch import Sketch
from tokentm.vit import Anatomy, Block

GraphFrom = Literal["attention", "stream", "last attention"]


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
        stays_fused: attention is left to the model's own function.
    """
    blocks = anatomy.blocks[-1:] if graph_from == "last attention" else anatomy.blocks
    passes = Passes(
        blocks=[Pass(block.kind, i == 0 and graph_from != "stream", stays_fused, i) for i, block in enumerate(blocks)],
        pool=None if anatomy.pool is None else Pass(type(anatomy.pool).__name__, False, False),
    )
    interception = AttentionInterception(passes)
    with ExitStack() as stack:
        _Column(anatomy, passes, interception, graph_from == "stream", finish).watch(stack, blocks)
        if anatomy.pool is not None and passes.pool is not None:
            _watch_pool(stack, anatomy.pool, passes.pool, interception)
        if anatomy.final is not None:
            _watch_final(stack, anatomy.final, passes, Tokens.of(anatomy))
        if anatomy.embedding is not None:
            _after(stack, anatomy.embedding, lambda _module, _args, output: passes.grids.append(_first(output)))
        for owner, attribute, value in anatomy.switches:
            stack.enter_context(_switched(owner, attribute, value))
        stack.enter_context(interception)
        yield passes


class _Column:
    """Watches where the blocks begin and end. A block with a module of its own ends with it; blocks without end where
    the next one begins, and the last of them where the last norm reads its stream or ``anatomy.column`` puts it out.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        passes: Passes,
        interception: AttentionInterception,
        from_stream: bool,
        finish: Callable[[int, Passes], None] | None,
    ) -> None:
        self.anatomy, self.passes, self.interception = anatomy, passes, interception
        self.from_stream, self.finish = from_stream, finish
        self.tokens = Tokens.of(anatomy)
        self.open: Pass | None = None  # a block without a module of its own that runs now

    def watch(self, stack: ExitStack, blocks: Sequence[Block]) -> None:
        below = None
        for block, store in zip(blocks, self.passes.blocks, strict=True):
            if block.module is None:
                _before(stack, block.entry, partial(self._enter_open, store))
            else:
                _before(stack, block.module, partial(self._enter, store, below))
                _after(stack, block.module, partial(self._leave, store))
            for module in block.watched:
                _watch(stack, store, module, self.tokens)
            below = store
        if blocks[-1].module is not None:
            return
        if self.anatomy.column is not None:
            _after(stack, self.anatomy.column, lambda _module, _args, returned: self._close(_first(returned)))
        elif self.anatomy.final is not None:
            _before(stack, self.anatomy.final, lambda _module, args: self._close(args[0]))

    def _enter(self, store: Pass, below: Pass | None, _module: nn.Module, args: tuple[Tensor, ...]) -> Any:
        self.interception.store = store
        if not args or not isinstance(args[0], Tensor):
            raise UnsupportedModelError(
                f"{self.anatomy.name}: expected block {store.number} to be given the stream as its first argument, "
                "by position; it is called with something else first, or by keyword."
            )
        entering = args[0] if store.enter is None else self.tokens.kept(store.enter(self.tokens.kept(args[0])))
        stream, onward = self.tokens.threaded(entering, leaf=self.from_stream and store.number == 0)
        _check_version(below, self.passes, f"block {store.number}")
        store.stream, self.passes.images = stream, len(stream)
        return (onward, *args[1:])

    def _leave(self, store: Pass, _module: nn.Module, _args: Any, returned: Any) -> Any:
        stream, onward = self.tokens.threaded(_first(returned))
        self._ended(store, stream)
        return (onward, *returned[1:]) if isinstance(returned, tuple) else onward

    def _enter_open(self, store: Pass, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if self.open is store and args[0] is store.stream:
            return  # once for queries, once for keys, once for values
        self._close(args[0])
        stream = args[0]
        if store.enter is not None:
            stream.copy_(store.enter(stream))  # its first module and its residual connection read this very tensor
        if self.from_stream and store.number == 0 and not stream.requires_grad:
            stream.requires_grad_()
        store.stream, store.version, self.passes.images = stream, stream._version, len(stream)
        self.open = self.interception.store = store

    def _close(self, stream: Tensor) -> None:
        """The block that is open has put out this stream."""
        store, self.open = self.open, None
        if store is None:
            return
        if store.stream._version != store.version:
            raise UnsupportedModelError(
                f"{self.anatomy.name}: expected blocks that leave their input as it is, found that block "
                f"{store.number} changes it in place (x += ...). Write x = x + ..."
            )
        self._ended(store, stream)

    def _ended(self, store: Pass, stream: Tensor) -> None:
        self.interception.store = None
        store.stream_out, store.version = stream, stream._version
        if self.finish is not None:
            with torch._C.DisableTorchFunction():  # a mode takes its time for every function that is called
                self.finish(store.number, self.passes)


@dataclass(frozen=True)
class Tokens:
    """How a model handles its tokens.

    Attributes:
        sequence_first: it holds them as (N, B, D); else (B, N, D), as everything is kept here.
        in_place: it may change in place what its modules return.
    """

    sequence_first: bool
    in_place: bool

    @classmethod
    def of(cls, anatomy: Anatomy) -> Tokens:
        return cls(anatomy.sequence_first, anatomy.in_place)

    @property
    def as_kept(self) -> bool:
        """Whether the model's own tensors can be kept, and handed on, as they are."""
        return not self.sequence_first and not self.in_place

    def kept(self, tokens: Tensor) -> Tensor:
        """From the model's order to (B, N, D)."""
        return tokens.transpose(0, 1) if self.sequence_first else tokens

    def threaded(self, tokens: Tensor, leaf: bool = False) -> tuple[Tensor, Tensor]:
        """The tokens as they are kept, and what the model goes on with: made of them, so that gradients meet them."""
        kept = self.kept(tokens)
        if leaf:
            kept = kept.detach().requires_grad_()
        onward = self.kept(kept)
        return kept, onward.clone() if self.in_place else onward


def _watch(stack: ExitStack, store: Pass, module: nn.Module, tokens: Tokens) -> None:
    """Keep what a module of a block is given first and what it returns first."""
    given, made = store.inputs.setdefault(module, []), store.outputs.setdefault(module, [])

    def enter(_module: nn.Module, args: Any, named: Any) -> Any:
        first = _first_tensor(args, named)
        if first is None or tokens.as_kept or first.ndim != 3:
            given.append(first)
            return None
        kept, onward = tokens.threaded(first)
        given.append(kept)
        return (
            tuple(onward if one is first else one for one in args),
            {name: onward if one is first else one for name, one in named.items()},
        )

    def leave(_module: nn.Module, _args: Any, output: Any) -> Any:
        first = _first(output)
        if tokens.as_kept or not isinstance(first, Tensor) or first.ndim != 3:
            made.append(first)
            return None
        kept, onward = tokens.threaded(first)
        made.append(kept)
        return (onward, *output[1:]) if isinstance(output, tuple) else onward

    stack.callback(module.register_forward_pre_hook(_Hook(enter), with_kwargs=True).remove)
    _after(stack, module, leave)


def _first_tensor(args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    return next((one for one in (*args, *named.values()) if isinstance(one, Tensor)), None)


@contextmanager
def running(anatomy: Anatomy, takes_pool_apart: bool = False) -> Iterator[None]:
    """While active, the model runs as it does while it is recorded, and no parameter takes a gradient.

    Args:
        takes_pool_apart: the attention of an attention pooling is made by a softmax and a product of matrices, as while
            the model is recorded, so that rules for both apply to it.
    """
    with ExitStack() as stack:
        for owner, attribute, value in anatomy.switches:
            stack.enter_context(_switched(owner, attribute, value))
        if takes_pool_apart and anatomy.pool is not None:
            pool = Pass(type(anatomy.pool).__name__, False, False)
            interception = AttentionInterception(Passes([], pool))
            _watch_pool(stack, anatomy.pool, pool, interception)
            stack.enter_context(interception)
        else:
            stack.enter_context(ConstantParameters())
        yield


def _watch_pool(stack: ExitStack, pool: nn.Module, store: Pass, interception: AttentionInterception) -> None:
    def enter(_module: nn.Module, _args: Any) -> None:
        interception.store = store

    def leave(_module: nn.Module, _args: Any, _output: Any) -> None:
        interception.store = None

    _before(stack, pool, enter)
    _after(stack, pool, leave)


def _watch_final(stack: ExitStack, norm: nn.Module, passes: Passes, tokens: Tokens) -> None:
    """See the last norm where it is given all of the last block's stream; what else it is given does not count."""
    orders = [tokens] if not tokens.sequence_first else [tokens, replace(tokens, sequence_first=False)]
    reads: list[Tokens | None] = []

    def enter(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        last, given = passes.blocks[-1], args[0]
        _check_version(last, passes, "the last norm")
        stream = getattr(last, "stream_out", None)
        reads.append(None)
        if stream is None or given.ndim != 3:
            return
        for order in orders:
            seen = order.kept(given)
            if seen is stream or (seen.shape == stream.shape and torch.equal(seen, stream)):
                reads[-1] = order
        if reads[-1] is None and given.shape == stream.shape:
            passes.changed = "the last norm"

    def leave(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        order = reads[-1]
        if order is None:
            return output
        if sum(one is not None for one in reads) > 1:
            passes.final = None  # it is read twice: which of both counts how much is not known
            return output
        passes.final, onward = order.threaded(output)
        return onward

    _before(stack, norm, enter)
    _after(stack, norm, leave)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _first(output: Any) -> Any:
    """What a module returns, without what some return beside it, such as attention weights."""
    return output[0] if isinstance(output, tuple) and output else output


def _check_version(below: Pass | None, passes: Passes, reader: str) -> None:
    """Note the first reader of a stream that has been changed in place since its block wrote it."""
    stream: Tensor | None = getattr(below, "stream_out", None)
    if below is not None and stream is not None and stream._version != below.version:
        passes.changed = passes.changed or reader


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
        _before(stack, anatomy.blocks[0].entry, stop)
        for owner, attribute, value in anatomy.switches:
            stack.enter_context(_switched(owner, attribute, value))
        with suppress(_FirstBlockReachedError):
            anatomy.answer(images)
    if not found or not isinstance(found[0], Tensor):
        raise UnsupportedModelError(
            f"{anatomy.name}: expected the model to call its first block with the stream, found that it does not."
        )
    return Tokens.of(anatomy).kept(found[0])


def classify(anatomy: Anatomy, images: Tensor, stream: Tensor) -> Tensor:
    """Logits (K, classes) that the model would give if its last block put out this stream (K, N, D).

    K is the number of images, unless what follows the blocks takes its number from the stream alone.
    """
    last = anatomy.blocks[-1].module or anatomy.column
    stream = Tokens.of(anatomy).kept(stream)
    with ExitStack() as stack:
        if last is not None:
            _after(stack, last, lambda _module, _args, made: (stream, *made[1:]) if isinstance(made, tuple) else stream)
        elif anatomy.final is not None:
            _before(stack, anatomy.final, lambda _module, args: (stream, *args[1:]))
        return anatomy.answer(images)


@contextmanager
def following(
    passes: Passes, arrived: Callable[[int, Tensor], Gradients | None], at_last: Callable[[Tensor], None]
) -> Iterator[None]:
    """While active, a backward pass calls ``at_last(gradient)`` at the final tokens and ``arrived(block, gradient)`` at
    what the heads of each block put out; it goes on with the dQ, dK, dV that ``arrived`` returns. Not called for the
    first block, where the graph begins. Gradients of several scores come stacked, see :func:`tokentm.attention.told`.
    """
    with ExitStack() as stack:
        stack.callback(passes.last.register_hook(partial(_told, at_last)).remove)
        for i, store in enumerate(passes.blocks):
            if isinstance(store.fused, Held):
                if i > 0:
                    stack.callback(store.fused.mixed.register_hook(partial(_told, partial(arrived, i))).remove)
            else:
                store.relay.follower = partial(arrived, i)
                stack.callback(setattr, store.relay, "follower", None)
        yield


def _told(follower: Callable[[Tensor], Any], gradient: Tensor) -> None:
    """Where the model's own functions take the gradient on."""

    def follow(one: Tensor) -> None:
        follower(one)

    told(follow, gradient)


@contextmanager
def keeping(anatomy: Anatomy, kept: Tensor) -> Iterator[None]:
    """While active, only some tokens enter the first block: ``kept`` holds their indices, (B, n)."""

    first, handled = anatomy.blocks[0].module, Tokens.of(anatomy)
    if first is None:
        raise UnsupportedModelError(
            f"{anatomy.name}: expected blocks with a module of their own, where tokens can be left out; its first one "
            "has none. Take patches away in another way, such as the mean."
        )

    def drop(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        tokens = handled.kept(args[0])
        tokens = tokens.gather(1, kept.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
        return (handled.kept(tokens), *args[1:])

    with ExitStack() as stack:
        _before(stack, first, drop)
        yield


@contextmanager
def patching(anatomy: Anatomy, wanted: Mapping[int, Tensor], tokens: Tensor) -> Iterator[None]:
    """While active, one token of each image enters some blocks as it was in another run. Call it without gradients.

    Args:
        wanted: what takes the token's place, by the number of the block that it enters, (B, D) each.
        tokens: which token of each image, (B,).
    """
    handled, images = Tokens.of(anatomy), torch.arange(len(tokens), device=tokens.device)

    def put(block: Block, given: Tensor, _module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        stream = handled.kept(args[0])
        if block.module is None:  # its first module and its residual connection read this very tensor
            stream[images, tokens] = given
            return None
        return (handled.kept(stream.index_put((images, tokens), given)), *args[1:])

    with ExitStack() as stack:
        for number, given in wanted.items():
            block = anatomy.blocks[number]
            _before(stack, block.entry, partial(put, block, given))
        yield


Exchange = Callable[[Tensor], Tensor]
"""From what a model made to what it goes on with, of the same shape."""


@dataclass(frozen=True, eq=False)
class Edit:
    """What is exchanged in one block while it runs; None leaves it as it is.

    Attributes:
        stream: x, as it enters the block, (B, N, D).
        heads: what the heads put out, before their projection, (B, H, N, d).
        attention, ffn: what attention and FFN add to the stream, before the block's ``scale`` and ``ffn_scale``,
            (B, N, D).
        ffn_call: which call of the block's ``ffn_update`` makes what the FFN adds, from 0.
    """

    stream: Exchange | None = None
    heads: Exchange | None = None
    attention: Exchange | None = None
    ffn: Exchange | None = None
    ffn_call: int = 0


@contextmanager
def editing(
    anatomy: Anatomy, edits: Mapping[int, Edit], finish: Callable[[int, Passes], None] | None = None
) -> Iterator[Passes]:
    """While active, one forward pass has parts of some blocks exchanged, and fills one :class:`Pass` per block with
    what the model then went on with. Call it without gradients.

    Args:
        edits: by the number of the block.
        finish: as of :func:`recording`.
    """
    handled = Tokens.of(anatomy)
    with ExitStack() as stack:
        for number, edit in edits.items():  # before anything is recorded, which then is what was put in place
            block = anatomy.blocks[number]
            if edit.attention is not None:
                _exchange_output(stack, block.update, 0, edit.attention, handled)
            if edit.ffn is not None:
                _exchange_output(stack, block.ffn_update, edit.ffn_call, edit.ffn, handled)
        passes = stack.enter_context(recording(anatomy, finish=finish, stays_fused=True))
        for number, edit in edits.items():
            passes.blocks[number].enter, passes.blocks[number].edit = edit.stream, edit.heads
        yield passes


def _exchange_output(stack: ExitStack, module: nn.Module, wanted: int, exchange: Exchange, handled: Tokens) -> None:
    calls = count()

    def leave(_module: nn.Module, _args: Any, output: Any) -> Any:
        if next(calls) != wanted:
            return None
        new = handled.kept(exchange(handled.kept(_first(output))))
        return (new, *output[1:]) if isinstance(output, tuple) else new

    _after(stack, module, leave)


@dataclass(eq=False)
class Call:
    """One call of a module in a running model.

    Attributes:
        module: what was called.
        given, made: the first tensor that it was given, and the first that it returned; None where there was none.
        began, ended: when.
    """

    module: nn.Module
    given: Sketch | None
    began: int
    made: Sketch | None = None
    ended: int = -1


@dataclass(frozen=True, eq=False)
class Watched:
    """What modules were given and returned in one pass, and every attention, in the order of time.

    Attributes:
        calls: by their beginning.
        attentions: those that see the images, see :class:`tokentm.interception.Attended`.
        output: what the model returned.
        images: how many the model was given.
        in_place: functions that changed tokens in place.
        blind: how many attentions no gradient leads from to the images.
    """

    calls: list[Call]
    attentions: list[Attended]
    output: Any
    images: int
    in_place: tuple[str, ...]
    blind: int = 0


def watched(
    model: nn.Module,
    call: Callable[[Any, Tensor], Any],
    images: Tensor,
    switches: Sequence[tuple[Any, str, Any]] = (),
    keeps_tensors: bool = False,
) -> Watched:
    """Run a model once and see every call of a module and every attention. Call it isolated.

    Images take a gradient, so that what depends on them is known. Of the graph nothing else is kept, unless gradients
    are to be taken: ``keeps_tensors``.
    """
    calls: list[Call] = []
    running: list[Call] = []
    times, batch = count(), len(images)

    def enter(module: nn.Module, args: Any, named: Any) -> None:
        given = _first_tensor(args, named)
        running.append(Call(module, None if given is None else Sketch.of(given, batch), next(times)))
        calls.append(running[-1])

    def leave(module: nn.Module, _args: Any, output: Any) -> None:
        while running[-1].module is not module:  # it raised, and the model caught that
            running.pop()
        done, made = running.pop(), _first(output)
        done.made, done.ended = Sketch.of(made, batch) if isinstance(made, Tensor) else None, next(times)

    watch = AttentionWatch(batch, lambda: next(times))
    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_pre_hook(_Hook(enter), with_kwargs=True).remove)
            _after(stack, module, leave)
        for owner, attribute, value in switches:
            stack.enter_context(_switched(owner, attribute, value))
        if not keeps_tensors:
            stack.enter_context(saved_tensors_hooks(lambda _tensor: None, lambda _nothing: _nothing))
        stack.enter_context(watch)
        output = call(model, images.detach().clone().requires_grad_())
    ended = [one for one in calls if one.ended >= 0]
    seeing = [one for one in watch.seen if one.sees]
    return Watched(ended, seeing, output, batch, tuple(watch.in_place), len(watch.seen) - len(seeing))


def structure_of(model: nn.Module) -> tuple[Any, ...]:
    """What tells whether a model is still built as it was: modules, modes, hooks of others, where its weights are."""
    found: list[Any] = [len(hooks) for hooks in _GLOBAL_HOOKS]
    for module in model.modules():
        found += _built(module)
        found += [(one.dtype, one.device) for one in module._parameters.values() if one is not None]
    return tuple(found)


def state_of(model: nn.Module) -> tuple[Any, ...]:
    """What tells whether a model is still what it was: how it is built, and versions of all tensors."""
    found: list[Any] = [len(hooks) for hooks in _GLOBAL_HOOKS]
    for module in model.modules():
        found += _built(module)
        for one in (*module._parameters.values(), *module._buffers.values()):
            if one is not None and not one.is_meta:
                found.append((id(one), one.data_ptr(), -1 if one.is_inference() else one._version, _sample(one)))
    return tuple(found)


def _built(module: nn.Module) -> list[Any]:
    """The class of one module, its mode, and the hooks that others have put on it."""
    found: list[Any] = [(id(module), id(type(module).forward), id(module.__dict__.get("forward")), module.training)]
    for hooks in (module._forward_pre_hooks, module._forward_hooks):  # their keys are never used twice
        found += [key for key, hook in hooks.items() if not isinstance(hook, _Hook)]
    found += (*module._backward_hooks, *module._backward_pre_hooks)
    return found


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
