"""A bundle's try.html: a page that computes the net in the browser, with adjustable inputs, beside torch's outputs.

The page works from a file:// URL and offline. Such a page cannot read other files, so it embeds net.onnx and the
manifest's sample, and its own script computes the net. It accesses the network only to load onnxruntime-web when the
reader asks for a comparison.
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

import onnx
from onnx import TensorProto, numpy_helper

from charts.chart import PALETTE
from charts.text import Language, Text, Words, said
from export.try_words import MARKUP, SCRIPT
from lab.lesson import TASKS
from nets import TRAININGS

NAME = "try.html"
TEMPLATE = Path(__file__).with_name("try_page.html")

ONNXRUNTIME_WEB = "1.30.0"
RUNTIME = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{ONNXRUNTIME_WEB}/dist/"
# Subresource Integrity hashes of files in dist/ of the npm package, computed by
# openssl dgst -sha384 -binary FILE | base64 -w0
INTEGRITY = {
    "ort.wasm.min.js": "sha384-Bw6URI+Gvoadw0do7/QrSHUC9D1vCYYK5OSqChFyhyV5mzPL4oe2rOAFljAnS8Sq",
    "ort-wasm-simd-threaded.mjs": "sha384-XcXA/MtAf0WpB8e023xQH9CM7RIjiugakT7x99DIwpFf7k56BIFFcAPerIF7FDad",
    "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
}

# Operators that the page's script implements, for matrices. Nets with others require onnxruntime-web.
OPERATORS = {
    *("Gemm", "MatMul", "BatchNormalization", "Add", "Sub", "Mul", "Div"),
    *("Identity", "Dropout", "Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "Softplus"),
}
HTML_LANG = {"en": "en", "zh": "zh-CN"}


class _Page(Template):
    delimiter = "@@"  # the script uses $


def render(described: Mapping[str, Any], onnx_bytes: bytes) -> bytes:
    """Return try.html for a net, in the language of its manifest `described`; `onnx_bytes` is its net.onnx."""
    language: Language = described["language"]
    template = TEMPLATE.read_text(encoding="utf-8")
    # A dynamic import has no integrity attribute, so the import map provides it for the .mjs file of the runtime.
    imports = json.dumps({"integrity": {RUNTIME + name: value for name, value in INTEGRITY.items() if "mjs" in name}})
    (style,) = re.findall("<style>(.*?)</style>", template, re.DOTALL)
    scripts = re.findall("<script>(.*?)</script>", template, re.DOTALL)
    title = _in(language, described, described["title"])
    if len(described["nets"]) > 1:
        title = f"{title} · {described['label'][language]}"
    task = described["task"]
    values = {
        "title": title,
        "kind": said(TASKS[task], language).capitalize() if task in TASKS else task,
        "parameters": f"{described['parameters']:,}",
        "runtime": ONNXRUNTIME_WEB,
    }
    words = {name: html.escape(said(text, language).format(**values)) for name, text in MARKUP.items()}
    page = _Page(template).substitute(
        words,
        lang=HTML_LANG[language],
        policy=_policy(style, [imports, *scripts]),
        imports=imports,
        title=html.escape(title),
        data=_data(described, onnx_bytes, language),
    )
    return page.encode()


def _in(language: Language, described: Mapping[str, Any], words: str) -> str:
    """Translate an English text of the manifest into `language` with the texts of its lesson."""
    lesson = TRAININGS.get(described["lesson"])
    known: list[Words] = [lesson.title, lesson.inputs.meaning, lesson.outputs.meaning] if lesson else []
    texts = [text for text in known if isinstance(text, Text) and text.en == words]
    return said(texts[0], language) if texts else words


def _policy(style: str, scripts: list[str]) -> str:
    """Content-Security-Policy that allows only this page's style and scripts, and the runtime."""
    own = " ".join(map(_source, scripts))
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {own} {RUNTIME} 'wasm-unsafe-eval';"
        f" connect-src {RUNTIME}; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _data(described: Mapping[str, Any], onnx_bytes: bytes, language: Language) -> str:
    """Data of the page's script, as JSON that cannot close its script element."""
    ports = {
        name: {
            **{key: value for key, value in described[name][0].items() if key in ("trained_from", "trained_to")},
            "features": described[name][0]["features"],
            "unit": _in(language, described, described[name][0]["unit"]),
        }
        for name in ("inputs", "outputs")
    }
    data = {
        "runtime": RUNTIME,
        "integrity": INTEGRITY,
        "colors": PALETTE,
        **ports,
        "classes": described["classes"],
        "golden": described["sample"],
        "words": {name: said(text, language) for name, text in SCRIPT.items()},
        "net": net_data(onnx_bytes),
        "onnx": base64.b64encode(onnx_bytes).decode(),
    }
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def net_data(onnx_bytes: bytes) -> dict[str, Any]:
    """The graph for the page's script: operators in order, and the offset in bytes of each tensor in the file.

    `missing` lists the operators that the script does not implement.
    """
    graph = onnx.load_model_from_string(onnx_bytes).graph
    tensors, unsupported = {}, set()
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) > 2:
            unsupported.add(tensor.name)
            continue
        rows, columns = (1, 1, *tensor.dims)[-2:]  # a vector becomes a row
        # The file stores values as in memory, little-endian. If the same bytes occur twice, either offset is valid.
        offset = onnx_bytes.index(numpy_helper.to_array(tensor).astype("<f4").tobytes())
        tensors[tensor.name] = {"rows": rows, "columns": columns, "offset": offset}
    nodes = [_node(node) for node in graph.node]
    missing = {each["op"] for each in nodes if not _is_computed(each) or unsupported & {*each["inputs"]}}
    return {"nodes": nodes, "tensors": tensors, "missing": sorted(missing)}


def _node(node: onnx.NodeProto) -> dict[str, Any]:
    """Operator with its numeric attributes, including the defaults of those that are not set."""
    given = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    if node.op_type in OPERATORS and not node.domain:
        schema = onnx.defs.get_schema(node.op_type)
        defaults = {name: each.default_value for name, each in schema.attributes.items() if each.default_value.type}
        given = {**{name: onnx.helper.get_attribute_value(each) for name, each in defaults.items()}, **given}
    numbers = {name: value for name, value in given.items() if isinstance(value, int | float)}
    return {
        "op": ".".join(filter(None, (node.domain, node.op_type))),
        "inputs": list(node.input),
        "output": node.output[0],
        "attributes": numbers,
    }


def _is_computed(node: Mapping[str, Any]) -> bool:
    unusual = ("transA", "training_mode")  # not used by linear layers or in eval mode
    return node["op"] in OPERATORS and not any(node["attributes"].get(name) for name in unusual)
