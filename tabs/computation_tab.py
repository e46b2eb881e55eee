"""The tab of a lesson without training: it shows the result for the current settings."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from charts.text import Language
from lab.lesson import Computation
from runs.admission import COMPUTING
from runs.run import draw, preview
from server import gradio_adapter
from server.event_limits import limited
from tabs import live
from tabs.lesson_tab import CHECKED, EVENT, REFUSED, LessonTab, Updates


class ComputationTab(LessonTab):
    """Every change of a control computes the result again; the server keeps no state."""

    lesson: Computation

    def __init__(self, lesson: Computation, language: gr.Textbox) -> None:
        super().__init__(lesson, language)
        changes = [control.change for control in self.controls]
        gr.on(
            changes, limited(self.changed, COMPUTING), self.controls, self.chart, trigger_mode="always_last", **CHECKED
        )
        outputs = [self.chart, *self.controls]
        self.ideas.click(limited(self.try_idea, COMPUTING), None, outputs, **EVENT)
        self.ideas.submit(limited(self.open_with, COMPUTING), None, outputs, **EVENT)

    def _build_run(self) -> None:
        self._build_chart()

    def _inputs(self) -> list[Any]:
        return self.controls

    async def changed(self, *values: object) -> dict[str, Any]:
        """The result, and whether each typed number is valid."""
        return self._with_verdicts(await self.show(*values), values)

    async def show(self, *values: object) -> str:
        """The result for these settings."""
        try:
            return live.computed(await preview(self.lesson, self._config(values)))
        except REFUSED as error:
            return self._problem(error)

    async def try_idea(self, event: gr.EventData) -> Updates:
        """The result for an idea's settings, and these settings."""
        try:
            config, values = self._idea_settings(event)
            return [live.computed(await preview(self.lesson, config)), *values]
        except REFUSED as error:
            return self._refused(error)

    async def open_with(self, event: gr.EventData) -> Updates:
        """The result for the settings in the page's URL, and these settings."""
        try:
            config = self.lesson.config.read(gradio_adapter.sent_with(event, "settings"))
            return [live.computed(await preview(self.lesson, config)), *self._values(config)]
        except REFUSED as error:
            return self._refused(error)

    def _refused(self, error: Exception) -> Updates:
        return [self._problem(error), *[gr.skip()] * len(self.controls)]

    async def _draw(self, request: gr.Request, values: tuple[object, ...], language: Language) -> Mapping[str, bytes]:
        return await draw(self.lesson, self._config(values), language)
