"""Regression: a line bends itself into a parabola. Tutorial, 回归Regression."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charts.chart import Chart, Line, Panel, Points, as_array
from charts.text import Text
from lab.data import noisy_square
from lab.diagnosis import Evaluation
from lab.lesson import Idea, Port, Training, View
from lab.settings import NOISE, POINTS, Config, hidden_units, learning_rate, number, seed, steps
from lab.training import LOSS, TEST_LOSS, Learner, Trainer

SUMMARY = Text(
    """
**Bent lines add up to a parabola.** Each of the net's hidden units is a straight line that the function ReLU cuts off
at zero; the output layer adds them up. Training moves the bends, step by step, until the sum follows the points.
""",
    """
**许多折线相加，就成了抛物线**。网络的每个隐藏单元都是一条直线，被激励函数 ReLU 从零处截断；输出层再把它们加起来。
训练一步一步地移动这些折点，直到总和贴合数据点。
""",
)

TEXT = Text(
    """
### What you see

The loss is the mean squared vertical distance between line and points; each step moves every weight a little downhill.
The fit is made of straight pieces, at most one more than there are hidden units: look closely, or try 1 unit, then 3.
The test loss is measured on points of the same kind that the net does not learn from.

The seed of random numbers decides where the weights begin. With the tutorial's learning rate about one seed in four
ends with a flat line: the first leaps push the units' inputs below zero everywhere, ReLU gives 0, and no gradient
comes back to mend it. Learning rate 0.1 with 500 steps spares nearly all.

### Then and now

The old notes wrap tensors in `Variable` and read results by `prediction.data.numpy()`. `Variable` has done nothing
since torch 0.4: every tensor can record gradients. Calling `prediction.numpy()` on one that does raises
*RuntimeError: Can't call numpy() on Tensor that requires grad*; `.detach().numpy()`, or `torch.no_grad()` around the
evaluation as here, is the way today.
""",
    """
### 看什么

损失是曲线与数据点之间竖直距离的均方值；每一步都让所有权重往下坡方向移动一点。拟合出来的曲线由直线段组成，
段数最多比隐藏单元数多一：仔细看看，或者先试 1 个隐藏单元，再试 3 个。测试损失是在网络没有学过的同类数据点上量出来的。

随机种子决定权重从哪里出发。用教程的学习率，大约每四个种子就有一个以一条水平线告终：
最初几步跨得太大，隐藏单元的输入处处小于零，ReLU 输出 0，梯度再也传不回来。把学习率改为 0.1、步数改为 500，
几乎都能学会。

### 过去与现在

旧笔记用 `Variable` 包装张量，用 `prediction.data.numpy()` 读取结果。从 torch 0.4 起，`Variable` 就不再起作用：
任何张量都能记录梯度。对需要梯度的张量直接调用 `prediction.numpy()` 会报错
*RuntimeError: Can't call numpy() on Tensor that requires grad*。现在的写法是 `.detach().numpy()`，
或者像这里一样，把评估放在 `torch.no_grad()` 里。
""",
)

IDEAS = (
    Idea(
        Text("Kill the ReLUs", "让 ReLU 死亡"),
        Text(
            "Seed 1 is bad luck: at learning rate 0.5 all ten units die, and the line stays flat.",
            "种子 1 运气不好：学习率 0.5 时十个单元全部死亡，曲线变成一条水平线。",
        ),
        {"seed": 1},
    ),
    Idea(
        Text("Leap across the valley", "跨过山谷"),
        Text(
            "At learning rate 3 every step lands higher than the last, until the numbers overflow: the run diverges.",
            "学习率 3 时，每一步都落到更高处，直到数值溢出：训练发散。",
        ),
        {"learning_rate": 3.0},
    ),
    Idea(
        Text("Learn noise by heart", "把噪声背下来"),
        Text(
            "100 units for 10 points: the loss falls below the noise's variance, 1 / 12, and the test loss does not.",
            "100 个单元学 10 个点：训练损失降到噪声的方差 1 / 12 以下，测试损失却不降。",
        ),
        {"points": 10, "noise": 1.0, "hidden_units": 100, "learning_rate": 0.1, "steps": 2000},
    ),
)


@dataclass(frozen=True, kw_only=True)
class RegressionConfig(Config):
    """The tutorial's settings."""

    learning_rate: float = learning_rate(0.5)
    steps: int = steps(100)
    hidden_units: int = hidden_units(10)
    points: int = number(100, POINTS, 2, 1000, step=1, info=Text("Samples to learn from", "用来学习的样本"))
    noise: float = number(
        0.2,
        NOISE,
        0.0,
        1.0,
        step=0.01,
        info=Text("How far points lie above the parabola, at most", "数据点最多高出抛物线多少"),
    )
    seed: int = seed()


class Net(nn.Module):
    """One hidden layer: (N, n_features) -> (N, n_output)."""

    def __init__(self, n_features: int, n_hidden: int, n_output: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_features, n_hidden)
        self.predict = nn.Linear(n_hidden, n_output)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.hidden(x))  # (N, n_hidden)
        x = self.predict(x)  # (N, n_output), linear: a prediction may be any number
        return x


class RegressionTrainer(Trainer[RegressionConfig]):
    """Every step sees the whole training set."""

    def setup(self) -> None:
        self.x, self.y = noisy_square(self.config.points, self.config.noise)
        sizes = {"n_features": 1, "n_hidden": self.config.hidden_units, "n_output": 1}
        net = Net(**sizes)
        optimizer = torch.optim.SGD(net.parameters(), lr=self.config.learning_rate)
        self.learners = [Learner("net", net, sizes, optimizer)]
        self.loss_func = nn.MSELoss()
        self.steps = self.config.steps
        self.test_x, self.test_y = noisy_square(self.config.points, self.config.noise)

    def show(self, now: Sequence[Evaluation]) -> View:
        x = as_array(self.x[:, 0])
        fit = Panel(
            Text("Data and fit", "数据与拟合"),
            "x",
            "y",
            (
                Points(Text("data", "数据"), x, as_array(self.y[:, 0])),
                Line(Text("prediction", "预测"), x, as_array(now[0].prediction[:, 0]), color=1),
            ),
            x_range=(-1.05, 1.05),
            y_range=(-0.1, 1.1 + self.config.noise),
        )
        loss = self.loss_panel(Text("mean squared error", "均方误差"), now)
        return View(Chart((fit, loss)), self.figures(now))


LESSON = Training(
    key="regression",
    title=Text("Regression", "回归"),
    group="first",
    summary=SUMMARY,
    text=TEXT,
    config=RegressionConfig,
    ideas=IDEAS,
    sources=(Net, RegressionTrainer.setup),
    trainer=RegressionTrainer,
    task="regression",
    inputs=Port(("x",), Text("a number", "一个数")),
    outputs=Port(("y",), Text("a number, the prediction of y", "一个数，对 y 的预测")),
    metrics={"loss": LOSS, "test loss": TEST_LOSS},
)
