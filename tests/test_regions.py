"""Maps added up over regions: pixel by pixel and patch by patch with plain loops, and over many pictures."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch

import tokentm
from tokentm.demo.scenes import make_scene
from tokentm.errors import InvalidOptionError
from tokentm.explanation import Explanation
from tokentm.regions import gathered, over, patch_weights, regions

PARTS = {
    "positive": lambda score: max(score, 0.0),
    "negative": lambda score: max(-score, 0.0),
    "absolute": abs,
}


def explained(scores, grid, image_size, offset=(0.0, 0.0), classes=3):
    """Maps (C, P) of one picture."""
    count = len(scores)
    return Explanation(
        method="by hand",
        scores=scores,
        layer_scores=scores.new_zeros(count, 0, scores.shape[1]),
        grid=grid,
        logits=torch.zeros(count, classes),
        target=torch.arange(count) % classes,
        image_size=image_size,
        offset=offset,
    )


def area_in(mask, grid, offset, patch):
    """The share of a patch that a mask covers, by cutting every pixel into 12 x 12."""
    fine = 12
    (rows, columns), (height, width) = grid, mask.shape
    row, column = divmod(patch, columns)
    inside = seen = 0
    for y in range(height * fine):
        for x in range(width * fine):
            at_row, at_column = (y + 0.5) / fine * rows / height, (x + 0.5) / fine * columns / width
            if (
                row + offset[0] <= at_row < row + 1 + offset[0]
                and column + offset[1] <= at_column < column + 1 + offset[1]
            ):
                seen += 1
                inside += bool(mask[y // fine][x // fine])
    return inside / seen


def by_hand(scores, masks, grid, offset, part):
    """Sums, means, shares, background of each map, with loops."""
    patches = grid[0] * grid[1]
    nowhere = [[not any(mask[y][x] for mask in masks) for x in range(len(masks[0][0]))] for y in range(len(masks[0]))]
    weights = [[area_in(np.array(mask), grid, offset, patch) for patch in range(patches)] for mask in [*masks, nowhere]]
    sums, means, shares, background = [], [], [], []
    for of_class in scores.tolist():
        values = [PARTS[part](score) for score in of_class]
        added = [sum(w * v for w, v in zip(of_mask, values, strict=True)) for of_mask in weights]
        sums.append(added[:-1])
        means.append([one / sum(of_mask) for one, of_mask in zip(added, weights[:-1], strict=False)])
        shares.append([one / sum(values) for one in added[:-1]])
        background.append(added[-1])
    return sums, means, shares, background


@pytest.fixture(scope="module")
def demo():
    return tokentm.load_demo()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("grid", "size", "offset"),
    [((2, 3), (4, 6), (0.0, 0.0)), ((2, 3), (5, 7), (0.0, 0.0)), ((3, 2), (6, 6), (0.25, 0.5))],
)
def test_regions_are_added_up_as_by_hand(part, grid, size, offset):
    torch.manual_seed(2)
    scores = torch.randn(2, grid[0] * grid[1])
    owner = torch.randint(0, 3, size)  # 2 is in no region
    masks = {"left": (owner == 0).numpy(), "right": owner == 1}
    found = regions(explained(scores, grid, size, offset), masks, part=part)
    wanted = by_hand(scores, [np.asarray(mask).tolist() for mask in masks.values()], grid, offset, part)
    for name, values in zip(("sums", "means", "shares", "background"), wanted, strict=True):
        torch.testing.assert_close(getattr(found, name), torch.tensor(values), rtol=1e-4, atol=1e-5, msg=name)
    assert (found.names, found.targets, found.part) == (("left", "right"), ("class 0", "class 1"), part)


def test_masks_of_patches_are_taken_as_they_are():
    scores = torch.tensor([[1.0, 2.0, -3.0, 4.0, 5.0, 6.0]])
    mask = torch.tensor([[True, False, True], [False, True, False]])
    for offset in ((0.0, 0.0), (0.5, 0.5)):
        found = regions(explained(scores, (2, 3), (4, 6), offset), {"some": mask})
        assert found.sums.tolist() == [[6.0]]
        assert found.means.tolist() == [[2.0]]
        assert found.background.tolist() == [12.0]
        assert (found.areas.tolist(), found.free, found.patches) == ([3.0], 3.0, 6)
        assert found.shares.item() == pytest.approx(6 / 18)


def test_a_mask_of_patches_equals_its_pixels():
    torch.manual_seed(0)
    explanation = explained(torch.randn(2, 6), (2, 3), (8, 12))
    mask = torch.tensor([[True, False, True], [False, True, False]])
    pixels = mask.repeat_interleave(4, 0).repeat_interleave(4, 1)
    torch.testing.assert_close(patch_weights(explanation, {"one": mask}), patch_weights(explanation, {"one": pixels}))


@pytest.mark.parametrize("part", PARTS)
def test_regions_and_background_make_up_the_map(demo, part):
    scene = demo.scene(17, ["cat", "car"])
    images = demo.transform(scene.image).expand(2, -1, -1, -1)
    targets = [demo.classes.index(name) for name in scene.classes]
    made = tokentm.explain(demo.model, images, targets, "input_x_gradient")
    found = regions(made, scene.masks, demo.classes, part)
    values = made.scores.clone().apply_(PARTS[part])
    torch.testing.assert_close(found.sums.sum(1) + found.background, values.sum(1))
    torch.testing.assert_close(found.totals, values.sum(1))
    torch.testing.assert_close(found.shares.sum(1) + found.background / found.totals, torch.ones(2))
    assert found.areas.sum().item() + found.free == pytest.approx(196)
    pixels = torch.tensor([scene.masks[name].sum() / 64 for name in scene.classes])
    torch.testing.assert_close(found.areas, pixels.to(found.areas))
    weights = patch_weights(made, scene.masks)
    torch.testing.assert_close(weights.sum(0), torch.ones(196).double())


def test_the_signed_sum_is_that_of_the_parts(demo):
    torch.manual_seed(1)
    explanation = explained(torch.randn(1, 6), (2, 3), (4, 6))
    mask = {"half": np.arange(24).reshape(4, 6) < 11}
    positive, negative, absolute = (regions(explanation, mask, part=part).sums for part in PARTS)
    torch.testing.assert_close(positive + negative, absolute)
    weights = patch_weights(explanation, mask)[0].float()
    torch.testing.assert_close(positive - negative, (explanation.scores @ weights)[None])


def test_where_regions_overlap_each_has_its_own(demo):
    explanation = explained(torch.arange(1.0, 7.0)[None], (2, 3), (2, 3))
    masks = {"all": np.ones((2, 3), bool), "top": np.array([[True] * 3, [False] * 3])}
    found = regions(explanation, masks)
    assert found.sums.tolist() == [[21.0, 6.0]]
    assert (found.background.tolist(), found.free) == ([0.0], 0.0)


def test_classes_are_told_apart_on_the_demo(demo):
    scene = demo.scene(17, ["cat", "car"])
    images = demo.transform(scene.image).expand(2, -1, -1, -1)
    targets = [demo.classes.index(name) for name in scene.classes]
    found = regions(tokentm.explain(demo.model, images, targets), scene.masks, demo.classes)
    assert found.targets == found.names == ("cat", "car")
    assert found.shares[0, 0] > 2 * found.shares[0, 1]
    assert found.shares[1, 1] > 2 * found.shares[1, 0]


def test_a_map_that_has_nothing_of_a_part_has_no_shares():
    found = regions(explained(-torch.ones(1, 6), (2, 3), (2, 3)), {"top": np.array([[True] * 3, [False] * 3])})
    assert found.sums.tolist() == [[0.0]]
    assert found.shares.isnan().all()


def test_what_is_no_mask_is_refused():
    explanation = explained(torch.ones(1, 6), (2, 3), (4, 6))
    good = np.ones((4, 6), bool)
    for masks, said in [
        ({}, "expected masks by name, such as {'cat': mask}; got no masks"),
        ([good], "expected masks by name, such as {'cat': mask}; got list"),
        (
            {"cat": good[:3]},
            r"expected the mask 'cat' of the picture .* \(4, 6\), or of its patches, \(2, 3\); got \(3, 6",
        ),
        ({"cat": good[None]}, r"got \(1, 4, 6\)"),
        ({"cat": good * 1}, "expected the mask 'cat' to be boolean; got torch.int64"),
        ({"cat": good, "dog": ~good}, "expected each mask to have a pixel at least; 'dog' is empty"),
        ({"cat": good, "dog": good[:2, :3]}, r"all masks of one size, .*; got \(2, 3\) and \(4, 6\)"),
    ]:
        with pytest.raises(InvalidOptionError, match=said):
            regions(explanation, masks)
    with pytest.raises(InvalidOptionError, match="expected a part among positive, negative, absolute; got 'signed'"):
        regions(explanation, {"cat": good}, part="signed")
    with pytest.raises(InvalidOptionError, match="expected a name for each of the 3 classes; got 1 names"):
        regions(explanation, {"cat": good}, ["cat"])


@pytest.fixture(scope="module")
def scenes():
    return [
        make_scene(1, ["cat", "car"]),
        make_scene(2, ["cat"]),
        make_scene(3, ["dog", "cat", "tree"]),
        make_scene(4, ["car", "dog"]),
    ]


def test_many_pictures_are_gathered_as_one_by_one(demo, scenes):
    found = over(demo.model, scenes, demo.classes)
    wanted = {}
    for i, scene in enumerate(scenes):
        for target in scene.classes:
            made = tokentm.explain(demo.model, demo.transform(scene.image)[None], demo.classes.index(target))
            one = regions(made, scene.masks)
            for k, name in enumerate(scene.masks):
                wanted[i, target, name] = (one.shares[0, k], one.means[0, k], one.areas[k])
            rest = one.background[0]
            wanted[i, target, "background"] = (rest / one.totals[0], rest / one.free, one.free)
    assert found.targets == ("cat", "car", "dog", "tree")
    assert found.names == ("cat", "car", "dog", "tree", "background")
    assert len(found.shares) == len(wanted)
    for n in range(len(found.shares)):
        key = (int(found.pictures[n]), found.targets[found.rows[n]], found.names[found.columns[n]])
        share, mean, area = wanted.pop(key)
        assert found.shares[n].item() == pytest.approx(float(share), rel=1e-3, abs=1e-6)
        assert found.means[n].item() == pytest.approx(float(mean), rel=1e-3, abs=1e-6)
        assert found.areas[n].item() == pytest.approx(float(area))
    assert not wanted
    assert found.counts.tolist() == [[3, 1, 1, 1, 3], [1, 2, 1, 0, 2], [1, 1, 2, 1, 2], [1, 0, 1, 1, 1]]
    for i, target in enumerate(found.targets):
        for j, name in enumerate(found.names):
            shares = found.shares[found.where(target, name)].tolist()
            middle = found.quantiles()[i, j].item()
            assert middle == pytest.approx(statistics.median(shares)) if shares else math.isnan(middle)
    assert found.quantiles(1.0)[0, 0] == found.shares[found.where("cat", "cat")].max()


def test_chosen_classes_are_explained_on_every_picture(demo, scenes):
    found = over(demo.model, scenes[:2], demo.classes, targets=["boat"], method="rollout")
    assert (found.targets, found.names, found.method) == (("boat",), ("cat", "car", "background"), "rollout")
    assert found.counts.tolist() == [[2, 1, 2]]


def test_names_that_are_missing_are_said(demo, scenes):
    odd = replace(scenes[1], masks={"kitty": scenes[1].masks["cat"]})
    with pytest.raises(InvalidOptionError, match="regions that are called as a class; picture 0 has kitty"):
        over(demo.model, [odd], demo.classes)
    with pytest.raises(InvalidOptionError, match=r"targets as a list of names among .*; got \['kitty'\]"):
        over(demo.model, scenes, demo.classes, targets=["cat", "kitty"])
    with pytest.raises(InvalidOptionError, match=r"targets as a list of names among .*; got 'cat'"):
        over(demo.model, scenes, demo.classes, targets="cat")
    with pytest.raises(InvalidOptionError, match="expected at least one picture with masks; got none"):
        over(demo.model, [], demo.classes)
    found = over(demo.model, scenes[1:2], demo.classes)
    with pytest.raises(InvalidOptionError, match="expected a name among cat, background; got 'kitty'"):
        found.where("cat", "kitty")
    with pytest.raises(InvalidOptionError, match="expected a name among cat; got 'background'"):
        found.where("background", "cat")


def test_tables_that_do_not_belong_together_are_refused():
    explanation = explained(torch.ones(1, 6), (2, 3), (4, 6))
    half = np.arange(24).reshape(4, 6) < 11
    with pytest.raises(InvalidOptionError, match="expected one table a picture; got none"):
        gathered([])
    pair = [regions(explanation, {"a": half}, part=part) for part in ("positive", "absolute")]
    with pytest.raises(
        InvalidOptionError, match=r"one method and one part .*; got by hand \(absolute\), by hand \(pos"
    ):
        gathered(pair)
    with pytest.raises(InvalidOptionError, match="expected no region to be called 'background'"):
        gathered([regions(explanation, {"background": half})])


def test_regions_everywhere_leave_no_background():
    explanation = explained(torch.ones(1, 6), (2, 3), (4, 6))
    half = np.arange(24).reshape(4, 6) < 11
    found = gathered([regions(explanation, {"a": half, "b": ~half}), regions(explanation, {"a": half})])
    assert found.counts.tolist() == [[2, 1, 1]]
    assert found.shares.isfinite().all()


def test_figures_show_the_shares(demo, scenes):
    found = over(demo.model, scenes, demo.classes)
    figure = found.plot()
    assert figure.alt == "Median share of the positive map by class and region over 4 pictures, and quartiles"
    left, right = figure.axes
    drawn = left.images[0].get_array()
    np.testing.assert_allclose(np.ma.filled(drawn, np.nan), found.quantiles().numpy())
    assert {text.get_position(): text.get_text() for text in left.texts}[0, 0] == f"{100 * found.quantiles()[0, 0]:.0f}"
    assert len(left.texts) == int((found.counts > 0).sum())
    dots = {
        (line.get_label(), line.get_ydata()[0]): line.get_xdata()[0]
        for line in right.lines
        if len(line.get_xdata()) == 1
    }
    assert dots["own region", -0.25] == pytest.approx(found.quantiles()[0, 0].item())
    assert dots["background", 1.25] == pytest.approx(found.quantiles()[1, -1].item())
    others = [found.shares[found.where("tree", name)] for name in ("cat", "dog")]
    assert dots["other regions", 3.0] == pytest.approx(torch.cat(others).quantile(0.5).item())
    figure.still()
    scene = scenes[0]
    made = tokentm.explain(demo.model, demo.transform(scene.image)[None], demo.classes.index("cat"))
    table = regions(made, scene.masks, demo.classes)
    figure = table.plot()
    assert figure.alt == "Share of the positive map of cat on cat, car, background"
    shares = [*table.shares[0].tolist(), float(table.background[0] / table.totals[0])]
    assert [text.get_text() for text in figure.axes[0].texts] == [f"{100 * share:.0f}" for share in shares]
    area = scene.masks["cat"].mean()
    assert figure.axes[0].get_xticklabels()[0].get_text() == f"cat\n{100 * area:.0f} %"
    figure.still()
