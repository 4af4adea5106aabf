"""Mosaics: laid of the right pictures, told apart by the right quadrants, controlled by the model itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import make_vit
from PIL import Image

import tokentm
from tokentm.demo.scenes import make_scene
from tokentm.demo.sprites import CLASSES
from tokentm.errors import InvalidOptionError
from tokentm.evaluation import Removal, mosaics_of
from tokentm.evaluation.__main__ import main
from tokentm.evaluation.datasets import DataError, DemoScenes, LabelledPictures, Sample
from tokentm.evaluation.mosaics import compose, control, quadrants
from tokentm.evaluation.protocols import PROTOCOLS, Subject
from tokentm.evaluation.run import evaluate, read_table
from tokentm.methods import METHODS

PICTURE = Image.new("RGB", (24, 16))


@dataclass(frozen=True)
class Listed:
    """Pictures with such labels, all the same."""

    labels: tuple[int | None, ...]
    classes: int | None = 5

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        return Sample(f"s{index}", PICTURE, self.labels[index], {})


LABELS = (0, 1, 2, 0, 1, 2, 3, 3, 3, 0, 4, 1)


def test_mosaics_are_laid_of_two_pictures_of_each_of_two_classes_and_none_twice():
    made = mosaics_of(Listed(LABELS * 5))
    used = [part.name for mosaic in made.items for part in mosaic.parts]
    assert len(used) == len(set(used)) == 4 * len(made)
    assert len(made) >= len(LABELS) - 1  # 60 pictures; single ones and one class may be left over
    for mosaic in made.items:
        above_left, above_right, below_left, below_right = (part.label for part in mosaic.parts)
        assert (above_left, above_right) == (below_right, below_left) == mosaic.classes
        assert above_left != above_right
        assert mosaic.name == " / ".join(part.name for part in mosaic.parts)
    assert made.classes == 5


def test_the_same_seed_lays_the_same_mosaics_and_a_count_the_first_of_them():
    data = Listed(LABELS * 5)
    names = [[m.name for m in mosaics_of(data, count, seed=seed).items] for count, seed in [(None, 0), (3, 0), (3, 1)]]
    assert names[0][:3] == names[1]
    assert [m.name for m in mosaics_of(data, 3).items] == names[1] != names[2]


def test_either_class_stands_above_left_as_often():
    """Also where one class has more pictures, whose diagonals wait for the others'."""
    made = mosaics_of(Listed((0, 0, 0, 1) * 200))
    share = np.mean([mosaic.classes[0] for mosaic in made.items])
    assert 0.35 < share < 0.65


def test_pictures_that_the_model_gets_wrong_are_left_out():
    asked = []

    def recognises(samples):
        asked.extend(sample.name for sample in samples)
        return [int(sample.name[1:]) % 2 == 0 for sample in samples]

    made = mosaics_of(Listed(LABELS * 10), 4, recognises)
    assert len(made) == 4
    assert all(int(part.name[1:]) % 2 == 0 for mosaic in made.items for part in mosaic.parts)
    assert len(asked) == len(set(asked)) < 120  # no more than are needed, by the batch


def nobody(samples):
    return [False] * len(samples)


@pytest.mark.parametrize(
    ("labels", "recognises", "words"),
    [
        ((1, 1, 1, 1), None, "two pictures of each of two classes, .* found 1 class in all. Add folders"),
        ((0, 1, 2, 3), None, r"found 0 such class\(es\): of 4 pictures of 4 classes, 4 of 4 are to be used"),
        ((0, 0, 1, 2), None, r"found 1 such class\(es\)"),
        (LABELS, nobody, "the model gets none of the 12 pictures right. Are labels in the order of its outputs"),
        ((0, None, 1, 1), None, "pictures with one label each; s1 has none"),
    ],
)
def test_what_makes_no_mosaic_is_refused(labels, recognises, words):
    with pytest.raises(DataError, match=words):
        mosaics_of(Listed(labels), recognises=recognises)


def test_a_mosaic_holds_halved_pictures_row_by_row():
    images = torch.randn(2, 4, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    found = compose(images)
    for b in range(2):
        for q in range(4):
            for y in range(3):
                for x in range(4):
                    square = images[b, q, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                    mean = sum(square[:, i, j] for i in (0, 1) for j in (0, 1)) / 4
                    torch.testing.assert_close(found[b, :, y + 3 * (q // 2), x + 4 * (q % 2)], mean)
    for size in ((5, 8), (6, 7)):
        with pytest.raises(DataError, match="of an even height and width"):
            compose(torch.zeros(1, 4, 3, *size))


def test_quadrants_tile_the_grid_or_are_refused():
    found = quadrants(4, 6)
    for row in range(4):
        for column in range(6):
            above, left = row < 2, column < 3
            assert found[row, column].item() is ((above and left) or (not above and not left))
    for rows, columns in ((7, 14), (14, 7), (0, 2)):
        with pytest.raises(
            DataError, match=f"even number of rows and columns .*; got {rows} x {columns}. Take a model"
        ):
            quadrants(rows, columns)


def additive(effects: list[float]):
    """z of class 0 = the effects of the patches that are there; class 1 has 0."""
    weights = torch.tensor(effects)

    def remove(gone: torch.Tensor) -> torch.Tensor:
        z = (weights * ~gone).sum(1)
        return torch.stack((z, torch.zeros_like(z)), 1)

    return remove


@pytest.mark.parametrize(
    ("effects", "target", "expected"),
    [
        ([2.0, 0.5, 0.1, 1.0], 0, 1.0),  # own: the first and the last
        ([2.0, 0.5, 0.1, 1.0], 1, 0.0),  # the same speaks against the other class
        ([0.5, 2.0, 1.0, 0.1], 0, 0.0),
        ([0.5, 1.0, 0.5, 1.0], 0, 0.5),
    ],
)
def test_the_control_says_whose_absence_hurts_the_log_odds_more(effects, target, expected):
    own = torch.tensor([[True, False, False, True]])
    assert control(additive(effects), own, torch.tensor([target])).tolist() == [expected]


def write(tmp_path, names: dict[str, tuple[int, int, int]], count: int = 4):
    """A folder of each class, with pictures of one colour and some noise."""
    generator = np.random.default_rng(0)
    for name, colour in names.items():
        (tmp_path / name).mkdir()
        for i in range(count):
            noisy = np.array(colour) + generator.integers(-20, 20, (16, 24, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / name / f"{i}.png")
    return tmp_path


COLOURS = {"blue": (20, 20, 230), "green": (20, 230, 20), "red": (230, 20, 20)}


class Eighths:
    """A transform without resizing or cropping."""

    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __call__(self, picture):
        return (torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255 - 0.5) / 0.25


@pytest.fixture(scope="module")
def model():
    return make_vit(img_size=(16, 24), patch_size=4, num_classes=3, depth=2)


@pytest.fixture(scope="module")
def subject(model):
    return Subject(model, {name: METHODS[name] for name in ("tokentm", "rollout")}, Eighths())


def test_rows_are_counted_anew_map_by_map(tmp_path, model, subject):
    """Composed, explained, compared and controlled here one class at a time, in loops."""
    data = LabelledPictures.image_folder(write(tmp_path, COLOURS))
    made = mosaics_of(data, 2)
    rows = PROTOCOLS["mosaics"](subject, made.items)
    assert len(rows) == 2 * 2 * 2
    for mosaic in made.items:
        small = [Eighths()(part.image).view(3, 8, 2, 12, 2).mean((2, 4)) for part in mosaic.parts]
        image = torch.cat((torch.cat(small[:2], 2), torch.cat(small[2:], 2)), 1)[None]
        for which, c in enumerate(mosaic.classes):
            trace = tokentm.record(model, image, c)
            mine = [p for p in range(24) if ((p // 6 < 2) == (p % 6 < 3)) == (which == 0)]
            others = [p for p in range(24) if p not in mine]
            odds = []
            for kept in (others, mine):
                gone = torch.ones(1, 24, dtype=torch.bool)
                gone[0, kept] = False
                z = Removal(trace)(gone)[0].double()
                odds.append(float(z[c] - torch.logsumexp(torch.cat((z[:c], z[c + 1 :])), 0)))
            for name, method in subject.methods.items():
                scores = method(trace).scores[0].double()
                inside, outside = scores[mine].mean(), scores[others].mean()
                (row,) = [r for r in rows if (r["sample"], r["method"], r["explained"]) == (mosaic.name, name, c)]
                assert row["picks"] == float(inside > outside)
                assert row["share"] == pytest.approx(float(inside / (inside + outside)), rel=1e-4)
                assert row["control"] == float(odds[0] < odds[1])
                assert row["case"] == "class in two quadrants"


def test_a_map_that_knows_no_class_is_right_for_one_of_two(tmp_path, subject):
    made = mosaics_of(LabelledPictures.image_folder(write(tmp_path, COLOURS)), 2)
    rows = [row for row in PROTOCOLS["mosaics"](subject, made.items) if row["method"] == "rollout"]
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert first["sample"] == second["sample"]
        assert first["picks"] + second["picks"] == 1
        assert first["share"] + second["share"] == pytest.approx(1)


def test_a_grid_of_odd_rows_is_refused(tmp_path):
    odd = make_vit(img_size=(12, 24), patch_size=4, num_classes=3)
    subject = Subject(odd, {"rollout": METHODS["rollout"]}, lambda picture: Eighths()(picture.resize((24, 12))))
    made = mosaics_of(LabelledPictures.image_folder(write(tmp_path, COLOURS)), 1)
    with pytest.raises(DataError, match=r"rows and columns of patches, .*; got 3 x 6"):
        PROTOCOLS["mosaics"](subject, made.items)


def test_recognised_pictures_are_those_whose_label_is_predicted(tmp_path, model, subject):
    data = LabelledPictures.image_folder(write(tmp_path, COLOURS))
    samples = [data[i] for i in range(len(data))]
    for sample, right in zip(samples, subject.recognises(samples), strict=True):
        assert right is (int(model(Eighths()(sample.image)[None]).argmax()) == sample.label)


def test_mosaics_are_of_one_test_alone(subject, tmp_path):
    made = mosaics_of(Listed(LABELS))
    with pytest.raises(InvalidOptionError, match="for the test of that name alone; got Mosaics for saco"):
        evaluate("saco", subject, made, tmp_path)
    with pytest.raises(InvalidOptionError, match="got DemoScenes for mosaics"):
        evaluate("mosaics", subject, DemoScenes(2), tmp_path)


def test_the_command_lays_mosaics_of_demo_scenes(tmp_path, capsys):
    command = ["mosaics", "--methods", "tokentm,rollout", "--limit", "3", "--target", "log-odds"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    rows = read_table(tmp_path / "run" / "results.csv")
    assert len(rows) == 3 * 2 * 2
    assert {row["control"] for row in rows} <= {0.0, 0.5, 1.0}
    assert "picks ↑ | share ↑ | control |" in capsys.readouterr().out


def folders(root, order):
    """Two pictures of each class of the demo, in folders that sort in this order of its classes."""
    for place, index in enumerate(order):
        (root / f"{place:02}").mkdir(parents=True)
        for i in (0, 1):
            scene = make_scene(20_000 + 2 * index + i, classes=CLASSES[index], split="test")
            scene.image.save(root / f"{place:02}" / f"{i}.png")
    return f"folder:{root}"


def test_the_command_takes_a_folder_and_says_when_no_picture_is_recognised(tmp_path, capsys):
    command = ["mosaics", "--methods", "rollout", "--out", str(tmp_path / "run"), "--data"]
    backwards = folders(tmp_path / "backwards", range(15, -1, -1))
    assert main([*command, backwards]) == 2
    assert "the model gets none of the 32 pictures right" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main([*command, folders(tmp_path / "right", range(16)), "--limit", "2"]) == 0
    rows = read_table(tmp_path / "run" / "results.csv")
    assert [row["sample"].count(" / ") for row in rows] == [3] * 4
    assert main([*command, backwards, "--limit", "1", "--include-wrong"]) == 2
    assert "include_wrong: None there, True now" in capsys.readouterr().err
    assert (
        main([*command[:3], "--out", str(tmp_path / "all"), "--data", backwards, "--limit", "1", "--include-wrong"])
        == 0
    )
