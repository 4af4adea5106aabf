"""Packages that only some parts need: imported on use, with a word on how to get them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tokentm.errors import MissingPackageError


def load(module: str) -> Any:
    """A module of the ``evaluation`` extra.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"expected the package {module.split('.')[0]}; it is not installed ({error}). "
            "pip install tokentm[evaluation] brings everything that evaluation needs."
        ) from error
