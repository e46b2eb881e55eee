"""How to use each file of a bundle, as code that runs in its folder.

The Python and JavaScript ones print their largest difference from the golden outputs; tests run them. C# and C++
follow https://onnxruntime.ai/docs/get-started/with-csharp.html and .../with-cpp.html.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from export import formats
from export.manifest import SAMPLE
from export.try_page import ONNXRUNTIME_WEB


@dataclass(frozen=True)
class Snippet:
    """Code for one file of a bundle in one language: `install` gets what it needs, `note` is what to know before."""

    title: str
    file: str  # of the bundle
    language: str  # as Markdown names it
    code: str
    install: str = ""
    note: str = ""


_ONNX = f"""
import numpy as np
import onnxruntime

golden = np.load("golden.npz")
session = onnxruntime.InferenceSession("net.onnx")
(y,) = session.run(["y"], {{"x": golden["x_{SAMPLE}"]}})
print(np.abs(y - golden["y_{SAMPLE}"]).max())
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

import net  # net.py, beside this file

with torch.serialization.safe_globals([{{classes}}]):
    model = torch.load("net.pkl", weights_only=True)
golden = np.load("golden.npz")
with torch.no_grad():
    y = model(torch.from_numpy(golden["x_{SAMPLE}"])).numpy()
print(np.abs(y - golden["y_{SAMPLE}"]).max())
"""

_PICKLE_WARNING = """
A whole-model pickle names its classes, and loading one can run any code. Since torch 2.6 `torch.load("net.pkl")`
therefore refuses it: *Weights only load failed … Unsupported global*. The snippet allows just the classes that
this net consists of. The old way, `torch.load("net.pkl", weights_only=False)`, runs whatever the file says and
wants the class under its own name, `{name}`: use it only for files that you trust as much as a program.
"""

_JAVASCRIPT = """
import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-web";

const { sample } = JSON.parse(await readFile("manifest.json", "utf8")); // the golden case {case}
const session = await ort.InferenceSession.create(await readFile("net.onnx"));
const x = new ort.Tensor("float32", sample.x.flat(), [sample.x.length, sample.x[0].length]);
const { y } = await session.run({ x });
console.log(Math.max(...sample.y.flat().map((golden, i) => Math.abs(y.data[i] - golden))));
""".replace("{case}", SAMPLE)

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
    first = {axis: np.array(rows[0], np.float32) for axis, rows in described["sample"].items()}
    numbers = {"features": len(first["x"]), "outputs": len(first["y"]), "y": " ".join(map(str, first["y"]))}
    literals = ", ".join(f"{float(value)!r}f" for value in first["x"])
    made = (
        Snippet(
            "Python, onnxruntime",
            formats.ONNX,
            "python",
            _ONNX,
            "pip install numpy onnxruntime",
            "Newer releases of onnxruntime report their use to its maker, unless `ORT_DISABLE_TELEMETRY=1` is in the"
            " environment.",
        ),
        Snippet("PyTorch, state_dict", formats.PARAMS, "python", params, "pip install numpy torch"),
        Snippet("PyTorch, safetensors", formats.SAFETENSORS, "python", tensors, "pip install numpy safetensors torch"),
        Snippet(
            "PyTorch, whole model",
            formats.PICKLE,
            "python",
            _PICKLE.format(classes=", ".join(map(_allowed, described["modules"]))),
            "pip install numpy torch",
            _PICKLE_WARNING.format(name=described["class"]),
        ),
        Snippet(
            "JavaScript, onnxruntime-web",
            formats.ONNX,
            "js",
            _JAVASCRIPT,
            f"npm install onnxruntime-web@{ONNXRUNTIME_WEB}",
            "Save it as `use.mjs` and run `node use.mjs`. `try.html` shows the same in a page.",
        ),
        Snippet(
            "C#, Microsoft.ML.OnnxRuntime",
            formats.ONNX,
            "csharp",
            _CSHARP.format(x=literals, **numbers),
            "dotnet add package Microsoft.ML.OnnxRuntime",
        ),
        Snippet(
            "C++, onnxruntime",
            formats.ONNX,
            "cpp",
            _CPP.format(x=literals, **numbers),
            note="With the headers and the library of an onnxruntime release; one sample, a row of its own.",
        ),
    )
    return [snippet for snippet in made if snippet.file in files]


def _allowed(name: str) -> str:
    """A class, by its full name, as an argument of safe_globals."""
    short = name.rpartition(".")[2]
    return f"nn.{short}" if name.startswith("torch.nn.") else f'(net.{short}, "{name}")'
