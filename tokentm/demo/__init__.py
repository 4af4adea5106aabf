"""A trained ViT and scenes with known answers, shipped with the package: everything works offline at the first try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torchvision.transforms import v2

from tokentm.demo.model import ARCHITECTURE, MEAN, STD, SUSPECT_WEIGHTS, WEIGHTS
from tokentm.demo.planted import planted_scene
from tokentm.demo.scenes import SIZE, Scene, make_scene
from tokentm.demo.sprites import CLASSES
from tokentm.errors import InvalidOptionError


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


@dataclass(frozen=True)
class Suspect(Demo):
    """A second classifier, for the audit assignment."""

    def scene(self, seed: int, classes: str | list[str] | None = None) -> Scene:
        """A picture as its makers tested it, with one to three objects and their exact masks."""
        return planted_scene(seed, classes)


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

_SHIPPED = {"demo": (Demo, WEIGHTS), "suspect": (Suspect, SUSPECT_WEIGHTS)}


def load_demo(name: Literal["demo", "suspect"] = "demo") -> Demo:
    """The shipped classifier with its classes, its transform and its scene generator; needs no network.

    Args:
        name: "demo"; or "suspect", a second classifier, for the audit assignment.

    Raises:
        InvalidOptionError: another name.

    Example:
        >>> demo = tokentm.load_demo()
        >>> scene = demo.scene(3, classes=["cat", "ball"])
        >>> demo.model(demo.transform(scene.image)[None]).shape
        torch.Size([1, 16])
    """
    if name not in _SHIPPED:
        raise InvalidOptionError(f"expected a shipped classifier among {', '.join(_SHIPPED)}; got {name!r}.")
    kind, weights = _SHIPPED[name]
    model = cast(VisionTransformer, timm.create_model(**ARCHITECTURE, pretrained_cfg_overlay=_PREPROCESSING))
    model.load_state_dict({key: tensor.float() for key, tensor in load_file(weights).items()})
    return kind(model.eval(), list(CLASSES))
