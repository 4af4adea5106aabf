"""The rivals a second time, written from their equations in float64 over the passes of ``reference.run``.

Shares no code with the library. Each takes the passes of :func:`reference.run` (attention, gradient, streams of every
layer and image) and returns one score per layer and patch, (B, L, P), or (B, P) where there are no layers to step
through.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from reference import Pass, run
from torch import Tensor


def _rolled(one: Pass, mixings: list[Tensor], normalise: bool = False) -> Tensor:
    """Readout row of the product of (I + mixing) after each layer, patches only."""
    n = len(one.readout)
    contribution, rows = torch.eye(n, dtype=torch.float64), []
    for mixing in mixings:
        step = torch.eye(n, dtype=torch.float64) + mixing
        if normalise:
            step = torch.stack([row / row.sum() for row in step])
        contribution = step @ contribution
        rows.append(_read(one, contribution))
    return torch.stack(rows)


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
    maps = []
    for one in passes:
        rows = []
        for heads in map(_heads, one.layers):
            weighed = [_read(one, a) * _read(one, g).mean() for a, g in heads]
            rows.append((sum(weighed) / len(heads)).clamp(min=0))
        maps.append(torch.stack(rows))
    return torch.stack(maps)


def _gradient_of(model: Any, image: Tensor, target: int, at: Any) -> tuple[Tensor, Tensor]:
    """A module's output in a pass of the model, and the gradient of the logit there."""
    kept = {}
    handle = at.register_forward_hook(lambda _m, _a, out: kept.update(out=out))
    logit = model(image[None])[0, target]
    handle.remove()
    return kept["out"].detach()[0], torch.autograd.grad(logit, kept["out"])[0][0]


def attcat(model: Any, images: Tensor, target: list[int], passes: list[Pass]) -> Tensor:
    model = deepcopy(model).double()
    maps = []
    for image, index, one in zip(images.double(), target, passes, strict=True):
        total, rows = torch.zeros(len(one.readout), dtype=torch.float64), []
        for block, layer in zip(model.blocks, one.layers, strict=True):
            out, gradient = _gradient_of(model, image, index, block)
            mean = sum(a for a, _ in _heads(layer)) / len(layer.attention)
            for j in range(len(total)):
                share = sum(r * mean[i, j] for i, r in enumerate(one.readout))
                total[j] += share * (out[j] @ gradient[j])
            rows.append(total[one.prefix :].clone())
        maps.append(torch.stack(rows))
    return torch.stack(maps)


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
    total, maps = 0, []
    for depth in range(1, len(model.blocks) + 1):
        shorter = deepcopy(model)
        shorter.blocks = shorter.blocks[:depth]
        passes = run(shorter, images, target)
        parts = []
        for one in passes:
            gradient = torch.stack(one.layers[-1].gradient).clamp(min=0)
            parts.append(gradient.sum((0, 1))[one.prefix :] / (gradient.shape[0] * gradient.shape[1]))
        total = total + torch.stack(parts)
        maps.append(total / depth)
    return torch.stack(maps, 1)


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
    """Relevance handed down by hand, block by block."""
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
    relevance = _head_down(model, one, index)  # the final norm hands down what it gets
    found = []
    for block, layer in zip(reversed(model.blocks), reversed(one.layers), strict=True):
        down = _parallel_down if type(block).__name__ == "ParallelScalingBlock" else _block_down
        relevance, at_attention = down(block, layer, relevance)
        found.append(at_attention)
    return found[::-1]


def _head_down(model: Any, one: Pass, index: int) -> Tensor:
    """From 1 at the explained logit to the final tokens."""
    final = model.norm(one.layers[-1].out.detach())
    start = torch.zeros(len(one.logits), dtype=torch.float64)
    start[index] = 1
    relevance = torch.zeros_like(final)
    if hasattr(model, "dist_token"):
        heads = (model.head, model.head_dist)
        down = _sum_down(*[head(token) for head, token in zip(heads, final, strict=False)], start)
        for i, head in enumerate(heads):
            relevance[i] = _linear_down(final[i][None], head.weight, down[i][None])[0]
        return relevance
    read = torch.tensor([share > 0 for share in one.readout])
    pooled = final[read].mean(0) if model.attn_pool is None else model.attn_pool(final[None, read])[0]
    at_pooled = _linear_down(model.fc_norm(pooled)[None], model.head.weight, start[None])[0]
    if model.attn_pool is not None:
        relevance[read] = _pool_down(model.attn_pool, final[read], at_pooled)
    else:  # an average hands down in proportion to its parts
        relevance[read] = final[read] * _ratio(at_pooled, final[read].sum(0))
    return relevance


def _pool_down(pool: Any, tokens: Tensor, relevance: Tensor) -> Tensor:
    """Attention of one learnt query, which takes no relevance, and an FFN on its result."""
    heads, width = pool.num_heads, pool.head_dim
    k, v = pool.kv(tokens).view(len(tokens), 2, heads, width).unbind(1)
    q = pool.q(pool.latent[0, 0]).view(heads, width)
    attention = [torch.softmax(k[:, h] @ q[h] / width**0.5, 0)[None] for h in range(heads)]
    mixed = torch.cat([a @ v[:, h] for h, a in enumerate(attention)], 1)
    out = pool.proj(mixed)
    at_out, at_ffn = _sum_down(out, pool.mlp(pool.norm(out)), relevance[None])
    at_out = at_out + _ffn_down(pool.mlp, pool.norm(out), at_ffn)
    at_mixed = _linear_down(mixed, pool.proj.weight, at_out).view(heads, width)
    at_kv = torch.zeros(len(tokens), 2, heads, width, dtype=tokens.dtype)
    for h, a in enumerate(attention):
        at_a, at_kv[:, 1, h] = _product_down(a, v[:, h], at_mixed[h][None])
        at_kv[:, 0, h] = 2 * _product_down(q[h][None], k[:, h].T, at_a)[1].T
    return _linear_down(tokens, pool.kv.weight, at_kv.flatten(1))


def _block_down(block: Any, layer: Any, relevance: Tensor) -> tuple[Tensor, list[Tensor]]:
    x, mid = layer.x.detach(), layer.mid.detach()
    read, read_mid = layer.normed.detach(), layer.normed_mid.detach()
    at_mid, at_ffn = _sum_down(mid, layer.g.detach(), relevance)
    at_mid = at_mid + _ffn_down(block.mlp, read_mid, at_ffn)
    at_x, at_update = _sum_down(x, mid - x, at_mid)
    attn = block.attn
    qkv = attn.qkv(read).view(len(x), 3, attn.num_heads, attn.head_dim)
    at_qkv, found = _attention_down(attn, attn.proj, qkv, layer, at_update)
    return at_x + _linear_down(read, attn.qkv.weight, at_qkv.flatten(1)), found


def _parallel_down(block: Any, layer: Any, relevance: Tensor) -> tuple[Tensor, list[Tensor]]:
    """x + scale * (attention + FFN), both from one linear map of the normed stream."""
    x, read = layer.x.detach(), layer.normed.detach()
    wide = block.in_split[0]
    projected = block.in_proj(read)
    hidden = projected[:, :wide] if block.mlp_bias is None else projected[:, :wide] + block.mlp_bias
    qkv = projected[:, wide:].view(len(x), 3, block.num_heads, block.head_dim)
    v = qkv[:, 2]
    mixed = torch.cat([a.detach() @ v[:, h] for h, a in enumerate(layer.attention)], 1)
    parts = block.attn_out_proj(mixed), block.mlp_out_proj(block.mlp_act(hidden))
    at_x, at_update = _sum_down(x, block.ls(parts[0] + parts[1]), relevance)
    at_attention, at_ffn = _sum_down(*parts, at_update)
    at_hidden = _linear_down(block.mlp_act(hidden), block.mlp_out_proj.weight, at_ffn)
    at_qkv, found = _attention_down(block, block.attn_out_proj, qkv, layer, at_attention)
    at_projected = torch.cat([at_hidden, at_qkv.flatten(1)], 1)
    return at_x + _linear_down(read, block.in_proj.weight, at_projected), found


def _ffn_down(mlp: Any, x: Tensor, relevance: Tensor) -> Tensor:
    at_hidden = _linear_down(mlp.act(mlp.fc1(x)), mlp.fc2.weight, relevance)
    return _linear_down(x, mlp.fc1.weight, at_hidden)


def _attention_down(
    attn: Any, projection: Any, qkv: Tensor, layer: Any, relevance: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """From the output projection to q, k and v; and the relevance of every head's attention on the way."""
    _, _, heads, width = qkv.shape
    q, k, v = attn.q_norm(qkv[:, 0]), attn.k_norm(qkv[:, 1]), qkv[:, 2]
    mixed = torch.cat([a.detach() @ v[:, h] for h, a in enumerate(layer.attention)], 1)
    if getattr(attn, "norm", None) is not None:
        mixed = attn.norm(mixed)
    at_mixed = _linear_down(mixed, projection.weight, relevance).view(-1, heads, width)
    at_qkv = torch.zeros_like(qkv)
    found = []
    for h in range(heads):
        at_a, at_v = _product_down(layer.attention[h].detach(), v[:, h], at_mixed[:, h])
        found.append(at_a)
        # softmax, scale and norms hand down what they get
        at_q, at_k = _product_down(q[:, h], k[:, h].T, at_a)
        at_qkv[:, 0, h], at_qkv[:, 1, h], at_qkv[:, 2, h] = at_q, at_k.T, at_v
    return at_qkv, found


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
