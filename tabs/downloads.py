"""What a run leaves to take away: the bundle, its files, and how they compared with the net."""

import shutil
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from charts import html
from charts.text import Text, Words
from export import bundle, formats
from export.bundle import Bundle
from export.parity import FAR, Case, Parity
from nets.lesson import Training
from tabs.language import label

LABELS = {
    formats.ONNX: "ONNX",
    formats.PARAMS: "state_dict",
    formats.SAFETENSORS: "safetensors",
    formats.PICKLE: "Pickle",
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

_EXPLAINED = Text(
    "Inputs lie in the range of the training data (*train*), in a thousand times that range (*far*), or are NaN and"
    " infinite (*special*); *tensors* compares the weights in the file, byte for byte. Pickles and safetensors must"
    " agree to the last bit; ONNX may round, but stays within 16 times the error that float32 has anyway.",
    "输入取自训练数据的范围（*train*）、该范围的一千倍（*far*），或者是 NaN 和无穷大（*special*）；*tensors* 逐字节比较"
    "文件里的权重。Pickle 和 safetensors 必须分毫不差；ONNX 可以有舍入误差，但不得超过 float32 自身误差的 16 倍。",
)
_LARGEST = Text(
    "The largest difference is {train} on inputs like those of the training, {far} on inputs {times} times as large.",
    "与训练数据同范围的输入上，最大差别是 {train}；放大 {times} 倍的输入上，最大差别是 {far}。",
)
_AGREE = Text(
    "All {files} files, read back from disk, agree with the net in all {cases} comparisons.",
    "{files} 个文件从磁盘读回后，与网络的 {cases} 项比较全部一致。",
)
_WITHHELD = Text("What does not agree is not offered.", "不一致的文件不提供下载。")
_COMPARISONS = Text("Every comparison", "全部比较")
_BUSY = Text(
    "Writing the files, reading them back and comparing them with the net …", "正在写文件、读回，并与网络比较……"
)
_HEAD = (
    Text("file", "文件"),
    Text("case", "情形"),
    Text("batch", "批大小"),
    Text("shape", "形状"),
    Text("max |difference|", "最大差别"),
    Text("verdict", "结论"),
)
_AGREES, _FAILED = Text("agrees", "一致"), Text("failed: {why}", "不一致：{why}")

Updates = list[Any]


class Downloads:
    """The part of a tab below the chart, hidden until a run is done."""

    def __init__(self, lesson: Training) -> None:
        self.lesson = lesson
        self.report = gr.HTML(visible=False, elem_classes="parity")
        with gr.Row(elem_classes="downloads"):
            self.archive = _button(label(ZIP), variant="primary")
            self.files = [_button(label) for label in LABELS.values()]
        self.components = [self.report, self.archive, *self.files]

    def skipped(self) -> Updates:
        """All as it is."""
        return [gr.skip()] * len(self.components)

    def busy(self) -> Updates:
        """The check is going on."""
        return self._told(f"<p role=status>{html.words(_BUSY)}</p>")

    def refused(self, message: Words) -> Updates:
        """Nothing can be offered, and why."""
        return self._told(f'<p class="verdict failed" role="status">{html.words(message)}</p>')

    def _told(self, text: str) -> Updates:
        return [gr.update(value=text, visible=True), *[gr.update(visible=False)] * (len(self.components) - 1)]

    def offered(self, bundles: list[Bundle], folder: Path) -> Updates:
        """The report and every file that passed, copied into `folder` under names that tell them apart."""
        archive = folder / f"live-nets-{self.lesson.key}.zip"
        archive.write_bytes(bundle.archive(bundles))
        # Single files are for lessons of one net; several nets are told apart by their folders in the zip.
        files = [_offer(bundles, name, folder) for name in LABELS]
        report = gr.update(value=_report(bundles), visible=True)
        return [report, gr.update(value=str(archive), visible=True), *files]


def _button(text: Any, variant: Any = "secondary") -> gr.DownloadButton:
    return gr.DownloadButton(text, variant=variant, visible=False, min_width=120)


def _offer(bundles: list[Bundle], name: str, folder: Path) -> Any:
    made = bundles[0]
    if len(bundles) > 1 or not (made.folder / name).exists():  # withheld: its report says why
        return gr.update(visible=False)
    named = folder / f"{made.name}-{name}"
    shutil.copyfile(made.folder / name, named)
    return gr.update(value=str(named), visible=True)


def _report(bundles: list[Bundle]) -> str:
    parts = [f"<h3>{html.words(_TAKE)}</h3>"]
    for made in bundles:
        name = made.manifest["net"] if len(bundles) > 1 else ""
        parts.append(_verdict(made.parity, name))
    parts.append(html.markdown(_NETS if len(bundles) > 1 else _FILES))
    parts += [_comparisons(made.parity, made.manifest["net"] if len(bundles) > 1 else "") for made in bundles]
    return "".join(parts)


def _verdict(parity: Parity, name: str) -> str:
    if parity.passed:
        files = len({case.file for case in parity.cases})
        told = html.words(_AGREE.format(files=files, cases=len(parity.cases)))
    else:
        told = f"{escape(parity.summary)} {html.words(_WITHHELD)}"
    whose = f"<b>{escape(name)}</b> " if name else ""
    return f'<p class="verdict {"passed" if parity.passed else "failed"}" role="status">{whose}{told}</p>'


def _comparisons(parity: Parity, name: str) -> str:
    rows = "".join(map(_row, sorted(parity.cases, key=_rank)))
    head = "".join(f"<th>{html.words(each)}</th>" for each in _HEAD)
    largest = _LARGEST.format(train=parity.worst("train"), far=parity.worst("far"), times=f"{FAR:g}")
    whose = html.words(Text(f": {name}", f"：{name}")) if name else ""
    return f"""
<details{"" if parity.passed else " open"}>
  <summary>{html.words(_COMPARISONS)}{whose}</summary>
  <p>{html.inline(largest)} {html.inline(_EXPLAINED)}</p>
  <div class="parity-table" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>
</details>"""


def _rank(case: Case) -> tuple[bool, bool]:
    """What failed first, then the ONNX file, where alone there is something to see."""
    return case.passed, case.file != formats.ONNX


def _row(case: Case) -> str:
    batch = str(case.shape[0]) if case.shape else "–"
    shape = " × ".join(map(str, case.shape)) or "–"
    difference = "–" if case.max_abs is None else f"{case.max_abs:.1e}" if case.max_abs else "0"
    verdict = html.words(_AGREES if case.passed else _FAILED.format(why=case.why))
    cells = (case.file, case.case, batch, shape, difference, verdict)
    return f"<tr class={'passed' if case.passed else 'failed'}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
