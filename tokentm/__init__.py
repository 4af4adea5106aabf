"""tokentm: look inside a Vision Transformer's decision.

model, images --record--> Trace --method--> Explanation --> plots, widgets, metrics

Names are loaded on use: ``import tokentm`` is immediate, and ``python -m tokentm doctor`` can say what is wrong where
torch or another package cannot be imported.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tokentm.version import __version__

if TYPE_CHECKING:
    from tokentm import methods
    from tokentm.demo import load_demo
    from tokentm.discovery import describe
    from tokentm.errors import (
        InvalidImagesError,
        InvalidOptionError,
        InvalidTargetError,
        MissingFileError,
        ModelChangedError,
        ModelFoundWarning,
        NoSuchFileError,
        NotFiniteError,
        TokenTMError,
        UnsupportedModelError,
        ZeroTokenError,
    )
    from tokentm.explaining import explain
    from tokentm.explanation import Explanation
    from tokentm.methods import Method, TokenTM
    from tokentm.onnx_export import OnnxExport, export_onnx
    from tokentm.outputs import Meaning
    from tokentm.pictures import Picture, Prepared, Transform, prepare, seen
    from tokentm.questions import difference, log_odds, log_probability, probability
    from tokentm.target import Target
    from tokentm.texts import TextTarget, text_target
    from tokentm.trace import LayerTrace, Trace, record
    from tokentm.vit import Anatomy, Block, register

__all__ = [
    "Anatomy",
    "Block",
    "Explanation",
    "InvalidImagesError",
    "InvalidOptionError",
    "InvalidTargetError",
    "LayerTrace",
    "Meaning",
    "Method",
    "MissingFileError",
    "ModelChangedError",
    "ModelFoundWarning",
    "NoSuchFileError",
    "NotFiniteError",
    "OnnxExport",
    "Picture",
    "Prepared",
    "Target",
    "TextTarget",
    "TokenTM",
    "TokenTMError",
    "Trace",
    "Transform",
    "UnsupportedModelError",
    "ZeroTokenError",
    "__version__",
    "describe",
    "difference",
    "explain",
    "export_onnx",
    "load_demo",
    "log_odds",
    "log_probability",
    "methods",
    "prepare",
    "probability",
    "record",
    "register",
    "seen",
    "text_target",
]

_HOMES = {
    "tokentm.demo": "load_demo",
    "tokentm.discovery": "describe",
    "tokentm.errors": "InvalidImagesError InvalidOptionError InvalidTargetError MissingFileError ModelChangedError "
    "ModelFoundWarning NoSuchFileError NotFiniteError TokenTMError UnsupportedModelError ZeroTokenError",
    "tokentm.explaining": "explain",
    "tokentm.explanation": "Explanation",
    "tokentm.onnx_export": "OnnxExport export_onnx",
    "tokentm.methods": "Method TokenTM",
    "tokentm.outputs": "Meaning",
    "tokentm.pictures": "Picture Prepared Transform prepare seen",
    "tokentm.questions": "difference log_odds log_probability probability",
    "tokentm.target": "Target",
    "tokentm.texts": "TextTarget text_target",
    "tokentm.trace": "LayerTrace Trace record",
    "tokentm.vit": "Anatomy Block register",
}
"""For each module the names of the public face that are at home there."""

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        found = getattr(import_module(_HOME_OF[name]), name)
        globals()[name] = found
        return found
    if not name.startswith("_") and find_spec(f"tokentm.{name}") is not None:
        return import_module(f"tokentm.{name}")
    raise AttributeError(f"module 'tokentm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
