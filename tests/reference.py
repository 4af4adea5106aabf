"""The method a second time, written from its equations with loops over images, heads and tokens, in float64.

Shares no code with the library. From the model it takes the embedding, the norms, the MLP and the head as modules;
attention, residual sums, pooling and everything of TokenTM are spelled out.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Layer:
    """One block of one image: ``f[h][j]`` is the transformed token f^h(x_j), ``g[i]`` that of the FFN."""

    x: Tensor
    normed: Tensor
    attention: list[Tensor]
    gradient: list[Tensor]
    f: list[Tensor]
    mid: Tensor
    normed_mid: Tensor
    g: Tensor
    out: Tensor


@dataclass
class Pass:
    layers: list[Layer]
    logits: Tensor
    readout: list[float]
    prefix: int


def run(model: Any, images: Tensor, target: list[int]) -> list[Pass]:
    """One :class:`Pass` per image, each on its own."""
    model = deepcopy(model).double().eval().requires_grad_()
    return [_run_one(model, image.double(), index) for image, index in zip(images, target, strict=True)]


def _run_one(model: Any, image: Tensor, target: int) -> Pass:
    x = model.norm_pre(model._pos_embed(model.patch_embed(image[None])))[0]
    layers = []
    for block in model.blocks:
        layers.append(_run_block(block, x))
        x = layers[-1].out
    distilled = hasattr(model, "dist_token")
    prefix = int(model.cls_token is not None) + int(distilled) + model.num_reg_tokens
    final, tokens = model.norm(x), len(x)
    if distilled:
        read = [0, 1]
        logits = (model.head(model.fc_norm(final[0])) + model.head_dist(final[1])) / 2
    else:
        averaged = range(0 if model.pool_include_prefix else prefix, tokens)
        read = [0] if model.global_pool == "token" else list(averaged)
        logits = model.head(model.fc_norm(sum(final[i] for i in read) / len(read)))
    nodes = [a for layer in layers for a in layer.attention]
    gradients = iter(torch.autograd.grad(logits[target], nodes))
    for layer in layers:
        layer.gradient = [next(gradients) for _ in layer.attention]
    readout = [1 / len(read) if i in read else 0.0 for i in range(tokens)]
    return Pass(layers, logits.detach(), readout, prefix)


def _run_block(block: Any, x: Tensor) -> Layer:
    attn = block.attn
    normed = block.norm1(x)
    heads, width = attn.num_heads, attn.qkv.out_features // 3 // attn.num_heads
    gamma_1 = getattr(block.ls1, "gamma", torch.ones_like(x[0]))
    gamma_2 = getattr(block.ls2, "gamma", torch.ones_like(x[0]))
    attention, f = [], []
    for h in range(heads):
        q, k, v = (_part(attn.qkv, normed, (part * heads + h) * width, width) for part in range(3))
        q, k = attn.q_norm(q), attn.k_norm(k)
        scores = torch.exp(q @ k.T / math.sqrt(width))
        attention.append(scores / scores.sum(1, keepdim=True))
        w_o = attn.proj.weight[:, h * width : (h + 1) * width]
        f.append(torch.stack([gamma_1 * (w_o @ v_j) for v_j in v]))
    bias = gamma_1 * attn.proj.bias if attn.proj.bias is not None else torch.zeros_like(gamma_1)
    rows = []
    for i in range(len(x)):
        row = x[i] + bias
        for h in range(heads):
            row = row + attention[h][i] @ f[h]
        rows.append(row)
    mid = torch.stack(rows)
    normed_mid = block.norm2(mid)
    g = gamma_2 * block.mlp(normed_mid)
    return Layer(x, normed, attention, [], f, mid, normed_mid, g, mid + g)


def _part(qkv: Any, tokens: Tensor, first: int, width: int) -> Tensor:
    part = tokens @ qkv.weight[first : first + width].T
    return part if qkv.bias is None else part + qkv.bias[first : first + width]


def tokentm(
    passes: list[Pass],
    *,
    length: bool = True,
    direction: bool = True,
    ffn: bool = True,
    initialise: bool = True,
    gradient: bool = True,
    normaliser: str = "sum",
    transformed: str = "head",
    reference: str = "stream",
) -> Tensor:
    """Contribution of each patch after each layer, (B, L, P)."""

    def weigh(e: Tensor, t: Tensor) -> list[float]:
        compared = [_compare(e_n, t_n) for e_n, t_n in zip(e.tolist(), t.tolist(), strict=True)]
        shares = necc([cosine for _, cosine in compared], normaliser)
        return [
            (ratio if length else 1.0) * (share if direction else 1.0)
            for (ratio, _), share in zip(compared, shares, strict=True)
        ]

    def layer_matrices(layer: Layer) -> tuple[Tensor, Tensor]:
        e = layer.x if reference == "stream" else layer.normed
        if transformed == "head":
            t = layer.f
        elif transformed == "sum":
            t = [sum(layer.f)] * len(layer.f)
        else:
            t = [layer.mid] * len(layer.f)
        weights = [weigh(e, t_h) for t_h in t]
        attention, gradients = [a.tolist() for a in layer.attention], [g.tolist() for g in layer.gradient]
        n, heads = len(e), len(attention)
        mixing = [[0.0] * n for _ in range(n)]
        for i in range(n):
            for j in range(n):
                for h in range(heads):
                    part = attention[h][i][j] * weights[h][j]
                    if gradient:
                        part = max(0.0, gradients[h][i][j] * part)
                    mixing[i][j] += part / heads
        u_attention = torch.eye(n, dtype=torch.float64) + torch.tensor(mixing, dtype=torch.float64)
        u_ffn = torch.eye(n, dtype=torch.float64)
        if ffn:
            e = layer.mid if reference == "stream" else layer.normed_mid
            u_ffn += torch.diag(
                torch.tensor(weigh(e, layer.out if transformed == "stream" else layer.g), dtype=torch.float64)
            )
        return u_attention, u_ffn

    maps = []
    for one in passes:
        first = one.layers[0].x.tolist()
        contribution = torch.diag(torch.tensor([_length(e) if initialise else 1.0 for e in first], dtype=torch.float64))
        rows = []
        for layer in one.layers:
            u_attention, u_ffn = layer_matrices(layer)
            contribution = u_ffn @ u_attention @ contribution
            rows.append(_read(one, contribution))
        maps.append(torch.stack(rows))
    return torch.stack(maps)


def rollout(passes: list[Pass]) -> Tensor:
    """(B, L, P)."""
    maps = []
    for one in passes:
        contribution = torch.eye(len(one.readout), dtype=torch.float64)
        rows = []
        for layer in one.layers:
            mean = sum(layer.attention).detach() / len(layer.attention)
            contribution = (mean + torch.eye(len(mean), dtype=torch.float64)) / 2 @ contribution
            rows.append(_read(one, contribution))
        maps.append(torch.stack(rows))
    return torch.stack(maps)


def raw_attention(passes: list[Pass]) -> Tensor:
    """(B, L, P)."""
    return torch.stack(
        [
            torch.stack([_read(one, sum(layer.attention).detach() / len(layer.attention)) for layer in one.layers])
            for one in passes
        ]
    )


def necc(cosines: list[float], normaliser: str) -> list[float]:
    total = sum(math.exp(c) for c in cosines)
    return [math.exp(c) / (total if normaliser == "sum" else total / len(cosines)) for c in cosines]


def _read(one: Pass, matrix: Tensor) -> Tensor:
    row = [
        sum(one.readout[i] * matrix[i, j].item() for i in range(len(one.readout)))
        for j in range(one.prefix, len(one.readout))
    ]
    return torch.tensor(row, dtype=torch.float64)


def _compare(e: list[float], t: list[float]) -> tuple[float, float]:
    cosine = sum(a * b for a, b in zip(e, t, strict=True)) / (_length(e) * _length(t))
    return _length(t) / _length(e), cosine


def _length(vector: list[float]) -> float:
    return math.sqrt(sum(a * a for a in vector))
