"""Batches: the data goes through the net in handfuls. Tutorial, 批数据训练."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from charts.blocks import Note, Table
from charts.chart import Array, Chart, Line, Panel, Points, as_array
from charts.text import Text
from lab import prose
from lab.diagnosis import Evaluation
from lab.lesson import Port, Scaling, Training, View
from lab.settings import Config, hidden_units, learning_rate, number, seed, switch
from lab.training import LOSS, TEST_LOSS, Learner, Trainer

SAMPLES = 100
LATEST = 5  # batches in the table
SHOWN = 6  # samples of a batch in the table
TURNS = 20  # of the power iteration: two digits are enough
SAFE = 0.5  # of the longest step: batches are noisy


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
        info=Text("Samples that each step learns from", "每一步用多少个样本"),
    )
    epochs: int = number(
        3,
        Text("Epochs", "epoch 数"),
        1,
        60,
        step=1,
        info=Text("How often all samples are gone through", "全部样本训练多少遍"),
    )
    shuffle: bool = switch(
        True, Text("Shuffle", "打乱"), info=Text("Deal the samples anew in each epoch", "每个 epoch 重新打乱样本")
    )
    drop_last: bool = switch(
        False, Text("Drop the last batch", "丢掉最后一批"), info=Text("Where it is smaller", "当它不满一批时")
    )
    scaled: bool = switch(
        False,
        Text("Scale the data", "缩放数据"),
        info=Text("x and y to mean 0, standard deviation 1", "让 x 和 y 的均值为 0、标准差为 1"),
    )
    hidden_units: int = hidden_units(10)
    seed: int = seed(1)


class BatchesTrainer(Trainer[BatchesConfig]):
    """Every step sees the next batch of a DataLoader."""

    def setup(self) -> None:
        self.x = torch.unsqueeze(torch.linspace(1, 10, SAMPLES), dim=1)  # (100, 1)
        self.y = torch.unsqueeze(torch.linspace(10, 1, SAMPLES), dim=1)
        if self.config.scaled:
            self.x_scaling = Scaling(self.x.mean().item(), self.x.std().item())  # for whoever uses the net elsewhere
            self.y_scaling = Scaling(self.y.mean().item(), self.y.std().item())
            self.x = (self.x - self.x.mean()) / self.x.std()
            self.y = (self.y - self.y.mean()) / self.y.std()
        self.loader = DataLoader(
            TensorDataset(self.x, self.y),
            batch_size=self.config.batch_size,
            shuffle=self.config.shuffle,
            drop_last=self.config.drop_last,
        )
        hidden = self.config.hidden_units
        net = nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        optimizer = torch.optim.SGD(net.parameters(), lr=self.config.learning_rate)
        self.learners = [Learner("net", net, {}, optimizer)]
        self.loss_func = nn.MSELoss()
        self.steps = self.config.epochs * len(self.loader)  # len of a loader: its batches in an epoch
        # Halfway between the samples, and not at random: so the run draws what the tutorial draws, and repeats it.
        self.test_x, self.test_y = (self.x[1:] + self.x[:-1]) / 2, (self.y[1:] + self.y[:-1]) / 2

        self.batches: Iterator[list[Tensor]] = iter(())
        self.drawn: list[list[Tensor]] = []  # the batches so far
        self.epoch_losses: list[float] = []  # over all samples, where an epoch begins
        self.curvature = curvature(net, self.loss_func, self.x, self.y)

    def batch(self) -> tuple[Tensor, Tensor]:
        """The next batch of the loader, which begins anew where an epoch has ended."""
        if self.step_number % len(self.loader) == 0:
            self.epoch_losses.append(self.loss_on_all())
            self.batches = iter(self.loader)  # shuffles
        x, y = next(self.batches)  # (batch_size, 1) each, or fewer samples in the last batch of an epoch
        self.drawn.append([x, y])
        return x, y

    def loss_on_all(self) -> float:
        """The loss over all samples, which no single batch tells."""
        with torch.no_grad():
            return self.loss_func(self.learners[0].net(self.x), self.y).item()

    def show(self, now: Sequence[Evaluation]) -> View:
        chart = Chart((self._fit(now[0].prediction), self._losses(now), self._deal()))
        return View(chart, self.figures(now), (self._step_length(), self._division(), self._latest()))

    @property
    def _epoch_began(self) -> int:
        """The step at which the epoch of the latest batch began."""
        return max(self.step_number - 1, 0) // len(self.loader) * len(self.loader)

    def _fit(self, prediction: Tensor) -> Panel:
        x, y = as_array(self.x[:, 0]), as_array(self.y[:, 0])
        batch_x, batch_y = self.drawn[-1] if self.drawn else (self.x[:0], self.y[:0])
        mean = as_array([y.mean()] * 2)
        marks = (
            Points(Text("data", "数据"), x, y),
            Points(Text("this batch", "这一批"), as_array(batch_x[:, 0]), as_array(batch_y[:, 0]), color=4, size=11),
            Line(Text("mean of y", "y 的均值"), x[[0, -1]], mean, color=6, dashed=True),
            Line(Text("prediction", "预测"), x, as_array(prediction[:, 0]), color=1),
        )
        return Panel(Text("Data and fit", "数据与拟合"), "x", "y", marks, x_range=_around(x), y_range=_around(y))

    def _losses(self, now: Sequence[Evaluation]) -> Panel:
        variance = self.y.var(correction=0).item()  # the loss of whoever always says the mean
        limits = (variance / 1e4, variance * 1e3)
        panel = self.loss_panel(Text("mean squared error", "均方误差"), now, y_range=limits, y_scale="log")
        (curve,) = panel.marks
        assert isinstance(curve, Line)
        ends = [*self.epoch_losses, now[0].loss] if self.done else self.epoch_losses
        at = as_array([epoch * len(self.loader) for epoch in range(len(ends))])
        marks = (
            replace(curve, name=Text("each batch", "每一批")),
            Points(Text("all samples, by epoch", "每个 epoch 的全部样本"), at, _finite(ends), color=3, marker="square"),
            Line(
                Text("variance of y", "y 的方差"),
                as_array([0, self.steps]),
                as_array([variance] * 2),
                color=6,
                dashed=True,
            ),
        )
        return replace(panel, marks=marks)

    def _deal(self) -> Panel:
        """Which samples are in which batch of this epoch."""
        batches = [x[:, 0] for x, _ in self.drawn[self._epoch_began :]]
        numbers = [torch.full_like(x, number) for number, x in enumerate(batches, 1)]
        empty = torch.empty(0)
        earlier = as_array(torch.cat([empty, *numbers[:-1]])), as_array(torch.cat([empty, *batches[:-1]]))
        latest = as_array(torch.cat([empty, *numbers[-1:]])), as_array(torch.cat([empty, *batches[-1:]]))
        return Panel(
            Text("Batches of this epoch", "本 epoch 的批次"),
            Text("batch", "批次"),
            "x",
            (
                Points(Text("earlier batches", "之前的批次"), *earlier),
                Points(Text("this batch", "这一批"), *latest, color=4),
            ),
            x_range=(0.5, len(self.loader) + 0.5),
            y_range=_around(as_array(self.x[:, 0])),
        )

    def _step_length(self) -> Note:
        """Whether the learning rate suits the curvature at the start."""
        longest = 2 / self.curvature
        rate = self.config.learning_rate
        measured = Text(
            "Where this run starts, the curvature of the loss is {curvature}: a learning rate above 2 / {curvature} ="
            " {longest} overshoots.",
            "在训练的起点，损失的曲率是 {curvature}：学习率超过 2 / {curvature} = {longest} 就会走过头。",
        )
        if rate > longest:
            told = Text(
                "{measured} The learning rate {rate} is **{times} times** that.",
                "{measured}现在的学习率 {rate} 是它的 **{times} 倍**。",
            )
        elif rate > SAFE * longest:
            told = Text(
                "{measured} The learning rate {rate} is close to it.", "{measured}现在的学习率 {rate} 已经接近它。"
            )
        else:
            told = Text(
                "{measured} The learning rate {rate} keeps well below.", "{measured}现在的学习率 {rate} 远低于它。"
            )
        numbers = {"curvature": f"{self.curvature:.3g}", "longest": f"{longest:.2g}"}
        text = told.format(measured=measured.format(**numbers), rate=f"{rate:g}", times=f"{rate / longest:.2g}")
        return Note(text, "warning" if rate > longest else "info")

    def _division(self) -> Note:
        """How the samples come out in batches."""
        size, count = self.config.batch_size, SAMPLES // self.config.batch_size
        whole = Text("An epoch has {count} batches of {size}", "每个 epoch 有 {count} 批，每批 {size} 个样本")
        rest = SAMPLES % size
        if not rest:
            end = Text(".", "。")
        elif self.config.drop_last:
            end = Text("; the {rest} samples left over are dropped.", "；剩下的 {rest} 个样本被丢掉。")
        else:
            end = Text(" and a last one of {rest}.", "，最后一批只有 {rest} 个。")
        return Note(
            Text("{whole}{end}", "{whole}{end}").format(
                whole=whole.format(count=count, size=size), end=end.format(rest=rest)
            )
        )

    def _latest(self) -> Table:
        rows = []
        for step in range(self.step_number, self.step_number - LATEST, -1):
            if step < 1:
                rows.append(("–", "–", "–", "–"))  # the table keeps its height
                continue
            epoch, place = divmod(step - 1, len(self.loader))
            x, y = (_listed(values[:, 0]) for values in self.drawn[step - 1])
            rows.append((str(epoch + 1), str(place + 1), x, y))
        head = (Text("epoch", "epoch"), Text("batch", "批次"), "x", "y")
        return Table(head, tuple(rows), Text("Latest batches", "最近的批次"))


def curvature(net: nn.Module, loss_func: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    """The curvature of the loss along its steepest direction: the largest eigenvalue of its Hessian."""
    weights = list(net.parameters())
    slopes = torch.autograd.grad(loss_func(net(x), y), weights, create_graph=True)
    gradient = torch.cat([slope.flatten() for slope in slopes])
    direction, length = torch.ones_like(gradient), 1.0
    for _ in range(TURNS):  # each turn multiplies by the Hessian, and so turns towards the steepest direction
        direction = direction / direction.norm()
        turned = torch.autograd.grad(gradient, weights, direction, retain_graph=True)
        direction = torch.cat([part.flatten() for part in turned])
        length = direction.norm().item()
    return length


def _around(values: Array) -> tuple[float, float]:
    """A range with a margin."""
    low, high = float(values.min()), float(values.max())
    margin = (high - low) / 10
    return low - margin, high + margin


def _finite(losses: list[float]) -> Array:
    values = as_array(losses)
    return as_array([value if abs(value) < float("inf") else float("nan") for value in values])


def _listed(values: Tensor) -> str:
    """The first of the values, and how many more there are."""
    shown = ", ".join(f"{value:.2f}" for value in values[:SHOWN].tolist())
    more = len(values) - SHOWN
    return f"{shown} … +{more}" if more > 0 else shown


LESSON = Training(
    key="batches",
    group="practice",
    prose=PROSE,
    config=BatchesConfig,
    ideas=IDEAS,
    sources=(BatchesTrainer.setup, BatchesTrainer.batch, BatchesTrainer.loss_on_all, curvature),
    trainer=BatchesTrainer,
    task="regression",
    inputs=Port(
        ("x",), Text("a number, scaled if the run scales the data", "一个数；如果训练时缩放了数据，就是缩放后的数")
    ),
    outputs=Port(
        ("y",), Text("a number, the prediction of y, scaled like the data", "一个数，对 y 的预测，与数据一样缩放")
    ),
    metrics={"loss": LOSS, "test loss": TEST_LOSS},
)
