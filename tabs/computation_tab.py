"""The tab of a lesson that trains nothing: what it shows follows its controls."""

from typing import Any

import gradio as gr

from charts.chart import Chart
from nets.lesson import Computation, Idea, View
from nets.settings import SettingError
from runs.run import compute
from tabs import controls, live
from tabs.lesson_tab import CHECKED, DEFAULTS, EVENT, LessonTab, Updates


class ComputationTab(LessonTab):
    """Every change of a control computes anew; nothing of a visitor is kept."""

    lesson: Computation

    def __init__(self, lesson: Computation, first: View, language: gr.Textbox) -> None:
        super().__init__(lesson, live.computed_props(first), language)
        for control in self.controls:
            control.change(self.show, self.controls, self.chart, trigger_mode="always_last", **CHECKED)
        for button, idea in zip(self.ideas, [*lesson.ideas, DEFAULTS], strict=True):
            button.click(self._trying(idea), None, [self.chart, *self.controls], **EVENT)

    def _build_run(self, first: dict[str, Any]) -> None:
        self._build_chart(first)

    def _inputs(self) -> list[Any]:
        return self.controls

    async def show(self, *values: object) -> str:
        """What these settings give."""
        try:
            return live.computed(await compute(self.lesson, self._config(values)))
        except SettingError as error:
            return live.problem(controls.told(error, self.lesson))

    def _trying(self, idea: Idea) -> Any:
        async def tried() -> Updates:
            config, values = self._tried(idea)
            return [live.computed(await compute(self.lesson, config)), *values]

        return tried

    async def _chart_on_show(self, request: gr.Request, values: tuple[object, ...]) -> Chart:
        return (await compute(self.lesson, self._config(values))).chart
