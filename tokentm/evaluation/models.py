"""The model that a command names, what its numbers depend on, and the processes that share the work."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tokentm.errors import InvalidOptionError
from tokentm.evaluation.parts import Share
from tokentm.optional import load
from tokentm.pictures import Transform


def load_model(name: str, weights: Path | None = None) -> tuple[nn.Module, Transform | None]:
    """A model in eval mode, and its transform where the model does not bring one.

    Args:
        name: "demo"; a name of timm's; "torchvision:NAME"; "transformers:NAME_OR_FOLDER".
        weights: a local file for a model of timm or torchvision, where its own are not to be fetched.

    Raises:
        InvalidOptionError: no such model or file, weights that do not fit, or that cannot be fetched.
    """
    if weights is not None and not weights.is_file():
        raise InvalidOptionError(f"expected a file of weights; there is none at {weights}.")
    kind, _, rest = name.partition(":")
    if name == "demo":
        from tokentm.demo import load_demo

        return load_demo().model, None
    library = kind if kind in _MAKERS else "timm"
    try:
        model, transform = _MAKERS[library](rest if kind in _MAKERS else name, weights)
    except Exception as error:  # each library has errors of its own for a wrong name, a damaged file, no network
        first = (str(error).splitlines() or [""])[0]
        raise InvalidOptionError(
            f"expected a model that {library} can make of --model {name}"
            + ("" if weights is None else f" with the weights in {weights}")
            + f"; {type(error).__name__}: {first[:300]}. A name of timm's, torchvision:NAME and transformers:NAME or "
            "FOLDER are known; where weights cannot be fetched, give a local file with --weights."
        ) from error
    return model.eval(), transform


def _of_torchvision(name: str, weights: Path | None) -> tuple[nn.Module, Transform | None]:
    import torchvision

    preset = torchvision.models.get_model_weights(name)["DEFAULT"]
    if weights is None:
        return torchvision.models.get_model(name, weights=preset), preset.transforms()
    model = torchvision.models.get_model(name)
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model, preset.transforms()


def _of_transformers(name: str, weights: Path | None) -> tuple[nn.Module, Transform | None]:
    from transformers import AutoModelForImageClassification

    if weights is not None:
        raise InvalidOptionError("a folder, as transformers:FOLDER, holds its weights itself")
    return AutoModelForImageClassification.from_pretrained(name), None


def _of_timm(name: str, weights: Path | None) -> tuple[nn.Module, Transform | None]:
    import timm

    if weights is None:
        return timm.create_model(name, pretrained=True), None
    return timm.create_model(name, checkpoint_path=str(weights)), None


_MAKERS: dict[str, Callable[[str, Path | None], tuple[nn.Module, Transform | None]]] = {
    "torchvision": _of_torchvision,
    "transformers": _of_transformers,
    "timm": _of_timm,
}


def weights_digest(model: nn.Module) -> str:
    """A fingerprint of all weights: the same model gives the same."""
    digest = sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def machinery(device: str, *packages: str) -> dict[str, Any]:
    """On what the numbers of a run are computed: rounding differs between machines and versions.

    Args:
        packages: whose versions count, beside those that always do.
    """
    return {
        "device": torch.device(device).type,
        "versions": {name: version(name) for name in ("tokentm", "torch", "timm", *packages)},
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def processes(device: str | None) -> tuple[Share, Any, str]:
    """Which share is this process's, how to wait for the others, and its device, as a launcher says if there is one."""
    own = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=own)
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch that was built without it
        raise InvalidOptionError(
            f"expected a device that torch can use here, cpu for example; got --device {own}: {str(error)[:200]}"
        ) from error
    world = os.environ.get("WORLD_SIZE", "1")
    if not (world.isascii() and world.isdigit()):
        raise InvalidOptionError(
            f"expected a whole number of processes in WORLD_SIZE, as a launcher sets it; got {world!r}."
        )
    if int(world) <= 1:
        return Share(), lambda: None, own
    state = load("accelerate").PartialState(cpu=own == "cpu")
    return Share(state.process_index, state.num_processes), state.wait_for_everyone, str(state.device)
