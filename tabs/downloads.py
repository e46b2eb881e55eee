"""Downloads of a finished run: the bundle, its files, and the parity report."""

import shutil
from pathlib import Path
from typing import Any

import gradio as gr

from charts import html
from charts.text import Text, Words
from export import layout
from export.bundle import Bundle
from lab.lesson import Training
from tabs import bundle_view
from tabs.language import label

LABELS = {
    layout.ONNX: "ONNX",
    layout.PARAMS: "state_dict",
    layout.SAFETENSORS: "safetensors",
    layout.PICKLE: "Pickle",
}

ZIP = Text("Bundle (zip)", "压缩包（zip）")
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

_BUSY = Text(
    "Writing the files, reading them back and comparing them with the net …", "正在写文件、读回，并与网络比较……"
)

Updates = list[Any]


class Downloads:
    """The section below the chart, hidden until a run is done."""

    def __init__(self, lesson: Training) -> None:
        self.lesson = lesson
        self.report = gr.HTML(visible=False, elem_classes="parity")
        with gr.Row(elem_classes="downloads"):
            self.archive = _button(label(ZIP), variant="primary")
            self.files = [_button(label) for label in LABELS.values()]
        self.details = gr.HTML(visible=False, elem_classes="parity")
        self.components = [self.report, self.archive, *self.files, self.details]

    def skipped(self) -> Updates:
        """Updates that change nothing."""
        return [gr.skip()] * len(self.components)

    def busy(self) -> Updates:
        """Show that the files are being written and compared."""
        return self._message(f"<p role=status>{html.words(_BUSY)}</p>")

    def refused(self, message: Words) -> Updates:
        """Offer nothing, and show why."""
        return self._message(f'<p class="verdict failed" role="status">{html.words(message)}</p>')

    def _message(self, text: str) -> Updates:
        return [gr.update(value=text, visible=True), *[gr.update(visible=False)] * (len(self.components) - 1)]

    def offered(self, bundles: list[Bundle], zipped: bytes, folder: Path) -> Updates:
        """Show the report and offer each file that passed, copied to `folder` under a name with the lesson's key."""
        archive = folder / f"live-nets-{self.lesson.key}.zip"
        archive.write_bytes(zipped)
        # Single files only for lessons with one net; the zip has a folder for each of several nets.
        files = [_offer(bundles, name, folder) for name in LABELS]
        report = gr.update(value=_report(bundles), visible=True)
        details = gr.update(value=bundle_view.details(bundles), visible=True)
        return [report, gr.update(value=str(archive), visible=True), *files, details]


def _button(text: Any, variant: Any = "secondary") -> gr.DownloadButton:
    return gr.DownloadButton(text, variant=variant, visible=False, min_width=120)


def _offer(bundles: list[Bundle], name: str, folder: Path) -> Any:
    bundle = bundles[0]
    if len(bundles) > 1 or not (bundle.folder / name).exists():  # a failed file; the report says why
        return gr.update(visible=False)
    path = folder / f"{bundle.name}-{name}"
    shutil.copyfile(bundle.folder / name, path)
    return gr.update(value=str(path), visible=True)


def _report(bundles: list[Bundle]) -> str:
    several = len(bundles) > 1
    verdicts = [bundle_view.verdict(bundle.parity, bundle.manifest["net"] if several else "") for bundle in bundles]
    return "".join([f"<h3>{html.words(_TAKE)}</h3>", *verdicts, html.markdown(_NETS if several else _FILES)])
