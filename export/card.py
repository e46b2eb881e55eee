"""The bundle's README.md, a model card with a snippet for each file, and net.py, which the snippets need.

Model cards: https://huggingface.co/docs/hub/model-cards
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from export import formats
from export.parity import Parity
from nets.lesson import Training

TITLES = {
    formats.ONNX: "onnxruntime, from net.onnx",
    formats.PARAMS: "torch, from net_params.pkl",
    formats.SAFETENSORS: "torch, from net.safetensors",
    formats.PICKLE: "torch, from net.pkl",
}

SNIPPETS = {
    formats.ONNX: """
import numpy as np
import onnxruntime

golden = np.load("golden.npz")
session = onnxruntime.InferenceSession("net.onnx")
(y,) = session.run(["y"], {{"x": golden["x_train_17"]}})
print(np.abs(y - golden["y_train_17"]).max())
""",
    formats.PARAMS: """
import numpy as np
import torch

import net  # net.py, beside this file

model = net.build()
model.load_state_dict(torch.load("net_params.pkl"))
model.eval()
golden = np.load("golden.npz")
with torch.no_grad():
    y = model(torch.from_numpy(golden["x_train_17"])).numpy()
print(np.abs(y - golden["y_train_17"]).max())
""",
    formats.SAFETENSORS: """
import numpy as np
import safetensors.torch
import torch

import net  # net.py, beside this file

model = net.build()
model.load_state_dict(safetensors.torch.load_file("net.safetensors"))
model.eval()
golden = np.load("golden.npz")
with torch.no_grad():
    y = model(torch.from_numpy(golden["x_train_17"])).numpy()
print(np.abs(y - golden["y_train_17"]).max())
""",
    formats.PICKLE: """
import numpy as np
import torch
from torch import nn

import net  # net.py, beside this file

with torch.serialization.safe_globals([{classes}]):
    model = torch.load("net.pkl", weights_only=True)
golden = np.load("golden.npz")
with torch.no_grad():
    y = model(torch.from_numpy(golden["x_train_17"])).numpy()
print(np.abs(y - golden["y_train_17"]).max())
""",
}

PICKLE_WARNING = """
A whole-model pickle names its classes, and loading one can run any code. Since torch 2.6 `torch.load("net.pkl")`
therefore refuses it: *Weights only load failed … Unsupported global*. The snippet allows just the classes that
this net consists of. The old way, `torch.load("net.pkl", weights_only=False)`, runs whatever the file says and
wants the class under its own name, `{name}`: use it only for files that you trust as much as a program.
"""


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
    net: nn.Module,
    manifest: Mapping[str, Any],
    files: Sequence[str],
    parity: Parity,
) -> str:
    """README.md: what the net is, how it was trained, how it was checked, and how to use each file."""
    settings = [f"| {name} | {value} |" for name, value in manifest["settings"].items()]
    metrics = [f"| {name} | {value:.6g} |" for name, value in manifest["metrics"].items()]
    parts = [
        _front_matter(lesson),
        f"# {lesson.title.en}, a net of Live Nets",
        f"{_article(lesson.task)} net with {manifest['parameters']} parameters, trained for"
        f" {manifest['steps']} steps in the lesson *{lesson.title.en}*.",
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
        "Each snippet runs in this folder and prints its largest difference from `golden.npz`.",
        *(_use(name, net) for name in TITLES if name in files),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(lesson: Training) -> str:
    tags = json.dumps(["onnx", "live-nets", lesson.task, lesson.key])
    return f"---\nlicense: mit\nlibrary_name: pytorch\ntags: {tags}\n---"


def _article(task: str) -> str:
    return f"{'An' if task[0] in 'aeiou' else 'A'} {task}"


def _port(name: str, port: Mapping[str, Any]) -> str:
    shape = ", ".join(map(str, port["shape"]))
    features = f"{', '.join(port['features'])}; {port['unit']}"
    trained = ""
    if "trained_from" in port:
        ranges = zip(port["trained_from"], port["trained_to"], strict=True)
        trained = "; trained on " + ", ".join(f"{low:.3g} to {high:.3g}" for low, high in ranges)
    return f"- `{name}`, {port['dtype']} ({shape}): {features}{trained}"


def _use(file: str, net: nn.Module) -> str:
    name = f"{type(net).__module__}.{type(net).__qualname__}"
    classes = sorted({type(module) for module in net.modules()}, key=lambda cls: cls.__name__)
    allowed = [
        f"nn.{cls.__name__}" if cls.__module__.startswith("torch.nn.") else f'(net.{cls.__name__}, "{name}")'
        for cls in classes
    ]
    code = SNIPPETS[file].format(classes=", ".join(allowed))
    warning = PICKLE_WARNING.format(name=name) if file == formats.PICKLE else ""
    return f"### {TITLES[file]}\n{warning}\n```python{code}```"
