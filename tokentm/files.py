"""Tensors and what is told of them in one safetensors file, written and read back whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tokentm.errors import InvalidOptionError

T = TypeVar("T")


def write(path: str | PathLike[str], kind: str, tensors: Mapping[str, Tensor], of: Mapping[str, Any]) -> None:
    """Write tensors, views and expanded ones too, and what is told of them, which JSON can hold."""
    save_file({name: one.detach().cpu().contiguous().clone() for name, one in tensors.items()}, path, {
        "format": kind,
        "told": json.dumps(of),
    })  # fmt: skip


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
        FileNotFoundError: there is no file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise
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
