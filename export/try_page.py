"""A bundle's try.html: the net in a browser, with its inputs to move and its outputs beside torch's.

The page is opened by a double click, on a plane too. A browser then lets it read no neighbour, so it carries net.onnx
and the manifest's sample, and its own script computes the net. The network is asked only when the reader asks for a
second opinion, that of onnxruntime-web.
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
# What the browser checks before it runs or compiles a file. Made, for each file of dist/ in the npm package, by
# openssl dgst -sha384 -binary FILE | base64 -w0
INTEGRITY = {
    "ort.wasm.min.js": "sha384-Bw6URI+Gvoadw0do7/QrSHUC9D1vCYYK5OSqChFyhyV5mzPL4oe2rOAFljAnS8Sq",
    "ort-wasm-simd-threaded.mjs": "sha384-XcXA/MtAf0WpB8e023xQH9CM7RIjiugakT7x99DIwpFf7k56BIFFcAPerIF7FDad",
    "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
}

# The operators that the page's script computes, on matrices. For others it says that it needs onnxruntime-web.
OPERATORS = {
    *("Gemm", "MatMul", "BatchNormalization", "Add", "Sub", "Mul", "Div"),
    *("Identity", "Dropout", "Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "Softplus"),
}
HTML_LANG = {"en": "en", "zh": "zh-CN"}


class _Page(Template):
    delimiter = "@@"  # the script has its own use for $


def render(described: Mapping[str, Any], onnx_bytes: bytes) -> bytes:
    """The page of a net, in the language that its manifest `described` names; `onnx_bytes` is its net.onnx."""
    language: Language = described["language"]
    template = TEMPLATE.read_text(encoding="utf-8")
    # A dynamic import cannot carry its own integrity; the import map does it for the runtime's second file.
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
    """Words of the manifest, which has them in English, as the lesson says them in that language."""
    lesson = TRAININGS.get(described["lesson"])
    known: list[Words] = [lesson.title, lesson.inputs.meaning, lesson.outputs.meaning] if lesson else []
    texts = [text for text in known if isinstance(text, Text) and text.en == words]
    return said(texts[0], language) if texts else words


def _policy(style: str, scripts: list[str]) -> str:
    """The Content-Security-Policy: this page's own style and scripts, and the runtime; nothing else, from nowhere."""
    own = " ".join(map(_source, scripts))
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {own} {RUNTIME} 'wasm-unsafe-eval';"
        f" connect-src {RUNTIME}; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _data(described: Mapping[str, Any], onnx_bytes: bytes, language: Language) -> str:
    """What the page's script reads, as JSON that cannot end the element it stands in."""
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
    """The graph as the page's script computes it: operators in order, and where in the file each tensor lies.

    `missing` names the operators that it cannot compute.
    """
    graph = onnx.load_model_from_string(onnx_bytes).graph
    tensors, strange = {}, set()
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) > 2:
            strange.add(tensor.name)
            continue
        rows, columns = (1, 1, *tensor.dims)[-2:]  # a vector is a row
        # Its numbers lie in the file as they are in memory. Where the same bytes come twice, either place will do.
        offset = onnx_bytes.index(numpy_helper.to_array(tensor).astype("<f4").tobytes())
        tensors[tensor.name] = {"rows": rows, "columns": columns, "offset": offset}
    nodes = [_node(node) for node in graph.node]
    missing = {each["op"] for each in nodes if not _is_computed(each) or strange & {*each["inputs"]}}
    return {"nodes": nodes, "tensors": tensors, "missing": sorted(missing)}


def _node(node: onnx.NodeProto) -> dict[str, Any]:
    """An operator with its attributes, those that are not set at their defaults."""
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
    unusual = ("transA", "training_mode")  # which no linear layer and no net in eval mode has
    return node["op"] in OPERATORS and not any(node["attributes"].get(name) for name in unusual)
