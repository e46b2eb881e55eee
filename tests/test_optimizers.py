"""What the lesson on optimizers says, measured."""

import inspect
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from charts.blocks import Table
from charts.chart import Line
from charts.text import said
from lab.data import shuffled_batches
from lab.experiment import Samples
from lab.optim import make_optimizer
from lab.training import Trainer
from nets.optimizers import LESSON, RACERS, Net, OptimizersConfig

SEEDS = range(4)
ALL = list(RACERS)
TENTH, SEVEN, LUCK = (idea.settings for idea in LESSON.suggestions)


def begun(settings: Mapping[str, Any], seed: int = 1) -> Trainer:
    return Trainer(LESSON, LESSON.recipe({**settings, "seed": seed}))


def trained(settings: Mapping[str, Any], seed: int = 1) -> Trainer:
    trainer = begun(settings, seed)
    trainer.finish()
    return trainer


def losses(settings: Mapping[str, Any], seed: int = 1) -> dict[str, float]:
    """Each racer's final loss, the best first."""
    metrics = trained(settings, seed).snapshot().metrics
    made = {name: metrics[f"{name} loss"] for name in settings.get("optimizers", ALL[:4])}
    return dict(sorted(made.items(), key=lambda item: item[1]))


def firsts(trainer: Trainer) -> list[float]:
    trainer.step()
    return [learner.losses[0] for learner in trainer.learners]


def test_the_defaults_are_the_tutorials() -> None:
    made = OptimizersConfig()
    assert made.optimizers == ("sgd", "momentum", "rmsprop", "adam")
    assert (made.learning_rate, made.batch_size, made.epochs, made.hidden_units) == (0.01, 32, 12, 20)
    trainer = begun({})
    assert trainer.steps == 12 * 32
    groups = [learner.optimizer.param_groups[0] for learner in trainer.learners]
    assert [type(learner.optimizer).__name__ for learner in trainer.learners] == ["SGD", "SGD", "RMSprop", "Adam"]
    assert [group["lr"] for group in groups] == [0.01] * 4
    assert (groups[0]["momentum"], groups[1]["momentum"], groups[2]["alpha"], groups[3]["betas"]) == (
        *(0, 0.8, 0.9),
        (0.9, 0.99),
    )
    assert [learner.label for learner in trainer.learners] == ["SGD", "Momentum", "RMSprop", "Adam"]


def test_the_data_is_the_tutorials() -> None:
    trainer = begun({})
    torch.manual_seed(1)
    x = torch.unsqueeze(torch.linspace(-1, 1, 1000), dim=1)
    assert torch.equal(trainer.experiment.train.x, x)
    assert torch.equal(trainer.experiment.train.y, x.pow(2) + 0.1 * torch.normal(torch.zeros(x.size())))
    assert not torch.equal(trainer.experiment.train.y, trainer.experiment.test.y)
    assert trainer.experiment.train.y.var().item() == pytest.approx(4 / 45 + 0.01, rel=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fair_start_gives_all_the_same_first_loss(seed: int) -> None:
    assert len(set(firsts(begun({"optimizers": ALL}, seed)))) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_tutorials_own_starts_differ(seed: int) -> None:
    first = firsts(begun(LUCK, seed))
    assert len(set(first)) == 4
    assert max(first) > 1.3 * min(first)


def test_with_the_default_seed_luck_puts_some_far_ahead() -> None:
    first = firsts(begun(LUCK))
    assert max(first) > 5 * min(first)


@pytest.mark.parametrize("size", [10, 32, 999, 1000])
def test_batches_cover_each_sample_exactly_once_an_epoch(size: int) -> None:
    torch.manual_seed(0)
    x = torch.arange(1000.0).unsqueeze(1)
    batches = shuffled_batches(Samples(x, 2 * x), size)
    epochs: list[Tensor] = []
    for _ in range(2):
        epoch = [next(batches) for _ in range(-(-1000 // size))]
        assert all(torch.equal(y, 2 * x) for x, y in epoch)
        assert [len(x) for x, _ in epoch[:-1]] == [size] * (len(epoch) - 1)
        epochs.append(torch.cat([x for x, _ in epoch]))
    for each in epochs:
        assert torch.equal(each.sort(dim=0).values, x)
    assert not torch.equal(*epochs)


def test_a_racer_keeps_its_losses_and_its_color_whoever_else_takes_part() -> None:
    alone, among = trained({"optimizers": ["adam"], "epochs": 2}), trained({"optimizers": ALL, "epochs": 2})
    assert alone.learners[0].losses == among.learners[ALL.index("adam")].losses
    for trainer in (alone, among):
        for panel in trainer.snapshot().chart.panels:
            (line,) = (mark for mark in panel.marks if mark.name == "Adam")
            assert isinstance(line, Line)
            assert line.color == RACERS["adam"].color


def test_no_two_racers_are_drawn_alike() -> None:
    assert len({(racer.color, racer.dashed) for racer in RACERS.values()}) == len(RACERS)


def test_at_the_tutorials_learning_rate_sgd_is_last_and_adam_mostly_first() -> None:
    orders = [list(losses({}, seed)) for seed in SEEDS]
    assert {order[-1] for order in orders} == {"sgd"}
    assert sum(order[0] == "adam" for order in orders) >= len(orders) - 1


@pytest.mark.parametrize("seed", SEEDS)
def test_at_a_tenth_of_it_the_adaptive_two_are_ahead_and_sgd_is_last(seed: int) -> None:
    assert list(losses(TENTH, seed)) == ["rmsprop", "adam", "momentum", "sgd"]


def test_at_half_sgd_wins_over_the_adaptive_three_with_the_ideas_seed() -> None:
    final = losses(SEVEN, SEVEN["seed"])
    assert final["sgd"] < final["adagrad"] + 0.01
    assert final["sgd"] < 0.05 < min(final["rmsprop"], final["adam"], final["adamw"])


def test_at_half_adagrad_always_fits_and_rmsprop_never_and_adam_hardly_ever() -> None:
    racers = {**SEVEN, "optimizers": ["sgd", "rmsprop", "adam", "adagrad"]}
    finals = [losses(racers, seed) for seed in SEEDS]
    fits = {name: sum(final[name] < 0.05 for final in finals) for name in racers["optimizers"]}
    assert (fits["rmsprop"], fits["adagrad"]) == (0, len(finals))
    assert fits["adam"] <= 1
    assert fits["sgd"] > len(finals) / 2


def test_each_optimizer_keeps_as_many_numbers_a_weight_as_the_table_says() -> None:
    trainer = begun({"optimizers": ALL})
    trainer.step()
    for learner in trainer.learners:
        kept = [t for state in learner.optimizer.state.values() for t in state.values() if t is not None and t.dim()]
        weights = sum(parameter.numel() for parameter in learner.net.parameters())
        assert sum(t.numel() for t in kept) == RACERS[learner.name].kept * weights


def test_fused_updates_give_the_plain_ones_losses_but_for_rounding() -> None:
    fused, plain = begun({"optimizers": ALL, "epochs": 3}), begun({"optimizers": ALL, "epochs": 3})
    for learner in plain.learners:
        for group in learner.optimizer.param_groups:
            group["fused"] = None
    while not fused.done:
        fused.step()
        plain.step()
    for one, other in zip(fused.learners, plain.learners, strict=True):
        assert one.losses == pytest.approx(other.losses, abs=1e-5)


def test_of_the_seven_only_rmsprop_has_no_fused_update() -> None:
    plain = [name for name in ALL if not made(name).param_groups[0].get("fused")]
    assert plain == ["rmsprop"]
    assert "fused" not in inspect.signature(torch.optim.RMSprop).parameters


def made(name: str) -> torch.optim.Optimizer:
    return make_optimizer(name, Net(3).parameters(), learning_rate=0.01)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown optimizer 'sdg'"):
        made("sdg")


def test_adamw_all_but_covers_adam() -> None:
    adam, adamw = (learner.losses for learner in trained({"optimizers": ["adam", "adamw"]}).learners)
    assert adam == pytest.approx(adamw, abs=0.005)


def test_the_ranking_is_by_training_loss() -> None:
    table = trained({"epochs": 1}).snapshot().view.blocks[0]
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["1", "2", "3", "4"]
    shown = [float(said(row[2], "en")) for row in table.rows]
    assert shown == sorted(shown)


def test_scale_and_smoothing_change_only_the_look_of_a_run() -> None:
    config = OptimizersConfig()
    looked_at = OptimizersConfig(scale="log", smoothed=True)
    assert config.same_run(looked_at)
    trainer = trained({"epochs": 2})
    raw = trainer.snapshot().chart.panels[0]
    assert (raw.y_scale, raw.y_range) == ("linear", (0.0, 0.2))  # the tutorial's ylim
    trainer.config = looked_at
    smooth = trainer.snapshot().chart.panels[0]
    assert (smooth.y_scale, smooth.y_range) == ("log", (0.005, 1.0))
    one, other = raw.marks[0], smooth.marks[0]
    assert isinstance(one, Line)
    assert isinstance(other, Line)
    assert abs(other.y[1:] - other.y[:-1]).max() < abs(one.y[1:] - one.y[:-1]).max()


@pytest.mark.parametrize("racers", [["adam"], ALL])
def test_every_figure_has_its_words(racers: list[str]) -> None:
    assert set(begun({"optimizers": racers}).snapshot().metrics) <= set(LESSON.metrics)
