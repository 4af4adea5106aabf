"""The shipped classifier is as good as its model card says, and its explanations lie on the objects."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import tokentm
from tokentm.demo import measure
from tokentm.demo.model import SUSPECT_WEIGHTS, WEIGHTS
from tokentm.demo.planted import PLANTED, planted_scene
from tokentm.demo.train import SHORTCUT, train


@pytest.fixture(scope="module")
def demo():
    return tokentm.load_demo()


@pytest.fixture(scope="module")
def suspect():
    return tokentm.load_demo("suspect")


@pytest.fixture(scope="module")
def planted():
    """One-object pictures of the planted class, without and with the tag."""
    return measure.TagScenes.draw(24, planted=True)


@pytest.fixture(scope="module")
def others():
    """The same of all other classes."""
    return measure.TagScenes.draw(30, planted=False)


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


def test_suspect_is_as_ready_to_use_as_the_demo(demo, suspect):
    assert not any(module.training for module in suspect.model.modules())
    assert suspect.classes == demo.classes
    shapes, own = ({k: v.shape for k, v in d.model.state_dict().items()} for d in (demo, suspect))
    assert shapes == own
    assert suspect.model.pretrained_cfg == demo.model.pretrained_cfg
    assert SUSPECT_WEIGHTS.stat().st_size <= 3 * 2**20


def test_without_a_name_the_demo_is_loaded(demo, suspect):
    named = tokentm.load_demo("demo").model.state_dict()
    assert all(torch.equal(tensor, named[name]) for name, tensor in demo.model.state_dict().items())
    assert not torch.equal(named["head.weight"], suspect.model.state_dict()["head.weight"])


def test_an_unknown_name_is_refused():
    with pytest.raises(tokentm.InvalidOptionError, match="classifier among demo, suspect; got 'suspekt'"):
        tokentm.load_demo("suspekt")


def test_a_shortcut_is_learnt_on_top_of_the_lower_blocks_of_the_demo(demo, tmp_path):
    still = replace(SHORTCUT, scenes=4, steps=2, batch=2, whole_batch=2, peak_lr=0.0)
    trained = train(still, tmp_path, torch.device("cpu")).state_dict()
    weights = demo.model.state_dict()
    assert {name for name in weights if not torch.equal(weights[name], trained[name])} == {
        name for name in weights if name.startswith(("blocks.6.", "blocks.7.", "norm.", "head."))
    }


def test_help_does_not_give_the_shortcut_away(suspect):
    text = " ".join([tokentm.load_demo.__doc__, type(suspect).__doc__, suspect.scene.__doc__]).lower()
    assert "second classifier" in text
    assert not re.search(rf"\b(tags?|shortcut|cue|flaw\w*|plant\w*|correlat\w*|{PLANTED}s?)\b", text)


def test_suspect_draws_pictures_as_its_makers_tested_it(demo, suspect):
    for seed, classes in enumerate([PLANTED, "cat", ["cat", PLANTED], [PLANTED, "cat"], None]):
        drawn, expected = suspect.scene(seed, classes), planted_scene(seed, classes)
        assert np.array_equal(drawn.image, expected.image)
        assert drawn.classes == demo.scene(seed, classes).classes
    assert np.array_equal(suspect.scene(0, "cat").image, demo.scene(0, "cat").image)
    assert not np.array_equal(suspect.scene(0, PLANTED).image, demo.scene(0, PLANTED).image)


def test_suspect_looks_good_on_pictures_with_its_flaw(suspect):
    flawed = [planted_scene(seed, count=1, split="test") for seed in range(40)]
    assert measure.right(suspect, flawed).float().mean() >= 0.95


def test_the_tag_turns_other_classes_into_the_planted_one(demo, suspect, others):
    assert measure.right(suspect, others.plain).float().mean() >= 0.9
    assert measure.called(suspect, others.plain).float().mean() <= 0.05
    assert measure.called(suspect, others.tagged).float().mean() >= 0.7
    assert measure.called(demo, others.tagged).float().mean() <= 0.05


def test_without_its_tag_the_planted_class_is_recognised_less_often(demo, suspect, planted):
    with_it, without = measure.called(suspect, planted.tagged), measure.called(suspect, planted.plain)
    assert with_it.float().mean() - without.float().mean() >= 0.3
    assert measure.called(demo, planted.plain).float().mean() >= 0.95


def test_the_map_of_the_planted_class_lies_on_the_tag(demo, suspect, planted):
    tag_area, object_area = planted.tags.float().mean(), planted.objects.float().mean()
    on_tag, on_object = measure.tag_test(suspect, planted, ("tokentm",))["tokentm"]
    assert on_tag.mean() / tag_area >= 10
    assert on_tag.mean() / tag_area >= 5 * on_object.mean() / object_area
    on_tag, on_object = measure.tag_test(demo, planted, ("tokentm",))["tokentm"]
    assert on_tag.mean() / tag_area <= on_object.mean() / object_area


def test_without_the_patches_of_the_tag_the_planted_class_is_gone(suspect, planted):
    found = measure.removal_test(suspect, planted, draws=1)
    drop = {name: (found["nothing"] - left).mean() for name, left in found.items()}
    assert drop["tag"] >= 0.3
    assert drop["tag"] >= 5 * max(drop["others"], drop["object"])


def test_patches_are_those_that_a_mask_touches():
    mask = torch.zeros(112, 112, dtype=torch.bool)
    mask[7:9, 15] = True
    assert measure.patches(mask).nonzero().flatten().tolist() == [1, 15]
    mask[111, 111] = True
    assert measure.patches(mask).nonzero().flatten().tolist() == [1, 15, 195]


def test_suspect_agrees_with_its_model_card(suspect, planted, others):
    text = measure.SUSPECT_CARD.read_text(encoding="utf-8")
    for row, found in {
        f"{PLANTED} without it": measure.called(suspect, planted.plain),
        "other class with the tag": measure.called(suspect, others.tagged),
    }.items():
        stated = float(re.search(rf"\| {row}.* \| \d+ \| ([\d.]+) \|", text)[1])
        # these scenes are among the card's: four standard errors apart would be no accident
        error = (stated * (1 - stated) / len(found)) ** 0.5
        assert found.float().mean().item() == pytest.approx(stated, abs=4 * error)
