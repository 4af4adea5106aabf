"""A model that explains itself, as one ONNX graph: forward pass, gradient and method, for any runtime.

    record + method --traced--> graph for 2 images, graph for 3 --of_any_batch--> graph --translated--> ONNX
    --compared with explain--> file

What is traced is the library's own record and method, not a second formula: see graphs.py. The file needs no Python, no
torch and no hooks to be run.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokentm import methods, optional, vit
from tokentm.errors import InvalidImagesError, InvalidOptionError, TokenTMError, UnsupportedModelError
from tokentm.explanation import Explanation
from tokentm.isolation import isolated
from tokentm.methods import METHODS, Method, TokenTM
from tokentm.pictures import Picture, Prepared, Transform, prepare
from tokentm.run import subject
from tokentm.trace import Trace, record
from tokentm.version import __version__
from tokentm.vit import Anatomy

TOLERANCE = 1e-4
"""Largest difference between a file and explain, as a share of the largest value of an image's map."""

_TRACED = (2, 3)
"""Numbers of images for which the computation is traced."""

_HELD = (1, 2, 5)
"""Numbers of images for which the file is run and compared with explain."""

_LARGEST = 2**31 - 1
"""Bytes that one ONNX file can hold."""


@dataclass(frozen=True)
class OnnxExport:
    """A file that was written.

    Attributes:
        path: where it lies.
        inputs, outputs: their names and shapes, "batch" for the number of images, which is free.
        error: largest difference from explain that was found, as a share of the largest value of an image's map.
    """

    path: Path
    inputs: dict[str, tuple[str | int, ...]]
    outputs: dict[str, tuple[str | int, ...]]
    error: float


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    images: Tensor | Picture | Sequence[Picture] | None = None,
    method: str | Method | Callable[[Trace], Explanation] = "tokentm",
    layers: bool = False,
    transform: Transform | None = None,
    anatomy: Anatomy | None = None,
) -> OnnxExport:
    """Write a model and its explanation as one ONNX graph, gradient included.

    The graph takes ``image`` (batch, C, H, W), normalised as the model takes it, and ``target`` (batch, classes): one
    row of weights for each image, 1 at the explained class, or any mixture, such as 1 at one class and -1 at another.
    It gives ``scores`` (batch, patches), row-major over the grid, and ``logits`` (batch, classes). The number of images
    is free, their size is that of ``images``. What a reader needs beside the numbers is in the file's metadata, as
    JSON: grid, image size, method, what the outputs mean, class names; of pictures also mean and standard deviation of
    each channel, which their pixels (0 to 1) are normalised with.

    First the model is recorded as by :func:`tokentm.record`, with all checks. Then the graph is run by ONNX Runtime
    on random images, alone and in batches, and compared with :func:`tokentm.explain`. A graph that does not agree to
    1e-4 is not written, and a file that was there before stays.

    Args:
        model: a ViT of any library or your own, in eval mode, on the CPU, see :func:`tokentm.describe`.
        path: of the file; its folder must exist.
        images: what the model takes, as for :func:`tokentm.explain`; their size is the graph's. None takes random ones
            of the size that the model is made for.
        method: a name from ``tokentm.methods.METHODS`` or a callable, one that reads a record alone.
        layers: give the maps after each layer, too, as ``layers`` (batch, L, patches).
        transform: how pictures are prepared, see :func:`tokentm.prepare`.
        anatomy: which of its modules to watch, see :class:`tokentm.Anatomy`.

    Returns:
        An :class:`OnnxExport`: path, names and shapes, and how closely the file agrees with explain.

    Raises:
        UnsupportedModelError: see :func:`tokentm.record`; or a computation that ONNX cannot hold, or that came out
            differently.
        InvalidImagesError: the images are not what the model takes, or its size is not known.
        InvalidOptionError: a method that runs the model again or has no maps of layers, or no folder for the file.
        MissingPackageError: onnx, onnxscript or onnxruntime is not installed: ``pip install tokentm[onnx]``.

    Example:
        >>> demo = tokentm.load_demo()
        >>> tokentm.export_onnx(demo.model, "demo.onnx").outputs
        {'scores': ('batch', 196), 'logits': ('batch', 16)}
        >>> session = onnxruntime.InferenceSession("demo.onnx")
        >>> image = demo.transform(demo.scene(3).image)[None].numpy()
        >>> scores, logits = session.run(None, {"image": image, "target": numpy.eye(16, dtype="float32")[[0]]})

    Source: Wu et al., "Token Transformation Matters", CVPR 2024; ONNX, https://onnx.ai/onnx/intro/. What this package
    does not translate itself goes through ``torch.onnx``, https://docs.pytorch.org/docs/stable/onnx.html.
    """
    target, chosen = _checked_path(path), _checked_method(method)
    return isolated(lambda: _exported(model, target, images, chosen, layers, transform, anatomy))


def _exported(
    model: nn.Module,
    target: Path,
    images: Tensor | Picture | Sequence[Picture] | None,
    chosen: Any,
    layers: bool,
    transform: Transform | None,
    anatomy: Anatomy | None,
) -> OnnxExport:
    onnx, runtime = (optional.load(name, "onnx") for name in ("onnx", "onnxruntime"))
    optional.load("onnxscript", "onnx")
    if images is None:
        images = _random_images(model, anatomy)
    prepared = None if isinstance(images, Tensor) else prepare(model, images, transform, anatomy)
    images = images if prepared is None else prepared.images
    given = subject(model, images, described=anatomy)
    if given.images.device.type != "cpu":
        raise UnsupportedModelError(
            f"expected a model on the CPU; got one on {given.images.device}. Export model.cpu()."
        )
    checked = record(model, given.images, lambda logits: (logits * _mixture(logits)).sum(1), anatomy=anatomy)
    if layers and not chosen(checked).layer_scores.shape[1]:
        raise InvalidOptionError(
            f"expected a method with a map after each layer; {_name(chosen)!r} has none. Leave out layers=True."
        )
    computed = _Computation(model, chosen, layers, anatomy)
    proto = _translated(onnx, computed, checked)
    proto.doc_string = f"{type(model).__name__} and its explanation by {_name(chosen)}, tokentm {__version__}"
    onnx.helper.set_model_props(proto, _told(checked, chosen, prepared))
    if proto.ByteSize() > _LARGEST:
        raise UnsupportedModelError(
            f"expected a graph of less than 2 GB, which is what an ONNX file holds; got {proto.ByteSize() / 2**30:.1f} "
            "GB. Export a smaller model."
        )
    graph = proto.SerializeToString()
    error = _held_against_explain(runtime, graph, computed, checked)
    _write(target, graph)
    return OnnxExport(target, _shapes(proto.graph.input), _shapes(proto.graph.output), error)


# what is exported


@dataclass(frozen=True, eq=False)
class _Computation:
    """From images and weights of classes to what the file gives; called, it is what explain computes."""

    model: nn.Module
    method: Any
    layers: bool
    anatomy: Anatomy | None

    @property
    def outputs(self) -> list[str]:
        return ["scores", "logits", *(["layers"] if self.layers else [])]

    def __call__(self, images: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        trace = record(self.model, images, lambda logits: (logits * weights).sum(1), anatomy=self.anatomy)
        if self.layers or type(self.method) is not TokenTM:
            made = self.method(trace)
            return made.scores, trace.logits, *([made.layer_scores] if self.layers else [])
        return self.method.scores(trace), trace.logits

    def explained(self, images: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        """The same from :func:`tokentm.explain`, which streams where the method can."""
        from tokentm import explain

        def score(logits: Tensor) -> Tensor:
            return (logits * weights).sum(1)

        made = explain(self.model, images, score, self.method, anatomy=self.anatomy)
        if not self.layers:
            return made.scores, made.logits
        trace = record(self.model, images, score, anatomy=self.anatomy)
        return made.scores, made.logits, self.method(trace).layer_scores


def _translated(onnx: Any, computed: _Computation, checked: Trace) -> Any:
    """The computation as an ONNX model for any number of images."""
    from tokentm import graphs, onnx_nodes  # what they import of torch takes a second

    names = (["image", "target"], computed.outputs)
    try:
        inputs, others = (_inputs(checked, count, seed=0) for count in _TRACED)
        graph = graphs.traced(computed, inputs)
        _check_reads_images(graphs.reads(graph, 0, 0), computed.method)
        graph = graphs.of_any_batch(graph, graphs.traced(computed, others), inputs, others)
        try:
            return onnx_nodes.translated(onnx, graph, *names)
        except onnx_nodes.UnknownOperationError:
            return _translated_by_torch(graph, inputs, *names)
    except TokenTMError:
        raise
    except Exception as error:  # whatever torch says of an operation that it cannot trace or translate
        raise UnsupportedModelError(
            f"{type(computed.model).__name__}: expected a computation that torch can trace and ONNX can hold, found "
            f"{_reason(error)}. explain() still works; for a graph, write that part "
            "of the model with other functions."
        ) from error


def _reason(error: BaseException) -> str:
    """What the first of a chain of errors says."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip()[:500].removesuffix('.')}"


def _translated_by_torch(graph: Any, inputs: tuple[Tensor, ...], given: list[str], made: list[str]) -> Any:
    exported = torch.export.export(graph, inputs, strict=False)
    program = torch.onnx.export(
        exported, input_names=given, output_names=made, dynamo=True, optimize=False, verbose=False
    )
    assert program is not None
    proto = program.model_proto
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del proto.graph.value_info[:]  # shapes for the traced number of images
    return proto


def _inputs(checked: Trace, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random images of the size and spread of those that were checked, and a mixture of classes for each."""
    generator = torch.Generator().manual_seed(seed)
    mean, spread = checked.images.mean(), checked.images.std().clamp(min=0.1)
    images = torch.randn(count, *checked.images.shape[1:], generator=generator).to(checked.images) * spread + mean
    return images, _mixture(checked.logits[:1].expand(count, -1))


def _mixture(logits: Tensor) -> Tensor:
    """One class of the first image, two of the second, and so on, of different weights: (B, classes)."""
    weights = torch.zeros_like(logits)
    for image, row in enumerate(weights):
        for share in range(image + 1):
            row[(image + 7 * share) % len(row)] = 1.0 - 0.3 * share
    return weights


# checks


def _checked_path(path: str | os.PathLike[str]) -> Path:
    found = Path(path)
    if found.is_dir() or not found.parent.is_dir():
        what = "a folder" if found.is_dir() else f"{found}, whose folder does not exist"
        raise InvalidOptionError(f"expected the path of a file in a folder that exists; got {what}. Make it first.")
    return found


def _checked_method(method: Any) -> Any:
    chosen = methods.get(method)
    if getattr(chosen, "reruns_model", False):
        known = ", ".join(name for name, one in METHODS.items() if not one.reruns_model and name != "random")
        raise InvalidOptionError(
            f"expected a method that reads one record; {_name(chosen)!r} runs the model again, many times or by rules "
            f"of its own, which one graph does not hold. Take one of {known}."
        )
    return chosen


def _check_reads_images(does: bool, method: Any) -> None:
    if not does:
        raise InvalidOptionError(
            f"expected a method whose scores are computed of the record's tensors; those of {_name(method)!r} are not "
            "(numbers drawn at random, or taken out of tensors): a graph would give every image the same map."
        )


def _name(method: Any) -> str:
    return str(getattr(method, "name", None) or getattr(method, "__name__", type(method).__name__))


def _random_images(model: nn.Module, anatomy: Anatomy | None) -> Tensor:
    from tokentm import describe

    described = describe(model) if anatomy is None else anatomy
    size = vit.usual_size(described)
    if size is None:
        raise InvalidImagesError(
            f"expected images= for {described.name}, which takes pictures of any size and does not tell which it is "
            "made for; got none. Pass a batch (B, C, H, W) of the size that the graph is to take."
        )
    shape = (1, described.channels, *size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(described.weight)


def _held_against_explain(runtime: Any, graph: bytes, computed: _Computation, checked: Trace) -> float:
    """The largest difference between the graph, run by ONNX Runtime, and explain.

    Raises:
        UnsupportedModelError: it is larger than :data:`TOLERANCE`, or the graph cannot be run.
    """
    name = type(computed.model).__name__
    largest = 0.0
    try:
        session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        made = {}
        for count in _HELD:
            images, weights = _inputs(checked, count, seed=count)
            made[count] = session.run(computed.outputs, {"image": images.numpy(), "target": weights.numpy()})
    except Exception as error:  # whatever the runtime says of a graph that it does not take
        raise UnsupportedModelError(
            f"{name}: expected a graph that ONNX Runtime runs, found {type(error).__name__}: {str(error)[:500]}. "
            "Nothing was written. Export the model in float32; explain() still works."
        ) from error
    for count, found in made.items():
        expected = computed.explained(*_inputs(checked, count, seed=count))
        for output, one, other in zip(computed.outputs, found, expected, strict=True):
            off = _difference(torch.from_numpy(one), other)
            if not off <= TOLERANCE:
                raise UnsupportedModelError(
                    f"{name}: expected {output} of the graph to agree with explain to {TOLERANCE:g}, found a "
                    f"difference of {off:.2g} for {count} random image(s). Nothing was written. explain() still "
                    "works; a model whose branches depend on the picture cannot be one graph."
                )
            largest = max(largest, off)
    return largest


def _difference(found: Tensor, expected: Tensor) -> float:
    """Largest difference as a share of the largest value, of the worst image."""
    if found.shape != expected.shape:
        return math.inf
    off, size = (one.flatten(1).abs().amax(1) for one in (found - expected, expected))
    return float(torch.where(off == 0, off, off / size).max())


# files


def _told(checked: Trace, method: Any, prepared: Prepared | None) -> dict[str, str]:
    """What a reader of the file needs beside its numbers; values are JSON."""
    layout = checked.layout
    told = {
        "tokentm": __version__,
        "method": _name(method),
        "grid": [layout.rows, layout.columns],
        "offset": list(layout.offset),
        "image_size": list(checked.image_size),
        "mean": None if prepared is None else prepared.mean,
        "std": None if prepared is None else prepared.std,
        "outputs": checked.outputs,
        "class_names": checked.class_names,
    }
    return {name: json.dumps(value) for name, value in told.items()}


def _shapes(values: Any) -> dict[str, tuple[str | int, ...]]:
    return {
        value.name: tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in values
    }


def _write(path: Path, graph: bytes) -> None:
    """All of it or nothing: a file that is there is replaced when the new one is whole."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(graph)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
