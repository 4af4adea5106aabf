"""Exported pages in Firefox: the other engine that readers have, from a file as after a double click."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from firefox import firefox
from PIL import Image

import tokentm
from tokentm_widgets import LayerStepper, MethodComparison, PathExplorer, TokenPlayground, export_html

pytestmark = pytest.mark.browser

# widget -> how it is made, what gets the focus before the arrow key
PAGES: dict[str, tuple[Callable[..., Any], str]] = {
    "LayerStepper": (lambda trace, picture: LayerStepper(trace, picture, layer=0), "input[name=layer]"),
    "MethodComparison": (
        lambda trace, picture: MethodComparison(trace, ["rollout", "random"], picture),
        "[data-map=image]",
    ),
    "PathExplorer": (lambda trace, picture: PathExplorer(trace, picture), "[data-map=image]"),
    "TokenPlayground": (lambda trace, picture: TokenPlayground(), "[data-handle='T 1']"),
}

PAINTED = "document.querySelector('.tokentm[data-painted]')?.dataset.painted"
# everything that is drawn and seen: its panel, how many colours or elements it has, and what it looks like; a map and
# the picture below it are two canvases in one place, an outline stands beside them
DRAWN = """[...new Set([...document.querySelectorAll(".tokentm canvas")].map((canvas) => canvas.parentElement))]
  .filter((place) => place.checkVisibility())
  .map((place) => {
    const layers = [...place.children].filter((one) => one instanceof HTMLCanvasElement);
    const colours = (canvas) => new Set(new Uint32Array(
      canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size;
    return [layers.map((one) => one.dataset.panel ?? "").join(""), Math.max(...layers.map(colours)),
      place.innerHTML + layers.map((one) => one.toDataURL()).join("")];
  })
  .concat([...document.querySelectorAll(".tokentm svg")].map((drawing) =>
    ["drawing", drawing.querySelectorAll("*").length, drawing.innerHTML]))"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with firefox(tmp_path_factory.mktemp("firefox")) as opened:
        yield opened


@pytest.fixture(scope="module")
def trace(tiny):
    torch.manual_seed(1)
    return tokentm.record(tiny(img_size=(12, 20), patch_size=4, num_classes=3, depth=3), torch.randn(1, 3, 12, 20), 1)


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", PAGES)
def test_an_exported_page_draws_and_steps(tab, tmp_path, trace, picture, name):
    made, control = PAGES[name]
    tab.open(export_html(made(trace, picture), tmp_path / "page.html").as_uri())
    tab.wait(f"{PAINTED}?.endsWith('true') || {PAINTED}?.startsWith('[')")
    painted, before = tab.evaluate(PAINTED), tab.evaluate(DRAWN)
    assert before
    assert all(count > 1 for _, count, _ in before), [panel for panel, count, _ in before if count < 2]
    tab.press(f".tokentm {control}", "ArrowRight")
    tab.wait(f"{PAINTED} !== {painted!r}")
    after = tab.evaluate(DRAWN)
    assert [panel for panel, _, _ in after] == [panel for panel, _, _ in before]
    assert after != before
    assert tab.evaluate("document.querySelector('main > img')") is None  # the still picture has made room
    assert tab.wrong == []


def test_errors_of_a_page_are_seen(tab, tmp_path):
    (tmp_path / "page.html").write_text("<script>console.error('one'); throw new Error('two')</script>")
    tab.open((tmp_path / "page.html").as_uri())
    tab.wait("document.readyState === 'complete'")
    assert [one.removeprefix("Error: ") for one in tab.wrong] == ["one", "two"]
