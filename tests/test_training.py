"""The trainer, with all that could betray a look at a run: dropout, batch norm, several nets."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from charts.chart import Chart, Line, Panel, as_array
from lab.diagnosis import Evaluation
from lab.lesson import View
from lab.settings import Config
from lab.settings import seed as seed_setting
from lab.training import Learner, RandomState, Trainer, evaluating
from nets import TRAININGS


@dataclass(frozen=True, kw_only=True)
class ToyConfig(Config):
    seed: int = seed_setting()


class ToyTrainer(Trainer[ToyConfig]):
    """Two nets with dropout and batch norm, and a `show` that draws random numbers itself."""

    def setup(self) -> None:
        self.x = torch.rand(32, 3)
        self.y = self.x.sum(dim=1, keepdim=True)
        self.learners = []
        for name in ("a", "b"):
            net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1))
            net[0].requires_grad_(name == "a").train(name == "a")
            self.learners.append(Learner(name, net, {}, torch.optim.Adam(net.parameters(), lr=0.01)))
        self.loss_func = nn.MSELoss()
        self.steps = 30
        self.test_x = torch.rand(32, 3)
        self.test_y = self.test_x.sum(dim=1, keepdim=True)

    def show(self, now: Sequence[Evaluation]) -> View:
        drawn = torch.rand(1).item()
        line = Line("all", as_array([0, 1]), as_array([each.loss for each in now]))
        chart = Chart((Panel("toy", "x", "y", (line,)), self.loss_panel("loss", now)))
        return View(chart, {"loss": now[0].loss, "drawn": drawn})


def states(trainer: Trainer[ToyConfig]) -> list[bytes]:
    return [t.numpy().tobytes() for each in trainer.learners for t in each.net.state_dict().values()]


def test_a_run_looked_at_100_times_ends_with_the_weights_of_one_never_looked_at() -> None:
    looked_at, alone = ToyTrainer(ToyConfig()), ToyTrainer(ToyConfig())
    while not looked_at.done:
        for _ in range(4):
            looked_at.snapshot()
        looked_at.step()
        alone.step()
    assert states(looked_at) == states(alone)


def test_a_look_shows_the_same_twice() -> None:
    trainer = ToyTrainer(ToyConfig())
    trainer.step()
    assert trainer.snapshot().metrics == trainer.snapshot().metrics


def test_a_look_leaves_gradients_modes_and_the_process_random_state() -> None:
    trainer = ToyTrainer(ToyConfig())
    trainer.step()
    net = trainer.learners[1].net
    modes = [module.training for module in net.modules()]
    gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    random = torch.get_rng_state()
    trainer.snapshot()
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    for before, parameter in zip(gradients, net.parameters(), strict=True):
        assert (before is None) == (parameter.grad is None)
        assert before is None or torch.equal(before, parameter.grad)  # type: ignore[arg-type]


def test_evaluating_gives_every_module_its_own_mode_back_even_after_an_error() -> None:
    net = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    with pytest.raises(ZeroDivisionError), evaluating(net):
        _ = 1 / net[0].training  # False, as it should be in there
    assert [module.training for module in net] == [True, False]


def test_interleaved_runs_give_the_losses_of_each_alone() -> None:
    def losses(*trainers: ToyTrainer) -> list[list[float]]:
        for _ in range(30):
            for trainer in trainers:
                trainer.step()
        return [learner.losses for trainer in trainers for learner in trainer.learners]

    together = losses(ToyTrainer(ToyConfig(seed=1)), ToyTrainer(ToyConfig(seed=2)))
    assert together == losses(ToyTrainer(ToyConfig(seed=1))) + losses(ToyTrainer(ToyConfig(seed=2)))


def test_a_random_state_starts_where_manual_seed_does_and_leaves_the_process_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3), torch.randn(3)
    torch.manual_seed(9)
    outer = torch.get_rng_state()
    state = RandomState(5)
    with state:
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), outer)
    with state:
        second = torch.randn(3)
    assert torch.equal(first, expected[0])
    assert torch.equal(second, expected[1])


def test_a_loss_that_is_no_number_ends_the_run_with_advice() -> None:
    lesson = TRAININGS["regression"]
    trainer = lesson.trainer(lesson.config.parse({"learning_rate": 10}))
    while not trainer.done:
        trainer.step()
    assert trainer.diverged
    assert trainer.step_number < 100
    assert f"Diverged at step {trainer.step_number}" in trainer.advice.en
    assert "smaller learning rate" in trainer.advice.en


def test_weights_that_the_last_step_ruined_count_as_diverged() -> None:
    trainer = ToyTrainer(ToyConfig())
    trainer.steps = 1
    trainer.learners[0].optimizer.param_groups[0]["lr"] = float("inf")
    trainer.step()
    assert trainer.learners[0].losses[-1] < float("inf")
    assert trainer.diverged


def test_no_step_is_taken_after_the_last() -> None:
    trainer = ToyTrainer(ToyConfig())
    for _ in range(30):
        trainer.step()
    assert trainer.done
    with pytest.raises(RuntimeError, match="the run ended at step 30"):
        trainer.step()


def test_a_long_loss_curve_is_thinned_and_its_points_stay_put() -> None:
    trainer = ToyTrainer(ToyConfig())
    trainer.steps = 2000
    seen: set[float] = set()
    for _ in range(1300):
        trainer.step()
        if trainer.step_number in (1000, 1300):
            (_, panel) = trainer.snapshot().chart.panels
            (curve, _) = panel.marks
            assert isinstance(curve, Line)
            assert len(curve.x) <= 401
            assert curve.x[-1] == trainer.step_number
            assert seen <= {*curve.x.tolist(), 1000.0}
            seen = set(curve.x[:-1].tolist())
