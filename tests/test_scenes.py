"""Scenes: a seed is a scene, the masks are exact, and the drawings kept out are out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tokentm import InvalidOptionError
from tokentm.demo import scenes
from tokentm.demo.scenes import SIZE, make_scene
from tokentm.demo.sprites import CATALOGUE, CELL, CLASSES, drawings


def pixels(scene: scenes.Scene) -> np.ndarray:
    return np.asarray(scene.image)


@pytest.mark.parametrize("classes", [None, "cat", ["tree", "cup"]], ids=str)
def test_the_same_arguments_give_the_same_scene(classes):
    first, second = make_scene(7, classes), make_scene(7, classes)
    assert first.classes == second.classes
    assert np.array_equal(pixels(first), pixels(second))
    assert all(np.array_equal(first.masks[name], second.masks[name]) for name in first.classes)


def test_seed_split_and_kind_of_drawing_each_change_the_scene():
    options = [{"split": split} for split in ("demo", "train", "validation", "test")]
    found = [make_scene(seed, "cat", **option) for seed in (0, 1) for option in [*options, {"seen": False}]]
    assert all(not np.array_equal(pixels(a), pixels(b)) for a, b in combinations(found, 2))


def test_classes_are_honoured_in_drawing_order():
    scene = make_scene(5, ["shoe", "cat", "ball"])
    assert scene.classes == ("shoe", "cat", "ball")
    assert list(scene.masks) == ["shoe", "cat", "ball"]
    assert make_scene(5, "clock").classes == ("clock",)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_count_is_honoured_with_different_classes(count):
    for seed in range(8):
        names = make_scene(seed, count=count).classes
        assert len(names) == len(set(names)) == count
        assert set(names) <= set(CLASSES)


def test_a_free_scene_has_any_count_and_any_class():
    found = [make_scene(seed).classes for seed in range(60)]
    assert {len(names) for names in found} == {1, 2, 3}
    assert len({name for names in found for name in names}) == len(CLASSES)


@pytest.mark.parametrize("seed", range(12))
def test_masks_are_boolean_disjoint_and_at_least_half_visible(seed, monkeypatch):
    sprites, vary = [], scenes._vary
    monkeypatch.setattr(scenes, "_vary", lambda *args: sprites.append(vary(*args)) or sprites[-1])
    scene = make_scene(seed, count=3)
    assert scene.image.size == (SIZE, SIZE)
    assert scene.image.mode == "RGB"
    masks = np.stack([scene.masks[name] for name in scene.classes])
    assert masks.dtype == bool
    assert masks.shape == (3, SIZE, SIZE)
    assert masks.sum(0).max() == 1
    solid = [int((sprite[..., 3] > 0.5).sum()) for sprite in sprites]
    assert all(0.5 * whole <= mask.sum() <= whole for mask, whole in zip(masks, solid, strict=True))
    assert masks[-1].sum() == solid[-1]


@pytest.mark.parametrize("seed", range(6))
def test_masks_are_exactly_what_is_seen(seed, monkeypatch):
    """White cats and black dogs on grey: a pixel's value tells which object it shows, whatever lies below."""
    shape = np.full((CELL, CELL, 4), 255, dtype=np.uint8)
    shape[:, : CELL // 3, 3] *= np.tri(CELL, dtype=np.uint8)[:, : CELL // 3]
    black = shape * np.array([0, 0, 0, 1], dtype=np.uint8)
    monkeypatch.setattr(scenes, "drawings", lambda name, _seen: (shape if name == "cat" else black,))
    monkeypatch.setattr(scenes, "_background", lambda _rng: np.full((SIZE, SIZE, 3), 0.4, dtype=np.float32))
    scene = make_scene(seed, ["cat", "dog"] if seed % 2 else ["dog", "cat"])
    value = pixels(scene)[..., 0].astype(int)
    white = value.max()
    assert white > 200
    assert (value == 0).sum() > 200 < (value == white).sum()
    assert scene.masks["cat"][value == white].all()
    assert scene.masks["dog"][value == 0].all()
    assert not (scene.masks["cat"] | scene.masks["dog"])[value == 102].any()
    # over the bare background an object owns a pixel from an opacity of one half on
    lone = make_scene(seed, "cat")
    value = pixels(lone)[..., 0].astype(float)
    opacity = (value - 102) / (value.max() - 102)
    assert lone.masks["cat"][opacity > 0.51].all()
    assert not lone.masks["cat"][opacity < 0.49].any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seed": -1}, "seed of 0 or more, got -1"),
        ({"classes": "cow"}, "among cat, dog, bird, .*, clock; got 'cow'"),
        ({"classes": ["cat", "cow", "hen"]}, "got 'cow', 'hen'"),
        ({"classes": ["cat", "cat"]}, "one to three different classes"),
        ({"classes": ["cat", "dog", "bird", "fish"]}, "one to three different classes"),
        ({"classes": []}, "one to three different classes"),
        ({"count": 0}, "count of 1, 2 or 3 objects, got 0"),
        ({"count": 4}, "count of 1, 2 or 3 objects, got 4"),
        ({"split": "tset"}, "split among .*test; got 'tset'"),
    ],
    ids=str,
)
def test_impossible_scenes_are_refused(arguments, words):
    with pytest.raises(InvalidOptionError, match=f"expected .*{words}"):
        make_scene(**{"seed": 0, **arguments})


def test_seen_and_kept_out_drawings_are_different():
    signs = [sign for seen, kept_out in CATALOGUE.values() for sign in seen + kept_out]
    assert len(signs) == len(set(signs))
    seen = {drawing.tobytes() for name in CLASSES for drawing in drawings(name, True)}
    kept_out = {drawing.tobytes() for name in CLASSES for drawing in drawings(name, False)}
    assert len(seen) == sum(len(signs) for signs, _ in CATALOGUE.values())
    assert len(kept_out) == sum(len(signs) for _, signs in CATALOGUE.values())
    assert not seen & kept_out


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_drawings_to_see_of_both_kinds(name):
    for seen, signs in zip((True, False), CATALOGUE[name], strict=True):
        found = drawings(name, seen)
        assert len(found) == len(signs) >= 1
        for drawing in found:
            assert drawing.shape == (CELL, CELL, 4)
            assert drawing.dtype == np.uint8
            solid = drawing[..., 3] > 127
            assert solid.mean() > 0.05
            assert CELL - 2 <= max(np.ptp(np.nonzero(solid)[axis]) + 1 for axis in (0, 1)) <= CELL


@pytest.mark.parametrize("seen", [True, False])
def test_scenes_use_the_drawings_asked_for(seen, monkeypatch):
    asked = []
    monkeypatch.setattr(scenes, "drawings", lambda name, kind: asked.append((name, kind)) or drawings(name, kind))
    make_scene(0, ["cat", "hat"], seen=seen)
    assert asked == [("cat", seen), ("hat", seen)]
