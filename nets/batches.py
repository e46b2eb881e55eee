"""Batches: the data goes through the net in handfuls. Tutorial, 批数据训练."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from charts.blocks import Note, Table
from charts.chart import Array, Chart, Line, Panel, Points, as_array
from charts.text import Text
from lab.diagnosis import Evaluation
from lab.lesson import Idea, Port, Scaling, Training, View
from lab.settings import Config, hidden_units, learning_rate, number, seed, switch
from lab.training import LOSS, TEST_LOSS, Learner, Trainer

SAMPLES = 100
LATEST = 5  # batches in the table
SHOWN = 6  # samples of a batch in the table
TURNS = 20  # of the power iteration: two digits are enough
SAFE = 0.5  # of the longest step: batches are noisy

SUMMARY = Text(
    """
**A net need not see all the data before it takes a step.** A DataLoader shuffles the samples and hands them out in
batches, here five at a time; every batch is one step, and one pass through all of them is an epoch. With the
tutorial's settings the net learns nothing, and this lesson shows why.
""",
    """
**网络不必看完全部数据才走一步**。DataLoader 把样本打乱，一批一批地交出来，这里每批五个。每一批训练一步，
全部样本过一遍叫一个 epoch。用教程的设置，这个网络什么也学不到，这一课会告诉你为什么。
""",
)

TEXT = Text(
    """
### What you see

The third panel fills up with the batches of the epoch: every sample is in exactly one of them, and the next epoch
deals them anew. Orange marks the batch that made the latest step. The loss of a batch jumps about, because each batch
is another small sample of the data; the squares are the loss over all of it, at the start and after each epoch.

With the tutorial's settings the loss explodes in the first steps and every ReLU dies. What is left is the bias of the
output, a constant, and the best constant is the mean of y: its loss is the variance of y, 6.89 (gray). The net does
not even stay there. At learning rate 0.5 a step on the bias goes all the way to the mean of the batch, so the line
leaps from one batch's mean to the next. Over 20 seeds the last loss lies between 7 and 17.

**Why?** Inputs up to 10 make large gradients. How large the learning rate may be depends on the curvature of the loss:
how fast the gradient grows along the steepest direction. With a learning rate above 2 / curvature a step overshoots and
lands higher than it began. The remark below measures the curvature where the run starts. It lies between 70 and 300
over 20 seeds, so the limit is 0.007 to 0.03, and 0.5 is far beyond. Scale x and y to mean 0 and standard deviation 1,
and the curvature falls to between 3 and 10.

**The last batch** may be smaller: batches of 32 leave a rest of 4. Its loss is a mean over 4 samples, yet it makes a
step like any other batch, so each of the 4 counts eight times as much. `drop_last=True` leaves the rest out; as every
epoch shuffles anew, it is made of other samples each time.

### Then and now

The old notes ask for `num_workers=2`. The loader then starts two processes at the beginning of every epoch and ends
them after it: we measured 70 to 100 ms an epoch, and about 1 ms with `num_workers=0`, as here. Workers pay when
loading a sample is slow, such as decoding pictures; `persistent_workers=True` then keeps them from epoch to epoch.
Where processes are spawned, as on Windows and macOS, each worker imports the file again, so the loop must stand under
`if __name__ == "__main__":`. Without it comes *RuntimeError: An attempt has been made to start a new process before
the current process has finished its bootstrapping phase.*

`print(loss)` prints `tensor(7.4835, grad_fn=<MseLossBackward0>)`: the number and the graph it came from.
`loss.item()` is the number alone, and `torch.no_grad()` around the evaluation makes no graph.
""",
    """
### 看什么

第三幅图会被这个 epoch 的各个批次逐渐填满：每个样本恰好出现在一批里，下一个 epoch 再重新分配。
橙色标出的是刚刚训练过的那一批。每批的损失上下跳动，因为每批只是全部数据中的一小份；
方块是全部样本上的损失，开头一个，之后每个 epoch 结束时一个。

用教程的设置，损失在最初几步就爆炸，所有 ReLU 都死亡。剩下的只有输出层的偏置，也就是一个常数。
最好的常数是 y 的均值，它的损失就是 y 的方差 6.89（灰线）。可网络连这里也停不住：学习率 0.5 时，
偏置一步就走到这一批的均值，于是那条水平线在各批的均值之间跳来跳去。试了 20 个种子，最后的损失在 7 到 17 之间。

**为什么**：输入最大到 10，梯度就很大。一步最多能走多远，取决于损失的曲率，也就是梯度沿最陡的方向变化得有多快：
学习率超过 2 / 曲率，一步就会跨过谷底，损失反而更高。下面的提示给出训练起点的曲率。20 个种子的曲率在 70 到 300 之间，
所以学习率超过 0.007 到 0.03 就会走过头，0.5 更是远远超出。把 x 和 y 缩放到均值 0、标准差 1，曲率就降到 3 到 10。

**最后一批**可能小一些：每批 32 个时，最后剩下 4 个。它的损失只对 4 个样本求平均，却和别的批次一样走一步，
于是这 4 个样本每个的分量是其他样本的八倍。`drop_last=True` 会丢掉剩下的样本；
因为每个 epoch 都重新打乱，每次丢掉的样本并不相同。

### 过去与现在

旧笔记用 `num_workers=2`。这样每个 epoch 开始时，加载器都要启动两个子进程，结束时再关掉：
我们测得每个 epoch 要 70 到 100 毫秒，而像这里用 `num_workers=0` 只要 1 毫秒左右。只有读取样本很慢时（比如解码图片），
子进程才划算，这时可以用 `persistent_workers=True` 让它们一直留着。在用 spawn 方式启动进程的系统上
（如 Windows 和 macOS），每个子进程都会重新导入这个文件，所以训练循环必须写在
`if __name__ == "__main__":` 下面，否则报错
*RuntimeError: An attempt has been made to start a new process before the current process has finished its
bootstrapping phase.*

`print(loss)` 打印出 `tensor(7.4835, grad_fn=<MseLossBackward0>)`：除了数值，还带着计算图。
`loss.item()` 只取数值；把评估放在 `torch.no_grad()` 里，就不会建立计算图。
""",
)

IDEAS = (
    Idea(
        Text("Scale the data first", "先缩放数据"),
        Text(
            "Scaled data and learning rate 0.1: the same three epochs, and the net learns the line.",
            "缩放数据，学习率 0.1：同样三个 epoch，网络学会了这条直线。",
        ),
        {"scaled": True, "learning_rate": 0.1},
    ),
    Idea(
        Text("Small steps", "小步走"),
        Text(
            "The data as it is, but learning rate 0.003 and 20 epochs: it takes longer, but ReLUs survive and the net"
            " learns.",
            "数据不变，学习率 0.003，训练 20 个 epoch：慢一些，但 ReLU 没有全部死亡，网络学得会。",
        ),
        {"learning_rate": 0.003, "epochs": 20},
    ),
    Idea(
        Text("Do not shuffle", "不打乱"),
        Text(
            "Scaled data in order: each batch holds neighbors only, and the net follows whichever it saw last. The loss"
            " ends at several times that of the first idea.",
            "缩放后的数据按顺序取：每批都是相邻的点，网络总是迁就刚看到的那一批。最后的损失是第一个尝试的好几倍。",
        ),
        {"scaled": True, "learning_rate": 0.1, "shuffle": False},
    ),
)


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
    title=Text("Batches", "批数据训练"),
    group="practice",
    summary=SUMMARY,
    text=TEXT,
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
