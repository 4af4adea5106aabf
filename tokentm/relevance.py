"""Layer-wise relevance propagation through a Vision Transformer, as autograd with other rules.

While :class:`RelevancePropagation` is active, every function that a model calls gets a backward pass that hands down
relevance instead of a gradient: ``torch.autograd.grad(logits, tokens, grad_outputs)`` then returns relevance.

Source: Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention Visualization", CVPR 2021:

    linear map       R_i = sum_o (x_i+ w_oi+ + x_i- w_oi-) / z_o R_o     z_o the sum of these over i        (eq. 6)
    sum u + v        u / (u + v) R and v / (u + v) R, each rescaled to its share |.| of the total            (eq. 8-10)
    product u v      half of u (dz/du) R / z to u, half to v (matrix products)                               (eq. 8, 9)
    one input        R goes through (softmax, GELU, norms, LayerScale)

Departures: the shares of a sum are taken per image, not over the batch; a gate u * v (SwiGLU) gives half to each; an
average is a sum of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, resolve_name

from tokentm.errors import UnsupportedModelError

_SUM = {torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__}
_MATRIX = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm}
_PRODUCT = {torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__}
_QUOTIENT = {Tensor.__truediv__, torch.div, Tensor.div}
_AVERAGE = {torch.mean, Tensor.mean}
_THROUGH = {
    *(F.softmax, torch.softmax, Tensor.softmax, F.layer_norm, F.rms_norm, F.gelu, F.silu, F.relu, torch.relu),
    *(Tensor.relu, torch.tanh, Tensor.tanh, torch.sigmoid, Tensor.sigmoid, F.dropout),
}
# what only moves numbers hands relevance down as it hands gradients down
_MOVING = {
    *(torch.cat, torch.stack, torch.unbind, torch.chunk, torch.split, torch.reshape, torch.transpose, torch.permute),
    *(torch.flatten, torch.squeeze, torch.unsqueeze, Tensor.__getitem__, Tensor.unbind, Tensor.chunk, Tensor.split),
    *(Tensor.reshape, Tensor.view, Tensor.transpose, Tensor.permute, Tensor.flatten, Tensor.unflatten, Tensor.squeeze),
    *(Tensor.unsqueeze, Tensor.contiguous, Tensor.clone, Tensor.to, Tensor.float, Tensor.type_as, Tensor.select),
    *(Tensor.expand, Tensor.expand_as, Tensor.view_as, torch.select),
    *(Tensor.detach, Tensor.requires_grad_, torch.clone, torch.narrow, Tensor.narrow),
}


class RelevancePropagation(TorchFunctionMode):
    """While active, tensors that depend on what requires a gradient carry relevance backward.

    Args:
        name: the model, for messages.

    Raises:
        UnsupportedModelError: the model calls a function without a rule.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.refused: UnsupportedModelError | None = None

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        # only now: inside an operator such as @ Python takes a TypeError for "try the other operand"
        if self.refused is not None:
            raise self.refused

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        carrying = _carrying((*args, *kwargs.values()))
        if not torch.is_grad_enabled() or not carrying or func in _MOVING:
            return func(*args, **kwargs)
        if func is F.linear and len(carrying) == 1:
            return _linear(*args, **kwargs)
        if func in _AVERAGE:
            return _Average.apply(args[0], lambda x: func(x, *args[1:], **kwargs))
        if len(carrying) == 1 and (
            func in _THROUGH | _SUM | _PRODUCT or (func in _QUOTIENT and carrying[0] is args[0])
        ):
            return self._through(carrying[0], func, args, kwargs)
        if func in _MATRIX:
            return _MatrixProduct.apply(*args)
        if func is torch.einsum and len(_tensors(args)) == 2:
            return _Contraction.apply(args[0], *_tensors(args))
        if len(carrying) == 2 and carrying[0].shape == carrying[1].shape and not kwargs:
            if func in _SUM:
                return _Sum.apply(*carrying)
            if func in _PRODUCT:
                return _Gate.apply(*carrying)
        made = func(*args, **kwargs)
        if isinstance(made, Tensor) and made.requires_grad:  # not a size, a type or a comparison
            self._refuse(func)
        return made

    def _through(self, carrying: Tensor, func: Any, args: Any, kwargs: Any) -> Tensor:
        with torch.no_grad():
            made = func(*args, **kwargs)
        if made.shape != carrying.shape:
            self._refuse(func)
            return func(*args, **kwargs)
        return _Identity.apply(carrying, made)

    def _refuse(self, func: Any) -> None:
        self.refused = self.refused or UnsupportedModelError(
            f"{self.name}: expected functions with a rule of relevance propagation, found "
            f"{resolve_name(func) or func}. Transformer attribution cannot explain this model; take another method."
        )


def _carrying(arguments: Iterable[Any]) -> list[Tensor]:
    """The tensors among arguments, and in lists of them, that relevance must reach."""
    found = []
    for one in arguments:
        if isinstance(one, Tensor) and one.requires_grad:
            found.append(one)
        elif isinstance(one, (list, tuple)):
            found += _carrying(one)
    return found


def _tensors(arguments: Iterable[Any]) -> list[Tensor]:
    """The tensors among arguments and in lists of them."""
    found = []
    for one in arguments:
        found += [one] if isinstance(one, Tensor) else _tensors(one) if isinstance(one, (list, tuple)) else []
    return found


def _share(relevance: Tensor, total: Tensor) -> Tensor:
    """relevance / total; where the total is zero nothing was handed up, so nothing comes down."""
    return torch.where(total == 0, 0.0, relevance / torch.where(total == 0, 1.0, total))


def _unbroadcast(relevance: Tensor, to: Tensor) -> Tensor:
    return relevance if relevance.shape == to.shape else relevance.sum_to_size(to.shape)


class _Identity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, carrying: Tensor, made: Tensor) -> Tensor:
        return made.clone()

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        return relevance, None


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _Linear.apply(input, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        signs = [(x.clamp(min=0), weight.clamp(min=0)), (x.clamp(max=0), weight.clamp(max=0))]
        share = _share(relevance, sum(part @ w.T for part, w in signs))
        return sum(part * (share @ w) for part, w in signs), None, None


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.average = average
        ctx.save_for_backward(x)
        return average(x)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            again = x.detach().requires_grad_()
            total = ctx.average(again)
        (shared,) = torch.autograd.grad(total, again, _share(relevance, total.detach()))
        return x * shared, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(u, v)
        return u + v

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        u, v = ctx.saved_tensors
        share = _share(relevance, u + v)
        parts = [u * share, v * share]
        totals = [part.flatten(1).sum(1) for part in parts]
        whole = relevance.flatten(1).sum(1) / (totals[0].abs() + totals[1].abs()).clamp(min=1e-30)
        # |total| / (|total_u| + |total_v|) of all relevance, in the proportions of the part
        return tuple(p * (t.sign() * whole).view(-1, *[1] * (p.ndim - 1)) for p, t in zip(parts, totals, strict=True))


class _MatrixProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(u, v)
        return u @ v

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        u, v = ctx.saved_tensors
        share = _share(relevance, u @ v)
        each = 1 / sum(ctx.needs_input_grad)  # a constant factor, such as the query of an attention pooling, takes none
        return _unbroadcast(u * (share @ v.mT) * each, u), _unbroadcast(v * (u.mT @ share) * each, v)


class _Contraction(torch.autograd.Function):
    """A product of two factors by einsum: half to each, as of a product of matrices."""

    @staticmethod
    def forward(ctx: Any, equation: str, u: Tensor, v: Tensor) -> Tensor:
        ctx.equation = equation
        ctx.save_for_backward(u, v)
        return torch.einsum(equation, u, v)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        u, v = ctx.saved_tensors
        with torch.enable_grad():
            again = [one.detach().requires_grad_() for one in (u, v)]
            product = torch.einsum(ctx.equation, *again)
        slopes = torch.autograd.grad(product, again, _share(relevance, product.detach()))
        each = 1 / sum(ctx.needs_input_grad)  # a constant factor takes none
        return None, u * slopes[0] * each, v * slopes[1] * each


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor) -> Tensor:
        return u * v

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        return relevance / 2, relevance / 2
