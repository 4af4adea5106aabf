"""The widgets where people use them: JupyterLab, Notebook 7 and Voila, each with a real kernel and the demo model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupyter
import numpy as np
import pytest
import torch
from browser import accessible, pixel, show, watch
from jupyter import eventually, run_in_kernel
from matplotlib import colormaps
from playwright.sync_api import Page

import tokentm
from tokentm import transformation
from tokentm.evaluation.perturbation import ranking
from tokentm.evaluation.removal import Removal
from tokentm.paths import strongest
from tokentm_widgets import LayerStepper
from tokentm_widgets.scores import share
from tokentm_widgets.token_playground import TOKENS, TRANSFORMED

pytestmark = pytest.mark.browser

ROWS = COLUMNS = 14
METHODS = ["tokentm", "rollout"]
SAVED = 50_000
"""Bytes that use may add to a saved notebook."""

SETUP = f"""
import ipywidgets, tokentm
from tokentm_widgets import LayerStepper, MethodComparison, PathExplorer, PerturbationPlayer, TokenPlayground, explore

demo = tokentm.load_demo()
scene = demo.scene(17, classes=["cat", "car"])
images = demo.transform(scene.image).expand(2, -1, -1, -1)
trace = tokentm.record(demo.model, images, target=[demo.classes.index(name) for name in ("cat", "car")])
shown = {{"images": scene.image, "classes": demo.classes}}
opaque = {{**shown, "opacity": 1}}  # so that a colour is a number and nothing else
methods = {METHODS}

def opaque_explorer():
    made = explore()
    made.opacity = 1
    return made
"""


# ---- what each widget must show, from the library alone ----


def viridis(value: float, low: float, high: float) -> np.ndarray:
    return np.array(colormaps["viridis"]((value - low) / (high - low))[:3]) * 255


def where(patch: int) -> str:
    return f"row {patch // COLUMNS + 1}, column {patch % COLUMNS + 1}"


def assert_map(page: Page, view: str, panel: str, values: torch.Tensor, low: float, high: float) -> None:
    """The largest value and some other one are drawn in their colours, the more of them the larger the value."""
    for patch in (int(values.argmax()), 73):
        found = np.array(pixel(page, panel, patch, COLUMNS, ROWS, root=view))
        wanted, share = viridis(float(values[patch]), low, high), (float(values[patch]) - low) / (high - low)
        under = found - share**0.5 * wanted  # what is left of the picture
        assert -8 <= under.min() <= under.max() <= 255 * (1 - share**0.5) + 8, (panel, patch)


def stepper_shows(page: Page, view: str, trace: tokentm.Trace, layer: int) -> None:
    step = list(tokentm.TokenTM().steps(trace))[layer]
    values = (trace.readout[0] @ step.contribution[0])[trace.layout.prefix :]
    assert_map(page, view, "contribution", values, 0, float(values.max()))
    assert page.text_content(f"{view} h2") == f"How cat came about: layer {layer + 1} of 8"
    strongest = where(int(values.argmax())).capitalize()
    assert f"{strongest} counts most: " in page.text_content(f"{view} .story")


def comparison_shows(page: Page, view: str, trace: tokentm.Trace, patch: int) -> None:
    scores = torch.stack([tokentm.methods.get(name)(trace).scores[0] for name in METHODS])
    shares = share(scores)
    for name, values in zip(METHODS, shares, strict=True):
        assert_map(page, view, name, values, float(shares.min()), float(shares.max()))
        text = page.text_content(f"{view} figure:has(canvas[data-panel={name}]) .here:not(.quiet)")
        many = text.split(", ")[0]  # such as 0.3× an average patch
        assert (0 if "none" in many else float(many.removesuffix("×"))) == pytest.approx(
            float(values[patch]), abs=0.051, rel=0.06
        ), name


def player_shows(page: Page, view: str, trace: tokentm.Trace, step: int) -> None:
    count = round(ROWS * COLUMNS * step / 7)
    assert page.text_content(f"{view} .shown") == f"{count} of {ROWS * COLUMNS}"
    for name in METHODS:
        order = ranking(tokentm.methods.get(name)(trace).scores[:1])[0]
        gone = torch.zeros(2, ROWS * COLUMNS, dtype=torch.bool)
        gone[:, order[:count]] = True
        wanted = Removal(trace, "drop")(gone)[0].softmax(0)[trace.target[0]]
        found = page.text_content(f"{view} .curves[data-method={name}] output >> nth=0")
        assert float(found.removesuffix(" %")) == pytest.approx(100 * float(wanted), abs=0.2)
        for patch in (int(order[0]), int(order[-1])):
            grey = pixel(page, name, patch, COLUMNS, ROWS, root=view) == [128, 128, 128]
            assert grey == bool(gone[0, patch]), (name, patch)


def explorer_shows(page: Page, view: str, trace: tokentm.Trace, patch: int) -> None:
    scores = tokentm.TokenTM()(trace).scores[0]
    assert_map(page, view, "contribution", scores, float(scores.min()), float(scores.max()))
    paths = strongest(trace, None, 0, 5)
    line = page.text_content(f"{view} ol li >> nth=0")
    wanted = 100 * float(paths.values[patch, 0] / paths.total[patch])
    assert float(line.split(" %")[0]) == pytest.approx(wanted, abs=0.06)
    assert f": {where(patch)}" in line


def playground_shows(page: Page, view: str, trace: tokentm.Trace, transformed: list[list[float]]) -> None:
    tokens, transformed = (torch.tensor(points, dtype=torch.float64) for points in (TOKENS, transformed))
    wanted = transformation.weight(*transformation.compare(tokens, transformed))
    found = page.locator(f"{view} tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [...row.querySelectorAll('data')].at(-1).value)"
    )
    assert [float(value) for value in found] == pytest.approx(wanted.tolist(), rel=1e-12)


def exploration_shows(page: Page, view: str, trace: tokentm.Trace, target: int) -> None:
    scores = tokentm.explain(trace.anatomy.model, trace.images[:1], target).scores[0]
    assert_map(page, view, "map", scores, 0, float(scores.max()))
    assert page.text_content(f"{view} h2") == f"Why {tokentm.load_demo().classes[target]}?"


@dataclass(frozen=True)
class Case:
    """A widget in a cell of its own, and what is done with it."""

    code: str
    label: str  # of its view
    control: str  # gets the focus; the key then changes ``trait`` from ``before`` to ``after``
    trait: str
    before: Any
    after: Any
    later: Any  # set by Python then
    place: int  # of the trait among the words of data-painted
    shows: Callable[[Page, str, tokentm.Trace, Any], None]  # is asked at ``after`` and ``later``
    kind: str
    owner: str = ""  # of the trait, seen from the widget
    key: str = "ArrowRight"

    def drawn(self, painted: str) -> str:
        """The trait's value in data-painted, which is words or JSON."""
        return (
            str(json.loads(painted, parse_int=float)[self.place])
            if painted.startswith("[")
            else painted.split(" ")[self.place]
        )

    def told(self, value: Any) -> str:
        return "" if value is None else str(value)


def listed(points: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[*point] for point in points]


PICKER = "[data-map=image]"
CASES = {
    "stepper": Case(
        "LayerStepper(trace, layer=0, **opaque)",
        "TokenTM layer stepper",
        *("input[name=layer]", "layer", 0, 1, 5, 0),
        *(stepper_shows, "LayerStepper"),
    ),
    "comparison": Case(
        "MethodComparison(trace, methods, **opaque)",
        "TokenTM method comparison",
        *(PICKER, "patch", None, 105, 40, 1),
        *(comparison_shows, "MethodComparison"),
    ),
    "player": Case(
        "PerturbationPlayer(trace, methods, steps=7, progress=False, **shown)",
        "TokenTM perturbation player",
        *("input[name=step]", "step", 0, 1, 4, 0),
        *(player_shows, "PerturbationPlayer"),
    ),
    "explorer": Case(
        "PathExplorer(trace, **opaque)",
        "TokenTM path explorer",
        *(PICKER, "patch", None, 105, 40, 1),
        *(explorer_shows, "PathExplorer"),
    ),
    "playground": Case(
        "TokenPlayground()",
        "TokenTM token playground",
        *("[data-handle='T 1']", "transformed", listed(TRANSFORMED)),
        *([[0.9, 1.2], [-1.3, -0.2], [1.2, -0.5]], [[1.1, 1.2], [-1.3, 0.2], [1.2, -0.7]], 1),
        *(playground_shows, "TokenPlayground"),
    ),
    "explored": Case(
        "opaque_explorer()",
        "TokenTM explorer",
        *("button[data-class='4']", "target", 0, 4, 5, 1),
        *(exploration_shows, "Explorer", "", "Enter"),
    ),
}
each_widget = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def trace() -> tokentm.Trace:
    """What the notebooks record."""
    made: dict[str, Any] = {}
    exec(SETUP, made)
    return made["trace"]


# ---- an open page: the views of a widget are found by its name and their number ----


def find_views(page: Page, name: str, count: int) -> None:
    """Wait until a widget has drawn maps and pictures in all its views; name them ``#stepper-0`` and so on."""
    painted = f".tokentm[aria-label='{CASES[name].label}']:is([data-painted$=true], [data-painted^='['])"
    page.wait_for_function("([of, n]) => document.querySelectorAll(of).length === n", arg=[painted, count])
    page.evaluate(
        "([of, name]) => document.querySelectorAll(of).forEach((view, i) => { view.id = `${name}-${i}`; })",
        [painted, name],
    )


def drawn(page: Page, name: str, view: int = 0) -> str:
    """The value of the case's trait that was drawn last."""
    return CASES[name].drawn(page.get_attribute(f"#{name}-{view}", "data-painted"))


def press(page: Page, name: str, key: str | None = None) -> None:
    page.focus(f"#{name}-0 {CASES[name].control}")
    page.keyboard.press(key or CASES[name].key)


def outputs(page: Page, kind: str) -> list[str]:
    return page.locator(f".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.{kind}']").all_inner_texts()


@dataclass(frozen=True)
class Lab:
    server: jupyter.Server
    page: Page
    wrong: list[str]
    file: Path
    executed: int  # bytes of the notebook, saved when it had been run and nothing else


@pytest.fixture(scope="module")
def opened(chromium, tmp_path_factory):
    """JupyterLab with a cell for each widget, which is shown twice; run and saved."""
    with jupyter.serve(jupyter.lab, tmp_path_factory.mktemp("lab")) as server:
        file = server.folder / "widgets.ipynb"
        cells = [f"{name} = {case.code}\ndisplay({name}, {name})" for name, case in CASES.items()]
        jupyter.write_notebook(file, [SETUP, *cells])
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(2 * jupyter.MINUTES)
        wrong = watch(page)
        jupyter.open_notebook(page, server.url("lab/tree/widgets.ipynb"))
        jupyter.command(page, "notebook:run-all-cells")
        for name in CASES:
            find_views(page, name, 2)
        jupyter.wait_idle(page)
        jupyter.command(page, "docmanager:save")
        yield Lab(server, page, wrong, file, file.stat().st_size)
        page.close()


@pytest.fixture
def lab(opened):
    """The one open JupyterLab; whatever a test does in it, nothing goes wrong in the console or leaves the machine."""
    yield opened
    assert opened.wrong == []
    assert outputs(opened.page, "error") == outputs(opened.page, "stderr") == []


@each_widget
def test_keys_reach_python_and_python_reaches_every_view(lab, trace, name):
    page, case = lab.page, CASES[name]
    assert [drawn(page, name, view) for view in (0, 1)] == [case.told(case.before)] * 2
    press(page, name)
    for view in (0, 1):
        eventually(lambda view=view: drawn(page, name, view), case.told(case.after))
        case.shows(page, f"#{name}-{view}", trace, case.after)
    eventually(lambda: run_in_kernel(page, f"print({name}{case.owner}.{case.trait})"), str(case.after))
    run_in_kernel(page, f"{name}{case.owner}.{case.trait} = {case.later!r}")
    for view in (0, 1):
        eventually(lambda view=view: drawn(page, name, view), case.told(case.later))
        case.shows(page, f"#{name}-{view}", trace, case.later)


def test_patch_rows_of_a_single_head_come_from_the_kernel(lab, trace):
    page = lab.page
    run_in_kernel(page, "stepper.layer, stepper.head, stepper.patch = 2, 3, 100")
    page.wait_for_selector("#stepper-1[data-complete=true][data-painted^='2 3 0 100']")
    row = trace.layers[2].attention[0, 3, trace.layout.prefix + 100, trace.layout.prefix :]
    assert_map(page, "#stepper-1", "attention", row, 0, float(row.max()))
    run_in_kernel(page, "stepper.head, stepper.patch = None, None")
    page.wait_for_selector("#stepper-0[data-painted^='2  0  ']")


def test_a_view_opens_inside_the_explorer_and_asks_the_kernel_through_it(lab, trace):
    page = lab.page
    page.click("#explored-0 [role=tab][name=layers]")
    for view in (0, 1):
        page.wait_for_selector(f"#explored-{view} [role=tabpanel] .tokentm[data-painted$=true]")
    run_in_kernel(page, "explored.view.layer, explored.view.head, explored.view.patch = 2, 3, 100")
    page.wait_for_selector("#explored-1 [role=tabpanel] .tokentm[data-complete=true][data-painted^='2 3 0 100']")
    page.wait_for_selector("#explored-0 .chips button[data-lets=head]")
    page.click("#explored-0 .chips button[data-lets=head]")
    eventually(lambda: run_in_kernel(page, "print(explored.head, explored.view.head)"), "None None")
    run_in_kernel(page, "explored.layer, explored.view.patch, explored.tab = None, None, None")
    page.wait_for_selector("#explored-1 [role=tabpanel] dl")


def test_work_is_stopped_from_the_browser(lab):
    page = lab.page
    slow = """
import time
from tokentm_widgets.looking import VIEWS, View
quick = VIEWS["paths"]
def slowly(looked, classes, progress):
    for step in range(1000):
        progress(step / 1000, "looking for paths")
        time.sleep(0.02)
VIEWS["paths"] = View(quick.title, quick.says, quick.kind, slowly)
"""
    run_in_kernel(page, slow)
    page.click("#explored-0 [role=tab][name=paths]")
    eventually(lambda: "looking for paths" in page.text_content("#explored-1 .work .status"), True)
    eventually(lambda: page.evaluate("document.querySelector('#explored-0 progress').value > 0.01"), True)
    page.click("#explored-0 button[name=stop]")
    page.wait_for_selector("#explored-1 .work", state="hidden")
    assert run_in_kernel(page, "print(explored.tab, explored.busy == '')") == "None True"
    run_in_kernel(page, 'VIEWS["paths"] = quick')


def test_themes_change_the_colours_and_axe_finds_nothing_in_either(lab):
    page = lab.page
    page.click("#stepper-0 summary")
    for theme, light in (("JupyterLab Dark", False), ("JupyterLab Light", True)):
        jupyter.command(page, "apputils:change-theme", theme=theme)
        for name in CASES:
            eventually(lambda name=name: [value > 128 for value in colours(page, f"#{name}-0")], [light, not light])
        eventually(lambda light=light: ink(page, "#stepper-0") > 128, not light)
        assert accessible(page) == []


def colours(page: Page, view: str) -> list[float]:
    """Brightness of paper and ink, 0 to 255."""
    return page.evaluate(
        """(view) => {
             const style = getComputedStyle(document.querySelector(view));
             return [style.backgroundColor, style.color].map((colour) => {
               const [red, green, blue] = colour.match(/[0-9.]+/g).map(Number);
               return (red + green + blue) / 3;
             });
           }""",
        view,
    )


def ink(page: Page, view: str) -> float:
    """Brightness of the scatter's left axis, a line on the canvas, 34 pixels from its edge."""
    return page.evaluate(
        """(view) => {
             const canvas = document.querySelector(`${view} canvas[data-panel=scatter]`);
             const [red, green, blue] = canvas.getContext("2d").getImageData(34, 20, 1, 1).data;
             return (red + green + blue) / 3;
           }""",
        view,
    )


def test_saving_after_use_adds_little_and_no_widget_is_stored_twice(lab):
    for name in CASES:
        for key in ("ArrowLeft", "ArrowLeft", "ArrowRight"):
            press(lab.page, name, key)
    jupyter.wait_idle(lab.page)
    run_in_kernel(lab.page, "stepper.layer = 3")
    lab.page.evaluate("jupyterapp.shell.currentWidget.context.model.dirty = true")
    jupyter.command(lab.page, "docmanager:save")
    saved = json.loads(lab.file.read_text(encoding="utf-8"))
    assert lab.file.stat().st_size - lab.executed <= SAVED
    assert "widgets" not in saved["metadata"]
    outputs = [output["data"] for cell in saved["cells"] for output in cell["outputs"]]
    shown = [data for data in outputs if data.get("text/html") != ""]  # a bar of progress that a slow machine has shown
    assert len(shown) == 4 * len(CASES)
    for view, still in zip(shown[::2], shown[1::2], strict=True):
        assert set(view) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
        assert set(still) == {"text/html", "image/png", "text/plain"}


@each_widget
def test_a_cell_that_is_run_again_gives_a_working_widget(lab, name):
    page, case = lab.page, CASES[name]
    page.evaluate(f"jupyterapp.shell.currentWidget.content.activeCellIndex = {[*CASES].index(name) + 1}")
    jupyter.command(page, "notebook:run-cell")
    page.wait_for_function(f"document.getElementById('{name}-0') === null")
    find_views(page, name, 2)
    assert drawn(page, name) == case.told(case.before)
    press(page, name)
    for view in (0, 1):
        eventually(lambda view=view: drawn(page, name, view), case.told(case.after))
    eventually(lambda: run_in_kernel(page, f"print({name}{case.owner}.{case.trait})"), str(case.after))


def test_without_a_kernel_widgets_go_on_or_say_why_not(lab, trace):
    """Comes last in this JupyterLab: it shuts the kernel down, as its menu does."""
    page = lab.page
    jupyter.command(page, "kernelmenu:shutdown")
    page.wait_for_function(f"{jupyter.KERNEL} == null")
    for name in CASES.keys() - {"explored"}:
        before = drawn(page, name)
        press(page, name)
        eventually(lambda name=name, before=before: drawn(page, name, 1) != before, True)
        CASES[name].shows(page, f"#{name}-1", trace, json.loads(drawn(page, name, 1)))
    before = drawn(page, "explored")
    page.click("#explored-0 button[data-class='2']")
    said = "The kernel does not answer: it is busy with another cell, or closed."
    eventually(lambda: said in page.text_content("#explored-0 .status"), True)
    assert drawn(page, "explored") == before  # what is on the screen is the last answer
    page.click("#stepper-0 button[name=head][data-value='2']")
    press(page, "explorer")
    page.focus("#stepper-0 [data-map=contribution]")
    page.keyboard.press("ArrowRight")
    page.click("#stepper-0 button[name=from-patch]")
    said = "The kernel does not answer; without it a single head shows only what the readout takes."
    eventually(lambda: said in page.text_content("#stepper-0 .status"), True)
    assert page.locator("#stepper-0 .waiting").count() == 3
    page.click("#stepper-0 button[name=reset]")
    page.wait_for_selector("#stepper-0[data-complete=true]")
    assert "kernel" not in page.text_content("#stepper-0 .status")
    # what ipywidgets tells the console of every trait that does not reach Python
    lost = "Could not send widget sync message Error: Cannot send"
    lab.wrong[:] = [one for one in lab.wrong if not one.startswith(lost)]


# ---- the other hosts: the same notebook, each widget shown once ----

HEARD = """
heard = ipywidgets.Label("nothing")
def hear(change):
    heard.value = f"{type(change.owner).__name__}.{change.name} = {change.new}"
"""

# what the hosts themselves do wrong, with or without a widget on the page
OWN = {
    "notebook": ("Cannot read properties of undefined (reading 'schema')",),
    "voila": ("https://cdn.jsdelivr.net/npm/@fortawesome/",),
}
PAGES = {"notebook": "notebooks/widgets.ipynb", "voila": "voila/render/widgets.ipynb"}


@pytest.mark.parametrize("host", PAGES)
def test_every_widget_works_in(host, chromium, tmp_path, trace):
    with jupyter.serve(getattr(jupyter, host), tmp_path) as server:
        cells = [
            f"{name} = {case.code}\n{name}{case.owner}.observe(hear, '{case.trait}')\n{name}"
            for name, case in CASES.items()
        ]
        jupyter.write_notebook(server.folder / "widgets.ipynb", [SETUP + HEARD, *cells, "heard"])
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(2 * jupyter.MINUTES)
        wrong = watch(page)
        page.route("https://cdn.jsdelivr.net/**", lambda route: route.fulfill(content_type="text/css", body=""))
        if host == "voila":
            page.goto(server.url(PAGES[host]), timeout=2 * jupyter.MINUTES)
        else:
            jupyter.open_notebook(page, server.url(PAGES[host]))
            jupyter.command(page, "notebook:run-all-cells")
            jupyter.wait_idle(page)  # until then the focus follows the cells
        label = page.locator(".widget-label", has_text="nothing")
        label.wait_for(state="attached")
        label.evaluate("(node) => { node.id = 'heard'; }")
        for name, case in CASES.items():
            find_views(page, name, 1)
            press(page, name)
            eventually(lambda name=name: drawn(page, name), case.told(case.after))
            case.shows(page, f"#{name}-0", trace, case.after)
            wanted = f"{case.kind}.{case.trait} = {case.after}"
            eventually(lambda: page.text_content("#heard"), wanted)
        assert [one for one in wrong if not one.startswith(OWN[host])] == []
        assert outputs(page, "error") == outputs(page, "stderr") == []
        page.close()


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize(
    "attribute", [("body", "class", "vscode-dark", "vscode-light"), ("html", "theme", "dark", "light")]
)
def test_it_takes_the_theme_of_vs_code_and_colab(chromium_page, tiny, images, attribute, dark):
    model = tiny()
    show(chromium_page, LayerStepper(tokentm.record(model, images(model, 1), target=0)))
    chromium_page.emulate_media(color_scheme="light" if dark else "dark")
    element, name, *themes = attribute
    chromium_page.evaluate(
        "([element, name, theme]) => document.querySelector(element).setAttribute(name, theme)",
        [element, name, themes[0 if dark else 1]],
    )
    chromium_page.evaluate("document.querySelector('.tokentm').id = 'view'")
    chromium_page.click("#view summary")
    eventually(lambda: [value > 128 for value in colours(chromium_page, "#view")], [not dark, dark])
    eventually(lambda: ink(chromium_page, "#view") > 128, dark)
