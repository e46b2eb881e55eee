"""torch.onnx.export, in a process of its own: `python -m export.torch_onnx` takes a net and gives its graph.

torch.onnx documentation: https://docs.pytorch.org/docs/stable/onnx.html
"""

import contextlib
import copy
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator

import onnx
import torch
from onnx import version_converter
from torch import Tensor, nn

from export.cases import ExportError

OPSET = 17  # what onnxruntime 1.15 and other runtimes of its age read
IR_VERSION = 8


def export(net: nn.Module, x: Tensor) -> onnx.ModelProto:
    """The net in eval mode as an ONNX model; `x` (N, features) is any input of its kind. Raises ExportError.

    Not to be called beside other threads that use torch.
    """
    net = copy.deepcopy(net).eval()
    with quiet():
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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch.onnx without remarks that mean nothing here: on torchvision's operators, and on a function of its own."""
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
        yield


def _strip(model: onnx.ModelProto) -> None:
    """Take out what a file need not have: stack traces with paths, inferred shapes, how training would go on."""
    del model.metadata_props[:], model.graph.value_info[:]
    model.graph.name = "net"
    model.producer_version = model.producer_version.partition("+")[0]  # the same on machines with a GPU
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            for attribute in [each for each in node.attribute if each.name == "momentum"]:
                node.attribute.remove(attribute)


def main() -> None:
    """Take (net, x) as torch.save writes it from stdin, and give the graph to stdout."""
    if hasattr(os, "nice"):
        os.nice(10)  # runs that train beside it come first
    # From the process that started this one, which has made it itself: as trustworthy as a pickle can be.
    net, x = torch.load(io.BytesIO(sys.stdin.buffer.read()), weights_only=False)
    with contextlib.redirect_stdout(sys.stderr):  # whatever torch may print, the graph alone goes out
        made = export(net, x)
    sys.stdout.buffer.write(made.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
