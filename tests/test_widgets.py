"""What all widgets of a record have in common: keywords, pictures, names, what the model's answer is called."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import traitlets
from browser import pixel, show, watch
from PIL import Image

import tokentm
from tokentm.renamed import renamed
from tokentm_widgets import (
    LayerStepper,
    MethodComparison,
    PathExplorer,
    PerturbationPlayer,
    TokenPlayground,
    payload,
)

NAMES = ["zero", "one", "two"]
REVERSED = {2: "two", 1: "one", 0: "zero"}
ROWS, COLUMNS = 3, 5


class Index:
    """Names that are iterated, have a length and no truth, as a pandas Index."""

    def __init__(self, names):
        self.names = names

    def __iter__(self):
        return iter(self.names)

    def __len__(self):
        return len(self.names)

    def __bool__(self):
        raise ValueError("The truth value of an Index is ambiguous")


KINDS = {
    "list": lambda: NAMES,
    "tuple": lambda: tuple(NAMES),
    "dict in reverse order": lambda: REVERSED,
    "dict of strings": lambda: {"1": "one", "0": "zero", "2": "two"},
    "array": lambda: np.array(NAMES),
    "index": lambda: Index(NAMES),
    "generator": lambda: (name for name in NAMES),
}

WIDGETS = {
    "LayerStepper": LayerStepper,
    "MethodComparison": lambda trace, **options: MethodComparison(trace, ["rollout", "random"], **options),
    "PerturbationPlayer": lambda trace, **options: PerturbationPlayer(
        trace, ["rollout", "random"], steps=2, progress=False, **options
    ),
    "PathExplorer": PathExplorer,
}


@pytest.fixture(scope="module")
def model(tiny):
    return tiny(img_size=(12, 20), patch_size=4, num_classes=3)


@pytest.fixture(scope="module")
def trace(model):
    torch.manual_seed(1)
    return tokentm.record(model, torch.randn(1, 3, 12, 20).expand(2, -1, -1, -1), target=[1, 2])


@pytest.fixture(scope="module")
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8))


@pytest.fixture(params=WIDGETS.values(), ids=WIDGETS.keys())
def widget(request):
    return request.param


# ---- keywords ----


@pytest.mark.parametrize(("keyword", "meant"), [("imges", "images"), ("opacitty", "opacity")])
def test_a_misspelt_keyword_is_refused(trace, picture, keyword, meant):
    with pytest.raises(tokentm.InvalidOptionError) as raised:
        LayerStepper(trace, **{keyword: picture})
    assert str(raised.value) == (
        f"expected the keywords of LayerStepper; got {keyword}=. Did you mean {meant}=? It takes trace, images, "
        "classes, method, progress, head, index, kept, layer, opacity, patch, playing, scale, speed."
    )


def test_every_widget_refuses_unknown_keywords_before_it_computes(trace, widget, monkeypatch):
    monkeypatch.setattr(tokentm.methods.TokenTM, "steps", lambda *_: pytest.fail("computed"))
    monkeypatch.setitem(tokentm.methods.METHODS, "rollout", lambda *_: pytest.fail("computed"))
    with pytest.raises(tokentm.InvalidOptionError, match=r"got wrong_one=, wrong_two=\. It takes trace, "):
        widget(trace, wrong_one=1, wrong_two=2)


def test_a_widget_without_a_record_refuses_them_too():
    with pytest.raises(tokentm.InvalidOptionError, match=r"got chossen=\. Did you mean chosen=\?"):
        TokenPlayground(chossen=1)


def test_traits_and_jupyters_own_keywords_are_taken(trace):
    assert LayerStepper(trace, layer=1, layout={"width": "50%"}).layout.width == "50%"


def test_pictures_are_called_images_and_the_old_name_warns(trace, widget, picture):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wanted = widget(trace, images=picture)._data["pictures"]
    with pytest.warns(DeprecationWarning, match=r"^image= is called images= now\.$") as warned:
        assert widget(trace, image=picture)._data["pictures"] == wanted
    assert len(wanted) == 1
    assert {warning.filename for warning in warned} == {__file__}
    with pytest.raises(TypeError, match="images= or image="):
        widget(trace, images=picture, image=picture)


def test_positions_are_as_they_were(trace, picture):
    assert len(LayerStepper(trace, picture, NAMES)._data["pictures"]) == 1
    assert len(PathExplorer(trace, picture, NAMES)._data["pictures"]) == 1
    assert len(MethodComparison(trace, ["rollout"], picture, NAMES)._data["pictures"]) == 1


def test_renamed_keeps_the_function_as_it_was():
    @renamed(old="new")
    def twice(new: int, other: int = 2) -> int:
        """Doubles."""
        return new * other

    assert (twice.__name__, twice.__doc__, twice(3), twice(new=4)) == ("twice", "Doubles.", 6, 8)
    with pytest.warns(DeprecationWarning, match=r"^old= is called new= now\.$"):
        assert twice(old=5, other=3) == 15
    with pytest.raises(TypeError):
        twice(old=1, new=1)


# ---- what is no record ----


def test_what_is_no_record_is_refused(model, trace, widget, picture):
    for wrong, name in ((model, "VisionTransformer"), (picture, "Image"), (trace.images, "Tensor"), (None, "NoneType")):
        with pytest.raises(tokentm.InvalidOptionError) as raised:
            widget(wrong)
        text = str(raised.value)
        assert text.startswith(f"expected a record from tokentm.record(model, images); got {name}. ")
        assert text.endswith("(tokentm.record(model, images)).")
    explanation = tokentm.methods.get("rollout")(trace)
    with pytest.raises(tokentm.InvalidOptionError, match=r"got Explanation\. An explanation does not keep the layers"):
        widget(explanation)


@pytest.mark.parametrize("kind", [MethodComparison, PerturbationPlayer])
def test_pictures_in_place_of_methods_are_refused(trace, picture, kind):
    for wrong, name in ((picture, "Image"), ("cat.png", "cat.png"), (tokentm.TokenTM(), "TokenTM"), ([], "list")):
        with pytest.raises(tokentm.InvalidOptionError, match=f"expected a list of methods; got '{name}'.*images="):
            kind(trace, wrong)


# ---- names of classes ----


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_names_are_taken_in_every_form(trace, widget, kind):
    made = widget(trace, classes=kind())
    wanted = ["one", "two"]
    if isinstance(made, PerturbationPlayer):
        assert made._data["explained"] == "one"
        assert sorted(made._data["names"]) == sorted(NAMES)
    else:
        assert made._data["names"] == wanted
    assert "one" in repr(made)
    assert "one" in made.figure().alt


@pytest.mark.parametrize(
    "wrong", ["abc", {"zero", "one", "two"}, {"zero": 0, "one": 1, "two": 2}, 3], ids=["str", "set", "label2id", "int"]
)
def test_what_holds_no_names_in_an_order_is_refused(trace, widget, wrong):
    with pytest.raises(tokentm.InvalidOptionError, match=r"expected .*class names"):
        widget(trace, classes=wrong)


def test_the_models_own_names_are_used(trace, widget):
    own = replace(trace, class_names=("cat", "dog", "bird"))
    assert "dog" in repr(widget(own))
    assert "one" in repr(widget(own, classes=NAMES))
    unfit = replace(trace, class_names=("cat", "dog"))  # another head
    assert "class 1" in repr(widget(unfit))


# ---- what the answer is ----

ANSWERED = ("LayerStepper", "MethodComparison", "PathExplorer")


@pytest.mark.parametrize(
    ("outputs", "wanted"),
    [
        ("softmax", lambda logits: logits.softmax(1)),
        ("sigmoid", lambda logits: logits.sigmoid()),
        ("probabilities", lambda logits: logits),
        ("none", None),
    ],
)
@pytest.mark.parametrize("kind", ANSWERED)
def test_probabilities_are_those_of_the_outputs(trace, kind, outputs, wanted):
    data = WIDGETS[kind](replace(trace, outputs=outputs))._data
    assert data["answers"] == pytest.approx(trace.scores.tolist())
    if wanted is None:
        assert data["probabilities"] is None
        assert data["names"] == ["output 1", "output 2"]
    else:
        of = wanted(trace.logits)
        assert data["probabilities"] == pytest.approx([of[0, 1].item(), of[1, 2].item()])


@pytest.mark.parametrize("kind", ANSWERED)
@pytest.mark.browser
def test_a_number_without_a_probability_is_shown_as_a_number(chromium_page, trace, kind):
    wrong = watch(chromium_page)
    show(chromium_page, WIDGETS[kind](replace(trace, outputs="none")))
    texts = chromium_page.locator("#first button[name=index]").all_inner_texts()
    assert wrong == []
    assert not any("%" in text for text in texts)
    for text, score, name in zip(texts, trace.scores.tolist(), ("output 1", "output 2"), strict=True):
        assert text.startswith(f"{name} (")
        assert float(text[len(name) + 2 : -1]) == pytest.approx(score, rel=0.01)


@pytest.mark.browser
def test_a_chosen_score_is_shown_with_its_value(chromium_page, model, trace):
    chosen = tokentm.record(model, trace.images[:1], target=lambda logits: logits[:, 2] - logits[:, 0])
    show(chromium_page, LayerStepper(chosen))
    text = chromium_page.inner_text("#first .answered")
    assert text.startswith("chosen score (")
    assert LayerStepper(chosen)._data["choice"] == "Explained"
    assert float(text[14:-1]) == pytest.approx(chosen.scores.item(), rel=0.01)


# ---- state ----


def test_a_truth_value_is_no_index(trace, widget):
    with pytest.raises((traitlets.TraitError, tokentm.InvalidOptionError), match=r"expected index .*; got True\."):
        widget(trace, index=True)
    if widget is not WIDGETS["PerturbationPlayer"]:
        made = widget(trace)
        with pytest.raises(traitlets.TraitError, match="expected patch from 0 to 14 or None; got True"):
            made.patch = True


@pytest.mark.parametrize("count", [10**9, 101, True, 2.0])
def test_more_paths_than_a_diagram_shows_are_refused(trace, count):
    with pytest.raises(tokentm.InvalidOptionError, match=rf"expected a count of 1 to 100 paths .*; got {count}\."):
        PathExplorer(trace, count=count)


# ---- maps that lie beside their patches ----


def test_the_shift_is_sent(trace, widget):
    assert widget(trace)._data["offset"] == [0.0, 0.0]
    assert widget(shifted(trace, 0.5, -0.25))._data["offset"] == [0.5, -0.25]


def shifted(trace, down, right):
    return replace(trace, layout=replace(trace.layout, offset=(down, right)))


SHOT = """(name) => document.querySelector(`#first canvas[data-panel=${name}]`).toDataURL()"""


@pytest.mark.browser
def test_a_map_lies_where_tokens_look(chromium_page, trace):
    """Shifted by whole patches, a map's cells are found one row lower and one column to the right."""
    show(chromium_page, LayerStepper(trace))
    chromium_page.wait_for_selector("#first .tokentm[data-painted]")
    before = [pixel(chromium_page, "update", patch, COLUMNS, ROWS) for patch in range(ROWS * COLUMNS)]
    show(chromium_page, LayerStepper(shifted(trace, 1, 1)))
    chromium_page.wait_for_selector("#first .tokentm[data-painted]")
    for patch in range(ROWS * COLUMNS):
        row, column = divmod(patch, COLUMNS)
        found = pixel(chromium_page, "update", patch, COLUMNS, ROWS)
        grey = [128, 128, 128]  # nobody looks there
        assert found == (before[(row - 1) * COLUMNS + column - 1] if row and column else grey), patch


@pytest.mark.browser
def test_pointing_follows_the_shift(chromium_page, trace):
    show(chromium_page, MethodComparison(shifted(trace, 0.5, 0.5), ["rollout"]))
    box = chromium_page.locator("#first [data-map=image]").bounding_box()

    def at(column, row):
        chromium_page.mouse.click(box["x"] + box["width"] * column / COLUMNS, box["y"] + box["height"] * row / ROWS)
        return chromium_page.evaluate("model.get('patch')")

    assert at(1.4, 1.4) == 0  # in the second cell of the picture's grid, but the first patch looks there
    assert at(1.6, 1.4) == 1
    assert at(4.9, 2.9) == 2 * COLUMNS + 4
    assert at(0.4, 0.4) is None


@pytest.mark.browser
def test_an_outline_ends_where_the_picture_ends(chromium_page, trace):
    show(chromium_page, MethodComparison(shifted(trace, 0.5, 0.5), ["rollout"], patch=14))
    chromium_page.wait_for_selector("#first .tokentm[data-painted]")
    ring, picture = chromium_page.evaluate(
        """["#first [data-map=image] .rings i", "#first [data-map=image]"].map((at) => {
             const { left, right, top, bottom } = document.querySelector(at).getBoundingClientRect();
             return [left, right, top, bottom];
           })"""
    )
    assert ring[1] == pytest.approx(picture[1], abs=0.5)
    assert ring[3] == pytest.approx(picture[3], abs=0.5)
    assert ring[0] == pytest.approx(picture[1] - (picture[1] - picture[0]) / COLUMNS / 2, abs=0.5)


@pytest.mark.browser
def test_without_a_shift_nothing_changes(chromium_page, trace, picture):
    """To the pixel: the same as from a front end that has never heard of shifts."""
    comparison = MethodComparison(trace, ["rollout"], images=picture, patch=7)
    shots = []
    for data in (comparison._data, {name: v for name, v in comparison._data.items() if name != "offset"}):
        comparison._data = data
        show(chromium_page, comparison)
        chromium_page.wait_for_selector("#first .tokentm[data-painted$=true]")
        shots.append([chromium_page.evaluate(SHOT, name) for name in ("image", "rollout")])
    assert shots[0] == shots[1]


def test_the_payload_of_a_record_names_its_shift(trace):
    assert payload.grid(shifted(trace, 0.25, 0.5))["offset"] == [0.25, 0.5]
