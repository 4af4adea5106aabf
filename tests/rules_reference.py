"""Relevance handed down by hand, block by block, in float64: the rules of LibraGrad, CP-LRP, AttnLRP and ResLRP.

Shares no code with the library, which hands down gradients: here each part of a sum takes its share of the relevance,
R_i = z_i / (sum of the z) R, with what a bias adds among the parts. Starts from the passes of ``reference.run``.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from reference import Pass
from rivals_reference import _rolled
from torch import Tensor


@dataclass(frozen=True)
class ByHand:
    """Whether attention takes half and hands it to its logits, whether both sides of a gate take half, and gamma."""

    attention_takes: bool = False
    gamma: float = 0.0


RULES = {
    "libra": ByHand(),
    "cp_lrp": ByHand(),
    "attnlrp": ByHand(attention_takes=True),
    "reslrp": ByHand(attention_takes=True, gamma=1.0),
}


@dataclass
class Relevances:
    """Of one image: at the tokens that enter each block and, where attention takes none, what it would take, A * G.

    ``biases`` is what biases of norms and linear maps take, token by token.
    """

    streams: list[Tensor]
    attention: list[list[Tensor]]
    biases: Tensor


def relevances(model: Any, one: Pass, index: int, rules: ByHand) -> Relevances:
    model = deepcopy(model).double().eval()
    with torch.no_grad():
        return _Down(model, one, rules).all(index)


def first_tokens(model: Any, passes: list[Pass], target: list[int], rules: str) -> Tensor:
    found = [relevances(model, one, index, RULES[rules]) for one, index in zip(passes, target, strict=True)]
    return torch.stack([x.streams[0].sum(1)[one.prefix :] for x, one in zip(found, passes, strict=True)])


def fullgrad_plus(model: Any, passes: list[Pass], target: list[int]) -> Tensor:
    rows = []
    for one, index in zip(passes, target, strict=True):
        found = relevances(model, one, index, RULES["libra"])
        rows.append((sum(x.sum(1) for x in found.streams) + found.biases)[one.prefix :])
    return torch.stack(rows)


def generic_attention(model: Any, passes: list[Pass], target: list[int]) -> Tensor:
    maps = []
    for one, index in zip(passes, target, strict=True):
        found = relevances(model, one, index, RULES["libra"])
        maps.append(_rolled(one, [sum(a.clamp(min=0) for a in heads) / len(heads) for heads in found.attention]))
    return torch.stack(maps)


class _Down:
    def __init__(self, model: Any, one: Pass, rules: ByHand) -> None:
        self.model, self.one, self.rules = model, one, rules
        self.biases = torch.zeros(len(one.readout), dtype=torch.float64)

    def all(self, index: int) -> Relevances:
        relevance = self.head(index)
        streams, attention = [], []
        for block, layer in zip(reversed(self.model.blocks), reversed(self.one.layers), strict=True):
            kind = type(block).__name__
            down = (
                self.parallel if kind == "ParallelScalingBlock" else self.post if kind == "ResPostBlock" else self.block
            )
            relevance, taken = down(block, layer, relevance)
            streams.append(relevance)
            attention.append(taken)
        return Relevances(streams[::-1], attention[::-1], self.biases)

    def linear(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor, of_tokens: bool = True
    ) -> Tensor:
        """R_i = sum_o x_i w_oi / z_o R_o."""
        parts = x[:, None, :] * weight[None]
        z = parts.sum(2) + (0 if bias is None else bias)
        if bias is not None and of_tokens:
            self.biases = self.biases + _over(bias * _ratio(relevance, z), self.one)
        return (parts * _ratio(relevance, z)[:, :, None]).sum(1)

    def norm(self, norm: Any, x: Tensor, relevance: Tensor, of_tokens: bool = True) -> Tensor:
        """A linear map, in which the deviation is a number."""
        if isinstance(norm, torch.nn.Identity):
            return relevance
        width = x.shape[1]
        if isinstance(norm, torch.nn.LayerNorm):
            map_of = torch.eye(width, dtype=x.dtype) - 1 / width
        else:
            map_of = torch.eye(width, dtype=x.dtype)
        rows = []
        for token, taken in zip(x, relevance, strict=True):
            centred = map_of @ token
            weight = norm.weight[:, None] * map_of / math.sqrt(float((centred**2).mean()) + norm.eps)
            alone = self.linear(token[None], weight, None, _without_bias(norm, weight @ token, taken)[None])
            rows.append(alone[0])
        bias = getattr(norm, "bias", None)
        if bias is not None and of_tokens:
            self.biases = self.biases + _over(bias * _ratio(relevance, norm(x)), self.one)
        return torch.stack(rows)

    def sum(self, a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
        handed = torch.zeros_like(a), torch.zeros_like(a)
        for place in torch.ones_like(a).nonzero().tolist():
            i, j = place
            parts = a[i, j].item(), b[i, j].item()
            total = parts[0] + parts[1]
            weights = [1 + self.rules.gamma if part * total > 0 else 1.0 for part in parts]
            whole = weights[0] * parts[0] + weights[1] * parts[1]
            for k in range(2):
                handed[k][i, j] = weights[k] * parts[k] / whole * relevance[i, j]
        return handed

    def head(self, index: int) -> Tensor:
        """From the explained logit, which is worth itself, to what the last block puts out."""
        model, one = self.model, self.one
        last = one.layers[-1].out.detach()
        final = model.norm(last)
        start = torch.zeros_like(one.logits)
        start[index] = one.logits[index]
        relevance = torch.zeros_like(final)
        if hasattr(model, "dist_token"):
            heads = (model.head, model.head_dist)
            made = [head(token) for head, token in zip(heads, final, strict=False)]
            for i, head in enumerate(heads):
                down = made[i] * _ratio(start, made[0] + made[1])
                relevance[i] = self.linear(final[i][None], head.weight, head.bias, down[None], False)[0]
        else:
            read = torch.tensor([share > 0 for share in one.readout])
            pooled = final[read].mean(0) if model.attn_pool is None else model.attn_pool(final[None, read])[0]
            normed = model.fc_norm(pooled[None])
            at_normed = self.linear(normed, model.head.weight, model.head.bias, start[None], False)
            at_pooled = self.norm(model.fc_norm, pooled[None], at_normed, False)[0]
            if model.attn_pool is not None:
                relevance[read] = self.pool(model.attn_pool, final[read], at_pooled)
            else:
                relevance[read] = final[read] * _ratio(at_pooled, final[read].sum(0))
        return self.norm(model.norm, last, relevance)

    def pool(self, pool: Any, tokens: Tensor, relevance: Tensor) -> Tensor:
        heads, width = pool.num_heads, pool.head_dim
        k, v = pool.kv(tokens).view(len(tokens), 2, heads, width).unbind(1)
        q = pool.q(pool.latent[0, 0]).view(heads, width)
        attention = [torch.softmax(k[:, h] @ q[h] / width**0.5, 0) for h in range(heads)]
        mixed = torch.cat([a @ v[:, h] for h, a in enumerate(attention)])[None]
        out = pool.proj(mixed)
        at_out, at_ffn = self.sum(out, pool.mlp(pool.norm(out)), relevance[None])
        at_ffn = self.ffn(pool.mlp, pool.norm(out), at_ffn, False)
        at_out = at_out + self.norm(pool.norm, out, at_ffn, False)
        at_mixed = self.linear(mixed, pool.proj.weight, pool.proj.bias, at_out, False).view(heads, width)
        at_kv = torch.zeros(len(tokens), 2, heads, width, dtype=tokens.dtype)
        for h, a in enumerate(attention):
            at_v, at_a = self.mixing(a[None], v[:, h], at_mixed[h][None])
            at_kv[:, 1, h] = at_v
            if self.rules.attention_takes:
                at_logits = _softmax_down(k[:, h] @ q[h] / width**0.5, a, at_a[0])
                # the query does not depend on the picture: all goes to the keys
                parts = k[:, h] * q[h]
                at_kv[:, 0, h] = parts * _ratio(at_logits, parts.sum(1))[:, None]
        return self.linear(tokens, pool.kv.weight, pool.kv.bias, at_kv.flatten(1))

    def mixing(self, a: Tensor, v: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
        """What v takes; and what A takes, or would take."""
        parts = a[:, :, None] * v[None]
        handed = parts * _ratio(relevance, a @ v)[:, None, :]
        share = 0.5 if self.rules.attention_takes else 1.0
        return share * handed.sum(0), share * handed.sum(2)

    def ffn(self, mlp: Any, x: Tensor, relevance: Tensor, of_tokens: bool = True) -> Tensor:
        hidden = mlp.fc1(x)
        at_hidden = self.linear(mlp.act(hidden), mlp.fc2.weight, mlp.fc2.bias, relevance, of_tokens)
        return self.linear(x, mlp.fc1.weight, mlp.fc1.bias, at_hidden, of_tokens)

    def block(self, block: Any, layer: Any, relevance: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, mid = layer.x.detach(), layer.mid.detach()
        at_mid, at_ffn = self.sum(mid, layer.g.detach(), relevance)
        at_read = self.ffn(block.mlp, layer.normed_mid.detach(), at_ffn)
        at_mid = at_mid + self.norm(block.norm2, mid, at_read)
        at_x, at_update = self.sum(x, mid - x, at_mid)
        at_qkv, taken = self.attention(block.attn, block.attn.proj, block.attn.qkv, layer, at_update)
        return at_x + self.norm(block.norm1, x, at_qkv), taken

    def post(self, block: Any, layer: Any, relevance: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, mid = layer.x.detach(), layer.mid.detach()
        at_mid, at_ffn = self.sum(mid, layer.g.detach(), relevance)
        at_mid = at_mid + self.ffn(block.mlp, mid, self.norm(block.norm2, block.mlp(mid), at_ffn))
        at_x, at_update = self.sum(x, mid - x, at_mid)
        at_update = self.norm(block.norm1, block.attn(x[None])[0], at_update)
        at_read, taken = self.attention(block.attn, block.attn.proj, block.attn.qkv, layer, at_update)
        return at_x + at_read, taken

    def parallel(self, block: Any, layer: Any, relevance: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, read, wide = layer.x.detach(), layer.normed.detach(), block.in_split[0]
        projected = block.in_proj(read)
        hidden = projected[:, :wide] if block.mlp_bias is None else projected[:, :wide] + block.mlp_bias
        ffn = block.mlp_out_proj(block.mlp_act(hidden))
        update = layer.out.detach() - x
        attended = update / block.ls.gamma - ffn
        at_x, at_update = self.sum(x, update, relevance)
        at_attention, at_ffn = self.sum(attended, ffn, at_update)
        out = block.mlp_out_proj
        at_hidden = self.linear(block.mlp_act(hidden), out.weight, out.bias, at_ffn)
        if block.mlp_bias is not None:
            self.biases = self.biases + (block.mlp_bias * _ratio(at_hidden, hidden)).sum(1)
            at_hidden = projected[:, :wide] * _ratio(at_hidden, hidden)
        at_qkv, taken = self.heads(block, block.attn_out_proj, projected[:, wide:], layer, at_attention)
        together = torch.cat((at_hidden, at_qkv), 1)
        at_read = self.linear(read, block.in_proj.weight, block.in_proj.bias, together)
        return at_x + self.norm(block.in_norm, x, at_read), taken

    def attention(
        self, attn: Any, projection: Any, qkv: Any, layer: Any, relevance: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        read = layer.normed.detach()
        at_qkv, taken = self.heads(attn, projection, qkv(read), layer, relevance)
        return self.linear(read, qkv.weight, qkv.bias, at_qkv), taken

    def heads(
        self, attn: Any, projection: Any, qkv: Tensor, layer: Any, relevance: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """From what attention adds to its queries, keys and values, side by side."""
        heads = attn.num_heads
        q, k, v = qkv.view(len(qkv), 3, heads, -1).unbind(1)
        width = q.shape[2]
        mixed = torch.cat([a.detach() @ v[:, h] for h, a in enumerate(layer.attention)], 1)
        norm = getattr(attn, "norm", None) or torch.nn.Identity()
        at_normed = self.linear(norm(mixed), projection.weight, projection.bias, relevance)
        at_mixed = self.norm(norm, mixed, at_normed).view(len(qkv), heads, width)
        at_qkv, taken = torch.zeros(len(qkv), 3, heads, width, dtype=qkv.dtype), []
        for h in range(heads):
            a = layer.attention[h].detach()
            at_qkv[:, 2, h], at_a = self.mixing(a, v[:, h], at_mixed[:, h])
            taken.append(at_a)
            if self.rules.attention_takes:
                normed_q, normed_k = attn.q_norm(q[:, h]), attn.k_norm(k[:, h])
                logits = normed_q @ normed_k.T / math.sqrt(width)
                at_logits = torch.stack([_softmax_down(*of_row) for of_row in zip(logits, a, at_a, strict=True)])
                parts = normed_q[:, None, :] * normed_k[None] / math.sqrt(width)
                handed = parts * _ratio(at_logits, logits)[:, :, None] / 2
                at_qkv[:, 0, h] = self.norm(attn.q_norm, q[:, h], handed.sum(1), False)
                at_qkv[:, 1, h] = self.norm(attn.k_norm, k[:, h], handed.sum(0), False)
        return at_qkv.flatten(1), taken


def _softmax_down(logits: Tensor, shares: Tensor, relevance: Tensor) -> Tensor:
    """R_i = s_i (R_i - a_i sum of R): what the linear terms of its Taylor series are worth."""
    return logits * (relevance - shares * relevance.sum())


def _without_bias(norm: Any, made: Tensor, relevance: Tensor) -> Tensor:
    bias = getattr(norm, "bias", None)
    return relevance if bias is None else made * _ratio(relevance, made + bias)


def _over(parts: Tensor, one: Pass) -> Tensor:
    """Sums over width; of patches alone, as they enter a pooling, with nothing at the prefix."""
    sums, tokens = parts.sum(1), len(one.readout)
    return torch.cat((sums.new_zeros(tokens - len(sums)), sums))


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return a / torch.where(b == 0, torch.full_like(b, torch.inf), b)
