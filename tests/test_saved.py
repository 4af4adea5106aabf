"""A record outlives its session: saved, loaded, pickled, copied, and never joined to another model."""

from __future__ import annotations

import copy
import pickle
import random
from dataclasses import fields

import pytest
import torch
from conftest import make_images, make_vit

import tokentm
from tokentm import InvalidOptionError, ModelChangedError, TokenTM, Trace
from tokentm.methods import METHODS


def difference(logits):
    return logits[:, 1] - logits[:, 2]


@pytest.fixture(scope="module")
def model():
    return make_vit(depth=3, reg_tokens=1)


@pytest.fixture(params=[1, difference], ids=["class", "function"])
def trace(request, model):
    return tokentm.record(model, make_images(model), request.param)


def equal(first: Trace, second: Trace) -> bool:
    for one, other in [(first, second), *zip(first.layers, second.layers, strict=True)]:
        for field in fields(one):
            a, b = getattr(one, field.name), getattr(other, field.name)
            if isinstance(a, torch.Tensor) and not torch.equal(a, b):
                return False
    told = ("layout", "outputs", "class_names", "pooling")
    return all(getattr(first, name) == getattr(second, name) for name in told)


def test_a_saved_record_reads_back_equal_with_and_without_its_model(trace, model, tmp_path):
    trace.save(tmp_path / "record.safetensors")
    alone = Trace.load(tmp_path / "record.safetensors")
    assert equal(alone, trace)
    assert torch.equal(TokenTM()(alone).layer_scores, TokenTM()(trace).layer_scores)
    with pytest.raises(ModelChangedError, match=r"read from a file\. Give the model"):
        METHODS["legrad"](alone)
    whole = Trace.load(tmp_path / "record.safetensors", model, target=trace.explained)
    assert torch.equal(METHODS["legrad"](whole).scores, METHODS["legrad"](trace).scores)
    if trace.target is None:
        with pytest.raises(tokentm.InvalidTargetError, match="a file does not hold it"):
            METHODS["legrad"](Trace.load(tmp_path / "record.safetensors", model))
    with pytest.raises(ModelChangedError, match="as it was recorded"):
        Trace.load(tmp_path / "record.safetensors", make_vit(seed=5, depth=3, reg_tokens=1))


@pytest.mark.parametrize("again", [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy], ids=["pickle", "deepcopy"])
def test_a_record_can_be_pickled_and_copied_with_its_model(trace, again):
    other = again(trace)
    assert equal(other, trace)
    assert torch.equal(METHODS["input_x_gradient"](other).scores, METHODS["input_x_gradient"](trace).scores)
    with torch.no_grad():
        other.anatomy.model.head.weight.mul_(2)
    with pytest.raises(ModelChangedError):
        METHODS["input_x_gradient"](other)
    with pytest.raises(ModelChangedError):
        METHODS["input_x_gradient"](again(other))  # a change before the copy is not forgotten
    METHODS["input_x_gradient"](trace)


@pytest.mark.parametrize("kind", ["transformers", "torchvision"])
def test_records_of_other_libraries_can_be_pickled(kind):
    from test_families import of_torchvision, of_transformers, pixels, spread

    build = of_torchvision if kind == "torchvision" else lambda: of_transformers("ViTForImageClassification")
    trace = tokentm.record(spread(build()), pixels(1, (48, 48)), 1)
    assert equal(pickle.loads(pickle.dumps(trace)), trace)


def test_damaged_files_are_refused_or_whole(model, tmp_path):
    trace = tokentm.record(model, make_images(model, 1), 1)
    path = tmp_path / "record.safetensors"
    trace.save(path)
    whole, draw = path.read_bytes(), random.Random(0)
    loaded = 0
    for number in range(300):
        spoiled = bytearray(whole)
        if number % 3 == 0:
            spoiled = spoiled[: draw.randrange(len(spoiled))]
        for _ in range(draw.randint(1, 8)):
            if spoiled:
                spoiled[draw.randrange(min(len(spoiled), 6000))] = draw.randrange(256)
        path.write_bytes(spoiled)
        try:
            found = Trace.load(path)
        except tokentm.TokenTMError:
            continue
        loaded += 1
        assert TokenTM()(found).scores.shape == (1, 6) or not torch.isfinite(found.images).all()
    assert loaded < 200


def test_another_file_and_a_directory_are_refused(tmp_path, model):
    tokentm.explain(model, make_images(model), 1).save(tmp_path / "e.safetensors")
    with pytest.raises(InvalidOptionError, match="something else"):
        Trace.load(tmp_path / "e.safetensors")
    with pytest.raises(InvalidOptionError, match="is damaged"):
        Trace.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        Trace.load(tmp_path / "none.safetensors")


def test_a_record_is_not_joined_to_a_model_of_another_size_dtype_or_tiny_logits(trace, model, tmp_path):
    path = tmp_path / "record.safetensors"
    trace.save(path)
    others = [make_vit(img_size=(32, 48)), copy.deepcopy(model).double(), make_vit(in_chans=1, depth=3, reg_tokens=1)]
    for other in others:
        with pytest.raises(ModelChangedError):
            Trace.load(path, other)
    small, another = make_vit(), make_vit(seed=5)
    for one in (small, another):
        one.head.weight.data.mul_(1e-4)
        one.head.bias.data.zero_()
    tokentm.record(small, make_images(small), 1).save(path)
    with pytest.raises(ModelChangedError):
        Trace.load(path, another)
