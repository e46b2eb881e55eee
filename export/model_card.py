"""README.md of a bundle, a model card with code snippets, and net.py, which the PyTorch snippets import.

Model cards: https://huggingface.co/docs/hub/model-cards
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from charts.text import Language, Text, Words, joined, said
from export.cases import Parity
from export.snippets import Snippet, snippets
from lab.lesson import TASKS, FeatureSpec, Training
from lab.plots import LOSS, TEST_LOSS

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# Names of metrics on the Hub, by task.
HUB_METRICS = {
    "regression": {"loss": "mse"},
    "classification": {"loss": "cross_entropy", "accuracy": "accuracy"},
}

RULE = "| --- | --- | --- |"  # below the head of a table

_OF_SEVERAL = Text("{title} · {label}", "{title}·{label}")
_TITLE = Text("{named}, a net of Live Nets", "{named}：Live Nets 的网络")
_TRAINED = Text(
    "{article} {kind} net with {parameters} parameters, trained for {steps} steps in the lesson *{title}*.",
    "这是一个{kind}网络，有 {parameters} 个参数，在课程“{title}”中训练了 {steps} 步。",
)
_TRAINED_BESIDE = Text(
    "{article} {kind} net with {parameters} parameters, trained for {steps} steps in the lesson *{title}*, side by side"
    " with {others} more.",
    "这是一个{kind}网络，有 {parameters} 个参数，在课程“{title}”中与另外 {others} 个网络一起训练了 {steps} 步。",
)
_PLOT = Text("What the net learned", "网络学到了什么")
_PORTS = Text("Input and output", "输入和输出")
_PORT = Text(
    "- `{name}`, {dtype} ({shape}): {features}; {meaning}", "- `{name}`，{dtype} ({shape})：{features}；{meaning}"
)
_RANGE = Text("{low} to {high}", "{low} 到 {high}")
_TRAINED_ON = Text("trained on {ranges}", "训练范围 {ranges}")
_SCALED = Text("{formula}, mean {mean}, std {std}", "{formula}，mean {mean}，std {std}")
_NOT_SCALED = Text("not scaled", "没有缩放")
_OUTPUT = Text("- output {index}: {name}", "- 第 {index} 个输出：{name}")
_TRAINING = Text("Training", "训练")
_SETTING, _METRIC = Text("setting", "设置"), Text("metric", "指标")
_CHANGED, _STEP = Text("Changed during the run:", "训练途中的改动："), Text("after step", "在第几步之后")
_IN_CODE, _VALUE = Text("in code", "代码里的名字"), Text("value", "值")
_CHECKED = Text("Checked", "检验")
_CHECKED_BY = Text(
    "`parity.json` lists every comparison; `golden.npz` holds inputs `x_CASE` and torch's outputs `y_CASE`, so that any"
    " other runtime can be checked too.",
    "`parity.json` 列出全部比较；`golden.npz` 保存输入 `x_CASE` 和 torch 的输出 `y_CASE`，可以用来检验别的运行环境。",
)
_USE = Text("Use", "用法")
_SNIPPETS_SAY = Text(
    "Each snippet runs in this folder; those for Python and Node.js print their largest difference from `golden.npz`.",
    "下面的代码都在这个文件夹里运行；Python 和 Node.js 的代码会打印它与 `golden.npz` 的最大差别。",
)
_USE_SAYS = joined(
    [
        Text(
            "Open `try.html` in a browser, also offline, to move the inputs and see the outputs.",
            "用浏览器打开 `try.html`，不联网也可以调整输入、查看输出。",
        ),
        _SNIPPETS_SAY,
    ],
    Text(" ", ""),
)
_OF_FILE = Text("{title}: {file}", "{title}：{file}")


def source(net: nn.Module, arguments: Mapping[str, Any]) -> str:
    """Content of net.py: the source of the net's class, and a function `build` that creates the net.

    An nn.Sequential has no class of its own and is built from its layers.
    """
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    call = f"{type(net).__name__}({given})"
    imports, own = (
        "import torch.nn.functional as F\nfrom torch import Tensor, nn",
        f"\n\n{inspect.getsource(type(net))}",
    )
    if isinstance(net, nn.Sequential):
        # The repr of a layer is the call that creates it.
        layers = "".join(f"\n        nn.{layer}," for layer in net)
        imports, own, call = "from torch import nn", "", f"nn.Sequential({layers}\n    )"
    return f'''"""The architecture of this bundle's net."""

{imports}
{own}

def build() -> nn.Module:
    """The net with fresh weights."""
    return {call}
'''


def text(
    lesson: Training,
    manifest: Mapping[str, Any],
    files: Sequence[str],
    parity: Parity,
) -> str:
    """Content of README.md: description of the net, its training, its parity check, and a snippet for each file.

    In the language of the manifest, except names of settings, metrics and features in code.
    """
    language: Language = manifest["language"]

    def say(words: Words, **values: object) -> str:
        return said(words.format(**values) if isinstance(words, Text) else words, language)

    controls = lesson.config.controls()
    settings = [
        f"| {say(controls[name].label)} | `{name}` | {value} |"
        for name, value in manifest["recipe"]["settings"].items()
    ]
    changes = [
        f"| {change['step']} | `{change['name']}` | {change['value']} |" for change in manifest["recipe"]["changes"]
    ]
    metrics = [
        f"| {say(_metric(lesson, manifest, name))} | `{name}` | {value:.6g} |"
        for name, value in manifest["metrics"].items()
    ]
    others = len(manifest["nets"]) - 1
    label = Text(manifest["label"]["en"], manifest["label"]["zh"])
    named = _OF_SEVERAL.format(title=lesson.title, label=label) if others else lesson.title
    parts = [
        _front_matter(lesson, manifest),
        f"# {say(_TITLE, named=named)}",
        say(
            _TRAINED_BESIDE if others else _TRAINED,
            kind=TASKS.get(lesson.task, lesson.task),
            article=_article(lesson.task),
            parameters=manifest["parameters"],
            steps=manifest["steps"],
            title=lesson.title,
            others=others,
        ),
        f"![{say(_PLOT)}](plot.png)" if "plot.png" in files else "",
        f"## {say(_PORTS)}",
        say(_features("x", lesson.inputs, manifest["inputs"][0]))
        + "\n"
        + say(_features("y", lesson.outputs, manifest["outputs"][0])),
        "\n".join(say(_OUTPUT, index=index, name=name) for index, name in enumerate(lesson.classes)),
        f"```text\n{manifest['architecture']}\n```",
        f"## {say(_TRAINING)}",
        "\n".join([f"| {say(_SETTING)} | {say(_IN_CODE)} | {say(_VALUE)} |", RULE, *settings]),
        "\n".join([f"{say(_CHANGED)}\n", f"| {say(_STEP)} | {say(_IN_CODE)} | {say(_VALUE)} |", RULE, *changes])
        if changes
        else "",
        "\n".join([f"| {say(_METRIC)} | {say(_IN_CODE)} | {say(_VALUE)} |", RULE, *metrics]),
        f"## {say(_CHECKED)}",
        say(joined([parity.summary_text, parity.differences_text], Text(" ", ""))),
        say(_CHECKED_BY),
        f"## {say(_USE)}",
        say(_USE_SAYS) if "net.onnx" in files else say(_SNIPPETS_SAY),
        *(_snippet(each, language) for each in snippets(manifest, files)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(lesson: Training, manifest: Mapping[str, Any]) -> str:
    """YAML metadata of the model card, generated by huggingface_hub."""
    from huggingface_hub import ModelCardData  # imported here, because it takes 0.1 s

    nets = manifest["nets"]
    measured = _eval_results(lesson, manifest)
    (described,) = manifest["inputs"]
    columns = zip(described["features"], described["trained_from"], described["trained_to"], strict=True)
    data = ModelCardData(
        license="mit",
        library_name="pytorch",  # the Hub treats ONNX as a format, marked by the tag
        tags=["onnx", "live-nets", lesson.task, lesson.key],  # the Hub's client removes duplicates
        pipeline_tag=f"tabular-{lesson.task}" if lesson.task in HUB_METRICS else None,
        metrics=sorted({each.metric_type for each in measured}) or None,
        model_name="-".join(["live-nets", lesson.key, *([manifest["net"]] if len(nets) > 1 else [])]),
        eval_results=measured or None,
        widget=[{"structuredData": {feature: _spread(low, high) for feature, low, high in columns}}],
    )
    return f"---\n{data.to_yaml()}\n---"


def _eval_results(lesson: Training, manifest: Mapping[str, Any]) -> "list[EvalResult]":
    """Metrics of the manifest that have a name on the Hub."""
    from huggingface_hub import EvalResult

    results = []
    for name, value in manifest["metrics"].items():
        plain = name.removeprefix(f"{manifest['net']} ")  # as in "adam test loss"
        split = "test" if plain.startswith("test ") else "train"
        kind = HUB_METRICS.get(lesson.task, {}).get(plain.removeprefix("test "))
        if kind:
            results.append(
                EvalResult(
                    task_type=f"tabular-{lesson.task}",
                    dataset_type="synthetic",
                    dataset_name=f"Synthetic points of the lesson {lesson.title.en}",
                    dataset_split=split,
                    metric_type=kind,
                    metric_name=name,
                    metric_value=value,
                )
            )
    return results


def _spread(low: float, high: float) -> list[float]:
    """Five example inputs in the range of the training data."""
    return [float(f"{low + (high - low) * part:.3g}") for part in (0.1, 0.3, 0.5, 0.7, 0.9)]


def _article(task: str) -> str:
    return "An" if task[0] in "aeiou" else "A"


def _metric(lesson: Training, manifest: Mapping[str, Any], name: str) -> Words:
    """Label of a metric. The net's name is omitted, because the title contains it."""
    plain = name.removeprefix(f"{manifest['net']} ")
    return {"loss": LOSS, "test loss": TEST_LOSS}.get(plain) or lesson.metrics.get(name, name)


def _features(name: str, spec: FeatureSpec, described: Mapping[str, Any]) -> Text:
    """Description of the net's input or output: dtype, shape, features, range in training, and scaling."""
    trained, scaled = described.get("trained_from"), described["scaling"]
    parts = [
        _PORT.format(
            name=name,
            dtype=described["dtype"],
            shape=", ".join(map(str, described["shape"])),
            features=", ".join(described["features"]),
            meaning=spec.meaning,
        )
    ]
    if trained:
        ranges = zip(trained, described["trained_to"], strict=True)
        each = [_RANGE.format(low=f"{low:.3g}", high=f"{high:.3g}") for low, high in ranges]
        parts.append(_TRAINED_ON.format(ranges=joined([*each], Text(", ", "、"))))
    if scaled:
        mean, std = (f"{scaled[key]:.9g}" for key in ("mean", "std"))
        parts.append(_SCALED.format(formula=scaled["formula"], mean=mean, std=std))
    else:
        parts.append(_NOT_SCALED)
    return joined([*parts], Text("; ", "；"))


def _snippet(snippet: Snippet, language: Language) -> str:
    install = f"```sh\n{snippet.install}\n```" if snippet.install else ""
    title = f"### {said(_OF_FILE.format(title=snippet.title, file=snippet.file), language)}"
    parts = (title, said(snippet.note, language), install)
    return "\n\n".join([*filter(None, parts), f"```{snippet.language}{said(snippet.code, language)}```"])
