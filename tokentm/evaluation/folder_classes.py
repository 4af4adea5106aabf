"""Which of a model's classes a folder of pictures stands for: by number, by name, by WordNet id, or by a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokentm.errors import InvalidOptionError


def classes_of(
    folders: Sequence[str],
    count: int | None,
    names: Sequence[str] | None = None,
    table: Mapping[str, int] | None = None,
) -> tuple[int, ...]:
    """The class index of each folder.

    A table decides. Without one, folders named by whole numbers are class indices; folders named as the model names its
    classes, or by ImageNet's WordNet ids for a model of its 1000 classes, are those; and as many folders as the model
    has classes are its classes in the order of their names. Some of the classes are enough, but in the last case.

    Args:
        folders: names of the folders, sorted.
        count: number of the model's classes; None where it does not tell, and the order of the names decides.
        names: the model's own names of its classes, where it has some.
        table: folder -> class index, where somebody wrote one.

    Raises:
        InvalidOptionError: folders that stand for no class or for the same one.

    Example:
        >>> classes_of(["0", "10", "2"], 16)
        (0, 10, 2)
        >>> classes_of(["cat", "dog"], 3, ["bird", "cat", "dog"])
        (1, 2)
    """
    if table is not None:
        return _by_table(folders, count, table)
    if count is None:
        return tuple(range(len(folders)))
    if all(folder.isascii() and folder.isdigit() for folder in folders):
        return _distinct(folders, tuple(_index(folder, int(folder), count) for folder in folders))
    for known in (names, _wordnet_ids(count)):
        if known is not None and set(folders) <= set(known):
            places = {name: index for index, name in reversed(list(enumerate(known)))}
            return tuple(places[folder] for folder in folders)
    if len(folders) == count:
        return tuple(range(count))
    raise InvalidOptionError(
        f"expected folders that stand for some of the model's {count} classes: {_accepted(names, count)}; found "
        f"{len(folders)} folders: {_some(folders)}. Say which class each is with --classes FILE (JSON: folder name to "
        "class index). To explain the predicted class whatever the labels are, pass pictures:PATH."
    )


def read_table(path: Path) -> dict[str, int]:
    """A table of folders from a JSON file: {"folder": class index}.

    Raises:
        InvalidOptionError: no such file, or another content.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidOptionError(
            f'expected a JSON file such as {{"cats": 281, "dogs": 207}} at {path}; {error}'
        ) from error
    if not isinstance(table, dict) or not all(type(index) is int for index in table.values()):
        raise InvalidOptionError(f"expected folder names with a class index each in {path}; found {_some([table])}.")
    return table


def _by_table(folders: Sequence[str], count: int | None, table: Mapping[str, int]) -> tuple[int, ...]:
    missing = [folder for folder in folders if folder not in table]
    if missing:
        raise InvalidOptionError(f"expected a class index for each folder in the table; none for {_some(missing)}.")
    # several folders may be one class: a table says so on purpose
    return tuple(_index(folder, table[folder], count) for folder in folders)


def _index(folder: str, index: int, count: int | None) -> int:
    if index < 0 or (count is not None and index >= count):
        expected = "of 0 or more" if count is None else f"from 0 to {count - 1}"
        raise InvalidOptionError(
            f"expected a class index {expected}, got {index} for the folder {folder}. Say which class each folder is "
            "with --classes FILE (JSON: folder name to class index)."
        )
    return index


def _distinct(folders: Sequence[str], indices: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(indices)) != len(indices):  # "1" and "01"
        raise InvalidOptionError(f"expected one folder for each class index; found {_some(folders)}.")
    return indices


def _wordnet_ids(count: int) -> list[str] | None:
    from timm.data import ImageNetInfo

    known = ImageNetInfo()
    return list(known.label_names()) if known.num_classes() == count else None


def _accepted(names: Sequence[str] | None, count: int) -> str:
    ways = ["class indices"]
    if names is not None:
        ways.append(f"the model's names ({_some(names)})")
    if _wordnet_ids(count) is not None:
        ways.append("WordNet ids (n01440764, ...)")
    return ", ".join(ways) + f", or one folder for each of the {count} in the order of their names"


def _some(items: Sequence[object]) -> str:
    shown = ", ".join(str(item)[:60] for item in items[:4])
    return shown + (", ..." if len(items) > 4 else "")
