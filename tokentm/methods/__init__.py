"""Explanation methods: each is called with a :class:`tokentm.Trace` and returns a :class:`tokentm.Explanation`.

A method is one file here, made with :func:`tokentm.methods.method.method`, and one line below.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from tokentm.errors import InvalidOptionError
from tokentm.methods.method import KNOWN, Method
from tokentm.methods.tokentm import LIBRA_GRADIENT, LIBRAGRAD, TokenTM

__all__ = ["ABLATIONS", "METHODS", "GradientRollout", "Method", "Rollout", "TokenTM", "get"]

_FILES = (
    "generic_attention",
    "libra_generic_attention",
    "transformer_attribution",
    "gradient_rollout",
    "grad_cam",
    "attcat",
    "tam",
    "beyond_intuition",
    "legrad",
    "libra_fullgrad_plus",
    "libra_input_x_gradient",
    "attnlrp",
    "cp_lrp",
    "reslrp",
    "input_gradient",
    "caap",
    "alti",
    "rollout",
    "raw_attention",
    "random",
)
"""In the order of tables and menus."""

for _file in _FILES:
    import_module(f"tokentm.methods.{_file}")

from tokentm.methods.gradient_rollout import GradientRollout  # noqa: E402 - imported above, in the order of tables
from tokentm.methods.rollout import Rollout  # noqa: E402

METHODS: dict[str, Method] = {method.name: method for method in (TokenTM(), LIBRAGRAD, LIBRA_GRADIENT, *KNOWN.values())}

ABLATIONS: dict[str, Method] = {
    method.name: method
    for method in (
        TokenTM(length=False),
        TokenTM(direction=False),
        TokenTM(ffn=False),
        TokenTM(initialise=False),
        TokenTM(gradient=False),
        TokenTM(normaliser="mean"),
        TokenTM(transformed="sum"),
        TokenTM(transformed="stream"),
        TokenTM(reference="normed"),
        TokenTM(positive="mean"),
        TokenTM(lengths="own"),
    )
}
"""TokenTM with one part left out or one reading changed."""


def get(method: str | Method | Callable[..., Any]) -> Any:
    """A method or an ablation by name, or the callable itself.

    Raises:
        InvalidOptionError: an unknown name, with the known ones, or something that is no method.
    """
    known = METHODS | ABLATIONS
    if isinstance(method, type):
        raise InvalidOptionError(
            f"expected a method, for example tokentm.{method.__name__}(); got the class {method.__name__} itself."
        )
    if callable(method):
        return method
    if not isinstance(method, str) or method not in known:
        raise InvalidOptionError(f"expected a method among {', '.join(known)}, or a callable; got {method!r}.")
    return known[method]
