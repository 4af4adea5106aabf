"""Exercises of lesson 7, when it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import tokentm
from tokentm.teaching.core import Exercise, attempt, kind, same, tensor
from tokentm.teaching.fresh import small_images, small_vit

Answer = Callable[..., Any]

# the effect of a block is compared with other numbers that a mistake would give, so it must be told from them; whether
# the FFN of the block goes too changes less than this
_TOLERANCE = 2e-4
_BLOCKS = (4, 2, 0)


@cache
def _trace() -> tokentm.Trace:
    """The demo model on three scenes of its own stream, each with one object."""
    demo = tokentm.load_demo()
    named = ((5003, "dog"), (5004, "boat"), (5006, "clock"))
    images = torch.stack([demo.transform(demo.scene(seed, name).image) for seed, name in named])
    return tokentm.record(demo.model, images, [demo.classes.index(name) for _, name in named])


def _map(layers: tuple[tokentm.LayerTrace, ...]) -> Tensor:
    return tokentm.TokenTM()(replace(_trace(), layers=layers)).scores


def _silent(block: int) -> tuple[tokentm.LayerTrace, ...]:
    """The layers, with nothing to be mixed in one block."""
    layers = _trace().layers
    quiet = replace(layers[block], gradient=torch.zeros_like(layers[block].gradient))
    return (*layers[:block], quiet, *layers[block + 1 :])


def _correlation(one: Tensor, other: Tensor) -> Tensor:
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(one, other, strict=True)])


def _agreement(one: Tensor, other: Tensor) -> Tensor:
    return _correlation(*(scores.argsort(1).argsort(1).double() for scores in (one, other)))


@cache
def _effect(block: int) -> Tensor:
    return _agreement(_map(_silent(block)), _map(_trace().layers))


def _near(found: Tensor, wanted: Tensor) -> bool:
    return bool((found - wanted.double()).abs().max() <= _TOLERANCE)


def _copy() -> tokentm.Trace:
    """The record once more, for a function that may change it."""
    trace = _trace()
    layers = []
    for layer in trace.layers:
        copied: dict[str, Any] = {name: one.clone() for name, one in vars(layer).items() if isinstance(one, Tensor)}
        layers.append(replace(layer, **copied))
    return replace(trace, layers=tuple(layers))


def leaves_the_record_alone(effect: Answer) -> str | None:
    trace = _copy()
    effect(trace, _BLOCKS[0])
    for i, (layer, before) in enumerate(zip(trace.layers, _trace().layers, strict=True)):
        for name, one in vars(before).items():
            if isinstance(one, Tensor) and not torch.equal(one, getattr(layer, name)):
                return (
                    f"your function changed the record: layers[{i}].{name}. Make a new layer: "
                    f"replace(layer, {name}=...)."
                )
    return None


def _found(effect: Answer, block: int) -> Tensor:
    trace = _copy()
    return tensor(effect(trace, block), (len(trace.logits),), "(images,)")


def gives_one_number_for_each_image(effect: Answer) -> str | None:
    trace = _copy()
    answer = effect(trace, _BLOCKS[0])
    shape = tuple(getattr(answer, "shape", (-1,)))
    patches = trace.layout.rows * trace.layout.columns
    if shape == (len(trace.logits), patches):
        return "this is a map. Compare it with the map of the whole method: agreement(one, other)."
    if shape == () or isinstance(answer, float):
        return f"the record holds {len(trace.logits)} images: give each its own number, no mean."
    _found(effect, _BLOCKS[0])
    return None


def leaves_out_the_block_and_nothing_else(effect: Answer) -> str | None:
    layers, whole = _trace().layers, _map(_trace().layers)
    for block in _BLOCKS:
        found, wanted = _found(effect, block), _effect(block)
        if _near(found, wanted):
            continue
        if _near(found, torch.ones_like(wanted)):
            return "that is 1 for every image: both maps are the same. Does the changed layer stand in the record?"
        if _near(found, 1 - wanted):
            return "that is 1 less the agreement. Return the agreement itself, 1 where the block does not matter."
        if _near(found, _agreement(_map((layers[block],)), whole)):
            return f"that is the map of block {block} alone. Leave this block out and keep the others."
        if block and _near(found, _agreement(_map(layers[:block]), whole)):
            return f"all blocks from {block} on are gone. Leave out block {block}; those above it still count."
        if block + 1 < len(layers) and _near(found, _agreement(_map(layers[block + 1 :]), whole)):
            return (
                "without its first layers, the record takes the tokens that enter the next one for the embedding "
                "E^0: the map starts from other lengths. Keep all layers, and let this one mix nothing."
            )
        if others := [other for other in range(len(layers)) if _near(found, _effect(other))]:
            return f"that is the effect of block {others[0]}; asked for block {block}. Blocks count from 0."
        if _near(found, _correlation(_map(_silent(block)), whole)):
            return "compare ranks, not numbers: agreement(one, other) does."
        return (
            f"that is not how much the map without block {block} agrees with the whole map. With A = 0 in this block, "
            "or G = 0, it mixes nothing."
        )
    return None


EFFECT = Exercise(
    properties=(
        leaves_the_record_alone,
        gives_one_number_for_each_image,
        leaves_out_the_block_and_nothing_else,
    ),
    right="you took a block out, left the record alone, and measured what that changes.",
    hints=(
        "a block mixes nothing where its attention is 0. Make a record in which that is so, and explain it.",
        "records and layers are frozen; replace(layer, attention=...) gives a changed copy. So does "
        "replace(trace, layers=...).",
        "layers[block] = replace(layers[block], attention=torch.zeros_like(layers[block].attention)), on a list of "
        "trace.layers.",
    ),
)


_PATCH = 8
_RUNS = ((0, 1), (1, 3), (2, 0))
"""Seed and class: another model, other pictures and another class each time."""


def _painted(images: Tensor, across: bool = True, keep: bool = False) -> Iterator[Tensor]:
    """The images with one patch at zero after the other, along the rows or along the columns; or all but this one."""
    height, width = images.shape[2:]
    places = [(y, x) for y in range(0, height, _PATCH) for x in range(0, width, _PATCH)]
    for y, x in places if across else sorted(places, key=lambda place: place[::-1]):
        hidden = torch.zeros(height, width, dtype=torch.bool)
        hidden[y : y + _PATCH, x : x + _PATCH] = True
        yield images.masked_fill(~hidden if keep else hidden, 0)


@torch.no_grad()
def _fall(model: nn.Module, images: Tensor, target: int, painted: Iterator[Tensor]) -> Tensor:
    return torch.stack([(model(images) - model(one))[:, target] for one in painted], dim=1)


def _needs(needed: Answer, seed: int, target: int) -> Tensor:
    model, images = small_vit(seed), small_images(seed)
    return tensor(needed(model, images, target), (len(images), 6), "(images, patches)")


def gives_a_number_for_every_patch(needed: Answer) -> str | None:
    for seed, target in _RUNS:
        shape = tuple(getattr(needed(small_vit(seed), small_images(seed), target), "shape", ()))
        if shape == (6, 2):
            return "images come first, then patches: (images, patches)."
        if shape == (2, 6, 5):
            return "these are all classes. Take the one that was asked for."
        _needs(needed, seed, target)
    return None


def asks_the_model_without_each_patch(needed: Answer) -> str | None:
    for seed, target in _RUNS:
        model, images = small_vit(seed), small_images(seed)
        found, wanted = _needs(needed, seed, target), _fall(model, images, target, _painted(images))
        if same(found, wanted):
            continue
        if same(found, -wanted):
            return "the sign is turned round. Subtract from the logit of the whole picture; a fall is positive."
        if same(found, _fall(model, images, target, _painted(images, across=False))):
            return "patches are numbered along the rows, like text; yours go down the columns."
        with torch.no_grad():
            whole, left = model(images), [model(one) for one in _painted(images)]
        if same(found, torch.stack([one[:, target] for one in left], 1)):
            return "these are the logits that are left. Wanted is how far each falls below that of the whole picture."
        p = [(whole.softmax(1) - one.softmax(1))[:, target] for one in left]
        if same(found, torch.stack(p, 1)):
            return "these are probabilities. Near 1 they hardly move; ask for the logit."
        own = whole.argmax(1, keepdim=True)
        if same(found, torch.stack([(whole - one).gather(1, own)[:, 0] for one in left], 1)):
            return "these are the logits of the predicted class; asked for is the class `target`."
        if same(found, _fall(model, images, target, _added(images))):
            return "painted patches stay painted: begin each time with a fresh copy of the images."
        if same(found, _fall(model, images, target, _painted(images, keep=True))):
            return "you keep one patch and paint over all others. Do the opposite."
        return (
            "these are not the falls of the logit. For each patch: set its pixels to 0 in all colours, in a copy, "
            "run the model, and subtract its logit from that of the whole picture."
        )
    return None


def _added(images: Tensor) -> Iterator[Tensor]:
    """The images with ever more patches at zero."""
    left = images
    for painted in _painted(images):
        left = torch.where(painted == images, left, 0)
        yield left


NEEDED = Exercise(
    properties=(gives_a_number_for_every_patch, asks_the_model_without_each_patch),
    right="you asked the model itself. No map comes between.",
    hints=(
        "two loops, over rows and columns. In each turn: copy, paint one patch over, run the model.",
        "painted = images.clone(); painted[:, :, y : y + side, x : x + side] = 0, where y and x go in steps of side.",
        "collect (model(images) - model(painted))[:, target] in a list, and torch.stack(list, dim=1).",
    ),
)


_SCENES = 8
_WANTED = 4


@cache
def _scenes() -> tuple[Tensor, Tensor, Tensor]:
    """Images, their classes, and which patches lie on no object, (8, patches)."""
    demo = tokentm.load_demo()
    side = demo.model.patch_embed.patch_size[0]
    images, targets, free = [], [], []
    for seed, name in enumerate(demo.classes[::2], 6000):
        scene = demo.scene(seed, name)
        mask = torch.from_numpy(scene.masks[name])
        images.append(demo.transform(scene.image))
        targets.append(demo.classes.index(name))
        free.append(~mask.unfold(0, side, side).unfold(1, side, side).any(-1).any(-1).flatten())
    return torch.stack(images), torch.tensor(targets), torch.stack(free)


def returns_another_model(misled: Answer) -> str | None:
    model = tokentm.load_demo().model
    made = misled(model)
    if not isinstance(made, nn.Module):
        return f"expected a model; yours is {kind(made)}."
    if made is model:
        return "that is the same model: change and return copy.deepcopy(model)."
    return None


def answers_as_before(misled: Answer) -> str | None:
    model = tokentm.load_demo().model
    images, _, _ = _scenes()
    with torch.no_grad():
        before = model(images)
        after = tensor(attempt("the model you return", misled(model), images), tuple(before.shape), "(images, classes)")
    if (apart := (after - before).abs().max().item()) > 0.01:
        return (
            f"it does not answer as before: a logit differs by {apart:.2g}. What may change in a token without any "
            "LayerNorm noticing?"
        )
    return None


def ranks_first_what_lies_on_no_object(misled: Answer) -> str | None:
    model = tokentm.load_demo().model
    images, target, free = _scenes()
    record = attempt("recording the model you return", tokentm.record, misled(model), images, target)
    scores = tokentm.TokenTM()(record).scores
    if same(scores.double(), tokentm.explain(model, images, target).scores, 1e-3):
        return "it answers as before, and its maps are as before. Something that TokenTM measures must change."
    first = free.gather(1, scores.argmax(1, keepdim=True)).sum().item()
    if first < _WANTED:
        return (
            f"the maps changed, but only in {first} of {_SCENES} fresh scenes the patch ranked first lies on no "
            f"object, and {_WANTED} are wanted. What raises one patch at the start, and what lowers all others later?"
        )
    return None


MISLED = Exercise(
    properties=(returns_another_model, answers_as_before, ranks_first_what_lies_on_no_object),
    right="same answers, another map, and its brightest patch means nothing. Now you know what a map can hide.",
    hints=(
        "section 3 has the door. What does no LayerNorm notice, and what does TokenTM make of it at the start, and in "
        "the layers?",
        "a long token at the start helps its patch, C_0 counts it. Long tokens later on harm theirs: the length ratio "
        "divides by them. Help one patch and harm all others.",
        "the position embedding changes one token before the first block. What adds the same vector to all tokens, at "
        "the end of a block? Let it take the constant away from the one, and so give it to the others.",
        "add 1000 to model.pos_embed[:, 1 + patch], for a patch in a corner; subtract 1000 from the bias of "
        "model.blocks[0].mlp.fc2.",
    ),
)
