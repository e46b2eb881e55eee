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


def refuse_what_cannot_be_saved(net: nn.Module, x: Tensor) -> None:
    """Raise ExportError, which says what is wrong, for a net that the files of a bundle cannot hold.

    Wanted is a net that takes `x` (N, features) of float32 and gives (N, outputs) of float32, whose state_dict has all
    of its tensors, each once. safetensors takes no tensors that share memory, and an ONNX file has one axis for N.
    """
    name = type(net).__qualname__
    if x.dtype != torch.float32 or x.ndim != 2:
        raise ExportError(f"{name} must take inputs (N, features) of float32, and these are {_sized(x)}")
    if not any(True for _ in net.parameters()):
        raise ExportError(f"{name} has no parameters: there is nothing to save")
    tied = _tied(net)
    if tied:
        raise ExportError(f"{name} has tied weights: {' and '.join(tied[0])} are one tensor; give each a tensor")
    saved = net.state_dict()
    unsaved = [each for each, _ in net.named_buffers() if each not in saved]
    if unsaved:
        raise ExportError(f"{name} has a buffer that is not saved: register {unsaved[0]} with persistent=True")
    try:
        with torch.no_grad():
            y = copy.deepcopy(net).eval()(torch.zeros(2, *x.shape[1:]))
    except Exception as error:
        raise ExportError(f"{name} must take one input (N, {x.shape[1]}), but fails: {_one_line(error)}") from error
    if not isinstance(y, Tensor) or y.dtype != torch.float32 or y.ndim != 2 or len(y) != 2:
        given = _sized(y) if isinstance(y, Tensor) else type(y).__qualname__
        raise ExportError(f"{name} must give outputs (N, outputs) of float32, and gives {given} for an N of 2")


def _sized(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _tied(net: nn.Module) -> list[list[str]]:
    """The names of parameters and buffers, saved or not, that share memory: for each such group, its names."""
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
    return sorted(sorted(names) for names in groups if len(names) > 1)  # where they lie in memory is chance


def _extent(tensor: Tensor) -> int:
    """The bytes from the tensor's first number to its last, which in a view of another need not be its own alone."""
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (steps + 1) * tensor.element_size()


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
    refuse_what_cannot_be_saved(net, x)
    return architecture(net) in _shipped() or _exact(net, x) in _exported


def prepare(net: nn.Module, x: Tensor) -> None:
    """Have the graph of the net's architecture at hand, so that `onnx_bytes` takes no time. Raises ExportError.

    May be called on any thread, beside runs that train: what has to be exported is so by another process.
    """
    refuse_what_cannot_be_saved(net, x)
    _graph(net, x)


def _graph(net: nn.Module, x: Tensor) -> onnx.ModelProto:
    shipped = _shipped().get(architecture(net))
    if shipped is not None:
        return shipped
    key = _exact(net, x)
    found = _exported.get(key)
    if found is not None:  # without the lock: it is held for seconds while another graph is exported
        return found
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
    for name, module in net.named_modules(remove_duplicate=False):
        cls: Any = type(module)
        kept = sorted(vars(module).keys() - _OF_EVERY_MODULE - _FREE.get(cls, set()))
        kept += [hooks for hooks in ("_forward_hooks", "_forward_pre_hooks") if vars(module)[hooks]]
        values = ", ".join(f"{name}={_told(vars(module)[name])}" for name in kept)
        lines.append(f"{name}: {cls.__module__}.{cls.__qualname__}({values}) {_source_hash(cls)}".strip())
    saved = net.state_dict()
    lines += [f"{name}: {tensor.dtype}, {tensor.ndim} axes" for name, tensor in saved.items()]
    lines += [f"tied: {', '.join(names)}" for names in _tied(net)]
    # What is not saved goes into the graph as a constant.
    lines += [f"{name} = {_told(tensor)}" for name, tensor in net.named_buffers() if name not in saved]
    return "\n".join(lines)


def _told(value: object) -> str:
    """All of a value in a few letters: repr of a tensor or an array rounds its numbers and leaves most of them out."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    content = io.BytesIO()
    try:
        _Pickler(content).dump(value)
    except (AttributeError, TypeError, RuntimeError, pickle.PicklingError):  # a lambda, say: no two of them are equal
        return repr(value)
    return hashlib.sha256(content.getvalue()).hexdigest()[:16]


class _Pickler(pickle.Pickler):
    """pickle, but of a tensor its numbers alone: torch's own pickles name the place in memory."""

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, Tensor):
            numbers = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            return tuple, ((str(value.dtype), tuple(value.shape), numbers),)
        return NotImplemented


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
