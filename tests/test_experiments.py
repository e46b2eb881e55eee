"""What lessons are made of beyond what the tutorial needs: other steps, schedules, penalties, clipping."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from charts.chart import Chart
from export.__main__ import main
from export.verify import verify
from lab import plots
from lab.data import NoisySquare
from lab.evaluation import Now
from lab.experiment import Experiment, Learner, Samples
from lab.lesson import Training, View
from lab.models import mlp
from lab.optim import OPTIMIZERS, SCHEDULES, Optimization, make_penalty, make_schedule
from lab.recipe import Change
from lab.settings import Config, SettingError, group, hidden_units, seed, steps
from lab.training import Trainer
from nets import TRAININGS


@dataclass(frozen=True, kw_only=True)
class ToyConfig(Config):
    """A lesson put together from groups."""

    steps: int = steps(40)
    hidden_units: int = hidden_units(8)
    optimization: Optimization = group(Optimization)
    data: NoisySquare = group(NoisySquare)
    seed: int = seed()


def setup(config: ToyConfig) -> Experiment:
    train = config.data.make()
    net = mlp(1, config.hidden_units, 1, activation="tanh")
    learner = config.optimization.learner("net", net, nn.MSELoss(), config.steps)
    return Experiment([learner], train, config.data.make(), config.steps)


def show(experiment: Experiment, now: Now) -> View:
    return View(Chart((plots.losses(experiment, now),)), now.losses(experiment))


def retune(experiment: Experiment, config: ToyConfig) -> None:
    config.optimization.retune(experiment.learners[0])


TOY = replace(
    TRAININGS["regression"],
    key="toy",
    config=ToyConfig,
    setup=setup,
    show=show,
    retune=retune,
    ideas={},
    prose=replace(TRAININGS["regression"].prose, ideas={}),
)


def trained(lesson: Training = TOY, /, **settings: Any) -> Trainer:
    return Trainer(lesson, lesson.recipe(settings)).finish()


def test_groups_stand_among_the_settings_in_their_place() -> None:
    names = [*ToyConfig.controls()]
    assert names[:4] == ["steps", "hidden_units", "optimizer", "learning_rate"]
    assert names[-3:] == ["points", "noise", "seed"]
    made = ToyConfig.parse({"momentum": 0.5, "points": 7})
    assert (made.optimization.momentum, made.data.points) == (0.5, 7)
    assert ToyConfig.parse(made.to_dict()) == made
    assert made.changed("noise", 0.1).data.noise == 0.1
    with pytest.raises(SettingError, match=r"momentum must be a number from 0 to 0\.99, not 2"):
        ToyConfig.parse({"momentum": 2})
    assert not made.matters("momentum")
    assert made.changed("optimizer", "nesterov").matters("momentum")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimizer_learns_with_every_schedule(optimizer: str, schedule: str) -> None:
    rate = {"sgd": 0.3, "adagrad": 0.3}.get(optimizer, 0.05)
    losses = trained(optimizer=optimizer, schedule=schedule, learning_rate=rate, steps=120).learners[0].losses
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(("name", "last"), [("step", 0.5**5), ("exponential", 0.01), ("cosine", 0.0)])
def test_a_schedule_brings_the_learning_rate_down_over_the_run(name: str, last: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(name, optimizer, 100)
    assert schedule is not None
    for _ in range(100):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(last, abs=1e-9)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown schedule 'linear'"):
        make_schedule("linear", torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), 10)


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([each.flatten() for each in trainer.learners[0].net.parameters() if each.dim() > 1])


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_a_penalty_makes_weights_small_and_is_not_part_of_the_loss_that_is_shown(kind: str) -> None:
    plain, punished = trained(steps=300), trained(steps=300, **{kind: 0.02})
    assert weights(punished).norm() < weights(plain).norm()
    assert plain.learners[0].losses[0] == punished.learners[0].losses[0]


def test_penalties_are_sums_over_weights_without_biases() -> None:
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[3.0, -4.0]]))
        net.bias.fill_(100.0)
    penalty = make_penalty(l1=1.0, l2=0.1)
    assert penalty is not None
    assert penalty(net).item() == pytest.approx(7 + 2.5)
    assert make_penalty(0.0, 0.0) is None


def test_a_clipped_gradient_keeps_a_run_that_would_diverge() -> None:
    wild: dict[str, Any] = {"learning_rate": 10.0, "hidden_units": 100, "noise": 1.0, "steps": 100}
    assert trained(**wild).snapshot().metrics["loss"] > 10 * trained(**wild, clip=0.01).snapshot().metrics["loss"]


STEPS, MIDDLE = 40, 13


def rates(trainer: Trainer, until: int = STEPS) -> list[float]:
    """The learning rate of each step that is still to be taken."""
    seen = []
    while trainer.step_number < until:
        seen.append(trainer.learners[0].optimizer.param_groups[0]["lr"])
        trainer.step()
    return seen


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_changed_learning_rate_is_the_base_of_the_rest_of_its_schedule(schedule: str) -> None:
    whole = rates(Trainer(TOY, TOY.recipe({"schedule": schedule, "learning_rate": 0.02})))
    other = rates(Trainer(TOY, TOY.recipe({"schedule": schedule, "learning_rate": 0.3})))
    trainer = Trainer(TOY, TOY.recipe({"schedule": schedule}))
    rates(trainer, until=MIDDLE)
    trainer.apply("learning_rate", 0.02)
    assert rates(trainer, until=2 * MIDDLE) == pytest.approx(whole[MIDDLE : 2 * MIDDLE], rel=1e-9)
    trainer.apply("learning_rate", 0.3)
    assert rates(trainer) == pytest.approx(other[2 * MIDDLE :], rel=1e-9)
    again = Trainer(TOY, trainer.recipe).finish()
    assert again.learners[0].losses == trainer.learners[0].losses
    assert torch.equal(weights(again), weights(trainer))


def test_the_command_line_changes_the_base_of_a_schedule_and_its_bundle_trains_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRAININGS, "toy", TOY)
    asked = ["--set", "schedule=cosine", "--change", f"{MIDDLE}:learning_rate=0.02", "--change", "20:l2=0.01"]
    assert main(["run", "toy", *asked, "--out", str(tmp_path)]) == 0
    found = verify(tmp_path / "toy", retrain=True)
    assert found.parity.passed
    assert found.unchecked == {}
    changes = (Change(MIDDLE, "learning_rate", 0.02), Change(20, "l2", 0.01))
    assert found.manifest["recipe"]["changes"] == [each.to_dict() for each in changes]
    again = Trainer(TOY, replace(TOY.recipe({"schedule": "cosine"}), changes=changes)).finish()
    assert found.manifest["metrics"] == again.snapshot().metrics


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_another_setting_leaves_the_learning_rate_as_it_is(schedule: str) -> None:
    trainer = Trainer(TOY, TOY.recipe({"schedule": schedule}))
    plain = rates(Trainer(TOY, TOY.recipe({"schedule": schedule})))
    rates(trainer, until=MIDDLE)
    trainer.apply("l2", 0.1)
    assert rates(trainer) == plain[MIDDLE:]


def with_changes(settings: dict[str, Any], *changes: tuple[int, str, float]) -> Trainer:
    recipe = replace(TOY.recipe(settings), changes=tuple(Change(*each) for each in changes))
    return Trainer(TOY, recipe).finish()


@pytest.mark.parametrize(
    ("name", "value", "settings"),
    [
        ("momentum", 0.1, {"optimizer": "momentum"}),
        ("momentum", 0.0, {"optimizer": "nesterov"}),
        ("l1", 0.01, {"optimizer": "adam"}),
        ("l2", 0.01, {}),
        ("clip", 0.001, {}),
    ],
)
def test_a_setting_of_the_optimization_changed_from_and_to_zero_acts_in_between(
    name: str, value: float, settings: dict[str, Any]
) -> None:
    plain, before = with_changes(settings), getattr(Optimization(), name)
    trainer = with_changes(settings, (MIDDLE, name, value), (2 * MIDDLE, name, before))
    assert trainer.learners[0].losses[: MIDDLE + 1] == plain.learners[0].losses[: MIDDLE + 1]
    assert trainer.learners[0].losses[MIDDLE + 1] != plain.learners[0].losses[MIDDLE + 1]
    back, kept = with_changes(settings, (0, name, value), (0, name, before)), with_changes(settings, (0, name, value))
    assert back.learners[0].losses == plain.learners[0].losses
    if value:  # torch makes no Nesterov optimizer with a momentum of 0
        assert kept.learners[0].losses == trained(**settings, **{name: value}).learners[0].losses


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam", "adagrad", "adamw"])
def test_a_momentum_that_the_optimizer_does_not_have_changes_nothing(optimizer: str) -> None:
    plain = with_changes({"optimizer": optimizer})
    assert (
        with_changes({"optimizer": optimizer}, (MIDDLE, "momentum", 0.1)).learners[0].losses == plain.learners[0].losses
    )


def test_a_setting_that_needs_other_data_or_another_net_cannot_be_changed_on_the_way() -> None:
    with pytest.raises(SettingError, match="changes must be one of learning_rate, momentum, l1, l2, clip or a weight"):
        Trainer(TOY, TOY.recipe()).apply("points", 3)


def of_setup(made: Callable[[ToyConfig], Experiment]) -> Training:
    return replace(TOY, setup=made)


def test_a_step_may_have_two_optimizers_and_losses_of_its_own_as_a_gans_has() -> None:
    def step(experiment: Experiment) -> list[float]:
        generator, critic = experiment.learners
        real, _ = experiment.batch()
        made = generator.net(torch.randn(len(real), 1))
        losses = []
        for learner in (critic, generator):
            if learner is critic:
                loss = critic.net(made.detach()).mean() - critic.net(real).mean()
            else:
                loss = -critic.net(made).mean()
            learner.optimizer.zero_grad()
            loss.backward()
            learner.update()
            losses.append(loss.item())
        return losses[::-1]

    def gan(config: ToyConfig) -> Experiment:
        data = config.data.make()
        learners = []
        for name in ("generator", "critic"):
            net = mlp(1, 4, 1)
            learners.append(Learner(name, net, torch.optim.Adam(net.parameters(), lr=0.01), nn.MSELoss(), clip=1.0))
        return Experiment(learners, data, data, config.steps, take_step=step)

    one, two = trained(of_setup(gan), steps=12), trained(of_setup(gan), steps=12)
    assert [len(each.losses) for each in one.learners] == [12, 12]
    assert [each.losses for each in one.learners] == [each.losses for each in two.learners]
    assert {*one.snapshot().metrics} == {"generator loss", "generator test loss", "critic loss", "critic test loss"}


def test_a_step_may_carry_a_hidden_state_from_one_to_the_next_as_an_rnns_does() -> None:
    class LastState(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.out = nn.RNNCell(1, 4), nn.Linear(4, 1)

        def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
            out: Tensor = self.out(self.cell(x, state))
            return out

    def windows(samples: Samples) -> Iterator[Samples]:
        while True:
            for start in range(0, len(samples.x), 10):
                yield Samples(samples.x[start : start + 10], samples.y[start : start + 10])

    def step(experiment: Experiment) -> list[float]:
        (learner,) = experiment.learners
        x, y = experiment.batch()
        assert isinstance(learner.net, LastState)
        state = learner.net.cell(x, experiment.extra)
        loss = learner.loss_func(learner.net.out(state), y)
        learner.optimizer.zero_grad()
        loss.backward()
        learner.update()
        experiment.extra = state.detach()
        return [loss.item()]

    def rnn(config: ToyConfig) -> Experiment:
        data = config.data.make()
        net = LastState()
        learner = Learner("net", net, torch.optim.Adam(net.parameters(), lr=0.01), nn.MSELoss())
        return Experiment([learner], data, data, config.steps, windows(data), step, extra=torch.zeros(10, 4))

    trainer = trained(of_setup(rnn), steps=60)
    assert not torch.equal(trainer.experiment.extra, torch.zeros(10, 4))
    assert trainer.learners[0].losses[-1] < trainer.learners[0].losses[0]
