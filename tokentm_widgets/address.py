"""What of a widget's state an exported page keeps in its address, and which values it may take there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import traitlets

if TYPE_CHECKING:
    from tokentm_widgets.base import Widget

_LEFT_OUT = ("layout", "tabbable", "tooltip", "playing", "progress")
"""What is Jupyter's own; a page that begins to play by itself surprises who opens a link, and none computes."""


def addressed(widget: Widget, named: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """What each trait may be, as ``front/address.js`` reads it.

    Args:
        widget: its traits and the lengths of its dimensions.
        named: traits that take one of some values, as :meth:`Widget.named_choices` gives them.

    Example:
        >>> addressed(LayerStepper(trace), {})["layer"]
        {'count': 8, 'optional': False}
    """
    found = {}
    for name, trait in widget.traits(sync=True).items():
        if name[0] == "_" or name in _LEFT_OUT:
            continue
        choice = {"values": list(named[name])} if name in named else _choice(trait, widget._sizes or {})
        if choice is not None:
            found[name] = choice
    return found


def _choice(trait: traitlets.TraitType, sizes: Mapping[str, int]) -> dict[str, Any] | None:
    dim = getattr(trait, "dim", None)
    if dim is not None:
        return {"count": sizes[dim], "optional": bool(getattr(trait, "optional", False))}
    if isinstance(trait, traitlets.Enum):
        return {"values": list(trait.values or ())}
    if isinstance(trait, traitlets.Bool):
        return {"values": [False, True]}
    if isinstance(trait, traitlets.Float) and isfinite(trait.min) and isfinite(trait.max):
        return {"low": trait.min, "high": trait.max}
    return None
