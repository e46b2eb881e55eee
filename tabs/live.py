"""The live chart: a component of the page, and the frames that it is fed."""

import json
import math
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bokeh
import gradio as gr

from charts import browser, html
from charts.text import Text, Words, both, joined
from nets.lesson import Computation, Lesson, Training, View
from runs.run import SILENT, Frame, Run, State, compute

BOKEH_JS = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"

_HTML = """
<div class="live" data-lesson="{key}" data-step="0" data-state="idle" data-bokeh="{bokeh}">
  <p class="live-status"></p>
  <p class="live-spoken" role="status" aria-live="polite"></p>
  <div class="live-panels"></div>
  <div class="live-notes"></div>
</div>
"""

BLOCKS = '<div class="live-blocks"></div>'  # where live.js puts a frame's blocks, in the same column as the chart

_PHRASES = {
    State.IDLE: Text("Ready: {steps} steps", "准备就绪：共 {steps} 步"),
    State.RUNNING: Text("Step {step} of {steps}", "第 {step} 步，共 {steps} 步"),
    State.PAUSED: Text("Paused at step {step} of {steps}", "暂停在第 {step} 步，共 {steps} 步"),
}
_DONE = Text("Done, {steps} steps", "完成，共 {steps} 步")
_STOPPED = Text("Stopped at step {step} of {steps}", "停在第 {step} 步，共 {steps} 步")
_NOT_FINITE = Text("not a finite number", "不是有限的数")

COMPUTED = 1  # in place of a run's number, for what is computed


def component(lesson: Lesson) -> gr.HTML:
    """The chart on the page, empty; as soon as its tab is seen it submits, to be given its first frame.

    Feed it `start` or `start_computed` for that, and then what an Encoder makes of a run's frames, or `computed`.
    """
    return gr.HTML(
        value="",
        base="",
        structure="",
        html_template=_HTML.format(key=lesson.key, bokeh=f"gradio_api/file={BOKEH_JS}"),
        js_on_load="window.liveNets.chart(element, props, watch, trigger);",
        elem_classes="live-view",
    )


def start(lesson: Training, frame: Frame) -> dict[str, Any]:
    """The update that brings a run onto the page: the chart's structure, and the run's first frame as its base."""
    view = frame.snapshot.view
    base = _encoded(lesson, frame, browser.arrays(view.chart), html.blocks(view.blocks))
    return gr.update(value="", base=base, structure=browser.structure(view.chart))


_first_views: dict[str, dict[str, Any]] = {}


async def first_view(lesson: Lesson) -> dict[str, Any]:
    """The update for a tab that is seen first: the lesson with its defaults, the same for all, so made just once."""
    if lesson.key not in _first_views:
        config = lesson.config()
        if isinstance(lesson, Training):
            made = start(lesson, (await Run.create(lesson, config)).frame)
        else:
            assert isinstance(lesson, Computation)
            made = start_computed(await compute(lesson, config))
        _first_views[lesson.key] = made
    return _first_views[lesson.key]


class Encoder:
    """Frames of one run, each as the text that carries what differs from the run's beginning."""

    def __init__(self, lesson: Training, beginning: Frame) -> None:
        self.run = beginning.run
        self._lesson = lesson
        self._base = browser.arrays(beginning.snapshot.chart)
        self._blocks = html.blocks(beginning.snapshot.view.blocks)

    def frame(self, frame: Frame, note: Words = "") -> str:
        """The frame for the page, and a note to add to its words; a string, since the queue compares it in one."""
        arrays = browser.changed(self._base, browser.arrays(frame.snapshot.chart))
        blocks = html.blocks(frame.snapshot.view.blocks)
        return _encoded(self._lesson, frame, arrays, None if blocks == self._blocks else blocks, note)


def start_computed(view: View) -> dict[str, Any]:
    """The update that brings onto the page what a lesson that trains nothing shows at first."""
    return gr.update(value="", base=computed(view), structure=browser.structure(view.chart))


def computed(view: View) -> str:
    """The frame of such a lesson, whole: its chart's structure never changes."""
    told: dict[str, Any] = {"run": COMPUTED, "step": 0, "state": State.IDLE, "text": both("")}
    return json.dumps({**told, "arrays": browser.arrays(view.chart), "blocks": html.blocks(view.blocks), "notes": ""})


def problem(message: Text) -> str:
    """A frame that changes no picture and says what is wrong."""
    # The same words twice are two messages: the nonce keeps the page from taking the second for the first.
    nonce = secrets.token_hex(4)
    told: dict[str, Any] = {"run": None, "step": None, "state": State.ERROR, "text": both(message), "nonce": nonce}
    return json.dumps(told)


def _encoded(lesson: Training, frame: Frame, arrays: dict[str, str], blocks: str | None, note: Words = "") -> str:
    names = {key: lesson.metrics[key] for key in lesson.headline or lesson.metrics}
    parts: list[Words] = [describe(frame, names), note]
    told: dict[str, Any] = {
        "run": frame.run,
        "step": frame.snapshot.step,
        "state": frame.state,
        "text": both(joined([part for part in parts if part], " ")),
        "notes": html.blocks(frame.snapshot.diagnosis),
        "arrays": arrays,
    }
    if blocks is not None:
        told["blocks"] = blocks
    return json.dumps(told)


def describe(frame: Frame, names: Mapping[str, Words]) -> Text:
    """The frame in a line of words: step and the metrics that `names` has, or why the run ended badly."""
    if frame.message is not SILENT:
        return frame.message
    step, steps = frame.snapshot.step, frame.steps
    place = _PHRASES.get(frame.state, _DONE if step == steps else _STOPPED).format(step=step, steps=steps)
    metrics: list[Words] = [
        Text("{name} {value}", "{name} {value}").format(name=names[key], value=number(key, value))
        for key, value in frame.snapshot.metrics.items()
        if key in names
    ]
    return joined([place, *metrics], " · ")


def number(name: str, value: float) -> Words:
    """A metric as people read it."""
    if not math.isfinite(value):
        return _NOT_FINITE
    if name == "accuracy":
        return f"{value:.1%}"
    if value == 0:
        return "0"
    return f"{value:.4f}" if 0.001 <= abs(value) < 1000 else f"{value:.2e}"
