"""Random calls of explain and record, each judged by something else than the library.

    python tests/fuzz.py --calls 6000 --seed 0

A call puts together a model, pictures, a target, a method and surroundings, right ones and wrong ones. Right is: where
all parts are right, the map of the loop-written reference in float64; where a part is wrong, a TokenTMError. After
every call the model and the thread must be as they were.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import reference
import rivals_reference as rivals
import torch
from conftest import VARIANTS, make_images, make_vit
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

import tokentm
from tokentm import TokenTM
from tokentm.methods import ABLATIONS, METHODS

TOLERANCE = 2e-3
"""Relative, of a float32 map against the float64 reference."""

ROUNDED = 2e-2
"""At most so far where the same map in float64 is the reference's to 1e-6."""

READINGS = {
    name: method
    for name, method in (METHODS | ABLATIONS).items()
    if isinstance(method, TokenTM) and not method.reruns_model
}
BY_LAYER = {
    "gradient_rollout": rivals.gradient_rollout,
    "generic_attention": rivals.generic_attention,
    "grad_cam": rivals.grad_cam,
    "rollout": reference.rollout,
    "attention": reference.raw_attention,
}
BY_MODEL = {
    "attcat": lambda model, pixels, target, passes: rivals.attcat(model, pixels, target, passes)[:, -1],
    "tam": rivals.tam,
    "legrad": lambda model, pixels, target, _: rivals.legrad(model, pixels, target)[:, -1],
    "input_x_gradient": lambda model, pixels, target, _: rivals.input_x_gradient(model, pixels, target, patch=8),
    "transformer_attribution": lambda model, pixels, target, passes: rivals.transformer_attribution(
        model, pixels, target, passes
    )[:, -1],
}


class ColumnOrder(VisionTransformer):
    """Orders its patches by columns."""

    def _pos_embed(self, x: Tensor) -> Tensor:
        x = super()._pos_embed(x)
        rows, columns = self.patch_embed.grid_size
        patches = x[:, 1:].unflatten(1, (rows, columns)).transpose(1, 2).flatten(1, 2)
        return torch.cat((x[:, :1], patches), 1)


class Flipped(VisionTransformer):
    """Flips its patches."""

    def _pos_embed(self, x: Tensor) -> Tensor:
        x = super()._pos_embed(x)
        return torch.cat((x[:, :1], x[:, 1:].flip(1)), 1)


class Skipping(VisionTransformer):
    """Reads the first block beside the last."""

    def forward(self, x: Tensor) -> Tensor:
        kept: list[Tensor] = []
        handle = self.blocks[0].register_forward_hook(lambda _module, _args, output: kept.append(output))
        try:
            last = self.forward_features(x)
        finally:
            handle.remove()
        return self.head(last[:, 0] + kept[-1][:, 0])


class BatchMean(VisionTransformer):
    """Subtracts the mean of the batch from its features."""

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = x[:, 0]
        return self.head(x - 0.5 * x.mean(0, keepdim=True))


class Weighted(VisionTransformer):
    """Averages its patches with weights of its own."""

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        x = x[:, self.num_prefix_tokens :]
        share = torch.arange(1, x.shape[1] + 1).to(x)
        return (share[:, None] * x).sum(1) / share.sum()


def hooked(path: str, change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module], None]:
    def spoil(model: nn.Module) -> None:
        model.get_submodule(path).register_forward_hook(lambda _module, _args, output: change(output))

    return spoil


def in_place_of_head(head: nn.Module) -> Callable[[nn.Module], None]:
    def spoil(model: nn.Module) -> None:
        model.head = head

    return spoil


SPOILED: dict[str, tuple[dict[str, Any], Callable[[nn.Module], Any]]] = {
    "column order": ({"cls": ColumnOrder}, lambda _: None),
    "flipped": ({"cls": Flipped}, lambda _: None),
    "skipping": ({"cls": Skipping}, lambda _: None),
    "attention scaled": ({}, hooked("blocks.1.attn", lambda out: out * 1.01)),
    "stream shifted": ({}, hooked("blocks.0", lambda out: out + 0.05)),
    "embedding flipped": ({}, hooked("patch_embed", lambda out: out.flip(1))),
    "dropout in training": ({"proj_drop_rate": 0.2}, lambda model: model.train()),
    "half precision": ({}, lambda model: model.half()),
    "NaN weights": ({}, lambda model: nn.init.constant_(model.head.bias, torch.nan)),
    "zero head": ({}, lambda model: nn.init.zeros_(model.head.weight)),
    "no model": ({}, None),
    "two views": ({}, None),
}
"""Models that must be refused whatever is asked of them."""


@dataclass
class Call:
    """One call, and what is known about it."""

    model: Any
    images: Any
    target: Any
    method: Any
    surroundings: str
    right: bool
    words: str
    pixels: Tensor | None = None
    targets: list[Any] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


@cache
def good_model(name: str) -> VisionTransformer:
    if name == "weighted average":
        return make_vit(cls=Weighted, global_pool="avg", class_token=False, fc_norm=False)
    if name == "new head on num_classes=0":
        model = make_vit(num_classes=0)
        model.head = nn.Linear(24, 5)
        with torch.no_grad():
            model.head.weight.copy_(torch.randn(5, 24, generator=torch.Generator().manual_seed(1)))
        return model
    if name == "wrapped":
        return Wrapping(make_vit()).eval()
    model = make_vit(**VARIANTS[name])
    return model.requires_grad_(len(name) % 2 == 0)


GOOD = [*VARIANTS, "weighted average", "new head on num_classes=0", "wrapped"]


class Wrapping(nn.Module):
    """Hands its images on to the model that it holds."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.in_chans = inner.in_chans

    @property
    def patch_embed(self) -> Any:
        return self.inner.patch_embed

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


class TwoViews(nn.Module):
    """Answers with the average over a picture and its mirror image."""

    def __init__(self) -> None:
        super().__init__()
        self.model = make_vit()

    def forward(self, images: Tensor) -> Tensor:
        return (self.model(images) + self.model(images.flip(3))) / 2


@cache
def spoiled_model(name: str) -> Any:
    if name == "no model":
        return nn.Linear(3, 3)
    if name == "two views":
        return TwoViews()
    options, spoil = SPOILED[name]
    model = make_vit(**options)
    with torch.no_grad():
        spoil(model)
    return model


@cache
def passes_of(name: str, seed: int, count: int, targets: tuple[Any, ...]) -> Any:
    model = good_model(name)
    model = model.inner if name == "wrapped" else model
    passes = reference.run(model, make_images(model, count, seed), list(targets))
    if name == "weighted average":  # the reference averages evenly
        shares = [share / 21 for share in range(1, 7)]
        raise NotImplementedError(shares)
    return passes


def contrast(logits: Tensor) -> Tensor:
    return 2 * logits[:, 1] - logits[:, 3]


def in_place(logits: Tensor) -> Tensor:
    return logits.mul_(0.5)[:, 2]


GOOD_TARGETS: dict[str, Callable[[random.Random, int], tuple[Any, list[Any]]]] = {
    "class": lambda draw, count: (c := draw.randrange(5), [c] * count),
    "numpy class": lambda draw, count: (np.int64(c := draw.randrange(5)), [c] * count),
    "a class each": lambda draw, count: (cs := [draw.randrange(5) for _ in range(count)], cs),
    "a tensor": lambda draw, count: (torch.tensor(cs := [draw.randrange(5) for _ in range(count)]), cs),
    "contrast": lambda _, count: (contrast, [contrast] * count),
    "in place": lambda _, count: (in_place, [in_place] * count),
}
BAD_TARGETS: dict[str, Any] = {
    "out of range": 5,
    "negative": -1,
    "huge": 10**20,
    "text": "cat",
    "bool": True,
    "too many": [0] * 9,
    "fraction": 1.5,
    "detached": lambda logits: logits[:, 0].detach(),
    "raises": lambda logits: logits[:, 99],
    "wrong shape": lambda logits: logits,
    "constant": lambda logits: torch.ones(len(logits)),
    "not finite": lambda logits: logits[:, 0] / 0,
    "set": {1},
}
BAD_IMAGES: dict[str, Callable[[Tensor], Any]] = {
    "NaN": lambda x: x * torch.nan,
    "integers": lambda x: (x * 50).byte(),
    "one dimension less": lambda x: x[0],
    "none": lambda x: x[:0],
    "another size": lambda x: x[..., :-1],
    "one channel": lambda x: x[:, :1],
    "float64": lambda x: x.double(),
    "sparse": lambda x: x.to_sparse(),
    "array": lambda x: x.numpy(),
    "text": lambda _: "no such file.png",
    "empty list": lambda _: [],
    "number": lambda _: 7,
    "32-bit picture": lambda _: Image.new("I", (24, 16), 70000),
    "float picture": lambda _: Image.new("F", (24, 16), 0.5),
    "empty picture": lambda _: Image.new("RGB", (0, 5)),
    "directory": lambda _: "/",
}
BAD_METHODS: dict[str, Any] = {
    "unknown": "tokenm",
    "a class": TokenTM,
    "a list": ["tokentm"],
    "returns nothing": lambda _trace: None,
    "none": None,
}
SURROUNDINGS: dict[str, Callable[[], Any]] = {
    "nothing": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "enable_grad": torch.enable_grad,
}


def transform_of(pixels: Tensor) -> Callable[[Image.Image], Tensor]:
    """Stands for a transform: the picture's red says which image of the batch it is."""

    def transform(picture: Image.Image) -> Tensor:
        return pixels[picture.getpixel((0, 0))[0]]

    return transform


def draw_call(draw: random.Random) -> Call:
    """A call, right in every part with about even odds."""
    wrong = draw.choice(["nothing"] * 6 + ["model", "model", "images", "target", "target", "method", "mixing"])
    name, seed, count = draw.choice(GOOD), draw.randrange(4), draw.randint(1, 3)
    surroundings = draw.choice(list(SURROUNDINGS))
    model = good_model(name)
    pixels = make_images(model, count, seed)
    kind = draw.choice(list(GOOD_TARGETS))
    target, targets = GOOD_TARGETS[kind](draw, count)
    names = [*READINGS, *READINGS, *BY_LAYER, *(BY_MODEL if not callable(target) else ()), "random"]
    method: Any = draw.choice(names)
    images: Any = pixels
    options: dict[str, Any] = {}
    shape = draw.choice(["tensor", "channels last", "requires gradient", "pictures", "inference"])
    if shape == "channels last":
        images = pixels.contiguous(memory_format=torch.channels_last)
    elif shape == "requires gradient":
        images = pixels.clone().requires_grad_()
    elif shape == "inference":
        with torch.inference_mode():
            images = pixels.clone()
    elif shape == "pictures":
        images = [Image.new("RGB", (24, 16), (i, 0, 0)) for i in range(count)]
        options["transform"] = transform_of(pixels)
    words = f"{name}; {shape} x {count}; {kind}; {method}; {surroundings}"
    if wrong == "model":
        bad = draw.choice(list(SPOILED))
        model, words = spoiled_model(bad), f"{bad} model; {words}"
        if images is not pixels:
            images, options = pixels, {}
    elif wrong == "images":
        bad = draw.choice(list(BAD_IMAGES))
        images, words, options = BAD_IMAGES[bad](pixels), f"{bad} images; {words}", {}
    elif wrong == "target":
        bad = draw.choice(list(BAD_TARGETS))
        target, words = BAD_TARGETS[bad], f"{bad} target; {words}"
    elif wrong == "method":
        bad = draw.choice(list(BAD_METHODS))
        method, words = BAD_METHODS[bad], f"{bad} method; {words}"
    elif wrong == "mixing":
        if count == 1:
            wrong = "nothing"
        elif draw.random() < 0.5:
            model, words = mixing_model(), f"batch mean; {words}"
            pixels = make_images(model, count, seed)
            images, options = pixels, {}
        else:
            target, words = draw.choice(
                [
                    (lambda z: (z / z.norm())[:, 0], f"norm of all; {words}"),
                    (lambda z: z[:, 0] * z.flip(0)[:, 1], words),
                ]
            )
    return Call(
        *(model, images, target, method, surroundings, wrong == "nothing", words, pixels, targets),
        options=options | {"n": name, "s": seed},
    )


@cache
def mixing_model() -> nn.Module:
    return make_vit(cls=BatchMean)


def expected(call: Call) -> Tensor | None:
    """The map by the reference, (B, P); None where only finiteness can be asked for."""
    name, seed = call.options["n"], call.options["s"]
    if call.method == "random" or (name == "weighted average" and call.method in BY_MODEL):
        return None
    assert call.pixels is not None
    model = good_model(name)
    if name == "weighted average":
        passes = weighted_passes(model, call.pixels, call.targets)
    else:
        passes = passes_of(name, seed, len(call.pixels), tuple(call.targets))
    if call.method in READINGS:
        reading = READINGS[call.method]
        return reference.tokentm(passes, **vars(reading))[:, -1]
    if call.method in BY_LAYER:
        return BY_LAYER[call.method](passes)[:, -1]
    inner = model.inner if isinstance(model, Wrapping) else model
    return BY_MODEL[call.method](deep(inner), call.pixels.double(), call.targets, passes)


def weighted_passes(model: Any, pixels: Tensor, targets: list[Any]) -> Any:
    """The reference averages evenly: here the gradient comes from the model, the readout from what it is made of."""
    double = deep(model)
    found = []
    for image, target in zip(pixels.double(), targets, strict=True):
        x = double.norm_pre(double._pos_embed(double.patch_embed(image[None])))[0]
        layers = []
        for block in double.blocks:
            layers.append(reference._run_block(block, x))
            x = layers[-1].out
        final = double.norm(x)
        shares = [share / 21 for share in range(1, 7)]
        logits = double.head(double.fc_norm(sum(share * token for share, token in zip(shares, final, strict=True))))
        score = target(logits[None].clone())[0] if callable(target) else logits[target]
        gradients = iter(torch.autograd.grad(score, [a for layer in layers for a in layer.attention]))
        for layer in layers:
            layer.gradient = [next(gradients) for _ in layer.attention]
        found.append(reference.Pass(layers, logits.detach(), shares, 0))
    return found


def deep(model: nn.Module) -> Any:
    from copy import deepcopy

    return deepcopy(model).double().eval().requires_grad_()


def state(model: Any) -> Any:
    """What a call might leave behind, on the model and in this thread."""
    modules = list(model.modules())
    return (
        [(p.requires_grad, p.grad is None, p._version, p.data_ptr()) for p in model.parameters()],
        [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), m.training) for m in modules],
        [sorted(vars(m)) for m in modules],
        [vars(m).get("fused_attn") for m in modules],
        len(_get_current_function_mode_stack()),
        (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        (torch.get_default_dtype(), torch.get_rng_state().sum().item()),
    )


def outcome(call: Call) -> str:
    """Make the call, and judge it."""
    options = {name: value for name, value in call.options.items() if name == "transform"}
    before = state(call.model)
    error: Exception | None = None
    found: Any = None
    with ExitStack() as stack:
        stack.enter_context(SURROUNDINGS[call.surroundings]())
        try:
            found = tokentm.explain(call.model, call.images, call.target, call.method, **options)
        except Exception as raised:
            error = raised
    if state(call.model) != before:
        return "model or thread changed"
    if error is not None:
        if not isinstance(error, tokentm.TokenTMError):
            return f"other exception: {type(error).__name__}: {error}"
        if "Weighted: expected functions with a rule of relevance propagation" in str(error):
            return "refused"  # its pooling calls a sum, for which the method has no rule
        if call.right and "cancel to rounding" in str(error):
            truth = expected(call)
            return (
                "refused"
                if truth is not None and truth.abs().amax(1).min() < 1e-5
                else f"refused, though right: {error}"
            )
        return "refused" if not call.right else f"refused, though right: {type(error).__name__}: {error}"
    if not call.right:
        return "explained, though wrong"
    if found.scores.dtype != torch.float32 or not torch.isfinite(found.scores).all():
        return f"silently wrong: {found.scores.dtype}, or not finite"
    truth = expected(call)
    if truth is None:
        return "right"
    gap = torch.linalg.vector_norm(found.scores.double() - truth) / torch.linalg.vector_norm(truth).clamp(min=1e-12)
    if gap < TOLERANCE or (gap < ROUNDED and right_in_float64(call, truth)):
        return "right"
    return f"silently wrong: off by {float(gap):.2g}"


def right_in_float64(call: Call, truth: Tensor) -> bool:
    """Whether only rounding parts a map from the truth: a rule that divides by small sums makes much of it."""
    assert call.pixels is not None
    target = call.targets[0] if callable(call.targets[0]) else call.targets
    found = tokentm.explain(deep(good_model(call.options["n"])), call.pixels.double(), target, call.method).scores
    return bool(torch.linalg.vector_norm(found - truth) < 1e-6 * torch.linalg.vector_norm(truth))


GOOD_OUTCOMES = ("right", "refused")


def run(calls: int, seed: int, report: Callable[[str], None] = print) -> Counter[str]:
    """Make random calls; the counts of their outcomes. What is not as it should be is reported at once."""
    draw, counts = random.Random(seed), Counter[str]()
    for number in range(calls):
        call = draw_call(draw)
        result = outcome(call)
        counts[result.split(":")[0]] += 1
        if result not in GOOD_OUTCOMES:
            report(f"call {number}: {result} [{call.words}]")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts = run(options.calls, options.seed)
    print(dict(counts))
    return 0 if set(counts) <= set(GOOD_OUTCOMES) else 1


if __name__ == "__main__":
    sys.exit(main())
