"""Bundles and files made by somebody who means harm: what they would do is not done, and they do not pass for whole."""

import ast
import copy
import io
import itertools
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from torch import nn

from charts.text import visible
from export import bundle, child, confined, formats, layout, manifest, pickles
from export.__main__ import main
from export.bundle import Bundle
from export.cases import BrokenFileError
from export.results import Exit
from export.verify import verify
from nets.regression import Net
from tests.client import ROOT
from tests.conftest import Train, trained

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle, to be copied."""
    return bundle.write(trained("regression"), tmp_path_factory.mktemp("original"))[0]


@pytest.fixture
def folder(original: Bundle, tmp_path: Path) -> Path:
    """A bundle's folder, to be altered."""
    return shutil.copytree(original.folder, tmp_path / "regression")


def reseal(folder: Path, changes: dict[str, bytes], **claims: Any) -> None:
    """Alter files and claims, and mend sizes, hashes and digest."""
    described = json.loads((folder / layout.MANIFEST).read_text(encoding="utf-8"))
    (folder / layout.MANIFEST).unlink()
    for name, content in changes.items():
        (folder / name).write_bytes(content)
    manifest.write({**described, **claims}, folder)


# Pickles. Each acts as soon as it is unpickled, or as soon as what was unpickled is used.


def planted(operations: bytes, name: str) -> bytes:
    """A file of torch.save of that name, the operations in front of its own: what they leave is thrown away."""
    net = Net(1, 10, 1).eval()
    ours = formats.saved(net if name == layout.PICKLE else net.state_dict())
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(ours)) as before, zipfile.ZipFile(file, "w") as after:
        for entry in before.infolist():
            content = before.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = content[:2] + operations + b"0" + content[2:]  # PROTO 2, ..., POP
            after.writestr(entry.filename, content)
    return file.getvalue()


CALL = b"cbuiltins\neval\n(Vprint('it runs')\ntR"
REDUCE = b"cnets.regression\nNet\n)\x81}(Vforward\ncbuiltins\nprint\nub"
STATE = b"cnets.regression\nNet\n)\x81}(V_modules\n}V_forward_hooks\n}K\x01cbuiltins\nprint\nsub"
LAYOUT = b"ctorch._utils\n_rebuild_from_type_v2\n(cbuiltins\nprint\nctorch\nTensor\n(Vit runs\nt}tR"
ATTRIBUTE = (
    b"ctorch._utils\n_rebuild_from_type_v2\n(ctorch.serialization\n_get_layout\nctorch\nTensor\n(Vx\nt}(Vcache\n}utR"
)
BEND = b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\nctorch\nTensor\n(t}(Vndim\nK\x07utR"
IMPORT = b"cthis\nd\n"
SET_STATE = b"ctorch.nn.modules.linear\nLinear\n)\x81}(V__setstate__\ncbuiltins\nprint\nub"


@pytest.mark.parametrize("name", [layout.PICKLE, layout.PARAMS])
@pytest.mark.parametrize(
    "operations", [CALL, REDUCE, STATE, LAYOUT, ATTRIBUTE, BEND, IMPORT, SET_STATE], ids=itertools.count()
)
def test_nothing_in_a_planted_pickle_runs(
    operations: bytes, name: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unpickled: list[object] = []
    load = torch.load

    def recorded(file: io.BytesIO, **options: Any) -> Any:
        unpickled.append(file.getvalue())
        return load(file, **options)

    content = planted(operations, name)
    reseal(folder, {name: content})
    monkeypatch.setattr(torch, "load", recorded)
    before = {key: vars(each).copy() for key, each in BENT.items()}
    with pytest.raises(BrokenFileError, match=rf"^{name} cannot be read: (it names|operation \d+ of its pickle)"):
        verify(folder)
    assert content not in unpickled
    assert {key: vars(each).copy() for key, each in BENT.items()} == before
    assert capsys.readouterr().out == ""


# What such pickles have bent: torch's own unpickler, and the classes that it makes.
BENT: dict[str, Any] = {
    "Tensor": torch.Tensor,
    "Parameter": nn.Parameter,
    "Module": nn.Module,
    "Net": Net,
    "layouts": torch.serialization._get_layout,
    "unpickler": torch._weights_only_unpickler.Unpickler,
}


def test_a_net_with_a_forward_of_its_own_does_not_pass_though_its_weights_are_right(folder: Path) -> None:
    net = Net(1, 10, 1).eval()
    net.load_state_dict(safetensors.torch.load_file(folder / layout.SAFETENSORS))
    net.__dict__["forward"] = net.predict
    reseal(folder, {layout.PICKLE: formats.saved(net)})
    with pytest.raises(BrokenFileError, match=r"^net\.pkl cannot be read: operation \d+ of its pickle"):
        verify(folder)


def test_a_pickle_that_differs_in_numbers_alone_is_read_without_unpickling() -> None:
    one, two = Net(1, 10, 1).eval(), Net(1, 10, 1).eval()
    for ours, theirs in ((one, two), (one.state_dict(), two.state_dict())):
        found = pickles.tensors(formats.saved(theirs), formats.saved(ours), one.state_dict())
        assert found.keys() == two.state_dict().keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in two.state_dict().items())


def test_a_pickle_of_another_torch_is_not_called_verified(folder: Path) -> None:
    versions = {**json.loads((folder / layout.MANIFEST).read_text(encoding="utf-8"))["versions"], "torch": "2.0.0"}
    net = Net(1, 10, 1).eval()
    words = manifest.metadata({**verify(folder).manifest, "versions": versions})
    net.load_state_dict(safetensors.torch.load_file(folder / layout.SAFETENSORS))
    model = formats.write(layout.ONNX, net, torch.zeros(2, 1), words)
    reseal(folder, {layout.ONNX: model, layout.PICKLE: planted(CALL, layout.PICKLE)}, versions=versions)
    (folder / "README.md").unlink()  # and what else tells the versions
    with pytest.raises(BrokenFileError, match=r"^README\.md "):
        verify(folder)


# Claims.

TEXTS = ("README.md", "net.py", "try.html", "parity.json")


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_not_what_this_version_writes_is_named(name: str, folder: Path) -> None:
    reseal(folder, {name: (folder / name).read_bytes().replace(b"e", b"a", 1)})
    with pytest.raises(BrokenFileError, match=rf"^{name} "):
        verify(folder)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_missing_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    reseal(folder, {})
    with pytest.raises(BrokenFileError, match=rf"^{name} is missing"):
        verify(folder)


def test_a_plot_is_held_against_the_run_where_it_can_be_trained_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(folder, retrain=True).unchecked == {}
    reseal(folder, {"plot.png": b"another"})
    assert main(["verify", str(folder)]) == Exit.OK
    assert "Not checked: plot.png, the recipe in manifest.json (the run was not retrained" in capsys.readouterr().out
    assert main(["verify", "--retrain", str(folder)]) == Exit.BROKEN
    assert "plot.png is not the plot of the run" in capsys.readouterr().out


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a claim stands: the keys that lead to it."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from paths(each, (*path, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict | list):
        yield from paths(value[0], (*path, 0))
    else:
        yield path


def test_no_claim_of_a_manifest_can_be_altered(folder: Path, original: Bundle) -> None:
    sealed = (folder / layout.MANIFEST).read_bytes()
    claims = {key: value for key, value in original.manifest.items() if key not in ("files", "digest", "versions")}
    for path in paths(claims):
        if path in (("steps",), ("version",)):  # see the tests of the plot and of an older version
            continue
        (folder / layout.MANIFEST).write_bytes(sealed)
        altered = copy.deepcopy(claims)
        inner = altered
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = other_than(inner[path[-1]])
        reseal(folder, {}, **altered)
        with pytest.raises(BrokenFileError):
            pytest.fail(f"{path} passes: {verify(folder).parity.summary}")


def other_than(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 9 + 9
        case str():
            return f"{value}x"
        case list():
            return [*value[::-1], "more"]
        case _:
            return "Cancer detector"


def test_an_older_versions_texts_are_told_as_not_checked(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(manifest, "VERSION", "0.5.9")
    (old,) = bundle.write(train("regression"), tmp_path)
    monkeypatch.undo()
    reseal(old.folder, dict.fromkeys(TEXTS, b"forged"))
    assert main(["verify", str(tmp_path), "--json"]) == Exit.OK
    (report,) = json.loads(capsys.readouterr().out)
    assert {*TEXTS, "plot.png"} <= report["unchecked"].keys()
    assert report["unchecked"]["net.py"] == "written by version 0.5.9"
    reseal(old.folder, {}, parameters=32)  # what is no matter of words is held against the net all the same
    assert main(["verify", str(tmp_path)]) == Exit.BROKEN


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 1}}', "1e999", "[-1e999]", "NaN", "-Infinity", "\ufeff{}", "[1] x"],
)
def test_json_that_readers_take_in_different_ways_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        layout.from_json(text.encode())


@pytest.mark.parametrize("metric", ["1e999", "NaN"])
def test_a_number_that_json_does_not_have_ends_with_one_sentence(
    metric: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / layout.MANIFEST
    described = json.loads(path.read_text(encoding="utf-8"))
    described["metrics"]["loss"] = float(metric)
    described["digest"] = manifest.digest_of(described)
    path.write_text(json.dumps(described).replace("Infinity", "1e999"), encoding="utf-8")
    assert main(["verify", str(folder), "--json"]) == Exit.BROKEN
    (report,) = json.loads(capsys.readouterr().out)
    assert report["error"].startswith("manifest.json is not a manifest: ")


def test_golden_outputs_with_other_members_are_refused(folder: Path) -> None:
    with np.load(folder / layout.GOLDEN) as golden:
        arrays = dict(golden)
    file = io.BytesIO()
    np.savez(file, **arrays, y_more=arrays["y_train_1"])
    reseal(folder, {layout.GOLDEN: file.getvalue()})
    with pytest.raises(BrokenFileError, match=r"^golden\.npz must hold .*: y_more is missing, unexpected or duplicate"):
        verify(folder)


def test_safetensors_with_words_of_their_own_fail(folder: Path) -> None:
    state = safetensors.torch.load_file(folder / layout.SAFETENSORS)
    reseal(folder, {layout.SAFETENSORS: safetensors.torch.save(state, {"title": "Cancer detector"})})
    assert "net.safetensors (metadata: has another header than our own: __metadata__" in verify(folder).parity.summary


# Bytes that another reader takes for another model.


def test_an_onnx_file_with_onnxruntimes_own_mark_is_refused(folder: Path) -> None:
    content = bytearray((folder / layout.ONNX).read_bytes())
    content[4:8] = b"ORTM"
    reseal(folder, {layout.ONNX: bytes(content)})
    with pytest.raises(
        BrokenFileError, match=r"^net\.onnx cannot be read: it has the identifier ORTM of onnxruntime's own"
    ):
        verify(folder)


@pytest.mark.parametrize("more", [b"\xba\x3e\x04ORTM", b"\xf8\x3f\x01"], ids=["a field", "a number"])
def test_bytes_that_onnx_does_not_account_for_are_refused(more: bytes, folder: Path) -> None:
    reseal(folder, {layout.ONNX: (folder / layout.ONNX).read_bytes() + more})
    with pytest.raises(BrokenFileError, match=r"^net\.onnx cannot be read: onnx reads \d+ of its \d+ bytes"):
        verify(folder)


# Sizes.


def sparse(path: Path) -> None:
    path.unlink()
    with path.open("wb") as file:
        file.truncate(2**40)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def never_read(path: Path) -> None:
    path.unlink()
    path.symlink_to("/proc/kmsg")


def in_a_circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("name", ["plot.png", "manifest.json", "net.onnx"])
@pytest.mark.parametrize("change", [sparse, endless, never_read, in_a_circle])
def test_what_is_no_plain_file_of_its_size_is_not_read(change: Change, name: str, folder: Path) -> None:
    change(folder / name)
    with pytest.raises(
        BrokenFileError, match=rf"^{name} (has 1099511627776 bytes|has 0 bytes|is not a regular file|cannot|is no)"
    ):
        verify(folder)


# The process that reads.


def model(nodes: list[onnx.NodeProto], size: int = 1, rows: int = 1) -> bytes:
    x = onnx.helper.make_tensor_value_info("x", 1, ["batch", size])
    y = onnx.helper.make_tensor_value_info("y", 1, ["batch", "any"])
    graph = onnx.helper.make_graph(nodes, "g", [x], [y])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    sample = {"x": [[0.0]] * rows, "y": [[0.0]] * rows, "tolerance": [[1.0]] * rows}
    onnx.helper.set_model_props(made, {"sample": json.dumps(sample)})
    content: bytes = made.SerializeToString()
    return content


def crashing() -> bytes:
    """onnx 1.23's shape inference reads beyond a shape's end."""
    return model([onnx.helper.make_node("LayerNormalization", ["x", "x"], ["y", "mean"], axis=2**31)])


def large() -> bytes:
    """20,000 rows times themselves: 1.6 GB."""
    return model([onnx.helper.make_node("Gemm", ["x", "x"], ["y"], transB=1)], rows=20_000)


def slow() -> bytes:
    """A product of 1,500 rows with themselves, 400 times over."""
    first = onnx.helper.make_node("Gemm", ["x", "x"], ["h0"], transB=1)
    chain = [onnx.helper.make_node("Gemm", [f"h{number}", "h0"], [f"h{number + 1}"]) for number in range(400)]
    return model([first, *chain, onnx.helper.make_node("Relu", ["h400"], ["y"])], rows=1500)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (crashing, "ended the process that read it: Segmentation fault"),
        (large, "cannot be tested"),
        (slow, "takes more than 1 s to read"),
    ],
)
def test_a_file_that_is_too_much_ends_its_reader_with_one_sentence_and_no_more(
    made: Callable[[], bytes],
    told: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(child.SECONDS, "inspect", 1)
    (folder.parent / "mine.onnx").write_bytes(made())
    assert main(["inspect", str(folder.parent / "mine.onnx")]) == Exit.BROKEN
    printed = capsys.readouterr()
    assert f"mine.onnx {told}" in printed.out
    assert printed.err == ""
    assert main(["verify", str(folder)]) == Exit.OK  # by a new process, if that has ended


def test_what_a_library_prints_is_no_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    answered = confined.answer("inspect", folder / layout.ONNX)
    assert answered["found"]["test"]["passed"]
    assert confined.answer("inspect", folder / "none")["why"] == "is missing"
    assert capfd.readouterr().out == ""


# What the terminal shows.

FORGED = "x\x1b[2K\r\nAll 5 files agree\u202e\u2028\u200b\u3164\x7f\x9b1m        ok"


def test_text_from_elsewhere_is_one_visible_line() -> None:
    told = visible(FORGED)
    assert told.isprintable()
    assert told.startswith("x\\x1b[2K\\r\\nAll 5 files agree\\u202e\\u2028\\u200b\\u3164\\x7f\\x9b1m \\x20")
    assert visible("Grüße, 网络 (1×1): é") == "Grüße, 网络 (1×1): é"


def test_no_name_forges_a_line_of_the_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forged = folder.rename(folder.with_name("x\n14 of 14 bundles agree with their nets.\x1b[8m"))
    shutil.copytree(forged, forged.parent / "sound")
    made = onnx.load(forged / layout.ONNX)
    onnx.helper.set_model_props(made, {FORGED: FORGED})
    (forged.parent / "a\r\u202emine.onnx").write_bytes(made.SerializeToString())
    (forged / "net.py\n  All 5 files agree").touch()
    words = (["verify", forged.parent], ["inspect", forged.parent], ["inspect", forged.parent / "a\r\u202emine.onnx"])
    for command, path in words:
        main([str(command), str(path)])
    main(["verify", FORGED])
    main([FORGED])
    main(["run", FORGED, "--out", "x"])
    main(["run", "regression", "--out", "x", "--set", FORGED])
    main(["publish", str(forged), "--repo", FORGED])
    printed = capsys.readouterr()
    lines = (printed.out + printed.err).split("\n")
    assert all(line.isprintable() for line in lines)
    assert not any(line.strip().startswith(("14 of 14", "All 5 files agree")) for line in lines)


def test_what_prints_is_in_one_module() -> None:
    for path in (ROOT / "export").glob("*.py"):
        if path.name == "terminal.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {each.id for each in ast.walk(tree) if isinstance(each, ast.Name)}
        assert not names & {"Console", "Table"}, path.name
        prints = [each for each in ast.walk(tree) if isinstance(each, ast.Call) and ast.unparse(each.func) == "print"]
        told = [ast.unparse(word.value) for each in prints for word in each.keywords if word.arg == "file"]
        assert told == ["answers"] * len(prints), path.name  # to the process that asked
        written = {ast.unparse(each) for each in ast.walk(tree) if isinstance(each, ast.Attribute)}
        assert not written & {"sys.stdout.write", "sys.stderr.write", "warnings.warn"}, path.name


def test_only_our_own_files_are_unpickled() -> None:
    found = set()
    for path in (ROOT / "export").glob("*.py"):
        for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(each, ast.Call) and ast.unparse(each.func) in ("torch.load", "pickle.load", "pickle.loads"):
                found.add(path.name)
    assert found == {"formats.py", "torch_onnx.py"}
