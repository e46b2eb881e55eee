"""Bundles: what is in them, that they repeat to the byte, and that nothing broken passes for whole."""

import dataclasses
import functools
import hashlib
import io
import json
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import nn

from export import bundle, formats, layout, manifest, parity, summary, swap
from export.bundle import Bundle
from export.cases import BrokenFileError, ForeignFolderError, NonFiniteError
from export.graph import onnx_bytes
from export.layout import find
from export.verify import verify
from lab.lesson import FeatureSpec
from lab.training import Trainer
from nets import TRAININGS
from nets.regression import Net
from tests.client import ROOT
from tests.conftest import Train, short, trained
from tests.test_training import ToyConfig, toy_setup, toy_show

FILES = {  # as promised; not taken from the code
    *("net.pkl", "net_params.pkl", "net.safetensors", "net.onnx", "golden.npz", "parity.json", "manifest.json"),
    *("README.md", "net.py", "plot.png", "try.html"),
}

Break = Callable[[Path], object]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """The first bundle of a lesson's short run, written once for all tests: they are given copies."""

    @functools.cache
    def written(key: str) -> Bundle:
        return bundle.write(trained(key), tmp_path_factory.mktemp(key))[0]

    return written


def copied(made: Bundle, out: Path) -> Bundle:
    """The bundle and those written with it, under another folder."""
    shutil.copytree(root_of(made), out, dirs_exist_ok=True)
    return dataclasses.replace(made, folder=out / made.folder.relative_to(root_of(made)))


@pytest.fixture(params=TRAININGS)
def made(request: pytest.FixtureRequest, bundles: Callable[[str], Bundle], tmp_path: Path) -> Bundle:
    return copied(bundles(request.param), tmp_path)


@pytest.fixture
def regression(bundles: Callable[[str], Bundle], tmp_path: Path) -> Bundle:
    return copied(bundles("regression"), tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def root_of(made: Bundle) -> Path:
    """The folder that all bundles are in."""
    return made.folder.parent if len(made.manifest["nets"]) == 1 else made.folder.parent.parent


def test_a_bundle_holds_what_was_promised_and_nothing_else_is_left_behind(made: Bundle) -> None:
    nets = made.manifest["nets"]
    lesson = made.folder if len(nets) == 1 else made.folder.parent
    assert lesson.name == made.manifest["lesson"]
    assert set(contents(made.folder)) == FILES
    assert [path.name for path in lesson.parent.iterdir()] == [lesson.name]
    assert len(nets) == 1 or {path.name for path in lesson.iterdir()} == set(nets)


def test_a_bundle_verifies(made: Bundle) -> None:
    assert made.parity.passed
    assert verify(made.folder).parity.passed


WRITE_ALL = """
import sys
from pathlib import Path
from export import bundle
from nets import TRAININGS
from tests.conftest import trained
for key in ("classification", "optimizers", "batchnorm"):
    made = bundle.write(trained(key), Path(sys.argv[1]))
    (Path(sys.argv[1]) / f"{key}.zip").write_bytes(bundle.archive(made))
"""


def test_two_processes_write_the_same_bytes_under_two_names_and_tell_nothing_of_their_machine(tmp_path: Path) -> None:
    """With the zips; the processes differ in all that might get into a file."""
    started = []
    for seed, name in enumerate(("telltale-one", "telltale-two"), 1):
        home = tmp_path / f"{name}-home"
        home.mkdir()
        told = {"USER": name, "LOGNAME": name, "HOME": str(home), "HOSTNAME": name, "TZ": f"UTC-{seed}"}
        environment = {**os.environ, **told, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", WRITE_ALL, str(tmp_path / name)]
        started.append(subprocess.Popen(command, env=environment, cwd=home))
    assert [process.wait() for process in started] == [0, 0]

    one, two = (all_contents(tmp_path / name) for name in ("telltale-one", "telltale-two"))
    assert one == two
    assert len(one) > 3 * len(FILES)
    today = datetime.now(UTC)
    dates = [today.strftime(form) for form in ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d %b %Y", "%b %d, %Y", "%d.%m.%Y")]
    secrets = ["telltale", str(ROOT), "site-packages", "stack_trace", *dates]
    for name, content in one.items():
        assert [secret for secret in secrets if secret.encode() in content] == [], name
        if zipfile.is_zipfile(io.BytesIO(content)):  # the pickles and golden.npz are zips too
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                assert {entry.date_time[0] for entry in archive.infolist()} == {1980}, name


def test_onnxruntime_leaves_no_identity_on_disk_and_so_reports_nothing(regression: Bundle, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    code = "import sys, pathlib; from export.verify import verify; verify(pathlib.Path(sys.argv[1]))"
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code, str(regression.folder)], env=environment, cwd=ROOT, check=True)
    assert [path for path in home.rglob("*") if path.is_file()] == []


def all_contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_writing_again_replaces_the_bundle_whole(made: Bundle, train: Train) -> None:
    (made.folder / "__pycache__").mkdir()
    (made.folder / "__pycache__" / "net.pyc").write_text("left by a snippet", encoding="utf-8")
    (made.folder / "net.onnx").write_text("damaged", encoding="utf-8")
    lesson = TRAININGS[made.manifest["lesson"]]
    bundle.write(train(lesson.key, seed=9), root_of(made))
    assert set(contents(made.folder)) == FILES
    assert verify(made.folder).manifest["recipe"]["settings"]["seed"] == 9


def test_the_onnx_file_is_as_promised(made: Bundle) -> None:
    model = onnx.load(made.folder / "net.onnx")
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    (x,), (y,) = model.graph.input, model.graph.output
    assert (x.name, y.name) == ("x", "y")
    for port in (x, y):
        assert port.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {node.domain for node in model.graph.node} == {""}
    assert not any(part.metadata_props or part.doc_string for part in model.graph.node)


def test_golden_inputs_and_outputs_are_float32_pairs(made: Bundle) -> None:
    with np.load(made.folder / "golden.npz") as golden:
        names = [key[2:] for key in golden.files if key.startswith("x_")]
        assert {f"{axis}_{name}" for axis in "xy" for name in names} == set(golden.files)
        assert {array.dtype.name for array in golden.values()} == {"float32"}


def test_the_onnx_file_says_what_it_is(made: Bundle) -> None:
    model = onnx.load(made.folder / "net.onnx")
    told = {each.key: each.value for each in model.metadata_props}
    described = json.loads((made.folder / "manifest.json").read_text(encoding="utf-8"))
    assert told["lesson"] == described["lesson"]
    assert told["net"] == described["net"]
    assert told["weights"] == described["weights"]
    for key in ("inputs", "outputs", "classes", "recipe", "steps", "metrics", "versions", "sample"):
        assert json.loads(told[key]) == described[key], key


def test_the_sample_is_one_of_the_golden_cases(made: Bundle) -> None:
    with np.load(made.folder / "golden.npz") as golden:
        for axis in "xy":
            told = np.array(made.manifest["sample"][axis], np.float32)
            assert np.array_equal(told, golden[f"{axis}_train_17"])


def test_an_onnx_file_tests_itself(made: Bundle) -> None:
    content = (made.folder / "net.onnx").read_bytes()
    case = summary.self_test(content, summary.summarize(content))
    assert case is not None
    assert case.passed
    assert case.shape == (17, len(made.manifest["inputs"][0]["features"]))


def test_an_onnx_file_that_computes_something_else_fails_its_own_test(regression: Bundle) -> None:
    model = onnx.load(regression.folder / "net.onnx")
    model.graph.node[1].op_type = "Tanh"
    content = model.SerializeToString()
    case = summary.self_test(content, summary.summarize(content))
    assert case is not None
    assert not case.passed


def test_the_classes_of_a_classifier_are_compared_and_of_no_other(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not of the sample, which manifest.json answers for.
    monkeypatch.setattr(parity, "_misclassified_row", lambda y, answer: 0 if len(y) == 2 else None)
    (one,) = bundle.write(train("classification"), tmp_path)
    assert "chooses class" in one.parity.summary
    assert "chooses class" in verify(one.folder).parity.summary  # of golden.npz; net.onnx was withheld
    (other,) = bundle.write(train("regression"), tmp_path)
    assert other.parity.passed
    assert verify(other.folder).parity.passed


def test_a_net_that_gives_no_numbers_fails_its_own_test(regression: Bundle) -> None:
    model = onnx.load(regression.folder / "net.onnx")
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "predict.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.array([np.nan], np.float32), bias.name))
    content = model.SerializeToString()
    case = summary.self_test(content, summary.summarize(content))
    assert case is not None
    assert case.why == "does not return finite numbers of shape (17, 1), as torch did"


def test_scaled_data_are_told_with_how_they_were_scaled(train: Train, tmp_path: Path) -> None:
    (one,) = bundle.write(train("batches", scaled=True), tmp_path)
    scaling = one.manifest["inputs"][0]["scaling"]
    assert scaling["formula"] == "scaled = (value - mean) / std"
    first = (1 - scaling["mean"]) / scaling["std"]  # the data begin at x = 1
    assert one.manifest["inputs"][0]["trained_from"] == [pytest.approx(first)]
    assert one.manifest["outputs"][0]["scaling"]["mean"] == pytest.approx(5.5)
    assert "scaled = (value - mean) / std, mean 5.5" in (one.folder / "README.md").read_text(encoding="utf-8")
    assert verify(one.folder).parity.passed


def test_the_manifest_says_what_the_net_is(made: Bundle) -> None:
    lesson, manifest = (
        TRAININGS[made.manifest["lesson"]],
        json.loads((made.folder / "manifest.json").read_text(encoding="utf-8")),
    )
    assert manifest["recipe"]["settings"] == {**lesson.config().to_dict(), **short(lesson.key)}
    assert manifest["steps"] > 0
    assert set(manifest["metrics"]) <= set(lesson.metrics)
    assert manifest["classes"] == list(lesson.classes)
    assert set(manifest["files"]) == FILES - {"manifest.json"}
    assert manifest["inputs"][0]["shape"] == ["batch", len(lesson.inputs.features)]


def test_a_lesson_of_several_nets_has_a_bundle_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson = dataclasses.replace(
        TRAININGS["regression"],
        key="toy",
        config=ToyConfig,
        setup=toy_setup,
        show=toy_show,
        ideas={},
        prose=dataclasses.replace(TRAININGS["regression"].prose, ideas={}),
        inputs=FeatureSpec(("x₁", "x₂", "x₃"), "numbers"),
        outputs=FeatureSpec(("sum",), "a number"),
    )
    monkeypatch.setitem(TRAININGS, "toy", lesson)
    trainer = Trainer(lesson, lesson.recipe())
    trainer.step()
    trainer.stop()
    bundles = bundle.write(trainer, tmp_path)
    assert [each.folder for each in bundles] == [tmp_path / "toy" / name for name in "ab"]
    assert find(tmp_path) == [each.folder for each in bundles]
    for each in bundles:
        assert verify(each.folder).parity.passed
    with zipfile.ZipFile(io.BytesIO(bundle.archive(bundles))) as archive:
        assert {name.rpartition("/")[0] for name in archive.namelist()} == {"toy/a", "toy/b"}
    bundle.write(trainer, tmp_path)  # replaces both


def test_torch_load_refuses_the_whole_pickle_as_the_readme_says(regression: Bundle) -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"Weights only load failed[\s\S]*nets\.regression\.Net"):
        torch.load(regression.folder / "net.pkl")


def test_the_old_way_of_loading_still_finds_the_class(regression: Bundle) -> None:
    net = torch.load(
        regression.folder / "net.pkl", weights_only=False
    )  # our own file: the tutorial's line, spelled out
    assert type(net) is Net
    assert not net.training


def test_the_zip_holds_the_folder_without_dates(regression: Bundle) -> None:
    with zipfile.ZipFile(io.BytesIO(bundle.archive([regression]))) as archive:
        assert {name.removeprefix("regression/") for name in archive.namelist()} == FILES
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_every_account_can_read_what_the_zip_unpacks(regression: Bundle) -> None:
    with zipfile.ZipFile(io.BytesIO(bundle.archive([regression]))) as archive:
        assert {stat.filemode(entry.external_attr >> 16) for entry in archive.infolist()} == {"-rw-r--r--"}
        assert {entry.create_system for entry in archive.infolist()} == {3}  # of which modes are heeded


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def edit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed"))


@pytest.mark.parametrize("damage", [truncate, edit, empty, rename, Path.unlink])
@pytest.mark.parametrize("name", sorted(FILES))
def test_a_damaged_file_is_named(name: str, damage: Break, regression: Bundle) -> None:
    damage(regression.folder / name)
    with pytest.raises(BrokenFileError, match=f"^{name} ") as error:
        verify(regression.folder)
    assert error.value.file == name


def test_files_swapped_are_named(regression: Bundle) -> None:
    one, two = regression.folder / "net.pkl", regression.folder / "net_params.pkl"
    one_content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(one_content)
    with pytest.raises(BrokenFileError, match=r"^net\.pkl "):
        verify(regression.folder)


def test_a_file_that_no_manifest_lists_is_named(regression: Bundle) -> None:
    (regression.folder / "more.pkl").write_bytes(b"?")
    with pytest.raises(BrokenFileError, match=r"^more\.pkl is not among the files"):
        verify(regression.folder)


def model_files(net: nn.Module) -> dict[str, bytes]:
    return {name: formats.write(name, net, torch.zeros(2, 1)) for name in layout.MODEL_FILES}


def forge(folder: Path, changes: dict[str, bytes], **claims: Any) -> None:
    """Alter files and then the manifest to match, as somebody would who means harm."""
    described = {**json.loads((folder / "manifest.json").read_text(encoding="utf-8")), **claims}
    for name, content in changes.items():
        (folder / name).write_bytes(content)
        described["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    described["digest"] = manifest.digest_of(described)
    (folder / "manifest.json").write_text(json.dumps(described), encoding="utf-8")


class Harm:
    def __reduce__(self) -> Any:
        return (print, ("this code must not run",))


@pytest.mark.parametrize("name", ["net.pkl", "net_params.pkl"])
def test_a_pickle_with_a_foreign_class_is_refused_before_its_code_runs(
    name: str, regression: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    file = io.BytesIO()
    torch.save(Harm(), file)
    forge(regression.folder, {name: file.getvalue()})
    with pytest.raises(BrokenFileError, match=f"^{name} cannot be read: it names builtins.print"):
        verify(regression.folder)
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", layout.MODEL_FILES)
def test_a_file_with_another_nets_weights_fails_parity_and_no_other_does(
    name: str, regression: Bundle, train: Train
) -> None:
    other = model_files(train("regression", seed=8).learners[0].net)
    forge(regression.folder, {name: other[name]})
    report = verify(regression.folder).parity
    assert report.failed_files == [name]
    assert f"1 of 5 files do not agree with the net: {name} (tensors: hidden.weight" in report.summary


@pytest.mark.parametrize("name", ["net.pkl", "net_params.pkl"])
def test_a_pickle_that_unpacks_to_more_than_it_has_is_refused(name: str, regression: Bundle) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**20))
    forge(regression.folder, {name: file.getvalue()})
    with pytest.raises(BrokenFileError, match=rf"^{name} cannot be read: it unpacks to 1048576 bytes"):
        verify(regression.folder)


@pytest.mark.parametrize("name", ["net_params.pkl", "net.safetensors"])
def test_weights_of_another_dtype_fail_parity_though_torch_would_take_them(name: str, regression: Bundle) -> None:
    net = Net(1, 10, 1)
    net.load_state_dict(torch.load(regression.folder / "net_params.pkl"))
    double = net.double().state_dict()
    content = formats.saved(double) if name == "net_params.pkl" else safetensors.torch.save(double)
    forge(regression.folder, {name: content})
    report = verify(regression.folder).parity
    assert report.failed_files == [name]
    assert "torch.float64 (10, 1), not torch.float32 (10, 1)" in report.summary


def spoil(net: Net, name: str, value: object) -> bytes:
    net.__dict__[name] = value
    file = io.BytesIO()
    torch.save(net, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_modules", {}),
        ("_parameters", None),
        ("_forward_hooks", {1: 5}),
        ("_state_dict_hooks", {1: 5}),
        ("forward", 5),
        ("_modules", {"hidden": None, "predict": nn.Linear(10, 1).eval()}),
        ("_modules", {"hidden": nn.Linear(1, 10).double().eval(), "predict": nn.Linear(10, 1).eval()}),
        ("_modules", {"hidden": nn.Linear(1, 10, device="meta").eval(), "predict": nn.Linear(10, 1).eval()}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_pickle_of_a_spoilt_net_is_named(name: str, value: object, regression: Bundle) -> None:
    forge(regression.folder, {"net.pkl": spoil(Net(1, 10, 1).eval(), name, value)})
    with pytest.raises(BrokenFileError, match=r"^net\.pkl "):
        verify(regression.folder)


def test_a_lone_onnx_file_of_another_size_is_named(regression: Bundle) -> None:
    net = Net(1, 5, 1)
    content = onnx_bytes(net, torch.zeros(2, 1))
    files = {name: entry for name, entry in regression.manifest["files"].items() if name not in layout.MODEL_FILES}
    for name in layout.MODEL_FILES:
        (regression.folder / name).unlink()
    digest = manifest.weights_digest(net.state_dict())
    forge(regression.folder, {"net.onnx": content}, files=files, weights=digest)
    with pytest.raises(BrokenFileError, match=r"^net\.onnx does not fit the lesson's net"):
        verify(regression.folder)


@pytest.mark.parametrize("content", [b'{"a": "\\ud800"}', b"[" * 100_000, b"\xff", b"null", b"[]"])
def test_a_manifest_that_is_hardly_json_is_named(content: bytes, regression: Bundle) -> None:
    (regression.folder / "manifest.json").write_bytes(content)
    with pytest.raises(BrokenFileError, match=r"^manifest\.json "):
        verify(regression.folder)


def test_a_listed_name_too_long_for_the_disk_is_named(regression: Bundle) -> None:
    forge(regression.folder, {}, files={**regression.manifest["files"], "n" * 300: {"size": 1, "sha256": "0"}})
    with pytest.raises(BrokenFileError, match=r"^n{300} cannot be read: File name too long"):
        verify(regression.folder)


def test_a_pipe_in_the_place_of_a_file_is_named(regression: Bundle) -> None:
    (regression.folder / "net.py").unlink()
    os.mkfifo(regression.folder / "net.py")
    with pytest.raises(BrokenFileError, match=r"^net\.py is not a regular file"):
        verify(regression.folder)


def test_a_link_to_a_folder_is_looked_into(regression: Bundle, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(regression.folder)
    assert find(tmp_path / "tree") == [tmp_path / "tree" / "link"]


def another_interface(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "z"


def another_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


def a_bump_where_nobody_looks(model: onnx.ModelProto) -> None:
    """y + relu(...) built of the net's own weights: the enemy's file that agreed in every comparison of outputs."""
    model.graph.node[-1].output[0] = "right"
    zero = onnx.helper.make_node("Gemm", ["right", "predict.bias"], ["zero"], alpha=0.0, transA=0)
    model.graph.node.extend([zero, onnx.helper.make_node("Gemm", ["right", "predict.bias", "right"], ["y"], alpha=0.0)])


@pytest.mark.parametrize("change", [another_interface, another_opset, a_bump_where_nobody_looks])
def test_an_onnx_file_of_other_operators_fails_whatever_it_computes(
    change: Callable[[onnx.ModelProto], None], regression: Bundle
) -> None:
    model = onnx.load(regression.folder / "net.onnx")
    change(model)
    forge(regression.folder, {"net.onnx": model.SerializeToString()})
    report = verify(regression.folder).parity
    assert report.failed_files == ["net.onnx"]
    assert "net.onnx (graph: differs from the export of the net in operators" in report.summary


def test_a_bundle_of_weights_that_the_manifest_does_not_describe_is_refused(regression: Bundle, train: Train) -> None:
    forge(regression.folder, model_files(train("regression", seed=8).learners[0].net))
    with pytest.raises(BrokenFileError, match=r"^manifest\.json must have the digest of the weights"):
        verify(regression.folder)


def test_weights_that_are_not_finite_are_refused(regression: Bundle) -> None:
    net = Net(1, 10, 1)
    net.hidden.bias.data[3] = float("nan")
    forge(regression.folder, model_files(net), weights=manifest.weights_digest(net.state_dict()))
    with pytest.raises(NonFiniteError):
        verify(regression.folder)


@pytest.mark.parametrize(
    "forged",
    [
        {"lesson": "nope"},
        {"lesson": []},
        {"recipe": None},
        {"recipe": {"lesson": "regression", "settings": {"steps": -1}}},
        {"recipe": {"lesson": "classification"}},
        {"recipe": {"lesson": "regression", "changes": [{"step": 0, "name": "net.hidden.weight.99.0", "value": 1}]}},
        {"recipe": {"lesson": "regression", "stop": 101}},
        {"recipe": {"lesson": "regression", "version": 2}},
        {"net": "x"},
        {"format": 99},
        {"files": {}},
        {"metrics": 1},
        {"steps": float("inf")},
        {"files": {"golden.npz": {"size": "big", "sha256": "0"}, "net.onnx": {"size": 1, "sha256": "0"}}},
    ],
    ids=str,
)
def test_a_manifest_that_makes_no_sense_is_named(forged: dict[str, Any], regression: Bundle) -> None:
    described = {**regression.manifest, **forged}
    described["digest"] = manifest.digest_of(described)
    (regression.folder / "manifest.json").write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(BrokenFileError, match=r"^manifest\.json "):
        verify(regression.folder)


def test_what_a_file_says_neither_commands_a_terminal_nor_fills_it(regression: Bundle) -> None:
    model = onnx.load(regression.folder / "net.onnx")
    model.graph.node[1].domain = "\x1b[31mred\n" + 999 * "!"
    forge(regression.folder, {"net.onnx": model.SerializeToString()})
    with pytest.raises(BrokenFileError) as error:
        verify(regression.folder)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", "..", "", "\x1b[31mred", "a\nb", "n" * 301])
def test_a_manifest_never_leads_out_of_its_folder(name: str, regression: Bundle) -> None:
    forge(regression.folder, {}, files={**regression.manifest["files"], name: {"size": 1, "sha256": "0"}})
    with pytest.raises(BrokenFileError, match=r"^manifest\.json must list files as plain names"):
        verify(regression.folder)


def test_golden_outputs_of_another_net_fail_parity(regression: Bundle) -> None:
    with np.load(regression.folder / "golden.npz") as golden:
        arrays = {key: golden[key] + np.float32(key.startswith("y_")) for key in golden.files}
    file = io.BytesIO()
    np.savez(file, **arrays)
    forge(regression.folder, {"golden.npz": file.getvalue()})
    assert verify(regression.folder).parity.failed_files == ["golden.npz"]


def test_golden_inputs_of_somebodys_choice_are_refused(regression: Bundle) -> None:
    with np.load(regression.folder / "golden.npz") as golden:
        arrays = {key: golden[key] for key in golden.files}
    arrays["x_train_1024"][0] = 1e30  # whose error would allow any other output
    file = io.BytesIO()
    np.savez(file, **arrays)
    forge(regression.folder, {"golden.npz": file.getvalue()})
    with pytest.raises(
        BrokenFileError, match=r"^golden\.npz must hold .*: x_train_1024 does not match the lesson's data"
    ):
        verify(regression.folder)


def test_a_net_whose_far_outputs_overflow_is_not_written(train: Train, tmp_path: Path) -> None:
    trainer = train("classification", learning_rate=10, noise=2, hidden_units=30, seed=5, steps=16)
    assert not trainer.diverged
    with pytest.raises(NonFiniteError, match="the outputs of net, near and far, must be finite"):
        bundle.write(trainer, tmp_path)
    assert list(tmp_path.iterdir()) == []


def zipped(content: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    """A golden.npz whose every entry is that content."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name in parity.inputs(torch.tensor([[-1.0], [1.0]])):
            for axis in "xy":
                archive.writestr(f"{axis}_{name}.npy", content)
    return file.getvalue()


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no zip",
        zipped(b"no array"),
        zipped(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000, 1)}\n")),
        zipped(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (\n")),
        zipped(npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n")),
        zipped(bytes(2**23), zipfile.ZIP_DEFLATED),
        zipped(b"x" * 999, zipfile.ZIP_DEFLATED).replace(b"K", b"L"),
    ],
    ids=["empty", "no zip", "no arrays", "too large", "open bracket", "objects", "bomb", "corrupt"],
)
def test_golden_arrays_that_cannot_be_read_are_named(content: bytes, regression: Bundle) -> None:
    forge(regression.folder, {"golden.npz": content})
    with pytest.raises(BrokenFileError, match=r"^golden\.npz must hold the inputs and outputs"):
        verify(regression.folder)


def test_a_file_that_fails_parity_is_withheld_and_the_rest_is_kept(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = onnx_bytes(Net(1, 10, 1), torch.zeros(2, 1))
    monkeypatch.setattr(formats, "onnx_bytes", lambda net, x, metadata: other)
    (one,) = bundle.write(train("regression"), tmp_path)
    assert one.parity.failed_files == ["net.onnx"]
    assert "1 of 4 files do not agree with the net: net.onnx (tensors: hidden.weight" in one.parity.summary
    assert set(contents(one.folder)) == FILES - {"net.onnx", "try.html"}
    assert "net.onnx" not in one.manifest["files"]
    assert "from net.onnx" not in (one.folder / "README.md").read_text(encoding="utf-8")
    assert verify(one.folder).parity.passed


@pytest.mark.parametrize("kind", ["file", "folder", "nested"])
def test_what_is_no_bundle_is_never_replaced(kind: str, train: Train, tmp_path: Path) -> None:
    target = tmp_path / "regression"
    if kind == "file":
        target.write_text("mine", encoding="utf-8")
    else:
        (target / "mine").mkdir(parents=True)
        (target / ("thesis.txt" if kind == "folder" else "mine/thesis.txt")).write_text("mine", encoding="utf-8")
    with pytest.raises(ForeignFolderError, match="does not belong to a bundle and would be lost"):
        bundle.write(train("regression"), tmp_path)
    assert [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]


def test_a_full_disk_leaves_the_old_bundle_and_nothing_half_written(
    regression: Bundle, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(regression.folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "write", full)
    with pytest.raises(OSError, match="No space left"):
        bundle.write(train("regression", seed=9), regression.folder.parent)
    assert contents(regression.folder) == before
    assert [path.name for path in regression.folder.parent.iterdir()] == ["regression"]


KILLED = """
import os, signal, sys
from pathlib import Path
from export import bundle, manifest
from nets import TRAININGS
from tests.conftest import trained
manifest.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
bundle.write(trained("regression", seed=9), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "two renames"])
def test_a_bundle_that_cannot_be_put_in_its_place_leaves_the_old_one(
    exchanges: bool, regression: Bundle, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rename = contents(regression.folder), Path.rename

    def refused(self: Path, target: Path) -> Path:
        if exchanges or (self.name == "regression" and target.name == "regression"):
            raise OSError(13, "Permission denied")
        return rename(self, target)

    if exchanges:
        monkeypatch.setattr(swap, "exchange", refused)
    else:
        monkeypatch.setattr(swap, "exchange", lambda *_: False)
        monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="Permission denied"):
        bundle.write(train("regression", seed=9), regression.folder.parent)
    assert contents(regression.folder) == before
    assert [path.name for path in regression.folder.parent.iterdir()] == ["regression"]


def test_two_folders_change_places_in_one_step(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not swap.exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system does not exchange folders")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("?/?"))] == ["a/b", "b/a"]
    with pytest.raises(FileNotFoundError):
        swap.exchange(tmp_path / "a", tmp_path / "c")


KILLED_AFTER = """
import os, signal, sys
from pathlib import Path
from export import bundle, swap
from nets import TRAININGS
from tests.conftest import trained
which = sys.argv[2]
if which == "rename":
    swap.exchange = lambda *_: False
where = Path if which == "rename" else swap
move = getattr(where, which)
def moved(one, other):
    move(one, other)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(where, which, moved)
bundle.write(trained("regression", seed=9), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("move", ["exchange", "rename"])
def test_a_process_killed_as_soon_as_the_bundle_moves_leaves_the_old_or_the_new(
    move: str, regression: Bundle, train: Train
) -> None:
    out, before = regression.folder.parent, contents(regression.folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED_AFTER, str(out), move], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    if move == "exchange":
        assert verify(regression.folder).manifest["recipe"]["settings"]["seed"] == 9
    else:  # where folders cannot be exchanged, the next to write puts the old one back
        assert not regression.folder.exists()
        trainer = train("regression")
        with bundle.Draft(trainer, trainer.snapshot(), out):
            assert contents(regression.folder) == before


def test_a_killed_process_leaves_the_old_bundle_and_nothing_that_passes_for_one(regression: Bundle) -> None:
    out, before = regression.folder.parent, contents(regression.folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED, str(out)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert contents(regression.folder) == before
    assert find(out) == [regression.folder]
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == ["regression"]


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")


def external_constant(model: onnx.ModelProto) -> None:
    tensor = onnx.TensorProto(name="away", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="elsewhere.bin")
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["c"], value=tensor))


def own_operator(model: onnx.ModelProto) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["z"])
    model.functions.append(onnx.helper.make_function("mine", "Relu2", ["x"], ["z"], [node], model.opset_import))


def foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain = "com.microsoft"


def drop_out_of_nothing(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Dropout", ["x", "r", "t"], ["z"]))


def training(model: onnx.ModelProto) -> None:
    model.training_info.add()


def weights_as_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("hidden.bias", 1, [10]))


def random_numbers(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("RandomNormalLike", ["x"], ["noise"]))


def gigabytes(model: onnx.ModelProto) -> None:
    shape = onnx.numpy_helper.from_array(np.array([10**9]), "shape")
    constant = onnx.helper.make_node("Constant", [], ["shape"], value=shape)
    model.graph.node.extend([constant, onnx.helper.make_node("ConstantOfShape", ["shape"], ["much"])])


def inner_graph(model: onnx.ModelProto) -> None:
    inner = onnx.helper.make_graph([], "inner", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (external, r"its tensor .* is stored in another file"),
        (external_constant, r"its tensor away is stored in another file"),
        (own_operator, r"it has local functions, sparse tensors or training info"),
        (training, r"it has local functions, sparse tensors or training info"),
        (weights_as_inputs, r"its weights are also inputs"),
        (random_numbers, r"it needs RandomNormalLike, which no net of the lessons uses"),
        (gigabytes, r"it needs Constant, ConstantOfShape, which no net of the lessons uses"),
        (foreign_operator, r"it needs the operator Relu of com\.microsoft"),
        (inner_graph, r"its operator If contains a subgraph"),
        (drop_out_of_nothing, r"its operator Dropout is in train mode"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_onnx_file_that_is_not_plain_is_refused_before_any_of_it_runs(
    change: Callable[[onnx.ModelProto], None], told: str, regression: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(regression.folder / "net.onnx")
    change(model)
    content = model.SerializeToString()
    forge(regression.folder, {"net.onnx": content})
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)  # would be called to run it
    with pytest.raises(BrokenFileError, match=rf"^net\.onnx cannot be read: {told}"):
        verify(regression.folder)
    with pytest.raises(BrokenFileError, match=rf"^net\.onnx cannot be (read|tested): {told}"):
        summary.self_test(content, summary.summarize(content))


def test_a_diverged_run_is_not_written(train: Train, tmp_path: Path) -> None:
    trainer = train("regression", learning_rate=10, steps=100)
    with pytest.raises(NonFiniteError, match="Diverged at step"):
        bundle.write(trainer, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_writing_does_not_touch_the_live_net(train: Train, tmp_path: Path) -> None:
    trainer = train("regression")
    net = trainer.learners[0].net
    bundle.write(trainer, tmp_path)
    assert net.training
    assert next(net.parameters()).grad is not None
