"""Batches: training on mini-batches from a DataLoader. Tutorial, 批数据训练."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from charts.blocks import Note, Table
from charts.chart import Array, Chart, Line, Panel, Points, as_array
from charts.text import Text
from lab import plots, prose
from lab.data import evenly
from lab.evaluation import Now
from lab.experiment import Experiment, Learner, Loss, Samples, Scaling
from lab.lesson import FeatureSpec, Training, View
from lab.models import mlp
from lab.settings import Config, hidden_units, learning_rate, number, seed, switch

SAMPLES = 100
TABLE_BATCHES = 5  # latest batches in the table
TABLE_SAMPLES = 6  # samples listed per batch
POWER_ITERATIONS = 20  # enough for two significant digits
SAFE_FRACTION = 0.5  # of the maximum learning rate, because the gradients of batches are noisy


PROSE = prose.read(__file__)

IDEAS: dict[str, dict[str, Any]] = {
    "scale_the_data_first": {"scaled": True, "learning_rate": 0.1},
    "small_steps": {"learning_rate": 0.003, "epochs": 20},
    "do_not_shuffle": {"scaled": True, "learning_rate": 0.1, "shuffle": False},
}


@dataclass(frozen=True, kw_only=True)
class BatchesConfig(Config):
    """The tutorial's settings."""

    learning_rate: float = learning_rate(0.5)
    batch_size: int = number(
        5,
        Text("Batch size", "批大小"),
        1,
        SAMPLES,
        step=1,
        info=Text("Number of samples per step", "每一步用多少个样本"),
    )
    epochs: int = number(
        3,
        Text("Epochs", "epoch 数"),
        1,
        60,
        step=1,
        info=Text("Number of passes over all samples", "全部样本训练多少遍"),
    )
    shuffle: bool = switch(
        True, Text("Shuffle", "打乱"), info=Text("Shuffle the samples again in each epoch", "每个 epoch 重新打乱样本")
    )
    drop_last: bool = switch(
        False,
        Text("Drop the last batch", "丢掉最后一批"),
        info=Text("If it is smaller than the others", "当它不满一批时"),
    )
    scaled: bool = switch(
        False,
        Text("Scale the data", "缩放数据"),
        info=Text("Scale x and y to mean 0 and standard deviation 1", "让 x 和 y 的均值为 0、标准差为 1"),
    )
    hidden_units: int = hidden_units(10)
    seed: int = seed(1)


@dataclass(eq=False)
class Epochs:
    """Batches that the loader has returned so far."""

    batches_each: int  # number of batches per epoch
    curvature: float  # of the loss at the initial weights
    dealt: list[Samples] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # over all samples, at the start of each epoch


def setup(config: BatchesConfig) -> Experiment:
    """Each step trains on the next batch of a DataLoader."""
    x, y = evenly(SAMPLES, 1, 10), evenly(SAMPLES, 10, 1)  # (100, 1) each
    x_scaling = y_scaling = None
    if config.scaled:
        x_scaling = Scaling(x.mean().item(), x.std().item())  # exported with the net
        y_scaling = Scaling(y.mean().item(), y.std().item())
        x = (x - x.mean()) / x.std()
        y = (y - y.mean()) / y.std()
    loader = DataLoader(
        TensorDataset(x, y),
        batch_size=config.batch_size,
        shuffle=config.shuffle,
        drop_last=config.drop_last,
    )
    net = mlp(1, config.hidden_units, 1)
    learner = Learner("net", net, torch.optim.SGD(net.parameters(), lr=config.learning_rate), nn.MSELoss())
    train = Samples(x, y)
    # Midpoints instead of random samples: the run draws the same random numbers as the tutorial.
    test = Samples((x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2)
    epochs = Epochs(len(loader), curvature(net, learner.loss_func, train))  # len(loader): number of batches per epoch
    return Experiment(
        [learner],
        train,
        test,
        steps=config.epochs * epochs.batches_each,
        batches=iterate_batches(loader, learner, train, epochs),
        x_scaling=x_scaling,
        y_scaling=y_scaling,
        extra=epochs,
    )


def iterate_batches(
    loader: DataLoader[tuple[Tensor, ...]], learner: Learner, train: Samples, epochs: Epochs
) -> Iterator[Samples]:
    """Yield the batches of successive epochs without end. The loader shuffles at the start of each epoch."""
    while True:
        epochs.losses.append(loss_on_all(learner, train))
        for x, y in loader:  # (batch_size, 1) each; the last batch of an epoch may be smaller
            epochs.dealt.append(Samples(x, y))
            yield epochs.dealt[-1]


def loss_on_all(learner: Learner, train: Samples) -> float:
    """Loss over all samples, for comparison with the losses of batches."""
    with torch.no_grad():
        return learner.loss_func(learner.net(train.x), train.y).item()


def show(experiment: Experiment, now: Now) -> View:
    """Plot the fit, the losses by batch and epoch, and the samples of each batch."""
    chart = Chart((_fit(experiment, now), _losses(experiment, now), _batches(experiment, now)))
    blocks = (
        _step_length(now.config.learning_rate, experiment.extra.curvature),
        _division(now.config),
        _latest(experiment.extra, now),
    )
    return View(chart, now.losses(experiment), blocks)


def _fit(experiment: Experiment, now: Now) -> Panel:
    x, y = plots.column(experiment.train.x), plots.column(experiment.train.y)
    dealt = experiment.extra.dealt
    batch = dealt[-1] if dealt else Samples(experiment.train.x[:0], experiment.train.y[:0])
    marks = (
        Points(plots.DATA, x, y),
        Points(Text("this batch", "这一批"), plots.column(batch.x), plots.column(batch.y), color=4, size=11),
        Line(Text("mean of y", "y 的均值"), x[[0, -1]], as_array([y.mean()] * 2), color=6, dashed=True),
        Line(plots.PREDICTION, x, plots.column(now.net.prediction), color=1),
    )
    return Panel(plots.DATA_AND_FIT, "x", "y", marks, x_range=_around(x), y_range=_around(y))


def _losses(experiment: Experiment, now: Now) -> Panel:
    epochs: Epochs = experiment.extra
    variance = experiment.train.y.var(correction=0).item()  # the loss of a constant prediction, the mean
    panel = plots.losses(experiment, now, y_range=(variance / 1e4, variance * 1e3), y_scale="log")
    curve, changes = panel.marks
    assert isinstance(curve, Line)
    ends = [*epochs.losses, now.net.loss] if now.done else epochs.losses
    at = as_array([epoch * epochs.batches_each for epoch in range(len(ends))])
    ends_shown = plots.finite(ends)
    whole_run = as_array([0, experiment.steps])
    marks = (
        replace(curve, name=Text("each batch", "每一批")),
        Points(Text("all samples, by epoch", "每个 epoch 的全部样本"), at, ends_shown, color=3, marker="square"),
        Line(Text("variance of y", "y 的方差"), whole_run, as_array([variance] * 2), color=6, dashed=True),
        changes,
    )
    return replace(panel, marks=marks)


def _batches(experiment: Experiment, now: Now) -> Panel:
    """Panel with the samples of each batch in the current epoch."""
    epochs: Epochs = experiment.extra
    began = max(now.step - 1, 0) // epochs.batches_each * epochs.batches_each  # index of the epoch's first batch
    batches = [x[:, 0] for x, _ in epochs.dealt[began:]]
    numbers = [torch.full_like(x, number) for number, x in enumerate(batches, 1)]
    empty = torch.empty(0)
    earlier = as_array(torch.cat([empty, *numbers[:-1]])), as_array(torch.cat([empty, *batches[:-1]]))
    latest = as_array(torch.cat([empty, *numbers[-1:]])), as_array(torch.cat([empty, *batches[-1:]]))
    marks = (
        Points(Text("earlier batches", "之前的批次"), *earlier),
        Points(Text("this batch", "这一批"), *latest, color=4),
    )
    return Panel(
        Text("Batches of this epoch", "本 epoch 的批次"),
        Text("batch", "批次"),
        "x",
        marks,
        x_range=(0.5, epochs.batches_each + 0.5),
        y_range=_around(plots.column(experiment.train.x)),
    )


def _step_length(rate: float, curvature: float) -> Note:
    """Note that compares the learning rate with the maximum 2 / curvature at the initial weights."""
    longest = 2 / curvature
    name = "overshoots" if rate > longest else "close" if rate > SAFE_FRACTION * longest else "well_below"
    text = PROSE.notes[name].format(
        curvature=f"{curvature:.3g}", longest=f"{longest:.2g}", rate=f"{rate:g}", times=f"{rate / longest:.2g}"
    )
    return Note(text, "warning" if name == "overshoots" else "info")


def _division(config: BatchesConfig) -> Note:
    """Note on how the samples divide into batches."""
    count, rest = divmod(SAMPLES, config.batch_size)
    name = "even" if not rest else "rest_dropped" if config.drop_last else "rest_kept"
    return Note(PROSE.notes[name].format(count=count, size=config.batch_size, rest=rest))


def _latest(epochs: Epochs, now: Now) -> Table:
    rows = []
    for step in range(now.step, now.step - TABLE_BATCHES, -1):
        if step < 1:
            rows.append(("–", "–", "–", "–"))  # keeps the height of the table constant
            continue
        epoch, place = divmod(step - 1, epochs.batches_each)
        x, y = (_listed(values[:, 0]) for values in epochs.dealt[step - 1])
        rows.append((str(epoch + 1), str(place + 1), x, y))
    head = (Text("epoch", "epoch"), Text("batch", "批次"), "x", "y")
    return Table(head, tuple(rows), Text("Latest batches", "最近的批次"))


def curvature(net: nn.Module, loss_func: Loss, samples: Samples) -> float:
    """Largest eigenvalue of the Hessian of the loss, by power iteration."""
    weights = list(net.parameters())
    slopes = torch.autograd.grad(loss_func(net(samples.x), samples.y), weights, create_graph=True)
    gradient = torch.cat([slope.flatten() for slope in slopes])
    direction, length = torch.ones_like(gradient), 1.0
    for _ in range(POWER_ITERATIONS):  # multiplying by the Hessian rotates towards its top eigenvector
        direction = direction / direction.norm()
        product = torch.autograd.grad(gradient, weights, direction, retain_graph=True)
        direction = torch.cat([part.flatten() for part in product])
        length = direction.norm().item()
    return length


def _around(values: Array) -> tuple[float, float]:
    """Axis limits with a margin of 10 % on both sides."""
    low, high = float(values.min()), float(values.max())
    margin = (high - low) / 10
    return low - margin, high + margin


def _listed(values: Tensor) -> str:
    """The first values, and the number of omitted ones."""
    shown = ", ".join(f"{value:.2f}" for value in values[:TABLE_SAMPLES].tolist())
    more = len(values) - TABLE_SAMPLES
    return f"{shown} … +{more}" if more > 0 else shown


LESSON = Training(
    key="batches",
    group="practice",
    prose=PROSE,
    config=BatchesConfig,
    ideas=IDEAS,
    sources=(setup, iterate_batches, loss_on_all, curvature, mlp),
    setup=setup,
    show=show,
    task="regression",
    inputs=FeatureSpec(
        ("x",), Text("a number, scaled if the run scales the data", "一个数；如果训练时缩放了数据，就是缩放后的数")
    ),
    outputs=FeatureSpec(
        ("y",), Text("a number, the prediction of y, scaled like the data", "一个数，对 y 的预测，与数据一样缩放")
    ),
    metrics={"loss": plots.LOSS, "test loss": plots.TEST_LOSS},
)
