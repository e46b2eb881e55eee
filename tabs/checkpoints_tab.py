"""The tab of the trained nets that are shipped: each with its plot, its figures, a check made here, and its files."""

import json
import tempfile
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from charts import html
from charts.text import Text, Words, joined
from export import bundle, manifest, try_page
from export.bundle import Bundle, NonFiniteError
from export.formats import BrokenFileError
from export.verify import find
from nets import TRAININGS
from runs.run import verified
from tabs import bundle_view, live
from tabs.lesson_tab import EVENT

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"

KEY = "checkpoints"
TITLE = Text("Checkpoints", "现成的网络")

_SUMMARY = Text(
    "**Trained nets to take away.** Each lesson that trains has left its nets here, trained with the tutorial's"
    " settings. This server has checked every file of them against torch when you opened this tab. Choose one to see"
    " what it is, to try it, and to download it.",
    "**训练好的网络，可以带走**。每一课都把按教程的设置训练好的网络留在这里。你打开本页时，服务器已经把它们的每个文件与"
    " torch 的结果核对过。选一个，看看它是什么，试一试，或者下载。",
)
_CHECKED = Text("{n} comparisons agree", "{n} 项比较全部一致")
_FAILED = Text("{n} of {all} comparisons fail", "{all} 项比较中有 {n} 项不一致")
_OPEN = Text("Open in its lesson", "在课程里打开")
_OPEN_SAYS = Text(
    "With the same settings: press Train there, and the same net comes out.",
    "设置相同：在那里按“训练”，会得到同样的网络。",
)
_TRY = Text("Try it in the browser", "在浏览器里试")
_TRY_SAYS = Text("Move the inputs, and see what net.onnx makes of them.", "移动输入，看 net.onnx 给出什么。")
_ZIP = Text("Download all (zip, {size} kB)", "全部下载（zip，{size} kB）")
_FILES = Text("Files", "文件")
_SETTINGS = Text("Settings", "设置")
_METRICS = Text("Metrics", "指标")
_PLOT = Text("What {name} learned", "{name} 学到了什么")
_WHAT = {
    "net.onnx": Text("for onnxruntime and other runtimes", "供 onnxruntime 等运行环境使用"),
    "net_params.pkl": Text("the weights, as a state_dict", "权重（state_dict）"),
    "net.safetensors": Text("the weights, as safetensors", "权重（safetensors）"),
    "net.pkl": Text("the whole model; loading it runs code", "整个模型；加载时会运行代码"),
    "net.py": Text("the net's class", "网络的类"),
    "golden.npz": Text("inputs, and torch's outputs", "输入，以及 torch 的输出"),
    "parity.json": Text("every comparison", "全部比较"),
    "manifest.json": Text("settings, metrics, sizes, hashes", "设置、指标、大小、哈希值"),
    "README.md": Text("the model card, with snippets", "模型说明，附用法"),
    "plot.png": Text("the plot", "图"),
    "try.html": Text("a page to try it, offline but for its runtime", "试用页面"),
}


@dataclass(frozen=True, eq=False)
class Shipped:
    """A shipped bundle as this server found it: checked, or broken."""

    name: str  # the path of its folder
    bundle: Bundle | None
    error: str = ""

    @property
    def title(self) -> Words:
        """Its lesson, and the net's name where the lesson has several."""
        assert self.bundle is not None
        lesson, net = TRAININGS[self.bundle.manifest["lesson"]], self.bundle.manifest["net"]
        return joined([lesson.title, net], " · ") if len(self.bundle.manifest["nets"]) > 1 else lesson.title


class CheckpointsTab:
    """Builds the tab in the Blocks it is made in. What it shows comes when it is first seen, and is made just once."""

    def __init__(self) -> None:
        self._shipped: dict[str, Shipped] = {}
        self._archives = tempfile.TemporaryDirectory(prefix="live-nets-")  # gone when the server is
        gr.set_static_paths([CHECKPOINTS, Path(self._archives.name)])
        gr.HTML(html.markdown(_SUMMARY), elem_classes="lesson-summary")
        self.cards = gr.HTML(
            js_on_load="window.liveNets.checkpoints(element, trigger);",
            html_template='<div class="checkpoints">${value}</div>',
            elem_classes="cards-view",
        )
        self.detail = gr.HTML(elem_classes=["parity", "checkpoint"])
        self.cards.submit(self.first_view, None, self.cards, **EVENT)
        self.cards.click(self.choose, None, self.detail, **EVENT)

    async def first_view(self) -> str:
        """The cards of all bundles, each checked by now."""
        for folder in sorted(find(CHECKPOINTS), key=_place):
            name = folder.relative_to(CHECKPOINTS).as_posix()
            if name not in self._shipped:
                self._shipped[name] = await _checked(name, folder, Path(self._archives.name))
        return "".join(map(_card, self._shipped.values()))

    async def choose(self, event: gr.EventData) -> str:
        """All about one bundle."""
        name = event._data.get("checkpoint") if isinstance(event._data, dict) else None
        found = self._shipped.get(name) if isinstance(name, str) else None
        if found is None:
            raise gr.Error("checkpoint must be the name of one on this page.", print_exception=False)
        if found.bundle is None:
            return f'<p class="verdict failed" role="status">{escape(found.error)}</p>'
        return _detail(found, found.bundle, Path(self._archives.name) / _zip_name(found.name))


def _place(folder: Path) -> tuple[int, str]:
    """Where a bundle comes: by its lesson, in the tutorial's order."""
    lesson, *_ = folder.relative_to(CHECKPOINTS).parts
    return [*TRAININGS, lesson].index(lesson), folder.name


async def _checked(name: str, folder: Path, archives: Path) -> Shipped:
    try:
        found = await verified(folder)
    except (BrokenFileError, NonFiniteError) as error:
        return Shipped(name, None, str(error))
    (archives / _zip_name(name)).write_bytes(bundle.archive([found]))
    return Shipped(name, found)


def _zip_name(name: str) -> str:
    return f"live-nets-{name.replace('/', '-')}.zip"


def _url(path: Path) -> str:
    return escape(f"gradio_api/file={path}")


def _card(shipped: Shipped) -> str:
    if shipped.bundle is None:
        told = f'<span class="verdict failed">{escape(shipped.error)}</span>'
        return (
            f'<button type="button" class="card" data-checkpoint="{shipped.name}"><b>{shipped.name}</b>{told}</button>'
        )
    described, parity = shipped.bundle.manifest, shipped.bundle.parity
    figures = "".join(f"<span>{each}</span>" for each in _own_figures(described))
    alt = _PLOT.format(name=shipped.title)
    return f"""
<button type="button" class="card" data-checkpoint="{shipped.name}">
  <img src="{_url(shipped.bundle.folder / "plot.png")}" alt="{escape(alt.en)}" loading="lazy" width="300" height="150">
  <b>{html.words(shipped.title)}</b>
  <span class="figures">{figures}</span>
  <span class="verdict {"passed" if parity.passed else "failed"}">{html.words(_verdict(parity.cases))}</span>
</button>"""


def _verdict(cases: Any) -> Text:
    failed = sum(not case.passed for case in cases)
    return (_FAILED if failed else _CHECKED).format(n=failed or len(cases), all=len(cases))


def _own_figures(described: manifest.Manifest) -> list[str]:
    """The metrics that are the net's own, by what they are called."""
    names = TRAININGS[described["lesson"]].metrics
    own = {key: value for key, value in described["metrics"].items() if key.startswith(f"{described['net']} ")}
    return [
        html.words(Text("{name} {value}", "{name} {value}").format(name=names[key], value=live.number(key, value)))
        for key, value in (own or described["metrics"]).items()
    ]


def _detail(shipped: Shipped, made: Bundle, archive: Path) -> str:
    described = made.manifest
    lesson = TRAININGS[described["lesson"]]
    size = Text("{size}", "{size}").format(size=f"{archive.stat().st_size / 1000:,.0f}")
    files = "".join(_file(made, name) for name in sorted([manifest.NAME, *described["files"]], key=_rank))
    controls = lesson.config.controls()
    settings = "".join(
        f"<tr><td>{html.words(controls[name].label)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in described["settings"].items()
    )
    metrics = "".join(f"<li>{each}</li>" for each in _own_figures(described))
    try_it = ""
    if try_page.NAME in described["files"]:
        url = _url(made.folder / try_page.NAME)
        try_it = f'<a class="action" href="{url}" target="_blank" title="{_TRY_SAYS.en}">{html.words(_TRY)}</a>'
    wanted = escape(json.dumps(described["settings"]))
    return f"""
<h3>{html.words(shipped.title)}</h3>
{bundle_view.verdict(made.parity)}
<div class="actions">
  <a class="action primary" href="{_url(archive)}" download>{html.words(_ZIP.format(size=size))}</a>
  <button type="button" class="action" data-open="{lesson.key}" data-settings="{wanted}">{html.words(_OPEN)}</button>
  {try_it}
</div>
<p class="hint">{html.words(_OPEN)}: {html.words(_OPEN_SAYS)}</p>
<div class="about">
  <img src="{_url(made.folder / "plot.png")}" alt="{escape(_PLOT.format(name=shipped.title).en)}">
  <section><h4>{html.words(_METRICS)}</h4><ul>{metrics}</ul>
  <h4>{html.words(_SETTINGS)}</h4><table>{settings}</table></section>
  <section class="files"><h4>{html.words(_FILES)}</h4><table>{files}</table></section>
</div>
{bundle_view.details([made])}"""


def _rank(name: str) -> int:
    return [*_WHAT, name].index(name)


def _file(made: Bundle, name: str) -> str:
    what = html.words(_WHAT.get(name, ""))
    link = f'<a href="{_url(made.folder / name)}" download>{escape(name)}</a>'
    return f"<tr><td>{link}</td><td>{(made.folder / name).stat().st_size:,} B</td><td>{what}</td></tr>"
