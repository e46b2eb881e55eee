"""What Live Nets can be installed on: the check that the install begins with, and what is promised elsewhere."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest

from supported import NEWEST, OLDEST, SYSTEMS, numbers, refusal
from tests.client import ROOT


@pytest.mark.parametrize(
    ("version", "bits", "system", "machine", "release"),
    [
        ((3, 11), 64, "Linux", "x86_64", (2, 28)),
        ((3, 14), 64, "Linux", "aarch64", (2, 41)),
        ((3, 12), 64, "Darwin", "arm64", (14, 0)),
        ((3, 13), 64, "Darwin", "arm64", (26, 1)),
        ((3, 12), 64, "Windows", "AMD64", ()),
    ],
)
def test_a_system_with_wheels_is_welcome(
    version: tuple[int, int], bits: int, system: str, machine: str, release: tuple[int, ...]
) -> None:
    assert refusal(version, bits, system, machine, release) == ""


@pytest.mark.parametrize(
    ("version", "bits", "system", "machine", "release", "told"),
    [
        ((2, 7), 64, "Linux", "x86_64", (2, 28), "needs Python 3.11 to 3.14, and this is 2.7;"),
        ((3, 10), 64, "Linux", "x86_64", (2, 28), "this is 3.10;"),
        ((3, 15), 64, "Linux", "x86_64", (2, 28), "this is 3.15;"),
        ((3, 12), 64, "Darwin", "x86_64", (14, 2), "this is Darwin 14.2 on x86_64, 64 bits."),
        ((3, 12), 64, "Darwin", "arm64", (13, 6), "this is Darwin 13.6 on arm64, 64 bits."),
        ((3, 12), 64, "Linux", "x86_64", (), "this is Linux on x86_64, 64 bits."),  # Alpine's musl
        ((3, 12), 64, "Linux", "x86_64", (2, 17), "this is Linux 2.17 on x86_64"),
        ((3, 12), 32, "Windows", "AMD64", (), "32 bits."),
        ((3, 12), 32, "Linux", "armv7l", (2, 31), "this is Linux 2.31 on armv7l, 32 bits."),
        ((3, 12), 64, "FreeBSD", "amd64", (), "this is FreeBSD"),
    ],
)
def test_a_system_without_wheels_is_told_so_in_a_sentence(
    version: tuple[int, int], bits: int, system: str, machine: str, release: tuple[int, ...], told: str
) -> None:
    sentence = refusal(version, bits, system, machine, release)
    assert sentence.startswith("Live Nets needs ")
    assert told in sentence
    assert sentence.count("\n") == 0


def test_this_machine_is_welcome_and_releases_are_read() -> None:
    assert subprocess.run([sys.executable, "supported.py"], cwd=ROOT, check=True, capture_output=True).stderr == b""
    assert (numbers("14.2.1"), numbers(""), numbers("2.28")) == ((14, 2, 1), (), (2, 28))


def test_what_is_promised_is_what_is_checked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={OLDEST[0]}.{OLDEST[1]},<{NEWEST[0]}.{NEWEST[1] + 1}"
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}, on {SYSTEMS}" in readme
    assert "$(PYTHON) supported.py" in (ROOT / "Makefile").read_text(encoding="utf-8")
    space = re.search('python_version: "3.([0-9]+)"', readme)
    assert space
    assert OLDEST[1] <= int(space[1]) <= NEWEST[1]


def test_old_pythons_can_read_the_check() -> None:
    tree = ast.parse((ROOT / "supported.py").read_text(encoding="utf-8"), feature_version=(3, 4))
    new = [each for each in ast.walk(tree) if isinstance(each, ast.JoinedStr | ast.NamedExpr | ast.AnnAssign)]
    annotated = [each for each in ast.walk(tree) if isinstance(each, ast.arg) and each.annotation]
    assert new + annotated == []
