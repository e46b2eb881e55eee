"""Runs without frames, compared with the tutorial's loops, and response times of computation lessons."""

import time
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
import torch.utils.data as Data
from torch import Tensor, nn

from benchmarks.timing import compare
from lab.lesson import Computation
from lab.training import Trainer
from nets import LESSONS, TRAININGS

LIMIT = 100  # milliseconds for the response to a changed setting


def run() -> None:
    """Measure the optimizers lesson, the dropout lesson and every computation lesson."""
    compare("optimizers, 12 epochs of 4 nets", lambda: ours("optimizers"), optimizers, rounds=5)
    compare("dropout, 500 steps of 2 nets", lambda: ours("dropout"), dropout, rounds=7)
    for lesson in LESSONS.values():
        if isinstance(lesson, Computation):
            _compute(lesson)


def ours(key: str) -> None:
    """Train a lesson with its default settings."""
    lesson = TRAININGS[key]
    trainer = Trainer(lesson, lesson.recipe())
    trainer.finish()


class Net(nn.Module):
    """The net of the tutorial's 优化器: (N, 1) -> (N, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(1, 20)
        self.predict = nn.Linear(20, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.hidden(x))
        x = self.predict(x)
        return x


def optimizers() -> None:
    """Train as the tutorial's 优化器, without plots: a DataLoader with two workers."""
    x = torch.unsqueeze(torch.linspace(-1, 1, 1000), dim=1)
    y = x.pow(2) + 0.1 * torch.normal(torch.zeros(x.size()))
    loader = Data.DataLoader(dataset=Data.TensorDataset(x, y), batch_size=32, shuffle=True, num_workers=2)
    nets = [Net() for _ in range(4)]
    racers: list[torch.optim.Optimizer] = [
        torch.optim.SGD(nets[0].parameters(), lr=0.01),
        torch.optim.SGD(nets[1].parameters(), lr=0.01, momentum=0.8),
        torch.optim.RMSprop(nets[2].parameters(), lr=0.01, alpha=0.9),
        torch.optim.Adam(nets[3].parameters(), lr=0.01, betas=(0.9, 0.99)),
    ]
    loss_func = torch.nn.MSELoss()
    losses_his: list[list[Any]] = [[], [], [], []]
    for _ in range(12):
        for b_x, b_y in loader:
            for net, opt, l_his in zip(nets, racers, losses_his, strict=True):
                output = net(b_x)
                loss = loss_func(output, b_y)
                opt.zero_grad()
                loss.backward()
                opt.step()
                l_his.append(loss.data.numpy())


def dropout() -> None:
    """Train as the tutorial's Dropout, without plots."""
    x = torch.unsqueeze(torch.linspace(-1, 1, 20), 1)
    y = x + 0.3 * torch.normal(torch.zeros(20, 1), torch.ones(20, 1))
    net_overfitting = nn.Sequential(nn.Linear(1, 300), nn.ReLU(), nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 1))
    net_dropped = nn.Sequential(
        *(nn.Linear(1, 300), nn.Dropout(0.5), nn.ReLU()),
        *(nn.Linear(300, 300), nn.Dropout(0.5), nn.ReLU()),
        nn.Linear(300, 1),
    )
    optimizer_ofit = torch.optim.Adam(net_overfitting.parameters(), lr=0.01)
    optimizer_drop = torch.optim.Adam(net_dropped.parameters(), lr=0.01)
    loss_func = torch.nn.MSELoss()
    for _ in range(500):
        loss_ofit = loss_func(net_overfitting(x), y)
        loss_drop = loss_func(net_dropped(x), y)
        optimizer_ofit.zero_grad()
        optimizer_drop.zero_grad()
        loss_ofit.backward()
        loss_drop.backward()
        optimizer_ofit.step()
        optimizer_drop.step()


def _compute(lesson: Computation) -> None:
    times = []
    for settings in ({}, *(idea.settings for idea in lesson.suggestions)) * 5:
        config = lesson.config.parse(settings)
        start = time.perf_counter()
        lesson.compute(config)
        times.append((time.perf_counter() - start) * 1000)
    worst = max(times)
    print(
        f"  {lesson.key}, computed: median {median(times):.1f} ms,"
        f" max {worst:.1f} ms, {worst / LIMIT:.2f} of the limit of {LIMIT} ms"
    )
