"""A saved notebook outlives its kernel: still pictures in its hosts, and in what nbconvert makes of it."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import ipywidgets
import jupyter
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from nbformat import NotebookNode
from PIL import Image
from playwright.sync_api import Browser, Page

from tokentm_widgets import TokenPlayground, still

VIEW = "application/vnd.jupyter.widget-view+json"
HEAVIEST = 105_000
"""Bytes that one output may take in a saved notebook: a picture in HTML, and again as PNG for hosts without."""

SETUP = """
import ipywidgets, tokentm
from tokentm_widgets import LayerStepper, MethodComparison, PathExplorer, PerturbationPlayer, TokenPlayground, explore

demo = tokentm.load_demo()
scene = demo.scene(17, classes=["cat", "car"])
trace = tokentm.record(demo.model, demo.transform(scene.image).unsqueeze(0))
shown = {"images": scene.image, "classes": demo.classes, "progress": False}
"""
# a cell -> how many living views, and how many pictures in its still
CELLS = {
    "LayerStepper(trace, **shown)": (1, 1),
    "MethodComparison(trace, ['rollout', 'random'], **shown)": (1, 1),
    "PathExplorer(trace, **shown)": (1, 1),
    "PerturbationPlayer(trace, ['rollout'], steps=2, **shown)": (1, 1),
    "TokenPlayground()": (1, 1),
    "explore()": (1, 1),
    "ipywidgets.HBox([TokenPlayground(), ipywidgets.Label('beside'), TokenPlayground(normaliser='mean')])": (2, 2),
    "ipywidgets.Tab([ipywidgets.VBox([TokenPlayground()]), ipywidgets.Label('second')])": (1, 1),
    "again = TokenPlayground()\ndisplay(again, again)": (2, 2),
}
PLAIN = "ipywidgets.HBox([ipywidgets.Label('none of ours')])"
VIEWS, PICTURES = (sum(counts) for counts in zip(*CELLS.values(), strict=True))

ALIVE = "(count) => document.querySelectorAll('.tokentm[data-painted]').length === count"

# of every output of a cell: whether it is seen, living views, still pictures that are seen, its text
OUTPUTS = """() => [...document.querySelectorAll(".jp-Cell")].map((cell) =>
  [...cell.querySelectorAll(".jp-OutputArea-child")].map((output) => ({
    seen: output.checkVisibility(),
    living: output.querySelectorAll(".tokentm").length,
    pictures: [...output.querySelectorAll(".tokentm-still img")].filter((one) => one.checkVisibility()).length,
    text: output.checkVisibility() ? output.innerText : "",
  }))).filter((outputs) => outputs.length)"""


@dataclass(frozen=True)
class Saved:
    """A server whose notebook has been run and saved, and what its page looked like then."""

    server: jupyter.Server
    live: list[list[dict[str, Any]]]

    @property
    def notebook(self) -> NotebookNode:
        return nbformat.read(self.server.folder / "own.ipynb", as_version=4)


@pytest.fixture(scope="module")
def running(chromium, tmp_path_factory):
    """One server of JupyterLab and Notebook 7; its notebook has been run in JupyterLab, saved, and its kernel lives."""
    with jupyter.serve(jupyter.lab, tmp_path_factory.mktemp("still")) as server:
        jupyter.write_notebook(server.folder / "own.ipynb", [SETUP, *CELLS, PLAIN])
        page = opened(chromium, server, "lab", "own.ipynb")
        jupyter.wait_idle(page)
        jupyter.command(page, "notebook:run-all-cells")
        jupyter.wait_idle(page)
        page.wait_for_function(ALIVE, arg=VIEWS)
        seen = page.evaluate(OUTPUTS)
        jupyter.command(page, "docmanager:save")
        page.context.close()
        yield Saved(server, seen)


@pytest.fixture(scope="module")
def alive_in_notebook(running, chromium) -> list[list[dict[str, Any]]]:
    """What Notebook 7 shows of it while the kernel lives."""
    page = opened(chromium, running.server, "notebooks", "own.ipynb")
    page.wait_for_function(ALIVE, arg=VIEWS)
    seen = page.evaluate(OUTPUTS)
    page.context.close()
    return seen


@pytest.fixture(scope="module")
def saved(running, alive_in_notebook):
    """The same without its kernel, and a copy that Jupyter has not seen being run and so does not trust."""
    server = running.server
    for session in json.loads(server.ask("api/sessions")):
        server.ask("api/sessions/" + session["id"], "DELETE")
    copy = running.notebook
    for cell in copy.cells:
        cell.source += "\n"
        for output in cell.outputs:
            output.data["text/plain"] += " "  # another output than the one that was signed
    nbformat.write(copy, server.folder / "strange.ipynb")
    return running


def opened(chromium: Browser, server: jupyter.Server, host: str, name: str) -> Page:
    """A page of a browser that has seen nothing yet; of a host ("lab" or "notebooks"), with a notebook."""
    page = chromium.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    page.set_default_timeout(20_000)
    page.goto(server.url({"lab": "lab/tree/"}.get(host, f"{host}/") + name))
    page.wait_for_selector(".jp-Notebook")
    return page


# ---- what IPython is given ----


@pytest.fixture
def displayed() -> Callable[[Any], list[dict[str, Any]]]:
    """What a notebook's cell gets when it ends with an object: the data of every output."""
    shell = InteractiveShell.instance()

    def outputs(shown: Any) -> list[dict[str, Any]]:
        with capture_output() as captured:
            result = shell.display_formatter.format(shown)[0]
        return [one.data for one in captured.outputs] + ([result] if result else [])

    still.register()
    return outputs


def test_a_widget_is_two_outputs_itself_and_its_still_picture(displayed):
    playground = TokenPlayground()
    view, beside = displayed(playground)
    assert (view[VIEW]["model_id"], view["text/plain"]) == (playground.model_id, repr(playground))
    assert set(beside) == {"text/html", "image/png", "text/plain"}
    assert f'class="tokentm-still" data-of="{playground._still}"' in beside["text/html"]
    assert beside["text/plain"] == playground.figure().alt
    assert f'<img alt="{playground.figure().alt}" src="data:image/png;base64,' in beside["text/html"]


def test_a_container_leaves_the_stills_of_what_is_in_it(displayed):
    first, second = TokenPlayground(), TokenPlayground([[1, 0]], [[0, 2]])
    view, beside = displayed(ipywidgets.Accordion([ipywidgets.Label("-"), ipywidgets.HBox([first]), second]))
    assert VIEW in view
    assert f'data-of="{first._still} {second._still}"' in beside["text/html"]
    assert re.findall('alt="([^"]*)"', beside["text/html"]) == [first.figure().alt, second.figure().alt]
    sizes = [one.figure().pixels().size for one in (first, second)]
    joined = Image.open(BytesIO(base64.b64decode(beside["image/png"])))
    assert joined.size == (max(w for w, _ in sizes), sum(h for _, h in sizes))


def test_containers_without_one_are_shown_as_ever(displayed):
    box = ipywidgets.VBox([ipywidgets.Label("-")])
    (shown,) = displayed(box)
    assert shown == box._repr_mimebundle_()


def test_a_closed_widget_is_its_name_alone(displayed):
    playground = TokenPlayground()
    playground.close()
    (shown,) = displayed(playground)
    assert shown == {"text/plain": "TokenPlayground(3 pairs; sum)"}


def test_hosts_that_take_one_output_get_both_in_it():
    playground = TokenPlayground()
    data, _ = playground._repr_mimebundle_()
    assert set(data) == {VIEW, "text/html", "text/plain"}
    assert data["text/html"] == playground.figure().still()


def test_a_figure_is_drawn_once(displayed, monkeypatch):
    drawn = []
    figure = TokenPlayground.figure
    monkeypatch.setattr(TokenPlayground, "figure", lambda self: drawn.append(self) or figure(self))
    displayed(TokenPlayground())
    assert len(drawn) == 1


# ---- hosts ----


@pytest.mark.browser
@pytest.mark.parametrize("host", ["lab", "notebooks"])
def test_while_a_widget_lives_its_still_is_hidden(running, alive_in_notebook, host):
    seen = running.live if host == "lab" else alive_in_notebook
    assert len(seen) == len(CELLS) + 1
    for (views, _), outputs in zip(CELLS.values(), seen, strict=False):
        assert [one["seen"] for one in outputs] == [True, False] * (len(outputs) // 2)
        assert sum(one["pictures"] for one in outputs) == 0
        assert sum(one["living"] for one in outputs) >= views
    assert [one["seen"] for one in seen[-1]] == [True]


@pytest.mark.browser
@pytest.mark.parametrize("name", ["own.ipynb", "strange.ipynb"], ids=["trusted", "untrusted"])
@pytest.mark.parametrize("host", ["lab", "notebooks"])
def test_without_its_kernel_every_widget_is_a_picture(saved, chromium, host, name):
    page = opened(chromium, saved.server, host, name)
    counted = "[...document.querySelectorAll('.tokentm-still img')].filter((one) => one.naturalWidth).length"
    page.wait_for_function(f"{counted} === {PICTURES}", timeout=90_000)
    gone = "Error displaying widget" if name == "own.ipynb" else "none of ours"
    page.wait_for_function("(text) => document.body.textContent.includes(text)", arg=gone, timeout=90_000)
    page.wait_for_function(f"({OUTPUTS})().length === {len(CELLS) + 1}", timeout=90_000)
    seen = page.evaluate(OUTPUTS)
    for (_, pictures), outputs in zip(CELLS.values(), seen, strict=False):
        assert sum(one["pictures"] for one in outputs) == pictures
        assert not any("Error displaying widget" in one["text"] for one in outputs)
        assert not any(one["living"] for one in outputs)
    page.context.close()


# ---- what it weighs, and what else is made of it ----


@pytest.mark.browser
def test_no_output_is_heavy_and_pictures_come_in_both_forms(running):
    outputs = [output for cell in running.notebook.cells for output in cell.outputs]
    stills = [one.data for one in outputs if "tokentm-still" in one.data.get("text/html", "")]
    assert len(stills) == len(CELLS) + 1
    for data in stills:
        assert 1000 < len(json.dumps(data)) <= HEAVIEST, data["text/plain"]
        assert Image.open(BytesIO(base64.b64decode(data["image/png"]))).format == "PNG"
        assert all('alt="' in tag for tag in re.findall("<img[^>]*>", data["text/html"]))


def converted(notebook: Path, kind: str, *flags: str) -> str:
    """What nbconvert makes of a notebook; its text."""
    made = notebook.with_suffix({"html": ".html", "markdown": ".md", "latex": ".tex"}[kind])
    command = [sys.executable, "-m", "nbconvert", "--to", kind, *flags, str(notebook)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return made.read_text(encoding="utf-8")


@pytest.mark.browser
@pytest.mark.parametrize("flags", [(), ("--execute",)], ids=["as saved", "executed"])
def test_a_page_of_nbconvert_shows_the_pictures(saved, chromium, tmp_path, flags):
    nbformat.write(saved.notebook, tmp_path / "own.ipynb")
    converted(tmp_path / "own.ipynb", "html", *flags)
    page = chromium.new_page()
    page.route("http*://**", lambda route: route.abort())  # a page may be read without a network
    page.goto((tmp_path / "own.html").as_uri())
    seen = page.evaluate(OUTPUTS)
    assert [sum(one["pictures"] for one in outputs) for outputs in seen[:-1]] == [many for _, many in CELLS.values()]
    assert not any("Playground(" in one["text"] for outputs in seen for one in outputs)
    page.close()


@pytest.mark.browser
def test_markdown_and_latex_have_them_too(saved, tmp_path):
    nbformat.write(saved.notebook, tmp_path / "own.ipynb")
    text = converted(tmp_path / "own.ipynb", "markdown")
    assert len(re.findall(r"<img alt=\"[^\"]+\" src=\"data:image/png;base64,", text)) == PICTURES
    paper = converted(tmp_path / "own.ipynb", "latex")
    assert len(re.findall(r"\\adjustimage\{", paper)) == len(CELLS) + 1
