"""A regression run of 100 steps without frames, compared with the tutorial's training loop."""

import torch

from benchmarks.timing import compare
from lab.training import Trainer
from nets.regression import LESSON, Net


def run() -> None:
    """Both create data and net, and train for 100 steps."""
    compare("100 steps of Trainer and of the bare loop", trainer, bare_loop, rounds=101)


def trainer() -> None:
    """Train with Trainer."""
    run = Trainer(LESSON, LESSON.recipe())
    while not run.done:
        run.step()


def bare_loop() -> None:
    """Train with the tutorial's loop, without its plots."""
    torch.manual_seed(2)
    x = torch.unsqueeze(torch.linspace(-1, 1, 100), dim=1)
    y = x.pow(2) + 0.2 * torch.rand(x.size())
    net = Net(1, 10, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    loss_func = torch.nn.MSELoss()
    for _ in range(100):
        prediction = net(x)
        loss = loss_func(prediction, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
