"""Takes the README's pictures of the widgets from the real thing: ``python tests/screenshots.py``."""

from __future__ import annotations

from pathlib import Path

from browser import browser

import tokentm
from tokentm_widgets import (
    LayerStepper,
    MethodComparison,
    PathExplorer,
    PerturbationPlayer,
    SceneTable,
    TokenPlayground,
    explore,
    export_html,
)

FOLDER = Path(__file__).parents[1] / "notebooks" / "images"


def main() -> None:
    demo = tokentm.load_demo()
    scene = demo.scene(17, classes=["cat", "car"])
    images = demo.transform(scene.image).expand(2, -1, -1, -1)
    trace = tokentm.record(demo.model, images, target=[demo.classes.index(name) for name in ("cat", "car")])
    shown = {"images": scene.image, "classes": demo.classes}
    widgets = {
        "explorer": explore(),
        "layer_stepper": LayerStepper(trace, layer=5, **shown),
        "method_comparison": MethodComparison(trace, **shown),
        "path_explorer": PathExplorer(trace, **shown),
        "perturbation_player": PerturbationPlayer(trace, step=5, **shown),
        "scene_table": SceneTable(),
        "token_playground": TokenPlayground(),
    }
    with browser() as launched:
        for name, widget in widgets.items():
            page = launched.new_page(viewport={"width": 1300 if name == "explorer" else 1100, "height": 800})
            path = export_html(widget, FOLDER / f"{name}.html")
            page.goto(path.as_uri())
            page.wait_for_selector(".tokentm[data-painted]")
            if name == "scene_table":
                page.wait_for_selector(".tokentm[data-settled=true]")
            elif name != "token_playground":  # the others show a picture, which is decoded a little later
                page.wait_for_selector(".tokentm[data-painted$=true]")
            # the views of the explorer have pictures of their own
            page.add_style_tag(content=".explorer .views { display: none; }")
            page.locator("main > .tokentm").screenshot(path=FOLDER / f"{name}.png")
            path.unlink()


if __name__ == "__main__":
    main()
