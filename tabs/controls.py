"""A lesson's controls on the page, the speed beside them, and what is said of settings that break a rule."""

from typing import Any

import gradio as gr

from charts.text import Text, Words
from nets.lesson import Lesson
from nets.settings import Choice, Choices, Control, Number, Numbers, SettingError, Switch
from runs.run import FULL_SPEED
from tabs.language import label

Labelled = list[tuple[Any, Any]]

FULL = Text("full speed", "全速")
SPEED = Text("Speed, in steps a frame", "速度：每帧几步")
SPEED_INFO = Text(
    "There are 25 frames a second; at full speed, each takes as many steps as it can",
    "每秒 25 帧；全速时每帧能走多少步就走多少步",
)
SPEED_VALUES = [1, 2, 5, 20, FULL_SPEED]
EMPTY = Text("empty", "空")


def component(name: str, control: Control) -> Any:
    """What the page offers the setting with."""
    common: dict[str, Any] = {"label": label(control.label), "info": label(control.info), "interactive": True}
    common |= {"value": value_of(control, control.default), "elem_classes": f"setting setting-{name}"}
    match control:
        case Number():
            return _number(control, common)
        case Switch():
            return gr.Checkbox(**common)
        case Choice():
            offered = _options(control.options)
            if len(offered) <= 4:  # they fit, and show what there is
                return gr.Radio(offered, **common)
            return gr.Dropdown(offered, filterable=False, **common)
        case Choices():
            return gr.CheckboxGroup(_options(control.options), **common)
        case Numbers():
            return gr.Textbox(max_length=500, max_lines=1, **common)
        case _:
            raise TypeError(f"{name} has a control that the page does not know: {type(control).__name__}")


def value_of(control: Control, value: Any) -> Any:
    """A setting's value as its component shows it."""
    if isinstance(control, Numbers):
        return control.typed(value)
    return list(value) if isinstance(control, Choices) else value


def _number(control: Number, common: dict[str, Any]) -> gr.Slider | gr.Number:
    """A slider, or a box to type in where the control has no step."""
    if control.step is not None:
        return gr.Slider(control.minimum, control.maximum, step=control.step, **common)
    if control.maximum < 1e6:
        limits = Text(f", {control.minimum:g} to {control.maximum:g}", f"，{control.minimum:g} 到 {control.maximum:g}")
        common["info"] = label(Text(control.info.en + limits.en, control.info.zh + limits.zh))
    kind: dict[str, Any] = {"precision": 0, "step": 1} if control.whole else {"step": 0.01}
    return gr.Number(**kind, **common)


def _options(options: Any) -> Labelled:
    return [(_label(words), value) for value, words in options.items()]


def _label(words: Words) -> Any:
    return words if isinstance(words, str) else label(words)


def speed(pace: int) -> gr.Radio:
    """The choice of speed."""
    offered = [(str(each), each) for each in SPEED_VALUES if each != FULL_SPEED]
    return gr.Radio(
        [*offered, (label(FULL), FULL_SPEED)],
        value=pace,
        label=label(SPEED),
        info=label(SPEED_INFO),
        scale=5,
        render=False,
    )


def speed_of(value: object) -> int:
    """The speed that was chosen. Raises SettingError."""
    if isinstance(value, bool) or not isinstance(value, int) or value not in SPEED_VALUES:
        names = ", ".join(map(str, SPEED_VALUES))
        raise SettingError("speed", Text(f"one of {names}", f" {names} 之一"), value)
    return value


def told(error: SettingError, lesson: Lesson) -> Text:
    """The error as the page says it: with the label instead of the name."""
    known = lesson.config.controls()
    name = known[error.name].label if error.name in known else error.name.capitalize()
    if error.value is None or error.value in ("", []):
        sentence = Text("{name} must be {rule}, not empty.", "{name}必须是{rule}，不能为空。")
        return sentence.format(name=name, rule=error.rule)
    return error.told(name)
