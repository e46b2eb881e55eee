"""The trainer, with all that could betray a look at a run: dropout, batch norm, several nets."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from charts.chart import Chart, Line, Panel, as_array
from lab import plots
from lab.evaluation import Now, evaluating
from lab.experiment import Experiment, Learner, Samples
from lab.lesson import Training, View
from lab.settings import Config
from lab.settings import seed as seed_setting
from lab.training import RandomState, Trainer
from nets import TRAININGS


@dataclass(frozen=True, kw_only=True)
class ToyConfig(Config):
    seed: int = seed_setting()


def toy_setup(config: ToyConfig) -> Experiment:
    """Two nets with dropout and batch norm."""
    x, test_x = torch.rand(32, 3), torch.rand(32, 3)
    learners = []
    for name in ("a", "b"):
        net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1))
        net[0].requires_grad_(name == "a").train(name == "a")
        learners.append(Learner(name, net, torch.optim.Adam(net.parameters(), lr=0.01), nn.MSELoss()))
    return Experiment(
        learners, Samples(x, x.sum(dim=1, keepdim=True)), Samples(test_x, test_x.sum(dim=1, keepdim=True)), steps=30
    )


def toy_show(experiment: Experiment, now: Now) -> View:
    """A look that draws random numbers itself."""
    drawn = torch.rand(1).item()
    line = Line("all", as_array([0, 1]), as_array([each.loss for each in now.nets]))
    chart = Chart((Panel("toy", "x", "y", (line,)), plots.losses(experiment, now, "loss")))
    return View(chart, {"loss": now.net.loss, "drawn": drawn})


TOY = replace(
    TRAININGS["regression"],
    key="toy",
    config=ToyConfig,
    setup=toy_setup,
    show=toy_show,
    ideas={},
    prose=replace(TRAININGS["regression"].prose, ideas={}),
)


def toy(lesson: Training = TOY, **settings: object) -> Trainer:
    return Trainer(lesson, lesson.recipe(settings))


def toy_of(steps: int) -> Trainer:
    return toy(replace(TOY, setup=lambda config: replace(toy_setup(config), steps=steps)))


def states(trainer: Trainer) -> list[bytes]:
    return [t.numpy().tobytes() for each in trainer.learners for t in each.net.state_dict().values()]


def test_a_run_looked_at_100_times_ends_with_the_weights_of_one_never_looked_at() -> None:
    looked_at, alone = toy(), toy()
    while not looked_at.done:
        for _ in range(4):
            looked_at.snapshot()
        looked_at.step()
        alone.step()
    assert states(looked_at) == states(alone)


def test_a_look_shows_the_same_twice() -> None:
    trainer = toy()
    trainer.step()
    assert trainer.snapshot().metrics == trainer.snapshot().metrics


def test_a_look_leaves_gradients_modes_and_the_process_random_state() -> None:
    trainer = toy()
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
    def losses(*trainers: Trainer) -> list[list[float]]:
        for _ in range(30):
            for trainer in trainers:
                trainer.step()
        return [learner.losses for trainer in trainers for learner in trainer.learners]

    together = losses(toy(seed=1), toy(seed=2))
    assert together == losses(toy(seed=1)) + losses(toy(seed=2))


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
    trainer = Trainer(lesson, lesson.recipe({"learning_rate": 10}))
    trainer.finish()
    assert trainer.diverged
    assert trainer.step_number < 100
    assert f"Diverged at step {trainer.step_number}" in trainer.advice.en
    assert "smaller learning rate" in trainer.advice.en


def test_weights_that_the_last_step_ruined_count_as_diverged() -> None:
    trainer = toy_of(steps=1)
    trainer.learners[0].optimizer.param_groups[0]["lr"] = float("inf")
    trainer.step()
    assert trainer.learners[0].losses[-1] < float("inf")
    assert trainer.diverged


def test_no_step_is_taken_after_the_last() -> None:
    trainer = toy()
    for _ in range(30):
        trainer.step()
    assert trainer.done
    with pytest.raises(RuntimeError, match="the run ended at step 30"):
        trainer.step()


def test_a_long_loss_curve_is_thinned_and_its_points_stay_put() -> None:
    trainer = toy_of(steps=2000)
    seen: set[float] = set()
    for _ in range(1300):
        trainer.step()
        if trainer.step_number in (1000, 1300):
            (_, panel) = trainer.snapshot().chart.panels
            curve = panel.marks[0]
            assert isinstance(curve, Line)
            assert len(curve.x) <= 401
            assert curve.x[-1] == trainer.step_number
            assert seen <= {*curve.x.tolist(), 1000.0}
            seen = set(curve.x[:-1].tolist())
