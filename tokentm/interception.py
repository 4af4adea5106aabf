"""See every attention of a running model, however it is written, and make its weights or output a node of the graph.

A function mode sees every function that a model calls. Attention is a call of ``scaled_dot_product_attention``, of
``multi_head_attention_forward``, or a softmax and a product with its result: ``@``, ``matmul``, ``bmm``, ``einsum``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tokentm.attention import Fused, Held, attend
from tokentm.closeness import relative_error
from tokentm.isolation import checkpoint, current
from tokentm.passes import Pass, Passes, node_of
from tokentm.sketch import Sketch

FUSED = {F.scaled_dot_product_attention, F.multi_head_attention_forward}
SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax}
IN_PLACE = {Tensor.__iadd__, Tensor.add_, Tensor.__imul__, Tensor.mul_, Tensor.__isub__, Tensor.sub_}
PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm, torch.einsum}


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


class Connected(TorchFunctionMode):
    """While active, nothing that a model makes of its images is cut off from them: ``detach()`` and ``no_grad()`` do
    nothing, so that the graph shows all that numbers are made of. The numbers stay what they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.job = current()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, first = kwargs or {}, args[0] if args else None
        if current() is not self.job or func is torch._C._set_grad_enabled:
            return func(*args, **kwargs)
        if isinstance(first, Tensor) and type(first) is not nn.Parameter:
            if func in _CUTS:
                return first
            if func in _LEAVES:  # refused for what takes a gradient
                return func(first.detach(), *args[1:], **kwargs)
            if func.__name__ in _WRITES and not first.requires_grad:  # a buffer gets no graph
                return func(*args, **kwargs)
        with torch.enable_grad():
            return func(*args, **kwargs)


_CUTS = {Tensor.detach, torch.detach, Tensor.detach_, Tensor.data.__get__}  # type: ignore[attr-defined]
_LEAVES: set[Any] = {Tensor.numpy, Tensor.__array__}
_WRITES = {"copy_", "add_", "mul_", "sub_", "div_", "lerp_", "fill_", "__setitem__", "__iadd__", "__imul__"}


class AttentionInterception(ConstantParameters):
    """Active while a model runs: sees every attention, and makes its weights, or its output, a node of the graph.

    ``store`` is that of the block, or the pooling, that runs now; None in between.
    """

    def __init__(self, passes: Passes) -> None:
        super().__init__()
        self.passes = passes
        self.store: Pass | None = None
        self.weights = Weights()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        fused, softmax = func in FUSED, func in SOFTMAX
        product = not fused and not softmax and self.weights.known and func in PRODUCTS
        if not (fused or softmax or product) or current() is not self.job:
            return super().__torch_function__(func, types, args, kwargs)
        checkpoint()
        args, kwargs = _constant(args), {name: _detached(value) for name, value in (kwargs or {}).items()}
        if softmax:
            return self.weights.noted(func, args, kwargs)
        if product:
            mixing = self.weights.product(func, args, kwargs, self.passes.images)
            return func(*args, **kwargs) if mixing is None else self._mix(mixing)
        if self.store is None:
            made = func(*args, **kwargs)
            self._outside(_first_of(made))
            return made
        if func is F.scaled_dot_product_attention:
            return self._attend_alone(self.store, func, *args, **kwargs)
        return self._attend_packed(self.store, func, *args, **kwargs)

    def _outside(self, made: Tensor) -> None:
        """Note an attention outside of the blocks; what a text makes is no mixing of the picture's tokens."""
        if made.requires_grad and self.passes.images is None:
            self.passes.before += 1
        elif made.requires_grad:
            self.passes.outside.append(node_of(made))

    def _mix(self, mixing: Mixing) -> Tensor:
        """The product of attention weights that a softmax made, and values."""
        store = self.store
        attention, value = mixing.attention, mixing.value
        if store is None:
            # a pooling by one query is no attention between tokens: how much it reads of each is measured
            pools = self.passes.images is not None and attention.shape[2] != attention.shape[3]
            made = mixing.own()
            if not pools:
                self._outside(made)
            return made
        store.calls += 1
        if store.edit is not None:
            store.value.append(value)
            return mixing.back(store.edited(attention @ value))
        if store.leaf:
            attention = attention.detach()
            if not store.stays_fused:
                attention.requires_grad_()
        mixed = attention @ value
        with torch.no_grad():
            error = relative_error(mixing.back(mixed), mixing.own())
            store.mixing_error = max(float(error), store.mixing_error)
        store.value.append(value if store.stays_fused else value.clone())
        if store.stays_fused:
            mixed = mixed.detach().requires_grad_() if store.leaf else mixed
            store.fused = Held(attention.detach(), value.detach(), mixed)
        else:
            store.attention.append(attention)
            store.mixed = mixed
        return mixing.back(mixed)

    @classmethod
    def _attend_packed(cls, store: Pass, packed: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """nn.MultiheadAttention projects, attends and projects in one function; no function mode sees inside of it."""
        with torch.no_grad():
            own, weights = packed(*args, **kwargs)
        given = signature(packed).bind(*args, **kwargs).arguments
        if given.get("bias_k") is not None or given.get("add_zero_attn") or given["query"].ndim != 3:
            return own, weights  # tokens of its own: not recorded, and so refused
        heads, width = given["num_heads"], given["query"].shape[-1]
        if given["in_proj_weight"] is None:
            projections = [given[f"{name}_proj_weight"] for name in "qkv"]
        else:
            projections = given["in_proj_weight"].split(width)
        biases = (None, None, None) if given["in_proj_bias"] is None else given["in_proj_bias"].split(width)
        query, key, value = (
            F.linear(given[one], weight, bias)
            .unflatten(-1, (heads, -1))
            .permute(1, 2, 0, 3)  # (batch, heads, tokens, d)
            for one, weight, bias in zip(("query", "key", "value"), projections, biases, strict=True)
        )
        mask = _mask_of_packed(query, given.get("attn_mask"), given.get("key_padding_mask"))
        mixed = cls._attend(store, F.scaled_dot_product_attention, query, key, value, mask)
        output = F.linear(mixed.permute(2, 0, 1, 3).flatten(2), given["out_proj_weight"], given["out_proj_bias"])
        store.mixing_error = max(float(relative_error(output.detach(), own)), store.mixing_error)
        return output, weights

    def _attend_alone(
        self, store: Pass, fused: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, *args: Any,
        enable_gqa: bool = False, **kwargs: Any,
    ) -> Tensor:  # fmt: skip
        """The call with an axis of heads and one set of keys and values for each of them."""
        if enable_gqa:
            key, value = (one.repeat_interleave(query.shape[-3] // one.shape[-3], -3) for one in (key, value))
        images = self.passes.images
        if query.ndim != 3 or images is None or len(query) % images or len(query) != len(key):
            return self._attend(store, fused, query, key, value, *args, **kwargs)
        query, key, value = (one.unflatten(0, (images, -1)) for one in (query, key, value))
        return self._attend(store, fused, query, key, value, *args, **kwargs).flatten(0, 1)

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
        if is_causal and attn_mask is None:
            attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        own = partial(fused, attn_mask=attn_mask, dropout_p=dropout_p, scale=scale, **options)
        if query.ndim != 4 or not query.shape[:2] == key.shape[:2] == value.shape[:2]:
            return own(query, key, value)  # heads that share keys: not recorded, and so refused
        store.calls += 1
        if store.edit is not None:
            store.value.append(value)
            return store.edited(own(query, key, value))
        if store.stays_fused:
            if store.leaf:
                mixed = node = own(query, key, value).detach().requires_grad_()
            else:
                mixed = attend(own, store.relay, query, key, value)
                node = mixed.detach()
            mask = None if attn_mask is None else attn_mask.expand(*query.shape[:3], key.shape[2])
            store.fused = Fused(query.detach(), key.detach(), value.detach(), mask, scale, node)
            store.value.append(value)
            return mixed
        logits = query @ key.transpose(-2, -1) * scale
        if attn_mask is not None:
            logits = logits.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
        attention = logits.softmax(-1)
        if store.leaf:
            # nothing below needs a gradient, and in a frozen model the graph of all later layers starts here
            attention = attention.detach().requires_grad_()
        store.mixed = mixed = attention @ value
        with torch.no_grad():
            store.mixing_error = float(relative_error(mixed, own(query, key, value)))
        store.attention.append(attention)
        store.value.append(value.clone())  # alone, not a view that keeps all of q, k, v
        return mixed


def _mask_of_packed(like: Tensor, mask: Tensor | None, padding: Tensor | None) -> Tensor | None:
    """What is added to the logits (B, H, rows, N): a mask for pairs of tokens, and one for tokens that are padding."""
    images, heads = like.shape[:2]
    parts = []
    if mask is not None:
        mask = _added(mask, like)
        parts.append(mask.unflatten(0, (images, heads)) if mask.ndim == 3 else mask)
    if padding is not None:
        parts.append(_added(padding, like)[:, None, None, :])
    return sum(parts[1:], parts[0]) if parts else None


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask that is True where something does not count, as what is added to logits."""
    return like.new_zeros(mask.shape).masked_fill(mask, -torch.inf) if mask.dtype == torch.bool else mask.to(like)


@dataclass(frozen=True, eq=False)
class Attended:
    """One attention of a running model.

    Attributes:
        at: when, on the clock of who watches.
        shape: of what the heads put out, (B, H, rows, d); None of a call that cannot be taken apart.
        mixed: that, the heads side by side, (B, rows, H d).
        tokens: how many tokens it attends to.
        packed: whether one function projected, attended and projected.
        made: what the model went on with, in its own layout and with its graph.
    """

    at: int
    shape: tuple[int, int, int, int] | None
    mixed: Sketch | None
    tokens: int
    packed: bool
    made: Tensor

    @property
    def sees(self) -> bool:
        """Whether it depends on the images."""
        return self.made.requires_grad

    @property
    def heads(self) -> int:
        """Of a call that can be taken apart."""
        assert self.shape is not None
        return self.shape[1]


def _first_of(made: Any) -> Tensor:
    return made[0] if isinstance(made, tuple) else made


class AttentionWatch(AttentionInterception):
    """Active while a model runs on images that take a gradient: notes every attention, and changes nothing.

    Args:
        images: how many the model is given.
        clock: tells the time.
    """

    def __init__(self, images: int, clock: Callable[[], int]) -> None:
        super().__init__(Passes([], None, images=images))
        self.images, self.clock = images, clock
        self.seen: list[Attended] = []
        self.in_place: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.store = store = Pass("", leaf=False, stays_fused=True)
        if func in IN_PLACE and isinstance(args[0], Tensor) and args[0].ndim == 3:
            self.in_place.append(func.__name__)
        made = super().__torch_function__(func, types, args, kwargs)
        packed = func is F.multi_head_attention_forward
        if store.fused is not None:
            mixed, tokens = store.fused.mixed, store.fused.value.shape[2]
            images, heads, rows, width = mixed.shape
            sketch = Sketch.of(mixed.transpose(1, 2).flatten(2), self.images)
            shape = (images, heads, rows, width)
            self.seen.append(Attended(self.clock(), shape, sketch, tokens, packed, _first_of(made)))
        elif func in FUSED and current() is self.job:
            self.seen.append(Attended(self.clock(), None, None, 0, packed, _first_of(made)))
        return made


@dataclass(frozen=True, eq=False)
class Mixing:
    """Attention weights times values, as the model wrote it and in one layout.

    Attributes:
        attention: A, (B, H, rows, N).
        value: v, (B, H, N, d).
        back: what the heads put out, (B, H, rows, d), in the layout of the model's own product.
        own: the model's own product.
    """

    attention: Tensor
    value: Tensor
    back: Callable[[Tensor], Tensor]
    own: Callable[[], Tensor]


class Weights:
    """The last attention weights that a softmax made, until something is multiplied with them."""

    def __init__(self) -> None:
        self.made: Tensor | None = None
        self.version = 0

    @property
    def known(self) -> bool:
        return self.made is not None

    def noted(self, softmax: Callable[..., Tensor], args: Any, kwargs: Any) -> Tensor:
        """Run a softmax, and remember what it makes if it may be attention: over the last axis, for several tokens."""
        made = softmax(*args, **kwargs)
        axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
        over_last = axis in (-1, made.ndim - 1)
        if over_last and made.ndim in (3, 4) and made.shape[-1] > 1:
            self.made, self.version = made, made._version
        return made

    def product(self, func: Any, args: Any, kwargs: Any, batch: int | None) -> Mixing | None:
        """The mixing that a product is, if one of its factors holds the weights, unchanged."""
        if func is torch.einsum:
            equation, factors = args[0], args[1] if type(args[1]) in _LISTS else args[1:]
            found = _of_einsum(equation, factors, [self._holds(one) for one in factors], batch)
        else:
            left, right = args[0], args[1] if len(args) > 1 else next(iter(kwargs.values()))
            found = self._of_matrices(left, right, batch)
        if found is None:
            return None
        self.made = None
        return Mixing(*found, own=lambda: func(*args, **kwargs))

    def _holds(self, factor: Any) -> bool:
        """Whether a factor is the weights, or another view of them in the same order; dropout in eval mode is one."""
        made = self.made
        if made is None or not isinstance(factor, Tensor) or made._version != self.version:
            return False
        if factor is made:
            return True
        return (
            factor.numel() == made.numel()
            and factor.shape[-2:] == made.shape[-2:]
            and factor.dtype == made.dtype
            and factor.is_contiguous()
            and made.is_contiguous()
            and factor.data_ptr() == made.data_ptr()
        )

    def _of_matrices(self, left: Any, right: Any, batch: int | None) -> _Layout | None:
        """A v, or v^T A^T."""
        turned = not self._holds(left)
        if turned:
            if not (isinstance(right, Tensor) and right.ndim > 2 and self._holds(right.transpose(-2, -1))):
                return None
            left, right = right.transpose(-2, -1), left.transpose(-2, -1)
        if not isinstance(right, Tensor) or right.ndim != left.ndim or left.ndim not in (3, 4):
            return None
        lead = left.shape[:-2]
        if right.shape[:-2] == (lead[0], 1):  # all heads mix the same values
            right = right.expand(*lead, -1, -1)
        if right.shape[:-2] != lead:
            return None
        if len(lead) == 2:
            attention, value = left, right
        else:
            images = lead[0] if batch is None or lead[0] % batch else batch
            attention, value = (one.unflatten(0, (images, -1)) for one in (left, right))

        def back(mixed: Tensor) -> Tensor:
            own = mixed if len(lead) == 2 else mixed.flatten(0, 1)
            return own.transpose(-2, -1) if turned else own

        return attention, value, back


_Layout = tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]


def _of_einsum(equation: Any, factors: Any, holds: list[bool], batch: int | None) -> _Layout | None:
    """A v by letters: shared letters are image and head, one is summed over, the others stay."""
    if not isinstance(equation, str) or "->" not in equation or "." in equation or sum(holds) != 1 or len(holds) != 2:
        return None
    inputs, out = equation.replace(" ", "").split("->")
    letters = inputs.split(",")
    which = holds.index(True)
    a, v = letters[which], letters[1 - which]
    attention, value = factors[which], factors[1 - which]
    shared = [letter for letter in out if letter in a and letter in v]
    summed = [letter for letter in a if letter in v and letter not in out]
    rows = [letter for letter in out if letter in a and letter not in v]
    width = [letter for letter in out if letter in v and letter not in a]
    if [len(summed), len(rows), len(width)] != [1, 1, 1] or len(shared) not in (1, 2) or a[-1] != summed[0]:
        return None
    if len({*a}) < len(a) or len({*v}) < len(v) or {*a, *v} != {*shared, *summed, *rows, *width}:
        return None
    sizes = dict(zip(a, attention.shape, strict=True))
    if len(shared) == 2 and batch is not None and sizes[shared[0]] != batch:
        shared.reverse()
    four = [*shared, *rows, *summed]
    attention = attention.permute([a.index(letter) for letter in four])
    value = value.permute([v.index(letter) for letter in (*shared, *summed, *width)])
    made = [*shared, *rows, *width]

    def back(mixed: Tensor) -> Tensor:
        own = mixed if len(shared) == 2 else mixed.squeeze(1)
        return own.permute([made.index(letter) for letter in out])

    if len(shared) == 1:
        return attention.unsqueeze(1), value.unsqueeze(1), back
    return attention, value, back
