"""How a net is doing, measured, and said in plain words: dead ReLUs, overfitting, a loss that stands still."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from charts.blocks import Note
from charts.text import Text, Words

STILL_OVER = 20  # steps, at least, that a loss must stand still to be told so
OVERFITTED_FROM = 2.0  # times the training loss

ALL_DEAD = Text(
    "{whose}**All {n} ReLUs are dead:** each gives 0 for every training sample, so no gradient comes through and the"
    " net can only predict one constant. Reset, and try a smaller learning rate or another seed.",
    "{whose}**{n} 个 ReLU 全部死亡**：对每个训练样本都输出 0，梯度传不回来，网络只能输出一个常数。"
    "请重置，减小学习率或换一个随机种子。",
)
SOME_DEAD = Text(
    "{whose}{dead} of {n} ReLUs are dead: they give 0 for every training sample and no longer learn.",
    "{whose}{n} 个 ReLU 中有 {dead} 个死亡：对每个训练样本都输出 0，不再学习。",
)
OVERFITTED = Text(
    "{whose}**Overfitting:** the loss on unseen samples is {times} times that on the training set. Try more points,"
    " fewer hidden units, fewer steps or dropout.",
    "{whose}**过拟合**：未见过的样本上的损失是训练集上的 {times} 倍。"
    "可以增加数据、减少隐藏单元、减少步数，或使用 dropout。",
)
STANDS_STILL = Text(
    "{whose}The loss has stood still for {steps} steps: more of them bring nothing. If the fit is poor, try another"
    " learning rate.",
    "{whose}损失已有 {steps} 步不再下降，继续训练也没有用。如果拟合得不好，请换一个学习率。",
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A net in eval mode: what it predicts for the training set, and its losses there and on unseen samples.

    `dead` of its `relus` give 0 for every sample of the training set.
    """

    prediction: Tensor
    loss: float
    test_loss: float
    relus: int
    dead: int


def evaluate(
    net: nn.Module,
    loss_func: Callable[[Tensor, Tensor], Tensor],
    training: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
) -> Evaluation:
    """Evaluate a net, which is in eval mode, on x and y of its training set and of unseen samples."""
    with _ReLUs() as relus:
        prediction = net(training[0])
    loss = loss_func(prediction, training[1]).item()
    test_loss = loss_func(net(test[0]), test[1]).item()
    return Evaluation(prediction, loss, test_loss, relus.units, relus.dead)


def diagnose(losses: Sequence[float], now: Evaluation, name: Words) -> Iterator[Note]:
    """What is wrong with a net that has begun to learn, and what to try. `name` tells it from others, if there are."""
    if not losses or not math.isfinite(now.loss):
        return
    whose = Text("**{name}:** ", "**{name}：**").format(name=name) if name else ""
    if now.dead == now.relus > 0:
        yield Note(ALL_DEAD.format(whose=whose, n=now.relus), "warning")
    elif now.dead:
        yield Note(SOME_DEAD.format(whose=whose, dead=now.dead, n=now.relus))
    # A gap that is small beside the first loss is no more than luck.
    if now.test_loss > OVERFITTED_FROM * now.loss and now.test_loss - now.loss > losses[0] / 100:
        times = f"{now.test_loss / now.loss:.1f}" if now.test_loss < 1000 * now.loss else "1000+"
        yield Note(OVERFITTED.format(whose=whose, times=times), "warning")
    still = still_for(losses)
    if still:
        yield Note(STANDS_STILL.format(whose=whose, steps=still))


def still_for(losses: Sequence[float]) -> int:
    """The steps for which the losses have not fallen, or 0: two spans of them with the same mean, but for noise."""
    span = max(STILL_OVER, len(losses) // 4)
    if len(losses) < 2 * span:
        return 0
    before, last = np.array(losses[-2 * span : -span]), np.array(losses[-span:])
    noise = 2 * last.std() / math.sqrt(span)
    fallen = before.mean() - last.mean()
    return 2 * span if fallen < max(0.005 * before.mean(), noise) else 0


class _ReLUs(TorchFunctionMode):
    """Counts, while it is on, the units that go through a ReLU and those that give 0 for every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.units = self.dead = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.relu:
            active = (result > 0).any(dim=0)
            self.units += active.numel()
            self.dead += int((~active).sum())
        return result
