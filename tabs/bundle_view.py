"""A bundle as HTML: verification result, all comparisons, the ONNX graph, and code to use the files."""

from collections.abc import Sequence
from html import escape

from charts import html
from charts.text import LANGUAGES, Text, Words, said
from export import layout, summary
from export.bundle import Bundle
from export.cases import FAR, MARGIN, Case, Parity, grouped
from export.layout import GOLDEN
from export.snippets import Snippet, snippets
from export.summary import Summary

_EXPLANATION = Text(
    "Inputs lie in the range of the training data (*train*), in {far} times that range (*far*), or are NaN and infinite"
    " (*special*). Three cases compare no outputs: *tensors* compares the weights in the file byte for byte, *mode*"
    " checks that a whole model was saved in eval mode, and *metadata* checks the metadata of an ONNX file. The"
    " difference is the largest one from torch. Pickles and safetensors must be bitwise equal. ONNX may round:"
    " *measured* is its distance from the net computed in float64, and *allowed* is {margin} times the error of float32"
    " itself.",
    "输入取自训练数据的范围（*train*）、该范围的 {far} 倍（*far*），或者是 NaN 和无穷大（*special*）。"
    "有三种情形不比较输出：*tensors* 逐字节比较文件里的权重；"
    "*mode* 检查整个模型是否以评估模式保存；*metadata* 检查 ONNX 文件的自我描述。"
    "最大差别是与 torch 的差别。Pickle 和 safetensors 必须分毫不差。ONNX 可以有舍入误差：*实测*是它与 float64"
    " 计算结果的距离，*允许*是 float32 自身误差的 {margin} 倍。",
)
_AGREE_RECORDED = Text(
    "All {files} files of the net, and its recorded outputs, agree with it in all {cases} comparisons.",
    "网络的 {files} 个文件，以及记录下来的输出，与网络的 {cases} 项比较全部一致。",
)
_UNCHECKED = Text("Not checked: {files}.", "未检查：{files}。")
_WITHHELD = Text("Files that do not agree are not offered.", "不一致的文件不提供下载。")
_COMPARISONS = Text("All comparisons{suffix}", "全部比较{suffix}")
_HEAD = (
    Text("file", "文件"),
    Text("case", "情形"),
    Text("verdict", "结论"),
    Text("inputs", "输入"),
    Text("max |difference|", "最大差别"),
    Text("measured", "实测"),
    Text("allowed", "允许"),
)
_AGREES, _FAILED = Text("agrees", "一致"), Text("failed: {why}", "不一致：{why}")
_GRAPH = Text("The ONNX graph{suffix}", "ONNX 计算图{suffix}")
_GRAPH_SUMMARY = Text(
    "{operators} operators, {parameters} parameters; opset {opset}, IR version {ir}."
    " *batch* stands for any number of rows.",
    "{operators} 个算子，{parameters} 个参数；opset {opset}，IR 版本 {ir}。*batch* 表示任意行数。",
)
_USE = Text("How to use it", "怎么用")
_USE_TEXT = Text(
    "Unzip the bundle and run this in the net's folder, such as `{folder}`. Our tests run all but C# and C++; in Python"
    " and Node.js, each prints its largest difference from the recorded outputs.",
    "解压压缩包，在网络的文件夹（例如 `{folder}`）里运行。除 C# 和 C++ 外，代码都由我们的测试运行过；"
    "Python 和 Node.js 的代码会打印它与记录下来的输出之间的最大差别。",
)
_COPY, _COPIED = Text("Copy", "复制"), Text("Copied", "已复制")


def verdict(parity: Parity, name: str = "") -> str:
    """Whether all files agree with the net; `name` is the net's name, given if the run has several."""
    if parity.passed:
        files = {case.file for case in parity.cases}
        recorded = _AGREE_RECORDED.format(files=len(files - {GOLDEN}), cases=len(parity.cases))
        message = html.words(recorded if GOLDEN in files else parity.summary_text)
    else:
        message = f"{html.words(parity.summary_text)} {html.words(_WITHHELD)}"
    prefix = f"<b>{escape(name)}</b>: " if name else ""
    return f'<p class="verdict {"passed" if parity.passed else "failed"}" role="status">{prefix}{message}</p>'


def details(bundles: Sequence[Bundle]) -> str:
    """Collapsible sections: comparisons, graphs and snippets of a run's bundles."""
    several = len(bundles) > 1
    parts = [_comparisons(bundle, bundle.manifest["net"] if several else "") for bundle in bundles]
    graphs: dict[str, list[str]] = {}  # names of nets by graph: the nets of a run often have equal graphs
    for bundle in bundles:
        if (bundle.folder / layout.ONNX).exists():
            graph = _graph(summary.summarize((bundle.folder / layout.ONNX).read_bytes()))
            graphs.setdefault(graph, []).append(bundle.manifest["net"])
    for graph, names in graphs.items():
        title = _GRAPH.format(suffix=_suffix(", ".join(names) if several else ""))
        parts.append(f"<details><summary>{html.words(title)}</summary>{graph}</details>")
    return "".join([*parts, _snippets(bundles[0])])


def _suffix(name: str) -> Words:
    return Text(f": {name}", f"：{name}") if name else ""


def _comparisons(bundle: Bundle, name: str) -> str:
    parity = bundle.parity
    unchecked = f"<p>{html.words(_UNCHECKED.format(files=grouped(bundle.unchecked)))}</p>" if bundle.unchecked else ""
    rows = "".join(map(_row, sorted(parity.cases, key=_rank)))
    head = "".join(f"<th>{html.words(each)}</th>" for each in _HEAD)
    return f"""
<details{"" if parity.passed else " open"}>
  <summary>{html.words(_COMPARISONS.format(suffix=_suffix(name)))}</summary>
  <p>{html.inline(parity.differences_text)} {html.inline(_EXPLANATION.format(far=f"{FAR:g}", margin=f"{MARGIN:g}"))}</p>
  {unchecked}
  <div class="parity-table" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>
</details>"""


def _rank(case: Case) -> tuple[bool, bool]:
    """Sort key: failures first, then the ONNX file, the only one that may round."""
    return case.passed, case.file != layout.ONNX


def _row(case: Case) -> str:
    shape = " × ".join(map(str, case.shape)) or "–"
    numbers = (_number(each) for each in (case.max_abs, case.measured, case.bound))
    result = html.words(_AGREES if case.passed else _FAILED.format(why=case.why))
    cells = (case.file, case.case, result, shape, *numbers)
    return f"<tr class={'passed' if case.passed else 'failed'}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}" if value else "0"


def _graph(model: Summary) -> str:
    text = _GRAPH_SUMMARY.format(
        operators=len(model.operators),
        parameters=f"{model.parameters:,}",
        opset=model.opset,
        ir=model.ir_version,
    )
    return f'<p>{html.inline(text)}</p><div class="tall" tabindex="0">{html.blocks([summary.drawing(model)])}</div>'


def _snippets(bundle: Bundle) -> str:
    offered = snippets(bundle.manifest, bundle.manifest["files"])
    chips = "".join(
        f'<button type="button" data-snippet="{number}" aria-pressed="{"false" if number else "true"}">'
        f"{html.words(each.title)}</button>"
        for number, each in enumerate(offered)
    )
    blocks = "".join(f"<div{' hidden' if number else ''}>{_snippet(each)}</div>" for number, each in enumerate(offered))
    return f"""
<details class="snippets">
  <summary>{html.words(_USE)}</summary>
  <p>{html.inline(_USE_TEXT.format(folder=f"{bundle.name}/"))}</p>
  <div class="chips">{chips}</div>
  <div class="snippet">{blocks}</div>
</details>"""


def _snippet(snippet: Snippet) -> str:
    note = html.markdown(snippet.note) if snippet.note else ""
    install = copyable(snippet.install, "sh") if snippet.install else ""
    code = "".join(
        f'<div lang="{each}">{copyable(said(snippet.code, each).strip(), snippet.language)}</div>' for each in LANGUAGES
    )
    return note + install + code


def copyable(source: str, language: str) -> str:
    """Highlighted code with a button to copy it."""
    button = (
        f'<button type="button" class="copy" data-copy><span>{html.words(_COPY)}</span>'
        f"<span hidden>{html.words(_COPIED)}</span></button>"
    )
    return f'<div class="copyable">{html.code(source, language)}{button}</div>'
