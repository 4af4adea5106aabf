"""Texts as classes: a model of images and texts explained for what a prompt says.

Such a model has no classifier. The similarity of what it makes of an image with what it makes of each prompt takes its
place: cos(image, text) times the model's scale, plus its bias where it has one.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, zero-shot
classification, several prompts of a class averaged; Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV
2023, for models with a bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokentm import answers, vit
from tokentm.errors import InvalidOptionError, InvalidTargetError, UnsupportedModelError
from tokentm.run import Subject
from tokentm.target import Target
from tokentm.vit import Anatomy

Prompts = Sequence[str] | Mapping[str, str | Sequence[str]]
"""One prompt a class, named by itself; or names with one prompt each, or several that are averaged."""


@dataclass(frozen=True, eq=False)
class TextTarget:
    """Prompts that a model's images are compared with; made by :func:`text_target`.

    Attributes:
        names: of the classes.
        features: of their prompts, length 1, (classes, E).
        scale, bias: from cosines to logits.
        meaning: "softmax" where prompts compete, "sigmoid" where each is judged by itself.
        chosen: the class that is explained; None for the one that fits best.
    """

    names: tuple[str, ...]
    features: Tensor
    scale: float
    bias: float
    meaning: Literal["softmax", "sigmoid"]
    chosen: int | None = None

    def logits(self, features: Tensor) -> Tensor:
        """From features of images (B, E) to logits (B, classes)."""
        if not isinstance(features, Tensor) or features.ndim != 2 or features.shape[1] != self.features.shape[1]:
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise UnsupportedModelError(
                f"expected features of images (batch, {self.features.shape[1]}) in the space of the texts; the model "
                f"gave {found}. Explain the model that the texts were made with."
            )
        texts = self.features.to(features)
        return self.scale * F.normalize(features, dim=1) @ texts.T + self.bias

    def __getitem__(self, name: str | int) -> TextTarget:
        """The same, to explain one class, by its name or index.

        Raises:
            InvalidTargetError: no such class.
        """
        index = self.names.index(name) if name in self.names else name
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.names):
            raise InvalidTargetError(f"expected one of {', '.join(map(repr, self.names))}; got {name!r}.")
        return replace(self, chosen=index)

    def classifier(self, model: nn.Module) -> nn.Module:
        """A module from images to logits of these classes, for whoever takes a classifier, such as the evaluation."""
        return TextClassifier(model, self)


class TextClassifier(nn.Module):
    """A model of images and texts with its prompts: images (B, C, H, W) -> logits (B, classes)."""

    features: Tensor

    def __init__(self, model: nn.Module, target: TextTarget) -> None:
        super().__init__()
        self.model, self.target = model, target
        self.train(model.training)

    def forward(self, images: Tensor) -> Tensor:
        return self.target.logits(answers.numbers(vit.guide_of(self.model).call(self.model, images)))


@torch.no_grad()
def text_target(model: nn.Module, tokenizer: Any, prompts: Prompts) -> TextTarget:
    """Make classes of texts, for :func:`tokentm.explain`, :func:`tokentm.record` and ``explore``.

    Args:
        model: of images and texts: Hugging Face's CLIP, MetaCLIP 2, SigLIP, SigLIP 2, AIMv2, or one of open_clip.
        tokenizer: the model's own: a tokenizer or processor of Hugging Face, ``open_clip.get_tokenizer(name)``.
        prompts: texts, each a class; or a dict from class names to a prompt, or to several, which are averaged.

    Returns:
        A :class:`TextTarget`. As it is, it explains for each image the class that fits best; ``target["a cat"]`` that
        class.

    Raises:
        UnsupportedModelError: a model without a text tower that is known.
        InvalidOptionError: no prompts, or something that is no text.

    Example:
        >>> text = tokentm.text_target(clip, tokenizer, {"cat": "a photo of a cat", "dog": "a photo of a dog"})
        >>> tokentm.explain(clip, images, text["dog"])
    """
    groups = _groups(prompts)
    encode = _encoder(model, tokenizer)
    features = [F.normalize(F.normalize(encode(texts), dim=1).mean(0), dim=0) for texts in groups.values()]
    scale, bias = getattr(model, "logit_scale", None), getattr(model, "logit_bias", None)
    return TextTarget(
        names=tuple(groups),
        features=torch.stack(features),
        scale=1.0 if scale is None else float(scale.exp()),
        bias=0.0 if bias is None else float(bias),
        meaning="softmax" if bias is None else "sigmoid",
    )


def _groups(prompts: Prompts) -> dict[str, list[str]]:
    if isinstance(prompts, str) or not isinstance(prompts, (Mapping, Sequence)):
        raise InvalidOptionError(f"expected a list of prompts, or a dict of them by class name; got {prompts!r}.")
    named = prompts.items() if isinstance(prompts, Mapping) else ((text, text) for text in prompts)
    groups = {str(name): [texts] if isinstance(texts, str) else texts for name, texts in named}
    for name, texts in groups.items():
        several = isinstance(texts, Sequence) and len(texts) > 0
        if not several or not all(isinstance(text, str) for text in texts):
            raise InvalidOptionError(f"expected a prompt, or several, for the class {name!r}; got {texts!r}.")
    if not groups:
        raise InvalidOptionError("expected at least one class with a prompt; got none.")
    return {name: list(texts) for name, texts in groups.items()}


def _encoder(model: Any, tokenizer: Any) -> Callable[[list[str]], Tensor]:
    """From texts to features (n, E)."""
    device = next(model.parameters()).device
    if hasattr(model, "get_text_features"):
        processor = getattr(tokenizer, "tokenizer", tokenizer)
        # SigLIP was trained with texts of one length
        padding = "max_length" if "Siglip" in type(model).__name__ else True

        def encode(texts: list[str]) -> Tensor:
            given = processor(texts, padding=padding, truncation=True, return_tensors="pt")
            return answers.numbers(model.get_text_features(**{name: one.to(device) for name, one in given.items()}))

        return encode
    if hasattr(model, "encode_text"):
        return lambda texts: model.encode_text(tokenizer(texts).to(device))
    raise UnsupportedModelError(
        f"expected a model of images and texts (get_text_features of Hugging Face, encode_text of open_clip); got "
        f"{type(model).__name__}. Make tokentm.texts.TextTarget of features of your texts yourself."
    )


@dataclass(frozen=True, eq=False)
class _TextLogits:
    """From what a model returns to logits of prompts."""

    features: Callable[[Any], Any]
    target: TextTarget

    def __call__(self, output: Any) -> Tensor:
        return self.target.logits(self.features(output))


def asked(given: Subject, target: Target | TextTarget) -> tuple[Subject, Target]:
    """With texts for a target, the model as a classifier of its prompts, and the class that is asked for."""
    if not isinstance(target, TextTarget):
        return given, target
    return replace(given, anatomy=with_texts(given.anatomy, target)), target.chosen


def with_texts(anatomy: Anatomy, target: Target | TextTarget) -> Anatomy:
    """The description with prompts for classes, where the target is made of texts."""
    if not isinstance(target, TextTarget):
        return anatomy
    logits = _TextLogits(anatomy.logits, target)
    return replace(anatomy, logits=logits, outputs=target.meaning, class_names=target.names, head=None)
