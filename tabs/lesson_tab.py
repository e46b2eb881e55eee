"""The tab of a lesson: summary, controls, ideas, and the elements that the page's scripts fill.

Gradio lays out the tab and has the controls. Everything else goes over the live channel: see `open_page`.
"""

import inspect
import json
import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import bokeh
import gradio as gr

from charts import html
from charts.text import Text, both
from lab.experiment import supervised_step
from lab.lesson import Idea, Lesson, Training
from lab.settings import Number, Numbers
from tabs import controls, run_files

BOKEH_JS = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"

TRY = Text("Try this", "试一试")
CODE = Text("The code that runs here", "本课运行的代码")
SAVE_FIGURE = Text("Save figure", "保存图片")
NOTE = Text("From whoever made this link:", "链接制作者的话：")
SHARE = Text("Link for a class …", "给全班的链接……")
COPY_LINK, COPIED = Text("Copy link", "复制链接"), Text("Copied", "已复制")
BUTTONS = {
    "train": Text("Train", "训练"),
    "pause": Text("Pause", "暂停"),
    "step": Text("Step", "单步"),
    "stop": Text("Stop", "停止"),
    "reset": Text("Reset", "重置"),
}
CONTINUE = Text("Continue", "继续")
DEFAULTS = Idea(
    Text("The tutorial's settings", "教程的设置"),
    Text("Back to the initial settings of this lesson.", "回到本课最初的设置。"),
    {},
)

_PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

_CHART = """
<div class="live" data-lesson="{key}" data-step="0" data-state="idle" data-connection="away" data-bokeh="{bokeh}"
  data-controls="{controls}"{speeds}>
  {buttons}
  <p class="live-note notranslate" translate="no" hidden>{note} <q></q></p>
  <p class="live-connection notranslate" translate="no" role="status" hidden></p>
  <p class="live-notice notranslate" translate="no" role="status" hidden></p>
  <p class="live-status notranslate" translate="no"></p>
  <p class="live-spoken notranslate" translate="no" role="status" aria-live="polite"></p>
  <div class="live-panels"></div>
  <div class="live-notes"></div>
</div>
"""
_TOOLS = """
<div class="lesson-tools">
  <button type="button" class="action copy-link"><span>{copy}</span><span hidden>{copied}</span></button>
  <button type="button" class="action share-link">{share}</button>
  <span class="save-figure">{save}{formats}</span>
</div>
"""


def build(lesson: Lesson) -> None:
    """Add the tab's content to the current Blocks."""
    trains = isinstance(lesson, Training)
    gr.HTML(html.markdown(lesson.prose.summary), elem_classes="lesson-summary")
    with gr.Row(elem_classes=["lesson", "trains" if trains else "computes"]):
        with gr.Column(elem_classes="lesson-settings"):
            items = lesson.config.controls().items()
            inputs = [controls.component(lesson, name, control) for name, control in items]
        gr.HTML(_ideas(ideas(lesson)), elem_classes="lesson-ideas")
        with gr.Column(elem_classes="lesson-run"):
            chart = gr.HTML(
                html_template=_chart(lesson),
                js_on_load=f"window.liveNets.then((page) => page.lesson(element, trigger, {lesson.key!r}));",
                elem_classes="live-view",
            )
            with gr.Row(elem_classes="lesson-pace"):
                if isinstance(lesson, Training):
                    inputs.append(controls.speed(lesson.pace))
                gr.HTML(_tools(), elem_classes="lesson-tools-view")
            gr.HTML('<div class="live-files parity"></div><div class="live-blocks"></div>', elem_classes="lesson-below")
        gr.HTML('<div class="live-text"></div>', elem_classes="lesson-text")
        gr.HTML('<div class="live-code"></div>', elem_classes="lesson-code")
    # Gradio hands over the values of the controls, and takes them from the page's script.
    changed = f"(...values) => window.liveNets.then((page) => page.changed({lesson.key!r}, values))"
    gr.on([each.change for each in inputs], None, inputs, None, js=changed, **_PRIVATE)
    chart.submit(
        None, None, inputs, js=f"() => window.liveNets.then((page) => page.values({lesson.key!r}))", **_PRIVATE
    )


def ideas(lesson: Lesson) -> Sequence[Idea]:
    """The lesson's ideas, and the one that leads back to its defaults."""
    return (*lesson.suggestions, DEFAULTS)


_texts: dict[str, dict[str, str]] = {}


def texts(lesson: Lesson) -> dict[str, str]:
    """The lesson's text and highlighted code as HTML, cached; a tab gets them when it is first opened."""
    if lesson.key not in _texts:
        _texts[lesson.key] = _rendered(lesson)
    return _texts[lesson.key]


def _rendered(lesson: Lesson) -> dict[str, str]:
    sources = [*lesson.sources, *([supervised_step] if isinstance(lesson, Training) else [])]
    code = "".join(html.code(textwrap.dedent(inspect.getsource(source))) for source in sources)
    return {"text": html.markdown(lesson.prose.text), "code": f"<h3>{html.words(CODE)}</h3>{code}"}


def _chart(lesson: Lesson) -> str:
    described = [
        {
            "name": name,
            "label": both(control.label),
            "box": isinstance(control, Number | Numbers),
            "free": control.view or control.live,
        }
        for name, control in lesson.config.controls().items()
    ]
    speeds = ""
    if isinstance(lesson, Training):
        speeds = f' data-pace="{lesson.pace}" data-speeds="{json.dumps(controls.SPEED_VALUES)}"'
    return _CHART.format(
        key=lesson.key,
        bokeh=BOKEH_JS.name,
        controls=escape(json.dumps(described)).translate(controls.TEMPLATE_ESCAPES),
        speeds=speeds,
        note=html.words(NOTE),
        buttons=_buttons() if isinstance(lesson, Training) else "",
    )


def _buttons() -> str:
    buttons = "".join(
        f'<button type="button" class="{"primary" if do == "train" else ""}" data-do="{do}"'
        f"{' disabled' if do in ('pause', 'stop') else ''}>{_label(do)}</button>"
        for do in BUTTONS
    )
    return f'<div class="lesson-buttons">{buttons}</div>'


def _label(do: str) -> str:
    if do != "train":
        return html.words(BUTTONS[do])
    return f'<span class="train">{html.words(BUTTONS[do])}</span><span class="continue">{html.words(CONTINUE)}</span>'


def _tools() -> str:
    formats = "".join(
        f'<a class="action" download data-figure="{each}" href="#">{each.upper()}</a>' for each in run_files.FIGURES
    )
    return _TOOLS.format(
        copy=html.words(COPY_LINK),
        copied=html.words(COPIED),
        share=html.words(SHARE),
        save=html.words(SAVE_FIGURE),
        formats=formats,
    )


def _ideas(all_ideas: Sequence[Idea]) -> str:
    cards = "".join(
        f'<div class="idea"><button type="button" data-idea="{number}">{html.words(idea.label)}</button>'
        f"<p>{html.inline(idea.why)}</p></div>"
        for number, idea in enumerate(all_ideas)
    )
    return f"<h3>{html.words(TRY)}</h3>{cards}"
