"""What the explorer's front end is sent, and which choices it and the kernel have in common."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import traitlets

from tokentm_widgets.base import Position, Widget, front_end, styles
from tokentm_widgets.live import LivePage
from tokentm_widgets.offline import OfflineData
from tokentm_widgets.schema import Colours, Dims, Grid
from tokentm_widgets.titles import MethodTitle


class _Offered(TypedDict):
    classes: list[str]
    chosen: str | None
    predicts: bool
    methods: list[str]
    titles: dict[str, MethodTitle]
    views: dict[str, str]
    says: dict[str, str]
    colours: Colours
    differences: Colours


class ExplorerData(_Offered, total=False):
    """What can be chosen in the explorer; in pages without a kernel all answers are there, or what computes them.

    ``view`` is there in a page of one view that computes: the view without map, checks and tabs.
    """

    offline: OfflineData
    live: LivePage
    view: str


class ExplorerShown(Grid):
    """What is on the screen of the explorer, for C outputs of the model.

    ``named`` is the class that the explained score is about, the same as ``explained`` where that is the class's own
    output, "" where it is about none. ``specific`` says whether the map depends on the class; ``growth`` is the map
    after each layer, where it only grows.
    """

    picture: str | None
    note: str
    method: str
    specific: bool
    explained: str
    named: str
    target: int | None
    score: float
    unit: str
    layers: Annotated[int, Dims("size", "L")]
    heads: Annotated[int, Dims("size", "H")]
    values: Annotated[bytes, Dims("float32", "C")]
    scores: Annotated[bytes, Dims("float32", "P")]
    growth: Annotated[bytes, Dims("float32", "L P")] | None


class ExplorerState(Widget):
    """The traits of :class:`tokentm_widgets.explorer.Explorer`, which says what they are."""

    _esm, _css, _schema = front_end("explorer"), styles("explorer"), ExplorerData

    picture = traitlets.Int(0).tag(sync=True)
    target: Any = traitlets.Union([traitlets.Int(), traitlets.Unicode()], allow_none=True, default_value=None)
    target.tag(sync=True)
    method = traitlets.Unicode("tokentm").tag(sync=True)
    tab = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    patch = Position("P", optional=True)
    layer = Position("L", optional=True)
    head = Position("H", optional=True)
    opacity = traitlets.Float(0.8, min=0, max=1).tag(sync=True)
    busy = traitlets.Unicode("").tag(sync=True)
    progress = traitlets.Float(0, min=0, max=1).tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)
    gallery: traitlets.List = traitlets.List().tag(sync=True)
    shown = traitlets.Dict().tag(sync=True)
    trust = traitlets.Dict().tag(sync=True)

    # each view's data by itself, so that only what changes is sent, and what was chosen in it beside the shared choices
    _layers = traitlets.Dict().tag(sync=True)
    _methods = traitlets.Dict().tag(sync=True)
    _removal = traitlets.Dict().tag(sync=True)
    _paths = traitlets.Dict().tag(sync=True)
    layers_settings = traitlets.Dict().tag(sync=True)
    methods_settings = traitlets.Dict().tag(sync=True)
    removal_settings = traitlets.Dict().tag(sync=True)
    paths_settings = traitlets.Dict().tag(sync=True)
