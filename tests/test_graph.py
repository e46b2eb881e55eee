"""ONNX graphs: shipped ones fit every net of every lesson, others come from a process of their own, and once."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export import formats, graph, layout
from export.cases import ExportError
from export.export_graphs import export_graphs, trainers
from export.graph import architecture, fill, onnx_bytes, prepare
from export.torch_onnx import export
from lab.training import Trainer
from nets import TRAININGS
from nets.regression import Net

ONE = torch.zeros(2, 1)


class Tanh(Net):
    """A net that no lesson has."""

    def forward(self, x: Tensor) -> Tensor:
        return self.predict(torch.tanh(self.hidden(x)))  # type: ignore[no-any-return]


@pytest.fixture
def no_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would export a graph fails."""
    monkeypatch.setattr(torch.onnx, "export", None)
    monkeypatch.setattr(subprocess, "run", None)


def variants(key: str) -> list[Trainer]:
    """A trainer for all that can be chosen in a lesson, and one for each idea, with widths of their own."""
    lesson = TRAININGS[key]
    ideas = [Trainer(lesson, lesson.recipe(idea.settings)) for idea in lesson.suggestions]
    return [*(trainer for _, trainer in trainers(lesson)), *ideas]


@pytest.mark.usefixtures("no_exports")
@pytest.mark.parametrize("key", TRAININGS)
def test_no_net_of_a_lesson_has_to_be_exported_whatever_its_settings(key: str) -> None:
    for trainer in variants(key):
        for learner in trainer.learners:
            onnx_bytes(learner.net, trainer.experiment.train.x)


def sizes() -> list[Any]:
    """A width that no shipped graph has, for three lessons; all lessons and the smallest width among the long tests."""
    cases: list[Any] = []
    for key in TRAININGS:
        widths = [37, 1] if "hidden_units" in TRAININGS[key].config.controls() else [None]
        for width in widths:
            short = width == 37 and key in ("classification", "dropout", "saving")
            cases.append(pytest.param(key, width, marks=[] if short else pytest.mark.long))
    return cases


@pytest.mark.parametrize(("key", "size"), sizes())
def test_a_shipped_graph_is_what_torch_exports_today_whatever_the_width(key: str, size: int | None) -> None:
    lesson = TRAININGS[key]
    trainer = Trainer(lesson, lesson.recipe({} if size is None else {"hidden_units": size}))
    for learner in {architecture(each.net): each for each in trainer.learners}.values():
        model = export(learner.net, trainer.experiment.train.x)
        state = graph.inference_state(learner.net.state_dict())
        fill(model, {name: tensor.detach().numpy() for name, tensor in state.items()})
        assert architecture(learner.net) in graph._shipped()
        assert onnx_bytes(learner.net, trainer.experiment.train.x) == model.SerializeToString(deterministic=True)


def test_the_file_is_filled_with_the_nets_weights_and_sizes() -> None:
    net = Net(1, 23, 1)
    model = onnx.load_model_from_string(onnx_bytes(net, ONE, {"b": "2", "a": "1"}))
    assert [(each.key, each.value) for each in model.metadata_props] == [("a", "1"), ("b", "2")]
    assert {tensor.name: list(tensor.dims) for tensor in model.graph.initializer} == {
        name: list(tensor.shape) for name, tensor in net.state_dict().items()
    }


def test_a_graph_is_filled_only_with_tensors_of_its_own_names_shapes_and_dtypes() -> None:
    model = onnx.load_model_from_string(onnx_bytes(Net(1, 10, 1), ONE))
    state = {name: tensor.numpy() for name, tensor in Net(1, 10, 1).state_dict().items()}
    fill(model, state)
    for wrong in (
        {**state, "hidden.weight": np.zeros((11, 1), np.float32)},
        {**state, "hidden.bias": np.zeros((10, 1), np.float32)},
        {**state, "hidden.bias": np.zeros(10, np.float64)},
    ):
        with pytest.raises(ExportError, match=r"hidden\.(weight|bias) is float32 .* in the graph, but"):
            fill(model, wrong)
    with pytest.raises(ExportError, match="differ from those of the state_dict"):
        fill(model, {"hidden.weight": state["hidden.weight"]})


def test_a_graph_that_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load_model_from_string(onnx_bytes(Net(1, 10, 1), ONE))
    model.graph.node[0].attribute.add(name="transB", i=0)  # now 1 by 10 would have to go into 1 by 10
    monkeypatch.setattr(graph, "_graph", lambda net, x: model)
    with pytest.raises(ExportError, match="the graph of Net is invalid: "):
        onnx_bytes(Net(1, 10, 1), ONE)


def test_another_net_is_exported_once_by_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", None)  # never in this process
    net = Tanh(1, 5, 1)
    prepare(net, ONE)
    monkeypatch.setattr(subprocess, "run", None)  # a second export would fail
    x = torch.rand(7, 1)
    predicted = formats.read("net.onnx", onnx_bytes(net, x), net).predict(x.numpy())
    torch.testing.assert_close(torch.from_numpy(predicted), net(x).detach())
    assert onnx_bytes(Tanh(1, 5, 1), x) != onnx_bytes(net, x)


def test_nets_that_differ_in_more_than_sizes_do_not_share_a_graph() -> None:
    nets: list[nn.Module] = [
        Net(1, 5, 1),
        Tanh(1, 5, 1),
        nn.Sequential(nn.Linear(1, 5), nn.ReLU(), nn.Linear(5, 1)),
        nn.Sequential(nn.Linear(1, 5), nn.ReLU(), nn.Linear(5, 1, bias=False)),
        nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)),
        nn.Sequential(nn.Linear(1, 5), nn.BatchNorm1d(5), nn.Linear(5, 1)),
        nn.Sequential(nn.Linear(1, 5), nn.BatchNorm1d(5, eps=1e-3), nn.Linear(5, 1)),
    ]
    private = [Net(1, 5, 1), Net(1, 5, 1)]
    for net, slope in zip(private, (1.0, 2.0), strict=True):
        net._slope = slope  # type: ignore[assignment]
    nets += private
    assert len(set(map(architecture, nets))) == len(nets)


class Kept(nn.Module):
    """What a state_dict does not tell: a buffer that is not saved, an attribute, a hook, weights that are tied."""

    def __init__(self, buffer: Tensor = ONE, attribute: Tensor = ONE, hook: bool = False, tied: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(1, 1), nn.Linear(1, 1)
        self.register_buffer("buffer", buffer, persistent=False)
        self.attribute = attribute
        if hook:
            self.register_forward_hook(_double)
        if tied:
            self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))  # type: ignore[no-any-return]


def _double(_: nn.Module, __: object, output: Tensor) -> Tensor:
    return 2 * output


def test_nets_that_differ_in_what_a_state_dict_does_not_tell_share_no_graph() -> None:
    many, rounded = torch.zeros(10_000), torch.tensor([0.12345678])  # whose repr leaves most numbers and digits out
    one = many.clone()
    one[5000] = 1
    relu = nn.ReLU()
    nets = [
        *(Kept(), Kept(tied=True), Kept(hook=True)),
        *(Kept(buffer=many), Kept(buffer=one), Kept(attribute=many), Kept(attribute=one)),
        *(Kept(attribute=rounded), Kept(attribute=rounded + 1e-6)),
        nn.Sequential(nn.Linear(1, 1), relu, nn.Linear(1, 1)),
        nn.Sequential(nn.Linear(1, 1), relu, nn.Linear(1, 1), relu),  # one module twice, with no name of its own
    ]
    assert len(set(map(architecture, nets))) == len(nets)
    assert architecture(Kept(one, one)) == architecture(Kept(one.clone(), one.clone()))


def test_nets_that_differ_in_sizes_and_training_alone_share_one() -> None:
    assert architecture(Net(1, 5, 1)) == architecture(Net(1, 50, 1))
    one, two = (
        nn.Sequential(nn.Linear(1, n), nn.BatchNorm1d(n, momentum=p), nn.Dropout(p), nn.Linear(n, 1))
        for n, p in ((5, 0.1), (6, 0.2))
    )
    assert architecture(one) == architecture(two)


def test_a_class_that_no_other_process_can_import_is_refused_by_name() -> None:
    class Local(Tanh):
        pass

    with pytest.raises(ExportError, match=r"Local must be a class that another process can import"):
        prepare(Local(1, 5, 1), ONE)


def test_what_torch_cannot_export_is_told_in_its_words() -> None:
    with pytest.raises(ExportError, match=r"torch\.onnx\.export of Undecided failed: .*"):
        prepare(Undecided(), ONE)


class Undecided(nn.Module):
    """What it computes hangs on the numbers, which no graph can say."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.predict(x) if x.sum().item() > 0 else x


def test_a_net_with_batch_norm_and_dropout_exports_as_it_evaluates() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.ReLU(), nn.Linear(4, 1))
    net(torch.rand(8, 2))  # moves the running statistics
    x = torch.rand(5, 2)
    opened = formats.read("net.onnx", onnx_bytes(net, x), net)
    assert formats.tensor_difference("net.onnx", opened.state, net.state_dict()) == ""
    torch.testing.assert_close(torch.from_numpy(opened.predict(x.numpy())), net.eval()(x))


def test_an_export_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "_EXPORT_TIMEOUT", 0.01)
    with pytest.raises(ExportError, match=r"torch\.onnx\.export of Tanh took more than 0\.01 seconds"):
        prepare(Tanh(1, 77, 1), ONE)


def test_only_so_many_graphs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "_CACHE_SIZE", 2)
    monkeypatch.setattr(graph, "_exported", {})
    monkeypatch.setattr(graph, "_export_in_subprocess", lambda net, x: onnx.ModelProto())
    for size in range(1, 5):
        prepare(Tanh(1, size, 1), ONE)
    assert len(graph._exported) == 2


def test_shipping_again_changes_no_byte(tmp_path: Path) -> None:
    export_graphs(tmp_path)
    assert contents(tmp_path) == contents(graph.GRAPHS)
    assert len(contents(tmp_path)) > len(TRAININGS)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.onnx")}


class Odd(nn.Module):
    """A net with parameters whose `forward` is the function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(1, 1), function

    def forward(self, *x: Tensor) -> Any:
        return self.function(*x)


def overlapping() -> nn.Module:
    net, weights = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), torch.rand(3, 2)
    for layer, rows in zip(net, (weights[:2], weights[1:]), strict=True):
        layer.weight = nn.Parameter(rows)
    return net


CANNOT_BE_SAVED: list[tuple[nn.Module, Tensor, str]] = [
    (Kept(tied=True), ONE, "Kept has tied weights: first.weight and last.weight share memory"),
    (nn.Sequential(*[nn.Linear(1, 1)] * 2), ONE, "Sequential has tied weights: 0.bias and 1.bias share memory"),
    (overlapping(), torch.zeros(2, 2), "Sequential has tied weights: 0.weight and 1.weight"),
    (Kept(), ONE, "Kept has a non-persistent buffer: register buffer with persistent=True"),
    (nn.Sequential(nn.Tanh()), ONE, "Sequential has no parameters to save"),
    (nn.Embedding(3, 1), ONE.long(), r"must take inputs (N, features) of float32, but got int64 (2, 1)"),
    (nn.Conv1d(1, 1, 1), torch.zeros(2, 1, 3), "of float32, but got float32 (2, 1, 3)"),
    (Odd(torch.add), ONE, "Odd must take one input (N, 1), but fails: TypeError: add() received an invalid"),
    (Odd(lambda x: (x, x)), ONE, "Odd must return outputs (N, outputs) of float32, but returns tuple for N = 2"),
    (Odd(torch.Tensor.double), ONE, "but returns float64 (2, 1) for N = 2"),
    (Odd(torch.Tensor.mean), ONE, "but returns float32 () for N = 2"),
]


@pytest.mark.usefixtures("no_exports")
@pytest.mark.parametrize(("net", "x", "told"), CANNOT_BE_SAVED, ids=[told for *_, told in CANNOT_BE_SAVED])
def test_a_net_that_no_bundle_can_hold_is_told_why_before_anything_is_written(
    net: nn.Module, x: Tensor, told: str
) -> None:
    for write in (prepare, graph.is_prepared):
        with pytest.raises(ExportError, match=re.escape(told)):
            write(net, x)
    for file in layout.MODEL_FILES:
        with pytest.raises(ExportError, match=re.escape(told)):
            formats.write(file, net, x)
