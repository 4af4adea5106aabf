"""The method comparison: units that can be compared, one scale, differences, and the reason where a method fails."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import traitlets
from browser import accessible, pixel, show, watch
from matplotlib import colormaps
from PIL import Image

import tokentm
from tokentm.evaluation.sanity import rank_correlation
from tokentm_widgets import MethodComparison, titles
from tokentm_widgets.scores import rank, share
from tokentm_widgets.titles import title_of

COLUMNS, ROWS, PATCHES = 5, 3, 15
NAMES = ["<b>cat</b>", "dog", "bird"]
METHODS = ["tokentm", "rollout", "attention"]


def constant(trace):
    """A method that prefers no patch."""
    scores = torch.full((len(trace.logits), PATCHES), 0.25)
    return tokentm.Explanation.of(trace, "constant", scores)


def broken(trace):
    raise tokentm.UnsupportedModelError("expected <i>something</i> else; got this model.")


@pytest.fixture(scope="module")
def trace(tiny):
    model = tiny(img_size=(12, 20), patch_size=4, num_classes=3, depth=3, num_heads=3, reg_tokens=2)
    torch.manual_seed(1)
    return tokentm.record(model, torch.randn(1, 3, 12, 20).expand(2, -1, -1, -1), target=[0, 1])


@pytest.fixture(scope="module")
def scores(trace):
    return {name: tokentm.methods.get(name)(trace).scores for name in METHODS} | {"constant": constant(trace).scores}


@pytest.fixture
def page(chromium_page, trace):
    wrong = watch(chromium_page)
    show(chromium_page, MethodComparison(trace, [*METHODS, constant, broken], classes=NAMES))
    yield chromium_page
    assert wrong == []


def painted(page, index=0, patch="", unit="share", against=-1):
    page.wait_for_selector(f".tokentm[data-painted='{index} {patch} {unit} {against} false']", timeout=5000)


def maps_of(scores, unit, index):
    return {name: {"share": share, "rank": rank}[unit](values)[index] for name, values in scores.items()}


def assert_drawn(page, values, low, high, name, colours="viridis"):
    scaled = ((values - low) / (high - low)).clamp(0, 1)
    table = colormaps[colours](np.arange(256))[:, :3] * 255
    for patch in (0, 6, int(values.argmax()), int(values.argmin())):
        wanted = table[round(float(scaled[patch]) * 255)]
        assert pixel(page, name, patch, COLUMNS, ROWS) == pytest.approx(wanted, abs=4)


def test_share_and_rank():
    scores = torch.tensor([[1.0, -3.0, 0.0, 4.0], [2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(share(scores)[0], torch.tensor([0.5, -1.5, 0.0, 2.0]))
    assert share(scores)[1].tolist() == [1, 1, 1, 1]
    assert share(scores)[2].tolist() == [0, 0, 0, 0]
    assert rank(scores)[0].tolist() == [5 / 8, 1 / 8, 3 / 8, 7 / 8]
    assert rank(scores)[1].tolist() == [0.5] * 4
    assert rank(torch.tensor([[1.0, 5.0, 1.0]]))[0].tolist() == pytest.approx([1 / 3, 5 / 6, 1 / 3])


def test_agreement_is_spearmans(trace, scores):
    comparison = MethodComparison(trace, [*METHODS, constant])
    sent = np.frombuffer(comparison._data["agreement"], "<f4").reshape(2, 4, 4)
    for i, a in enumerate(METHODS):
        for j, b in enumerate(METHODS):
            assert sent[:, i, j] == pytest.approx(rank_correlation(scores[a], scores[b]).numpy(), abs=1e-6)
    assert np.isnan(sent[:, 3]).all()


def test_one_method_alone(trace):
    assert repr(MethodComparison(trace, ["tokentm"])) == "MethodComparison(class 0, class 1; tokentm)"


def test_what_cannot_be_compared_is_refused(trace):
    with pytest.raises(tokentm.InvalidOptionError, match="expected each method once; got 'rollout' twice"):
        MethodComparison(trace, ["rollout", "rollout"])
    with pytest.raises(tokentm.InvalidOptionError, match="expected a method among"):
        MethodComparison(trace, ["rollout", "magic"])
    with pytest.raises(tokentm.InvalidOptionError, match="expected a list of methods; got 'rollout'"):
        MethodComparison(trace, "rollout")
    with pytest.raises(tokentm.UnsupportedModelError, match="something"):
        MethodComparison(trace, [broken])


def test_state_that_does_not_exist_is_refused(trace):
    comparison = MethodComparison(trace, METHODS)
    with pytest.raises(traitlets.TraitError, match=r"expected a reference among tokentm, rollout, attention or None"):
        comparison.reference = "random"
    with pytest.raises(traitlets.TraitError, match="expected index from 0 to 1; got 2"):
        comparison.index = 2
    with pytest.raises(traitlets.TraitError, match="expected patch from 0 to 14 or None; got 15"):
        comparison.patch = 15
    comparison.patch = None


def test_a_callable_goes_by_the_name_it_gives(trace):
    def other(trace):
        return dataclasses.replace(tokentm.TokenTM(normaliser="mean")(trace), method="mean")

    comparison = MethodComparison(trace, ["tokentm", other])
    assert list(comparison.shown()) == ["tokentm", "mean"]


@pytest.mark.parametrize("reference", [None, "rollout"])
def test_figure_shows_what_the_widget_shows(trace, scores, reference):
    comparison = MethodComparison(trace, METHODS, unit="rank", index=1, reference=reference)
    figure = comparison.figure()
    maps = maps_of({name: scores[name] for name in METHODS}, "rank", 1)
    if reference:
        maps = {name: values - maps["rollout"] for name, values in maps.items() if name != "rollout"}
    drawn = [axis for axis in figure.axes if axis.images and axis.get_title()]
    assert [axis.get_title() for axis in drawn] == list(maps)
    for axis, values in zip(drawn, maps.values(), strict=True):
        np.testing.assert_allclose(axis.images[0].get_array(), values.unflatten(0, (ROWS, COLUMNS)), atol=1e-6)
    assert len({axis.images[0].get_clim() for axis in drawn}) == 1
    low, high = drawn[0].images[0].get_clim()
    assert (low == -high) == (reference is not None)
    assert "for class 1, as ranks" in figure.alt


def test_the_figure_lays_maps_over_the_picture_and_differences_at_one_opacity(trace):
    picture = Image.new("RGB", (trace.image_size[1], trace.image_size[0]), "red")
    comparison = MethodComparison(trace, METHODS, images=picture, opacity=0.5, patch=1)
    for reference in (None, "rollout"):
        comparison.reference = reference
        first, *others = [axis for axis in comparison.figure().axes if axis.get_title()]
        assert first.get_title() == "image"
        for axis in (first, *others):
            assert len(axis.patches) == 2  # the chosen patch, outlined in black and white
        for axis in others:
            alpha = np.asarray(axis.images[1].get_alpha())
            assert alpha.max() <= 0.5
            assert (alpha.min() == 0.5) == (reference is not None)


@pytest.mark.browser
@pytest.mark.parametrize("unit", ["share", "rank"])
def test_all_maps_share_one_scale(page, scores, unit):
    page.click(f"#first button[name=unit][data-value={unit}]")
    painted(page, unit=unit)
    maps = maps_of(scores, unit, 0)
    low, high = min(m.min() for m in maps.values()), max(m.max() for m in maps.values())
    for name, values in maps.items():
        assert_drawn(page, values, low, high, name)


@pytest.mark.browser
def test_differences_are_white_at_zero(page, scores):
    page.click("#first button[name=index][data-value='1']")
    page.select_option("#first select[name=reference]", "rollout")
    painted(page, 1, against=1)
    maps = maps_of(scores, "share", 1)
    differences = {name: values - maps["rollout"] for name, values in maps.items() if name != "rollout"}
    most = max(d.abs().max() for d in differences.values())
    for name, values in differences.items():
        assert_drawn(page, values, -most, most, name, "PuOr")
    assert_drawn(page, maps["rollout"], maps["rollout"].min(), maps["rollout"].max(), "rollout")
    rho = rank_correlation(scores["tokentm"], scores["rollout"])[1]
    assert page.inner_text("#first figure:has(canvas[data-panel=tokentm]) .quiet") == (
        f"{rho:.2f}: order of all patches, against Attention rollout".replace("-", "−")
    )
    assert page.inner_text("#first figure:has(canvas[data-panel=constant]) .quiet") == "puts no patch before another"


@pytest.mark.browser
def test_the_reference_does_not_stretch_the_scale_of_differences(page, scores):
    page.click("#first button[name=unit][data-value=rank]")
    page.select_option("#first select[name=reference]", "constant")
    painted(page, unit="rank", against=3)
    differences = {name: rank(values)[0] - 0.5 for name, values in scores.items() if name != "constant"}
    most = max(d.abs().max() for d in differences.values())
    assert most < 0.5
    for name, values in differences.items():
        assert_drawn(page, values, -most, most, name, "PuOr")


@pytest.mark.browser
def test_a_patch_is_read_in_every_map(page, scores):
    page.focus("#first [data-map=image]")
    page.keyboard.press("ArrowRight")
    painted(page, patch=7)
    for name, values in maps_of(scores, "share", 0).items():
        here = page.inner_text(f"#first figure:has(canvas[data-panel={name}]) .here >> nth=0")
        many, place = here.split(", ")
        assert float(many.removesuffix("×").replace("−", "-")) == pytest.approx(values[7].item(), abs=0.051)
        above = int((scores[name][0] >= scores[name][0, 7]).sum()) / PATCHES
        if place.startswith("top") and name != "constant":
            assert place == f"top {math.ceil(100 * above)} %"
    page.click("#first figure:has(canvas[data-panel=rollout]) button.why")
    note = page.inner_text("#first figure:has(canvas[data-panel=rollout]) .note")
    assert "Abnar & Zuidema 2020" in note
    assert "The patch at row 2, column 3 scores " in note
    found = float(note.split(" scores ")[1].split(";")[0])
    assert found == pytest.approx(scores["rollout"][0, 7].item(), rel=0.05)
    page.keyboard.press("Escape")
    assert page.inner_text("#first figure:has(canvas[data-panel=image]) .here") == "row 2, column 3"
    page.hover("#first canvas[data-panel=rollout]", position={"x": 2, "y": 2})
    page.wait_for_function("document.querySelector('#first .here').textContent === 'row 1, column 1'")
    page.click("#first button[name=reset]")
    painted(page)


@pytest.mark.browser
def test_chance_has_no_say_in_the_scale(chromium_page, trace):
    """Only where it is alone: then there is nothing else to draw by."""

    def mild(trace):
        return tokentm.Explanation.of(trace, "mild", torch.linspace(0.9, 1.1, PATCHES).expand(2, -1))

    def ends(*methods):
        show(chromium_page, MethodComparison(trace, list(methods)))
        return chromium_page.locator("#first .scale").first.inner_text().split()

    assert ends(mild) == ends(mild, "random") == ["0.9×", "1.1×"]
    assert ends("random") != ["0.9×", "1.1×"]


def test_chance_has_no_say_in_the_scale_of_the_figure(trace):
    drawn = [axis.images[0] for axis in MethodComparison(trace, ["rollout", "random"]).figure().axes if axis.images]
    alone = next(axis.images[0] for axis in MethodComparison(trace, ["rollout"]).figure().axes if axis.images)
    assert drawn[0].get_clim() == drawn[1].get_clim() == alone.get_clim()


@pytest.mark.browser
def test_each_map_may_have_its_own_scale(page, scores):
    page.click("#first button[name=scale][data-value=own]")
    page.wait_for_function("document.querySelector('#first .status').textContent.includes('a scale of its own')")
    for name, values in maps_of(scores, "share", 0).items():
        if name != "constant":
            assert_drawn(page, values, values.min(), values.max(), name)
    assert page.evaluate("model.get('scale')") == "own"


@pytest.mark.browser
def test_a_panel_becomes_what_others_are_compared_with(page):
    button = "#first figure:has(canvas[data-panel=attention]) button[name=against]"
    page.click(button)
    painted(page, against=2)
    assert page.get_attribute(button, "aria-pressed") == "true"
    assert page.input_value("#first select[name=reference]") == "attention"
    page.click(button)
    painted(page)
    assert page.get_attribute(button, "aria-pressed") == "false"


@pytest.mark.browser
def test_likeness_is_a_table_of_numbers_on_colours(page, scores):
    names = {"TokenTM": "tokentm", "Attention rollout": "rollout", "Attention": "attention", "constant": "constant"}
    heads = page.locator("#first .alike tbody th").all_inner_texts()
    order = [names[text.split(" ", 1)[1]] for text in heads]
    assert sorted(order) == sorted(names.values())
    assert order[-1] == "constant"  # it ranks nothing
    for k, a in enumerate(order):
        for j, b in enumerate(order):
            cell = page.locator(f"#first .alike tbody tr >> nth={k}").locator("td").nth(j)
            rho = rank_correlation(scores[a], scores[b])[0].item()
            wanted = "" if k == j else "–" if "constant" in (a, b) else f"{rho:.2f}".replace("-", "−")
            assert cell.inner_text() == wanted
    assert (
        page.locator("#first .alike td[data-cell]").first.evaluate(
            "(cell) => parseFloat(getComputedStyle(cell).fontSize)"
        )
        >= 11
    )


def test_methods_have_the_names_of_their_papers(trace):
    sent = MethodComparison(trace, [*METHODS, constant])._data["titles"]
    assert sent["rollout"]["name"] == "Attention rollout"
    assert sent["rollout"]["source"] == "Abnar & Zuidema 2020"
    assert sent["constant"] == {"name": "constant", "source": "", "says": ""}


def test_every_known_method_has_a_title_of_its_own():
    known = [*tokentm.methods.METHODS, *tokentm.methods.ABLATIONS]
    assert set(titles.TITLES) == set(known)
    assert len({title_of(name).name for name in known}) == len(known)
    assert all(title_of(name).says and title_of(name).source for name in known)


@pytest.mark.browser
def test_a_method_that_fails_says_why(page):
    assert page.inner_text("#first [data-failed=broken] p") == "expected <i>something</i> else; got this model."
    assert page.locator("#first b, #first figure i i").count() == 0


@pytest.mark.browser
def test_axe_finds_nothing(page):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert accessible(page) == []
    page.emulate_media(color_scheme="light")
