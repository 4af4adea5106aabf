"""How fast are the widgets in a real JupyterLab? Measures them in Chromium and writes the table widgets.md.

    python benchmarks/widgets.py

One widget at a time is in the notebook: every canvas on a page makes each of its frames a little longer.

**Key press to repaint.** Real key events, one at a time, a random pause between them. The clock starts at the event's
own time stamp, taken by the browser before the page hears of it, so waiting for a busy page counts. It stops in the
first task after the first frame since the widget said that it had drawn (``data-painted``): handlers, the wait for the
frame, scripts, style, layout, paint records and their hand-over are contained. Not contained is what no page can see:
the way of the key to the browser, rasteriser and compositor, which run beside the page, and the screen. At 60 frames a
second the wait for the frame alone is up to 16.7 ms. Other work on the machine lengthens these times; it hardly does so
to "processor", the processor time that the page's main thread spent on one press, all that follows it included.

**First paint.** From the command that runs a cell ``Widget(trace, ...)`` to the end of the frame in which map and
picture are drawn: what the widget computes, its still picture, the way to the browser. The trace is ready before.
First run in the kernel, the median of all runs, and how much of that the widget's constructor took.

Where rows of patches are asked from the kernel when a patch is looked at, a press ends with the frame that shows them.

**Bytes.** "data" is what the widget draws from; "sent" is all that reaches the browser while the cell runs. "output"
is what the cell's output takes in the saved notebook, "growth" what saving again after all key presses adds. "page" is
the file that ``export_html`` writes, and how long it takes to write and to open.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import cycle, islice
from pathlib import Path
from statistics import median, quantiles

import timm
import torch
from playwright.sync_api import Page
from tqdm.auto import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import jupyter
from browser import browser, watch

TABLE = Path(__file__).with_name("widgets.md")
PRESSES, RUNS = 40, 5

SETUP = """
import time, timm, tokentm, torch
from tokentm_widgets import LayerStepper, MethodComparison, PathExplorer, PerturbationPlayer, TokenPlayground
from tokentm_widgets import export_html

demo = tokentm.load_demo()
scene = demo.scene(17, classes=["cat", "car"])
images = demo.transform(scene.image).expand(2, -1, -1, -1)
trace = tokentm.record(demo.model, images, target=[demo.classes.index(name) for name in ("cat", "car")])
shown = {"images": scene.image, "classes": demo.classes}

torch.manual_seed(0)
large_model = timm.create_model("vit_base_patch16_224").eval()
prepared = tokentm.prepare(large_model, scene.image)
large = tokentm.record(large_model, prepared.images)
seen = {"images": prepared.seen}

torch.manual_seed(0)
fine_model = timm.create_model("vit_small_patch14_dinov2.lvd142m", num_classes=10).eval()
fine_prepared = tokentm.prepare(fine_model, scene.image)
fine = tokentm.record(fine_model, fine_prepared.images)
fine_seen = {"images": fine_prepared.seen}

def data_bytes(value):
    if isinstance(value, dict):
        return sum(map(data_bytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(data_bytes, value))
    return len(value) if isinstance(value, (bytes, str)) else 8
"""
CELL = "began = time.perf_counter()\nwidget = {code}\nbuilt = time.perf_counter() - began\nwidget"

DEMO, LARGE, FINE = "demo", "ViT-B/16", "DINOv2-S/14"
AIMS = {DEMO: 16, LARGE: 25, FINE: 100}
"""Milliseconds from key press to repaint."""
FIRST_PAINT, GROWTH = {DEMO: 1.0, LARGE: 1.0, FINE: 3.0}, 50
"""Seconds; kB."""
PAGES = {DEMO: 3.0, LARGE: 14.0, FINE: 14.0}
"""MB of an exported page."""


@dataclass(frozen=True)
class Use:
    """Keys pressed again and again on one control; each of them changes what is drawn."""

    changes: str
    control: str
    keys: Sequence[str]
    before: str  # run in the kernel first


def to_and_fro(changes: str, control: str, steps: int, before: str) -> Use:
    return Use(changes, control, ["ArrowRight"] * steps + ["ArrowLeft"] * steps, before)


def patches(changes: str = "patch", before: str = "widget.patch = 100", control: str = "[data-map=image]") -> Use:
    return to_and_fro(changes, control, 6, before)


def rows(changes: str = "patch", before: str = "") -> Use:
    """Seen from one patch after the other, in the stepper."""
    return patches(changes, f"{before}widget.patch = widget.kept = 100", "[data-map=contribution]")


def stepping(layers: int) -> list[Use]:
    return [
        to_and_fro("layer", "input[name=layer]", layers - 1, "widget.layer = 0"),
        to_and_fro("layer, common scale", "input[name=layer]", layers - 1, "widget.layer, widget.scale = 0, 'common'"),
        rows(before="widget.scale = 'layer'; "),
        rows("patch, common scale", "widget.scale = 'common'; "),
    ]


@dataclass(frozen=True)
class Case:
    model: str
    code: str
    uses: Sequence[Use]

    @property
    def widget(self) -> str:
        return self.code.split("(")[0]


CASES = [
    Case(DEMO, "LayerStepper(trace, **shown)", stepping(8)),
    Case(DEMO, "MethodComparison(trace, **shown)", [patches()]),
    Case(
        DEMO,
        "PerturbationPlayer(trace, progress=False, **shown)",
        [to_and_fro("step", "input[name=step]", 28, "widget.step = 0")],
    ),
    Case(DEMO, "PathExplorer(trace, **shown)", [patches()]),
    Case(DEMO, "TokenPlayground()", [to_and_fro("arrow", "[data-handle='E 1']", 6, "")]),
    Case(LARGE, "LayerStepper(large, **seen)", stepping(12)),
    Case(LARGE, "MethodComparison(large, **seen)", [patches()]),
    Case(LARGE, "PathExplorer(large, **seen)", [patches()]),
    Case(
        FINE,
        "LayerStepper(fine, **fine_seen)",
        [to_and_fro("layer", "input[name=layer]", 11, "widget.layer = 0"), rows()],
    ),
    Case(FINE, "PathExplorer(fine, **fine_seen)", [patches(before="widget.patch = 703")]),
]

# afterFrame gives the time when the next frame has been handed over: tasks wait until then, and this one goes before
# JupyterLab's, such as reading what the kernel answers.
# Every key press that ends in a repaint of the watched view adds its milliseconds.
HOOKS = """() => {
  globalThis.afterFrame = (then) => requestAnimationFrame(() =>
    scheduler.postTask(() => then(performance.now()), { priority: "user-blocking" }));
  let pressed = null;
  addEventListener("keydown", (event) => { pressed = event.timeStamp; }, { capture: true });
  let watched = null;
  const observer = new MutationObserver(() => {
    if (pressed === null || watched.dataset.complete === "false") return;
    const from = pressed;
    pressed = null;
    afterFrame((end) => {
      presses.push(end - from);
      globalThis.repainted?.();
    });
  });
  globalThis.watchKeys = (view) => {
    globalThis.presses = [];
    watched = view;
    observer.disconnect();
    observer.observe(view, { attributeFilter: ["data-painted", "data-complete"] });
  };
}"""
REPAINTED = """(count) => presses.length > count || new Promise((resolve) => { globalThis.repainted = resolve; })"""

# Runs cell i and gives the seconds until its widget has drawn map and picture.
RUN_CELL = """async (i) => {
  const notebook = jupyterapp.shell.currentWidget.content;
  notebook.activeCellIndex = i;
  await jupyterapp.commands.execute("notebook:clear-cell-output");
  const cell = notebook.widgets[i].node;
  const drawn = () => cell.querySelector(".tokentm[data-painted]:not([data-painted$=false])");
  await new Promise(requestAnimationFrame);
  const start = performance.now();
  const end = new Promise((resolve) => {
    const observer = new MutationObserver(() => {
      if (!drawn()) return;
      observer.disconnect();
      afterFrame(resolve);
    });
    observer.observe(cell, { subtree: true, childList: true, attributeFilter: ["data-painted"] });
  });
  jupyterapp.commands.execute("notebook:run-cell");
  return ((await end) - start) / 1000;
}"""


@dataclass(frozen=True)
class Pressed:
    times: Sequence[float]  # milliseconds, one a press
    processor: float  # milliseconds a press


@dataclass(frozen=True)
class Exported:
    size: float  # MB
    written: float  # seconds
    opened: float  # seconds from asking for the file to the end of the frame with map and picture


@dataclass(frozen=True)
class Row:
    case: Case
    first_run: float
    runs: float
    built: float
    data: float
    sent: float
    output: float
    growth: float
    exported: Exported
    uses: dict[str, Pressed]


def measure(page: Page, file: Path, received: list[int], i: int, case: Case) -> Row:
    """One widget: its cell run several times, then used, then saved."""
    runs, built, sent = [], [], 0
    for _ in range(RUNS):
        received.clear()
        runs.append(page.evaluate(RUN_CELL, i))
        jupyter.wait_idle(page)
        sent = sum(received)
        built.append(float(jupyter.run_in_kernel(page, "print(built)")))
    data = int(jupyter.run_in_kernel(page, "print(data_bytes(widget._data))"))
    jupyter.command(page, "docmanager:save")
    executed = file.stat().st_size
    output = len(json.dumps(json.loads(file.read_text(encoding="utf-8"))["cells"][i]["outputs"]))
    uses = {use.changes: press(page, i, use) for use in case.uses}
    page.evaluate("jupyterapp.shell.currentWidget.context.model.dirty = true")  # so that it is saved again
    jupyter.command(page, "docmanager:save")
    grown = file.stat().st_size - executed
    exported = export(page, file.with_name("page.html"))
    jupyter.command(page, "notebook:clear-cell-output")  # the next widget, too, is alone on its page
    kilo = (size / 1000 for size in (data, sent, output, grown))
    return Row(case, runs[0], median(runs), median(built), *kilo, exported, uses)


# Ends when map and picture are drawn; an exported page lets nobody evaluate strings, so this is asked from outside.
OPENED = (
    """() => performance.now() * Boolean(document.querySelector(".tokentm[data-painted]:not([data-painted$=false])"))"""
)


def export(page: Page, path: Path) -> Exported:
    """The widget in the kernel as a page, and that page in a tab of its own."""
    code = f"began = time.perf_counter(); export_html(widget, {str(path)!r}); print(time.perf_counter() - began)"
    written = float(jupyter.run_in_kernel(page, code))
    opened, tab = 0.0, page.context.browser.new_page()
    tab.goto(path.as_uri())
    while not opened:
        opened = tab.evaluate(OPENED)
    tab.close()
    return Exported(path.stat().st_size / 1e6, written, opened / 1000)


def press(page: Page, i: int, use: Use) -> Pressed:
    jupyter.run_in_kernel(page, use.before)
    view = page.locator(f".jp-Notebook [data-windowed-list-index='{i}'] .tokentm")
    view.evaluate("watchKeys")
    view.locator(use.control).focus()
    page.wait_for_timeout(500)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    began = main_thread(session)
    for count, key in enumerate(islice(cycle(use.keys), PRESSES)):
        page.keyboard.press(key)
        page.evaluate(REPAINTED, count)
        page.wait_for_timeout(random.uniform(50, 100))
    spent = main_thread(session) - began
    session.detach()
    return Pressed(page.evaluate("presses"), 1000 * spent / PRESSES)


def main_thread(session) -> float:
    """Seconds of processor time that the page's main thread has spent in tasks."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")


def table(rows: Sequence[Row], chromium: str, threads: str, load: str) -> str:
    """The whole result as Markdown."""

    def judged(value: float, aim: float, digits: int) -> str:
        text = f"{value:.{digits}f}"
        return f"**{text}**" if value > aim else text

    lines = [
        "# Speed of the widgets",
        "",
        f"JupyterLab in Chromium {chromium} without a graphics card, {platform.system()} on {processor()}; "
        f"{os.cpu_count()} cores, shared with other work: load {load}. Python {platform.python_version()}, torch "
        f"{torch.__version__} on {threads} thread(s), timm {timm.__version__}; {date.today()}. The demo model explains "
        "two classes of one picture (8 layers, 4 heads, 14 x 14 patches), ViT-B/16 with random weights one class "
        "(12 layers, 12 heads, 14 x 14 patches), DINOv2-S/14 likewise (12 layers, 6 heads, 37 x 37 patches). "
        "Made by `python benchmarks/widgets.py`, which says what is measured. "
        "What misses its aim is bold.",
        "",
        f"## Key press to repaint, {PRESSES} presses",
        "",
        f"Aim: a median of at most {AIMS[DEMO]} ms for the demo model, {AIMS[LARGE]} ms for ViT-B/16, "
        f"{AIMS[FINE]} ms for DINOv2-S/14, whose rows of patches are asked from the kernel.",
        "",
        "| model | widget | key changes | median, ms | 90 % below, ms | processor, ms |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        for changes, pressed in row.uses.items():
            middle = judged(median(pressed.times), AIMS[row.case.model], 1)
            lines.append(
                f"| {row.case.model} | {row.case.widget} | {changes} | {middle} "
                f"| {quantiles(pressed.times, n=10)[-1]:.1f} | {pressed.processor:.1f} |"
            )
    lines += [
        "",
        f"## Cell run to first paint, {RUNS} runs, and bytes",
        "",
        f"Aims: at most {FIRST_PAINT[DEMO]:g} s, {FIRST_PAINT[FINE]:g} s for DINOv2-S/14; "
        f"saving after use adds at most {GROWTH} kB.",
        "",
        "| model | widget | first run, s | median, s | of it constructor, s | data, kB | sent, kB | output, kB "
        "| growth, kB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.case.model} | {row.case.widget} | {judged(row.first_run, FIRST_PAINT[row.case.model], 2)} "
        f"| {judged(row.runs, FIRST_PAINT[row.case.model], 2)} | {row.built:.2f} | {row.data:.0f} | {row.sent:.0f} "
        f"| {row.output:.0f} | {judged(row.growth, GROWTH, 1)} |"
        for row in rows
    ]
    lines += [
        "",
        "## Exported pages",
        "",
        f"Aims: at most {PAGES[DEMO]:g} MB for the demo model, {PAGES[LARGE]:g} MB for the others.",
        "",
        "| model | widget | page, MB | written, s | opened, s |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.case.model} | {row.case.widget} | {judged(row.exported.size, PAGES[row.case.model], 2)} "
        f"| {row.exported.written:.2f} | {row.exported.opened:.2f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def processor() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    random.seed(0)
    cells = [SETUP, *(CELL.format(code=case.code) for case in CASES)]
    with tempfile.TemporaryDirectory() as home, browser() as launched, jupyter.serve(jupyter.lab, Path(home)) as server:
        file = server.folder / "widgets.ipynb"
        jupyter.write_notebook(file, cells)
        page = launched.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(2 * jupyter.MINUTES)
        wrong, received = watch(page), []
        page.on("websocket", lambda socket: socket.on("framereceived", lambda data: received.append(len(data))))
        jupyter.open_notebook(page, server.url("lab/tree/widgets.ipynb"))
        page.evaluate(HOOKS)
        jupyter.command(page, "notebook:run-cell")
        jupyter.wait_idle(page)
        threads = jupyter.run_in_kernel(page, "print(torch.get_num_threads())")
        loads, rows = [os.getloadavg()[0]], []
        for i, case in enumerate(tqdm(CASES, desc="widgets"), start=1):
            rows.append(measure(page, file, received, i, case))
            loads.append(os.getloadavg()[0])
        assert wrong == [], wrong
        page.close()
        text = table(rows, launched.version, threads, f"{min(loads):.1f} to {max(loads):.1f}")
    TABLE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
