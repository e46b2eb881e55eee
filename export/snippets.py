"""How to use each file of a bundle, as code that runs in its folder.

Those for Python and Node.js print their largest difference from the golden outputs. Tests run all but C# and C++, which
follow https://onnxruntime.ai/docs/get-started/with-csharp.html and .../with-cpp.html.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from charts.text import Text, Words
from export import formats
from export.manifest import SAMPLE
from export.try_page import ONNXRUNTIME_WEB, RUNTIME


@dataclass(frozen=True)
class Snippet:
    """Code for one file of a bundle in one language: `install` gets what it needs, `note` is what to know before."""

    title: Words
    file: str  # of the bundle
    language: str  # as Markdown names it
    code: str
    install: str = ""
    note: Words = ""


_ONNX = f"""
import numpy as np
import onnxruntime

golden = np.load("golden.npz")
session = onnxruntime.InferenceSession("net.onnx")
(y,) = session.run(["y"], {{{{"x": golden["x_{SAMPLE}"]}}}})
print(np.abs(y - golden["y_{SAMPLE}"]).max())

(y,) = session.run(["y"], {{{{"x": np.array([[{{x}}]], np.float32)}}}})  # inputs of your own, a row each
"""

_WEIGHTS = f"""
import numpy as np
{{imports}}

import net  # net.py, beside this file

model = net.build()
model.load_state_dict({{load}})
model.eval()
golden = np.load("golden.npz")
with torch.no_grad():
    y = model(torch.from_numpy(golden["x_{SAMPLE}"])).numpy()
print(np.abs(y - golden["y_{SAMPLE}"]).max())
"""

_PICKLE = f"""
import numpy as np
import torch
from torch import nn
{{imports}}
with torch.serialization.safe_globals([{{classes}}]):
    model = torch.load("net.pkl", weights_only=True)
golden = np.load("golden.npz")
with torch.no_grad():
    y = model(torch.from_numpy(golden["x_{SAMPLE}"])).numpy()
print(np.abs(y - golden["y_{SAMPLE}"]).max())
"""

_PICKLE_NOTE = Text(
    """
A whole-model pickle names its classes, and loading one can run any code. Since torch 2.6 `torch.load("net.pkl")`
therefore refuses it: *Weights only load failed … Unsupported global*. The snippet allows just the classes that
this net consists of. The old way, `torch.load("net.pkl", weights_only=False)`, runs whatever the file says{own}: use it
only for files that you trust as much as a program.
""",
    """
保存整个模型的 pickle 文件里写着各个类的名字，加载它可能会运行任意代码。因此从 torch 2.6 起，`torch.load("net.pkl")`
会拒绝它：*Weights only load failed … Unsupported global*。下面的代码只允许这个网络用到的类。旧写法
`torch.load("net.pkl", weights_only=False)` 会照文件说的运行任何代码{own}：只用于你像信任程序一样信任的文件。
""",
)
_OWN_CLASS = Text(" and wants the class under its own name, `{name}`", "，而且要能按原名找到类 `{name}`")

_TELEMETRY = Text(
    "Newer releases of onnxruntime report their use to its maker, unless `ORT_DISABLE_TELEMETRY=1` is in the"
    " environment.",
    "较新的 onnxruntime 会向其开发者报告使用情况；设置环境变量 `ORT_DISABLE_TELEMETRY=1` 可以关闭。",
)

_NODE = f"""
import {{{{ readFile }}}} from "node:fs/promises";
import * as ort from "onnxruntime-web";

const {{{{ sample }}}} = JSON.parse(await readFile("manifest.json", "utf8")); // the golden case {SAMPLE}
const session = await ort.InferenceSession.create(await readFile("net.onnx"));
const x = new ort.Tensor("float32", sample.x.flat(), [sample.x.length, sample.x[0].length]);
const {{{{ y }}}} = await session.run({{{{ x }}}});
console.log(Math.max(...sample.y.flat().map((golden, i) => Math.abs(y.data[i] - golden))));
"""

_PAGE = f"""
<!doctype html>
<p>y: <output></output></p>
<script src="{RUNTIME}ort.wasm.min.js"></script>
<script type="module">
  const session = await ort.InferenceSession.create("net.onnx");
  const x = new ort.Tensor("float32", [{{x}}], [1, {{features}}]); // inputs of your own, a row each
  const {{{{ y }}}} = await session.run({{{{ x }}}});
  document.querySelector("output").textContent = y.data.join(" "); // torch gives {{y}}
</script>
"""

_PAGE_NOTE = Text(
    "Save it beside `net.onnx` as `index.html`, and serve the folder: `python3 -m http.server`, then"
    " `http://localhost:8000`. A page opened as a file may not read its neighbours.",
    "保存为 `net.onnx` 旁边的 `index.html`，并用 `python3 -m http.server` 提供这个文件夹，再打开"
    " `http://localhost:8000`。直接作为文件打开的页面不能读取旁边的文件。",
)
_NODE_NOTE = Text("Save it as `use.mjs` and run `node use.mjs`.", "保存为 `use.mjs`，运行 `node use.mjs`。")
_CPP_NOTE = Text(
    "With the headers and the library of an onnxruntime release; one sample, a row of its own.",
    "需要 onnxruntime 发行版的头文件和库；这里是一个样本，自成一行。",
)

_CSHARP = """
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

using var session = new InferenceSession("net.onnx");
var x = new DenseTensor<float>(new float[] {{ {x} }}, new[] {{ 1, {features} }});
using var results = session.Run(new[] {{ NamedOnnxValue.CreateFromTensor("x", x) }});
Console.WriteLine(string.Join(" ", results.First().AsEnumerable<float>()));  // torch gives {y}
"""

_CPP = """
#include <onnxruntime_cxx_api.h>

#include <array>
#include <iostream>

int main() {{
  Ort::Env env;
  Ort::Session session(env, ORT_TSTR("net.onnx"), Ort::SessionOptions{{}});
  std::array<float, {features}> values{{{x}}};
  std::array<int64_t, 2> shape{{1, {features}}};
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto x = Ort::Value::CreateTensor<float>(memory, values.data(), values.size(), shape.data(), shape.size());
  const char* inputs[] = {{"x"}};
  const char* outputs[] = {{"y"}};
  auto results = session.Run(Ort::RunOptions{{}}, inputs, &x, 1, outputs, 1);
  const float* y = results[0].GetTensorData<float>();
  for (int i = 0; i < {outputs}; ++i) std::cout << y[i] << ' ';  // torch gives {y}
}}
"""


def snippets(described: Mapping[str, Any], files: Collection[str]) -> list[Snippet]:
    """The snippets for those files of the bundle that the manifest `described` describes, the most useful first."""
    params = _WEIGHTS.format(imports="import torch", load='torch.load("net_params.pkl")')
    tensors = _WEIGHTS.format(
        imports="import safetensors.torch\nimport torch", load='safetensors.torch.load_file("net.safetensors")'
    )
    x, y = (np.array(described["sample"][axis][0], np.float32) for axis in "xy")
    numbers = {"x": ", ".join(map(str, x)), "features": len(x), "outputs": len(y), "y": " ".join(map(str, y))}
    literals = {**numbers, "x": ", ".join(f"{float(value)!r}f" for value in x)}
    own = not described["class"].startswith("torch.")  # a class that only this bundle has
    pickle = _PICKLE.format(
        imports="\nimport net  # net.py, beside this file\n" if own else "",
        classes=", ".join(map(_allowed, described["modules"])),
    )
    warning = _PICKLE_NOTE.format(own=_OWN_CLASS.format(name=described["class"]) if own else "")
    made = (
        Snippet(
            "Python, onnxruntime",
            formats.ONNX,
            "python",
            _ONNX.format(**numbers),
            "pip install numpy onnxruntime",
            _TELEMETRY,
        ),
        Snippet("PyTorch, state_dict", formats.PARAMS, "python", params, "pip install numpy torch"),
        Snippet("PyTorch, safetensors", formats.SAFETENSORS, "python", tensors, "pip install numpy safetensors torch"),
        Snippet(
            Text("PyTorch, whole model", "PyTorch，整个模型"),
            formats.PICKLE,
            "python",
            pickle,
            "pip install numpy torch",
            warning,
        ),
        Snippet(
            Text("Web page, onnxruntime-web", "网页，onnxruntime-web"),
            formats.ONNX,
            "html",
            _PAGE.format(**numbers),
            note=_PAGE_NOTE,
        ),
        Snippet(
            "Node.js, onnxruntime-web",
            formats.ONNX,
            "js",
            _NODE.format(),
            f"npm install onnxruntime-web@{ONNXRUNTIME_WEB}",
            _NODE_NOTE,
        ),
        Snippet(
            "C#, Microsoft.ML.OnnxRuntime",
            formats.ONNX,
            "csharp",
            _CSHARP.format(**literals),
            "dotnet add package Microsoft.ML.OnnxRuntime",
        ),
        Snippet("C++, onnxruntime", formats.ONNX, "cpp", _CPP.format(**literals), note=_CPP_NOTE),
    )
    return [snippet for snippet in made if snippet.file in files]


def _allowed(name: str) -> str:
    """A class, by its full name, as an argument of safe_globals."""
    short = name.rpartition(".")[2]
    return f"nn.{short}" if name.startswith("torch.nn.") else f'(net.{short}, "{name}")'
