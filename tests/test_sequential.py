"""The lesson Sequential: two ways to write a net, the same net."""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charts import browser
from charts.blocks import Note, PythonSession, Table
from lab import plots
from lab.training import Trainer
from nets import classification
from nets.sequential import LESSON, PROSE, copy_weights
from tests.sessions import replayed

seeds = pytest.mark.parametrize("seed", [0, 2, 3, 11])


def made(**settings: object) -> Trainer:
    return Trainer(LESSON, LESSON.recipe(settings))


def trained(**settings: object) -> Trainer:
    trainer = made(**settings)
    trainer.finish()
    return trainer


def through_a_run(trainer: Trainer) -> Iterator[float]:
    """The difference that is shown before, during and after training."""
    yield trainer.snapshot().metrics["difference"]
    while not trainer.done:
        trainer.step()
        if trainer.step_number in (1, trainer.steps // 2, trainer.steps):
            yield trainer.snapshot().metrics["difference"]


def weights(trainer: Trainer) -> list[list[bytes]]:
    return [[tensor.numpy().tobytes() for tensor in each.net.state_dict().values()] for each in trainer.learners]


def block(trainer: Trainer, kind: type) -> Any:
    return next(each for each in trainer.snapshot().view.blocks if isinstance(each, kind))


def test_the_defaults_are_those_of_the_tutorials_classification() -> None:
    tutorial = {"learning_rate": 0.02, "steps": 100, "hidden_units": 10, "points": 100, "noise": 1.0}
    assert LESSON.config().to_dict() == {"same_start": True, **tutorial, "seed": 2}


def test_the_nets_are_the_tutorials() -> None:
    net_class, net_sequential = (each.net for each in made().learners)
    tutorials = torch.nn.Sequential(torch.nn.Linear(2, 10), torch.nn.ReLU(), torch.nn.Linear(10, 2))
    assert str(net_sequential) == str(tutorials)
    assert type(net_class) is classification.Net
    assert list(net_class._modules) == ["hidden", "out"]


def test_class_net_learns_exactly_as_in_the_lesson_classification() -> None:
    lesson = classification.LESSON
    other = Trainer(lesson, lesson.recipe({"seed": 5, "steps": 20}))
    while not other.done:
        other.step()
    assert trained(seed=5, steps=20).learners[0].losses == other.learners[0].losses


@seeds
def test_from_the_same_start_the_difference_is_exactly_0_before_during_and_after_training(seed: int) -> None:
    assert list(through_a_run(made(seed=seed))) == [0.0, 0.0, 0.0, 0.0]


@seeds
def test_from_the_same_start_the_weights_stay_equal_bit_by_bit(seed: int) -> None:
    trainer = made(seed=seed)
    start = weights(trainer)
    while not trainer.done:
        trainer.step()
        one, other = weights(trainer)
        assert one == other
    assert weights(trainer) != start
    assert trainer.learners[0].losses == trainer.learners[1].losses


@seeds
def test_from_starts_of_their_own_the_nets_differ_before_during_and_after_training(seed: int) -> None:
    trainer = made(seed=seed, same_start=False)
    assert min(through_a_run(trainer)) > 0.1
    one, other = weights(trainer)
    assert not set(one) & set(other)


def test_a_copy_shares_no_memory() -> None:
    one, other = (each.net for each in made().learners)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    assert any(parameter.any() for parameter in one.parameters())


def test_copy_weights_refuses_nets_of_other_shapes() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        copy_weights(nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 4)))
    with pytest.raises(ValueError, match="zip"):
        copy_weights(nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3)))


@pytest.mark.parametrize("same_start", [True, False])
def test_the_remark_says_whether_the_outputs_differ(same_start: bool) -> None:
    trainer = trained(same_start=same_start, steps=5)
    difference = trainer.snapshot().metrics["difference"]
    assert block(trainer, Note).text == PROSE.notes["same" if same_start else "different"].format(
        difference=f"{difference:.3g}"
    )


def test_the_table_names_every_weight_in_both_nets_with_its_shape_count_and_difference() -> None:
    rows = block(trained(steps=5), Table).rows
    assert rows[:-1] == (
        ("`hidden.weight`", "`0.weight`", "(10, 2)", "20", "0"),
        ("`hidden.bias`", "`0.bias`", "(10,)", "10", "0"),
        ("`out.weight`", "`2.weight`", "(2, 10)", "20", "0"),
        ("`out.bias`", "`2.bias`", "(2,)", "2", "0"),
    )
    assert rows[-1][3] == "52"
    apart = block(made(same_start=False), Table).rows
    assert all(float(row[4]) > 0 for row in apart[:-1])


@pytest.mark.parametrize("settings", [{}, {"same_start": False, "hidden_units": 3, "seed": 7}])
def test_the_session_shows_what_python_says_to_its_lines(settings: dict[str, object]) -> None:
    trainer = trained(steps=5, **settings)
    lines = block(trainer, PythonSession).lines
    net_class, net_sequential = (copy.deepcopy(each.net) for each in trainer.learners)
    names: dict[str, Any] = {"net_class": net_class, "net_sequential": net_sequential, "x": trainer.experiment.train.x}
    names |= {"nn": nn, "F": F, "OrderedDict": OrderedDict, "copy_weights": copy_weights}

    def told(error: Exception) -> str:
        return f"{type(error).__name__}: {str(error).expandtabs(4)}"

    assert replayed(lines, told, **names) == list(lines)


def test_one_nets_state_dict_does_not_load_into_the_other_and_the_message_says_why() -> None:
    output = dict(block(made(), PythonSession).lines)["net.load_state_dict(net_class.state_dict())"]
    title, missing, unexpected = output.splitlines()
    assert title == "RuntimeError: Error(s) in loading state_dict for Sequential:"
    assert missing.strip().startswith('Missing key(s) in state_dict: "0.weight"')
    assert unexpected.strip().startswith('Unexpected key(s) in state_dict: "hidden.weight"')


def test_a_look_changes_no_weights_and_no_random_numbers() -> None:
    one, other = made(same_start=False, steps=10), made(same_start=False, steps=10)
    while not one.done:
        one.snapshot()
        one.step()
        other.step()
    assert weights(one) == weights(other)


def test_the_panels_are_both_decision_maps_and_the_losses() -> None:
    one, other, losses = trained(steps=5).snapshot().chart.panels
    assert [one.title, other.title] == ["class Net", "nn.Sequential"]
    assert [mark.name for mark in losses.marks] == ["class Net", "nn.Sequential", plots.CHANGE]
    np.testing.assert_array_equal(one.marks[0].values, other.marks[0].values)  # type: ignore[attr-defined]


def test_the_maps_differ_from_starts_of_their_own() -> None:
    one, other, _ = made(same_start=False).snapshot().chart.panels
    assert np.abs(one.marks[0].values - other.marks[0].values).max() > 0.1  # type: ignore[attr-defined]


def test_the_chart_keeps_its_structure_through_a_run_over_seeds_and_settings() -> None:
    charts = [made(), trained(steps=5, seed=9), trained(steps=5, same_start=False), made(hidden_units=1, points=2)]
    assert len({browser.structure(each.snapshot().chart) for each in charts}) == 1


def test_metrics_are_all_named() -> None:
    assert made().snapshot().metrics.keys() == LESSON.metrics.keys()


def test_a_diverged_run_can_be_looked_at() -> None:
    trainer = trained(learning_rate=10.0, noise=4.0, same_start=False, seed=1, steps=300)
    snapshot = trainer.snapshot()
    assert trainer.diverged
    assert not any(isinstance(each, Note) for each in snapshot.view.blocks)


def ends_at(trainer: Trainer) -> list[float]:
    """Each net's accuracy."""
    return [
        (each.net(trainer.experiment.train.x).argmax(dim=1) == trainer.experiment.train.y).double().mean().item()
        for each in trainer.learners
    ]


@seeds
def test_nets_that_start_apart_differ_and_both_learn(seed: int) -> None:
    trainer = trained(**{**LESSON.suggestions[0].settings, "seed": seed})
    assert trainer.snapshot().metrics["difference"] > 0.1
    assert min(ends_at(trainer)) > 0.97


@seeds
def test_on_a_rough_ride_both_losses_jump_alike_and_the_difference_stays_0(seed: int) -> None:
    trainer = made(**{**LESSON.suggestions[1].settings, "seed": seed})
    assert set(through_a_run(trainer)) == {0.0}
    losses = np.array(trainer.learners[0].losses)
    assert trainer.learners[1].losses == losses.tolist()
    assert (np.diff(losses) > 0).mean() > 0.3


def relus_alive(trainer: Trainer) -> list[bool]:
    one, other = (each.net for each in trainer.learners)
    return [
        bool((layer(trainer.experiment.train.x) > 0).any())
        for layer in (one.get_submodule("hidden"), other.get_submodule("0"))
    ]


def test_of_two_nets_of_one_unit_one_dies_on_the_way_and_from_the_same_start_both() -> None:
    settings = LESSON.suggestions[2].settings
    assert relus_alive(made(**settings)) == [True, True]
    trainer = trained(**settings)
    assert relus_alive(trainer) == [False, True]
    assert ends_at(trainer)[1] > 0.95
    assert relus_alive(trained(**{**settings, "same_start": True})) == [False, False]


def test_the_old_lines_run_as_they_stand() -> None:
    net = torch.nn.Sequential(
        torch.nn.Linear(2,10),
        torch.nn.ReLU(),
        torch.nn.Linear(10,2)
    )  # fmt: skip
    assert net(torch.ones(3, 2)).shape == (3, 2)


def test_a_sequential_can_be_indexed_sliced_and_extended_as_the_text_says() -> None:
    net = nn.Sequential(nn.Linear(2, 10), nn.ReLU(), nn.Linear(10, 2))
    assert isinstance(net[0], nn.Linear)
    assert str(net[:2]) == str(nn.Sequential(nn.Linear(2, 10), nn.ReLU()))
    assert len(net.append(nn.ReLU())) == 4


def test_the_old_and_the_new_super_make_the_same_module() -> None:
    class Old(nn.Module):
        def __init__(self) -> None:
            super(Old, self).__init__()  # noqa: UP008
            self.hidden = nn.Linear(2, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.hidden(x)  # type: ignore[no-any-return]

    assert Old()(torch.ones(3, 2)).shape == (3, 10)
