"""The runtimes that the shipped nets are tried on: each runs every net.onnx under a folder, on its recorded inputs."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator
from playwright.sync_api import Browser, Route

from export import try_page
from export.parity import Float32
from tests import run_onnx

ENVIRONMENTS = Path(__file__).parent.parent / ".venv"
WEB = ENVIRONMENTS / "web" / "node_modules" / "onnxruntime-web" / "dist"
OLDEST = ENVIRONMENTS / "oldest"

HOST = "https://runtime.test/"  # nobody's: what the page asks for is answered here
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}

# Arrays travel as bytes in base64: JSON knows neither NaN nor infinity.
RUN = """
async ({host, nets}) => {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = host;
  const outputs = {};
  for (const [net, cases] of Object.entries(nets)) {
    const session = await ort.InferenceSession.create(`${host}${net}/net.onnx`, {executionProviders: ["wasm"]});
    for (const [name, {bytes, shape}] of Object.entries(cases)) {
      const {buffer} = Uint8Array.from(atob(bytes), (character) => character.charCodeAt(0));
      const {y} = await session.run({x: new ort.Tensor("float32", new Float32Array(buffer), shape)});
      const {data, type, dims} = y;
      const found = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      outputs[`${net}/${name}`] = {type, bytes: btoa(String.fromCharCode(...found)), shape: dims};
    }
  }
  return {version: ort.env.versions.web, outputs};
}
"""


def needed(file: Path, what: str) -> None:
    """Skip without the file, which `make test` installs; but where CI is set, fail."""
    if not file.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is not installed")


class Ran(NamedTuple):
    """A runtime, named with its version, and what it gives by NET/CASE."""

    runtime: str
    outputs: dict[str, Float32]


def in_onnxruntime(root: Path) -> Ran:
    """On the onnxruntime that is installed."""
    return Ran(f"onnxruntime {onnxruntime.__version__}", run_onnx.outputs(root))


def in_oldest(root: Path, out: Path) -> Ran:
    """On the oldest onnxruntime, in its own environment; it writes the file `out`."""
    script = Path(run_onnx.__file__)
    subprocess.run([OLDEST / "bin" / "python", script, root, out], check=True, timeout=60)
    with np.load(out) as arrays:
        return Ran(f"onnxruntime {arrays['version']}", {name: arrays[name] for name in arrays if name != "version"})


def in_reference(root: Path) -> Ran:
    """On onnx's reference evaluator, which does operator by operator what the standard says."""
    outputs: dict[str, Any] = {}
    for net, cases in run_onnx.recorded(root):
        evaluator = ReferenceEvaluator(onnx.load(root / net / "net.onnx"))
        for case, x in cases.items():
            with np.errstate(invalid="ignore"):  # it is numpy, which warns of the NaN that infinities give
                (outputs[f"{net}/{case}"],) = evaluator.run(None, {"x": x})
    return Ran(f"onnx reference {onnx.__version__}", outputs)


def in_browser(root: Path, browser: Browser) -> Ran:
    """On onnxruntime-web, in one page for all nets."""

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(HOST)
        file = (root if name.endswith(".onnx") else WEB) / name
        headers = {"Access-Control-Allow-Origin": "*"}
        content_type = TYPES.get(file.suffix, "application/octet-stream")
        route.fulfill(body=file.read_bytes(), content_type=content_type, headers=headers)

    nets = {net: {case: _sent(x) for case, x in cases.items()} for net, cases in run_onnx.recorded(root)}
    with browser.new_context() as context:
        context.route("**", lambda route: route.abort())
        context.route(HOST + "**", answer)
        page = context.new_page()
        page.add_script_tag(url=HOST + "ort.wasm.min.js")
        ran = page.evaluate(RUN, {"host": HOST, "nets": nets})
    outputs = {
        name: np.frombuffer(base64.b64decode(y["bytes"]), np.dtype(y["type"])).reshape(y["shape"])
        for name, y in ran["outputs"].items()
    }
    return Ran(f"onnxruntime-web {ran['version']}", outputs)


def _sent(x: Float32) -> dict[str, Any]:
    return {"bytes": base64.b64encode(x.tobytes()).decode(), "shape": list(x.shape)}


def node(code: str, given: str = "") -> str:
    """What code prints in Node.js after the part of try.html's script that computes, which needs no page."""
    template = try_page.TEMPLATE.read_text(encoding="utf-8")
    script = template.split("<script>")[1].split("</script>")[0]
    needed(Path(shutil.which("node") or "node"), "Node.js")
    command = ["node", "--input-type=commonjs", "--eval", script + code]
    done = subprocess.run(command, input=given, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Arrays travel as in RUN.
RUN_ON_NODE = """
const outputs = {};
for (const [name, {net, onnx, cases}] of Object.entries(JSON.parse(require("fs").readFileSync(0, "utf8")))) {
  const run = compile(net, Uint8Array.from(Buffer.from(onnx, "base64")));
  for (const [key, {bytes, shape}] of Object.entries(cases)) {
    const x = new Float32Array(Uint8Array.from(Buffer.from(bytes, "base64")).buffer);
    const rows = Array.from({length: shape[0]}, (_, row) => [...x.subarray(row * shape[1], (row + 1) * shape[1])]);
    const y = run(rows);
    const found = Buffer.from(new Float32Array(y.flat()).buffer).toString("base64");
    outputs[`${name}/${key}`] = {bytes: found, shape: [y.length, y[0].length]};
  }
}
console.log(JSON.stringify(outputs));
"""


def on_node(nets: Mapping[str, bytes], cases: Mapping[str, Mapping[str, Float32]]) -> dict[str, Float32]:
    """By NET/CASE, what try.html's own script makes of the cases (N, features) of each ONNX file."""
    given = {
        name: {
            "net": try_page.net_data(content),
            "onnx": base64.b64encode(content).decode(),
            "cases": {key: _sent(x) for key, x in cases[name].items()},
        }
        for name, content in nets.items()
    }
    found = json.loads(node(RUN_ON_NODE, json.dumps(given)))
    return {
        name: np.frombuffer(base64.b64decode(each["bytes"]), "<f4").reshape(each["shape"])
        for name, each in found.items()
    }


def in_page(root: Path) -> Ran:
    """On try.html's own script, all nets in one process of Node.js."""
    cases = dict(run_onnx.recorded(root))
    return Ran("try.html itself", on_node({net: (root / net / "net.onnx").read_bytes() for net in cases}, cases))
