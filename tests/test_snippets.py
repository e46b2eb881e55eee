"""The snippets of a bundle's README run where there is nothing but the bundle and the packages they name."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nets import TRAININGS
from tests.conftest import ROOT, place_of
from tests.runtimes import WEB, needed

CHECKPOINTS = ROOT / "checkpoints"

SNIPPET = re.compile(r"### (.+?): (\S+)\n.*?```sh\n(.+?)\n```\n\n```(\w+)\n(.*?)```", re.DOTALL)

# A bundle of each lesson, and the second of a kind that is put together in another way.
FOLDERS = [*(place_of(key) for key in TRAININGS), "sequential/net_sequential", "batchnorm/plain"]


def snippets(folder: Path, language: str) -> dict[str, tuple[list[str], str]]:
    """By title: the packages that a snippet's install line names, and its code."""
    found = SNIPPET.findall((folder / "README.md").read_text())
    return {
        title: (install.split()[2:], code)
        for title, _, install, code_language, code in found
        if code_language == language
    }


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
    assert float(done.stdout) < 1e-3  # of outputs of up to 60
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
    # 1e-5 of the largest output: a processor of another kind than the shipped bundle's may round otherwise.
    assert max(differences) < 1e-3 if place.startswith("batchnorm") else max(differences) < 1e-5


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
    assert float(done.stdout) < (1e-3 if place.startswith("batchnorm") else 1e-5)
