"""A bundle's try.html: the net in a browser, with its inputs to move and its outputs beside torch's.

The page is opened by a double click too. A browser then lets it read no neighbour, so it carries net.onnx
and the manifest's sample; only the runtime comes from the network.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from charts.chart import PALETTE

NAME = "try.html"
TEMPLATE = Path(__file__).with_name("try_page.html")

ONNXRUNTIME_WEB = "1.30.0"
RUNTIME = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{ONNXRUNTIME_WEB}/dist/"
# What the browser checks before it runs or compiles a file. Made, for each file of dist/ in the npm package, by
# openssl dgst -sha384 -binary FILE | base64 -w0
INTEGRITY = {
    "ort.wasm.min.js": "sha384-Bw6URI+Gvoadw0do7/QrSHUC9D1vCYYK5OSqChFyhyV5mzPL4oe2rOAFljAnS8Sq",
    "ort-wasm-simd-threaded.mjs": "sha384-XcXA/MtAf0WpB8e023xQH9CM7RIjiugakT7x99DIwpFf7k56BIFFcAPerIF7FDad",
    "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
}


class _Page(Template):
    delimiter = "@@"  # the script has its own use for $


def render(described: Mapping[str, Any], onnx: bytes) -> bytes:
    """The page of a net: `described` is its manifest, `onnx` its net.onnx."""
    template = TEMPLATE.read_text(encoding="utf-8")
    # A dynamic import cannot carry its own integrity; the import map does it for the runtime's second file.
    imports = json.dumps({"integrity": {RUNTIME + name: value for name, value in INTEGRITY.items() if "mjs" in name}})
    (style,) = re.findall("<style>(.*?)</style>", template, re.DOTALL)
    (script,) = re.findall("<script>(.*?)</script>", template, re.DOTALL)
    title = described["title"] if len(described["nets"]) == 1 else f"{described['title']} · {described['label']['en']}"
    page = _Page(template).substitute(
        policy=_policy(style, [imports, script]),
        imports=imports,
        title=html.escape(title),
        task=html.escape(described["task"].capitalize()),
        parameters=f"{described['parameters']:,}",
        runtime=ONNXRUNTIME_WEB,
        data=_data(described, onnx),
    )
    return page.encode()


def _policy(style: str, scripts: list[str]) -> str:
    """The Content-Security-Policy: this page's own style and scripts, and the runtime; nothing else, from nowhere."""
    own = " ".join(map(_source, scripts))
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {own} {RUNTIME} 'wasm-unsafe-eval';"
        f" connect-src {RUNTIME}; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _data(described: Mapping[str, Any], onnx: bytes) -> str:
    """What the page's script reads, as JSON that cannot end the element it stands in."""
    inputs, outputs = described["inputs"][0], described["outputs"][0]
    data = {
        "runtime": RUNTIME,
        "integrity": INTEGRITY,
        "colors": PALETTE,
        "inputs": {key: inputs[key] for key in ("features", "unit", "trained_from", "trained_to")},
        "outputs": {key: outputs[key] for key in ("features", "unit")},
        "classes": described["classes"],
        "golden": described["sample"],
        "onnx": base64.b64encode(onnx).decode(),
    }
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")
