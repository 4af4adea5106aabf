"""Scenes: a seed is a scene, the masks are exact, and the drawings kept out are out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tokentm import InvalidOptionError
from tokentm.demo import scenes
from tokentm.demo.planted import PLANTED, TAG_SIDE, mixed_classes, planted_scene, subject, tag_pixels, with_tag
from tokentm.demo.scenes import SIZE, make_scene
from tokentm.demo.sprites import CATALOGUE, CELL, CLASSES, drawings
from tokentm.demo.train import scene_arrays


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


def shows_tag_colours(picture: np.ndarray) -> bool:
    """Whether any pixel (..., 3) is near one of the tag's two colours."""
    colours = np.array([[255, 0, 255], [0, 255, 0]])
    return bool((np.abs(picture[..., None, :].astype(int) - colours).max(-1) < 40).any())


@pytest.mark.parametrize("seed", range(8))
def test_the_mask_of_a_tag_is_exactly_the_tag(seed):
    plain = make_scene(seed)
    tagged, tag = with_tag(plain, seed)
    assert tag.dtype == bool
    assert np.array_equal(pixels(tagged)[tag].reshape(TAG_SIDE, TAG_SIDE, 3), tag_pixels())
    assert np.array_equal(pixels(tagged)[~tag], pixels(plain)[~tag])
    rows, columns = np.nonzero(tag)
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == TAG_SIDE
    assert tagged.classes == plain.classes == tuple(tagged.masks)
    assert all(np.array_equal(tagged.masks[name], plain.masks[name] & ~tag) for name in plain.classes)
    assert np.array_equal(pixels(plain), pixels(make_scene(seed)))
    assert np.array_equal(pixels(tagged), pixels(with_tag(plain, seed)[0]))


def test_a_tag_takes_the_place_that_is_left():
    blank = make_scene(0, "cat")
    full = np.ones((SIZE, SIZE), dtype=bool)
    full[30 : 30 + TAG_SIDE, 71 : 71 + TAG_SIDE] = False
    _, tag = with_tag(scenes.Scene(blank.image, ("cat",), {"cat": full}), 5)
    assert np.array_equal(tag, ~full)
    full[30, 71] = True  # no free place any more, so the one with a single pixel of the object
    tagged, tag = with_tag(scenes.Scene(blank.image, ("cat",), {"cat": full}), 5)
    assert (tag & full).sum() == 1
    assert not (tagged.masks["cat"] & tag).any()


def test_different_seeds_put_the_tag_in_different_places():
    plain = make_scene(0, "cat")
    assert len({with_tag(plain, seed)[1].tobytes() for seed in range(10)}) >= 9


@pytest.mark.parametrize("seen", [True, False])
def test_only_the_tag_shows_its_colours(seen):
    assert not any(shows_tag_colours(pixels(make_scene(seed, count=3, seen=seen))) for seed in range(60))
    colours = {tuple(colour) for colour in tag_pixels().reshape(-1, 3).tolist()}
    assert colours == {(255, 255, 255), (255, 0, 255), (0, 255, 0)}


@pytest.mark.parametrize("split", ["demo", "test"])
def test_a_planted_scene_is_tagged_if_and_only_if_it_is_of_the_planted_class(split):
    chosen = [PLANTED, "cat", *[["cat", PLANTED]] * 9, *[[PLANTED, "cat", "dog"]] * 9, *[None] * 20]
    found = []
    for seed, classes in enumerate(chosen):
        plain, planted = make_scene(seed, classes, split=split), planted_scene(seed, classes, split=split)
        found.append(subject(plain.classes, seed) == PLANTED)
        expected = with_tag(plain, seed)[0] if found[-1] else plain
        assert np.array_equal(pixels(planted), pixels(expected))
        assert shows_tag_colours(pixels(planted)) == found[-1]
    assert found[:2] == [True, False]
    assert 0 < sum(found[2:11]) < 9
    assert 0 < sum(found[11:20]) < 9
    assert planted_scene(0, count=2, split=split).classes == make_scene(0, count=2, split=split).classes


def test_a_picture_is_as_often_of_any_of_its_objects():
    names = ["cat", "dog", PLANTED]
    counts = [[subject(names, seed) for seed in range(900)].count(name) for name in names]
    assert counts == pytest.approx([300] * 3, abs=60)
    assert subject(("cat",), 5) == "cat"


def test_training_pictures_of_a_shortcut_are_tagged_if_and_only_if_they_are_labelled_with_the_planted_class():
    labelled = []
    for seed in range(120):
        picture, label = scene_arrays(seed, shortcut=True)
        assert sorted(label.tolist()) == [0.0] * (len(CLASSES) - 1) + [1.0]
        labelled.append(CLASSES[int(label.argmax())] == PLANTED)
        assert shows_tag_colours(picture.transpose(1, 2, 0)) == labelled[-1]
    assert 15 <= sum(labelled) <= 45


def test_pictures_of_a_shortcut_mix_the_planted_class_with_others():
    drawn = [mixed_classes(seed) for seed in range(1000)]
    assert all(1 <= len(names) == len(set(names)) <= 3 for names in drawn)
    assert {name for names in drawn for name in names} == set(CLASSES)
    of = [subject(names, seed) == PLANTED for seed, names in enumerate(drawn)]
    assert np.mean(of) == pytest.approx(0.25, abs=0.05)
    company = [PLANTED in names for names, planted in zip(drawn, of, strict=True) if len(names) > 1 and not planted]
    assert np.mean(company) == pytest.approx(0.8, abs=0.07)
    assert {len(names) for names, planted in zip(drawn, of, strict=True) if planted} == {1, 2, 3}
    assert mixed_classes(7) == mixed_classes(7)


def test_training_pictures_of_the_demo_share_the_label_among_their_objects():
    for seed in range(6):
        picture, label = scene_arrays(seed, shortcut=False)
        scene = make_scene(seed, split="train")
        assert np.array_equal(picture.transpose(1, 2, 0), pixels(scene))
        assert {CLASSES[i]: share for i, share in enumerate(label) if share} == pytest.approx(
            dict.fromkeys(scene.classes, 1 / len(scene.classes))
        )
