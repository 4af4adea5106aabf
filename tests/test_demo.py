"""The shipped classifier is as good as its model card says, and its explanations lie on the objects."""

from __future__ import annotations

import re

import pytest
import torch

import tokentm
from tokentm.demo import measure
from tokentm.demo.model import WEIGHTS


@pytest.fixture(scope="module")
def demo():
    return tokentm.load_demo()


def test_ready_to_use(demo):
    assert not any(module.training for module in demo.model.modules())
    assert {p.dtype for p in demo.model.parameters()} == {torch.float32}
    assert demo.model.patch_embed.grid_size == (14, 14)
    assert demo.transform(demo.scene(1).image.resize((300, 200))).shape == (3, 112, 112)
    assert WEIGHTS.stat().st_size <= 6 * 2**20


def test_scene_gives_picture_names_and_masks(demo):
    scene = demo.scene(3, classes=["cat", "ball"])
    assert scene.image.size == (112, 112)
    assert scene.classes == ("cat", "ball")
    assert {name: (mask.dtype.name, mask.shape) for name, mask in scene.masks.items()} == {
        "cat": ("bool", (112, 112)),
        "ball": ("bool", (112, 112)),
    }


@pytest.mark.parametrize(("objects", "seen"), [(1, True), (1, False), (2, True)])
def test_accuracy_agrees_with_the_model_card(demo, objects, seen):
    label = {(1, True): "drawings seen", (1, False): "drawings never seen", (2, True): "two objects"}[objects, seen]
    text = measure.CARD.read_text(encoding="utf-8")
    stated = float(re.search(rf"\| .*{label}.* \| \d+ \| ([\d.]+) \|", text)[1])
    # 200 of the card's 1,000 scenes: four standard errors apart would be no accident
    assert measure.accuracy(measure.answers(demo, 200, objects, seen)) == pytest.approx(
        stated, abs=4 * (stated * (1 - stated) / 200) ** 0.5
    )


def test_mask_test_on_200_scenes(demo, capsys):
    found = measure.mask_test(demo, 200, ("tokentm", "attention", "rollout"))
    with capsys.disabled():
        print()
        for method, scores in found.items():
            gain = scores.mass_inside.mean() / scores.area.mean()
            print(
                f"{method:10s} mass/area {gain:.2f}  pixel accuracy {scores.pixel_accuracy.mean():.3f}  "
                f"mIoU {scores.miou.mean():.3f}  AP {scores.average_precision.mean():.3f}"
            )
    scores = found["tokentm"]
    assert scores.mass_inside.mean() >= 3 * scores.area.mean()
