"""What an ONNX file holds: its operators, their weights and shapes, and what it says of itself."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx

from charts.blocks import Graph, Node
from charts.text import Text, Words, joined
from export import formats, layout
from export.cases import Case, blaming
from export.layout import ONNX

SELF_TEST = "sample"

Shape = tuple[int | str, ...]  # a name for a size that is free


@dataclass(frozen=True)
class Port:
    """A value that goes into the graph, or comes out."""

    name: str
    dtype: str
    shape: Shape


@dataclass(frozen=True)
class Operator:
    """A node: `inputs` are the values it takes from the graph's inputs or from other nodes, `weights` its tensors."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, tuple[int, ...]]
    parameters: int
    shape: Shape  # of its first output


@dataclass(frozen=True)
class Summary:
    """All that there is to see in an ONNX file but for the numbers in its tensors."""

    size: int
    opset: int
    ir_version: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: tuple[Operator, ...]
    metadata: Mapping[str, str]

    @property
    def parameters(self) -> int:
        """How many numbers were learned; batch norm's running statistics, which are measured, do not count."""
        return sum(each.parameters for each in self.operators)

    def to_dict(self) -> dict[str, Any]:
        """The summary for JSON."""
        return {**asdict(self), "parameters": self.parameters}


def summarize(content: bytes, name: str = ONNX) -> Summary:
    """The summary of the ONNX file of that name; nothing of it is run. Raises BrokenFileError if it is not plain."""
    with blaming(name, "cannot be read"):
        model = formats.parsed(content)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        graph = model.graph
        shapes = {value.name: _shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
        weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        return Summary(
            len(content),
            next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0),
            model.ir_version,
            tuple(map(_port, graph.input)),
            tuple(map(_port, graph.output)),
            tuple(_operator(node, weights, shapes) for node in graph.node),
            {each.key: each.value for each in model.metadata_props},
        )


def _port(value: onnx.ValueInfoProto) -> Port:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return Port(value.name, dtype.name, _shape(value))


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
    """What onnxruntime makes of the sample that the file carries against the recorded outputs; None without a sample.

    Raises BrokenFileError.
    """
    if SELF_TEST not in summary.metadata:
        return None
    with blaming(name, "cannot be tested"):
        sample = layout.from_json(summary.metadata[SELF_TEST])
        x, y = (np.array(sample[axis], np.float32) for axis in "xy")
        tolerance = np.array(sample["tolerance"], np.float64)
        formats.refuse_strangers(content)
        given = formats.read_onnx(content).predict(x)
        if not given.shape == y.shape == tolerance.shape or not np.isfinite(given).all():
            return Case.of_words(name, SELF_TEST, f"does not give finite numbers of shape {y.shape}, as torch did")
        difference = np.abs(np.subtract(given, y, dtype=np.float64))
        worst = np.unravel_index((difference / tolerance).argmax(), y.shape)
        measured, bound = float(difference[worst]), float(tolerance[worst])
        why = f"{len(x)} recorded inputs, the worst output by its own bound"
        return Case(name, SELF_TEST, x.shape, float(difference.max()), measured, bound, measured <= bound, why)


def drawing(summary: Summary) -> Graph:
    """The graph as boxes and arrows: what each operator holds, and the shape of what it gives."""
    nodes = [Node(port.name, "leaf", (_sizes(port.shape),)) for port in summary.inputs]
    made_by = {port.name: number for number, port in enumerate(summary.inputs)}
    arrows = []
    for operator in summary.operators:
        number = len(nodes)
        nodes.append(Node(_title(operator), "operation", tuple(_details(operator))))
        arrows += [(made_by[name], number) for name in operator.inputs if name in made_by]
        made_by |= dict.fromkeys(operator.outputs, number)
    for port in summary.outputs:
        arrows.append((made_by[port.name], len(nodes)))
        nodes.append(Node(port.name, "result", (_sizes(port.shape),)))
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
