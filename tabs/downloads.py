"""What a run leaves to take away: the bundle, its files, and how they compared with the net."""

import shutil
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from export import bundle, formats
from export.bundle import Bundle
from export.parity import Case
from nets.lesson import Lesson

LABELS = {
    formats.ONNX: "ONNX",
    formats.PARAMS: "state_dict",
    formats.SAFETENSORS: "safetensors",
    formats.PICKLE: "Pickle",
}

_FILES = """
<b>ONNX</b> runs in other languages and in browsers, <b>state_dict</b> and <b>safetensors</b> hold the weights alone,
<b>Pickle</b> is the whole model, for PyTorch. The <b>bundle</b> has them all, with a README that shows how to use each.
"""

_EXPLAINED = """
Inputs lie in the range of the training data (<i>train</i>), in a thousand times that range (<i>far</i>), or are NaN
and infinite (<i>special</i>); <i>tensors</i> compares the weights in the file, byte for byte. Pickles and safetensors
must agree to the last bit; ONNX may round, but stays within 16 times the error that float32 has anyway.
"""

_BUSY = "<p role=status>Writing the files, reading them back and comparing them with the net …</p>"

Updates = list[Any]


class Downloads:
    """The part of a tab below the chart, hidden until a run is done."""

    def __init__(self, lesson: Lesson) -> None:
        self.lesson = lesson
        self.report = gr.HTML(visible=False, elem_classes="parity")
        with gr.Row(elem_classes="downloads"):
            self.archive = _button("Bundle (zip)", variant="primary")
            self.files = [_button(label) for label in LABELS.values()]
        self.components = [self.report, self.archive, *self.files]

    def skipped(self) -> Updates:
        """All as it is."""
        return [gr.skip()] * len(self.components)

    def busy(self) -> Updates:
        """The check is going on."""
        return self._told(_BUSY)

    def refused(self, message: str) -> Updates:
        """Nothing can be offered, and why."""
        return self._told(f'<p class="verdict failed" role="status">{escape(message)}</p>')

    def _told(self, text: str) -> Updates:
        return [gr.update(value=text, visible=True), *[gr.update(visible=False)] * (len(self.components) - 1)]

    def offered(self, bundles: list[Bundle], folder: Path) -> Updates:
        """The report and every file that passed, copied into `folder` under names that tell them apart."""
        archive = folder / f"live-nets-{self.lesson.key}.zip"
        archive.write_bytes(bundle.archive(bundles))
        # Single files are for lessons of one net; several nets are told apart by their folders in the zip.
        files = [_offer(bundles, name, folder) for name in LABELS]
        report = gr.update(value="".join(map(_report, bundles)), visible=True)
        return [report, gr.update(value=str(archive), visible=True), *files]


def _button(label: str, variant: Any = "secondary") -> gr.DownloadButton:
    return gr.DownloadButton(label, variant=variant, visible=False, min_width=120)


def _offer(bundles: list[Bundle], name: str, folder: Path) -> Any:
    made = bundles[0]
    if len(bundles) > 1 or not (made.folder / name).exists():  # withheld: its report says why
        return gr.update(visible=False)
    named = folder / f"{made.name}-{name}"
    shutil.copyfile(made.folder / name, named)
    return gr.update(value=str(named), visible=True)


def _report(made: Bundle) -> str:
    parity = made.parity
    verdict = "passed" if parity.passed else "failed"
    rows = "".join(map(_row, sorted(parity.cases, key=_rank)))
    head = "".join(f"<th>{name}</th>" for name in ("file", "case", "batch", "shape", "max |difference|", "verdict"))
    withheld = "" if parity.passed else " What does not agree is not offered."
    return f"""
<h3>Take the net with you</h3>
<p class="verdict {verdict}" role="status">{escape(parity.summary)}{withheld}</p>
<p>{_FILES}</p>
<details{"" if parity.passed else " open"}>
  <summary>Every comparison</summary>
  <p>{escape(parity.differences)} {_EXPLAINED}</p>
  <div class="parity-table" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>
</details>"""


def _rank(case: Case) -> tuple[bool, bool]:
    """What failed first, then the ONNX file, where alone there is something to see."""
    return case.passed, case.file != formats.ONNX


def _row(case: Case) -> str:
    batch = str(case.shape[0]) if case.shape else "–"
    shape = " × ".join(map(str, case.shape)) or "–"
    difference = "–" if case.max_abs is None else f"{case.max_abs:.1e}" if case.max_abs else "0"
    verdict = "agrees" if case.passed else f"failed: {escape(case.why)}"
    cells = (case.file, case.case, batch, shape, difference, verdict)
    return f"<tr class={'passed' if case.passed else 'failed'}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
