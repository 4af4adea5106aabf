"""Whole runs: stopped and resumed, on two processes, on a full disk; and what the report makes of the rows."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy import stats

import tokentm
from tokentm import InvalidOptionError
from tokentm.evaluation import mosaics_of, needed_pictures, parts, perturbation, report
from tokentm.evaluation.__main__ import main, method_names
from tokentm.evaluation.datasets import DemoScenes, Sample
from tokentm.evaluation.models import load_model, weights_digest
from tokentm.evaluation.parts import RunStoppedError
from tokentm.evaluation.protocols import KEYS, PROTOCOLS, Subject
from tokentm.evaluation.removal import Removal
from tokentm.evaluation.run import collect, evaluate, read_table
from tokentm.methods import ABLATIONS, METHODS

SMALL = ["segmentation", "--methods", "attention,random", "--limit", "7", "--batch", "2"]


@pytest.fixture(scope="module")
def subject() -> Subject:
    names = ["tokentm", "attention", "random"]
    return Subject(tokentm.load_demo().model, {name: METHODS[name] for name in names})


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """One uninterrupted run of the command."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main([*SMALL, "--out", str(out)]) == 0
    return out


def launch(*command: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def numbers(path: Path) -> np.ndarray:
    return np.array([[row["miou"], row["mass_inside"]] for row in read_table(path)])


def test_a_run_leaves_a_table_a_summary_and_a_figure(whole):
    rows = read_table(whole / "results.csv")
    assert len(rows) == 7 * 2
    assert [row["sample"] for row in rows[:2]] == ["test-1-10000", "test-1-10001"]
    assert rows[0]["case"] == "labelled class"
    assert 0 <= rows[0]["miou"] <= 1
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["settings"]["samples"] == 7
    assert summary["settings"]["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {e["method"] for e in summary["estimates"]} == {"attention", "random"}
    assert "| attention |" in (whole / "summary.md").read_text()
    with Image.open(whole / "summary.png") as figure:
        assert figure.width > 400


def test_a_killed_run_goes_on_and_gives_the_same_file(whole, tmp_path):
    out = tmp_path / "run"
    process = launch("-m", "tokentm.evaluation", *SMALL, "--out", str(out))
    deadline = time.monotonic() + 120
    while not list(out.glob("parts/*.csv")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("parts/*.csv")}
    assert 1 <= len(kept) < 4
    assert not (out / "results.csv").exists()
    assert main([*SMALL, "--out", str(out)]) == 0
    assert {name: (out / "parts" / name).stat().st_mtime_ns for name in kept} == kept  # nothing was done twice
    assert (out / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()
    before = (out / "results.csv").read_bytes()
    assert main([*SMALL, "--out", str(out)]) == 0  # finished: nothing to do
    assert (out / "results.csv").read_bytes() == before


def test_two_processes_give_the_numbers_of_one(whole, tmp_path):
    out = tmp_path / "run"
    launcher = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    process = launch(*launcher, "-m", "tokentm.evaluation", *SMALL, "--out", str(out))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert output.count("**labelled class**, 7 pictures") == 1  # one of them reports
    np.testing.assert_allclose(numbers(out / "results.csv"), numbers(whole / "results.csv"), rtol=1e-4)
    same = [[(r["sample"], r["method"]) for r in read_table(o / "results.csv")] for o in (out, whole)]
    assert same[0] == same[1]


def test_shares_do_every_batch_once(subject, tmp_path):
    data = DemoScenes(5)
    for rank in (1, 0):
        evaluate("segmentation", subject, data, tmp_path, batch=1, share=parts.Share(rank, 2))
        assert len(list(tmp_path.glob("parts/*.csv"))) == (2 if rank else 5)
        if rank:
            with pytest.raises(RunStoppedError, match=r"expected 5 finished batches in .*; 3 are missing"):
                collect(tmp_path)
    assert [row["sample"] for row in collect(tmp_path)][::3] == [f"test-1-1000{i}" for i in range(5)]


def test_a_full_disk_keeps_what_was_done(subject, tmp_path, monkeypatch):
    data, fsync, calls = DemoScenes(3), os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:  # settings, first batch, second batch
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunStoppedError, match=r"No space left on device\. .* is kept: make room, run the same"):
        evaluate("segmentation", subject, data, tmp_path, batch=1)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["000000.csv"]  # no half file either
    evaluate("segmentation", subject, data, tmp_path, batch=1)
    assert len(collect(tmp_path)) == 9


def test_a_damaged_picture_in_the_middle_keeps_what_was_done(subject, tmp_path, capsys):
    for i in range(4):
        Image.fromarray(np.full((20, 20, 3), 60 * i, np.uint8)).save(tmp_path / f"{i}.png")
    broken = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(broken[:50])
    command = ["saco", "--data", f"pictures:{tmp_path}", "--methods", "attention", "--batch", "1"]
    out = tmp_path / "out"
    assert main([*command, "--out", str(out)]) == 1
    assert "2.png" in capsys.readouterr().err
    assert sorted(path.name for path in out.glob("parts/*.csv")) == ["000000.csv", "000001.csv"]
    (tmp_path / "2.png").write_bytes(broken)
    assert main([*command, "--out", str(out)]) == 0
    assert len(read_table(out / "results.csv")) == 4


def test_another_run_s_folder_is_refused_with_the_difference(whole, capsys):
    assert main([*SMALL[:-1], "3", "--out", str(whole)]) == 1
    assert "batch: 2 there, 3 now" in capsys.readouterr().err
    assert main([*SMALL, "--replace", "zero", "--out", str(whole)]) == 1
    assert "replace: 'drop' there, 'zero' now. Choose another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "tokentm,gradcam"], "got 'gradcam'"),
        (["--data", "folder:/none"], "there is none at /none"),
        (["--limit", "0"], "at least one sample"),
        (["--weights", "/none.pth"], "there is none at /none.pth"),
    ],
)
def test_a_wrong_command_says_so_before_it_starts(tmp_path, capsys, arguments, words):
    assert main(["segmentation", *arguments, "--out", str(tmp_path / "run")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("package", ["torchmetrics", "scipy", "captum"])
def test_a_missing_package_is_named_with_the_way_to_get_it(whole, tmp_path, capsys, monkeypatch, package):
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    methods = "integrated_gradients" if package == "captum" else "attention"
    command = ["segmentation", "--methods", methods, "--limit", "2", "--out", str(tmp_path / "run")]
    assert main(command) == 1
    assert f"expected the package {package}" in (error := capsys.readouterr().err)
    assert "pip install tokentm[evaluation]" in error


def test_names_of_many_methods():
    assert method_names("rollout, all") == ["rollout", *[name for name in METHODS if name != "rollout"]]
    assert method_names("tokentm,ablations") == ["tokentm", *ABLATIONS]


def test_local_weights_are_loaded_safely(tmp_path):
    other = timm.create_model("test_vit", num_classes=1000)
    save_file(other.state_dict(), tmp_path / "w.safetensors")
    torch.save(other.state_dict(), tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        model, transform = load_model("test_vit", tmp_path / name)
        assert weights_digest(model) == weights_digest(other)
        assert transform is None
        assert not model.training
    assert weights_digest(timm.create_model("test_vit", num_classes=1000)) != weights_digest(other)


def test_a_hugging_face_folder_is_a_model(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"image_size": 32, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    saved = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, intermediate_size=48))
    saved.save_pretrained(tmp_path)
    model, _ = load_model(f"transformers:{tmp_path}")
    assert weights_digest(model) == weights_digest(saved)


def test_perturbation_rows_are_the_metric_of_each_map(subject):
    """Images alone, by hand; the model is wrong on one of them, where the label has rows of its own."""
    scenes = DemoScenes(3)
    samples = [scenes[i] for i in range(3)]
    predicted = subject.model(subject.images(samples)).argmax(1).tolist()
    wrong = (predicted[1] + 1) % 16
    samples[1] = Sample(samples[1].name, samples[1].image, wrong, {})
    rows = PROTOCOLS["perturbation"](subject, samples)
    assert len(rows) == 3 * 3 * 2
    for i, sample in enumerate(samples):
        for case, target in (("predicted class", predicted[i]), ("labelled class", sample.label)):
            trace = tokentm.record(subject.model, subject.images([sample]), target)
            expected = perturbation(Removal(trace), METHODS["tokentm"](trace).scores, torch.tensor([target]))
            (row,) = [r for r in rows if (r["sample"], r["method"], r["case"]) == (sample.name, "tokentm", case)]
            assert (row["explained"], row["predicted"]) == (target, predicted[i])
            for name in ("positive", "negative", "deletion", "insertion", "aopc", "lodds", "srg"):
                assert row[name] == pytest.approx(getattr(expected, name).item(), abs=2e-2), name
            assert row["log_odds_srg"] == pytest.approx(expected.log_odds_srg.item(), abs=0.2)


def test_rows_measure_what_the_outputs_are_said_to_mean(subject):
    samples = [DemoScenes(1)[0]]
    labels = Subject(subject.model, {"tokentm": METHODS["tokentm"]}, outputs="sigmoid")
    trace = tokentm.record(subject.model, subject.images(samples))
    expected = perturbation(Removal(trace), METHODS["tokentm"](trace).scores, trace.target, "sigmoid")
    for row in PROTOCOLS["perturbation"](labels, samples):
        for name in ("positive", "negative", "deletion", "insertion", "aopc", "lodds"):
            assert row[name] == pytest.approx(getattr(expected, name).item(), abs=1e-4), name
    assert PROTOCOLS["saco"](labels, samples) != PROTOCOLS["saco"](subject, samples)[:2]


@pytest.mark.parametrize("test", ["perturbation", "saco"])
def test_outputs_without_probabilities_end_in_one_line(tmp_path, capsys, test):
    command = [test, "--methods", "attention", "--limit", "1", "--outputs", "none", "--out", str(tmp_path / "run")]
    assert main(command) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "Error" in line or "Traceback" in line]
    assert "InvalidOptionError: expected a model whose outputs have probabilities" in line


def test_the_meaning_of_outputs_is_a_setting_only_where_it_was_given(whole, tmp_path, capsys):
    assert "outputs" not in json.loads((whole / "settings.json").read_text())  # folders of before go on
    assert main([*SMALL, "--outputs", "sigmoid", "--out", str(whole)]) == 1
    assert "outputs: None there, 'sigmoid' now" in capsys.readouterr().err
    command = ["sanity", "--methods", "attention", "--limit", "1", "--outputs", "none", "--out", str(tmp_path / "run")]
    assert main(command) == 0  # reads no probability
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["outputs"] == "none"


def test_tables_leave_out_what_a_score_does_not_have(subject):
    from tokentm.evaluation.protocols import _columns

    trace = tokentm.record(
        subject.model, subject.images([DemoScenes(1)[0]]), lambda logits: logits[:, 3] - logits[:, 5]
    )
    found = perturbation(Removal(trace), METHODS["attention"](trace).scores, trace.explained)
    assert list(_columns(found)) == ["deletion", "insertion", "aopc", "srg"]


def test_masks_go_through_the_transform_of_their_picture():
    model = timm.create_model("test_vit", num_classes=4, img_size=64).eval()
    subject = Subject(model, {"random": METHODS["random"]})
    wide = Image.new("RGB", (256, 128))
    mask = np.zeros((128, 256), bool)
    mask[:, 128:] = True  # the right half; cropped to the middle square it stays half
    seen = subject.seen_mask(mask)
    assert seen.shape == (64, 64)
    assert seen[:, 34:].all()
    assert not seen[:, :30].any()
    corner = np.zeros((128, 256), bool)
    corner[:, :20] = True  # cropped away
    rows = PROTOCOLS["segmentation"](subject, [Sample("x", wide, None, {0: mask, 1: corner})])
    assert [(row["method"], row["explained"]) for row in rows] == [("", 1), ("random", 0)]
    assert "left out" in rows[0]["note"]


def test_unlabelled_masks_explain_the_predicted_class(subject):
    scene = DemoScenes(1)[0]
    unknown = Sample("x", scene.image, None, {None: next(iter(scene.masks.values()))})
    (row,) = [r for r in PROTOCOLS["segmentation"](subject, [unknown]) if r["method"] == "tokentm"]
    assert row["case"] == "predicted class"
    assert row["explained"] == row["predicted"]


def test_discrimination_asks_for_every_object_of_a_picture(subject):
    data = DemoScenes(2, objects=3)
    rows = [row for row in PROTOCOLS["discrimination"](subject, [data[0], data[1]]) if row["method"] == "attention"]
    assert len(rows) == 2 * 6
    assert sorted({row["explained"] for row in rows if row["sample"] == data[0].name}) == sorted(data[0].masks)
    # a map that ignores the class is right for one of each pair, and for the other not
    assert sum(row["picks"] for row in rows) == 6


def test_a_picture_of_one_object_has_nothing_to_tell_apart(subject):
    one, two = DemoScenes(1)[0], DemoScenes(1, objects=2)[0]
    rows = PROTOCOLS["discrimination"](subject, [one, two])
    assert [row["sample"] for row in rows if row["note"]] == [one.name]
    assert "no other object is visible" in rows[0]["note"]
    assert {row["sample"] for row in rows[1:]} == {two.name}


def test_sanity_compares_the_same_class_of_shuffled_models(subject):
    samples = [DemoScenes(1)[0]]
    rows = {(r["method"], r["case"]): r for r in PROTOCOLS["sanity"](subject, samples)}
    assert rows["attention", "classifier"]["correlation"] == pytest.approx(1)  # attention lies below the classifier
    assert rows["random", "everything"]["correlation"] == pytest.approx(1)  # and this knows no model at all
    assert abs(rows["tokentm", "everything"]["correlation"]) < 0.9
    assert len(rows) == 12


def test_tests_that_need_masks_say_so(subject):
    bare = [Sample("x", DemoScenes(1)[0].image, None, {})]
    for test in ("segmentation", "discrimination"):
        with pytest.raises(InvalidOptionError, match="; x "):
            PROTOCOLS[test](subject, bare)


def rows_of(values: dict[str, list[float]], **extra) -> list[dict]:
    return [
        {"sample": f"s{i}", "method": m, "case": "c", "explained": "", "predicted": "", "note": "", "miou": v, **extra}
        for m, column in values.items()
        for i, v in enumerate(column)
    ]


def test_intervals_are_bootstrapped_over_pictures_and_differences_are_paired():
    generator = np.random.default_rng(1)
    base = generator.normal(0.5, 0.1, 200)
    found = report.summarise(rows_of({"a": base.tolist(), "b": (base + 0.02).tolist()}))
    a, b = found
    assert (a.method, b.method, a.pictures) == ("a", "b", 200)
    assert a.mean == pytest.approx(base.mean())
    half = 1.96 * base.std(ddof=1) / np.sqrt(200)
    assert (a.high - a.low) / 2 == pytest.approx(half, rel=0.1)
    # much smaller than either interval: the same pictures
    assert (b.difference_low, b.difference, b.difference_high) == pytest.approx((0.02, 0.02, 0.02))
    assert (a.difference, a.difference_low) == (0, 0)


def test_several_rows_of_a_picture_count_as_one():
    rows = rows_of({"a": [0.0, 1.0]}) + rows_of({"a": [1.0]})  # s0 twice
    (found,) = report.summarise(rows)
    assert found.pictures == 2
    assert found.mean == pytest.approx((0.5 + 1.0) / 2)


def test_the_best_of_each_column_is_bold_whichever_way_is_better():
    rows = rows_of({"a": [0.4, 0.4], "b": [0.6, 0.6]}, lodds=0.0)
    for row in rows:
        row["lodds"] = -row["miou"]
    table = report.as_markdown(report.summarise(rows))
    assert "| a | 0.400 ± 0.000 | -0.400 ± 0.000 |" in table
    assert "| b | **0.600 ± 0.000** | **-0.600 ± 0.000** |" in table


def test_verdicts_follow_the_paired_difference_and_the_better_side():
    base = np.linspace(0.1, 0.9, 30)
    sway = np.tile([0.2, -0.2, 0.03], 10)
    values = {"a": base, "b": base + 0.1, "c": base - 0.1, "d": base + sway}
    rows = rows_of(values, lodds=0.0)
    for row in rows:
        row["lodds"] = row["miou"]
    table = report.as_verdicts(report.summarise(rows))
    assert "| b | + (+0.100) | − (+0.100) |" in table
    assert "| c | − (-0.100) | + (-0.100) |" in table
    assert "| d | = (+0.010) | = (+0.010) |" in table
    assert "**c**, against a: + better, − worse, = level (paired, 95 % over 6 comparisons by Holm)" in table


def test_a_difference_beyond_its_own_interval_alone_is_marked_so():
    """One of twenty comparisons that is seen alone, but not among twenty."""
    generator = np.random.default_rng(0)
    base = generator.random(60)
    noise = generator.normal(0, 0.1, (20, 60))
    noise -= noise.mean(1, keepdims=True)
    values = {"a": base, **{f"m{k}": base + noise[k] for k in range(20)}}
    values["m7"] = values["m7"] + 0.03
    estimates = report.summarise(rows_of(values))
    (seen,) = [e for e in estimates if e.method == "m7"]
    assert 0.05 / 20 < seen.p_value < 0.05
    assert seen.difference_low > 0
    table = report.as_verdicts(estimates)
    assert "over 20 comparisons by Holm" in table
    assert "| m7 | (+) (+0.030) |" in table
    assert table.count(" = ") >= 19
    few = report.as_verdicts([e for e in estimates if e.method in ("a", "m7", "m1")])
    assert "over 2 comparisons" in few
    assert "| m7 | + (+0.030) |" in few


def test_p_values_are_of_paired_sign_flips():
    values = {"a": [0.1, 0.5, 0.2, 0.9], "b": [0.2, 0.7, 0.1, 1.0]}
    a, b = report.summarise(rows_of(values))
    differences = np.array(values["b"]) - np.array(values["a"])
    flips = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((1, -1), repeat=4)]
    assert b.p_value == sum(flip >= abs(differences.sum()) - 1e-12 for flip in flips) / 16
    assert a.p_value == 1


def test_a_pilot_tells_how_many_pictures_a_difference_needs():
    generator = np.random.default_rng(0)
    base, gaps = generator.random(12), generator.normal(0.01, 0.1, 12)
    rows = rows_of({"a": base, "b": base + gaps, "c": base - 2 * gaps})
    few, more = report.planned(rows, {"miou": 0.05})
    assert (few.method, few.metric, few.case, few.pilot) == ("b", "miou", "c", 12)
    assert few.deviation == pytest.approx(np.std(gaps, ddof=1))
    assert (few.alone, few.of_all) == tuple(needed_pictures(few.deviation, 0.05, level) for level in (0.05, 0.05 / 2))
    assert more.alone > 3 * few.alone
    assert [one.alone for one in report.planned(rows, 0.05)] == [few.alone, more.alone]
    table = report.as_plan([few, more])
    assert f"| b | {few.alone} / {few.of_all} (sd {few.deviation:.3g}) |" in table
    assert "| method | miou, 0.05 |" in table


@pytest.mark.parametrize(
    ("values", "differences", "words"),
    [
        ({"a": [0.1, 0.2], "b": [0.1, 0.3]}, {"aopc": 0.1}, "expected differences of miou; got aopc"),
        ({"a": [0.1, 0.2]}, 0.1, "two methods and two pictures; c has 1 and 2"),
        ({"a": [0.1], "b": [0.2]}, 0.1, "c has 2 and 1. Run a larger one"),
        ({"a": [0.1, 0.2], "b": [0.1, 0.3]}, 0.0, "expected a difference above 0"),
    ],
)
def test_what_a_pilot_cannot_tell_is_refused(values, differences, words):
    with pytest.raises(InvalidOptionError, match=words):
        report.planned(rows_of(values), differences)


def test_the_plan_is_written_beside_the_pilot(whole, tmp_path, capsys):
    assert main(["segmentation", "--out", str(whole), "--plan", "miou=0.02,mass_inside=0.05"]) == 0
    plan = (whole / "plan.md").read_text()
    assert plan in capsys.readouterr().out
    assert "a pilot of 7 pictures" in plan
    assert "| method | miou, 0.02 | mass_inside, 0.05 |" in plan
    for arguments, words in [
        (["saco", "--out", str(whole), "--plan", "0.1"], "a finished pilot run of saco"),
        (["saco", "--out", str(tmp_path / "none"), "--plan", "0.1"], "Run one first, without --plan"),
        (
            ["segmentation", "--out", str(whole), "--plan", "miou"],
            "--plan 0.01 or --plan aopc=0.01,srg=0.02; got 'miou'",
        ),
        (["segmentation", "--out", str(whole), "--plan", "aopc=1"], "expected differences of pixel_accuracy"),
    ]:
        assert main(arguments) == 1
        assert words in capsys.readouterr().err


def test_classes_compares_the_predicted_class_with_the_others(subject):
    """Images alone, by hand."""
    samples = [DemoScenes(2)[i] for i in range(2)]
    rows = {(row["sample"], row["method"]): row for row in PROTOCOLS["classes"](subject, samples)}
    assert len(rows) == 2 * 3
    for sample in samples:
        trace = tokentm.record(subject.model, subject.images([sample]))
        predicted, logits = int(trace.target), trace.logits[0].tolist()
        ranked = sorted((c for c in range(16) if c != predicted), key=lambda c: -logits[c])
        mine = METHODS["tokentm"](trace).scores[0]
        found = []
        for place in (0, 4, 7, 10, 14):  # of 15, evenly
            other = METHODS["tokentm"](tokentm.record(subject.model, trace.images, ranked[place])).scores[0]
            found.append(stats.spearmanr(mine, other).statistic)
        row = rows[sample.name, "tokentm"]
        assert (row["explained"], row["least_likely"]) == (predicted, pytest.approx(found[-1], abs=2e-3))
        assert row["other_classes"] == pytest.approx(np.mean(found), abs=2e-3)
        for name in ("attention", "random"):
            assert (rows[sample.name, name]["least_likely"], rows[sample.name, name]["other_classes"]) == (1, 1)
            assert rows[sample.name, name]["note"] == "1 by construction: the same map for every class"


def test_every_test_explains_the_score_that_is_asked_for(subject, tmp_path):
    """The map is that of the log-odds; the probability of the same class is measured."""
    sample = DemoScenes(1)[0]
    asked = Subject(subject.model, {"tokentm": METHODS["tokentm"]}, target="log_odds")
    trace = tokentm.record(subject.model, subject.images([sample]), tokentm.log_odds(sample.label))
    expected = perturbation(Removal(trace), METHODS["tokentm"](trace).scores, trace.target)
    row = PROTOCOLS["perturbation"](asked, [sample])[1]
    assert row["explained"] == sample.label
    assert row["log_odds_srg"] == pytest.approx(expected.log_odds_srg.item(), rel=1e-3)
    plain = PROTOCOLS["perturbation"](subject, [sample])[1]
    assert row["log_odds_srg"] != plain["log_odds_srg"]
    for test in ("segmentation", "saco", "classes"):
        assert PROTOCOLS[test](asked, [sample])
    command = ["segmentation", "--methods", "attention", "--limit", "1", "--out", str(tmp_path / "run")]
    assert main([*command, "--target", "log-odds"]) == 0
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["target"] == "log-odds"


def test_a_run_with_nothing_measured_says_so():
    with pytest.raises(InvalidOptionError, match="every picture was left out"):
        report.summarise(
            [{"sample": "x", "method": "", "case": "", "explained": 0, "predicted": "", "note": "left out"}]
        )


def test_every_metric_has_a_direction(subject):
    one, two = DemoScenes(1), DemoScenes(1, objects=2)
    for name, protocol in PROTOCOLS.items():
        of = mosaics_of(DemoScenes(200), 1) if name == "mosaics" else two if name == "discrimination" else one
        row = protocol(subject, [of[0]])[-1]
        assert set(row) - set(KEYS) - {"area", "control"} <= set(report.BETTER), name


def test_the_table_is_plain_csv(whole):
    with (whole / "results.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert header[:6] == ["sample", "method", "case", "explained", "predicted", "note"]
