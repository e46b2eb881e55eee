"""The lesson on installing: a command for every choice, no address in any, and a check that really runs."""

import re
import subprocess
import sys
from importlib.metadata import requires
from itertools import product as combinations

import numpy as np
import pytest
import torch

from charts.blocks import Block, Note, Table
from charts.text import LANGUAGES, Text, said
from lab.lesson import View
from nets.install import LESSON, InstallConfig, commands, gradient, product, random_numbers, remark, verdict
from tests.sessions import replayed, shown

CHOICES = list(combinations(("linux", "macos", "windows"), ("pip", "uv", "conda"), ("cpu", "cuda")))

# Makes numpy as good as not installed, then does with torch what the text tells.
WITHOUT_NUMPY = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "numpy":
            raise ModuleNotFoundError("No module named 'numpy'")
sys.meta_path.insert(0, Absent())
import torch
for use in (torch.ones(2).numpy, lambda: torch.from_numpy([1])):
    try:
        use()
    except RuntimeError as error:
        print(error)
"""


def viewed(**settings: str) -> View:
    return LESSON.compute(LESSON.config.parse(settings))


def torch_command(system: str, manager: str, device: str) -> str:
    (command,) = (command for purpose, command in commands(system, manager, device) if purpose == "torch")
    return command


def notes(blocks: tuple[Block, ...]) -> list[Note]:
    return [block for block in blocks if isinstance(block, Note)]


def test_every_choice_is_offered() -> None:
    offered = [list(control.schema()["enum"]) for control in LESSON.config.controls().values()]
    assert list(combinations(*offered)) == CHOICES


@pytest.mark.parametrize("choice", CHOICES, ids="-".join)
def test_every_choice_has_commands_without_an_address(choice: tuple[str, str, str]) -> None:
    for purpose, command in commands(*choice):
        assert said(purpose, "en")
        assert command.startswith(("pip install ", "uv ", "conda ", "py", "source ", ".venv"))
        assert not re.search(r"://|www|\.(org|com|io|net|dev)\b", command)


@pytest.mark.parametrize("choice", CHOICES, ids="-".join)
def test_no_remark_names_an_address_but_the_site_of_pytorch(choice: tuple[str, str, str]) -> None:
    for language in LANGUAGES:
        words = said(remark(*choice).text, language).replace("pytorch.org", "")
        assert not re.search(r"://|www|\.(org|com|io|net|dev)\b", words)


@pytest.mark.parametrize(
    ("choice", "command"),
    [
        (("linux", "pip", "cpu"), "pip install torch --index-url URL"),
        (("linux", "pip", "cuda"), "pip install torch"),
        (("macos", "pip", "cpu"), "pip install torch"),
        (("macos", "pip", "cuda"), "pip install torch"),
        (("windows", "pip", "cpu"), "pip install torch"),
        (("windows", "pip", "cuda"), "pip install torch --index-url URL"),
        (("linux", "uv", "cpu"), "uv pip install torch --torch-backend=cpu"),
        (("windows", "uv", "cuda"), "uv pip install torch --torch-backend=auto"),
        (("macos", "uv", "cuda"), "uv pip install torch"),
        (("linux", "conda", "cpu"), "conda install -c conda-forge pytorch-cpu"),
        (("windows", "conda", "cuda"), "conda install -c conda-forge pytorch-gpu"),
        (("macos", "conda", "cpu"), "conda install -c conda-forge pytorch"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, tuple) else "",
)
def test_the_command_is_the_one_for_the_build(choice: tuple[str, str, str], command: str) -> None:
    assert torch_command(*choice) == command


@pytest.mark.parametrize("choice", CHOICES, ids="-".join)
def test_a_placeholder_is_explained_and_the_complete_command_offered(choice: tuple[str, str, str]) -> None:
    words = said(remark(*choice).text, "en")
    assert ("URL" in torch_command(*choice)) == ("`URL`" in words)
    if "`URL`" in words:
        assert "pytorch.org" in words
        assert torch_command(choice[0], "uv", choice[2]) in words


@pytest.mark.parametrize("manager", ["pip", "uv", "conda"])
def test_a_mac_is_told_that_it_has_no_cuda_but_mps(manager: str) -> None:
    asked = remark("macos", manager, "cuda")
    assert asked.kind == "warning"
    assert "no CUDA" in said(asked.text, "en")
    assert all(
        "mps" in said(note.text, each) for note in (asked, remark("macos", manager, "cpu")) for each in LANGUAGES
    )


@pytest.mark.parametrize("choice", CHOICES, ids="-".join)
def test_the_page_shows_the_commands_and_the_remark(choice: tuple[str, str, str]) -> None:
    blocks = viewed(**dict(zip(("system", "manager", "device"), choice, strict=True))).blocks
    assert isinstance(blocks[0], Table)
    assert [row[1] for row in blocks[0].rows] == [f"`{command}`" for _, command in commands(*choice)]
    assert remark(*choice) in blocks
    assert verdict([]) in blocks


def test_the_session_shows_what_python_prints() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        view = viewed()
        torch.manual_seed(1)
        assert replayed(shown(view.blocks), torch=torch, np=np) == shown(view.blocks)


def test_the_check_passes_here() -> None:
    numbers = random_numbers()
    assert numbers.shape == (2, 3)
    assert 0 <= numbers.min() <= numbers.max() < 1
    a = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(product(a), a @ a.T)
    grad = gradient()
    assert grad is not None
    assert grad.tolist() == [2.0, 4.0]


def test_a_check_that_fails_is_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nets.install.random_numbers", lambda: torch.full((2, 3), 2.0))
    monkeypatch.setattr("nets.install.gradient", lambda: None)
    failed = verdict([Text("random numbers", "随机数"), Text("gradient", "梯度")])
    assert failed in viewed().blocks
    assert failed.kind == "warning"
    assert "random numbers, gradient" in said(failed.text, "en")


def test_versions_are_those_of_this_server() -> None:
    versions = next(block for block in viewed().blocks[1:] if isinstance(block, Table))
    cells = {said(name, "en"): said(version, "en") for name, version in versions.rows}
    assert said(versions.title, "en") == "On this server"
    assert cells["Python"] == ".".join(map(str, sys.version_info[:3]))
    assert cells["torch"] == torch.__version__
    assert cells["CUDA in this build"] == (torch.version.cuda or "none")


def test_what_to_do_about_cuda_is_told_only_to_who_asks_for_it() -> None:
    assert len(notes(viewed(device="cuda").blocks)) == len(notes(viewed().blocks)) + 1
    assert len(notes(viewed(system="macos", device="cuda").blocks)) == len(notes(viewed().blocks))


def test_torch_does_not_bring_numpy_and_says_so_in_the_words_told() -> None:
    assert not any(name.startswith("numpy") for name in requires("torch") or [])
    run = subprocess.run([sys.executable, "-c", WITHOUT_NUMPY], capture_output=True, encoding="utf-8", check=True)
    assert run.stdout.splitlines() == ["Numpy is not available"] * 2
    assert "UserWarning: Failed to initialize NumPy: No module named 'numpy'" in run.stderr
    for language in LANGUAGES:
        words = said(LESSON.prose.text, language)
        assert "RuntimeError: Numpy is not available" in words
        assert "UserWarning: Failed to initialize NumPy: No module named 'numpy'" in words


def test_ideas_show_what_they_promise() -> None:
    windows, mac, conda = (InstallConfig.parse(idea.settings) for idea in LESSON.suggestions)
    assert "--index-url" in torch_command(windows.system, windows.manager, windows.device)
    assert "--index-url" not in torch_command(windows.system, windows.manager, "cpu")
    assert torch_command(mac.system, mac.manager, mac.device) == "pip install torch"
    assert remark(mac.system, mac.manager, mac.device).kind == "warning"
    assert torch_command(conda.system, conda.manager, conda.device).endswith("pytorch-cpu")
    assert torch_command(conda.system, conda.manager, "cuda").endswith("pytorch-gpu")


def test_there_is_nothing_to_plot() -> None:
    assert viewed().chart.panels == ()
