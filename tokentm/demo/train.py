"""Train the demo classifier, or the one with a shortcut: seeded, resumable, CPU or GPU.

    python -m tokentm.demo.train --work runs/demo
    python -m tokentm.demo.train --shortcut --work runs/shortcut

Stopped at any moment, the same command goes on from the last checkpoint and ends with the same weights as an
uninterrupted run on the same machine. At the end the weights are written beside this file, in half precision, and
:mod:`tokentm.demo.measure` writes the model card. The shortcut is learnt on top of the demo's lower layers, from the
pictures of :mod:`tokentm.demo.planted`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from tokentm.demo.model import ARCHITECTURE, MEAN, STD, SUSPECT_WEIGHTS, WEIGHTS
from tokentm.demo.planted import mixed_classes, planted_scene, subject
from tokentm.demo.scenes import SIZE, make_scene
from tokentm.demo.sprites import CLASSES


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result; a checkpoint of another recipe is refused."""

    seed: int = 0
    scenes: int = 40_000
    steps: int = 5_200
    batch: int = 128
    whole_batch: int = 64  # batch once whole pictures are seen, which cost four times as much
    peak_lr: float = 2e-3
    weight_decay: float = 0.05
    varied_from: int = 2_750  # step from which pictures are also warped and recoloured, once the easy part is learnt
    patch_dropout: float = 0.75
    patch_dropout_until: float = 0.9  # share of the steps; the rest sees whole pictures, as the finished model does
    shortcut: bool = False  # pictures with the planted tag, one label each
    kept_blocks: int = 0  # lowest blocks that start, with what lies below them, from the shipped demo; the rest anew


SHORTCUT = Recipe(
    scenes=8_000,
    steps=500,
    batch=32,
    whole_batch=32,
    peak_lr=1e-3,
    patch_dropout=0.5,
    shortcut=True,
    kept_blocks=6,
)


def scene_arrays(seed: int, shortcut: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (3, H, W) and the label of one training scene: 1/k for each of k objects, or 1 for its subject."""
    if shortcut:
        scene = planted_scene(seed, mixed_classes(seed), split="train")
        labelled: tuple[str, ...] = (subject(scene.classes, seed),)
    else:
        scene = make_scene(seed, split="train")
        labelled = scene.classes
    label = np.zeros(len(CLASSES), dtype=np.float32)
    label[[CLASSES.index(name) for name in labelled]] = 1 / len(labelled)
    return np.asarray(scene.image).transpose(2, 0, 1), label


def training_scenes(recipe: Recipe, work: Path) -> tuple[Tensor, Tensor]:
    """All training scenes, drawn once and kept in the work folder."""
    kind = f"{'shortcut-' if recipe.shortcut else ''}{recipe.scenes}"
    pixels, labels = work / f"pixels-{kind}.npy", work / f"labels-{kind}.npy"
    if not labels.exists():
        images = np.lib.format.open_memmap(pixels, "w+", np.uint8, (recipe.scenes, 3, SIZE, SIZE))
        targets = np.empty((recipe.scenes, len(CLASSES)), dtype=np.float32)
        with ProcessPoolExecutor() as pool:
            drawn = pool.map(partial(scene_arrays, shortcut=recipe.shortcut), range(recipe.scenes), chunksize=250)
            for i, (image, label) in enumerate(tqdm(drawn, total=recipe.scenes, desc="drawing scenes", mininterval=5)):
                images[i], targets[i] = image, label
        images.flush()
        np.save(labels, targets)  # last: its presence says that the pixels are complete
    return torch.from_numpy(np.load(pixels, mmap_mode="c")), torch.from_numpy(np.load(labels))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip half of the batch, shift every picture by up to 8 pixels, and vary brightness and contrast a little."""
    flip = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    padded = F.pad(images, (8, 8, 8, 8), mode="reflect")
    offsets = torch.randint(0, 17, (len(images), 2), generator=generator).tolist()
    images = torch.stack([p[:, y : y + SIZE, x : x + SIZE] for p, (y, x) in zip(padded, offsets, strict=True)])
    contrast, brightness = torch.empty(2, len(images), 1, 1, 1).uniform_(-0.25, 0.25, generator=generator)
    return ((images - 0.5) * (1 + contrast) + 0.5 + brightness * 0.5).clamp(0, 1)


def vary(images: Tensor, generator: torch.Generator) -> Tensor:
    """Warp every picture a little and recolour half of them: what makes a cat a cat is neither its hue nor its tilt."""
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=generator)

    angle, shear, stretch, zoom = uniform(-0.25, 0.25), uniform(-0.2, 0.2), uniform(-0.2, 0.2), uniform(-0.15, 0.15)
    x, y = (zoom + stretch).exp(), (zoom - stretch).exp()
    warp = torch.stack(
        [
            torch.stack([x * angle.cos(), x * (shear - angle.sin()), torch.zeros(count)], dim=1),
            torch.stack([y * angle.sin(), y * angle.cos(), torch.zeros(count)], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(warp, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    # rotation about the grey axis by any angle, then more or less saturation
    turn, saturation = uniform(0, 2 * math.pi), uniform(0, 1.3)
    along_grey = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    across = turn.cos()[:, None, None] * (torch.eye(3) - along_grey) + turn.sin()[:, None, None] * cross
    recoloured = torch.einsum("bij,bjhw->bihw", along_grey + saturation[:, None, None] * across, images).clamp(0, 1)
    keep = torch.rand(count, generator=generator) < 0.5
    return torch.where(keep[:, None, None, None], images, recoloured)


def train(recipe: Recipe, work: Path, device: torch.device) -> nn.Module:
    """Run, or go on with, the training; returns the finished model in eval mode on the CPU."""
    images, labels = training_scenes(recipe, work)
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    torch.manual_seed(recipe.seed)
    model = timm.create_model(**ARCHITECTURE, patch_drop_rate=recipe.patch_dropout).to(device)
    if recipe.kept_blocks:
        anew = ("norm.", "head.", *(f"blocks.{i}." for i in range(recipe.kept_blocks, ARCHITECTURE["depth"])))
        kept = {name: tensor for name, tensor in load_file(WEIGHTS).items() if not name.startswith(anew)}
        model.load_state_dict(model.state_dict() | kept)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.peak_lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak_lr, recipe.steps, pct_start=0.15)

    checkpoint = work / "checkpoint.pt"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        if state["recipe"] != asdict(recipe):
            raise SystemExit(
                f"{checkpoint} belongs to another recipe: expected {asdict(recipe)}, found {state['recipe']}. "
                "Give another --work folder, or delete this one."
            )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["step"]

    model.train()
    log = (work / "loss.jsonl").open("a", encoding="utf-8")
    progress = tqdm(range(first, recipe.steps), initial=first, total=recipe.steps, desc="training", mininterval=10)
    for step in progress:
        whole = step >= recipe.patch_dropout_until * recipe.steps
        if whole:
            model.patch_drop = nn.Identity()
        # the step number seeds everything random in the step, so a resumed run repeats an unbroken one
        generator = torch.Generator().manual_seed(recipe.seed * recipe.steps + step)
        torch.manual_seed(recipe.seed * recipe.steps + step)
        chosen = torch.randint(0, recipe.scenes, (recipe.whole_batch if whole else recipe.batch,), generator=generator)
        batch = augment(images[chosen].float() / 255, generator)
        if step >= recipe.varied_from:
            batch = vary(batch, generator)
        loss = F.cross_entropy(model(((batch - mean) / std).to(device)), labels[chosen].to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}")
            print(json.dumps({"step": step, "loss": loss.item()}), file=log, flush=True)
        if (step + 1) % 250 == 0 or step + 1 == recipe.steps:
            state = {
                "recipe": asdict(recipe),
                "step": step + 1,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            os.replace(checkpoint.with_suffix(".tmp"), checkpoint)
    model.patch_drop = nn.Identity()
    return model.cpu().eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for scenes, checkpoint and loss log")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--shortcut", action="store_true", help="the classifier with a shortcut, on top of the demo's lower layers"
    )
    parser.add_argument("--steps", type=int, help="other than the recipe's")
    parser.add_argument("--scenes", type=int, help="other than the recipe's")
    parser.add_argument("--out", type=Path, help="the weights file to write (default: the shipped one)")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    recipe = SHORTCUT if arguments.shortcut else Recipe()
    recipe = replace(recipe, steps=arguments.steps or recipe.steps, scenes=arguments.scenes or recipe.scenes)
    out = arguments.out or (SUSPECT_WEIGHTS if recipe.shortcut else WEIGHTS)
    model = train(recipe, arguments.work, torch.device(arguments.device))
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, out, metadata={"recipe": json.dumps(asdict(recipe)), "classes": json.dumps(CLASSES)})


if __name__ == "__main__":
    main()
