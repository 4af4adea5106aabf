"""The promise of the README: ``make lab`` serves the quickstart, and its widget works in a real JupyterLab."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import jupyter
import pytest
from browser import pixel, watch
from jupyter import run_in_kernel

import tokentm

ROOT = Path(__file__).parents[1]
NOTEBOOK = "00_quickstart.ipynb"


@pytest.fixture
def lab(chromium, tmp_path):
    """The JupyterLab that ``make lab`` starts, on a copy of the quickstart notebook."""
    if not Path(sys.prefix, "installed-lab").exists():
        pytest.skip("run by `make test`: in another environment `make lab` would install one of its own")

    def make(port, folder):
        shutil.copy(ROOT / "notebooks" / NOTEBOOK, folder)
        return [
            "make",
            "lab",
            f"VENV={os.path.relpath(sys.prefix, ROOT)}",
            f"NOTEBOOK={folder / NOTEBOOK}",
            f"LAB_FLAGS={' '.join(jupyter.lab_flags(port, folder))}",
        ]

    with jupyter.serve(make, tmp_path, cwd=ROOT) as server:
        yield server


@pytest.mark.browser
def test_quickstart_in_jupyterlab(lab, chromium, tmp_path):
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    wrong = watch(page)
    jupyter.open_notebook(page, lab.url(f"lab/tree/{NOTEBOOK}"))
    page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
    stepper = page.locator(".tokentm").first
    stepper.scroll_into_view_if_needed(timeout=4 * jupyter.MINUTES)
    page.wait_for_function("document.querySelector('.tokentm')?.dataset.painted?.endsWith('true')")
    jupyter.wait_idle(page)
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
    jupyter.eventually(lambda: run_in_kernel(page, "print(stepper.layer)"), str(len(strongest) - 1))
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
