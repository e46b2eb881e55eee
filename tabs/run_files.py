"""Files of runs for download: bundles and figures, at URLs that carry the recipe, so that any server can answer.

`/files/LESSON/NAME?QUERY`: the query is that of a link to the lesson, with `language`; for a figure, also `step`, and
`page` and `run` of a run that is shown on an open page.
"""

import asyncio
import logging
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from charts import html
from charts.text import LANGUAGES, Language, Text, Words, said
from export import layout
from export.bundle import Bundle
from export.cases import ExportError, NonFiniteError
from lab.lesson import Training
from lab.recipe import Recipe
from lab.settings import SettingError
from nets import LESSONS
from runs import registry, turns
from runs.admission import DRAWING, FULL, FullError, Place, SpentError, refuse_spent
from runs.pool import LostError
from runs.run import REPLAY_SECONDS, TOO_LONG, Run, State, TooLongError, draw
from server import client_address, event_readers, temporary_files
from tabs import bundle_view, controls, links

LABELS = {
    layout.ONNX: "ONNX",
    layout.PARAMS: "state_dict",
    layout.SAFETENSORS: "safetensors",
    layout.PICKLE: "Pickle",
}
ARCHIVE = "bundle.zip"
FIGURES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
MOST_KEPT = 200  # exports whose files can be offered again without training

ZIP = Text("Bundle (zip)", "压缩包（zip）")
NOT_WRITTEN = Text("The files could not be written. Please try again.", "文件没有写成。请再试一次。")
BUSY = Text(
    "The worker processes are restarting. Nothing is lost; please try again.",
    "计算进程正在重新启动。什么也没有丢：请再试一次。",
)
_NO_FILE = Text("There is no such file.", "没有这个文件。")
_TAKE = Text("Take the net with you", "把网络带走")
_FILES = Text(
    "**ONNX** runs in other languages and in browsers, **state_dict** and **safetensors** hold the weights alone,"
    " **Pickle** is the whole model, for PyTorch. The **bundle** has them all, with a README on how to use each.",
    "**ONNX** 可以在其他语言和浏览器里运行，**state_dict** 和 **safetensors** 只保存权重，**Pickle** 保存整个模型，"
    "供 PyTorch 使用。**压缩包**里全都有，还有一份 README 说明每个文件怎么用。",
)
_NETS = Text(
    "The **bundle** has a folder for each net: ONNX, state_dict, safetensors and the whole model, with a README that"
    " shows how to use each.",
    "**压缩包**里每个网络各有一个文件夹：ONNX、state_dict、safetensors 和整个模型，并有 README 说明每个文件怎么用。",
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Exported:
    """The files of a run that is done, by the name in their URL; its verdicts and all comparisons, as HTML."""

    files: Mapping[str, Path]
    verdicts: str
    details: str


Key = tuple[Recipe, Language]

_kept: OrderedDict[Key, Exported] = OrderedDict()
_locks: WeakValueDictionary[tuple[str, Key], asyncio.Lock] = WeakValueDictionary()  # entries live while held


async def of_recipe(recipe: Recipe, language: Language) -> Exported:
    """The files of a recipe, which is trained if this server does not have them.

    Raises SettingError, SpentError, NonFiniteError if the run diverges, ExportError, LostError, FullError, TooLongError
    and OSError.
    """
    key = recipe, language
    async with _lock(key):
        return _found(key) or await _trained(recipe, language)


async def of_run(run: Run, language: Language) -> Exported:
    """The files of a run that is done: exported once, since a lesson may show the loaded nets, and then kept.

    Raises the errors of `Run.export`, and OSError.
    """
    key = run.recipe, language
    async with _lock(key):
        first = run.claim_export()
        return (None if first else _found(key)) or await _export(run, language)


def _lock(key: Key) -> asyncio.Lock:
    """The lock for writing these files, of the client's address alone: others need not wait for its place."""
    return _locks.setdefault((turns.address.get(), key), asyncio.Lock())


def _found(key: Key) -> Exported | None:
    found = _kept.get(key)
    return found if found is not None and all(path.exists() for path in found.files.values()) else None


def _keep(key: Key, made: Exported) -> Exported:
    _kept[key] = made
    _kept.move_to_end(key)
    while len(_kept) > MOST_KEPT:
        _kept.popitem(last=False)
    return made


async def _trained(recipe: Recipe, language: Language) -> Exported:
    refuse_spent(turns.address.get())
    run = await Run.create(recipe)
    try:
        with Place(turns.address.get()) as place:
            await place.ready()
            run.start()
            async for _ in run.frames():
                if run.seconds > REPLAY_SECONDS:
                    raise TooLongError(TOO_LONG.en)
        if run.state is State.DIVERGED:
            raise NonFiniteError(run.frame.message)
        if run.state is not State.DONE:
            raise LostError(run.frame.message.en)
        return await _export(run, language)
    finally:
        run.abandon()


async def _export(run: Run, language: Language) -> Exported:
    async with DRAWING.of(turns.address.get()):
        with temporary_files.new_folder() as (folder, work):
            bundles, archive = await run.export(work, language)
            made = await asyncio.to_thread(_offered, run.lesson, bundles, archive, folder)
    return _keep((run.recipe, language), made)


def _offered(lesson: Training, bundles: list[Bundle], archive: bytes, folder: Path) -> Exported:
    """Copy each file that passed to `folder`, under a name with the lesson's key."""
    files = {ARCHIVE: folder / f"live-nets-{lesson.key}.zip"}
    files[ARCHIVE].write_bytes(archive)
    several = len(bundles) > 1
    if not several:  # the zip has a folder for each of several nets
        for name in LABELS:
            if (bundles[0].folder / name).exists():  # else it failed; the report says why
                files[name] = folder / f"{bundles[0].name}-{name}"
                shutil.copyfile(bundles[0].folder / name, files[name])
    verdicts = [bundle_view.verdict(bundle.parity, bundle.manifest["net"] if several else "") for bundle in bundles]
    text = html.markdown(_NETS if several else _FILES)
    return Exported(files, f"<h3>{html.words(_TAKE)}</h3>{''.join(verdicts)}{text}", bundle_view.details(bundles))


def offer(recipe: Recipe, language: Language, found: Exported) -> str:
    """The section below the chart, as HTML: the verdicts, a link to each file, and all comparisons."""
    query = escape(links.query(recipe, language=language))
    names = {ARCHIVE: html.words(ZIP), **LABELS}
    buttons = "".join(
        f'<a class="action{" primary" if name == ARCHIVE else ""}" download'
        f' href="files/{recipe.lesson}/{name}?{query}">'
        f"{names[name]}</a>"
        for name in found.files
    )
    return f'{found.verdicts}<div class="actions downloads">{buttons}</div>{found.details}'


async def _file(request: Request) -> Response:
    """One file of a run, trained again if this server does not have it, unless the client disconnects."""
    turns.address.set(client_address.of_scope(request.scope))
    names = {request.scope[event_readers.DIRECT]} if event_readers.DIRECT in request.scope else ()
    try:
        async with event_readers.answering(frozenset(names)):
            return await _answer(request)
    except event_readers.AbandonedError:
        return _refusal(503, BUSY)


async def _answer(request: Request) -> Response:
    lesson = LESSONS.get(request.path_params["lesson"])
    name = request.path_params["name"]
    parameters = dict(request.query_params)
    try:
        language = _language(parameters.pop("language", "en"))
        if lesson is None:
            return _refusal(404, _NO_FILE)
        if name.startswith("figure.") and name.removeprefix("figure.") in FIGURES:
            return await _figure(request, name.removeprefix("figure."), parameters, language)
        if not isinstance(lesson, Training) or name not in (ARCHIVE, *LABELS):
            return _refusal(404, _NO_FILE)
        path = (await of_recipe(links.read(lesson, parameters), language)).files.get(name)
        return _refusal(404, _NO_FILE) if path is None else FileResponse(path, filename=path.name)
    except SettingError as error:
        return _refusal(422, error.told(error.name) if lesson is None else controls.error_message(error, lesson))
    except SpentError as error:
        return _refusal(429, error.told)
    except FullError:
        return _refusal(503, FULL)
    except LostError:
        return _refusal(503, BUSY)
    except (NonFiniteError, ExportError) as error:
        return _refusal(422, error.told)
    except TooLongError:
        return _refusal(422, TOO_LONG)
    except OSError:
        _log.exception("files not written lesson=%s", request.path_params["lesson"])
        return _refusal(500, NOT_WRITTEN)


async def _figure(request: Request, kind: str, parameters: dict[str, str], language: Language) -> Response:
    """The chart of the open page's run, or of the recipe at `step`, as an image file."""
    lesson = LESSONS[request.path_params["lesson"]]
    page, number, step = (parameters.pop(name, "") for name in ("page", "run", "step"))
    run = registry.current(page, lesson.key, _whole("run", number))
    at = _whole("step", step)
    if run is not None and not run.is_over:
        async with DRAWING.of(turns.address.get()):
            images = await run.draw(language)
    elif isinstance(lesson, Training) and at:
        images = await _drawn(links.read(lesson, parameters), at, language)
    else:
        async with DRAWING.of(turns.address.get()):
            images = await draw(links.read(lesson, parameters), language)
    if kind not in images:  # the page hides the links, but any client can send the request
        return _refusal(404, _NO_FILE)
    headers = {"Content-Disposition": f'attachment; filename="{lesson.key}.{kind}"', "Cache-Control": "no-store"}
    return Response(images[kind], media_type=FIGURES[kind], headers=headers)


async def _drawn(recipe: Recipe, step: int, language: Language) -> Mapping[str, bytes]:
    """The chart of a recipe at a step, which is trained."""
    refuse_spent(turns.address.get())
    run = await Run.create(recipe, step)
    try:
        if run.state is State.DONE:
            await of_run(run, language)  # a lesson may show the loaded nets
        async with DRAWING.of(turns.address.get()):
            return await run.draw(language)
    finally:
        run.abandon()


def _language(value: str) -> Language:
    for each in LANGUAGES:
        if value == each:
            return each
    raise SettingError("language", f"one of {', '.join(LANGUAGES)}", value)


def _whole(name: str, value: str) -> int:
    if value and not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise SettingError(name, Text("a whole number", "整数"), value)
    return int(value or 0)


def _refusal(status: int, message: Words) -> PlainTextResponse:
    lines: list[Any] = [said(message, each) for each in LANGUAGES]
    return PlainTextResponse("".join(f"{line}\n" for line in dict.fromkeys(lines)), status)


ROUTES = [Route("/files/{lesson}/{name}", _file)]  # relative to the app's root
