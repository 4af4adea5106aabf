"""Pictures with what is known about them: labels, and masks of objects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from tokentm.demo.scenes import Split, make_scene
from tokentm.demo.sprites import CLASSES
from tokentm.errors import InvalidImagesError, InvalidOptionError
from tokentm.evaluation.folder_classes import classes_of, read_table
from tokentm.optional import load
from tokentm.reading import read

PICTURES = frozenset(Image.registered_extensions())


class DataError(InvalidOptionError):
    """A data set that is missing, damaged, or does not fit the model."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture.

    Attributes:
        name: to find it again.
        image: the picture, RGB, (W, H).
        label: class index, None where unknown.
        masks: class index -> boolean array (H, W) of its object; the key None holds an object of unknown class.
    """

    name: str
    image: Image.Image
    label: int | None
    masks: dict[int | None, np.ndarray]

    def __post_init__(self) -> None:
        for label, mask in self.masks.items():
            if mask.shape != self.image.size[::-1] or mask.dtype != bool:
                raise DataError(
                    f"{self.name}: expected a boolean mask of {self.image.height} x {self.image.width} (height x "
                    f"width), as the picture; got {mask.dtype} {mask.shape} for class {label}."
                )


class Identified(Protocol):
    """Numbered things; ``identity`` says which one has a number without reading it: name, label, size of its file."""

    def identity(self, index: int) -> str: ...


class Dataset(Identified, Protocol):
    """Numbered samples. ``classes`` is how many labels they use, None where they have none."""

    @property
    def classes(self) -> int | None: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class DemoScenes:
    """Scenes of the demo with exact masks, from number 10,000 of a stream on; the model card used the ones before."""

    count: int
    objects: int = 1
    split: Split = "test"
    first: int = 10_000
    classes: int = len(CLASSES)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        scene = make_scene(self.first + index, count=self.objects, split=self.split)
        masks: dict[int | None, np.ndarray] = {CLASSES.index(name): mask for name, mask in scene.masks.items()}
        label = CLASSES.index(scene.classes[0]) if self.objects == 1 else None
        return Sample(self.identity(index), scene.image, label, masks)

    def identity(self, index: int) -> str:
        return f"{self.split}-{self.objects}-{self.first + index}"


@dataclass(frozen=True)
class Pictures:
    """All pictures in a folder and below, in order of their names; no label."""

    paths: tuple[Path, ...]
    root: Path
    classes: None = None

    @classmethod
    def under(cls, root: Path) -> Pictures:
        paths = tuple(sorted(p for p in _folder(root).rglob("*") if p.suffix.lower() in PICTURES))
        if not paths:
            raise DataError(f"expected pictures under {root}; found none.")
        return cls(paths, root)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        path = self.paths[index]
        return Sample(_shown(path.relative_to(self.root).as_posix()), _read(path), None, {})

    def identity(self, index: int) -> str:
        return f"{self.paths[index].relative_to(self.root).as_posix()} {_size(self.paths[index])}"


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures with a class index each: an ImageFolder, or ImageNet's."""

    items: tuple[tuple[str, int], ...]
    classes: int

    @classmethod
    def image_folder(
        cls,
        root: Path,
        model_classes: int | None = None,
        names: Sequence[str] | None = None,
        table: Mapping[str, int] | None = None,
    ) -> LabelledPictures:
        """One folder for each class, or for some of them; read by torchvision.datasets.ImageFolder.

        Which class a folder stands for says :func:`tokentm.evaluation.folder_classes.classes_of`.
        """
        from torchvision.datasets import ImageFolder

        try:
            found = ImageFolder(str(_folder(root)))
        except FileNotFoundError as error:  # a class without pictures, or no class at all
            raise DataError(f"expected one folder of pictures for each class in {root}; {error}") from error
        try:
            labels = classes_of(found.classes, model_classes, names, table)
        except InvalidOptionError as error:
            raise DataError(f"folder:{root}: {error}") from error
        items = tuple((path, labels[folder]) for path, folder in found.samples)
        return cls(items, len(found.classes) if model_classes is None else model_classes)

    @classmethod
    def imagenet(cls, root: Path) -> LabelledPictures:
        """ImageNet's validation set, from its archives or already unpacked (torchvision.datasets.ImageNet)."""
        from torchvision.datasets import ImageNet

        try:
            found = ImageNet(str(_folder(root)), split="val")
        except (RuntimeError, OSError) as error:
            raise DataError(
                f"expected ImageNet's validation archive and devkit in {root}, as torchvision.datasets.ImageNet reads "
                f"them; {error}"
            ) from error
        return cls(tuple(found.samples), len(found.classes))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        path, label = self.items[index]
        return Sample(_shown("/".join(Path(path).parts[-2:])), _read(Path(path)), label, {})

    def identity(self, index: int) -> str:
        path, label = self.items[index]
        return f"{'/'.join(Path(path).parts[-2:])} {label} {_size(Path(path))}"


@dataclass(frozen=True)
class ImageNetSegmentation:
    """ImageNet-Segmentation (Guillaumin et al., 2014): gtsegs_ijcv.mat, pictures with a foreground mask, no label.

    An HDF5 file: /value/img and /value/gt hold references; pictures are stored (3, W, H), masks (W, H) behind a second
    reference.
    """

    path: Path
    count: int
    classes: None = None

    @classmethod
    def open(cls, path: Path) -> ImageNetSegmentation:
        with _hdf5(path) as file:
            try:
                images, masks = file["value/img"], file["value/gt"]
                counts = images.size, masks.size
            except KeyError as error:
                raise DataError(f"expected /value/img and /value/gt in {path}; {error}") from error
        if counts[0] != counts[1] or counts[0] == 0:
            raise DataError(f"expected as many masks as pictures in {path}, at least one; found {counts[::-1]}.")
        return cls(path, int(counts[0]))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        name = f"{self.path.name}-{index}"
        with _hdf5(self.path) as file:
            try:
                pixels = file[file["value/img"][()].flat[index]][()]
                mask = file[file[file["value/gt"][()].flat[index]][()].flat[0]][()]
            except (KeyError, ValueError, OSError, AttributeError) as error:
                raise DataError(f"{name}: expected a picture and a mask behind references; {error}") from error
        if pixels.ndim != 3 or pixels.shape[0] != 3 or mask.ndim != 2:
            raise DataError(f"{name}: expected (3, W, H) and (W, H); found {pixels.shape} and {mask.shape}.")
        if pixels.dtype != np.uint8:  # other values would wrap around
            raise DataError(f"{name}: expected pixels of 8 bits (uint8), as in gtsegs_ijcv.mat; found {pixels.dtype}.")
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(2, 1, 0)))
        return Sample(name, image, None, {None: mask.T.astype(bool)})

    def identity(self, index: int) -> str:
        return f"{self.path.name}-{index} {_size(self.path)}"


@dataclass(frozen=True)
class Coco:
    """Pictures with objects outlined in a COCO annotation file (pycocotools reads it).

    With as many categories as the model has classes, categories in order of their id are the classes; otherwise all
    objects together make one mask of unknown class. Pictures without an object are left out.
    """

    root: Path
    index: Any
    images: tuple[int, ...]
    labels: dict[int, int] | None
    classes: int | None

    @classmethod
    def open(cls, root: Path, annotations: Path, model_classes: int | None) -> Coco:
        from contextlib import redirect_stdout
        from io import StringIO
        from json import JSONDecodeError

        coco = load("pycocotools.coco")
        if not annotations.is_file():
            raise DataError(f"expected a COCO annotation file; there is none at {annotations}.")
        try:
            with redirect_stdout(StringIO()):  # it prints its progress
                index = coco.COCO(str(annotations))
            categories = sorted(index.getCatIds())
            images = tuple(sorted({index.anns[a]["image_id"] for a in index.getAnnIds(iscrowd=False)}))
        except (JSONDecodeError, KeyError, AssertionError, TypeError) as error:
            raise DataError(f"expected COCO annotations in {annotations}; {type(error).__name__}: {error}") from error
        if not images:
            raise DataError(f"expected outlined objects in {annotations}; found none.")
        known = len(categories) == model_classes
        labels = {category: i for i, category in enumerate(categories)} if known else None
        return cls(_folder(root), index, images, labels, len(categories) if known else None)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        entry = self.index.imgs[self.images[index]]
        masks: dict[int | None, np.ndarray] = {}
        for annotation in self.index.loadAnns(self.index.getAnnIds(imgIds=entry["id"], iscrowd=False)):
            label = None if self.labels is None else self.labels[annotation["category_id"]]
            outlined = self.index.annToMask(annotation).astype(bool)
            masks[label] = masks[label] | outlined if label in masks else outlined
        only = next(iter(masks)) if len(masks) == 1 else None
        return Sample(_shown(entry["file_name"]), _read(self.root / entry["file_name"]), only, masks)

    def identity(self, index: int) -> str:
        entry = self.index.imgs[self.images[index]]
        outlined = self.index.loadAnns(self.index.getAnnIds(imgIds=entry["id"], iscrowd=False))
        told = json.dumps([[one["category_id"], one["segmentation"]] for one in outlined], sort_keys=True)
        return f"{entry['file_name']} {told} {_size(self.root / entry['file_name'])}"


KINDS = ("demo", "pictures", "folder", "imagenet", "imagenet-segmentation", "coco")


def open_dataset(
    spec: str,
    model_classes: int | None,
    *,
    limit: int | None = None,
    objects: int = 1,
    annotations: Path | None = None,
    names: Sequence[str] | None = None,
    table: Path | None = None,
) -> Dataset:
    """The data set that a text such as "demo:validation", "folder:PATH" or "coco:IMAGES" names.

    Args:
        model_classes: number of logits of the model, None where it does not tell.
        limit: how many demo scenes; other data sets have the size they have.
        objects: how many objects in a demo scene.
        annotations: the annotation file of coco.
        names: the model's own names of its classes, which folders may be named by.
        table: a JSON file that says which class each folder is.

    Raises:
        DataError: an unknown kind, missing or damaged files, or labels that are not the model's.
    """
    kind, _, rest = spec.partition(":")
    if kind not in KINDS or (kind != "demo" and not rest):
        raise DataError(
            f"expected data as demo, demo:validation, {', '.join(k + ':PATH' for k in KINDS[1:])}; got {spec!r}."
        )
    if limit is not None and limit < 1:
        raise DataError(f"expected a --limit of at least one picture; got {limit}.")
    path = Path(rest)
    if kind == "demo":
        if rest not in ("", "test", "validation"):
            raise DataError(f"expected demo, demo:test or demo:validation; got {spec!r}.")
        split: Split = "validation" if rest == "validation" else "test"
        dataset: Dataset = DemoScenes(200 if limit is None else limit, objects, split)
    elif kind == "pictures":
        dataset = Pictures.under(path)
    elif kind == "folder":
        written = None if table is None else read_table(table)
        dataset = LabelledPictures.image_folder(path, model_classes, names, written)
    elif kind == "imagenet":
        dataset = LabelledPictures.imagenet(path)
    elif kind == "imagenet-segmentation":
        dataset = ImageNetSegmentation.open(path)
    else:
        if annotations is None:
            raise DataError("expected --annotations FILE beside coco:IMAGES; got none.")
        dataset = Coco.open(path, annotations, model_classes)
    if None not in (dataset.classes, model_classes) and dataset.classes != model_classes:
        raise DataError(
            f"expected labels of the model's {model_classes} classes; {spec} has {dataset.classes}. To explain the "
            "predicted class whatever the labels are, pass pictures:PATH."
        )
    return dataset


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise DataError(f"expected a folder; there is none at {path}.")
    return path


def _size(path: Path) -> int:
    """Bytes of a file; -1 where there is none, which its picture will say."""
    return path.stat().st_size if path.exists() else -1


def _shown(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _read(path: Path) -> Image.Image:
    try:
        return read(path)
    except InvalidImagesError as error:
        raise DataError(f"expected a picture that can be read at {path}; {error}") from error


def _hdf5(path: Path) -> Any:
    h5py = load("h5py")
    if not path.is_file():
        raise DataError(f"expected ImageNet-Segmentation's gtsegs_ijcv.mat; there is no file at {path}.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"expected an HDF5 file (MATLAB 7.3) at {path}; it is damaged or another: {error}") from error
