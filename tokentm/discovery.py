"""What a model is: described by its family, through a known model inside of it, or found by running it once.

    model --family, wrapper or search--> Anatomy --run, checked--> ...

Who described a model is not believed more than another: the same checks judge every description.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tokentm import answers, search, vit
from tokentm.errors import InvalidImagesError, ModelFoundWarning, TokenTMError, UnsupportedModelError
from tokentm.hooks import Watched, state_of, structure_of, watched
from tokentm.isolation import isolated
from tokentm.vit import Anatomy

_SIZES = (224, 256, 384, 336, 448, 512, 518, 192, 160, 128, 96, 64, 48, 32, 16, 28)
"""Pixels, in the order in which they are tried where nobody says which size a model takes."""


@dataclass(frozen=True, eq=False)
class _Found:
    """What was found, without the model, which would hold itself.

    Attributes:
        structure, state: how the model was built when it was run, and what it was; modules that did the same when
            weights were fresh need not do so later on.
        guessed: whether it ran on pictures of a size that nobody told.
        anatomy: without the model.
        itself: attributes of it that are the model.
    """

    structure: tuple[Any, ...]
    state: tuple[Any, ...]
    guessed: bool
    anatomy: Anatomy
    itself: tuple[str, ...]

    @classmethod
    def of(cls, structure: tuple[Any, ...], state: tuple[Any, ...], guessed: bool, anatomy: Anatomy) -> _Found:
        itself = tuple(name for name, value in vars(anatomy).items() if value is anatomy.model)
        without: dict[str, Any] = dict.fromkeys(itself)
        return cls(structure, state, guessed, replace(anatomy, **without), itself)

    def in_model(self, model: nn.Module) -> Anatomy:
        whole: dict[str, Any] = dict.fromkeys(self.itself, model)
        return replace(self.anatomy, **whole)


_found: WeakKeyDictionary[nn.Module, _Found] = WeakKeyDictionary()


def describe(model: nn.Module, images: Tensor | None = None) -> Anatomy:
    """Which modules of a model make its stream, its attention and its answer, and how its tokens lie on the picture.

    A model of a known family, of timm, torchvision, Hugging Face or :func:`register`, is described by it. A wrapper
    around one is described through it. What no family knows is run once, and searched for modules whose numbers make
    up a column of blocks, x + attention(x) = x', x' + ffn(x') = x''. What was found is told as a warning, once for a
    model that is built as before, and judged by the checks of every run. Changed weights are looked at again.

    Args:
        model: in eval mode.
        images: (B, C, H, W) that it takes; None tries the sizes that its configuration names, then common ones.

    Returns:
        an :class:`Anatomy`; ``print`` shows it in words. ``dataclasses.replace`` changes what is wrong, for
        ``tokentm.explain(model, images, anatomy=...)``.

    Raises:
        UnsupportedModelError: the model is no column of blocks over one token sequence; says what was found instead.
        InvalidImagesError: images that no model takes, or not those of its weights' dtype and device.

    Example:
        >>> print(tokentm.describe(tokentm.load_demo().model))
        VisionTransformer: 8 blocks of 4 heads, 1 token before the patches of 8 x 8 pixels.
    """
    if vit.family_of(model) is not None:
        return vit.inspect(model)
    vit.check_kind(model)
    vit.check_mode(model, type(model).__name__)
    structure, state = structure_of(model), state_of(model)
    known = _found.get(model)
    same = known is not None and (known.structure, known.state) == (structure, state)
    if known is not None and same and (images is None or not known.guessed):
        return known.in_model(model)
    if next(model.parameters(), None) is None:
        raise UnsupportedModelError(
            f"{type(model).__name__}: expected a model with attention layers; found one without any parameter."
        )
    if images is not None:
        vit.check_images(_unknown(model, images), images)
    found = isolated(lambda: _found_by_running(model, images))
    _found[model] = _Found.of(structure, state, images is None, found)
    if known is None or known.structure != structure:
        _tell(f"{found} Found by running it once; look at print(tokentm.describe(model)).")
    return found


def _unknown(model: nn.Module, images: Tensor) -> Anatomy:
    """As much of a description as the look at images needs."""
    channels = images.shape[1] if isinstance(images, Tensor) and images.ndim == 4 else 3
    return Anatomy(model=model, blocks=(), prefix=0, embedding=None, patch=(1, 1), channels=channels)


def _found_by_running(model: nn.Module, images: Tensor | None) -> Anatomy:
    inside = _inside(model)
    if images is not None:
        pair = images[:2] if len(images) > 1 else torch.cat((images, images.flip(3)))
        try:
            return _from_pass(model, inside, pair.detach().clone())
        except TokenTMError:
            raise
        except Exception as error:
            raise UnsupportedModelError(
                f"{type(model).__name__}: expected a model that answers images {tuple(pair.shape)}; it raised "
                f"{type(error).__name__}: {error}. If it takes another size, resize them."
            ) from error
    reasons = []
    for pair in _pictures(model, inside):
        try:
            return _from_pass(model, inside, pair)
        except InvalidImagesError as error:
            reasons.append(str(error))
        except TokenTMError:
            raise
        except Exception as error:  # whatever a model says of a size that it does not take
            reasons.append(f"{tuple(pair.shape)}: {type(error).__name__}: {error}")
    raise UnsupportedModelError(
        f"{type(model).__name__}: expected a model that takes images (batch, channels, height, width) of a common "
        f"size; found none that it takes ({reasons[0] if reasons else 'it has no parameters'}). Pass images as a "
        "tensor, or describe it: anatomy=tokentm.Anatomy(model, ...)."
    )


def _from_pass(model: nn.Module, inside: tuple[str, Anatomy] | None, pair: Tensor) -> Anatomy:
    guide = vit.guide_of(model)
    switches = guide.switches if inside is None else (*inside[1].switches, *guide.switches)
    seen = watched(model, guide.call, pair, switches)
    if search.needs_gradients(seen):
        seen = watched(model, guide.call, pair, switches, keeps_tensors=True)
    if inside is None:
        found = search.find(model, seen, pair, type(model).__name__)
    else:
        found = _around(model, inside, seen, pair)
    return guide.complete(replace(found, call=guide.call, switches=switches, told_by="search"))


def _inside(model: nn.Module) -> tuple[str, Anatomy] | None:
    """The outermost model of a known family inside, and its path."""
    for path, module in model.named_modules():
        if path and vit.family_of(module) is not None:
            return path, vit.inspect(module)
    return None


def _around(model: nn.Module, inside: tuple[str, Anatomy], seen: Watched, pair: Tensor) -> Anatomy:
    """The description of a model through one that it holds, and runs."""
    path, inner = inside
    called = {one.module for one in seen.calls}
    name = type(model).__name__
    if inner.blocks[0].entry not in called:
        raise UnsupportedModelError(
            f"{name} holds a {inner.name} at model.{path}, but does not run its blocks. Explain what it runs."
        )
    grids = [one.made for one in seen.calls if one.module is inner.embedding and one.made is not None]
    patch = inner.patch
    if len(grids) == 1 and len(grids[0].shape) == 4:
        rows, columns = grids[0].shape[2:]
        if pair.shape[2] % rows == 0 and pair.shape[3] % columns == 0:
            patch = pair.shape[2] // rows, pair.shape[3] // columns
    stream = next(one.given for one in seen.calls if one.module is inner.blocks[0].entry)
    head = answers.head_of(seen, 0 if stream is None else stream.shape[-1])
    hands_on = head is not None and inner.head is not None and head in inner.head.modules() and not inner.headless
    return replace(
        inner,
        model=model,
        name=name,
        patch=patch,
        pool=inner.pool if inner.pool in called else None,
        channels=pair.shape[1],
        size=inner.size if patch == inner.patch else None,
        logits=answers.numbers,
        outputs=inner.outputs if hands_on else None,  # what the classifier inside said is what the wrapper says
        class_names=inner.class_names if hands_on else None,
        head=head,
        within=path,
    )


def likely_channels(model: nn.Module) -> int:
    """How many channels the pictures have that a model takes: as its first convolution."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return 3 if first is None or first.groups > 1 else first.in_channels


def _pictures(model: nn.Module, inside: tuple[str, Anatomy] | None) -> list[Tensor]:
    """Pairs of pictures of noise to try, of the likeliest size first."""
    weight = next(model.parameters(), None)
    if weight is None:
        return []
    sizes = [(side, side) for side in _SIZES]
    channels = likely_channels(model)
    if inside is not None:
        channels = inside[1].channels
        patch = inside[1].patch
        sizes = [inside[1].size or (224 // patch[0] * patch[0], 224 // patch[1] * patch[1]), *sizes]
    else:
        sizes = [*vit.guide_of(model).sizes, *sizes]
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, channels, *size, generator=generator).to(weight) for size in dict.fromkeys(sizes)]


def _tell(text: str) -> None:
    """Warn where the user called from."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] in _OURS:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, ModelFoundWarning, stacklevel=level)


_OURS = ("tokentm", "tokentm_widgets")
