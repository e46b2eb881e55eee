"""Export the ONNX graphs of all lessons' nets to `graphs/`: `python -m export.export_graphs`."""

import copy
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from export import terminal
from export.graph import ANY, ARCHITECTURE, GRAPHS, architecture
from export.torch_onnx import export
from lab.lesson import Training
from lab.settings import Choice, Switch
from lab.training import Trainer
from nets import TRAININGS


def without_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy of the graph without weights and sizes, valid for all nets of its architecture."""
    model = copy.deepcopy(model)
    for tensor in model.graph.initializer:
        empty = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[ANY] * len(tensor.dims))
        tensor.CopyFrom(empty)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[1:]:
            dim.Clear()
    return model


def export_graphs(folder: Path = GRAPHS) -> None:
    """Replace all graphs in `folder`, with one for every architecture that the lessons' settings can produce."""
    for path in folder.glob("*.onnx"):
        path.unlink()
    written: set[str] = set()
    for lesson in TRAININGS.values():
        for chosen, trainer in trainers(lesson):
            for learner in trainer.learners:
                key = architecture(learner.net)
                if key in written:
                    continue
                written.add(key)
                model = without_sizes(export(learner.net, trainer.experiment.train.x))
                onnx.helper.set_model_props(model, {ARCHITECTURE: key})
                name = "-".join([lesson.key, learner.name, *chosen])
                (folder / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
                terminal.line(name)


def trainers(lesson: Training) -> Iterator[tuple[list[str], Trainer]]:
    """Yield a trainer for each combination of the lesson's choices and switches, with the non-default ones as text.

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
        yield chosen, Trainer(lesson, lesson.recipe(dict(values)))


if __name__ == "__main__":
    export_graphs()
