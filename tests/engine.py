"""The live engine under Node.js: one process that is asked in JSON, as ``tests/front/engine_server.js`` takes it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tokentm_widgets.live_model import live_model

SERVER = Path(__file__).parent / "front" / "engine_server.js"

_TYPES = {"f4": "<f4", "i2": "<i2", "u1": "<u1", "u2": "<u2"}


def found() -> str | None:
    """Where Node.js is."""
    return shutil.which("node")


class EngineError(Exception):
    """What the engine refuses, in its own words."""


class Engine:
    """The engine with one model open at a time.

    Attributes:
        shares: what the last question reported of its work.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(found()), str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.shares: list[float] = []

    def open(self, model: nn.Module, wasm: bool = True) -> dict[str, Any]:
        """Load a model; what the engine says of it."""
        live = live_model(model)
        return self.ask("open", spec=live.spec, weights=np.frombuffer(live.weights, "<u2"), wasm=wasm)

    def explain(self, image: Tensor, target: int | None, methods: Sequence[str]) -> dict[str, Any]:
        """Logits, target, and ``maps`` of methods after every layer, (L, P), for one normalised image (C, H, W)."""
        answer = self.ask("explain", image=image, target=target, methods=list(methods))
        maps = {name: torch.stack(of["layers"]) for name, of in answer["maps"].items()}
        for name, of in answer["maps"].items():
            assert torch.equal(of["scores"], maps[name][-1])
        return {**answer, "maps": maps}

    def ask(self, act: str, **given: Any) -> dict[str, Any]:
        """One question of ``front/engine/answering.js``, or of the server itself. Tensors and arrays may be given.

        Raises:
            EngineError: the engine refuses.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"act": act, "given": given}, default=_written) + "\n")
        self._process.stdin.flush()
        sent = json.loads(self._process.stdout.readline(), object_hook=_read)
        if "error" in sent:
            raise EngineError(sent["error"])
        self.shares = sent["shares"]
        return sent["answer"]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _written(numbers: Tensor | np.ndarray) -> dict[str, str]:
    array = np.ascontiguousarray(numbers)
    if array.dtype.kind == "f":
        array = array.astype("<f4")
    return {array.dtype.str[1:]: base64.b64encode(array.tobytes()).decode()}


def _read(value: dict[str, Any]) -> Any:
    (kind, *others) = value or [""]
    if others or kind not in _TYPES:
        return value
    return torch.from_numpy(np.frombuffer(base64.b64decode(value[kind]), _TYPES[kind]).copy())
