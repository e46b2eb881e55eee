"""A net as an ONNX file: the graph of its architecture, filled with its weights in a few milliseconds.

torch.onnx.export takes half a second or more and must not run beside other threads that use torch, so it is never
called here. Graphs of the lessons' nets are shipped in `graphs/`, whatever the sizes of their layers; that of any
other net is exported once by a process of its own (`export.torch_onnx`), and kept for all nets like it.
"""

import copy
import hashlib
import inspect
import io
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from charts.text import Text

GRAPHS = Path(__file__).with_name("graphs")
ARCHITECTURE = "architecture"  # the name under which a shipped graph tells whose it is
ANY = -1  # a size that a shipped graph leaves open

# What a graph does not depend on: sizes, which its tensors have anyway, and what counts in training only.
_FREE: dict[type[nn.Module], set[str]] = {
    nn.Linear: {"in_features", "out_features"},
    nn.BatchNorm1d: {"num_features", "momentum"},
    nn.Dropout: {"p", "inplace"},
}
_OF_EVERY_MODULE = set(vars(nn.Module()))  # its mode, hooks, parameters and the like
_KEPT = 64  # graphs besides the shipped ones; each is a few kilobytes
_PATIENCE = 300  # seconds that an export may take; a busy machine needs ten

_exported: dict[str, onnx.ModelProto] = {}
_exporting = threading.Lock()


class ExportError(RuntimeError):
    """A net that cannot be written faithfully; the message says which and why, `told` in both languages."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.told = Text("The net cannot be written as an ONNX file: {why}.", "网络无法写成 ONNX 文件：{why}。").format(
            why=why
        )


def onnx_bytes(net: nn.Module, x: Tensor, metadata: Mapping[str, str] | None = None) -> bytes:
    """The net in eval mode as an ONNX file; `x` (N, features) is any input of its kind.

    `metadata` goes into the file's metadata_props. Raises ExportError. The first net of an architecture that is not
    shipped takes some seconds; see `prepare`.
    """
    model = copy.deepcopy(_graph(net, x))
    state = inference_state(net.state_dict())
    fill(model, {name: tensor.detach().numpy() for name, tensor in state.items()})
    with torch.no_grad():
        y = copy.deepcopy(net).eval()(torch.zeros(2, *x.shape[1:]))
    for port, example in ((model.graph.input[0], x), (model.graph.output[0], y)):
        for dim, size in zip(port.type.tensor_type.shape.dim[1:], example.shape[1:], strict=True):
            dim.dim_value = size
    onnx.helper.set_model_props(model, dict(sorted((metadata or {}).items())))
    try:
        onnx.checker.check_model(model, full_check=True)  # also that the sizes of all tensors go together
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph of {type(net).__qualname__} does not hold: {error}") from error
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def inference_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that a prediction depends on: all but batch norm's count of the batches it has seen."""
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def fill(model: onnx.ModelProto, state: Mapping[str, npt.NDArray[Any]]) -> None:
    """Put the tensors of `state` into the graph of their architecture, in place.

    Raises ExportError unless the graph's initialisers are of the names, shapes and dtypes of `state`; a size of ANY
    takes every size.
    """
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    if {*found} != {*state}:
        raise ExportError(f"the graph's tensors {sorted(found)} are not those of the state_dict {sorted(state)}")
    for name, array in state.items():
        sizes, dtype = list(found[name].dims), onnx.helper.tensor_dtype_to_np_dtype(found[name].data_type)
        same = len(sizes) == array.ndim and all(a in (ANY, b) for a, b in zip(sizes, array.shape, strict=True))
        if not same or dtype != array.dtype:
            raise ExportError(f"the graph's {name} is {dtype} {sizes} and the state_dict's {array.dtype} {array.shape}")
        found[name].CopyFrom(numpy_helper.from_array(array, name))


def is_at_hand(net: nn.Module, x: Tensor) -> bool:
    """Whether `prepare` has nothing to do for this net. Raises ExportError."""
    return architecture(net) in _shipped() or _exact(net, x) in _exported


def prepare(net: nn.Module, x: Tensor) -> None:
    """Have the graph of the net's architecture at hand, so that `onnx_bytes` takes no time. Raises ExportError.

    May be called on any thread, beside runs that train: what has to be exported is so by another process.
    """
    _graph(net, x)


def _graph(net: nn.Module, x: Tensor) -> onnx.ModelProto:
    shipped = _shipped().get(architecture(net))
    if shipped is not None:
        return shipped
    key = _exact(net, x)
    with _exporting:  # of two that want the same, the second finds what the first has made
        if key not in _exported:
            made = _export_elsewhere(net, x)
            if len(_exported) >= _KEPT:
                del _exported[next(iter(_exported))]
            _exported[key] = made
        return _exported[key]


def architecture(net: nn.Module) -> str:
    """All that the net's graph depends on, but for the sizes of its tensors. Raises ExportError.

    A graph that no longer belongs to its net all the same, say because `forward` calls a function that was changed,
    is caught by the comparison of every file with its net.
    """
    lines = [f"torch {torch.__version__.partition('+')[0]}, onnx {onnx.__version__}"]
    for name, module in net.named_modules():
        cls: Any = type(module)
        kept = sorted(vars(module).keys() - _OF_EVERY_MODULE - _FREE.get(cls, set()))
        values = ", ".join(f"{name}={vars(module)[name]!r}" for name in kept)
        lines.append(f"{name}: {cls.__module__}.{cls.__qualname__}({values}) {_source_hash(cls)}".strip())
    lines += [f"{name}: {tensor.dtype}, {tensor.ndim} axes" for name, tensor in net.state_dict().items()]
    return "\n".join(lines)


def _exact(net: nn.Module, x: Tensor) -> str:
    shapes = [(name, tuple(tensor.shape)) for name, tensor in net.state_dict().items()]
    return f"{architecture(net)}\n{shapes}\n{tuple(x.shape[1:])}"


@cache
def _source_hash(cls: type[nn.Module]) -> str:
    """The hash of the code of a class and its bases, but for torch's own; empty if that is all there is."""
    own = [base for base in cls.__mro__ if base is not object and not base.__module__.startswith("torch.")]
    try:
        source = "".join(map(inspect.getsource, own))
    except (OSError, TypeError) as error:  # typed into a session
        raise ExportError(f"{cls.__qualname__} must be defined in a file, so that its code can go along") from error
    return hashlib.sha256(source.encode()).hexdigest()[:16] if own else ""


@cache
def _shipped() -> dict[str, onnx.ModelProto]:
    """The shipped graphs by architecture."""
    models = map(onnx.load_model, sorted(GRAPHS.glob("*.onnx")))
    made = {}
    for model in models:
        (told,) = model.metadata_props
        del model.metadata_props[:]
        made[told.value] = model
    return made


def known_operators() -> set[str]:
    """The operators of all graphs that are at hand."""
    return {node.op_type for model in (*_shipped().values(), *_exported.values()) for node in model.graph.node}


def _export_elsewhere(net: nn.Module, x: Tensor) -> onnx.ModelProto:
    """The graph from `export.torch_onnx` in a process of its own."""
    net = copy.deepcopy(net).eval()
    for parameter in net.parameters():
        parameter.grad = None
    given = io.BytesIO()
    try:
        torch.save((net, x[:0]), given)
    except (AttributeError, TypeError, RuntimeError, ValueError) as error:  # as pickle and torch say it
        raise ExportError(
            f"{type(net).__qualname__} must be a class that another process can import: {error}"
        ) from error
    name = type(net).__qualname__
    try:
        done = subprocess.run(
            [sys.executable, "-m", "export.torch_onnx"],
            input=given.getvalue(),
            capture_output=True,
            check=False,
            timeout=_PATIENCE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # where the net's class is found here
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"torch.onnx.export of {name} took more than {_PATIENCE:g} seconds") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it ended without a word"]
        raise ExportError(f"torch.onnx.export of {name} failed: {lines[-1]}")
    return onnx.load_model_from_string(done.stdout)
