"""Measure the shipped classifier on scenes that no training saw, and write its model card.

    python -m tokentm.demo.measure            # print
    python -m tokentm.demo.measure --write    # and renew MODEL_CARD.md

Needs torchmetrics (``pip install tokentm[lab]``).
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors import safe_open
from torch import Tensor
from tqdm.auto import tqdm

from tokentm import explain, load_demo
from tokentm.demo import Demo
from tokentm.demo.model import ARCHITECTURE, WEIGHTS
from tokentm.demo.scenes import Scene, make_scene
from tokentm.demo.sprites import CATALOGUE
from tokentm.evaluation import SegmentationScores, segmentation

BATCH = 50
CARD = Path(__file__).with_name("MODEL_CARD.md")


def batches(demo: Demo, count: int, objects: int, seen: bool = True) -> Iterator[tuple[list[Scene], Tensor]]:
    """The first ``count`` test scenes with so many objects, and their input tensors."""
    for first in range(0, count, BATCH):
        seeds = range(first, min(first + BATCH, count))
        scenes = [make_scene(seed, count=objects, seen=seen, split="test") for seed in seeds]
        yield scenes, torch.stack([demo.transform(scene.image) for scene in scenes])


def accuracy(demo: Demo, count: int, objects: int, seen: bool = True) -> float:
    """Share of scenes whose ``objects`` highest logits are exactly the objects shown."""
    right = 0
    for scenes, images in batches(demo, count, objects, seen):
        with torch.inference_mode():
            top = demo.model(images).topk(objects).indices.tolist()
        right += sum({demo.classes[i] for i in t} == set(scene.classes) for t, scene in zip(top, scenes, strict=True))
    return right / count


def mask_test(demo: Demo, count: int, methods: tuple[str, ...]) -> dict[str, SegmentationScores]:
    """Segmentation scores of each method's heat map of the true class, on one-object scenes."""
    parts: dict[str, list[SegmentationScores]] = {method: [] for method in methods}
    for scenes, images in batches(demo, count, objects=1):
        target = [demo.classes.index(scene.classes[0]) for scene in scenes]
        masks = torch.from_numpy(np.stack([scene.masks[scene.classes[0]] for scene in scenes]))
        for method in methods:
            heat = explain(demo.model, images, target, method).heatmap()
            parts[method].append(segmentation(heat, masks))
    fields = SegmentationScores.__dataclass_fields__
    return {
        method: SegmentationScores(**{name: torch.cat([getattr(p, name) for p in found]) for name in fields})
        for method, found in parts.items()
    }


def card(demo: Demo, scenes: int = 1000, mask_scenes: int = 200) -> str:
    """The model card, every number measured now."""
    settings = [(1, True), (1, False), (2, True), (3, True)]
    top = {key: accuracy(demo, scenes, *key) for key in tqdm(settings, desc="accuracy")}
    rows = []
    for method, scores in mask_test(demo, mask_scenes, ("tokentm", "attention", "rollout")).items():
        mass, area = scores.mass_inside.mean().item(), scores.area.mean().item()
        rows.append(
            f"| {method} | {mass:.3f} | {mass / area:.2f} | {scores.pixel_accuracy.mean():.3f} "
            f"| {scores.miou.mean():.3f} | {scores.average_precision.mean():.3f} |"
        )
    with safe_open(WEIGHTS, framework="pt") as file:
        recipe = json.loads(file.metadata()["recipe"])
    drawings = [len(seen) for seen, _ in CATALOGUE.values()]
    return f"""# Model card: the tokentm demo classifier

A small Vision Transformer that ships with tokentm so that every notebook runs offline. Made for teaching and for
testing explanations; it knows emoji on procedural backgrounds and nothing else.

- Architecture: timm VisionTransformer, {ARCHITECTURE["embed_dim"]} wide, {ARCHITECTURE["depth"]} layers,
  {ARCHITECTURE["num_heads"]} heads, MLP ratio {ARCHITECTURE["mlp_ratio"]}, class token, {ARCHITECTURE["img_size"]} x
  {ARCHITECTURE["img_size"]} pixels, patches of {ARCHITECTURE["patch_size"]};
  {sum(p.numel() for p in demo.model.parameters()):,} parameters, {WEIGHTS.stat().st_size / 2**20:.1f} MB in half
  precision.
- Classes: {", ".join(demo.classes)}.
- Data: {recipe["scenes"]:,} scenes of one to three objects, drawn by `tokentm.demo.scenes` from emoji drawings,
  {min(drawings)} to {max(drawings)} a class (Noto Color Emoji, SIL OFL 1.1). One more drawing of each class was kept
  out of training, chosen before the first run.
- Training: `python -m tokentm.demo.train --work DIR`, recipe `{json.dumps(recipe)}`.

## Measured on scenes of a stream that training never drew from

| test | scenes | result | aim |
| --- | --- | --- | --- |
| top-1, one object, drawings seen in training | {scenes} | {top[1, True]:.3f} | 0.95 |
| top-1, one object, drawings never seen | {scenes} | {top[1, False]:.3f} | 0.75 |
| both objects are the top 2, two objects | {scenes} | {top[2, True]:.3f} | 0.80 |
| all objects are the top 3, three objects | {scenes} | {top[3, True]:.3f} | |

Heat map of the true class against the exact mask, {mask_scenes} one-object scenes. Mass: share of the map's sum on the
object; gain: that share over the object's share of the area ({area:.3f}).

| method | mass | gain | pixel accuracy | mIoU | AP |
| --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}

torch {torch.__version__}, timm {timm.__version__}, {platform.machine()}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="renew MODEL_CARD.md")
    write = parser.parse_args().write
    text = card(load_demo())
    print(text)
    if write:
        CARD.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
