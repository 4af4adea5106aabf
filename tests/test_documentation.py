"""What the README and the page on models of one's own say: their code runs, and messages that they quote exist."""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from pathlib import Path

import pytest
import timm
import torch
from lessons import FENCED

import tokentm
from tokentm import vit

ROOT = Path(__file__).parents[1]
README, PAGE = ROOT / "README.md", ROOT / "notebooks" / "site" / "own_model.md"


def blocks_of(path):
    return FENCED.findall(path.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch):
    monkeypatch.setattr(vit, "_OWN", {})
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tokentm.ModelFoundWarning)
        yield


def run(blocks, names):
    for code in blocks:
        exec(compile(code, "documentation", "exec"), names)
    return names


@pytest.fixture
def tiny_clip(monkeypatch):
    """In the place of what is downloaded: weights of no meaning, and letters as tokens."""
    transformers = pytest.importorskip("transformers")
    from test_texts import Tokenizer

    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}

    def load(_name=""):
        config = transformers.CLIPConfig(
            text_config={**tower, "vocab_size": 64, "max_position_embeddings": 8, "eos_token_id": 2},
            vision_config={**tower, "image_size": 224, "patch_size": 32},
            projection_dim=16,
        )
        return transformers.CLIPModel(config)

    monkeypatch.setattr(transformers.CLIPModel, "from_pretrained", load)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda _name: Tokenizer())
    return load().eval(), Tokenizer()


def test_the_page_runs_from_top_to_bottom(tiny_clip, capsys):
    made = run(blocks_of(PAGE), {"__name__": "page"})
    said = capsys.readouterr().out
    (sentence,) = [text for text in re.findall(r"```text\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
                   if "blocks of" in text]  # fmt: skip
    assert said.startswith(sentence + "\n")
    assert "normed layers.0.norm1\npath layers.0.attn.proj\nupdate layers.0.attn\n" in said
    assert made["trace"].class_names == ("cat", "dog")
    assert made["classifier"](made["pictures"]).shape == (2, 2)


def test_what_the_page_found_is_what_it_describes_by_hand():
    code = blocks_of(PAGE)
    end = next(i for i, block in enumerate(code) if "def describe" in block)
    made = run(code[: end + 1], {"__name__": "page"})
    found, by_hand = tokentm.describe(made["model"], made["images"]), made["describe"](made["model"])
    for mine, other in zip(found.blocks, by_hand.blocks, strict=True):
        assert vars(mine) == vars(other)
    told = ("model", "prefix", "embedding", "patch", "final", "head", "name", "channels", "column", "sequence_first")
    assert [getattr(found, name) for name in told] == [getattr(by_hand, name) for name in told]


def test_the_readme_runs(tiny_clip, tmp_path, monkeypatch):
    from PIL import Image

    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained: create("vit_tiny_patch16_224", depth=2, num_classes=5)
    )
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((240, 300), 60).save("picture.jpg")
    page = run(blocks_of(PAGE)[:1], {"__name__": "page"})
    clip, tokenizer = tiny_clip
    names = {"my_vit": page["model"], "images": page["images"], "clip": clip, "tokenizer": tokenizer}
    names |= {"backbone": create("vit_tiny_patch16_224", depth=2, num_classes=0, img_size=(64, 96)).eval()}
    made = run(blocks_of(README), {**names, "other": torch.randn(192)})
    assert made["e"].grid == (14, 14)
    assert made["explanation"].grid == (4, 6)


def literals():
    """Every text of the library, with what is put into it left out."""
    for path in (ROOT / "tokentm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)


def test_refusals_that_are_quoted_exist():
    table = PAGE.read_text(encoding="utf-8").split("| the message says |")[1]
    rows = [row.split("|")[1] for row in table.split("\n")[2:] if row.startswith("|")]
    quoted = [text for row in rows for text in re.findall("`(.*?)`", row)]
    known = list(literals())
    assert len(quoted) > 20
    assert [text for text in quoted if not any(text in one for one in known)] == []


@pytest.mark.parametrize("kind", [tokentm.Block, tokentm.Anatomy])
def test_attributes_that_the_page_names_exist(kind):
    text = PAGE.read_text(encoding="utf-8")
    names = set(inspect.signature(kind).parameters)
    if kind is tokentm.Anatomy:
        table = text.split("| `Anatomy` |")[1].split("\n\n")[0]
        rows = re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
        assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} <= names
    else:
        table = text.split("| if your block has |")[1].split("\n\n")[0]
        assert {name for cell in re.findall("`(.*?)`", table) for name in re.findall(r"^(\w+)=", cell)} <= names
        assert names <= set(re.findall(r"\w+", text))
