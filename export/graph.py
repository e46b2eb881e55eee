"""ONNX export: fill the cached graph of a net's architecture with its weights, which takes a few milliseconds.

torch.onnx.export takes at least 0.5 s and must not run while other threads use torch, so it is never called in this
process. `graphs/` contains the graphs of the lessons' nets, for all layer sizes. Other graphs are exported in a
subprocess (`export.torch_onnx`) and cached.
"""

import copy
import hashlib
import inspect
import io
import os
import pickle
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

from export.cases import ExportError

GRAPHS = Path(__file__).with_name("graphs")
ARCHITECTURE = "architecture"  # key in the metadata_props of a shipped graph
ANY = -1  # placeholder for a size in a shipped graph

# Attributes without effect on the graph: sizes, which its tensors have as well, and those used only in training.
_IGNORED_ATTRIBUTES: dict[type[nn.Module], set[str]] = {
    nn.Linear: {"in_features", "out_features"},
    nn.BatchNorm1d: {"num_features", "momentum"},
    nn.Dropout: {"p", "inplace"},
}
_MODULE_ATTRIBUTES = set(vars(nn.Module()))  # mode, hooks, parameters and others
_CACHE_SIZE = 64  # graphs, in addition to the shipped ones; each takes a few kilobytes
_EXPORT_TIMEOUT = 300  # seconds; an export takes up to 10 on a busy machine

_exported: dict[str, onnx.ModelProto] = {}
_exporting = threading.Lock()


def refuse_unsupported(net: nn.Module, x: Tensor) -> None:
    """Raise ExportError, with the reason, for a net that cannot be saved in all formats of a bundle.

    The net must map `x` (N, features) to (N, outputs), both float32, and its state_dict must contain each of its
    tensors once: safetensors does not support shared memory. The batch axis N is the only dynamic axis in ONNX.
    """
    name = type(net).__qualname__
    if x.dtype != torch.float32 or x.ndim != 2:
        raise ExportError(f"{name} must take inputs (N, features) of float32, but got {_describe(x)}")
    if not any(True for _ in net.parameters()):
        raise ExportError(f"{name} has no parameters to save")
    tied = _tied(net)
    if tied:
        raise ExportError(f"{name} has tied weights: {' and '.join(tied[0])} share memory; use separate tensors")
    saved = net.state_dict()
    unsaved = [each for each, _ in net.named_buffers() if each not in saved]
    if unsaved:
        raise ExportError(f"{name} has a non-persistent buffer: register {unsaved[0]} with persistent=True")
    try:
        with torch.no_grad():
            y = copy.deepcopy(net).eval()(torch.zeros(2, *x.shape[1:]))
    except Exception as error:
        raise ExportError(f"{name} must take one input (N, {x.shape[1]}), but fails: {_one_line(error)}") from error
    if not isinstance(y, Tensor) or y.dtype != torch.float32 or y.ndim != 2 or len(y) != 2:
        given = _describe(y) if isinstance(y, Tensor) else type(y).__qualname__
        raise ExportError(f"{name} must return outputs (N, outputs) of float32, but returns {given} for N = 2")


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _tied(net: nn.Module) -> list[list[str]]:
    """Names of parameters and buffers, persistent or not, that share memory, in one list for each group."""
    groups: list[list[str]] = []
    end = 0
    for start, stop, name in sorted(
        (tensor.data_ptr(), tensor.data_ptr() + _extent(tensor), name)
        for name, tensor in (
            *net.named_parameters(remove_duplicate=False),
            *net.named_buffers(remove_duplicate=False),
        )
        if tensor.numel()
    ):
        if start < end:
            groups[-1].append(name)
        else:
            groups.append([name])
        end = max(end, stop)
    return sorted(sorted(names) for names in groups if len(names) > 1)  # sorted, because memory addresses vary


def _extent(tensor: Tensor) -> int:
    """Number of bytes from the tensor's first element to its last, including gaps between them in a view."""
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (steps + 1) * tensor.element_size()


def onnx_bytes(net: nn.Module, x: Tensor, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the net in eval mode as an ONNX file. `x` (N, features) is any example input.

    `metadata` is stored in the file's metadata_props. Raises ExportError. Takes some seconds if the architecture's
    graph is neither shipped nor cached; see `prepare`.
    """
    model = copy.deepcopy(_graph(net, x))
    state = inference_state(net.state_dict())
    fill(model, {name: tensor.detach().numpy() for name, tensor in state.items()})
    with torch.no_grad():
        y = copy.deepcopy(net).eval()(torch.zeros(2, *x.shape[1:]))
    for value, example in ((model.graph.input[0], x), (model.graph.output[0], y)):
        for dim, size in zip(value.type.tensor_type.shape.dim[1:], example.shape[1:], strict=True):
            dim.dim_value = size
    onnx.helper.set_model_props(model, dict(sorted((metadata or {}).items())))
    try:
        onnx.checker.check_model(model, full_check=True)  # includes shape inference
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the graph of {type(net).__qualname__} is invalid: {error}") from error
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def inference_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors used in inference: all except num_batches_tracked of batch norm."""
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def fill(model: onnx.ModelProto, state: Mapping[str, npt.NDArray[Any]]) -> None:
    """Set the initializers of a graph to the tensors of `state`, in place.

    Raises ExportError if the names, shapes or dtypes of the initializers differ from those of `state`. A size of ANY
    matches every size.
    """
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    if {*found} != {*state}:
        raise ExportError(f"the graph's tensors {sorted(found)} differ from those of the state_dict {sorted(state)}")
    for name, array in state.items():
        sizes, dtype = list(found[name].dims), onnx.helper.tensor_dtype_to_np_dtype(found[name].data_type)
        same = len(sizes) == array.ndim and all(a in (ANY, b) for a, b in zip(sizes, array.shape, strict=True))
        if not same or dtype != array.dtype:
            raise ExportError(
                f"{name} is {dtype} {sizes} in the graph, but {array.dtype} {array.shape} in the state_dict"
            )
        found[name].CopyFrom(numpy_helper.from_array(array, name))


def is_prepared(net: nn.Module, x: Tensor) -> bool:
    """Whether the graph of the net's architecture is shipped or cached. Raises ExportError."""
    refuse_unsupported(net, x)
    return architecture(net) in _shipped() or _cache_key(net, x) in _exported


def prepare(net: nn.Module, x: Tensor) -> None:
    """Export and cache the graph of the net's architecture, so that `onnx_bytes` is fast. Raises ExportError.

    Thread-safe, also while runs train: the export runs in a subprocess.
    """
    refuse_unsupported(net, x)
    _graph(net, x)


def _graph(net: nn.Module, x: Tensor) -> onnx.ModelProto:
    shipped = _shipped().get(architecture(net))
    if shipped is not None:
        return shipped
    key = _cache_key(net, x)
    found = _exported.get(key)
    if found is not None:  # without the lock, which may be held for seconds during the export of another graph
        return found
    with _exporting:  # concurrent requests for the same graph export it once
        if key not in _exported:
            made = _export_in_subprocess(net, x)
            if len(_exported) >= _CACHE_SIZE:
                del _exported[next(iter(_exported))]
            _exported[key] = made
        return _exported[key]


def architecture(net: nn.Module) -> str:
    """Key of the net's graph: everything that it depends on except the sizes of tensors. Raises ExportError.

    The key misses some changes, such as one in a function that `forward` calls. Comparing every file with its net
    detects a graph that has become wrong in this way.
    """
    lines = [f"torch {torch.__version__.partition('+')[0]}, onnx {onnx.__version__}"]
    for name, module in net.named_modules(remove_duplicate=False):
        cls: Any = type(module)
        kept = sorted(vars(module).keys() - _MODULE_ATTRIBUTES - _IGNORED_ATTRIBUTES.get(cls, set()))
        kept += [hooks for hooks in ("_forward_hooks", "_forward_pre_hooks") if vars(module)[hooks]]
        values = ", ".join(f"{name}={_fingerprint(vars(module)[name])}" for name in kept)
        lines.append(f"{name}: {cls.__module__}.{cls.__qualname__}({values}) {_source_hash(cls)}".strip())
    saved = net.state_dict()
    lines += [f"{name}: {tensor.dtype}, {tensor.ndim} axes" for name, tensor in saved.items()]
    lines += [f"tied: {', '.join(names)}" for names in _tied(net)]
    # Non-persistent buffers become constants of the graph.
    lines += [f"{name} = {_fingerprint(tensor)}" for name, tensor in net.named_buffers() if name not in saved]
    return "\n".join(lines)


def _fingerprint(value: object) -> str:
    """Short text that identifies a value, a hash if needed: repr of a tensor or array rounds and omits elements."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    content = io.BytesIO()
    try:
        _Pickler(content).dump(value)
    except (AttributeError, TypeError, RuntimeError, pickle.PicklingError):  # such as a lambda, whose repr is unique
        return repr(value)
    return hashlib.sha256(content.getvalue()).hexdigest()[:16]


class _Pickler(pickle.Pickler):
    """Pickler that stores only dtype, shape and values of tensors: torch's own pickles contain storage addresses."""

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, Tensor):
            numbers = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            return tuple, ((str(value.dtype), tuple(value.shape), numbers),)
        return NotImplemented


def _cache_key(net: nn.Module, x: Tensor) -> str:
    shapes = [(name, tuple(tensor.shape)) for name, tensor in net.state_dict().items()]
    return f"{architecture(net)}\n{shapes}\n{tuple(x.shape[1:])}"


@cache
def _source_hash(cls: type[nn.Module]) -> str:
    """Hash of the source of a class and its bases, excluding classes of torch; empty if there are no others."""
    own = [base for base in cls.__mro__ if base is not object and not base.__module__.startswith("torch.")]
    try:
        source = "".join(map(inspect.getsource, own))
    except (OSError, TypeError) as error:  # defined in an interactive session
        raise ExportError(f"{cls.__qualname__} must be defined in a file, because its source is exported") from error
    return hashlib.sha256(source.encode()).hexdigest()[:16] if own else ""


@cache
def _shipped() -> dict[str, onnx.ModelProto]:
    """Shipped graphs by architecture."""
    models = map(onnx.load_model, sorted(GRAPHS.glob("*.onnx")))
    made = {}
    for model in models:
        (entry,) = model.metadata_props
        del model.metadata_props[:]
        made[entry.value] = model
    return made


def known_operators() -> set[str]:
    """Operators of all shipped and cached graphs."""
    return {node.op_type for model in (*_shipped().values(), *_exported.values()) for node in model.graph.node}


def _export_in_subprocess(net: nn.Module, x: Tensor) -> onnx.ModelProto:
    """Run `export.torch_onnx` in a subprocess and return its graph. Raises ExportError."""
    net = copy.deepcopy(net).eval()
    for parameter in net.parameters():
        parameter.grad = None
    given = io.BytesIO()
    try:
        torch.save((net, x[:0]), given)
    except (AttributeError, TypeError, RuntimeError, ValueError) as error:  # raised by pickle and torch
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
            timeout=_EXPORT_TIMEOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # to import the net's class
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"torch.onnx.export of {name} took more than {_EXPORT_TIMEOUT:g} seconds") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no error message"]
        raise ExportError(f"torch.onnx.export of {name} failed: {lines[-1]}")
    return onnx.load_model_from_string(done.stdout)
