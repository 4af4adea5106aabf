"""Record a ViT once: every quantity that an explanation reads, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike
from typing import Any, get_args

import torch
from torch import Tensor, nn

from tokentm import files, steadiness
from tokentm.blocks import BlockTrace
from tokentm.discovery import describe
from tokentm.errors import InvalidImagesError, InvalidTargetError, ModelChangedError
from tokentm.hooks import state_of
from tokentm.isolation import isolated
from tokentm.outputs import Meaning, probabilities, same
from tokentm.passes import Pass
from tokentm.pictures import Picture, Transform
from tokentm.questions import ClassScore, Difference, restored
from tokentm.run import Subject, check_gradient, run, subject
from tokentm.target import Target, resolve
from tokentm.texts import TextTarget, asked, with_texts
from tokentm.tokenwise import check_tokenwise
from tokentm.vit import Anatomy, Layout, check_images

__all__ = ["BlockTrace", "LayerTrace", "Trace", "record"]

_FORMAT = "tokentm record 1"


@dataclass(frozen=True, eq=False)  # equality of tensors has no single answer
class LayerTrace(BlockTrace):
    """Everything that happened in one block: how it transformed its tokens, and how it mixed them.

    Attributes:
        attention: A, rows sum to 1, (B, H, N, N); ``[b, h, i, j]`` = how much output i takes from token j.
        gradient: G, the gradient of the explained score with respect to A, (B, H, N, N).
        stream_out_gradient: gradient of the explained score with respect to x'', (B, N, D).
        identity_error: relative error of s_i sum_h P_h (A^h v^h)_i + b_i against ``attention_update``.
    """

    attention: Tensor
    gradient: Tensor
    stream_out_gradient: Tensor
    identity_error: float

    def rebuilt_update(self) -> Tensor:
        """x'_i - x_i rebuilt from its per-head parts, s_i sum_h P_h (A^h v^h)_i + b_i: (B, N, D)."""
        return self.update_of(self.attention @ self.value)


@dataclass(frozen=True, eq=False)  # equality of tensors has no single answer
class Trace:
    """A recorded forward and backward pass. All tensors are detached; the model keeps nothing of them.

    Attributes:
        layers: one :class:`LayerTrace` per block, first block first.
        layout: which tokens are prefix tokens and how the patches form a grid.
        readout: share of each final token in what the classifier reads, (B, N); measured in the pass; for attention
            pooling its attention, averaged over heads.
        logits: (B, classes).
        target: class per image that the explained score is about, (B,), or None where a function of the logits was
            explained.
        scores: the explained score per image, (B,).
        images: what the model was given, (B, C, H, W).
        explained: the target as it was asked for; one with a name, such as :func:`tokentm.log_odds`, with the class of
            each image.
        anatomy: the model, described; for methods that run it again. None for a record read from a file without it.
        outputs: what the logits mean, see :data:`tokentm.outputs.Meaning`.
        class_names: the model's own names of its classes, where it has some.
        pooling: which final tokens the classifier reads, in words.
        state: what the model was when it was recorded, see :meth:`check_model`.
    """

    layers: tuple[LayerTrace, ...]
    layout: Layout
    readout: Tensor
    logits: Tensor
    target: Tensor | None
    scores: Tensor
    images: Tensor
    explained: Target
    anatomy: Anatomy | None
    outputs: Meaning = "softmax"
    class_names: tuple[str, ...] | None = None
    pooling: str = ""
    state: tuple[Any, ...] | None = None

    @property
    def probabilities(self) -> Tensor | None:
        """Probability of every class, (B, classes); None for a model whose outputs have none."""
        return probabilities(self.logits, self.outputs)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        return self.images.shape[2], self.images.shape[3]

    def score(self, logits: Tensor) -> Tensor:
        """The explained score of other logits, (B, classes) -> (B,): same classes, or same function."""
        if self.target is None and self.explained is None:
            raise InvalidTargetError(
                "expected the function of the logits that this record explains; a file does not hold it. Give it "
                "again: Trace.load(path, model, target=function)."
            )
        named = isinstance(self.explained, ClassScore)
        return resolve(self.explained if self.target is None or named else self.target, logits)[0]

    def check_model(self) -> Anatomy:
        """The model, to be run again, if it still is what was recorded.

        Raises:
            ModelChangedError: weights, mode or hooks have changed since, or the record was read without its model.
        """
        if self.anatomy is None:
            raise ModelChangedError(
                "expected a record with its model, which is to run again; this one was read from a file. Give the "
                "model, too: Trace.load(path, model)."
            )
        anatomy = self.anatomy
        self.check_state()
        try:
            check_images(anatomy, self.images)
            again = isolated(lambda: _logits(anatomy, self.images))
        except InvalidImagesError as error:
            raise _changed(anatomy) from error
        if not same(again, self.logits):
            raise _changed(anatomy)
        return anatomy

    def check_state(self) -> None:
        """The part of :meth:`check_model` that runs nothing.

        Raises:
            ModelChangedError: weights, mode or hooks have changed since.
        """
        if self.anatomy is not None and self.state != state_of(self.anatomy.model):
            raise _changed(self.anatomy)

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything but the model to one safetensors file; :meth:`load` reads it back equal.

        Raises:
            InvalidOptionError: the file cannot be written; what was there before is kept.
        """
        tensors = {name: getattr(self, name) for name in _TENSORS if getattr(self, name) is not None}
        for i, layer in enumerate(self.layers):
            tensors |= {f"layers.{i}.{name}": getattr(layer, name) for name in _LAYER_TENSORS}
        told = {
            "layout": [self.layout.prefix, self.layout.rows, self.layout.columns, list(self.layout.offset)],
            "parallel": [layer.parallel for layer in self.layers],
            "identity_error": [layer.identity_error for layer in self.layers],
            "outputs": self.outputs,
            "class_names": self.class_names,
            "pooling": self.pooling,
            "explained": self.explained.told() if isinstance(self.explained, (ClassScore, Difference)) else None,
        }
        files.write(path, _FORMAT, tensors, told)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        model: nn.Module | None = None,
        target: Target | TextTarget = None,
        anatomy: Anatomy | None = None,
    ) -> Trace:
        """Read what :meth:`save` wrote.

        Args:
            model: the recorded model, for methods that run it again; it is checked against the record.
            target: the function of the logits, or the texts, that were explained, where it was one: a file does not
                hold it. It does hold a score with a name, such as :func:`tokentm.log_odds`.
            anatomy: the model's description, where it was given one.

        Raises:
            InvalidOptionError: the file is not such a file, or is damaged.
            ModelChangedError: the model is another one.
            NoSuchFileError: there is no file.
        """
        function = None if isinstance(target, TextTarget) else target
        trace = files.read(
            path, "Trace.save", {_FORMAT: lambda tensors, metadata: _restored(tensors, files.told(metadata), function)}
        )
        if model is None:
            return trace
        trace = _moved(trace, next(model.parameters()).device)
        described = with_texts(describe(model, trace.images) if anatomy is None else anatomy, target)
        with_model = replace(trace, anatomy=described, state=state_of(model))
        with_model.check_model()
        return with_model

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copies, whose model is another object: whether it was still the recorded one."""
        unchanged = self.anatomy is not None and self.state == state_of(self.anatomy.model)
        return {**vars(self), "state": unchanged}

    def __setstate__(self, state: dict[str, Any]) -> None:
        anatomy, unchanged = state["anatomy"], state["state"]
        vars(self).update({**state, "state": state_of(anatomy.model) if unchanged else None})

    @property
    def embedding(self) -> Tensor:
        """E^0, the tokens entering the first block, position embedding included, (B, N, D)."""
        return self.layers[0].stream

    def __repr__(self) -> str:
        grid = self.layout
        batch, heads, tokens, _ = self.layers[0].attention.shape
        return (
            f"Trace(images={batch}, layers={len(self.layers)}, heads={heads}, "
            f"tokens={tokens} = {grid.prefix} + {grid.rows} x {grid.columns})"
        )


def record(
    model: nn.Module,
    images: Tensor | Picture | Sequence[Picture],
    target: Target | TextTarget = None,
    transform: Transform | None = None,
    outputs: Meaning | None = None,
    anatomy: Anatomy | None = None,
) -> Trace:
    """Run the model once forward and once backward, and keep everything an explanation needs.

    The model is left exactly as it was found, also when this raises or is interrupted: no gradient is written, no hook
    stays, no flag changes; other threads may use the model, and explain it, at the same time. Checks stand between a
    model and a wrong picture: the attention of each layer must equal the sum of its per-head parts (relative error
    below 1e-4); attention and FFN alone must make up what changes the stream from the first block to the last; all
    attention must lie inside the blocks; each patch token must look at its own place of the picture, in row-major
    order, which is measured once for a model that does not change; the score must read final tokens only, each image's
    its own; and its gradient must come down to the attention of the first block.

    Args:
        model: a ViT of any library or your own, in eval mode, see :func:`tokentm.describe`.
        images: (B, C, H, W), normalised as the model takes them, on the model's device; or PIL pictures or paths.
        target: see :data:`tokentm.target.Target`; None explains the predicted class of each image. Or a score with a
            name, see :func:`tokentm.log_odds`, or texts of :func:`tokentm.text_target`.
        transform: how pictures are prepared, see :func:`tokentm.prepare`; None asks the model.
        outputs: what the model's outputs mean, see :data:`tokentm.outputs.Meaning`; None finds out.
        anatomy: which of its modules to watch, see :class:`tokentm.Anatomy`; None takes what :func:`tokentm.describe`
            finds.

    Returns:
        A :class:`Trace`. Memory: 2 x L x B x H x N^2 numbers for attention and its gradient.

    Raises:
        UnsupportedModelError: the model is not supported, or a check failed.
        InvalidImagesError: the images are not what the model takes.
        InvalidTargetError: the target names no class, or its function mixes images or carries no gradient.
        InvalidOptionError: no transform is known, or ``outputs`` does not fit.
        NotFiniteError: the model makes NaN or infinity of the images.

    Example:
        >>> demo = tokentm.load_demo()
        >>> trace = tokentm.record(demo.model, demo.transform(demo.scene(3).image)[None])
        >>> trace.layers[0].attention.shape
        torch.Size([1, 4, 197, 197])

    Source: Wu et al., "Token Transformation Matters", CVPR 2024; the identity is the rewriting of a block as
    transformed tokens mixed by attention.
    """
    given, wanted = asked(subject(model, images, transform, anatomy), target)
    return isolated(lambda: _record(given, wanted, outputs))


def _record(given: Subject, target: Target, asked: Meaning | None) -> Trace:
    steadiness.check_steady(given)
    keeper = _Everything()
    found = run(given, target, keeper, asked)
    check_tokenwise(given)
    steadiness.check_unmixed(found)
    nodes = [*keeper.attention, *(seen.stream_out for seen in found.passes.blocks), found.passes.last]
    check_gradient(found.anatomy, None if not nodes[0].requires_grad else nodes[0])
    gradients = torch.autograd.grad(found.scores.sum(), nodes, allow_unused=True)
    layers = len(keeper.blocks)
    readout = found.readout(gradients[-1])
    check_gradient(found.anatomy, gradients[0])
    reached = [torch.zeros_like(n) if g is None else g for n, g in zip(nodes, gradients, strict=True)]
    return Trace(
        layers=tuple(
            LayerTrace(
                **vars(block),
                attention=keeper.attention[i].detach(),
                gradient=reached[i],
                stream_out_gradient=reached[layers + i],
                identity_error=found.errors[i],
            )
            for i, block in enumerate(keeper.blocks)
        ),
        layout=found.layout,
        readout=readout,
        logits=found.logits.detach(),
        target=found.target,
        scores=found.scores.detach(),
        images=found.images,
        explained=found.explained,
        anatomy=found.anatomy,
        outputs=found.outputs,
        class_names=found.anatomy.class_names,
        pooling=found.anatomy.pooling,
        state=found.state,
    )


class _Everything:
    """Keeps every block of a run, with its attention weights as nodes of the graph."""

    stays_fused = False

    def __init__(self) -> None:
        self.blocks: list[BlockTrace] = []
        self.attention: list[Tensor] = []

    def mixed(self, seen: Pass) -> Tensor:
        return seen.attention[0].detach() @ seen.value[0].detach()

    def keep(self, _i: int, block: BlockTrace, seen: Pass) -> None:
        self.blocks.append(block)
        self.attention.append(seen.attention[0])


_TENSORS = ("readout", "logits", "target", "scores", "images")
_LAYER_TENSORS = tuple(field.name for field in fields(LayerTrace) if field.name not in ("parallel", "identity_error"))


def _changed(anatomy: Anatomy) -> ModelChangedError:
    return ModelChangedError(
        f"expected the {anatomy.name} as it was recorded; its weights, training mode or hooks have changed since, so "
        "old attention would meet new gradients. Record it again: tokentm.record(model, images)."
    )


def _logits(anatomy: Anatomy, images: Tensor) -> Tensor:
    with torch.no_grad():
        return anatomy.answer(images)


def _restored(tensors: dict[str, Tensor], told: dict[str, Any], target: Target) -> Trace:
    """A record from what :meth:`Trace.save` wrote."""
    prefix, rows, columns, (down, right) = told["layout"]
    layers = tuple(
        LayerTrace(
            **{name: tensors[f"layers.{i}.{name}"] for name in _LAYER_TENSORS}, parallel=parallel, identity_error=error
        )
        for i, (parallel, error) in enumerate(zip(told["parallel"], told["identity_error"], strict=True))
    )
    logits = tensors["logits"]
    named = restored(told.get("explained"), *logits.shape)
    trace = Trace(
        layers=layers,
        layout=Layout(prefix, rows, columns, (down, right)),
        readout=tensors["readout"],
        logits=logits,
        target=tensors.get("target"),
        scores=tensors["scores"],
        images=tensors["images"],
        explained=target if named is None else named,
        anatomy=None,
        outputs=told["outputs"],
        class_names=None if told["class_names"] is None else tuple(told["class_names"]),
        pooling=told["pooling"],
    )
    _check_shapes(trace)
    return trace


def _moved(trace: Trace, device: torch.device) -> Trace:
    """The record on the device of its model."""

    def moved(one: Trace | LayerTrace) -> dict[str, Any]:
        return {name: value.to(device) for name, value in vars(one).items() if isinstance(value, Tensor)}

    layers = tuple(replace(layer, **moved(layer)) for layer in trace.layers)
    return replace(trace, **moved(trace), layers=layers)


def _check_shapes(trace: Trace) -> None:
    """A record read from a file must fit together.

    Raises:
        ValueError: it does not.
    """
    batch, tokens = trace.readout.shape
    if not (
        tokens == trace.layout.tokens
        and trace.layers
        and trace.logits.ndim == 2
        and trace.images.ndim == 4
        and len(trace.logits) == len(trace.images) == batch
        and trace.scores.shape == (batch,)
        and (trace.target is None or trace.target.shape == (batch,))
        and trace.outputs in get_args(Meaning)
    ):
        raise ValueError("its parts do not fit together")
    for layer in trace.layers:
        heads, width, depth = layer.head_projection.shape
        shapes = {
            "attention": (batch, heads, tokens, tokens),
            "gradient": (batch, heads, tokens, tokens),
            "value": (batch, heads, tokens, depth),
            "stream": (batch, tokens, width),
            "stream_mid": (batch, tokens, width),
            "stream_out": (batch, tokens, width),
            "stream_out_gradient": (batch, tokens, width),
            "attention_update": (batch, tokens, width),
            "ffn_update": (batch, tokens, width),
            "normed": (batch, tokens, width),
            "normed_mid": (batch, tokens, width),
            "output_factor": (batch, tokens),
        }
        if any(getattr(layer, name).shape != shape for name, shape in shapes.items()):
            raise ValueError("the shapes of its layers do not fit together")
