"""A trained ViT and scenes with known answers, shipped with the package: everything works offline at the first try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torchvision.transforms import v2

from tokentm.demo.model import ARCHITECTURE, MEAN, STD, WEIGHTS
from tokentm.demo.scenes import SIZE, Scene, make_scene
from tokentm.demo.sprites import CLASSES


@dataclass(frozen=True)
class Demo:
    """The shipped classifier.

    Attributes:
        model: timm VisionTransformer in eval mode, float32: 112 x 112 pixels, 14 x 14 patches, a class token.
        classes: names of its classes, in the order of its logits.
    """

    model: VisionTransformer
    classes: list[str]

    def transform(self, image: Image.Image) -> Tensor:
        """A picture as the model takes it: resized and cropped to 112 x 112, normalised, (3, 112, 112)."""
        return _TRANSFORM(image.convert("RGB"))

    def scene(self, seed: int, classes: str | list[str] | None = None) -> Scene:
        """A picture with one to three objects and their exact masks; see :func:`tokentm.demo.scenes.make_scene`."""
        return make_scene(seed, classes)


_TRANSFORM = v2.Compose(
    [
        v2.PILToTensor(),
        v2.Resize(SIZE, antialias=True),
        v2.CenterCrop(SIZE),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
)

# the same for timm.data.create_transform, and so for tokentm.prepare
_PREPROCESSING = {"input_size": (3, SIZE, SIZE), "mean": MEAN, "std": STD, "crop_pct": 1.0, "interpolation": "bilinear"}


def load_demo() -> Demo:
    """The shipped classifier with its classes, its transform and its scene generator; needs no network.

    Example:
        >>> demo = tokentm.load_demo()
        >>> scene = demo.scene(3, classes=["cat", "ball"])
        >>> demo.model(demo.transform(scene.image)[None]).shape
        torch.Size([1, 16])
    """
    model = cast(VisionTransformer, timm.create_model(**ARCHITECTURE, pretrained_cfg_overlay=_PREPROCESSING))
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(WEIGHTS).items()})
    return Demo(model.eval(), list(CLASSES))
