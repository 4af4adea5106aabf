"""What a page needs to compute by itself: the engine's code, the model, and how its pictures are prepared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from torch import nn

from tokentm.errors import InvalidOptionError
from tokentm.pictures import Transform
from tokentm_widgets.front_end import worker
from tokentm_widgets.live_model import live_model
from tokentm_widgets.live_pictures import Preparing, preparing


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
