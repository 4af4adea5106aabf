"""The public names load on use, and the doctor says what is wrong with an installation, also with a broken one."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tokentm
from tokentm import doctor

ROOT = Path(__file__).parents[1]


def python(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with the package and, before it, another folder on its path."""
    folders = [*([] if path is None else [str(path)]), str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


def test_the_lists_of_public_names_agree():
    tree = ast.parse((ROOT / "tokentm" / "__init__.py").read_text())
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    told = {alias.name: f"{node.module}" for node in typed.body for alias in node.names}
    assert told.pop("methods") == "tokentm"
    assert told == tokentm._HOME_OF
    assert set(tokentm.__all__) == {*tokentm._HOME_OF, "methods", "__version__"}
    assert set(tokentm.__all__) <= set(dir(tokentm))


@pytest.mark.parametrize("name", sorted(set(tokentm.__all__)))
def test_a_public_name_is_there(name):
    assert getattr(tokentm, name) is not None


def test_modules_are_there_after_importing_the_package_alone():
    assert python("-c", "import tokentm; tokentm.evaluation.segmentation, tokentm.plots.Plot").returncode == 0


def test_no_public_name_is_that_of_a_module():
    """Importing a module puts it into the package, in the place of what has its name."""
    modules = {path.stem for path in (ROOT / "tokentm").glob("*.py")} | {
        path.parent.name for path in (ROOT / "tokentm").glob("*/__init__.py")
    }
    assert modules & set(tokentm.__all__) == {"methods"}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tokentm' has no attribute 'explian'"):
        tokentm.explian  # noqa: B018


def test_importing_the_package_loads_nothing_else():
    found = python("-c", "import sys, tokentm; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])")
    assert found.stdout.strip() == "[]"


def test_here_everything_is_fine():
    found = python("-m", "tokentm", "doctor")
    assert found.returncode == 0, found.stdout + found.stderr
    marks = [line[:2] for line in found.stdout.splitlines()]
    assert marks == ["ok"] * len(marks)
    assert "says ball and is explained in" in found.stdout or "says cat and is explained in" in found.stdout


def test_without_any_package_it_says_what_to_install():
    found = python("-S", "-m", "tokentm", "doctor")  # -S: no site-packages
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    lines = {line[4:26].strip(): line for line in found.stdout.splitlines()}
    assert lines["torch"] == "NO  torch                  not installed: pip install tokentm brings it"
    assert lines["explain"].startswith("NO  explain                ModuleNotFoundError: No module named")
    assert lines["captum"].endswith("not installed; for integrated gradients: pip install tokentm[evaluation]")
    assert lines["captum"].startswith("--")


def test_a_torchvision_of_another_release_is_named(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    found = python("-m", "tokentm", "doctor", path=tmp_path)
    assert found.returncode == 1
    line = next(line for line in found.stdout.splitlines() if line[4:15] == "torchvision")
    assert line.startswith("NO")
    assert "operator torchvision::nms does not exist" in line
    assert "belong together" in line


def test_only_what_some_parts_need_is_optional():
    assert doctor.Finding("a", False, "", optional=True).fine is False
    assert str(doctor.Finding("a", False, "why", optional=True)).startswith("--  a")
    assert str(doctor.Finding("a", False, "why")).startswith("NO  a")


def test_every_package_of_the_project_file_is_looked_at():
    if sys.version_info < (3, 11):
        pytest.skip("tomllib came with Python 3.11")
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = {name.split(">")[0].split("=")[0] for name in project["dependencies"]}
    assert {doctor._DISTRIBUTIONS.get(name, name) for name in doctor.REQUIRED} == required
    for name, (extra, _) in doctor.OPTIONAL.items():
        if extra is not None:
            listed = {one.split(">")[0] for one in project["optional-dependencies"][extra]}
            assert doctor._DISTRIBUTIONS.get(name, name) in listed
