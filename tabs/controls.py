"""Gradio components for settings and speed, and messages about invalid values."""

from collections.abc import Mapping
from html import escape
from typing import Any

import gradio as gr

from charts import html
from charts.text import LANGUAGES, Text, Words, both, said
from lab.lesson import Lesson
from lab.settings import Choice, Choices, Config, Control, Number, Numbers, SettingError, Switch
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
SLIDER = Text("Slider: {label}", "滑块：{label}")

# Gradio parses the HTML as a JavaScript template string and a Handlebars template, where these are special.
TEMPLATE_ESCAPES = {ord(letter): f"&#{ord(letter)};" for letter in "`$\\{}"}


def component(lesson: Lesson, name: str, control: Control) -> Any:
    """The Gradio component of a setting."""
    if isinstance(control, Number | Numbers):
        return _box(lesson.key, name, control)
    common: dict[str, Any] = {"label": label(control.label), "info": label(control.info), "interactive": True}
    common |= {"value": value_of(control, control.default), "elem_classes": f"setting setting-{name}"}
    match control:
        case Switch():
            return gr.Checkbox(**common)
        case Choice():
            choices = _options(control.options)
            if len(choices) <= 4:  # few enough to show all of them
                return gr.Radio(choices, **common)
            return gr.Dropdown(choices, filterable=False, **common)
        case Choices():
            return gr.CheckboxGroup(_options(control.options), **common)
        case _:
            raise TypeError(f"{name}: no component for a control of type {type(control).__name__}")


def value_of(control: Control, value: Any) -> Any:
    """A setting's value in the form that its component takes."""
    if isinstance(control, Numbers):
        return control.typed(value)
    return list(value) if isinstance(control, Choices) else value


def _box(lesson: str, name: str, control: Number | Numbers) -> gr.HTML:
    """A text box and, if the control has a step, a slider.

    Gradio's number component is not used: `<input type=number>` drops or changes text that it cannot parse, such as a
    decimal comma, before a script can read it. This box sends the text as typed, and the server parses it; see
    numbers.js.
    """
    element_id = f"{lesson}-{name}"
    info, slider, attributes = control.info, "", ""
    if isinstance(control, Number):
        attributes = f'data-by="{control.step or (1 if control.whole else 0.01)}"'
        attributes += f' data-minimum="{control.minimum}" data-maximum="{control.maximum}"'
        if control.minimum >= 0:  # numeric keypads of phones have no minus key
            attributes += f' inputmode="{"numeric" if control.whole else "decimal"}"'
        if control.step is not None:
            labels = " ".join(
                f'data-{each}="{escape(said(SLIDER.format(label=control.label), each))}"' for each in LANGUAGES
            )
            slider = (
                f'<input type="range" {labels} min="{control.minimum}" max="{control.maximum}" step="{control.step}"'
                f' value="{control.default}">'
            )
        elif control.maximum < 1e6:
            limits = Text(", {low:g} to {high:g}", "，{low:g} 到 {high:g}")
            limits = limits.format(low=control.minimum, high=control.maximum)
            info = Text(info.en + limits.en, info.zh + limits.zh)
    label = "".join(
        f'<span id="{element_id}-{each}" lang="{each}">{escape(said(control.label, each))}</span>' for each in LANGUAGES
    )
    value = value_of(control, control.default)
    markup = f"""
<div class="number{" has-slider" if slider else ""}" data-setting="{name}">
  <label for="{element_id}">{label}</label>
  <input id="{element_id}" type="text" value="{escape(str(value))}" {attributes} aria-labelledby="{element_id}-en"
    aria-describedby="{element_id}-info {element_id}-wrong" autocomplete="off" autocorrect="off" autocapitalize="off"
    spellcheck="false" enterkeyhint="done" dir="ltr">
  <p class="number-info" id="{element_id}-info">{html.words(info)}</p>
  {slider}
  <p class="number-wrong notranslate" translate="no" id="{element_id}-wrong" hidden></p>
</div>"""
    return gr.HTML(
        value=value,
        apply_default_css=False,
        html_template=markup.translate(TEMPLATE_ESCAPES),
        js_on_load=f"window.liveNets.then((page) => page.number(element, props, watch, {lesson!r}));",
        elem_classes=f"setting setting-{name}",
    )


def values(lesson: Lesson, config: Config) -> dict[str, Any]:
    """The value of each control for these settings, in the form that its component takes."""
    named = config.by_name()
    return {name: value_of(control, named[name]) for name, control in lesson.config.controls().items()}


def verdicts(lesson: Lesson, values: Mapping[str, object]) -> dict[str, Any]:
    """The server's verdict on each typed number, for numbers.js; missing values have their defaults.

    Per name: the parsed value or the error message, and whether the setting has an effect with the other values.
    """
    found = {}
    try:
        config = lesson.config.read(values)
    except SettingError:
        config = None
    for name, control in lesson.config.controls().items():
        if isinstance(control, Number | Numbers):
            try:
                typed = values.get(name, control.default)
                verdict: dict[str, Any] = {"value": value_of(control, control.read(name, typed))}
            except SettingError as error:
                verdict = {"refused": both(error_message(error, lesson))}
            matters = config is None or config.matters(name)
            found[name] = {"typed": values.get(name), "matters": matters, **verdict}
    return found


def _options(options: Any) -> Labelled:
    return [(_label(words), value) for value, words in options.items()]


def _label(words: Words) -> Any:
    return words if isinstance(words, str) else label(words)


def speed(pace: int) -> gr.Radio:
    """The radio buttons for the speed."""
    choices = [(str(each), each) for each in SPEED_VALUES if each != FULL_SPEED]
    return gr.Radio(
        [*choices, (label(FULL), FULL_SPEED)],
        value=pace,
        label=label(SPEED),
        info=label(SPEED_INFO),
        scale=5,
    )


def speed_of(value: object) -> int:
    """The selected speed. Raises SettingError."""
    if isinstance(value, bool) or not isinstance(value, int) or value not in SPEED_VALUES:
        names = ", ".join(map(str, SPEED_VALUES))
        raise SettingError("speed", Text(f"one of {names}", f" {names} 之一"), value)
    return value


def error_message(error: SettingError, lesson: Lesson) -> Text:
    """The error message with the setting's label in place of its name."""
    known = lesson.config.controls()
    name = known[error.name].label if error.name in known else error.name.capitalize()
    if error.value is None or error.value == [] or (isinstance(error.value, str) and not error.value.strip()):
        sentence = Text("{name} must be {rule}, not empty.", "{name}必须是{rule}，不能为空。")
        return sentence.format(name=name, rule=error.rule)
    return error.told(name)
