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
from nets.lesson import Lesson, Training, View
from runs.run import SILENT, Frame, State

BOKEH_JS = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"
_JS = (Path(__file__).parent / "live.js").read_text()

_HTML = """
<div class="live" data-lesson="{key}" data-step="0" data-state="idle" data-bokeh="{bokeh}">
  <p class="live-status"></p>
  <p class="live-spoken" role="status" aria-live="polite"></p>
  <div class="live-panels" data-count="{panels}"></div>
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


def component(lesson: Lesson, first: dict[str, Any]) -> gr.HTML:
    """The chart on the page, with the props of its first frame.

    Feed it `start` for a new run, then what an Encoder makes of the run's frames, or what `computed` makes.
    """
    panels = len(json.loads(first["structure"]))
    return gr.HTML(
        **first,
        html_template=_HTML.format(key=lesson.key, bokeh=f"gradio_api/file={BOKEH_JS}", panels=panels),
        js_on_load=_JS,
        elem_classes="live-view",
    )


def props(lesson: Training, frame: Frame) -> dict[str, Any]:
    """What brings a run onto the page: the chart's structure, and the run's first frame as its base."""
    view = frame.snapshot.view
    base = _encoded(lesson, frame, browser.arrays(view.chart), html.blocks(view.blocks))
    return {"value": "", "base": base, "structure": browser.structure(view.chart)}


def start(lesson: Training, frame: Frame) -> dict[str, Any]:
    """The update of the component with `props`."""
    return gr.update(**props(lesson, frame))


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


def computed_props(view: View) -> dict[str, Any]:
    """What brings the page what a lesson that trains nothing shows at first."""
    return {"value": "", "base": computed(view), "structure": browser.structure(view.chart)}


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
