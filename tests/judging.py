"""Judge a model of the zoo from outside: does tokentm explain it, and is that right; or does it refuse it, rightly?

Whoever accepts a model is not believed: five checks look at what came out, and none of them is made by tokentm.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from zoo import Specimen, in_order, interpolated, packed, padded

import tokentm
from tokentm import TokenTM, TokenTMError, Trace, record
from tokentm.target import Target
from tokentm.vit import Layout

Kind = Literal["supported", "refused", "shortfall", "wrong", "skipped"]
"""A flat model is supported, or refused, which is a shortfall; any other is refused. Everything else is wrong."""

IDENTITY = 1e-4
"""Largest relative error of what should be the same numbers, added up in another order."""

SAME = 1e-3
"""Largest relative difference between two ways to compute the same."""

_BY_ITSELF = (None, interpolated, packed, padded, in_order)
"""How a model is called that tokentm calls with more than images by itself."""


@dataclass(frozen=True)
class Verdict:
    """What became of one model: the layout of one that is supported, else the reason; and the name of the error."""

    kind: Kind
    detail: str
    error: str = ""


class Called(nn.Module):
    """A model that takes more than images, as people wrap it: images in, logits or features out."""

    def __init__(self, model: nn.Module, specimen: Specimen) -> None:
        super().__init__()
        self.model, self.specimen = model, specimen

    def forward(self, images: Tensor) -> Tensor:
        return self.specimen.numbers(self.specimen.call(self.model, images))


def judge(specimen: Specimen, model: nn.Module | None = None) -> Verdict:
    """Explain one model of the zoo and look at what came out.

    Args:
        model: it, if it has been built.
    """
    if specimen.gpu and not torch.cuda.is_available():
        return Verdict("skipped", "needs a GPU")
    try:
        model = specimen.build() if model is None else model
    except ImportError as error:
        return Verdict("skipped", f"{error}.")
    if specimen.inputs not in _BY_ITSELF:
        model = Called(model, specimen).eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layout, error, wrong = examine(model, specimen.images(), target_of(specimen), _answers(specimen, model))
    except TokenTMError as refusal:
        return Verdict("shortfall" if specimen.flat else "refused", str(refusal), type(refusal).__name__)
    except Exception as crash:  # whatever is no refusal
        return Verdict("wrong", f"raised {type(crash).__name__}: {crash}", type(crash).__name__)
    if not specimen.flat:
        return Verdict("wrong", f"accepted as {in_words(layout, error)}, although {specimen.refused}")
    if (layout.prefix, (layout.rows, layout.columns)) != (specimen.prefix, specimen.grid):
        wrong = [*wrong, f"layout {in_words(layout, error)}, expected {specimen.prefix} + {specimen.grid}"]
    return Verdict("wrong", "; ".join(wrong)) if wrong else Verdict("supported", in_words(layout, error))


def target_of(specimen: Specimen) -> Target:
    """The second class, if there is one; of features the first."""
    return first_feature if specimen.classes is None else min(1, specimen.classes - 1)


def first_feature(features: Tensor) -> Tensor:
    return features[:, 0]


def in_words(layout: Layout, error: float) -> str:
    return f"{layout.prefix} + {layout.rows} x {layout.columns}, identity error {error:.1e}"


def examine(
    model: nn.Module,
    images: Tensor,
    target: Target,
    answers: Callable[[Tensor], Sequence[Tensor]],
    reach: float = 0.0,
) -> tuple[Layout, float, list[str]]:
    """Explain and record a model that tokentm should know, and look at both from outside.

    Args:
        images: two or more.
        answers: the model's own logits or features of images, called plainly; several where it returns several.
        reach: by how many patches a change of pixels may miss the token that moves most; for stems of convolutions.

    Returns:
        how the tokens lie, the largest relative error of the blocks, and what is wrong in words.

    Raises:
        TokenTMError: the model is refused.
    """
    explained = tokentm.explain(model, images, target)
    trace = record(model, images, target)
    with updates_of(trace) as updates:
        own = [one.detach().reshape(len(images), -1) for one in answers(images)]
    error = column_error(trace, updates)
    apart = min((relative(trace.logits, one) for one in own if one.shape == trace.logits.shape), default=float("inf"))
    other_form = relative(explained.scores, TokenTM()(trace).scores)
    alone = relative(tokentm.explain(model, images[:1], target).scores, explained.scores[:1])
    findings = (
        (not error < IDENTITY, f"identity error {error:.1e}"),
        (not apart < SAME, f"logits differ by {apart:.1e}"),
        (not other_form < SAME, f"explain() and the full form differ by {other_form:.1e}"),
        (not alone < SAME, f"an image alone and in a batch differ by {alone:.1e}"),
    )
    wrong = [text for bad, text in findings if bad]
    return trace.layout, error, [*wrong, *misplaced(model, images[0], target, trace.layout, reach)]


@contextmanager
def updates_of(trace: Trace) -> Iterator[list[list[Tensor]]]:
    """What the attention of each block adds to the stream, (B, N, D), while the model is called plainly."""
    assert trace.anatomy is not None
    blocks, found, hooks = trace.anatomy.blocks, [], ExitStack()
    for block in blocks:
        added: list[Tensor] = []
        found.append(added)
        hook = block.update.register_forward_hook(partial(_keep, added, trace, block.scale))
        hooks.callback(hook.remove)
    with hooks:
        yield found


def _keep(added: list[Tensor], trace: Trace, scale: Tensor | None, _module: nn.Module, _args: Any, output: Any) -> None:
    made = output[0] if isinstance(output, (tuple, list)) else output
    batch, tokens, width = trace.embedding.shape
    if made.shape[:2] == (tokens, batch) != (batch, tokens):
        made = made.transpose(0, 1)
    made = made.detach().clone().reshape(batch, -1, width)[:, :tokens]  # without padding behind the patches
    added.append(made if scale is None else made * scale.detach())


def column_error(trace: Trace, updates: Sequence[Sequence[Tensor]]) -> float:
    """Largest relative error of u rebuilt from its heads against the model's own; of x + u = x', x' + f = x''; and of
    x'' against the next x.
    """
    errors = []
    for i, (layer, own) in enumerate(zip(trace.layers, updates, strict=True)):
        rebuilt = layer.rebuilt_update()
        errors += [
            relative(rebuilt, own[0]) if own else float("inf"),
            relative(layer.stream + rebuilt, layer.stream_mid),
            relative(layer.stream_mid + layer.ffn_update, layer.stream_out),
        ]
        if i > 0:
            errors.append(relative(trace.layers[i - 1].stream_out, layer.stream))
    return max(errors)


def misplaced(model: nn.Module, image: Tensor, target: Target, layout: Layout, reach: float) -> list[str]:
    """In words, each corner of the picture (C, H, W) whose change does not move the patch token there most.

    Tokens of a stem that looks aside overlap: there it may be any that looks less than a patch away.
    """
    corners = [(r, c) for r in sorted({0, layout.rows - 1}) for c in sorted({0, layout.columns - 1})]
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(2)).to(image)
    tall, wide = (_patch_of(*pair) for pair in zip(image.shape[1:], (layout.rows, layout.columns), strict=True))
    changed = [image + 3 * noise * ((tall == r)[:, None] & (wide == c)) for r, c in corners]
    embedding = record(model, torch.stack([image, *changed]), target).embedding[:, layout.prefix :]
    moved = (embedding[1:] - embedding[:1]).norm(dim=-1).argmax(1)
    found = []
    for corner, token in zip(corners, moved.tolist(), strict=True):
        place = divmod(token, layout.columns)
        near = (
            (distance := abs(looks + shift - at)) <= reach or (shift != 0 and distance < 1)
            for looks, shift, at in zip(place, layout.offset, corner, strict=True)
        )
        if not all(near):
            found.append(f"a change of patch {corner} moved the token at {place} most")
    return found


def _patch_of(pixels: int, patches: int) -> Tensor:
    """Which row, or column, of patches each row, or column, of pixels belongs to."""
    return torch.arange(pixels) * patches // pixels


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))


def _answers(specimen: Specimen, model: nn.Module) -> Callable[[Tensor], list[Tensor]]:
    def answers(images: Tensor) -> list[Tensor]:
        if isinstance(model, Called):
            return [model(images)]
        output = specimen.call(model, images)
        return [specimen.numbers(output), *(_of_tokens(output) if specimen.classes is None else ())]

    return answers


def _of_tokens(output: Any) -> tuple[Tensor, ...]:
    """A model that returns tokens leaves open which features they are: the first, or their average."""
    tokens = getattr(output, "last_hidden_state", None)
    return (tokens[:, 0], tokens.mean(1)) if isinstance(tokens, Tensor) and tokens.ndim == 3 else ()
