"""The promise of the README: ``make lab`` serves the quickstart, and its widget works in a real JupyterLab."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from browser import pixel, watch

import tokentm

ROOT = Path(__file__).parents[1]
NOTEBOOK = "00_quickstart.ipynb"
KERNEL = "jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
MINUTES = 60_000


@pytest.fixture
def lab(chromium, tmp_path):
    """Address and token of the JupyterLab that ``make lab`` starts, on a copy of the quickstart notebook."""
    if not Path(sys.prefix, "installed-lab").exists():
        pytest.skip("run by `make test`: in another environment `make lab` would install one of its own")
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / NOTEBOOK, tmp_path / "notebooks")
    settings = tmp_path / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}', encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(8)
    flags = (
        f"--no-browser --allow-root --ServerApp.ip=127.0.0.1 --ServerApp.port={port} --ServerApp.port_retries=0 "
        f"--ServerApp.root_dir={tmp_path / 'notebooks'} --LabApp.expose_app_in_browser=True "
        "--LabApp.extension_manager=readonly --LabApp.news_url="
    )
    private = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    private |= {
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
    }
    log = tmp_path / "lab.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [
                "make",
                "lab",
                f"VENV={os.path.relpath(sys.prefix, ROOT)}",
                f"NOTEBOOK={tmp_path / 'notebooks' / NOTEBOOK}",
                f"LAB_FLAGS={flags}",
            ],
            cwd=ROOT,
            env={**os.environ, **private, "JUPYTER_TOKEN": token},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            if server.poll() is not None:
                pytest.fail(f"make lab ended with {server.returncode}:\n{log.read_text()}")
            try:
                urllib.request.urlopen(f"{address}/api", timeout=1).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        else:
            pytest.fail(f"make lab did not answer within two minutes:\n{log.read_text()}")
        yield address, token
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def run_in_kernel(page, code: str) -> str:
    """Standard output of some code, run in the open notebook's own kernel."""
    return page.evaluate(
        f"""async (code) => {{
             let text = "";
             const future = {KERNEL}.requestExecute({{ code, store_history: false }});
             future.onIOPub = (message) => {{ if (message.content.name === "stdout") text += message.content.text; }};
             await future.done;
             return text.trim();
           }}""",
        code,
    )


@pytest.mark.browser
def test_quickstart_in_jupyterlab(lab, chromium, tmp_path):
    address, token = lab
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    wrong = watch(page)
    page.goto(f"{address}/lab/tree/{NOTEBOOK}?token={token}")
    page.wait_for_selector(".jp-Notebook", timeout=2 * MINUTES)
    page.wait_for_function(f"{KERNEL}?.status === 'idle'", timeout=2 * MINUTES)
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    stepper = page.locator(".tokentm").first
    stepper.scroll_into_view_if_needed(timeout=4 * MINUTES)
    page.wait_for_function("document.querySelector('.tokentm')?.dataset.painted?.endsWith('true')")
    page.wait_for_function(f"{KERNEL}.status === 'idle'", timeout=4 * MINUTES)
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts() == []

    # the notebook itself left the widget in a known state; bring it back to the first layer, mean of all heads
    run_in_kernel(page, "stepper.layer, stepper.head = 0, None")
    page.wait_for_function("document.querySelector('.tokentm').dataset.painted.startsWith('0  0 ')")
    strongest = [int(p) for p in run_in_kernel(page, STRONGEST).split()]
    first = page.locator("canvas[data-panel=contribution]").first.screenshot()
    assert bright(page, strongest[0])

    slider = page.locator(".tokentm input[name=layer]").first
    slider.focus()
    for layer in range(1, len(strongest)):
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"document.querySelector('.tokentm').dataset.painted.startsWith('{layer}  0 ')")
        assert bright(page, strongest[layer]), f"layer {layer}: patch {strongest[layer]} is not the brightest"
    assert page.locator("canvas[data-panel=contribution]").first.screenshot() != first
    for _ in range(50):  # the kernel may lag behind the front end
        if run_in_kernel(page, "print(stepper.layer)") == str(len(strongest) - 1):
            break
        time.sleep(0.1)
    else:
        pytest.fail("the kernel never heard of the last layer")
    page.locator(".tokentm").first.screenshot(path=tmp_path / "stepper.png")
    assert wrong == []
    page.close()


STRONGEST = """
for step in tokentm.TokenTM().steps(trace):
    print(int((trace.readout[0] @ step.contribution[0])[trace.layout.prefix:].argmax()))
"""


def bright(page, patch: int) -> bool:
    """The largest value is drawn in the last colour of viridis, laid over grey: far more yellow than blue."""
    rows, columns = 14, 14
    red, green, blue = pixel(page, "contribution", patch, columns, rows, root=".tokentm")
    return red > 195 and green > 180 and blue < 90


def test_demo_grid_is_what_the_pixels_are_read_with():
    assert tokentm.load_demo().model.patch_embed.grid_size == (14, 14)
