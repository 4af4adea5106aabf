"""Relevance as Chefer et al. hand it down: Transformer attribution's layer-wise propagation.

Source: Chefer, Gur, Wolf, "Transformer Interpretability Beyond Attention Visualization", CVPR 2021:

    linear map       R_i = sum_o (x_i+ w_oi+ + x_i- w_oi-) / z_o R_o     z_o the sum of these over i        (eq. 6)
    sum u + v        u / (u + v) R and v / (u + v) R, each rescaled to its share |.| of the total            (eq. 8-10)
    product u v      half of u (dz/du) R / z to u, half to v (matrix products)                               (eq. 8, 9)
    one input        R goes through (softmax, GELU, norms, LayerScale)

Departures: the shares of a sum are taken per image, not over the batch; a gate u * v (SwiGLU) gives half to each; an
average is a sum of its parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tokentm.relevance.rules import Call, Rules


def _linear(call: Call) -> Tensor:
    return _of_linear(*call.args, **call.kwargs)


def _of_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _Linear.apply(input, weight, bias)


def _average(call: Call) -> Tensor:
    return _Average.apply(call.args[0], lambda x: call.function(x, *call.args[1:], **call.kwargs))


def _through(call: Call) -> Tensor | None:
    with torch.no_grad():
        made = call.run()
    (carrying,) = call.carrying
    return _Identity.apply(carrying, made) if made.shape == carrying.shape else None


def _matrices(call: Call) -> Tensor:
    if call.function is torch.einsum:
        return _Contraction.apply(call.args[0], *call.tensors)
    return _MatrixProduct.apply(*call.args)


def _sum(call: Call) -> Tensor:
    return _Sum.apply(*call.carrying)


def _product(call: Call) -> Tensor | None:
    if call.kwargs or call.carrying[0].shape != call.carrying[1].shape:
        return None
    return _Gate.apply(*call.carrying)


CHEFER = Rules(
    name="Transformer attribution",
    linear=_linear,
    average=_average,
    norm=_through,
    softmax=_through,
    activation=_through,
    squashing=_through,
    scaled=_through,
    matrices=_matrices,
    product=_product,
    sum=_sum,
)


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
