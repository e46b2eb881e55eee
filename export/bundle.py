"""A bundle: one folder with a net in every format, its golden outputs, its parity report and its manifest.

`write` makes one and gives out only files that were read back from disk and agree with the live net.
`verify` checks one that may have come from anywhere, and unpickles nothing before its hash is right.
"""

import hashlib
import io
import json
import math
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from charts import figure
from export import card, formats, parity
from export.formats import BrokenFileError
from export.parity import Case, Parity
from nets import LESSONS
from nets.lesson import Lesson, SettingError, Snapshot
from nets.training import Learner, Trainer, is_finite

MANIFEST = "manifest.json"
FORMAT = 1  # of the manifest; a reader that knows only this one refuses others


class NonFiniteError(ValueError):
    """A net with weights that are not finite numbers."""


@dataclass(frozen=True)
class Bundle:
    """A folder on disk, its manifest, and how its files compared with the live net."""

    folder: Path
    manifest: dict[str, Any]
    parity: Parity

    @property
    def name(self) -> str:
        """The lesson's key, and the net's name where the lesson has several."""
        lesson, net = self.manifest["lesson"], self.manifest["net"]
        return lesson if net == "net" else f"{lesson}/{net}"


def write(lesson: Lesson, trainer: Trainer[Any], out: Path) -> list[Bundle]:
    """Write the bundle of every net of the run: `out`/KEY, or `out`/KEY/NET where there are several.

    A folder of that name is replaced once the new one is whole. A model file that fails parity is left
    out of its bundle; `Bundle.parity` says why. Raises NonFiniteError, and OSError where `out` cannot be
    written.
    """
    snapshot = trainer.snapshot()
    _refuse_non_finite(lesson, trainer, snapshot)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{lesson.key}-", dir=out) as aside:
        target, made = out / lesson.key, Path(aside) / "new"
        bundles = [_write_net(lesson, trainer, learner, snapshot, made, target) for learner in trainer.learners]
        if target.exists():
            target.rename(Path(aside) / "old")
        made.rename(target)
    return bundles


def _refuse_non_finite(lesson: Lesson, trainer: Trainer[Any], snapshot: Snapshot) -> None:
    wrong = [f"weights of {each.name}" for each in trainer.learners if not is_finite(each.net)]
    wrong += [name for name, value in snapshot.metrics.items() if not math.isfinite(value)]
    if wrong:
        raise NonFiniteError(
            f"{lesson.key}: the {wrong[0]} must be finite to be exported. {trainer.advice} Nothing was written."
        )


def _write_net(
    lesson: Lesson,
    trainer: Trainer[Any],
    learner: Learner,
    snapshot: Snapshot,
    made: Path,
    target: Path,
) -> Bundle:
    place = Path() if len(trainer.learners) == 1 else Path(learner.name)
    folder = made / place
    folder.mkdir(parents=True)
    for name, content in formats.write(learner.net, trainer.x).items():
        (folder / name).write_bytes(content)

    answers = parity.references(learner.net, parity.inputs(trainer.x))
    report = Parity(tuple(_compare_files(folder, learner.net, answers)))
    for name in report.failed_files:
        (folder / name).unlink()
    files = [name for name in formats.MODEL_FILES if name not in report.failed_files]

    (folder / "golden.npz").write_bytes(_golden(answers))
    (folder / "parity.json").write_text(_json(report.to_dict()))
    (folder / "plot.png").write_bytes(figure.save(snapshot.chart, "png"))
    (folder / "net.py").write_text(card.source(learner.net, learner.arguments))
    outputs = answers["train_1"].y.shape[1:]
    manifest = _describe(lesson, trainer, learner, snapshot, outputs)
    (folder / "README.md").write_text(card.text(lesson, learner.net, manifest, files, report))
    manifest["files"] = {
        path.name: {"size": path.stat().st_size, "sha256": _sha256(path.read_bytes())}
        for path in sorted(folder.iterdir())
    }
    manifest["digest"] = _digest(manifest)
    (folder / MANIFEST).write_text(_json(manifest))
    return Bundle(target / place, manifest, report)


def _compare_files(folder: Path, net: nn.Module, answers: Mapping[str, parity.Reference]) -> Iterator[Case]:
    """Read each model file back from disk and compare: first its tensors, then what it computes."""
    for name in formats.MODEL_FILES:
        if not (folder / name).exists():
            continue
        try:
            predict, state = formats.read(name, (folder / name).read_bytes(), net)
        except BrokenFileError as error:
            yield Case(name, "read", (), None, None, False, str(error))
            continue
        why = formats.same_tensors(name, state, net.state_dict())
        yield Case(name, "tensors", (), None, None, not why, why)
        yield from parity.compare(name, predict, answers, exactly=name != formats.ONNX)


def _describe(
    lesson: Lesson,
    trainer: Trainer[Any],
    learner: Learner,
    snapshot: Snapshot,
    outputs: tuple[int, ...],
) -> dict[str, Any]:
    low, high = trainer.x.amin(dim=0).tolist(), trainer.x.amax(dim=0).tolist()
    return {
        "format": FORMAT,
        "lesson": lesson.key,
        "title": lesson.title,
        "net": learner.name,
        "class": f"{type(learner.net).__module__}.{type(learner.net).__qualname__}",
        "architecture": str(learner.net),
        "parameters": sum(parameter.numel() for parameter in learner.net.parameters()),
        "task": lesson.task,
        "inputs": [
            {
                "name": "x",
                "dtype": "float32",
                "shape": ["batch", *trainer.x.shape[1:]],
                "features": lesson.inputs.features,
                "unit": lesson.inputs.unit,
                "trained_from": low,
                "trained_to": high,
            }
        ],
        "outputs": [
            {
                "name": "y",
                "dtype": "float32",
                "shape": ["batch", *outputs],
                "features": lesson.outputs.features,
                "unit": lesson.outputs.unit,
            }
        ],
        "classes": lesson.classes,
        "settings": trainer.config.to_dict(),
        "steps": trainer.step_number,
        "metrics": snapshot.metrics,
        "versions": {
            "torch": torch.__version__.partition("+")[0],
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "numpy": np.__version__,
        },
    }


def find(root: Path) -> list[Path]:
    """The folders of the bundles under `root`, in order, `root` itself among them.

    A folder with a model file counts, so that a lost manifest is noticed.
    """
    marks = {MANIFEST, *formats.MODEL_FILES}
    return sorted({path.parent for path in root.rglob("*") if path.name in marks and path.is_file()})


def verify(folder: Path) -> Bundle:
    """Check a bundle on disk: hashes, tensors, golden outputs, and parity measured anew on this machine.

    Raises BrokenFileError for a file that is missing, altered or unreadable, NonFiniteError for weights
    that are not finite. A file that computes something else shows in `Bundle.parity`.
    """
    manifest = _read_manifest(folder)
    contents = {name: _read_file(folder, name, entry) for name, entry in manifest["files"].items()}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in contents and path.name != MANIFEST:
            raise BrokenFileError(path.name, f"is not among the files that {MANIFEST} lists")

    net = _rebuild(manifest, contents)
    try:
        golden = _read_golden(contents["golden.npz"])
        answers = parity.references(net, {name: x for name, (x, _) in golden.items()})
    except (ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise BrokenFileError("golden.npz", f"holds no inputs and outputs of this net: {error}") from error
    cases = list(_compare_files(folder, net, answers))
    # Recorded on another machine, maybe: held to the bound for other runtimes.
    for name, (_, y) in golden.items():
        cases.append(parity.compare_outputs("golden.npz", name, y, answers[name], exactly=False))
    return Bundle(folder, manifest, Parity(tuple(cases)))


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise BrokenFileError(MANIFEST, "is missing")
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise BrokenFileError(MANIFEST, f"is no JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("digest") != _digest(manifest):
        raise BrokenFileError(MANIFEST, "was altered: its digest does not match its content")
    if manifest.get("format") != FORMAT:
        raise BrokenFileError(MANIFEST, f"must be of format {FORMAT}, not {manifest.get('format')!r}")
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(map(_is_entry, files.items())):
        raise BrokenFileError(MANIFEST, "must list files as plain names, each with its size and sha256")
    if "golden.npz" not in files or not {*formats.MODEL_FILES} & {*files}:
        raise BrokenFileError(MANIFEST, "must list golden.npz and a model file")
    return manifest


def _is_entry(item: tuple[str, Any]) -> bool:
    name, entry = item
    plain = Path(name).name == name and name not in ("", "..", MANIFEST)
    return plain and isinstance(entry, dict) and {"size", "sha256"} <= {*entry}


def _read_file(folder: Path, name: str, entry: dict[str, Any]) -> bytes:
    path = folder / name
    if not path.is_file():
        raise BrokenFileError(name, "is missing")
    if path.stat().st_size != entry["size"]:
        raise BrokenFileError(name, f"has {path.stat().st_size} bytes and not {entry['size']}")
    content = path.read_bytes()
    if _sha256(content) != entry["sha256"]:
        raise BrokenFileError(name, "was altered: its sha256 is not that of the manifest")
    return content


def _rebuild(manifest: dict[str, Any], contents: Mapping[str, bytes]) -> nn.Module:
    """The net as the lesson makes it, with the weights of the first model file that holds torch tensors."""
    try:
        lesson = LESSONS[manifest["lesson"]]
        trainer = lesson.trainer(lesson.config.parse(manifest["settings"]))
        net = next(each.net for each in trainer.learners if each.name == manifest["net"])
    except (KeyError, TypeError, StopIteration, SettingError) as error:
        raise BrokenFileError(MANIFEST, f"names no known lesson, net and settings: {error}") from error
    name = next(name for name in formats.MODEL_FILES if name in contents)
    _, state = formats.read(name, contents[name], net)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise BrokenFileError(name, f"does not fit the lesson's net: {error}") from error
    if not is_finite(net):
        raise NonFiniteError(f"{name} holds weights that are not finite numbers")
    return net


def _read_golden(content: bytes) -> dict[str, tuple[parity.Float32, parity.Float32]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        names = [key.removeprefix("x_") for key in arrays.files if key.startswith("x_")]
        return {name: (arrays[f"x_{name}"], arrays[f"y_{name}"]) for name in names}


def _golden(answers: Mapping[str, parity.Reference]) -> bytes:
    arrays = {}
    for name, answer in answers.items():
        arrays[f"x_{name}"], arrays[f"y_{name}"] = answer.x, answer.y
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for allow_pickle
    return file.getvalue()


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _digest(manifest: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return _sha256(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def archive(bundles: list[Bundle]) -> bytes:
    """The bundles of one run as a zip, under the folder names that `write` gives them; no dates in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for bundle in bundles:
            for path in sorted(bundle.folder.iterdir()):
                entry = zipfile.ZipInfo(f"{bundle.name}/{path.name}")  # dated 1980, as zip must have a date
                made.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()
