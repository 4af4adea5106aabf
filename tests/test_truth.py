"""What pages and lessons say of the method's limits is measured, or stands in a page that says where it is from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import tokentm
from tokentm import TokenTM
from tokentm.demo.scenes import make_scene
from tokentm.evaluation import rank_correlation
from tokentm.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "benchmarks" / "faithfulness.md").read_text(encoding="utf-8")
REAL = (ROOT / "benchmarks" / "real_model.md").read_text(encoding="utf-8")
SCENES = range(20_000, 20_040)


@pytest.fixture(scope="module")
def records():
    """Test scenes, recorded for the predicted class and for the least likely one."""
    demo = tokentm.load_demo()
    images = torch.stack([demo.transform(make_scene(seed, count=1, split="test").image) for seed in SCENES])
    pairs = []
    for part in images.split(8):
        shown = tokentm.record(demo.model, part)
        pairs.append((shown, tokentm.record(demo.model, part, shown.logits.argmin(1))))
    return pairs


def first_order(trace):
    """The default map without paths through two layers or more: e^T (I + sum over layers) C_0."""
    total = trace.readout
    for step in TokenTM().steps(trace):
        total = total + (trace.readout[:, None] @ step.mixing)[:, 0] + trace.readout * step.ffn_weight
    return (total * trace.embedding.norm(dim=-1))[:, trace.layout.prefix :]


def section(title):
    return PAGE.split(f"## {title}")[1].split("\n## ")[0].replace("\n", " ")


def test_the_default_map_is_first_order_in_the_layers(records):
    apart = []
    for trace, _ in records:
        whole, cut = TokenTM()(trace).scores, first_order(trace)
        apart.append((whole / whole.sum(1, keepdim=True) - cut / cut.sum(1, keepdim=True)).abs().sum(1))
    assert f"by {torch.cat(apart).mean():.4f} of 2 on average".replace("0.", ".") in section("Why the map depends")


def test_lengths_of_first_tokens_differ_within_a_picture_as_the_page_says(records):
    lengths = torch.cat([trace.embedding.norm(dim=-1)[:, trace.layout.prefix :] for trace, _ in records])
    ratios = lengths.amax(1) / lengths.amin(1)
    assert f"is {ratios.min():.1f} to {ratios.max():.1f} times as long as the shortest" in section(
        "Why the map depends"
    )


def test_the_map_of_an_absent_class_is_as_alike_as_the_page_says(records):
    said = section("Why the map depends")
    for method, words in (("tokentm", "is {} on average"), ("gradient_rollout", "{} for gradient rollout")):
        found = torch.cat([rank_correlation(METHODS[method](a).scores, METHODS[method](b).scores) for a, b in records])
        assert words.format(f"{found.mean():.2f}".lstrip("0")) in said


def prose():
    """Where the real model's figures are repeated."""
    lessons = [ROOT / "notebooks" / name for name in ("06_is_it_faithful.ipynb", "07_when_it_fails.ipynb")]
    for path in lessons:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    yield (ROOT / "README.md").read_text(encoding="utf-8")


def test_figures_of_the_real_model_are_those_of_its_page():
    """A paragraph that links to the page has no other figures than the page."""
    told = [p for text in prose() for p in re.split(r"\n\s*\n", text) if "real_model.md" in p and not p.startswith("|")]
    assert len(told) >= 3
    for paragraph in told:
        for figure in re.findall(r"(?<![\d.])\.\d+", paragraph):
            assert figure in REAL, paragraph
