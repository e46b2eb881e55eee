"""The live chart component, and the frames that update it."""

import json
import math
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bokeh
import gradio as gr

from charts.text import Language, Text, Words, both, joined
from lab.lesson import Lesson, Training
from runs.run import SILENT, ChartSetup, Frame, State, preview

BOKEH_JS = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"

_HTML = """
<div class="live" data-lesson="{key}" data-step="0" data-state="idle" data-bokeh="{bokeh}">
  <p class="live-status notranslate" translate="no"></p>
  <p class="live-spoken notranslate" translate="no" role="status" aria-live="polite"></p>
  <div class="live-panels"></div>
  <div class="live-notes"></div>
</div>
"""

BLOCKS = '<div class="live-blocks"></div>'  # live.js inserts the blocks of a frame here, below the chart

_PHRASES = {
    State.IDLE: Text("Ready: {steps} steps", "准备就绪：共 {steps} 步"),
    State.RUNNING: Text("Step {step} of {steps}", "第 {step} 步，共 {steps} 步"),
    State.PAUSED: Text("Paused at step {step} of {steps}", "暂停在第 {step} 步，共 {steps} 步"),
}
_WAITING = Text(
    "Many runs are training. You are number {rank} in line; your run starts automatically.",
    "训练的人很多。你排在第 {rank} 位，轮到时会自动开始。",
)
_DONE = Text("Done, {steps} steps", "完成，共 {steps} 步")
_STOPPED = Text("Stopped at step {step} of {steps}", "停在第 {step} 步，共 {steps} 步")
_NOT_FINITE = Text("not a finite number", "不是有限的数")

COMPUTED = 1  # run id in the frames of a lesson without training


def component(lesson: Lesson) -> gr.HTML:
    """The empty chart. It triggers `submit` when its tab is first opened, to request its first frame.

    Update it with `first_view` or `start`, and then with `frame` for each frame of a run, or with `computed`.
    """
    return gr.HTML(
        value="",
        base="",
        structure="",
        judged="",  # not part of a frame, since frames may be dropped
        html_template=_HTML.format(key=lesson.key, bokeh=BOKEH_JS.name),
        js_on_load="window.liveNets.chart(element, props, watch, trigger);",
        elem_classes="live-view",
    )


def start(lesson: Training, setup: ChartSetup) -> dict[str, Any]:
    """The update that shows a run: the chart's structure, and the run's first frame as base."""
    return gr.update(value="", base=frame(lesson, setup.frame), structure=setup.structure)


_first_views: dict[str, dict[str, Any]] = {}


async def first_view(lesson: Lesson) -> dict[str, Any]:
    """The update for a tab that is opened for the first time: the lesson with its defaults, cached."""
    if lesson.key not in _first_views:
        setup = await preview(lesson, lesson.config())
        if isinstance(lesson, Training):
            update = start(lesson, setup)
        else:
            update = gr.update(value="", base=computed(setup), structure=setup.structure)
        _first_views[lesson.key] = update
    return _first_views[lesson.key]


def computed(setup: ChartSetup) -> str:
    """The complete frame of a lesson without training, whose chart structure never changes."""
    head: dict[str, Any] = {"run": COMPUTED, "step": 0, "state": State.IDLE, "text": both("")}
    return _merged(head, setup.frame.encoded.body)


def problem(message: Text) -> str:
    """A frame that shows an error message and leaves the chart unchanged."""
    # The nonce makes a repeated message a new value, which the page would otherwise ignore.
    nonce = secrets.token_hex(4)
    return json.dumps({"run": None, "step": None, "state": State.ERROR, "text": both(message), "nonce": nonce})


def frame(lesson: Training, now: Frame, note: Words = "") -> str:
    """The frame as JSON, with a note in its status line; a string, which Gradio's queue compares quickly."""
    names = {key: lesson.metrics[key] for key in lesson.headline or lesson.metrics}
    parts: list[Words] = [describe(now, names), note]
    text = both(joined([part for part in parts if part], " "))
    return _with_text(now, text)


def waiting(now: Frame, rank: int) -> str:
    """The frame of a run that waits in line."""
    return _with_text(now, both(_WAITING.format(rank=rank)))


def _with_text(now: Frame, text: dict[Language, str]) -> str:
    return _merged({"run": now.run, "step": now.encoded.step, "state": now.state, "text": text}, now.encoded.body)


def _merged(head: dict[str, Any], body: str) -> str:
    """Merge two JSON objects; the second is already encoded, by the worker."""
    return f"{json.dumps(head)[:-1]}, {body[1:]}"


def describe(frame: Frame, names: Mapping[str, Words]) -> Text:
    """The status line: step and the metrics in `names`, or why the run failed."""
    if frame.message is not SILENT:
        return frame.message
    step, steps = frame.encoded.step, frame.steps
    progress = _PHRASES.get(frame.state, _DONE if step == steps else _STOPPED).format(step=step, steps=steps)
    metrics: list[Words] = [
        Text("{name} {value}", "{name} {value}").format(name=names[key], value=number(key, value))
        for key, value in frame.encoded.metrics.items()
        if key in names
    ]
    return joined([progress, *metrics], " · ")


def number(name: str, value: float) -> Words:
    """A metric, formatted."""
    if not math.isfinite(value):
        return _NOT_FINITE
    if name == "accuracy":
        return f"{value:.1%}"
    if value == 0:
        return "0"
    return f"{value:.4f}" if 0.001 <= abs(value) < 1000 else f"{value:.2e}"
