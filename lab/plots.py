"""Panels and marks shared by lessons."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charts.chart import PALETTE, Array, Heatmap, Line, Mark, Panel, Points, Scale, VerticalLines, as_array
from charts.text import Text, Words
from lab.evaluation import Now
from lab.experiment import Experiment, Samples

CURVE_POINTS = 400  # maximum of a loss curve, about one per pixel
SMOOTHING_WINDOW = 20  # steps
GRID = 64  # cells along each side of a heat map

DATA = Text("data", "数据")
PREDICTION = Text("prediction", "预测")
DATA_AND_FIT = Text("Data and fit", "数据与拟合")
LOSS = Text("loss", "损失")
TEST_LOSS = Text("test loss", "测试损失")
MEAN_SQUARED_ERROR = Text("mean squared error", "均方误差")
CROSS_ENTROPY = Text("cross entropy", "交叉熵")
STEPS_TAKEN = Text("steps taken", "已训练步数")
LOSS_TITLE = Text("Loss", "损失曲线")
CHANGE = Text("change", "改动")


def losses(
    experiment: Experiment,
    now: Now,
    name: Words = MEAN_SQUARED_ERROR,
    *,
    y_range: tuple[float, float] | None = None,
    y_scale: Scale = "linear",
    smoothed: bool = False,
) -> Panel:
    """Panel of each learner's loss over the steps taken, up to the current loss, and of the changes of the run.

    The last mark has the changes, the others are curves.
    """
    # The subsampling stride only doubles, so the points of a long run do not shift between frames.
    stride = 2 ** max(0, math.ceil(math.log2((now.step + 1) / CURVE_POINTS)))
    steps = as_array([*range(0, now.step, stride), now.step])
    curves = []
    for index, (learner, evaluation) in enumerate(zip(experiment.learners, now.nets, strict=True)):
        values = finite([*learner.losses, evaluation.loss])
        if smoothed:
            values = _smooth(values)
        shown = np.append(values[:-1:stride], values[-1])
        curves.append(Line(learner.label, steps, shown, color=(index + 1) % len(PALETTE)))
    if y_range is None:
        # The axes are fixed during a run: an exploding loss leaves the panel, so the other curves stay legible.
        firsts = zip(experiment.learners, now.nets, strict=True)
        first = max(each.losses[0] if each.losses else one.loss for each, one in firsts)
        top = 2 * first if 0 < first < math.inf else 1.0
        if now.diverged:  # then show the explosion
            every = (loss for each in experiment.learners for loss in each.losses)
            top = max([top, *filter(math.isfinite, every)])
        y_range = (top / 1e4 if y_scale == "log" else 0.0, top)
    marks = (*curves, VerticalLines(CHANGE, as_array(sorted({change.step for change in now.changes}))))
    return Panel(LOSS_TITLE, STEPS_TAKEN, name, marks, x_range=(0, experiment.steps), y_range=y_range, y_scale=y_scale)


def column(samples: Tensor) -> Array:
    """The single feature of samples of shape (N, 1), as an array of shape (N,)."""
    return as_array(samples[:, 0])


def fit(title: Words, samples: Samples, prediction: Tensor | Array | None, *, y_range: tuple[float, float]) -> Panel:
    """Panel of samples with one feature in [-1, 1] and the net's predictions for them, (N, 1), if given."""
    x, nothing = column(samples.x), as_array([])
    line = (nothing, nothing) if prediction is None else (x, as_array(prediction[:, 0]))
    marks: tuple[Mark, ...] = (Points(DATA, x, column(samples.y)), Line(PREDICTION, *line, color=1))
    return Panel(title, "x", "y", marks, x_range=(-1.05, 1.05), y_range=y_range)


def plane(title: Words, net: nn.Module, samples: Samples) -> Panel:
    """Panel of samples of two classes on a heat map of the net's predicted probability of class 1."""
    reach = samples.x.abs().max().item() * 1.05  # half the side of a square around the origin that contains all points
    axis = torch.linspace(-reach, reach, GRID)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack((columns.flatten(), rows.flatten()), dim=1)  # (GRID², 2)
    probability = F.softmax(net(grid), dim=1)[:, 1].reshape(GRID, GRID)
    extent = as_array((-reach, reach))
    zero, one = (as_array(samples.x[samples.y == label]) for label in (0, 1))
    marks: tuple[Mark, ...] = (
        Heatmap(Text("probability of class 1", "属于类别 1 的概率"), extent, extent, as_array(probability)),
        Points(Text("class 0", "类别 0"), zero[:, 0], zero[:, 1], color=0),
        Points(Text("class 1", "类别 1"), one[:, 0], one[:, 1], color=1, marker="triangle"),
    )
    return Panel(title, "x₁", "x₂", marks, x_range=(-reach, reach), y_range=(-reach, reach))


def finite(values: list[float]) -> Array:
    """Values as an array; infinities become NaN, which is drawn as a gap."""
    array = as_array(values)
    return np.where(np.isfinite(array), array, np.float32("nan"))


def _smooth(values: Array) -> Array:
    """Moving average over the last SMOOTHING_WINDOW losses, fewer at the start."""
    sums = np.cumsum(np.insert(values.astype(np.float64), 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - SMOOTHING_WINDOW, 0)
    return as_array((sums[ends] - sums[starts]) / (ends - starts))
