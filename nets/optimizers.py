"""Optimizers: ways down the same hill, side by side. Tutorial, 优化器."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charts.blocks import Table
from charts.chart import Chart, Line, Panel, Points, as_array
from charts.text import Text, Words, joined
from lab.data import normal_square, shuffled_batches
from lab.diagnosis import Evaluation
from lab.lesson import Idea, Port, Training, View
from lab.settings import Config, choice, choices, hidden_units, learning_rate, number, seed, switch
from lab.training import LOSS, TEST_LOSS, Learner, Trainer

POINTS, NOISE = 1000, 0.1
THINNED = 9  # every ninth of 1000 points draws a fit as well, from the first to the last
DATA = 6  # gray, so that every racer has a color of its own
RANGES = {"linear": (0.0, 0.2), "log": (0.005, 1.0)}  # of the loss


@dataclass(frozen=True)
class Racer:
    """How an optimizer is called and drawn, and how many numbers it keeps for each weight."""

    label: str
    kept: int
    color: int
    dashed: bool = False


RACERS = {
    "sgd": Racer("SGD", 0, 0),
    "momentum": Racer("Momentum", 1, 1),
    "rmsprop": Racer("RMSprop", 1, 2),
    "adam": Racer("Adam", 2, 3),
    "nesterov": Racer("Nesterov", 1, 4),
    "adagrad": Racer("Adagrad", 1, 5),
    "adamw": Racer("AdamW", 2, 0, dashed=True),
}
LABELS = {name: racer.label for name, racer in RACERS.items()}

SUMMARY = Text(
    """
**Four optimizers, one task, one chart.** The nets begin with the same weights and see the same batches; all that
differs is what an optimizer makes of the gradient. Who is down first depends on the learning rate more than on the
name.
""",
    """
**四个优化器，同一个任务，同一张图**。各个网络的初始权重相同，看到的批次也相同；不同的只是优化器怎样使用梯度。
谁先到谷底，与其说看名字，不如说看学习率。
""",
)

TEXT = Text(
    """
### What you see

Each curve is the loss on the batch of that step, before the step was taken. The dashed gray line is the variance of
the noise, 0.01: on unseen points no net can do better, but for luck.

- **SGD** goes against the gradient: `w -= lr * g`. It keeps nothing.
- **Momentum** keeps a running sum of the gradients, each older one weighing 0.8 times as much: `v = 0.8 * v + g`, then
  `w -= lr * v`. Where the gradients agree, the steps grow up to 1 / (1 - 0.8) = 5 times as long.
- **RMSprop** keeps a running mean of the squared gradient and divides by its root, so that a weight whose gradients
  are small moves about as fast as any other.
- **Adam** does both, and so keeps two numbers for each weight.

At learning rate 0.01 SGD is last after 12 epochs in 20 seeds of 20, and Adam first in 18. This says little about the
names: an SGD step shrinks with the gradient, while RMSprop and Adam move each weight by about the learning rate,
whatever the gradient. So the same number means different things. To compare in earnest, give each its own best
learning rate.

**Three more can join.** Nesterov is Momentum that looks ahead. Adagrad sums up all squared gradients and so takes
ever shorter steps. AdamW is Adam that also shrinks the weights a little in each step; its curve all but covers Adam's.

### Then and now

In the old notes each net draws weights of its own, so that a part of the race is luck: switch off *Same start* to see
it. And their `DataLoader` has two workers for data that is already in memory: starting them anew in each of 12 epochs
took longer than all the training. Here an epoch is a shuffled tensor cut into slices, and the same slices go to every
net.

`fused=True` is today's torch: the whole update in one call, with the same losses but for rounding. Only RMSprop has no
such version. `torch.normal(torch.zeros(x.size()))` is `torch.randn(x.size())`, and `loss.data.numpy()` is
`loss.item()`.
""",
    """
### 看什么

每条曲线是各步所用那一批的损失，在更新权重之前计算。灰色虚线是噪声的方差 0.01：
在没有见过的点上，除非碰巧，没有网络能比它更低。

- **SGD** 沿梯度的反方向走：`w -= lr * g`，什么也不记。
- **Momentum** 记住梯度的累加值，每过一步旧梯度的分量乘以 0.8：`v = 0.8 * v + g`，然后 `w -= lr * v`。
如果各步梯度方向一致，步子最多会变为 1 / (1 - 0.8) = 5 倍。
- **RMSprop** 记住梯度平方的滑动平均，再除以它的平方根：梯度小的权重，走得和别的权重差不多快。
- **Adam** 两样都做，所以每个权重要记两个数。

学习率 0.01、训练 12 个 epoch，试 20 个种子，SGD 次次最后，Adam 有 18 次第一。但这不能说明名字的好坏：
SGD 的步子随梯度变小，而 RMSprop 和 Adam 不管梯度多大，每个权重每步都移动大约一个学习率的距离。
同一个学习率对它们的意义并不相同；要认真比较，就得给每个优化器选它自己最好的学习率。

**还有三个可以参加**。Nesterov 是会往前看一步的 Momentum。Adagrad 把所有梯度的平方累加起来，于是步子越走越短。
AdamW 是每一步还让权重缩小一点的 Adam，它的曲线几乎盖住 Adam 的曲线。

### 过去与现在

旧笔记里每个网络各自随机初始化，比赛有一部分靠运气：关掉“相同起点”就能看到。它的 `DataLoader` 还为已经在内存里的数据
开了两个子进程，12 个 epoch 每次都要重新启动，花的时间比全部训练还长。这里每个 epoch 把打乱的张量切成片，
同样的片交给每个网络。

`fused=True` 是今天 torch 的写法：一次调用完成整个更新，除舍入误差外损失相同；只有 RMSprop 没有这种版本。
`torch.normal(torch.zeros(x.size()))` 就是 `torch.randn(x.size())`，`loss.data.numpy()` 现在写成 `loss.item()`。
""",
)

IDEAS = (
    Idea(
        Text("A tenth of the learning rate", "学习率减到十分之一"),
        Text(
            "At 0.001 RMSprop and Adam still come far down, for their steps do not shrink with the gradient. Momentum"
            " lags behind them, and SGD behind Momentum.",
            "学习率 0.001 时，RMSprop 和 Adam 的步子不随梯度变小，仍能往下走很远；"
            "Momentum 落在后面，SGD 还在 Momentum 后面。",
        ),
        {"learning_rate": 0.001},
    ),
    Idea(
        Text("All seven at 0.5", "七个一起，学习率 0.5"),
        Text(
            "Now SGD wins over RMSprop, Adam and AdamW, which leap about and cannot settle. Adagrad, whose steps grow"
            " shorter, always does: of 20 seeds it fits the curve in 20, SGD in 16, Adam in 1, RMSprop in none.",
            "现在 SGD 胜过了 RMSprop、Adam 和 AdamW：它们来回乱跳，停不下来。步子越走越短的 Adagrad 总能停稳："
            "试 20 个种子，它 20 次都拟合得好，SGD 16 次，Adam 1 次，RMSprop 一次也没有。",
        ),
        {"learning_rate": 0.5, "optimizers": list(RACERS), "seed": 4},
    ),
    Idea(
        Text("Luck at the start", "起点靠运气"),
        Text(
            "The tutorial's own race: four nets with weights of their own. Some begin far ahead, and no optimizer has"
            " done anything yet.",
            "教程原来的比赛：四个网络各有各的初始权重。优化器还什么都没做，就已经有先有后。",
        ),
        {"same_start": False},
    ),
)


@dataclass(frozen=True, kw_only=True)
class OptimizersConfig(Config):
    """The tutorial's settings, but for the same start."""

    optimizers: tuple[str, ...] = choices(
        ("sgd", "momentum", "rmsprop", "adam"),
        Text("Optimizers", "优化器"),
        LABELS,
        info=Text("Who takes part", "谁来参加"),
        least=1,
    )
    learning_rate: float = learning_rate(0.01)
    momentum: float = number(
        0.8,
        Text("Momentum", "动量"),
        0.05,
        0.99,
        step=0.01,
        info=Text("What is left of the last step, for Momentum and Nesterov", "上一步保留多少：Momentum 和 Nesterov"),
    )
    alpha: float = number(
        0.9,
        Text("Alpha", "alpha"),
        0.0,
        0.99,
        step=0.01,
        info=Text("What is left of the mean square, for RMSprop", "平方的均值保留多少：RMSprop"),
    )
    beta1: float = number(
        0.9,
        Text("Beta 1", "beta 1"),
        0.0,
        0.99,
        step=0.01,
        info=Text("What is left of the mean, for Adam and AdamW", "均值保留多少：Adam 和 AdamW"),
    )
    beta2: float = number(
        0.99,
        Text("Beta 2", "beta 2"),
        0.0,
        0.999,
        step=0.001,
        info=Text("What is left of the mean square, for Adam and AdamW", "平方的均值保留多少：Adam 和 AdamW"),
    )
    batch_size: int = number(
        32,
        Text("Batch size", "批大小"),
        10,
        POINTS,
        step=1,
        info=Text("Samples that each step learns from", "每一步用多少个样本"),
    )
    epochs: int = number(
        12,
        Text("Epochs", "epoch 数"),
        1,
        40,
        step=1,
        info=Text("How often all samples are gone through", "全部样本训练多少遍"),
    )
    hidden_units: int = hidden_units(20)
    same_start: bool = switch(
        True,
        Text("Same start", "相同起点"),
        info=Text("All nets begin with the same weights", "所有网络的初始权重相同"),
    )
    scale: str = choice(
        "linear",
        Text("Loss axis", "损失坐标轴"),
        {"linear": Text("linear", "线性"), "log": Text("logarithmic", "对数")},
        info=Text("How the loss is drawn", "怎样画损失"),
        view=True,
    )
    smoothed: bool = switch(
        False, Text("Smoothed", "平滑"), info=Text("Mean of the last 20 losses", "最近 20 个损失的平均值"), view=True
    )
    seed: int = seed(1)


class Net(nn.Module):
    """One hidden layer: (N, 1) -> (N, 1)."""

    def __init__(self, n_hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(1, n_hidden)
        self.predict = nn.Linear(n_hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.hidden(x))  # (N, n_hidden)
        x = self.predict(x)  # (N, 1)
        return x


def make_optimizer(name: str, weights: Iterable[nn.Parameter], config: OptimizersConfig) -> torch.optim.Optimizer:
    """The optimizer of that name. `fused` makes the whole update in one call; RMSprop has no such version."""
    lr, momentum, betas = config.learning_rate, config.momentum, (config.beta1, config.beta2)
    match name:
        case "sgd":
            return torch.optim.SGD(weights, lr=lr, fused=True)
        case "momentum":
            return torch.optim.SGD(weights, lr=lr, momentum=momentum, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(weights, lr=lr, alpha=config.alpha)
        case "adam":
            return torch.optim.Adam(weights, lr=lr, betas=betas, fused=True)
        case "nesterov":
            return torch.optim.SGD(weights, lr=lr, momentum=momentum, nesterov=True, fused=True)
        case "adagrad":
            return torch.optim.Adagrad(weights, lr=lr, fused=True)
        case "adamw":
            return torch.optim.AdamW(weights, lr=lr, betas=betas, fused=True)
        case _:
            raise ValueError(f"no optimizer is called {name!r}")


class OptimizersTrainer(Trainer[OptimizersConfig]):
    """Every step gives the same batch to every net."""

    def setup(self) -> None:
        self.x, self.y = normal_square(POINTS, NOISE)
        size = {"n_hidden": self.config.hidden_units}
        names = self.config.optimizers
        if self.config.same_start:  # a fair race, and the same one whoever else takes part
            start = Net(**size)
            nets = [deepcopy(start) for _ in names]
        else:  # the tutorial's
            nets = [Net(**size) for _ in names]
        self.learners = [
            Learner(name, net, size, make_optimizer(name, net.parameters(), self.config), RACERS[name].label)
            for name, net in zip(names, nets, strict=True)
        ]
        self.loss_func = nn.MSELoss()
        self.batches = shuffled_batches(self.x, self.y, self.config.batch_size)
        self.steps = self.config.epochs * -(-POINTS // self.config.batch_size)  # rounded up: the rest is a batch too
        self.test_x, self.test_y = normal_square(POINTS, NOISE)

    def batch(self) -> tuple[Tensor, Tensor]:
        """The next slice of the shuffled data."""
        return next(self.batches)

    def show(self, now: Sequence[Evaluation]) -> View:
        return View(Chart((self._race(now), self._fits(now))), self.figures(now), (self._ranking(now),))

    def _race(self, now: Sequence[Evaluation]) -> Panel:
        log, smoothed = self.config.scale == "log", self.config.smoothed
        panel = self.loss_panel(
            Text("mean squared error", "均方误差"),
            now,
            y_range=RANGES[self.config.scale],
            y_scale="log" if log else "linear",
            smoothed=smoothed,
        )
        curves = []
        for learner, curve in zip(self.learners, panel.marks, strict=True):
            assert isinstance(curve, Line)
            curves.append(self._drawn_as(learner, curve))
        noise = Line(
            Text("noise", "噪声"),
            as_array([0, self.steps]),
            as_array([NOISE**2] * 2),
            color=DATA,
            dashed=True,
        )
        return replace(panel, title=Text("Race", "比赛"), marks=(*curves, noise))

    def _fits(self, now: Sequence[Evaluation]) -> Panel:
        x = as_array(self.x[:, 0])
        fits = [
            self._drawn_as(learner, Line("", x[::THINNED], as_array(each.prediction[::THINNED, 0])))
            for learner, each in zip(self.learners, now, strict=True)
        ]
        return Panel(
            Text("Data and fits", "数据与拟合"),
            "x",
            "y",
            (Points(Text("data", "数据"), x, as_array(self.y[:, 0]), color=DATA, size=3), *fits),
            x_range=(-1.05, 1.05),
            y_range=(-0.4, 1.4),
        )

    @staticmethod
    def _drawn_as(learner: Learner, line: Line) -> Line:
        """The line in the learner's own color, whoever else takes part."""
        racer = RACERS[learner.name]
        return replace(line, name=racer.label, color=racer.color, dashed=racer.dashed)

    def _ranking(self, now: Sequence[Evaluation]) -> Table:
        order = sorted(zip(self.learners, now, strict=True), key=lambda pair: pair[1].loss)
        rows = tuple(
            (
                str(place),
                str(RACERS[each.name].label),
                f"{e.loss:.4f}",
                f"{e.test_loss:.4f}",
                str(RACERS[each.name].kept),
            )
            for place, (each, e) in enumerate(order, 1)
        )
        head = (
            Text("place", "名次"),
            Text("optimizer", "优化器"),
            LOSS,
            TEST_LOSS,
            Text("numbers kept for each weight", "每个权重要记几个数"),
        )
        return Table(head, rows, Text("Ranking", "排名"))


def _metrics() -> dict[str, Words]:
    """What `figures` may name, of one racer alone and of several."""
    kinds = {"loss": LOSS, "test loss": TEST_LOSS}
    several: dict[str, Words] = {
        f"{name} {kind}": joined([RACERS[name].label, said], " ")
        for name, (kind, said) in product(RACERS, kinds.items())
    }
    return {**kinds, **several}


LESSON = Training(
    key="optimizers",
    title=Text("Optimizers", "优化器"),
    group="better",
    summary=SUMMARY,
    text=TEXT,
    config=OptimizersConfig,
    ideas=IDEAS,
    sources=(Net, make_optimizer, OptimizersTrainer.setup, OptimizersTrainer.batch, shuffled_batches),
    trainer=OptimizersTrainer,
    task="regression",
    inputs=Port(("x",), Text("a number", "一个数")),
    outputs=Port(("y",), Text("a number, the prediction of y", "一个数，对 y 的预测")),
    metrics=_metrics(),
    headline=("loss", "test loss", *(f"{name} loss" for name in RACERS)),
    pace=5,
)
