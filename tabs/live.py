"""The live chart: a component of the page, and the frames that it is fed."""

import json
import math
import secrets
from html import escape
from pathlib import Path
from typing import Any

import bokeh
import gradio as gr

from charts import browser
from nets.lesson import Lesson
from runs.run import Frame, State

BOKEH_JS = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"
_JS = (Path(__file__).parent / "live.js").read_text()

_HTML = """
<div class="live" data-lesson="{key}" data-title="{title}" data-step="0" data-state="idle" data-bokeh="{bokeh}">
  <p class="live-status"></p>
  <p class="live-spoken" role="status" aria-live="polite"></p>
  <div class="live-panels"></div>
</div>
"""

_PHRASES = {
    State.IDLE: "Ready: {steps} steps",
    State.RUNNING: "Step {step} of {steps}",
    State.PAUSED: "Paused at step {step} of {steps}",
}


def component(lesson: Lesson, first: Frame) -> gr.HTML:
    """The chart on the page. Feed it `start` for a new run, then what an Encoder makes of the run's frames."""
    page = {"key": lesson.key, "title": escape(lesson.title), "bokeh": f"gradio_api/file={BOKEH_JS}"}
    return gr.HTML(
        **_props(first),
        html_template=_HTML.format(**page),
        js_on_load=_JS,
        elem_classes="live-view",
    )


def start(frame: Frame) -> dict[str, Any]:
    """The update that brings a run onto the page: the chart's structure, and the run's first frame as its base."""
    return gr.update(**_props(frame))


class Encoder:
    """Frames of one run, each as the text that carries what differs from the run's beginning."""

    def __init__(self, beginning: Frame) -> None:
        self._base = browser.arrays(beginning.snapshot.chart)

    def frame(self, frame: Frame, note: str = "") -> str:
        """The frame for the page, and a note to add to its words; a string, since the queue compares it in one."""
        arrays = browser.changed(self._base, browser.arrays(frame.snapshot.chart))
        return _frame(frame, arrays, note)


def problem(message: str) -> str:
    """A frame that changes no picture and says what is wrong."""
    # The same words twice are two messages: the nonce keeps the page from taking the second for the first.
    nonce = secrets.token_hex(4)
    told: dict[str, Any] = {
        "run": None,
        "step": None,
        "state": State.ERROR,
        "text": message,
        "arrays": {},
        "nonce": nonce,
    }
    return json.dumps(told)


def _props(frame: Frame) -> dict[str, Any]:
    first = _frame(frame, browser.arrays(frame.snapshot.chart))
    return {"value": "", "base": first, "structure": browser.structure(frame.snapshot.chart)}


def _frame(frame: Frame, arrays: dict[str, str], note: str = "") -> str:
    text = " ".join(filter(None, (describe(frame), note)))
    step, state = frame.snapshot.step, frame.state
    return json.dumps({"run": frame.run, "step": step, "state": state, "text": text, "arrays": arrays})


def describe(frame: Frame) -> str:
    """The frame in a line of words: step and metrics, or why the run ended badly."""
    if frame.state in (State.DIVERGED, State.ERROR):
        return frame.message
    step, steps = frame.snapshot.step, frame.steps
    ended = f"Done, {step} steps" if step == steps else f"Stopped at step {step} of {steps}"
    place = _PHRASES.get(frame.state, ended).format(step=step, steps=steps)
    return " · ".join([place, *(f"{name} {_number(name, value)}" for name, value in frame.snapshot.metrics.items())])


def _number(name: str, value: float) -> str:
    if not math.isfinite(value):
        return "not a finite number"
    if name == "accuracy":
        return f"{value:.1%}"
    return f"{value:.4f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.2e}"
