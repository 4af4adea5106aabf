"""Every kind of data, from miniature files of the real layout, and what damaged ones say."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from tokentm.demo.sprites import CLASSES
from tokentm.evaluation.datasets import DataError, ImageNetSegmentation, Sample, open_dataset


def picture(width: int = 12, height: int = 8, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def write_segmentation(path: Path, images: list[np.ndarray], masks: list[np.ndarray], mask_count: int | None = None):
    """The layout of gtsegs_ijcv.mat: references, transposed arrays, masks behind a second reference."""
    with h5py.File(path, "w") as file:
        store = file.create_group("#refs#")
        for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
            store[f"image{i}"] = image.transpose(2, 1, 0)
            store[f"mask{i}"] = mask.T.astype(np.uint8)
            inner = store.create_dataset(f"cell{i}", (1, 1), dtype=h5py.ref_dtype)
            inner[0, 0] = store[f"mask{i}"].ref
        for name, target, count in (("img", "image", len(images)), ("gt", "cell", mask_count or len(masks))):
            references = file.create_dataset(f"value/{name}", (count, 1), dtype=h5py.ref_dtype)
            for i in range(count):
                references[i, 0] = store[f"{target}{i}"].ref


def test_demo_scenes_are_labelled_and_new():
    one = open_dataset("demo", 16, limit=3)
    assert len(one) == 3
    sample = one[2]
    assert sample.name == "test-1-10002"
    assert list(sample.masks) == [sample.label]
    two = open_dataset("demo:validation", 16, objects=2)
    assert len(two) == 200
    assert two[0].name == "validation-2-10000"
    assert two[0].label is None
    assert len(two[0].masks) == 2
    assert all(0 <= label < len(CLASSES) and mask.any() for label, mask in two[0].masks.items())


def test_folders_are_classes_in_the_order_of_their_names(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        picture(seed=ord(name)).save(tmp_path / name / "one.png")
    data = open_dataset(f"folder:{tmp_path}", 2)
    assert [(data[i].name, data[i].label, data[i].masks) for i in range(2)] == [
        ("a/one.png", 0, {}),
        ("b/one.png", 1, {}),
    ]
    assert np.array_equal(np.asarray(data[1].image), np.asarray(picture(seed=ord("b"))))
    with pytest.raises(DataError, match=r"some of the model's 1000 classes: .*WordNet.*found 2 folders: a, b\."):
        open_dataset(f"folder:{tmp_path}", 1000)
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="one folder of pictures for each class"):
        open_dataset(f"folder:{tmp_path}", 3)


def test_pictures_have_no_label(tmp_path):
    (tmp_path / "below").mkdir()
    picture().save(tmp_path / "below" / "one.jpg")
    picture().save(tmp_path / "two.PNG")
    (tmp_path / "notes.txt").write_text("no picture")
    data = open_dataset(f"pictures:{tmp_path}", 7)
    assert [data[i].name for i in range(len(data))] == ["below/one.jpg", "two.PNG"]
    assert data[0].label is None
    (tmp_path / "two.PNG").write_bytes((tmp_path / "two.PNG").read_bytes()[:60])
    with pytest.raises(DataError, match=r"can be read at .*two\.PNG"):
        data[1]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="expected pictures under"):
        open_dataset(f"pictures:{empty}", 7)


def test_imagenet_says_what_it_needs(tmp_path):
    with pytest.raises(DataError, match="validation archive and devkit in"):
        open_dataset(f"imagenet:{tmp_path}", 1000)


def test_imagenet_s_unpacked_folder_is_read(tmp_path):
    import torch

    for wnid in ("n02", "n01"):
        (tmp_path / "val" / wnid).mkdir(parents=True)
        picture().save(tmp_path / "val" / wnid / "x.JPEG")
    torch.save(({"n01": ("tench",), "n02": ("shark",)}, ["n01", "n02"]), tmp_path / "meta.bin")
    data = open_dataset(f"imagenet:{tmp_path}", 2)
    assert [(data[i].name, data[i].label) for i in range(2)] == [("n01/x.JPEG", 0), ("n02/x.JPEG", 1)]


def test_imagenet_segmentation_is_turned_upright(tmp_path):
    path = tmp_path / "gtsegs_ijcv.mat"
    images = [np.asarray(picture(12, 8, seed)) for seed in (1, 2)]
    masks = [np.zeros((8, 12), bool), np.zeros((8, 12), bool)]
    masks[0][2:4, 5:9] = masks[1][0, 0] = True
    write_segmentation(path, images, masks)
    data = open_dataset(f"imagenet-segmentation:{path}", 1000)
    assert len(data) == 2
    for i in range(2):
        sample = data[i]
        assert np.array_equal(np.asarray(sample.image), images[i])
        assert list(sample.masks) == [None]
        assert np.array_equal(sample.masks[None], masks[i])
        assert sample.label is None


def test_damaged_imagenet_segmentation_is_refused(tmp_path):
    path = tmp_path / "gtsegs_ijcv.mat"
    with pytest.raises(DataError, match="there is no file at"):
        ImageNetSegmentation.open(path)
    image, mask = np.asarray(picture()), np.ones((8, 12), bool)
    write_segmentation(path, [image, image], [mask, mask], mask_count=1)
    with pytest.raises(DataError, match=r"as many masks as pictures in .*; found \(1, 2\)"):
        ImageNetSegmentation.open(path)
    write_segmentation(path, [image], [np.ones((9, 12), bool)])
    with pytest.raises(DataError, match=r"mask of 8 x 12 .* as the picture; got bool \(9, 12\)"):
        ImageNetSegmentation.open(path)[0]
    write_segmentation(path, [image.astype(np.uint16) * 257], [mask])
    with pytest.raises(DataError, match=r"expected pixels of 8 bits \(uint8\), .*; found uint16"):
        ImageNetSegmentation.open(path)[0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="it is damaged or another"):
        ImageNetSegmentation.open(path)
    with h5py.File(path, "w") as file:
        file["other"] = 1
    with pytest.raises(DataError, match="expected /value/img and /value/gt"):
        ImageNetSegmentation.open(path)


def write_coco(root: Path, **changes) -> Path:
    picture(12, 8).save(root / "one.png")
    picture(10, 10).save(root / "two.png")
    square = [2, 1, 6, 1, 6, 5, 2, 5]
    content = {
        "images": [
            {"id": 5, "file_name": "one.png", "width": 12, "height": 8},
            {"id": 3, "file_name": "two.png", "width": 10, "height": 10},
            {"id": 9, "file_name": "none.png", "width": 10, "height": 10},
        ],
        "categories": [{"id": 70, "name": "dog"}, {"id": 20, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 70, "segmentation": [square], "iscrowd": 0, "area": 16},
            {
                "id": 2,
                "image_id": 5,
                "category_id": 20,
                "segmentation": [[8, 0, 12, 0, 12, 8, 8, 8]],
                "iscrowd": 0,
                "area": 32,
            },
            {"id": 3, "image_id": 3, "category_id": 20, "segmentation": [square], "iscrowd": 0, "area": 16},
        ],
        **changes,
    }
    path = root / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_s_outlines_become_masks(tmp_path):
    data = open_dataset(f"coco:{tmp_path}", 2, annotations=write_coco(tmp_path))
    assert [data[i].name for i in range(len(data))] == [
        "two.png",
        "one.png",
    ]  # by id; a picture without objects is none
    both = data[1]
    assert set(both.masks) == {0, 1}  # category 20 is the first
    assert both.label is None
    assert both.masks[1][1:5, 2:6].all()
    assert both.masks[1].sum() == pytest.approx(16, abs=6)
    assert both.masks[0][:, 9:].all()
    assert data[0].label == 0


def test_coco_of_other_classes_gives_one_mask_of_unknown_class(tmp_path):
    data = open_dataset(f"coco:{tmp_path}", 1000, annotations=write_coco(tmp_path))
    assert data.classes is None
    assert list(data[1].masks) == [None]
    assert data[1].masks[None][:, 9:].all()
    assert data[1].masks[None][1:5, 2:6].all()


def test_damaged_coco_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected --annotations FILE"):
        open_dataset(f"coco:{tmp_path}", 2)
    with pytest.raises(DataError, match="there is none at"):
        open_dataset(f"coco:{tmp_path}", 2, annotations=tmp_path / "none.json")
    path = write_coco(tmp_path, annotations=[])
    with pytest.raises(DataError, match="expected outlined objects"):
        open_dataset(f"coco:{tmp_path}", 2, annotations=path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(DataError, match=r"expected COCO annotations in .*JSONDecodeError"):
        open_dataset(f"coco:{tmp_path}", 2, annotations=path)
    picture(10, 9).save(tmp_path / "two.png")
    data = open_dataset(f"coco:{tmp_path}", 2, annotations=write_coco(tmp_path))
    picture(10, 9).save(tmp_path / "two.png")
    with pytest.raises(DataError, match=r"two\.png: expected a boolean mask of 9 x 10"):
        data[0]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("imagnet:here", r"expected data as demo, .*imagenet-segmentation:PATH, coco:PATH; got 'imagnet:here'"),
        ("folder", "got 'folder'"),
        ("demo:train", "expected demo, demo:test or demo:validation; got 'demo:train'"),
        ("folder:/none", "expected a folder; there is none at /none"),
        ("pictures:/none", "expected a folder"),
    ],
)
def test_an_unknown_kind_or_place_is_refused(spec, words):
    with pytest.raises(DataError, match=words):
        open_dataset(spec, 16)


def test_the_demo_needs_a_model_of_its_classes():
    with pytest.raises(DataError, match="model's 1000 classes; demo has 16"):
        open_dataset("demo", 1000)


def test_a_mask_must_fit_its_picture():
    with pytest.raises(DataError, match=r"x: expected a boolean mask of 8 x 12 .* got bool \(8, 11\) for class 3"):
        Sample("x", picture(), 3, {3: np.zeros((8, 11), bool)})
    with pytest.raises(DataError, match="got uint8"):
        Sample("x", picture(), 3, {3: np.zeros((8, 12), np.uint8)})
