"""The snippets of a bundle's README run where there is nothing but the bundle and the packages they name."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from playwright.sync_api import Browser, Route, expect
from torch import nn

from charts.text import LANGUAGES, Language
from export import formats, layout, model_card
from export.cases import Case, Parity
from export.manifest import SAMPLE
from nets import TRAININGS
from tests.client import ROOT
from tests.conftest import place_of
from tests.runtimes import TYPES, WEB, needed

CHECKPOINTS = ROOT / "checkpoints"
HERE = "http://bundle.test/"  # nobody's: what the page asks for is answered here

SNIPPET = re.compile(r"### (.+?)(?:: |：)(\S+)\n.*?(?:```sh\n(.+?)\n```\n\n)?```(\w+)\n(.*?)```", re.DOTALL)
CLASS = re.compile(r"(.+): (\d+\.\d)%")

# A bundle of each lesson, and the second of a kind that is put together in another way.
FOLDERS = [*(place_of(key) for key in TRAININGS), "sequential/net_class", "batchnorm/plain"]

# Of a net that no lesson has: three, with all that would end a literal or an element in some language.
NAMES = ['it\'s "red"', "绿 \\", "</script>`${1}"]

Manifest = dict[str, Any]


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """An empty folder for a bundle, beside one for packages."""
    (tmp_path / "packages").mkdir()
    return tmp_path / "bundle"


def copied(place: str, folder: Path, language: Language = "en") -> Manifest:
    """Copy a shipped bundle, with the README of this program in that language; its manifest."""
    shutil.copytree(CHECKPOINTS / place, folder)
    described = {**json.loads((folder / "manifest.json").read_bytes()), "language": language}
    cases = json.loads((folder / "parity.json").read_bytes())["cases"]
    report = Parity(tuple(Case(**{**each, "shape": tuple(each["shape"])}) for each in cases))
    text = model_card.text(TRAININGS[described["lesson"]], described, described["files"], report)
    (folder / "README.md").write_bytes(text.encode())
    return described


def of_three_classes(folder: Path) -> Manifest:
    """Write a bundle of a net of three classes whose scores are so large that exp overflows; its manifest."""
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)).eval()  # whose graph is shipped
    x = torch.randn(17, 2, generator=torch.Generator().manual_seed(0))
    both_signs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    scores = 1000 * torch.tensor([[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0], [-1.0, -1.0, 1.0, 1.0]])
    bias = torch.tensor([1000.0, 0.0, 0.0])
    net.load_state_dict({"0.weight": both_signs, "0.bias": torch.zeros(4), "2.weight": scores, "2.bias": bias})
    y = net(x).detach()
    described = copied("classification", folder)
    described["class"] = "torch.nn.modules.container.Sequential"
    layers = ("activation.ReLU", "linear.Linear")
    described["modules"] = [described["class"], *(f"torch.nn.modules.{each}" for each in layers)]
    described["classes"] = NAMES
    described["sample"] |= {"x": x.tolist(), "y": y.tolist(), "tolerance": [[1e-3] * 3] * 17}
    for name in layout.MODEL_FILES:
        (folder / name).write_bytes(formats.write(name, net, x, {}))
    np.savez(folder / "golden.npz", **{f"x_{SAMPLE}": x.numpy(), f"y_{SAMPLE}": y.numpy()})
    (folder / "net.py").write_text(model_card.source(net, {}), encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(described), encoding="utf-8")
    text = model_card.text(TRAININGS["classification"], described, layout.MODEL_FILES, Parity(()))
    (folder / "README.md").write_text(text, encoding="utf-8")
    return described


def snippets(folder: Path, language: str) -> dict[str, tuple[list[str], str]]:
    """By title: the packages that a snippet's install line names, and its code."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    sections = re.split(r"^(?=### )", text, flags=re.MULTILINE)[1:]
    found = [SNIPPET.fullmatch(section.strip()) for section in sections]
    parts = [match.groups() for match in found if match]
    assert len(parts) == len(sections)
    return {
        title: (install.split()[2:] if install else [], code)
        for title, _, install, kind, code in parts
        if kind == language
    }


def check(printed: str, described: Manifest, *, whole: bool = False) -> None:
    """That a snippet printed a small difference, and for a classifier the classes and probabilities that torch gives.

    They are those of the first recorded input of each class, or of the `whole` recorded batch.
    """
    first, *lines = printed.splitlines()
    assert float(first) <= np.max(described["sample"]["tolerance"])  # another runtime's rounding
    check_classes(lines, described, whole=whole)


def check_classes(lines: list[str], described: Manifest, *, whole: bool = False) -> None:
    names = described["classes"]
    probabilities = torch.tensor(described["sample"]["y"]).softmax(dim=1)
    chosen = probabilities.argmax(dim=1).tolist() if names else []
    rows = [row for row, index in enumerate(chosen) if whole or index not in chosen[:row]]
    found = [CLASS.fullmatch(line) for line in lines]
    assert [match and match[1] for match in found] == [names[chosen[row]] for row in rows]
    shown = [float(match[2]) for match in found if match]
    assert shown == pytest.approx([100 * probabilities[row].max().item() for row in rows], abs=0.06)


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


def python(code: str, bundle: Path, given: str = "") -> "subprocess.CompletedProcess[str]":
    """Run code in the bundle's folder with the standard library and the installed packages alone."""
    bundle.mkdir(exist_ok=True)
    paths = f"import sys; sys.path[:0] = ['', {str(bundle.parent / 'packages')!r}]\n"
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", paths + code]
    return subprocess.run(command, cwd=bundle, input=given, capture_output=True, encoding="utf-8", check=False)


@pytest.mark.parametrize("title", snippets(CHECKPOINTS / "batchnorm" / "batch_norm", "python"))
def test_a_python_snippet_needs_only_the_packages_that_it_names(title: str, alone: Path) -> None:
    described = copied("batchnorm/batch_norm", alone)
    packages, code = snippets(alone, "python")[title]
    install(packages, alone.parent / "packages")
    others = {"numpy", "onnxruntime", "safetensors", "torch", "gradio", "nets"} - {*packages}
    absent = f"import importlib.util; assert not any(map(importlib.util.find_spec, {sorted(others)}))"
    done = python(f"{absent}\n{code}", alone)
    assert done.returncode == 0, done.stderr
    check(done.stdout, described)


# Runs snippets in their folders, and prints what each prints as JSON.
RUN = """
import contextlib, io, json, os, sys
printed = []
for folder, codes in json.load(sys.stdin):
    os.chdir(folder)
    for code in codes:
        sys.modules.pop("net", None)  # that of the folder before
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, {})
        printed.append(out.getvalue())
print(json.dumps(printed))
"""


def test_the_python_snippets_reproduce_the_golden_outputs_and_name_torchs_classes(tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    install(["numpy", "onnxruntime", "safetensors", "torch"], tmp_path / "packages")
    made = {place: copied(place, tmp_path / place, LANGUAGES[n % 2]) for n, place in enumerate(FOLDERS)}
    made["three classes"] = of_three_classes(tmp_path / "three classes")
    codes = {place: [code for _, code in snippets(tmp_path / place, "python").values()] for place in made}
    assert {len(each) for each in codes.values()} == {4}
    given = [[str(tmp_path / place), each] for place, each in codes.items()]
    done = python(RUN, tmp_path / "bundles", json.dumps(given))
    assert done.returncode == 0, done.stderr
    printed = iter(json.loads(done.stdout))
    for described in made.values():
        for _ in range(4):
            check(next(printed), described)


def test_titles_and_comments_are_in_the_readers_language(tmp_path: Path) -> None:
    for language, title, comment in (
        ("en", "PyTorch, whole model", "  # inputs of your own, a row each\n"),
        ("zh", "PyTorch，整个模型", "  # 你自己的输入，一行一个样本\n"),
    ):
        copied("classification", tmp_path / language, language)  # type: ignore[arg-type]
        assert comment in snippets(tmp_path / language, "python")[title][1]


@pytest.mark.parametrize("place", ["classification", "optimizers/adam", "dropout/dropout", "batches"])
def test_a_chinese_readme_has_no_english_sentence(place: str, alone: Path) -> None:
    copied(place, alone, "zh")
    text = (alone / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]
    prose = re.sub(r"```.*?```|`.*?`|\*Weights only load failed.*?\*", "", text, flags=re.DOTALL)
    assert re.findall(r"[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}", prose) == []
    assert "这是一个" in prose


@pytest.mark.parametrize(("language", "words"), [("en", "is no protection"), ("zh", "不是保护")])
def test_the_readme_says_that_weights_only_does_not_make_a_foreign_pickle_safe(
    language: Language, words: str, alone: Path
) -> None:
    copied("classification", alone, language)
    section = (alone / "README.md").read_text(encoding="utf-8").split("net.pkl\n\n")[1].split("```")[0]
    assert "`weights_only=True`" in section
    assert words in section
    assert "`net.safetensors`" in section
    assert "`net.onnx`" in section


@pytest.mark.parametrize("place", ["regression", "three classes"])
def test_the_javascript_snippet_reproduces_the_golden_outputs_and_names_torchs_classes(place: str, alone: Path) -> None:
    needed(WEB, "onnxruntime-web")
    described = of_three_classes(alone) if place == "three classes" else copied(place, alone)
    ((packages, code),) = snippets(alone, "js").values()
    assert [name.partition("@")[0] for name in packages] == ["onnxruntime-web"]
    (alone / "node_modules").symlink_to(WEB.parents[1])  # where npm would put it
    (alone / "use.mjs").write_text(code, encoding="utf-8")
    command = ["node", "use.mjs"]
    done = subprocess.run(command, cwd=alone, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    check(done.stdout, described, whole=True)


@pytest.mark.parametrize("place", ["three classes", "batchnorm/batch_norm"])
def test_the_web_page_shows_what_torch_gives(place: str, alone: Path, browser: Browser) -> None:
    needed(WEB, "onnxruntime-web")
    described = of_three_classes(alone) if place == "three classes" else copied(place, alone)
    ((_, code),) = snippets(alone, "html").values()
    (alone / "index.html").write_text(code, encoding="utf-8")
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
    shown = page.locator("output").inner_text()
    if described["classes"]:
        check_classes(shown.strip().splitlines(), described)
    else:
        sample = described["sample"]
        assert np.all(np.abs(np.array(shown.split(), np.float64) - sample["y"][0]) <= sample["tolerance"][0])
    context.close()
