"""A real marimo server, whose notebook runs as soon as a page opens it: for tests."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent

import pytest
from jupyter import end_server

_ANSWER = 120  # seconds within which the server must answer


def require() -> None:
    """Skip the test where marimo is not installed, unless TOKENTM_REQUIRE_BROWSER says that all hosts must be there."""
    if importlib.util.find_spec("marimo") is None:
        reason = 'no marimo: pip install "tokentm[dev]"'
        if os.environ.get("TOKENTM_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)


def notebook(cells: Sequence[tuple[str, str, str]]) -> str:
    """The text of a notebook of marimo.

    Args:
        cells: of each cell the names of other cells that it takes, its code, and the names that it makes.
    """
    made = ["import marimo", "app = marimo.App()"]
    for takes, code, makes in cells:
        returned = f"return {makes}," if makes else "return"
        made.append(f"@app.cell\ndef _({takes}):\n{indent(code, '    ')}\n    {returned}")
    return "\n\n".join(made) + "\n"


@contextmanager
def serve(text: str, home: Path) -> Iterator[str]:
    """Run a server of one notebook, on a free port, until the block ends; its address.

    What marimo itself keeps lies in ``home``, too: nothing of the user's is read or written.

    Raises:
        RuntimeError: it ended or did not answer, with what it said.
    """
    file, log = home / "notebook.py", home / "server.log"
    file.write_text(text, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "-y", "run", "--headless", "--no-token", "--port", str(port), str(file)]
    private = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CONFIG", "CACHE", "STATE", "DATA")}
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            cwd=home,
            env={**os.environ, **private, "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _await(address, process, log)
        yield address
    finally:
        end_server(process)


def _await(address: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + _ANSWER
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"marimo ended with {process.returncode}:\n{log.read_text(encoding='utf-8')}")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"marimo did not answer within {_ANSWER} seconds:\n{log.read_text(encoding='utf-8')}")
