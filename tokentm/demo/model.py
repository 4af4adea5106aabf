"""The shipped classifiers: their architecture, where their weights lie, and how a picture becomes their input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokentm.demo.scenes import SIZE
from tokentm.demo.sprites import CLASSES

WEIGHTS = Path(__file__).with_name("model.safetensors")
SUSPECT_WEIGHTS = Path(__file__).with_name("suspect.safetensors")
MEAN = STD = (0.5, 0.5, 0.5)

# keyword arguments of timm.create_model: a plain pre-norm ViT with a class token and a 14 x 14 patch grid
ARCHITECTURE: dict[str, Any] = {
    "model_name": "vit_tiny_patch16_224",
    "img_size": SIZE,
    "patch_size": 8,
    "embed_dim": 128,
    "depth": 8,
    "num_heads": 4,
    "mlp_ratio": 3,
    "num_classes": len(CLASSES),
}
