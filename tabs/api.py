"""The API for gradio_client: /lessons and /train."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api

from export import bundle
from export.bundle import NonFiniteError
from export.graph import ExportError
from nets import LESSONS, TRAININGS
from nets.settings import Control, SettingError
from runs.run import Run, State


def lessons() -> list[dict[str, Any]]:
    """Every lesson: its key, its title, whether it trains, and each control with its label, default and range."""
    return [
        {
            "key": lesson.key,
            "title": lesson.title.en,
            "trains": lesson.key in TRAININGS,
            "controls": [_described(name, control) for name, control in lesson.config.controls().items()],
        }
        for lesson in LESSONS.values()
    ]


def _described(name: str, control: Control) -> dict[str, Any]:
    return {"name": name, "label": control.label.en, **control.schema()}


async def train(lesson: object, settings: object) -> AsyncIterator[tuple[dict[str, float], Any, str]]:
    """Train a lesson to its end.

    `lesson` is a key of /lessons that trains, `settings` a JSON object of its controls' names and values, defaults for
    the rest. Gives the metrics, the parity report of each net by name, and the bundle as a zip. Settings that
    break a rule, and runs that diverge, are answered by an error of one sentence.
    """
    try:
        run = await _trained(lesson, settings)
        with tempfile.TemporaryDirectory(prefix="live-nets-") as folder:
            bundles = await run.export(Path(folder))
            archive = Path(folder) / f"live-nets-{run.lesson.key}.zip"
            archive.write_bytes(bundle.archive(bundles))
            reports = {made.manifest["net"]: made.parity.to_dict() for made in bundles}
            yield dict(run.frame.snapshot.metrics), reports, str(archive)  # Gradio copies it before it goes on
    except (SettingError, NonFiniteError, ExportError) as error:
        raise gr.Error(str(error), print_exception=False) from error


async def _trained(key: object, settings: object) -> Run:
    if not isinstance(key, str) or key not in TRAININGS:
        raise SettingError("lesson", f"one of {', '.join(TRAININGS)}", key)
    lesson = TRAININGS[key]
    run = await Run.create(lesson, lesson.config.parse(settings))
    run.start()
    async for _ in run.frames():
        pass
    if run.state is State.DIVERGED:
        raise NonFiniteError(f"{key}: {run.frame.message.en}")
    if run.state is not State.DONE:
        raise gr.Error(run.frame.message.en, print_exception=False)
    return run


def build() -> None:
    """Add the API to the Blocks that is being built."""
    api(lessons, api_name="lessons")
    with gr.Group(visible=False):
        lesson, settings = gr.Textbox(label="lesson"), gr.JSON(label="settings")
        outputs = [gr.JSON(label="metrics"), gr.JSON(label="parity"), gr.File(label="bundle")]
        gr.Button().click(
            train,
            [lesson, settings],
            outputs,
            api_name="train",
            preprocess=False,
            concurrency_limit=4,
        )
