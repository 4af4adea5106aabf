"""Exported pages: how large they are, what their address says, and what they help to share."""

from __future__ import annotations

import re

import pytest
import torch
from browser import pixel, watch
from playwright.sync_api import Page

import tokentm
from tokentm_widgets import (
    LayerStepper,
    MethodComparison,
    PathExplorer,
    PerturbationPlayer,
    TokenPlayground,
    export,
    export_html,
    layer_stepper,
)
from tokentm_widgets.address import addressed

MB = 10**6


@pytest.fixture(scope="module")
def trace(tiny):
    model = tiny(img_size=(12, 20), patch_size=4, num_classes=3, depth=3, num_heads=3)
    torch.manual_seed(1)
    return tokentm.record(model, torch.randn(1, 3, 12, 20).expand(2, -1, -1, -1), target=[1, 2])


@pytest.fixture
def open_page(chromium, tmp_path):
    """``open_page(widget, hash)``: its page from a file, as readers open it, under its own policy."""
    pages = []

    def opened(widget, hash="", **options) -> Page:
        path = export_html(widget, tmp_path / "page.html", **options)
        page = chromium.new_page(viewport={"width": 1200, "height": 800})
        pages.append((page, watch(page)))
        page.goto(path.as_uri() + hash)
        until(page, "globalThis.tokentm !== undefined")
        page.wait_for_selector(".tokentm[data-painted], .tokentm svg")
        return page

    yield opened
    for page, wrong in pages:
        assert wrong == []
        page.close()


def until(page, expression):
    """Wait by asking from outside: the page's own policy forbids to evaluate."""
    for _ in range(100):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"expected {expression}; the address is {address(page)}")


def state(page, *names):
    return page.evaluate("(names) => names.map((name) => tokentm.model.get(name))", list(names))


def address(page):
    return page.evaluate("location.hash")


# ---- size ----


@pytest.fixture(scope="module")
def demo():
    return tokentm.load_demo()


@pytest.mark.parametrize(("names", "most"), [(("cat",), 2.3), (("cat", "car"), 3.0)])
def test_the_demos_page_is_small(demo, tmp_path, names, most):
    scene = demo.scene(17, classes=["cat", "car"])
    images = demo.transform(scene.image).expand(len(names), -1, -1, -1)
    trace = tokentm.record(demo.model, images, target=[demo.classes.index(name) for name in names])
    stepper = LayerStepper(trace, images=scene.image, classes=demo.classes)
    whole = export_html(stepper, tmp_path / "page.html").stat().st_size
    assert whole <= most * MB
    assert export_html(stepper, tmp_path / "small.html", heads=[0]).stat().st_size < whole * 0.85
    assert export_html(stepper, tmp_path / "small.html", patches=0).stat().st_size < 0.5 * MB


def test_the_same_data_stands_once_in_a_page(trace):
    block = export._Block()
    first, second = block.place(b"abc"), block.place(memoryview(b"de"))
    assert (first, second) == ({"$bytes": [0, 3]}, {"$bytes": [3, 2]})
    assert block.place(bytearray(b"abc")) == first


def test_options_that_a_widget_does_not_take_are_refused(trace, tmp_path):
    with pytest.raises(tokentm.InvalidOptionError, match=r"got haeds=\. It takes heads=, patches=\."):
        export_html(LayerStepper(trace), tmp_path / "page.html", haeds=[0])
    with pytest.raises(
        tokentm.InvalidOptionError, match=r"page of PathExplorer takes; got heads=\. It takes no options"
    ):
        export_html(PathExplorer(trace), tmp_path / "page.html", heads=[0])
    assert not list(tmp_path.iterdir())


def test_a_page_begins_with_a_head_that_it_holds(trace):
    text = export.page(LayerStepper(trace, head=2), heads=[1])
    assert '"head":null' in re.search(r'id="state">(.*?)</script>', text)[1]
    assert '"head":2' in re.search(r'id="state">(.*?)</script>', export.page(LayerStepper(trace, head=2)))[1]


def test_a_page_says_which_model_answered_what(trace):
    widget = LayerStepper(trace, classes=["ant", "bee", "cat"])
    odds = trace.logits.softmax(-1)[0]
    model = "Model: VisionTransformer with 3 layers, 3 heads and 3 x 5 patches."
    said = f"{model} Its answer: bee {100 * odds[1]:.1f} %, cat {100 * odds[2]:.1f} %."
    assert widget.about == said
    assert f'<p class="about">{said}</p>' in export.page(widget)
    chosen = tokentm.record(trace.anatomy.model, trace.images[:1], target=lambda logits: logits[:, 0])
    score = f"{chosen.scores.item():.3g}"
    assert LayerStepper(chosen).about == f"{model} Its answer: chosen score {score}."
    assert 'class="about"' not in export.page(TokenPlayground())


# ---- the address ----


def test_what_the_address_may_say(trace):
    stepper = LayerStepper(trace)
    assert addressed(stepper, {"head": [None, 1]}) == {
        "layer": {"count": 3, "optional": False},
        "head": {"values": [None, 1]},
        "index": {"count": 2, "optional": False},
        "patch": {"count": 15, "optional": True},
        "kept": {"count": 15, "optional": True},
        "speed": {"values": [0.5, 1, 2, 4]},
        "scale": {"values": ["layer", "common"]},
        "opacity": {"low": 0.0, "high": 1.0},
    }


@pytest.mark.browser
def test_a_link_opens_what_it_says(open_page, trace):
    page = open_page(LayerStepper(trace, layer=1), "#layer=2&patch=7&head=1&index=1&scale=common&opacity=0.25")
    assert state(page, "layer", "patch", "head", "index", "scale", "opacity") == [2, 7, 1, 1, "common", 0.25]
    page.wait_for_selector(".tokentm[data-painted='2 1 1 7 false']")
    assert page.input_value("input[name=layer]") == "2"


@pytest.mark.browser
def test_what_a_link_asks_for_in_vain_is_left_out(open_page, trace):
    page = open_page(LayerStepper(trace, layer=1), "#layer=9&patch=x&head=-1&index=&nobody=1&playing=true&_data=1")
    assert state(page, "layer", "patch", "head", "index", "playing") == [1, None, None, 0, False]


@pytest.mark.browser
def test_the_address_follows_what_the_reader_chooses_and_a_reload_restores_it(open_page, trace):
    page = open_page(LayerStepper(trace, layer=0))
    assert address(page) == ""
    page.focus("input[name=layer]")
    page.keyboard.press("ArrowRight")
    until(page, "location.hash === '#layer=1'")
    entries = page.evaluate("history.length")
    page.focus("[data-map=contribution]")
    page.keyboard.press("ArrowRight")
    until(page, "location.hash === '#kept=7&layer=1'")
    assert page.evaluate("history.length") == entries  # Back leaves the page, as everywhere
    page.reload()
    page.wait_for_selector(".tokentm[data-painted='1  0  false']")
    assert state(page, "kept") == [7]
    page.focus("[data-map=contribution]")
    page.keyboard.press("Escape")
    until(page, "location.hash === '#layer=1'")
    page.focus("input[name=layer]")
    page.keyboard.press("ArrowLeft")
    until(page, "location.hash === ''")


@pytest.mark.browser
def test_an_address_that_is_edited_is_followed(open_page, trace):
    page = open_page(LayerStepper(trace, layer=0, patch=3), "#layer=1")
    page.evaluate("location.hash = '#layer=2&patch='")
    page.wait_for_selector(".tokentm[data-painted='2  0  false']")
    page.evaluate("location.hash = '#'")
    page.wait_for_selector(".tokentm[data-painted='0  0 3 false']")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("make", "hash", "wanted"),
    [
        (
            lambda trace: MethodComparison(trace, ["rollout", "random"]),
            "#unit=rank&reference=random",
            ["rank", "random"],
        ),
        (lambda trace: MethodComparison(trace, ["rollout"]), "#unit=x&reference=random", ["share", None]),
        (PathExplorer, "#patch=3&index=1", [3, 1]),
        (lambda trace: PerturbationPlayer(trace, ["rollout"], steps=4), "#step=4&order=least", [4, "least"]),
        (lambda trace: TokenPlayground(), "#chosen=1&normaliser=mean", [1, "mean"]),
    ],
    ids=["methods", "methods in vain", "paths", "removal", "playground"],
)
def test_every_widgets_page_keeps_its_state(open_page, trace, make, hash, wanted):
    page = open_page(make(trace), hash)
    assert state(page, *re.findall(r"(\w+)=", hash)) == wanted


# ---- sharing ----


@pytest.mark.browser
def test_a_page_names_its_keys_and_copies_its_link(open_page, trace):
    widget = LayerStepper(trace, layer=0)
    page = open_page(widget)
    assert page.inner_text("footer p") == widget.by_keys
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("tokentm.model.set('layer', 2)")
    page.click("text=Copy link")
    until(page, "document.querySelector('output').textContent !== ''")
    assert (
        page.inner_text("output")
        == "The link is copied. It opens this file as you see it; to others, send the file, too."
    )
    assert page.evaluate("navigator.clipboard.readText()").endswith("page.html#layer=2")


PICTURE = """async () => {
  const bitmap = await createImageBitmap(globalThis.copied);
  const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  const box = document.querySelector(".tokentm").getBoundingClientRect();
  const scale = bitmap.width / Math.ceil(box.width);
  const map = document.querySelector("[data-map=update]").getBoundingClientRect();
  const at = (x, y) => [...canvas.getContext("2d").getImageData(x * scale, y * scale, 1, 1).data].slice(0, 3);
  const caption = document.querySelector("figcaption").getBoundingClientRect();
  const text = canvas.getContext("2d").getImageData((caption.left - box.left) * scale, (caption.top - box.top) * scale,
    caption.width * scale, caption.height * scale).data;
  return { first: at(map.left - box.left + map.width / 10, map.top - box.top + map.height / 6),
           dark: text.filter((value, i) => i % 4 === 0 && value < 128).length };
}"""


@pytest.mark.browser
def test_a_picture_of_the_page_holds_its_maps_and_words(open_page, trace):
    page = open_page(LayerStepper(trace))
    page.emulate_media(color_scheme="light")
    page.evaluate(
        """() => {
             navigator.clipboard.write = async ([item]) => { globalThis.copied = await item.getType("image/png"); };
           }"""
    )
    page.click("text=Copy picture")
    until(page, "document.querySelector('output').textContent !== ''")
    assert page.inner_text("output") == "The picture is copied."
    found = page.evaluate(PICTURE)
    wanted = pixel(page, "update", 0, 5, 3, root="main")
    assert max(abs(a - b) for a, b in zip(found["first"], wanted, strict=True)) <= 3
    assert found["dark"] > 20  # the caption


@pytest.mark.browser
@pytest.mark.parametrize("make", [LayerStepper, PathExplorer], ids=["canvases", "drawings"])
def test_a_picture_that_may_not_be_copied_is_saved(open_page, trace, make):
    page = open_page(make(trace))
    page.evaluate("delete Navigator.prototype.clipboard")
    with page.expect_download() as download:
        page.click("text=Copy picture")
    assert download.value.suggested_filename == "picture.png"
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
    assert "saved as picture.png instead" in page.inner_text("output")
    page.click("text=Copy link")
    until(page, "document.querySelector('output').textContent.includes('address bar')")


@pytest.mark.browser
def test_a_browser_that_cannot_unpack_says_so(chromium, trace, tmp_path):
    path = export_html(LayerStepper(trace), tmp_path / "page.html")
    page = chromium.new_page()
    page.add_init_script("delete globalThis.DecompressionStream")
    page.goto(path.as_uri())
    until(page, "document.querySelector('main').textContent.includes('needs a browser of 2023 or newer')")
    page.close()


@pytest.mark.browser
def test_a_page_that_holds_some_patches_opens(open_page, trace, monkeypatch):
    monkeypatch.setattr(layer_stepper, "IN_A_PAGE", 2000)
    monkeypatch.setattr(layer_stepper, "STRONGEST", 1)
    stepper = LayerStepper(trace)
    [rows] = stepper.offline_data()["taken"]
    assert 1 <= len(rows["patches"]) <= 2
    page = open_page(stepper, f"#patch={rows['patches'][0]}&layer=1")
    page.wait_for_selector(".tokentm[data-complete=true]")
