"""What the lesson on dropout says, measured."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from charts import browser
from charts.blocks import Note, PythonSession
from charts.chart import Band, Line, Mark
from charts.text import said
from lab.evaluation import evaluating
from lab.lesson import View
from lab.training import Trainer
from nets.dropout import LESSON, PASSES, DropoutConfig, dropout_passes, dropping

SEEDS = range(5)


def begun(**settings: Any) -> Trainer:
    return Trainer(LESSON, LESSON.recipe(settings))


@cache
def trained(**settings: Any) -> Trainer:
    trainer = begun(**settings)
    trainer.finish()
    return trainer


def metric(name: str, **settings: Any) -> float:
    return trained(**settings).snapshot().metrics[name]


def looked_at(trainer: Trainer, mode: str) -> View:
    return trainer.snapshot(trainer.config.changed("mode", mode)).view


def mark(view: View, kind: type[Mark], name: str) -> Any:
    return next(each for each in view.chart.panels[0].marks if type(each) is kind and name in str(each.name))


def test_the_defaults_are_the_tutorials() -> None:
    config = DropoutConfig()
    assert (config.points, config.hidden_units, config.steps) == (20, 300, 500)
    assert (config.learning_rate, config.p, config.noise) == (0.01, 0.5, 0.3)


def test_the_nets_are_the_tutorials() -> None:
    overfitting, dropped = (str(learner.net) for learner in begun().learners)
    linear = [
        "Linear(in_features=1",
        "Linear(in_features=300, out_features=300",
        "Linear(in_features=300, out_features=1",
    ]
    assert all(each in net for each in linear for net in (overfitting, dropped))
    kinds = [[type(layer).__name__ for layer in learner.net.children()] for learner in begun().learners]
    assert kinds == [
        ["Linear", "ReLU", "Linear", "ReLU", "Linear"],
        ["Linear", "Dropout", "ReLU", "Linear", "Dropout", "ReLU", "Linear"],
    ]


def test_test_points_lie_at_the_same_x_with_noise_of_their_own() -> None:
    trainer = begun(points=100, steps=1)
    torch.testing.assert_close(trainer.experiment.train.x, torch.linspace(-1, 1, 100).unsqueeze(1))
    assert torch.equal(trainer.experiment.train.x, trainer.experiment.test.x)
    noise = torch.cat(
        (
            trainer.experiment.train.y - trainer.experiment.train.x,
            trainer.experiment.test.y - trainer.experiment.train.x,
        ),
        dim=1,
    )
    assert 0.25 < noise.std() < 0.35
    assert torch.corrcoef(noise.T)[0, 1].abs() < 0.3


def test_the_default_seed_shows_clearly_that_dropout_helps() -> None:
    assert metric("dropout test loss", seed=0) < 0.75 * metric("overfitting test loss", seed=0)
    assert metric("dropout gap", seed=0) < metric("overfitting gap", seed=0) / 2
    assert DropoutConfig().seed == 0


def test_over_seeds_dropout_has_the_lower_test_loss_on_average() -> None:
    losses = {net: [metric(f"{net} test loss", seed=seed) for seed in SEEDS] for net in ("overfitting", "dropout")}
    assert sum(losses["dropout"]) < 0.95 * sum(losses["overfitting"])


def test_over_seeds_the_fit_with_dropout_lies_nearer_to_the_line_behind_the_points() -> None:
    x = torch.linspace(-1, 1, 101).unsqueeze(1)
    distances = []
    for seed in SEEDS:
        nets = [learner.net for learner in trained(seed=seed).learners]
        with evaluating(*nets), torch.no_grad():
            distances.append([(net(x) - x).square().mean().item() for net in nets])
    without, using = torch.tensor(distances).mean(dim=0).tolist()
    assert using < 0.8 * without


@pytest.mark.parametrize("seed", SEEDS)
def test_with_dropout_the_gap_is_smaller(seed: int) -> None:
    assert metric("dropout gap", seed=seed) < metric("overfitting gap", seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_gap_is_the_test_loss_less_the_training_loss(seed: int) -> None:
    for net in ("overfitting", "dropout"):
        gap = metric(f"{net} test loss", seed=seed) - metric(f"{net} loss", seed=seed)
        assert metric(f"{net} gap", seed=seed) == pytest.approx(gap)


@pytest.mark.parametrize("seed", SEEDS)
def test_forget_eval_and_one_pass_is_worse_than_the_net(seed: int) -> None:
    trainer = trained(seed=seed)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        net = trainer.learners[1].net
        passes = dropout_passes(net, trainer.experiment.test.x, 200)  # (200, N)
        alone = (passes - trainer.experiment.test.y[:, 0]).square().mean().item()
        with evaluating(net):
            away = (passes.mean(dim=0) - net(trainer.experiment.test.x)[:, 0]).abs().mean()
    assert passes.std(dim=0).mean() > 0.1
    assert alone > 1.15 * metric("dropout test loss", seed=seed)
    assert away < 0.05  # only the mean of many comes near the answer of eval mode


def test_train_mode_shows_a_band_and_a_jagged_pass_and_eval_mode_none() -> None:
    trainer = trained(seed=0)
    evaluated, training = looked_at(trainer, "eval"), looked_at(trainer, "train")
    looked_at(trainer, "eval")
    assert browser.structure(evaluated.chart) == browser.structure(training.chart)
    assert len(mark(evaluated, Band, "passes").x) == len(mark(evaluated, Line, "one pass").x) == 0
    band, line, one = mark(training, Band, "passes"), mark(training, Line, "with dropout"), mark(training, Line, "one")
    assert ((band.low + band.high) / 2) == pytest.approx(line.y, abs=1e-5)
    assert (band.high - band.low).mean() > 0.2
    assert abs(one.y[1:] - one.y[:-1]).mean() > 1.3 * abs(line.y[1:] - line.y[:-1]).mean()
    assert evaluated.metrics == training.metrics  # figures are measured in eval mode either way


def test_the_mode_of_the_picture_is_not_a_new_run() -> None:
    assert DropoutConfig().same_run(DropoutConfig(mode="train"))
    assert not DropoutConfig().same_run(DropoutConfig(p=0.4))


def test_the_remark_tells_the_mode() -> None:
    trainer = begun(steps=1)
    for mode, kind in (("eval", "info"), ("train", "warning")):
        note = looked_at(trainer, mode).blocks[0]
        assert isinstance(note, Note)
        assert f"**{mode} mode**" in said(note.text, "en")
        assert note.kind == kind


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_look_changes_nothing_and_shows_the_same_twice(mode: str) -> None:
    looked, alone = begun(steps=5, mode=mode), begun(steps=5, mode=mode)
    while not alone.done:
        first, again = looked.snapshot().view, looked.snapshot().view
        assert browser.arrays(first.chart) == browser.arrays(again.chart)
        assert first.blocks == again.blocks
        assert all(module.training for learner in looked.learners for module in learner.net.modules())
        looked.step()
        alone.step()
    assert [learner.losses for learner in looked.learners] == [learner.losses for learner in alone.learners]


def test_dropping_turns_on_dropout_alone_and_back_even_after_an_error() -> None:
    net = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(1), nn.Dropout()).eval()
    net[0].train()
    with dropping(net):
        assert [module.training for module in net] == [True, False, True]
    with pytest.raises(ZeroDivisionError), dropping(net):
        _ = 1 / 0
    assert [module.training for module in net] == [True, False, False]


def test_each_pass_switches_off_other_units() -> None:
    passes = dropout_passes(begun(steps=1).learners[1].net, torch.ones(3, 1), PASSES)
    assert passes.shape == (PASSES, 3)
    assert len(passes.unique()) == 3 * PASSES


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_what_is_left_is_scaled_so_that_the_mean_stays(p: float) -> None:
    torch.manual_seed(0)
    dropped = nn.Dropout(p)(torch.ones(100_000))
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - p)])
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)


def test_dropout_before_or_after_the_relu_is_the_same() -> None:
    x, made = torch.randn(1000, generator=torch.Generator().manual_seed(0)), []
    for layers in (nn.Sequential(nn.Dropout(0.5), nn.ReLU()), nn.Sequential(nn.ReLU(), nn.Dropout(0.5))):
        torch.manual_seed(1)
        made.append(layers(x))
    assert torch.equal(*made)


def test_the_sessions_show_that_eval_fixes_the_answer_and_not_autograd() -> None:
    layer, net = trained(seed=0).snapshot().view.blocks[1:]
    assert isinstance(layer, PythonSession)
    assert isinstance(net, PythonSession)
    outputs = [output for _, output in net.lines if output]
    in_train, in_eval = (output.strip("()").split(", ") for output in outputs[:2])
    assert in_train[0] != in_train[1]
    assert in_eval[0] == in_eval[1]
    assert outputs[2:] == ["True", "False"]
    assert layer.lines[-1][1] == repr(torch.ones(8))
    assert set(layer.lines[1][1].removeprefix("tensor([").removesuffix("])").split(", ")) <= {"0.", "2."}


def settings_of(idea: int) -> dict[str, Any]:
    return dict(LESSON.suggestions[idea].settings)


def test_the_idea_to_forget_eval_looks_in_train_mode() -> None:
    assert settings_of(0) == {"mode": "train"}


def test_the_idea_to_drop_nearly_everything_underfits() -> None:
    settings = settings_of(1)
    assert metric("dropout loss", **settings) > 2 * 0.3**2
    assert metric("dropout test loss", **settings) > 1.5 * metric("overfitting test loss", **settings)


def test_the_idea_of_more_data_shrinks_the_gap() -> None:
    assert metric("overfitting gap", **settings_of(2)) < metric("overfitting gap", seed=0) / 2


def test_every_metric_has_a_name_for_people() -> None:
    assert list(begun(steps=1).snapshot().metrics) == list(LESSON.metrics)
