"""Pages that compute: the live engine answers as the library does, also for own pictures, and says what fails."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import timm
import torch
from browser import watch
from PIL import Image
from planted_tokens import planted
from torchvision.transforms import InterpolationMode, v2

import tokentm
from tokentm import methods
from tokentm.errors import InvalidOptionError
from tokentm_widgets import (
    LayerStepper,
    MethodComparison,
    PathExplorer,
    PerturbationPlayer,
    TokenPlayground,
    explore,
    export,
    export_html,
)
from tokentm_widgets.front_end import FOLDER
from tokentm_widgets.live import METHODS, check_halved
from tokentm_widgets.live_model import halved
from tokentm_widgets.live_pictures import preparing
from tokentm_widgets.live_view import living

MB = 10**6
READY = """(() => {
  const names = ["shown", "busy", "target", "tab", "error"];
  const [shown, busy, target, tab, error] = names.map((name) => tokentm.model.get(name));
  const answered = shown.method === tokentm.model.get("method") && (target === null || shown.target === target);
  const opened = !tab || Object.keys(tokentm.model.get(`_${tab}`)).length > 0;
  return !busy && (Boolean(error) || (answered && opened));
})()"""
"""Whether what is chosen is on the screen, or an error says why it is not."""


@pytest.fixture(scope="module")
def demo():
    return tokentm.load_demo()


@pytest.fixture(scope="module")
def explorer(demo):
    scenes = [demo.scene(17, ["cat", "car"]).image, demo.scene(3, ["dog"]).image]
    return explore(demo.model, scenes, classes=demo.classes)


@pytest.fixture(scope="module")
def file(explorer, tmp_path_factory):
    return export_html(explorer, tmp_path_factory.mktemp("live") / "live.html", live=True)


class Opened:
    """A live page, and what went wrong in it."""

    def __init__(self, page, wrong):
        self.page, self.wrong = page, wrong

    def set(self, **choices):
        self.page.evaluate("(choices) => Object.entries(choices).map((one) => tokentm.model.set(...one))", choices)
        self.settle()

    def settle(self):
        """Until nothing is computed any more; asked from outside, since the page's own policy forbids to evaluate."""
        for _ in range(600):
            if self.page.evaluate(f"globalThis.tokentm && {READY}"):
                self.page.wait_for_timeout(60)
                if self.page.evaluate(READY):
                    return
            self.page.wait_for_timeout(50)
        pytest.fail(f"expected the page to finish; it says {self.page.inner_text('main')[:500]}")

    def get(self, name):
        return self.page.evaluate("(name) => tokentm.model.get(name)", name)

    def floats(self, trait, name):
        read = """([trait, name]) => { const { buffer, byteOffset, byteLength } = tokentm.model.get(trait)[name];
            return [...new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength))]; }"""
        return torch.tensor(self.page.evaluate(read, [trait, name]))


@pytest.fixture
def opened(chromium):
    """``opened(path, hash)``: a live page from a file, as its readers open it, under its own policy."""
    pages = []

    def opens(path, hash="", **viewport):
        page = chromium.new_page(viewport={"width": 1300, "height": 900, **viewport})
        wrong = watch(page)
        pages.append((page, wrong))
        page.goto(path.as_uri() + hash)
        page.wait_for_selector(".tokentm[data-painted]")
        shown = Opened(page, wrong)
        shown.settle()
        return shown

    yield opens
    for page, wrong in pages:
        assert wrong == []
        page.close()


def close(found, expected, tolerance=1e-5):
    return (found - expected).abs().max() <= tolerance * expected.abs().max()


# ---- what is written ----


def test_a_page_that_computes_is_small(file):
    assert file.stat().st_size <= 5 * MB


def test_the_engine_computes_what_the_page_offers():
    source = (FOLDER / "engine" / "methods.js").read_text(encoding="utf-8")
    body = source.split("export const METHODS = {")[1].split("\n};")[0]
    assert re.findall(r"^  ([a-z_]+)(?:\(|: )", body, re.MULTILINE) == [*METHODS]
    assert all(name in methods.METHODS for name in METHODS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            dict(target=lambda logits: logits[:, 0]),
            "the output of a class to be explained, .*; found a function of the",
        ),
        (dict(target=tokentm.log_odds()), "found log-odds. Leave target= out"),
        (dict(target=tokentm.difference(0, 1)), "found difference. Choose a class first: explorer.target = 0"),
        (dict(), "expected a method that a page can compute"),
    ],
)
def test_what_a_page_cannot_compute_is_refused(demo, tmp_path, change, said):
    explorer = explore(demo.model, demo.scene(3).image, **change)
    if not change:
        explorer.method = "random"
    with pytest.raises(InvalidOptionError, match=said):
        export_html(explorer, tmp_path / "page.html", live=True)
    assert not (tmp_path / "page.html").exists()


def test_a_model_that_the_engine_does_not_run_is_refused_with_its_reason(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("eva02_tiny_patch14_224", img_size=28, depth=2, num_classes=3).eval()
    trace = tokentm.record(model, torch.randn(1, 3, 28, 28))
    with pytest.raises(InvalidOptionError, match=r"expected timm's VisionTransformer.*found .*Eva.*without"):
        export_html(LayerStepper(trace), tmp_path / "page.html", live=True)


def test_widgets_and_readings_without_a_page_of_their_own_are_refused(demo):
    trace = tokentm.record(demo.model, demo.transform(demo.scene(3).image)[None])
    refused = [
        (TokenPlayground(), "expected a widget that a page can compute"),
        (LayerStepper(trace, method=tokentm.TokenTM(ffn=False)), "found the reading tokentm_no_ffn"),
        (MethodComparison(trace, methods=["tokentm", "tokentm_no_ffn"]), "found tokentm_no_ffn"),
        (PerturbationPlayer(trace, methods=["tokentm"], replace="zero", steps=2), "found replace='zero'"),
        (
            LayerStepper(tokentm.record(demo.model, trace.images, tokentm.log_odds(3))),
            "found log-odds. Leave live=True",
        ),
    ]
    for widget, said in refused:
        with pytest.raises(InvalidOptionError, match=said):
            living(widget)
    with pytest.raises(InvalidOptionError, match="no other options beside live=True"):
        export.page(LayerStepper(trace), live=True, heads=[0])


def test_weights_that_half_precision_changes_are_refused(tiny, tmp_path):
    torch.manual_seed(1)
    model = tiny(depth=2)
    with torch.no_grad():  # classes that half precision cannot tell apart
        alike = 1000 * torch.randn(model.embed_dim)
        for c in range(model.num_classes):
            model.head.weight[c] = alike * (1 + 3e-4 * c)
    trace = tokentm.record(model, torch.randn(1, 3, *model.patch_embed.img_size))
    with pytest.raises(InvalidOptionError, match="probabilities that differ by"):
        export_html(LayerStepper(trace), tmp_path / "page.html", live=True)


# ---- what it answers ----


@pytest.mark.browser
def test_every_class_is_answered_as_the_library_does(file, opened, demo, explorer):
    page = opened(file)
    for picture in (0, 1):
        image = tokentm.prepare(demo.model, explorer._pictures[picture]).images
        for target in (0, 4, 9, 15):
            page.set(picture=picture, target=target)
            expected = tokentm.explain(demo.model, image, target=target)
            assert close(page.floats("shown", "scores"), expected.scores[0])
            assert close(page.floats("shown", "values"), expected.probabilities[0])
    assert page.get("error") == ""


@pytest.mark.browser
@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_answered_as_the_library_does(file, opened, demo, explorer, name):
    page = opened(file, f"#method={name}&target=4")
    image = tokentm.prepare(demo.model, explorer._pictures[0]).images
    expected = methods.get(name)(tokentm.record(demo.model, image, target=4)).scores[0]
    assert close(page.floats("shown", "scores"), expected)


def photograph(width, height):
    """Smooth colours with sharp edges, of which resizing makes something else."""
    y, x = np.mgrid[0:height, 0:width]
    made = np.stack((127 + 120 * np.sin(x / 17), 255 * (x // 9 + y // 13) % 256, 127 + 120 * np.cos(y / 23)), -1)
    return Image.fromarray(made.clip(0, 255).astype(np.uint8))


def upload(page, name, content):
    page.page.set_input_files(
        "input[name=upload]", {"name": name, "mimeType": "image/png", "buffer": content}, no_wait_after=True
    )
    page.page.wait_for_timeout(100)
    page.settle()


@pytest.mark.browser
@pytest.mark.parametrize("size", [(300, 200), (101, 333), (60, 50)])
def test_a_picture_of_ones_own_is_seen_and_explained_as_by_the_library(file, opened, demo, size):
    page, picture = opened(file, "#target=4"), photograph(*size)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    upload(page, "mine.png", buffer.getvalue())
    prepared = tokentm.prepare(demo.model, picture)
    expected = tokentm.explain(demo.model, prepared.images)
    assert page.get("picture") == 2
    assert page.get("shown")["explained"] == demo.classes[int(expected.target[0])]  # its own answer
    assert close(page.floats("shown", "values"), expected.probabilities[0])
    assert close(page.floats("shown", "scores"), expected.scores[0])
    assert page.page.locator(".thumbs button").count() == 3


@pytest.mark.browser
def test_views_hold_what_the_library_computes(file, opened, demo, explorer):
    page = opened(file, "#target=4&tab=layers")
    prepared = tokentm.prepare(demo.model, explorer._pictures[0])
    trace = tokentm.record(demo.model, prepared.images, target=4)
    stepper = LayerStepper(trace)
    for name in ("attentionReadout", "updateReadout", "contributionReadout", "weight", "ratio", "cosine", "necc"):
        expected = torch.frombuffer(bytearray(stepper._data[name]), dtype=torch.float32)
        assert close(page.floats("_layers", name), expected), name
    page.set(tab="methods")
    comparison = MethodComparison(trace, methods=page.get("_methods")["methods"])
    for name in ("scores", "share", "rank", "agreement"):
        expected = torch.frombuffer(bytearray(comparison._data[name]), dtype=torch.float32)
        assert close(page.floats("_methods", name), expected, 1e-2 if name in ("rank", "agreement") else 1e-4), name
    page.set(tab="paths")
    paths = PathExplorer(trace)
    for name in ("values", "total", "through", "stayed"):
        expected = torch.frombuffer(bytearray(paths._data[name]), dtype=torch.float32)
        assert close(page.floats("_paths", name), expected), name
    page.set(tab="removal")
    player = PerturbationPlayer(trace, methods=["tokentm", "rollout"], classes=demo.classes)
    curves = page.floats("_removal", "curves").unflatten(0, (3, 2, -1, 3))
    assert page.get("_removal")["names"] == player._data["names"]
    assert close(curves[:2], player.curves, 0.02)  # equal scores may go in another order
    assert page.page.locator(".panel .tokentm[data-painted] svg").count() > 0


@pytest.mark.browser
def test_pointing_at_a_patch_asks_for_its_rows(file, opened):
    page = opened(file, "#tab=layers")
    page.page.evaluate("tokentm.model.set('layers_settings', {...tokentm.model.get('layers_settings'), patch: 30})")
    page.page.wait_for_timeout(800)
    assert page.page.locator(".panel .tokentm[data-complete=true]").count() == 1


@pytest.mark.browser
def test_the_checks_are_those_of_the_library(file, opened, demo, explorer):
    page = opened(file, "#target=4")
    page.settle()
    assert page.get("trust")["classes"]["correlation"] is not None  # before anyone asks
    assert page.get("trust")["removal"] is None
    page.page.click("[name=check]")
    page.page.wait_for_timeout(100)
    page.settle()
    found = page.get("trust")
    looked = explore(demo.model, explorer._pictures[0], classes=demo.classes, target=4)
    expected = looked.check()
    assert found["classes"]["verdict"] == expected.classes.verdict
    assert found["classes"]["other"] == demo.classes[expected.classes.other]
    assert found["classes"]["shared"] == [*expected.classes.shared]
    assert found["classes"]["correlation"] == pytest.approx(expected.classes.correlation, abs=1e-4)
    assert found["removal"]["verdict"] == expected.removal.verdict
    for name in ("whole", "strongest", "random"):
        assert found["removal"][name] == pytest.approx(getattr(expected.removal, name), rel=1e-3)
    assert found["methods"]["verdict"] == expected.methods.verdict


@pytest.mark.browser
@pytest.mark.parametrize("kind", [LayerStepper, MethodComparison, PathExplorer, PerturbationPlayer])
def test_every_view_has_a_page_of_its_own_that_computes(demo, opened, tmp_path, kind):
    scene = demo.scene(17, ["cat", "car"])
    trace = tokentm.record(demo.model, demo.transform(scene.image)[None], target=0)
    options = {"steps": 3} if kind is PerturbationPlayer else {}
    path = export_html(kind(trace, images=scene.image, classes=demo.classes, **options), tmp_path / "v.html", live=True)
    assert path.stat().st_size <= 5 * MB
    page = opened(path)
    before = page.page.inner_text(".panel h2")
    page.page.click("[data-class='4']")
    page.page.wait_for_timeout(100)
    page.settle()
    page.page.wait_for_selector(".panel .tokentm[data-painted]")
    assert "cat" in before
    assert "car" in page.page.inner_text(".panel h2")


# ---- what can go wrong ----


@pytest.mark.browser
def test_a_file_that_is_no_picture_says_so_and_what_was_there_stays(file, opened):
    page = opened(file, "#target=4")
    before = page.floats("shown", "scores")
    upload(page, "notes.png", b"these are words")
    assert "notes.png could not be read" in page.page.inner_text(".error")
    assert torch.equal(page.floats("shown", "scores"), before)
    assert page.get("picture") == 0
    assert page.page.locator(".thumbs button").count() == 2


@pytest.mark.browser
def test_work_that_is_stopped_leaves_what_was_there_and_the_next_choice_computes(file, opened, demo):
    page = opened(file, "#target=4")
    page.page.evaluate("tokentm.model.set('tab', 'removal')")
    page.page.click("button[name=stop]")
    page.settle()
    assert "Stopped." in page.page.inner_text(".error")
    assert page.get("tab") is None
    page.set(target=0)
    assert page.get("shown")["explained"] == demo.classes[0]
    assert page.get("error") == ""


@pytest.fixture
def opened_under(chromium, file, tmp_path):
    """``opened_under(allowed, instead)``: the page under a policy that does not allow something."""
    pages = []

    def opens(allowed, instead):
        text = file.read_text(encoding="utf-8")
        assert allowed in text
        path = tmp_path / "forbidden.html"
        path.write_text(text.replace(allowed, instead, 1), encoding="utf-8")
        page = chromium.new_page(viewport={"width": 1300, "height": 900})
        pages.append(page)
        page.goto(path.as_uri())
        page.wait_for_selector(".tokentm[data-painted]")
        return Opened(page, [])

    yield opens
    for page in pages:
        page.close()


@pytest.mark.browser
def test_without_webassembly_the_page_says_that_it_is_slower_and_computes_the_same(opened_under, demo, explorer):
    page = opened_under(" 'wasm-unsafe-eval'", "")
    for _ in range(200):
        if page.page.is_visible(".error"):
            break
        page.page.wait_for_timeout(50)
    assert "does not allow WebAssembly" in page.page.inner_text(".error")
    page.set(target=4)
    image = tokentm.prepare(demo.model, explorer._pictures[0]).images
    assert close(page.floats("shown", "scores"), tokentm.explain(demo.model, image, target=4).scores[0])


@pytest.mark.browser
def test_where_workers_are_forbidden_the_page_computes_by_itself(opened_under, demo, explorer):
    page = opened_under("worker-src blob:", "worker-src 'none'")
    page.set(target=4)
    image = tokentm.prepare(demo.model, explorer._pictures[0]).images
    assert close(page.floats("shown", "scores"), tokentm.explain(demo.model, image, target=4).scores[0])
    assert page.get("error") == ""


@pytest.mark.browser
def test_a_phone_shows_it_without_scrolling_sideways(file, opened):
    page = opened(file, width=390, height=800)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
@pytest.mark.parametrize("options", [{"num_classes": 1}, {"num_classes": 3, "in_chans": 1}])
def test_labels_and_grey_models_are_answered_as_by_the_library(tiny, opened, tmp_path, options):
    torch.manual_seed(3)
    model = halved(tiny(depth=2, **options))
    images = torch.randn(1, model.patch_embed.proj.in_channels, *model.patch_embed.img_size)
    trace = tokentm.record(model, images, target=0)
    page = opened(export_html(LayerStepper(trace), tmp_path / "page.html", live=True))
    if options["num_classes"] > 1:
        page.set(target=2)
        trace = tokentm.record(model, images, target=2)
    assert close(page.floats("shown", "values"), trace.probabilities[0])
    assert close(page.floats("shown", "scores"), tokentm.TokenTM()(trace).scores[0], 1e-4)
    assert page.page.locator(".own").count() == 0  # grey pictures are not prepared in a page, so none is asked for


# ---- what would be silently wrong ----


def test_images_of_another_size_than_the_models_own_are_refused():
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, dynamic_img_size=True, depth=2, num_classes=3
    ).eval()
    trace = tokentm.record(model, torch.randn(1, 3, 48, 48))
    with pytest.raises(InvalidOptionError, match=r"\(3, 32, 32\).*found \(3, 48, 48\)"):
        living(LayerStepper(trace))


def test_pictures_that_were_prepared_otherwise_let_a_page_take_none(demo):
    """The model's own configuration halves each value; whoever trained it anew may have done something else."""
    image = tokentm.prepare(demo.model, demo.scene(3).image).images
    assert living(LayerStepper(tokentm.record(demo.model, image))).data["live"]["engine"]["preparing"] is not None
    otherwise = living(LayerStepper(tokentm.record(demo.model, 1.37 * image - 0.1))).data["live"]
    assert otherwise["engine"]["preparing"] is None
    assert "prepared wrongly" in otherwise["engine"]["why"]
    assert otherwise["pictures"][0]["pixels"] is None


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([v2.PILToTensor(), v2.Resize(112), v2.ToDtype(torch.float32, scale=True)], "before it is a tensor"),
        ([v2.Resize(112), v2.Resize(112), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)], "one Resize"),
        ([v2.Resize(112), v2.CenterCrop(112), v2.PILToTensor(), v2.ToDtype(torch.float32)], "Resize, CenterCrop"),
        ([v2.Resize(112), v2.CenterCrop(112), v2.PILToTensor()], "numbers from 0 to 1"),
        ([v2.Resize(112, InterpolationMode.NEAREST), v2.CenterCrop(112)], "bilinear or bicubic"),
    ],
)
def test_a_transform_that_a_page_would_do_otherwise_is_known(demo, parts, said):
    with pytest.raises(InvalidOptionError, match=said):
        preparing(demo.model, v2.Compose([*parts, v2.Normalize([0.5] * 3, [0.5] * 3)]), (112, 112))
    done = [v2.Resize(112), v2.CenterCrop(112), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    known = preparing(demo.model, v2.Compose([*done, v2.Normalize([0.5] * 3, [0.5] * 3)]), (112, 112))
    assert known["filter"] == "bilinear"


def test_half_precision_of_numbers_is_judged_by_the_models_own_numbers():
    class Coarse(torch.nn.Module):
        """Its one output changes by two thirds in half precision."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([1.0003]))

        def forward(self, images):
            return (self.weight - 1).expand(len(images), 1)

    with pytest.raises(InvalidOptionError, match="outputs that differ by"):
        check_halved(Coarse(), torch.zeros(1, 3, 2, 2), "none")


@pytest.mark.browser
def test_a_wrong_file_does_not_undo_a_choice_that_is_under_way(file, opened, demo):
    page = opened(file)
    page.page.evaluate("tokentm.model.set('target', 4)")
    upload(page, "notes.png", b"these are words")
    assert page.get("shown")["explained"] == demo.classes[4]
    assert page.get("target") == 4
    assert page.get("busy") == ""


@pytest.mark.browser
def test_outlier_tokens_are_said_as_the_library_says_it(opened, demo, explorer, tmp_path):
    picture = explorer._pictures[0]
    record = tokentm.record(demo.model, demo.transform(picture)[None])
    model = halved(planted(demo.model, record, (20, 150), 100.0))
    model.pretrained_cfg = demo.model.pretrained_cfg
    looked = explore(model, picture, classes=demo.classes, target=demo.classes.index("car"))
    page = opened(export_html(looked, tmp_path / "page.html", live=True))
    for method in ("tokentm", "legrad"):
        page.page.evaluate("method => tokentm.model.set('method', method)", method)
        page.settle()
        looked.method = method
        found, expected = page.get("trust")["outliers"], looked.trust["outliers"]
        assert found.pop("share") == pytest.approx(expected["share"], rel=1e-3)
        assert found == {name: value for name, value in expected.items() if name != "share"}
        assert found["verdict"] == ("No" if method == "tokentm" else "Mostly")
    assert page.page.locator("input[name='mark outliers']").count() == 1


@pytest.mark.browser
def test_a_method_that_cannot_read_the_model_leaves_the_checks_to_the_others(tiny, opened, tmp_path):
    torch.manual_seed(3)
    model = halved(tiny(depth=2, num_classes=3))  # of two blocks, which AttCAT refuses
    images = torch.randn(1, 3, *model.patch_embed.img_size)
    explorer = explore(model, photograph(40, 40), transform=lambda picture: images[0])
    page = opened(export_html(explorer, tmp_path / "page.html", live=True))
    page.page.click("[name=check]")
    page.page.wait_for_timeout(100)
    page.settle()
    assert page.get("error") == ""
    assert "attcat" not in page.get("trust")["methods"]["others"]
    assert len(page.get("trust")["methods"]["others"]) > 3
