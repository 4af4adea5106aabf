"""One view in a page that computes: the reader's pictures, the model's answer, and the view of any class."""

from __future__ import annotations

from typing import Any

from tokentm import TokenTM, record
from tokentm.errors import InvalidOptionError
from tokentm.plots import Plot, target_names
from tokentm_widgets import looking
from tokentm_widgets.base import Living, TraceWidget, Widget, as_part
from tokentm_widgets.explorer import Explorer
from tokentm_widgets.explorer_state import ExplorerShown, ExplorerState
from tokentm_widgets.layer_stepper import LayerStepper
from tokentm_widgets.live import METHODS, LiveChoice, LivePage, about_live, given_of, live_page, require_output
from tokentm_widgets.looking import VIEWS, Looked
from tokentm_widgets.method_comparison import MethodComparison
from tokentm_widgets.path_explorer import PathExplorer
from tokentm_widgets.perturbation_player import PerturbationPlayer
from tokentm_widgets.schema import packed
from tokentm_widgets.titles import CHANCE


class LiveView(ExplorerState):
    """A widget of a record as a page of its own, where the live engine takes the place of the record."""

    def __init__(self, widget: TraceWidget, data: dict[str, Any], **state: Any) -> None:
        super().__init__(data, **state)
        self._widget, self._name = widget, data["view"]
        self.reading, self.by_keys = widget.reading, widget.by_keys

    @property
    def heading(self) -> str:
        """Of any class, since its reader chooses one."""
        return f"{VIEWS[self._name].title}: {VIEWS[self._name].says}"

    def figure(self) -> Plot:
        return self._widget.figure()

    def named_choices(self, data: Any) -> dict[str, list[Any]]:
        return {"picture": [*range(len(self.gallery))], "target": [None, *range(len(data["classes"]))]}

    def __repr__(self) -> str:
        return repr(self._widget)


def living(widget: Widget) -> Living:
    """A widget as a page that computes.

    Raises:
        InvalidOptionError: a widget, a model, a score, a method or a reading that a page cannot compute, with the
            reason.
    """
    if isinstance(widget, Explorer):
        return widget.living()
    for name, view in VIEWS.items():
        if isinstance(widget, view.kind) and isinstance(widget, TraceWidget):
            return _living_view(widget, name)
    raise InvalidOptionError(
        "expected a widget that a page can compute: what explore() returns, LayerStepper, MethodComparison, "
        f"PathExplorer or PerturbationPlayer; got {type(widget).__name__}. Leave live=True out."
    )


def _options(widget: TraceWidget, page: LivePage) -> LivePage:
    """The page with what the widget was made with, as far as a page can compute it."""
    if isinstance(widget, LayerStepper):
        _require_default(widget._panels.method)
    if isinstance(widget, PathExplorer):
        _require_default(widget._method)
        return {**page, "paths": widget._data["count"]}
    if isinstance(widget, MethodComparison):
        asked = [name for name in widget._data["methods"] if name != CHANCE]
        _require_known(asked)
        return {**page, "compared": asked}
    if isinstance(widget, PerturbationPlayer):
        _require_known([name for name in widget.methods if name != CHANCE])
        if widget._data["replace"] != "drop":
            raise InvalidOptionError(
                "expected tokens that are dropped, which a page can compute; found "
                f"replace={widget._data['replace']!r}. Leave live=True out."
            )
        if widget._asked is not None:
            raise InvalidOptionError(
                "expected the explained class and the likeliest others, which a page draws; found shown="
                f"{[*widget._asked]}. Leave live=True out."
            )
        return {**page, "removed": widget.methods, "counts": widget.counts}
    return page


def _require_default(method: TokenTM | None) -> None:
    if method is not None and method != TokenTM():
        raise InvalidOptionError(
            f"expected TokenTM as it is by default, which a page can compute; found the reading {method.name}. Leave "
            "live=True out."
        )


def _require_known(names: list[str]) -> None:
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise InvalidOptionError(
            f"expected methods that a page can compute, {', '.join(METHODS)}; found {', '.join(unknown)}. Leave "
            "live=True out."
        )


def _living_view(widget: TraceWidget, name: str) -> Living:
    trace = widget._trace
    require_output(trace, "Leave live=True out.")
    assert trace.target is not None
    index = widget._index if isinstance(widget, PerturbationPlayer) else int(widget.index)
    pictures = given_of(trace, widget._pictures)
    image, target = trace.images[index : index + 1], int(trace.target[index])
    at = next(i for i, given in enumerate(pictures) if bool((given.image == image[0].cpu()).all()))
    first: LiveChoice = {"picture": at, "target": target, "method": "tokentm"}
    page = _options(widget, live_page(trace, widget._classes, pictures, first))
    assert trace.anatomy is not None  # live_page has run its model
    one = record(trace.anatomy.model, image, target, outputs=trace.outputs, anatomy=trace.anatomy)
    looked = Looked(one, TokenTM()(one), pictures[at].seen, "")
    data = {
        **{"classes": widget._classes, "chosen": None, "predicts": True, "methods": page["methods"]},
        **{"titles": page["titles"], "colours": page["colours"], "differences": page["differences"]},
        **{"views": {name: VIEWS[name].title}, "says": {name: VIEWS[name].says}, "view": name},
        "live": packed(LivePage, page).data,
    }
    gallery = [{"name": of["name"], "url": of["url"]} for of in page["pictures"]]
    common = {here: getattr(widget, there) for there, here in looking.shared(name, widget).items()}
    with as_part():
        made = LiveView(
            widget,
            data,
            **first,
            tab=name,
            gallery=gallery,
            shown=packed(ExplorerShown, looked.shown(*target_names(one, widget._classes) * 2)).data,
            **{f"{name}_settings": looking.settings(name, widget)},
        )
        made._sizes = looked.sizes
        for one_name, value in common.items():
            setattr(made, one_name, value)
    return Living(made, data, about_live(trace, page))
