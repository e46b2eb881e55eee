"""How nets do, in plain words: dead ReLUs, overfitting, a loss that has plateaued."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from charts.blocks import Note
from charts.text import Text, Words, joined
from lab.evaluation import Evaluation

STILL_OVER = 20  # steps, at least, that a loss must stand still to be told so
OVERFITTED_FROM = 2.0  # times the training loss

ALL_DEAD = Text(
    "**All ReLUs are dead, {which}:** they give 0 for every training sample, so no gradient comes through and the net"
    " can only predict one constant. Reset, and try a smaller learning rate or another seed.",
    "**ReLU 全部死亡（{which}）**：对每个训练样本都输出 0，梯度传不回来，网络只能输出一个常数。"
    "请重置，减小学习率或换一个随机种子。",
)
SOME_DEAD = Text(
    "Dead ReLUs: {which}. They give 0 for every training sample and no longer learn.",
    "有 ReLU 死亡：{which}。它们对每个训练样本都输出 0，不再学习。",
)
OVERFITTED = Text(
    "**Overfitting:** the loss on unseen samples is far above that on the training set, {which}. Try more points,"
    " fewer hidden units, fewer steps or dropout.",
    "**过拟合**：未见过的样本上的损失远高于训练集上的损失（{which}）。"
    "可以增加数据、减少隐藏单元、减少步数，或使用 dropout。",
)
TIMES = Text("{n} times", "{n} 倍")
STANDS_STILL = Text(
    "The loss{which} has stood still for {steps} steps: more of them bring nothing. If the fit is poor, try another"
    " learning rate.",
    "损失{which}已有 {steps} 步不再下降，继续训练也没有用。如果拟合得不好，请换一个学习率。",
)
AND = Text(", ", "、")
OF = Text("{dead} of {n}", "{n} 个中有 {dead} 个")


def diagnose(nets: Sequence[tuple[Words, Sequence[float], Evaluation]]) -> Iterator[Note]:
    """What is wrong with nets that have begun to learn, and what to try. Each has a name, its losses and how it is.

    One note for each kind of trouble, which names the nets that have it if there are several.
    """
    nets = [(name, losses, now) for name, losses, now in nets if losses and math.isfinite(now.loss)]
    alone = len(nets) == 1

    dead = [(name, OF.format(dead=now.dead, n=now.relus), now.dead == now.relus) for name, _, now in nets if now.dead]
    if all_dead := [(name, count) for name, count, every in dead if every]:
        yield Note(ALL_DEAD.format(which=_each(all_dead, alone=alone)), "warning")
    if some := [(name, count) for name, count, every in dead if not every]:
        yield Note(SOME_DEAD.format(which=_each(some, alone=alone)))
    # A gap that is small beside the first loss is no more than luck.
    over = [
        (name, TIMES.format(n=f"{now.test_loss / now.loss:.1f}" if now.test_loss < 1000 * now.loss else "1000+"))
        for name, losses, now in nets
        if now.test_loss > OVERFITTED_FROM * now.loss and now.test_loss - now.loss > losses[0] / 100
    ]
    if over:
        yield Note(OVERFITTED.format(which=_each(over, alone=alone)), "warning")
    still = [(name, steps) for name, losses, _ in nets if (steps := still_for(losses))]
    if still:
        names = joined([name for name, _ in still], AND)
        which = "" if alone else Text(" ({names})", "（{names}）").format(names=names)
        yield Note(STANDS_STILL.format(which=which, steps=still[0][1]))


def _each(found: Sequence[tuple[Words, Words]], *, alone: bool) -> Words:
    """What was found for each net, by name if there are several."""
    if alone:
        return found[0][1]
    named = Text("{name} {what}", "{name}：{what}")
    return joined([named.format(what=what, name=name) for name, what in found], AND)


def still_for(losses: Sequence[float]) -> int:
    """The steps for which the losses have not fallen, or 0: two spans of them with the same mean, but for noise."""
    span = max(STILL_OVER, len(losses) // 4)
    if len(losses) < 2 * span:
        return 0
    before, last = np.array(losses[-2 * span : -span]), np.array(losses[-span:])
    noise = 2 * last.std() / math.sqrt(span)
    fallen = before.mean() - last.mean()
    return 2 * span if fallen < max(0.005 * before.mean(), noise) else 0
