"""A bundle: one folder with a net in every format, its golden outputs, its parity report and its manifest.

Only files that were read back from disk and agree with the net in memory are part of one.
"""

import io
import math
import tempfile
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from charts.text import Text, Words, said
from export import card, formats, manifest, parity
from export.formats import BrokenFileError, State
from export.parity import Case, Parity, Predict
from nets.lesson import Snapshot, Training
from nets.training import Learner, Restored, Trainer, is_finite

FILES = {*formats.MODEL_FILES, "golden.npz", "parity.json", "plot.png", "net.py", "README.md", manifest.NAME}


class NonFiniteError(ValueError):
    """A net with weights or metrics that are not finite numbers."""

    def __init__(self, told: Words) -> None:
        super().__init__(said(told, "en"))
        self.told = told


class ForeignFolderError(ValueError):
    """A file in the place of a bundle that is no part of one, and so is not replaced."""


@dataclass(frozen=True)
class Bundle:
    """A folder on disk, its manifest, and how its files compared with the net."""

    folder: Path
    manifest: manifest.Manifest
    parity: Parity

    @property
    def name(self) -> str:
        """Its path under the folder of all bundles: KEY, or KEY/NET for a lesson of several nets."""
        return place(self.manifest["lesson"], self.manifest["net"], self.manifest["nets"])


def place(lesson: str, net: str, nets: list[str]) -> str:
    """Where the bundle of that net belongs."""
    return lesson if len(nets) == 1 else f"{lesson}/{net}"


def write(lesson: Training, trainer: Trainer[Any], out: Path) -> list[Bundle]:
    """Write the bundle of every net of the run: `out`/KEY, or `out`/KEY/NET where there are several.

    Bundles of that name are replaced once the new ones are whole. A model file that fails parity is left out;
    `Bundle.parity` says why. `trainer.restored` gets the files as they were read back. Raises NonFiniteError for
    a diverged run, ForeignFolderError rather than replace what is no bundle, export.graph.ExportError, and OSError
    where `out` cannot be written.
    """
    snapshot = trainer.snapshot()
    _refuse_non_finite(lesson, trainer, snapshot)
    target = out / lesson.key
    _refuse_foreign(target)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{lesson.key}-", dir=out) as aside:
        made, old = Path(aside) / lesson.key, Path(aside) / "old"
        reports = {learner.name: _write_net(lesson, trainer, learner, Path(aside)) for learner in trainer.learners}
        snapshot = trainer.snapshot()  # anew, as a lesson may show what was read back
        plot = _plot(snapshot)
        bundles = [
            _describe_net(lesson, trainer, learner, snapshot, plot, reports[learner.name], Path(aside))
            for learner in trainer.learners
        ]
        if target.exists():
            target.rename(old)
        try:
            made.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    return [Bundle(out / each.name, each.manifest, each.parity) for each in bundles]


def _plot(snapshot: Snapshot) -> bytes:
    from charts import figure  # matplotlib takes half a second to import, which the start of the page need not wait for

    return figure.save(snapshot.chart, "png")


def _refuse_non_finite(lesson: Training, trainer: Trainer[Any], snapshot: Snapshot) -> None:
    wrong = [f"weights of {each.name}" for each in trainer.learners if not is_finite(each.net)]
    wrong += [name for name, value in snapshot.metrics.items() if not math.isfinite(value)]
    if wrong:
        why = Text(
            "{key}: the {what} must be finite to be exported. {advice} Nothing was written.",
            "{key}：{what} 必须是有限的数才能导出。{advice}什么也没有写。",
        )
        raise NonFiniteError(why.format(key=lesson.key, what=wrong[0], advice=trainer.advice))


def _refuse_foreign(target: Path) -> None:
    """Raise ForeignFolderError if replacing `target` would lose a file that is no part of a bundle."""
    files = [path for path in sorted(target.rglob("*")) if path.is_file()] if target.is_dir() else [target]
    for path in files:
        known = path.name in FILES or path.parent.name == "__pycache__"  # left there by who imported net.py
        if path.exists() and not known:
            raise ForeignFolderError(f"{path} is no part of a bundle and would be lost; move it away first.")


Answers = Mapping[str, parity.Reference]


def _folder(lesson: Training, trainer: Trainer[Any], learner: Learner, root: Path) -> Path:
    return root / place(lesson.key, learner.name, [each.name for each in trainer.learners])


def _write_net(lesson: Training, trainer: Trainer[Any], learner: Learner, root: Path) -> tuple[Answers, Parity]:
    """Write the model files, read them back, and leave out what does not agree with the net."""
    folder = _folder(lesson, trainer, learner, root)
    folder.mkdir(parents=True)
    answers = parity.references(learner.net, parity.inputs(trainer.x))
    trainer.restored[learner.name] = {}
    cases: list[Case] = []
    for name in formats.MODEL_FILES:
        try:
            predict, state = _there_and_back(folder / name, trainer, learner)
            found = compare(name, predict, state, learner.net, answers)
        except BrokenFileError as error:
            found = [Case(name, "read", (), None, None, False, str(error))]
        cases += found
    report = Parity(tuple(cases))
    for name in report.failed_files:
        (folder / name).unlink()
        trainer.restored[learner.name].pop(name, None)
    return answers, report


def _there_and_back(path: Path, trainer: Trainer[Any], learner: Learner) -> tuple[Predict, State]:
    start = time.perf_counter()
    path.write_bytes(formats.write(path.name, learner.net, trainer.x))
    written = time.perf_counter()
    content = path.read_bytes()
    predict, state = formats.read(path.name, content, learner.net)
    restored = Restored(len(content), written - start, time.perf_counter() - written, predict)
    trainer.restored[learner.name][path.name] = restored
    return predict, state


def _describe_net(
    lesson: Training,
    trainer: Trainer[Any],
    learner: Learner,
    snapshot: Snapshot,
    plot: bytes,
    checked: tuple[Answers, Parity],
    root: Path,
) -> Bundle:
    """Write what goes with the model files, and seal the folder."""
    folder = _folder(lesson, trainer, learner, root)
    answers, report = checked
    files = [name for name in formats.MODEL_FILES if name not in report.failed_files]
    described = manifest.describe(lesson, trainer, learner, snapshot, answers["train_1"].y.shape[1:])
    (folder / "golden.npz").write_bytes(_golden(answers))
    (folder / "parity.json").write_bytes(manifest.to_json(report.to_dict()))
    (folder / "plot.png").write_bytes(plot)
    (folder / "net.py").write_bytes(card.source(learner.net, learner.arguments).encode())
    (folder / "README.md").write_bytes(card.text(lesson, learner.net, described, files, report).encode())
    return Bundle(folder, manifest.write(described, folder), report)


def compare(name: str, predict: Predict, state: State, net: nn.Module, answers: Answers) -> list[Case]:
    """A model file as it was read against the net: first its tensors, then what it computes. Raises BrokenFileError."""
    with formats.blaming(name, "cannot be used"):
        why = formats.same_tensors(name, state, net.state_dict())
        tensors = Case(name, "tensors", (), None, None, not why, why)
        return [tensors, *parity.compare(name, predict, answers, exactly=name != formats.ONNX)]


def _golden(answers: Answers) -> bytes:
    arrays = {}
    for name, answer in answers.items():
        arrays[f"x_{name}"], arrays[f"y_{name}"] = answer.x, answer.y
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for allow_pickle
    return file.getvalue()


def archive(bundles: list[Bundle]) -> bytes:
    """The bundles of one run as a zip, each under its name; no dates in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for bundle in bundles:
            for name in sorted([manifest.NAME, *bundle.manifest["files"]]):
                entry = zipfile.ZipInfo(f"{bundle.name}/{name}")  # dated 1980, as zip must have a date
                made.writestr(entry, (bundle.folder / name).read_bytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()
