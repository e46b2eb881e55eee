"""The page: its tabs, its look, and the settings that it is launched with."""

from pathlib import Path
from typing import Any

import gradio as gr

from nets import LESSONS
from runs import visitors
from runs.run import Run
from tabs import api, live
from tabs.lesson_tab import LessonTab

SYSTEM_FONTS = ("ui-sans-serif", "system-ui", "sans-serif")  # Gradio's themes fetch theirs from the network
MONO_FONTS = ("ui-monospace", "Consolas", "monospace")

FILE_AGE = 3600  # seconds that a visitor's downloads stay


def theme() -> gr.themes.Base:
    """Gradio's soft theme with plain labels, in fonts that are there already."""
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
        # Edges in light mode, and text and buttons that reach a contrast of 4.5 (WCAG 2.2, 1.4.3).
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


LAUNCH: dict[str, Any] = {
    "ssr_mode": False,  # it needs Node, and a page that is drawn by its server first shows its charts later
    "run_history": False,  # runs are the visitor's own
    "enable_monitoring": False,
    "show_error": False,  # errors meant for visitors are shown all the same; others are for the log
    "max_file_size": "1kb",  # nothing is uploaded here
    "footer_links": ["api"],
    "pwa": False,
    "max_threads": 200,  # as many events as Gradio lets run at once, async ones too; a live run is one for all its time
}


def build() -> gr.Blocks:
    """The page of all lessons."""
    gr.set_static_paths([live.BOKEH_JS])
    with gr.Blocks(title="Live Nets", analytics_enabled=False, delete_cache=(600, FILE_AGE)) as demo:
        api.build()  # first: its names are promised, and handlers of the page would take them
        gr.Markdown(
            "# Live Nets\nLearn PyTorch by running it. Press **Train**, watch the net learn, and take it with you.",
            elem_classes="welcome",
        )
        with gr.Tabs():
            for lesson in LESSONS.values():
                with gr.Tab(lesson.title, id=lesson.key):
                    LessonTab(lesson, Run(lesson, lesson.config()).frame)
        demo.unload(_close)
    # Handlers only wait for the thread that trains; Gradio's own default lets them wait for each other.
    demo.queue(default_concurrency_limit=None, max_size=1000)
    assert isinstance(demo, gr.Blocks)
    return demo


async def _close(request: gr.Request) -> None:
    visitors.close(str(request.session_hash))


def launch_options() -> dict[str, Any]:
    """All that `demo.launch` is given, but for the port."""
    return {**LAUNCH, "theme": theme(), "css_paths": [Path(__file__).parent / "page.css"]}
