"""A lesson's controls on the page, the speed beside them, and what is said of settings that break a rule."""

from typing import Any

import gradio as gr

from nets.lesson import Control, Lesson, SettingError, shown
from runs.run import FULL_SPEED

SPEEDS = [("1", 1), ("2", 2), ("5", 5), ("20", 20), ("full speed", FULL_SPEED)]
SPEED_VALUES = [value for _, value in SPEEDS]
DEFAULT_SPEED = 1


def component(name: str, control: Control) -> gr.Slider | gr.Number:
    """A slider, or a box to type in where the control has no step."""
    common: dict[str, Any] = {"value": control.default, "label": control.label, "interactive": True}
    common["elem_classes"] = f"setting-{name}"
    if control.step is not None:
        return gr.Slider(control.minimum, control.maximum, step=control.step, info=control.info, **common)
    limits = f", {control.minimum:g} to {control.maximum:g}" if control.maximum < 1e6 else ""
    kind: dict[str, Any] = {"precision": 0, "step": 1} if control.whole else {"step": 0.01}
    return gr.Number(info=f"{control.info}{limits}", **kind, **common)


def told(error: SettingError, lesson: Lesson) -> str:
    """The error as the page says it: with the label instead of the name."""
    known = lesson.config.controls()
    label = known[error.name].label if error.name in known else error.name.capitalize()
    value = "empty" if error.value in (None, "") else shown(error.value)
    return f"{label} must be {error.rule}, not {value}."


def speed_of(value: object) -> int:
    """The speed that was chosen. Raises SettingError."""
    if isinstance(value, bool) or not isinstance(value, int) or value not in SPEED_VALUES:
        raise SettingError("speed", f"one of {', '.join(map(str, SPEED_VALUES))}", value)
    return value
