"""A set of rules: what each kind of function hands down in the backward pass, and which function is of which kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Mark = Literal["gate", "activated"]
"""What a tensor is in a product: a gate g of x * g, or what an activation has made."""


@dataclass(frozen=True, eq=False)
class Marks:
    """Which tensors of a pass are gates or activated. Tensors are kept, so that none takes the place of another."""

    known: dict[int, tuple[Tensor, Mark]] = field(default_factory=dict)

    def of(self, tensor: Tensor) -> Mark | None:
        found = self.known.get(id(tensor))
        return None if found is None else found[1]

    def put(self, tensor: Tensor, mark: Mark) -> Tensor:
        self.known[id(tensor)] = (tensor, mark)
        return tensor


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a function by a running model.

    Attributes:
        function, args, kwargs: what is called, and with what.
        carrying: the tensors among its arguments, and in lists of them, that the backward pass must reach.
        marks: what is known of tensors of this pass.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    carrying: tuple[Tensor, ...]
    marks: Marks

    def run(self) -> Any:
        """What the function makes, with its own backward pass."""
        return self.function(*self.args, **self.kwargs)

    def given(self, instead: Mapping[int, Tensor]) -> Call:
        """The same call with other tensors; ``instead`` has them by the id of those that they replace."""
        args = tuple(_exchanged(one, instead) for one in self.args)
        kwargs = {name: _exchanged(one, instead) for name, one in self.kwargs.items()}
        return replace(self, args=args, kwargs=kwargs, carrying=carrying_of((*args, *kwargs.values())))

    def constant(self, *tensors: Tensor) -> Call:
        """The same call with some of its tensors as constants."""
        return self.given({id(one): one.detach() for one in tensors})

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among its positional arguments."""
        return tensors_of(self.args)


Rule = Callable[[Call], Any]
"""What a function makes, with the backward pass of the rule; None where the rule does not apply to this call."""


@dataclass(frozen=True)
class Rules:
    """A backward pass, function by function.

    Attributes:
        name: what the method is called in messages.
        linear: ``F.linear``.
        average: a mean over an axis.
        norm: LayerNorm, RMSNorm.
        softmax: of logits of attention.
        activation: x * g(x), such as GELU and SiLU.
        squashing: what makes gates, such as a sigmoid.
        scaled: one tensor plus, times or divided by constants.
        matrices: a product of matrices.
        product: a product of two tensors, element by element.
        sum: of two tensors.
        affine: other functions that are linear in a tensor, up to a constant; None: no rule.
        reciprocal: a quotient by a tensor, and what stands for one, such as ``rsqrt``; None: no rule.
        in_place: a sum or a multiple that changes its tensor; None: no rule.
        other: functions of none of these kinds; None: no rule.
    """

    name: str
    linear: Rule
    average: Rule
    norm: Rule
    softmax: Rule
    activation: Rule
    squashing: Rule
    scaled: Rule
    matrices: Rule
    product: Rule
    sum: Rule
    affine: Rule | None = None
    reciprocal: Rule | None = None
    in_place: Rule | None = None
    other: Rule | None = None


def carrying_of(arguments: Iterable[Any]) -> tuple[Tensor, ...]:
    """The tensors among arguments, and in lists of them, that the backward pass must reach."""
    found: list[Tensor] = []
    for one in arguments:
        if isinstance(one, Tensor) and one.requires_grad:
            found.append(one)
        elif isinstance(one, (list, tuple)):
            found += carrying_of(one)
    return tuple(found)


def tensors_of(arguments: Iterable[Any]) -> list[Tensor]:
    """The tensors among arguments and in lists of them."""
    found: list[Tensor] = []
    for one in arguments:
        found += [one] if isinstance(one, Tensor) else tensors_of(one) if isinstance(one, (list, tuple)) else []
    return found


def _exchanged(one: Any, instead: Mapping[int, Tensor]) -> Any:
    if isinstance(one, (list, tuple)):
        return type(one)([_exchanged(inner, instead) for inner in one])
    return instead.get(id(one), one)


# what only moves numbers hands down by every set of rules as it hands down gradients
MOVING = {
    *(torch.cat, torch.stack, torch.unbind, torch.chunk, torch.split, torch.reshape, torch.transpose, torch.permute),
    *(torch.flatten, torch.squeeze, torch.unsqueeze, Tensor.__getitem__, Tensor.unbind, Tensor.chunk, Tensor.split),
    *(Tensor.reshape, Tensor.view, Tensor.transpose, Tensor.permute, Tensor.flatten, Tensor.unflatten, Tensor.squeeze),
    *(Tensor.unsqueeze, Tensor.contiguous, Tensor.clone, Tensor.to, Tensor.float, Tensor.type_as, Tensor.select),
    *(Tensor.expand, Tensor.expand_as, Tensor.view_as, torch.select),
    *(Tensor.detach, Tensor.requires_grad_, torch.clone, torch.narrow, Tensor.narrow),
    *(torch.swapaxes, Tensor.swapaxes, torch.movedim, Tensor.movedim, torch.unflatten, Tensor.reshape_as),
    *(Tensor.double, Tensor.type, torch.t, Tensor.t, Tensor.mT.__get__, Tensor.T.__get__),  # type: ignore[attr-defined]
}

SUM = {torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__}
PRODUCT = {torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__}
QUOTIENT = {Tensor.__truediv__, torch.div, Tensor.div}

_AVERAGE = {torch.mean, Tensor.mean}
_MATRICES = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm}
_RECIPROCAL = {
    *(torch.rsqrt, Tensor.rsqrt, torch.reciprocal, Tensor.reciprocal, Tensor.__rtruediv__, F.normalize),
    *(torch.pow, Tensor.pow, Tensor.__pow__, *QUOTIENT),
}
_OF_ONE: dict[str, set[Any]] = {
    "norm": {F.layer_norm, F.rms_norm},
    "softmax": {F.softmax, torch.softmax, Tensor.softmax},
    "activation": {
        *(F.gelu, F.silu, F.relu, torch.relu, Tensor.relu, F.relu6, F.leaky_relu, F.elu, F.celu, F.selu, F.mish),
        *(F.hardswish, F.softsign, F.hardtanh),
    },
    "squashing": {
        *(torch.tanh, Tensor.tanh, F.tanh, torch.sigmoid, Tensor.sigmoid, F.sigmoid, F.hardsigmoid),
        *(torch.erf, Tensor.erf),
    },
    "scaled": {*SUM, *PRODUCT, F.dropout},
}
_AFFINE = {
    *(torch.sub, Tensor.sub, Tensor.__sub__, Tensor.__rsub__, torch.neg, Tensor.neg, Tensor.__neg__),
    *(torch.sum, Tensor.sum, torch.roll, Tensor.roll, torch.flip, Tensor.flip, F.pad, torch.rot90),
    *(Tensor.repeat, torch.repeat_interleave, Tensor.repeat_interleave, torch.tile, Tensor.tile),
    *(torch.where, Tensor.where, torch.masked_fill, Tensor.masked_fill),
    *(torch.gather, Tensor.gather, torch.index_select, Tensor.index_select, torch.take_along_dim),
    *(F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d, F.batch_norm, F.avg_pool1d),
    *(F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.interpolate, F.unfold, F.fold, torch.einsum),
    *(torch.outer, *SUM),
}
_IN_PLACE = {Tensor.__iadd__, Tensor.add_, Tensor.__isub__, Tensor.sub_}
_IN_PLACE_OF_ONE = {Tensor.__imul__, Tensor.mul_, Tensor.__itruediv__, Tensor.div_}


def kind_of(call: Call) -> str | None:
    """Which of the rules a call is for; None where no set has one."""
    function, carrying = call.function, call.carrying
    if function is F.linear:
        return "linear" if len(carrying) == 1 else None
    if function in _AVERAGE:
        return "average"
    if function in _MATRICES or (function is torch.einsum and len(call.tensors) == 2):
        return "matrices"
    if len(carrying) == 1:
        kind = next((kind for kind, functions in _OF_ONE.items() if function in functions), None)
        if kind is not None:
            return kind
        if function in QUOTIENT and carrying[0] is call.args[0]:
            return "scaled"
    if len(carrying) == 2 and function in PRODUCT:
        return "product"
    if len(carrying) == 2 and function in SUM and not call.kwargs and carrying[0].shape == carrying[1].shape:
        return "sum"
    if function in _RECIPROCAL:
        return "reciprocal"
    if function in _IN_PLACE or (function in _IN_PLACE_OF_ONE and len(carrying) == 1 and carrying[0] is call.args[0]):
        return "in_place"
    if function in _AFFINE and (function is not torch.einsum or len(carrying) == 1):
        return "affine"
    return None
