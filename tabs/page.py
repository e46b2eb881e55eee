"""The page: its tabs and theme, and the web application that serves it."""

import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from charts import html
from charts.text import Text, both
from export import VERSION
from lab.lesson import GROUPS
from nets import LESSONS
from server import application, gradio_adapter, temporary_files
from server.live_channel import LiveChannel
from tabs import api, checkpoints_tab, language, lesson_tab, run_files
from tabs.open_page import OpenPage

# Gradio's own themes load fonts from the network. CHINESE has a font for each common system.
CHINESE = ("PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Noto Sans SC")
SYSTEM_FONTS = ("ui-sans-serif", "system-ui", *CHINESE, "sans-serif")
MONO_FONTS = ("ui-monospace", "Consolas", "Liberation Mono", *CHINESE, "monospace")

SCRIPTS = Path(__file__).parent / "scripts"
MAIN = "main.js"

FIRST = "regression"  # tab selected at first: the first lesson that trains

WELCOME = Text(
    "Learn PyTorch by running it. Press **Train**, watch the net learn, and take it with you.",
    "边运行边学 PyTorch。按下**训练**，看网络怎样学习，再把它带走。",
)


REMEMBERED = Text(
    "This browser remembers your settings and, in each tab, your runs. None of it is stored anywhere else.",
    "浏览器会记住你的设置，每个标签页会记住各自的训练。这些都不会存到别处。",
)
FORGET = Text("Forget everything", "全部忘掉")
SURE = Text("Press again to forget settings and runs", "再按一次，忘掉设置和训练")
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
    with gradio_adapter.LoggingBlocks(title="Live Nets", analytics_enabled=False, delete_cache=delete_cache) as demo:
        # Handlers wait for workers and not for each other, as with Gradio's default. Called while the page is empty,
        # because it iterates over all components.
        demo.queue(default_concurrency_limit=None, max_size=1000)
        api.build()  # first, so that its endpoint names are not taken by handlers of the page
        gr.HTML(_header(), elem_classes="welcome")
        with gr.Tabs(selected=FIRST, overflow_behavior="wrap", elem_id="lessons"):
            for lesson in LESSONS.values():
                with gr.Tab(language.label(lesson.title), id=lesson.key, elem_id=lesson.key):
                    lesson_tab.build(lesson)
            with gr.Tab(language.label(checkpoints_tab.TITLE), id=checkpoints_tab.KEY, elem_id=checkpoints_tab.KEY):
                checkpoints_tab.build()
        gr.HTML(_footer(), elem_classes="memory")
    assert isinstance(demo, gr.Blocks)
    return demo


def _header() -> str:
    """The header: welcome text, language switch, and the titles and groups of the tabs for tabs.js."""
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


def _footer() -> str:
    return (
        f"<p>{html.words(REMEMBERED)} <button type=button data-forget><span class=ask>{html.words(FORGET)}</span>"
        f"<span class=sure>{html.words(SURE)}</span></button></p>"
    )


def create_application(blocks: gr.Blocks) -> FastAPI:
    """The web application that serves the page returned by `build`."""
    bokeh = Route(f"/{lesson_tab.BOKEH_JS.name}", _bokeh)
    version = scripts_version()
    scripts = Route(f"/scripts/{version}/{{name}}", _script)
    return application.create(
        blocks,
        LiveChannel(OpenPage, version),
        routes=[bokeh, scripts, *run_files.ROUTES, *checkpoints_tab.ROUTES],
        cached=lambda path: path == bokeh.path or path.startswith("/scripts/"),
        theme=theme(),
        css_paths=[Path(__file__).parent / "page.css"],
        head=_head(version),
        i18n=language.translations(),
    )


def scripts_version() -> str:
    """A hash of all scripts and of the app's version: a page of another version is told to reload."""
    digest = hashlib.sha256(VERSION.encode())
    for path in _scripts():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _scripts() -> list[Path]:
    return sorted(SCRIPTS.glob("*.js"))


def _head(version: str) -> str:
    """The scripts: modules, fetched at once, in a folder named after their version.

    Gradio may build the page before they have run, so that its parts wait for the promise.
    """
    preloads = "".join(
        f'<link rel="modulepreload" href="scripts/{version}/{path.name}">' for path in _scripts() if path.name != MAIN
    )
    return (
        f"<script>window.liveNets = new Promise((resolve) => (window.liveNetsLoaded = resolve));</script>{preloads}"
        f'<script type="module" src="scripts/{version}/{MAIN}" data-version="{version}"></script>'
    )


async def _script(request: Request) -> Response:
    """A script, at a URL that changes with its content."""
    paths = {path.name: path for path in _scripts()}
    path = paths.get(request.path_params["name"])
    if path is None:
        return PlainTextResponse("Not Found", 404)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return FileResponse(path, media_type="text/javascript", headers=headers)


async def _bokeh(request: Request) -> FileResponse:
    """BokehJS, at a URL that does not reveal its installation path."""
    return FileResponse(lesson_tab.BOKEH_JS)
