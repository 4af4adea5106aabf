"""What is built is whole: a wheel and a source archive hold every file, and work away from the source."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
USE = """
import sys, tokentm, tokentm_widgets
assert tokentm.__file__.startswith(sys.argv[1]), tokentm.__file__
for name in ("demo", "suspect"):
    demo = tokentm.load_demo(name)
    scene = demo.scene(3, classes=["cat", "ball"])
    assert tokentm.explain(demo.model, scene.image).grid == (14, 14)
stepper = tokentm_widgets.LayerStepper(tokentm.record(demo.model, scene.image))
tokentm_widgets.export_html(stepper, "cat.html")
from tokentm.doctor import examine
assert all(finding.fine for finding in examine() if not finding.optional)
"""


def run(*arguments: str, cwd: Path, **environment: str) -> str:
    made = {**os.environ, **environment}
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=made, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The tracked files alone, as a clean clone has them."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("source")
    for name in os.fsdecode(tracked).split("\0"):
        if name.split("/")[0] in {"tokentm", "tokentm_widgets", "pyproject.toml", "README.md", "LICENSE", "NOTICE"}:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    return out / run("-c", BUILD, "build_wheel", str(out), cwd=source)


def test_a_wheel_holds_every_file_of_the_packages(source, wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    wanted = {
        path.relative_to(source).as_posix()
        for package in ("tokentm", "tokentm_widgets")
        for path in (source / package).rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".wat", ".ts"} and path.name != "package.json"
    }
    assert wanted - held == set()
    assert any(name.endswith("licenses/NOTICE") for name in held)
    assert not any(name.startswith("tests/") or "/tests/" in name for name in held)


def test_a_source_archive_makes_the_same_wheel(source, wheel, tmp_path):
    archive = tmp_path / run("-c", BUILD, "build_sdist", str(tmp_path), cwd=source)
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    again = tmp_path / run("-c", BUILD, "build_wheel", str(tmp_path), cwd=unpacked)
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())


def test_a_wheel_works_away_from_the_source(wheel, tmp_path):
    site = tmp_path / "site"
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel), cwd=tmp_path)
    run("-c", USE, str(site), cwd=tmp_path, PYTHONPATH=str(site))
    assert (tmp_path / "cat.html").stat().st_size > 100_000
