"""The API for gradio_client: /lessons and /train."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api  # gr.api, which mypy does not find

from export.bundle import Bundle
from export.cases import ExportError, NonFiniteError
from lab.recipe import Change, Recipe, parse_changes, read_changes, read_link
from lab.settings import Config, Control, SettingError
from nets import LESSONS, TRAININGS, read_recipe
from runs.admission import DRAWING, FullError, Place, SpentError, refuse_spent
from runs.pool import LostError
from runs.run import LOST, Run, State, TooLongError
from server import temporary_files
from server.event_limits import address_of, limited
from tabs.run_files import NOT_WRITTEN

_log = logging.getLogger(__name__)


async def lessons() -> list[dict[str, Any]]:
    """All lessons: key, title, whether it trains, and each control with its label, default and range.

    A control with `live` can change during a run; one with `view` changes only what is shown.
    """
    return [
        {
            "key": lesson.key,
            "title": lesson.title.en,
            "trains": lesson.key in TRAININGS,
            "controls": [_describe(name, control) for name, control in lesson.config.controls().items()],
        }
        for lesson in LESSONS.values()
    ]


def _describe(name: str, control: Control) -> dict[str, Any]:
    return {
        "name": name,
        "label": control.label.en,
        "live": control.live,
        "view": control.view,
        "when": control.when,
        **control.schema(),
    }


async def train(
    lesson: object, settings: object, changes: object = None, request: gr.Request | None = None
) -> tuple[dict[str, float], Any, str]:
    """Train a lesson to its end.

    `lesson` is the key of a lesson that trains, `settings` a JSON object of setting names and values; missing settings
    have their defaults. `changes` are made during the run: a list of objects with the keys step, name and value, or
    text as in a link, "40:learning_rate=0.1,55:net.hidden.weight.3.0=0.8". Returns the metrics, the parity report of
    each net by name, and the bundle as a zip. Raises gr.Error for invalid settings and changes, a run that diverges,
    and an address that has used up its training time. Training starts when the client reads the response, and ends
    when the client disconnects.
    """
    assert request is not None  # Gradio passes it; it has a default only because `changes` has one
    try:
        refuse_spent(address_of(request))
        with Place(address_of(request)) as place:
            recipe = _recipe(lesson, settings, changes)
            await place.ready()
            run = await Run.create(recipe)
            try:
                await _train(run)
            except BaseException:
                run.abandon()
                raise
        try:  # without the place: an export whose worker dies takes one, to train again
            bundles, path = await _export(run, address_of(request))
        finally:
            run.abandon()
        reports = {bundle.manifest["net"]: bundle.parity.to_dict() for bundle in bundles}
        return dict(run.frame.encoded.metrics), reports, str(path)
    except (SettingError, NonFiniteError, ExportError, FullError, SpentError, TooLongError) as error:
        raise gr.Error(str(error), print_exception=False) from error
    except LostError as error:
        raise gr.Error(LOST.en, print_exception=False) from error
    except OSError as error:
        _log.exception("export failed")
        raise gr.Error(NOT_WRITTEN.en, print_exception=False) from error


def _recipe(key: object, settings: object, changes: object) -> Recipe:
    recipe = read_recipe({"lesson": key, "settings": settings})
    return replace(recipe, changes=_read_changes(changes, recipe.settings))


def _read_changes(changes: object, settings: Config) -> tuple[Change, ...]:
    if changes is None:
        return ()
    if isinstance(changes, str):
        return read_link(changes, settings)
    if isinstance(changes, list) and all(isinstance(each, str) for each in changes):
        return read_changes(changes, settings)
    return parse_changes(changes, settings)


async def _export(run: Run, address: str) -> tuple[list[Bundle], Path]:
    async with DRAWING.of(address):
        with temporary_files.new_folder() as (folder, work):
            bundles, archive = await run.export(work)
            path = folder / f"live-nets-{run.lesson.key}.zip"
            path.write_bytes(archive)
            return bundles, path


async def _train(run: Run) -> None:
    run.start()
    async for _ in run.frames():
        pass
    if run.state is State.DIVERGED:
        raise NonFiniteError(f"{run.lesson.key}: {run.frame.message.en}")
    if run.state is not State.DONE:
        raise gr.Error(run.frame.message.en, print_exception=False)


def build() -> None:
    """Add the endpoints to the current Blocks."""
    api(limited(lessons), api_name="lessons")
    with gr.Group(visible=False):
        inputs = [gr.Textbox(label="lesson"), gr.JSON(label="settings"), gr.JSON(label="changes")]
        outputs = [gr.JSON(label="metrics"), gr.JSON(label="parity"), gr.File(label="bundle")]
        gr.Button().click(
            limited(train),
            inputs,
            outputs,
            api_name="train",
            preprocess=False,
        )
