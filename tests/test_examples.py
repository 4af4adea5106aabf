"""Every example in a docstring runs and gives what it says.

An example may use its own module's names and what :func:`shared` has: the demo, one scene of it, a record and an
explanation of that, a picture file. What an example needs besides stands in NEEDS.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import threading
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import timm
import torch
from PIL import Image

import tokentm
import tokentm_widgets
from tokentm import plots
from tokentm.demo.scenes import make_scene
from tokentm.evaluation.datasets import DemoScenes

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
LEFT_OUT = {
    "tokentm.neighbours.Attribution": "an own function that disturbs images",
    "tokentm.neighbours.quantus_explain": "run in test_neighbours",
    "tokentm.vit.register": "run in test_documentation",
}
"""Examples that stand for something of the reader's own."""


class Checker(doctest.OutputChecker):
    """An example without an output says nothing of it."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


def modules():
    for package in (tokentm, tokentm_widgets):
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith(("__main__", "render_sprites")) and ".teaching.lesson" not in found.name:
                yield importlib.import_module(found.name)


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {}
    for module in modules():
        for one in finder.find(module, module.__name__, module=module):
            if one.examples:
                found[one.name] = one
    return found


EXAMPLES = examples()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Names that examples share: the demo stands for any model."""
    demo = tokentm.load_demo()
    scene = demo.scene(3, classes=["cat", "ball"])
    images = demo.transform(scene.image)[None]
    trace = tokentm.record(demo.model, images)
    names = {
        "demo": demo,
        "model": demo.model,
        "scene": scene,
        "picture": scene.image,
        "images": images,
        "trace": trace,
    }
    names |= {"layer": trace.layers[3], "method": tokentm.TokenTM(), "explanation": tokentm.TokenTM()(trace)}
    names |= {"step": next(iter(tokentm.TokenTM().steps(trace)))}
    names |= {name: getattr(tokentm_widgets, name) for name in tokentm_widgets.__all__}
    return names | {
        "tokentm": tokentm,
        "torch": torch,
        "np": np,
        "numpy": np,
        "timm": timm,
        "Path": Path,
        "plots": plots,
    }


def _pilot(folder: Path) -> None:
    from tokentm.evaluation.__main__ import main

    assert main(["perturbation", "--limit", "6", "--methods", "tokentm,rollout", "--out", str(folder)]) == 0


def _survey(folder: Path) -> None:
    from tokentm.survey.run import collect, survey

    demo = tokentm.load_demo()
    survey(demo.model, DemoScenes(3), folder, classes=demo.classes)
    collect(folder)


def _clip():
    transformers = pytest.importorskip("transformers")
    from test_texts import Tokenizer

    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**tower, "vocab_size": 64, "max_position_embeddings": 8, "eos_token_id": 2},
        vision_config={**tower, "image_size": 112, "patch_size": 8},
        projection_dim=16,
    )
    return {"clip": transformers.CLIPModel(config).eval(), "tokenizer": Tokenizer()}


def _explorer():
    demo = tokentm.load_demo()
    return tokentm_widgets.explore(demo.model, demo.scene(3).image)


NEEDS = {
    "tokentm.claims.claims": lambda: vars(importlib.import_module("tokentm.intervene")),
    "tokentm.claims.agreement": lambda: vars(importlib.import_module("tokentm.intervene")),
    "tokentm.evaluation.report.planned": lambda: _pilot(Path("results/pilot")) or {},
    "tokentm.onnx_export.export_onnx": lambda: {"onnxruntime": pytest.importorskip("onnxruntime")},
    "tokentm.isolation.stoppable": lambda: {"event": threading.Event(), "record": tokentm.record},
    "tokentm.survey.result.Survey": lambda: _survey(Path("results/survey")) or {},
    "tokentm_widgets.survey_browser.SurveyBrowser": lambda: _survey(Path("results/survey")) or {},
    "tokentm.texts.text_target": _clip,
    "tokentm.region_plots.table": lambda: vars(importlib.import_module("tokentm.regions")),
    "tokentm.region_plots.distributions": lambda: {
        "over": importlib.import_module("tokentm.regions").over,
        "scenes": [make_scene(seed) for seed in range(4)],
    },
    "tokentm_widgets.explorer.Explorer.check": lambda: {"explorer": _explorer()},
    "tokentm_widgets.progress": lambda: {"cancelled": False},
    "tokentm_widgets.progress.reporter": lambda: {"progress": False},
    "tokentm_widgets.progress.reporting": lambda: {"progress": False, "methods": ["tokentm", "rollout"]},
    "tokentm.token_plots.outliers": lambda: {"inspect": importlib.import_module("tokentm.tokens").inspect},
}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_gives_what_it_says(name, shared, tmp_path, monkeypatch, capsys):
    if name in LEFT_OUT:
        pytest.skip(LEFT_OUT[name])
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    Image.effect_noise((112, 112), 60).convert("RGB").save("cat.jpg")
    Image.effect_noise((112, 112), 60).convert("RGB").save("picture.jpg")
    torch.manual_seed(0)
    test = EXAMPLES[name]
    own = test.globs  # the module's names
    test = doctest.DocTest(
        test.examples, {**own, **shared, **NEEDS.get(name, dict)()}, test.name, test.filename, test.lineno, None
    )
    said: list[str] = []
    doctest.DocTestRunner(Checker(), verbose=False, optionflags=FLAGS).run(test, out=said.append, clear_globs=False)
    assert not said, "".join(said)


def test_what_is_left_out_exists():
    assert set(LEFT_OUT) <= set(EXAMPLES)
    assert set(NEEDS) <= set(EXAMPLES)


def public():
    for package in (tokentm, tokentm_widgets):
        for name in package.__all__:
            one = getattr(package, name)
            if callable(one) and getattr(one, "__module__", "").startswith("tokentm"):
                yield f"{package.__name__}.{name}", one


@pytest.mark.parametrize(("name", "one"), public(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_public_name_is_described(name, one):
    assert inspect.getdoc(one), name
