"""A computation as a graph of tensor operations: traced, made smaller, and freed of the number of its images.

    function, inputs --traced--> graph for that many images --of_any_batch--> graph for any number

What runs while it is traced reads real numbers, so checks and branches do what they always do; what they looked at has
no part in the result and is dropped. Knows nothing of models. Built on ``torch.fx``; see the documentation of
``torch.fx.experimental.proxy_tensor.make_fx``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions, get_decompositions
from torch.fx import Graph, GraphModule
from torch.fx import Node as FxNode
from torch.fx.node import map_arg
from torch.fx.passes.shape_prop import ShapeProp
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from tokentm.errors import UnsupportedModelError

aten = torch.ops.aten
Node: TypeAlias = Any
"""``torch.fx.Node``, whose arguments are typed as anything that an argument can be."""

_COPIES = {aten.alias.default, aten.detach.default, aten.clone.default, aten.lift_fresh_copy.default}
_VIEWS = {aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.view_copy.default}
_VIEW = aten.view_copy.default
"""A view of any tensor, also where its numbers do not lie in order."""
_SAME_IF_SAME_SHAPE = {_VIEW, aten.expand.default, aten.slice.Tensor, aten.squeeze.dims}
_MADE_OF_SIZES = {aten.full.default, aten.empty.memory_format}


def traced(function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]) -> GraphModule:
    """What the function computes of inputs of these shapes, gradients that it takes inside included.

    The graph has no operation that writes into a tensor, and each node knows its shape (``meta["tensor_meta"]``).
    """
    written = _Recorder.record(function, inputs, {})
    graph = _Recorder.record(torch.func.functionalize(written, remove="mutations"), inputs, _smaller_operations())
    ShapeProp(graph).propagate(*inputs)
    before = None
    while before != len(graph.graph.nodes):
        before = len(graph.graph.nodes)
        _simplify(graph)
        _merge_equal(graph)
        _drop_unneeded(graph.graph)
    graph.recompile()
    return graph


def _smaller_operations() -> dict[Any, Callable[..., Any]]:
    """How operations are made of smaller ones: those that name the number of images, but none that is simpler whole."""
    table = {**core_aten_decompositions(), **get_decompositions([aten.native_group_norm])}
    for kept in (aten.linalg_vector_norm.default, aten.ones_like.default, aten.eye.default, aten.eye.m):
        table.pop(kept, None)
    return table


class _Recorder(TorchDispatchMode):
    """Writes every tensor operation that runs, below autograd, into a graph; what is no input or made of one is held as
    a constant.

    ``torch.fx.experimental.proxy_tensor.make_fx`` does the same; it refuses whoever reads a number, as checks do, and
    takes several times as long.
    """

    def __init__(self, made_of: Mapping[Any, Callable[..., Any]]) -> None:
        super().__init__()
        self.made_of = made_of
        self.root, self.graph = nn.Module(), Graph()
        self.nodes: MutableMapping[Tensor, Node] = WeakTensorKeyDictionary()

    @classmethod
    def record(
        cls,
        function: Callable[..., tuple[Tensor, ...]],
        inputs: tuple[Tensor, ...],
        made_of: Mapping[Any, Callable[..., Any]],
    ) -> GraphModule:
        recorder = cls(made_of)
        inputs = tuple(one.detach() for one in inputs)  # tensors of its own: the caller's may be seen elsewhere
        for i, one in enumerate(inputs):
            recorder.nodes[one] = recorder.graph.placeholder(f"input_{i}")
        with recorder:
            outputs = function(*inputs)
        recorder.graph.output(tuple(recorder._node(one) for one in outputs))
        _drop_unneeded(recorder.graph)  # some of it, such as generators of random numbers, has no place in a module
        return GraphModule(recorder.root, recorder.graph)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.made_of:
            with self:
                made = self.made_of[func](*args, **kwargs)
            if made is not NotImplemented:
                return made
        if any(isinstance(one, torch.Generator) for one in (*args, *kwargs.values())):
            return func(*args, **kwargs)  # numbers drawn with a seed are constants
        nodes = tree_map(self._node, (args, kwargs))
        made = func(*args, **kwargs)
        node = self.graph.call_function(func, *nodes)
        if isinstance(made, Tensor):
            self.nodes[made] = node
        elif isinstance(made, (list, tuple)):
            for i, one in enumerate(made):
                if isinstance(one, Tensor):
                    self.nodes[one] = self.graph.call_function(operator.getitem, (node, i))
        return made

    def _node(self, one: Any) -> Any:
        if not isinstance(one, Tensor):
            return one
        if one not in self.nodes:
            name = f"constant_{len(self.root._parameters) + len(self.root._buffers)}"
            if isinstance(one, nn.Parameter):
                self.root.register_parameter(name, one)
            else:
                self.root.register_buffer(name, one)
            self.nodes[one] = self.graph.get_attr(name)
        return self.nodes[one]


def reads(graph: GraphModule, output: int, placeholder: int) -> bool:
    """Whether an output is made of an input, each given by its place."""
    start = _inputs(graph)[placeholder]
    made = next(node for node in graph.graph.nodes if node.op == "output")
    todo, seen = [made.args[0][output]], set()
    while todo:
        node = todo.pop()
        if node is start:
            return True
        if node not in seen:
            seen.add(node)
            todo += node.all_input_nodes
    return False


# what is not needed


def _drop_unneeded(graph: Graph) -> None:
    """Leave what the outputs are made of, and what writes into that."""
    nodes = list(graph.nodes)
    origin: dict[Node, Node] = {}
    for node in nodes:
        shares = node.op == "call_function" and node.args and isinstance(node.args[0], FxNode) and _shares_memory(node)
        origin[node] = origin[node.args[0]] if shares else node
    needed: set[Node] = set()
    written: set[Node] = set()  # whose memory holds something that is needed
    for node in reversed(nodes):
        if node.op in ("output", "placeholder") or node in needed or (_writes(node) and origin[node] in written):
            needed |= {node, *node.all_input_nodes}
            written |= {origin[source] for source in (node, *node.all_input_nodes)}
    for node in reversed(nodes):
        if node not in needed:
            graph.erase_node(node)


def _shares_memory(node: Node) -> bool:
    """Whether what it makes may be a view of its first argument, or that itself."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:  # an element of several views
        return True
    return bool(schema.arguments) and schema.arguments[0].alias_info is not None


def _writes(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and schema.is_mutable


# smaller


def _simplify(graph: GraphModule) -> None:
    """Take out what changes no number: copies, views of the same shape, views of views, factors of one."""
    ones: set[Node] = set()
    for node in list(graph.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target in _VIEWS:
            node.target = _VIEW
        elif node.target is aten.as_strided.default and _in_order(node) and _in_order(node.args[0]):
            node.target, node.args = _VIEW, node.args[:2]
        source = node.args[0] if node.args else None
        if not isinstance(source, FxNode):
            continue
        if node.target in _COPIES or (node.target in _SAME_IF_SAME_SHAPE and shape(source) == shape(node)):
            _replace(node, source)
        elif node.target is _VIEW and source.target is _VIEW:
            node.args = (source.args[0], *node.args[1:])
        elif node.target is aten.permute.default and source.target is aten.permute.default:
            _join_permutations(node, source)
        elif node.target is aten.ones_like.default or (source in ones and node.target in (_VIEW, *_SHAPING)):
            ones.add(node)
        elif node.target is aten.mul.Tensor:
            for one, other in (node.args, node.args[::-1]):
                if one in ones and isinstance(other, FxNode) and shape(other) == shape(node):
                    _replace(node, other)
                    break


def _in_order(node: Node) -> bool:
    """Whether all numbers of its storage lie in its tensor, in order."""
    meta = node.meta["tensor_meta"]
    rows = [math.prod(meta.shape[axis + 1 :]) for axis in range(len(meta.shape))]
    return list(meta.stride) == rows


_SHAPING = (aten.unsqueeze.default, aten.expand.default, aten.slice.Tensor, aten.index.Tensor, aten.squeeze.dims)


def _join_permutations(node: Node, source: Node) -> None:
    first, second = source.args[1], node.args[1]
    order = [first[axis] for axis in second]
    if order == list(range(len(order))):
        _replace(node, source.args[0])
    else:
        node.args = (source.args[0], order)


def _replace(node: Node, other: Node) -> None:
    node.replace_all_uses_with(other)
    node.graph.erase_node(node)


def _merge_equal(graph: GraphModule) -> None:
    """Compute once what is computed twice of the same."""
    known: dict[Any, Node] = {}
    for node in list(graph.graph.nodes):
        if node.op == "get_attr":
            key: Any = id(attribute(graph, node.target))
        elif node.op == "call_function":
            key = (node.target, _hashable(node.args), _hashable(tuple(sorted(node.kwargs.items()))))
        else:
            continue
        if key in known:
            _replace(node, known[key])
        else:
            known[key] = node


def _hashable(argument: Any) -> Any:
    if isinstance(argument, (list, tuple)):
        return tuple(_hashable(one) for one in argument)
    return type(argument), argument  # 1 and 1.0 and True are equal


def attribute(graph: GraphModule, path: str) -> Any:
    """What a graph holds at a path."""
    found: Any = graph
    for name in path.split("."):
        found = getattr(found, name)
    return found


# any number of images


def of_any_batch(
    graph: GraphModule, other: GraphModule, inputs: tuple[Tensor, ...], others: tuple[Tensor, ...]
) -> GraphModule:
    """The first graph, rewritten so that it holds no number of images.

    Args:
        graph, other: the same computation, traced for two numbers of images.
        inputs, others: what they were traced with.

    Raises:
        UnsupportedModelError: the graphs differ in more than sizes that are multiples of the number of images.
    """
    images, count = len(inputs[0]), len(others[0])
    nodes, theirs = list(graph.graph.nodes), list(other.graph.nodes)
    if [(node.op, _target(node)) for node in nodes] != [(node.op, _target(node)) for node in theirs]:
        raise UnsupportedModelError(
            f"expected a model that computes the same whatever the number of images, found that {images} and {count} "
            "images take different operations (a special case for some batch, a loop over images). Remove it."
        )
    batch = _Batch(graph, images, count)
    for node, their in zip(nodes, theirs, strict=True):
        if node.op == "call_function":
            batch.free(node, their)
    _fold_constants(graph)
    _drop_unneeded(graph.graph)
    graph.recompile()
    ShapeProp(graph).propagate(*inputs)
    return graph


def _fold_constants(graph: GraphModule) -> None:
    """Compute what no input has a part in; a weight that is only turned or cut stays one with the weight."""
    values: dict[Node, Any] = {}
    plain: set[Node] = set()
    for node in list(graph.graph.nodes):
        if node.op == "get_attr":
            values[node] = attribute(graph, node.target)
            plain.add(node)
        elif node.op == "call_function" and all(source in values for source in node.all_input_nodes):
            args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
            with torch.no_grad():
                values[node] = node.target(*args, **kwargs)
            if node.target in _MOVING and node.args[0] in plain:
                plain.add(node)
    for i, (node, value) in enumerate(values.items()):
        if node not in plain and isinstance(value, Tensor) and any(user not in values for user in node.users):
            graph.register_buffer(f"folded_{i}", value.contiguous())
            with graph.graph.inserting_before(node):
                held = graph.graph.get_attr(f"folded_{i}")
            node.replace_all_uses_with(held, lambda user: user not in values)


_MOVING = {_VIEW, aten.permute.default, aten.select.int, *_SHAPING, operator.getitem, aten.split_with_sizes.default}


def _target(node: Node) -> Any:
    return "" if node.op == "get_attr" else node.target


def _inputs(graph: GraphModule) -> list[Node]:
    return [node for node in graph.graph.nodes if node.op == "placeholder"]


class _Batch:
    """Rewrites one node after the other. Where a size must be known, it is taken from a tensor with one entry for each
    image, which is broadcast against.
    """

    def __init__(self, graph: GraphModule, images: int, others: int) -> None:
        self.graph, self.images, self.others = graph.graph, images, others
        self._each: Node | None = None

    @property
    def each(self) -> Node:
        """One True for each image, (B,)."""
        if self._each is None:
            inputs = [node for node in self.graph.nodes if node.op == "placeholder"]
            with self.graph.inserting_after(inputs[-1]):
                first = self.graph.call_function(aten.select.int, (inputs[-1], 1, 0))
            with self.graph.inserting_after(first):
                self._each = self.graph.call_function(aten.full_like.default, (first, True), {"dtype": torch.bool})
        return self._each

    def free(self, node: Node, other: Node) -> None:
        mine, theirs = _constants(node), _constants(other)
        if mine == theirs:
            return
        if node.target is _VIEW:
            sizes, axis = self._axis(node, shape(node), shape(other))  # -1 among its arguments is resolved here
            node.args = (node.args[0], _with(sizes, axis, -1))
        elif node.target is aten.expand.default:
            self._free_expand(node, other)
        elif node.target in _MADE_OF_SIZES:
            self._free_made(node, other)
        elif node.target is aten.arange.start_step and mine[:1] == theirs[:1] == [0] and mine[1] == self.images:
            self._free_count(node)
        else:
            raise self._refusal(node)

    def _axis(self, node: Node, sizes: Any, others: Any) -> tuple[list[int], int]:
        """Sizes, and which of them is a multiple of the number of images."""
        differ = [axis for axis, (one, two) in enumerate(zip(sizes, others, strict=True)) if one != two]
        multiple = [axis for axis in differ if sizes[axis] * self.others == others[axis] * self.images]
        if len(differ) != 1 or differ != multiple:
            raise self._refusal(node)
        return list(sizes), differ[0]

    def _free_expand(self, node: Node, other: Node) -> None:
        source = node.args[0]
        sizes, axis = self._axis(node, node.args[1], other.args[1])
        own = shape(source) or ()
        at = axis - len(sizes) + len(own)
        if at >= 0 and own[at] != 1:
            node.args = (source, _with(sizes, axis, -1))
            return
        if sizes[axis] != self.images:
            raise self._refusal(node)
        with self.graph.inserting_before(node):
            spread = self._spread(source, axis, len(sizes))
            node.args = (spread, _with(sizes, axis, -1))

    def _free_made(self, node: Node, other: Node) -> None:
        """Made for one image, then spread: (k B, ...) of (1, k, ...)."""
        sizes, axis = self._axis(node, node.args[0], other.args[0])
        each = sizes[axis] // self.images
        with self.graph.inserting_before(node):
            one = self.graph.call_function(
                node.target, ([*sizes[:axis], 1, each, *sizes[axis + 1 :]], *node.args[1:]), node.kwargs
            )
            spread = self._spread(one, axis, len(sizes) + 1)
            made = self.graph.call_function(_VIEW, (spread, _with(sizes, axis, -1)))
        _replace(node, made)

    def _free_count(self, node: Node) -> None:
        with self.graph.inserting_before(node):
            ones = self.graph.call_function(aten.full_like.default, (self.each, 1), {"dtype": torch.int64})
            counted = self.graph.call_function(aten.cumsum.default, (ones, 0))
            made = self.graph.call_function(aten.sub.Tensor, (counted, 1))
        _replace(node, made)

    def _spread(self, source: Node, axis: int, rank: int) -> Node:
        """The source, whose size is 1 at this axis, repeated there for each image."""
        at_axis = [1] * rank
        at_axis[axis] = -1
        each = self.graph.call_function(_VIEW, (self.each, at_axis))
        return self.graph.call_function(aten.where.self, (each, source, source))

    def _refusal(self, node: Node) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"expected a computation in which the number of images stands in sizes of tensors alone, found it in "
            f"{node.format_node()}. A graph of it would be right for {self.images} images only."
        )


def _with(sizes: list[int], axis: int, size: int) -> list[int]:
    return [*sizes[:axis], size, *sizes[axis + 1 :]]


def _constants(node: Node) -> list[Any]:
    """Whatever is no node among its arguments, in order."""
    return list(_leaves((node.args, sorted(node.kwargs.items()))))


def _leaves(argument: Any) -> Iterator[Any]:
    if isinstance(argument, (list, tuple)):
        for one in argument:
            yield from _leaves(one)
    elif not isinstance(argument, FxNode):
        yield argument


def shape(node: Node) -> tuple[int, ...] | None:
    """Of the tensor that a node makes; None of one that makes several."""
    meta = node.meta.get("tensor_meta")
    return tuple(meta.shape) if hasattr(meta, "shape") else None
