"""Classification: a boundary turns itself between two clouds. Tutorial, 分类."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charts.chart import Chart, Heatmap, Panel, Points, as_array
from charts.text import Text
from lab.data import two_blobs
from lab.diagnosis import Evaluation
from lab.lesson import Idea, Port, Training, View
from lab.settings import NOISE, Config, hidden_units, learning_rate, number, seed, steps
from lab.training import LOSS, TEST_LOSS, Learner, Trainer

TEST_POINTS = 500  # of each class: few would misjudge a net that is rarely wrong
GRID = 64  # squares along each side of the map of probabilities

SUMMARY = Text(
    """
**A net draws the border between two clouds.** It gives every point of the plane two scores, one for each class, and
the function softmax turns them into probabilities: the colors behind the points. Where they fade, the net is undecided.
""",
    """
**网络在两团点之间画出分界线**。它给平面上的每个点打两个分，一类一个；softmax 函数再把分数变成概率，
也就是点后面的颜色。颜色变淡的地方，网络拿不定主意。
""",
)

TEXT = Text(
    """
### What you see

Accuracy counts which of the two scores wins; the loss, cross entropy, asks how sure the net was of the right class.
So the loss falls on after the accuracy has reached 100 %: the net grows surer. One hidden unit can only draw a straight
border, and two clouds need no more.

### Then and now

`CrossEntropyLoss` takes scores, not probabilities, and labels as int64 class numbers, one number a sample and not
one-hot. The old notes cast them with `.type(torch.LongTensor)`; `.long()` says the same. Without it `torch.zeros(100)`
is float32, and the loss raises *RuntimeError: expected target dtype to be Long or Byte, but got Float*.
`torch.max(out, 1)[1]`, the place of the largest score, is `out.argmax(dim=1)` today.
""",
    """
### 看什么

准确率只看两个分数谁大；损失（交叉熵）还要看网络对正确的类别有多大把握。所以准确率到了 100 % 之后，损失仍在下降：
网络越来越有把握。只有一个隐藏单元时，分界线只能是直的，而分开两团点并不需要更多。

### 过去与现在

`CrossEntropyLoss` 要的是分数而不是概率，标签是 int64 的类别编号：每个样本一个数，不是 one-hot。
旧笔记用 `.type(torch.LongTensor)` 转换，`.long()` 是一样的意思。不转换的话 `torch.zeros(100)` 是 float32，
计算损失时会报错 *RuntimeError: expected target dtype to be Long or Byte, but got Float*。
`torch.max(out, 1)[1]` 取最大分数所在的下标，现在写成 `out.argmax(dim=1)`。
""",
)

IDEAS = (
    Idea(
        Text("Let the clouds overlap", "让两团点重叠"),
        Text(
            "Noise 3: no border is right for all points. Which does the net give up on, and is it wrong to?",
            "噪声 3：没有一条分界线能分对所有的点。网络放弃了哪些点？这样做错了吗？",
        ),
        {"noise": 3.0},
    ),
    Idea(
        Text("Hurry", "快一点"),
        Text(
            "Learning rate 1 is fifty times the tutorial's, and here it learns in a few steps: clouds so far apart"
            " forgive it.",
            "学习率 1 是教程的五十倍，在这里几步就学会了：两团点离得远，经得起大步子。",
        ),
        {"learning_rate": 1.0},
    ),
    Idea(
        Text("Too fast", "太快了"),
        Text(
            "Learning rate 5 on overlapping clouds: the scores grow past all bounds, and the run diverges.",
            "两团点重叠时用学习率 5：分数越来越大，训练发散。",
        ),
        {"learning_rate": 5.0, "noise": 3.0},
    ),
)


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig(Config):
    """The tutorial's settings."""

    learning_rate: float = learning_rate(0.02)
    steps: int = steps(100)
    hidden_units: int = hidden_units(10)
    points: int = number(
        100,
        Text("Points of each class", "每类点数"),
        2,
        500,
        step=1,
        info=Text("Samples to learn from", "用来学习的样本"),
    )
    noise: float = number(1.0, NOISE, 0.0, 4.0, step=0.05, info=Text("Standard deviation of a cloud", "一团点的标准差"))
    seed: int = seed()


class Net(nn.Module):
    """One hidden layer: (N, n_feature) -> (N, n_output) scores, one for each class."""

    def __init__(self, n_feature: int, n_hidden: int, n_output: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_feature, n_hidden)
        self.out = nn.Linear(n_hidden, n_output)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.hidden(x))  # (N, n_hidden)
        x = self.out(x)  # (N, n_output), scores: CrossEntropyLoss applies the softmax itself
        return x


class ClassificationTrainer(Trainer[ClassificationConfig]):
    """Every step sees the whole training set."""

    def setup(self) -> None:
        self.x, self.y = two_blobs(self.config.points, self.config.noise)
        sizes = {"n_feature": 2, "n_hidden": self.config.hidden_units, "n_output": 2}
        net = Net(**sizes)
        optimizer = torch.optim.SGD(net.parameters(), lr=self.config.learning_rate)
        self.learners = [Learner("net", net, sizes, optimizer)]
        self.loss_func = nn.CrossEntropyLoss()
        self.steps = self.config.steps
        self.test_x, self.test_y = two_blobs(TEST_POINTS, self.config.noise)

        reach = self.x.abs().max().item() * 1.05  # a square about the origin that holds every point
        self.extent = (-reach, reach)
        axis = torch.linspace(-reach, reach, GRID)
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        self.grid = torch.stack((columns.flatten(), rows.flatten()), dim=1)  # (GRID², 2)

    def show(self, now: Sequence[Evaluation]) -> View:
        accuracy = (now[0].prediction.argmax(dim=1) == self.y).double().mean().item()
        probability = F.softmax(self.learners[0].net(self.grid), dim=1)[:, 1].reshape(GRID, GRID)
        x, n = as_array(self.x), self.config.points
        extent = as_array(self.extent)
        plane = Panel(
            Text("Points and decision boundary", "数据点与分界线"),
            "x₁",
            "x₂",
            (
                Heatmap(Text("probability of class 1", "属于类别 1 的概率"), extent, extent, as_array(probability)),
                Points(Text("class 0", "类别 0"), x[:n, 0], x[:n, 1], color=0),
                Points(Text("class 1", "类别 1"), x[n:, 0], x[n:, 1], color=1, marker="triangle"),
            ),
            x_range=self.extent,
            y_range=self.extent,
        )
        loss = self.loss_panel(Text("cross entropy", "交叉熵"), now)
        return View(Chart((plane, loss)), {**self.figures(now), "accuracy": accuracy})


LESSON = Training(
    key="classification",
    title=Text("Classification", "分类"),
    group="first",
    summary=SUMMARY,
    text=TEXT,
    config=ClassificationConfig,
    ideas=IDEAS,
    sources=(Net, ClassificationTrainer.setup),
    trainer=ClassificationTrainer,
    task="classification",
    inputs=Port(("x₁", "x₂"), Text("numbers, a point of the plane", "两个数，平面上的一个点")),
    outputs=Port(
        ("class 0", "class 1"), Text("scores; softmax makes them probabilities", "得分；softmax 把得分变成概率")
    ),
    metrics={"loss": LOSS, "test loss": TEST_LOSS, "accuracy": Text("accuracy", "准确率")},
    classes=("class 0", "class 1"),
)
