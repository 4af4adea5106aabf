"""What all widgets are: data sent once, traits as state, a stable name, and a still picture where no widget can run."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from typing import Any

import anywidget
import traitlets
from torch import nn

from tokentm import Explanation, Trace
from tokentm.errors import InvalidOptionError
from tokentm.plots import Plot
from tokentm_widgets.front_end import FOLDER, front_end

__all__ = ["Widget", "front_end", "with_still_picture"]

_OF_JUPYTER = ("layout", "tabbable", "tooltip")
"""State of every Jupyter widget that these make no use of."""


class Widget(anywidget.AnyWidget):
    """A widget of this family. ``_data`` holds all that is drawn; the other traits say which of it, and are linked.

    Subclasses give ``_esm`` and :meth:`figure`.
    """

    _css = (FOLDER / "family.css").read_text(encoding="utf-8")

    _data = traitlets.Dict().tag(sync=True)

    def __init__(self, **state: Any) -> None:
        self._require_known(state)
        super().__init__(**state)

    def figure(self) -> Plot:
        """What the widget shows now, as a figure: ``widget.figure().savefig("picture.svg")``."""
        raise NotImplementedError

    def offline_data(self) -> dict[str, Any]:
        """The data for a page that has no kernel to ask."""
        return self._data

    @classmethod
    def _require_known(cls, keywords: Iterable[str]) -> None:
        """Refuse keywords that are no traits; a widget that computes for long asks before it does."""
        traits = cls.class_trait_names()
        unknown = [name for name in keywords if name not in traits]
        if not unknown:
            return
        parameters = [*inspect.signature(cls.__init__).parameters.values()][1:]  # without self
        own = [one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]
        state = [name for name in cls.class_trait_names(sync=True) if name[0] != "_" and name not in _OF_JUPYTER]
        accepted = list(dict.fromkeys([*own, *state]))
        near = dict.fromkeys(match for name in unknown for match in difflib.get_close_matches(name, accepted))
        hint = f" Did you mean {' or '.join(f'{name}=' for name in near)}?" if near else ""
        raise InvalidOptionError(
            f"expected the keywords of {cls.__name__}; got {', '.join(f'{name}=' for name in unknown)}.{hint} "
            f"It takes {', '.join(accepted)}."
        )

    @classmethod
    def _require_trace(cls, trace: Any) -> None:
        """Refuse a model, an explanation or pictures in place of a record."""
        if isinstance(trace, Trace):
            return
        reason = {
            nn.Module: "A model is recorded first",
            Explanation: "An explanation does not keep the layers; record the model",
        }
        first = next((text for kind, text in reason.items() if isinstance(trace, kind)), "Record the model first")
        raise InvalidOptionError(
            f"expected a record from tokentm.record(model, images); got {type(trace).__name__}. {first}: "
            f"{cls.__name__}(tokentm.record(model, images))."
        )

    def _require(self, name: str, value: int | None, count: int, optional: str = "") -> int | None:
        if value is not None and (isinstance(value, bool) or not 0 <= value < count):
            raise traitlets.TraitError(f"expected {name} from 0 to {count - 1}{optional}; got {value}.")
        return value

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict] | None:
        return with_still_picture(super()._repr_mimebundle_(**options), self)


def with_still_picture(bundle: Any, widget: Any) -> tuple[dict, dict] | None:
    """What Jupyter shows of a widget, and its :meth:`Widget.figure` for pages where no widget can run."""
    if bundle is None:
        return None
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    # one picture, with its alternative text; a second copy would double what a saved notebook weighs
    return {**data, "text/html": widget.figure().still(), "text/plain": repr(widget)}, metadata
