"""A scene that is rearranged by hand, and a model in the page that answers meanwhile and says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypedDict

import numpy as np
import torch
import traitlets
from PIL import Image

import tokentm
from tokentm import Trace, methods
from tokentm.demo import Demo
from tokentm.demo.scenes import SIDES, SIZE, choose_classes
from tokentm.demo.sprites import CATALOGUE, CLASSES
from tokentm.errors import InvalidOptionError, TokenTMError
from tokentm.evaluation.removal import Removal
from tokentm.pictures import prepare
from tokentm.plots import DIFFERENCES, Plot, patch_maps
from tokentm_widgets import payload, scene_drawing
from tokentm_widgets.base import Widget, front_end, styles
from tokentm_widgets.live import LiveData, live_data
from tokentm_widgets.scene_drawing import BACKGROUNDS, CLASS_OF, Drawn
from tokentm_widgets.schema import Colours

MOST = 6
"""Drawings on one table; the model was trained on one to three."""
SMALLEST, LARGEST = 16, 100
METHODS = ("rollout", "generic_attention", "tokentm")
TITLES = {
    "rollout": "Attention only",
    "generic_attention": "Attention × gradient",
    "tokentm": "TokenTM",
    "difference": "The difference",
}
FIRST = (
    {"sprite": "🐱", "x": 34.0, "y": 44.0, "size": 52.0, "angle": -5.0},
    {"sprite": "🛻", "x": 80.0, "y": 74.0, "size": 60.0, "angle": 3.0},
)
_DEFAULTS = {"x": SIZE / 2, "y": SIZE / 2, "size": 44.0, "angle": 0.0}
_RANGES = {"x": (0, SIZE), "y": (0, SIZE), "size": (SMALLEST, LARGEST), "angle": (-np.inf, np.inf)}
_PATCHES = 196


class SceneTableData(TypedDict):
    """The model, and what scenes are made of.

    ``sheet`` and ``grounds`` are pictures, see :mod:`tokentm_widgets.scene_drawing`; a row of ``drawings`` is a class,
    of which the model has seen the first ``seen``.
    """

    live: LiveData
    sheet: bytes
    grounds: bytes
    drawings: list[list[str]]
    seen: list[int]
    backgrounds: list[str]
    colours: Colours
    differences: Colours


class Objects(traitlets.TraitType[Any, Any]):
    """A trait: drawings on the table, the last one in front."""

    def validate(self, obj: Any, value: Any) -> list[dict[str, Any]]:
        if isinstance(value, Mapping) or not isinstance(value, Sequence) or isinstance(value, str):
            raise traitlets.TraitError(f"expected objects as a list of {{sprite, x, y, size, angle}}; got {value!r}.")
        if len(value) > MOST:
            raise traitlets.TraitError(f"expected at most {MOST} objects; got {len(value)}.")
        return [_object(one) for one in value]


class Gone(traitlets.TraitType[Any, Any]):
    """A trait: patches that are taken away, in their order."""

    def validate(self, obj: Any, value: Any) -> list[int]:
        try:
            found = [int(one) for one in value]
        except (TypeError, ValueError):
            found = [-1]
        if len({*found}) != len(found) or any(not 0 <= one < _PATCHES for one in found):
            raise traitlets.TraitError(f"expected different patches from 0 to {_PATCHES - 1}; got {value!r}.")
        return found


class OwnPicture(traitlets.TraitType[Any, Any]):
    """A trait: a picture in place of a background, as RGB bytes of 112 x 112 pixels, row by row."""

    def validate(self, obj: Any, value: Any) -> bytes | None:
        if value is None:
            return None
        if isinstance(value, (bytes, bytearray, memoryview)):
            if len(value) != 3 * SIZE**2:
                raise traitlets.TraitError(
                    f"expected a picture of {SIZE} x {SIZE} x 3 bytes; got {len(value)} bytes. Set a PIL picture or a "
                    "path: it is resized and cropped."
                )
            return bytes(value)
        try:
            return np.asarray(prepare(_demo().model, [value]).seen[0].convert("RGB")).tobytes()
        except TokenTMError as error:
            raise traitlets.TraitError(str(error)) from None


@dataclass(frozen=True)
class _Answered:
    """What the model says of the scene as it is, for the still picture."""

    trace: Trace
    names: list[str]
    before: torch.Tensor  # probabilities with all patches there
    now: torch.Tensor


class SceneTable(Widget):
    """A table with drawings on it, and the demo model, which looks at it while things are moved.

    Drawings are dragged, turned, scaled, added and removed; the answer, its probabilities, the maps of three methods
    and the share of each that lies on the object follow at once: the model runs in the page, and no kernel is asked.
    Patches are painted away, and what the map had said of each stands beside what the probability lost. Pictures of
    one's own are chosen, dropped or pasted; they stay in the page.

    Args:
        seed: which drawings lie where, by chance; None, and no ``classes``, puts a cat beside a car.
        classes: one to three different names, as :meth:`tokentm.demo.Demo.scene` takes them.

    Attributes:
        objects: drawings, the last one in front, each ``{"sprite": "🐱", "x": 34, "y": 44, "size": 52, "angle": -5}``:
            an emoji of :data:`tokentm.demo.sprites.CATALOGUE`, or the name of a class for its first one; its middle and
            its side in pixels of the scene, of 112, and degrees clockwise. At most 6. What is left out is the middle,
            44 pixels, upright. Set a whole list; a change inside one is not seen.
        background: "stripes", "gradient", "tiles", "discs" or "plain".
        picture: in place of a background: set a PIL picture, a path or an array; read as 112 x 112 x 3 bytes, or None.
        target: name of the class that is asked about; None for the model's answer, whichever it is.
        method: the map on the scene, "rollout", "generic_attention", "tokentm", or "difference", of the last two.
        mode: what the pointer does, "move" or "take".
        gone: patches that are taken away, 0 .. 195, in their order.
        show_map: whether a map lies on the scene.
        scene, masks: the scene as it is: its pixels, and where each class is seen; not synchronised.

    Raises:
        InvalidOptionError: unknown classes, or keywords that are no attributes.
        traitlets.TraitError: an attribute set to a value that does not exist, with those that do.

    Example:
        >>> table = SceneTable()
        >>> table.objects = [{"sprite": "cat"}, {"sprite": "⚽", "x": 90, "y": 90, "size": 30}]
        >>> table.scene.size, sorted(table.masks)
        ((112, 112), ['ball', 'cat'])
    """

    _esm, _css, _schema = front_end("scene_table"), styles("scene_table"), SceneTableData
    computes = True

    objects: Any = Objects().tag(sync=True)
    background: Any = traitlets.Enum(BACKGROUNDS, BACKGROUNDS[0]).tag(sync=True)
    picture: Any = OwnPicture(None, allow_none=True).tag(sync=True)
    target: Any = traitlets.Enum((None, *CLASSES), None).tag(sync=True)
    method: Any = traitlets.Enum(tuple(TITLES), "tokentm").tag(sync=True)
    mode: Any = traitlets.Enum(("move", "take"), "move").tag(sync=True)
    gone: Any = Gone().tag(sync=True)
    show_map = traitlets.Bool(True).tag(sync=True)

    heading = "The scene table"
    reading = (
        "Move the drawings: the model answers anew and shows which patches it held on to. Then take patches away, and "
        "compare what the map had said of them with what their loss does."
    )
    by_keys = (
        "Keys: Tab goes from drawing to drawing; arrow keys move the one that is reached, Shift four times as far, + "
        "and − scale it, comma and full stop turn it, F brings it to the front, N takes another drawing of its class, "
        "Delete removes it. Taking patches away: arrow keys go from patch to patch, Space takes one away or puts it "
        "back."
    )

    _known: tuple[tuple[Any, ...], _Answered] | None = None

    @traitlets.default("gone")
    def _none_gone(self) -> list[int]:
        return []

    def __init__(self, seed: int | None = None, classes: str | Sequence[str] | None = None, **state: Any) -> None:
        self._require_known(state)
        if seed is None and classes is None:
            placed = {"objects": list(FIRST)}
        else:
            placed = arranged(0 if seed is None else seed, classes)
        super().__init__(
            {
                "live": _live(),
                "sheet": scene_drawing.sheet(),
                "grounds": scene_drawing.grounds(),
                "drawings": [[*seen, *unseen] for seen, unseen in CATALOGUE.values()],
                "seen": [len(seen) for seen, _ in CATALOGUE.values()],
                "backgrounds": list(BACKGROUNDS),
                "colours": payload.colour_table(),
                "differences": payload.colour_table(f"{DIFFERENCES}_r"),
            },
            **{**placed, **state},
        )

    def __repr__(self) -> str:
        names = ", ".join(CLASS_OF[one["sprite"]] for one in self.objects) or "nothing"
        return f"SceneTable({names} on {self.background if self.picture is None else 'a picture'})"

    @property
    def about(self) -> str:
        return f"Model: the demo's {payload.model_name(self._answered().trace).split(' ', 1)[1]}. {self._sentence()}"

    @property
    def scene(self) -> Image.Image:
        return self._drawn().image

    @property
    def masks(self) -> dict[str, np.ndarray]:
        drawn = self._drawn()
        found: dict[str, np.ndarray] = {}
        for i, one in enumerate(self.objects):
            name = CLASS_OF[one["sprite"]]
            found[name] = found.get(name, np.zeros((SIZE, SIZE), bool)) | (drawn.owner == i)
        return found

    def figure(self) -> Plot:
        """The scene and its three maps, each with its share on the object; patches that are gone have a frame."""
        trace, masks = self._answered().trace, self.masks
        name = CLASSES[int(trace.target[0])]  # type: ignore[index]
        seen = name in masks and bool(masks[name].any())
        maps = {}
        for method in METHODS:
            scores = methods.get(method)(trace).scores[0].detach()
            title = TITLES[method]
            if seen:
                title += f": {100 * on_object(scores, masks[name]):.0f} %"
            maps[title] = scores
        figure = patch_maps(maps, (14, 14), self._described(), self.scene, marked=self.gone, opacity=0.92)
        figure.suptitle(self._sentence() + (f" So much of each map lies on the {name}:" if seen else ""), fontsize=9)
        return figure

    def _drawn(self) -> Drawn:
        if self.picture is None:
            below = scene_drawing.background(self.background)
        else:
            below = np.frombuffer(self.picture, np.uint8).reshape(SIZE, SIZE, 3)
        return scene_drawing.composed(below, self.objects)

    def _answered(self) -> _Answered:
        key = (repr(self.objects), self.background, self.picture, self.target, tuple(self.gone))
        if self._known is None or self._known[0] != key:
            self._known = key, self._answer()
        return self._known[1]

    def _answer(self) -> _Answered:
        demo = _demo()
        image = demo.transform(self.scene)[None]
        target = None if self.target is None else CLASSES.index(self.target)
        trace = tokentm.record(demo.model, image, target)
        gone = torch.zeros(1, _PATCHES, dtype=torch.bool)
        gone[0, self.gone] = True
        before = trace.logits.softmax(-1)[0]
        return _Answered(trace, demo.classes, before, Removal(trace)(gone).softmax(-1)[0] if self.gone else before)

    def _sentence(self) -> str:
        found = self._answered()
        if not self.gone:
            best = found.before.argsort(descending=True)[:2].tolist()
            return f"It says {', '.join(f'{found.names[c]} {100 * found.before[c]:.0f} %' for c in best)}."
        index = int(found.trace.target[0])  # type: ignore[index]
        change = f"{100 * found.before[index]:.0f} % to {100 * found.now[index]:.0f} %"
        return f"Without {len(self.gone)} of {_PATCHES} patches, {found.names[index]} goes from {change}."

    def _described(self) -> str:
        there = ", ".join(CLASS_OF[one["sprite"]] for one in self.objects) or "nothing"
        where = "a picture of the reader's" if self.picture is not None else f"the background {self.background}"
        return f"A scene with {there} on {where}, and what speaks for the class by three methods. {self._sentence()}"


def on_object(scores: torch.Tensor, mask: np.ndarray) -> float:
    """Which share of a map lies on a mask; a patch counts by how much of it the mask covers."""
    cover = torch.from_numpy(mask.reshape(14, 8, 14, 8).mean((1, 3)).flatten())
    return float((scores * cover).sum() / scores.sum())


def arranged(seed: int, classes: str | Sequence[str] | None = None) -> dict[str, Any]:
    """One to three drawings somewhere on a background by chance, each at least half visible.

    Returns:
        ``objects`` and ``background``, as the table's attributes.

    Raises:
        InvalidOptionError: a negative seed, or classes that :func:`tokentm.demo.scenes.make_scene` does not take.
    """
    if seed < 0:
        raise InvalidOptionError(f"expected a seed of 0 or more; got {seed}.")
    rng = np.random.default_rng(seed)
    names = choose_classes(rng, classes, None)
    low, high = SIDES[len(names)]
    background = str(rng.choice(BACKGROUNDS))
    below = scene_drawing.background(background)
    while True:
        objects = []
        for name in names:
            size = float(rng.integers(low, high + 1))
            x, y = (round(float(rng.uniform(size / 2, SIZE - size / 2)), 1) for _ in range(2))
            sprite = str(rng.choice(list(CATALOGUE[name][0])))
            objects.append(
                {"sprite": sprite, "x": x, "y": y, "size": size, "angle": round(float(rng.uniform(-20, 20)), 1)}
            )
        owner = scene_drawing.composed(below, objects).owner
        alone = [(scene_drawing.composed(below, [one]).owner == 0).sum() for one in objects]
        if all((owner == i).sum() >= whole / 2 for i, whole in enumerate(alone)):
            return {"objects": objects, "background": background}


def _object(given: Any) -> dict[str, Any]:
    """An object with all that it needs, or a refusal."""
    if not isinstance(given, Mapping) or given.keys() - {"sprite", *_DEFAULTS} or "sprite" not in given:
        raise traitlets.TraitError(f"expected an object as {{sprite, x, y, size, angle}}; got {given!r}.")
    sprite = given["sprite"]
    if sprite in CATALOGUE:
        sprite = CATALOGUE[sprite][0][0]
    if sprite not in CLASS_OF:
        raise traitlets.TraitError(
            f"expected a sprite among {''.join(CLASS_OF)}, or the name of a class among {', '.join(CLASSES)}; got "
            f"{given['sprite']!r}."
        )
    made = {"sprite": sprite}
    for name, otherwise in _DEFAULTS.items():
        low, high = _RANGES[name]
        value = given.get(name, otherwise)
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
            raise traitlets.TraitError(f"expected {name} of {sprite} as a number; got {value!r}.")
        if not low <= value <= high:
            raise traitlets.TraitError(f"expected {name} of {sprite} from {low} to {high}; got {value}.")
        made[name] = float(value)
    return made


@cache
def _demo() -> Demo:
    return tokentm.load_demo()


@cache
def _live() -> LiveData:
    demo = _demo()
    return live_data(demo.model, demo.classes)
