"""What a frame costs the server: ours against gr.Plot with a matplotlib figure of the same chart."""

import json

import gradio as gr

from benchmarks.timing import compare
from charts import figure
from nets import TRAININGS
from nets.lesson import Training
from runs.run import Frame, State
from tabs.live import Encoder


def run() -> None:
    """Each lesson, half-way through its run: look, encode, and what the queue would send."""
    for lesson in TRAININGS.values():
        _measure(lesson)


def _measure(lesson: Training) -> None:
    trainer = lesson.trainer(lesson.config())
    beginning = Frame(1, State.IDLE, trainer.steps, trainer.snapshot())
    for _ in range(trainer.steps // 2):
        trainer.step()
    encoder, plot = Encoder(lesson, beginning), gr.Plot(render=False)

    def ours() -> str:
        return encoder.frame(Frame(1, State.RUNNING, trainer.steps, trainer.snapshot()))

    def plain() -> str:
        value = plot.postprocess(figure.draw(trainer.snapshot().chart))
        assert value is not None
        return json.dumps(value.model_dump())

    compare(f"{lesson.key}, a frame against gr.Plot", ours, plain, rounds=21)
    print(f"  {lesson.key}, bytes a frame: {len(ours())} against {len(plain())}")
