"""The model that a command names, what its numbers depend on, and the processes that share the work."""

from __future__ import annotations

import os
import platform
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
    """A model in eval mode, and its transform where the model does not bring one."""
    if weights is not None and not weights.is_file():
        raise InvalidOptionError(f"expected a file of weights; there is none at {weights}.")
    kind, _, rest = name.partition(":")
    if name == "demo":
        from tokentm.demo import load_demo

        return load_demo().model, None
    if kind == "torchvision":
        import torchvision

        preset = torchvision.models.get_model_weights(rest)["DEFAULT"]
        if weights is None:
            return torchvision.models.get_model(rest, weights=preset).eval(), preset.transforms()
        model = torchvision.models.get_model(rest)
        model.load_state_dict(torch.load(weights, weights_only=True))
        return model.eval(), preset.transforms()
    if kind == "transformers":
        from transformers import AutoModelForImageClassification

        return AutoModelForImageClassification.from_pretrained(rest).eval(), None
    import timm

    if ":" not in name and not timm.is_model(name):
        raise InvalidOptionError(
            "expected demo, a name of timm (timm.list_models('*vit*') has them), torchvision:NAME or "
            f"transformers:NAME_OR_FOLDER; got {name!r}."
        )
    if weights is None:
        return timm.create_model(name, pretrained=True).eval(), None
    return timm.create_model(name, checkpoint_path=str(weights)).eval(), None


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
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Share(), lambda: None, own
    state = load("accelerate").PartialState(cpu=own == "cpu")
    return Share(state.process_index, state.num_processes), state.wait_for_everyone, str(state.device)
