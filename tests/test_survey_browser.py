"""The survey browser: it shows the numbers of the survey, and every class, head and patch can be asked."""

from __future__ import annotations

import math

import pytest
import torch
import traitlets
from browser import accessible, show, watch
from surveys import make_survey, without_masks

import tokentm
from tokentm_widgets import SurveyBrowser, export_html, survey_browser

COLUMNS, PATCHES = 5, 15


@pytest.fixture(scope="module")
def survey():
    return make_survey()


@pytest.fixture
def page(chromium_page, survey):
    wrong = watch(chromium_page)
    show(chromium_page, SurveyBrowser(survey, statistic="object"))
    yield chromium_page
    assert wrong == []


def painted(page, *state):
    page.wait_for_selector(f"#first .tokentm[data-painted='{' '.join(map(str, state))} true']", timeout=5000)


# ---- what is sent ----


def test_what_is_sent_of_heads_are_means_over_pictures(survey):
    sent = {one["name"]: one for one in SurveyBrowser(survey)._data["statistics"]}
    assert list(sent) == ["distance", "entropy", "object"]
    masked = [0, 2, 4]
    for layer in range(3):
        for head in range(2):
            for name, values in (
                ("distance", [float(survey.distance[i, layer, head]) for i in range(6)]),
                ("entropy", [float(survey.entropy[i, layer, head]) for i in range(6)]),
                ("object", [100 * float(survey.on_object[i, layer, head]) for i in masked]),
            ):
                mean = sum(values) / len(values)
                spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
                assert sent[name]["means"][layer][head] == pytest.approx(mean, rel=1e-4)
                assert sent[name]["deviations"][layer][head] == pytest.approx(spread, rel=1e-3)


def test_a_head_that_looks_everywhere_alike_is_told(survey):
    sent = {one["name"]: one["alike"] for one in SurveyBrowser(survey)._data["statistics"]}
    far = [math.hypot((i // 5 - j // 5) * 4, (i % 5 - j % 5) * 4) for i in range(PATCHES) for j in range(PATCHES)]
    assert sent["distance"] == pytest.approx(sum(far) / len(far), rel=1e-4)
    assert sent["entropy"] == pytest.approx(math.log(16))
    assert sent["object"] == pytest.approx(100 * sum(float(survey.covered[i]) for i in (0, 2, 4)) / 3, rel=1e-4)


def test_what_is_sent_of_classes_counts_pictures_and_ranks_patches(survey):
    browser = SurveyBrowser(survey)
    assert [one["name"] for one in browser._data["classes"]] == ["<b>cat</b>", "dog", "bird"]  # no fish is predicted
    assert browser.predicted == [0, 1, 2]
    for explained, one in enumerate(browser._data["classes"]):
        pictures = [i for i in range(6) if int(survey.predicted[i]) == explained]
        assert one["pictures"] == len(pictures)
        assert one["decided"] == [[int(survey.decided[i]) for i in pictures].count(k) for k in (1, 2, 3)]
        for sent, patch in zip(one["driving"], survey.of(explained), strict=True):
            assert sent["ofLargest"] == pytest.approx(patch.contribution / survey.of(explained)[0].contribution)
            scores = survey.seen[patch.picture].scores
            assert sent["times"] == pytest.approx(float(scores[patch.patch] / scores.mean()), rel=1e-4)
            assert sent["source"] == f"picture {patch.picture}"
            assert sent["label"] == ("fish" if patch.picture == 0 else None)


def test_only_so_many_pictures_are_sent_the_strongest_of_every_class_first(survey, monkeypatch):
    monkeypatch.setattr(survey_browser, "MOST_PICTURES", 3)
    data = SurveyBrowser(survey)._data
    assert len(data["pictures"]) == 3
    assert [one["driving"][0]["picture"] for one in data["classes"]] == [0, 1, 2]
    kept = {survey.of(c)[0].picture for c in range(3)}
    for explained, one in enumerate(data["classes"]):
        for sent, patch in zip(one["driving"], survey.of(explained), strict=True):
            assert (sent["picture"] is not None) == (patch.picture in kept)


def test_names_of_classes_may_be_given(survey):
    browser = SurveyBrowser(survey, classes=["a", "b", "c", "d"])
    assert [one["name"] for one in browser._data["classes"]] == ["a", "b", "c"]
    with pytest.raises(tokentm.InvalidOptionError, match="a name for each of the 4 classes; got 2"):
        SurveyBrowser(survey, classes=["a", "b"])


def test_state_that_does_not_exist_is_refused(survey):
    browser = SurveyBrowser(survey)
    with pytest.raises(traitlets.TraitError, match="expected chosen from 0 to 2; got 3"):
        browser.chosen = 3
    with pytest.raises(traitlets.TraitError, match="expected rank from 0 to 4; got 5"):
        browser.rank = 5
    with pytest.raises(traitlets.TraitError, match=r"among distance, entropy; got 'object'\. No picture has masks"):
        SurveyBrowser(without_masks(survey), statistic="object")
    with pytest.raises(tokentm.InvalidOptionError, match=r"expected a survey, from tokentm\.survey\.collect"):
        SurveyBrowser("survey.safetensors")
    with pytest.raises(tokentm.InvalidOptionError, match="Did you mean chosen="):
        SurveyBrowser(survey, chose=1)


def test_repr_and_figure(survey):
    browser = SurveyBrowser(survey, statistic="entropy", chosen=1)
    assert repr(browser) == "SurveyBrowser(6 pictures; 3 classes; entropy)"
    figure = browser.figure()
    assert "the 5 patches that contribute most to dog" in figure.alt
    heads, bars = figure.subfigs[0].axes[:2]
    shown = torch.tensor(heads.images[0].get_array())
    torch.testing.assert_close(shown, survey.entropy.mean(0).T, check_dtype=False)
    assert [bar.get_height() for bar in bars.patches] == browser._data["classes"][1]["decided"]
    assert sum(len(axis.images) for axis in figure.subfigs[1].axes) == 5
    assert browser.about == "Model: tiny, on the data pictures:here."


# ---- in a browser ----


def assert_heads(page, values, digits):
    for layer in range(3):
        for head in range(2):
            cell = f"#first td[data-cell='{layer} {head}']"
            assert float(page.get_attribute(cell, "data-value")) == pytest.approx(float(values[layer, head]), rel=1e-4)
            assert float(page.inner_text(cell)) == pytest.approx(float(values[layer, head]), abs=0.5001 * 10**-digits)


@pytest.mark.browser
def test_the_numbers_of_heads_are_shown_and_switched(page, survey):
    painted(page, "object", 0, 0)
    assert_heads(page, 100 * survey.on_object.nanmean(0), 0)
    page.click("#first button[name=statistic][data-value=entropy]")
    painted(page, "entropy", 0, 0)
    assert_heads(page, survey.entropy.mean(0), 2)
    page.focus("#first td[data-cell='0 0']")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    value = float(survey.entropy[:, 1, 1].mean())
    assert page.inner_text("#first .heads .reading").startswith(f"Layer 2, head 2: {value:.2f} nats, give or take ")


@pytest.mark.browser
def test_a_class_has_its_own_patches_and_layers(page, survey):
    painted(page, "object", 0, 0)
    assert page.locator("#first b").count() == 0  # a name is no markup
    page.click("#first button[name=chosen][data-value='1']")
    painted(page, "object", 1, 0)
    assert page.inner_text("#first h2") == "What drives dog, over 6 pictures"
    shares = page.locator("#first .driving .share").all_inner_texts()
    strongest = survey.of(1)[0].contribution
    assert [int(text.split(" ")[0]) for text in shares] == [
        int(100 * one.contribution / strongest + 0.5) for one in survey.of(1)
    ]
    counts = page.locator("#first .bars .count").all_inner_texts()
    own = [int(survey.decided[i]) for i in (1, 4)]
    assert [int(text or 0) for text in counts] == [own.count(layer) for layer in (1, 2, 3)]


def assert_map(page, survey, one):
    """The ring is around the patch, and its colour is that of the largest value where it is the largest."""
    row, column = divmod(one.patch, COLUMNS)
    style = page.get_attribute("#first [data-map=driving] .rings i", "style")
    assert f"left: {100 * column / COLUMNS:g}%" in style.replace(".000%", "%")
    assert f"top: {100 * row / 3:.3f}%".replace(".000%", "%") in style.replace(".000%", "%")
    assert f"picture {one.picture}, row {row + 1}, column {column + 1}: " in page.inner_text("#first .picture .says")


@pytest.mark.browser
def test_a_patch_is_shown_in_its_picture_by_click_and_by_keys(page, survey):
    painted(page, "object", 0, 0)
    assert_map(page, survey, survey.of(0)[0])
    page.click("#first .driving button[data-rank='3']")
    painted(page, "object", 0, 3)
    assert_map(page, survey, survey.of(0)[3])
    page.keyboard.press("ArrowLeft")
    painted(page, "object", 0, 2)
    assert_map(page, survey, survey.of(0)[2])
    assert page.evaluate("document.activeElement.dataset.rank") == "2"
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    painted(page, "object", 0, 4)  # the last one


@pytest.mark.browser
def test_a_picture_with_another_label_says_so(page, survey):
    rank = next(k for k, one in enumerate(survey.of(0)) if one.picture == 0)
    page.evaluate(f"model.set('rank', {rank})")
    painted(page, "object", 0, rank)
    assert "It is labelled fish, and answered with <b>cat</b>." in page.inner_text("#first .picture .says")


@pytest.mark.browser
def test_pictures_that_are_not_kept_are_said_to_be_so(chromium_page, survey, monkeypatch):
    monkeypatch.setattr(survey_browser, "MOST_PICTURES", 1)
    show(chromium_page, SurveyBrowser(survey, chosen=1))
    chromium_page.wait_for_selector("#first .tokentm[data-painted='distance 1 0 false']", timeout=5000)
    assert "Its picture is not kept here." in chromium_page.inner_text("#first .picture .says")
    assert not chromium_page.is_visible("#first [data-map=driving]")


@pytest.mark.browser
def test_it_is_accessible_and_whole_on_a_phone(page):
    painted(page, "object", 0, 0)
    for width, scheme in ((390, "dark"), (1440, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert accessible(page, "#first .tokentm") == []


@pytest.mark.browser
def test_its_page_opens_without_a_network(chromium, survey, tmp_path):
    path = export_html(SurveyBrowser(survey), tmp_path / "survey.html")
    assert "default-src 'none'" in path.read_text()
    page = chromium.new_page()
    wrong = watch(page)
    page.goto(path.as_uri() + "#chosen=2&rank=1")
    page.wait_for_selector(".tokentm[data-painted='distance 2 1 true']", timeout=5000)
    assert wrong == []
    page.close()
