"""Tensor operations of a graph as nodes of ONNX.

Those that Vision Transformers, their gradients and the methods are made of stand in a table here. ``torch.onnx`` knows
more of them and takes ten times as long, since it traces a graph several times again: it serves the rest, see
onnx_export.py. Source: https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from tokentm.graphs import FxNode, Node, aten, attribute

OPSET = 20
"""The first one with Gelu."""


class UnknownOperationError(Exception):
    """An operation that the table does not have."""


def translated(onnx: Any, graph: GraphModule, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """An ONNX model of a graph that holds no number of images, see :func:`tokentm.graphs.of_any_batch`.

    Args:
        onnx: the package.
        inputs, outputs: their names.

    Raises:
        UnknownOperationError: names the operation.
    """
    writer = _Writer(onnx)
    given, made = [], []
    names = iter(inputs)
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            writer.names[node] = next(names)
            given.append(writer.value(writer.names[node], node))
        elif node.op == "get_attr":
            writer.names[node] = writer.constant(attribute(graph, node.target))
        elif node.op == "call_function":
            _write(writer, node)
        else:
            for name, one in zip(outputs, node.args[0], strict=True):
                writer.nodes.append(onnx.helper.make_node("Identity", [writer.names[one]], [name]))
                made.append(writer.value(name, one))
    body = onnx.helper.make_graph(writer.nodes, "explained", given, made, writer.constants)
    version = onnx.helper.make_opsetid("", OPSET)
    return onnx.helper.make_model(body, opset_imports=[version], ir_version=10, producer_name="tokentm")


class _Writer:
    """Nodes and constants of an ONNX graph, in order."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.names: dict[Node, Any] = {}  # of what a node makes; a list where it makes several
        self.known: dict[Any, str] = {}

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        made = [f"n{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), made, **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, value: Any, dtype: torch.dtype = torch.int64) -> str:
        """A constant's name; numbers and lists of them are held once."""
        key = None if isinstance(value, Tensor) else (str(value), dtype)
        if key in self.known:
            return self.known[key]
        held = value if isinstance(value, Tensor) else torch.tensor(value, dtype=dtype)
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(held.detach().contiguous().numpy(), name))
        if key is not None:
            self.known[key] = name
        return name

    def operand(self, one: Any, dtype: torch.dtype) -> str:
        """A tensor or a number, of a type."""
        if not isinstance(one, FxNode):
            return self.constant(one, dtype)
        return self.names[one] if dtype_of(one) == dtype else self.op("Cast", self.names[one], to=self.type(dtype))

    def type(self, dtype: torch.dtype) -> int:
        return self.onnx.helper.np_dtype_to_tensor_dtype(torch.empty(0, dtype=dtype).numpy().dtype)

    def value(self, name: str, node: Node) -> Any:
        shape = ["batch", *node.meta["tensor_meta"].shape[1:]]
        return self.onnx.helper.make_tensor_value_info(name, self.type(dtype_of(node)), shape)


def dtype_of(node: Node) -> torch.dtype:
    """Of the tensor that a node makes."""
    return node.meta["tensor_meta"].dtype


def _shape_of(node: Node) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape)


def _write(writer: _Writer, node: Node) -> None:
    target = node.target
    if target is operator.getitem:
        writer.names[node] = writer.names[node.args[0]][node.args[1]]
        return
    if target in _UNARY:
        writer.names[node] = writer.op(_UNARY[target], writer.names[node.args[0]])
    elif target in _BINARY:
        writer.names[node] = _binary(writer, node)
    elif target in _TABLE:
        writer.names[node] = _TABLE[target](writer, node, *node.args, **node.kwargs)
    else:
        raise UnknownOperationError(str(target))


_UNARY = {
    aten.exp.default: "Exp",
    aten.log.default: "Log",
    aten.sqrt.default: "Sqrt",
    aten.erf.default: "Erf",
    aten.tanh.default: "Tanh",
    aten.sigmoid.default: "Sigmoid",
    aten.sin.default: "Sin",
    aten.cos.default: "Cos",
    aten.neg.default: "Neg",
    aten.abs.default: "Abs",
    aten.relu.default: "Relu",
    aten.reciprocal.default: "Reciprocal",
    aten.sign.default: "Sign",
    aten.logical_not.default: "Not",
}
_BINARY = {
    overload: kind
    for packet, kind in (
        (aten.add, "Add"),
        (aten.sub, "Sub"),
        (aten.mul, "Mul"),
        (aten.div, "Div"),
        (aten.pow, "Pow"),
        (aten.maximum, "Max"),
        (aten.minimum, "Min"),
        (aten.gt, "Greater"),
        (aten.lt, "Less"),
        (aten.ge, "GreaterOrEqual"),
        (aten.le, "LessOrEqual"),
        (aten.eq, "Equal"),
        (aten.logical_and, "And"),
        (aten.logical_or, "Or"),
    )
    for overload in (getattr(packet, name) for name in packet.overloads())
}
_TABLE: dict[Any, Callable[..., Any]] = {}


def _of(*targets: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function into the table; it is given the writer, the node, and the node's arguments."""

    def put(function: Callable[..., Any]) -> Callable[..., Any]:
        _TABLE.update(dict.fromkeys(targets, function))
        return function

    return put


def _binary(writer: _Writer, node: Node) -> str:
    one, other = node.args[:2]
    if set(node.kwargs) - {"alpha"}:  # a division that rounds
        raise UnknownOperationError(f"{node.target} with {dict(node.kwargs)}")
    dtype = dtype_of(node)
    if dtype == torch.bool:  # a comparison: in the type of what is compared
        examples: Any = [
            torch.empty(_shape_of(x), dtype=dtype_of(x)) if isinstance(x, FxNode) else x for x in (one, other)
        ]
        dtype = torch.result_type(*examples)
    second = writer.operand(other, dtype)
    if node.kwargs.get("alpha", 1) != 1:
        second = writer.op("Mul", second, writer.constant(node.kwargs["alpha"], dtype))
    return writer.op(_BINARY[node.target], writer.operand(one, dtype), second)


@_of(aten.rsqrt.default)
def _rsqrt(writer: _Writer, _node: Node, x: Node) -> str:
    return writer.op("Reciprocal", writer.op("Sqrt", writer.names[x]))


@_of(aten.gelu.default)
def _gelu(writer: _Writer, _node: Node, x: Node, approximate: str = "none") -> str:
    return writer.op("Gelu", writer.names[x], approximate=approximate)


@_of(aten.clamp.default, aten.clamp_min.default)
def _clamp(writer: _Writer, node: Node, x: Node, low: Any = None, high: Any = None, **named: Any) -> str:
    bounds = [named.get("min", low), named.get("max", high)]
    names = ["" if bound is None else writer.constant(bound, dtype_of(node)) for bound in bounds]
    return writer.op("Clip", writer.names[x], *names)


@_of(aten._softmax.default)
def _softmax(writer: _Writer, _node: Node, x: Node, axis: int, _half: bool) -> str:
    return writer.op("Softmax", writer.names[x], axis=axis)


@_of(aten.native_layer_norm.default)
def _layer_norm(writer: _Writer, _node: Node, x: Node, sizes: Any, scale: Any, shift: Any, epsilon: float) -> list[str]:
    ones = torch.ones(sizes, dtype=dtype_of(x))
    given = [writer.names[x], writer.constant(ones) if scale is None else writer.names[scale]]
    given += [] if shift is None else [writer.names[shift]]
    return writer.op("LayerNormalization", *given, outputs=3, axis=-len(sizes), epsilon=epsilon)


# products


@_of(aten.bmm.default, aten.mm.default)
def _product(writer: _Writer, _node: Node, one: Node, other: Node) -> str:
    return writer.op("MatMul", writer.names[one], writer.names[other])


@_of(aten.addmm.default)
def _added_product(
    writer: _Writer, _node: Node, added: Node, one: Node, other: Node, beta: float = 1, alpha: float = 1
) -> str:
    names = (writer.names[one], writer.names[other], writer.names[added])
    return writer.op("Gemm", *names, alpha=float(alpha), beta=float(beta))


@_of(aten.convolution.default)
def _convolution(
    writer: _Writer, node: Node, x: Node, weight: Node, bias: Node | None, stride: Any, padding: Any, dilation: Any,
    transposed: bool, _output_padding: Any, groups: int,
) -> str:  # fmt: skip
    if transposed:
        raise UnknownOperationError(f"{node.target}, transposed")
    given = [writer.names[one] for one in (x, weight, bias) if one is not None]
    return writer.op(
        "Conv", *given, strides=stride, pads=[*padding, *padding], dilations=dilation, group=groups,
        kernel_shape=_shape_of(weight)[2:],
    )  # fmt: skip


@_of(aten.max_pool2d_with_indices.default)
def _max_pool(
    writer: _Writer, _node: Node, x: Node, kernel: Any, stride: Any = (), padding: Any = (0, 0), *more: Any
) -> list[str]:
    if more:
        raise UnknownOperationError("max_pool2d with dilation")
    sides = {"kernel_shape": kernel, "strides": stride or kernel, "pads": [*padding, *padding]}
    return [writer.op("MaxPool", writer.names[x], **sides)]


# shapes


@_of(aten.view_copy.default)
def _view(writer: _Writer, _node: Node, x: Node, sizes: Any) -> str:
    return writer.op("Reshape", writer.names[x], writer.constant(list(sizes)))


@_of(aten.permute.default)
def _permute(writer: _Writer, _node: Node, x: Node, order: Any) -> str:
    rank = len(order)
    return writer.op("Transpose", writer.names[x], perm=[axis % rank for axis in order])


@_of(aten.expand.default)
def _expand(writer: _Writer, _node: Node, x: Node, sizes: Any, **_implicit: Any) -> str:
    return writer.op("Expand", writer.names[x], writer.constant([1 if size == -1 else size for size in sizes]))


@_of(aten.unsqueeze.default)
def _unsqueeze(writer: _Writer, _node: Node, x: Node, axis: int) -> str:
    return writer.op("Unsqueeze", writer.names[x], writer.constant([axis]))


@_of(aten.squeeze.dims, aten.squeeze.dim)
def _squeeze(writer: _Writer, _node: Node, x: Node, axes: Any) -> str:
    axes = [axis for axis in (axes if isinstance(axes, (list, tuple)) else [axes]) if _shape_of(x)[axis] == 1]
    return writer.op("Squeeze", writer.names[x], writer.constant(axes)) if axes else writer.names[x]


@_of(aten.slice.Tensor)
def _slice(
    writer: _Writer, _node: Node, x: Node, axis: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> str:
    bounds = (start or 0, _END if end is None else end, axis, step)
    return writer.op("Slice", writer.names[x], *(writer.constant([bound]) for bound in bounds))


_END = 2**63 - 1


@_of(aten.select.int)
def _select(writer: _Writer, _node: Node, x: Node, axis: int, index: int) -> str:
    return writer.op("Gather", writer.names[x], writer.constant(index), axis=axis)


@_of(aten.cat.default)
def _cat(writer: _Writer, node: Node, parts: Any, axis: int = 0) -> str:
    whole = [part for part in parts if math.prod(_shape_of(part))]
    return writer.op("Concat", *(writer.operand(part, dtype_of(node)) for part in whole), axis=axis)


@_of(aten.stack.default)
def _stack(writer: _Writer, _node: Node, parts: Any, axis: int = 0) -> str:
    raised = [writer.op("Unsqueeze", writer.names[part], writer.constant([axis])) for part in parts]
    return writer.op("Concat", *raised, axis=axis)


@_of(aten.split_with_sizes.default, aten.split.Tensor, aten.tensor_split.sections, aten.chunk.default)
def _split(writer: _Writer, node: Node, x: Node, _how: Any, axis: int = 0) -> list[str]:
    sizes = [meta.shape[axis] for meta in node.meta["tensor_meta"]]
    if len(sizes) == 1:
        return [writer.names[x]]
    return writer.op("Split", writer.names[x], writer.constant(sizes), outputs=len(sizes), axis=axis)


@_of(aten.unbind.int)
def _unbind(writer: _Writer, _node: Node, x: Node, axis: int = 0) -> list[str]:
    return [_select(writer, _node, x, axis, i) for i in range(_shape_of(x)[axis])]


@_of(aten.constant_pad_nd.default)
def _pad(writer: _Writer, node: Node, x: Node, pads: Any, value: Any = 0) -> str:
    rank = len(_shape_of(x))
    begins, ends = [0] * rank, [0] * rank
    for i in range(len(pads) // 2):  # from the last axis on
        begins[rank - 1 - i], ends[rank - 1 - i] = pads[2 * i], pads[2 * i + 1]
    return writer.op("Pad", writer.names[x], writer.constant([*begins, *ends]), writer.constant(value, dtype_of(node)))


@_of(aten.index.Tensor)
def _index(writer: _Writer, node: Node, x: Node, indices: Any) -> str:
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    if len(axes) != 1 or dtype_of(indices[axes[0]]) == torch.bool:
        raise UnknownOperationError(f"{node.target} by several indices")
    return writer.op("Gather", writer.names[x], writer.names[indices[axes[0]]], axis=axes[0])


@_of(aten.slice_scatter.default)
def _slice_scatter(
    writer: _Writer, _node: Node, x: Node, part: Node, axis: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> str:
    """Both behind each other, and of these what stands at each place."""
    size = _shape_of(x)[axis]
    places = list(range(size))
    for i, place in enumerate(places[slice(start, end, step)]):
        places[place] = size + i
    both = writer.op("Concat", writer.names[x], writer.names[part], axis=axis)
    return writer.op("Gather", both, writer.constant(places), axis=axis)


@_of(aten.cumsum.default)
def _cumsum(writer: _Writer, _node: Node, x: Node, axis: int) -> str:
    return writer.op("CumSum", writer.names[x], writer.constant(axis))


# sums


def _reduced(writer: _Writer, kind: str, x: Node, axes: Any, keep: bool) -> str:
    rank = len(_shape_of(x))
    chosen = [axes] if isinstance(axes, int) else list(axes or range(rank))
    return writer.op(kind, writer.names[x], writer.constant(chosen), keepdims=int(keep))


@_of(aten.sum.dim_IntList, aten.sum.default)
def _sum(writer: _Writer, node: Node, x: Node, axes: Any = None, keep: bool = False, **_dtype: Any) -> str:
    if dtype_of(x) != dtype_of(node):
        raise UnknownOperationError(f"{node.target} of {dtype_of(x)}")
    return _reduced(writer, "ReduceSum", x, axes, keep)


@_of(aten.mean.dim, aten.mean.default)
def _mean(writer: _Writer, _node: Node, x: Node, axes: Any = None, keep: bool = False, **_dtype: Any) -> str:
    return _reduced(writer, "ReduceMean", x, axes, keep)


@_of(aten.var_mean.correction)
def _var_mean(
    writer: _Writer, node: Node, x: Node, axes: Any, correction: float = 1, keepdim: bool = False
) -> list[str]:
    count = math.prod(_shape_of(x)[axis] for axis in axes)
    apart = writer.op("Sub", writer.names[x], _reduced(writer, "ReduceMean", x, axes, True))
    squares = writer.op("Mul", apart, apart)
    mean = writer.op("ReduceMean", squares, writer.constant(list(axes)), keepdims=int(keepdim))
    variance = writer.op("Mul", mean, writer.constant(count / (count - correction), dtype_of(x)))
    return [variance, _reduced(writer, "ReduceMean", x, axes, keepdim)]


@_of(aten.amax.default)
def _amax(writer: _Writer, _node: Node, x: Node, axes: Any = (), keep: bool = False) -> str:
    return _reduced(writer, "ReduceMax", x, axes, keep)


@_of(aten.linalg_vector_norm.default)
def _norm(
    writer: _Writer, node: Node, x: Node, order: float = 2, axes: Any = None, keep: bool = False, **_dtype: Any
) -> str:
    if order != 2:
        raise UnknownOperationError(f"{node.target} of order {order}")
    return _reduced(writer, "ReduceL2", x, axes, keep)


# choices and constants


@_of(aten.where.self)
def _where(writer: _Writer, node: Node, chosen: Node, one: Any, other: Any) -> str:
    dtype = dtype_of(node)
    return writer.op("Where", writer.names[chosen], writer.operand(one, dtype), writer.operand(other, dtype))


@_of(aten.full_like.default, aten.zeros_like.default, aten.ones_like.default)
def _filled_like(writer: _Writer, node: Node, x: Node, value: Any = None, **_named: Any) -> str:
    if value is None:
        value = int(node.target is aten.ones_like.default)
    return writer.op("Expand", writer.constant(value, dtype_of(node)), writer.op("Shape", writer.names[x]))


@_of(aten._to_copy.default, aten.to.dtype)
def _converted(writer: _Writer, node: Node, x: Node, *_given: Any, **_named: Any) -> str:
    return writer.op("Cast", writer.names[x], to=writer.type(dtype_of(node)))
