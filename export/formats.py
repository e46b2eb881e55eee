"""The model files of a net: how each is written, and how it is read back into something that predicts.

Files are written through memory, since torch.save to a path stores the file's name: equal nets give
equal bytes. Only files that this program has made itself are unpickled.
"""

import copy
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import safetensors.torch
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor, nn

from export import graph
from export.cases import blaming
from export.graph import inference_state, onnx_bytes
from export.layout import ONNX
from export.parity import Float32, Predict

State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Opened:
    """A model file that was read: what it predicts, its tensors, and what an ONNX file says of itself."""

    predict: Predict
    state: State
    training: bool = False  # a whole model that was saved in train mode
    metadata: Mapping[str, str] = field(default_factory=dict)


def write(file: str, net: nn.Module, x: Tensor, metadata: Mapping[str, str] | None = None) -> bytes:
    """The model file of that name. `x` (N, features) is any input of the net's kind. Raises ExportError.

    `metadata` is what an ONNX file says of itself; the other formats have no place for it.
    """
    graph.refuse_what_cannot_be_saved(net, x)
    net = copy.deepcopy(net).eval()
    for parameter in net.parameters():
        parameter.grad = None
    state = net.state_dict()
    match file:
        case "net.pkl":
            return saved(net)
        case "net_params.pkl":
            return saved(state)
        case "net.safetensors":
            return safetensors.torch.save({name: tensor.contiguous() for name, tensor in state.items()})
        case "net.onnx":
            return onnx_bytes(net, x, metadata)
        case _:
            raise ValueError(f"no such model file in a bundle: {file}")


def saved(value: object) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def read(file: str, content: bytes, architecture: nn.Module) -> Opened:
    """A model file that this program has made itself, ready to predict. Raises BrokenFileError.

    `architecture` is a net of the same classes and shapes; its weights are not used. Never to be called with a file
    from elsewhere: a pickle can run any code, whatever classes are allowed. See `export.pickles` for those.
    """
    with blaming(file, "cannot be read"):
        match file:
            case "net.pkl":
                net = _unpickled(content, {type(module) for module in architecture.modules()})
                if type(net) is not type(architecture):
                    raise TypeError(f"it holds {type(net).__name__} and not {type(architecture).__name__}")
                training = any(module.training for module in net.modules())
                return Opened(_torch_predict(net), net.state_dict(), training)
            case "net_params.pkl":
                state = _unpickled(content, set())
            case "net.safetensors":
                state = safetensors.torch.load(content)
            case "net.onnx":
                return read_onnx(content)
            case _:
                raise ValueError("no such model file in a bundle")
        # The state as it is in the file: the net would make float32 of whatever it is given.
        return Opened(_torch_predict(_with_state(architecture, state).eval()), state)


def same_tensors(file: str, found: State, wanted: State) -> str:
    """Empty if the file's tensors have the names, dtypes, shapes and bytes of `wanted`; else the first difference."""
    if file == ONNX:
        wanted = inference_state(wanted)
    if {*found} != {*wanted}:
        return f"holds the tensors {list(found)} and not {list(wanted)}"
    for name, tensor in wanted.items():
        got = found[name]
        if got.dtype != tensor.dtype or got.shape != tensor.shape:
            return f"{name} is {got.dtype} {tuple(got.shape)} and not {tensor.dtype} {tuple(tensor.shape)}"
        if got.numpy().tobytes() != tensor.detach().numpy().tobytes():
            return f"{name} holds other numbers than the net"
    return ""


def refuse_packed(content: bytes) -> None:
    """Raise ValueError for a zip that unpacks to more than it is: torch and numpy pack nothing, and a bomb would."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > len(content):
        raise ValueError(f"it unpacks to {size} bytes, more than it has")


def _unpickled(content: bytes, classes: set[type[nn.Module]]) -> Any:
    with torch.serialization.safe_globals(list(classes)):
        return torch.load(io.BytesIO(content), weights_only=True)


def _with_state(architecture: nn.Module, state: State) -> nn.Module:
    net = copy.deepcopy(architecture)
    net.load_state_dict(state)
    return net


def _torch_predict(net: nn.Module) -> Predict:
    def predict(x: Float32) -> Float32:
        with torch.no_grad():
            y: Float32 = net(torch.from_numpy(x)).numpy()
        return y

    return predict


def read_onnx(content: bytes) -> Opened:
    """An ONNX file of whatever net, ready to predict. Raises what its parser, onnxruntime and `parsed` raise."""
    model = parsed(content)
    options = onnxruntime.SessionOptions()
    # Else it looks at the bytes, and may read another model in them than onnx does.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.intra_op_num_threads = 1  # small nets: threads cost more than they give
    options.log_severity_level = 4  # what is wrong is raised
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    ports = [[(port.name, port.type) for port in side] for side in (session.get_inputs(), session.get_outputs())]
    if ports != [[("x", "tensor(float)")], [("y", "tensor(float)")]]:
        raise ValueError(f"it must take x and give y, both of float32, not {ports}")
    state = _tensors(model)

    def predict(x: Float32) -> Float32:
        y: Float32 = session.run(["y"], {"x": x})[0]
        return y

    return Opened(predict, state, metadata={each.key: each.value for each in model.metadata_props})


def tensors(content: bytes) -> State:
    """The tensors of an ONNX file, of which nothing is run. Raises BrokenFileError."""
    with blaming(ONNX, "cannot be read"):
        return _tensors(parsed(content))


def _tensors(model: onnx.ModelProto) -> State:
    # numpy_helper's arrays may be read-only views, which torch would warn of.
    return {
        tensor.name: torch.from_numpy(np.array(numpy_helper.to_array(tensor))) for tensor in model.graph.initializer
    }


def words(content: bytes) -> dict[str, str]:
    """What an ONNX file says of itself, in its metadata_props."""
    return {each.key: each.value for each in parsed(content).metadata_props}


def other_graph(content: bytes, ours: bytes) -> str:
    """Empty if an ONNX file is, but for weights and words, what the net exports to; else what is wrong with it.

    Outputs alone cannot tell: operators may be added that act only where nobody compares.
    """
    found, wanted = (_bare(each) for each in (content, ours))
    return "" if found == wanted else "has other operators, versions or axes than the net exports to"


def _bare(content: bytes) -> bytes:
    model = parsed(content)
    model.producer_version = ""
    del model.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    bare: bytes = model.SerializeToString(deterministic=True)
    return bare


def refuse_strangers(content: bytes) -> None:
    """Raise ValueError for an ONNX file with an operator that no net of the lessons has: not to be run.

    Others may draw random numbers, or make gigabytes of a few bytes.
    """
    strangers = {node.op_type for node in parsed(content).graph.node} - graph.known_operators()
    if strangers:
        raise ValueError(f"it needs {', '.join(sorted(strangers))}, which no net of the lessons has")


def parsed(content: bytes) -> onnx.ModelProto:
    """An ONNX file as its parts, of which nothing has been run. Raises ValueError for one that is not plain.

    Plain is one file of operators that every runtime has: none of another domain than ai.onnx, none that is defined
    in the file, holds a graph of its own or is in train mode; and no tensor that lies in another file or is an input.
    Every byte is one that onnx reads: in others, another runtime may read another model.
    """
    if content[4:8] == b"ORTM":
        raise ValueError("it bears the mark of onnxruntime's own format, ORTM, and may be read as another model")
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ValueError("it is no ONNX file") from error
    known = onnx.ModelProto()
    known.CopyFrom(model)
    known.DiscardUnknownFields()
    if known.ByteSize() != len(content):
        raise ValueError(f"onnx reads {known.ByteSize()} of its {len(content)} bytes; the rest is of no known field")
    main = model.graph
    for node in main.node:
        if node.domain not in ("", "ai.onnx"):
            raise ValueError(f"it needs the operator {node.op_type} of {node.domain}, which is not plain ai.onnx")
        if any(each.HasField("g") or each.graphs for each in node.attribute):
            raise ValueError(f"its operator {node.op_type} holds a graph of its own, which is not plain ai.onnx")
        # Not left to the outputs: onnxruntime takes dropout out even where it is on, and other runtimes do not.
        trains = any(each.name == "training_mode" and each.i for each in node.attribute)
        if trains or (node.op_type == "Dropout" and len(node.input) > 2):
            raise ValueError(f"its operator {node.op_type} is in train mode")
    if model.functions or main.sparse_initializer or model.training_info:
        raise ValueError("it has operators, sparse tensors or a training of its own, which is not plain ai.onnx")
    if {port.name for port in main.input} & {tensor.name for tensor in main.initializer}:
        raise ValueError("its weights are inputs too, and so no weights to rely on")
    constants = [tensor for node in main.node for each in node.attribute for tensor in (each.t, *each.tensors)]
    for tensor in (*main.initializer, *constants):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"its tensor {tensor.name} lies in another file, and is not looked for")
    onnx.checker.check_model(model)  # for what is left out or makes no sense
    return model
