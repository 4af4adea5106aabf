"""Fresh inputs for checkers: small models and pictures that no notebook has seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import tokentm


def small_vit(seed: int) -> nn.Module:
    """A timm VisionTransformer: 3 blocks of 2 heads, 2 x 3 patches of 8 pixels, 5 classes, every weight noticeable."""
    family = type(tokentm.load_demo().model)
    model = family(img_size=(16, 24), patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=5)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scales = "norm" in name and name.endswith("weight")
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + float(scales))
    return model.eval()


def small_images(seed: int, count: int = 2) -> Tensor:
    """A batch of noise that :func:`small_vit` takes, (count, 3, 16, 24)."""
    return torch.randn(count, 3, 16, 24, generator=torch.Generator().manual_seed(seed))
