"""explore: every choice is answered by the library's own numbers, and what fails is said."""

from __future__ import annotations

import re
from dataclasses import replace
from io import BytesIO

import ipywidgets
import numpy as np
import pytest
import torch
import traitlets
from browser import accessible, pixel, show, watch
from matplotlib import colormaps
from PIL import Image

import tokentm
from tokentm_widgets import (
    LayerStepper,
    MethodComparison,
    PathExplorer,
    PerturbationPlayer,
    explore,
    export_html,
)

ROWS, COLUMNS, PATCHES = 3, 5, 15
NAMES = ["<b>cat</b>", "dog", "bird", "cow", "hen", "fox", "owl"]


@pytest.fixture(scope="module")
def model(tiny):
    return tiny(img_size=(12, 20), patch_size=4, num_classes=7, depth=2).eval()


@pytest.fixture(scope="module")
def pictures():
    pixels = np.random.default_rng(0).integers(0, 255, (3, 12, 20, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in pixels]


class Normalise:
    """A transform that tells what it normalises with."""

    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)

    def __call__(self, picture):
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        return (pixels - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]


TRANSFORM = Normalise()


@pytest.fixture
def explorer(model, pictures):
    return explore(model, pictures[:2], NAMES, TRANSFORM)


def expected(model, picture, target=None, method="tokentm"):
    return tokentm.explain(model, TRANSFORM(picture)[None], target, method)


def assert_shows(explorer, explanation):
    shown = explorer.overview.shown
    scores = np.frombuffer(shown["scores"], "<f4")
    np.testing.assert_allclose(scores, explanation.scores[0].numpy(), rtol=1e-4)  # streamed, not recorded
    assert shown["unit"] == "softmax"
    odds = np.frombuffer(shown["values"], "<f4")
    np.testing.assert_allclose(odds, explanation.logits[0].softmax(0).numpy(), rtol=1e-5)
    assert shown["target"] == explanation.target.item()
    assert shown["explained"] == NAMES[shown["target"]]
    assert explorer.overview.busy == "" == explorer.overview.error


def test_it_begins_with_the_predicted_class(explorer, model, pictures):
    assert_shows(explorer, expected(model, pictures[0]))
    assert explorer.children == (explorer.overview,)


def test_every_choice_is_answered(explorer, model, pictures):
    explorer.overview.target = 3
    assert_shows(explorer, expected(model, pictures[0], 3))
    explorer.overview.method = "rollout"
    assert_shows(explorer, expected(model, pictures[0], 3, "rollout"))
    explorer.overview.picture = 1  # class and method stay
    assert_shows(explorer, expected(model, pictures[1], 3, "rollout"))
    explorer.overview.target = None
    assert_shows(explorer, expected(model, pictures[1], None, "rollout"))


@pytest.mark.parametrize(
    ("view", "kind"),
    [
        ("layers", LayerStepper),
        ("methods", MethodComparison),
        ("removal", PerturbationPlayer),
        ("paths", PathExplorer),
    ],
)
def test_views_are_of_the_record_shown(explorer, view, kind):
    explorer.overview.target = 2
    explorer.overview.view = view
    assert isinstance(explorer.view, kind)
    assert explorer.children == (explorer.overview, explorer.view)
    assert "bird" in repr(explorer.view)
    first = explorer.view
    explorer.overview.target = 5
    assert explorer.view is not first
    assert "fox" in repr(explorer.view)
    explorer.overview.view = None
    assert explorer.children == (explorer.overview,)


def test_a_view_keeps_what_was_chosen_in_it(explorer):
    explorer.overview.view = "layers"
    explorer.view.layer, explorer.view.head, explorer.view.patch = 1, 1, 7
    explorer.overview.picture = 1
    assert (explorer.view.layer, explorer.view.head, explorer.view.patch) == (1, 1, 7)


def test_one_record_serves_every_method_and_view(explorer, monkeypatch):
    calls = []
    record = tokentm.trace.record
    monkeypatch.setattr("tokentm_widgets.explorer.record", lambda *a, **o: (calls.append(a), record(*a, **o))[1])
    explorer.overview.method = "attention"
    explorer.overview.view = "layers"
    explorer.overview.view = "paths"
    assert calls == []
    explorer.overview.target = 1
    assert len(calls) == 1


def test_rankings_follow_the_method(explorer):
    explorer.overview.view = "removal"
    explorer.overview.method = "legrad"
    assert explorer.view.methods == ["legrad", "rollout", "random"]


def test_where_tokens_cannot_be_dropped_pixels_are_filled(pictures):
    import timm

    torch.manual_seed(0)
    rotary = timm.create_model(
        "vit_small_patch16_rope_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=7
    ).eval()
    for parameter in rotary.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    explorer = explore(rotary, pictures[0].resize((32, 32)), NAMES, TRANSFORM)
    explorer.overview.view = "removal"
    assert repr(explorer.view).endswith("zero)")


def test_a_failure_is_said_and_the_old_map_goes(explorer, monkeypatch):
    def fails(*_):
        raise tokentm.NotFiniteError("expected finite numbers")

    explorer.overview.view = "layers"
    monkeypatch.setitem(tokentm.methods.METHODS, "legrad", fails)
    explorer.overview.method = "legrad"
    assert explorer.overview.error == "expected finite numbers"
    assert explorer.overview.shown == {}
    assert explorer.children == (explorer.overview,)
    assert explorer.overview.busy == ""
    explorer.overview.method = "tokentm"
    assert explorer.overview.error == ""
    assert explorer.overview.shown["method"] == "tokentm"


def test_an_unexpected_failure_is_said_and_raised(explorer, monkeypatch):
    monkeypatch.setitem(tokentm.methods.METHODS, "legrad", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explorer.overview.method = "legrad"
    assert explorer.overview.error == "ZeroDivisionError: division by zero"


def test_a_picture_of_ones_own(explorer, model, pictures):
    buffer = BytesIO()
    pictures[2].save(buffer, "PNG")
    explorer.overview._receive(
        explorer.overview, {"kind": "upload", "name": "mine.png"}, [memoryview(buffer.getvalue())]
    )
    assert explorer.overview.gallery[-1]["name"] == "mine.png"
    assert explorer.overview.picture == 2
    assert_shows(explorer, expected(model, pictures[2]))


def test_a_file_that_is_no_picture_is_refused(explorer):
    explorer.overview._receive(explorer.overview, {"kind": "upload", "name": "notes.txt"}, [b"no picture"])
    assert "expected a picture file" in explorer.overview.error
    assert "notes.txt" in explorer.overview.error
    assert len(explorer.overview.gallery) == 2


def test_a_transform_that_does_not_tell_leaves_the_map_alone(model, pictures):
    explorer = explore(model, pictures[0], NAMES, lambda picture: TRANSFORM(picture))
    assert explorer.overview.shown["picture"] is None
    assert "expected a transform that tells how it normalises" in explorer.overview.shown["note"]
    explorer.overview.view = "layers"
    assert explorer.view._data["pictures"] == []


def test_the_demo_needs_nothing():
    explorer = explore()
    assert len(explorer.overview.gallery) == 5
    for index, entry in enumerate(explorer.overview.gallery):
        explorer.overview.picture = index
        assert explorer.overview.shown["explained"] in entry["name"].split(", ")
    seen = tokentm.seen(explorer.trace.images, (0.5,) * 3, (0.5,) * 3)[0]
    assert explorer.trace.image_size == (112, 112) == seen.size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, "picture.jpg"), "expected a model with these pictures"),
        (("model",), "expected a picture to begin with"),
        (("model", []), "expected a picture to begin with"),
    ],
)
def test_what_cannot_be_explored_is_refused(model, arguments, message):
    arguments = [model if one == "model" else one for one in arguments]
    with pytest.raises(tokentm.InvalidOptionError, match=message):
        explore(*arguments)


def test_wrong_names_are_refused(model, pictures):
    with pytest.raises(tokentm.InvalidOptionError, match="expected a name for each of the 7 classes"):
        explore(model, pictures[0], ["cat"], TRANSFORM)
    assert explore(model, pictures[0], None, TRANSFORM).overview._data["classes"][6] == "class 6"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("picture", 2, "expected picture from 0 to 1; got 2"),
        ("target", 7, "expected target from 0 to 6 or None; got 7"),
        ("method", "magic", "expected a method among tokentm, "),
        ("view", "magic", "expected a view among layers, methods, removal, paths or None; got 'magic'"),
    ],
)
def test_state_that_does_not_exist_is_refused(explorer, name, value, message):
    with pytest.raises(traitlets.TraitError, match=re.escape(message)):
        setattr(explorer.overview, name, value)


def test_repr_and_still_picture(explorer):
    explorer.overview.target = 1
    assert repr(explorer) == "Explorer(Overview(dog; tokentm; 2 pictures), None)"
    data, _ = explorer._repr_mimebundle_()
    assert data["text/plain"] == repr(explorer)
    assert 'alt="Heat map of tokentm for dog, beside the picture"' in data["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in data
    assert isinstance(explorer, ipywidgets.VBox)


def test_an_explorer_is_exported_by_its_parts(explorer, tmp_path):
    with pytest.raises(tokentm.InvalidOptionError, match=r"explorer\.overview or explorer\.view"):
        export_html(explorer, tmp_path / "page.html")


REVERSED = {index: NAMES[index] for index in reversed(range(7))}


@pytest.mark.parametrize(
    "given",
    [lambda: REVERSED, lambda: np.array(NAMES), lambda: (name for name in NAMES), lambda: tuple(NAMES)],
    ids=["dict in reverse order", "array", "generator", "tuple"],
)
def test_bars_targets_figures_and_views_show_the_same_names(model, pictures, given):
    explorer = explore(model, pictures[0], given(), TRANSFORM)
    assert explorer.overview._data["classes"] == NAMES
    for target in (1, 5):
        explorer.overview.target = target
        assert explorer.overview.shown["explained"] == NAMES[target]
        assert explorer.figure().alt.startswith(f"Heat map of tokentm for {NAMES[target]}")
        for view in ("layers", "methods", "paths", "removal"):
            explorer.overview.view = view
            assert NAMES[target] in repr(explorer.view)


@pytest.mark.parametrize("wrong", ["abcdefg", set(NAMES), {name: i for i, name in enumerate(NAMES)}])
def test_what_holds_no_names_in_an_order_is_refused(model, pictures, wrong):
    with pytest.raises(tokentm.InvalidOptionError, match=r"expected .*class names"):
        explore(model, pictures[0], wrong, TRANSFORM)


def test_the_models_own_names_are_used(model, pictures, monkeypatch):
    def named(*arguments, **options):
        return replace(tokentm.record(*arguments, **options), class_names=tuple("abcdefg"))

    monkeypatch.setattr("tokentm_widgets.explorer.record", named)
    assert explore(model, pictures[0], None, TRANSFORM).overview._data["classes"] == list("abcdefg")
    assert explore(model, pictures[0], NAMES, TRANSFORM).overview._data["classes"] == NAMES


def test_a_reading_is_called_by_the_name_that_was_chosen(explorer):
    explorer.overview.method = "tokentm_libragrad"
    assert explorer.overview.shown["method"] == "tokentm_libragrad" == explorer.explanation.method
    assert "tokentm_libragrad" in explorer.figure().alt


@pytest.mark.parametrize(
    ("outputs", "wanted"),
    [
        ("softmax", lambda logits: logits.softmax(0)),
        ("sigmoid", lambda logits: logits.sigmoid()),
        ("none", lambda logits: logits),
    ],
)
def test_the_answer_is_what_the_outputs_mean(model, pictures, outputs, wanted):
    explorer = explore(model, pictures[0], NAMES, TRANSFORM, outputs=outputs)
    shown = explorer.overview.shown
    assert shown["unit"] == outputs
    found = np.frombuffer(shown["values"], "<f4")
    np.testing.assert_allclose(found, wanted(explorer.trace.logits[0]).numpy(), rtol=1e-5)
    explorer.overview.target = 4  # the next record, too
    assert explorer.trace.outputs == explorer.explanation.outputs == outputs


def test_an_unknown_meaning_is_refused(model, pictures):
    with pytest.raises(
        tokentm.InvalidOptionError, match="expected outputs among softmax, sigmoid, probabilities, none"
    ):
        explore(model, pictures[0], NAMES, TRANSFORM, outputs="logits")


def difference(logits):
    return logits[:, 4] - logits[:, 3]


def test_a_function_is_explained_at_first_and_offered_beside_the_classes(model, pictures):
    explorer = explore(model, pictures[:2], NAMES, TRANSFORM, target=difference)
    wanted = expected(model, pictures[0], difference)
    np.testing.assert_allclose(np.frombuffer(explorer.overview.shown["scores"], "<f4"), wanted.scores[0], rtol=1e-4)
    logits = wanted.logits[0]
    assert explorer.overview.shown["explained"] == "chosen score" == explorer.overview.target
    assert explorer.overview.shown["score"] == pytest.approx((logits[4] - logits[3]).item(), rel=1e-5)
    assert explorer.overview.shown["target"] is None
    explorer.overview.target = 2
    assert_shows(explorer, expected(model, pictures[0], 2))
    explorer.overview.picture, explorer.overview.target = 1, "chosen score"
    wanted = expected(model, pictures[1], difference)
    np.testing.assert_allclose(np.frombuffer(explorer.overview.shown["scores"], "<f4"), wanted.scores[0], rtol=1e-4)
    explorer.overview.target = None
    assert_shows(explorer, expected(model, pictures[1]))
    explorer.overview.target = "chosen score"
    explorer.overview.view = "layers"
    assert "chosen score" in repr(explorer.view)


@pytest.mark.parametrize("target", [5, np.int64(5), torch.tensor(5)])
def test_a_class_can_be_explained_at_first(model, pictures, target):
    explorer = explore(model, pictures[0], NAMES, TRANSFORM, target=target)
    assert explorer.overview.target == 5
    assert_shows(explorer, expected(model, pictures[0], 5))
    with pytest.raises(traitlets.TraitError, match="expected target from 0 to 6 or None; got 'chosen score'"):
        explorer.overview.target = "chosen score"


@pytest.mark.parametrize("target", ["fox", True, 1.5, [1, 2]])
def test_no_other_target_is_taken(model, pictures, target):
    with pytest.raises(tokentm.InvalidTargetError, match="expected one class index, or a function of the logits"):
        explore(model, pictures[0], NAMES, TRANSFORM, target=target)


def test_a_class_that_does_not_exist_is_refused(model, pictures):
    with pytest.raises(tokentm.InvalidTargetError, match="expected class indices from 0 to 6"):
        explore(model, pictures[0], NAMES, TRANSFORM, target=7)


def test_a_model_without_classes_is_opened_with_a_function(tiny, pictures):
    features = tiny(img_size=(12, 20), patch_size=4, num_classes=0, depth=2).eval()
    explorer = explore(features, pictures[0], None, TRANSFORM, outputs="none", target=lambda f: f[:, 0] + f[:, 1])
    assert explorer.overview.shown["explained"] == "chosen score"
    assert explorer.overview._data["classes"][23] == "output 23"
    assert explorer.overview._data["predicts"] is False
    explorer.overview.target = 3
    assert explorer.overview.shown["explained"] == "output 3"
    with pytest.raises(tokentm.InvalidTargetError):
        explore(features, pictures[0], None, TRANSFORM)


def test_the_demo_takes_a_target():
    assert explore(target=3).overview.shown["target"] == 3
    assert explore(target=difference).overview.shown["explained"] == "chosen score"


@pytest.mark.parametrize("name", ["picture", "target"])
def test_a_truth_value_is_no_index(explorer, name):
    with pytest.raises(traitlets.TraitError, match=f"expected {name} from 0 to .*; got True"):
        setattr(explorer.overview, name, True)


def test_the_shift_of_the_tokens_is_sent(explorer):
    assert explorer.overview.shown["offset"] == [0.0, 0.0]
    shifted = replace(explorer.explanation, offset=(0.5, 0.25))
    explorer.overview.show(shifted, "dog", 1.0, None, "")
    assert explorer.overview.shown["offset"] == [0.5, 0.25]


# ---- in the browser: the exported page stands in for Jupyter, and the test for the kernel ----


@pytest.fixture
def page(chromium_page, explorer):
    wrong = watch(chromium_page)
    explorer.overview.target = 0
    show(chromium_page, explorer.overview)
    painted(chromium_page, "0 0 tokentm  false true")
    yield chromium_page
    assert wrong == []


def painted(page, expected):
    page.wait_for_selector(f"#first .tokentm[data-painted='{expected}'], #widget .tokentm[data-painted='{expected}']")


def answer(page, explorer):
    """What the kernel would send back."""
    shown = explorer.overview.shown
    sent = {name: list(value) if isinstance(value, bytes) else value for name, value in shown.items()}
    page.evaluate(
        """(sent) => {
             const view = (list) => new DataView(Uint8Array.from(list).buffer);
             model.set("busy", "recording");
             model.set("shown", { ...sent, scores: view(sent.scores), values: view(sent.values) });
             model.set("busy", "");
           }""",
        sent,
    )


@pytest.mark.browser
def test_the_map_is_the_librarys(page, explorer):
    page.evaluate("model.set('opacity', 1)")
    scores = explorer.explanation.scores[0].numpy()
    wanted = colormaps["viridis"]((scores - scores.min()) / np.ptp(scores))[:, :3] * 255
    page.wait_for_timeout(100)
    shares = np.sqrt((scores - scores.min()) / np.ptp(scores))  # how much of its colour lies over the grey picture
    for patch in range(PATCHES):
        found = np.array(pixel(page, "map", patch, COLUMNS, ROWS))
        if shares[patch] > 0.97:
            assert np.abs(wanted[patch] - found).max() <= 10, patch
        else:
            under = (found - shares[patch] * wanted[patch]) / (1 - shares[patch])
            assert np.ptp(under) <= 8 / (1 - shares[patch]), patch  # a shade of grey
    odds = explorer.trace.logits[0].softmax(0)
    texts = page.locator("#first .answer button[data-class]").all_inner_texts()
    top = odds.argsort(descending=True)[:5].tolist()
    for text, c in zip(texts, top, strict=False):
        assert text.split("\n")[0] == NAMES[c]
        assert float(text.split("\n")[1].removesuffix(" %")) == pytest.approx(100 * odds[c].item(), abs=0.051)
    assert page.locator("#first b").count() == 0


@pytest.mark.browser
def test_a_class_is_chosen_and_the_answer_drawn(page, explorer):
    page.evaluate("model.asked = []")
    page.locator("#first .answer button[data-class]").nth(1).click()
    chosen = page.evaluate("model.get('target')")
    assert page.inner_text("#first .status") == "Asking the kernel …"
    explorer.overview.target = chosen
    answer(page, explorer)
    painted(page, f"0 {chosen} tokentm  false true")
    pressed = page.locator("#first .answer button[aria-pressed=true]")
    assert pressed.get_attribute("data-class") == str(chosen)
    assert pressed.evaluate("(chip) => chip === document.activeElement")  # the keyboard stays where it was
    assert page.inner_text("#first .status").startswith("What each patch contributes to")


@pytest.mark.browser
@pytest.mark.parametrize("typed", ["5: fox", "fox", "5", "FO"])
def test_any_class_is_found_by_number_or_name(page, typed):
    page.fill("#first input[name=target]", typed)
    page.press("#first input[name=target]", "Enter")
    page.wait_for_function("model.get('target') === 5")


@pytest.mark.browser
def test_a_narrow_cell_in_a_wide_window_shows_everything(page):
    page.evaluate("document.querySelector('#first').style.width = '420px'")
    columns = "getComputedStyle(document.querySelector('#first .overview')).gridTemplateColumns.split(' ')"
    page.wait_for_function(f"{columns}.length === 2")
    left, right = (float(width.removesuffix("px")) for width in page.evaluate(columns))
    assert left == pytest.approx(right, abs=1)
    assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('#first .tokentm'))")


@pytest.mark.browser
def test_colours_that_are_data_stay_where_a_system_or_a_printer_takes_colours_away(page):
    page.emulate_media(forced_colors="active")
    style = "getComputedStyle(document.querySelector('#first {}')).{}"
    assert "rgba" in page.evaluate(style.format(".scale i", "backgroundImage"))
    pressed = page.evaluate(style.format(".answer [aria-pressed=true]", "outlineStyle"))
    page.emulate_media(forced_colors="none", media="print")
    exact = page.evaluate(style.format(".answer i", "printColorAdjust"))
    page.emulate_media(media="screen")
    assert (pressed, exact) == ("solid", "exact")


@pytest.mark.browser
def test_an_unknown_class_is_said(page):
    page.fill("#first input[name=target]", "unicorn")
    page.press("#first input[name=target]", "Enter")
    page.wait_for_function(
        "document.querySelector('#first .status').textContent.startsWith('There is no class unicorn')"
    )
    assert page.get_attribute("#first input[name=target]", "aria-invalid") == "true"
    assert page.evaluate("model.get('target')") == 0


@pytest.mark.browser
def test_a_silent_kernel_is_said(page):
    page.locator("#first .thumbs button").nth(1).click()
    page.wait_for_function(
        "document.querySelector('#first .status').textContent.startsWith('The kernel does not answer')"
    )
    page.evaluate("model.set('busy', 'recording')")
    page.wait_for_function("document.querySelector('#first .status').textContent === 'Working: recording …'")


@pytest.mark.browser
def test_an_error_takes_the_map_away(page):
    page.evaluate("model.set('shown', {}); model.set('error', '<i>expected</i> this; got that')")
    page.wait_for_function("document.querySelector('#first .error').textContent === '<i>expected</i> this; got that'")
    assert page.locator("#first canvas").count() == 0
    assert page.get_attribute("#first .error", "role") == "alert"


@pytest.mark.browser
def test_a_patch_is_read_in_both(page, explorer):
    box = page.locator("#first canvas[data-panel=image]").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.5)  # row 2, column 4
    page.wait_for_function("document.querySelector('#first .here').textContent === 'row 2, column 4'")
    text = page.locator("#first .here").nth(1).inner_text()
    assert float(text.removeprefix("here ")) == pytest.approx(explorer.explanation.scores[0, 8].item(), rel=0.06)
    page.focus("#first canvas[data-panel=image]")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("document.querySelector('#first .here').textContent === 'row 2, column 3'")


@pytest.mark.browser
def test_a_file_is_sent_whole(page, pictures, tmp_path):
    pictures[2].save(tmp_path / "mine.png")
    page.evaluate(
        "() => { model.send = (message, callbacks, buffers) => { window.sent = [message, buffers[0].byteLength]; }; }"
    )
    page.set_input_files("#first input[name=upload]", tmp_path / "mine.png")
    page.wait_for_function("window.sent")
    assert page.evaluate("sent") == [{"kind": "upload", "name": "mine.png"}, (tmp_path / "mine.png").stat().st_size]


@pytest.mark.browser
def test_views_open_and_close(page):
    page.click("#first button[name=paths]")
    assert page.evaluate("model.get('view')") == "paths"
    page.wait_for_selector("#first button[name=paths][aria-pressed=true]")
    page.click("#first button[name=paths]")
    assert page.evaluate("model.get('view')") is None


@pytest.mark.browser
def test_a_closed_view_leaves_no_listener(page):
    page.evaluate("close_first()")
    assert page.evaluate("Object.values(listeners).flat().length") == 0


@pytest.mark.browser
def test_axe_finds_nothing(page):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert accessible(page) == []
    page.emulate_media(color_scheme="light")


# ---- what the answer panel says ----


def panel(page, explorer):
    """Opens the explorer's page and gives (name, value) of every button of the answer, in order."""
    wrong = watch(page)
    show(page, explorer.overview)
    page.wait_for_selector("#first .answer button[data-class]")
    assert wrong == []
    assert accessible(page) == []
    return [text.split("\n") for text in page.locator("#first .answer button[data-class]").all_inner_texts()]


def bar(page, index, kind="i"):
    """Left end and width of a bar, in shares of its button."""
    return (
        page.locator("#first .answer button[data-class]")
        .nth(index)
        .evaluate(
            """(chip, kind) => {
                 const [whole, part] = [chip, chip.querySelector(kind)].map((one) => one.getBoundingClientRect());
                 return [(part.left - whole.left - chip.clientLeft) / chip.clientWidth, part.width / chip.clientWidth];
               }""",
            kind,
        )
    )


@pytest.mark.browser
def test_labels_are_independent(chromium_page, model, pictures):
    explorer = explore(model, pictures[0], NAMES, TRANSFORM, outputs="sigmoid")
    rows = panel(chromium_page, explorer)
    odds = explorer.trace.logits[0].sigmoid()
    assert chromium_page.inner_text("#first .answer strong") == "The model's answer: independent labels"
    for i, (name, value) in enumerate(rows):
        of = odds[NAMES.index(name)].item()
        assert float(value.removesuffix(" %")) == pytest.approx(100 * of, abs=0.051)
        assert bar(chromium_page, i) == pytest.approx([0, of], abs=0.01)
    assert chromium_page.locator("#first .answer label").inner_text().strip() == "Other label"


@pytest.mark.browser
def test_a_single_logit_is_yes_or_no(chromium_page, tiny, pictures):
    one = tiny(img_size=(12, 20), patch_size=4, num_classes=1).eval()
    explorer = explore(one, pictures[0], ["malignant"], TRANSFORM, outputs="sigmoid")
    ((name, value),) = panel(chromium_page, explorer)
    assert chromium_page.inner_text("#first .answer strong") == "The model's answer: yes / no"
    assert name == "malignant"
    assert float(value.removesuffix(" %")) == pytest.approx(100 * explorer.trace.logits.sigmoid().item(), abs=0.051)
    assert chromium_page.locator("#first .answer input, #first .answer [name=predicted]").count() == 0


@pytest.mark.browser
def test_outputs_without_probabilities_are_signed_numbers(chromium_page, tiny, pictures):
    four = tiny(img_size=(12, 20), patch_size=4, num_classes=4).eval()
    explorer = explore(four, pictures[0], ["x", "y", "width", "height"], TRANSFORM, outputs="none")
    values = explorer.trace.logits[0].tolist()
    assert min(values) < 0 < max(values), "the test is of both signs"
    rows = panel(chromium_page, explorer)
    assert [name for name, _ in rows] == ["x", "y", "width", "height"]  # all find room: in the model's own order
    assert "%" not in chromium_page.inner_text("#first .answer")
    assert chromium_page.inner_text("#first .answer strong") == "The model's outputs"
    low, span = min(values), max(values) - min(values)
    for i, (value, (_, text)) in enumerate(zip(values, rows, strict=True)):
        assert float(text) == pytest.approx(value, rel=0.01)
        left, width = bar(chromium_page, i)
        assert width == pytest.approx(abs(value) / span, abs=0.01)
        assert left == pytest.approx((min(0, value) - low) / span, abs=0.01)
        zero, _ = bar(chromium_page, i, "i.zero")
        assert zero == pytest.approx(-low / span, abs=0.01)


@pytest.mark.browser
def test_the_chosen_score_is_the_first_entry(chromium_page, model, pictures):
    explorer = explore(model, pictures[0], NAMES, TRANSFORM, target=difference)
    first, *others = panel(chromium_page, explorer)
    score = explorer.trace.scores.item()
    assert first[0] == "chosen score"
    assert float(first[1]) == pytest.approx(score, rel=0.01)
    assert len(others) == 5
    assert chromium_page.locator("#first .answer datalist option").first.get_attribute("value") == "chosen score"
    pressed = chromium_page.locator("#first .answer button[data-class][aria-pressed=true]")
    assert pressed.all_inner_texts() == ["\n".join(first)]
    caption = chromium_page.locator("#first figcaption").nth(1).inner_text()
    assert caption == f"tokentm: chosen score ({first[1]})"
    chromium_page.evaluate("model.set('target', 2)")
    chromium_page.fill("#first input[name=target]", "chosen score")
    chromium_page.press("#first input[name=target]", "Enter")
    chromium_page.wait_for_function("model.get('target') === 'chosen score'")


@pytest.mark.browser
def test_on_a_phone_both_maps_are_equally_wide_and_the_caption_whole(chromium_page, model, pictures):
    long = ["a name of a class that is far too long for any phone to show in one line", *NAMES[1:]]
    explorer = explore(model, pictures[0], long, TRANSFORM, outputs="none", target=difference)
    chromium_page.set_viewport_size({"width": 420, "height": 800})
    panel(chromium_page, explorer)
    boxes = [chromium_page.locator(f"#first canvas[data-panel={name}]").bounding_box() for name in ("image", "map")]
    assert boxes[0]["width"] == pytest.approx(boxes[1]["width"], abs=1)
    assert boxes[0]["y"] == pytest.approx(boxes[1]["y"], abs=1)
    assert chromium_page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    caption = chromium_page.locator("#first figcaption").nth(1)
    assert caption.evaluate("(one) => one.scrollWidth <= one.clientWidth && one.scrollHeight <= one.clientHeight")
    assert "contributes to the chosen score" in chromium_page.inner_text("#first .status")
