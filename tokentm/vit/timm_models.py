"""timm's columnar Vision Transformers, described. What is not described here is refused."""

from __future__ import annotations

from typing import Any, Literal

from timm.layers import (
    Attention,
    AttentionPoolLatent,
    AttentionPoolPrr,
    AttentionRope,
    HybridEmbed,
    LayerScale,
    PatchEmbed,
)
from timm.models import beit, eva
from timm.models import vision_transformer as plain
from timm.models import vision_transformer_relpos as relpos
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from tokentm.errors import UnsupportedModelError
from tokentm.vit.anatomy import Anatomy, Block, Pooling

FAMILIES = (plain.VisionTransformer, eva.Eva, beit.Beit, relpos.VisionTransformerRelPos)
SUPPORTED = "timm's flat Vision Transformers (vit_*, deit*, beit*, eva*, vit_relpos_*, hybrids with a class token)"

_PRE_NORM = (plain.Block, eva.EvaBlock, beit.Block, relpos.RelPosBlock)
_POST_NORM = (plain.ResPostBlock, eva.EvaBlockPostNorm, relpos.ResPostRelPosBlock)
_ATTENTION = (Attention, AttentionRope, eva.EvaAttention, beit.Attention, relpos.RelPosAttention)
_WHY_NOT: dict[type[nn.Module], str] = {
    plain.ParallelThingsBlock: "it runs several attentions beside each other, each on a norm of its own",
    plain.DiffParallelScalingBlock: "differential attention subtracts two attentions, so its rows do not sum to 1",
    plain.DiffAttention: "differential attention subtracts two attentions, so its rows do not sum to 1",
}


def is_one(model: object) -> bool:
    """Whether this is one of the families or a subclass."""
    return isinstance(model, FAMILIES)


def describe(model: Any) -> Anatomy:
    """The anatomy of one of :data:`FAMILIES`.

    Raises:
        UnsupportedModelError: names the model and the part that differs.
    """
    name = type(model).__name__
    embed = model.patch_embed
    if type(embed) is PatchEmbed:
        patch = embed.patch_size
    elif type(embed) is HybridEmbed:
        patch = embed.feat_ratio(as_scalar=False)
    else:
        raise _refusal(name, "a timm PatchEmbed or HybridEmbed", type(embed).__name__)
    pool = getattr(model, "attn_pool", None)
    blocks = tuple(_block(name, i, block) for i, block in enumerate(model.blocks))
    attentions = [module for module in model.modules() if hasattr(module, "fused_attn")]
    return Anatomy(
        name=name,
        model=model,
        blocks=blocks,
        prefix=1 if isinstance(model, beit.Beit) else model.num_prefix_tokens,
        embedding=embed.proj,
        pooling=_pooling(name, model, pool),
        pool=pool,
        pool_rows="token" if pool is None or pool.pool == "token" else "avg",
        channels=model.in_chans,
        size=None if getattr(model, "dynamic_img_size", False) else tuple(embed.img_size),
        patch=(int(patch[0]), int(patch[1])),
        # recomputation during the backward pass would run where nothing is recorded
        switches=(
            *((module, "fused_attn", True) for module in attentions),
            *((model, "grad_checkpointing", False),),
        ),
        final=getattr(model, "norm", None),
        head=model.head,
    )


def _refusal(model: str, expected: str, found: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"{model} is not supported: expected {expected}, found {found}. Supported are {SUPPORTED}, read out at a "
        "class token, at class and distillation tokens, by average pooling or by attention pooling."
    )


def _pooling(name: str, model: Any, pool: nn.Module | None) -> Pooling | Literal[""]:
    if pool is not None:
        if type(pool) not in (AttentionPoolLatent, AttentionPoolPrr) or pool.pool not in ("token", "avg"):
            raise _refusal(name, "timm's attention pooling", f"{type(pool).__name__}")
        return "attention pooling"
    if isinstance(model, VisionTransformerDistilled):
        return "class and distillation token"
    if model.global_pool == "token":
        return "class token"
    if model.global_pool == "avg":
        return "average of all tokens" if getattr(model, "pool_include_prefix", False) else "average of patches"
    return ""  # how much is read of each token is measured


def _block(name: str, i: int, block: Any) -> Block:
    kind = type(block)
    if kind is plain.ParallelScalingBlock and block.attn_out_proj is not None:
        gamma = _gamma(block.ls)
        stages: tuple[nn.Module | Tensor, ...] = (block.attn_out_proj, *(() if gamma is None else (gamma,)))
        return Block(
            block, block.num_heads, block.in_norm, stages, block.attn_out_proj, None, block.in_norm,
            block.mlp_out_proj, gamma, gamma, parallel=True,
        )  # fmt: skip
    if kind not in (*_PRE_NORM, *_POST_NORM):
        why = f" ({_WHY_NOT[kind]})" if kind in _WHY_NOT else ""
        raise _refusal(name, f"block {i} to be one of timm's plain blocks", f"{kind.__name__}{why}")
    attn = block.attn
    if type(attn) not in _ATTENTION:
        why = f" ({_WHY_NOT[type(attn)]})" if type(attn) in _WHY_NOT else ""
        raise _refusal(name, f"softmax attention in block {i}", f"{type(attn).__name__}{why}")
    if getattr(attn, "gate", None) is not None:
        raise _refusal(
            name, f"nothing but norms and projections after the heads of block {i}",
            "a gate, which transforms a token differently for every token that attends to it",
        )  # fmt: skip
    inner = getattr(attn, "norm", None)
    norms = () if inner is None or isinstance(inner, nn.Identity) else (inner,)
    if kind in _POST_NORM:
        stages = (*norms, attn.proj, block.norm1)
        return Block(block, attn.num_heads, None, stages, block.drop_path1, block.mlp, None, block.drop_path2)
    gamma = block.gamma_1 if hasattr(block, "gamma_1") else _gamma(block.ls1)
    stages = (*norms, attn.proj, *(() if gamma is None else (gamma,)))
    return Block(
        block, attn.num_heads, block.norm1, stages, block.drop_path1, block.norm2, block.norm2, block.drop_path2
    )  # fmt: skip


def _gamma(scale: nn.Module) -> Tensor | None:
    return scale.gamma if isinstance(scale, LayerScale) else None
