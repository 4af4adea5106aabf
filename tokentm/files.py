"""Tensors and what is told of them in one safetensors file, written and read back whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from os import PathLike, fspath, getpid, replace, unlink
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tokentm.errors import InvalidOptionError, NoSuchFileError

T = TypeVar("T")


def write(path: str | PathLike[str], kind: str, tensors: Mapping[str, Tensor], of: Mapping[str, Any]) -> None:
    """Write tensors, views and expanded ones too, and what is told of them, which JSON can hold.

    Raises:
        InvalidOptionError: the file cannot be written; what was there before is kept.
    """
    whole = {name: one.detach().cpu().contiguous().clone() for name, one in tensors.items()}
    put(path, lambda draft: save_file(whole, draft, {"format": kind, "told": json.dumps(of)}))


def put(path: str | PathLike[str], fill: Callable[[str], Any]) -> None:
    """A whole file or none: it is filled under another name first.

    Raises:
        InvalidOptionError: the file cannot be written; what was there before is kept.
    """
    draft = f"{fspath(path)}.{getpid()}.draft"
    try:
        fill(draft)
        replace(draft, path)
    except (SafetensorError, OSError) as error:
        with suppress(OSError):
            unlink(draft)
        raise InvalidOptionError(
            f"expected a file that can be written, in a folder that is there; {fspath(path)!r} cannot be: {error}"
        ) from error


def told(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What :func:`write` was told of the tensors."""
    found: dict[str, Any] = json.loads(metadata["told"])
    return found


def read(
    path: str | PathLike[str], writer: str, kinds: Mapping[str, Callable[[dict[str, Tensor], dict[str, str]], T]]
) -> T:
    """What is made of a file's tensors and metadata.

    Args:
        writer: who writes such files, for messages.
        kinds: formats that are known, newest first, and what makes something of each; it raises where parts are missing
            or do not fit together.

    Raises:
        InvalidOptionError: the file is of another kind, or damaged.
        NoSuchFileError: there is no file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise NoSuchFileError(f"expected a file written by {writer}; there is none at {fspath(path)!r}.") from error
    except (SafetensorError, OSError) as error:
        raise InvalidOptionError(f"expected a file written by {writer}; {path} is damaged: {error}.") from error
    make = kinds.get(metadata.get("format", ""))
    if make is None:
        raise InvalidOptionError(
            f"expected a file written by {writer} ({next(iter(kinds))!r}); {path} is something else."
        )
    try:
        return make(tensors, metadata)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, RuntimeError) as error:
        raise InvalidOptionError(
            f"expected a whole file written by {writer}; {path} is damaged: {type(error).__name__}: {error}."
        ) from error
