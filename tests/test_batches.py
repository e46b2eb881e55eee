"""What the lesson on batches says, measured."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from charts.blocks import Note, Table
from charts.chart import Points
from charts.text import said
from lab.training import Trainer
from nets.batches import LESSON, curvature

SEEDS = range(10)
SCALE, SMALL_STEPS, UNSHUFFLED = (idea.settings for idea in LESSON.suggestions)


def begun(settings: Mapping[str, Any], seed: int = 1) -> Trainer:
    return Trainer(LESSON, LESSON.recipe({"seed": seed, **settings}))


def trained(settings: Mapping[str, Any], seed: int = 1) -> Trainer:
    trainer = begun(settings, seed)
    trainer.finish()
    return trainer


def all_dead(trainer: Trainer) -> bool:
    net = trainer.learners[0].net
    assert isinstance(net, nn.Sequential)
    return not bool((net[:2](trainer.experiment.train.x) > 0).any())


def loss(trainer: Trainer) -> float:
    return trainer.snapshot().metrics["loss"]


def test_the_defaults_are_the_tutorials() -> None:
    made = LESSON.config().to_dict()
    assert made == {
        "learning_rate": 0.5,
        "batch_size": 5,
        "epochs": 3,
        "shuffle": True,
        "drop_last": False,
        "scaled": False,
        "hidden_units": 10,
        "seed": 1,
    }


def test_the_default_run_is_the_tutorials_loss_by_loss() -> None:
    torch.manual_seed(1)
    x = torch.unsqueeze(torch.linspace(1, 10, 100), 1)
    y = torch.unsqueeze(torch.linspace(10, 1, 100), 1)
    loader = DataLoader(dataset=TensorDataset(x, y), batch_size=5, shuffle=True)
    net1 = torch.nn.Sequential(torch.nn.Linear(1, 10), torch.nn.ReLU(), torch.nn.Linear(10, 1))
    optimizer = torch.optim.SGD(net1.parameters(), lr=0.5)
    loss_func = torch.nn.MSELoss()
    losses, printed = [], []
    for _ in range(3):
        for batch_x, batch_y in loader:
            batch_loss = loss_func(net1(batch_x), batch_y)
            optimizer.zero_grad()
            batch_loss.backward()
            optimizer.step()
            losses.append(batch_loss.item())
        printed.append(loss_func(net1(x), y).item())

    ours = trained({})
    assert ours.learners[0].losses == losses
    assert [*ours.experiment.extra.losses[1:], loss(ours)] == printed
    assert printed == pytest.approx([7.4835, 7.9417, 7.3030], abs=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_at_the_tutorials_learning_rate_all_relus_die_and_the_line_is_at_the_mean_of_the_batch(seed: int) -> None:
    trainer = trained({}, seed)
    assert all_dead(trainer)
    mean = trainer.experiment.extra.dealt[-1][1].mean()
    torch.testing.assert_close(trainer.learners[0].net(trainer.experiment.train.x), mean.expand(100, 1))
    variance = trainer.experiment.train.y.var(correction=0)
    assert variance.item() == pytest.approx(6.886, abs=1e-3)
    assert loss(trainer) == pytest.approx((variance + (mean - 5.5) ** 2).item(), rel=1e-3)
    warnings = [said(note.text, "en") for note in trainer.snapshot().diagnosis if note.kind == "warning"]
    assert any("ReLUs are dead" in warning for warning in warnings)


@pytest.mark.parametrize("seed", SEEDS)
def test_scaled_data_and_a_fitting_learning_rate_learn_in_the_same_three_epochs(seed: int) -> None:
    trainer = trained(SCALE, seed)
    assert trainer.steps == 60
    assert not all_dead(trainer)
    assert loss(trainer) < 0.03  # of a variance of 1


@pytest.mark.parametrize("seed", SEEDS)
def test_small_steps_keep_relus_alive_and_learn(seed: int) -> None:
    trainer = trained(SMALL_STEPS, seed)
    assert not all_dead(trainer)
    assert loss(trainer) < 6.886 / 5


def test_in_order_the_loss_ends_several_times_higher() -> None:
    ratios = sorted(loss(trained(UNSHUFFLED, seed)) / loss(trained(SCALE, seed)) for seed in SEEDS)
    assert ratios[1] > 1  # in all seeds but one, at least
    assert ratios[len(ratios) // 2] > 3


def test_the_curvature_is_the_largest_eigenvalue_of_the_hessian() -> None:
    trainer = begun({})
    net = trainer.learners[0].net
    weights = {name: parameter.detach() for name, parameter in net.named_parameters()}
    flat = torch.cat([each.flatten() for each in weights.values()])

    def of(vector: torch.Tensor) -> torch.Tensor:
        parts = vector.split([each.numel() for each in weights.values()])
        made = {name: part.view_as(each) for (name, each), part in zip(weights.items(), parts, strict=True)}
        return nn.functional.mse_loss(
            functional_call(net, made, (trainer.experiment.train.x,)), trainer.experiment.train.y
        )

    hessian = torch.autograd.functional.hessian(of, flat)
    assert isinstance(hessian, torch.Tensor)
    measured = curvature(net, nn.MSELoss(), trainer.experiment.train)
    assert measured == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-2)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_scaling_brings_the_curvature_from_70_to_300_down_to_3_to_10() -> None:
    raw = [begun({}, seed).experiment.extra.curvature for seed in range(20)]
    scaled = [begun({"scaled": True}, seed).experiment.extra.curvature for seed in range(20)]
    assert 70 < min(raw) < max(raw) < 300
    assert 3 < min(scaled) < max(scaled) < 10


@pytest.mark.parametrize(("settings", "kind"), [({}, "warning"), (SCALE, "info"), (SMALL_STEPS, "info")])
def test_the_remark_warns_of_a_learning_rate_past_two_over_the_curvature(settings: dict[str, Any], kind: str) -> None:
    note = begun(settings).snapshot().view.blocks[0]
    assert isinstance(note, Note)
    assert note.kind == kind


@pytest.mark.parametrize("size", [1, 5, 32, 100])
def test_an_epoch_has_every_sample_once_and_the_next_one_in_another_order(size: int) -> None:
    trainer = trained({**SCALE, "batch_size": size, "epochs": 2})
    half = trainer.steps // 2
    epochs = [
        torch.cat([x for x, _ in part])
        for part in (trainer.experiment.extra.dealt[:half], trainer.experiment.extra.dealt[half:])
    ]
    for each in epochs:
        assert torch.equal(each.sort(dim=0).values, trainer.experiment.train.x)
    assert not torch.equal(*epochs)


def test_without_shuffling_the_samples_come_in_order() -> None:
    trainer = trained({**UNSHUFFLED, "epochs": 1})
    assert torch.equal(torch.cat([x for x, _ in trainer.experiment.extra.dealt]), trainer.experiment.train.x)


def test_the_last_batch_holds_the_rest_and_drop_last_leaves_out_others_each_time() -> None:
    kept = trained({**SCALE, "batch_size": 32, "epochs": 2})
    assert [len(x) for x, _ in kept.experiment.extra.dealt] == [32, 32, 32, 4] * 2
    dropped = trained({**SCALE, "batch_size": 32, "epochs": 2, "drop_last": True})
    assert [len(x) for x, _ in dropped.experiment.extra.dealt] == [32, 32, 32] * 2
    seen = [
        set(torch.cat([x for x, _ in part])[:, 0].tolist())
        for part in (dropped.experiment.extra.dealt[:3], dropped.experiment.extra.dealt[3:])
    ]
    assert seen[0] != seen[1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "20 batches of 5."),
        ({"batch_size": 32}, "3 batches of 32 and a last one of 4."),
        ({"batch_size": 32, "drop_last": True}, "3 batches of 32; the 4 samples left over are dropped."),
    ],
)
def test_the_division_is_told(settings: dict[str, Any], words: str) -> None:
    note = begun(settings).snapshot().view.blocks[1]
    assert isinstance(note, Note)
    assert said(note.text, "en").endswith(words)


def test_the_third_panel_deals_this_epochs_samples_and_marks_the_latest_batch() -> None:
    trainer = begun({})
    for _ in range(23):
        trainer.step()
    earlier, latest = trainer.snapshot().chart.panels[2].marks
    assert isinstance(earlier, Points)
    assert isinstance(latest, Points)
    assert earlier.x.tolist() == [1] * 5 + [2] * 5
    assert latest.x.tolist() == [3] * 5
    assert latest.y.tolist() == trainer.experiment.extra.dealt[-1][0][:, 0].tolist()
    marked = trainer.snapshot().chart.panels[0].marks[1]
    assert isinstance(marked, Points)
    assert marked.x.tolist() == latest.y.tolist()


def test_the_table_has_the_latest_batches_from_the_start() -> None:
    trainer = begun({"batch_size": 7})
    before = trainer.snapshot().view.blocks[2]
    trainer.finish()
    after = trainer.snapshot().view.blocks[2]
    assert isinstance(before, Table)
    assert isinstance(after, Table)
    assert len(before.rows) == len(after.rows) == 5
    assert after.rows[0][:2] == ("3", "15")
    assert said(after.rows[1][2], "en").endswith("… +1")


def test_the_loss_over_all_samples_is_there_at_the_start_and_after_each_epoch() -> None:
    points = trained({}).snapshot().chart.panels[1].marks[1]
    assert isinstance(points, Points)
    assert points.x.tolist() == [0, 20, 40, 60]
