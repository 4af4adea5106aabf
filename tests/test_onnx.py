"""A model and its explanation as one ONNX graph: it says what explain says, or it is not written."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import VARIANTS, make_images, make_vit
from test_families import FAMILIES, input_of, spread
from test_trace import assert_unchanged, everything_about
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import tokentm
from tokentm import (
    InvalidImagesError,
    InvalidOptionError,
    TokenTM,
    UnsupportedModelError,
    export_onnx,
    graphs,
)
from tokentm.errors import MissingPackageError
from tokentm.methods import ABLATIONS, METHODS

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
TOLERANCE = 1e-4
READ_ONE_RECORD = [name for name, method in METHODS.items() if not method.reruns_model and name != "random"]


def run(path: Path, images: Tensor, weights: Tensor) -> dict[str, Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    made = session.run(None, {"image": images.numpy(), "target": weights.numpy()})
    return {name: torch.from_numpy(one) for name, one in zip(names, made, strict=True)}


def of(weights: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda logits: (logits * weights).sum(1)


@pytest.fixture(scope="session")
def demo() -> Any:
    return tokentm.load_demo()


@pytest.fixture(scope="session")
def written(demo, tmp_path_factory) -> tokentm.OnnxExport:
    """The demo, made with one of its pictures."""
    path = tmp_path_factory.mktemp("onnx") / "demo.onnx"
    return export_onnx(demo.model, path, demo.scene(3).image)


# what the file says


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_demo_says_what_explain_says_for_any_number_of_images(demo, written, relative, count):
    images = torch.stack([demo.transform(demo.scene(seed).image) for seed in range(count)])
    target = torch.arange(count)
    made = run(written.path, images, torch.eye(16)[target])
    expected = tokentm.explain(demo.model, images, target.tolist())
    assert relative(made["scores"], expected.scores) < TOLERANCE
    assert relative(made["logits"], expected.logits) < TOLERANCE


def test_the_target_is_any_mixture_of_classes(demo, written, relative):
    images = torch.stack([demo.transform(demo.scene(seed).image) for seed in (7, 8)])
    weights = torch.zeros(2, 16)
    weights[0, 3], weights[0, 5], weights[1, :4] = 1, -1, torch.tensor([0.4, 0.3, 0.2, 0.1])
    expected = tokentm.explain(demo.model, images, of(weights)).scores
    assert relative(run(written.path, images, weights)["scores"], expected) < TOLERANCE


def test_the_file_tells_how_to_read_it(demo, written):
    assert written.inputs == {"image": ("batch", 3, 112, 112), "target": ("batch", 16)}
    assert written.outputs == {"scores": ("batch", 196), "logits": ("batch", 16)}
    assert 0 < written.error < TOLERANCE
    metadata = onnxruntime.InferenceSession(written.path).get_modelmeta().custom_metadata_map
    told = {name: json.loads(value) for name, value in metadata.items()}
    prepared = tokentm.prepare(demo.model, demo.scene(3).image)
    assert told["grid"] == [14, 14]
    assert told["image_size"] == [112, 112]
    assert (told["method"], told["outputs"]) == ("tokentm", "softmax")
    assert (told["mean"], told["std"]) == (list(prepared.mean), list(prepared.std))


def test_a_graph_is_small_and_has_no_gradient_of_weights(demo, written):
    weights = sum(parameter.numel() * 4 for parameter in demo.model.parameters())
    assert written.path.stat().st_size < 1.5 * weights


def test_maps_after_each_layer_are_those_of_the_full_form(relative, tmp_path):
    model = make_vit(depth=3, init_values=0.5)
    made = export_onnx(model, tmp_path / "model.onnx", layers=True)
    assert made.outputs["layers"] == ("batch", 3, 6)
    images, weights = make_images(model, 4, seed=9), torch.eye(5)[[0, 4, 2, 2]]
    expected = TokenTM()(tokentm.record(model, images, [0, 4, 2, 2]))
    found = run(made.path, images, weights)
    assert relative(found["layers"], expected.layer_scores) < TOLERANCE
    assert torch.allclose(found["layers"][:, -1], found["scores"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [*READ_ONE_RECORD, TokenTM(ffn=False, normaliser="mean")], ids=str)
def test_any_method_that_reads_one_record_is_exported(relative, tmp_path, method):
    model = make_vit(depth=3, init_values=0.5)
    path = export_onnx(model, tmp_path / "model.onnx", method=method).path
    images = make_images(model, 3, seed=4)
    expected = tokentm.explain(model, images, [1, 3, 0], method).scores
    assert relative(run(path, images, torch.eye(5)[[1, 3, 0]])["scores"], expected) < TOLERANCE


@pytest.mark.parametrize("build", [build for build, _ in FAMILIES.values()], ids=FAMILIES.keys())
def test_every_family_is_exported(relative, tmp_path, build):
    model = spread(build())
    with torch.no_grad():
        for parameter in model.parameters():  # weights so small that float32 has digits to spare
            parameter.mul_(0.5 if parameter.ndim > 1 else 1.0)
    images = input_of(model, 3)
    path = export_onnx(model, tmp_path / "model.onnx", images).path
    assert (
        relative(run(path, images, torch.eye(5)[[1, 3, 0]])["scores"], tokentm.explain(model, images, [1, 3, 0]).scores)
        < TOLERANCE
    )


@pytest.mark.parametrize(
    "kind", ["attention and FFN in parallel", "attention pooling, registers", "rms norm after the heads"]
)
def test_kinds_of_blocks_and_readouts_are_exported(relative, tmp_path, kind):
    model = make_vit(**VARIANTS[kind])
    images = make_images(model, 3)
    path = export_onnx(model, tmp_path / "model.onnx", images).path
    assert (
        relative(run(path, images, torch.eye(5)[[1, 3, 0]])["scores"], tokentm.explain(model, images, [1, 3, 0]).scores)
        < TOLERANCE
    )


def test_a_model_that_nobody_described_and_that_returns_features_is_exported(relative, tmp_path):
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = make_vit(num_classes=0)

        def forward(self, images):
            return self.inner(images * 0.5)

    model = Mine().eval()
    with pytest.warns(tokentm.ModelFoundWarning):
        path = export_onnx(model, tmp_path / "model.onnx", make_images(model.inner, 1)).path
    images, weights = make_images(model.inner, 2, seed=5), torch.randn(2, 24)
    assert (
        relative(run(path, images, weights)["scores"], tokentm.explain(model, images, of(weights)).scores) < TOLERANCE
    )


class Bent(VisionTransformer):
    """Uses a function that torch.onnx knows, and the table does not."""

    def forward_head(self, x, pre_logits=False):
        return torch.atan(super().forward_head(x))


def test_operations_that_the_table_does_not_have_go_through_torch(relative, tmp_path):
    model = make_vit(cls=Bent, depth=1)
    path = export_onnx(model, tmp_path / "model.onnx").path
    images = make_images(model, 3, seed=2)
    expected = tokentm.explain(model, images, [1, 3, 0]).scores
    assert relative(run(path, images, torch.eye(5)[[1, 3, 0]])["scores"], expected) < TOLERANCE


READINGS = [method for method in (METHODS | ABLATIONS).values() if isinstance(method, TokenTM)]


@pytest.mark.parametrize("method", READINGS, ids=[method.name for method in READINGS])
@pytest.mark.parametrize(
    "kind", ["attention and FFN in parallel", "norm after the heads", "attention pooling, registers"]
)
def test_scores_alone_are_those_of_a_call(relative, method, kind):
    model = make_vit(**VARIANTS[kind]).double()
    trace = tokentm.record(model, make_images(model), [1, 4])
    assert relative(method.scores(trace), method(trace).scores) < 1e-12


def test_the_model_stays_as_it_was(tmp_path):
    model = make_vit()
    before = everything_about(model)
    export_onnx(model, tmp_path / "model.onnx")
    assert_unchanged(before, model)


# what is refused


def reads_a_number(trace: tokentm.Trace) -> tokentm.Explanation:
    """A method that takes a number out of its tensors, where no graph follows."""
    made = TokenTM()(trace).scores
    return tokentm.Explanation.of(trace, "reads_a_number", made * (2 + float(trace.scores[0].sin())))


class Exotic(VisionTransformer):
    """Uses a function that ONNX does not have."""

    def forward_head(self, x, pre_logits=False):
        return torch.digamma(1 + super().forward_head(x) ** 2)


def test_what_does_not_agree_is_not_written_and_the_old_file_stays(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("old")
    message = r"expected scores of the graph to agree with explain to 0\.0001, found .*Nothing was written"
    with pytest.raises(UnsupportedModelError, match=message):
        export_onnx(make_vit(), path, method=reads_a_number)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_operation_that_onnx_does_not_have_is_named(tmp_path):
    with pytest.raises(
        UnsupportedModelError,
        match=r"(?s)expected a computation that torch can trace and ONNX can hold, found .*(digamma|polygamma)",
    ):
        export_onnx(make_vit(cls=Exotic), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_text("old")

    def full(*_given):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        export_onnx(make_vit(depth=1), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("method", ["tam", "transformer_attribution", "integrated_gradients"])
def test_a_method_that_runs_the_model_again_is_refused(tmp_path, method):
    with pytest.raises(
        InvalidOptionError,
        match=f"expected a method that reads one record; '{method}' runs the model again.*Take one of tokentm, ",
    ):
        export_onnx(make_vit(), tmp_path / "model.onnx", method=method)


def test_scores_that_are_not_computed_of_tensors_are_refused(tmp_path):
    with pytest.raises(InvalidOptionError, match=r"those of 'random' are not .* every image the same map"):
        export_onnx(make_vit(depth=1), tmp_path / "model.onnx", method="random")


def test_options_that_do_not_fit_are_refused(tmp_path):
    model = make_vit(depth=1)
    with pytest.raises(InvalidOptionError, match=r"in a folder that exists; got .*nowhere"):
        export_onnx(model, tmp_path / "nowhere" / "model.onnx")
    with pytest.raises(InvalidOptionError, match=r"expected the path of a file .* got a folder"):
        export_onnx(model, tmp_path)
    with pytest.raises(
        InvalidOptionError, match="expected a method with a map after each layer; 'reads_a_number' has none"
    ):
        export_onnx(model, tmp_path / "model.onnx", method=reads_a_number, layers=True)
    with pytest.raises(InvalidImagesError, match=r"expected images of \(16, 24\) pixels"):
        export_onnx(model, tmp_path / "model.onnx", torch.zeros(1, 3, 32, 32))
    with pytest.raises(UnsupportedModelError, match="training mode"):
        export_onnx(make_vit(depth=1, proj_drop_rate=0.5, train=True), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::tokentm.ModelFoundWarning")
def test_a_model_of_any_size_that_tells_none_asks_for_images(tmp_path):
    model = nn.Sequential(make_vit()).eval()
    anatomy = replace(tokentm.describe(model, make_images(model[0])), size=None)
    with pytest.raises(InvalidImagesError, match=r"expected images= for Sequential, which takes pictures of any size"):
        export_onnx(model, tmp_path / "model.onnx", anatomy=anatomy)


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingPackageError, match=rf"expected the package {missing}; .*pip install tokentm\[onnx\]"):
        export_onnx(make_vit(), tmp_path / "model.onnx")


# graphs


def test_checks_that_read_numbers_run_while_they_are_traced_and_leave_nothing():
    seen = []

    def checked(x: Tensor, y: Tensor) -> tuple[Tensor]:
        seen.append(float((x * 3).sum()))
        assert not torch.equal(x, y)
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((x**3 * y).sum(), x)
        return (gradient,)

    x, y = torch.rand(2, 4), torch.rand(2, 4)
    graph = graphs.traced(checked, (x, y))
    assert seen == [float((x * 3).sum())]
    assert "_local_scalar_dense" not in graph.code
    assert "equal" not in graph.code
    torch.testing.assert_close(graph(2 * x, y)[0], 12 * x**2 * y)


def test_what_writes_into_a_tensor_that_is_needed_is_kept():
    def writing(x: Tensor) -> tuple[Tensor]:
        made = torch.zeros(3, 4)
        made[1:].add_(x).relu_()
        made[0] = x[0] + 1
        torch.zeros(5).add_(1)  # nobody needs it
        return (made * 2,)

    x = torch.randn(2, 4)
    graph = graphs.traced(writing, (x,))
    torch.testing.assert_close(graph(-x), writing(-x))
    assert "_.default" not in graph.code


def test_a_graph_of_any_batch_holds_no_number_of_images():
    weight = nn.Parameter(torch.randn(5, 5))

    def batched(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        token = weight[:1].expand(len(x), 1, 5)
        both = torch.cat((token, x), 1).reshape(len(x) * 4, 5) @ (weight @ weight.T)
        return both.unflatten(0, (len(x), -1)), torch.ones(2 * len(x), 3) * 2, y[torch.arange(len(y)), y.argmax(1)]

    def given(count: int) -> tuple[Tensor, Tensor]:
        return torch.randn(count, 3, 5), torch.randn(count, 5)

    two, three = given(2), given(3)
    graph = graphs.of_any_batch(graphs.traced(batched, two), graphs.traced(batched, three), two, three)
    for count in (1, 2, 3, 7):
        inputs = given(count)
        torch.testing.assert_close(graph(*inputs), batched(*inputs))
    assert "folded" in graph.code  # the product of weights is computed once


def test_a_computation_that_differs_with_the_number_of_images_is_refused():
    def looping(x: Tensor, y: Tensor) -> tuple[Tensor]:
        return (torch.stack([one * 2 for one in x]) + y,)

    def dividing(x: Tensor, y: Tensor) -> tuple[Tensor]:
        return (x / len(x) + y,)

    for function, found in (
        (looping, "2 and 3 images take different operations"),
        (dividing, "in sizes of tensors alone"),
    ):
        two, three = ((torch.rand(n, 4), torch.rand(n, 4)) for n in (2, 3))
        one, other = graphs.traced(function, two), graphs.traced(function, three)
        with pytest.raises(UnsupportedModelError, match=found):
            graphs.of_any_batch(one, other, two, three)


# the example


def test_the_example_serves_a_picture(demo, written):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    example = Path(__file__).parents[1] / "examples" / "serve_onnx.py"
    picture = demo.scene(3).image
    sent = io.BytesIO()
    picture.save(sent, "png")
    server = subprocess.Popen([sys.executable, example, str(written.path), str(port)], stderr=subprocess.DEVNULL)
    try:
        answer = json.loads(posted(f"http://localhost:{port}/", sent.getvalue()))
    finally:
        server.kill()
        server.wait()
    expected = tokentm.explain(demo.model, demo.transform(picture)[None])
    assert answer["class"] == int(expected.target)
    torch.testing.assert_close(torch.tensor(answer["map"]).flatten(), expected.scores[0], rtol=1e-3, atol=1e-5)


def posted(url: str, data: bytes) -> bytes:
    """The answer of a server that may still be starting."""
    until = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, data, timeout=30) as answer:
                return answer.read()
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def test_the_example_needs_neither_torch_nor_this_package():
    source = (Path(__file__).parents[1] / "examples" / "serve_onnx.py").read_text(encoding="utf-8")
    code = source.split('"""')[2]
    assert "torch" not in code
    assert "tokentm" not in code
