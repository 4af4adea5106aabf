"""The live engine under Node.js: one process that is asked in JSON, as ``tests/front/engine_server.js`` takes it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tokentm_widgets.live_model import live_model

SERVER = Path(__file__).parent / "front" / "engine_server.js"


def found() -> str | None:
    """Where Node.js is."""
    return shutil.which("node")


class Engine:
    """The engine with one model open at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(found()), str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def open(self, model: nn.Module, wasm: bool = True) -> None:
        live = live_model(model)
        self.ask(act="open", spec=live.spec, weights=base64.b64encode(live.weights).decode(), wasm=wasm)

    def explain(self, image: Tensor, target: int, methods: list[str]) -> dict[str, Any]:
        """Logits, readout and the maps of methods after every layer, for one normalised image (C, H, W)."""
        sent = base64.b64encode(image.numpy().astype("<f4").tobytes()).decode()
        answer = self.ask(act="explain", image=sent, target=target, methods=methods)
        maps = {name: torch.stack([_numbers(one) for one in of]) for name, of in answer["maps"].items()}
        return {
            "logits": _numbers(answer["logits"]),
            "readout": _numbers(answer["readout"]),
            "maps": maps,
            "ms": answer["ms"],
        }

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _numbers(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").copy())
