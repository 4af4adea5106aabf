"""The rivals a second time, written from their equations in float64 over the passes of ``reference.run``.

Shares no code with the library. Each takes the passes of :func:`reference.run` (attention, gradient, streams of every
layer and image) and returns one score per patch, (B, P).
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from reference import Pass, run
from torch import Tensor


def _rolled(one: Pass, mixings: list[Tensor], normalise: bool = False) -> Tensor:
    """Readout row of the product of (I + mixing), patches only."""
    n = len(one.readout)
    contribution = torch.eye(n, dtype=torch.float64)
    for mixing in mixings:
        step = torch.eye(n, dtype=torch.float64) + mixing
        if normalise:
            step = torch.stack([row / row.sum() for row in step])
        contribution = step @ contribution
    return _read(one, contribution)


def _read(one: Pass, matrix: Tensor) -> Tensor:
    row = sum(share * matrix[i] for i, share in enumerate(one.readout))
    return row[one.prefix :]


def _heads(layer: Any) -> list[tuple[Tensor, Tensor]]:
    return [(a.detach(), g) for a, g in zip(layer.attention, layer.gradient, strict=True)]


def gradient_rollout(passes: list[Pass]) -> Tensor:
    rows = []
    for one in passes:
        mixings = []
        for layer in one.layers:
            heads = _heads(layer)
            mixings.append((sum(a * g for a, g in heads) / len(heads)).clamp(min=0))
        rows.append(_rolled(one, mixings, normalise=True))
    return torch.stack(rows)


def generic_attention(passes: list[Pass]) -> Tensor:
    return torch.stack(
        [
            _rolled(one, [sum((a * g).clamp(min=0) for a, g in _heads(x)) / len(x.attention) for x in one.layers])
            for one in passes
        ]
    )


def grad_cam(passes: list[Pass]) -> Tensor:
    rows = []
    for one in passes:
        heads = _heads(one.layers[-1])
        weighed = [_read(one, a) * _read(one, g).mean() for a, g in heads]
        rows.append((sum(weighed) / len(heads)).clamp(min=0))
    return torch.stack(rows)


def _gradient_of(model: Any, image: Tensor, target: int, at: Any) -> tuple[Tensor, Tensor]:
    """A module's output in a pass of the model, and the gradient of the logit there."""
    kept = {}
    handle = at.register_forward_hook(lambda _m, _a, out: kept.update(out=out))
    logit = model(image[None])[0, target]
    handle.remove()
    return kept["out"].detach()[0], torch.autograd.grad(logit, kept["out"])[0][0]


def attcat(model: Any, images: Tensor, target: list[int], passes: list[Pass]) -> Tensor:
    model = deepcopy(model).double()
    rows = []
    for image, index, one in zip(images.double(), target, passes, strict=True):
        total = torch.zeros(len(one.readout), dtype=torch.float64)
        for block, layer in zip(model.blocks, one.layers, strict=True):
            out, gradient = _gradient_of(model, image, index, block)
            mean = sum(a for a, _ in _heads(layer)) / len(layer.attention)
            for j in range(len(total)):
                share = sum(r * mean[i, j] for i, r in enumerate(one.readout))
                total[j] += share * (out[j] @ gradient[j])
        rows.append(total[one.prefix :])
    return torch.stack(rows)


def tam(model: Any, images: Tensor, target: list[int], passes: list[Pass], steps: int = 20) -> Tensor:
    totals = [torch.zeros_like(torch.stack(one.layers[-1].gradient)) for one in passes]
    for k in range(steps):
        for i, one in enumerate(run(model, images * (k / (steps - 1)), target)):
            totals[i] += torch.stack(one.layers[-1].gradient)
    rows = []
    for one, total in zip(passes, totals, strict=True):
        maps = [sum(a for a, _ in _heads(layer)) / len(layer.attention) for layer in one.layers]
        state = torch.tensor(one.readout, dtype=torch.float64) @ maps[-1]
        for layer in range(len(maps) - 2, len(maps) // 3 - 1, -1):
            state = state @ maps[layer] + state
        weight = torch.tensor(one.readout, dtype=torch.float64) @ (total / steps).clamp(min=0).mean(0)
        rows.append((state * weight)[one.prefix :])
    return torch.stack(rows)


def legrad(model: Any, images: Tensor, target: list[int]) -> Tensor:
    """Layer by layer: a model that ends after this block, asked for the gradient of its logit at its last attention."""
    total = 0
    for depth in range(1, len(model.blocks) + 1):
        shorter = deepcopy(model)
        shorter.blocks = shorter.blocks[:depth]
        passes = run(shorter, images, target)
        parts = []
        for one in passes:
            gradient = torch.stack(one.layers[-1].gradient).clamp(min=0)
            parts.append(gradient.sum((0, 1))[one.prefix :] / (gradient.shape[0] * gradient.shape[1]))
        total = total + torch.stack(parts)
    return total / len(model.blocks)


def input_x_gradient(model: Any, images: Tensor, target: list[int], patch: int, at: float = 1.0) -> Tensor:
    """Sums over patches of image * gradient; the gradient is taken at ``at`` times the image."""
    model, rows = deepcopy(model).double(), []
    for image, index in zip(images.double(), target, strict=True):
        point = (image * at).requires_grad_()
        gradient = torch.autograd.grad(model(point[None])[0, index], point)[0]
        product = (image * gradient).sum(0)
        rows.append([cell.sum() for band in product.split(patch, 0) for cell in band.split(patch, 1)])
    return torch.tensor(rows, dtype=torch.float64)


def integrated_gradients(model: Any, images: Tensor, target: list[int], patch: int) -> Tensor:
    """Gauss-Legendre quadrature of 20 points; the nodes are the roots of the Legendre polynomial, from numpy."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(20)
    parts = [
        w / 2 * input_x_gradient(model, images, target, patch, (x + 1) / 2) for x, w in zip(nodes, weights, strict=True)
    ]
    return sum(parts)


def transformer_attribution(model: Any, images: Tensor, target: list[int], passes: list[Pass]) -> Tensor:
    """Relevance handed down by hand, block by block, in a plain class-token or average-pooled ViT."""
    model = deepcopy(model).double().eval()
    rows = []
    with torch.no_grad():
        for index, one in zip(target, passes, strict=True):
            mixings = []
            for relevances, layer in zip(_relevances(model, one, index), one.layers, strict=True):
                products = [(g * r).clamp(min=0) for g, r in zip(layer.gradient, relevances, strict=True)]
                mixings.append(sum(products) / len(products))
            rows.append(_rolled(one, mixings))
    return torch.stack(rows)


def _relevances(model: Any, one: Pass, index: int) -> list[list[Tensor]]:
    """Relevance of every head's attention, first layer first."""
    out = one.layers[-1].out.detach()
    final = model.norm(out)
    read = torch.tensor([share > 0 for share in one.readout])
    pooled = final[read].mean(0)
    start = torch.zeros(model.num_classes, dtype=torch.float64)
    start[index] = 1
    at_pooled = _linear_down(model.fc_norm(pooled)[None], model.head.weight, start[None])[0]
    relevance = torch.zeros_like(out)
    # the average hands down in proportion to its parts; the norms hand down what they get
    relevance[read] = final[read] * _ratio(at_pooled, final[read].sum(0))
    found = []
    for block, layer in zip(reversed(model.blocks), reversed(one.layers), strict=True):
        relevance, at_attention = _block_down(block, layer, relevance)
        found.append(at_attention)
    return found[::-1]


def _block_down(block: Any, layer: Any, relevance: Tensor) -> tuple[Tensor, list[Tensor]]:
    x, mid = layer.x.detach(), layer.mid.detach()
    at_mid, at_ffn = _sum_down(mid, layer.g.detach(), relevance)
    before = block.mlp.fc1(block.norm2(mid))
    at_hidden = _linear_down(block.mlp.act(before), block.mlp.fc2.weight, at_ffn)
    at_mid = at_mid + _linear_down(block.norm2(mid), block.mlp.fc1.weight, at_hidden)
    at_x, at_update = _sum_down(x, mid - x, at_mid)
    attn = block.attn
    heads, width = attn.num_heads, attn.head_dim
    normed = block.norm1(x)
    qkv = attn.qkv(normed).view(len(x), 3, heads, width)
    q, k, v = qkv[:, 0], qkv[:, 1], qkv[:, 2]
    mixed = torch.cat([layer.attention[h].detach() @ v[:, h] for h in range(heads)], 1)
    at_mixed = _linear_down(mixed, attn.proj.weight, at_update).view(len(x), heads, width)
    at_qkv = torch.zeros_like(qkv)
    found = []
    for h in range(heads):
        a = layer.attention[h].detach()
        at_a, at_v = _product_down(a, v[:, h], at_mixed[:, h])
        found.append(at_a)
        # softmax and scale hand down what they get
        at_q, at_k = _product_down(q[:, h], k[:, h].T, at_a)
        at_qkv[:, 0, h], at_qkv[:, 1, h], at_qkv[:, 2, h] = at_q, at_k.T, at_v
    return at_x + _linear_down(normed, attn.qkv.weight, at_qkv.flatten(1)), found


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return a / torch.where(b == 0, torch.full_like(b, torch.inf), b)


def _linear_down(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """R_i = sum_o (x_i w_oi)+ / sum_i' (x_i' w_oi')+ R_o: only what agrees in sign counts."""
    agreeing = (x[:, None, :] * weight[None]).clamp(min=0)
    return (agreeing * _ratio(relevance, agreeing.sum(2))[:, :, None]).sum(1)


def _sum_down(u: Tensor, v: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    a, b = u * _ratio(relevance, u + v), v * _ratio(relevance, u + v)
    share = abs(a.sum()) / (abs(a.sum()) + abs(b.sum()))
    return a / a.sum() * share * relevance.sum(), b / b.sum() * (1 - share) * relevance.sum()


def _product_down(u: Tensor, v: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    parts = u[:, :, None] * v[None]  # (rows, inner, columns)
    handed = parts * _ratio(relevance, u @ v)[:, None, :] / 2
    return handed.sum(2), handed.sum(0)
