"""The evaluation's command: what is wrong ends in one line that says what to do; runs know their data."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from tokentm.errors import InvalidOptionError
from tokentm.evaluation import parts, run
from tokentm.evaluation.__main__ import main

QUICK = ["segmentation", "--limit", "2", "--methods", "random", "--batch", "1", "--device", "cpu"]


def pictures(folder, count: int = 3):
    folder.mkdir(exist_ok=True)
    for seed in range(count):
        pixels = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder


@pytest.fixture
def failing(capsys):
    """Run a command that is to fail; the one line that it says."""

    def said_by(*arguments: str) -> str:
        assert main(list(arguments)) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if line and "%|" not in line]
        assert len(said) == 1
        assert "expected" in said[0]
        return said[0]

    return said_by


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--limit", "-5"], "at least one picture; got -5"),
        (["--model", "vit_typo"], "timm can make of --model vit_typo; RuntimeError: Unknown model"),
        (["--model", "torchvision:typo"], "torchvision can make of --model torchvision:typo; ValueError"),
        (["--model", "transformers:/none"], "transformers can make of --model transformers:/none"),
        (["--device", "nope"], "a device that torch can use here, cpu for example; got --device nope"),
        (["--batch", "0"], "batch of at least one; got 2 and 0"),
        (["--data", "demo:nope"], "got 'demo:nope'"),
    ],
    ids=str,
)
def test_a_wrong_argument_ends_in_one_line(tmp_path, failing, arguments, words):
    assert words in failing(*QUICK, *arguments, "--out", str(tmp_path / "run"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has such a device")
def test_a_device_that_is_not_there_ends_in_one_line(tmp_path, failing):
    assert "got --device cuda" in failing(*QUICK, "--device", "cuda", "--out", str(tmp_path / "run"))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_damaged_weights_end_in_one_line(tmp_path, failing, name):
    (tmp_path / name).write_text("no weights")
    said = failing(*QUICK, "--model", "vit_tiny_patch16_224", "--weights", str(tmp_path / name), "--out", str(tmp_path))
    assert "with the weights in" in said
    assert name in said


def test_a_launcher_s_nonsense_ends_in_one_line(tmp_path, failing, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "abc")
    assert "WORLD_SIZE, as a launcher sets it; got 'abc'" in failing(*QUICK, "--out", str(tmp_path / "run"))


def test_a_file_in_place_of_the_folder_ends_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main([*QUICK, "--out", str(tmp_path / "file")]) == 2
    assert "expected to write" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "garbage", "[1]", '{"test": 1}', '{"samples": "x", "batch": 0}'])
def test_damaged_settings_end_in_one_line(tmp_path, failing, content):
    out = tmp_path / "run"
    assert main([*QUICK, "--out", str(out)]) == 0
    (out / "settings.json").write_text(content)
    assert "Choose another --out, or delete that folder." in failing(*QUICK, "--out", str(out))


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe", b"sample,method\n", b"\0"], ids=repr)
def test_a_damaged_batch_ends_in_one_line_and_is_made_again(tmp_path, failing, content):
    out = tmp_path / "run"
    assert main([*QUICK, "--out", str(out)]) == 0
    whole = (out / "results.csv").read_bytes()
    part = sorted(out.glob("parts/*"))[1]
    part.write_bytes(content)
    assert f"in {part}" in failing(*QUICK, "--out", str(out))
    part.unlink()
    assert main([*QUICK, "--out", str(out)]) == 0
    assert (out / "results.csv").read_bytes() == whole


def test_numbers_that_are_none_are_damage(tmp_path):
    keys = "sample,method,case,explained,predicted,note"
    (tmp_path / "part.csv").write_text(f"{keys},miou\na,b,c,1,1,,much\n")
    with pytest.raises(InvalidOptionError, match="could not convert"):
        run.read_table(tmp_path / "part.csv")


def test_pictures_that_changed_are_refused_and_one_that_was_not_done_yet_is_taken(tmp_path, failing):
    folder, out = pictures(tmp_path / "pictures"), tmp_path / "run"
    command = ["saco", "--data", f"pictures:{folder}", "--methods", "attention", "--batch", "1", "--device", "cpu"]
    command += ["--out", str(out)]
    assert main(command) == 0
    (sorted(out.glob("parts/*"))[2]).unlink()
    Image.new("RGB", (30, 30), "red").save(folder / "2.png")
    assert main(command) == 0  # its batch had not been made
    Image.new("RGB", (30, 30), "red").save(folder / "0.png")
    assert "000000-" in failing(*command)
    Image.new("RGB", (40, 40)).save(folder / "3.png")
    assert "samples: 3 there, 4 now" in failing(*command)


def test_the_error_of_a_stopped_run_is_caught_by_its_former_name(tmp_path):
    assert main([*QUICK, "--out", str(tmp_path)]) == 0
    next(tmp_path.glob("parts/*")).unlink()
    with pytest.raises(run.EvaluationStoppedError, match="1 are missing"):
        run.collect(tmp_path)


def test_without_its_settings_a_folder_is_not_another_run_s(tmp_path, failing):
    out = tmp_path / "run"
    assert main([*QUICK, "--out", str(out)]) == 0
    (out / "settings.json").unlink()
    assert "of another run" in failing(*[one.replace("random", "rollout") for one in QUICK], "--out", str(out))


def test_drafts_of_killed_processes_are_deleted_and_others_are_left(tmp_path):
    (tmp_path / "parts").mkdir()
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left = tmp_path / "parts" / f".000000.csv.{parts._host()}.{gone.stdout.strip()}.draft"
    alive = tmp_path / "parts" / f".000001.csv.{parts._host()}.{os.getpid()}.draft"
    elsewhere = tmp_path / f".settings.json.another-machine.{gone.stdout.strip()}.draft"
    strange = tmp_path / ".mine.draft"
    for path in (left, alive, elsewhere, strange):
        path.write_text("half")
    parts.work(tmp_path, lambda *_: "x", str, count=1, batch=1, suffix=".txt", doing="test", settings={})
    assert [path.exists() for path in (left, alive, elsewhere, strange)] == [False, True, True, True]


def test_names_that_a_spreadsheet_takes_for_formulas_are_made_harmless(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("=1+1", "+1", "-1", "@x", "plain"):
        Image.new("RGB", (30, 30), "red").save(folder / f"{name}.png")
    command = ["saco", "--data", f"pictures:{folder}", "--methods", "attention", "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    with (tmp_path / "run" / "results.csv").open() as file:
        names = {row["sample"] for row in csv.DictReader(file)}
    assert names == {"'=1+1.png", "'+1.png", "'-1.png", "'@x.png", "plain.png"}


@pytest.mark.skipif(sys.platform == "win32", reason="file names are text there")
def test_a_file_name_that_is_no_text_is_shown_escaped(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (30, 30), "red").save(folder / "a.png")
    os.rename(folder / "a.png", os.fsencode(folder) + b"/\xff.png")
    command = ["saco", "--data", f"pictures:{folder}", "--methods", "attention", "--device", "cpu"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    assert "udcff.png" in (tmp_path / "run" / "results.csv").read_text()


def test_ctrl_c_stops_with_a_line_and_the_run_goes_on(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "tokentm.evaluation", "saco", "--methods", "tokentm,rollout", "--batch", "1"]
    command += ["--limit", "40", "--device", "cpu", "--out", str(out)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("parts/0*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert "Stopped. What was finished is kept" in said
    assert "Traceback" not in said
    kept = {path.name for path in out.glob("parts/0*")}
    assert 0 < len(kept) < 40
    assert not list(out.glob("parts/.*"))
