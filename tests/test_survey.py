"""Surveys: every statistic against one that is written as loops, runs that are killed, files that are damaged."""

from __future__ import annotations

import io
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

import tokentm
from tokentm import InvalidOptionError
from tokentm.evaluation.datasets import DemoScenes, Sample
from tokentm.evaluation.parts import RunStoppedError, Share
from tokentm.evaluation.protocols import Subject
from tokentm.hooks import classify
from tokentm.survey import UNKNOWN, Survey, collect, measured, survey
from tokentm.survey.__main__ import main
from tokentm.survey.deciding import answers_after_layers, deciding_layer
from tokentm.survey.driving import driving_patches, window
from tokentm.survey.heads import attention_distance, attention_entropy, coverage, share_on_object
from tokentm.survey.report import as_markdown
from tokentm.vit import Layout

SMALL = ["--limit", "5", "--batch", "1", "--top", "3"]


@pytest.fixture(scope="module")
def demo():
    return tokentm.load_demo()


@pytest.fixture(scope="module")
def found(demo) -> Survey:
    """Three scenes at once; the second has no mask, and its label is not known."""
    scenes = [DemoScenes(3)[i] for i in range(3)]
    scenes[1] = replace(scenes[1], label=None, masks={})
    return measured(Subject(demo.model, {}), scenes, demo.classes, top=4)


@pytest.fixture(scope="module")
def trace(demo):
    return tokentm.record(demo.model, [DemoScenes(3)[i].image for i in range(3)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """One uninterrupted run of the command."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main([*SMALL, "--out", str(out)]) == 0
    return out


# ---- every statistic, written as loops ----


@pytest.fixture
def attention() -> torch.Tensor:
    """Two pictures, three heads, two prefix tokens and 2 x 3 patches; one head of the second attends to one token."""
    torch.manual_seed(0)
    made = torch.randn(2, 3, 8, 8).mul(3).softmax(-1)
    made[1, 2] = torch.eye(8)[[0] * 8]
    return made


LAYOUT = Layout(2, 2, 3)


def test_attention_distance_is_the_mean_of_what_patches_take_of_patches(attention):
    height, width = 20, 60
    distances = attention_distance(attention, LAYOUT, (height, width))
    for b in range(2):
        for h in range(3):
            far = taken = 0.0
            for i in range(6):
                for j in range(6):
                    weight = float(attention[b, h, 2 + i, 2 + j])
                    y = (i // 3 - j // 3) * height / 2
                    x = (i % 3 - j % 3) * width / 3
                    far, taken = far + weight * math.hypot(y, x), taken + weight
            expected = far / taken if taken else 0.0
            assert float(distances[b, h]) == pytest.approx(expected, rel=1e-5)
    assert distances[1, 2] == 0  # takes of the class token alone


def test_entropy_is_that_of_what_every_token_takes(attention):
    entropies = attention_entropy(attention)
    for b in range(2):
        for h in range(3):
            of_tokens = [-sum(p * math.log(p) for p in row if p > 0) for row in attention[b, h].tolist()]
            assert float(entropies[b, h]) == pytest.approx(sum(of_tokens) / 8, rel=1e-5, abs=1e-7)


def test_the_share_on_an_object_is_of_what_the_read_tokens_take_of_patches(attention):
    readout = torch.tensor([[1.0] + [0.0] * 7, [0.0, 0.0, *[1 / 6] * 6]])  # a class token; an average of patches
    covered = torch.tensor([[0.0, 0.5, 1.0, 0.0, 0.0, 0.25], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    shares = share_on_object(attention, readout, covered)
    for b in range(2):
        for h in range(3):
            inside = taken = 0.0
            for i in range(8):
                for j in range(6):
                    weight = float(readout[b, i] * attention[b, h, i, 2 + j])
                    inside, taken = inside + weight * float(covered[b, j]), taken + weight
            assert float(shares[b, h]) == pytest.approx(inside / taken if taken else 0.0, rel=1e-5, abs=1e-7)
    alike = torch.full((1, 1, 8, 8), 1 / 8)
    torch.testing.assert_close(share_on_object(alike, readout[:1], covered[:1])[0, 0], covered[0].mean())


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.5, -0.5)])
def test_coverage_counts_the_pixels_where_a_token_looks(offset):
    torch.manual_seed(1)
    mask = torch.rand(8, 12) > 0.6
    found = coverage(mask, Layout(1, 2, 3, offset))
    down, right = round(offset[0] * 4), round(offset[1] * 4)
    for patch in range(6):
        inside = 0
        for y in range(4):
            for x in range(4):
                row, column = patch // 3 * 4 + y + down, patch % 3 * 4 + x + right
                inside += 0 <= row < 8 and 0 <= column < 12 and bool(mask[row, column])
        assert float(found[patch]) == pytest.approx(inside / 16)


def test_the_deciding_layer_is_where_the_answer_stays():
    torch.manual_seed(2)
    answers = torch.randint(0, 2, (200, 6))
    for row, decided in zip(answers.tolist(), deciding_layer(answers).tolist(), strict=True):
        expected = 6
        while expected > 1 and row[expected - 2] == row[-1]:
            expected -= 1
        assert decided == expected


def test_answers_after_layers_are_those_of_a_model_that_ends_there(demo, trace):
    """By another way: the later blocks add nothing, because what they add is multiplied with zero."""
    model, answers = demo.model, answers_after_layers(trace)
    for kept in (3, 5, 8):
        shorter = tokentm.load_demo().model
        for block in shorter.blocks[kept:]:
            for linear in (block.attn.proj, block.mlp.fc2):
                torch.nn.init.zeros_(linear.weight)
                torch.nn.init.zeros_(linear.bias)
        with torch.no_grad():
            assert answers[:, kept - 1].tolist() == shorter(trace.images).argmax(1).tolist()
    assert answers[:, -1].tolist() == model(trace.images).argmax(1).tolist()


def test_a_last_stream_that_does_not_give_the_answer_is_refused(trace, monkeypatch):
    def other(anatomy, images, stream):
        return classify(anatomy, images, stream) * 1.5

    monkeypatch.setattr("tokentm.survey.deciding.classify", other)
    with pytest.raises(tokentm.UnsupportedModelError, match="last block to give the model's own logits, found that"):
        answers_after_layers(trace)


def test_a_model_of_no_classes_is_refused(tiny, images):
    one = tiny(num_classes=1)
    with pytest.raises(InvalidOptionError, match=r"one of several classes; this one has 1 output\(s\)"):
        answers_after_layers(tokentm.record(one, images(one)))


def test_driving_patches_are_the_largest_of_each_class_over_all_pictures():
    torch.manual_seed(3)
    scores = torch.rand(5, 6)
    scores[4] = scores[0]  # ties: the earlier picture comes first
    explained = torch.tensor([1, 0, 1, 3, 1])
    expected = []
    for c in range(4):
        of_class = [(-float(scores[i, p]), i, p) for i in range(5) for p in range(6) if int(explained[i]) == c]
        expected += [(c, i, p, -value) for value, i, p in sorted(of_class)[:7]]
    made = driving_patches(scores, explained, 7)
    assert [(one.explained, one.picture, one.patch, one.contribution) for one in made] == expected
    for one in made:
        assert one.share == pytest.approx(one.contribution / float(scores[one.picture].sum()), rel=1e-5)


def test_a_window_lies_in_the_grid_around_its_patch():
    for grid in [(14, 14), (2, 5), (1, 1), (3, 3)]:
        for patch in range(grid[0] * grid[1]):
            top, left, height, width = window(patch, grid)
            assert (height, width) == (min(3, grid[0]), min(3, grid[1]))
            assert 0 <= top <= patch // grid[1] < top + height <= grid[0]
            assert 0 <= left <= patch % grid[1] < left + width <= grid[1]
    assert window(5 * 14 + 6, (14, 14)) == (4, 5, 3, 3)


# ---- what a survey holds ----


def test_a_survey_holds_the_statistics_of_the_record(demo, found, trace):
    assert repr(found) == "Survey(3 pictures, 8 layers, 4 heads, 16 classes)"
    for i, layer in enumerate(trace.layers):
        torch.testing.assert_close(found.distance[:, i], attention_distance(layer.attention, trace.layout, (112, 112)))
        torch.testing.assert_close(found.entropy[:, i], attention_entropy(layer.attention))
    assert found.predicted.tolist() == trace.logits.argmax(1).tolist()
    assert found.labels.tolist() == [DemoScenes(3)[0].label, UNKNOWN, DemoScenes(3)[2].label]
    assert found.decided.tolist() == deciding_layer(answers_after_layers(trace)).tolist()
    mask = torch.from_numpy(next(iter(DemoScenes(3)[0].masks.values())))
    covered = coverage(mask, trace.layout)
    torch.testing.assert_close(found.covered[0], covered.mean())
    readout = torch.zeros(1, 197)
    readout[0, 0] = 1
    torch.testing.assert_close(
        found.on_object[0, 2], share_on_object(trace.layers[2].attention[:1], readout, covered[None])[0]
    )
    assert found.covered[1].isnan()
    assert found.on_object[1].isnan().all()
    assert not found.on_object[[0, 2]].isnan().any()


def test_driving_patches_are_those_of_the_map_with_their_piece_of_the_picture(demo, found, trace):
    maps = tokentm.TokenTM()(trace).scores
    seen = tokentm.prepare(demo.model, [DemoScenes(3)[i].image for i in range(3)]).seen
    for c in found.predicted.unique().tolist():
        pictures = [i for i in range(3) if int(found.predicted[i]) == c]
        best = sorted((-float(maps[i, p]), i, p) for i in pictures for p in range(196))[:4]
        assert [(one.picture, one.patch) for one in found.of(c)] == [(i, p) for _, i, p in best]
        for one, (value, i, p) in zip(found.of(c), best, strict=True):
            assert one.contribution == pytest.approx(-value, rel=1e-4)
            top, left, height, width = window(p, (14, 14))
            piece = seen[i].crop((left * 8, top * 8, (left + width) * 8, (top + height) * 8))
            with Image.open(io.BytesIO(one.crop)) as kept:
                assert kept.size == (24, 24)
                assert np.abs(np.asarray(kept, float) - np.asarray(piece.convert("RGB"), float)).mean() < 10
    assert set(found.seen) == {one.picture for one in found.driving}
    for i, one in found.seen.items():
        torch.testing.assert_close(one.scores, maps[i], rtol=1e-4, atol=1e-8)
        with Image.open(io.BytesIO(one.jpeg)) as kept:
            assert kept.size == (112, 112)


def test_several_objects_count_as_one(demo):
    two = DemoScenes(1, objects=2)[0]
    made = measured(Subject(demo.model, {}), [two], demo.classes)
    both = torch.from_numpy(np.any([*two.masks.values()], axis=0))
    torch.testing.assert_close(made.covered[0], both.float().mean())


def equal(one: Survey, other: Survey) -> bool:
    return one.packed() == other.packed()


def test_a_saved_survey_comes_back_equal(found, tmp_path):
    found.save(tmp_path / "survey.safetensors")
    again = Survey.load(tmp_path / "survey.safetensors")
    assert equal(again, found)
    assert again.driving == found.driving
    assert again.class_names == found.class_names
    assert again.name(0) == "cat"
    assert replace(again, class_names=None).name(0) == "class 0"
    for name in ("labels", "answers", "distance", "entropy"):
        assert torch.equal(getattr(again, name), getattr(found, name))


def test_surveys_of_parts_make_the_survey_of_all(demo):
    scenes, subject = [DemoScenes(4)[i] for i in range(4)], Subject(demo.model, {})
    scenes[3] = replace(scenes[0], name="again")  # the same class, so that parts compete
    ones = [measured(subject, [scene], demo.classes, top=3) for scene in scenes]
    merged = Survey.merged(ones, {"of": "all"})
    assert merged.pictures == tuple(scene.name for scene in scenes)
    assert merged.settings == {"of": "all"}
    every = [(one.explained, -one.contribution, i, one.patch) for i, part in enumerate(ones) for one in part.driving]
    for c in {of for of, *_ in every}:
        best = sorted(one for one in every if one[0] == c)[:3]
        assert [(one.picture, one.patch) for one in merged.of(c)] == [(i, p) for _, _, i, p in best]
    assert set(merged.seen) == {one.picture for one in merged.driving}
    for one in merged.driving:
        (own,) = [other for other in ones[one.picture].driving if other.patch == one.patch]
        assert one.crop == own.crop
        assert merged.seen[one.picture].jpeg == ones[one.picture].seen[0].jpeg
    assert torch.equal(merged.distance, torch.cat([one.distance for one in ones]))


def test_pictures_that_a_model_sees_in_other_sizes_are_refused(found):
    with pytest.raises(InvalidOptionError, match=r"sees alike; test-1-10000 has grid \(14, 14\), .* has \(7, 28\)"):
        Survey.merged([found, replace(found, grid=(7, 28))], {})


def test_the_summary_counts_pictures_and_averages_heads(found):
    table = as_markdown(found)
    row = next(line for line in table.splitlines() if line.startswith("| 3 | 2 |"))
    cells = [float(cell) for cell in row.strip("| ").split(" | ")]
    shares = [float(found.on_object[i, 2, 1]) for i in (0, 2)]
    expected = [float(found.distance[:, 2, 1].mean()), float(found.entropy[:, 2, 1].mean()), sum(shares) / 2]
    assert cells[2:] == pytest.approx(expected, abs=0.06)
    counts = next(line for line in table.splitlines() if line.startswith("| pictures |"))
    assert [int(cell) for cell in counts.strip("| ").split(" | ")[1:]] == [
        found.decided.tolist().count(layer) for layer in range(1, 9)
    ]


# ---- runs ----


def launch(out: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "tokentm.survey", *SMALL, "--out", str(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished_parts(out: Path) -> dict[str, int]:
    """When each was written."""
    return {path.name: path.stat().st_mtime_ns for path in out.glob("parts/0*.safetensors")}


def test_a_killed_run_goes_on_and_gives_the_same_bytes(whole, tmp_path):
    out, kept = tmp_path / "run", {}
    for least in (1, 3):  # killed twice
        process = launch(out)
        deadline = time.monotonic() + 240
        while len(finished_parts(out)) < least:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert kept.items() <= finished_parts(out).items()  # nothing was done twice
        kept = finished_parts(out)
        assert least <= len(kept) < 5
        assert not (out / "survey.safetensors").exists()
        with pytest.raises(RunStoppedError, match=r"expected 5 finished batches in .* missing\. Run the same command"):
            collect(out)
    assert main([*SMALL, "--out", str(out)]) == 0
    assert kept.items() <= finished_parts(out).items()
    for name in ("survey.safetensors", "summary.md", "settings.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


def test_batches_are_put_together_in_groups(whole, monkeypatch):
    before = (whole / "survey.safetensors").read_bytes()
    monkeypatch.setattr("tokentm.survey.run._AT_ONCE", 2)
    assert collect(whole).packed() == before


def test_shares_give_the_bytes_of_one_process(demo, whole, tmp_path):
    settings = Survey.load(whole / "survey.safetensors").settings
    own = {name: value for name, value in settings.items() if name not in ("samples", "batch", "top")}
    for rank in (1, 0):
        given = {"classes": demo.classes, "batch": 1, "top": 3, "settings": own}
        survey(demo.model, DemoScenes(5), tmp_path, **given, share=Share(rank, 2))
        assert len(list(tmp_path.glob("parts/0*"))) == (2 if rank else 5)
    collect(tmp_path)
    assert (tmp_path / "survey.safetensors").read_bytes() == (whole / "survey.safetensors").read_bytes()


def damaged(content: bytes) -> dict[str, bytes]:
    middle = len(content) // 2
    return {
        "cut": content[:-100],
        "empty": b"",
        "another byte": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "another kind": b"something else",
    }


@pytest.mark.parametrize("how", ["cut", "empty", "another byte", "another kind"])
def test_a_damaged_part_is_refused_with_what_to_do(whole, how, capsys):
    (part,) = whole.glob("parts/000002-*.safetensors")
    before, result = part.read_bytes(), (whole / "survey.safetensors").read_bytes()
    try:
        part.write_bytes(damaged(before)[how])
        assert main([*SMALL, "--out", str(whole)]) == 2
        (line,) = [one for one in capsys.readouterr().err.splitlines() if "Error" in one]
        assert line.startswith(f"RunStoppedError: expected a whole batch in {part}; it is damaged (")
        assert line.endswith(
            "Delete that file and run the same command again: it is made anew, and all others are kept."
        )
        part.unlink()
        assert main([*SMALL, "--out", str(whole)]) == 0
        assert part.read_bytes() == before
        assert (whole / "survey.safetensors").read_bytes() == result
    finally:
        part.write_bytes(before)


def test_a_file_of_another_kind_is_no_survey(tmp_path, trace):
    trace.save(tmp_path / "record.safetensors")
    with pytest.raises(InvalidOptionError, match=r"written by Survey\.save .* is something else"):
        Survey.load(tmp_path / "record.safetensors")
    with pytest.raises(FileNotFoundError):
        Survey.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "folder:/none"], "there is none at /none"),
        (["--data", "scenes"], "got 'scenes'"),
        (["--limit", "0"], "at least one picture; got 0"),
        (["--top", "0"], "top of at least 1 patch"),
        (["--weights", "/none.pth"], "there is none at /none.pth"),
        (["--model", "vit_of_nobody"], "Unknown model (vit_of_nobody)"),
        (["--outputs", "none", "--limit", "1"], "one of several classes"),
    ],
)
def test_a_wrong_command_says_so_in_one_line(tmp_path, capsys, arguments, words):
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line and "picture/s" not in line]  # no bar
    assert len(said) == 1, said
    assert words in said[0]
    assert not list(tmp_path.glob("run/parts/*"))


def test_another_run_s_folder_is_refused_with_the_difference(whole, capsys):
    assert main([*SMALL[:-1], "4", "--out", str(whole)]) == 2
    assert "top: 3 there, 4 now. Choose another --out" in capsys.readouterr().err


def test_damaged_settings_are_refused_with_what_to_do(tmp_path, capsys):
    (tmp_path / "settings.json").write_text('{"model": "de')
    assert main([*SMALL, "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"InvalidOptionError: expected the settings of a run in {tmp_path / 'settings.json'}; found")
    assert line.endswith("Choose another --out, or delete that folder.")


def test_a_folder_of_pictures_needs_neither_labels_nor_masks(tmp_path):
    for i in range(2):
        DemoScenes(2)[i].image.save(tmp_path / f"{i}.png")
    out = tmp_path / "out"
    assert main(["--data", f"pictures:{tmp_path}", "--out", str(out)]) == 0
    made = Survey.load(out / "survey.safetensors")
    assert made.pictures == ("0.png", "1.png")
    assert made.labels.tolist() == [UNKNOWN, UNKNOWN]
    assert made.on_object.isnan().all()
    assert "|  |" in (out / "summary.md").read_text()


def test_of_a_model_that_reads_an_average_all_patches_are_asked(tiny):
    model = tiny(global_pool="avg", class_token=False)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8))
    mask = np.zeros((16, 24), bool)
    mask[:8, :16] = True  # two of 2 x 3 patches
    half = (0.5, 0.5, 0.5)
    transform = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(half, half)])
    subject = Subject(model, {}, transform)
    made = measured(subject, [Sample("x", picture, 1, {None: mask})])
    trace = tokentm.record(model, subject.images([Sample("x", picture, 1, {})]))
    for i, layer in enumerate(trace.layers):
        expected = layer.attention[0, :, :, [0, 1]].sum((1, 2)) / layer.attention[0].sum((1, 2))
        torch.testing.assert_close(made.on_object[0, i], expected)
    assert made.name(int(made.predicted[0])) == f"class {int(made.predicted[0])}"
    assert made.grid == (2, 3)
