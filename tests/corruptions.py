"""Files that are not what they should be, each in one way, and what the comparison says of them."""

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from export import bundle, formats, layout, manifest, parity
from export.cases import BrokenFileError, Case
from lab.experiment import Learner
from lab.training import Trainer

Net = nn.Module
Model = onnx.ModelProto


@dataclass(frozen=True)
class Corruption:
    """One way to go wrong. `net` or `model`, whichever is given, is changed before it is written to `file`.

    `caught_by` are the checks that each catch it alone: "outputs" for any that compares them, else a case's name.
    """

    name: str
    lesson: str
    learner: str
    file: str
    caught_by: frozenset[str]
    net: Callable[[Net], None] | None = None
    model: Callable[[Model], None] | None = None

    @property
    def label(self) -> str:
        return f"{self.name}: {self.lesson}, {self.file}"


def compared(trainer: Trainer, corruption: Corruption) -> list[Case]:
    """The cases of the corrupted file, held against the net as a bundle's files are."""
    learner = next(each for each in trainer.learners if each.name == corruption.learner)
    answers, described = expected(trainer, learner)
    net = copy.deepcopy(learner.net).eval()
    if corruption.net:
        corruption.net(net)
    if corruption.file == layout.PICKLE:  # formats.write would put it into eval mode
        saved = io.BytesIO()
        torch.save(net, saved)
        content = saved.getvalue()
    else:
        content = formats.write(corruption.file, net, trainer.experiment.train.x, manifest.metadata(described))
    if corruption.model:
        model = onnx.load_model_from_string(content)
        corruption.model(model)
        content = model.SerializeToString()
    try:
        opened = formats.read(corruption.file, content, learner.net)
        return bundle.compare(corruption.file, opened, learner.net, answers, described)
    except BrokenFileError as error:
        return [Case.from_check(corruption.file, "read", str(error))]


def expected(trainer: Trainer, learner: Learner) -> tuple[bundle.Answers, manifest.Manifest]:
    """What the net answers, and how it is described."""
    answers = parity.references(
        learner.net, parity.inputs(trainer.experiment.train.x), classifies=bool(trainer.lesson.classes)
    )
    return answers, manifest.describe(trainer, learner, trainer.snapshot(), answers[manifest.SAMPLE])


def to_half_and_back(net: Net) -> None:
    for parameter in net.parameters():
        parameter.data = parameter.data.half().float()


def change_last_bit(net: Net) -> None:
    weight = next(net.parameters()).data
    weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(9.0))


def change_a_weight(net: Net) -> None:
    last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    last.weight.data[0, int(last.weight.data[0].abs().argmax())] *= 1.01


def to_train_mode(net: Net) -> None:
    net.train()


def compute_in_half(model: Model) -> None:
    """Weights as they are, but the inputs rounded to float16 on their way."""
    half = [
        helper.make_node("Cast", ["x"], ["x16"], to=onnx.TensorProto.FLOAT16),
        helper.make_node("Cast", ["x16"], ["x32"], to=onnx.TensorProto.FLOAT),
    ]
    for node in model.graph.node:
        node.input[:] = ["x32" if name == "x" else name for name in node.input]
    nodes = [*half, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def change_epsilon(model: Model) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "epsilon":
                attribute.f = 2e-5


def drop_out(model: Model) -> None:
    """Dropout as torch would write it from train mode."""
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "ratio"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "on"))
    for node in model.graph.node:
        if node.op_type == "Identity":
            node.op_type = "Dropout"
            node.input.extend(["ratio", "on"])


def normalize_by_batch(model: Model) -> None:
    """Batch norm as torch would write it from train mode."""
    for number, node in enumerate(model.graph.node):
        if node.op_type == "BatchNormalization":
            node.output.extend([f"mean_{number}", f"var_{number}"])
            node.attribute.append(helper.make_attribute("training_mode", 1))


def swap_outputs(model: Model) -> None:
    model.graph.node[-1].output[0] = "right"
    order = numpy_helper.from_array(np.array([1, 0]), "order")
    constant = helper.make_node("Constant", [], ["order"], value=order)
    model.graph.node.extend([constant, helper.make_node("Gather", ["right", "order"], ["y"], axis=1)])


def leak(model: Model) -> None:
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type = "LeakyRelu"


def freeze_batch(model: Model) -> None:
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = 3


def claim_another_seed(model: Model) -> None:
    for entry in model.metadata_props:
        if entry.key == "recipe":
            entry.value = entry.value.replace('"seed": 2', '"seed": 3')


BOTH, OUTPUTS, READ = frozenset({"tensors", "outputs"}), frozenset({"outputs"}), frozenset({"read"})
TENSORS, MODE, METADATA = frozenset({"tensors"}), frozenset({"mode"}), frozenset({"metadata"})
ALL = layout.MODEL_FILES

CORRUPTIONS = (
    *(Corruption("weights rounded to float16", "regression", "net", file, BOTH, net=to_half_and_back) for file in ALL),
    *(Corruption("one weight's last bit", "regression", "net", file, TENSORS, net=change_last_bit) for file in ALL),
    *(Corruption("one weight off by 1 %", "classification", "net", file, BOTH, net=change_a_weight) for file in ALL),
    Corruption("inputs rounded to float16", "regression", "net", layout.ONNX, OUTPUTS, model=compute_in_half),
    Corruption("epsilon 2e-5 for 1e-5", "batchnorm", "batch_norm", layout.ONNX, OUTPUTS, model=change_epsilon),
    Corruption("left in train mode", "dropout", "dropout", layout.ONNX, READ, model=drop_out),
    Corruption("left in train mode", "batchnorm", "batch_norm", layout.ONNX, READ, model=normalize_by_batch),
    Corruption("left in train mode", "dropout", "dropout", layout.PICKLE, MODE, net=to_train_mode),
    Corruption("left in train mode", "regression", "net", layout.PICKLE, MODE, net=to_train_mode),
    Corruption("outputs swapped", "classification", "net", layout.ONNX, OUTPUTS, model=swap_outputs),
    Corruption("LeakyReLU for ReLU", "regression", "net", layout.ONNX, OUTPUTS, model=leak),
    Corruption("batch axis frozen at 3", "regression", "net", layout.ONNX, READ, model=freeze_batch),
    Corruption("metadata of another seed", "regression", "net", layout.ONNX, METADATA, model=claim_another_seed),
)
