"""Base class of the lesson tabs: text, controls, chart, ideas, and the code that runs."""

import inspect
import logging
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import gradio as gr

from charts import html
from charts.text import Language, Text
from lab.lesson import Idea, Lesson, Training
from lab.settings import Config, SettingError
from runs.admission import DRAWING, FULL, FullError
from runs.pool import LostError
from server import gradio_adapter, temporary_files
from server.event_limits import limited
from tabs import controls, live
from tabs.language import SEND_LANGUAGE, label, language_of

Updates = list[Any]

TRY = Text("Try this", "试一试")
CODE = Text("The code that runs here", "本课运行的代码")
FIGURE = Text("Figure", "图片")
SAVE_FIGURE = Text("Save figure", "保存图片")
NOT_SAVED = Text("The figure could not be written. Please try again.", "图片没有写成。请再试一次。")
BUSY = Text(
    "The worker processes are restarting. Nothing is lost; please try again.",
    "计算进程正在重新启动。什么也没有丢：请再试一次。",
)
NO_CHART = Text("This lesson has no chart to save.", "本课没有可以保存的图。")
DEFAULTS = Idea(
    Text("The tutorial's settings", "教程的设置"),
    Text("Back to the initial settings of this lesson.", "回到本课最初的设置。"),
    {},
)


class GoneError(RuntimeError):
    """The page shows a run that has ended; `told` is the reason in both languages."""

    def __init__(self, reason: Text) -> None:
        super().__init__(reason.en)
        self.told = reason


REFUSED = (SettingError, LostError, FullError, GoneError)  # errors that handlers show to the visitor

_log = logging.getLogger(__name__)

# preprocess=False: values arrive as sent, so that Config validates them and writes the error messages.
EVENT: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
CHECKED: dict[str, Any] = {**EVENT, "preprocess": False}


class LessonTab(ABC):
    """Adds the tab to the current Blocks and handles its events.

    `language` is the component that stands for the page's language.
    """

    def __init__(self, lesson: Lesson, language: gr.Textbox) -> None:
        self.lesson = lesson
        self.language = language
        self._all_ideas = (*lesson.suggestions, DEFAULTS)
        gr.HTML(html.markdown(lesson.prose.summary), elem_classes="lesson-summary")
        kind = "trains" if isinstance(lesson, Training) else "computes"
        with gr.Row(elem_classes=["lesson", kind]):
            with gr.Column(elem_classes="lesson-settings"):
                items = lesson.config.controls().items()
                self.controls = [controls.component(lesson, name, control) for name, control in items]
            self.ideas = gr.HTML(
                _ideas(self._all_ideas),
                js_on_load=f"window.liveNets.ideas(element, trigger, {lesson.key!r});",
                elem_classes="lesson-ideas",
            )
            with gr.Column(elem_classes="lesson-run"):
                self._build_run()
            # Filled with the chart when the tab is first opened: the texts of all tabs would delay the page.
            self.text = gr.HTML(elem_classes="lesson-text")
            self.code = gr.HTML(elem_classes="lesson-code")
        self.chart.submit(limited(self.first_view), None, [self.chart, self.text, self.code], **EVENT)
        self.save.click(
            limited(self.save_figure, DRAWING),
            [language, *self._inputs()],
            [self.chart, self.figures],
            js=SEND_LANGUAGE,
            **CHECKED,
        )

    @abstractmethod
    def _build_run(self) -> None:
        """Create the column of the chart; calls `_build_chart`."""

    def _build_chart(self, speed: gr.Radio | None = None) -> None:
        """Create the chart, and below it the speed and the button that saves a figure."""
        self.chart = live.component(self.lesson)
        with gr.Row(elem_classes="lesson-pace"):
            if speed is not None:
                speed.render()
            self.save = gr.Button(label(SAVE_FIGURE), min_width=120, elem_classes="save-figure")
        self.figures = gr.File(label=label(FIGURE), file_count="multiple", interactive=False, visible=False)
        gr.HTML(live.BLOCKS)

    @abstractmethod
    def _inputs(self) -> list[Any]:
        """The input components of the handlers; the controls come last."""

    async def first_view(self) -> Updates:
        """Chart, text and code of a tab that is opened for the first time; equal for all visitors."""
        try:
            return [await live.first_view(self.lesson), *self._text_and_code]
        except LostError as error:
            return [self._problem(error), *self._text_and_code]

    @cached_property
    def _text_and_code(self) -> list[str]:
        """The lesson's text and highlighted code, cached."""
        code = f"<h3>{html.words(CODE)}</h3>{''.join(map(html.code, self._sources()))}"
        return [html.markdown(self.lesson.prose.text), code]

    @abstractmethod
    async def _draw(self, request: gr.Request, values: tuple[object, ...], language: Language) -> Mapping[str, bytes]:
        """The current chart as image files, by format. Raises the errors in REFUSED."""

    def _problem(self, error: Exception) -> str:
        """The frame that shows one of the errors in REFUSED and leaves the chart unchanged."""
        match error:
            case SettingError():
                return live.problem(controls.error_message(error, self.lesson))
            case FullError():
                return live.problem(FULL)
            case GoneError():
                return live.problem(error.told)
            case _:
                return live.problem(BUSY)

    def _sources(self) -> list[str]:
        return [textwrap.dedent(inspect.getsource(source)) for source in self.lesson.sources]

    async def save_figure(self, request: gr.Request, language: object, *values: object) -> tuple[Any, Any]:
        """Offer the current chart as image files, in the page's language."""
        try:
            images = await self._draw(request, values, language_of(language))
            if not images:  # the page hides the button, but any client can send the request
                return live.problem(NO_CHART), gr.skip()
            with temporary_files.new_folder() as (folder, _):
                paths = [folder / f"{self.lesson.key}.{kind}" for kind in images]
                for path, content in zip(paths, images.values(), strict=True):
                    path.write_bytes(content)
        except REFUSED as error:
            return self._problem(error), gr.skip()
        except OSError:
            _log.exception("figure not written lesson=%s", self.lesson.key)
            return live.problem(NOT_SAVED), gr.skip()
        return gr.skip(), gr.update(value=[str(path) for path in paths], visible=True)

    def _config(self, values: tuple[object, ...]) -> Config:
        """The settings of the controls, the last of `values`. Raises SettingError."""
        return self.lesson.config.read(self._named(values))

    def _named(self, values: tuple[object, ...]) -> dict[str, object]:
        names = self.lesson.config.controls()
        return dict(zip(names, values[len(values) - len(names) :], strict=True))

    def _with_verdicts(self, update: Any, values: tuple[object, ...]) -> dict[str, Any]:
        """The update of the chart, with the server's verdicts on typed numbers."""
        chart = gr.update(value=update) if isinstance(update, str) else update
        return {**chart, "judged": controls.judged(self.lesson, self._named(values))}

    def _idea_settings(self, event: gr.EventData) -> tuple[Config, Updates]:
        """The settings of the clicked idea, and the value of each control. Raises SettingError."""
        number = gradio_adapter.sent_with(event, "idea")
        if type(number) is not int or number not in range(len(self._all_ideas)):
            raise SettingError("idea", Text("the number of an idea of this lesson", "本课里的编号"), number)
        config = self.lesson.config.parse(self._all_ideas[number].settings)
        return config, self._values(config)

    def _values(self, config: Config) -> Updates:
        """The value of each control for these settings."""
        values = config.by_name()
        return [controls.value_of(control, values[name]) for name, control in self.lesson.config.controls().items()]


def _ideas(ideas: Sequence[Idea]) -> str:
    cards = "".join(
        f'<div class="idea"><button type="button" data-idea="{number}">{html.words(idea.label)}</button>'
        f"<p>{html.inline(idea.why)}</p></div>"
        for number, idea in enumerate(ideas)
    )
    return f"<h3>{html.words(TRY)}</h3>{cards}"
