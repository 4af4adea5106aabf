"""Tiny Vision Transformers that hide nothing: rows differ from columns, every weight and bias is of noticeable size."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from browser import browser
from hypothesis import settings
from playwright.sync_api import Browser, Page
from timm.layers import Attention
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import ParallelScalingBlock, ResPostBlock, VisionTransformer
from torch import Tensor

torch.set_num_threads(1)
# a shell's background jobs ignore interrupts, and a test that waits for one would then wait without end
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("tokentm", derandomize=True, deadline=None)
settings.load_profile("tokentm")

VARIANTS: dict[str, dict[str, Any]] = {
    "class token": {},
    "LayerScale": {"init_values": 0.5},
    "registers": {"reg_tokens": 2, "no_embed_class": True},
    "average": {"global_pool": "avg", "class_token": False},
    "average with prefix": {"global_pool": "avg", "reg_tokens": 1, "pool_include_prefix": True, "fc_norm": False},
    "distilled": {"distilled": True},
    "query and key norm": {"qk_norm": True},
    "no biases": {"qkv_bias": False, "proj_bias": False},
    "pre-norm, rms": {"pre_norm": True, "norm_layer": "rmsnorm"},
    "narrow heads": {"head_width": 5},
    "norm after the heads": {"scale_attn_norm": True, "init_values": 0.5},
    "rms norm after the heads": {"scale_attn_norm": True, "norm_layer": "rmsnorm"},
    "post-norm": {"block_fn": ResPostBlock},
    "norm after the heads, post-norm": {"block_fn": ResPostBlock, "scale_attn_norm": True},
    "attention and FFN in parallel": {"block_fn": ParallelScalingBlock, "init_values": 0.5, "qkv_bias": False},
    "attention pooling": {"global_pool": "map", "class_token": False},
    "attention pooling, registers": {"global_pool": "map", "reg_tokens": 2},
}


def make_vit(
    seed: int = 0,
    *,
    distilled: bool = False,
    head_width: int | None = None,
    cls: type[VisionTransformer] | None = None,
    train: bool = False,
    **options: Any,
) -> VisionTransformer:
    """Two blocks, two heads, 24 wide, five classes, 2 x 3 patches of 8 pixels, unless told otherwise."""
    options = {
        "img_size": (16, 24),
        "patch_size": 8,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 2,
        "num_classes": 5,
        **options,
    }
    model = (cls or (VisionTransformerDistilled if distilled else VisionTransformer))(**options)
    if head_width is not None:
        for block in model.blocks:
            block.attn = Attention(options["embed_dim"], options["num_heads"], head_width, qkv_bias=True)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scales = ".ls" in name or ("norm" in name and name.endswith("weight"))
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + (1.0 if scales else 0.0))
    return model.train(train)


def make_images(model: VisionTransformer, count: int = 2, seed: int = 0, size: tuple[int, int] | None = None) -> Tensor:
    weight = model.patch_embed.proj.weight
    height, width = size or model.patch_embed.img_size
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, model.in_chans, height, width, generator=generator).to(weight.dtype)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., VisionTransformer]:
    """``tiny(seed, **options)``: a new model, which the test may spoil."""
    return make_vit


@pytest.fixture(scope="session")
def images() -> Callable[..., Tensor]:
    """``images(model, count)``: a batch that the model takes."""
    return make_images


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def variant(request: pytest.FixtureRequest) -> VisionTransformer:
    """One new model of every supported kind in turn."""
    return make_vit(**request.param)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests."""
    with browser() as launched:
        yield launched


@pytest.fixture
def chromium_page(chromium: Browser) -> Iterator[Page]:
    """A fresh page of it, in which a test may evaluate what a page of ours may not."""
    page = chromium.new_page(viewport={"width": 1200, "height": 800}, bypass_csp=True)
    yield page
    page.close()


@pytest.fixture(scope="session")
def relative() -> Callable[[Tensor, Tensor], float]:
    """``relative(found, expected)``: the largest difference as a share of the largest expected value."""

    def error(found: Tensor, expected: Tensor) -> float:
        assert found.shape == expected.shape
        found, expected = found.detach(), expected.detach()
        difference = (found - expected).abs().max()
        return 0.0 if difference == 0 else float(difference / expected.abs().max())

    return error
