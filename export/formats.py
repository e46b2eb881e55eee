"""Writing the model files of a net, and reading them back as functions that predict.

Files are serialized in memory, because torch.save to a path stores the file's name and equal nets must give equal
bytes. Only files that this program wrote itself are unpickled.
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
from export.cases import wrap_errors
from export.graph import inference_state, onnx_bytes
from export.layout import ONNX
from export.parity import Float32, Predict

State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Opened:
    """Model file that was read: its prediction function, its tensors, and the metadata_props of an ONNX file."""

    predict: Predict
    state: State
    training: bool = False  # a whole model that was saved in train mode
    metadata: Mapping[str, str] = field(default_factory=dict)


def write(file: str, net: nn.Module, x: Tensor, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the content of the model file named `file`. `x` (N, features) is any example input. Raises ExportError.

    `metadata` is stored in the metadata_props of net.onnx; the other formats ignore it.
    """
    graph.refuse_unsupported(net, x)
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
            raise ValueError(f"unknown model file: {file}")


def saved(value: object) -> bytes:
    """Return `value` serialized with torch.save."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def read(file: str, content: bytes, architecture: nn.Module) -> Opened:
    """Open a model file that this program wrote itself. Raises BrokenFileError.

    `architecture` is a net of the same classes and shapes; its weights are not used. Never call this with an untrusted
    file: a pickle can run any code, whatever classes are allowed. See `export.pickles` for untrusted files.
    """
    with wrap_errors(file, "cannot be read"):
        match file:
            case "net.pkl":
                net = _unpickled(content, {type(module) for module in architecture.modules()})
                if type(net) is not type(architecture):
                    raise TypeError(f"it contains a {type(net).__name__}, not a {type(architecture).__name__}")
                training = any(module.training for module in net.modules())
                return Opened(_torch_predict(net), net.state_dict(), training)
            case "net_params.pkl":
                state = _unpickled(content, set())
            case "net.safetensors":
                state = safetensors.torch.load(content)
            case "net.onnx":
                return read_onnx(content)
            case _:
                raise ValueError("it is not a known model file")
        # Keep the state as it is in the file: load_state_dict would convert its dtypes.
        return Opened(_torch_predict(_with_state(architecture, state).eval()), state)


def tensor_difference(file: str, found: State, wanted: State) -> str:
    """Message with the first difference in names, dtypes, shapes or bytes of the tensors; empty if they are equal."""
    if file == ONNX:
        wanted = inference_state(wanted)
    if {*found} != {*wanted}:
        return f"contains the tensors {list(found)}, not {list(wanted)}"
    for name, tensor in wanted.items():
        got = found[name]
        if got.dtype != tensor.dtype or got.shape != tensor.shape:
            return f"{name} is {got.dtype} {tuple(got.shape)}, not {tensor.dtype} {tuple(tensor.shape)}"
        if got.numpy().tobytes() != tensor.detach().numpy().tobytes():
            return f"{name} differs from the net's values"
    return ""


def refuse_compressed(content: bytes) -> None:
    """Raise ValueError for a zip that unpacks to more than its size: torch and numpy store without compression."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > len(content):
        raise ValueError(f"it unpacks to {size} bytes, more than its size")


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
    """Open the ONNX file of any net. Raises the errors of onnx, onnxruntime and `parsed`."""
    model = parsed(content)
    options = onnxruntime.SessionOptions()
    # Otherwise onnxruntime detects the format from the bytes, and may read a different model than onnx does.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.intra_op_num_threads = 1  # for small nets threads cost more time than they save
    options.log_severity_level = 4  # errors are raised, not logged
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    signature = [
        [(tensor.name, tensor.type) for tensor in side] for side in (session.get_inputs(), session.get_outputs())
    ]
    if signature != [[("x", "tensor(float)")], [("y", "tensor(float)")]]:
        raise ValueError(f"its input must be x and its output y, both of float32, not {signature}")
    state = _tensors(model)

    def predict(x: Float32) -> Float32:
        y: Float32 = session.run(["y"], {"x": x})[0]
        return y

    return Opened(predict, state, metadata={each.key: each.value for each in model.metadata_props})


def tensors(content: bytes) -> State:
    """Return the tensors of an ONNX file without running it. Raises BrokenFileError."""
    with wrap_errors(ONNX, "cannot be read"):
        return _tensors(parsed(content))


def _tensors(model: onnx.ModelProto) -> State:
    # Copied, because torch warns about read-only arrays, which numpy_helper may return.
    return {
        tensor.name: torch.from_numpy(np.array(numpy_helper.to_array(tensor))) for tensor in model.graph.initializer
    }


def metadata(content: bytes) -> dict[str, str]:
    """Return the metadata_props of an ONNX file."""
    return {each.key: each.value for each in parsed(content).metadata_props}


def graph_difference(content: bytes, ours: bytes) -> str:
    """Message if an ONNX file differs from the net's export in more than weights and metadata; empty if it does not.

    Comparing outputs is not sufficient: an added operator may act only on inputs that are not compared.
    """
    found, wanted = (_bare(each) for each in (content, ours))
    return "" if found == wanted else "differs from the export of the net in operators, versions or axes"


def _bare(content: bytes) -> bytes:
    model = parsed(content)
    model.producer_version = ""
    del model.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    bare: bytes = model.SerializeToString(deterministic=True)
    return bare


def refuse_unknown_operators(content: bytes) -> None:
    """Raise ValueError for an ONNX file with an operator that no net of the lessons uses, before it is run.

    Other operators may draw random numbers, or allocate gigabytes.
    """
    unknown = {node.op_type for node in parsed(content).graph.node} - graph.known_operators()
    if unknown:
        raise ValueError(f"it needs {', '.join(sorted(unknown))}, which no net of the lessons uses")


def parsed(content: bytes) -> onnx.ModelProto:
    """Parse an ONNX file without running it. Raises ValueError if the model is not plain.

    A plain model runs in every runtime. All its operators are in the domain ai.onnx and not defined in the file, have
    no subgraph and are not in train mode; none of its tensors is external or an input.
    onnx must know all fields in the file, because another runtime might read a different model from unknown ones.
    """
    if content[4:8] == b"ORTM":
        raise ValueError("it has the identifier ORTM of onnxruntime's own format and may be read as another model")
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ValueError("it is not an ONNX file") from error
    known = onnx.ModelProto()
    known.CopyFrom(model)
    known.DiscardUnknownFields()
    if known.ByteSize() != len(content):
        raise ValueError(f"onnx reads {known.ByteSize()} of its {len(content)} bytes; the rest are unknown fields")
    main = model.graph
    for node in main.node:
        if node.domain not in ("", "ai.onnx"):
            raise ValueError(
                f"it needs the operator {node.op_type} of {node.domain}, which is not in the domain ai.onnx"
            )
        if any(each.HasField("g") or each.graphs for each in node.attribute):
            raise ValueError(f"its operator {node.op_type} contains a subgraph, which is not supported")
        # Comparing outputs would miss this: onnxruntime removes active dropout, other runtimes do not.
        trains = any(each.name == "training_mode" and each.i for each in node.attribute)
        if trains or (node.op_type == "Dropout" and len(node.input) > 2):
            raise ValueError(f"its operator {node.op_type} is in train mode")
    if model.functions or main.sparse_initializer or model.training_info:
        raise ValueError("it has local functions, sparse tensors or training info, which are not supported")
    if {tensor.name for tensor in main.input} & {tensor.name for tensor in main.initializer}:
        raise ValueError("its weights are also inputs, so a caller could replace them")
    constants = [tensor for node in main.node for each in node.attribute for tensor in (each.t, *each.tensors)]
    for tensor in (*main.initializer, *constants):
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"its tensor {tensor.name} is stored in another file, which is not supported")
    onnx.checker.check_model(model)  # for missing or invalid parts
    return model
