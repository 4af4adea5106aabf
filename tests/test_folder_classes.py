"""Which class a folder of pictures stands for, and what is said where that is not clear."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image
from timm.data import ImageNetInfo

from tokentm.demo.sprites import CLASSES
from tokentm.errors import InvalidOptionError
from tokentm.evaluation.__main__ import main
from tokentm.evaluation.datasets import open_dataset
from tokentm.evaluation.folder_classes import classes_of, read_table


def folders_of(root, names):
    for seed, name in enumerate(names):
        (root / name).mkdir()
        pixels = np.random.default_rng(seed).integers(0, 255, (112, 112, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name / "one.png")


def test_numbers_are_class_indices_whatever_their_order_as_names():
    assert classes_of(["0", "10", "2"], 16) == (0, 10, 2)
    # as many folders as classes: the order of the names would make 10 the third class
    every = sorted(str(index) for index in range(12))
    assert classes_of(every, 12) == tuple(int(name) for name in every)


def test_names_of_the_model_are_its_classes_in_any_number():
    assert classes_of(["cat", "dog"], 3, ["dog", "cat", "bird"]) == (1, 0)
    assert classes_of(["bird", "cat", "dog"], 3, ["dog", "cat", "bird"]) == (2, 1, 0)
    assert classes_of(["a"], 3, ["b", "a", "a"]) == (1,)  # the first of two classes of one name


def test_wordnet_ids_are_imagenet_s_classes():
    known = ImageNetInfo().label_names()
    assert classes_of([known[7], known[999]], 1000) == (7, 999)
    with pytest.raises(InvalidOptionError, match="found 2 folders"):
        classes_of([known[7], known[999]], 999)


def test_otherwise_all_classes_are_in_the_order_of_their_names():
    assert classes_of(["x", "y"], 2, ["cat", "dog"]) == (0, 1)
    assert classes_of(["x", "y", "z"], None) == (0, 1, 2)


def test_a_table_decides_and_may_join_folders():
    assert classes_of(["0", "1"], 16, table={"0": 5, "1": 5, "unused": 3}) == (5, 5)


@pytest.mark.parametrize(
    ("folders", "count", "table", "message"),
    [
        (["x"], 2, None, "some of the model's 2 classes: class indices, the model's names \\(cat, dog\\), or"),
        (["0", "2"], 2, None, "from 0 to 1, got 2 for the folder 2"),
        (["01", "1"], 4, None, "one folder for each class index; found 01, 1"),
        (["x"], 2, {"y": 0}, "none for x"),
        (["x"], 2, {"x": 2}, "from 0 to 1, got 2 for the folder x"),
        (["x"], None, {"x": -1}, "of 0 or more, got -1"),
    ],
)
def test_what_is_unclear_is_refused_with_what_to_do(folders, count, table, message):
    with pytest.raises(InvalidOptionError, match=message):
        classes_of(folders, count, ["cat", "dog"], table)


@pytest.mark.parametrize("content", ["", "[1]", '{"a": "b"}', '{"a": true}'])
def test_a_damaged_table_is_refused(tmp_path, content):
    path = tmp_path / "classes.json"
    path.write_text(content)
    with pytest.raises(InvalidOptionError, match=r"classes\.json"):
        read_table(path)
    with pytest.raises(InvalidOptionError, match="No such file"):
        read_table(tmp_path / "none.json")


def test_a_folder_of_some_classes_is_labelled_pictures(tmp_path):
    folders_of(tmp_path, ["house", "cat"])
    data = open_dataset(f"folder:{tmp_path}", 16, names=CLASSES)
    assert [(data[i].name, data[i].label) for i in range(2)] == [
        ("cat/one.png", CLASSES.index("cat")),
        ("house/one.png", CLASSES.index("house")),
    ]
    assert data.classes == 16


def test_the_command_takes_folders_of_some_classes_and_a_table(tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    folders_of(pictures, ["house", "cat"])
    command = ["perturbation", "--data", f"folder:{pictures}", "--methods", "tokentm", "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "names")]) == 0
    table = tmp_path / "classes.json"
    table.write_text(json.dumps({"house": 3, "cat": 3}))
    again = [*command, "--classes", str(table), "--out", str(tmp_path / "table")]
    assert main(again) == 0

    def explained(folder: str) -> list[str]:
        with (tmp_path / folder / "results.csv").open() as file:
            return [row["explained"] for row in csv.DictReader(file) if row["case"] == "labelled class"]

    assert set(explained("names")) == {str(CLASSES.index("cat")), str(CLASSES.index("house"))}
    assert set(explained("table")) == {"3"}
    table.write_text(json.dumps({"house": 4, "cat": 3}))
    capsys.readouterr()
    assert main(again) != 0  # another labelling is another run
    assert "classes" in capsys.readouterr().err
