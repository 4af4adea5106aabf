"""explore: every choice is answered by the library's own numbers, and what fails is said."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
import traitlets
from browser import accessible, pixel, show, watch
from matplotlib import colormaps
from PIL import Image
from planted_tokens import planted

import tokentm
from tokentm import tokens
from tokentm_widgets import (
    LayerStepper,
    MethodComparison,
    PathExplorer,
    PerturbationPlayer,
    explore,
    export_html,
)
from tokentm_widgets.looking import VIEWS

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
    shown = explorer.shown
    scores = np.frombuffer(shown["scores"], "<f4")
    np.testing.assert_allclose(scores, explanation.scores[0].numpy(), rtol=1e-4)  # streamed, not recorded
    assert shown["unit"] == "softmax"
    odds = np.frombuffer(shown["values"], "<f4")
    np.testing.assert_allclose(odds, explanation.logits[0].softmax(0).numpy(), rtol=1e-5)
    assert shown["target"] == explanation.target.item()
    assert shown["explained"] == NAMES[shown["target"]]
    assert explorer.busy == "" == explorer.error


def test_it_begins_with_the_predicted_class(explorer, model, pictures):
    assert_shows(explorer, expected(model, pictures[0]))
    assert explorer.view is None


def test_every_choice_is_answered(explorer, model, pictures):
    explorer.target = 3
    assert_shows(explorer, expected(model, pictures[0], 3))
    explorer.method = "rollout"
    assert_shows(explorer, expected(model, pictures[0], 3, "rollout"))
    explorer.picture = 1  # class and method stay
    assert_shows(explorer, expected(model, pictures[1], 3, "rollout"))
    explorer.target = None
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
    explorer.target = 2
    explorer.view = view
    assert isinstance(explorer.view, kind)
    assert "bird" in repr(explorer.view)
    first = explorer.view
    explorer.target = 5
    assert explorer.view is not first
    assert "fox" in repr(explorer.view)
    explorer.view = None
    assert explorer.view is None


def test_a_view_keeps_what_was_chosen_in_it(explorer):
    explorer.view = "layers"
    explorer.view.layer, explorer.view.head, explorer.view.patch, explorer.view.speed = 0, 1, 7, 4
    explorer.picture = 1
    assert (explorer.view.layer, explorer.view.head, explorer.view.patch, explorer.view.speed) == (0, 1, 7, 4)
    assert explorer.patch is None  # from where this view looks is its own


def test_what_is_chosen_in_one_view_is_chosen_in_all(explorer):
    explorer.view = "layers"
    explorer.view.kept, explorer.view.layer, explorer.view.head, explorer.view.opacity = 7, 0, 1, 0.5
    assert (explorer.patch, explorer.layer, explorer.head, explorer.opacity) == (7, 0, 1, 0.5)
    explorer.view = "methods"
    assert (explorer.view.patch, explorer.view.opacity) == (7, 0.5)
    explorer.patch = 3
    assert explorer.view.patch == 3
    explorer.view.patch = None
    assert explorer.patch is None
    explorer.view = "layers"
    assert (explorer.view.layer, explorer.view.head, explorer.view.kept) == (0, 1, None)


def test_no_layer_chosen_is_the_last_one_in_a_view_that_shows_one(explorer):
    explorer.view = "layers"
    assert (explorer.layer, explorer.view.layer) == (None, 1)
    explorer.view.layer = 0
    explorer.layer = None
    assert (explorer.layer, explorer.view.layer) == (None, 1)


def test_what_only_one_view_knows_is_its_setting(explorer):
    explorer.view = "methods"
    explorer.view.unit = "rank"
    assert explorer.methods_settings.items() >= {"unit": "rank", "reference": None}.items()
    assert not {"patch", "opacity", "index"} & set(explorer.methods_settings)
    explorer.methods_settings = {"unit": "share", "reference": "rollout"}
    assert (explorer.view.unit, explorer.view.reference) == ("share", "rollout")
    explorer.methods_settings = {"unit": "magic", "reference": None}  # from a browser gone wrong
    assert (explorer.view.unit, explorer.methods_settings["unit"]) == ("share", "share")


def test_a_view_is_sent_by_the_explorer_and_by_nobody_else(explorer):
    explorer.view = "layers"
    assert explorer.view.comm is None
    assert explorer._layers == {**explorer.view._data, "pictures": []}  # the picture is shown already
    assert explorer._methods == {}
    explorer.view = "methods"
    assert explorer._layers == {}
    assert explorer._methods["methods"] == explorer.view._data["methods"]


def test_a_view_shown_by_itself_connects_by_itself(explorer):
    explorer.view = "paths"
    explorer.view._repr_mimebundle_()
    assert explorer.view.comm is not None


def test_a_view_asks_and_is_answered_through_the_explorer(explorer, monkeypatch):
    explorer.view = "layers"
    answers = []
    monkeypatch.setattr(explorer, "send", lambda content, buffers=None: answers.append((content, buffers)))
    question = {"kind": "rows", "index": 0, "head": 1, "patch": None}
    explorer._receive(explorer, {"kind": "part", "view": "layers", "content": question}, [])
    explorer._receive(explorer, {"kind": "part", "view": "paths", "content": question}, [])  # which is not open
    [(content, buffers)] = answers
    assert (content["kind"], content["view"], content["content"]["asked"]) == ("part", "layers", question)
    assert len(buffers) == len(content["content"]["parts"]) > 0


def test_a_selection_that_another_picture_lacks_is_let_go(model, tiny, pictures):
    explorer = explore(model, pictures[0], NAMES, TRANSFORM)
    explorer.patch, explorer.layer, explorer.head = 14, 1, 1
    explorer._fit({"P": 14, "L": 1, "H": 1})
    assert (explorer.patch, explorer.layer, explorer.head) == (None, None, None)
    for name, message in (
        ("patch", "patch from 0 to 13"),
        ("layer", "layer from 0 to 0"),
        ("head", "head from 0 to 0"),
    ):
        with pytest.raises(traitlets.TraitError, match=message):
            setattr(explorer, name, 14)


def test_the_map_after_each_layer_is_sent_where_it_only_grows(explorer):
    grown = np.frombuffer(explorer.shown["growth"], "<f4").reshape(2, PATCHES)
    np.testing.assert_allclose(grown, explorer.explanation.layer_scores[0], rtol=1e-6)
    explorer.method = "attention"  # of a layer, not up to it
    assert explorer.shown["growth"] is None
    explorer.method = "input_x_gradient"  # signed
    assert explorer.shown["growth"] is None


# ---- what a reader asks for is computed in a thread ----


def elsewhere(work):
    """In a thread without an event loop; in this one a browser's may be running."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def asked(explorer, *messages, until):
    """What the browser sends, a dict of choices or a message, in a kernel's loop, until something is so."""

    async def run():
        for one in messages:
            if "kind" in one:
                explorer._receive(explorer, one, [])
            else:
                explorer.set_state(one)
            await asyncio.sleep(0)
        for _ in range(1000):
            if until():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"nothing came: {explorer.busy} {explorer.error}")

    elsewhere(lambda: asyncio.run(run()))


def test_a_choice_in_the_browser_is_answered_from_a_thread(explorer, model, pictures):
    threads = set()
    explorer.observe(lambda _: threads.add(threading.current_thread()), "shown")
    asked(explorer, {"target": 3, "tab": "paths"}, until=lambda: explorer._paths and not explorer.busy)
    assert_shows(explorer, expected(model, pictures[0], 3))
    assert isinstance(explorer.view, PathExplorer)
    assert len(threads) == 1  # traits are touched by one thread alone


@pytest.fixture
def slow(monkeypatch):
    """A method that ends when it is let."""
    let, begun = threading.Event(), threading.Event()

    def method(trace):
        begun.set()
        assert let.wait(10)
        return replace(tokentm.methods.METHODS["rollout"](trace), method="legrad")

    monkeypatch.setitem(tokentm.methods.METHODS, "legrad", method)
    method.class_specific = True
    yield let, begun
    let.set()


def test_the_kernel_hears_the_wish_to_stop(explorer, slow, model, pictures):
    let, begun = slow

    def stop():
        if begun.is_set() and explorer._desk.busy and not explorer._desk._work.stopped:
            assert explorer.busy in ("getting ready", "computing legrad")
            explorer._receive(explorer, {"kind": "stop"}, [])
            let.set()
        return not explorer.busy

    asked(explorer, {"method": "legrad", "tab": "layers"}, until=stop)
    assert (explorer.method, explorer.tab, explorer.view) == ("tokentm", None, None)
    assert_shows(explorer, expected(model, pictures[0]))


def test_a_newer_choice_takes_the_place_of_an_older_one(explorer, slow, model, pictures):
    let, begun = slow

    def done():
        if begun.is_set() and explorer.target != 2:
            explorer.set_state({"method": "tokentm", "target": 2})
            let.set()
        return not explorer.busy

    shown = []
    explorer.observe(lambda change: shown.append(change["new"]["method"]), "shown")
    asked(explorer, {"method": "legrad"}, until=done)
    assert_shows(explorer, expected(model, pictures[0], 2))
    assert shown == ["tokentm"]


def test_python_waits_for_what_the_browser_asked_for(explorer):
    async def run():
        explorer.set_state({"tab": "layers"})
        return explorer.view

    assert isinstance(elsewhere(lambda: asyncio.run(run())), LayerStepper)
    assert explorer._layers


def test_python_comes_before_what_the_browser_asked_for(explorer, slow, model, pictures):
    let, begun = slow

    async def run():
        explorer.set_state({"method": "legrad"})
        begun.wait(10)
        threading.Timer(0.1, let.set).start()
        explorer.method = "rollout"
        return explorer.shown["method"]

    assert elsewhere(lambda: asyncio.run(run())) == "rollout"


def test_a_failure_in_a_thread_is_said(explorer, monkeypatch):
    monkeypatch.setitem(tokentm.methods.METHODS, "legrad", lambda _: 1 / 0)
    asked(explorer, {"method": "legrad"}, until=lambda: explorer.error and not explorer.busy)
    assert explorer.error == "ZeroDivisionError: division by zero"
    assert explorer.shown == {}


def test_progress_is_told(explorer):
    told = []
    explorer.observe(lambda change: told.append((explorer.busy, change["new"])), "progress")
    explorer.view = "methods"
    shares = [share for _, share in told]
    assert len(shares) > 3
    assert {busy for busy, _ in told} >= {"computing rollout", ""}
    assert (explorer.busy, explorer.progress) == ("", 0)


# ---- how far to trust the map ----


def test_every_map_is_compared_with_that_of_the_least_likely_class(explorer, model):
    least = int(explorer.trace.logits[0].argmin())
    other = tokentm.record(model, explorer.trace.images, least)
    for method in ("tokentm", "generic_attention"):
        explorer.method = method
        found = explorer.trust["classes"]
        absent = tokentm.methods.get(method)(other).scores
        assert found["other"] == NAMES[least]
        np.testing.assert_allclose(np.frombuffer(found["scores"], "<f4"), absent[0], rtol=1e-5)
        expected = tokentm.evaluation.rank_correlation(explorer.explanation.scores, absent)
        assert found["correlation"] == pytest.approx(expected.item(), abs=1e-6)
        assert explorer.trust["removal"] is explorer.trust["methods"] is None
        assert explorer.trust["outliers"]["verdict"] == "Yes"
    explorer.method = "rollout"
    assert explorer.trust["classes"]["why"] == "Attention rollout gives every class the same map."


def test_a_class_that_cannot_be_compared_leaves_the_map(explorer, monkeypatch):
    known = tokentm.methods.METHODS["legrad"]

    def method(trace):
        if trace.target[0] != explorer.target:
            raise tokentm.UnsupportedModelError("no such class")
        return known(trace)

    monkeypatch.setitem(tokentm.methods.METHODS, "legrad", method)
    method.class_specific = True
    explorer.target = 0
    explorer.method = "legrad"
    assert (explorer.error, explorer.shown["method"]) == ("", "legrad")
    assert explorer.trust["classes"]["why"] == "no such class"


def test_the_other_checks_are_made_when_they_are_asked_for(explorer):
    measured = explorer.check()
    assert explorer.trust["classes"]["verdict"] == measured.classes.verdict
    assert explorer.trust["classes"]["other"] == NAMES[int(explorer.trace.logits[0].argmin())]
    assert explorer.trust["removal"]["whole"] == pytest.approx(explorer.trace.probabilities.max().item())
    assert set(explorer.trust["methods"]["others"]) >= {"rollout", "attention", "generic_attention"}
    explorer.target = 1
    assert explorer.trust["removal"] is explorer.trust["methods"] is None  # they were of another map
    explorer.target = None
    assert explorer.trust["removal"]["whole"] == measured.removal.whole  # measured already

    def checked():
        return explorer.trust.get("removal") and not explorer.busy

    asked(explorer, {"target": 1}, {"kind": "check"}, until=checked)
    assert explorer.target == 1


def test_what_cannot_be_checked_is_said(explorer, model, pictures):
    explorer.method = "rollout"
    assert explorer.check().classes == "Attention rollout gives every class the same map."
    assert explorer.trust["classes"]["why"] == "Attention rollout gives every class the same map."
    assert explorer.trust["classes"]["verdict"] == "–"
    chosen = explore(model, pictures[0], NAMES, TRANSFORM, target=difference)
    assert chosen.check().classes.startswith("A chosen score was explained")
    assert chosen.check().removal.unit == "score"
    assert chosen.check().removal.whole == pytest.approx(chosen.trace.scores.item(), rel=1e-5)


# ---- a page without a kernel ----


def test_a_page_holds_every_class_that_is_offered_by_every_method_that_reads_the_record(explorer, model, pictures):
    explorer.target = int(explorer.trace.logits[0].argmin())
    data = explorer.offline_data()["offline"]
    targets = [one["target"] for one in data["offered"]]
    assert targets == [*explorer.trace.logits[0].argsort(descending=True)[:5].tolist(), explorer.target]
    scores = np.frombuffer(data["scores"], "<f4").reshape(6, len(data["methods"]), PATCHES)
    assert "rollout" in data["methods"]
    assert "integrated_gradients" not in data["methods"]  # which runs the model again and again
    for k, target in enumerate(targets):
        for name in ("tokentm", "rollout", "generic_attention"):
            wanted = tokentm.methods.get(name)(tokentm.record(model, TRANSFORM(pictures[0])[None], target)).scores[0]
            np.testing.assert_allclose(scores[k, data["methods"].index(name)], wanted, rtol=1e-3, atol=1e-7)


def test_the_method_shown_is_in_the_page_even_where_it_runs_the_model_again(explorer):
    explorer.method = "legrad"
    assert "legrad" in explorer.offline_data()["offline"]["methods"]


def test_checks_in_a_page_are_those_made_one_by_one(explorer):
    data = explorer.offline_data()["offline"]
    for k, m in ((0, 0), (2, data["methods"].index("generic_attention")), (1, data["methods"].index("rollout"))):
        explorer.target, explorer.method = data["offered"][k]["target"], data["methods"][m]
        explorer.check()
        found = data["trust"][k * len(data["methods"]) + m]
        for check in ("classes", "removal", "methods", "outliers"):
            for name, value in explorer.trust[check].items():
                if isinstance(value, float):
                    assert found[check][name] == pytest.approx(value, rel=1e-4), (k, m, check, name)
                elif not isinstance(value, bytes):
                    assert found[check][name] == value, (k, m, check, name)


def test_outlier_tokens_in_a_page_are_those_of_each_map(model, pictures):
    record = tokentm.record(model, TRANSFORM(pictures[0])[None])
    explorer = explore(planted(model, record, (7,), 60.0), pictures[0], NAMES, TRANSFORM)
    data = explorer.offline_data()["offline"]
    for k, one in enumerate(data["offered"]):
        trace = tokentm.record(explorer.trace.anatomy.model, explorer.trace.images, one["target"])
        for m, name in enumerate(data["methods"]):
            [expected] = tokens.findings(trace, tokentm.methods.get(name)(trace))
            found = data["trust"][k * len(data["methods"]) + m]["outliers"]
            assert (found["patches"], found["count"]) == ([7], PATCHES)
            assert found["share"] == pytest.approx(expected.share, rel=1e-3, abs=1e-6), (one["target"], name)
            assert (found["verdict"], found["advice"]) == ("No" if expected.dominated else "Mostly", expected.advice)
    shares = [one["outliers"]["share"] for one in data["trust"]]
    assert len({round(share, 4) for share in shares}) > len(data["methods"])  # of each class and method its own


def test_views_in_a_page_are_of_all_classes(explorer):
    explorer.view = "methods"
    explorer.view.unit = "rank"
    parts, data = explorer.offline_data()["parts"], explorer.offline_data()["offline"]
    names = [one["explained"] for one in data["offered"]]
    for view in ("layers", "methods", "paths"):
        assert parts[view]["data"][0]["names"] == names
        assert parts[view]["data"][0]["pictures"] == []
    assert [one["explained"] for one in parts["removal"]["data"]] == names
    assert parts["methods"]["settings"].items() >= {"unit": "rank", "reference": None}.items()
    assert parts["layers"]["settings"]["playing"] is False


def test_a_chosen_score_is_alone_in_a_page(model, pictures):
    explorer = explore(model, pictures[0], NAMES, TRANSFORM, target=difference)
    data = explorer.offline_data()
    assert [one["target"] for one in data["offline"]["offered"]] == [None]
    assert data["parts"]["layers"]["data"][0]["names"] == ["chosen score"]


def test_a_view_too_large_for_a_page_says_so(explorer, monkeypatch):
    def too_large(*_):
        raise tokentm.InvalidOptionError("expected a smaller record")

    monkeypatch.setitem(VIEWS, "layers", replace(VIEWS["layers"], make=too_large))
    assert explorer.offline_data()["parts"]["layers"] == {"why": "expected a smaller record"}


def test_one_record_serves_every_method_and_view(explorer, monkeypatch):
    calls = []
    record = tokentm.trace.record
    monkeypatch.setattr("tokentm_widgets.looking.record", lambda *a, **o: (calls.append(a), record(*a, **o))[1])
    explorer.method = "attention"
    explorer.view = "layers"
    explorer.view = "paths"
    assert calls == []
    explorer.target = 1
    assert len(calls) == 1


def test_rankings_follow_the_method(explorer):
    explorer.view = "removal"
    explorer.method = "legrad"
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
    explorer.view = "removal"
    assert repr(explorer.view).endswith("zero)")


def test_a_failure_is_said_and_the_old_map_goes(explorer, monkeypatch):
    def fails(*_):
        raise tokentm.NotFiniteError("expected finite numbers")

    explorer.view = "layers"
    monkeypatch.setitem(tokentm.methods.METHODS, "legrad", fails)
    explorer.method = "legrad"
    assert explorer.error == "expected finite numbers"
    assert explorer.shown == {}
    assert explorer.view is None
    assert explorer.busy == ""
    explorer.method = "tokentm"
    assert explorer.error == ""
    assert explorer.shown["method"] == "tokentm"
    assert isinstance(explorer.view, LayerStepper)  # which was open before


def test_an_unexpected_failure_is_said_and_raised(explorer, monkeypatch):
    monkeypatch.setitem(tokentm.methods.METHODS, "legrad", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explorer.method = "legrad"
    assert explorer.error == "ZeroDivisionError: division by zero"


def test_a_picture_of_ones_own(explorer, model, pictures):
    buffer = BytesIO()
    pictures[2].save(buffer, "PNG")
    upload = {"kind": "upload", "name": "mine.png"}
    elsewhere(lambda: explorer._receive(explorer, upload, [memoryview(buffer.getvalue())]))
    assert explorer.gallery[-1]["name"] == "mine.png"
    assert explorer.picture == 2
    assert_shows(explorer, expected(model, pictures[2]))


def test_a_file_that_is_no_picture_is_refused(explorer):
    explorer._receive(explorer.overview, {"kind": "upload", "name": "notes.txt"}, [b"no picture"])
    assert "expected a picture file" in explorer.error
    assert "notes.txt" in explorer.error
    assert len(explorer.gallery) == 2


def test_a_transform_that_does_not_tell_leaves_the_map_alone(model, pictures):
    explorer = explore(model, pictures[0], NAMES, lambda picture: TRANSFORM(picture))
    assert explorer.shown["picture"] is None
    assert "expected a transform that tells how it normalises" in explorer.shown["note"]
    explorer.view = "layers"
    assert explorer.view._data["pictures"] == []


def test_the_demo_needs_nothing():
    explorer = explore()
    assert len(explorer.gallery) == 5
    for index, entry in enumerate(explorer.gallery):
        explorer.picture = index
        assert explorer.shown["explained"] in entry["name"].split(", ")
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
    assert explore(model, pictures[0], None, TRANSFORM)._data["classes"][6] == "class 6"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("picture", 2, "expected picture from 0 to 1; got 2"),
        ("target", 7, "expected target from 0 to 6 or None; got 7"),
        ("method", "magic", "expected a method among tokentm, "),
        ("tab", "magic", "expected a view among layers, methods, removal, paths or None; got 'magic'"),
    ],
)
def test_state_that_does_not_exist_is_refused(explorer, name, value, message):
    with pytest.raises(traitlets.TraitError, match=re.escape(message)):
        setattr(explorer, name, value)


def test_repr_and_still_picture(explorer):
    explorer.target = 1
    assert repr(explorer) == "Explorer(dog; tokentm; 2 pictures)"
    data, _ = explorer._repr_mimebundle_()
    assert data["text/plain"] == repr(explorer)
    assert 'alt="Heat map of tokentm for dog, beside the picture"' in data["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in data
    explorer.view = "paths"
    assert repr(explorer) == "Explorer(dog; tokentm; 2 pictures; PathExplorer(dog; 5 paths through 2 layers))"


def test_the_choices_stand_where_they_stood(explorer):
    explorer.overview.target, explorer.overview.view = 3, "layers"
    assert (explorer.target, explorer.tab) == (3, "layers")
    assert isinstance(explorer.overview.view, LayerStepper)


REVERSED = {index: NAMES[index] for index in reversed(range(7))}


@pytest.mark.parametrize(
    "given",
    [lambda: REVERSED, lambda: np.array(NAMES), lambda: (name for name in NAMES), lambda: tuple(NAMES)],
    ids=["dict in reverse order", "array", "generator", "tuple"],
)
def test_bars_targets_figures_and_views_show_the_same_names(model, pictures, given):
    explorer = explore(model, pictures[0], given(), TRANSFORM)
    assert explorer._data["classes"] == NAMES
    for target in (1, 5):
        explorer.target = target
        assert explorer.shown["explained"] == NAMES[target]
        assert explorer.figure().alt.startswith(f"Heat map of tokentm for {NAMES[target]}")
        for view in ("layers", "methods", "paths", "removal"):
            explorer.view = view
            assert NAMES[target] in repr(explorer.view)


@pytest.mark.parametrize("wrong", ["abcdefg", set(NAMES), {name: i for i, name in enumerate(NAMES)}])
def test_what_holds_no_names_in_an_order_is_refused(model, pictures, wrong):
    with pytest.raises(tokentm.InvalidOptionError, match=r"expected .*class names"):
        explore(model, pictures[0], wrong, TRANSFORM)


def test_the_models_own_names_are_used(model, pictures, monkeypatch):
    def named(*arguments, **options):
        return replace(tokentm.record(*arguments, **options), class_names=tuple("abcdefg"))

    monkeypatch.setattr("tokentm_widgets.looking.record", named)
    assert explore(model, pictures[0], None, TRANSFORM)._data["classes"] == list("abcdefg")
    assert explore(model, pictures[0], NAMES, TRANSFORM)._data["classes"] == NAMES


def test_a_reading_is_called_by_the_name_that_was_chosen(explorer):
    explorer.method = "tokentm_libragrad"
    assert explorer.shown["method"] == "tokentm_libragrad" == explorer.explanation.method
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
    shown = explorer.shown
    assert shown["unit"] == outputs
    found = np.frombuffer(shown["values"], "<f4")
    np.testing.assert_allclose(found, wanted(explorer.trace.logits[0]).numpy(), rtol=1e-5)
    explorer.target = 4  # the next record, too
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
    np.testing.assert_allclose(np.frombuffer(explorer.shown["scores"], "<f4"), wanted.scores[0], rtol=1e-4)
    logits = wanted.logits[0]
    assert explorer.shown["explained"] == "chosen score" == explorer.target
    assert explorer.shown["score"] == pytest.approx((logits[4] - logits[3]).item(), rel=1e-5)
    assert explorer.shown["target"] is None
    explorer.target = 2
    assert_shows(explorer, expected(model, pictures[0], 2))
    explorer.picture, explorer.target = 1, "chosen score"
    wanted = expected(model, pictures[1], difference)
    np.testing.assert_allclose(np.frombuffer(explorer.shown["scores"], "<f4"), wanted.scores[0], rtol=1e-4)
    explorer.target = None
    assert_shows(explorer, expected(model, pictures[1]))
    explorer.target = "chosen score"
    explorer.view = "layers"
    assert "chosen score" in repr(explorer.view)


def assert_shows_log_odds(explorer, model, picture, index):
    """The map, the score and the words of the log-odds of a class, and what the model answers for all of them."""
    wanted = expected(model, picture, lambda z: z[:, index] - torch.log(z.exp().sum(1) - z[:, index].exp()))
    shown = explorer.shown
    np.testing.assert_allclose(np.frombuffer(shown["scores"], "<f4"), wanted.scores[0], rtol=1e-3)
    odds = wanted.logits[0].softmax(0)
    assert shown["score"] == pytest.approx((odds[index] / (1 - odds[index])).log().item(), rel=1e-4)
    np.testing.assert_allclose(np.frombuffer(shown["values"], "<f4"), odds, rtol=1e-5)
    assert (shown["explained"], shown["named"], shown["target"]) == (f"log-odds of {NAMES[index]}", NAMES[index], index)


def test_a_score_of_a_class_is_explained_of_every_class_that_is_chosen(model, pictures):
    explorer = explore(model, pictures[:2], NAMES, TRANSFORM, target=tokentm.log_odds(4))
    assert (explorer.target, explorer._data["chosen"]) == (4, None)
    assert_shows_log_odds(explorer, model, pictures[0], 4)
    explorer.target = 2
    assert_shows_log_odds(explorer, model, pictures[0], 2)
    explorer.picture, explorer.target = 1, None
    assert_shows_log_odds(explorer, model, pictures[1], int(expected(model, pictures[1]).target))
    assert explorer.about.startswith("Model:")
    assert f"log-odds of {NAMES[explorer.shown['target']]} {explorer.shown['score']:.3g}." in explorer.about
    found = explorer.check()
    other = explorer.trace.logits[0].argmin().item()
    wanted = tokentm.TokenTM()(tokentm.record(model, explorer.trace.images, tokentm.log_odds(other))).scores[0]
    assert found.classes.other == other
    torch.testing.assert_close(found.classes.scores, wanted)
    explorer.view = "removal"
    assert explorer.view.unit == "probability"
    assert explorer.view.heading == f"What the model still says of {NAMES[explorer.shown['target']]} when patches go"
    explorer.view = "layers"
    assert explorer.view.heading == f"How {explorer.shown['explained']} came about, layer by layer"
    assert explorer.view._data["probabilities"] is None


def test_a_score_of_a_class_by_its_name(model, pictures):
    assert explore(model, pictures[0], NAMES, TRANSFORM, target=tokentm.probability("fox")).target == 5
    first = explore(model, pictures[0], NAMES, TRANSFORM, target=tokentm.log_odds())
    assert_shows_log_odds(first, model, pictures[0], int(expected(model, pictures[0]).target))
    assert first.target is None
    with pytest.raises(tokentm.InvalidTargetError, match="model's 7 class names; got 'fx'"):
        explore(model, pictures[0], NAMES, TRANSFORM, target=tokentm.log_odds("fx"))
    with pytest.raises(tokentm.InvalidTargetError, match="expected one class to be explained at first"):
        explore(model, pictures[0], NAMES, TRANSFORM, target=tokentm.log_odds([1, 2]))


def test_a_difference_is_the_chosen_score_with_a_name(model, pictures):
    explorer = explore(model, pictures[0], NAMES, TRANSFORM, target=tokentm.difference(4, 3))
    wanted = expected(model, pictures[0], difference)
    np.testing.assert_allclose(np.frombuffer(explorer.shown["scores"], "<f4"), wanted.scores[0], rtol=1e-4)
    assert explorer.shown["explained"] == "lead of hen over cow"
    assert (explorer.shown["named"], explorer.shown["target"], explorer.target) == ("", None, "chosen score")
    explorer.target = 2
    assert_shows(explorer, expected(model, pictures[0], 2))


def test_a_page_without_a_kernel_offers_the_score_of_each_class(model, pictures):
    explorer = explore(model, pictures[0], NAMES, TRANSFORM, target=tokentm.log_odds())
    held = explorer.offline_data()["offline"]
    for k, one in enumerate(held["offered"]):
        assert (one["explained"], one["named"]) == (f"log-odds of {NAMES[one['target']]}", NAMES[one["target"]])
        wanted = tokentm.record(model, explorer.trace.images, tokentm.log_odds(one["target"]))
        assert one["score"] == pytest.approx(wanted.scores.item(), rel=1e-4)
        maps = np.frombuffer(held["scores"], "<f4").reshape(len(held["offered"]), len(held["methods"]), PATCHES)
        scores = tokentm.TokenTM()(wanted).scores[0]
        np.testing.assert_allclose(maps[k, held["methods"].index("tokentm")], scores, rtol=1e-3)


@pytest.mark.parametrize("target", [5, np.int64(5), torch.tensor(5)])
def test_a_class_can_be_explained_at_first(model, pictures, target):
    explorer = explore(model, pictures[0], NAMES, TRANSFORM, target=target)
    assert explorer.target == 5
    assert_shows(explorer, expected(model, pictures[0], 5))
    with pytest.raises(traitlets.TraitError, match="expected target from 0 to 6 or None; got 'chosen score'"):
        explorer.target = "chosen score"


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
    assert explorer.shown["explained"] == "chosen score"
    assert explorer._data["classes"][23] == "output 23"
    assert explorer._data["predicts"] is False
    explorer.target = 3
    assert explorer.shown["explained"] == "output 3"
    with pytest.raises(tokentm.InvalidTargetError):
        explore(features, pictures[0], None, TRANSFORM)


def test_the_demo_takes_a_target():
    assert explore(target=3).shown["target"] == 3
    assert explore(target=difference).shown["explained"] == "chosen score"


@pytest.mark.parametrize("name", ["picture", "target"])
def test_a_truth_value_is_no_index(explorer, name):
    with pytest.raises(traitlets.TraitError, match=f"expected {name} from 0 to .*; got True"):
        setattr(explorer.overview, name, True)


def test_the_shift_of_the_tokens_is_sent(explorer):
    assert explorer.shown["offset"] == [0.0, 0.0]
    trace = explorer.trace
    shifted = replace(trace, layout=replace(trace.layout, offset=(0.5, 0.25)))
    assert replace(explorer._looked, trace=shifted).shown("dog", "dog")["offset"] == [0.5, 0.25]


# ---- in the browser, with a kernel: the test stands for it ----

REVIVED = """(text) => JSON.parse(text, (name, value) => value?.$bytes === undefined ? value
  : new DataView(Uint8Array.from(atob(value.$bytes), (letter) => letter.charCodeAt(0)).buffer))"""
TRAITS = ["shown", "trust", *(f"{name}_settings" for name in VIEWS), *(f"_{name}" for name in VIEWS)]


def encoded(value):
    return {"$bytes": base64.b64encode(bytes(value)).decode()}


def live(page, explorer):
    """Opens the explorer as it is in a notebook, without what only a page without a kernel has."""
    explorer.offline_data = lambda: explorer._data
    show(page, explorer)
    answer(page, explorer)


def answer(page, explorer):
    """What the kernel would send."""
    sent = json.dumps({name: getattr(explorer, name) for name in TRAITS}, default=encoded)
    page.evaluate(
        f"""(text) => {{
             model.set("busy", "recording");
             for (const [name, value] of Object.entries(({REVIVED})(text))) model.set(name, value);
             model.set("busy", "");
           }}""",
        sent,
    )


@pytest.fixture
def page(chromium_page, explorer):
    wrong = watch(chromium_page)
    explorer.target = 0
    live(chromium_page, explorer)
    painted(chromium_page, "0 0 tokentm  false true")
    yield chromium_page
    assert wrong == []


def painted(page, expected):
    page.wait_for_selector(
        f"#first > .tokentm[data-painted='{expected}'], #widget > .tokentm[data-painted='{expected}']"
    )


def said(page, selector, text):
    page.wait_for_function(
        "([selector, text]) => document.querySelector(`#first ${selector}`)?.textContent.includes(text)",
        arg=[selector, text],
    )


def fits(page):
    """Nothing is cut off at the right, no text is too small to read."""
    return page.evaluate(
        """() => {
             const shown = [...document.querySelectorAll("#first *")].filter((node) => node.getClientRects().length);
             const wide = document.documentElement.scrollWidth > innerWidth ? ["the page"] : [];
             const cut = shown.filter((node) => node.clientWidth > 2 && node.scrollWidth > node.clientWidth + 1
               && !["visible", "auto"].includes(getComputedStyle(node).overflowX) && !node.matches(".name, .spoken"));
             const own = (node) => [...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
             const small = shown.filter((node) => own(node) && parseFloat(getComputedStyle(node).fontSize) < 11
               && getComputedStyle(node).fontSize !== "0px");
             return [...wide, ...[...cut, ...small].map((node) => node.outerHTML.slice(0, 120))];
           }"""
    )


@pytest.mark.browser
def test_the_map_is_the_librarys(page, explorer):
    page.evaluate("model.set('opacity', 1)")
    scores = explorer.explanation.scores[0].numpy()
    wanted = colormaps["viridis"](scores / scores.max())[:, :3] * 255
    page.wait_for_timeout(100)
    shares = np.sqrt(scores / scores.max())  # how much of its colour lies over the grey picture
    for patch in range(PATCHES):
        found = np.array(pixel(page, "map", patch, COLUMNS, ROWS))
        under = found - shares[patch] * wanted[patch]  # what is left of the picture
        assert -8 <= under.min() <= under.max() <= 255 * (1 - shares[patch]) + 8, patch
    odds = explorer.trace.logits[0].softmax(0)
    texts = page.locator("#first .answer button[data-class]").all_inner_texts()
    top = odds.argsort(descending=True)[:5].tolist()
    for text, c in zip(texts, top, strict=False):
        assert text.split("\n")[0] == NAMES[c]
        assert float(text.split("\n")[-1].removesuffix(" %")) == pytest.approx(100 * odds[c].item(), abs=0.051)
    assert page.inner_text("#first h2") == "Why <b>cat</b>?"
    assert page.locator("#first b b").count() == 0


@pytest.mark.browser
def test_the_map_is_read_in_words(page, explorer):
    scores = explorer.explanation.scores[0]
    row, column = divmod(int(scores.argmax()), COLUMNS)
    half = int((scores.sort(descending=True).values.cumsum(0) < scores.sum() / 2).sum()) + 1
    lead = page.inner_text("#first .lead")
    assert lead.startswith(f"Half of the map for <b>cat</b> lies on {half} of the 15 patches.")
    assert f"row {row + 1}, column {column + 1}, contributes" in lead
    found = float(re.search(r"contributes ([\d.]+) times", lead)[1])
    assert found == pytest.approx(float(scores.max() / scores.mean()), rel=0.06)


@pytest.mark.browser
def test_a_class_is_chosen_and_the_answer_drawn(page, explorer):
    page.evaluate("model.asked = []")
    page.locator("#first .answer button[data-class]").nth(1).click()
    chosen = page.evaluate("model.get('target')")
    assert page.inner_text("#first .status") == "Asking the kernel …"
    explorer.target = chosen
    answer(page, explorer)
    painted(page, f"0 {chosen} tokentm  false true")
    pressed = page.locator("#first .answers button[aria-pressed=true]")
    assert pressed.get_attribute("data-class") == str(chosen)
    assert pressed.evaluate("(chip) => chip === document.activeElement")  # the keyboard stays where it was
    assert page.inner_text("#first h2") == f"Why {NAMES[chosen]}?"
    assert page.is_hidden("#first .work")


@pytest.mark.browser
@pytest.mark.parametrize("typed", ["5: fox", "fox", "5", "FO"])
def test_any_class_is_found_by_number_or_name(page, typed):
    page.fill("#first input[name=target]", typed)
    assert page.locator("#first .answer datalist option").first.get_attribute("value") == "5: fox"
    page.press("#first input[name=target]", "Enter")
    page.wait_for_function("model.get('target') === 5")


@pytest.mark.browser
@pytest.mark.parametrize("width", [420, 590, 1440])
@pytest.mark.parametrize("view", [None, *VIEWS])
def test_nothing_is_cut_off_at_any_width(page, explorer, width, view):
    explorer.view = view
    explorer.check()
    page.evaluate("(view) => model.set('tab', view)", view)
    answer(page, explorer)
    page.set_viewport_size({"width": width, "height": 900})
    painted(page, f"0 0 tokentm {view or ''} false true")
    columns = page.evaluate(
        "getComputedStyle(document.querySelector('#first .upper')).gridTemplateColumns.split(' ').length"
    )
    assert columns == {420: 1, 590: 1, 1440: 3}[width]
    assert fits(page) == []
    page.set_viewport_size({"width": 1280, "height": 720})


@pytest.mark.browser
def test_a_narrow_cell_in_a_wide_window_has_one_column(page):
    page.evaluate("document.querySelector('#first').style.width = '420px'")
    columns = "getComputedStyle(document.querySelector('#first .upper')).gridTemplateColumns.split(' ')"
    page.wait_for_function(f"{columns}.length === 1")
    assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('#first .tokentm'))")
    places = [
        page.locator(f"#first .{name}").bounding_box()["y"] for name in ("hero", "answer", "gallery", "trust", "views")
    ]
    assert places == sorted(places)


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
    said(page, ".status", "There is no class unicorn")
    assert page.get_attribute("#first input[name=target]", "aria-invalid") == "true"
    assert page.evaluate("model.get('target')") == 0


@pytest.mark.browser
def test_a_silent_kernel_is_said(page):
    page.locator("#first .thumbs button").nth(1).click()
    said(page, ".status", "The kernel does not answer")


@pytest.mark.browser
def test_work_says_how_far_it_is_and_can_be_stopped(page):
    page.evaluate("model.set('busy', 'recording'); model.set('progress', 0.4)")
    said(page, ".status", "Working: recording … 40 %")
    assert page.evaluate("document.querySelector('#first progress').value") == pytest.approx(0.4)
    page.click("#first button[name=stop]")
    assert page.evaluate("model.asked") == [{"kind": "stop"}]
    page.evaluate("model.set('busy', '')")
    page.wait_for_selector("#first .work", state="hidden")


@pytest.mark.browser
def test_an_error_takes_the_map_away(page):
    page.evaluate("model.set('shown', {}); model.set('error', '<i>expected</i> this; got that')")
    page.wait_for_function("document.querySelector('#first .error').textContent === '<i>expected</i> this; got that'")
    assert page.locator("#first canvas:visible").count() == 0
    assert page.get_attribute("#first .error", "role") == "alert"


@pytest.mark.browser
def test_a_patch_is_pointed_at_kept_and_let_go(page, explorer):
    place = page.locator("#first .hero [data-map=map]")
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    at = (box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.5)  # row 2, column 4
    page.mouse.move(*at)
    said(page, ".read", "Row 2, column 4: ")
    scores = explorer.explanation.scores[0]
    read = page.inner_text("#first .read")
    assert float(re.search(r": ([\d.]+)×", read)[1]) == pytest.approx(float(scores[8] / scores.mean()), abs=0.06)
    assert f"rank {int((scores > scores[8]).sum()) + 1} of 15" in read
    page.mouse.click(*at)
    assert page.evaluate("model.get('patch')") == 8
    said(page, ".chips", "row 2, column 4")
    page.mouse.click(*at)
    assert page.evaluate("model.get('patch')") is None
    page.focus("#first .hero [data-map=map]")
    for key, patch in (("ArrowLeft", 7), ("ArrowLeft", 6), ("ArrowUp", 1), ("Escape", None)):
        page.keyboard.press(key)
        assert page.evaluate("model.get('patch')") == patch


@pytest.mark.browser
def test_chips_say_what_is_chosen_in_every_view_and_let_go(page):
    page.evaluate("model.set('patch', 8); model.set('layer', 0); model.set('head', 1)")
    page.wait_for_selector("#first .chips button[data-lets=head]")
    texts = page.locator("#first .chip").all_inner_texts()
    assert [text.removesuffix("×").strip() for text in texts] == ["<b>cat</b>", "row 2, column 4", "layer 1", "head 2"]
    for name in ("head", "layer", "patch"):
        page.click(f"#first .chips button[data-lets={name}]")
        page.wait_for_selector(f"#first .chips button[data-lets={name}]", state="detached")
        assert page.evaluate(f"model.get('{name}')") is None
    assert page.locator("#first .chip.all").all_inner_texts() == ["all patches", "all 2 layers", "all 2 heads"]


@pytest.mark.browser
def test_the_large_map_is_that_of_the_chosen_layer(page, explorer):
    page.evaluate("model.set('layer', 0)")
    said(page, ".lead", "After layer 1, ")
    part = explorer.explanation.layer_scores[0, 0].sum() / explorer.explanation.scores[0].sum()
    assert page.inner_text("#first .lead").startswith(
        f"After layer 1, {round(100 * float(part))} % of the final map is there: too early to judge."
    )
    assert page.inner_text("#first .checks .head .quiet") == "the map of all layers"


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
@pytest.mark.parametrize(("event", "holder"), [("drop", "dataTransfer"), ("paste", "clipboardData")])
def test_a_picture_may_be_dropped_or_pasted(page, event, holder):
    page.evaluate("() => { model.send = (message) => { window.sent = message; }; }")
    page.evaluate(
        f"""() => {{
             const given = new DataTransfer();
             given.items.add(new File([Uint8Array.of(1, 2, 3)], "mine.png", {{ type: "image/png" }}));
             const event = new {"DragEvent" if event == "drop" else "ClipboardEvent"}(
               "{event}", {{ {holder}: given, bubbles: true, cancelable: true }});
             document.querySelector("#first .thumbs").dispatchEvent(event);
           }}"""
    )
    page.wait_for_function("window.sent")
    assert page.evaluate("sent") == {"kind": "upload", "name": "mine.png"}


@pytest.mark.browser
def test_views_are_tabs(page, explorer):
    page.click("#first [role=tab][name=paths]")
    assert page.evaluate("model.get('tab')") == "paths"
    page.wait_for_selector("#first [role=tab][name=paths][aria-selected=true]")
    explorer.view = "paths"
    answer(page, explorer)
    page.wait_for_selector("#first [role=tabpanel] .tokentm[data-painted$=true]")
    assert page.get_attribute("#first [role=tabpanel]", "aria-labelledby") == page.get_attribute(
        "#first [role=tab][name=paths]", "id"
    )
    for key, name in (("ArrowLeft", "removal"), ("Home", "layers"), ("ArrowLeft", "paths"), ("ArrowRight", "layers")):
        page.keyboard.press(key)
        assert page.evaluate("[model.get('tab'), document.activeElement.name]") == [name, name]
    page.click("#first [role=tab][name=layers]")
    assert page.evaluate("model.get('tab')") is None
    page.wait_for_selector("#first [role=tabpanel] dl")


@pytest.mark.browser
def test_a_view_and_the_explorer_share_what_is_chosen(page, explorer):
    explorer.view = "layers"
    page.evaluate("model.set('tab', 'layers')")
    answer(page, explorer)
    page.wait_for_selector("#first [role=tabpanel] .tokentm[data-painted$=true]")
    assert page.locator("#first [role=tabpanel] .rings i").count() == 0
    page.evaluate("model.set('patch', 8)")
    page.wait_for_selector("#first [role=tabpanel] .term[data-term=contribution] .rings i")
    said(page, "[role=tabpanel] button[name=from-patch]", "row 2, column 4")
    page.click("#first [role=tabpanel] button[name=from-patch]")
    assert page.evaluate("[model.get('patch'), model.get('layers_settings').patch]") == [8, 8]
    page.click("#first [role=tabpanel] button[name=head][data-value='1']")
    assert page.evaluate("model.get('head')") == 1
    said(page, ".chips", "head 2")
    page.wait_for_function("model.asked.some((one) => one.view === 'layers' && one.content.head === 1)")
    page.select_option("#first [role=tabpanel] select[name=speed]", "4")
    assert page.evaluate("model.get('layers_settings').speed") == 4


@pytest.mark.browser
def test_a_view_plays(page, explorer):
    explorer.view = "removal"
    page.evaluate("model.set('tab', 'removal')")
    answer(page, explorer)
    page.click("#first [role=tabpanel] button[name=play]")
    page.wait_for_function("model.get('removal_settings').step > 1")
    page.click("#first [role=tabpanel] button[name=play]")
    assert page.evaluate("model.get('removal_settings').playing") is False


@pytest.mark.browser
def test_checks_are_asked_for_and_shown(page, explorer):
    first = explorer.trust["classes"]
    assert page.locator("#first .verdict").all_inner_texts() == [first["verdict"], "–", "–", "Yes"]
    assert page.locator("#first .pair figure").count() == 2
    assert f"rank correlation is {first['correlation']:.2f}" in page.inner_text("#first .check >> nth=0")
    page.click("#first button[name=check]")
    assert page.evaluate("model.asked") == [{"kind": "check"}]
    measured = explorer.check()
    answer(page, explorer)
    page.wait_for_selector("#first .drop")
    verdicts = [getattr(measured, name).verdict for name in ("classes", "removal", "methods", "outliers")]
    assert page.locator("#first .verdict").all_inner_texts() == verdicts
    assert page.is_disabled("#first button[name=check]")
    shared = len(measured.classes.shared)
    assert f"{shared} of the 2 strongest patches" in page.inner_text("#first .check >> nth=0")
    assert "without 2 strongest" in page.inner_text("#first .check >> nth=1")
    said(
        page,
        ".check:nth-of-type(4)",
        f"{len(measured.methods.agreeing)} of {len(measured.methods.others)} other methods",
    )


@pytest.mark.browser
def test_shared_patches_are_marked_on_the_map(page, explorer):
    explorer.check()
    strong = int(explorer.explanation.scores[0].argmax())
    explorer.trust = {**explorer.trust, "classes": {**explorer.trust["classes"], "shared": [strong]}}
    answer(page, explorer)
    page.check("#first input[name=mark]")
    page.wait_for_selector("#first .marks i")
    dot, place = (page.locator(f"#first .hero {part}").bounding_box() for part in (".marks i", "[data-map=map]"))
    across = (dot["x"] + dot["width"] / 2 - place["x"]) / place["width"]
    down = (dot["y"] + dot["height"] / 2 - place["y"]) / place["height"]
    assert [int(across * COLUMNS), int(down * ROWS)] == [strong % COLUMNS, strong // COLUMNS]
    page.uncheck("#first input[name=mark]")
    page.wait_for_selector("#first .marks i", state="detached")


@pytest.mark.browser
def test_outlier_tokens_are_said_and_marked_on_the_map(page, explorer):
    assert page.locator("#first .check >> nth=3").inner_text().split("\n") == ["Is it free of outlier tokens?", "Yes"]
    found = {"verdict": "No", "patches": [7, 3], "count": PATCHES, "share": 0.414, "advice": "Take <another>."}
    explorer.trust = {**explorer.trust, "outliers": found}
    answer(page, explorer)
    said(
        page, ".check:nth-of-type(5)", "41 % of the map lies on 2 of 15 patches (13 %): their tokens are outliers, far"
    )
    said(page, ".check:nth-of-type(5)", "so the map may not show where the evidence lay.")
    said(page, ".check:nth-of-type(5)", "Take <another>.")
    assert page.locator("#first .verdict >> nth=3").get_attribute("data-verdict") == "warn"
    assert page.locator("#first .marks i").count() == 0
    page.check("#first input[name='mark outliers']")
    page.wait_for_function("document.querySelectorAll('#first .marks i').length === 2")
    explorer.trust = {**explorer.trust, "outliers": {**found, "verdict": "Mostly", "patches": [7], "advice": ""}}
    answer(page, explorer)
    said(
        page, ".check:nth-of-type(5)", "1 of 15 patches (7 %): its token is an outlier, far longer than the others and"
    )
    page.wait_for_selector("#first .marks i", state="detached")
    assert "Mark this one" in page.inner_text("#first .check >> nth=3")
    assert "evidence" not in page.inner_text("#first .check >> nth=3")


@pytest.mark.browser
def test_a_closed_view_leaves_no_listener(page, explorer):
    explorer.view = "layers"
    page.evaluate("model.set('tab', 'layers')")
    answer(page, explorer)
    page.wait_for_selector("#first [role=tabpanel] .tokentm[data-painted$=true]")
    page.evaluate("close_first(); stop()")
    assert page.evaluate("Object.values(listeners).flat().length") == 0


@pytest.mark.browser
@pytest.mark.parametrize("view", [None, *VIEWS])
def test_axe_finds_nothing(page, explorer, view):
    explorer.view = view
    explorer.check()
    page.evaluate("(view) => model.set('tab', view)", view)
    answer(page, explorer)
    painted(page, f"0 0 tokentm {view or ''} false true")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert accessible(page) == []
    page.emulate_media(color_scheme="light")


# ---- a page without a kernel ----


@pytest.fixture
def exported(chromium_page, explorer, tmp_path):
    wrong = watch(chromium_page)
    export_html(explorer, tmp_path / "page.html")
    chromium_page.goto((tmp_path / "page.html").as_uri())
    chromium_page.wait_for_selector("#widget > .tokentm[data-painted$=true]")
    chromium_page.evaluate("document.querySelector('main').id = 'first'; window.model = tokentm.model")
    yield chromium_page
    assert wrong == []


@pytest.mark.browser
def test_an_exported_explorer_has_nothing_that_asks_a_kernel(exported):
    for name in ("input[name=upload]", "input[name=target]", "[name=predicted]", "[name=check]", ".thumbs button"):
        assert exported.locator(f"#first {name}:visible").count() == 0
    assert exported.locator("#first .verdict").first.inner_text() != "–"
    assert exported.locator("#first .answers button").count() == 5
    assert accessible(exported) == []


@pytest.mark.browser
def test_an_exported_explorer_shows_every_class_method_and_view(exported, explorer):
    exported.evaluate("model.set('opacity', 1)")
    second = int(explorer.trace.logits[0].argsort(descending=True)[1])
    exported.click(f"#first button[data-class='{second}']")
    exported.select_option("#first select[name=method]", "generic_attention")
    painted(exported, f"0 {second} generic_attention  false true".replace("  ", " layers "))
    explorer.target, explorer.method = second, "generic_attention"
    scores = explorer.explanation.scores[0].numpy()
    top = int(scores.argmax())
    exported.wait_for_timeout(100)
    found = np.array(pixel(exported, "map", top, COLUMNS, ROWS))
    assert np.abs(found - np.array(colormaps["viridis"](1.0)[:3]) * 255).max() <= 10
    assert exported.inner_text("#first h2") == f"Why {NAMES[second]}?"
    measured = explorer.check()
    assert exported.locator("#first .verdict").all_inner_texts() == [
        measured.classes.verdict,
        measured.removal.verdict,
        measured.methods.verdict,
        measured.outliers.verdict,
    ]
    for name in VIEWS:
        exported.click(f"#first [role=tab][name={name}]")
        exported.wait_for_selector("#first [role=tabpanel] .tokentm[data-painted$=true]")
        exported.wait_for_selector(f"#first [role=tab][name={name}][aria-selected=true]")
        assert NAMES[second] in exported.text_content("#first [role=tabpanel]"), name
    assert f"target={second}" in exported.url


@pytest.mark.browser
@pytest.mark.parametrize("width", [420, 1440])
def test_an_exported_explorer_fits_its_window(exported, width):
    exported.set_viewport_size({"width": width, "height": 900})
    exported.wait_for_timeout(100)
    assert fits(exported) == []
    exported.set_viewport_size({"width": 1280, "height": 720})


# ---- what the answer panel says ----


def panel(page, explorer):
    """Opens the explorer's page and gives (name, value) of every button of the answer, in order."""
    wrong = watch(page)
    live(page, explorer)
    page.wait_for_selector("#first .answer button[data-class]")
    assert wrong == []
    assert accessible(page) == []
    parts = "(chip) => [...chip.querySelectorAll('.name, .odds')].map((part) => part.textContent)"
    return [chip.evaluate(parts) for chip in page.locator("#first .answer button[data-class]").all()]


def bar(page, index, kind=".fill"):
    """Left end and width of a bar, in shares of its track."""
    return (
        page.locator("#first .answer button[data-class]")
        .nth(index)
        .evaluate(
            """(chip, kind) => {
                 const nodes = [chip.querySelector(".lane"), chip.querySelector(kind)];
                 const [whole, part] = nodes.map((one) => one.getBoundingClientRect());
                 return [(part.left - whole.left) / whole.width, part.width / whole.width];
               }""",
            kind,
        )
    )


@pytest.mark.browser
def test_labels_are_independent(chromium_page, model, pictures):
    explorer = explore(model, pictures[0], NAMES, TRANSFORM, outputs="sigmoid")
    rows = panel(chromium_page, explorer)
    odds = explorer.trace.logits[0].sigmoid()
    assert chromium_page.inner_text("#first .answer h3") == "The model's answer: independent labels"
    for i, (name, value) in enumerate(rows):
        of = odds[NAMES.index(name)].item()
        assert float(value.removesuffix(" %")) == pytest.approx(100 * of, abs=0.051)
        assert bar(chromium_page, i) == pytest.approx([0, of], abs=0.01)
    assert chromium_page.get_attribute("#first .answer input", "placeholder") == "Find one of 7 labels"


@pytest.mark.browser
def test_a_single_logit_is_yes_or_no(chromium_page, tiny, pictures):
    one = tiny(img_size=(12, 20), patch_size=4, num_classes=1).eval()
    explorer = explore(one, pictures[0], ["malignant"], TRANSFORM, outputs="sigmoid")
    ((name, value),) = panel(chromium_page, explorer)
    assert chromium_page.inner_text("#first .answer h3") == "The model's answer: yes / no"
    assert name == "malignant"
    assert float(value.removesuffix(" %")) == pytest.approx(100 * explorer.trace.logits.sigmoid().item(), abs=0.051)
    assert chromium_page.locator("#first .answer :is(input, [name=predicted]):visible").count() == 0


@pytest.mark.browser
def test_outputs_without_probabilities_are_signed_numbers(chromium_page, tiny, pictures):
    four = tiny(img_size=(12, 20), patch_size=4, num_classes=4).eval()
    explorer = explore(four, pictures[0], ["x", "y", "width", "height"], TRANSFORM, outputs="none")
    values = explorer.trace.logits[0].tolist()
    assert min(values) < 0 < max(values), "the test is of both signs"
    rows = panel(chromium_page, explorer)
    assert [name for name, _ in rows] == ["x", "y", "width", "height"]  # all find room: in the model's own order
    assert "%" not in chromium_page.inner_text("#first .answer")
    assert chromium_page.inner_text("#first .answer h3") == "The model's outputs"
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
    assert pressed.get_attribute("data-class") == "chosen score"
    assert chromium_page.inner_text("#first h2") == "Why the chosen score?"
    assert chromium_page.inner_text("#first .hero h3") == "What speaks for the chosen score"
    chromium_page.evaluate("model.set('target', 2)")
    chromium_page.fill("#first input[name=target]", "chosen score")
    chromium_page.press("#first input[name=target]", "Enter")
    chromium_page.wait_for_function("model.get('target') === 'chosen score'")


@pytest.mark.browser
def test_on_a_phone_long_names_are_whole(chromium_page, model, pictures):
    long = ["a name of a class that is far too long for any phone to show in one line", *NAMES[1:]]
    explorer = explore(model, pictures[0], long, TRANSFORM, outputs="none", target=0)
    chromium_page.set_viewport_size({"width": 420, "height": 800})
    panel(chromium_page, explorer)
    assert fits(chromium_page) == []
    for part in ("h2", ".hero h3", ".lead"):
        found = chromium_page.locator(f"#first {part}")
        assert long[0] in found.inner_text()
        assert found.evaluate("(one) => one.scrollWidth <= one.clientWidth && one.scrollHeight <= one.clientHeight + 1")
    chromium_page.set_viewport_size({"width": 1280, "height": 720})
