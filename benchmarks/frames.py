"""Server time and size of a frame, compared with gr.Plot and a matplotlib figure of the same chart."""

import json

import gradio as gr

from benchmarks.timing import compare
from charts import figure
from lab.lesson import Training
from nets import TRAININGS
from runs.engine import Engine
from runs.run import Frame, State
from tabs import live


def run() -> None:
    """Measure snapshot and encoding of a frame in the middle of each lesson's run."""
    for lesson in TRAININGS.values():
        _measure(lesson)


def _measure(lesson: Training) -> None:
    engine, plot = Engine(), gr.Plot(render=False)
    steps = engine.begin(1, lesson.recipe().to_dict()).steps
    engine.advance(1, steps // 2, 60, 60)

    def ours() -> str:
        return live.frame(1, lesson, Frame(1, State.RUNNING, steps, engine.frame(1)))

    def baseline() -> str:
        engine.frame(1)
        value = plot.postprocess(figure.draw(engine.chart(1)))
        assert value is not None
        return json.dumps(value.model_dump())

    compare(f"{lesson.key}, a frame and gr.Plot", ours, baseline, rounds=21)
    print(f"  {lesson.key}, bytes per frame: {len(ours())} and {len(baseline())}")
