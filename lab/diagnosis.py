"""Diagnosis of training in plain words: dead ReLUs, overfitting, a loss that has plateaued."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from charts.blocks import Note
from charts.text import Text, Words, joined
from lab.evaluation import Evaluation

MIN_WINDOW = 20  # minimum steps in each of the two windows that `plateau_length` compares
OVERFIT_RATIO = 2.0  # minimum ratio of test loss to training loss

ALL_DEAD = Text(
    "**All ReLUs are dead, {which}:** they output 0 for every training sample, so no gradient flows through them and"
    " the net can only predict a constant. Reset and try a smaller learning rate or another seed.",
    "**ReLU 全部死亡（{which}）**：对每个训练样本都输出 0，梯度传不回来，网络只能输出一个常数。"
    "请重置，减小学习率或换一个随机种子。",
)
SOME_DEAD = Text(
    "Dead ReLUs: {which}. They output 0 for every training sample and no longer learn.",
    "有 ReLU 死亡：{which}。它们对每个训练样本都输出 0，不再学习。",
)
OVERFITTED = Text(
    "**Overfitting:** the test loss is far above the training loss ({which}). Try more points, fewer hidden units,"
    " fewer steps or dropout.",
    "**过拟合**：未见过的样本上的损失远高于训练集上的损失（{which}）。"
    "可以增加数据、减少隐藏单元、减少步数，或使用 dropout。",
)
TIMES = Text("{n} times", "{n} 倍")
PLATEAUED = Text(
    "The loss{which} has plateaued for {steps} steps; more will not help. If the fit is poor, try another"
    " learning rate.",
    "损失{which}已有 {steps} 步不再下降，继续训练也没有用。如果拟合得不好，请换一个学习率。",
)
AND = Text(", ", "、")
OF = Text("{dead} of {n}", "{n} 个中有 {dead} 个")


def diagnose(nets: Sequence[tuple[Words, Sequence[float], Evaluation]]) -> Iterator[Note]:
    """Yield notes on problems of nets that have started training, and what to try.

    Each net is a tuple of its label, its losses so far and its evaluation. There is one note per kind of problem, which
    names the affected nets if there are several nets.
    """
    nets = [(name, losses, now) for name, losses, now in nets if losses and math.isfinite(now.loss)]
    single = len(nets) == 1

    dead = [(name, OF.format(dead=now.dead, n=now.relus), now.dead == now.relus) for name, _, now in nets if now.dead]
    if all_dead := [(name, count) for name, count, every in dead if every]:
        yield Note(ALL_DEAD.format(which=_per_net(all_dead, single=single)), "warning")
    if some_dead := [(name, count) for name, count, every in dead if not every]:
        yield Note(SOME_DEAD.format(which=_per_net(some_dead, single=single)))
    # A gap that is small relative to the initial loss is noise.
    overfitted = [
        (name, TIMES.format(n=f"{now.test_loss / now.loss:.1f}" if now.test_loss < 1000 * now.loss else "1000+"))
        for name, losses, now in nets
        if now.test_loss > OVERFIT_RATIO * now.loss and now.test_loss - now.loss > losses[0] / 100
    ]
    if overfitted:
        yield Note(OVERFITTED.format(which=_per_net(overfitted, single=single)), "warning")
    plateaus = [(name, steps) for name, losses, _ in nets if (steps := plateau_length(losses))]
    if plateaus:
        names = joined([name for name, _ in plateaus], AND)
        which = "" if single else Text(" ({names})", "（{names}）").format(names=names)
        yield Note(PLATEAUED.format(which=which, steps=plateaus[0][1]))


def _per_net(found: Sequence[tuple[Words, Words]], *, single: bool) -> Words:
    """Finding for each net, with the net's name if there are several nets."""
    if single:
        return found[0][1]
    named = Text("{name} {what}", "{name}：{what}")
    return joined([named.format(what=what, name=name) for name, what in found], AND)


def plateau_length(losses: Sequence[float]) -> int:
    """Number of steps for which the loss has plateaued, or 0.

    Compares the means of the last two windows, allowing for noise.
    """
    window = max(MIN_WINDOW, len(losses) // 4)
    if len(losses) < 2 * window:
        return 0
    before, last = np.array(losses[-2 * window : -window]), np.array(losses[-window:])
    noise = 2 * last.std() / math.sqrt(window)
    decrease = before.mean() - last.mean()
    return 2 * window if decrease < max(0.005 * before.mean(), noise) else 0
