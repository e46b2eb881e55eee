"""The house: imports run one way, and what is promised about the tree holds."""

import ast
import json
import re
from pathlib import Path

import pytest

from export.try_page import ONNXRUNTIME_WEB

ROOT = Path(__file__).parent.parent
LAYERS = ["charts", "lab", "nets", "export", "runs", "server", "tabs", "app"]  # each may import those before it
FILES = [ROOT / "app.py", *(path for layer in LAYERS[:-1] for path in sorted((ROOT / layer).glob("*.py")))]
FORBIDDEN = {
    "charts": {"torch", "gradio", "onnx", "onnxruntime"},
    "lab": {"gradio", "bokeh", "matplotlib", "onnx", "onnxruntime", "charts.browser", "charts.figure"},
    "nets": {"gradio", "bokeh", "matplotlib", "onnx", "onnxruntime", "charts.browser", "charts.figure"},
    "export": {"gradio", "bokeh", "charts.browser"},
    "runs": {"gradio", "bokeh", "matplotlib"},
    "server": {"torch", "bokeh", "matplotlib"},
    "tabs": set(),
    "app": {"torch"},
}


def imported(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def layer_of(path: Path) -> str:
    return path.stem if path.parent == ROOT else path.parent.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    layer = layer_of(path)
    above = set(LAYERS[LAYERS.index(layer) + 1 :])
    used = imported(path)
    assert {module.partition(".")[0] for module in used} & above == set()
    assert not any(module == bad or module.startswith(f"{bad}.") for module in used for bad in FORBIDDEN[layer])


def test_pyplot_with_its_global_state_is_never_imported() -> None:
    assert not any("pyplot" in module for path in FILES for module in imported(path))


def test_the_space_runs_the_gradio_that_is_tested() -> None:
    card = (ROOT / "README.md").read_text(encoding="utf-8").split("---")[1]
    (version,) = re.findall(r"^sdk_version: (.+)$", card, re.MULTILINE)
    assert f"gradio=={version}\n" in (ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_every_requirement_is_pinned_exactly() -> None:
    names = ("requirements.txt", "requirements-dev.txt", "tests/oldest-onnxruntime.txt")
    lines = "".join((ROOT / name).read_text(encoding="utf-8") for name in names).splitlines()
    wanted = [line.partition(";")[0] for line in lines if line and not line.startswith(("#", "-r"))]
    assert wanted
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in wanted)


def test_the_onnxruntime_web_that_is_tried_is_the_one_that_bundles_name() -> None:
    package = json.loads((ROOT / "tests" / "package.json").read_bytes())
    assert package["dependencies"] == {"onnxruntime-web": ONNXRUNTIME_WEB}
