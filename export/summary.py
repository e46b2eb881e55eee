"""Summary of an ONNX file: its operators with weights and shapes, and its metadata."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx

from charts.blocks import Graph, Node
from charts.text import Text, Words, joined
from export import formats, layout
from export.cases import Case, wrap_errors
from export.layout import ONNX

SELF_TEST = "sample"

Shape = tuple[int | str, ...]  # strings are names of dynamic axes


@dataclass(frozen=True)
class TensorInfo:
    """Input or output of the graph."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class Operator:
    """Node of the graph. `inputs` are inputs of the graph or outputs of other nodes; `weights` maps names to shapes."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, tuple[int, ...]]
    parameters: int
    shape: Shape  # of its first output


@dataclass(frozen=True)
class Summary:
    """Contents of an ONNX file except the values of its tensors. `size` is in bytes."""

    size: int
    opset: int
    ir_version: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: tuple[Operator, ...]
    metadata: Mapping[str, str]

    @property
    def parameters(self) -> int:
        """Number of trained parameters, without the running statistics of batch norm."""
        return sum(each.parameters for each in self.operators)

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-serializable data."""
        return {**asdict(self), "parameters": self.parameters}


def summarize(content: bytes, name: str = ONNX) -> Summary:
    """Summarize an ONNX file, named `name` in errors, without running it. Raises BrokenFileError if it is not plain."""
    with wrap_errors(name, "cannot be read"):
        model = formats.parsed(content)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        graph = model.graph
        shapes = {value.name: _shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
        weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        return Summary(
            len(content),
            next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0),
            model.ir_version,
            tuple(map(_tensor_info, graph.input)),
            tuple(map(_tensor_info, graph.output)),
            tuple(_operator(node, weights, shapes) for node in graph.node),
            {each.key: each.value for each in model.metadata_props},
        )


def _tensor_info(value: onnx.ValueInfoProto) -> TensorInfo:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return TensorInfo(value.name, dtype.name, _shape(value))


def _shape(value: onnx.ValueInfoProto) -> Shape:
    return tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _operator(node: onnx.NodeProto, weights: Mapping[str, tuple[int, ...]], shapes: Mapping[str, Shape]) -> Operator:
    own = {name: weights[name] for name in node.input if name in weights}
    learned = [shape for name, shape in own.items() if not name.endswith(("running_mean", "running_var"))]
    return Operator(
        node.name,
        node.op_type,
        tuple(name for name in node.input if name and name not in weights),
        tuple(node.output),
        own,
        sum(map(math.prod, learned)),
        shapes.get(node.output[0], ()),
    )


def self_test(content: bytes, summary: Summary, name: str = ONNX) -> Case | None:
    """Run the sample in the file's metadata in onnxruntime and compare the outputs; None if there is no sample.

    Raises BrokenFileError.
    """
    if SELF_TEST not in summary.metadata:
        return None
    with wrap_errors(name, "cannot be tested"):
        sample = layout.from_json(summary.metadata[SELF_TEST])
        x, y = (np.array(sample[axis], np.float32) for axis in "xy")
        tolerance = np.array(sample["tolerance"], np.float64)
        formats.refuse_unknown_operators(content)
        found = formats.read_onnx(content).predict(x)
        if not found.shape == y.shape == tolerance.shape or not np.isfinite(found).all():
            return Case.from_check(name, SELF_TEST, f"does not return finite numbers of shape {y.shape}, as torch did")
        difference = np.abs(np.subtract(found, y, dtype=np.float64))
        worst = np.unravel_index((difference / tolerance).argmax(), y.shape)
        measured, bound = float(difference[worst]), float(tolerance[worst])
        why = f"{len(x)} recorded inputs; values of the output closest to its bound"
        return Case(name, SELF_TEST, x.shape, float(difference.max()), measured, bound, measured <= bound, why)


def drawing(summary: Summary) -> Graph:
    """The graph as a drawing: a box for each operator, with its weights and output shape, and arrows."""
    nodes = [Node(tensor.name, "leaf", (_sizes(tensor.shape),)) for tensor in summary.inputs]
    made_by = {tensor.name: number for number, tensor in enumerate(summary.inputs)}
    arrows = []
    for operator in summary.operators:
        number = len(nodes)
        nodes.append(Node(_title(operator), "operation", tuple(_details(operator))))
        arrows += [(made_by[name], number) for name in operator.inputs if name in made_by]
        made_by |= dict.fromkeys(operator.outputs, number)
    for tensor in summary.outputs:
        arrows.append((made_by[tensor.name], len(nodes)))
        nodes.append(Node(tensor.name, "result", (_sizes(tensor.shape),)))
    return Graph(tuple(nodes), tuple(arrows))


def _title(operator: Operator) -> str:
    layers = dict.fromkeys(name.rpartition(".")[0] for name in operator.weights)
    return " ".join((operator.operator, *filter(None, layers)))


def _details(operator: Operator) -> list[Words]:
    details: list[Words] = []
    if operator.weights:
        details.append(", ".join(f"{name.rpartition('.')[2]} {_sizes(s)}" for name, s in operator.weights.items()))
        count = Text("{n} parameters", "{n} 个参数").format(n=f"{operator.parameters:,}")
        details.append(joined([count, _sizes(operator.shape)], " → "))
    else:
        details.append(f"→ {_sizes(operator.shape)}")
    if operator.operator == "Identity":
        details.append(Text("dropout, off in eval mode", "dropout，评估模式下关闭"))
    return details


def _sizes(shape: Shape) -> str:
    return " × ".join(map(str, shape))
