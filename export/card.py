"""The bundle's README.md, a model card with snippets for its files, and net.py, which those for PyTorch need.

Model cards: https://huggingface.co/docs/hub/model-cards
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from charts.text import said
from export.manifest import own_metrics
from export.parity import Parity
from export.snippets import Snippet, snippets
from nets.lesson import Training

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# By a lesson's task: the Hub's names for its metrics.
HUB_METRICS = {
    "regression": {"loss": "mse"},
    "classification": {"loss": "cross_entropy", "accuracy": "accuracy"},
}


def source(net: nn.Module, arguments: Mapping[str, Any]) -> str:
    """net.py: the class's own source, and `build`, which makes the net of this bundle with fresh weights.

    A net put together by nn.Sequential has no class of its own, and is built from its layers.
    """
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    call = f"{type(net).__name__}({given})"
    imports, own = (
        "import torch.nn.functional as F\nfrom torch import Tensor, nn",
        f"\n\n{inspect.getsource(type(net))}",
    )
    if isinstance(net, nn.Sequential):
        # torch prints a layer as the call that makes it.
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
    """README.md: what the net is, how it was trained, how it was checked, and how to use each file."""
    settings = [f"| {name} | {value} |" for name, value in manifest["settings"].items()]
    metrics = [f"| {name} | {value:.6g} |" for name, value in own_metrics(manifest).items()]
    several = len(manifest["nets"]) > 1
    whose = f" · {manifest['label']['en']}" if several else ""
    beside = f", side by side with {len(manifest['nets']) - 1} more" if several else ""
    parts = [
        _front_matter(lesson, manifest),
        f"# {lesson.title.en}{whose}, a net of Live Nets",
        f"{_article(lesson.task)} net with {manifest['parameters']} parameters, trained for"
        f" {manifest['steps']} steps in the lesson *{lesson.title.en}*{beside}.",
        "![What the net learned](plot.png)",
        "## Input and output",
        _port("x", manifest["inputs"][0]) + "\n" + _port("y", manifest["outputs"][0]),
        "\n".join(f"- output {index}: {name}" for index, name in enumerate(lesson.classes)),
        f"```text\n{manifest['architecture']}\n```",
        "## Training",
        "\n".join(["| setting | value |", "| --- | --- |", *settings]),
        "\n".join(["| metric | value |", "| --- | --- |", *metrics]),
        "## Checked",
        f"{parity.summary} {parity.differences}",
        "`parity.json` lists every comparison; `golden.npz` holds inputs `x_CASE` and torch's outputs `y_CASE`, so"
        " that any other runtime can be checked too.",
        "## Use",
        "Open `try.html` in a browser to move the inputs and see the outputs. Each snippet runs in this folder;"
        " those for Python and Node.js print their largest difference from `golden.npz`.",
        *map(_use, snippets(manifest, files)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(lesson: Training, manifest: Mapping[str, Any]) -> str:
    """The metadata by which the Hub finds and shows a model, as huggingface_hub writes and checks it."""
    from huggingface_hub import ModelCardData  # a tenth of a second to import, which `verify` need not wait for

    nets = manifest["nets"]
    measured = _eval_results(lesson, manifest)
    (port,) = manifest["inputs"]
    columns = zip(port["features"], port["trained_from"], port["trained_to"], strict=True)
    data = ModelCardData(
        license="mit",
        library_name="pytorch",  # what the net is made with; ONNX is a format to the Hub, known by its tag
        tags=["onnx", "live-nets", lesson.task, lesson.key],  # each once, even if a lesson is named like its task
        pipeline_tag=f"tabular-{lesson.task}" if lesson.task in HUB_METRICS else None,
        metrics=sorted({each.metric_type for each in measured}) or None,
        model_name="-".join(["live-nets", lesson.key, *([manifest["net"]] if len(nets) > 1 else [])]),
        eval_results=measured or None,
        widget=[{"structuredData": {feature: _spread(low, high) for feature, low, high in columns}}],
    )
    return f"---\n{data.to_yaml()}\n---"


def _eval_results(lesson: Training, manifest: Mapping[str, Any]) -> "list[EvalResult]":
    """Those of the manifest's metrics that are this net's own and that the Hub has a name for."""
    from huggingface_hub import EvalResult

    results = []
    for name, value in own_metrics(manifest).items():
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
    """A handful of inputs from within the range of the training."""
    return [float(f"{low + (high - low) * part:.3g}") for part in (0.1, 0.3, 0.5, 0.7, 0.9)]


def _article(task: str) -> str:
    return f"{'An' if task[0] in 'aeiou' else 'A'} {task}"


def _port(name: str, port: Mapping[str, Any]) -> str:
    shape = ", ".join(map(str, port["shape"]))
    features = f"{', '.join(port['features'])}; {port['unit']}"
    trained = ""
    if "trained_from" in port:
        ranges = zip(port["trained_from"], port["trained_to"], strict=True)
        trained = "; trained on " + ", ".join(f"{low:.3g} to {high:.3g}" for low, high in ranges)
    scaled = port["scaling"]
    scaling = f"; {scaled['formula']}, mean {scaled['mean']:.9g}, std {scaled['std']:.9g}" if scaled else "; not scaled"
    return f"- `{name}`, {port['dtype']} ({shape}): {features}{trained}{scaling}"


def _use(snippet: Snippet) -> str:
    install = f"```sh\n{snippet.install}\n```" if snippet.install else ""
    parts = (f"### {said(snippet.title, 'en')}: {snippet.file}", said(snippet.note, "en").strip(), install)
    return "\n\n".join([*filter(None, parts), f"```{snippet.language}{snippet.code}```"])
