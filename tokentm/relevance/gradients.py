"""Gradients that do not cancel what the forward pass has added up: LibraGrad, and LRP as input times gradient.

Where a function is a product of something with a constant, its gradient times its input is its output; so relevance can
be handed down as a gradient G, and R = x G is what x is worth. The sets of rules say what counts as a constant:

| | LIBRA | CP_LRP | ATTN_LRP | RES_LRP |
| --- | --- | --- | --- | --- |
| LayerNorm, RMSNorm | deviation constant | deviation constant | deviation constant | deviation constant |
| x g(x): GELU, SiLU | g constant | g constant | g constant | g constant |
| u act(v), as in SwiGLU | half to each | act(v) constant | half to each | half to each |
| attention A v | A constant | A constant | half to each | half to each |
| A = softmax(s), s = q k | | | its gradient; half to each of q, k | as ATTN_LRP |
| sum a + b on the stream | its gradient | its gradient | its gradient | R_a = w_a a / (w_a a + w_b b) R |

with w = 1 + gamma where a, or b, has the sign of the sum, else 1, and gamma = 1. A quotient's denominator is a
constant; linear maps, averages and moves have their gradient; a bias absorbs its share. Gates written by hand,
x * sigmoid(x), are gates: what a sigmoid, tanh or erf has made counts as a constant in a product. Elsewhere a sigmoid,
and a softmax of classes, have their gradient.

HELD is for direct attribution, see :mod:`tokentm.lens`. It has LIBRA's constants, and halves nothing: each rule is the
true gradient of the function that is left when constants are held. A product of two of which none is a gate has its own
gradient there, and so has a function without a rule. Whether what is left is affine, is for the caller to find out.

Sources: LIBRA: Mehri, Soleymani Baghshah, Pilehvar, "LibraGrad: Balancing Gradient Flow for Universally Better Vision
Transformer Attributions", CVPR 2025, section 3.5. CP_LRP: Ali et al., "XAI for Transformers: Better Explanations
through Conservative Propagation", ICML 2022; for gates, which its models do not have, as its reimplementation beside
AttnLRP has it. ATTN_LRP: Achtibat et al., "AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers",
ICML 2024. RES_LRP: the residual rule of ResLRP, Fraunhofer HHI 2026.

What a target does with logits, as a function of them, is no part of the model and has its own gradient; the cosine of
a model of images and texts is part of it.

Departures: linear maps by the 0-rule, without epsilon, and without a gamma rule, which is often added for ViTs. A
product with a constant factor, such as the query of an attention pooling, gives all to the other. Activations f with
f(0) = 0 that are not written as a gate (ReLU, tanh) count as x times the constant f(x) / x. The residual rule is that
of every sum of two sequences of tokens (B, N, D), also where attention and FFN of a parallel block meet.
"""

from __future__ import annotations

from dataclasses import replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tokentm.relevance.rules import QUOTIENT, Call, Rule, Rules


def _plain(call: Call) -> Any:
    return call.run()


def _deviation_constant(call: Call) -> Tensor:
    given = signature(call.function).bind(*call.args, **call.kwargs)
    given.apply_defaults()
    x, weight, eps = given.arguments["input"], given.arguments["weight"], given.arguments["eps"]
    bias = given.arguments.get("bias")
    axes = tuple(range(-len(given.arguments["normalized_shape"]), 0))
    if call.function is F.layer_norm:
        x = x - x.mean(axes, keepdim=True)
    with torch.no_grad():
        eps = torch.finfo(x.dtype).eps if eps is None else eps
        scale = (x.square().mean(axes, keepdim=True) + eps).rsqrt()
    made = x * scale if weight is None else x * scale * weight
    return made if bias is None else made + bias


def _gate_constant(call: Call) -> Tensor:
    """x times the constant f(x) / x, which at 0 is the slope of f."""
    (x,) = call.carrying
    with torch.no_grad():
        made = _of_another(call, x.clone())  # an activation may change in place what it is given
        gate = made / x
        if (x == 0).any():
            gate = torch.where(x == 0, _slope_at_zero(call), gate)
    return call.marks.put(x * gate, "activated")


def _slope_at_zero(call: Call) -> Tensor:
    (x,) = call.carrying
    with torch.enable_grad():
        zero = x.new_zeros(1).requires_grad_()
        return torch.autograd.grad(_of_another(call, zero.clone()), zero)[0]


def _of_another(call: Call, x: Tensor) -> Tensor:
    return call.given({id(call.carrying[0]): x}).run()


def _gate(call: Call) -> Tensor:
    """tanh is both, an activation and what gates are made of; a sigmoid is no activation: it is not 0 at 0."""
    tanh = call.function in (torch.tanh, Tensor.tanh, F.tanh)
    return call.marks.put(_gate_constant(call) if tanh else call.run(), "gate")


def _attention_constant(call: Call) -> Any:
    """A softmax of attention, of at least three axes, is a node of the graph under which nothing is handed down; one
    of classes has its gradient."""
    (logits,) = call.carrying
    if logits.ndim < 3:
        return call.run()
    with torch.no_grad():
        made = call.run()
    return _Constant.apply(logits, made)


def _half_to_each(call: Call) -> Tensor:
    made = call.run()
    return _Scaled.apply(made, 0.5) if len(call.carrying) > 1 else made


def _gated(call: Call, constant: tuple[str, ...]) -> Tensor:
    """A product of two; where one of them is a gate it counts as a constant, else each gets half."""
    made = _with_constant(call, constant)
    return _half_to_each(call) if made is None else made


def _with_constant(call: Call, constant: tuple[str, ...]) -> Tensor | None:
    """The product with a gate as a constant; None where none of the two is one."""
    one, other = call.carrying
    found = [x for x in (one, other) if call.marks.of(x) in constant]
    if not found or one is other:
        return None
    return call.marks.put(call.constant(found[0]).run(), "activated")


def _gates_constant(call: Call) -> Tensor:
    return _gated(call, ("gate",))


def _gates_held(call: Call) -> Tensor:
    made = _with_constant(call, ("gate",))
    return call.run() if made is None else made


def _activated_constant(call: Call) -> Tensor:
    return _gated(call, ("gate", "activated"))


def _denominator_constant(call: Call) -> Tensor | None:
    if call.function in QUOTIENT:
        return call.constant(call.args[1]).run()
    if call.function is F.normalize:
        given = signature(F.normalize).bind(*call.args, **call.kwargs)
        given.apply_defaults()
        x, p, dim, eps = (given.arguments[name] for name in ("input", "p", "dim", "eps"))
        return x / torch.linalg.vector_norm(x.detach(), p, dim, keepdim=True).clamp_min(eps)
    if call.function in (torch.pow, Tensor.pow, Tensor.__pow__):
        exponent = call.args[1] if len(call.args) > 1 else call.kwargs.get("exponent")
        if not isinstance(exponent, (int, float)) or exponent >= 0:
            return None
    return call.constant(*call.carrying).run()


def _residual(gamma: float) -> Rule:
    """R_a = w_a a / (w_a a + w_b b) R at a sum of two sequences of tokens (B, N, D)."""

    def rule(call: Call) -> Any:
        return _Residual.apply(*call.carrying, gamma) if call.carrying[0].ndim == 3 else call.run()

    return rule


def _only_constants_in_place(call: Call) -> Any:
    """The residual rule needs both parts of a sum, which one in place has no more."""
    return call.run() if len(call.carrying) == 1 else None


LIBRA = Rules(
    name="LibraGrad",
    linear=_plain,
    average=_plain,
    norm=_deviation_constant,
    softmax=_attention_constant,
    activation=_gate_constant,
    squashing=_gate,
    scaled=_plain,
    matrices=_plain,
    product=_gates_constant,
    sum=_plain,
    affine=_plain,
    reciprocal=_denominator_constant,
    in_place=_plain,
)
CP_LRP = replace(LIBRA, name="CP-LRP", product=_activated_constant)
ATTN_LRP = replace(LIBRA, name="AttnLRP", softmax=_plain, matrices=_half_to_each)
HELD = replace(LIBRA, name="direct attribution", product=_gates_held, other=_plain)
RES_LRP = replace(ATTN_LRP, name="ResLRP", sum=_residual(1.0), in_place=_only_constants_in_place)


class _Constant(torch.autograd.Function):
    """A node of the graph, at which a gradient can be taken, that hands nothing down."""

    @staticmethod
    def forward(ctx: Any, carrying: Tensor, made: Tensor) -> Tensor:
        return made.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return None, None


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        ctx.share = share
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient * ctx.share, None


class _Residual(torch.autograd.Function):
    """G_a = w_a (a + b) / (w_a a + w_b b) G, so that a G_a is R_a where (a + b) G is R.

    The denominator is zero only where the sum is: of parts with different signs, the longer one has the sign of the
    sum and the larger weight.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, gamma: float) -> Tensor:
        ctx.gamma = gamma
        ctx.save_for_backward(a, b)
        return a + b

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        a, b = ctx.saved_tensors
        total = a + b
        weights = [1 + ctx.gamma * (part.sign() == total.sign()) for part in (a, b)]
        whole = weights[0] * a + weights[1] * b
        handed = torch.where(whole == 0, 0.0, total / torch.where(whole == 0, 1.0, whole)) * gradient
        return weights[0] * handed, weights[1] * handed, None
