"""What all widgets are: data sent once, traits as state, a stable name, and a still picture where no widget can run."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar

import anywidget
import traitlets
from PIL import Image
from torch import nn

from tokentm import Explanation, Trace
from tokentm.errors import InvalidOptionError
from tokentm.names import ClassNames
from tokentm.plots import Picture, output_names, pictures, target_names
from tokentm_widgets import payload
from tokentm_widgets.front_end import front_end, styles
from tokentm_widgets.schema import packed
from tokentm_widgets.still import Pictured

__all__ = ["OF_JUPYTER", "Position", "TraceWidget", "Widget", "as_part", "front_end", "require_position", "styles"]

OF_JUPYTER = ("layout", "tabbable", "tooltip")
"""State of every Jupyter widget that these make no use of."""


_parts: ContextVar[bool] = ContextVar("parts of another widget are made", default=False)


@contextmanager
def as_part() -> Iterator[None]:
    """Widgets made meanwhile are parts of another one: they have traits, but no connection to a browser of their own.

    The whole sends their data and traits, and gives them its own way to answer as ``_outlet``. A part that is shown by
    itself after all connects then.

    Example:
        >>> with as_part():
        ...     stepper = LayerStepper(trace)
        >>> stepper.comm is None
        True
    """
    before = _parts.set(True)
    try:
        yield
    finally:
        _parts.reset(before)


class Position(traitlets.Int[Any, Any]):
    """A trait: a place along one dimension of what the widget has sent, from 0 on; None as well where ``optional``."""

    def __init__(self, dim: str, optional: bool = False) -> None:
        options: dict[str, Any] = {"default_value": None, "allow_none": True} if optional else {"default_value": 0}
        super().__init__(**options)
        self.dim, self.optional = dim, optional
        self.tag(sync=True)

    def validate(self, obj: Any, value: Any) -> Any:
        value = super().validate(obj, value)
        if obj._sizes is not None:  # before anything has been sent, the value is the default
            require_position(self.name or "", value, obj._sizes[self.dim], self.optional)
        return value


def require_position(name: str, value: int | None, count: int, optional: bool = False) -> None:
    """Refuse what is no number from 0 to ``count`` - 1; None passes.

    Raises:
        traitlets.TraitError: with the positions that there are.
    """
    if value is not None and (isinstance(value, bool) or not 0 <= value < count):
        none = " or None" if optional else ""
        raise traitlets.TraitError(f"expected {name} from 0 to {count - 1}{none}; got {value}.")


class Widget(Pictured, anywidget.AnyWidget):
    """A widget of this family. ``_data`` holds all that is drawn; the other traits say which of it, and are linked.

    Subclasses give ``_esm``, ``_css``, ``_schema``, which says what ``_data`` is, and :meth:`figure`.
    """

    _schema: ClassVar[type]

    _data = traitlets.Dict().tag(sync=True)

    _sizes: dict[str, int] | None = None
    """How long each named dimension of the data is, see :mod:`tokentm_widgets.schema`."""

    _outlet: Callable[[Any, Any], None] | None = None
    """Of a part: where its messages go, see :func:`as_part`."""

    def __init__(self, values: Mapping[str, Any], **state: Any) -> None:
        self._require_known(state)
        sent = packed(self._schema, values)
        self._sizes = sent.sizes
        super().__init__(_data=sent.data, **state)

    @property
    def heading(self) -> str:
        """Of a page of its own: what is shown, in a line."""
        return repr(self)

    reading = ""
    """Of a page of its own: how to read it, for somebody who has never seen the widget."""

    @property
    def about(self) -> str:
        """Of a page of its own: which model answered what."""
        return ""

    by_keys = ""
    """Of a page of its own: which keys do what."""

    computes: ClassVar[bool] = False
    """Of a page of its own: whether it runs a model, and may start workers and WebAssembly for that."""

    def offline_data(self) -> dict[str, Any]:
        """The data for a page that has no kernel to ask; a subclass may take options of :func:`export_html`."""
        return self._data

    def named_choices(self, data: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Traits of which a page with this data takes some values only, the first of them where it has another."""
        return {}

    def open(self) -> None:
        """Connect to the browser, which a part of another widget leaves to that one."""
        if not _parts.get():
            super().open()

    def send(self, content: Any, buffers: Any = None) -> None:
        """Send a message to the front end, through the whole where this is a part."""
        if self._outlet is not None:
            self._outlet(content, buffers)
        super().send(content, buffers)

    @classmethod
    def _require_known(cls, keywords: Iterable[str]) -> None:
        """Refuse keywords that are no traits; a widget that computes for long asks before it does."""
        traits = cls.class_trait_names()
        unknown = [name for name in keywords if name not in traits]
        if not unknown:
            return
        parameters = [*inspect.signature(cls.__init__).parameters.values()][1:]  # without self
        own = [one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]
        state = [name for name in cls.class_trait_names(sync=True) if name[0] != "_" and name not in OF_JUPYTER]
        accepted = list(dict.fromkeys([*own, *state]))
        near = dict.fromkeys(match for name in unknown for match in difflib.get_close_matches(name, accepted))
        hint = f" Did you mean {' or '.join(f'{name}=' for name in near)}?" if near else ""
        raise InvalidOptionError(
            f"expected the keywords of {cls.__name__}; got {', '.join(f'{name}=' for name in unknown)}.{hint} "
            f"It takes {', '.join(accepted)}."
        )

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict] | None:
        self.open()  # a part of another widget, shown by itself
        return super()._repr_mimebundle_(**options)


@dataclass(frozen=True, eq=False)
class Living:
    """A page that computes.

    Attributes:
        widget: what it shows.
        data: the widget's data in the page.
        about: which model computes, and how exactly.
    """

    widget: Widget
    data: dict[str, Any]
    about: str


class TraceWidget(Widget):
    """A widget of a record: its pictures and the names of what was explained.

    A subclass calls :meth:`_open` before it computes, and gives what it has computed to ``super().__init__``, which
    adds what all of them send. Subclasses whose schema is an ``ExplainedData`` choose among the explained scores.
    """

    _trace: Trace
    _classes: list[str]  # names of all outputs
    _names: list[str]  # of what was explained
    _pictures: list[Image.Image]

    def __init__(self, values: Mapping[str, Any], **state: Any) -> None:
        shared = {**payload.grid(self._trace), "pictures": [payload.picture_url(one) for one in self._pictures]}
        super().__init__({**shared, **values}, **state)

    def _open(
        self, trace: Trace, images: Picture | Sequence[Picture] | None, classes: ClassNames | None, state: Iterable[str]
    ) -> None:
        """Check what every widget of a record is given, before anything is computed."""
        self._require_trace(trace)
        self._require_known(state)
        self._trace, self._classes = trace, output_names(trace, classes)
        self._names = target_names(trace, self._classes)
        self._pictures = pictures(images, trace)

    @property
    def about(self) -> str:
        return payload.about(self._trace, target_names(self._trace, self._classes))

    def _explained(self) -> dict[str, Any]:
        """What those send that choose among the explained scores."""
        return {"names": self._names, **payload.answers(self._trace), "colours": payload.colour_table()}

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
