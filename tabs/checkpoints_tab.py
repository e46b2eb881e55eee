"""The Checkpoints tab: plot, metrics, verification result and files of each shipped net."""

import asyncio
import json
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import gradio as gr
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from charts import html
from charts.text import Text, Words, joined
from export import bundle, layout, manifest
from export.bundle import Bundle
from export.cases import BrokenFileError, NonFiniteError, Parity
from export.layout import find
from export.manifest import Manifest
from lab.plots import LOSS, TEST_LOSS
from lab.settings import SettingError
from nets import TRAININGS
from runs.pool import LostError, NoWorkerError
from runs.run import verified
from tabs import bundle_view, live

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"

_log = logging.getLogger(__name__)

KEY = "checkpoints"
TITLE = Text("Checkpoints", "现成的网络")

_SUMMARY = Text(
    "**Trained nets to take away.** Every lesson that trains has its nets here, trained with the tutorial's settings;"
    " some of these make a net fail, and the lesson shows why. This server has checked the hash of every file, and"
    " compared the nets and their recorded outputs with torch. Choose one to try it, to download it, and to open it in"
    " its lesson.",
    "**训练好的网络，可以带走**。每一课按教程设置训练出的网络都放在这里；有的设置会让网络失败，课程里说明了原因。"
    "服务器已核对每个文件的哈希值，并把网络及其记录的输出与 torch 的结果比较过。"
    "选一个，可以试用、下载，或在课程里打开。",
)
_BUSY = Text("Checking the files and comparing the nets with torch …", "正在核对文件，并把网络与 torch 比较……")
_RESTARTING = Text(
    "The worker processes are restarting. Please open this tab again in a minute.",
    "检查文件的进程正在重新启动。请过一分钟再看。",
)
_NOT_LISTED = Text("The checkpoints folder cannot be read.", "存放网络的文件夹无法读取。")
_CRASHED = "killed the process that verified it"
MAX_ATTEMPTS = 2  # to verify a bundle that kills its worker
_CHECKED = Text("{n} comparisons agree", "{n} 项比较全部一致")
_FAILED = Text("{n} of {all} comparisons fail", "{all} 项比较中有 {n} 项不一致")
_OPEN = Text("Open in its lesson", "在课程里打开")
_TRY = Text("Try it in the browser", "在浏览器里试")
_HINT = Text(
    "Its lesson opens with the same settings: press Train there to get the same net. The page to try it lets you change"
    " the inputs and computes the outputs in the browser, even offline.",
    "课程会以同样的设置打开：在那里按“训练”，会得到同样的网络。"
    "试用页面（英文）可以调整输入，并由页面自己计算网络，不联网也能用。",
)
_ZIP = Text("Download all (zip, {size} kB)", "全部下载（zip，{size} kB）")
_FILES = Text("Files", "文件")
_SETTINGS = Text("Settings", "设置")
_METRICS = Text("Metrics", "指标")
_ON, _OFF = Text("on", "开"), Text("off", "关")
_SHORT_NAMES = {"loss": LOSS, "test loss": TEST_LOSS}  # of metrics, without the name of the net
_DESCRIPTIONS = {
    "net.onnx": Text("for onnxruntime and other runtimes", "供 onnxruntime 等运行环境使用"),
    "net_params.pkl": Text("the weights, as a state_dict", "权重（state_dict）"),
    "net.safetensors": Text("the weights, as safetensors", "权重（safetensors）"),
    "net.pkl": Text("the whole model; loading it can run code", "整个模型；加载时可能会运行代码"),
    "net.py": Text("the net's class", "网络的类"),
    "golden.npz": Text("inputs, and torch's outputs", "输入，以及 torch 的输出"),
    "parity.json": Text("all comparisons", "全部比较"),
    "manifest.json": Text("settings, metrics, sizes, hashes", "设置、指标、大小、哈希值"),
    "README.md": Text("the model card, with snippets", "模型说明（英文），附用法"),
    "plot.png": Text("the plot", "图"),
    "try.html": Text("a page to try it, also offline", "试用页面（英文），不联网也能用"),
}

Found = Bundle | BrokenFileError | NonFiniteError


_verified: dict[str, Found] = {}  # by folder
_details: dict[str, str] = {}
_crashes: Counter[str] = Counter()
_checking = asyncio.Lock()


def build() -> None:
    """Add the tab's content to the current Blocks. It is filled over the live channel when a visitor opens it."""
    gr.HTML(html.markdown(_SUMMARY), elem_classes="lesson-summary")
    gr.HTML(
        html_template='<div class="checkpoints"></div><div class="checkpoint"></div>',
        js_on_load="window.liveNets.then((page) => page.checkpoints(element));",
        elem_classes=["cards-view", "parity"],
    )


async def cards() -> AsyncIterator[str]:
    """Verify all bundles, and yield their cards; a bundle with an error does not hide the others."""
    if not _verified:
        yield f"<p role=status>{html.words(_BUSY)}</p>"
    try:
        folders = sorted(await asyncio.to_thread(find, CHECKPOINTS), key=_order)
    except OSError:
        _log.exception("checkpoints not listed")
        yield _failed(_NOT_LISTED)
        return
    unchecked = ""
    async with _checking:  # concurrent visitors wait for the same result
        for folder in folders:
            name = _name(folder)
            if name in _verified:
                continue
            try:
                _verified[name] = await _verify(name, folder)
            except NoWorkerError:  # the next visit verifies the rest
                unchecked = _failed(_RESTARTING)
                break
            except LostError:
                unchecked = _failed(_RESTARTING)
                _crashes[name] += 1
                if _crashes[name] >= MAX_ATTEMPTS:
                    _verified[name] = BrokenFileError(name, _CRASHED)
    known = [_name(folder) for folder in folders if _name(folder) in _verified]
    yield "".join([*(_card(name, _verified[name]) for name in known), unchecked])


async def detail(name: object) -> str:
    """The details of the bundle with that name. Raises SettingError for a name that is none of `cards`."""
    found = _verified.get(name) if isinstance(name, str) else None
    match found:
        case None:
            raise SettingError("checkpoint", Text("the name of a checkpoint on this page", "本页上的网络名"), name)
        case Bundle():
            return await _detail(found, str(name))
        case error:
            return _failed(str(error))


async def _verify(name: str, folder: Path) -> Found:
    try:
        found = await verified(folder)
        _card(name, found)
        _archives[name] = await asyncio.to_thread(bundle.archive, [found])
    except LostError:
        raise
    except (BrokenFileError, NonFiniteError) as error:
        return error
    except Exception as error:  # noqa: BLE001  # the hashes match, but another version wrote the bundle
        return _display_error(name, error)
    return found


async def _detail(found: Bundle, name: str) -> str:
    """The details of a bundle, cached."""
    if name not in _details:
        try:
            _details[name] = await asyncio.to_thread(_details_of, found, name)
        except Exception as error:  # noqa: BLE001  # as in _verify
            return _failed(str(_display_error(name, error)))
    return _details[name]


def _display_error(name: str, error: Exception) -> BrokenFileError:
    _log.error("checkpoint not shown name=%s", name, exc_info=error)
    return BrokenFileError(f"{name}/{layout.MANIFEST}", f"cannot be displayed: {error!r}")


def _failed(message: Words) -> str:
    return f'<p class="verdict failed" role="status">{html.words(message)}</p>'


_archives: dict[str, bytes] = {}  # zips of verified bundles, by folder


async def _download(request: Request) -> Response:
    """A bundle as a zip. The name is only a key of `_archives`, never a path."""
    name = request.path_params["name"]
    if name not in _archives:
        return PlainTextResponse("Not Found", 404)
    headers = {"Content-Disposition": f'attachment; filename="live-nets-{quote(name.replace("/", "-"))}.zip"'}
    return Response(_archives[name], media_type="application/zip", headers=headers)


ROUTES = [  # relative to the app's root
    Route("/checkpoints/{name:path}.zip", _download),
    Mount("/checkpoints", StaticFiles(directory=CHECKPOINTS)),
]


def _name(folder: Path) -> str:
    """The folder of a bundle relative to CHECKPOINTS; "." for files directly in it."""
    return folder.relative_to(CHECKPOINTS).as_posix().encode(errors="replace").decode()


def _order(folder: Path) -> tuple[int, str]:
    """Sort key: the order of the lessons, then the folder name."""
    lesson = _name(folder).partition("/")[0]
    return [*TRAININGS, lesson].index(lesson), folder.name


def _url(path: Path) -> str:
    return f"checkpoints/{quote(os.fsencode(path.relative_to(CHECKPOINTS).as_posix()))}"


def _title(described: Manifest) -> Words:
    """The lesson's title, with the net's label if the lesson has several."""
    title = TRAININGS[described["lesson"]].title
    return joined([title, Text(**described["label"])], " · ") if len(described["nets"]) > 1 else title


def _card(name: str, found: Found) -> str:
    if not isinstance(found, Bundle):
        text = f'<b>{escape(name)}</b><span class="verdict failed">{escape(str(found))}</span>'
        return f'<button type="button" class="card" data-checkpoint="{escape(name)}">{text}</button>'
    figures = "".join(f"<span>{html.words(each)}</span>" for each in _metrics(found.manifest))
    return f"""
<button type="button" class="card" data-checkpoint="{escape(name)}">
  <img src="{_url(found.folder / "plot.png")}" alt="" loading="lazy" width="300" height="150">
  <b>{html.words(_title(found.manifest))}</b>
  <span class="figures">{figures}</span>
  <span class="verdict {"passed" if found.parity.passed else "failed"}">{html.words(_verdict(found.parity))}</span>
</button>"""


def _verdict(parity: Parity) -> Text:
    failed = sum(not case.passed for case in parity.cases)
    return (_FAILED if failed else _CHECKED).format(n=failed or len(parity.cases), all=len(parity.cases))


def _metrics(described: Manifest) -> list[Words]:
    """The net's metrics, formatted."""
    names = TRAININGS[described["lesson"]].metrics
    metrics = []
    for name, value in described["metrics"].items():
        short = name.removeprefix(f"{described['net']} ")
        metrics.append(joined([_SHORT_NAMES.get(short, names[name]), live.number(short, value)], " "))
    return [*metrics]


def _details_of(made: Bundle, name: str) -> str:
    described = made.manifest
    lesson = TRAININGS[described["lesson"]]
    files = "".join(_file(made, name) for name in sorted([layout.MANIFEST, *described["files"]], key=_rank))
    controls = lesson.config.controls()
    settings = "".join(
        f"<tr><td>{html.words(controls[name].label)}</td><td>{_value(value)}</td></tr>"
        for name, value in manifest.settings(described).items()
    )
    metrics = "".join(f"<li>{html.words(each)}</li>" for each in _metrics(described))
    try_it = ""
    if layout.PAGE in described["files"]:
        url = _url(made.folder / layout.PAGE)
        try_it = f'<a class="action" href="{url}" target="_blank">{html.words(_TRY)}</a>'
    size = f"{len(_archives[name]) / 1000:,.0f}"
    return f"""
<h3 tabindex="-1">{html.words(_title(described))}</h3>
{bundle_view.verdict(made.parity)}
<div class="actions">
  <a class="action primary" href="checkpoints/{quote(name)}.zip" download>{html.words(_ZIP.format(size=size))}</a>
  <a class="action" href="{escape(address(lesson.key, manifest.settings(described)))}">{html.words(_OPEN)}</a>
  {try_it}
</div>
<p class="hint">{html.words(_HINT)}</p>
<div class="about">
  <img src="{_url(made.folder / "plot.png")}" alt="">
  <section><h4>{html.words(_METRICS)}</h4><ul>{metrics}</ul>
  <h4>{html.words(_SETTINGS)}</h4><table>{settings}</table></section>
  <section class="files"><h4>{html.words(_FILES)}</h4><table>{files}</table></section>
</div>
{bundle_view.details([made])}"""


def address(key: str, settings: Mapping[str, Any]) -> str:
    """The URL fragment that opens a lesson with these settings; links.js parses it."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    return f"#{key}?{urlencode(texts)}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return html.words(_ON if value else _OFF)
    return escape(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _rank(name: str) -> int:
    return [*_DESCRIPTIONS, name].index(name)


def _file(made: Bundle, name: str) -> str:
    description = html.words(_DESCRIPTIONS.get(name, ""))
    link = f'<a href="{_url(made.folder / name)}" download>{escape(name)}</a>'
    return f"<tr><td>{link}</td><td>{(made.folder / name).stat().st_size:,} B</td><td>{description}</td></tr>"
