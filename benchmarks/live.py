"""How fast and how exact is a page that computes? Measures one in Chromium and writes the table live.md.

    python benchmarks/live.py

The page is ``export_html(explore(...), live=True)`` of the demo model with 50 scenes, opened from a file under its own
policy, which allows no network.

**Ready.** From the navigation to the engine's first answer to a question; "shown" is the first map on the screen.

**A new picture.** From choosing another picture, for whose own answer is asked, to the end of the frame in which answer
and map are drawn; **another class** likewise, of the same picture.

**Exact.** The largest difference of probabilities and of scores from ``tokentm.explain`` on the same pixels, relative
to the largest of them, over all 50 pictures and all 16 classes.

**DeiT-Ti** is the engine under Node.js with a model of its shapes and random weights: forward, backward and TokenTM,
and the difference from ``tokentm.explain`` of the same model with its weights in half precision.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from datetime import date
from pathlib import Path
from statistics import median, quantiles

import timm
import torch
from playwright.sync_api import Page
from tqdm.auto import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from browser import browser
from engine import Engine

import tokentm
from tokentm_widgets import explore, export_html
from tokentm_widgets.live_model import halved

TABLE = Path(__file__).with_name("live.md")
PICTURES = 50

# choosing, until the frame after the answer was painted; the answer travels back as plain numbers
CHOOSE = """(choice) => new Promise((resolve) => {
  const { model } = globalThis.tokentm;
  const start = performance.now();
  const numbers = ({ buffer, byteOffset, byteLength }) =>
    [...new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength))];
  const answered = () => {
    model.off("change:shown", answered);
    requestAnimationFrame(() => setTimeout(() => {
      const { scores, values } = model.get("shown");
      resolve({ ms: performance.now() - start, scores: numbers(scores), values: numbers(values) });
    }));
  };
  model.on("change:shown", answered);
  for (const [name, value] of Object.entries(choice)) model.set(name, value);
})"""


def relative(found: list[float], expected: torch.Tensor) -> float:
    return float((torch.tensor(found) - expected).abs().max() / expected.abs().max())


def opened(page: Page, path: Path) -> dict[str, float]:
    """When a map was shown, and when the engine had answered its first question, in ms since the navigation."""
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector(".tokentm[data-painted]")
    shown = page.evaluate("performance.now()")
    page.evaluate(CHOOSE, {"target": 1})
    ready = page.evaluate("performance.now()")
    page.wait_for_timeout(500)
    outside = [url for url in requests if not url.startswith(("file:", "blob:", "data:"))]
    return {"shown": shown, "ready": ready, "requests": len(outside)}


def measured(demo: tokentm.Demo, folder: Path) -> dict[str, float]:
    """The page of the demo."""
    scenes = [demo.scene(seed) for seed in range(PICTURES)]
    explorer = explore(demo.model, [scene.image for scene in scenes], classes=demo.classes)
    path = export_html(explorer, folder / "many.html", live=True)
    usual = export_html(explore(), folder / "usual.html", live=True)
    errors, pictures, classes = {"scores": 0.0, "probabilities": 0.0}, [], []
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1300, "height": 900})
        begun = [opened(page, usual) for _ in range(5)]
        page.goto(path.as_uri())
        page.wait_for_selector(".tokentm[data-painted]")
        page.evaluate(CHOOSE, {"picture": 1, "target": 0})
        for i in tqdm(range(PICTURES), desc="pictures"):
            image = demo.transform(scenes[i].image)[None]
            for target in (None, *range(len(demo.classes))):
                if target is None and i == 1:
                    continue
                given = {"picture": i, "target": target}
                answer = page.evaluate(CHOOSE, given)
                (pictures if target is None else classes).append(answer["ms"])
                expected = tokentm.explain(demo.model, image, target=target)
                errors["scores"] = max(errors["scores"], relative(answer["scores"], expected.scores[0]))
                assert expected.probabilities is not None
                errors["probabilities"] = max(
                    errors["probabilities"], relative(answer["values"], expected.probabilities[0])
                )
        version = chromium.version
    return {
        "megabytes": usual.stat().st_size / 1e6,
        "shown, ms": median(one["shown"] for one in begun),
        "ready, ms": median(one["ready"] for one in begun),
        "requests": max(one["requests"] for one in begun),
        "new picture, ms": median(pictures),
        "new picture, 90 %, ms": quantiles(pictures, n=10)[-1],
        "another class, ms": median(classes),
        "scores": errors["scores"],
        "probabilities": errors["probabilities"],
        "browser": version,
    }


def deit() -> dict[str, float]:
    """DeiT-Ti's shapes in the engine."""
    torch.manual_seed(0)
    model = halved(timm.create_model("deit_tiny_patch16_224", num_classes=1000).eval())
    images, engine = torch.randn(5, 3, 224, 224), Engine()
    engine.open(model)
    errors, times = [], []
    for i, image in enumerate(images):
        expected = tokentm.explain(model, image[None], target=i)
        found = engine.explain(image, i, ["tokentm"])["maps"]["tokentm"]
        errors.append(relative(found[-1].tolist(), expected.scores[0]))
        times.append(sum(engine.ask("timed", image=image, target=i, method="tokentm")["ms"]))
    engine.close()
    return {"ms": median(times), "error": max(errors)}


def table(found: dict[str, float], of_deit: dict[str, float]) -> str:
    load = os.getloadavg()[0]
    rows = [
        ("page, MB", f"{found['megabytes']:.2f}", "5"),
        ("requests to the network", f"{found['requests']}", "0"),
        ("map on the screen, ms after opening", f"{found['shown, ms']:.0f}", ""),
        ("engine has answered, ms after opening", f"{found['ready, ms']:.0f}", "1000"),
        ("a new picture's answer and map, ms, median", f"{found['new picture, ms']:.0f}", "200"),
        ("the same, 90 % below, ms", f"{found['new picture, 90 %, ms']:.0f}", ""),
        ("another class of it, ms, median", f"{found['another class, ms']:.0f}", ""),
        (f"scores, largest relative difference, {PICTURES} pictures x 16 classes", f"{found['scores']:.1e}", "1e-5"),
        ("probabilities, the same", f"{found['probabilities']:.1e}", "1e-5"),
        ("DeiT-Ti's shapes: forward, backward and TokenTM, ms, median", f"{of_deit['ms']:.0f}", "2000"),
        ("DeiT-Ti's shapes: scores, largest relative difference", f"{of_deit['error']:.1e}", "1e-4"),
    ]
    body = "\n".join(f"| {name} | {value} | {aim} |" for name, value, aim in rows)
    return (
        "# A page that computes\n\n"
        f"Chromium {found['browser']} without a graphics card, {platform.system()}, {os.cpu_count()} cores, shared "
        f"with other work: load {load:.1f}. Python {platform.python_version()}, torch {torch.__version__}, timm "
        f"{timm.__version__}; {date.today()}. Made by `python benchmarks/live.py`, which says what is measured.\n\n"
        "| | measured | aim |\n| --- | --- | --- |\n" + body + "\n"
    )


if __name__ == "__main__":
    of_deit = deit()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(tokentm.load_demo(), Path(folder))
    TABLE.write_text(table(found, of_deit), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"))
