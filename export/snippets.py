"""Code snippets that use the files of a bundle; they run in its folder.

Snippets for Python and Node.js print the largest difference from the golden outputs. Snippets for a classifier print
the class and its probability for each row of a batch: softmax of the scores minus the largest score, so that exp
cannot overflow. Tests run all snippets except C# and C++, which follow
https://onnxruntime.ai/docs/get-started/with-csharp.html and .../with-cpp.html.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charts.text import Text, Words, joined
from export import layout
from export.manifest import SAMPLE
from export.parity import Float32
from export.try_page import ONNXRUNTIME_WEB, RUNTIME


@dataclass(frozen=True)
class Snippet:
    """Code for one file of a bundle. `install` is the command that installs its dependencies; `note` precedes it."""

    title: Words
    file: str  # name in the bundle
    language: str  # of a Markdown code block
    code: Words  # only its comments are translated
    install: str = ""
    note: Words = ""


# Comments in the code. They must explain `y` without the surrounding text.
_OWN_INPUTS = Text("inputs of your own, a row each", "你自己的输入，一行一个样本")
_BESIDE = Text("net.py, beside this file", "net.py，与本文件放在一起")
_SCORES = Text(
    "y holds a score for each class; softmax makes probabilities of them", "y 是每个类别的得分，softmax 把得分变成概率"
)
_STABLE = Text("subtracted from all scores, so that exp cannot overflow", "从所有得分中减去它，exp 就不会溢出")
_TORCH_GIVES = Text("torch gives {y}", "torch 的结果是 {y}")
_GOLDEN_CASE = Text("the golden case {case}", "记录下来的情形 {case}")

_ONNX = """
import numpy as np
import onnxruntime

golden = np.load("golden.npz")
session = onnxruntime.InferenceSession("net.onnx")
(y,) = session.run(["y"], {{"x": golden["x_{case}"]}})
print(np.abs(y - golden["y_{case}"]).max())

(y,) = session.run(["y"], {{"x": np.array({rows}, np.float32)}})  # {own_inputs}
"""
_ONNX_CLASSES = """
# {scores}
largest = y.max(axis=1, keepdims=True)  # {stable}
powers = np.exp(y - largest)
classes = {python_classes}
for row in powers / powers.sum(axis=1, keepdims=True):
    print(f"{{classes[row.argmax()]}}: {{row.max():.1%}}")  # {gives}
"""

_WEIGHTS = """
import numpy as np
{imports}

import net  # {beside}

model = net.build()
model.load_state_dict({load})
model.eval()
"""
_PICKLE = """
import numpy as np
import torch
from torch import nn
{imports}
with torch.serialization.safe_globals([{allowed}]):
    model = torch.load("net.pkl", weights_only=True)
"""
_TORCH = """golden = np.load("golden.npz")
with torch.no_grad():
    y = model(torch.from_numpy(golden["x_{case}"])).numpy()
print(np.abs(y - golden["y_{case}"]).max())
"""
_TORCH_CLASSES = """
x = torch.tensor({rows})  # {own_inputs}
with torch.no_grad():
    y = model(x)
# {scores}
classes = {python_classes}
for row in y.softmax(dim=1):
    print(f"{{classes[int(row.argmax())]}}: {{row.max():.1%}}")  # {gives}
"""

_PARAMS_NOTE = Text(
    "For a file from elsewhere use `net.safetensors`, which is no pickle: before torch 2.6, a crafted file could run"
    " code in spite of `weights_only=True` (CVE-2025-32434).",
    "别处得来的文件请改用 `net.safetensors`，它不是 pickle：在 torch 2.6 之前，"
    "蓄意制作的文件可以绕过 `weights_only=True` 运行代码（CVE-2025-32434）。",
)
_PICKLE_NOTE = Text(
    "**Load `net.pkl` only if you saved it yourself, or trust its maker as you trust the maker of a program.** It is a"
    " pickle of a whole model, and loading one can run any code. `weights_only=True` with `safe_globals` or"
    " `add_safe_globals` is no protection against a file that is made to do harm: once a class is allowed, the file can"
    " reach other code through it. Load a net from elsewhere from `net.safetensors` or `net.onnx`, which hold numbers"
    " and no code.\n\n"
    'The snippet names classes because since torch 2.6 `torch.load("net.pkl")` refuses whole models: *Weights only'
    " load failed … Unsupported global*. It allows those that this net consists of. The old way,"
    ' `torch.load("net.pkl", weights_only=False)`, allows everything{own}.',
    "**只加载你自己保存的 `net.pkl`，或者来自你像信任程序作者一样信任的人的文件。** 它是保存整个模型的 pickle 文件，"
    "加载时可能会运行任意代码。对于蓄意制作的文件，`weights_only=True` 加上 `safe_globals` 或 `add_safe_globals`"
    " 不是保护：只要允许了一个类，文件就能借它触及别的代码。别处得来的网络，请从 `net.safetensors` 或 `net.onnx`"
    " 加载，这两种文件里只有数，没有代码。\n\n"
    '代码里列出类名，是因为从 torch 2.6 起 `torch.load("net.pkl")` 会拒绝整个模型：*Weights only load failed …'
    ' Unsupported global*。这里只允许这个网络用到的类。旧写法 `torch.load("net.pkl", weights_only=False)`'
    " 什么都允许{own}。",
)
_OWN_CLASS = Text(", and wants the class under its own name, `{name}`", "，而且要能按原名找到类 `{name}`")

_TELEMETRY = Text(
    "Newer releases of onnxruntime report their use to its maker, unless `ORT_DISABLE_TELEMETRY=1` is in the"
    " environment.",
    "较新的 onnxruntime 会向其开发者报告使用情况；设置环境变量 `ORT_DISABLE_TELEMETRY=1` 可以关闭。",
)

_NODE = """
import {{ readFile }} from "node:fs/promises";
import * as ort from "onnxruntime-web";

const {{ sample }} = JSON.parse(await readFile("manifest.json", "utf8")); // {golden_case}
const session = await ort.InferenceSession.create(await readFile("net.onnx"));
const x = new ort.Tensor("float32", sample.x.flat(), [sample.x.length, sample.x[0].length]);
const {{ y }} = await session.run({{ x }});
console.log(Math.max(...sample.y.flat().map((golden, i) => Math.abs(y.data[i] - golden))));
"""

# By softmax, the class with the largest score has probability 1 / sum(exp(score - largest)), since its own term is
# exp(0).
_JS_CLASSES = """
// {scores}
const classes = {json_classes};
for (let row = 0; row < y.dims[0]; row++) {{
  const scores = [...y.data].slice(row * classes.length, (row + 1) * classes.length);
  const largest = Math.max(...scores); // {stable}
  const sum = scores.reduce((sum, score) => sum + Math.exp(score - largest), 0);
  {show}(`${{classes[scores.indexOf(largest)]}}: ${{(100 / sum).toFixed(1)}}%`{more});
}}
"""

_PAGE = """
<!doctype html>
<meta charset="utf-8">
<p>{label}<output></output></p>
<script src="{runtime}ort.wasm.min.js"></script>
<script type="module">
  const session = await ort.InferenceSession.create("net.onnx");
  const x = new ort.Tensor("float32", [{flat}], [{count}, {features}]); // {own_inputs}
  const {{ y }} = await session.run({{ x }});
  const output = document.querySelector("output");{shown}</script>
"""
_PAGE_SHOWS = """
  output.textContent = y.data.join(" "); // {gives}
"""
_PAGE_CLASSES = _JS_CLASSES.replace("\n", "\n  ").rstrip(" ")

_PAGE_NOTE = Text(
    "Save it beside `net.onnx` as `index.html`, and serve the folder: `python3 -m http.server`, then"
    " `http://localhost:8000`. A page opened as a file may not read its neighbours.",
    "保存为 `net.onnx` 旁边的 `index.html`，并用 `python3 -m http.server` 提供这个文件夹，再打开"
    " `http://localhost:8000`。直接作为文件打开的页面不能读取旁边的文件。",
)
_NODE_NOTE = Text("Save it as `use.mjs` and run `node use.mjs`.", "保存为 `use.mjs`，运行 `node use.mjs`。")
_CPP_NOTE = Text("With the headers and the library of an onnxruntime release.", "需要 onnxruntime 发行版的头文件和库。")

_CSHARP = """
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

using var session = new InferenceSession("net.onnx");
var x = new DenseTensor<float>(new float[] {{ {literals} }}, new[] {{ {count}, {features} }});  // {own_inputs}
using var results = session.Run(new[] {{ NamedOnnxValue.CreateFromTensor("x", x) }});
"""
_CSHARP_PLAIN = """Console.WriteLine(string.Join(" ", results.First().AsEnumerable<float>()));  // {gives}
"""
_CSHARP_CLASSES = """
// {scores}
string[] classes = {{ {quoted_classes} }};
foreach (var scores in results.First().AsEnumerable<float>().Chunk(classes.Length))
{{
    var largest = scores.Max();  // {stable}
    var sum = scores.Sum(score => Math.Exp(score - largest));
    var name = classes[Array.IndexOf(scores, largest)];
    Console.WriteLine(FormattableString.Invariant($"{{name}}: {{100 / sum:F1}}%"));  // {gives}
}}
"""

_CPP = """
#include <onnxruntime_cxx_api.h>

{includes}

int main() {{
  Ort::Env env;
  Ort::Session session(env, ORT_TSTR("net.onnx"), Ort::SessionOptions{{}});
  std::array<float, {values}> values{{{literals}}};  // {own_inputs}
  std::array<int64_t, 2> shape{{{count}, {features}}};
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto x = Ort::Value::CreateTensor<float>(memory, values.data(), values.size(), shape.data(), shape.size());
  const char* inputs[] = {{"x"}};
  const char* outputs[] = {{"y"}};
  auto results = session.Run(Ort::RunOptions{{}}, inputs, &x, 1, outputs, 1);
  const float* y = results[0].GetTensorData<float>();
"""
_CPP_PLAIN = """  for (int i = 0; i < {outputs}; ++i) std::cout << y[i] << ' ';  // {gives}
}}
"""
_CPP_CLASSES = """
  // {scores}
  const std::array<const char*, {outputs}> classes{{{quoted_classes}}};
  for (int row = 0; row < {count}; ++row, y += classes.size()) {{
    const float* largest = std::max_element(y, y + classes.size());  // {stable}
    double sum = 0;
    for (std::size_t i = 0; i < classes.size(); ++i) sum += std::exp(double{{y[i]}} - *largest);
    std::cout << classes[largest - y] << ": " << std::round(1000 / sum) / 10 << "%\\n";  // {gives}
  }}
}}
"""


def snippets(described: Mapping[str, Any], files: Collection[str]) -> list[Snippet]:
    """Snippets for the given files of the bundle with manifest `described`, the most useful first."""
    values = _values(described)
    classifies = bool(described["classes"])

    def code(plain: str, classes: str = "", **more: Words) -> Text:
        """Fill in the code `plain`, followed by `classes` for a classifier."""
        whole = plain + (classes if classifies else "")
        return Text(whole, whole).format(**{**values, **more})

    def torch_code(start: str, **more: Words) -> Text:
        return code(start + _TORCH, _TORCH_CLASSES, **more)

    tensors = "import safetensors.torch\nimport torch"
    own = not described["class"].startswith("torch.")  # a class that net.py defines
    allowed = ", ".join(map(_allowed, described["modules"]))
    break_line = ', document.createElement("br")'
    shown = code(_PAGE_CLASSES if classifies else _PAGE_SHOWS, show="output.append", more=break_line)
    made = (
        Snippet(
            "Python, onnxruntime",
            layout.ONNX,
            "python",
            code(_ONNX, _ONNX_CLASSES),
            "pip install numpy onnxruntime",
            _TELEMETRY,
        ),
        Snippet(
            "PyTorch, state_dict",
            layout.PARAMS,
            "python",
            torch_code(_WEIGHTS, imports="import torch", load='torch.load("net_params.pkl", weights_only=True)'),
            "pip install numpy torch",
            _PARAMS_NOTE,
        ),
        Snippet(
            "PyTorch, safetensors",
            layout.SAFETENSORS,
            "python",
            torch_code(_WEIGHTS, imports=tensors, load='safetensors.torch.load_file("net.safetensors")'),
            "pip install numpy safetensors torch",
        ),
        Snippet(
            Text("PyTorch, whole model", "PyTorch，整个模型"),
            layout.PICKLE,
            "python",
            torch_code(
                _PICKLE, imports=joined(["\nimport net  # ", _BESIDE, "\n"], "") if own else "", allowed=allowed
            ),
            "pip install numpy torch",
            _PICKLE_NOTE.format(own=_OWN_CLASS.format(name=described["class"]) if own else ""),
        ),
        Snippet(
            Text("Web page, onnxruntime-web", "网页，onnxruntime-web"),
            layout.ONNX,
            "html",
            code(_PAGE, shown=shown),
            note=_PAGE_NOTE,
        ),
        Snippet(
            "Node.js, onnxruntime-web",
            layout.ONNX,
            "js",
            code(_NODE, _JS_CLASSES, show="console.log", more=""),
            f"npm install onnxruntime-web@{ONNXRUNTIME_WEB}",
            _NODE_NOTE,
        ),
        Snippet(
            "C#, Microsoft.ML.OnnxRuntime",
            layout.ONNX,
            "csharp",
            code(_CSHARP + (_CSHARP_CLASSES if classifies else _CSHARP_PLAIN)),
            "dotnet add package Microsoft.ML.OnnxRuntime",
        ),
        Snippet(
            "C++, onnxruntime",
            layout.ONNX,
            "cpp",
            code(_CPP + (_CPP_CLASSES if classifies else _CPP_PLAIN)),
            note=_CPP_NOTE,
        ),
    )
    return [snippet for snippet in made if snippet.file in files]


def _values(described: Mapping[str, Any]) -> dict[str, Words]:
    """Values of the placeholders in the code: inputs as literals, class names, and comments."""
    classes = described["classes"]
    x, y = (np.array(described["sample"][axis], np.float32) for axis in "xy")
    # A batch of the first recorded input of each class, or only the first input if there are no classes.
    rows = sorted(np.unique(y.argmax(axis=1), return_index=True)[1].tolist()) if classes else [0]
    x, y = x[rows], y[rows]
    gives = ", ".join(_answer(row, classes) for row in y.tolist()) if classes else " ".join(map(str, y[0]))
    quoted = [json.dumps(name, ensure_ascii=False) for name in classes]  # also valid as a literal in C# and C++
    headers = ["array", "iostream", *(["algorithm", "cmath", "cstddef"] if classes else [])]
    return {
        "case": SAMPLE,
        "label": "" if classes else "y: ",
        "runtime": RUNTIME,
        "rows": f"[{', '.join(f'[{_numbers(row)}]' for row in x)}]",
        "flat": _numbers(x.ravel()),
        "literals": ", ".join(f"{float(value)!r}f" for value in x.ravel()),
        "count": str(len(x)),
        "features": str(x.shape[1]),
        "values": str(x.size),
        "outputs": str(y.shape[1]),
        "includes": "\n".join(f"#include <{name}>" for name in sorted(headers)),
        "python_classes": repr(list(classes)),
        "json_classes": f"[{', '.join(quoted)}]".replace("<", "\\u003c"),  # a name cannot close the script element
        "quoted_classes": ", ".join(quoted),
        "gives": _TORCH_GIVES.format(y=gives),
        "golden_case": _GOLDEN_CASE.format(case=SAMPLE),
        "own_inputs": _OWN_INPUTS,
        "beside": _BESIDE,
        "scores": _SCORES,
        "stable": _STABLE,
    }


def _numbers(values: Float32) -> str:
    """Comma-separated shortest decimals that round to the same float32."""
    return ", ".join(map(str, values))


def _answer(scores: Sequence[float], classes: Sequence[str]) -> str:
    """Class with the largest score and its probability, as the snippets print it."""
    largest = max(scores)
    share = 1 / sum(math.exp(score - largest) for score in scores)
    name = " ".join(classes[scores.index(largest)].split())  # without line breaks, which would end the comment
    return f"{name}: {share:.1%}"


def _allowed(name: str) -> str:
    """Argument of safe_globals for a class, given by its full name."""
    short = name.rpartition(".")[2]
    return f"nn.{short}" if name.startswith("torch.nn.") else f'(net.{short}, "{name}")'
