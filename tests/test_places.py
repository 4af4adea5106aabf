"""Every widget in every place: phone, notebook, whole screen, zoomed in; light, dark, forced colours, paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from browser import accessible, show, watch
from PIL import Image
from surveys import make_survey

import tokentm
from tokentm_widgets import (
    LayerStepper,
    MethodComparison,
    PathExplorer,
    PerturbationPlayer,
    SurveyBrowser,
    TokenPlayground,
)

pytestmark = pytest.mark.browser

NAMES = ["goldfish, Carassius auratus", "dog", "bird"]
SIZES = [(420, 800), (590, 800), (1440, 900)]
ZOOMED = (720, 450)
"""What 1440 x 900 leaves at 200 %."""

SMALL = """() => {
  const found = new Set();
  for (const node of document.querySelectorAll("#first .tokentm *, #first .tokentm")) {
    const own = [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.textContent.trim());
    const { width, height } = node.getBoundingClientRect();
    if (!own || width <= 2 || height <= 2 || getComputedStyle(node).visibility === "hidden") continue;
    const scale = node instanceof SVGGraphicsElement ? node.getScreenCTM().a : 1;
    const size = scale * parseFloat(getComputedStyle(node).fontSize);
    if (size < 11) found.add(`${node.tagName} ${node.getAttribute("class")} ${size.toFixed(1)}: ${node.textContent}`);
  }
  return [...found];
}"""

CUT = """() => {
  const found = [];
  for (const node of document.querySelectorAll("#first .tokentm *")) {
    if (!(node instanceof HTMLElement) || !node.textContent.trim() || node.clientWidth <= 2) continue;
    const { overflowX, textOverflow } = getComputedStyle(node);
    if (!["hidden", "clip"].includes(overflowX) || node.scrollWidth <= node.clientWidth + 1) continue;
    if (textOverflow === "ellipsis" && node.closest("[title]")) continue;
    found.push(`${node.tagName} ${node.className}: ${node.textContent.slice(0, 60)}`);
  }
  return found;
}"""

SILENT = """() => [...document.querySelectorAll("#first .scrolling")].filter((place) => {
  const box = place.querySelector(".scrolls");
  const wide = box.clientWidth > 0 && box.scrollWidth > box.clientWidth + 1;
  return wide === place.querySelector(".hint").hidden;
}).map((place) => place.textContent.slice(0, 60))"""
"""Boxes that scroll without saying so, or the other way round."""

PRESSED = """() => [...document.querySelectorAll("#first button[aria-pressed]")]
  .filter((button) => button.getClientRects().length)
  .map((button) => {
    const { outlineStyle, outlineWidth } = getComputedStyle(button);
    return [button.getAttribute("aria-pressed") === "true", outlineStyle !== "none" && parseFloat(outlineWidth) >= 2];
  })"""


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def traces(tiny):
    """A small model with two classes, and one of 24 layers of 16 heads."""
    torch.manual_seed(1)
    small = tiny(img_size=(12, 20), patch_size=4, num_classes=3, depth=3, num_heads=3, reg_tokens=2)
    large = tiny(img_size=(12, 20), patch_size=4, num_classes=3, depth=24, num_heads=16, embed_dim=64)
    images = torch.randn(1, 3, 12, 20)
    return {
        "small": tokentm.record(small, images.expand(2, -1, -1, -1), target=[0, 1]),
        "large": tokentm.record(large, images, target=0),
    }


WIDGETS = {
    "LayerStepper": lambda traces, **shown: LayerStepper(traces["small"], **shown),
    "LayerStepper, large": lambda traces, **shown: LayerStepper(traces["large"], **shown),
    "PathExplorer": lambda traces, **shown: PathExplorer(traces["small"], **shown),
    "PathExplorer, large": lambda traces, **shown: PathExplorer(traces["large"], **shown),
    "MethodComparison": lambda traces, **shown: MethodComparison(traces["small"], patch=3, **shown),
    "PerturbationPlayer": lambda traces, **shown: PerturbationPlayer(
        traces["small"], steps=5, step=2, progress=False, **shown
    ),
    "SurveyBrowser": lambda _, **shown: SurveyBrowser(make_survey(), statistic="object"),
    "SurveyBrowser, large": lambda _, **shown: SurveyBrowser(make_survey(40, 24, 16, 30, 12)),
    "TokenPlayground": lambda _, **shown: TokenPlayground(),
}


@pytest.fixture(params=WIDGETS.values(), ids=WIDGETS.keys())
def page(request, chromium_page, traces, picture):
    """The widget's exported page."""
    wrong = watch(chromium_page)
    show(chromium_page, request.param(traces, images=picture, classes=NAMES))
    yield chromium_page
    assert wrong == []


def sized(page, width, height):
    page.set_viewport_size({"width": width, "height": height})
    # the observers of sizes, and what they draw
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 60)))")


def test_it_is_whole_everywhere(page):
    """No sideways scroll of the page, nothing small, nothing cut, nothing that axe finds."""
    for width, height in [*SIZES, ZOOMED]:
        sized(page, width, height)
        place = f"at {width} px"
        assert page.evaluate("document.documentElement.scrollWidth") <= width, place
        assert page.evaluate(SMALL) == [], place
        assert page.evaluate(CUT) == [], place
        assert page.evaluate(SILENT) == [], place
    # every width and both sets of colours, not every pair of them: that would take twice as long
    for (width, height), scheme in zip(SIZES, ("dark", "light", "dark"), strict=True):
        sized(page, width, height)
        page.emulate_media(color_scheme=scheme)
        assert accessible(page, "#first .tokentm") == [], (width, scheme)


def test_forced_colours_keep_what_is_pressed(page):
    sized(page, 590, 800)
    page.emulate_media(forced_colors="active")
    for pressed, outlined in page.evaluate(PRESSED):
        assert pressed == outlined
    page.emulate_media(forced_colors="none")


def test_printing_loses_nothing(page):
    """Nothing scrolls on paper: what is in a box that does is all there."""
    page.emulate_media(media="print")
    assert page.evaluate(CUT) == []
    hidden = page.locator("#first .scrolls").evaluate_all(
        "(boxes) => boxes.filter((box) => getComputedStyle(box).overflowX !== 'visible').length"
    )
    assert hidden == 0
    page.emulate_media(media="screen")
