"""What the lesson on batch norm says, measured."""

import copy
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from charts import browser
from charts.blocks import Note, PythonSession, Table
from charts.chart import Band
from charts.text import said
from lab.lesson import View
from lab.training import Trainer
from lab.transcript import first_line
from nets import batchnorm
from nets.batchnorm import LESSON, BatchNormConfig, Net, activation_inputs, one_layer, stuck_share
from tests.sessions import replayed

SEEDS = range(5)
MODES = {True: "train", False: "eval"}


def begun(**settings: Any) -> Trainer:
    return Trainer(LESSON, LESSON.recipe(settings))


@cache
def trained(**settings: Any) -> Trainer:
    trainer = begun(**settings)
    trainer.finish()
    return trainer


def metric(name: str, **settings: Any) -> float:
    return trained(**settings).snapshot().metrics[name]


def inputs(trainer: Trainer, net: int) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return activation_inputs(trainer.learners[net].net, trainer.experiment.test.x, training=True).inputs


def predicted(trainer: Trainer, net: int, training: bool) -> Tensor:
    with torch.no_grad():
        return activation_inputs(trainer.learners[net].net, trainer.experiment.test.x, training).prediction


def deviation(values: Tensor) -> Tensor:
    return values.std(dim=0, correction=0)


def stuck(values: tuple[Tensor, ...], activation: str) -> list[float]:
    return [stuck_share(each, activation) for each in values[1:]]


def looked_at(trainer: Trainer, **view: Any) -> View:
    return trainer.snapshot(BatchNormConfig.parse({**trainer.config.to_dict(), **view})).view


def test_the_single_layer_has_the_tutorials_numbers() -> None:
    assert BatchNormConfig().values == (0, 1, 2, 3, 4)
    session = one_layer((0, 1, 2, 3, 4), 0.1, 0, True)[0]
    assert isinstance(session, PythonSession)
    old = nn.BatchNorm1d(1)(torch.unsqueeze(torch.arange(5).type("torch.FloatTensor"), 1))
    assert ("out", repr(old)) in session.lines


def test_the_nets_defaults_are_the_classic_ones() -> None:
    config = BatchNormConfig()
    assert (config.activation, config.learning_rate, config.batch_size, config.momentum) == ("tanh", 0.03, 64, 0.5)
    assert config.steps == 12 * len(begun().experiment.train.x.split(config.batch_size))  # 12 epochs


def test_the_data_is_a_noisy_parabola_from_minus_7_to_10() -> None:
    trainer = begun()
    assert (trainer.experiment.train.x.shape, trainer.experiment.test.x.shape) == ((2000, 1), (200, 1))
    assert (trainer.experiment.train.x.min().item(), trainer.experiment.train.x.max().item()) == (-7, 10)
    noise = trainer.experiment.train.y - (trainer.experiment.train.x.square() - 5)
    assert abs(noise.mean()) < 0.2
    assert 1.9 < noise.std() < 2.1


def test_no_batch_is_of_one_sample() -> None:
    rule = BatchNormConfig.controls()["batch_size"].schema()
    assert all(2000 % size != 1 for size in range(rule["minimum"], rule["maximum"] + 1))


def test_eight_layers_of_ten_units_begin_small_and_below_zero() -> None:
    for learner in begun().learners:
        linear = [module for module in learner.net.modules() if isinstance(module, nn.Linear)]
        assert [layer.out_features for layer in linear] == [10] * 8 + [1]
        assert all((layer.bias == -0.2).all() for layer in linear)
        weights = torch.cat([layer.weight.flatten() for layer in linear])
        assert 0.09 < weights.std() < 0.11


def test_the_order_is_linear_then_batch_norm_then_activation() -> None:
    net, order = Net("tanh", True, 0.5, 10, 2), []
    for module in net.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda module, given, made: order.append(type(module).__name__))
    net(torch.ones(3, 1))
    assert order == ["BatchNorm1d", *["Linear", "BatchNorm1d", "Tanh"] * 2, "Linear"]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("seed", range(8))
def test_with_batch_norm_every_layer_begins_with_mean_0_and_deviation_1(seed: int, activation: str) -> None:
    first, *rest = inputs(begun(seed=seed, activation=activation), 1)
    assert abs(first.mean()) < 1e-5
    assert abs(deviation(first) - 1) < 1e-4
    for values in rest:
        assert (values.mean(dim=0).abs() < 1e-3).all()
        assert 0.9 < deviation(values).mean() < 1.001  # a unit that hardly varies has less, as eps adds to its variance


@pytest.mark.parametrize("seed", SEEDS)
def test_after_training_mean_and_deviation_are_the_learned_bias_and_weight(seed: int) -> None:
    trainer = trained(seed=seed)
    net = trainer.learners[1].net
    norms: Any = [net.get_submodule("norm_input"), *net.get_submodule("norms").children()]
    for norm, values in zip(norms, inputs(trainer, 1), strict=True):
        torch.testing.assert_close(values.mean(dim=0), norm.bias.detach(), atol=1e-3, rtol=0)
        torch.testing.assert_close(deviation(values), norm.weight.detach().abs(), atol=1e-2, rtol=0)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("seed", range(8))
def test_without_batch_norm_the_signal_begins_fainter_layer_by_layer(seed: int, activation: str) -> None:
    spread = [deviation(values).mean().item() for values in inputs(begun(seed=seed, activation=activation), 0)]
    assert spread[0] > 4
    assert all(after <= before for before, after in pairwise(spread))
    assert spread[8] < 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_without_batch_norm_deep_tanhs_end_saturated_and_with_it_they_do_not(seed: int) -> None:
    trainer = trained(seed=seed)
    assert min(stuck(inputs(trainer, 0), "tanh")[5:]) > 0.8
    assert max(stuck(inputs(trainer, 1), "tanh")) < 0.45


@pytest.mark.parametrize("seed", range(8))
def test_without_batch_norm_relus_are_dead_from_layer_3_on_before_the_first_step(seed: int) -> None:
    trainer = begun(seed=seed, activation="relu")
    assert stuck(inputs(trainer, 0), "relu")[2:] == [1.0] * 6
    assert stuck(inputs(trainer, 1), "relu") == [0.0] * 8


@pytest.mark.parametrize("settings", [*({"seed": seed} for seed in SEEDS), {"seed": 2, "activation": "relu"}])
def test_with_batch_norm_the_loss_ends_far_below(settings: dict[str, Any]) -> None:
    assert metric("batch_norm loss", **settings) < metric("plain loss", **settings) / 3
    assert metric("batch_norm test loss", **settings) < metric("plain test loss", **settings) / 3


@pytest.mark.parametrize("settings", [*({"seed": seed} for seed in SEEDS), {"seed": 2, "activation": "relu"}])
def test_without_batch_norm_the_net_predicts_one_number_for_every_x(settings: dict[str, Any]) -> None:
    assert predicted(trained(**settings), 0, training=False).std() < 1e-3
    assert predicted(trained(**settings), 1, training=False).std() > 10


@pytest.mark.parametrize("training", [True, False])
def test_a_look_at_the_activations_is_the_nets_own_pass_and_changes_nothing(training: bool) -> None:
    trainer = trained(seed=0)
    for net in (learner.net for learner in trainer.learners):
        before = copy.deepcopy(net.state_dict())
        with torch.no_grad():
            look = activation_inputs(net, trainer.experiment.test.x, training)
            own = copy.deepcopy(net).train(training)(trainer.experiment.test.x)
        assert torch.equal(look.prediction, own)
        assert len(look.inputs) == 9
        assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
        assert all(module.training for module in net.modules())
        assert not any(module._forward_hooks for module in net.modules())


def test_a_run_looked_at_is_a_run_not_looked_at() -> None:
    looked, alone = begun(steps=5), begun(steps=5)
    while not alone.done:
        first, again = looked.snapshot().view, looked.snapshot().view
        assert browser.arrays(first.chart) == browser.arrays(again.chart)
        looked.step()
        alone.step()
    for one, other in zip(looked.learners, alone.learners, strict=True):
        assert one.losses == other.losses
        assert all(torch.equal(a, b) for a, b in zip(one.net.buffers(), other.net.buffers(), strict=True))


def test_the_mode_decides_which_statistics_are_shown() -> None:
    trainer = trained(seed=0)
    views = {mode: looked_at(trainer, mode=mode) for mode in ("eval", "train")}
    tables = [view.blocks[1] for view in views.values()]
    assert tables[0] != tables[1]
    assert views["eval"].metrics == views["train"].metrics
    for mode, view in views.items():
        remark = view.blocks[0]
        assert isinstance(remark, Note)
        assert f"**{mode} mode**" in said(remark.text, "en")


def test_what_is_looked_at_and_the_single_layer_are_no_new_run() -> None:
    view = BatchNormConfig(mode="eval", values=(1.5, 2), layer_momentum=0.3, passes=3)
    assert BatchNormConfig().same_run(view)
    assert not BatchNormConfig().same_run(BatchNormConfig(momentum=0.1))


def test_the_chart_keeps_its_structure() -> None:
    one = begun().snapshot().chart
    other = looked_at(trained(seed=0), mode="eval", passes=3).chart
    looked_at(trained(seed=0), mode="train")
    assert browser.structure(one) == browser.structure(other)


def test_a_ridge_stands_on_its_layers_number() -> None:
    for panel in begun().snapshot().chart.panels[2:]:
        assert len(panel.marks) == 9
        for layer, band in enumerate(panel.marks):
            assert isinstance(band, Band)
            assert set(band.low.tolist()) == {layer}
            assert band.high.min() >= layer
            assert band.high.max() == pytest.approx(layer + 0.9)


def test_a_run_that_diverges_can_be_looked_at() -> None:
    trainer = begun(steps=1)
    for learner in trainer.learners:
        nn.init.constant_(learner.net.get_parameter("predict.weight"), float("nan"))
        nn.init.constant_(learner.net.get_parameter("layers.3.weight"), float("nan"))
    trainer.step()
    assert trainer.diverged
    assert len(trainer.snapshot().chart.panels) == 4


@pytest.mark.parametrize("momentum", [0.1, 0.5])
def test_the_momentum_of_pytorch_is_the_weight_of_the_new_value(momentum: float) -> None:
    layer, batch = nn.BatchNorm1d(1, momentum=momentum), torch.tensor([[8.0], [12.0]])
    layer(batch)
    assert layer.get_buffer("running_mean").item() == pytest.approx(momentum * 10)
    assert layer.get_buffer("running_var").item() == pytest.approx(
        (1 - momentum) + momentum * 8
    )  # 8 = (4 + 4) / (2 - 1)


@pytest.mark.parametrize(("momentum", "batches"), [(0.5, 5), (0.1, 29), (1.0, 1), (0.01, 299)])
def test_the_remark_on_momentum_counts_the_batches_that_matter(momentum: float, batches: int) -> None:
    remark = begun(momentum=momentum, steps=1).snapshot().view.blocks[2]
    assert isinstance(remark, Note)
    assert f"the last {batches} batches" in said(remark.text, "en")
    layer = nn.BatchNorm1d(1, momentum=momentum)
    for _ in range(batches):
        layer(torch.tensor([[0.0], [2.0]]))
    assert 0.95 <= layer.get_buffer("running_mean").item() <= 1.0


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("passes", [0, 1, 7])
@pytest.mark.parametrize("values", [(0, 1, 2, 3, 4), (2.5, -3), (7, 7, 7)])
def test_the_session_gives_what_it_shows(values: tuple[float, ...], passes: int, training: bool) -> None:
    session = one_layer(values, 0.3, passes, training)[0]
    assert isinstance(session, PythonSession)
    names: dict[str, object] = {"torch": torch, "nn": nn, "batch_norm_by_hand": batchnorm.batch_norm_by_hand}
    assert replayed(session.lines, first_line, **names) == list(session.lines)
    (away,) = [shown for code, shown in session.lines if "batch_norm_by_hand" in code]
    assert float(away) < 1e-3
    assert "Expected more than 1 value per channel when training" in session.lines[-1][1]


@pytest.mark.parametrize("training", [True, False])
def test_the_formula_is_the_layer_whatever_it_has_learned(training: bool) -> None:
    torch.manual_seed(0)
    layer = nn.BatchNorm1d(3)
    for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
        nn.init.uniform_(tensor, 0.5, 2.0)  # type: ignore[arg-type]
    x = 5 * torch.randn(17, 3)
    layer.train(training)
    torch.testing.assert_close(batchnorm.batch_norm_by_hand(layer, x), layer(x))


def test_the_single_layers_statistics_are_shown() -> None:
    _, statistics, formula = one_layer((0, 1, 2, 3, 4), 0.1, 0, True)
    assert isinstance(statistics, Table)
    assert isinstance(formula, Table)
    assert [row[1:] for row in statistics.rows] == [("0", "1"), ("0.2", "1.15"), ("2", "2"), ("2", "2.5")]
    assert formula.head[2] == "/ sqrt(2 + 1e-05) = 1.4142"
    assert formula.rows[-1] == ("4", "2", "1.4142", "1.4142", "1.4142")


def test_a_new_layer_in_eval_mode_does_next_to_nothing() -> None:
    formula = one_layer((0, 1, 2, 3, 4), 0.1, 0, False)[2]
    assert isinstance(formula, Table)
    assert [float(str(row[-1])) for row in formula.rows] == pytest.approx([0, 1, 2, 3, 4], abs=1e-4)


def test_after_many_batches_eval_mode_differs_by_n_minus_1() -> None:
    statistics = one_layer((0, 1, 2, 3, 4), 0.5, 100, False)[1]
    assert isinstance(statistics, Table)
    assert statistics.rows[1][1:] == ("2", "2.5")


def test_whole_numbers_are_refused_as_the_text_says() -> None:
    with pytest.raises(NotImplementedError, match="\"batch_norm\" not implemented for 'Long'"):
        nn.BatchNorm1d(1)(torch.arange(5).unsqueeze(1))
    nn.BatchNorm1d(1)(torch.arange(5.0).unsqueeze(1))


def settings_of(idea: int) -> dict[str, Any]:
    return dict(LESSON.suggestions[idea].settings)


def test_the_idea_of_relu_kills_all_deep_units_but_few_with_batch_norm() -> None:
    assert settings_of(0) == {"activation": "relu"}
    trainer = trained(seed=2, **settings_of(0))
    assert stuck(inputs(trainer, 0), "relu")[2:] == [1.0] * 6
    assert sum(stuck(inputs(trainer, 1), "relu")) < 1.5  # of 8 layers' worth


def test_the_idea_of_slow_statistics_is_far_off_in_eval_mode_and_has_learned() -> None:
    trainer = trained(**settings_of(1))
    losses = {
        training: (predicted(trainer, 1, training) - trainer.experiment.test.y).square().mean() for training in MODES
    }
    assert losses[True] < 100
    assert losses[False] > 4 * losses[True]
    assert losses[False].item() == pytest.approx(trainer.snapshot().metrics["batch_norm test loss"], rel=1e-3)


def test_the_idea_of_small_batches_ends_far_worse_than_with_64() -> None:
    assert metric("batch_norm loss", **settings_of(2)) > 2 * metric("batch_norm loss", seed=2)


def test_every_metric_has_a_name_for_people() -> None:
    assert list(begun(steps=1).snapshot().metrics) == list(LESSON.metrics)
