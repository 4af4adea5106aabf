"""The layer stepper: what it sends, what its attributes accept, and what a real browser draws of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import traitlets
from browser import accessible, pixel, show, watch
from matplotlib import colormaps
from PIL import Image

import tokentm
from tokentm_widgets import LayerStepper, export_html, layer_panels, layer_stepper, payload

ROWS, COLUMNS, PATCHES = 3, 5, 15
NAMES = ["<b>cat</b>", "dog & co", "bird"]


@pytest.fixture(scope="module")
def model(tiny):
    """A non-square grid of 3 x 5 patches, a class token and two registers."""
    return tiny(img_size=(12, 20), patch_size=4, num_classes=3, depth=3, num_heads=3, reg_tokens=2)


@pytest.fixture(scope="module")
def trace(model):
    """One picture, three classes."""
    torch.manual_seed(1)
    return tokentm.record(model, torch.randn(1, 3, 12, 20).expand(3, -1, -1, -1), target=[0, 1, 2])


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def page(chromium_page, trace):
    """The stepper without a picture, so that a pixel is a colour of the colour map and nothing else."""
    wrong = watch(chromium_page)
    show(chromium_page, LayerStepper(trace, classes=NAMES, layer=0))
    yield chromium_page
    assert wrong == []


def painted(page, expected, root="#first"):
    page.wait_for_selector(f"{root} .tokentm[data-painted='{expected}']", timeout=5000)


def expected_colours(values, beyond=None):
    """Colours of a term, from nothing to its largest value; ``beyond`` is not drawn to scale."""
    values = np.asarray(values, dtype=float)
    kept = np.delete(values, beyond) if beyond is not None else values
    low = min(0, kept.min())
    return colormaps["viridis"](((values - low) / (kept.max() - low)).clip(0, 1))[:, :3] * 255


def powers(values):
    """How far from their average factors are, in powers of two."""
    values = np.asarray(values, dtype=float)
    return np.log2(values / values.mean())


def expected_factors(values, most):
    return colormaps["PuOr"]((powers(values) / most + 1) / 2)[:, :3] * 255


def assert_panel(page, panel, wanted, beyond=None, tolerance=6):
    for patch in range(PATCHES):
        if patch != beyond:
            found = pixel(page, panel, patch, COLUMNS, ROWS)
            assert np.abs(wanted[patch] - found).max() <= tolerance, (panel, patch, wanted[patch], found)


def assert_panels(page, shown, patch=None, tolerance=6):
    """All terms of the formula are drawn as the library has them."""
    for panel in ("attention", "product", "update", "contribution"):
        beyond = patch if panel == "contribution" else None
        assert_panel(page, panel, expected_colours(shown[panel], beyond), beyond, tolerance)
    most = max(0.25, *(np.abs(powers(shown[name])).max() for name in ("ratio", "necc")))
    for panel in ("ratio", "necc"):
        assert_panel(page, panel, expected_factors(shown[panel], most))


def maps(trace, layer, index=0, head=None, patch=None):
    """What the panels must show, from the library alone."""
    step = list(tokentm.TokenTM().steps(trace))[layer]
    prefix = trace.layout.prefix
    heads = slice(None) if head is None else [head]
    row = 0 if patch is None else prefix + patch  # token 0 is the class token, the readout of this model
    attention, weight = trace.layers[layer].attention[index, heads, row], step.weight[index, heads]
    gradient = trace.layers[layer].gradient[index, heads, row]
    return {
        "attention": attention.mean(0)[prefix:],
        "weight": weight.mean(0)[prefix:],
        "ratio": step.length_ratio[index, heads].mean(0)[prefix:],
        "necc": step.cosine[index, heads].softmax(-1).mean(0)[prefix:],
        "product": (attention * weight).mean(0)[prefix:],
        "update": (gradient * attention * weight).relu().mean(0)[prefix:],
        "contribution": step.contribution[index, row, prefix:],
    }


def decode(coded, shape):
    low, high = (np.frombuffer(coded[end], "<f4").reshape(shape[:-1])[..., None] for end in ("low", "high"))
    return low + np.frombuffer(coded["codes"], np.uint8).reshape(shape) / 255 * (high - low), high - low


LAYERS, HEADS = 3, 3


def rows_in(data, index, head, patch, name):
    """Rows (L, P) of a patch as they are sent, through a head or all of them, and how far each reaches."""
    for rows in data["taken"]:
        if index not in rows["indices"] or patch not in rows["patches"] or name not in rows:
            continue
        heads = rows["heads"]
        wanted = [heads.index(head)] if head in heads else range(HEADS) if head == layer_panels.MEAN else None
        if name == "contribution":
            wanted = [0]
        if wanted is None or len(heads) < len(wanted):
            continue
        of_scores = len(rows["indices"]) if name in ("update", "contribution") else 1
        of_heads = 1 if name == "contribution" else len(heads)
        shape = (of_scores, LAYERS, of_heads, len(rows["patches"]), PATCHES)
        score = rows["indices"].index(index) if of_scores > 1 else 0
        both = (of[score, :, :, rows["patches"].index(patch)] for of in decode(rows[name], shape))
        return tuple(of[:, list(wanted)].mean(1) for of in both)
    return None


def assert_rows(data, trace, heads=(layer_panels.MEAN,), names=("attention", "product", "update"), patches=(0, 7, 14)):
    """Rows are the library's, to half a code."""
    for index, head, patch, name in product(range(3), heads, patches, names):
        found, span = rows_in(data, index, head, patch, name)
        for layer in range(LAYERS):
            of = None if head == layer_panels.MEAN else head
            wanted = maps(trace, layer, index, of, patch)[name].numpy()
            assert (np.abs(found[layer] - wanted) <= span[layer] * 0.00197 + 1e-9).all(), (index, head, patch, name)


def assert_contribution(data, trace, patches=(0, 7, 14)):
    """Bytes resolve the other patches, and cap the patch itself."""
    for index, patch in product(range(3), patches):
        found, span = rows_in(data, index, layer_panels.MEAN, patch, "contribution")
        others = np.arange(PATCHES) != patch
        for layer in range(LAYERS):
            wanted = maps(trace, layer, index, patch=patch)["contribution"].numpy()
            close = np.abs(found[layer] - wanted) <= span[layer] * 0.00197 + 1e-9
            assert close[others].all()
            assert found[layer][patch] < wanted[patch]


def test_bytes_hold_the_patch_rows_to_half_a_code(trace):
    data = LayerStepper(trace)._data
    assert_rows(data, trace, patches=range(PATCHES))
    assert_contribution(data, trace, patches=range(PATCHES))


def answer(stepper, **asked):
    """What the kernel sends when it is asked, as the front end puts it together."""
    sent = []
    stepper.send = lambda content, buffers: sent.append((content, buffers))
    stepper._answer(stepper, {"kind": "rows", "index": 0, "head": None, "patch": None, **asked}, [])
    [(content, buffers)] = sent
    rows = dict(content["rows"])
    for (name, part), one in zip(content["parts"], buffers, strict=True):
        rows.setdefault(name, {})[part] = one
    return rows


@pytest.mark.parametrize("size", [10**9, 0], ids=["small", "large"])
def test_what_the_kernel_answers_is_what_is_sent_at_once(trace, monkeypatch, size):
    """One patch through all heads, or all patches through one: the same bytes, whoever asks for what."""
    monkeypatch.setattr(layer_stepper, "AT_ONCE", size)
    stepper = LayerStepper(trace)
    page = stepper.offline_data()["taken"]
    assert len(stepper._data["taken"]) == (1 if size else 0)
    assert_rows({"taken": page}, trace, range(HEADS), ("attention", "update"))
    of = {name: (3 if name != "attention" else 1, LAYERS, HEADS, PATCHES, PATCHES) for name in ("attention", "update")}
    whole = {name: np.frombuffer(page[0][name]["codes"], np.uint8).reshape(shape) for name, shape in of.items()}
    for index, patch in ((0, 4), (2, 14)):
        rows = answer(stepper, index=index, patch=patch)
        assert (rows["indices"], rows["heads"], rows["patches"]) == ([index], [0, 1, 2], [patch])
        assert rows["attention"]["codes"] == whole["attention"][0, :, :, patch].tobytes()
        assert rows["update"]["codes"] == whole["update"][index, :, :, patch].tobytes()
        found, _ = decode(rows["contribution"], (LAYERS, PATCHES))
        wanted, _ = rows_in({"taken": page}, index, 0, patch, "contribution")
        np.testing.assert_array_equal(found, wanted)
    rows = answer(stepper, index=1, head=2)
    assert (rows["heads"], len(rows["patches"])) == ([2], PATCHES)
    assert rows["attention"]["codes"] == whole["attention"][0, :, 2].tobytes()
    assert rows["update"]["codes"] == whole["update"][1, :, 2].tobytes()
    assert "contribution" not in rows  # it was sent


def test_rows_are_read_without_walking_through_the_layers_again(trace, monkeypatch):
    stepper = LayerStepper(trace)
    monkeypatch.setattr(tokentm.TokenTM, "steps", lambda *_: pytest.fail("walked"))
    answer(stepper, patch=3)
    answer(stepper, head=1)
    stepper.layer, stepper.patch, stepper.head = 2, 4, 1
    assert len(stepper.shown()) == 7
    stepper.offline_data()


class Halved(tokentm.TokenTM):
    """A reading that walks in its own way."""

    def steps(self, trace):
        for step in super().steps(trace):
            yield replace(step, head_mixing=step.head_mixing / 2, mixing=step.mixing / 2)


@pytest.mark.parametrize("reading", [{"head_mean": "before"}, {"transformed": "stream"}, {"gradient": False}], ids=str)
def test_other_readings_have_their_own_rows(trace, reading):
    method = tokentm.TokenTM(**reading)
    stepper = LayerStepper(trace, method=method, patch=4, head=1, layer=2)
    step = list(method.steps(trace))[2]
    wanted = step.head_mixing[0, 1 if step.head_mixing.shape[1] > 1 else 0, 3 + 4, 3:]
    torch.testing.assert_close(stepper.shown()["Update"], wanted)
    found, span = decode(answer(stepper, patch=4)["update"], (LAYERS, HEADS, PATCHES))
    assert (np.abs(found[2, 1] - wanted.numpy()) <= span[2, 1] * 0.00197 + 1e-9).all()


def test_a_reading_that_walks_in_its_own_way_is_asked_for_its_rows(trace):
    plain, halved = LayerStepper(trace, patch=4), LayerStepper(trace, method=Halved(), patch=4)
    torch.testing.assert_close(halved.shown()["Update"] * 2, plain.shown()["Update"])


def test_readout_rows_are_exact(trace):
    sent = LayerStepper(trace)._data
    attention = np.frombuffer(sent["attentionReadout"], "<f4").reshape(1, 3, 3, PATCHES)
    update = np.frombuffer(sent["updateReadout"], "<f4").reshape(3, 3, 3, PATCHES)
    for layer in range(3):
        for head in range(3):
            wanted = maps(trace, layer, index=2, head=head)
            np.testing.assert_allclose(attention[0, layer, head], wanted["attention"], rtol=1e-6)
            np.testing.assert_allclose(update[2, layer, head], wanted["update"], rtol=1e-5, atol=1e-9)


def test_one_picture_for_many_classes_is_sent_once(trace):
    found = LayerStepper(trace)._data
    assert found["imageOf"] == [0, 0, 0]
    [rows] = found["taken"]
    assert rows["indices"] == [0, 1, 2]
    assert len(rows["attention"]["codes"]) == LAYERS * PATCHES**2
    assert len(rows["contribution"]["codes"]) == 3 * LAYERS * PATCHES**2


def test_a_row_of_equal_values_keeps_its_value():
    sent = payload.quantise(torch.full((2, 4), 0.5))
    assert set(sent["codes"]) == {0}
    assert np.frombuffer(sent["low"], "<f4").tolist() == [0.5, 0.5] == np.frombuffer(sent["high"], "<f4").tolist()


def test_rows_that_are_too_many_wait_until_somebody_looks(trace, monkeypatch):
    every = len(LayerStepper(trace)._data["taken"])
    monkeypatch.setattr(layer_stepper, "AT_ONCE", LAYERS * PATCHES**2 * (1 + 3 + 3) - 1)
    assert (every, LayerStepper(trace)._data["taken"]) == (1, [])


def test_a_page_holds_all_heads_and_no_row_that_is_a_mean_of_others(trace):
    [rows] = LayerStepper(trace).offline_data()["taken"]
    assert (rows["heads"], len(rows["patches"]), "product" in rows) == ([0, 1, 2], PATCHES, False)
    assert len(rows["attention"]["codes"]) == LAYERS * HEADS * PATCHES**2  # once for three classes


def test_a_page_of_few_heads_has_those_and_the_mean_of_all(trace):
    data = LayerStepper(trace).offline_data(heads=[2, 0])
    assert data["offered"] == [0, 2]
    assert [rows["heads"] for rows in data["taken"]] == [[layer_panels.MEAN], [0, 2]]
    assert_rows(data, trace)
    assert_rows(data, trace, (0, 2), ("attention", "update"))
    assert LayerStepper(trace).offline_data(heads=[])["offered"] == []


def test_a_page_that_cannot_hold_all_holds_the_patches_that_contribute_most(trace, monkeypatch):
    monkeypatch.setattr(layer_stepper, "STRONGEST", 2)
    monkeypatch.setattr(layer_stepper, "IN_A_PAGE", PATCHES * LAYERS * PATCHES * ((1 + 3) * HEADS + 3) - 1)
    stepper = LayerStepper(trace)
    [rows] = stepper.offline_data()["taken"]
    top = {patch for index in range(3) for patch in maps(trace, 2, index)["contribution"].topk(2).indices.tolist()}
    assert rows["patches"] == sorted(top)
    assert_rows({"taken": [rows]}, trace, range(HEADS), ("attention", "update"), sorted(top))
    monkeypatch.setattr(layer_stepper, "IN_A_PAGE", 10)  # not even one patch
    assert stepper.offline_data()["taken"] == []
    assert len(stepper.offline_data(patches=1)["taken"][0]["patches"]) <= 3  # but who asks for them has them


@pytest.mark.parametrize("heads", [[3], [-1], 2, "0", [0.5]])
def test_heads_that_do_not_exist_are_refused(trace, heads):
    with pytest.raises(tokentm.InvalidOptionError, match=r"expected heads from 0 to 2, as heads=\[0, 2\]; got"):
        LayerStepper(trace).offline_data(heads=heads)


@pytest.mark.parametrize("patches", [-1, True, 1.5])
def test_a_number_of_patches_that_is_none_is_refused(trace, patches):
    with pytest.raises(tokentm.InvalidOptionError, match="expected a number of patches, 0 or more, or None for all"):
        LayerStepper(trace).offline_data(patches=patches)


@pytest.mark.parametrize(("name", "value"), [("layer", 3), ("layer", -1), ("head", 3), ("index", 3), ("patch", 15)])
def test_state_out_of_range_is_refused_and_nothing_changes(trace, name, value):
    stepper = LayerStepper(trace)
    before = getattr(stepper, name)
    with pytest.raises(traitlets.TraitError, match=f"expected {name} from 0 to"):
        setattr(stepper, name, value)
    assert getattr(stepper, name) == before


def test_none_is_refused_where_there_is_no_mean(trace):
    with pytest.raises(traitlets.TraitError):
        LayerStepper(trace).layer = None


def test_wrong_names_and_pictures_are_refused(trace, picture):
    with pytest.raises(tokentm.InvalidOptionError, match="expected a name for each of the 3 classes; got 2"):
        LayerStepper(trace, classes=["a", "b"])
    with pytest.raises(tokentm.InvalidOptionError, match="expected 1 picture or one for each of the 3"):
        LayerStepper(trace, images=[picture, picture])


def test_different_images_are_chosen_as_images(model, trace, picture):
    other = tokentm.record(model, torch.randn(2, 3, 12, 20), target=[1, 1])
    stepper = LayerStepper(other, images=[picture, picture], classes=NAMES)
    assert stepper._data["choice"] == "Image"
    assert stepper._data["names"] == ["1: dog & co", "2: dog & co"]
    assert stepper._data["imageOf"] == [0, 1]
    assert LayerStepper(trace)._data["choice"] == "Class"


@pytest.mark.parametrize(
    ("readout", "name"),
    [
        ([1, 0, 0], "class token"),
        ([0.5, 0.5, 0], "class and distillation token"),
        ([0, 0.5, 0.5], "mean of 2 tokens"),
        ([0, 0.2, 0.8], "attention pooling of 2 tokens"),
    ],
)
def test_the_readout_has_a_name(trace, readout, name):
    assert payload.readout_name(replace(trace, readout=torch.tensor([readout]))) == name


def test_repr_holds_no_address_and_the_bundle_a_picture(trace, picture):
    stepper = LayerStepper(trace, images=picture, classes=["cat", "dog", "bird"])
    assert repr(stepper) == "LayerStepper(cat, dog, bird; 3 layers, 3 x 5 patches)"
    data, _ = stepper._repr_mimebundle_()
    assert data["text/plain"] == repr(stepper)
    assert "image/png" not in data  # the same picture twice would double a saved notebook
    assert (
        'in layer 3 of 3, mean of heads, as the readout takes them, for cat" src="data:image/png' in data["text/html"]
    )
    assert "application/vnd.jupyter.widget-view+json" in data


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"layer": 2, "index": 1},
        {"layer": 1, "head": 2},
        {"layer": 2, "head": 0, "patch": 8, "index": 2},
    ],
    ids=str,
)
def test_the_figure_is_what_the_panels_show(trace, picture, state):
    stepper = LayerStepper(trace, images=picture, classes=NAMES, **state)
    wanted = list(maps(trace, **{"layer": 2, **state}).values())
    titles = ["Attention A", "Transformation W", "Length ratio", "NECC", "A · W", "Update", "Contribution so far"]
    assert sorted(stepper.shown()) == sorted(titles)
    drawn = {axis.get_title(): axis.images[-1].get_array() for axis in stepper.figure().axes if axis.get_title()}
    assert next(iter(drawn)) == "image"
    others = np.arange(PATCHES) != state.get("patch", -1)
    for title, values in zip(titles, wanted, strict=True):
        torch.testing.assert_close(stepper.shown()[title], values, rtol=1e-4, atol=1e-7)
        found = drawn[title].flatten()
        np.testing.assert_allclose(found[others], values.numpy()[others], rtol=1e-4, atol=1e-7)
        assert title != "Contribution so far" or found.max() == found[others].max()


def test_it_opens_where_the_map_is_complete(trace):
    assert LayerStepper(trace).layer == 2
    assert LayerStepper(trace, layer=1).layer == 1


@pytest.mark.browser
def test_every_panel_shows_the_librarys_numbers(page, trace):
    painted(page, "0  0  false")
    assert_panels(page, maps(trace, layer=0))


@pytest.mark.browser
def test_arrow_keys_step_through_the_layers(page, trace):
    page.focus("#first input[name=layer]")
    page.keyboard.press("ArrowRight")
    painted(page, "1  0  false")
    page.wait_for_function("model.saved.length === 1")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")  # beyond the last layer nothing moves
    painted(page, "2  0  false")
    assert page.inner_text("#first .shown") == "3 of 3"
    assert page.inner_text("#first h2") == "How <b>cat</b> came about: layer 3 of 3"
    page.wait_for_timeout(100)  # for what should not come
    assert page.evaluate("model.saved") == [1, 2]
    assert_panels(page, maps(trace, layer=2))


@pytest.mark.browser
def test_class_and_head_change_what_depends_on_them(page, trace):
    page.click("#first button[name=index][data-value='2']")
    page.click("#first button[name=head][data-value='1']")
    page.evaluate("model.set('layer', 1)")
    painted(page, "1 1 2  false")
    assert_panels(page, maps(trace, layer=1, index=2, head=1))
    assert "Head 2 alone" in page.inner_text("#first .status")


@pytest.mark.browser
def test_a_thumbnail_chooses_its_layer_and_head(page):
    page.click("#first button[data-layer='1']:not([data-head])")
    painted(page, "1  0  false")
    page.click("#first button[data-layer='2'][data-head='1']")
    painted(page, "2 1 0  false")
    assert page.locator("#first .whole button.on").count() == 2
    page.click("#first button[name=head][data-value='']")
    painted(page, "2  0  false")


@pytest.mark.browser
def test_thumbnails_show_what_each_head_adds(page, trace):
    steps = list(tokentm.TokenTM().steps(trace))
    adds = torch.stack([step.head_mixing[0, :, 0, 3:] for step in steps])
    most = adds.flatten().sort().values[-9].clamp(min=1e-30)
    for layer, head in product(range(3), range(3)):
        pixels = np.array(
            page.evaluate(
                """([layer, head]) => {
                     const at = `#first button[data-layer="${layer}"][data-head="${head}"] canvas:not(.picture)`;
                     const canvas = document.querySelector(at);
                     return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
                   }""",
                [layer, head],
            )
        ).reshape(PATCHES, 4)
        codes = (255 * adds[layer, head] / most).clamp(0, 255).round().numpy()
        assert np.abs(pixels[:, 3] - 255 * (codes / 255) ** 0.36).max() <= 2, (layer, head)
    share = 100 * adds.sum(-1) / adds.sum()
    title = page.get_attribute("#first button[data-layer='2'][data-head='1']", "title")
    assert title == f"layer 3, head 2: {share[2, 1]:.1f} % of all updates"


@pytest.mark.browser
def test_a_patch_is_kept_by_a_click_and_read_in_every_panel(page, trace):
    area = page.locator("#first [data-map=update]")
    box = area.bounding_box()
    at = {"x": box["width"] * 0.7, "y": box["height"] * 0.5}  # row 2, column 4
    area.click(position=at)
    page.wait_for_function("model.get('kept') === 8")
    page.mouse.move(2, 690)
    painted(page, "0  0  false")  # what is shown is still what the class token takes
    assert page.locator("#first .rings i:not(.pointed)").count() == 6
    wanted = maps(trace, layer=0)
    for name in ("attention", "product", "update", "contribution"):
        text = page.inner_text(f"#first figure:has([data-map={name}]) .here")
        many = float(wanted[name][8] / wanted[name].mean())
        assert text.startswith("row 2, column 4: "), text
        found = text.removeprefix("row 2, column 4: ").removesuffix("×")
        assert (0 if "none" in found else float(found)) == pytest.approx(many, abs=0.051), name
    area.click(position=at)
    page.wait_for_function("model.get('kept') === null")


@pytest.mark.browser
def test_seen_from_a_patch_the_panels_show_its_row_and_pointing_looks_at_others(page, trace):
    page.evaluate("model.set('kept', 7)")
    page.click("#first button[name=from-patch]")
    painted(page, "0  0 7 false")
    box = page.locator("#first [data-map=attention]").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.5)  # row 2, column 4
    painted(page, "0  0 8 false")
    assert_panels(page, maps(trace, layer=0, patch=8), patch=8)
    assert "Seen from row 2, column 4" in page.inner_text("#first .status")
    page.mouse.move(2, 690)
    painted(page, "0  0 7 false")
    assert page.evaluate("model.get('patch')") == 7  # pointing is looking, not choosing
    page.click("#first button[name=reset]")
    painted(page, "0  0  false")


@pytest.mark.browser
def test_a_patch_is_chosen_by_keyboard_and_stays_inside_the_grid(page):
    page.focus("#first [data-map=contribution]")
    kept = lambda patch: page.wait_for_function(f"model.get('kept') === {patch}", timeout=5000)  # noqa: E731
    page.keyboard.press("ArrowRight")  # starts in the middle
    kept(7)
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    kept(9)  # the row's end
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    kept(4)
    page.keyboard.press("Escape")
    kept("null")


@pytest.mark.browser
def test_every_term_says_what_it_means_with_one_patchs_numbers(page, trace):
    shown = maps(trace, layer=0)
    page.evaluate("model.set('kept', 8)")
    page.click("#first .term[data-term=product] .why")
    note = page.locator("#first .term[data-term=product] .note")
    assert "length kept × direction share" in note.inner_text()
    rows = note.locator("tbody tr").all_inner_texts()
    for head, row in enumerate(rows):
        of = maps(trace, layer=0, head=head)
        wanted = [float(of[name][8]) for name in ("attention", "ratio", "necc", "product")]
        assert [float(one) for one in row.split()[1:]] == pytest.approx(wanted, rel=0.06)
    many = float(shown["product"][8] / shown["product"].mean())
    assert f"so this one has {many:.1f}×" in note.inner_text()
    page.click("#first .term[data-term=update] .why")  # one at a time
    assert page.locator("#first .note:visible").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("#first .note:visible").count() == 0
    assert page.evaluate("document.activeElement.className") == "why"


@pytest.mark.browser
def test_the_tour_shows_five_parts_and_is_remembered(page):
    assert "New here?" in page.inner_text("#first .tour")
    page.click("#first button[name=next]")
    for step in range(1, 6):
        assert page.inner_text("#first .tour p").startswith(f"{step} of 5.")
        assert page.locator("#first .lit").count() == 1
        page.click("#first button[name=next]")
    assert page.locator("#first .tour").is_hidden()
    assert page.locator("#first .lit").count() == 0
    page.evaluate("void window.show('second')")
    painted(page, "0  0  false", "#second")
    assert page.locator("#second .tour").is_hidden()
    page.click("#second button[name=tour]")
    assert page.inner_text("#second .tour p").startswith("1 of 5.")
    page.evaluate("localStorage.clear()")


@pytest.mark.browser
def test_keys_stay_inside_the_widget_but_shift_enter_passes(page):
    page.evaluate("window.seen = []; document.body.addEventListener('keydown', (e) => window.seen.push(e.key))")
    page.focus("#first input[name=layer]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    page.keyboard.press("Shift+Enter")
    assert [key for key in page.evaluate("window.seen") if key != "Shift"] == ["Enter"]


@pytest.mark.browser
def test_play_steps_once_a_beat_also_with_two_views(page):
    page.evaluate("void window.show('second')")
    page.select_option("#first select[name=speed]", "4")
    page.evaluate("model.saved.length = 0")
    page.click("#first button[name=play]")
    page.wait_for_function("model.saved.includes(1)")
    assert page.inner_text("#second button[name=play]").endswith("Pause")
    page.wait_for_function("model.get('playing') === false")  # at the end it stops
    saved = page.evaluate("model.saved.filter((layer, i, all) => i === 0 || layer !== all[i - 1])")
    assert saved in ([0, 1, 2], [1, 2]), saved  # one step at a time
    painted(page, f"{page.evaluate('model.get(`layer`)')}  0  false", "#second")


@pytest.mark.browser
def test_a_closed_view_leaves_no_listener(page):
    page.evaluate("close_first()")
    page.evaluate("stop()")
    assert page.evaluate("Object.values(listeners).flat().length") == 0


@pytest.mark.browser
def test_a_choice_made_just_before_a_view_closes_is_saved(page):
    saved = page.evaluate("""() => {
      const layer = document.querySelector("#first input[name=layer]");
      layer.value = 2;
      layer.dispatchEvent(new Event("input"));
      window.close_first();
      return model.saved;
    }""")
    assert saved == [2]
    page.wait_for_timeout(100)
    assert page.evaluate("model.saved") == [2]


@pytest.mark.browser
def test_a_choice_not_yet_saved_outlives_the_echo_of_the_one_before(page):
    """The kernel's echo of an older choice may come before the new one is sent; no view may fall back to it."""
    page.evaluate("void window.show('second')")
    shown = page.evaluate("""async () => {
      const seen = [];
      const press = (view, layer) => {
        const slider = document.querySelector(`#${view} input[name=layer]`);
        slider.value = layer;
        slider.dispatchEvent(new Event("input"));
      };
      const saved = () => new Promise((resolve) => setTimeout(resolve, 100));
      for (const [view, layer] of [["first", 2], ["second", 1]]) {
        press(view, layer);
        model.set("layer", 0); // the echo
        seen.push(model.get("layer"));
      }
      await saved();
      seen.push(document.querySelector("#first .tokentm").dataset.painted[0]);
      model.set("layer", 0); // the kernel's own wish, when all is saved
      seen.push(model.get("layer"));
      return seen;
    }""")
    assert shown == [2, 1, "1", 0]
    assert page.evaluate("model.saved") == [1]


@pytest.mark.browser
def test_a_key_is_answered_in_its_own_task_and_twice_a_frame_at_most(page):
    painted = page.evaluate("""async () => {
      const root = document.querySelector("#first .tokentm");
      const seen = [];
      const observer = new MutationObserver(() => seen.push(root.dataset.painted[0]));
      observer.observe(root, { attributeFilter: ["data-painted"] });
      await new Promise(requestAnimationFrame);
      await new Promise((resolve) => setTimeout(resolve));
      for (const layer of [1, 2, 0, 1]) {
        model.set("layer", layer);
        await null; // what a key press does when its listeners are through
      }
      const atOnce = root.dataset.painted[0];
      await new Promise(requestAnimationFrame);
      await new Promise((resolve) => setTimeout(resolve));
      return [atOnce, seen];
    }""")
    assert painted == ["1", ["1", "1"]]


@pytest.mark.browser
def test_playing_stops_when_the_last_view_closes(page):
    page.click("#first button[name=play]")
    page.evaluate("close_first()")
    assert page.evaluate("model.get('playing')") is False


@pytest.mark.browser
def test_playing_goes_on_in_the_view_that_is_left(page):
    page.evaluate("void window.show('second')")
    page.click("#first button[name=play]")
    page.evaluate("close_first()")
    assert page.evaluate("model.get('playing')") is True
    page.wait_for_function("document.querySelector('#second .tokentm').dataset.painted.startsWith('1 ')")


@pytest.mark.browser
def test_only_what_was_chosen_is_spoken(page):
    live = "document.querySelector('#first .status').getAttribute('aria-live')"
    assert page.evaluate(live) == "polite"
    page.hover("#first canvas[data-panel=attention]")
    page.wait_for_function(f"{live} === 'off'")


@pytest.mark.browser
def test_names_with_markup_are_text(page):
    assert page.locator("#first b").count() == 0
    assert page.inner_text("#first button[name=index] >> nth=0").startswith("<b>cat</b> (")


@pytest.mark.browser
def test_the_picture_lies_under_the_maps(chromium_page, trace, picture):
    show(chromium_page, LayerStepper(trace, images=picture, classes=NAMES, layer=1))
    painted(chromium_page, "1  0  true")
    canvas = "document.querySelector('#first [data-map={}] canvas{}')"
    under, map_ = canvas.format("update", ".picture"), canvas.format("update", ":not(.picture)")
    read = "[...{0}.getContext('2d').getImageData(0, 0, {0}.width, {0}.height).data]"
    found = np.array(chromium_page.evaluate(read.format(under))).reshape(12, 20, 4)
    image = np.asarray(picture).astype(float)
    assert np.abs(found[..., 3] - 0.78 * 255).max() <= 2  # the page shines through
    assert np.ptp(found[..., :3], axis=-1).mean() < 0.6 * np.ptp(image, axis=-1).mean()  # less colour than it had
    assert np.corrcoef(found[..., :3].mean(-1).flatten(), image.mean(-1).flatten())[0, 1] > 0.9
    pixels = np.array(chromium_page.evaluate(read.format(map_))).reshape(PATCHES, 4)
    values = maps(trace, layer=1)["update"].numpy()
    share = np.rint(255 * values / values.max()) / 255
    assert np.abs(pixels[:, 3] - np.sqrt(share) * 255).max() <= 2  # as opaque as its value says
    assert chromium_page.evaluate(f"getComputedStyle({map_}).opacity") == "0.8"


@pytest.mark.browser
def test_a_value_is_read_in_every_panel_where_one_points(page):
    box = page.locator("#first canvas[data-panel=product]").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.5)  # row 2, column 4
    page.wait_for_function("document.querySelector('#first .here')?.textContent.startsWith('row 2, column 4: ')")
    assert page.locator("#first .rings .pointed").count() == 6
    page.mouse.move(2, 690)
    page.wait_for_function("document.querySelector('#first .here').textContent === ''")


@pytest.mark.browser
def test_a_common_scale_spans_all_layers(page, trace):
    page.select_option("#first select[name=scale]", "common")
    page.wait_for_function("model.get('scale') === 'common'")
    page.wait_for_timeout(100)
    values = np.stack([maps(trace, layer)["update"] for layer in range(3)])
    wanted = colormaps["viridis"](values[0] / values.max())[:, :3] * 255
    assert_panel(page, "update", wanted)
    ends = page.locator("#first figure:has([data-map=update]) .scale span").all_inner_texts()
    many = values.max() / values[0].mean()
    assert ends == ["none", f"{many:.0f}×" if many >= 9.95 else f"{many:.1f}×"]


@pytest.mark.browser
def test_the_scatter_has_a_dot_for_every_token(page, trace):
    step = next(tokentm.TokenTM().steps(trace))
    ratio, weight = step.length_ratio[0].mean(0), step.weight[0].mean(0)
    top = int(weight.argmax())
    name = f"prefix token {top + 1}" if top < 3 else f"row {(top - 3) // 5 + 1}, column {(top - 3) % 5 + 1}"
    page.click("#first summary")
    chart = page.locator("#first canvas[data-panel=scatter]")
    page.wait_for_function("document.querySelector('#first canvas[data-panel=scatter]').getAttribute('aria-label')")
    assert f"largest for {name}" in chart.get_attribute("aria-label")
    # find a dot with the pointer, and the same patch is marked in the maps
    found = set()
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    for x, y in product(np.linspace(0.12, 0.98, 30), np.linspace(0.05, 0.9, 15)):
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
        found.add(
            page.evaluate(
                "new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r("
                "document.querySelector('#first .here').textContent))))"
            )
        )
        if len(found - {""}) >= PATCHES // 2:
            break
    else:
        pytest.fail(f"expected to find half of the {PATCHES} patches, found {found}")
    assert len(ratio) == 3 + PATCHES
    page.mouse.move(2, 690)


@pytest.mark.browser
def test_opacity_and_speed_are_state(page):
    page.focus("#first input[name=opacity]")
    page.keyboard.press("Home")
    page.wait_for_function("model.get('opacity') === 0")
    page.select_option("#first select[name=speed]", "0.5")
    page.wait_for_function("model.get('speed') === 0.5")


@pytest.mark.browser
def test_patch_rows_of_one_head_are_in_the_exported_page(page, trace):
    page.evaluate("model.set('head', 2); model.set('patch', 11); model.set('layer', 1); model.set('index', 1)")
    painted(page, "1 2 1 11 false")
    assert_panels(page, maps(trace, layer=1, index=1, head=2, patch=11), patch=11, tolerance=7)
    assert page.evaluate("model.asked") == []


def hand_over(page, stepper):
    """Give the page what the kernel answers to its last question."""
    asked = page.evaluate("model.asked.at(-1)")
    sent = []
    stepper.send = lambda content, buffers: sent.append((content, buffers))
    stepper._answer(stepper, asked, [])
    [(content, buffers)] = sent
    page.evaluate(
        """([content, buffers]) => {
             const views = buffers.map((b) => new DataView(Uint8Array.from(b).buffer));
             for (const listen of listeners["msg:custom"]) listen(content, views);
           }""",
        [content, [list(b) for b in buffers]],
    )
    page.wait_for_selector("#first .tokentm[data-complete=true]")


@pytest.mark.browser
def test_patch_rows_of_one_head_are_asked_once_and_their_absence_is_said(chromium_page, trace):
    stepper = LayerStepper(trace, classes=NAMES, layer=0)
    stepper.offline_data = lambda: stepper._data  # as in a notebook: single heads are not there yet
    show(chromium_page, stepper)
    chromium_page.evaluate("model.set('head', 1); model.set('patch', 4)")
    painted(chromium_page, "0 1 0 4 false")
    status = chromium_page.locator("#first .status")
    assert "Asking the kernel for head 2" in status.inner_text()
    assert chromium_page.evaluate("model.asked") == [{"kind": "rows", "head": 1, "index": 0, "patch": None}]
    assert chromium_page.locator("#first figure.waiting").count() == 3
    chromium_page.wait_for_function("document.querySelector('#first .status').textContent.includes('does not answer')")
    hand_over(chromium_page, stepper)
    assert_panels(chromium_page, maps(trace, layer=0, head=1, patch=4), patch=4, tolerance=7)


@pytest.mark.browser
def test_a_large_record_asks_for_the_patch_that_is_looked_at(chromium_page, trace, monkeypatch):
    monkeypatch.setattr(layer_stepper, "AT_ONCE", 0)
    stepper = LayerStepper(trace, classes=NAMES, layer=0)
    stepper.offline_data = lambda: stepper._data
    show(chromium_page, stepper)
    painted(chromium_page, "0  0  false")
    assert chromium_page.evaluate("model.asked") == []  # the readout is there
    chromium_page.evaluate("model.set('patch', 4); model.set('layer', 1)")
    painted(chromium_page, "1  0 4 false")
    assert "Asking the kernel for what this patch takes" in chromium_page.inner_text("#first .status")
    assert chromium_page.locator("#first figure.waiting").count() == 4
    hand_over(chromium_page, stepper)
    assert_panels(chromium_page, maps(trace, layer=1, patch=4), patch=4, tolerance=7)
    chromium_page.evaluate("model.set('head', 2)")  # has come with it
    painted(chromium_page, "1 2 0 4 false")
    assert_panels(chromium_page, maps(trace, layer=1, head=2, patch=4), patch=4, tolerance=7)
    assert len(chromium_page.evaluate("model.asked")) == 1


@pytest.mark.browser
def test_a_page_draws_means_that_it_makes_itself(chromium_page, trace):
    """The same to a level of colour as from rows that were averaged before they were sent."""
    shots = []
    for data in (LayerStepper(trace)._data, LayerStepper(trace).offline_data()):
        stepper = LayerStepper(trace, classes=NAMES, patch=7, layer=1)
        stepper.offline_data = lambda data=data: data
        show(chromium_page, stepper)
        painted(chromium_page, "1  0 7 false")
        names = ("attention", "product", "update", "contribution")
        shots.append([[pixel(chromium_page, name, p, COLUMNS, ROWS) for p in range(PATCHES)] for name in names])
    first, second = np.array(shots)
    table = (colormaps["viridis"](np.arange(256))[:, :3] * 255).round()

    def levels(found):
        return np.abs(table - found[..., None, :]).max(-1).argmin(-1)

    others = np.arange(PATCHES) != 7  # its outline is no colour of the map
    assert np.abs(levels(first) - levels(second))[:, others].max() <= 1


@pytest.mark.browser
def test_a_page_offers_only_the_heads_and_patches_that_it_holds(chromium_page, trace):
    stepper = LayerStepper(trace, classes=NAMES, layer=0)
    data = stepper.offline_data(heads=[1], patches=2)
    stepper.offline_data = lambda: data
    show(chromium_page, stepper)
    heads = chromium_page.locator("#first button[name=head]").all_inner_texts()
    assert heads == ["All heads", "2"]
    held = data["taken"][0]["patches"]
    other = next(patch for patch in range(PATCHES) if patch not in held)
    chromium_page.evaluate(f"model.set('patch', {other})")
    painted(chromium_page, f"0  0 {other} false")
    said = chromium_page.inner_text("#first .status")
    assert f"This page does not hold what this patch takes: it holds the {len(held)} patches" in said
    for head in (None, 1):
        chromium_page.evaluate(
            "([patch, head]) => { model.set('head', head); model.set('patch', patch); }", [held[0], head]
        )
        painted(chromium_page, f"0 {'' if head is None else head} 0 {held[0]} false")
        assert_panels(chromium_page, maps(trace, layer=0, head=head, patch=held[0]), patch=held[0], tolerance=7)
    assert chromium_page.evaluate("model.asked") == []


@pytest.mark.browser
def test_axe_finds_nothing(page):
    assert accessible(page) == []
    page.emulate_media(color_scheme="dark")
    assert accessible(page) == []
    page.emulate_media(color_scheme="light")


@pytest.mark.browser
def test_an_exported_page_opens_from_its_file(chromium_page, trace, picture, tmp_path):
    names = ["</script></title><b>cat</b>", "dog", "bird"]
    path = export_html(LayerStepper(trace, images=picture, classes=names, layer=2, patch=7), tmp_path / "cat.html")
    wrong = watch(chromium_page)
    chromium_page.goto(path.as_uri())
    chromium_page.wait_for_selector(".tokentm[data-painted='2  0 7 true']")
    assert chromium_page.title() == "How </script></title><b>cat</b> came about, layer by layer"
    assert chromium_page.locator("button[name=index]").first.inner_text().startswith("</script></title><b>cat</b>")
    assert not list(tmp_path.glob("*.part"))
    assert wrong == []


@pytest.mark.browser
def test_a_page_says_what_it_shows_and_loads_nothing_from_elsewhere(chromium_page, tmp_path, trace):
    widget = LayerStepper(trace, classes=["<i>cat</i>", *("dog", "bird")])
    path = export_html(widget, tmp_path / "page.html")
    page = chromium_page.context.browser.new_page()
    wrong = watch(page)
    page.goto(path.as_uri())
    page.wait_for_selector(".tokentm[data-painted]")
    assert page.inner_text("h1") == widget.heading == page.title()
    assert page.inner_text("header p") == widget.reading
    assert page.locator("main > *").count() == 1  # the still picture has made room
    assert wrong == []
    refused = page.evaluate("fetch('https://example.org').then(() => 'sent', (error) => error.message)")
    assert refused == "Failed to fetch"
    assert any("connect-src" in one or "default-src" in one for one in wrong)
    page.close()


@pytest.mark.browser
def test_a_page_without_scripts_shows_the_still_picture(chromium_page, tmp_path, trace):
    path = export_html(LayerStepper(trace), tmp_path / "page.html")
    page = chromium_page.context.browser.new_context(java_script_enabled=False).new_page()
    page.goto(path.as_uri())
    picture = page.locator("main img")
    assert picture.get_attribute("alt")
    assert picture.bounding_box()["width"] > 200
    page.context.close()


def test_only_widgets_are_exported(tmp_path):
    with pytest.raises(tokentm.InvalidOptionError, match="expected a widget of tokentm_widgets; got str"):
        export_html("stepper", tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
