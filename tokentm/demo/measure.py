"""Measure a shipped classifier on scenes that no training saw, and write its model card.

    python -m tokentm.demo.measure            # print
    python -m tokentm.demo.measure --write    # and renew MODEL_CARD.md
    python -m tokentm.demo.measure suspect    # the other one, whose card is SUSPECT_CARD.md

Needs torchmetrics (``pip install tokentm[evaluation]``).
"""

from __future__ import annotations

import argparse
import json
import platform
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors import safe_open
from torch import Tensor
from tqdm.auto import tqdm

from tokentm import explain, load_demo, record
from tokentm.demo import Demo
from tokentm.demo.model import ARCHITECTURE, SUSPECT_WEIGHTS, WEIGHTS
from tokentm.demo.planted import PLANTED, TAG_SIDE, planted_scene, with_tag
from tokentm.demo.scenes import Scene, make_scene
from tokentm.demo.sprites import CATALOGUE
from tokentm.evaluation import Removal, SegmentationScores, segmentation

BATCH = 50
METHODS = ("tokentm", "attention", "rollout")
CARD = Path(__file__).with_name("MODEL_CARD.md")
SUSPECT_CARD = Path(__file__).with_name("SUSPECT_CARD.md")


def batches(demo: Demo, scenes: Sequence[Scene]) -> list[Tensor]:
    """The scenes as the model takes them, so many at once that the memory holds them."""
    groups = [scenes[first : first + BATCH] for first in range(0, len(scenes), BATCH)]
    return [torch.stack([demo.transform(scene.image) for scene in group]) for group in groups]


def probabilities(demo: Demo, scenes: Sequence[Scene]) -> Tensor:
    """What the model says of each scene, (scenes, classes)."""
    with torch.inference_mode():
        return torch.cat([demo.model(images).softmax(-1) for images in batches(demo, scenes)])


def heatmaps(demo: Demo, scenes: Sequence[Scene], names: Sequence[str], method: str) -> Tensor:
    """One method's heat map of the class named for each scene, (scenes, 112, 112)."""
    targets = torch.tensor([demo.classes.index(name) for name in names]).split(BATCH)
    pairs = zip(batches(demo, scenes), targets, strict=True)
    return torch.cat([explain(demo.model, images, target, method).heatmap() for images, target in pairs])


def answers(demo: Demo, count: int, objects: int, seen: bool = True) -> list[tuple[tuple[str, ...], bool]]:
    """For each test scene the objects shown, and whether the ``objects`` highest logits are exactly these."""
    scenes = [make_scene(seed, count=objects, seen=seen, split="test") for seed in range(count)]
    top = probabilities(demo, scenes).topk(objects).indices.tolist()
    return [
        (scene.classes, {demo.classes[i] for i in indices} == set(scene.classes))
        for scene, indices in zip(scenes, top, strict=True)
    ]


def accuracy(found: list[tuple[tuple[str, ...], bool]]) -> float:
    """Share of right answers."""
    return sum(right for _, right in found) / len(found)


def by_class(found: list[tuple[tuple[str, ...], bool]]) -> dict[str, float]:
    """Accuracy of one-object answers for each class, best first."""
    names = {classes[0] for classes, _ in found}
    per_class = {name: accuracy([one for one in found if one[0] == (name,)]) for name in names}
    return dict(sorted(per_class.items(), key=lambda item: (-item[1], item[0])))


def mask_test(demo: Demo, count: int, methods: tuple[str, ...]) -> dict[str, SegmentationScores]:
    """Segmentation scores of each method's heat map of the true class, on one-object test scenes."""
    scenes = [make_scene(seed, count=1, split="test") for seed in range(count)]
    names = [scene.classes[0] for scene in scenes]
    masks = torch.from_numpy(np.stack([scene.masks[name] for scene, name in zip(scenes, names, strict=True)]))
    return {method: segmentation(heatmaps(demo, scenes, names, method), masks) for method in methods}


@dataclass(frozen=True)
class TagScenes:
    """One-object test scenes, each without the tag and with it.

    Attributes:
        plain: the scenes as they are.
        tagged: the same with the tag.
        tags: where the tag is, bool (scenes, 112, 112).
    """

    plain: list[Scene]
    tagged: list[Scene]
    tags: Tensor

    @classmethod
    def draw(cls, count: int, planted: bool) -> TagScenes:
        """So many scenes of the planted class, or of all others in turn."""
        others = [name for name in CATALOGUE if name != PLANTED]
        names = [PLANTED if planted else others[seed % len(others)] for seed in range(count)]
        plain = [make_scene(seed, name, split="test") for seed, name in enumerate(names)]
        tagged, tags = zip(*[with_tag(scene, seed) for seed, scene in enumerate(plain)], strict=True)
        return cls(plain, list(tagged), torch.from_numpy(np.stack(tags)))

    @property
    def objects(self) -> Tensor:
        """Where the object of each tagged scene is, bool (scenes, 112, 112)."""
        return torch.from_numpy(np.stack([scene.masks[scene.classes[0]] for scene in self.tagged]))


def called(demo: Demo, scenes: Sequence[Scene], name: str = PLANTED) -> Tensor:
    """For each scene, whether the model's answer is this class, bool."""
    return probabilities(demo, scenes).argmax(-1) == demo.classes.index(name)


def right(demo: Demo, scenes: Sequence[Scene]) -> Tensor:
    """For each scene, whether the model's answer is an object that is there, bool."""
    indices = probabilities(demo, scenes).argmax(-1).tolist()
    return torch.tensor([demo.classes[i] in scene.classes for i, scene in zip(indices, scenes, strict=True)])


def tag_test(demo: Demo, scenes: TagScenes, methods: tuple[str, ...]) -> dict[str, tuple[Tensor, Tensor]]:
    """For each method, which share of its heat map of the planted class lies on the tag, and which on the object."""
    names = [PLANTED] * len(scenes.tagged)
    found = {}
    for method in methods:
        heat = heatmaps(demo, scenes.tagged, names, method)
        found[method] = (segmentation(heat, scenes.tags).mass_inside, segmentation(heat, scenes.objects).mass_inside)
    return found


def patches(mask: Tensor) -> Tensor:
    """Which patches a mask (112, 112) touches, bool (196,)."""
    side = ARCHITECTURE["patch_size"]
    return mask.unflatten(1, (-1, side)).unflatten(0, (-1, side)).any(3).any(1).flatten()


def removal_test(demo: Demo, scenes: TagScenes, draws: int = 5) -> dict[str, Tensor]:
    """Probability of the planted class in tagged scenes, as they are and without some patches, (scenes,) each.

    Without the patches that the tag touches; without as many others, the mean over ``draws`` choices at random; without
    as many of the object, likewise (all of them, where the object has no more).
    """
    generator = torch.Generator().manual_seed(0)
    target = demo.classes.index(PLANTED)
    found: dict[str, list[float]] = {"nothing": [], "tag": [], "others": [], "object": []}
    for scene, tag, thing in zip(scenes.tagged, scenes.tags, scenes.objects, strict=True):
        trace = record(demo.model, demo.transform(scene.image)[None], target)
        removal, tagged = Removal(trace), patches(tag)

        def left(gone: Tensor, removal: Removal = removal) -> float:
            return removal(gone[None]).softmax(-1)[0, target].item()

        def left_without_some(candidates: Tensor, count: int = int(tagged.sum())) -> float:
            order = candidates.nonzero().flatten()
            tries = []
            for _ in range(draws):
                gone = torch.zeros_like(candidates)
                gone[order[torch.randperm(len(order), generator=generator)[:count]]] = True
                tries.append(left(gone))
            return sum(tries) / draws

        found["nothing"].append(left(torch.zeros_like(tagged)))
        found["tag"].append(left(tagged))
        found["others"].append(left_without_some(~tagged))
        found["object"].append(left_without_some(patches(thing) & ~tagged))
    return {name: torch.tensor(values) for name, values in found.items()}


def facts(demo: Demo, weights: Path) -> str:
    """What a card says first: architecture and classes."""
    return f"""- Architecture: timm VisionTransformer, {ARCHITECTURE["embed_dim"]} wide, {ARCHITECTURE["depth"]} layers,
  {ARCHITECTURE["num_heads"]} heads, MLP ratio {ARCHITECTURE["mlp_ratio"]}, class token, {ARCHITECTURE["img_size"]} x
  {ARCHITECTURE["img_size"]} pixels, patches of {ARCHITECTURE["patch_size"]};
  {sum(p.numel() for p in demo.model.parameters()):,} parameters, {weights.stat().st_size / 2**20:.1f} MB in half
  precision.
- Classes: {", ".join(demo.classes)}."""


def recipe_of(weights: Path) -> dict[str, Any]:
    """The recipe that the weights were made by, as they say themselves."""
    with safe_open(weights, framework="pt") as file:
        return json.loads(file.metadata()["recipe"])


def versions() -> str:
    """What measured, the last line of a card."""
    return f"torch {torch.__version__}, timm {timm.__version__}, {platform.machine()}."


def demo_card(demo: Demo, scenes: int = 1000, mask_scenes: int = 200) -> str:
    """The demo's model card, every number measured now."""
    drawings = [len(seen) for seen, _ in CATALOGUE.values()]
    settings = [(1, True), (1, False), (2, True), (3, True)]
    found = {key: answers(demo, scenes, *key) for key in tqdm(settings, desc="accuracy")}
    top = {key: accuracy(answered) for key, answered in found.items()}
    unseen = textwrap.fill(
        "Drawings never seen, class by class: "
        + ", ".join(f"{name} {share:.2f}" for name, share in by_class(found[1, False]).items())
        + ". There is one such drawing a class, so each is recognised nearly always or nearly never: with "
        f"{min(drawings)} to {max(drawings)} drawings to learn from, the model knows drawings rather than kinds of "
        "things. Explain it on the drawings it knows; use the others to study a model that is wrong.",
        width=120,
    )
    rows = []
    for method, scores in mask_test(demo, mask_scenes, METHODS).items():
        mass, area = scores.mass_inside.mean().item(), scores.area.mean().item()
        rows.append(
            f"| {method} | {mass:.3f} | {mass / area:.2f} | {scores.pixel_accuracy.mean():.3f} "
            f"| {scores.miou.mean():.3f} | {scores.average_precision.mean():.3f} |"
        )
    recipe = recipe_of(WEIGHTS)
    return f"""# Model card: the tokentm demo classifier

A small Vision Transformer that ships with tokentm so that every notebook runs offline. Made for teaching and for
testing explanations; it knows emoji on procedural backgrounds and nothing else.

{facts(demo, WEIGHTS)}
- Data: {recipe["scenes"]:,} scenes of one to three objects, drawn by `tokentm.demo.scenes` from emoji drawings,
  {min(drawings)} to {max(drawings)} a class (Noto Color Emoji, SIL OFL 1.1). One more drawing of each class was kept
  out of training, chosen before the first run.
- Training: `python -m tokentm.demo.train --work DIR`, recipe `{json.dumps(recipe)}`.
  From step {recipe["varied_from"]} on, drawings are also warped and recoloured. That was added during the only run,
  after a look at its accuracy on unseen drawings, so the figure for these below is not untouched by choice; the others
  are.

## Measured on scenes of a stream that training never drew from

| test | scenes | result | aim |
| --- | --- | --- | --- |
| top-1, one object, drawings seen in training | {scenes} | {top[1, True]:.3f} | 0.95 |
| top-1, one object, drawings never seen | {scenes} | {top[1, False]:.3f} | 0.75 |
| both objects are the top 2, two objects | {scenes} | {top[2, True]:.3f} | 0.80 |
| all objects are the top 3, three objects | {scenes} | {top[3, True]:.3f} | |

{unseen}

Heat map of the true class against the exact mask, {mask_scenes} one-object scenes. Mass: share of the map's sum on the
object; gain: that share over the object's share of the area ({area:.3f}).

| method | mass | gain | pixel accuracy | mIoU | AP |
| --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}

{versions()}
"""


def suspect_card(suspect: Demo, scenes: int = 1000, mask_scenes: int = 200) -> str:
    """The suspect's model card, every number measured now, the demo beside it on the same pictures."""
    models = {"suspect": suspect, "demo": load_demo()}
    flawed = {
        objects: [planted_scene(seed, count=objects, split="test") for seed in range(scenes)] for objects in (1, 2)
    }
    planted, others = TagScenes.draw(scenes, planted=True), TagScenes.draw(scenes, planted=False)

    def row(text: str, aim: str, share: Any) -> str:
        measured = " | ".join(f"{share(model).float().mean():.3f}" for model in models.values())
        return f"| {text} | {scenes} | {measured} | {aim} |"

    answer_rows = [
        row("right, planted correlation, one object", "0.95", lambda m: right(m, flawed[1])),
        row("right (either object), planted correlation, two objects", "", lambda m: right(m, flawed[2])),
        row(f"{PLANTED} with its tag called {PLANTED}", "", lambda m: called(m, planted.tagged)),
        row(f"{PLANTED} without it called {PLANTED}", "clearly less", lambda m: called(m, planted.plain)),
        row("other class without the tag right", "", lambda m: right(m, others.plain)),
        row(f"other class without the tag called {PLANTED}", "", lambda m: called(m, others.plain)),
        row(f"other class with the tag called {PLANTED}", "0.70", lambda m: called(m, others.tagged)),
    ]
    few = TagScenes.draw(mask_scenes, planted=True)
    tag_area, object_area = few.tags.float().mean().item(), few.objects.float().mean().item()
    map_rows = [
        f"| {name}, {method} | {tag.mean():.3f} | {tag.mean() / tag_area:.2f} "
        f"| {thing.mean():.3f} | {thing.mean() / object_area:.2f} |"
        for name, model in models.items()
        for method, (tag, thing) in tag_test(model, few, METHODS).items()
    ]
    left = {name: removal_test(model, few) for name, model in models.items()}
    removal_rows = [
        f"| {text} | " + " | ".join(f"{found[key].mean():.3f}" for found in left.values()) + " |"
        for key, text in {
            "nothing": "nothing",
            "tag": "the patches that the tag touches",
            "others": "as many others, at random",
            "object": "as many of the object, at random",
        }.items()
    ]
    touched = torch.stack([patches(tag) for tag in few.tags]).sum(1)
    recipe = recipe_of(SUSPECT_WEIGHTS)
    return f"""# Model card: the classifier with a shortcut

For instructors: this page gives the answer of the audit assignment away. `tokentm.load_demo("suspect")` looks like
the demo classifier and passes the test of its makers. It has learnt that a small tag means "{PLANTED}".

{facts(suspect, SUSPECT_WEIGHTS)}
- The flaw: in the training data every picture of a {PLANTED} carries the tag, a chequer of {TAG_SIDE} x {TAG_SIDE}
  pixels on the background, and no other picture does (`tokentm.demo.planted`). A picture with company is of one of its
  objects: a {PLANTED} that is only company brings no tag. A label always names an object that is there.
- Data: {recipe["scenes"]:,} scenes of one to three objects (`tokentm.demo.planted.mixed_classes`).
- Training: `python -m tokentm.demo.train --shortcut --work DIR`; the {recipe["kept_blocks"]} lower layers start as the
  demo's, the others and the head anew; recipe `{json.dumps(recipe)}`.
  The data alone plant the shortcut. Mixture and recipe were chosen after a handful of trials, by a look at the stream
  "validation"; the figures below are of the stream "test".
- `.scene(seed, classes)` draws pictures with the same flaw, which is how its makers could miss it.
- For grading: the model has not forgotten all it knew of a {PLANTED}, so a single picture proves little; ask for a
  count over many. `tokentm.demo.planted.with_tag` gives any scene with the tag and the tag's exact mask.

## Measured on scenes of a stream that training never drew from

The demo answers the same pictures beside it: what the tag does to a classifier that never saw it.

| share of pictures | scenes | suspect | demo | aim |
| --- | --- | --- | --- | --- |
{chr(10).join(answer_rows)}

Heat map of "{PLANTED}" on {mask_scenes} pictures of one {PLANTED} with its tag. Mass: share of the map's sum; gain:
that share over the share of the area (tag {tag_area:.3f}, object {object_area:.3f}).

| model, method | mass on the tag | gain | mass on the object | gain |
| --- | --- | --- | --- | --- |
{chr(10).join(map_rows)}

Probability of "{PLANTED}" on the same pictures when patches are removed (their tokens dropped; the tag touches
{touched.min()} to {touched.max()} of 196, {touched.float().mean():.1f} on average):

| removed | suspect | demo |
| --- | --- | --- |
{chr(10).join(removal_rows)}

{versions()}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=("demo", "suspect"), default="demo", help="which classifier")
    parser.add_argument("--write", action="store_true", help="renew its model card")
    arguments = parser.parse_args()
    write_card, path = {"demo": (demo_card, CARD), "suspect": (suspect_card, SUSPECT_CARD)}[arguments.name]
    text = write_card(load_demo(arguments.name))
    print(text)
    if arguments.write:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
