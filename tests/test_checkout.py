"""A checkout has the same bytes on every machine, whatever its git is told of line ends and filters."""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
Git = Callable[..., bytes]

LINE_ENDS = {
    "Git for Windows": ["-c", "core.autocrlf=true"],
    "CRLF everywhere": ["-c", "core.autocrlf=false", "-c", "core.eol=crlf"],
    "attributes of one's own": ["-c", "core.attributesFile={attributes}", "-c", "filter.lost.smudge=false"],
}
ATTRIBUTES = "* text eol=crlf ident filter=lost\n*.md working-tree-encoding=UTF-16\n"


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Git:
    """git(*words): in a repository of its own that holds this tree, as it is now; no setting of the user's counts."""
    found = shutil.which("git")
    if found is None:
        if os.environ.get("CI"):  # there, it must be had
            pytest.fail("git is not installed")
        pytest.skip("git is not installed")
    folder = tmp_path_factory.mktemp("git")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_DIR": str(folder / ".git"),
        **{f"GIT_{who}_{what}": "nobody@example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }

    def run(*words: str) -> bytes:
        return subprocess.run(
            [found, f"--work-tree={ROOT}", *words], cwd=ROOT, env=environment, check=True, capture_output=True
        ).stdout

    run("init", "--quiet")
    run("-c", "core.autocrlf=false", "add", "--all")
    run("commit", "--quiet", "--message", "as it is")
    return run


def files(git: Git) -> list[str]:
    return git("ls-files", "-z").decode().split("\0")[:-1]


@pytest.mark.parametrize("settings", LINE_ENDS.values(), ids=LINE_ENDS)
def test_a_checkout_has_the_same_bytes_whatever_git_is_told(settings: list[str], git: Git, tmp_path: Path) -> None:
    (tmp_path / "attributes").write_text(ATTRIBUTES, encoding="utf-8")
    told = [word.format(attributes=tmp_path / "attributes") for word in settings]
    git(*told, "checkout-index", "--all", f"--prefix={tmp_path}/tree/")
    assert files(git)
    assert [name for name in files(git) if (tmp_path / "tree" / name).read_bytes() != (ROOT / name).read_bytes()] == []


def test_an_archive_has_the_same_bytes(git: Git, tmp_path: Path) -> None:
    git("-c", "core.autocrlf=true", "archive", f"--output={tmp_path}/tree.tar", "HEAD")
    with tarfile.open(tmp_path / "tree.tar") as archive:
        archive.extractall(tmp_path / "tree", filter="data")
    assert [name for name in files(git) if (tmp_path / "tree" / name).read_bytes() != (ROOT / name).read_bytes()] == []


SEALED = ("checkpoints/", "tests/format2/")  # bundles


def test_what_is_sealed_or_generated_is_no_text_for_git(git: Git) -> None:
    told = git("check-attr", "-z", "text", "--", *files(git)).decode().split("\0")
    attributes = dict(zip(told[::3], told[2::3], strict=False))
    generated = {name for name in files(git) if name.startswith((*SEALED, "export/graphs/"))}
    assert {name for name, value in attributes.items() if value == "unset"} == {*generated, "docs/page.png"}


def test_sources_end_their_lines_with_lf(git: Git) -> None:
    sources = [name for name in files(git) if not name.startswith(SEALED) and not name.endswith((".onnx", "png"))]
    assert [name for name in sources if b"\r" in (ROOT / name).read_bytes()] == []
