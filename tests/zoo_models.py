"""Vision Transformers as people write them: attention, blocks, patches and readout in the ways one meets on disk.

Every class here is a model to be explained, not part of the explanation. Those whose names are in the second half are
no column of attention and FFN blocks over one token sequence; zoo.py says for each why.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

WIDTH, HEADS, DEPTH, CLASSES, PATCH = 24, 2, 3, 5, 16
SIZE = (32, 48)
GRID = (2, 3)
TOKENS = GRID[0] * GRID[1]


# Attention, called with the normed tokens (B, N, D)


class Fused(nn.Module):
    """qkv in one, torch's fused kernel."""

    def __init__(self, width: int = WIDTH, heads: int = HEADS) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v (B, H, N, D / H)."""
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return q, k, v

    def join(self, heads: Tensor) -> Tensor:
        return self.proj(heads.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.join(F.scaled_dot_product_attention(*self.split(x)))


class Products(Fused):
    """softmax and @, the scale on the scores."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return self.join(weights @ v)


class ScaledQuery(Fused):
    """The scale on the query, softmax in float32, the weights kept for a look later."""

    kept: Tensor

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        self.kept = F.softmax(scores, dim=-1, dtype=torch.float32).to(v.dtype)
        return self.join(self.kept @ v)


class ByExponential(Fused):
    """The softmax spelt out: exp over its sum."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        scores = torch.matmul(q, k.mT) / q.shape[-1] ** 0.5
        powers = torch.exp(scores - scores.amax(-1, keepdim=True))
        return self.join(torch.matmul(powers / powers.sum(-1, keepdim=True), v))


class ReturnsWeights(Products):
    """Output and weights, as DINO's own."""

    def forward(self, x: Tensor) -> Any:
        q, k, v = self.split(x)
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return self.join(weights @ v), weights


class ThreeLinears(nn.Module):
    """q, k and v of their own; modules for softmax and dropout; torch.matmul."""

    def __init__(self, width: int = WIDTH, heads: int = HEADS) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, width // heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out, self.softmax, self.drop = nn.Linear(width, width), nn.Softmax(dim=-1), nn.Dropout(0.1)

    def heads_first(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.heads_first(one(x)) for one in (self.query, self.key, self.value))
        weights = self.drop(self.softmax(torch.matmul(q, k.transpose(-1, -2)) / self.head_dim**0.5))
        mixed = torch.matmul(weights, v).permute(0, 2, 1, 3).contiguous()
        return self.drop(self.out(mixed.view(*x.shape[:2], -1)))


class EinsumHeadsFirst(ThreeLinears):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.heads_first(one(x)) for one in (self.query, self.key, self.value))
        weights = torch.einsum("bhid,bhjd->bhij", q, k).mul(self.head_dim**-0.5).softmax(-1)
        return self.out(torch.einsum("bhij,bhjd->bihd", weights, v).flatten(2))


class EinsumTokensFirst(ThreeLinears):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (one(x).unflatten(-1, (self.num_heads, -1)) for one in (self.query, self.key, self.value))
        weights = F.softmax(torch.einsum("nqhd,nkhd->nhqk", q, k) / self.head_dim**0.5, dim=3)
        return self.out(torch.einsum("nhqk,nkhd->nqhd", weights, v).reshape(x.shape))


class FoldedHeads(ThreeLinears):
    """Heads in the batch axis, bmm."""

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = (self.heads_first(one(x)).flatten(0, 1) for one in (self.query, self.key, self.value))
        weights = torch.bmm(q * self.head_dim**-0.5, k.transpose(1, 2)).softmax(-1)
        mixed = torch.bmm(weights, v).view(batch, self.num_heads, tokens, self.head_dim)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class OneHead(ThreeLinears):
    """No axis of heads at all."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        weights = torch.softmax(q @ k.transpose(1, 2) / x.shape[-1] ** 0.5, dim=-1)
        return self.out(weights @ v)


class TransposedValues(ThreeLinears):
    """Channels before tokens: v times the transposed weights."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (one(x).mT.unflatten(1, (self.num_heads, -1)) for one in (self.query, self.key, self.value))
        weights = (q.mT @ k / self.head_dim**0.5).softmax(-1)
        return self.out((v @ weights.mT).flatten(1, 2).mT)


class HeadByHead(nn.Module):
    """A module for each head, in a loop, as in lectures on GPT."""

    class Head(nn.Module):
        def __init__(self, width: int, size: int) -> None:
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(width, size, bias=False) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            scores = self.query(x) @ self.key(x).transpose(-2, -1) * self.query.out_features**-0.5
            return F.softmax(scores, dim=-1) @ self.value(x)

    def __init__(self, width: int = WIDTH, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = nn.ModuleList(self.Head(width, width // heads) for _ in range(heads))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(torch.cat([head(x) for head in self.heads], dim=-1))


class Einops(Products):
    """Heads split and joined by einops."""

    def forward(self, x: Tensor) -> Tensor:
        from einops import rearrange

        q, k, v = (rearrange(one, "b n (h d) -> b h n d", h=self.heads) for one in self.qkv(x).chunk(3, dim=-1))
        weights = (torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5).softmax(-1)
        return self.proj(rearrange(weights @ v, "b h n d -> b n (h d)"))


class BiasedScores(Products):
    """A learnt bias per head and pair of tokens, and a learnt temperature."""

    def __init__(self, tokens: int = TOKENS + 1) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(self.heads, tokens, tokens))
        self.temperature = nn.Parameter(torch.ones(self.heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature + self.bias
        return self.join(scores.softmax(-1) @ v)


class NoProjection(Products):
    """The heads go to the stream as they are."""

    def __init__(self, width: int = WIDTH, heads: int = HEADS) -> None:
        super().__init__(width, heads)
        self.proj = nn.Identity()


class Packed(nn.MultiheadAttention):
    """torch's module; what it is told goes on to its call."""

    def __init__(self, width: int = WIDTH, heads: int = HEADS, **call: Any) -> None:
        super().__init__(width, heads, batch_first=True)
        self.call = call

    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x, x, x, **self.call)[0]


class PackedFunction(Fused):
    """torch's function under its module, sequence first."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        weights, biases = (self.qkv.weight, self.qkv.bias), (self.proj.weight, self.proj.bias)
        mixed, _ = F.multi_head_attention_forward(
            x, x, x, x.shape[-1], self.heads, *weights, None, None, False, 0.0, *biases, training=False
        )
        return mixed.transpose(0, 1)


# Blocks


def ffn(width: int = WIDTH) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width))


class OwnNorm(nn.Module):
    """A layer norm written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / torch.sqrt(variance + 1e-5) * self.gain + self.shift


class OwnRootNorm(nn.Module):
    """A norm without a mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6))


class BatchNormed(nn.BatchNorm1d):
    """Batch norm over the features; in eval mode a fixed scale and shift."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class Block(nn.Module):
    """Norm first, the usual two lines."""

    def __init__(
        self, attention: Callable[[], nn.Module] = Fused, norm: Callable[[int], nn.Module] = nn.LayerNorm
    ) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = norm(WIDTH), attention(), norm(WIDTH), ffn()

    def mix(self, x: Tensor) -> Tensor:
        mixed = self.attn(x)
        return mixed[0] if isinstance(mixed, tuple) else mixed

    def forward(self, x: Tensor) -> Any:
        x = x + self.mix(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ScaledBlock(Block):
    """LayerScale without a module."""

    def __init__(self, attention: Callable[[], nn.Module] = Fused) -> None:
        super().__init__(attention)
        self.gamma_1, self.gamma_2 = (nn.Parameter(0.1 * torch.ones(WIDTH)) for _ in range(2))

    def forward(self, x: Tensor) -> Any:
        x = x + self.gamma_1 * self.mix(self.norm1(x))
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class ReZeroBlock(Block):
    """One learnt number in front of each update."""

    def __init__(self, attention: Callable[[], nn.Module] = Fused) -> None:
        super().__init__(attention)
        self.alpha, self.beta = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Any:
        x = x + self.mix(self.norm1(x)) * self.alpha
        return torch.add(x, self.beta * self.mlp(self.norm2(x)))


class NormedUpdates(Block):
    """Norms behind attention and FFN, before the sum."""

    def forward(self, x: Tensor) -> Any:
        x = x + self.norm1(self.mix(x))
        return x + self.norm2(self.mlp(x))


class Sandwich(Block):
    """Norms before and behind."""

    def __init__(self, attention: Callable[[], nn.Module] = Fused) -> None:
        super().__init__(attention)
        self.norm3, self.norm4 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Any:
        x = x + self.norm3(self.mix(self.norm1(x)))
        return x + self.norm4(self.mlp(self.norm2(x)))


class SideBySide(Block):
    """Attention and FFN in parallel, of one norm."""

    def forward(self, x: Tensor) -> Any:
        normed = self.norm1(x)
        return x + self.mix(normed) + self.mlp(normed)


class InPlace(Block):
    """Updates added in place."""

    def forward(self, x: Tensor) -> Any:
        kept = x
        x = self.mix(self.norm1(x))
        x += kept
        kept = x
        x = self.mlp(self.norm2(x))
        x += kept
        return x


class Functional(Block):
    """An FFN and its norm without modules of their own."""

    def __init__(self, attention: Callable[[], nn.Module] = Fused) -> None:
        super().__init__(attention)
        del self.mlp, self.norm2
        self.fc1, self.fc2 = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.gain, self.shift = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Any:
        x = self.mix(self.norm1(x)) + x
        return self.fc2(F.relu(self.fc1(F.layer_norm(x, (WIDTH,), self.gain, self.shift)))) + x


class MixedExperts(Block):
    """Two FFNs, weighed by every token for itself."""

    def __init__(self, attention: Callable[[], nn.Module] = Fused) -> None:
        super().__init__(attention)
        self.router, self.expert = nn.Linear(WIDTH, 2), ffn()

    def forward(self, x: Tensor) -> Any:
        x = x + self.mix(self.norm1(x))
        normed = self.norm2(x)
        first, second = self.router(normed).softmax(-1).split(1, dim=-1)
        return x + first * self.mlp(normed) + second * self.expert(normed)


class Inline(nn.Module):
    """Attention without a module of its own: its Linears belong to the block."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2, self.mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH), ffn()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (one.unflatten(-1, (HEADS, -1)).transpose(1, 2) for one in self.qkv(self.ln_1(x)).chunk(3, -1))
        weights = torch.softmax(q @ k.mT / (WIDTH // HEADS) ** 0.5, -1)
        x = x + self.proj((weights @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.ln_2(x))


class ReturnsPair(Block):
    """Stream and weights."""

    def forward(self, x: Tensor) -> Any:
        mixed, weights = self.attn(self.norm1(x))
        x = x + mixed
        return x + self.mlp(self.norm2(x)), weights


class Checkpointed(Block):
    def forward(self, x: Tensor) -> Any:
        return checkpoint(super().forward, x, use_reentrant=False)


class Residual(nn.Module):
    """Adds what a branch makes of its input."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.fn = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(x) + x


def residuals() -> nn.Sequential:
    """A block as a Sequential of two residuals."""
    return nn.Sequential(Residual(nn.LayerNorm(WIDTH), Products()), Residual(nn.LayerNorm(WIDTH), ffn()))


def encoder_layer(**options: Any) -> nn.TransformerEncoderLayer:
    """torch's own block; in eval mode and without gradients it runs through one fused function."""
    options = {"batch_first": True, "norm_first": True, "activation": "gelu", **options}
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, **options)


# From the picture to tokens (B, N, D)


class Convolved(nn.Module):
    def __init__(self, patch: int = PATCH, channels: int = 3) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, WIDTH, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class Unfolded(nn.Module):
    """nn.Unfold and a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.unfold, self.linear = nn.Unfold(PATCH, stride=PATCH), nn.Linear(3 * PATCH**2, WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.unfold(images).transpose(1, 2))


class Reshaped(nn.Module):
    """Patches by views, a norm on either side of the Linear."""

    def __init__(self) -> None:
        super().__init__()
        size = 3 * PATCH**2
        self.layers = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, WIDTH), nn.LayerNorm(WIDTH))

    def forward(self, images: Tensor) -> Tensor:
        patches = images.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 4, 5, 1)
        return self.layers(patches.flatten(3).flatten(1, 2))


class Stem(nn.Module):
    """Padded convolutions of stride two with batch norms: a token looks half a patch aside."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 8, 12, 16, WIDTH)
        layers: list[nn.Module] = []
        for i in range(4):
            layers += [nn.Conv2d(widths[i], widths[i + 1], 3, 2, 1), nn.BatchNorm2d(widths[i + 1]), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(WIDTH, WIDTH, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).flatten(2).transpose(1, 2)


class ColumnByColumn(Convolved):
    """Patches in another order: down the columns."""

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).transpose(2, 3).flatten(2).transpose(1, 2)


# The whole model


class OwnViT(nn.Module):
    """Patches, class token, registers and positions, blocks, norm, one of several readouts."""

    def __init__(
        self,
        block: Callable[[], nn.Module] = Block,
        patches: Callable[[], nn.Module] = Convolved,
        readout: str = "first",
        registers: int = 0,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.readout = readout
        self.class_tokens = 1 if readout in ("first", "last", "both") else 0
        self.patches = patches()
        self.cls = nn.Parameter(torch.zeros(1, self.class_tokens, WIDTH)) if self.class_tokens else None
        self.registers = nn.Parameter(torch.zeros(1, registers, WIDTH)) if registers else None
        self.positions = nn.Parameter(torch.zeros(1, TOKENS + self.class_tokens, WIDTH))
        self.drop = nn.Dropout(0.1)
        self.blocks = nn.ModuleList(block() for _ in range(DEPTH))
        self.norm = norm(WIDTH)
        self.score = nn.Linear(WIDTH, 1) if readout == "learnt" else None
        width = {"both": 2 * WIDTH, "all": TOKENS * WIDTH}.get(readout, WIDTH)
        self.head = nn.Linear(width, CLASSES)

    def embed(self, images: Tensor) -> Tensor:
        x = self.patches(images)
        if self.cls is not None:
            cls = self.cls.expand(len(x), -1, -1)
            x = torch.cat((x, cls) if self.readout == "last" else (cls, x), dim=1)
        x = self.drop(x + self.positions)
        if self.registers is not None:
            x = torch.cat((x[:, :1], self.registers.expand(len(x), -1, -1), x[:, 1:]), dim=1)
        return x

    def encode(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
            x = x[0] if isinstance(x, tuple) else x
        return x

    def pool(self, x: Tensor) -> Tensor:
        if self.score is not None:
            return (self.score(x).softmax(1) * x).sum(1)
        return {
            "first": lambda: x[:, 0],
            "last": lambda: x[:, -1],
            "mean": lambda: x.mean(1),
            "max": lambda: x.amax(1),
            "all": lambda: x.flatten(1),
            "both": lambda: torch.cat((x[:, 0], x[:, 1:].mean(1)), dim=-1),
        }[self.readout]()

    def forward(self, images: Tensor) -> Any:
        return self.head(self.pool(self.norm(self.encode(self.embed(images)))))


class PooledThenNormed(OwnViT):
    """The norm behind the pooling, none on the tokens."""

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.pool(self.encode(self.embed(images)))))


class NoFinalNorm(OwnViT):
    def __init__(self) -> None:
        super().__init__()
        del self.norm

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.encode(self.embed(images))))


class MLPHead(OwnViT):
    """Two layers behind the class token, probabilities at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES), nn.Softmax(dim=1))


class SequenceFirst(OwnViT):
    """The stream is (N, B, D), as torch's attention wants it by default."""

    def __init__(self) -> None:
        super().__init__(block=partial(encoder_layer, batch_first=False))

    def encode(self, x: Tensor) -> Tensor:
        return super().encode(x.permute(1, 0, 2)).permute(1, 0, 2)


class TorchEncoder(OwnViT):
    """nn.TransformerEncoder as a whole."""

    def __init__(self, final: bool = False, **options: Any) -> None:
        super().__init__(block=nn.Identity)
        norm = nn.LayerNorm(WIDTH) if final else None
        layer = encoder_layer(**options)
        self.blocks = nn.TransformerEncoder(layer, DEPTH, norm=norm, enable_nested_tensor=False)
        self.norm = nn.Identity() if final else self.norm

    def encode(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class Loose(OwnViT):
    """No module is a block: four lists, walked in step."""

    def __init__(self, attention: Callable[[], nn.Module] = Products) -> None:
        super().__init__(block=nn.Identity)
        del self.blocks
        self.norms1, self.norms2 = (nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(DEPTH)) for _ in range(2))
        self.attns = nn.ModuleList(attention() for _ in range(DEPTH))
        self.mlps = nn.ModuleList(ffn() for _ in range(DEPTH))

    def encode(self, x: Tensor) -> Tensor:
        for norm1, attn, norm2, mlp in zip(self.norms1, self.attns, self.norms2, self.mlps, strict=True):
            x = attn(norm1(x)) + x
            x = mlp(norm2(x)) + x
        return x


class OneClassAgain(OwnViT):
    """One number per image, without an axis of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).squeeze(-1)


# In the manner of public repositories


class PublicScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(1e-5 * torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class PublicMLP(nn.Module):
    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2, self.drop = (
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
            nn.Dropout(0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class PublicSwiGLU(nn.Module):
    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.w12, self.w3 = nn.Linear(width, 4 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, kept = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * kept)


class PublicAttention(Fused):
    """DINOv2's: the query is scaled first."""

    def __init__(self) -> None:
        super().__init__()
        self.attn_drop, self.proj_drop = nn.Dropout(0.0), nn.Dropout(0.0)

    def forward(self, x: Tensor, attn_bias: Any = None) -> Tensor:
        q, k, v = self.split(x)
        weights = self.attn_drop(((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1))
        return self.proj_drop(self.join(weights @ v))


class MemoryEfficient(PublicAttention):
    """Falls back where xFormers is not installed, as it is not here."""

    def forward(self, x: Tensor, attn_bias: Any = None) -> Tensor:
        if attn_bias is not None:
            raise AssertionError("xFormers is required for nested tensors")
        return super().forward(x)


class PublicBlock(nn.Module):
    """DINOv2's: branches as functions inside forward, which takes one tensor or a list."""

    def __init__(self, mlp: Callable[[], nn.Module] = PublicMLP) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(WIDTH, 1e-6), MemoryEfficient(), PublicScale(WIDTH)
        self.norm2, self.mlp, self.ls2 = nn.LayerNorm(WIDTH, 1e-6), mlp(), PublicScale(WIDTH)
        self.drop_path1, self.drop_path2 = nn.Identity(), nn.Identity()

    def forward(self, x: Any) -> Any:
        if isinstance(x, list):
            return [self.forward(one) for one in x]

        def attention_branch(x: Tensor) -> Tensor:
            return self.ls1(self.attn(self.norm1(x)))

        def ffn_branch(x: Tensor) -> Tensor:
            return self.ls2(self.mlp(self.norm2(x)))

        x = x + attention_branch(x)
        return x + ffn_branch(x)


class DinoV2(nn.Module):
    """torch.hub's DINOv2: features of the class token, positions resized to the picture, registers after positions."""

    def __init__(self, registers: int = 0, mlp: Callable[[], nn.Module] = PublicMLP, side: int = 3) -> None:
        super().__init__()
        self.num_register_tokens, self.side = registers, side
        self.patch_embed = nn.Sequential()
        self.patch_embed.add_module("proj", nn.Conv2d(3, WIDTH, PATCH, PATCH))
        self.patch_embed.add_module("norm", nn.Identity())
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side**2, WIDTH))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, WIDTH)) if registers else None
        self.mask_token = nn.Parameter(torch.zeros(1, WIDTH))
        self.blocks = nn.ModuleList(PublicBlock(mlp) for _ in range(DEPTH))
        self.norm, self.head = nn.LayerNorm(WIDTH, 1e-6), nn.Identity()

    def positions(self, rows: int, columns: int) -> Tensor:
        if rows * columns == self.side**2 and rows == columns:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].reshape(1, self.side, self.side, WIDTH).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=False)
        return torch.cat((self.pos_embed[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)), dim=1)

    def prepare_tokens(self, images: Tensor, masks: Tensor | None = None) -> Tensor:
        patches = self.patch_embed(images)
        rows, columns = patches.shape[2:]
        x = patches.flatten(2).transpose(1, 2)
        if masks is not None:
            x = torch.where(masks.unsqueeze(-1), self.mask_token.unsqueeze(0), x)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + self.positions(rows, columns)
        if self.register_tokens is not None:
            x = torch.cat((x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]), dim=1)
        return x

    def forward_features(self, images: Tensor, masks: Tensor | None = None) -> dict[str, Any]:
        x = self.prepare_tokens(images, masks)
        for block in self.blocks:
            x = block(x)
        normed = self.norm(x)
        after = 1 + self.num_register_tokens
        return {
            "x_norm_clstoken": normed[:, 0],
            "x_norm_regtokens": normed[:, 1:after],
            "x_norm_patchtokens": normed[:, after:],
            "x_prenorm": x,
            "masks": masks,
        }

    def intermediate(self, images: Tensor, count: int) -> list[tuple[Tensor, Tensor]]:
        """Patches and class token of the last layers, through the final norm."""
        x, kept = self.prepare_tokens(images), []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index >= len(self.blocks) - count:
                kept.append(self.norm(x))
        return [(one[:, 1 + self.num_register_tokens :], one[:, 0]) for one in kept]

    def forward(self, *inputs: Any, is_training: bool = False, **more: Any) -> Any:
        found = self.forward_features(*inputs, **more)
        return found if is_training else self.head(found["x_norm_clstoken"])


class DinoV2Linear(nn.Module):
    """torch.hub's linear classifier on DINOv2: class tokens of one layer or four, and the last patches' average."""

    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.backbone, self.layers = DinoV2(), layers
        self.linear_head = nn.Linear((1 + layers) * WIDTH, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        if self.layers == 1:
            found = self.backbone.forward_features(images)
            parts = [found["x_norm_clstoken"], found["x_norm_patchtokens"].mean(dim=1)]
        else:
            kept = self.backbone.intermediate(images, self.layers)
            parts = [cls for _, cls in kept] + [kept[-1][0].mean(dim=1)]
        return self.linear_head(torch.cat(parts, dim=1))


class DinoV1Block(Block):
    """DINO's: attention always returns its weights; asked for, the block returns them alone."""

    def __init__(self) -> None:
        super().__init__(ReturnsWeights)
        self.drop_path = nn.Identity()

    def forward(self, x: Tensor, return_attention: bool = False) -> Any:
        mixed, weights = self.attn(self.norm1(x))
        if return_attention:
            return weights
        x = x + self.drop_path(mixed)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class DinoV1(DinoV2):
    """torch.hub's DINO: the class token's features through an Identity."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DinoV1Block() for _ in range(DEPTH))

    def forward(self, images: Tensor) -> Tensor:  # type: ignore[override]
        x = self.prepare_tokens(images)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]

    def get_last_selfattention(self, images: Tensor) -> Tensor:
        x = self.prepare_tokens(images)
        for block in self.blocks[:-1]:
            x = block(x)
        return self.blocks[-1](x, return_attention=True)


TIMM = {
    "img_size": SIZE,
    "patch_size": PATCH,
    "embed_dim": WIDTH,
    "depth": DEPTH,
    "num_heads": HEADS,
    "num_classes": CLASSES,
}


class MaskedAutoencoder(VisionTransformer):
    """MAE's fine-tuned ViT, an old subclass of timm's: its features are pooled already."""

    def __init__(self, average: bool, keep: bool = False, **options: Any) -> None:
        super().__init__(**TIMM, **options)
        self.average, self.keep = average, keep
        if average:
            self.fc_norm = nn.LayerNorm(self.embed_dim)
            del self.norm

    def forward_features(self, x: Tensor, **more: Any) -> Tensor:  # type: ignore[override]
        x = self.patch_embed(x)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        x = self.pos_drop(x + self.pos_embed)
        for block in self.blocks:
            x = block(x)
        if self.average:
            return self.fc_norm(x[:, 1:].mean(dim=1, keepdim=self.keep))
        return self.norm(x)[:, 0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.head(self.head_drop(x))


class Retinal(MaskedAutoencoder):
    """RETFound's: an average that stays a sequence of one token, which timm's own head then reads."""

    def __init__(self) -> None:
        super().__init__(average=True, keep=True)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.head(self.head_drop(x[:, 0]))


class MomentumContrast(VisionTransformer):
    """MoCo v3's: timm's with fixed sine and cosine positions."""

    def __init__(self) -> None:
        super().__init__(**TIMM)
        rows, columns = torch.meshgrid(*(torch.arange(float(count)) for count in GRID), indexing="ij")
        rates = 1e4 ** (-torch.arange(WIDTH // 4) / (WIDTH // 4))
        waves = [one.flatten()[:, None] * rates for one in (rows, columns)]
        grid = torch.cat([turn(wave) for wave in waves for turn in (torch.sin, torch.cos)], dim=1)
        self.pos_embed = nn.Parameter(torch.cat((torch.zeros(1, WIDTH), grid))[None], requires_grad=False)


# Wrappings


class Normalise(nn.Module):
    """Pixels in 0 to 1 become what the model was trained with."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.48, 0.46, 0.41]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.23, 0.22, 0.23]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Wrapped(nn.Module):
    """A backbone, what is read of it, and a head of one's own."""

    def __init__(
        self,
        backbone: nn.Module,
        read: Callable[[nn.Module, Tensor], Tensor] = lambda backbone, images: backbone(images),
        before: Callable[[Tensor], Tensor] | None = None,
        after: Callable[[Tensor], Any] | None = None,
        width: int | None = WIDTH,
    ) -> None:
        super().__init__()
        self.backbone, self.read, self.before, self.after = backbone, read, before, after
        self.fc = nn.Linear(width, CLASSES) if width else nn.Identity()

    def forward(self, images: Tensor) -> Any:
        images = images if self.before is None else self.before(images)
        found = self.fc(self.read(self.backbone, images))
        return found if self.after is None else self.after(found)


class Ensemble(nn.Module):
    """The average of two models."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images: Tensor) -> Tensor:
        return (self.first(images) + self.second(images)) / 2


class TwoViews(nn.Module):
    """A picture and its mirror image through one model."""

    def __init__(self, model: nn.Module, together: bool) -> None:
        super().__init__()
        self.model, self.together = model, together

    def forward(self, images: Tensor) -> Tensor:
        if self.together:
            return self.model(torch.cat((images, images.flip(-1)))).unflatten(0, (2, -1)).mean(0)
        return (self.model(images) + self.model(images.flip(-1))) / 2


# Not a column of attention and FFN blocks over one token sequence


class DepthwiseFFN(nn.Module):
    """A convolution over neighbouring tokens inside the FFN."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.conv = nn.Conv2d(2 * WIDTH, 2 * WIDTH, 3, padding=1, groups=2 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        patches = self.conv(x[:, 1:].mT.unflatten(2, GRID)).flatten(2).mT
        return self.fc2(F.gelu(torch.cat((x[:, :1], patches), dim=1)))


class ConvolvedValues(Fused):
    """Each value has its neighbours' in it before attention mixes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        v = self.conv(v.transpose(1, 2).flatten(2).mT).mT.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return self.join(F.scaled_dot_product_attention(q, k, v))


class GatedAttention(Fused):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        mixed = F.scaled_dot_product_attention(*self.split(x)).transpose(1, 2).flatten(2)
        return self.proj(mixed * torch.sigmoid(self.gate(x)))


class TalkingHeads(Fused):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(HEADS, HEADS), nn.Linear(HEADS, HEADS)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        scores = self.before((q @ k.mT * q.shape[-1] ** -0.5).permute(0, 2, 3, 1)).softmax(2)
        return self.join(self.after(scores).permute(0, 3, 1, 2) @ v)


class WrongAxis(Fused):
    """Softmax over the queries: what a token receives does not sum to one."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        return self.join((q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-2) @ v)


class WithoutSoftmax(Fused):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        if self.kind == "linear":
            q, k = F.elu(q) + 1, F.elu(k) + 1
            return self.join(q @ (k.mT @ v) / (q @ k.sum(2)[..., None]))
        scores = q @ k.mT * q.shape[-1] ** -0.5
        return self.join((torch.sigmoid(scores) if self.kind == "sigmoid" else F.relu(scores) / len(x[0])) @ v)


class Differential(Fused):
    """The difference of two attention maps."""

    def __init__(self) -> None:
        super().__init__()
        self.balance = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        (q1, q2), (k1, k2) = q.chunk(2, -1), k.chunk(2, -1)
        first, second = ((a @ b.mT * a.shape[-1] ** -0.5).softmax(-1) for a, b in ((q1, k1), (q2, k2)))
        return self.join((first - self.balance * second) @ v)


class FewerKeys(Fused):
    """Keys and values of every second token only."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        return self.join(F.scaled_dot_product_attention(q, k[:, :, ::2], v[:, :, ::2]))


class OverTheBatch(nn.MultiheadAttention):
    """batch_first forgotten: every image attends to the others of its batch."""

    def __init__(self) -> None:
        super().__init__(WIDTH, HEADS)

    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x, x, x)[0]


class AlwaysDrops(Fused):
    """Dropout that does not look at the mode."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        return self.join(F.dropout((q @ k.mT * q.shape[-1] ** -0.5).softmax(-1), 0.2) @ v)


class PostNorm(Block):
    """As in BERT: the norm is on the stream."""

    def forward(self, x: Tensor) -> Any:
        x = self.norm1(x + self.mix(x))
        return self.norm2(x + self.mlp(x))


class RenormedStream(Block):
    """x is replaced by its norm, to which the update is then added."""

    def forward(self, x: Tensor) -> Any:
        x = self.norm1(x)
        x = x + self.mix(x)
        x = self.norm2(x)
        return x + self.mlp(x)


class HalvedSum(Block):
    def forward(self, x: Tensor) -> Any:
        x = (x + self.mix(self.norm1(x))) * 0.5**0.5
        return (x + self.mlp(self.norm2(x))) * 0.5**0.5


class NoResidual(Block):
    def forward(self, x: Tensor) -> Any:
        return self.mlp(self.norm2(self.mix(self.norm1(x))))


class DepthwiseBlock(Block):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = DepthwiseFFN()  # type: ignore[assignment]


class GatedByClass(Block):
    """What the FFN writes to every token depends on the class token."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Any:
        x = x + self.mix(self.norm1(x))
        return x + self.mlp(self.norm2(x)) * torch.sigmoid(self.gate(x[:, :1]))


class ChannelAttention(Block):
    """Squeeze and excitation behind the FFN: all tokens decide about every channel."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Any:
        x = x + self.mix(self.norm1(x))
        update = self.mlp(self.norm2(x))
        return x + update * torch.sigmoid(self.gate(update.mean(1, keepdim=True)))


class MixedTokens(Block):
    """A Linear over the tokens in the place of attention."""

    def __init__(self) -> None:
        super().__init__(attention=lambda: nn.Linear(TOKENS + 1, TOKENS + 1))

    def forward(self, x: Tensor) -> Any:
        x = x + self.attn(self.norm1(x).mT).mT
        return x + self.mlp(self.norm2(x))


class PrivateWindows(Block):
    """Attention inside windows of three tokens."""

    def forward(self, x: Tensor) -> Any:
        windows = self.mix(self.norm1(x[:, 1:]).unflatten(1, (-1, 3)).flatten(0, 1))
        patches = x[:, 1:] + windows.unflatten(0, (len(x), -1)).flatten(1, 2)
        x = torch.cat((x[:, :1] + patches.mean(1, keepdim=True), patches), dim=1)
        return x + self.mlp(self.norm2(x))


class Merging(OwnViT):
    """Pairs of tokens become one after the first block."""

    def encode(self, x: Tensor) -> Tensor:
        x = self.blocks[0](x)
        x = torch.cat((x[:, :1], x[:, 1:].unflatten(1, (-1, 2)).mean(2)), dim=1)
        return self.blocks[2](self.blocks[1](x))


class AttentionOutside(OwnViT):
    """Attention before the first block or behind the last, without a block around it."""

    def __init__(self, behind: bool) -> None:
        super().__init__()
        self.extra, self.behind = Fused(), behind

    def encode(self, x: Tensor) -> Tensor:
        return self.extra(super().encode(x)) if self.behind else super().encode(x + self.extra(x))


class LongSkip(OwnViT):
    """As in U-ViT: the last block reads the first one's output beside the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.join = nn.Linear(2 * WIDTH, WIDTH)

    def encode(self, x: Tensor) -> Tensor:
        first = self.blocks[0](x)
        x = self.blocks[1](first)
        return self.blocks[2](self.join(torch.cat((x, first), dim=-1)))


class OneBlockAgain(OwnViT):
    """The same block, three times."""

    def encode(self, x: Tensor) -> Tensor:
        for _ in range(DEPTH):
            x = self.blocks[0](x)
        return x


class AllLayers(OwnViT):
    """The class token of every layer is read."""

    def encode(self, x: Tensor) -> Tensor:
        kept = []
        for block in self.blocks:
            x = block(x)
            kept.append(x)
        return torch.stack(kept).mean(0)


class SkipsPatches(OwnViT):
    """A second path from the pixels to the classes, beside the blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.beside = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.beside(self.patches(images).mean(1))


class CentredOnBatch(OwnViT):
    """The mean over the batch is subtracted from the features."""

    def pool(self, x: Tensor) -> Tensor:
        return x[:, 0] - x[:, 0].mean(0, keepdim=True)


class ClassAttention(OwnViT):
    """As in CaiT: the class token joins late and alone asks."""

    def __init__(self) -> None:
        super().__init__(readout="mean")
        self.late = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.ask = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.more = Block()

    def encode(self, x: Tensor) -> Tensor:
        x = super().encode(x)
        cls = self.late.expand(len(x), -1, -1)
        both = torch.cat((cls, x), dim=1)
        cls = cls + self.ask(cls, both, both)[0]
        return cls + self.more.mlp(self.more.norm2(cls))


def tiny_timm(name: str = "vit_tiny_patch16_224", **options: Any) -> nn.Module:
    """A small one of timm's, by name."""
    return timm.create_model(name, **{**TIMM, **options})
