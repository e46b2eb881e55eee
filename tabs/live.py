"""Messages of the live channel to the page: what a lesson's chart shows."""

import json
import math
from collections.abc import Mapping
from typing import Any

from charts.text import Language, Text, Words, both, joined
from lab.lesson import Training
from lab.recipe import Recipe
from runs.run import SILENT, ChartSetup, Frame, State

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


def start(
    page: str,
    number: int,
    recipe: Recipe,
    setup: ChartSetup,
    lesson: Training | None,
    now: Frame | None = None,
    *,
    structure: bool = True,
) -> str:
    """The message that shows another run or view: recipe, chart structure, the frame that others refer to, and `now`.

    `page` is the key of the page's runs, for URLs of figures. `structure` says whether the structure is sent; else the
    page still has it. `lesson` is None for a lesson without training.
    """
    head = {
        "lesson": recipe.lesson,
        "run": number,
        "page": page,
        "recipe": recipe.to_dict(),
        **({"structure": setup.structure} if structure else {}),
    }
    base = _merged(setup.frame, both("")) if lesson is None else _body(lesson, setup.frame)
    current = "" if lesson is None or now is None else f', "frame": {_body(lesson, now)}'
    return f'{json.dumps(head)[:-1]}, "base": {base}{current}}}'


def frame(number: int, lesson: Training, now: Frame, note: Words = "") -> str:
    """The message with a frame of that run, with a note in its status line."""
    return f'{json.dumps({"lesson": lesson.key, "run": number})[:-1]}, "frame": {_body(lesson, now, note)}}}'


def waiting(number: int, lesson: Training, now: Frame, rank: int) -> str:
    """The message with the frame of a run that waits in line."""
    body = _merged(now, both(_WAITING.format(rank=rank)))
    return f'{json.dumps({"lesson": lesson.key, "run": number})[:-1]}, "frame": {body}}}'


def _body(lesson: Training, now: Frame, note: Words = "") -> str:
    names = {key: lesson.metrics[key] for key in lesson.headline or lesson.metrics}
    parts: list[Words] = [describe(now, names), note]
    return _merged(now, both(joined([part for part in parts if part], " ")))


def _merged(now: Frame, text: Mapping[Language, str]) -> str:
    """The frame as JSON; the worker has already encoded the body."""
    metrics = {name: value if math.isfinite(value) else None for name, value in now.encoded.metrics.items()}
    head: dict[str, Any] = {"step": now.encoded.step, "state": now.state, "text": text, "metrics": metrics}
    return f"{json.dumps(head)[:-1]}, {now.encoded.body[1:]}"


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
