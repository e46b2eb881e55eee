"""Bundles: folders with a net in every format, its golden outputs, its parity report and its manifest.

A model file is part of a bundle only if, read back from disk, it agrees with the net in memory.
"""

import io
import math
import stat
import tempfile
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from torch import nn

from charts.text import Language, Text
from export import formats, graph, layout, manifest, model_card, parity, swap, try_page
from export.cases import BrokenFileError, Case, ForeignFolderError, NonFiniteError, Parity, wrap_errors
from export.formats import Opened
from lab.evaluation import Restored, is_finite
from lab.experiment import Learner
from lab.lesson import Snapshot, Training
from lab.training import Trainer

TRAIN_MODE = "was saved in train mode, in which dropout and batch norm behave differently"

ZIP_UNIX = 3  # host system code of the zip format
# Suffix of the hidden temporary folder for new bundles, and subfolder of it for those that they replace.
PARTIAL, OLD = ".partial", "old"

Answers = Mapping[str, parity.Reference]


@dataclass(frozen=True)
class Bundle:
    """A folder on disk, its manifest, and the comparison of its files with the net."""

    folder: Path
    manifest: manifest.Manifest
    parity: Parity
    unchecked: Mapping[str, str] = field(default_factory=dict)  # reasons by file, set by `verify`

    @property
    def name(self) -> str:
        """Path relative to the folder of all bundles: KEY, or KEY/NET for a lesson of several nets."""
        return layout.place(self.manifest["lesson"], self.manifest["net"], self.manifest["nets"])


def write(trainer: Trainer, out: Path, language: Language = "en") -> list[Bundle]:
    """Write the bundle of every net of a finished run to `out`/KEY, or to `out`/KEY/NET if there are several.

    `Draft` does the same in steps and documents the errors raised.
    """
    with Draft(trainer, trainer.snapshot(), out, language) as draft:
        for learner in trainer.learners:
            draft.check(learner)
        return draft.seal(trainer.snapshot(restored=draft.restored))  # a new one: a lesson may plot the restored files


def is_prepared(trainer: Trainer) -> bool:
    """Whether the ONNX graphs of all nets of the run are cached. Raises ExportError."""
    return all(graph.is_prepared(learner.net, trainer.experiment.train.x) for learner in trainer.learners)


def prepare(trainer: Trainer) -> None:
    """Export and cache the ONNX graphs of new architectures. Thread-safe. Raises ExportError."""
    for learner in trainer.learners:
        graph.prepare(learner.net, trainer.experiment.train.x)


class Draft:
    """Context manager that writes the bundles of a run to a temporary folder: `check` each net, then `seal`.

    Existing bundles of the same name are replaced only when the new ones are complete; if writing fails, they stay
    unchanged. A model file that fails parity is left out, and `Bundle.parity` gives the reason. `restored` holds the
    files as read back. The texts and the plot are in `language`.
    Entering raises NonFiniteError for a diverged run, ForeignFolderError if the target holds files that do not belong
    to a bundle, and OSError if `out` cannot be written.
    """

    def __init__(self, trainer: Trainer, snapshot: Snapshot, out: Path, language: Language = "en") -> None:
        self.restored: dict[str, dict[str, Restored]] = {}  # by net and file
        self._lesson = trainer.lesson
        self._trainer = trainer
        self._snapshot = snapshot  # at the end of the run
        self._out = out
        self._language = language
        self._names = [each.name for each in trainer.learners]
        self._checked: list[_Checked] = []

    def __enter__(self) -> "Draft":
        _refuse_non_finite(self._trainer, self._snapshot)
        _recover(self._out, self._lesson.key)
        _refuse_foreign(self._out / self._lesson.key)
        self._out.mkdir(parents=True, exist_ok=True)
        # Hidden, so that the remains of a killed process are not taken for a bundle.
        self._temporary = tempfile.TemporaryDirectory(prefix=f".{self._lesson.key}-", suffix=PARTIAL, dir=self._out)
        self._root = Path(self._temporary.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._temporary.cleanup()

    def check(self, learner: Learner) -> None:
        """Write a net's model files, read them back, and delete those that fail parity. Raises ExportError.

        Uses torch: if other runs are training, call it on their thread.
        """
        trainer = self._trainer
        graph.refuse_unsupported(learner.net, trainer.experiment.train.x)
        folder = self._root / layout.place(self._lesson.key, learner.name, self._names)
        folder.mkdir(parents=True)
        answers = parity.references(
            learner.net, parity.inputs(trainer.experiment.train.x), classifies=bool(self._lesson.classes)
        )
        # With very large weights sums overflow, depending on the order of summation, which differs between runtimes.
        if not all(np.isfinite(each.y).all() for each in answers.values() if np.isfinite(each.x).all()):
            raise _non_finite(trainer, f"outputs of {learner.name}, near and far,")
        sample = answers[manifest.SAMPLE]
        described = manifest.describe(trainer, learner, self._snapshot, sample, self._language)
        restored = self.restored[learner.name] = {}
        cases: list[Case] = []
        for name in layout.MODEL_FILES:
            try:
                opened, restored[name] = _round_trip(folder / name, trainer, learner, manifest.metadata(described))
                cases += compare(name, opened, learner.net, answers, described)
            except BrokenFileError as error:
                cases.append(Case.from_check(name, "read", str(error)))
        report = Parity(tuple(cases))
        for name in report.failed_files:
            (folder / name).unlink()
            restored.pop(name, None)
        self._checked.append(_Checked(learner, folder, answers, described, report))

    def seal(self, snapshot: Snapshot | None) -> list[Bundle]:
        """Write the remaining files, plot `snapshot` if it is given, and move the bundles to their final folder."""
        plot = _plot(snapshot, self._language) if snapshot else None
        bundles = [_describe(self._lesson, each, plot) for each in self._checked]
        _replace(self._root / self._lesson.key, self._out / self._lesson.key, self._root / OLD)
        return [Bundle(self._out / each.name, each.manifest, each.parity) for each in bundles]


@dataclass(frozen=True, eq=False)
class _Checked:
    """A net whose model files are written and compared."""

    learner: Learner
    folder: Path
    answers: Answers
    described: manifest.Manifest
    report: Parity


def _plot(snapshot: Snapshot, language: Language) -> bytes:
    from charts import figure  # importing matplotlib takes 0.5 s, which would delay the start of the app

    return figure.save(snapshot.chart, "png", language)


def _refuse_non_finite(trainer: Trainer, snapshot: Snapshot) -> None:
    wrong = [f"weights of {each.name}" for each in trainer.learners if not is_finite(each.net)]
    wrong += [name for name, value in snapshot.metrics.items() if not math.isfinite(value)]
    if wrong:
        raise _non_finite(trainer, wrong[0])


def _non_finite(trainer: Trainer, what: str) -> NonFiniteError:
    why = Text(
        "{key}: the {what} must be finite to be exported. {advice} Nothing was written.",
        "{key}：{what} 必须是有限的数才能导出。{advice}什么也没有写。",
    )
    return NonFiniteError(why.format(key=trainer.lesson.key, what=what, advice=trainer.advice))


def _refuse_foreign(target: Path) -> None:
    """Raise ForeignFolderError if replacing `target` would delete a file that does not belong to a bundle."""
    files = [path for path in sorted(target.rglob("*")) if path.is_file()] if target.is_dir() else [target]
    for path in files:
        known = path.name in layout.FILES or path.parent.name == "__pycache__"  # written when net.py is imported
        if path.exists() and not known:
            raise ForeignFolderError(f"{path} does not belong to a bundle and would be lost; move it elsewhere first.")


def _replace(made: Path, target: Path, old: Path) -> None:
    """Move `made` to `target`; an existing bundle moves to `made` or `old`."""
    if target.exists() and swap.exchange(made, target):
        return
    if target.exists():  # not atomic: `_recover` restores the bundle if the process is killed in between
        target.rename(old)
    try:
        made.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _recover(out: Path, key: str) -> None:
    """Restore a bundle that a killed process moved away but did not replace."""
    for old in out.glob(f".{key}-*{PARTIAL}/{OLD}"):
        if not (out / key).exists():
            old.rename(out / key)


def _round_trip(path: Path, trainer: Trainer, learner: Learner, metadata: Mapping[str, str]) -> tuple[Opened, Restored]:
    start = time.perf_counter()
    written = formats.write(path.name, learner.net, trainer.experiment.train.x, metadata)
    path.write_bytes(written)
    on_disk = time.perf_counter()
    content = path.read_bytes()
    if content != written:
        raise BrokenFileError(path.name, "does not read back as written")
    opened = formats.read(path.name, content, learner.net)
    return opened, Restored(len(content), on_disk - start, time.perf_counter() - on_disk, opened.predict)


def compare(name: str, opened: Opened, net: nn.Module, answers: Answers, described: manifest.Manifest) -> list[Case]:
    """Compare a model file, as read, with the net and its manifest. Raises BrokenFileError."""
    with wrap_errors(name, "cannot be used"):
        tensors = formats.tensor_difference(name, opened.state, net.state_dict())
        cases = [Case.from_check(name, "tensors", tensors, "names, shapes, dtypes and bytes are the net's")]
        if name == layout.PICKLE:
            cases.append(Case.from_check(name, "mode", TRAIN_MODE if opened.training else "", "saved in eval mode"))
        if name == layout.ONNX:
            wrong = metadata_difference(opened.metadata, manifest.metadata(described))
            cases.append(Case.from_check(name, "metadata", wrong, "says of itself what manifest.json says"))
        if not opened.training:
            cases += parity.compare(name, opened.predict, answers, exactly=name != layout.ONNX)
        return cases


def metadata_difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Message with the keys in which an ONNX file's metadata_props differ; empty if they are equal."""
    differing = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    return f"metadata_props differ from manifest.json in {', '.join(differing)}" if differing else ""


def _describe(lesson: Training, net: _Checked, plot: bytes | None) -> Bundle:
    """Write the files beside the model files, then the manifest with all hashes."""
    folder, report = net.folder, net.report
    files = [name for name in layout.MODEL_FILES if name not in report.failed_files]
    (folder / layout.GOLDEN).write_bytes(_golden(net.answers))
    (folder / layout.REPORT).write_bytes(manifest.to_json(report.to_dict()))
    if plot is not None:
        (folder / layout.PLOT).write_bytes(plot)
        files.append(layout.PLOT)
    (folder / layout.SOURCE).write_bytes(model_card.source(net.learner.net, net.learner.arguments).encode())
    (folder / layout.README).write_bytes(model_card.text(lesson, net.described, files, report).encode())
    if layout.ONNX in files:
        page = try_page.render(net.described, (folder / layout.ONNX).read_bytes())
        (folder / layout.PAGE).write_bytes(page)
    return Bundle(folder, manifest.write(net.described, folder), report)


def _golden(answers: Answers) -> bytes:
    arrays = {}
    for name, answer in answers.items():
        arrays[f"x_{name}"], arrays[f"y_{name}"] = answer.x, answer.y
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub matches the keywords with allow_pickle
    return file.getvalue()


def archive(bundles: list[Bundle]) -> bytes:
    """Zip archive of the bundles of a run, one folder each. Reproducible: it contains no timestamps."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for bundle in bundles:
            for name in sorted([layout.MANIFEST, *bundle.manifest["files"]]):
                entry = zipfile.ZipInfo(f"{bundle.name}/{name}")  # dated 1980, the default
                entry.create_system = ZIP_UNIX  # on every system, so that the bytes are equal
                entry.external_attr = (stat.S_IFREG | 0o644) << 16  # otherwise the extracted file has mode 0600
                made.writestr(entry, (bundle.folder / name).read_bytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()
