"""The errors that tokentm raises itself. Each text says what was expected, what came, and what to do next."""

from __future__ import annotations


class TokenTMError(Exception):
    """Base of every error below."""


class UnsupportedModelError(TokenTMError, TypeError):
    """The model is not a ViT whose attention can be taken apart exactly, or a self-check on it failed."""


class InvalidImagesError(TokenTMError, ValueError):
    """The images are not what the model takes."""


class MissingFileError(InvalidImagesError, FileNotFoundError):
    """There is no picture at a path."""


class InvalidTargetError(TokenTMError, ValueError):
    """The target names no class of this model, or not one for each image."""


class InvalidOptionError(TokenTMError, ValueError):
    """An option, a name or a size that is not among the possible ones."""


class NoSuchFileError(InvalidOptionError, FileNotFoundError):
    """There is no saved explanation, record or survey at a path."""


class MissingPackageError(TokenTMError, ImportError):
    """A package that only some parts need is not installed."""


class ModelChangedError(TokenTMError, RuntimeError):
    """A record was asked to run its model again, and the model is not what it was when it was recorded."""


class ZeroTokenError(TokenTMError, ValueError):
    """A token has length zero, so no change of its length can be measured."""


class NotFiniteError(TokenTMError, ArithmeticError):
    """A model made NaN or infinity of finite images, or a method of a finite record."""


class ModelFoundWarning(UserWarning):
    """A model of no known family was run, and described by what was found; says what."""
