"""A net as an ONNX file: each architecture is exported once, and filled with the weights of each net.

torch.onnx.export takes half a second and must not run beside other threads that use torch; filling in
weights takes a fraction of a millisecond. torch.onnx documentation: https://docs.pytorch.org/docs/stable/onnx.html
"""

import copy
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper, version_converter
from torch import Tensor, nn

OPSET = 17  # what onnxruntime 1.15 and other runtimes of its age read
IR_VERSION = 8

_exported: dict[str, onnx.ModelProto] = {}
_KEPT = 64  # architectures; settings make many, and each is a few kilobytes


class ExportError(RuntimeError):
    """A net that cannot be written faithfully; the message says which and why."""


def onnx_bytes(net: nn.Module, x: Tensor) -> bytes:
    """The net as an ONNX file; `x` (N, features) is any input of its kind. Raises ExportError."""
    model = copy.deepcopy(_architecture(net, x))
    state = inference_state(net.state_dict())
    fill(model, {name: tensor.detach().numpy() for name, tensor in state.items()})
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def inference_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that a prediction depends on: all but batch norm's count of the batches it has seen."""
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def fill(model: onnx.ModelProto, state: dict[str, npt.NDArray[Any]]) -> None:
    """Put the tensors of `state` into the model of its architecture, in place.

    Raises ExportError unless the model's initialisers are of the names, shapes and dtypes of `state`.
    """
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    wanted = {name: (array.shape, array.dtype) for name, array in state.items()}
    if {name: (array.shape, array.dtype) for name, array in found.items()} != wanted:
        raise ExportError(f"the ONNX graph's tensors {sorted(found)} are not those of the state_dict {sorted(wanted)}")
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(state[tensor.name], tensor.name))


def _architecture(net: nn.Module, x: Tensor) -> onnx.ModelProto:
    shapes = [(name, tuple(tensor.shape)) for name, tensor in net.state_dict().items()]
    key = repr((type(net).__module__, net, shapes, tuple(x.shape[1:])))
    if key not in _exported:
        if len(_exported) >= _KEPT:
            del _exported[next(iter(_exported))]
        _exported[key] = _export(net, x)
    return _exported[key]


def _export(net: nn.Module, x: Tensor) -> onnx.ModelProto:
    net = copy.deepcopy(net).eval()
    # torchvision's operators, which it misses aloud, play no part here.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch.onnx 2.13 uses this deprecated function of its own.
        warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
        program = torch.onnx.export(
            net,
            (torch.zeros(3, *x.shape[1:]),),  # any batch but 0 and 1, which torch.export takes as fixed
            dynamo=True,
            optimize=False,  # so that initialisers keep the names of the state_dict
            input_names=["x"],
            output_names=["y"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    if program is None:
        raise ExportError("torch.onnx.export gave no program")
    model = version_converter.convert_version(program.model_proto, OPSET)
    model.ir_version = IR_VERSION
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Take out what torch notes of the machine: stack traces with paths, and names of its own modules."""
    del model.metadata_props[:]
    model.graph.name = "net"
    for part in (
        *(model.graph, *model.graph.node, *model.graph.initializer),
        *(*model.graph.input, *model.graph.output, *model.graph.value_info),
    ):
        del part.metadata_props[:]
        part.doc_string = ""
