"""What the machine's environment says does not matter: to the bits of a net, to requests to oneself, to printing."""

import ast
import hashlib
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import torch

import environment
import lab
from tests.client import until, version_of
from tests.conftest import ADVERSE, trained

ROOT = Path(__file__).parent.parent

# One variable of each kind that was seen to change the bits, and one that each library refuses or prints for.
ARITHMETIC = {
    "OMP_NUM_THREADS": "2",
    "OMP_DYNAMIC": "true",
    "OMP_DISPLAY_ENV": "verbose",
    "KMP_AFFINITY": "compact",
    "MKL_NUM_THREADS": "2",
    "MKL_DYNAMIC": "FALSE",
    "MKL_CBWR": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "MKL_VERBOSE": "1",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "ONEDNN_VERBOSE": "all",
    "DNNL_DEFAULT_FPMATH_MODE": "BF16",
    "ATEN_CPU_CAPABILITY": "default",
    "OPENBLAS_NUM_THREADS": "many",
    "OPENBLAS_CORETYPE": "Prescott",
    "NPY_DISABLE_CPU_FEATURES": "NONE SUCH",
}
TRAIN = """
from hashlib import sha256
from lab.training import Trainer
from nets import TRAININGS
lesson = TRAININGS["batchnorm"]
trainer = Trainer(lesson, lesson.recipe({"steps": 20}))
while not trainer.done:
    trainer.step()
states = [learner.net.state_dict() for learner in trainer.learners]
print(sha256(b"".join(tensor.numpy().tobytes() for state in states for tensor in state.values())).hexdigest())
"""


def test_a_seed_gives_the_same_bits_whatever_the_environment_says_of_arithmetic() -> None:
    environment = {**os.environ, **ARITHMETIC}
    there = subprocess.run([sys.executable, "-c", TRAIN], cwd=ROOT, env=environment, stdout=-1, stderr=-1, check=True)
    states = [learner.net.state_dict() for learner in trained("batchnorm", steps=20).learners]
    here = hashlib.sha256(b"".join(tensor.numpy().tobytes() for state in states for tensor in state.values()))
    assert (there.stdout.decode(), there.stderr.decode()) == (f"{here.hexdigest()}\n", "")


def test_a_notebook_that_has_chosen_its_threads_gets_the_same_bits_too() -> None:
    torch.set_num_threads(2)
    importlib.reload(lab)
    assert torch.get_num_threads() == 1


def test_variables_that_are_none_of_arithmetic_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KMP_DUPLICATE_LIB_OK", "LIVE_NETS_WORKERS", "HF_TOKEN"):
        monkeypatch.setenv(name, "TRUE")
    before = dict(os.environ)
    environment.fix_arithmetic()
    assert dict(os.environ) == before


def test_what_comes_before_torch_imports_the_standard_library_alone() -> None:
    tree = ast.parse(Path(environment.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= sys.stdlib_module_names
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))


@pytest.mark.parametrize("value", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "nonsense://x", "::::", "[::"])
@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "FTP_Proxy"])
def test_a_request_to_oneself_goes_by_no_proxy(
    name: str, value: str, app_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(name, value)
    environment.ignore_proxies()
    assert httpx.get(f"{app_url}health").json()["version"]


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"])
def test_a_request_to_oneself_needs_no_certificates(name: str, app_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/no/such/file")
    environment.ignore_proxies()
    assert httpx.get(f"{app_url}health").json()["version"]


def test_the_app_serves_where_nothing_suits_it(app_url: str) -> None:
    chinese = {
        each for each in (ROOT / "tabs" / "scripts" / "texts.js").read_text(encoding="utf-8") if not each.isascii()
    }
    assert chinese
    version = version_of(httpx.get(app_url).text)
    assert chinese <= set(httpx.get(f"{app_url}scripts/{version}/texts.js").text)
    until(lambda: httpx.get(f"{app_url}health").json()["workers"] == 2)


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "cp1252", "utf-16"])
def test_what_a_console_cannot_show_is_printed_as_its_escape(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding))
    environment.set_up_console()
    print("学 × 📈 \udc80")
    sys.stdout.flush()
    text = printed.getvalue().decode(encoding)
    assert text.encode(encoding)
    assert text.endswith("\\udc80\n")


def test_a_program_without_a_console_can_be_set_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    environment.set_up_console()


def test_the_command_line_speaks_to_a_console_that_knows_no_chinese(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "export", "inspect", str(tmp_path / "学📈")]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, **ADVERSE}, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"error: FILE.onnx|DIR must be a file or a folder, not ")
    assert b"Traceback" not in done.stderr


def test_every_text_is_opened_with_its_encoding() -> None:
    """ruff's PLW1514 finds the same only where it can tell the type, and nothing of subprocess."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        if any(part.startswith(".") or part == "checkpoints" for part in path.relative_to(ROOT).parts):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _opens_a_text(node):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def _opens_a_text(call: ast.Call) -> bool:
    """Whether a file or the output of a process is read or written as text, and no encoding is named."""
    given = {keyword.arg for keyword in call.keywords}
    is_method = isinstance(call.func, ast.Attribute) and call.func.attr in ("read_text", "write_text")
    of_process = not given.isdisjoint({"text", "universal_newlines"}) and isinstance(call.func, ast.Attribute)
    return "encoding" not in given and (is_method or (of_process and ast.unparse(call.func).startswith("subprocess.")))
