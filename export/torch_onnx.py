"""Process that runs torch.onnx.export: `python -m export.torch_onnx` reads a net from stdin and writes its graph.

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

OPSET = 17  # supported by onnxruntime 1.15 and other runtimes of that time
IR_VERSION = 8


def export(net: nn.Module, x: Tensor) -> onnx.ModelProto:
    """Export the net in eval mode to an ONNX model; `x` (N, features) is any example input. Raises ExportError.

    Do not call it while other threads use torch.
    """
    net = copy.deepcopy(net).eval()
    with quiet():
        program = torch.onnx.export(
            net,
            (torch.zeros(3, *x.shape[1:]),),  # torch.export treats batch sizes 0 and 1 as static
            dynamo=True,
            optimize=False,  # so that initializers keep the names of the state_dict
            input_names=["x"],
            output_names=["y"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    if program is None:
        raise ExportError("torch.onnx.export returned no program")
    model = version_converter.convert_version(program.model_proto, OPSET)
    model.ir_version = IR_VERSION
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Context that silences irrelevant warnings of torch.onnx, on torchvision's operators and a deprecated function."""
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*LeafSpec", FutureWarning)
        yield


def _strip(model: onnx.ModelProto) -> None:
    """Remove what inference does not need: stack traces with paths, inferred shapes, training attributes."""
    del model.metadata_props[:], model.graph.value_info[:]
    model.graph.name = "net"
    model.producer_version = model.producer_version.partition("+")[0]  # without the suffix of CPU and GPU builds
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            for attribute in [each for each in node.attribute if each.name == "momentum"]:
                node.attribute.remove(attribute)


def main() -> None:
    """Read (net, x), written by torch.save, from stdin, and write the graph to stdout."""
    if hasattr(os, "nice"):
        os.nice(10)  # lower priority than runs that train
    # Trusted: the parent process wrote this pickle itself.
    net, x = torch.load(io.BytesIO(sys.stdin.buffer.read()), weights_only=False)
    with contextlib.redirect_stdout(sys.stderr):  # output of torch must not mix with the graph
        made = export(net, x)
    sys.stdout.buffer.write(made.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
