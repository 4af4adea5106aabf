"""The perturbation player: its curves are the model's own probabilities, its pictures lose what is gone."""

from __future__ import annotations

import re
from dataclasses import replace as with_changes

import numpy as np
import pytest
import torch
import traitlets
from browser import accessible, pixel, show, watch
from PIL import Image

import tokentm
from tokentm.evaluation.perturbation import FRACTIONS, perturbation, ranking
from tokentm.evaluation.removal import Removal
from tokentm_widgets import PerturbationPlayer

COLUMNS, ROWS, PATCHES = 5, 3, 15
NAMES = ["<b>cat</b>", "dog", "bird", "cow", "hen"]
METHODS = ["tokentm", "attention"]
GREY = [128, 128, 128]


def recorded(tiny, **options):
    model = tiny(img_size=(12, 20), patch_size=4, depth=2, **options)
    torch.manual_seed(1)
    return tokentm.record(model, torch.randn(2, 3, 12, 20), target=[0, 3])


@pytest.fixture(scope="module")
def trace(tiny):
    return recorded(tiny, reg_tokens=1)


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(0).integers(150, 255, (ROWS, COLUMNS, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((20, 12), Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def player(trace, picture):
    return PerturbationPlayer(trace, METHODS, images=picture, classes=NAMES, index=1, steps=5, progress=False)


@pytest.fixture
def page(chromium_page, player):
    wrong = watch(chromium_page)
    show(chromium_page, player)
    yield chromium_page
    assert wrong == []


def painted(page, step, order="most"):
    page.wait_for_selector(f"#first .tokentm[data-painted='{step} {order} true']", timeout=5000)


def asked_one_by_one(trace, index, order, counts, replace):
    """Probabilities (steps, classes), one image and one forward pass at a time."""
    model, target = trace.anatomy.model, [int(trace.target[index])]
    one = tokentm.record(model, trace.images[index : index + 1], target=target)
    found = []
    for count in counts:
        gone = torch.zeros(1, PATCHES, dtype=torch.bool)
        gone[0, order[:count]] = True
        found.append(Removal(one, replace)(gone)[0].softmax(0))
    return torch.stack(found)


@pytest.mark.parametrize("replace", ["drop", "zero", "mean", "blur"])
def test_curves_are_the_models_probabilities(trace, replace):
    player = PerturbationPlayer(trace, METHODS, index=1, shown=[3, 0], replace=replace, steps=5, progress=False)
    assert player.counts == [0, 3, 6, 9, 12, 15]
    assert player.probabilities.shape == (2, 2, 6, 2)
    for m, method in enumerate(METHODS):
        order = ranking(tokentm.methods.get(method)(trace).scores)[1]
        for o, ordered in enumerate((order, order.flip(0))):
            wanted = asked_one_by_one(trace, 1, ordered, player.counts, replace)[:, [3, 0]]
            torch.testing.assert_close(player.probabilities[m, o], wanted, rtol=1e-4, atol=1e-5)


def test_areas_are_deletion_and_insertion(tiny):
    trace = tokentm.record(model := tiny(img_size=(16, 40), patch_size=4), torch.randn(1, 3, 16, 40), target=2)
    patches = 40
    steps = len(FRACTIONS) - 1
    player = PerturbationPlayer(trace, ["tokentm"], steps=steps, replace="zero", progress=False)
    assert player.counts == [round(f * patches) for f in FRACTIONS]
    wanted = perturbation(Removal(trace, "zero"), tokentm.TokenTM()(trace).scores, trace.target)
    assert player.areas()["tokentm"] == pytest.approx(wanted.deletion.item(), rel=1e-5)
    player.order = "least"
    assert player.areas()["tokentm"] == pytest.approx(wanted.insertion.item(), rel=1e-5)
    assert not model.training


def test_explained_class_comes_first_then_the_most_probable(trace):
    player = PerturbationPlayer(trace, METHODS, index=1, steps=2, progress=False)
    others = [c for c in trace.logits[1].argsort(descending=True).tolist() if c != 3][:2]
    torch.testing.assert_close(player.probabilities[0, 0, 0], trace.logits[1].softmax(0)[[3, *others]])


def played(trace, method, order, counts, replace="zero"):
    """Logits (steps, B, classes) of all images while one method's ranking goes."""
    ranked = ranking(tokentm.methods.get(method)(trace).scores)
    ranked = ranked if order == "most" else ranked.flip(1)
    remove = Removal(trace, replace)
    return torch.stack([remove(torch.zeros(2, PATCHES).scatter_(1, ranked[:, :n], 1).bool()) for n in counts])


@pytest.mark.parametrize("outputs", ["sigmoid", "probabilities"])
def test_curves_are_probabilities_as_the_outputs_mean_them(trace, outputs):
    trace = with_changes(trace, outputs=outputs)
    player = PerturbationPlayer(trace, METHODS, index=1, shown=[3, 0], replace="zero", steps=5, progress=False)
    logits = played(trace, "attention", "least", player.counts)[:, 1, [3, 0]]
    wanted = logits.sigmoid() if outputs == "sigmoid" else logits
    torch.testing.assert_close(player.probabilities[1, 1], wanted, rtol=1e-4, atol=1e-5)
    assert player._data["unit"] == "probability"


@pytest.fixture(scope="module")
def difference(trace):
    return tokentm.record(trace.anatomy.model, trace.images, target=lambda logits: logits[:, 4] - logits[:, 3])


def test_a_function_is_drawn_and_measured_itself(difference):
    player = PerturbationPlayer(difference, METHODS, index=1, replace="zero", steps=10, progress=False)
    logits = played(difference, "attention", "most", player.counts)[:, 1]
    assert player._names == ["chosen score"]
    assert (player.unit, player.probabilities) == ("score", None)
    torch.testing.assert_close(player.curves[1, 0, :, 0], logits[:, 4] - logits[:, 3], rtol=1e-4, atol=1e-4)
    scores = tokentm.methods.get("attention")(difference).scores
    wanted = perturbation(Removal(difference, "zero"), scores, difference.explained)
    assert [round(f * PATCHES) for f in FRACTIONS] == player.counts
    # the steps of 15 patches are not all alike: 1 or 2; the metric counts each as a tenth
    gone, curve = torch.tensor(player.counts) / PATCHES, player.curves[1, 0, :, 0]
    assert player.areas()["attention"] == pytest.approx(torch.trapezoid(curve, gone).item(), rel=1e-4)
    assert torch.trapezoid(curve, dx=0.1).item() == pytest.approx(wanted.deletion[1].item(), rel=1e-4)


def test_a_class_of_outputs_without_probabilities_is_drawn_as_its_output(trace):
    without = with_changes(trace, outputs="none")
    player = PerturbationPlayer(without, METHODS, classes=NAMES, index=1, replace="zero", steps=5, progress=False)
    assert (player._names, player.unit) == (["cow (output)"], "score")
    logits = played(trace, "attention", "most", player.counts)[:, 1]
    torch.testing.assert_close(player.curves[1, 0, :, 0], logits[:, 3], rtol=1e-4, atol=1e-4)
    some = PerturbationPlayer(without, METHODS, index=1, shown=[0, 3], replace="zero", steps=5, progress=False)
    assert some._names == ["output 0", "output 3"]
    torch.testing.assert_close(some.curves[1, 0], logits[:, [0, 3]], rtol=1e-4, atol=1e-4)


def test_classes_asked_for_beside_a_function_are_probabilities(difference):
    player = PerturbationPlayer(difference, METHODS, index=1, shown=[4, 3], replace="zero", steps=5, progress=False)
    assert (player._names, player.unit) == (["class 4", "class 3"], "probability")
    wanted = played(difference, "attention", "most", player.counts)[:, 1].softmax(1)[:, [4, 3]]
    torch.testing.assert_close(player.probabilities[1, 0], wanted, rtol=1e-4, atol=1e-5)


def test_the_figure_of_a_score_has_the_range_of_the_score(difference):
    player = PerturbationPlayer(difference, METHODS, steps=5, progress=False)
    figure = player.figure()
    low, high = (end.item() for end in player.curves.aminmax())
    for axis in figure.axes:
        assert axis.get_ylim() == pytest.approx((low, high))
    labels = [float(label.get_text()) for label in figure.axes[0].get_yticklabels()]
    assert labels == pytest.approx([low, (low + high) / 2, high], rel=1e-2)
    assert figure.axes[0].get_ylabel() == "score"
    assert figure.axes[0].get_title() == f"tokentm: area {player.areas()['tokentm']:.3g}"
    assert "Scores of chosen score while" in figure.still()


def test_a_model_without_class_token_keeps_a_patch_when_tokens_are_dropped(tiny):
    trace = recorded(tiny, global_pool="avg", class_token=False)
    assert PerturbationPlayer(trace, METHODS, steps=7, progress=False).counts[-1] == PATCHES - 1
    assert PerturbationPlayer(trace, METHODS, steps=7, replace="zero", progress=False).counts[-1] == PATCHES


def test_a_small_grid_loses_one_patch_a_step(trace):
    assert PerturbationPlayer(trace, METHODS, progress=False).counts == list(range(PATCHES + 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": 2}, "expected index from 0 to 1; got 2"),
        ({"steps": 0}, "expected 1 to 15 steps"),
        ({"steps": 16}, "expected 1 to 15 steps"),
        ({"shown": []}, "expected 1 to 4 different classes from 0 to 4"),
        ({"shown": [1, 1]}, "expected 1 to 4 different classes"),
        ({"shown": [0, 1, 2, 3, 4]}, "expected 1 to 4 different classes"),
        ({"shown": [5]}, "from 0 to 4 to be shown; got [5]"),
        ({"replace": "black"}, "expected a replacement among drop, zero, mean, blur"),
    ],
)
def test_what_cannot_be_played_is_refused(trace, options, message):
    with pytest.raises(tokentm.InvalidOptionError, match=re.escape(message)):
        PerturbationPlayer(trace, METHODS, progress=False, **options)


def test_state_that_does_not_exist_is_refused(player):
    with pytest.raises(traitlets.TraitError, match="expected step from 0 to 5; got 6"):
        player.step = 6


def test_repr_and_figure(player):
    assert repr(player) == "PerturbationPlayer(cow; tokentm, attention; drop)"
    axes = player.figure().axes
    for axis, curves in zip(axes, player.probabilities[:, 0], strict=True):
        shown = [line.get_ydata() for line in axis.lines[:3]]
        np.testing.assert_allclose(shown, curves.T)
    assert axes[0].get_title() == f"tokentm: area {player.areas()['tokentm']:.2f}"


@pytest.mark.browser
@pytest.mark.parametrize("order", ["most", "least"])
def test_pictures_lose_the_patches_that_are_gone(page, player, trace, picture, order):
    page.click(f"#first button[name=order][data-value={order}]")
    page.focus("#first input[name=step]")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    painted(page, 2, order)
    assert page.inner_text("#first .shown") == "6 of 15"
    for m, method in enumerate(METHODS):
        ranked = ranking(tokentm.methods.get(method)(trace).scores)[1].tolist()
        gone = ranked[:6] if order == "most" else ranked[-6:]
        for patch in range(PATCHES):
            found = pixel(page, method, patch, COLUMNS, ROWS)
            wanted = GREY if patch in gone else picture.getpixel((patch % COLUMNS * 4 + 2, patch // COLUMNS * 4 + 2))
            assert found == pytest.approx(wanted, abs=3)
        values = page.locator(f"#first figure.curves[data-method={method}] output").all_inner_texts()
        probabilities = player.probabilities[m, int(order == "least"), 2]
        assert [float(v.removesuffix(" %")) for v in values] == pytest.approx((100 * probabilities).tolist(), abs=0.051)
        area = page.inner_text(f"#first figure.curves[data-method={method}] .area")
        exact = torch.trapezoid(player.probabilities[m, int(order == "least"), :, 0]) / 5
        assert area == f"mean over all steps {exact:.3f}"


@pytest.mark.browser
def test_lines_run_through_the_probabilities(page, player):
    for k in range(3):
        points = page.get_attribute(f"#first svg[data-panel='chart attention'] polyline[data-class='{k}']", "points")
        found = np.array([point.split(",") for point in points.split()], dtype=float)
        np.testing.assert_allclose(found[:, 0], np.array(player.counts) / 15 * 100, atol=0.01)
        np.testing.assert_allclose(found[:, 1], (1 - player.probabilities[1, 0, :, k]) * 100, atol=0.01)
    dashes = page.locator("#first svg[data-panel='chart attention'] polyline").evaluate_all(
        "(lines) => lines.map((line) => line.getAttribute('stroke-dasharray'))"
    )
    assert len(set(dashes)) == 3


@pytest.mark.browser
def test_a_score_is_written_as_a_number_on_an_axis_of_its_own(chromium_page, difference, picture):
    wrong = watch(chromium_page)
    player = PerturbationPlayer(difference, METHODS, image=picture, index=1, steps=5, step=2, progress=False)
    show(chromium_page, player)
    low, high = (end.item() for end in player.curves.aminmax())
    chart = chromium_page.locator("#first svg[data-panel='chart attention']")
    ticks = chromium_page.locator("#first figure.curves[data-method=attention] .tick").all_text_contents()
    assert [float(text) for text in ticks] == pytest.approx([high, (low + high) / 2, low], rel=1e-2)
    found = np.array([p.split(",") for p in chart.locator("polyline").get_attribute("points").split()], dtype=float)
    curve = player.curves[1, 0, :, 0]
    np.testing.assert_allclose(found[:, 1], (high - curve) / (high - low) * 100, atol=0.02)
    np.testing.assert_allclose(found[:, 0], np.array(player.counts) / 15 * 100, atol=0.01)
    (value,) = chromium_page.locator("#first figure.curves[data-method=attention] output").all_inner_texts()
    assert float(value) == pytest.approx(curve[2].item(), rel=1e-2)
    area = chromium_page.inner_text("#first figure.curves[data-method=attention] .area")
    assert float(area.removeprefix("mean over all steps ")) == pytest.approx(player.areas()["attention"], rel=1e-2)
    assert "Mean along the way: the mean of chosen score over the whole film" in chromium_page.inner_text(
        "#first .status"
    )
    assert chart.get_attribute("aria-label").startswith("Scores while patches go, Attention: chosen score from ")
    text = chromium_page.text_content("#first") + chart.get_attribute("aria-label")
    assert text.count("%") == 2 * len(METHODS)  # 0 % and 100 % of the patches, under each chart
    assert accessible(chromium_page) == []
    assert wrong == []


@pytest.mark.browser
def test_a_score_that_does_not_move_lies_in_the_middle(chromium_page, trace):
    flat = tokentm.record(trace.anatomy.model, trace.images, target=lambda logits: 5 + logits[:, 4] * 1e-20)
    show(chromium_page, PerturbationPlayer(flat, ["attention"], steps=5, progress=False))
    points = chromium_page.get_attribute("#first svg[data-panel='chart attention'] polyline", "points")
    assert {point.split(",")[1] for point in points.split()} == {"50.00"}


@pytest.mark.browser
def test_what_stands_in_a_chart_is_not_stretched_with_it(page):
    """Words keep their size; the dots lie on the lines, also in a narrow place."""
    page.focus("#first input[name=step]")
    page.keyboard.press("ArrowRight")
    painted(page, 1)
    for width in (420, 1200):
        page.set_viewport_size({"width": width, "height": 800})
        for text in page.locator("#first .chart span").all():
            assert text.evaluate("(text) => getComputedStyle(text).fontSize") == "12px"
        away = page.evaluate(
            """() => {
                 const place = document.querySelector("#first figure.curves[data-method=attention]");
                 const plot = place.querySelector(".plot svg").getBoundingClientRect();
                 return [...place.querySelectorAll(".dot")].map((dot, k) => {
                   const { left, top, width, height } = dot.getBoundingClientRect();
                   const points = place.querySelector(`polyline[data-class="${k}"]`).getAttribute("points").split(" ");
                   const [x, y] = points[1].split(",").map(Number);
                   return Math.max(Math.abs(left + width / 2 - plot.left - x / 100 * plot.width),
                                   Math.abs(top + height / 2 - plot.top - y / 100 * plot.height));
                 });
               }"""
        )
        assert len(away) == 3
        assert max(away) < 0.6


@pytest.mark.browser
def test_on_a_phone_pictures_are_in_a_row_and_the_controls_stay(page):
    page.set_viewport_size({"width": 420, "height": 700})
    tops = page.locator("#first .films .map").evaluate_all(
        "(maps) => maps.map((map) => map.getBoundingClientRect().top)"
    )
    assert len(tops) == 2
    assert len(set(tops)) == 1
    page.mouse.wheel(0, 500)
    page.wait_for_function("scrollY > 300")
    page.wait_for_function(
        "Math.abs(document.querySelector('#first .run').getBoundingClientRect().top) < 1", timeout=3000
    )


@pytest.mark.browser
def test_who_wins_is_said_and_true(chromium_page, trace):
    player = PerturbationPlayer(
        trace, ["tokentm", "random"], classes=NAMES, index=1, replace="zero", shown=[3], progress=False
    )
    half = player.probabilities[0, 0, 0, 0] / 2
    first = (player.probabilities[..., 0] <= half).int().argmax(-1)  # (methods, orders)
    (most, most_by_chance), (least, least_by_chance) = torch.tensor(player.counts)[first].T.tolist()
    assert most < most_by_chance
    assert least > least_by_chance
    means = {}
    for player.order in ("least", "most"):
        ours, chance = player.areas()["tokentm"], player.areas()["random"]
        ahead = chance < ours if player.order == "most" else chance > ours
        said = f" By the mean over all steps Random is ahead: {chance:.3f} against {ours:.3f}."
        means[player.order] = said if ahead else ""
    assert means["most"]  # the two measures disagree here, which is said
    show(chromium_page, player)
    assert chromium_page.inner_text("#first .story") == (
        f"Taking away TokenTM's first {most} patches halves the probability of cow; Random needs {most_by_chance}."
        + means["most"]
    )
    chromium_page.click("#first button[name=order][data-value=least]")
    chromium_page.wait_for_function("document.querySelector('#first .story').textContent.startsWith('The least')")
    assert chromium_page.inner_text("#first .story") == (
        f"The least relevant first, the probability of cow halves only at {least} patches in the order of TokenTM; "
        f"at {least_by_chance} in that of Random." + means["least"]
    )


@pytest.mark.browser
def test_the_chart_is_a_handle(page):
    chart = page.locator("#first svg[data-panel='chart tokentm']")
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
    page.mouse.down()
    painted(page, 2)
    page.mouse.move(box["x"] + box["width"] * 0.97, box["y"] + 40, steps=3)
    page.mouse.up()
    painted(page, 5)
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.wait_for_timeout(100)
    painted(page, 5)


@pytest.mark.browser
def test_it_plays_to_the_end_and_starts_again(page):
    page.evaluate("model.set('speed', 8)")
    page.click("#first button[name=play]")
    seen = "globalThis.seen ??= []; seen.push(model.get('step'));"
    page.evaluate(f"() => {{ model.on('change:step', () => {{ {seen} }}); }}")
    page.wait_for_function("document.querySelector('#first button[name=play]').textContent === '▶ Play'")
    page.click("#first button[name=play]")
    page.wait_for_function("globalThis.seen?.length >= 7")
    assert page.evaluate("seen.slice(0, 7)") == [1, 2, 3, 4, 5, 0, 1]
    page.click("#first button[name=play]")


@pytest.mark.browser
def test_it_says_how_patches_are_removed(chromium_page, trace):
    wrong = watch(chromium_page)
    for replace, words in (("drop", "their tokens leave the sequence"), ("blur", "image blurred over one patch")):
        widget = PerturbationPlayer(trace, METHODS, classes=NAMES, steps=2, replace=replace, progress=False)
        show(chromium_page, widget)
        status = chromium_page.inner_text("#widget .status, #first .status")
        assert words in status
        assert status.startswith("Explained: <b>cat</b>.")
    assert chromium_page.locator("#first b").count() == 0
    assert wrong == []


@pytest.mark.browser
def test_axe_finds_nothing(page):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert accessible(page) == []
    page.emulate_media(color_scheme="light")
