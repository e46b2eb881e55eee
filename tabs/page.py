"""The page: its tabs and theme, and the web application that serves it."""

import json
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from charts import html
from charts.text import Text, both
from lab.lesson import GROUPS, Computation, Lesson, Training
from nets import LESSONS
from runs import registry
from server import application, gradio_adapter, temporary_files
from tabs import api, checkpoints_tab, language, live
from tabs.computation_tab import ComputationTab
from tabs.training_tab import TrainingTab

# Gradio's own themes load fonts from the network. CHINESE has a font for each common system.
CHINESE = ("PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Noto Sans SC")
SYSTEM_FONTS = ("ui-sans-serif", "system-ui", *CHINESE, "sans-serif")
MONO_FONTS = ("ui-monospace", "Consolas", "Liberation Mono", *CHINESE, "monospace")

SCRIPTS = ("stream.js", "page.js", "live.js", "numbers.js")  # in the order in which they run

FIRST = "regression"  # tab selected at first: the first lesson that trains

WELCOME = Text(
    "Learn PyTorch by running it. Press **Train**, watch the net learn, and take it with you.",
    "边运行边学 PyTorch。按下**训练**，看网络怎样学习，再把它带走。",
)


TAKE_AWAY = Text("Take away", "带走")  # group of the Checkpoints tab


def theme() -> gr.themes.Base:
    """Gradio's Soft theme with plain labels and system fonts."""
    soft = gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=SYSTEM_FONTS, font_mono=MONO_FONTS)
    return soft.set(
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_padding="0",
        block_padding="10px 12px",
        button_large_text_weight="600",
        button_large_text_size="*text_md",
        # Borders in light mode; text and buttons with a contrast of at least 4.5 (WCAG 2.2, 1.4.3).
        body_text_color_subdued="*neutral_600",
        block_info_text_color="*neutral_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_secondary_border_color="*neutral_300",
        button_border_width="1px",
        input_border_width="1px",
        input_border_color="*neutral_300",
        checkbox_label_border_width="1px",
        checkbox_label_border_color="*neutral_300",
        checkbox_label_background_fill_selected="*primary_600",
        slider_color="*primary_600",
    )


def build() -> gr.Blocks:
    """The page with all lessons."""
    delete_cache = temporary_files.SWEEP_SECONDS, temporary_files.FILE_AGE
    with gradio_adapter.StatelessBlocks(title="Live Nets", analytics_enabled=False, delete_cache=delete_cache) as demo:
        # Handlers wait for workers and not for each other, as with Gradio's default. Called while the page is empty,
        # because it iterates over all components.
        demo.queue(default_concurrency_limit=None, max_size=1000)
        api.build()  # first, so that its endpoint names are not taken by handlers of the page
        gr.HTML(_header(), elem_classes="welcome")
        language_input = gr.Textbox("en", visible=False)  # input component for the page's language
        with gr.Tabs(selected=FIRST, overflow_behavior="wrap", elem_id="lessons"):
            for lesson in LESSONS.values():
                with gr.Tab(language.label(lesson.title), id=lesson.key, elem_id=lesson.key):
                    _build_tab(lesson, language_input)
            with gr.Tab(language.label(checkpoints_tab.TITLE), id=checkpoints_tab.KEY, elem_id=checkpoints_tab.KEY):
                checkpoints_tab.CheckpointsTab()

        async def close(request: gr.Request) -> None:
            registry.close(str(request.session_hash))
            gradio_adapter.forget_page(demo, str(request.session_hash))

        demo.unload(close)
    assert isinstance(demo, gr.Blocks)
    return demo


def _build_tab(lesson: Lesson, language_input: gr.Textbox) -> None:
    match lesson:
        case Training():
            TrainingTab(lesson, language_input)
        case Computation():
            ComputationTab(lesson, language_input)
        case _:
            raise TypeError(f"{lesson.key} neither trains nor computes")


def _header() -> str:
    """The header: welcome text, language switch, and the titles and groups of the tabs for page.js."""
    tabs: dict[str, Any] = {
        key: {"title": both(lesson.title), "group": lesson.group} for key, lesson in LESSONS.items()
    }
    tabs[checkpoints_tab.KEY] = {"title": both(checkpoints_tab.TITLE), "group": checkpoints_tab.KEY}
    groups: dict[str, Any] = {key: both(title) for key, title in GROUPS.items()}
    groups[checkpoints_tab.KEY] = both(TAKE_AWAY)
    words = escape(json.dumps({"tabs": tabs, "groups": groups}))
    return f"""
<div id="lesson-words" data-words="{words}">
  <h1 class="notranslate" translate="no">Live Nets</h1>
  {html.markdown(WELCOME)}
</div>
<div class="languages notranslate" translate="no" role="group" aria-label="Language · 语言">
  <button type="button" data-language="en" lang="en">English</button>
  <button type="button" data-language="zh-CN" lang="zh-CN">中文</button>
</div>"""


def create_application(blocks: gr.Blocks) -> FastAPI:
    """The web application that serves the page returned by `build`."""
    here = Path(__file__).parent
    scripts = [(here / name).read_text(encoding="utf-8") for name in SCRIPTS]
    bokeh = Route(f"/{live.BOKEH_JS.name}", _bokeh)
    return application.create(
        blocks,
        routes=[bokeh, *checkpoints_tab.ROUTES],
        cached=lambda path: path == bokeh.path,
        theme=theme(),
        css_paths=[here / "page.css"],
        head="".join(f"<script>{script}</script>" for script in scripts),
        i18n=language.translations(),
    )


async def _bokeh(request: Request) -> FileResponse:
    """BokehJS, at a URL that does not reveal its installation path."""
    return FileResponse(live.BOKEH_JS)
