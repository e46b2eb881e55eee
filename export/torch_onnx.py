"""torch.onnx.export, in a process of its own: `python -m export.torch_onnx` takes a net and gives its graph.

`python -m export.torch_onnx ship` writes the graphs of all nets of the lessons to `graphs/`, as `make graphs` does.
torch.onnx documentation: https://docs.pytorch.org/docs/stable/onnx.html
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: small nets lose time to threads

import contextlib
import copy
import io
import itertools
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import torch
from onnx import version_converter
from torch import Tensor, nn

from export.graph import ANY, ARCHITECTURE, GRAPHS, ExportError, architecture
from nets import TRAININGS
from nets.lesson import Training
from nets.settings import Choice, Switch
from nets.training import Trainer

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


def open_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without its weights and sizes, for all nets of its architecture."""
    model = copy.deepcopy(model)
    for tensor in model.graph.initializer:
        empty = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[ANY] * len(tensor.dims))
        tensor.CopyFrom(empty)
    for port in (*model.graph.input, *model.graph.output):
        for dim in port.type.tensor_type.shape.dim[1:]:
            dim.Clear()
    return model


def ship() -> None:
    """Write the graph of every net of every lesson, whatever is chosen and switched, in place of those before."""
    for path in GRAPHS.glob("*.onnx"):
        path.unlink()
    written: set[str] = set()
    for lesson in TRAININGS.values():
        for chosen, trainer in trainers(lesson):
            for learner in trainer.learners:
                told = architecture(learner.net)
                if told in written:
                    continue
                written.add(told)
                model = open_sizes(export(learner.net, trainer.x))
                onnx.helper.set_model_props(model, {ARCHITECTURE: told})
                name = "-".join([lesson.key, learner.name, *chosen])
                (GRAPHS / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
                print(name)


def trainers(lesson: Training) -> Iterator[tuple[list[str], Trainer[Any]]]:
    """A trainer of the lesson for every combination of what can be chosen and switched, and what differs from default.

    The defaults come first.
    """
    offered: list[list[tuple[str, Any]]] = []
    for name, control in lesson.config.controls().items():
        options: list[Any] = []
        if isinstance(control, Choice) and not control.view:
            options = list(control.options)
        elif isinstance(control, Switch) and not control.view:
            options = [False, True]
        if options:
            offered.append([(name, each) for each in sorted(options, key=lambda each: each != control.default)])
    for values in itertools.product(*offered):
        defaults = {each[0] for each in offered}
        chosen = [f"{name}={value}" for name, value in values if (name, value) not in defaults]
        yield chosen, lesson.trainer(lesson.config.parse(dict(values)))


def main() -> None:
    """What this module's docstring says."""
    if sys.argv[1:] == ["ship"]:
        ship()
        return
    if hasattr(os, "nice"):
        os.nice(10)  # runs that train beside it come first
    # From the process that started this one, which has made it itself: as trustworthy as a pickle can be.
    net, x = torch.load(io.BytesIO(sys.stdin.buffer.read()), weights_only=False)
    with contextlib.redirect_stdout(sys.stderr):  # whatever torch may print, the graph alone goes out
        made = export(net, x)
    sys.stdout.buffer.write(made.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
