"""The result: heat maps of any size, a file that reads back equal, and no number that is not one."""

from __future__ import annotations

import json
import random
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

import tokentm
from tokentm import Explanation, InvalidOptionError, NoSuchFileError, NotFiniteError


@pytest.fixture
def explanation(tiny, images) -> Explanation:
    model = tiny()
    return tokentm.TokenTM()(tokentm.record(model, images(model), [4, 2]))


def equal(first: Explanation, second: Explanation) -> bool:
    pairs = [(getattr(first, field.name), getattr(second, field.name)) for field in fields(Explanation)]
    return all(torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, Tensor) else a == b for a, b in pairs)


def test_it_carries_what_is_needed_to_read_it(tiny, images, explanation):
    model = tiny()
    assert explanation.scores.shape == (2, 6)
    assert explanation.layer_scores.shape == (2, 2, 6)
    assert explanation.grid == (2, 3)
    assert explanation.target.tolist() == [4, 2]
    assert explanation.image_size == (16, 24)
    torch.testing.assert_close(explanation.logits, model(images(model)).detach())


def test_repr(explanation):
    assert repr(explanation) == "Explanation(tokentm, images=2, grid=(2, 3), target=[4, 2])"
    text = "Explanation(tokentm, images=2, grid=(2, 3), target=function of the logits)"
    assert repr(replace(explanation, target=None)) == text


def test_it_cannot_be_changed(explanation):
    with pytest.raises(FrozenInstanceError):
        explanation.scores = explanation.logits


def test_heatmap_sizes(explanation):
    assert explanation.heatmap().shape == (2, 16, 24)
    assert explanation.heatmap((5, 7)).shape == (2, 5, 7)
    assert explanation.heatmap([1, 1]).shape == (2, 1, 1)
    assert torch.equal(explanation.heatmap((2, 3)), explanation.scores.reshape(2, 2, 3))


def test_a_heatmap_is_bilinear_between_patch_centres(explanation):
    maps = explanation.scores.reshape(2, 2, 3)
    odd = explanation.heatmap((6, 9))
    torch.testing.assert_close(odd[:, 1::3, 1::3], maps)
    torch.testing.assert_close(odd[:, 1, 2], (2 * maps[:, 0, 0] + maps[:, 0, 1]) / 3)
    torch.testing.assert_close(odd[:, 0], odd[:, 1])
    expected = F.interpolate(maps[:, None], size=(16, 24), mode="bilinear", align_corners=False)[:, 0]
    assert torch.equal(explanation.heatmap(), expected)


def test_a_heatmap_of_one_bright_patch_is_bright_there(explanation):
    bright = replace(explanation, scores=torch.eye(6)[[5, 1]])
    first, second = bright.heatmap()
    assert first[8:, 16:].sum() > 0.5 * first.sum()
    assert second[:8, 8:16].sum() > 0.5 * second.sum()


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (5,), (5, 5, 5), 224, (5.5, 5), "55"], ids=repr)
def test_an_impossible_size_is_refused(explanation, size):
    with pytest.raises(InvalidOptionError) as raised:
        explanation.heatmap(size)
    assert str(raised.value) == f"expected a size (height, width) of two positive integers; got {size!r}."


@pytest.mark.parametrize("method", ["tokentm", "rollout"])
@pytest.mark.parametrize("target", [None, lambda logits: logits[:, 0]], ids=["class", "function"])
def test_a_saved_explanation_reads_back_equal(tiny, images, tmp_path, method, target):
    model = tiny().double()
    e = tokentm.explain(model, images(model), target, method)
    e.save(tmp_path / "map.safetensors")
    back = Explanation.load(str(tmp_path / "map.safetensors"))
    assert equal(back, e)
    assert repr(back) == repr(e)
    assert (back.target is None) == (target is not None)


def test_views_of_one_tensor_are_saved_too(explanation, tmp_path):
    shared = replace(explanation, scores=explanation.layer_scores[:, -1], logits=explanation.logits[:, ::2])
    shared.save(tmp_path / "map.safetensors")
    assert equal(Explanation.load(tmp_path / "map.safetensors"), shared)


def test_a_damaged_file_is_refused(explanation, tmp_path):
    path = tmp_path / "map.safetensors"
    explanation.save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InvalidOptionError, match=r"written by Explanation\.save; .*map\.safetensors is damaged: "):
        Explanation.load(path)


def test_a_file_of_something_else_is_refused(explanation, tmp_path):
    path = tmp_path / "map.safetensors"
    save_file({"scores": torch.zeros(2, 6)}, path)
    with pytest.raises(
        InvalidOptionError, match=r"\('tokentm explanation 2'\); .*map\.safetensors is something else\."
    ):
        Explanation.load(path)
    explanation.save(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({"scores": torch.zeros(2, 6)}, path, {**metadata, "format": "tokentm explanation 99"})
    with pytest.raises(InvalidOptionError, match="is something else"):
        Explanation.load(path)


def test_a_file_of_the_first_release_is_read(explanation, tmp_path):
    path = tmp_path / "map.safetensors"
    tensors = {name: getattr(explanation, name) for name in ("scores", "layer_scores", "logits", "target")}
    layout = json.dumps([explanation.grid, explanation.image_size])
    metadata = {"format": "tokentm explanation 1", "method": explanation.method, "layout": layout}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    assert equal(Explanation.load(path), explanation)


def test_damaged_files_are_refused_or_whole(explanation, tmp_path):
    path, draw = tmp_path / "map.safetensors", random.Random(0)
    explanation.save(path)
    whole, loaded = path.read_bytes(), 0
    for number in range(500):
        spoiled = bytearray(whole[: draw.randrange(1, len(whole))] if number % 3 == 0 else whole)
        for _ in range(draw.randint(1, 6)):
            spoiled[draw.randrange(min(len(spoiled), 900))] = draw.randrange(256)
        path.write_bytes(spoiled)
        try:
            found = Explanation.load(path)
        except InvalidOptionError:
            continue
        loaded += 1
        assert found.heatmap(found.grid).shape == (len(found.logits), *found.grid)
    assert loaded < 400


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Explanation.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_scores_that_are_not_finite_are_refused(tiny, images, bad):
    model = tiny()
    trace = tokentm.record(model, images(model, 3))
    layer_scores = torch.zeros(3, 2, 6)
    layer_scores[1, 0, 4] = bad
    text = r"finite contributions from 'mine'; found NaN or infinity for image\(s\) \[1\]\. Record the model in float64"
    with pytest.raises(NotFiniteError, match=text):
        Explanation.of(trace, "mine", layer_scores[:, -1], layer_scores)
    Explanation.of(trace, "mine", torch.zeros(3, 6), torch.zeros(3, 2, 6))


def test_a_map_that_overflows_is_refused(tiny, images):
    model = tiny()
    trace = tokentm.record(model, images(model))
    huge = replace(trace, layers=tuple(replace(layer, gradient=layer.gradient * 1e30) for layer in trace.layers))
    with pytest.raises(NotFiniteError, match="from 'tokentm'"):
        tokentm.TokenTM()(huge)
    with pytest.raises(NotFiniteError, match="from 'tokentm'"):
        list(tokentm.TokenTM().steps(huge))


def test_plot_is_the_static_figure(explanation):
    figure = explanation.plot(classes=list("abcde"))
    assert [axis.get_title() for axis in figure.axes if axis.get_title()] == ["tokentm: e", "tokentm: c"]


@pytest.mark.parametrize("place", ["", "folder", "none/x.safetensors"])
def test_a_place_that_cannot_be_written_is_refused_and_nothing_is_left(explanation, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidOptionError, match="expected a file that can be written, in a folder that is there"):
        explanation.save(place)
    with pytest.raises(NoSuchFileError, match=r"expected a file written by .*; there is none at"):
        Explanation.load("none.safetensors")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def test_a_file_that_is_written_again_is_whole_at_every_moment(explanation, tmp_path, monkeypatch):
    explanation.save(tmp_path / "e")
    before = (tmp_path / "e").read_bytes()

    def broken(_tensors, path, _metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tokentm.files.save_file", broken)
    with pytest.raises(InvalidOptionError, match="No space left on device"):
        explanation.save(tmp_path / "e")
    assert (tmp_path / "e").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
