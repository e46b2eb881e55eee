"""`python -m export`, as people and scripts use it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch

from export.__main__ import main
from export.graph import onnx_bytes
from export.layout import find
from export.results import Exit
from nets.regression import Net
from tests.conftest import lessons_with, short

QUICK = ["--set", "steps=5"]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    assert main(["run", "regression", *QUICK, "--out", str(tmp_path)]) == Exit.OK
    return tmp_path


@pytest.mark.parametrize("key", lessons_with("sequential", "optimizers"))
def test_run_writes_a_bundle_that_verify_accepts(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = [word for name, value in short(key).items() for word in ("--set", f"{name}={value}")]
    assert main(["run", key, *quick, "--set", "seed=7", "--out", str(tmp_path)]) == Exit.OK
    assert main(["verify", str(tmp_path)]) == Exit.OK
    printed = capsys.readouterr().out
    assert "agree with the net" in printed
    for folder in find(tmp_path):
        assert json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["recipe"]["settings"]["seed"] == 7


def test_json_reports_metrics_and_parity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "regression", *QUICK, "--json", "--out", str(tmp_path)]) == Exit.OK
    (report,) = json.loads(capsys.readouterr().out)
    assert report["exit"] == 0
    assert report["metrics"]["loss"] > 0
    assert report["parity"]["passed"] is True
    assert {"file", "case", "shape", "max_abs", "passed"} <= set(report["parity"]["cases"][0])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "nope", "--out", "x"], "lesson must be one of regression, classification"),
        (
            ["run", "regression", "--out", "x", "--set", "steps=0"],
            "steps must be a whole number from 1 to 2000, not 0.",
        ),
        (["run", "regression", "--out", "x", "--set", "steps=1e9"], "not 1e9."),
        (["run", "regression", "--out", "x", "--set", "noise=nan"], "noise must be a number from 0 to 1, not nan."),
        (["run", "regression", "--out", "x", "--set", "noise=much"], "not 'much'."),
        (["run", "regression", "--out", "x", "--set", f"steps={'9' * 5000}"], "steps must be"),
        (["run", "regression", "--out", "x", "--set", "lr=1"], "settings must be one of learning_rate"),
        (["run", "regression", "--out", "x", "--set", "steps"], "--set must be NAME=VALUE, not 'steps'."),
        (["run", "regression"], "the following arguments are required: --out."),
        (["run", "regression", "--out", "/dev/null/x"], "DIR must be a folder that can be written and read"),
        (["verify", "no/such/folder"], "DIR must be a folder, not 'no/such/folder'."),
        (["inspect", "no/such/file"], "FILE.onnx|DIR must be a file or a folder, not 'no/such/file'."),
        (["frobnicate"], "invalid choice"),
        ([], "the following arguments are required"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_bad_usage_ends_with_1_and_one_sentence(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == Exit.USAGE
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("error: ")
    assert told in captured.err
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_run_ends_with_4_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "regression", "--set", "learning_rate=10", "--out", str(tmp_path)]) == Exit.NON_FINITE
    assert "Try a smaller learning rate." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["net.onnx", "manifest.json", "golden.npz"])
def test_a_broken_file_ends_with_3_and_is_named(name: str, written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (written / "regression" / name).write_bytes(b"?")
    assert main(["verify", str(written)]) == Exit.BROKEN
    assert f"  {name} " in capsys.readouterr().out


def test_a_lost_manifest_is_missed(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (written / "regression" / "manifest.json").unlink()
    assert main(["verify", str(written), "--json"]) == Exit.BROKEN
    (report,) = json.loads(capsys.readouterr().out)
    assert report["error"] == "manifest.json is missing"


def test_a_folder_without_bundles_is_not_taken_for_verified(tmp_path: Path) -> None:
    assert main(["verify", str(tmp_path)]) == Exit.BROKEN


def test_one_broken_bundle_among_good_ones_decides(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "classification", *QUICK, "--out", str(written)]) == Exit.OK
    (written / "classification" / "net.py").write_text("", encoding="utf-8")
    assert main(["verify", str(written)]) == Exit.BROKEN
    printed = capsys.readouterr().out
    assert "net.py has 0 bytes" in printed
    assert "agree with the net" in printed  # of the good one


def test_json_tells_errors_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "regression", "--set", "steps=0", "--json", "--out", str(tmp_path)]) == Exit.USAGE
    (report,) = json.loads(capsys.readouterr().out)
    assert report == {"exit": 1, "error": "steps must be a whole number from 1 to 2000, not 0."}


def test_somebodys_own_folder_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "regression").mkdir()
    (tmp_path / "regression" / "thesis.txt").write_text("mine", encoding="utf-8")
    assert main(["run", "regression", *QUICK, "--out", str(tmp_path)]) == Exit.USAGE
    assert "does not belong to a bundle and would be lost" in capsys.readouterr().err
    assert (tmp_path / "regression" / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_names_that_look_like_markup_are_printed_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a[bold]b[/x]"
    assert main(["run", "regression", *QUICK, "--out", str(folder)]) == Exit.OK
    assert main(["verify", str(folder)]) == Exit.OK
    assert "a[bold]b[/x]" in capsys.readouterr().out.replace("\n", "")


def test_the_module_runs_with_its_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "export", "verify", str(tmp_path / "none")], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: DIR must be a folder")


def test_a_tree_is_verified_a_row_a_bundle_and_what_is_wrong_in_full(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "optimizers", "--set", "epochs=1", "--out", str(written)]) == Exit.OK
    (written / "optimizers" / "adam" / "golden.npz").write_bytes(b"")
    capsys.readouterr()
    assert main(["verify", str(written)]) == Exit.BROKEN
    printed = capsys.readouterr().out
    assert printed.count("all agree with the net") == 4
    assert "4 of 5 bundles agree with their nets." in printed
    assert "golden.npz has 0 bytes and not" in printed.replace("\n", " ")


def test_inspect_tells_what_a_bundle_holds(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(written)]) == Exit.OK
    printed = capsys.readouterr().out
    for told in (
        "golden.npz",
        "Gemm",
        "hidden.weight 10×1",
        "31 parameters",
        "batch×1",
        "Test sample: ok",
        "opset 17",
    ):
        assert told in printed


def test_inspect_tells_what_a_lone_file_holds_whatever_its_name(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lone = (written / "regression" / "net.onnx").rename(written / "mine.onnx")
    assert main(["inspect", str(lone), "--json"]) == Exit.OK
    (report,) = json.loads(capsys.readouterr().out)
    assert report["onnx"]["parameters"] == 31
    assert [each["operator"] for each in report["onnx"]["operators"]] == ["Gemm", "Relu", "Gemm"]
    assert report["onnx"]["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 1]}]
    assert report["onnx"]["metadata"]["lesson"] == "regression"
    assert report["test"]["passed"] is True
    assert report["manifest"] is None


def test_inspect_shows_a_file_without_a_sample(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lone = written / "plain.onnx"
    lone.write_bytes(onnx_bytes(Net(1, 3, 1), torch.zeros(2, 1)))
    assert main(["inspect", str(lone)]) == Exit.OK
    assert "The file contains no test sample." in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"no onnx", b"\x08\x08"], ids=["empty", "text", "version alone"])
def test_inspect_names_a_file_that_is_no_onnx(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.onnx").write_bytes(content)
    assert main(["inspect", str(tmp_path / "mine.onnx")]) == Exit.BROKEN
    assert "mine.onnx cannot be read: " in capsys.readouterr().out


def test_inspect_shows_what_is_whole_beside_what_is_broken(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "optimizers", "--set", "epochs=1", "--out", str(written)]) == Exit.OK
    for name in ("sgd", "adam"):
        (written / "optimizers" / name / "net.pkl").write_bytes(b"")
    capsys.readouterr()
    assert main(["inspect", str(written)]) == Exit.BROKEN
    printed = capsys.readouterr().out
    assert printed.count("net.pkl has 0 bytes") == 2
    assert printed.count("Test sample: ok") == 3


def test_inspect_ends_with_2_if_the_files_own_test_fails(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written / "regression" / "net.onnx"
    model = onnx.load(path)
    model.graph.node[1].op_type = "Tanh"
    (written / "changed.onnx").write_bytes(model.SerializeToString())
    assert main(["inspect", str(written / "changed.onnx")]) == Exit.PARITY
    assert "Test sample: FAILED" in capsys.readouterr().out


def test_inspect_refuses_an_altered_bundle_before_it_reads_its_onnx(
    written: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (written / "regression" / "net.onnx").write_bytes(b"?")
    monkeypatch.setattr(onnx, "load_model_from_string", None)
    assert main(["inspect", str(written / "regression")]) == Exit.BROKEN
    assert "net.onnx has 1 bytes and not" in capsys.readouterr().out


def test_a_terminal_without_its_letters_gets_the_report_all_the_same(written: Path) -> None:
    words = [sys.executable, "-m", "export", "verify", str(written)]
    done = subprocess.run(words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == Exit.OK
    assert b"Traceback" not in done.stderr
    assert b"agree with the net" in done.stdout


def test_a_disk_that_is_full_ends_with_one_sentence_and_no_half_bundle(tmp_path: Path) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000));"
        " from export.__main__ import command; sys.exit(command())"
    )
    words = [sys.executable, "-c", code, "run", "regression", *QUICK, "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(words, capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode == Exit.USAGE
    assert "error: DIR must be a folder that can be written and read: [Errno 27] File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
