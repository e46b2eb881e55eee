"""The lesson Saving: what is saved comes back, and what torch.load says to it."""

import copy
import io
import pickle
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from charts import browser
from charts.blocks import Note, PythonSession, Table
from charts.chart import Array, Line
from lab.evaluation import Restored
from lab.lesson import Snapshot
from lab.settings import Config
from lab.training import NO_FILES, Trainer
from nets import saving
from nets.saving import LESSON, PROSE

seeds = pytest.mark.parametrize("seed", [0, 2, 3, 11])
WAYS, SURPRISE, MOVED, OWN_FORWARD = 0, 1, 2, 3  # the sessions, in order
HALF_ULP = 6e-8


class Saved(Trainer):
    """A run whose files were read back."""

    files: Mapping[str, Mapping[str, Restored]] = NO_FILES

    def snapshot(
        self, views: Config | None = None, restored: Mapping[str, Mapping[str, Restored]] = NO_FILES
    ) -> Snapshot:
        return super().snapshot(views, restored or self.files)


def made(**settings: object) -> Saved:
    return Saved(LESSON, LESSON.recipe(settings))


def trained(**settings: object) -> Saved:
    trainer = made(**settings)
    trainer.finish()
    return trainer


def restored(trainer: Saved) -> Saved:
    """The trainer with its files as the app writes and reads them; another runtime is played by a little rounding."""
    net1 = trainer.learners[0].net
    net_pkl, net_params_pkl = saving.save(net1)
    shapes = safetensors.torch.save(net1.state_dict())
    n = trainer.config.by_name()["hidden_units"]
    net2, net3 = saving.restore_net(net_pkl), saving.restore_params(net_params_pkl, n)
    net4 = copy.deepcopy(net3)
    net4.load_state_dict(safetensors.torch.load(shapes))
    files = {
        "net.pkl": Restored(len(net_pkl), 0.001, 0.002, predicting(net2)),
        "net_params.pkl": Restored(len(net_params_pkl), 0.001, 0.002, predicting(net3)),
        "net.safetensors": Restored(len(shapes), 0.001, 0.002, predicting(net4)),
        "net.onnx": Restored(700, 0.001, 0.002, predicting(net2, off=HALF_ULP)),
    }
    trainer.files = {"net": files}
    return trainer


def predicting(net: nn.Module, off: float = 0.0) -> Any:
    def predict(x: Array) -> Array:
        assert x.dtype == np.float32
        assert x.ndim == 2
        with torch.no_grad():
            return net(torch.from_numpy(x)).numpy() + np.float32(off)  # type: ignore[no-any-return]

    return predict


def blocks(trainer: Trainer, kind: type) -> list[Any]:
    return [each for each in trainer.snapshot().view.blocks if isinstance(each, kind)]


def remark(trainer: Trainer) -> object:
    return blocks(trainer, Note)[0].text


def lines(trainer: Trainer) -> list[Line]:
    """The prediction in each panel."""
    return [mark for panel in trainer.snapshot().chart.panels for mark in panel.marks if isinstance(mark, Line)]


def difference(net: nn.Module, other: nn.Module, x: torch.Tensor) -> float:
    largest: float = (net(x) - other(x)).abs().max().item()
    return largest


def test_the_defaults_are_the_tutorials() -> None:
    tutorial = {"learning_rate": 0.5, "steps": 100, "hidden_units": 10, "points": 100, "noise": 0.2}
    assert LESSON.config().to_dict() == {**tutorial, "seed": 2}


def test_the_net_is_the_tutorials_and_learns() -> None:
    tutorials = torch.nn.Sequential(torch.nn.Linear(1, 10), torch.nn.ReLU(), torch.nn.Linear(10, 1))
    trainer = trained()
    assert [(each.name, each.label, str(each.net)) for each in trainer.learners] == [("net", "net1", str(tutorials))]
    assert trainer.snapshot().metrics["loss"] < 0.01
    assert trainer.snapshot().metrics.keys() == LESSON.metrics.keys()


@seeds
@pytest.mark.parametrize("hidden_units", [1, 10, 100])
def test_both_torch_files_give_net1s_outputs_exactly(seed: int, hidden_units: int) -> None:
    trainer = trained(seed=seed, hidden_units=hidden_units, learning_rate=0.1, steps=30)
    net1, x = trainer.learners[0].net, torch.linspace(-5, 5, 1001).unsqueeze(dim=1)
    net_pkl, net_params_pkl = saving.save(net1)
    assert torch.equal(saving.restore_net(net_pkl)(x), net1(x))
    assert torch.equal(saving.restore_params(net_params_pkl, hidden_units)(x), net1(x))


def test_a_restored_net_is_in_eval_mode_and_without_eval_it_is_not() -> None:
    net_pkl, net_params_pkl = saving.save(made().learners[0].net)
    assert not saving.restore_net(net_pkl).training
    assert not saving.restore_params(net_params_pkl, 10).training
    assert torch.load(io.BytesIO(net_pkl), weights_only=False).training
    net = nn.Sequential(nn.Linear(1, 10), nn.ReLU(), nn.Linear(10, 1))
    net.load_state_dict(torch.load(io.BytesIO(net_params_pkl)))
    assert net.training


def test_eval_matters_to_a_net_with_dropout_as_the_text_says() -> None:
    file = io.BytesIO()
    torch.save(nn.Dropout(0.5), file)
    dropout = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    x = torch.ones(1000)
    assert not torch.equal(dropout(x), x)
    assert torch.equal(dropout.eval()(x), x)


def test_torch_load_really_refuses_a_whole_net_and_takes_a_state_dict() -> None:
    net_pkl, net_params_pkl = saving.save(made().learners[0].net)
    with pytest.raises(pickle.UnpicklingError, match="Sequential was not an allowed global by default"):
        torch.load(io.BytesIO(net_pkl))
    assert list(torch.load(io.BytesIO(net_params_pkl))) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_add_safe_globals_allows_classes_for_the_rest_of_the_program() -> None:
    net_pkl, _ = saving.save(made().learners[0].net)
    before = torch.serialization.get_safe_globals()
    try:
        torch.serialization.add_safe_globals([nn.Sequential, nn.Linear, nn.ReLU])
        assert isinstance(torch.load(io.BytesIO(net_pkl)), nn.Sequential)
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def typed(session: PythonSession, names: dict[str, Any]) -> Iterator[str]:
    """What Python's prompt says to each line of a session, its long refusals cut as the lesson cuts them."""
    for code, _ in session.lines:
        try:
            try:
                value = eval(code, names)
            except SyntaxError:  # a statement
                value = exec(code, names)  # type: ignore[func-returns-value]
        except pickle.UnpicklingError as error:
            told = str(error).splitlines()
            reason = next(line for line in told if "Unsupported global" in line)
            sentences = (sentence.partition(". ")[0].strip() for sentence in (told[0], reason))
            yield "UnpicklingError: " + "\n".join(f"{sentence}. [...]" for sentence in sentences)
        except Exception as error:
            yield f"{type(error).__name__}: {error}"
        else:
            yield "" if value is None else repr(value)


@pytest.mark.parametrize("session", [WAYS, SURPRISE, MOVED, OWN_FORWARD])
@pytest.mark.parametrize("settings", [{}, {"hidden_units": 3, "seed": 7}])
def test_the_sessions_show_what_python_says_to_their_lines(session: int, settings: dict[str, object]) -> None:
    trainer = trained(steps=5, **settings)
    shown = blocks(trainer, PythonSession)[session]
    names: dict[str, Any] = {"__name__": "__main__", "io": io, "sys": sys, "types": types, "torch": torch, "nn": nn}
    names |= {"save": saving.save, "restore_net": saving.restore_net, "restore_params": saving.restore_params}
    names |= {"net1": trainer.learners[0].net, "x": trainer.experiment.train.x}
    assert list(typed(shown, names)) == [output for _, output in shown.lines]


def test_the_refusal_names_the_class_and_the_three_ways_restore_net1() -> None:
    shown = blocks(made(), PythonSession)[WAYS].lines
    _, refusal, classes, *_, same = (output for _, output in shown)
    assert refusal.startswith("UnpicklingError: Weights only load failed. [...]\nWeightsUnpickler error: ")
    assert "GLOBAL torch.nn.modules.container.Sequential was not an allowed global by default" in refusal
    assert refusal.replace("\n", "").isprintable()  # none of the codes that make a terminal bold
    assert "'torch.nn.modules.linear.Linear'" in classes
    assert same == "[True, True, True]"


def test_a_pickle_runs_code_unless_weights_only() -> None:
    *_, ran, refused = (output for _, output in blocks(made(), PythonSession)[SURPRISE].lines)
    assert ran == "42"
    assert "GLOBAL eval was not an allowed global" in refused


def test_a_file_of_allowed_classes_alone_computes_something_else_with_the_same_weights() -> None:
    *_, same, equal = (output for _, output in blocks(made(), PythonSession)[OWN_FORWARD].lines)
    assert same == "[True, True, True, True]"
    assert equal == "False"


def test_a_class_that_is_renamed_or_moves_breaks_the_file() -> None:
    shown = [output for _, output in blocks(made(), PythonSession)[MOVED].lines if output]
    assert shown[0].startswith("AttributeError: Can't get attribute 'Net'")
    assert shown[1] == "ModuleNotFoundError: No module named 'my_nets'"
    assert "my_nets" not in sys.modules


def test_the_sessions_are_run_once_and_not_at_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = made(steps=5)
    first = blocks(trainer, PythonSession)
    monkeypatch.setattr(torch, "load", None)
    trainer.step()
    assert all(now is then for now, then in zip(blocks(trainer, PythonSession), first, strict=True))


def test_a_look_changes_no_random_numbers_and_leaves_no_class_allowed() -> None:
    state, allowed = torch.get_rng_state(), set(torch.serialization.get_safe_globals())
    one, other = trained(steps=10), made(steps=10)
    while not other.done:
        other.snapshot()
        other.step()
    assert one.learners[0].losses == other.learners[0].losses
    assert torch.equal(torch.get_rng_state(), state)
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_until_the_files_are_written_only_net1_is_drawn() -> None:
    trainer = trained(steps=5)
    assert [len(line.x) for line in lines(trainer)] == [100, 0, 0, 0]
    assert remark(trainer) == PROSE.notes["waiting"]
    table = blocks(trainer, Table)[0]
    assert all(row[2:] == ("–", "–", "–", "–") for row in table.rows)


@seeds
def test_once_they_are_every_panel_is_filled(seed: int) -> None:
    trainer = restored(trained(seed=seed))
    net1, net2, net3, net4 = (line.y for line in lines(trainer))
    assert net1.shape == (100,)
    np.testing.assert_array_equal(net2, net1)
    np.testing.assert_array_equal(net3, net1)
    np.testing.assert_allclose(net4, net1, atol=2e-7, rtol=0)
    assert remark(trainer) == PROSE.notes["read_back"]


def test_the_panels_are_the_tutorials_and_onnx() -> None:
    titles = [panel.title for panel in made().snapshot().chart.panels]
    assert titles == ["Net1", "Net2: net.pkl", "Net3: net_params.pkl", "Net4: net.onnx"]


def test_the_chart_keeps_its_structure_before_and_after_and_over_seeds_and_settings() -> None:
    trainer = made(steps=5)
    charts = [trainer.snapshot().chart]
    trainer.finish()
    charts += [trainer.snapshot().chart, restored(trainer).snapshot().chart]
    charts += [made(seed=9).snapshot().chart, restored(trained(hidden_units=3, points=2)).snapshot().chart]
    assert len({browser.structure(chart) for chart in charts}) == 1


def test_the_table_has_size_times_and_difference_of_each_file() -> None:
    trainer = restored(trained())
    rows = {row[0]: row[2:] for row in blocks(trainer, Table)[0].rows}
    net_pkl, net_params_pkl = saving.save(trainer.learners[0].net)
    assert rows["`net.pkl`"] == (f"{len(net_pkl)}", "1.00", "2.00", "0")
    assert rows["`net_params.pkl`"] == (f"{len(net_params_pkl)}", "1.00", "2.00", "0")
    assert rows["`net.safetensors`"][3] == "0"
    assert 0 < float(rows["`net.onnx`"][3]) < 2e-7


def test_the_state_dict_is_told_by_name_shape_numbers_and_bytes() -> None:
    *rows, together = blocks(made(), Table)[1].rows
    assert rows == [
        ("`0.weight`", "(10, 1)", "10", "40"),
        ("`0.bias`", "(10,)", "10", "40"),
        ("`2.weight`", "(1, 10)", "10", "40"),
        ("`2.bias`", "(1,)", "1", "4"),
    ]
    assert together[2:] == ("31", "124")


def test_a_diverged_run_says_that_nothing_is_saved() -> None:
    trainer = trained(learning_rate=10.0)
    assert trainer.diverged
    assert remark(trainer) == PROSE.notes["unsaved"]


def sizes(**settings: object) -> list[int]:
    """Bytes of the torch files and of safetensors."""
    return [each.size for name, each in restored(trained(**settings)).files["net"].items() if name != "net.onnx"]


def test_files_grow_by_about_12_bytes_a_hidden_unit() -> None:
    wide = LESSON.suggestions[0].settings
    grown = np.subtract(sizes(**wide), sizes())
    assert np.all((grown > 11 * 90) & (grown < 14 * 90))
    assert blocks(made(**wide), Table)[1].rows[-1][2] == "301"
    assert trained(**wide).snapshot().metrics["loss"] < 0.01


def test_torch_saves_one_hidden_unit_in_as_many_bytes_as_ten_and_safetensors_in_fewer() -> None:
    *torch_files, tensors = sizes(**LESSON.suggestions[1].settings)
    *torch_files_of_ten, tensors_of_ten = sizes()
    assert torch_files == torch_files_of_ten
    assert tensors < tensors_of_ten
    assert blocks(made(hidden_units=1), Table)[1].rows[-1][2:] == ("4", "16")


def test_saved_too_early_a_net_is_restored_as_bad_as_it_was_in_files_as_large() -> None:
    early = restored(trained(**LESSON.suggestions[2].settings))
    assert early.snapshot().metrics["loss"] > 50 * trained().snapshot().metrics["loss"]
    net1, net2, net3, _ = (line.y for line in lines(early))
    assert net1.tolist() == net2.tolist() == net3.tolist()
    assert sizes(**LESSON.suggestions[2].settings) == sizes()


def test_the_old_notes_draw_net1_one_step_behind() -> None:
    trainer = trained(steps=99)
    net = trainer.learners[0].net
    optimizer, behind = trainer.learners[0].optimizer, copy.deepcopy(net)
    prediction = net(trainer.experiment.train.x)
    loss = trainer.learners[0].loss_func(prediction, trainer.experiment.train.y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    assert torch.equal(prediction, behind(trainer.experiment.train.x))
    assert difference(net, trained(steps=100).learners[0].net, trainer.experiment.train.x) == 0
    assert difference(net, behind, trainer.experiment.train.x) > 0
