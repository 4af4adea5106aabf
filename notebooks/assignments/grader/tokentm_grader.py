"""The hidden tests of the assignments. Stays with those who grade: what students get does not hold it.

A notebook imports ``holds`` and asserts one line, so a feedback page shows that a test failed and not what it asked.
``holds(name, answer)`` asks again what ``tokentm.teaching.check`` asks; ``holds(name + "/more", answer)`` asks further,
with other inputs. Change SEED before a course, and nobody has seen the numbers.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import replace
from functools import cache
from io import StringIO
from types import SimpleNamespace
from typing import Any

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import tokentm
from tokentm.evaluation import Removal, perturbation
from tokentm.teaching import GRADED
from tokentm.teaching.core import Exercise, Property, examine, same, tensor
from tokentm.teaching.fresh import small_images, small_vit
from tokentm.teaching.watch import Work

SEED = 41
WRONG = "no"  # nobody reads it: a hidden test says yes or no

Answer = Callable[..., Any]


def holds(name: str, answer: Any) -> bool:
    """Does the answer pass these tests? Never raises: what it would raise stands in the feedback, with its lines.

    Warnings are swallowed, since nbgrader gives no points to a cell that writes to stderr.
    """
    with redirect_stderr(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return examine(_exercise(name), answer).right
        except Exception as error:  # the student's own are caught in examine, so this is a fault of the tests
            print(f"The test itself failed ({type(error).__name__}). Please tell your instructor.")
            return False


def _exercise(name: str) -> Exercise:
    public = GRADED[name.removesuffix("/more")]
    if not name.endswith("/more"):
        return public
    # the public part once more, so that the further tests meet answers of the right kind only
    return replace(public, properties=(*public.properties, _MORE[name.removesuffix("/more")]))


def _random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED + seed), dtype=dtype)


def _is(found: Any, wanted: Tensor, tolerance: float = 1e-4) -> bool:
    return same(tensor(found, tuple(wanted.shape), ""), wanted, tolerance)


# assignment 1


def _compare(answer: Answer) -> str | None:
    for seed, (batch, heads, count, width, narrow) in enumerate(((1, 1, 1, 3, 3), (2, 6, 9, 48, 8), (5, 2, 30, 16, 2))):
        token, value, projection = (
            _random(*shape, seed=seed, dtype=torch.float64)
            for shape in ((batch, count, width), (batch, heads, count, narrow), (heads, width, narrow))
        )
        made = torch.einsum("bhjd,hDd->bhjD", value, projection)
        wanted = torch.stack(
            (made.norm(dim=-1) / token.norm(dim=-1)[:, None], torch.cosine_similarity(token[:, None], made, dim=-1))
        )
        if not _is(answer(token * 1e3, value * 1e3, projection), wanted, 1e-8):
            return WRONG
    return None


def _frugal(answer: Answer) -> str | None:
    token, value, projection = _random(2, 60, 96), _random(2, 6, 60, 4), _random(6, 96, 4)
    with Work() as work:
        answer(token, value, projection)
    return WRONG if work.largest > token.numel() else _compare(answer)


def _weight(answer: Answer) -> str | None:
    for seed, shape in enumerate(((197,), (4, 50), (2, 3, 197), (1, 1, 1))):
        ratio, cosine = _random(*shape, seed=seed).abs(), _random(*shape, seed=seed + 9).tanh()
        ratio.view(-1)[0] = 0
        if not _is(answer(ratio, cosine), ratio * cosine.softmax(-1)):
            return WRONG
    return None


def _mix(answer: Answer) -> str | None:
    for seed, (batch, heads, count) in enumerate(((1, 1, 1), (4, 2, 9), (1, 12, 20))):
        attention = _random(batch, heads, count, count, seed=seed).softmax(-1)
        weight, gradient = _random(batch, heads, count, seed=seed).abs(), _random(*attention.shape, seed=seed + 9)
        gradient[..., 0] = 0
        if not _is(answer(attention, weight, gradient), (gradient * attention * weight[:, :, None]).relu().mean(1)):
            return WRONG
    return None


def _fold(answer: Answer) -> str | None:
    for seed, (batch, count, width, depth) in enumerate(((4, 3, 2, 7), (1, 9, 5, 4))):
        embedding = _random(batch, count, width, seed=seed)
        mixings = [_random(batch, count, count, seed=10 * seed + i).abs() / count for i in range(depth)]
        weights = [_random(batch, count, seed=30 * seed + i).abs() for i in range(depth)]
        wanted = embedding.norm(dim=-1).diag_embed()
        for mixing, weight in zip(mixings, weights, strict=True):
            wanted = (1 + weight)[..., None] * (wanted + mixing @ wanted)
        if not _is(answer(embedding, mixings, weights), wanted):
            return WRONG
    return None


@cache
def _traces() -> tuple[tokentm.Trace, ...]:
    """Records of models that read out differently: registers, averages, a distillation token; LayerScale; no square."""
    options: tuple[dict[str, Any], ...] = (
        {"reg_tokens": 2, "no_embed_class": True, "init_values": 0.5},
        {"global_pool": "avg", "class_token": False},
        {"global_pool": "avg", "reg_tokens": 1, "pool_include_prefix": True, "fc_norm": False},
        {"distilled": True, "qkv_bias": False},
        {"img_size": (32, 8), "qk_norm": True, "depth": 1},
    )
    traces = []
    for seed, chosen in enumerate(options):
        given = {"img_size": (16, 24), "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 5}
        given |= chosen
        family = VisionTransformerDistilled if given.pop("distilled", False) else VisionTransformer
        model = family(**given)
        generator = torch.Generator().manual_seed(SEED + seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                scales = ".ls" in name or ("norm" in name and name.endswith("weight"))
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + float(scales))
        images = _random(3, 3, *model.patch_embed.img_size, seed=seed)
        traces.append(tokentm.record(model.eval(), images, lambda logits: logits[:, 1] - logits[:, 3]))
    return tuple(traces)


def _scores(answer: Answer) -> str | None:
    agreed = all(_is(answer(trace), tokentm.TokenTM()(trace).scores, 1e-5) for trace in _traces())
    return None if agreed else WRONG


def _stream(answer: Answer) -> str | None:
    for trace in _traces():
        count = trace.layout.tokens
        with Work() as work:
            answer(trace)
        if (count, count, count) in work.products:
            return WRONG
    return _scores(answer)


def _test(answer: Answer) -> str | None:
    wrong: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
        lambda r, c: r.clamp(max=1) * c.softmax(-1),
        lambda r, c: r.sqrt() * c.softmax(-1),
        lambda r, c: r * (c * math.log(2)).softmax(-1),
        lambda r, c: r * c.clamp(min=0).softmax(-1),
        lambda r, c: r.roll(1, -1) * c.softmax(-1),
        lambda r, c: (r * c.softmax(-1)).mean(-1, keepdim=True).expand_as(r),
    )
    right = (lambda r, c: 3 * r * c.exp() / c.exp().mean(-1, keepdim=True),)
    passed = all(answer(weight) for weight in right) and not any(answer(weight) for weight in wrong)
    return None if passed else WRONG


# assignment 2


def _share(answer: Answer) -> str | None:
    heat = _random(5, 9, 4).abs()
    mask = _random(5, 9, 4, seed=1) > 0.3
    mask[0] = False
    return None if _is(answer(heat, mask), (heat * mask).sum((1, 2)) / heat.sum((1, 2))) else WRONG


def _outside(answer: Answer) -> str | None:
    scores, covered = _random(6, 50), _random(6, 50, seed=1).clamp(min=0)
    covered[0] = 0.001
    covered[0, 17] = 0
    wanted = scores.masked_fill(covered > 0, -torch.inf).argmax(1)
    return None if _is(answer(scores, covered), wanted) else WRONG


def _paste(answer: Answer) -> str | None:
    for seed, (side, cue_side) in enumerate(((30, 7), (6, 6), (15, 1))):
        image, cue = _random(3, side, side + 2, seed=seed), 20 + _random(3, cue_side, cue_side, seed=seed + 9)
        mask = torch.ones(side, side + 2, dtype=torch.bool)
        top, left = side - cue_side, 2  # the one place that hides nothing
        window = (slice(top, top + cue_side), slice(left, left + cue_side))
        mask[window] = False
        wanted = image.clone()
        wanted[(slice(None), *window)] = cue
        if not _is(answer(image, mask, cue), wanted):
            return WRONG
    return None


def _flips(answer: Answer) -> str | None:
    for target in (0, 15):
        before, after = _random(200, 16, seed=target), _random(200, 16, seed=target + 1)
        after[:80, target] += 9
        wanted = (after.argmax(1) == target)[before.argmax(1) != target].float().mean()
        if not _is(torch.as_tensor(answer(before, after, target)), wanted):
            return WRONG
    return None


# assignment 3


def _rank(answer: Answer) -> str | None:
    scores = _random(8, 196).mul(3).round()  # many ties, in every row others
    for seed in (SEED, SEED + 1):
        order = tensor(answer(scores, seed), (8, 196), "").long()
        if not torch.equal(order.sort(1).values, torch.arange(196).expand(8, -1)):
            return WRONG
        if not torch.equal(scores.gather(1, order), scores.sort(1, descending=True).values):
            return WRONG
    flat = torch.stack([tensor(answer(torch.full((1, 30), 3.0), seed), (1, 30), "")[0] for seed in range(300)])
    return None if (flat.mean(0) - 14.5).abs().max() < 3 else WRONG


def _additive(gives: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gone: torch.stack((torch.zeros(len(gone)), (gives * ~gone).sum(1)), dim=1)


def _deletion(answer: Answer) -> str | None:
    for seed, (batch, patches) in enumerate(((1, 1), (3, 7), (4, 33))):
        gives, order = _random(batch, patches, seed=seed), _random(batch, patches, seed=seed + 9).argsort(1)
        target = torch.arange(batch) % 2
        points = []
        for step in range(11):
            gone = torch.zeros(batch, patches, dtype=torch.bool)
            gone.scatter_(1, order[:, : round(step / 10 * patches)], True)
            points.append(_additive(gives)(gone).softmax(1).gather(1, target[:, None])[:, 0])
        if not _is(answer(_additive(gives), order, target), torch.stack(points, 1)):
            return WRONG
    return None


def _area(answer: Answer) -> str | None:
    for points in (2, 3, 50):
        curve = _random(4, points, seed=points)
        if not _is(answer(curve), torch.trapezoid(curve, dim=1) / (points - 1)):
            return WRONG
    return None


def _interval(answer: Answer) -> str | None:
    differences = _random(80).exp()  # skewed
    mean, low, high = tensor(answer(differences, 0.9), (3,), "")
    again = tensor(answer(differences * 10 - 3, 0.9), (3,), "")
    width = 2 * 1.645 * float(differences.std()) / 80**0.5
    moved = torch.stack((mean, low, high)) * 10 - 3
    return None if same(again, moved, 1e-3) and 0.75 < float(high - low) / width < 1.25 else WRONG


def _verdicts(answer: Answer) -> str | None:
    noise = _random(60)
    sample = (noise - noise.mean()) / noise.std() + 0.38  # three standard errors: enough for one, not for a hundred
    alone, many = answer({"one": sample}), answer({f"method {i}": sample for i in range(100)})
    return None if alone["one"] == "+" and set(many.values()) == {"="} else WRONG


def _choose(answer: Answer) -> str | None:
    test = {"one": _random(9) + 5, "two": _random(9, seed=1)}
    name, area = answer({"two": _random(8), "one": _random(8) - 5}, test)
    only, _ = answer({"one": _random(8)}, {"one": _random(8)})
    agreed = name == "one" and abs(float(area) - float(test["one"].mean())) < 1e-5 and only == "one"
    return None if agreed else WRONG


def _benchmark(answer: Answer) -> str | None:
    """On a real model, without ties, it gives what the library gives."""
    known = tokentm.record(small_vit(SEED), small_images(SEED, 3), 2)
    remove = Removal(known)
    methods = {f"method {i}": _random(3, 6, seed=i) for i in range(3)}
    found = answer(known, {name: _giving(scores) for name, scores in methods.items()}, remove)
    assert known.target is not None
    for name, scores in methods.items():
        if not _is(found[name], perturbation(remove, scores, known.target).deletion):
            return WRONG
    return None


def _giving(scores: Tensor) -> Callable[[tokentm.Trace], SimpleNamespace]:
    return lambda trace: SimpleNamespace(scores=scores)


_MORE: dict[str, Property] = {
    "A1.compare": _compare,
    "A1.frugal": _frugal,
    "A1.weight": _weight,
    "A1.mix": _mix,
    "A1.fold": _fold,
    "A1.scores": _scores,
    "A1.stream": _stream,
    "A1.test": _test,
    "A2.share": _share,
    "A2.outside": _outside,
    "A2.paste": _paste,
    "A2.flips": _flips,
    "A3.rank": _rank,
    "A3.deletion": _deletion,
    "A3.area": _area,
    "A3.interval": _interval,
    "A3.verdicts": _verdicts,
    "A3.choose": _choose,
    "A3.compare": _benchmark,
}


def names() -> Iterator[str]:
    """Every test there is."""
    yield from GRADED
    yield from (f"{name}/more" for name in _MORE)
