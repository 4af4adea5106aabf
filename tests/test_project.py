"""The files around the code: one source of versions, licences, and what lies where."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tokentm

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_conda_environment_takes_everything_from_pyproject():
    packages = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    pip = next(entry["pip"] for entry in packages if isinstance(entry, dict))
    named = [entry for entry in packages if isinstance(entry, str)]
    assert named == [f"python{PROJECT['requires-python']}", "pip"]
    (installed,) = pip
    extras = re.fullmatch(r"--editable \.\[([a-z,]+)\]", installed)
    assert extras
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_every_package_folder_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = [
        str(init.parent.relative_to(ROOT)).replace("/", ".")
        for package in ("tokentm", "tokentm_widgets")
        for init in (ROOT / package).rglob("__init__.py")
    ]
    assert sorted(listed) == sorted(found)


def test_version_is_in_the_changelog():
    assert f"## {tokentm.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_citation_is_of_this_version():
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert told["version"] == tokentm.__version__
    assert told["preferred-citation"]["title"].startswith("Token Transformation Matters")


def test_top_level_holds_what_was_agreed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout")
    agreed = {"notebooks", "tokentm_widgets", "tokentm", "tests", "environment.yml", "README.md", "pyproject.toml"}
    agreed |= {"Makefile", "LICENSE", "NOTICE", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff"}
    agreed |= {"benchmarks", "examples"}
    found = {path.split("/")[0] for path in tracked.split()}
    assert {name for name in found if not name.startswith(".")} <= agreed


def test_there_are_notebooks():
    assert (ROOT / "notebooks" / "00_quickstart.ipynb") in NOTEBOOKS
