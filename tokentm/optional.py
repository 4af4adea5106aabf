"""Packages that only some parts need: imported on use, with a word on how to get them."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

from tokentm.errors import MissingPackageError

Extra = Literal["evaluation", "onnx"]


def load(module: str, extra: Extra = "evaluation") -> Any:
    """A module of one of the extras of pyproject.toml.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        needs = {"evaluation": "evaluation needs", "onnx": "tokentm.export_onnx needs"}[extra]
        raise MissingPackageError(
            f"expected the package {module.split('.')[0]}; it is not installed ({error}). "
            f"pip install tokentm[{extra}] brings everything that {needs}."
        ) from error
