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
    """One block of one image: ``f[h][i][j]`` is what token j adds to token i when head h attends to it with
    weight 1 (the same for every i unless a norm stands between heads and stream), ``g[i]`` what the FFN adds."""

    x: Tensor
    normed: Tensor
    attention: list[Tensor]
    gradient: list[Tensor]
    f: list[list[Tensor]]
    bias: list[Tensor]
    mid: Tensor
    ffn_x: Tensor
    normed_mid: Tensor
    g: Tensor
    out: Tensor


@dataclass
class Pass:
    layers: list[Layer]
    logits: Tensor
    readout: list[float]
    prefix: int


def run(model: Any, images: Tensor, target: list[Any]) -> list[Pass]:
    """One :class:`Pass` per image, each on its own; a target is a class or a function of logits (1, classes)."""
    model = deepcopy(model).double().eval().requires_grad_()
    return [_run_one(model, image.double(), index) for image, index in zip(images, target, strict=True)]


def _run_one(model: Any, image: Tensor, target: Any) -> Pass:
    x = model.norm_pre(model._pos_embed(model.patch_embed(image[None])))[0]
    layers = []
    for block in model.blocks:
        layers.append(_run_block(block, x))
        x = layers[-1].out
    distilled = hasattr(model, "dist_token")
    prefix = int(model.cls_token is not None) + int(distilled) + model.num_reg_tokens
    final, tokens = model.norm(x), len(x)
    if distilled:
        logits = (model.head(model.fc_norm(final[0])) + model.head_dist(final[1])) / 2
    elif model.attn_pool is not None:
        first = 0 if model.pool_include_prefix else prefix
        pooled, shares = _attention_pool(model.attn_pool, final[first:])
        readout = [0.0] * first + shares
        logits = model.head(model.fc_norm(pooled))
    else:
        averaged = range(0 if model.pool_include_prefix else prefix, tokens)
        read = [0] if model.global_pool == "token" else list(averaged)
        readout = [1 / len(read) if i in read else 0.0 for i in range(tokens)]
        logits = model.head(model.fc_norm(sum(final[i] for i in read) / len(read)))
    score = target(logits[None])[0] if callable(target) else logits[target]
    if distilled:
        # the score is half of each head's: a token counts by how long the weights are that read it
        (share,) = torch.autograd.grad(score, logits, retain_graph=True)
        lengths = [_length((share @ head.weight).tolist()) for head in (model.head, model.head_dist)]
        readout = [length / sum(lengths) for length in lengths] + [0.0] * (tokens - 2)
    nodes = [a for layer in layers for a in layer.attention]
    gradients = iter(torch.autograd.grad(score, nodes))
    for layer in layers:
        layer.gradient = [next(gradients) for _ in layer.attention]
    return Pass(layers, logits.detach(), readout, prefix)


def _attention_pool(pool: Any, tokens: Tensor) -> tuple[Tensor, list[float]]:
    """Pooled vector, and the attention of the latent query to each token, averaged over heads."""
    heads, width, wide = pool.num_heads, pool.head_dim, pool.num_heads * pool.head_dim
    query = pool.q(pool.latent[0, 0])
    pooled, shares = [], [0.0] * len(tokens)
    for h in range(heads):
        q = query[h * width : (h + 1) * width]
        k = _part(pool.kv, tokens, h * width, width)
        v = _part(pool.kv, tokens, wide + h * width, width)
        scores = [math.exp((q @ k_j).item() / math.sqrt(width)) for k_j in k]
        attention = torch.softmax(k @ q / math.sqrt(width), 0)
        pooled.append(attention @ v)
        shares = [share + score / sum(scores) / heads for share, score in zip(shares, scores, strict=True)]
    out = pool.proj(torch.cat(pooled))
    return out + pool.mlp(pool.norm(out)), shares


def _run_block(block: Any, x: Tensor) -> Layer:
    kind = type(block).__name__
    parallel, post = kind == "ParallelScalingBlock", kind == "ResPostBlock"
    attn = block if parallel else block.attn
    normed = x if post else (block.in_norm if parallel else block.norm1)(x)
    projection, first = (attn.in_proj, attn.in_split[0]) if parallel else (attn.qkv, 0)
    heads, width = attn.num_heads, (projection.out_features - first) // 3 // attn.num_heads
    # everything between the heads and the stream, in order
    path = [getattr(attn, "norm", None), block.attn_out_proj if parallel else attn.proj]
    path += [block.ls if parallel else block.norm1 if post else block.ls1]
    path = [stage for stage in path if stage is not None and type(stage).__name__ != "Identity"]
    attention, values = [], []
    for h in range(heads):
        q, k, v = (_part(projection, normed, first + (part * heads + h) * width, width) for part in range(3))
        q, k = attn.q_norm(q), attn.k_norm(k)
        scores = torch.exp(q @ k.T / math.sqrt(width))
        attention.append(scores / scores.sum(1, keepdim=True))
        values.append(v)
    mixed = torch.cat([a @ v for a, v in zip(attention, values, strict=True)], dim=1)
    update = torch.stack([_through(path, one) for one in mixed])
    frozen = any("Norm" in type(stage).__name__ for stage in path)
    f: list[list[Tensor]] = []
    biases = [_through(path, torch.zeros_like(mixed[i]), mixed[i]).detach() for i in range(len(x))]
    for h in range(heads):
        rows: list[Tensor] = []
        for i in range(len(x)):
            if not frozen and rows:
                rows.append(rows[0])
                continue
            alone = torch.zeros(len(x), heads * width, dtype=x.dtype)
            alone[:, h * width : (h + 1) * width] = values[h].detach()
            rows.append(torch.stack([_through(path, one, mixed[i]).detach() - biases[i] for one in alone]))
        f.append(rows)
    mid = x + update
    gamma_2 = getattr(block.ls if parallel else getattr(block, "ls2", None), "gamma", torch.ones_like(x[0]))
    if parallel:
        hidden = _part(projection, normed, 0, first)
        hidden = hidden if block.mlp_bias is None else hidden + block.mlp_bias
        g, ffn_x, normed_mid = gamma_2 * block.mlp_out_proj(block.mlp_act(hidden)), x, normed
    elif post:
        g, ffn_x, normed_mid = block.norm2(block.mlp(mid)), mid, mid
    else:
        normed_mid = block.norm2(mid)
        g, ffn_x = gamma_2 * block.mlp(normed_mid), mid
    return Layer(x, normed, attention, [], f, biases, mid, ffn_x, normed_mid, g, mid + g)


def _through(path: list[Any], vector: Tensor, at: Tensor | None = None) -> Tensor:
    """A vector through the stages; with ``at``, the statistics of norms are those that ``at`` has on its way."""
    for stage in path:
        if "Norm" not in type(stage).__name__ or at is None:
            vector, at = stage(vector), None if at is None else stage(at)
            continue
        centred = "Layer" in type(stage).__name__
        spread = at - at.mean() if centred else at
        scale = 1 / torch.sqrt((spread**2).mean() + stage.eps)
        vector = (vector - vector.mean() if centred else vector) * scale * stage.weight
        vector = vector + stage.bias if centred else vector
        at = stage(at)
    return vector


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
    head_mean: str = "after",
    backward: str = "plain",
    positive: str = "head",
    lengths: str = "first",
) -> Tensor:
    """Contribution of each patch after each layer, (B, L, P); with another gradient where the passes hold another."""
    assert backward == "plain"

    def weigh(e: Tensor, t: Tensor) -> list[float]:
        compared = [_compare(e_n, t_n) for e_n, t_n in zip(e.tolist(), t.tolist(), strict=True)]
        shares = necc([cosine for _, cosine in compared], normaliser)
        return [
            (ratio if length else 1.0) * (share if direction else 1.0)
            for (ratio, _), share in zip(compared, shares, strict=True)
        ]

    def layer_matrices(layer: Layer) -> tuple[Tensor, Tensor]:
        e = layer.x if reference == "stream" else layer.normed
        n, heads = len(e), len(layer.attention)
        if transformed == "head":
            t = layer.f
        elif transformed == "sum":
            t = [[sum(layer.f[h][i] for h in range(heads)) for i in range(n)]] * heads
        else:
            t = [[layer.mid] * n] * heads
        attention, gradients = [a.tolist() for a in layer.attention], [g.tolist() for g in layer.gradient]
        mixing = [[0.0] * n for _ in range(n)]
        known: dict[int, list[float]] = {}
        for i in range(n):
            for h in range(heads):
                seen = t[h][i]
                weights = known[id(seen)] = known.get(id(seen)) or weigh(e, seen)
                for j in range(n):
                    part = attention[h][i][j] * weights[j]
                    if gradient and head_mean == "after":
                        part = gradients[h][i][j] * part
                        part = max(0.0, part) if positive == "head" else part
                    mixing[i][j] += part / heads
        if gradient and head_mean == "before":
            for i in range(n):
                for j in range(n):
                    of_heads = [gradients[h][i][j] for h in range(heads)]
                    kept = [max(0.0, g) for g in of_heads] if positive == "head" else [max(0.0, sum(of_heads))]
                    mixing[i][j] *= sum(kept) / heads
        if gradient and positive == "mean":
            mixing = [[max(0.0, entry) for entry in row] for row in mixing]
        u_attention = torch.eye(n, dtype=torch.float64) + torch.tensor(mixing, dtype=torch.float64)
        u_ffn = torch.zeros(n, n, dtype=torch.float64)
        if ffn:
            e = layer.ffn_x if reference == "stream" else layer.normed_mid
            after = layer.ffn_x + layer.g if transformed == "stream" else layer.g
            u_ffn = torch.diag(torch.tensor(weigh(e, after), dtype=torch.float64))
        return u_attention, u_ffn

    maps = []
    for one in passes:
        first = one.layers[0].x.tolist()
        start = [_length(e) if initialise else 1.0 for e in first]
        # what a path is worth without the length it begins with, by the token and the layer where it last mixed
        stayed, mixed = torch.eye(len(first), dtype=torch.float64), []
        rows = []
        for layer in one.layers:
            u_attention, u_ffn = layer_matrices(layer)
            parallel = layer.ffn_x is layer.x
            stay = torch.eye(len(first), dtype=torch.float64) + u_ffn
            move = u_attention - torch.eye(len(first), dtype=torch.float64)
            onward = move if parallel else stay @ move
            now = layer.x.tolist()
            own = [_length(e) for e in now] if initialise and lengths == "own" else start
            mixed = [stay @ one_before + onward @ one_before for one_before in mixed]
            mixed.append(onward @ stayed @ torch.diag(torch.tensor(own, dtype=torch.float64)))
            stayed = stay @ stayed
            after = [_length(e) for e in layer.out.tolist()] if initialise and lengths == "own" else start
            rows.append(_read(one, sum(mixed) + stayed @ torch.diag(torch.tensor(after, dtype=torch.float64))))
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
