"""What a page needs to compute by itself: the engine's code, the model, its pictures, and what the views are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from PIL import Image
from torch import Tensor, nn

from tokentm import Trace, methods, tokens
from tokentm.errors import InvalidOptionError
from tokentm.evaluation.perturbation import shuffle
from tokentm.outputs import Meaning, probabilities
from tokentm.pictures import Transform, seen
from tokentm.plots import DIFFERENCES
from tokentm.questions import ClassScore, Difference
from tokentm_widgets import looking, payload, trust
from tokentm_widgets.front_end import worker
from tokentm_widgets.live_model import halved, live_model
from tokentm_widgets.live_pictures import Preparing, pixels, preparing
from tokentm_widgets.method_comparison import METHODS as COMPARED
from tokentm_widgets.perturbation_player import DASHES, steps_of
from tokentm_widgets.perturbation_player import METHODS as REMOVED
from tokentm_widgets.schema import Colours
from tokentm_widgets.titles import MethodTitle, titles_of

METHODS = (
    "tokentm",
    "tokentm_libragrad",
    "generic_attention",
    "gradient_rollout",
    "grad_cam",
    "attcat",
    "legrad",
    "input_x_gradient",
    "rollout",
    "attention",
)
"""What ``front/engine/methods.js`` computes."""

_EXACT = 1e-5


class LiveData(TypedDict):
    """The engine and its model.

    ``preparing`` is None where a page cannot prepare pictures of its reader; ``why`` then says the reason.
    """

    code: str
    spec: dict[str, Any]
    weights: bytes
    classes: list[str]
    preparing: Preparing | None
    why: str


class LivePicture(TypedDict):
    """A picture that the page begins with: ``pixels`` as the model sees it, or the ``numbers`` that it takes."""

    name: str
    url: str
    picture: str | None
    pixels: bytes | None
    numbers: bytes | None


class LiveChoice(TypedDict):
    """Which picture, class and method are on the screen."""

    picture: int
    target: int | None
    method: str


class LivePage(TypedDict):
    """What a page that computes is told: the engine, its pictures, and what views are told of a model.

    ``others`` are methods that a map is compared with; ``shuffle`` breaks ties between patches, ``chance`` is a ranking
    by chance, ``draws`` are random patches to take away; ``halved`` is how much half precision changes a probability;
    ``settings`` is what is chosen in a new view. Where outlier tokens dominate a map, ``registers`` is what to say of
    models with registers, and methods ``weighted`` by the gradient are tried.
    """

    engine: LiveData
    pictures: list[LivePicture]
    first: LiveChoice
    unit: str
    methods: list[str]
    specific: dict[str, bool]
    others: list[str]
    compared: list[str]
    removed: list[str]
    titles: dict[str, MethodTitle]
    readout: str
    prefixNames: list[str]
    dashes: list[str]
    counts: list[int]
    shuffle: list[int]
    chance: list[int]
    draws: list[list[int]]
    paths: int
    halved: float
    settings: dict[str, dict[str, Any]]
    registers: str
    weighted: list[str]
    differences: Colours
    colours: Colours


@dataclass(frozen=True, eq=False)
class Given:
    """A picture, and what the model is given of it.

    Attributes:
        name: of the picture.
        image: (C, H, W), normalised.
        seen: what the model sees; None where the transform does not tell.
    """

    name: str
    image: Tensor
    seen: Image.Image | None


def live_data(model: nn.Module, classes: Sequence[str], transform: Transform | None = None) -> LiveData:
    """A model, and what runs it in a browser.

    Args:
        model: a plain ViT of timm, see :func:`tokentm_widgets.live_model.live_model`.
        classes: names of its outputs.
        transform: how pictures are prepared; None asks the model.

    Raises:
        InvalidOptionError: the engine does not run this model, with the reason.
    """
    made = live_model(model)
    how, why = None, ""
    try:
        how = preparing(model, transform, (made.spec["height"], made.spec["width"]))
    except InvalidOptionError as error:
        why = str(error)
    return {
        "code": worker("engine/worker"),
        "spec": dict(made.spec),
        "weights": made.weights,
        "classes": list(classes),
        "preparing": how,
        "why": why,
    }


def live_page(
    trace: Trace,
    classes: Sequence[str],
    pictures: Sequence[Given],
    first: LiveChoice,
    transform: Transform | None = None,
) -> LivePage:
    """What a page that computes is told of a recorded model.

    Args:
        trace: a record of the model, for what it says of it.
        classes: names of all outputs.
        pictures: to begin with, at least one.
        first: what is on the screen as the page is written.
        transform: how pictures are prepared; None asks the model.

    Raises:
        InvalidOptionError: the engine does not run this model, with the reason; or its answers in half precision, which
            the page has its weights in, are not those of the model.
        ModelChangedError: the model is no longer what was recorded.
    """
    model = trace.check_model().model
    engine = live_data(model, classes, transform)
    _require_size(engine["spec"], pictures)
    sent = [_picture(one, engine["preparing"]) for one in pictures]
    if engine["preparing"] is not None and any(one["pixels"] is None for one in sent):
        # what made these pictures did something else, so a picture of the reader's own would be prepared wrongly
        engine = {**engine, "preparing": None, "why": _OTHERWISE}
    differs = check_halved(model, torch.stack([one.image for one in pictures]), trace.outputs)
    patches = trace.layout.rows * trace.layout.columns
    chance = torch.randperm(patches, generator=torch.Generator().manual_seed(1))
    return {
        "engine": engine,
        "pictures": sent,
        "first": first,
        "unit": trace.outputs,
        "methods": [*METHODS],
        "specific": {name: methods.get(name).class_specific for name in METHODS},
        "others": [name for name in METHODS if not methods.get(name).reruns_model],
        "compared": [name for name in COMPARED if name in METHODS],
        "removed": [*REMOVED],
        "titles": titles_of([*METHODS, *REMOVED]),
        "readout": payload.readout_name(trace),
        "prefixNames": payload.prefix_names(trace),
        "dashes": list(DASHES),
        "counts": steps_of(patches, None, keeps_one=trace.layout.prefix == 0),
        "shuffle": shuffle(patches).tolist(),
        "chance": chance.tolist(),
        "draws": [mask.nonzero().flatten().tolist() for mask in trust.drawn(patches, trust.tenth(patches))],
        "paths": 5,
        "halved": differs,
        "settings": {name: looking.usual_settings(name) for name in looking.VIEWS},
        "registers": tokens.register_advice(trace),
        "weighted": [name for name in tokens.GRADIENT_WEIGHTED if name in METHODS],
        "differences": payload.colour_table(DIFFERENCES),
        "colours": payload.colour_table(),
    }


def require_output(trace: Trace, instead: str) -> None:
    """Refuse what is not the output of a class: a page computes no other score.

    Args:
        instead: what to do, in a sentence.

    Raises:
        InvalidOptionError: a function of the logits was explained, or a score with a name, such as log-odds.
    """
    asked = trace.explained
    if trace.target is None or isinstance(asked, ClassScore):
        found = asked.name if isinstance(asked, (ClassScore, Difference)) else "a function of the logits"
        raise InvalidOptionError(
            f"expected the output of a class to be explained, which a page can compute; found {found}. {instead}"
        )


def about_live(trace: Trace, page: LivePage) -> str:
    """Which model computes in a page, and how exactly, for those who read it."""
    name, how = payload.model_name(trace), page["engine"]["preparing"]
    what = "an output, by the largest," if page["unit"] == "none" else "a probability"
    differs = (
        ""
        if page["halved"] == 0
        else f" ({what} differs by {100 * page['halved']:.1g} % at most, on this page's pictures)"
    )
    own = "" if how is None else " Drop, paste or choose a picture of your own: it does not leave this page."
    return f"{name[0].upper()}{name[1:]}, runs inside this page, its weights in half precision{differs}.{own}"


_OTHERWISE = (
    "the pictures that it came with were not prepared as its model says that pictures are, so that others would be "
    "prepared wrongly."
)


def _require_size(spec: dict[str, Any], pictures: Sequence[Given]) -> None:
    """Refuse images of another size than the model's own, which a page has its positions for."""
    expected = (spec["channels"], spec["height"], spec["width"])
    for one in pictures:
        if tuple(one.image.shape) != expected:
            raise InvalidOptionError(
                f"expected images of the size that the model is made for, {expected} (channels, height, width), which "
                f"a page computes; found {tuple(one.image.shape)}. Make the model for that size, with img_size=, or "
                "leave live=True out."
            )


HALF = 0.02
"""Most that a probability may differ between the model and its weights in half precision."""


def check_halved(model: nn.Module, images: Tensor, meaning: Meaning) -> float:
    """Most that a probability differs where weights are in half precision; or an output, as a share of the largest.

    Args:
        images: (B, C, H, W).
        meaning: of the outputs.

    Raises:
        InvalidOptionError: more than :data:`HALF`.
    """
    weight = next(model.parameters())
    with torch.no_grad():
        exact = model(images.to(weight)).float()
        coarse = halved(model).float()(images.to(weight.device).float())  # as a page computes
    most = float((_comparable(exact, exact, meaning) - _comparable(coarse, exact, meaning)).abs().max())
    if not most <= HALF:
        raise InvalidOptionError(
            f"{type(model).__name__}: expected the same answers from weights in half precision, which a page holds; "
            f"found {'outputs' if meaning == 'none' else 'probabilities'} that differ by {most:.3f}. Write the page "
            "without live=True."
        )
    return most


def _comparable(outputs: Tensor, exact: Tensor, meaning: Meaning) -> Tensor:
    """Probabilities, or outputs as shares of the largest exact one."""
    values = probabilities(outputs, meaning)
    return outputs / exact.abs().max().clamp(min=1e-12) if values is None else values


def given_of(trace: Trace, pictures: Sequence[Image.Image]) -> list[Given]:
    """The different images of a record, with the pictures of them where there are some."""
    found: list[Given] = []
    for i, image in enumerate(trace.images.detach().cpu()):
        if any(torch.equal(image, one.image) for one in found):
            continue
        picture = pictures[i % len(pictures)] if pictures else None
        found.append(Given(f"picture {len(found) + 1}", image, picture))
    return found


def _picture(given: Given, how: Preparing | None) -> LivePicture:
    exact = None if how is None else _pixels(given.image, how)
    shown = given.seen if exact is None else exact
    return {
        "name": given.name,
        "url": "" if shown is None else payload.picture_url(shown, 96),
        "picture": None if shown is None else payload.picture_url(shown),
        "pixels": None if exact is None else pixels(exact),
        "numbers": payload.exact_bytes(given.image) if exact is None else None,
    }


def _pixels(image: Tensor, how: Preparing) -> Image.Image | None:
    """The picture of whose pixels an image was made; None where it was made of something else."""
    picture = seen(image[None], how["mean"], how["std"])[0]
    mean, std = (torch.tensor(how[name])[:, None, None] for name in ("mean", "std"))
    again = (torch.frombuffer(bytearray(pixels(picture)), dtype=torch.uint8) / 255).unflatten(0, (*image.shape[1:], 3))
    close = ((again.permute(2, 0, 1) - mean) / std - image).abs().max() < _EXACT
    return picture if bool(close) else None
