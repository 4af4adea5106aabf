"""A model as ``front/engine`` runs it in a browser: what it is made of, and its weights in half precision.

The engine runs timm's plain ``VisionTransformer``: class token, registers, distillation token or average; LayerScale,
biases and norms of queries and keys; one FFN, gated or not. Whatever is not that is refused, with what it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from timm.layers import (
    GELU,
    Attention,
    GELUTanh,
    GluMlp,
    LayerNorm,
    LayerNormFp32,
    LayerScale,
    Mlp,
    PatchEmbed,
    QuickGELU,
    RmsNorm,
    RmsNormFp32,
    SwiGLU,
)
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from tokentm.errors import InvalidOptionError

LARGEST = 12_000_000
"""Most parameters that a page takes: two bytes each, and a browser must answer within seconds."""


class NormSpec(TypedDict):
    """How rows are normalised: "layer" or "rms"."""

    kind: str
    eps: float


class BlockSpec(TypedDict):
    """One block; see ``front/engine/types.d.ts``."""

    norm1: NormSpec
    norm2: NormSpec
    qNorm: NormSpec | None
    kNorm: NormSpec | None
    heads: int
    headDim: int
    activation: str
    gate: str


class ModelSpec(TypedDict):
    """A model; see ``front/engine/types.d.ts``."""

    channels: int
    height: int
    width: int
    patch: list[int]
    prefix: int
    dim: int
    classes: int
    pooling: str
    positions: str
    normPre: NormSpec | None
    norm: NormSpec | None
    normPooled: NormSpec | None
    blocks: list[BlockSpec]
    weights: dict[str, list[Any]]


@dataclass(frozen=True, eq=False)
class LiveModel:
    """What the engine is given.

    Attributes:
        spec: what the model is made of, and where each tensor lies among the weights.
        weights: all tensors behind one another, as float16, little-endian.
    """

    spec: ModelSpec
    weights: bytes


def live_model(model: nn.Module) -> LiveModel:
    """A model, ready for a page.

    Raises:
        InvalidOptionError: the engine does not run it, with the part that it does not know.

    Example:
        >>> live_model(tokentm.load_demo().model).spec["dim"]
        128
    """
    kind = type(model)
    if kind not in (VisionTransformer, VisionTransformerDistilled):
        raise _refusal(model, "timm's VisionTransformer", f"{kind.__module__}.{kind.__name__}")
    _check_hooks(model)
    tensors: dict[str, Tensor] = {}
    vit: Any = model
    count = sum(one.numel() for one in vit.parameters())
    if count > LARGEST:
        raise _refusal(model, f"at most {LARGEST / 1e6:.0f} million parameters", f"{count / 1e6:.1f} million")
    described = _described(vit, tensors)
    places, parts, first = {}, [], 0
    for name, tensor in tensors.items():
        with np.errstate(over="ignore"):
            halves = tensor.detach().cpu().float().numpy().astype("<f2")
        if not np.isfinite(halves).all():
            raise _refusal(model, "weights that half precision can hold, below 65504", f"larger ones in {name}")
        places[name] = [first, list(halves.shape)]
        parts.append(halves.tobytes())
        first += halves.size
    return LiveModel({**described, "weights": places}, b"".join(parts))


def halved(model: nn.Module) -> nn.Module:
    """The model as the page has it: a copy whose weights have been through half precision."""
    made = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(parameter.half().to(parameter.dtype))
    return made


def _described(vit: Any, tensors: dict[str, Tensor]) -> ModelSpec:
    distilled = isinstance(vit, VisionTransformerDistilled)
    embed = vit.patch_embed
    if type(embed) is not PatchEmbed or type(embed.proj) is not nn.Conv2d:
        raise _refusal(vit, "patches embedded by one convolution", type(embed).__name__)
    if not isinstance(embed.norm, nn.Identity):
        raise _refusal(vit, "embedded patches as they are", f"{type(embed.norm).__name__} of them")
    height, width = embed.img_size
    high, wide = embed.patch_size
    if height % high or width % wide:
        raise _refusal(vit, "pictures of whole patches", f"{height} x {width} pixels in patches of {high} x {wide}")
    if not isinstance(vit.patch_drop, nn.Identity):
        raise _refusal(vit, "all patches at work", "patch dropout")
    _put(tensors, "embedding", embed.proj.weight.flatten(1), embed.proj.bias)
    special = ("cls_token", "dist_token") if distilled else ("cls_token", "reg_token")  # others are there, but not run
    prefix = [one[0] for one in (getattr(vit, name) for name in special) if one is not None]
    if prefix:
        tensors["prefix"] = torch.cat(prefix)
    positions = "none"
    if vit.pos_embed is not None:
        tensors["positions"] = vit.pos_embed[0]
        positions = "patches" if vit.no_embed_class else "all"
    norms = {
        "normPre": _norm(vit, tensors, "normPre", vit.norm_pre),
        "norm": _norm(vit, tensors, "norm", vit.norm),
        "normPooled": None if distilled else _norm(vit, tensors, "normPooled", vit.fc_norm),
    }
    _classifier(vit, tensors)
    return {
        "channels": embed.proj.in_channels,
        "height": height,
        "width": width,
        "patch": [high, wide],
        "prefix": vit.num_prefix_tokens,
        "dim": vit.embed_dim,
        "classes": len(tensors["head.weight"]),
        "pooling": _pooling(vit),
        "positions": positions,
        **norms,  # type: ignore[typeddict-item]
        "blocks": [_block(vit, tensors, i, block) for i, block in enumerate(vit.blocks)],
        "weights": {},
    }


def _pooling(vit: Any) -> str:
    if isinstance(vit, VisionTransformerDistilled):
        return "tokens"
    if vit.global_pool not in ("token", "avg") or vit.attn_pool is not None:
        raise _refusal(vit, "a class token, or an average, for its classifier", f"pooling {vit.global_pool!r}")
    if vit.global_pool == "token":
        return "token"
    return "all" if vit.pool_include_prefix else "patches"


def _classifier(vit: Any, tensors: dict[str, Tensor]) -> None:
    heads = [vit.head, vit.head_dist] if isinstance(vit, VisionTransformerDistilled) else [vit.head]
    for name, head in zip(("head", "head2"), heads, strict=False):
        if type(head) is not nn.Linear:
            raise _refusal(vit, "a linear classifier", f"{type(head).__name__} as its head")
        _put(tensors, name, head.weight, head.bias)


def _block(vit: Any, tensors: dict[str, Tensor], i: int, block: Any) -> BlockSpec:
    if type(block) is not Block or type(block.attn) is not Attention:
        found = type(block).__name__ if type(block) is not Block else type(block.attn).__name__
        raise _refusal(vit, f"timm's plain Block with its Attention in block {i}", found)
    attn, mlp = block.attn, block.mlp
    if attn.gate is not None or not isinstance(attn.norm, nn.Identity):
        raise _refusal(vit, f"nothing between heads and projection in block {i}", "a gate or a norm")
    put = f"{i}."
    _put_linear(vit, tensors, f"{put}qkv", attn.qkv)
    _put_linear(vit, tensors, f"{put}out", attn.proj)
    for name, scale in (("scale1", block.ls1), ("scale2", block.ls2)):
        if type(scale) is LayerScale:
            tensors[put + name] = scale.gamma
        elif not isinstance(scale, nn.Identity):
            raise _refusal(vit, f"LayerScale or nothing in block {i}", type(scale).__name__)
    norm1, norm2 = (_norm(vit, tensors, put + name, getattr(block, name)) for name in ("norm1", "norm2"))
    if norm1 is None or norm2 is None:
        raise _refusal(vit, f"two norms in block {i}", "none")
    return {
        "norm1": norm1,
        "norm2": norm2,
        "qNorm": _norm(vit, tensors, f"{put}qNorm", attn.q_norm),
        "kNorm": _norm(vit, tensors, f"{put}kNorm", attn.k_norm),
        "heads": attn.num_heads,
        "headDim": attn.head_dim,
        "activation": _activation(vit, mlp.act),
        "gate": _ffn(vit, tensors, put, mlp),
    }


def _ffn(vit: Any, tensors: dict[str, Tensor], put: str, mlp: Any) -> str:
    """Write the FFN's weights; which half of its hidden numbers is a gate."""
    if type(mlp) not in (Mlp, GluMlp, SwiGLU) or not isinstance(mlp.norm, nn.Identity):
        raise _refusal(vit, "an FFN of two linear maps, gated or not, without a norm inside", type(mlp).__name__)
    _put_linear(vit, tensors, f"{put}fc2", mlp.fc2)
    if type(mlp) is SwiGLU:
        _put_linear(vit, tensors, f"{put}fc1", mlp.fc1_g, mlp.fc1_x)
        return "first"
    _put_linear(vit, tensors, f"{put}fc1", mlp.fc1)
    if type(mlp) is Mlp:
        return ""
    return "last" if mlp.gate_last else "first"


def _put_linear(vit: Any, tensors: dict[str, Tensor], name: str, *maps: Any) -> None:
    """Maps of the same numbers, one below the other."""
    for one in maps:
        if type(one) is not nn.Linear:  # what stands in its place may add something to it, as adapters do
            raise _refusal(vit, "plain linear maps in its blocks", type(one).__name__)
    biases = [one.bias for one in maps if one.bias is not None]
    _put(tensors, name, torch.cat([one.weight for one in maps]), torch.cat(biases) if biases else None)


def _put(tensors: dict[str, Tensor], name: str, weight: Tensor, bias: Tensor | None) -> None:
    tensors[f"{name}.weight"] = weight
    if bias is not None:
        tensors[f"{name}.bias"] = bias


def _norm(vit: Any, tensors: dict[str, Tensor], name: str, norm: nn.Module) -> NormSpec | None:
    if isinstance(norm, nn.Identity):
        return None
    kind = _NORMS.get(type(norm))
    if kind is None:
        raise _refusal(vit, "LayerNorm or RmsNorm", type(norm).__name__)
    for part in ("weight", "bias"):
        values = getattr(norm, part, None)
        if values is not None:
            tensors[f"{name}.{part}"] = values
    eps: Any = norm.eps
    return {"kind": kind, "eps": float(torch.finfo(torch.float32).eps if eps is None else eps)}


_NORMS: dict[type[nn.Module], str] = {
    **dict.fromkeys((nn.LayerNorm, LayerNorm, LayerNormFp32), "layer"),
    **dict.fromkeys((nn.RMSNorm, RmsNorm, RmsNormFp32), "rms"),
}
_ACTIVATIONS: tuple[tuple[tuple[type[nn.Module], ...], Callable[[Any], str]], ...] = (
    ((nn.GELU, GELU), lambda act: "gelu_tanh" if getattr(act, "approximate", "none") == "tanh" else "gelu"),
    ((GELUTanh,), lambda act: "gelu_tanh"),
    ((QuickGELU,), lambda act: "quick_gelu"),
    ((nn.ReLU,), lambda act: "relu"),
    ((nn.SiLU,), lambda act: "silu"),
)


def _activation(vit: Any, act: Any) -> str:
    for kinds, name in _ACTIVATIONS:
        if type(act) in kinds:
            return name(act)
    raise _refusal(vit, "GELU, QuickGELU, ReLU or SiLU in its FFN", type(act).__name__)


def _check_hooks(model: nn.Module) -> None:
    """What hooks or replaced functions change would be missing in the page."""
    for name, module in model.named_modules():
        if any(_hooks(module)) or "forward" in vars(module):
            raise _refusal(model, "a model without hooks", f"one at {name or 'the model itself'}")


def _hooks(module: nn.Module) -> Iterator[Any]:
    for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
        yield from getattr(module, name).values()


def _refusal(model: nn.Module, expected: str, found: str) -> InvalidOptionError:
    return InvalidOptionError(
        f"{type(model).__name__}: expected {expected}, which a page can run; found {found}. Write the page without "
        "live=True: it shows what was computed here."
    )
