"""The snippets of a bundle's README run where there is nothing but the bundle and the packages they name."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from playwright.sync_api import Browser, Route, expect

from nets import TRAININGS
from tests.conftest import ROOT, place_of
from tests.runtimes import TYPES, WEB, needed

CHECKPOINTS = ROOT / "checkpoints"
HERE = "http://bundle.test/"  # nobody's: what the page asks for is answered here

SNIPPET = re.compile(r"### (.+?): (\S+)\n.*?(?:```sh\n(.+?)\n```\n\n)?```(\w+)\n(.*?)```", re.DOTALL)

# A bundle of each lesson, and the second of a kind that is put together in another way.
FOLDERS = [*(place_of(key) for key in TRAININGS), "sequential/net_sequential", "batchnorm/plain"]


def snippets(folder: Path, language: str) -> dict[str, tuple[list[str], str]]:
    """By title: the packages that a snippet's install line names, and its code."""
    sections = re.split(r"^(?=### )", (folder / "README.md").read_text(), flags=re.MULTILINE)[1:]
    found = [SNIPPET.fullmatch(section.strip()) for section in sections]
    parts = [match.groups() for match in found if match]
    assert len(parts) == len(sections)
    return {
        title: (install.split()[2:] if install else [], code)
        for title, _, install, kind, code in parts
        if kind == language
    }


def within(folder: Path, difference: float) -> bool:
    """Whether a snippet's difference is no more than another runtime's rounding."""
    manifest = json.loads((folder / "manifest.json").read_text())
    return bool(difference <= np.max(manifest["sample"]["tolerance"]))


def install(names: list[str], folder: Path) -> None:
    """Put the named packages and what they require into the folder, as pip would, and nothing else."""
    missing, seen = list(names), set()
    while missing:
        name = missing.pop()
        if name in seen:
            continue
        seen.add(name)
        found = distribution(name)
        for part in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / part).exists():
                (folder / part).symlink_to(Path(str(found.locate_file(part))))
        for wanted in map(Requirement, found.requires or ()):
            if not wanted.marker or wanted.marker.evaluate({"extra": ""}):
                missing.append(wanted.name)


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """An empty folder for a bundle, beside one for packages."""
    (tmp_path / "packages").mkdir()
    return tmp_path / "bundle"


def python(code: str, bundle: Path) -> "subprocess.CompletedProcess[str]":
    """Run code in the bundle's folder with the standard library and the installed packages alone."""
    paths = f"import sys; sys.path[:0] = ['', {str(bundle.parent / 'packages')!r}]\n"
    command = [sys.executable, "-I", "-S", "-c", paths + code]
    return subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("title", snippets(CHECKPOINTS / "batchnorm" / "batch_norm", "python"))
def test_a_python_snippet_needs_only_the_packages_that_it_names(title: str, alone: Path) -> None:
    shutil.copytree(CHECKPOINTS / "batchnorm" / "batch_norm", alone)
    packages, code = snippets(alone, "python")[title]
    install(packages, alone.parent / "packages")
    done = python(code, alone)
    assert done.returncode == 0, done.stderr
    assert within(alone, float(done.stdout))
    for other in {"numpy", "onnxruntime", "safetensors", "torch", "gradio", "nets"} - {*packages}:
        assert python(f"import {other}", alone).returncode == 1


@pytest.mark.parametrize("place", FOLDERS)
def test_the_python_snippets_reproduce_the_golden_outputs(place: str, alone: Path) -> None:
    shutil.copytree(CHECKPOINTS / place, alone)
    found = snippets(alone, "python")
    assert list(found) == ["Python, onnxruntime", "PyTorch, state_dict", "PyTorch, safetensors", "PyTorch, whole model"]
    install(["numpy", "onnxruntime", "safetensors", "torch"], alone.parent / "packages")
    code = "\n".join(f"exec({code!r}, {{}})" for _, code in found.values())
    done = python(code, alone)
    assert done.returncode == 0, done.stderr
    differences = [float(line) for line in done.stdout.split()]
    assert len(differences) == 4
    assert within(alone, max(differences))  # torch's too: the bundle may come from a processor of another kind


@pytest.mark.parametrize("place", ["regression", "classification", "batchnorm/batch_norm"])
def test_the_javascript_snippet_reproduces_the_golden_outputs(place: str, alone: Path) -> None:
    needed(WEB, "onnxruntime-web")
    shutil.copytree(CHECKPOINTS / place, alone)
    ((packages, code),) = snippets(alone, "js").values()
    assert [name.partition("@")[0] for name in packages] == ["onnxruntime-web"]
    (alone / "node_modules").symlink_to(WEB.parents[1])  # where npm would put it
    (alone / "use.mjs").write_text(code)
    done = subprocess.run(["node", "use.mjs"], cwd=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert within(alone, float(done.stdout))


@pytest.mark.parametrize("place", ["classification", "batchnorm/batch_norm"])
def test_the_web_page_shows_what_torch_gives(place: str, alone: Path, browser: Browser) -> None:
    needed(WEB, "onnxruntime-web")
    shutil.copytree(CHECKPOINTS / place, alone)
    ((_, code),) = snippets(alone, "html").values()
    (alone / "index.html").write_text(code)
    context = browser.new_context()
    page = context.new_page()

    def answer(route: Route) -> None:
        """The folder as a server has it, and the runtime as the public address has it."""
        name = route.request.url.rpartition("/")[2] or "index.html"
        file = (alone if route.request.url.startswith(HERE) else WEB) / name
        kind = {**TYPES, ".html": "text/html", ".onnx": "application/octet-stream"}[file.suffix]
        route.fulfill(path=file, content_type=kind, headers={"Access-Control-Allow-Origin": "*"})

    page.route(f"{HERE}**", answer)
    page.route("https://cdn.jsdelivr.net/**", answer)
    page.goto(HERE)
    expect(page.locator("output")).not_to_be_empty()
    shown = np.array(page.locator("output").inner_text().split(), np.float64)
    sample = json.loads((alone / "manifest.json").read_text())["sample"]
    assert np.all(np.abs(shown - sample["y"][0]) <= sample["tolerance"][0])
    context.close()
