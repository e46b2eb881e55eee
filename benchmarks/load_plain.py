"""Baseline app for the load benchmark: the approach of Gradio's guides, with the default queue."""

import os
from collections.abc import Iterator
from typing import Any

import gradio as gr
import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from gradio.events import api
from torch import nn


def train(steps: float) -> Iterator[Any]:
    """Train the tutorial's regression; yield a figure every 5 steps."""
    x = torch.unsqueeze(torch.linspace(-1, 1, 100), dim=1)
    y = x.pow(2) + 0.2 * torch.rand(x.size())
    net = nn.Sequential(nn.Linear(1, 10), nn.ReLU(), nn.Linear(10, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    loss_func = nn.MSELoss()
    losses = []
    for step in range(1, int(steps) + 1):
        prediction = net(x)
        loss = loss_func(prediction, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 5 == 0:
            figure, (fit, curve) = plt.subplots(1, 2, figsize=(9, 4))
            fit.scatter(x.numpy(), y.numpy())
            fit.plot(x.numpy(), prediction.detach().numpy(), "r-")
            curve.plot(losses)
            yield figure
            plt.close(figure)


def lessons() -> str:
    """Handle a trivial request."""
    return "regression"


def baseline_app() -> gr.Blocks:
    """App with a slider, a button and a plot."""
    with gr.Blocks() as demo:
        with gr.Tabs(), gr.Tab("Regression", id="regression"):
            steps = gr.Slider(1, 2000, 500, label="Steps", elem_classes="setting-steps")
            button, plot = gr.Button("Train"), gr.Plot()
            button.click(train, steps, plot)
        api(lessons, api_name="lessons")
    assert isinstance(demo, gr.Blocks)
    return demo


if __name__ == "__main__":
    mpl.use("Agg")
    baseline_app().launch(server_port=int(os.environ["PORT"]), ssr_mode=False)
