"""Scores with a name: each against its formula in loops, bound to a model's answer, through every place that asks."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_images, make_vit

import tokentm
from tokentm import Explanation, InvalidTargetError, Trace, plots
from tokentm.errors import InvalidOptionError
from tokentm.evaluation import Removal, perturbation
from tokentm.evaluation.observed import observe
from tokentm.methods import METHODS
from tokentm.outputs import log_odds, log_probability, probability
from tokentm.target import bind, resolve

NAMES = ("cat", "dog", "cow", "hen", "dog")
LOGITS = torch.tensor([[0.4, -0.3, 2.0], [-1.0, 5.0, 0.1], [30.0, -40.0, 0.0]], dtype=torch.float64)
CLASSES = [2, 0, 0]
KINDS = ("log_odds", "log_probability", "probability")


@pytest.fixture(scope="module")
def model():
    return make_vit(depth=3)


@pytest.fixture(scope="module")
def pixels(model):
    return make_images(model)


def by_hand(kind: str, row: list[float], c: int, meaning: str) -> float:
    """The score of one class of one image, in Python's floats."""
    if meaning == "softmax":
        top = max(row)
        parts = [math.exp(z - top) for z in row]
        others = sum(part for k, part in enumerate(parts) if k != c)
        p, odds = parts[c] / sum(parts), row[c] - top - math.log(others)
        log = -math.log1p(others / parts[c]) if parts[c] > others else row[c] - top - math.log(sum(parts))
    elif meaning == "sigmoid":
        p, odds, log = 1 / (1 + math.exp(-row[c])), row[c], -math.log1p(math.exp(-row[c]))
    else:
        p, odds, log = row[c], math.log(row[c] / (1 - row[c])), math.log(row[c])
    return {"log_odds": odds, "log_probability": log, "probability": p}[kind]


@pytest.mark.parametrize("meaning", ["softmax", "sigmoid", "probabilities"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_score_is_its_formula(kind, meaning):
    logits = LOGITS[:2].softmax(1) if meaning == "probabilities" else LOGITS
    classes = CLASSES[: len(logits)]
    found = getattr(tokentm, kind)(classes, outputs=meaning)(logits)
    expected = [by_hand(kind, row, c, meaning) for row, c in zip(logits.tolist(), classes, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_a_difference_is_its_formula():
    assert tokentm.difference([2, 0, 1], 1)(LOGITS[:3].clone()).tolist()[:2] == pytest.approx([2.3, -6.0])
    assert tokentm.difference(0, 2)(LOGITS).tolist() == pytest.approx([-1.6, -1.1, 30.0])


def test_the_three_scores_of_a_class_have_parallel_gradients_and_one_outlives_rounding():
    def gradients(logits):
        return [
            torch.autograd.functional.jacobian(lambda z, k=k: getattr(tokentm, k)(0)(z).sum(), logits) for k in KINDS
        ]

    moderate = torch.tensor([[1.0, 0.5, -0.3]], dtype=torch.float64)
    odds, log, p = gradients(moderate)
    value = moderate.softmax(1)[0, 0]
    torch.testing.assert_close(log, (1 - value) * odds)
    torch.testing.assert_close(p, value * log)
    sure = torch.tensor([[60.0, 0.0, -1.0]])
    odds, log, p = gradients(sure)
    assert odds.abs().max() == pytest.approx(1)
    assert log[0, 0].abs().item() < 1e-20
    assert p[0, 0].item() == 0


@pytest.mark.parametrize(
    "target",
    [
        tokentm.log_odds(),
        tokentm.log_odds(3),
        tokentm.log_probability("cat"),
        tokentm.probability([1, 2]),
        tokentm.probability(3, outputs="sigmoid"),
        tokentm.difference(3, "dog"),
        tokentm.difference((1, 2), (0, 0)),
    ],
    ids=repr,
)
def test_a_target_is_a_value(target):
    assert eval(repr(target), {"tokentm": tokentm}) == target
    assert hash(pickle.loads(pickle.dumps(target))) == hash(target)
    assert len({target, eval(repr(target), {"tokentm": tokentm})}) == 1
    with pytest.raises(AttributeError):
        target.kind = "other"


@pytest.mark.parametrize("classes", [np.int64(2), torch.tensor(2), 2], ids=repr)
def test_indices_of_any_integer_type_name_a_class(classes):
    assert tokentm.log_odds(classes) == tokentm.log_odds(2)


@pytest.mark.parametrize("classes", [[1, 2], (1, 2), range(1, 3), np.array([1, 2]), torch.tensor([1, 2])], ids=repr)
def test_one_class_for_each_image(classes):
    assert tokentm.log_odds(classes) == tokentm.log_odds((1, 2))


def test_binding_fixes_the_predicted_class_names_and_meaning():
    logits = torch.tensor([[0.0, 1.0, 0.0, 3.0, 0.0], [5.0, 1.0, 0.0, 3.0, 0.0]])
    bound = bind(tokentm.log_odds(), logits, "sigmoid", NAMES)
    assert bound == tokentm.log_odds((3, 0), outputs="sigmoid")
    scores, index = resolve(bound, -logits)  # whatever is predicted now
    assert (scores.tolist(), index.tolist()) == ([-3.0, -5.0], [3, 0])
    assert [bound.title(NAMES, i) for i in (0, 1)] == ["log-odds of hen", "log-odds of cat"]
    by_name = bind(tokentm.difference("cow", ["cat", "hen"]), logits, "none", NAMES)
    assert by_name == tokentm.difference((2, 2), (0, 3))
    assert by_name.title(NAMES, 1) == "lead of cow over hen"
    assert resolve(by_name, logits)[1] is None


BINDING = torch.zeros(2, 5)


@pytest.mark.parametrize(
    ("target", "meaning", "names", "words"),
    [
        (tokentm.log_odds(5), "softmax", NAMES, r"class indices from 0 to 4; got \[5, 5\]"),
        (tokentm.log_odds(-1), "softmax", NAMES, r"from 0 to 4; got \[-1, -1\]"),
        (tokentm.log_odds([1, 2, 3]), "softmax", NAMES, r"one class for each of the 2 image\(s\); got 3\. .*repeat it"),
        (tokentm.log_odds("cat"), "softmax", None, r"brings no names of its classes; got 'cat'\. Look the name up"),
        (tokentm.log_odds("cat"), "softmax", NAMES[:4], "brings no names"),  # those of another head
        (tokentm.log_odds("cwo"), "softmax", NAMES, r"the model's 5 class names; got 'cwo'\. Some of them: cow"),
        (tokentm.log_odds("dog"), "softmax", NAMES, r"the name of one class; 'dog' is that of \[1, 4\]"),
        (tokentm.log_odds(1), "none", NAMES, r"to explain the log-odds of a class; this model's have none"),
        (tokentm.probability(1), "none", NAMES, "to explain the probability of a class"),
        (tokentm.difference(2, [1, 2]), "softmax", NAMES, r"two different classes.*; got class 2 twice.*log_odds\(2\)"),
    ],
    ids=str,
)
def test_what_cannot_be_bound_is_refused(target, meaning, names, words):
    with pytest.raises(InvalidTargetError, match=words):
        bind(target, BINDING, meaning, names)


def test_odds_against_no_other_class_are_refused():
    with pytest.raises(InvalidTargetError, match=r"at least two classes .* say outputs='sigmoid'"):
        bind(tokentm.log_odds(0), torch.zeros(2, 1), "softmax", None)
    assert observe(torch.zeros(2, 1), torch.tensor([0, 0]), "softmax").log_odds is None


@pytest.mark.parametrize("classes", [1.5, True, [True], [], [[1]], [None], {"cat": 1}, torch.tensor([0.5])], ids=repr)
def test_what_names_no_class_is_refused_at_once(classes):
    with pytest.raises(InvalidTargetError, match=r"expected a class index, the model's name of a class, .*; got"):
        tokentm.log_odds(classes)


def test_a_difference_wants_two_classes_and_a_meaning_is_a_known_one():
    with pytest.raises(InvalidTargetError, match="expected two classes for a difference; got None"):
        tokentm.difference(1, None)
    with pytest.raises(InvalidOptionError, match="expected outputs among softmax"):
        tokentm.log_odds(1, outputs="sofmax")


@pytest.mark.parametrize("name", ["log_odds", "log_probability", "probability"])
def test_an_explanation_by_name_is_that_of_its_formula(model, pixels, name):
    """Streamed and recorded, against a function written here."""
    written = {
        "log_odds": lambda z: z[:, 3] - torch.log(z.exp().sum(1) - z[:, 3].exp()),
        "log_probability": lambda z: torch.log(z[:, 3].exp() / z.exp().sum(1)),
        "probability": lambda z: z[:, 3].exp() / z.exp().sum(1),
    }[name]
    asked = getattr(tokentm, name)(3)
    expected = tokentm.record(model, pixels, written)
    trace = tokentm.record(model, pixels, asked)
    torch.testing.assert_close(trace.scores, expected.scores, rtol=1e-4, atol=1e-5)
    assert trace.target.tolist() == [3, 3]
    assert trace.explained == replace(asked, classes=(3, 3), outputs="softmax")
    for method in [name for name in METHODS if name != "transformer_attribution"]:
        found, wanted = METHODS[method](trace).scores, METHODS[method](expected).scores
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()))
    with pytest.raises(InvalidTargetError, match=r"does not cancel; got one that does, .* or log-odds"):
        METHODS["transformer_attribution"](trace)  # whose rule of sums needs a total
    streamed = tokentm.explain(model, pixels, asked)
    assert (streamed.explained, streamed.target.tolist()) == (trace.explained, [3, 3])
    torch.testing.assert_close(streamed.scores, METHODS["tokentm"](expected).scores, rtol=1e-3, atol=1e-6)


def test_a_record_asks_the_same_of_other_logits(model, pixels):
    trace = tokentm.record(model, pixels, tokentm.log_odds())
    predicted = trace.logits.argmax(1).tolist()
    assert trace.target.tolist() == predicted
    others = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    wanted = [by_hand("log_odds", row, c, "softmax") for row, c in zip(others.tolist(), predicted, strict=True)]
    assert trace.score(others).tolist() == pytest.approx(wanted, rel=1e-4)
    alone = Removal(trace, "zero", index=1, count=3)
    rows = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    wanted = [by_hand("log_odds", row, predicted[1], "softmax") for row in rows.tolist()]
    assert alone.score(rows).tolist() == pytest.approx(wanted, rel=1e-4)


def test_several_classes_of_one_image_share_its_forward_pass(model, pixels):
    one = pixels[:1].expand(3, -1, -1, -1)
    together = tokentm.explain(model, one, tokentm.log_odds([4, 0, 2]))
    assert together.target.tolist() == [4, 0, 2]
    for k, c in enumerate([4, 0, 2]):
        alone = tokentm.explain(model, pixels[:1], tokentm.log_odds(c)).scores[0]
        torch.testing.assert_close(together.scores[k], alone, rtol=1e-4, atol=1e-7)


def test_names_of_the_model_serve(model, pixels):
    named = replace(tokentm.describe(model), class_names=NAMES)
    trace = tokentm.record(model, pixels, tokentm.difference("hen", "cat"), anatomy=named)
    torch.testing.assert_close(trace.scores, trace.logits[:, 3] - trace.logits[:, 0])
    assert (trace.target, trace.explained) == (None, tokentm.difference((3, 3), (0, 0)))
    with pytest.raises(InvalidTargetError, match="brings no names"):
        tokentm.explain(model, pixels, tokentm.log_odds("hen"))


def test_files_keep_what_was_explained(model, pixels, tmp_path):
    for asked in (tokentm.log_odds([1, 4]), tokentm.difference(1, 2), 3):
        trace = tokentm.record(model, pixels, asked)
        trace.save(tmp_path / "record.safetensors")
        whole = Trace.load(tmp_path / "record.safetensors", model)
        assert whole.explained == (None if asked == 3 else trace.explained)
        assert torch.equal(whole.score(trace.logits), trace.scores)
        assert torch.equal(METHODS["legrad"](whole).scores, METHODS["legrad"](trace).scores)
        made = METHODS["tokentm"](whole)
        made.save(tmp_path / "map.safetensors")
        again = Explanation.load(tmp_path / "map.safetensors")
        assert again.explained == made.explained == (None if asked == 3 else trace.explained)
        assert repr(again) == repr(made)


def test_files_of_before_are_read_and_spoiled_ones_refused(model, pixels, tmp_path, monkeypatch):
    made = tokentm.explain(model, pixels, tokentm.log_odds(1))
    write = tokentm.files.write
    for spoil, words in [
        (lambda told: told.pop("explained"), None),
        (lambda told: told["explained"].update(classes=[1]), "does not fit the images"),
        (lambda told: told["explained"].update(classes=[1, 7]), "does not fit the images"),
        (lambda told: told["explained"].update(kind="odds"), "not known"),
    ]:

        def spoiled(path, kind, tensors, told, spoil=spoil):
            spoil(told)
            write(path, kind, tensors, told)

        monkeypatch.setattr(tokentm.files, "write", spoiled)
        made.save(tmp_path / "map.safetensors")
        if words is None:
            assert Explanation.load(tmp_path / "map.safetensors").explained is None
        else:
            with pytest.raises(InvalidOptionError, match=words):
                Explanation.load(tmp_path / "map.safetensors")


def test_pictures_are_titled_with_the_score(model, pixels):
    made = tokentm.explain(model, pixels, tokentm.log_odds([1, 2]))
    assert plots.target_names(made, list("abcde")) == ["log-odds of b", "log-odds of c"]
    figure = made.plot(classes=list("abcde"))
    assert figure.alt == "Heat map of tokentm for log-odds of b, log-odds of c"
    assert figure.axes[0].get_title() == "tokentm: log-odds of b"
    lead = tokentm.explain(model, pixels, tokentm.difference(1, 2))
    assert plots.target_names(lead, None) == ["lead of class 1 over class 2"] * 2
    assert plots.named_classes(lead, None) == ["", ""]
    assert plots.named_classes(made, list("abcde")) == ["b", "c"]
    assert plots.target_names(tokentm.explain(model, pixels, lambda z: z[:, 0]), None) == ["chosen score"] * 2


def test_what_is_measured_is_the_probability_of_the_class_or_the_score_itself(model, pixels):
    trace = tokentm.record(model, pixels, tokentm.log_odds(2))
    scores, remove = METHODS["tokentm"](trace).scores, Removal(trace)
    plain = perturbation(remove, scores, torch.tensor([2, 2]))
    assert torch.equal(perturbation(remove, scores, trace.target).aopc, plain.aopc)
    itself = perturbation(remove, scores, trace.explained)
    torch.testing.assert_close(itself.srg, plain.log_odds_srg)
    with pytest.raises(InvalidOptionError, match=r"whatever class is predicted, .*trace\.target"):
        perturbation(remove, scores, tokentm.log_odds())


@pytest.mark.parametrize("meaning", ["softmax", "sigmoid", "probabilities"])
def test_odds_and_logarithms_stay_finite_where_probabilities_round(meaning):
    extreme = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 200.0, 0.0]])
    outputs = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]) if meaning == "probabilities" else extreme
    index = torch.tensor([0, 0])
    assert probability(outputs, index, meaning).tolist() == [1, 0]
    assert torch.isfinite(log_probability(outputs, index, meaning)).all()
    odds = log_odds(outputs, index, meaning)
    assert torch.isfinite(odds).all()
    assert odds[0] > 10 > -10 > odds[1]
