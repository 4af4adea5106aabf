"""One call to look into a model: its answer, the map of any class by any method, how far to trust it, every view."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import traitlets
from PIL import Image, UnidentifiedImageError
from torch import nn

from tokentm import Anatomy, Explanation, TextTarget, Trace, load_demo, methods
from tokentm.errors import InvalidOptionError, InvalidTargetError, TokenTMError
from tokentm.names import ClassNames
from tokentm.outputs import Meaning
from tokentm.pictures import Picture, Transform, prepare, read
from tokentm.plots import DIFFERENCES, Plot, named_classes, output_names, target_names
from tokentm.questions import ClassScore
from tokentm_widgets import looking, offline, payload
from tokentm_widgets.base import Living, Widget, as_part, require_position
from tokentm_widgets.explorer_state import ExplorerShown, ExplorerState
from tokentm_widgets.live import METHODS as LIVE_METHODS
from tokentm_widgets.live import Given, LiveChoice, LivePage, about_live, live_page, require_output
from tokentm_widgets.looking import SHARED, VIEWS, Explained, Looked, Subject
from tokentm_widgets.schema import packed
from tokentm_widgets.titles import titles_of
from tokentm_widgets.trust import Trust
from tokentm_widgets.work import Desk, Task, Work

_DEMO_SCENES = ((17, ("cat", "car")), (3, ("dog",)), (5, ("flower", "clock")), (8, ("boat",)), (11, ("bird", "tree")))


@dataclass(frozen=True)
class _Map:
    """Which map is, or is to be, on the screen."""

    picture: int
    target: int | str | None
    method: str


class Explorer(ExplorerState):
    """What :func:`explore` returns: the model's answer, the map of one class, how far to trust it, and views as tabs.

    Setting an attribute computes at once what belongs to it, so that the next line sees it. What is chosen in the
    browser is computed in a thread, with the share done on the screen and a button to stop it.

    Attributes:
        picture: which picture of the gallery, 0 .. number of pictures - 1.
        target: what is explained: the index of a class among the outputs, "chosen score" for the function that
            :func:`explore` was given, or None for the predicted class.
        method: name of a method in ``tokentm.methods.METHODS``.
        tab: which view is open: None, or a name of :data:`tokentm_widgets.looking.VIEWS`.
        view: the open view as a widget, or None: ``explorer.view.layer = 3``; a name opens one:
            ``explorer.view = "layers"``. ``export_html(explorer.view, "cat.html")`` saves it alone.
        patch, layer, head: what is chosen in every view; None for no patch, all layers, all heads.
        opacity: of the maps over the picture, 0 .. 1.
        layers_settings, methods_settings, removal_settings, paths_settings: what else was chosen in each view.
        busy, progress: what is being computed, in words, and the share done; "" when nothing is.
        error: what went wrong with the last choice; empty when nothing did.
        gallery: name and thumbnail of every picture.
        shown: what is on the screen: picture, answer, map. ``unit`` says what the answer's ``values`` are: "softmax",
            "sigmoid" and "probabilities" are probabilities made or given so, "none" are the outputs themselves.
        trust: the checks of this map, as they were sent: whether it changes with the class, whether it is free of
            outlier tokens, and, once :meth:`check` was called, the two others; they are None before.

    Raises:
        traitlets.TraitError: an attribute set to a value that does not exist, with those that do.
    """

    reading = (
        "The large map says how much each patch of the picture contributed to one class: the brightest patches count "
        "most. It shows where the evidence lay, not what the model saw in it. Choose another class, check how far to "
        "trust the map, and open the views below it."
    )

    by_keys = (
        "Tab reaches everything. On a map the arrow keys move from patch to patch, Escape clears the choice. Left and "
        "right move between the views."
    )

    _view: Widget | None = None
    _opened: str | None = None
    _of_reader = False  # whether the present change comes from the browser
    _righting = False  # whether a change is only put right, and asks for nothing
    _passing = False  # whether a choice is on its way between a view and the explorer

    def __init__(
        self,
        model: nn.Module,
        pictures: Sequence[tuple[str, Image.Image]],
        classes: ClassNames | None,
        transform: Transform | None,
        outputs: Meaning | None = None,
        target: Explained | None = None,
        anatomy: Anatomy | None = None,
    ) -> None:
        self._subject = Subject.of(model, transform, outputs, target, anatomy)
        self._pictures = [picture for _, picture in pictures]
        self._checked: dict[_Map, Trust] = {}
        self._desk = Desk(self._tell, self._fail, self._stopped)
        first = self._subject.first
        self._looked = self._subject.look(self._pictures[0], first, "tokentm")
        compared = self._subject.compare_classes(self._looked)
        self._classes = output_names(self._looked.trace, classes)
        if isinstance(target, ClassScore) and isinstance(target.classes, str):  # whose names are known by now
            bound = target.bind(self._looked.trace.logits, self._looked.trace.outputs, self._classes)
            first = int(bound.indices(self._looked.trace.logits)[0])
            self._looked = self._subject.look(self._pictures[0], first, "tokentm")
        self._map = _Map(0, first, "tokentm")
        self._checked[self._map] = compared
        anatomy = self._looked.trace.anatomy
        super().__init__(
            {
                "classes": self._classes,
                "chosen": self._subject.chosen,
                "predicts": anatomy is not None and not anatomy.headless,
                "methods": list(methods.METHODS),
                "titles": titles_of(methods.METHODS),
                "views": {name: view.title for name, view in VIEWS.items()},
                "says": {name: view.says for name, view in VIEWS.items()},
                "colours": payload.colour_table(),
                "differences": payload.colour_table(DIFFERENCES),
            },
            target=first,
            gallery=[_entry(name, picture) for name, picture in pictures],
            shown=self._sent(self._looked),
            trust=self._looked.trust(compared, self._classes),
        )
        self._sizes = self._looked.sizes
        self.observe(self._choose, ["picture", "target", "method", "tab"])
        self.observe(self._pass_on, [*SHARED, *(f"{name}_settings" for name in VIEWS)])
        self.on_msg(self._receive)

    # ---- what Python sees ----

    @property
    def overview(self) -> Explorer:
        """The explorer itself, whose choices stood in a widget of their own once."""
        return self

    @property
    def view(self) -> Widget | None:
        """The open view as a widget, or None."""
        self._desk.settle()
        return self._view

    @view.setter
    def view(self, name: str | None) -> None:
        self.tab = name

    @property
    def trace(self) -> Trace:
        """The record of the picture and class shown."""
        self._desk.settle()
        return self._looked.trace

    @property
    def explanation(self) -> Explanation:
        """The map shown."""
        self._desk.settle()
        return self._looked.explanation

    @property
    def heading(self) -> str:
        return "What the model answers, and why"

    @property
    def about(self) -> str:
        return payload.about(self.trace, target_names(self.trace, self._classes))

    def add(self, name: str, picture: Picture) -> None:
        """Put one more picture into the gallery and show it; what the reader uploads comes this way."""
        opened = read(picture)
        self._pictures.append(opened)
        self.gallery = [*self.gallery, _entry(name, opened)]
        self.picture = len(self._pictures) - 1

    def check(self) -> Trust:
        """Measure how far to trust the map shown, see :mod:`tokentm_widgets.trust`: this runs the model some times.

        Raises:
            ModelChangedError: the model is no longer what was recorded.

        Example:
            >>> explorer.check().classes.verdict
            'Partly'
        """
        self._begin(self._measure)
        found = self._checked.get(self._map)
        if found is None or found.removal is None:
            raise InvalidOptionError(f"expected a map to check; none is shown. {self.error}".strip())
        return found

    def close(self) -> None:
        """Close the widget, and end what it computes."""
        self._desk.stop()
        super().close()

    def figure(self) -> Plot:
        """The picture and its map, as a figure."""
        return self.explanation.plot(images=self._looked.seen, classes=self._classes)

    def offline_data(self, patches: int | None = offline.PATCHES) -> dict[str, Any]:
        """The present picture for its likeliest classes and all methods, with every view: a page without a kernel.

        Args:
            patches: of how many patches that contribute most the page holds what they take in every layer, as
                :meth:`LayerStepper.offline_data` takes it; None holds all.
        """
        self._desk.settle()
        made = offline.data(self._subject, self._looked, self._classes, self._of_views(), patches)
        return {**self._data, **made}

    def living(self) -> Living:
        """The explorer as a page that computes.

        Raises:
            InvalidOptionError: a model, a score or a method that a page cannot compute, with the reason.
        """
        self._desk.settle()
        first = "Choose a class first: explorer.target = 0." if self._subject.kind is None else "Leave target= out."
        require_output(self._looked.trace, first)
        if self.method not in LIVE_METHODS:
            raise InvalidOptionError(
                f"expected a method that a page can compute, {', '.join(LIVE_METHODS)}; found {self.method}. Choose "
                "one of them first: explorer.method = 'tokentm'."
            )
        given = [self._given(i) for i in range(len(self._pictures))]
        assert not isinstance(self.target, str)  # it names the chosen score
        choice: LiveChoice = {"picture": self.picture, "target": self.target, "method": self.method}
        made = live_page(self._looked.trace, self._classes, given, choice, self._subject.transform)
        data = {**self._data, "methods": made["methods"], "live": packed(LivePage, made).data}
        return Living(self, data, about_live(self._looked.trace, made))

    def _given(self, picture: int) -> Given:
        prepared = prepare(self._subject.model, self._pictures[picture], self._subject.transform, self._subject.anatomy)
        seen = None if prepared.mean is None else prepared.seen[0]
        return Given(self.gallery[picture]["name"], prepared.images[0].detach().cpu(), seen)

    def named_choices(self, data: Mapping[str, Any]) -> dict[str, list[Any]]:
        """What a page's reader can choose, so that the page's address can keep it."""
        if "live" in data:
            return {
                "picture": [*range(len(self._pictures))],
                "target": [None, *range(len(self._classes))],
                "method": data["methods"],
                "tab": [None, *VIEWS],
            }
        held = data.get("offline")
        if held is None:
            return {}
        targets = [one["target"] if one["target"] is not None else self._subject.chosen for one in held["offered"]]
        return {"target": targets, "method": held["methods"], "tab": [*VIEWS]}

    # ---- choices, and what answers them ----

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take choices from the browser: what they ask for is computed in a thread."""
        self._of_reader = True
        try:
            super().set_state(sync_data)
        finally:
            self._of_reader = False

    def _choose(self, change: traitlets.Bunch) -> None:
        if self._righting:
            return
        wanted, tab = _Map(self.picture, self.target, self.method), self.tab
        if self.shown and wanted == self._map:
            self._begin(lambda work: self._open_tab(work, tab))
        else:
            self._begin(lambda work: self._answer(work, wanted, tab))

    def _begin(self, task: Task) -> None:
        """Do a task: in a thread where the browser asks for it, else at once."""
        self.error = ""
        if self._of_reader:
            self._desk.apart(task)
        else:
            self._desk.here(task)

    def _answer(self, work: Work, wanted: _Map, tab: str | None) -> None:
        """Compute a map, and the open view with it."""
        same = self.shown and (wanted.picture, wanted.target) == (self._map.picture, self._map.target)
        kept = self._looked if same else None
        try:
            looked = self._subject.look(self._pictures[wanted.picture], wanted.target, wanted.method, kept, work.report)
        except Exception:
            work.put(self._clear)  # not the map of what was chosen before
            raise
        remade = kept is None or self._opened != tab or tab == "removal"  # whose ranking is the map's
        work.put(lambda: self._show(wanted, looked, remade))
        if wanted not in self._checked:
            compared = self._subject.compare_classes(looked, work.report)
            work.put(lambda: self._show_trust(wanted, compared))
        if remade:
            self._make(work, looked, tab)

    def _open_tab(self, work: Work, tab: str | None) -> None:
        """Open another view of the present record, or none."""
        if tab != self._opened:
            self._make(work, self._looked, tab)

    def _make(self, work: Work, looked: Looked, tab: str | None) -> None:
        """Make a view of a record, and put it in place of the one before."""
        if tab is None:
            return work.put(self._let_go)
        work.say(f"computing {VIEWS[tab].title.lower()}")
        try:
            with as_part():
                made = VIEWS[tab].make(looked, self._classes, work.report)
        except Exception:
            work.put(self._let_go)
            raise
        work.put(lambda: self._put(tab, made))

    def _show(self, wanted: _Map, looked: Looked, remade: bool) -> None:
        """Put a map on the screen; a view of what was there before goes."""
        self._looked, self._map = looked, wanted
        if remade:
            self._let_go()
        self._fit(looked.sizes)
        self.shown = self._sent(looked)
        measured = self._checked.get(wanted)
        self.trust = {} if measured is None else looked.trust(measured, self._classes)

    def _fit(self, sizes: dict[str, int]) -> None:
        """Let go of what another picture had and this one has not, such as its last patch."""
        for name, dim in (("patch", "P"), ("layer", "L"), ("head", "H")):
            value = getattr(self, name)
            if value is not None and value >= sizes[dim]:
                setattr(self, name, None)
        self._sizes = sizes

    def _clear(self) -> None:
        """Take away what is on the screen."""
        self.shown, self.trust = {}, {}
        self._let_go()

    def _let_go(self) -> None:
        """Close the view that is open, and have its data leave the browser."""
        if self._view is not None:
            self._view.unobserve_all()
        if self._opened is not None:
            setattr(self, f"_{self._opened}", {})
        self._view, self._opened = None, None

    def _put(self, name: str, view: Widget) -> None:
        """Put a view in place of the one before; what the reader chose in it is kept."""
        self._let_go()
        self._view, self._opened = view, name
        view._outlet = lambda content, buffers: self.send({"kind": "part", "view": name, "content": content}, buffers)
        kept = {key: value for key, value in getattr(self, f"{name}_settings").items() if key != "playing"}
        with self._passed():
            _take(view, {**kept, **self._shared_for(name, view)})
            setattr(self, f"{name}_settings", looking.settings(name, view))
        view.observe(self._heard, looking.chosen(view))
        setattr(self, f"_{name}", {**view._data, "pictures": []})  # the picture is there already

    # ---- one selection for all views ----

    @contextmanager
    def _passed(self) -> Iterator[None]:
        before, self._passing = self._passing, True
        try:
            yield
        finally:
            self._passing = before

    def _shared_for(self, name: str, view: Widget) -> dict[str, Any]:
        """The common choices as a view takes them: it shows a layer always, the last where none is chosen."""
        common = {there: getattr(self, here) for there, here in looking.shared(name, view).items()}
        if common.get("layer", 0) is None:
            common["layer"] = self._looked.sizes["L"] - 1
        return common

    def _pass_on(self, change: traitlets.Bunch) -> None:
        """From the explorer to the open view."""
        view, opened = self._view, self._opened
        if self._passing or view is None or opened is None:
            return
        with self._passed():
            if change["name"] in SHARED:
                _take(view, self._shared_for(opened, view))
            elif change["name"] == f"{opened}_settings":
                _take(view, change["new"])
                setattr(self, change["name"], looking.settings(opened, view))

    def _heard(self, change: traitlets.Bunch) -> None:
        """From the open view to the explorer."""
        view, opened = self._view, self._opened
        if self._passing or view is None or opened is None:
            return
        with self._passed():
            common = looking.shared(opened, view)
            if change["name"] in common:
                setattr(self, common[change["name"]], change["new"])
            else:
                setattr(self, f"{opened}_settings", looking.settings(opened, view))

    # ---- checks ----

    def _measure(self, work: Work) -> None:
        """Measure how far to trust the map shown."""
        shown, looked = self._map, self._looked
        if not self.shown:
            return
        known = self._checked.get(shown) or self._subject.compare_classes(looked, work.report)
        measured = self._subject.check(looked, known, work.report) if known.removal is None else known
        work.put(lambda: self._show_trust(shown, measured))

    def _show_trust(self, shown: _Map, measured: Trust) -> None:
        self._checked[shown] = measured
        self.trust = self._looked.trust(measured, self._classes)

    # ---- what is told, and what is heard ----

    def _tell(self, doing: str, share: float) -> None:
        self.busy, self.progress = doing, share

    def _fail(self, reason: str) -> None:
        """Errors inside a widget's callback end in a log that nobody reads: say them on the screen too."""
        self.error = reason
        if self.shown and self.tab != self._opened:
            self._set_quietly(tab=self._opened)

    def _stopped(self) -> None:
        """Work was ended: what is on the screen is what is chosen."""
        then = self._map
        self._set_quietly(picture=then.picture, target=then.target, method=then.method, tab=self._opened)

    def _set_quietly(self, **choices: Any) -> None:
        self._righting = True
        try:
            for name, value in choices.items():
                setattr(self, name, value)
        finally:
            self._righting = False

    def _receive(self, _widget: Widget, content: dict[str, Any], buffers: Sequence[Any]) -> None:
        """What the front end asks for in messages."""
        kind = content.get("kind")
        if kind == "stop":
            self._desk.stop()
        elif kind == "check":
            self._of_reader = True
            try:
                self._begin(self._measure)
            finally:
                self._of_reader = False
        elif kind == "part" and self._view is not None and content["view"] == self._opened:
            self._view._handle_custom_msg(content["content"], buffers)
        elif kind == "upload":
            self._upload(str(content["name"]), bytes(buffers[0]))

    def _upload(self, name: str, file: bytes) -> None:
        """A picture from the reader's own disk."""
        try:
            picture = Image.open(BytesIO(file))
            picture.load()
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            self.error = f"expected a picture file (PNG, JPEG, WebP ...); {name} could not be read: {error}"
            return
        self._of_reader = True
        try:
            self.add(name, picture)
        except TokenTMError as error:  # a picture whose values are not known, such as 12 bits in a 16-bit file
            self.error = str(error)
        finally:
            self._of_reader = False

    def _sent(self, looked: Looked) -> dict[str, Any]:
        """A map as it is sent."""
        names = (
            name[0] for name in (target_names(looked.trace, self._classes), named_classes(looked.trace, self._classes))
        )
        return packed(ExplorerShown, looked.shown(*names)).data

    def _of_views(self) -> dict[str, dict[str, Any]]:
        """What was chosen in each view."""
        return {name: dict(getattr(self, f"{name}_settings")) for name in VIEWS}

    @traitlets.validate("picture")
    def _in_gallery(self, proposal: traitlets.Bunch) -> int | None:
        require_position("picture", proposal["value"], len(self.gallery))
        return proposal["value"]

    @traitlets.validate("target")
    def _explainable(self, proposal: traitlets.Bunch) -> int | str | None:
        value, count, chosen = proposal["value"], len(self._classes), self._subject.chosen
        if isinstance(value, str):
            if value == chosen:
                return value
            also = "" if chosen is None else f", {chosen!r}"
            raise traitlets.TraitError(f"expected target from 0 to {count - 1}{also} or None; got {value!r}.")
        require_position("target", value, count, optional=True)
        return value

    @traitlets.validate("method", "tab")
    def _known(self, proposal: traitlets.Bunch) -> str | None:
        name, value = proposal["trait"].name, proposal["value"]
        known = list(methods.METHODS if name == "method" else VIEWS)
        if value not in known and not (name == "tab" and value is None):
            what, optional = ("view", " or None") if name == "tab" else (name, "")
            raise traitlets.TraitError(f"expected a {what} among {', '.join(known)}{optional}; got {value!r}.")
        return value

    def __repr__(self) -> str:
        shown, view = self.shown.get("explained", "nothing yet"), self._view
        below = "" if view is None else f"; {view!r}"
        return f"Explorer({shown}; {self.method}; {len(self.gallery)} pictures{below})"


def _entry(name: str, picture: Image.Image) -> dict[str, str]:
    """A picture in the gallery."""
    return {"name": name, "url": payload.picture_url(picture, 96)}


def _take(view: Widget, choices: Mapping[str, Any]) -> None:
    """Have a view take choices, as far as it has what is chosen: a film may have fewer steps than the one before."""
    for name, value in choices.items():
        if view.has_trait(name):
            try:
                setattr(view, name, value)
            except traitlets.TraitError:
                continue


def explore(
    model: nn.Module | None = None,
    images: Picture | Sequence[Picture] | None = None,
    classes: ClassNames | None = None,
    transform: Transform | None = None,
    outputs: Meaning | None = None,
    target: Explained | None = None,
    anatomy: Anatomy | None = None,
) -> Explorer:
    """Look into a model: pick a picture, a class and a method; check the map, and open any view of the same record.

    Args:
        model: a ViT, see :func:`tokentm.describe`; None takes the demo model with its scenes.
        images: pictures or paths to begin with, prepared by the model's own transform; more can be uploaded.
        classes: class names: a list in the order of the outputs or a dict by index; None takes the model's own.
        transform: as in :func:`tokentm.prepare`; None asks the model.
        outputs: what the outputs mean, see :data:`tokentm.outputs.Meaning`; None finds out.
        target: what is explained at first: a class index; a score of a class, such as ``tokentm.log_odds()``, which is
            then explained of every class that is chosen; or a function of the logits, which is then offered as
            "chosen score" beside the classes; or texts of :func:`tokentm.text_target`, which become the classes. A
            model without classes, which returns features, needs one of the two.
        anatomy: the model's description, see :class:`tokentm.Anatomy`; None takes what :func:`tokentm.describe` finds.

    Raises:
        InvalidOptionError: a model without a picture, pictures without a model, or names that do not fit the logits.
        InvalidTargetError: a target that is neither, or a class that the model does not have.
        UnsupportedModelError, InvalidImagesError: as in :func:`tokentm.record`.

    Example:
        >>> explorer = explore(model, "picture.jpg")
        >>> explorer.target = 7
        >>> explorer.view = "layers"
        >>> explorer.view.layer = 3
        >>> explore(model, "picture.jpg", target=tokentm.log_odds(7))
        >>> explore(model, "picture.jpg", target=tokentm.difference(7, 0))
    """
    asked = _explained(target)
    if model is None:
        if images is not None or classes is not None or transform is not None:
            raise InvalidOptionError(
                "expected a model with these pictures: explore(model, images). explore() shows the demo."
            )
        demo = load_demo()
        scenes = [(", ".join(names), demo.scene(seed, list(names)).image) for seed, names in _DEMO_SCENES]
        return Explorer(demo.model, scenes, demo.classes, None, outputs, asked, anatomy)
    listed: Sequence[Picture] = [images] if isinstance(images, (Image.Image, str, PathLike)) else list(images or ())
    if not listed:
        raise InvalidOptionError("expected a picture to begin with: explore(model, 'picture.jpg') or a list of them.")
    named = [(_name(one, i), read(one)) for i, one in enumerate(listed)]
    return Explorer(model, named, classes, transform, outputs, asked, anatomy)


def _explained(target: Any) -> Explained | None:
    """A target of one picture: None, a function, texts, or a class index of any integer type."""
    if isinstance(target, ClassScore) and isinstance(target.classes, tuple):
        raise InvalidTargetError(f"expected one class to be explained at first; got {target!r}.")
    if target is None or callable(target) or isinstance(target, TextTarget):
        return target
    try:
        if isinstance(target, bool):
            raise TypeError
        return operator.index(target)
    except TypeError:
        raise InvalidTargetError(
            f"expected one class index, or a function of the logits, to be explained at first; got {target!r}. Look a "
            "class name up first, for example classes.index('cat')."
        ) from None


def _name(picture: Picture, index: int) -> str:
    return f"picture {index + 1}" if isinstance(picture, Image.Image) else Path(picture).name
