"""The widgets in marimo, which renders anywidgets itself: they draw, step, and reach Python."""

from __future__ import annotations

import marimo_host
import pytest
from browser import watch
from jupyter import eventually

pytestmark = pytest.mark.browser

SETUP = """
import marimo, tokentm
from tokentm_widgets import LayerStepper, TokenPlayground, explore

demo = tokentm.load_demo()
scene = demo.scene(17, classes=["cat", "car"])
trace = tokentm.record(demo.model, demo.transform(scene.image).unsqueeze(0))
"""
# a widget -> what gets the focus, the key, and the trait that it changes, from what to what
CASES = {
    "LayerStepper(trace, images=scene.image, layer=0)": ("input[name=layer]", "ArrowRight", "layer", 0, 1),
    "explore()": ("button[data-class='4']", "Enter", "target", None, 4),
}


@pytest.mark.parametrize("code", CASES)
def test_a_widget_draws_and_steps(chromium_page, tmp_path, code):
    marimo_host.require()
    control, key, trait, before, after = CASES[code]
    cells = [
        ("", f"{SETUP}\nshown = marimo.ui.anywidget({code})\nshown", "marimo, shown, TokenPlayground"),
        ("marimo, shown", f"marimo.md(f'heard {{shown.{trait}}}')", ""),
        ("TokenPlayground", "TokenPlayground()", ""),  # as it is, without marimo's own wrapping
    ]
    with marimo_host.serve(marimo_host.notebook(cells), tmp_path) as address:
        wrong = watch(chromium_page)
        chromium_page.set_default_timeout(60_000)
        chromium_page.goto(address)
        view = chromium_page.locator(".tokentm[data-painted$=true]").first
        view.wait_for()
        assert view.locator("canvas").count() > 1
        chromium_page.locator(".tokentm[aria-label='TokenTM token playground'][data-painted]").wait_for()
        chromium_page.get_by_text(f"heard {before}").wait_for()
        painted = view.get_attribute("data-painted")
        maps = view.locator("canvas").evaluate_all("(all) => all.map((one) => one.toDataURL())")
        view.locator(control).focus()
        chromium_page.keyboard.press(key)
        chromium_page.get_by_text(f"heard {after}").wait_for()
        assert view.get_attribute("data-painted") != painted
        eventually(
            lambda: view.locator("canvas").evaluate_all("(all) => all.map((one) => one.toDataURL())") != maps, True
        )
        assert wrong == []
