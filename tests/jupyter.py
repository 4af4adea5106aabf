"""A real Jupyter server with folders of its own, and what a page of it can be asked: for tests and benchmarks."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import Page

MINUTES = 60_000  # in milliseconds, as Playwright counts
KERNEL = "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
_ANSWER = 120  # seconds within which a server must answer


@dataclass(frozen=True)
class Server:
    """One that answers, and the folder whose notebooks it serves."""

    address: str
    token: str
    folder: Path

    def url(self, path: str) -> str:
        return f"{self.address}/{path}?token={self.token}"

    def ask(self, path: str, method: str = "GET") -> bytes:
        """Answer of the server's own interface, such as ``api/sessions``."""
        with urllib.request.urlopen(urllib.request.Request(self.url(path), method=method), timeout=30) as answer:
            return answer.read()


def lab_flags(port: int, folder: Path) -> list[str]:
    """JupyterLab or Notebook 7 on one port or not at all, without a look at the network; its pages can be driven."""
    return [
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True",
        "--JupyterNotebookApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
        "--LabApp.news_url=",
    ]


def lab(port: int, folder: Path) -> list[str]:
    return [sys.executable, "-m", "jupyterlab", *lab_flags(port, folder)]


def notebook(port: int, folder: Path) -> list[str]:
    return [sys.executable, "-m", "notebook", *lab_flags(port, folder)]


def voila(port: int, folder: Path) -> list[str]:
    # Voila has the shared parts of an older JupyterLab, into which not every extension of today fits
    needed = ("@voila-dashboards/widgets-manager8", "@jupyter-widgets/jupyterlab-manager", "anywidget")
    return [
        *(sys.executable, "-m", "voila", "--no-browser", "--Voila.ip=127.0.0.1", f"--port={port}"),
        *(f"--VoilaConfiguration.extension_allowlist={name}" for name in needed),
        str(folder),
    ]


@contextmanager
def serve(command: Callable[[int, Path], Sequence[str]], home: Path, cwd: Path | None = None) -> Iterator[Server]:
    """Run a server on a free port until the block ends.

    It serves ``home / "notebooks"``. Settings, data, workspaces and connection files lie in ``home``, too: nothing of
    the user's is read or written.

    Args:
        command: what starts it, given the port and the folder.

    Raises:
        RuntimeError: it ended or did not answer, with what it said.
    """
    folder = home / "notebooks"
    folder.mkdir()
    news = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}', encoding="utf-8")
    private = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    private |= {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}", secrets.token_hex(8), folder)
    log = home / "server.log"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command(port, folder),
            cwd=cwd,
            env={**os.environ, **private, "JUPYTER_TOKEN": server.token},
            stdin=subprocess.DEVNULL,  # from a terminal it would ask whether it should really stop
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _await(server, process, log)
        yield server
    finally:
        end_server(process)


def end_server(process: subprocess.Popen) -> None:
    """End a server and all that it has started, by force where it does not end by itself."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _await(server: Server, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + _ANSWER
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}:\n{log.read_text(encoding='utf-8')}")
        try:
            server.ask("api")
            return
        except urllib.error.HTTPError:  # Voila has no such page, and says so
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not answer within {_ANSWER} seconds:\n{log.read_text(encoding='utf-8')}")


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    """A notebook of code cells that have not been run."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, path)


# ---- an open page of JupyterLab or Notebook 7 ----


def open_notebook(page: Page, url: str) -> None:
    """Open a notebook and wait for its kernel."""
    page.goto(url)
    page.wait_for_selector(".jp-Notebook", timeout=2 * MINUTES)
    wait_idle(page)


def wait_idle(page: Page) -> None:
    """Until the kernel has nothing to do."""
    page.wait_for_function(f"{KERNEL}?.status === 'idle'", timeout=4 * MINUTES)


def command(page: Page, name: str, **arguments: Any) -> None:
    """Do what stands in a menu, such as ``docmanager:save``, and wait for its end."""
    page.evaluate("([name, given]) => jupyterapp.commands.execute(name, given).then(() => {})", [name, arguments])


def run_in_kernel(page: Page, code: str) -> str:
    """Standard output of some code, run in the kernel.

    Raises:
        RuntimeError: the code raised, with what.
    """
    status, text, error = page.evaluate(
        f"""async (code) => {{
             let text = "";
             const future = {KERNEL}.requestExecute({{ code, store_history: false }});
             future.onIOPub = (message) => {{ if (message.content.name === "stdout") text += message.content.text; }};
             const {{ status, ename, evalue }} = (await future.done).content;
             return [status, text.trim(), `${{ename}}: ${{evalue}}`];
           }}""",
        code,
    )
    if status != "ok":
        raise RuntimeError(f"in the kernel: {error}")
    return text


def eventually(found: Callable[[], Any], wanted: Any, seconds: float = 10) -> None:
    """Assert equality, for the last time when the seconds are over: front end and kernel are never in step at once."""
    end = time.monotonic() + seconds
    while (last := found()) != wanted and time.monotonic() < end:
        time.sleep(0.05)
    assert last == wanted, f"expected {wanted!r} within {seconds} seconds, found {last!r}"
