"""A bundle: one folder with a net in every format, its golden outputs, its parity report and its manifest.

Only files that were read back from disk and agree with the net in memory are part of one.
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
from export.cases import BrokenFileError, Case, ForeignFolderError, NonFiniteError, Parity, blaming
from export.formats import Opened
from lab.evaluation import Restored, is_finite
from lab.experiment import Learner
from lab.lesson import Snapshot, Training
from lab.training import Trainer

TRAIN_MODE = "was saved in train mode, in which dropout and batch norm compute something else"

UNIX = 3  # as zip numbers systems
PARTIAL, OLD = ".partial", "old"  # the hidden folder that bundles are written in, and those they replace, in it

Answers = Mapping[str, parity.Reference]


@dataclass(frozen=True)
class Bundle:
    """A folder on disk, its manifest, and how its files compared with the net."""

    folder: Path
    manifest: manifest.Manifest
    parity: Parity
    unchecked: Mapping[str, str] = field(default_factory=dict)  # by file, why `verify` could not check it

    @property
    def name(self) -> str:
        """Its path under the folder of all bundles: KEY, or KEY/NET for a lesson of several nets."""
        return layout.place(self.manifest["lesson"], self.manifest["net"], self.manifest["nets"])


def write(trainer: Trainer, out: Path, language: Language = "en") -> list[Bundle]:
    """Write the bundle of every net of the run, which is over: `out`/KEY, or `out`/KEY/NET where there are several.

    See `Draft`, which does the same in parts, and for what it raises.
    """
    with Draft(trainer, trainer.snapshot(), out, language) as draft:
        for learner in trainer.learners:
            draft.check(learner)
        return draft.seal(trainer.snapshot(restored=draft.restored))  # anew, as a lesson may show what was read back


def is_prepared(trainer: Trainer) -> bool:
    """Whether `prepare` has nothing to do. Raises ExportError."""
    return all(graph.is_at_hand(learner.net, trainer.experiment.train.x) for learner in trainer.learners)


def prepare(trainer: Trainer) -> None:
    """Have at hand what takes long for a net of a new architecture; on any thread. Raises ExportError."""
    for learner in trainer.learners:
        graph.prepare(learner.net, trainer.experiment.train.x)


class Draft:
    """The bundles of a run while they are being written, aside from their place: `check` each net, then `seal`.

    Bundles of that name are replaced once the new ones are whole; whatever ends the writing before that leaves the
    old ones as they were, and nothing with their name. A model file that fails parity is left out; `Bundle.parity`
    says why. `restored` has the files as they were read back. The texts and the plot are in `language`.
    Entering raises NonFiniteError for a diverged run, ForeignFolderError rather than replace what is no bundle, and
    OSError where `out` cannot be written.
    """

    def __init__(self, trainer: Trainer, snapshot: Snapshot, out: Path, language: Language = "en") -> None:
        self.restored: dict[str, dict[str, Restored]] = {}  # by net and file
        self._lesson = trainer.lesson
        self._trainer = trainer
        self._snapshot = snapshot  # of the run at its end
        self._out = out
        self._language = language
        self._names = [each.name for each in trainer.learners]
        self._checked: list[_Checked] = []

    def __enter__(self) -> "Draft":
        _refuse_non_finite(self._trainer, self._snapshot)
        _put_back(self._out, self._lesson.key)
        _refuse_foreign(self._out / self._lesson.key)
        self._out.mkdir(parents=True, exist_ok=True)
        # Hidden, so that what a killed process leaves of it is taken for no bundle.
        self._aside = tempfile.TemporaryDirectory(prefix=f".{self._lesson.key}-", suffix=PARTIAL, dir=self._out)
        self._root = Path(self._aside.name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._aside.cleanup()

    def check(self, learner: Learner) -> None:
        """Write a net's model files, read them back, and drop those that do not agree with it. Raises ExportError.

        Uses torch: beside runs that train, on their thread.
        """
        trainer = self._trainer
        graph.refuse_what_cannot_be_saved(learner.net, trainer.experiment.train.x)
        folder = self._root / layout.place(self._lesson.key, learner.name, self._names)
        folder.mkdir(parents=True)
        answers = parity.references(
            learner.net, parity.inputs(trainer.experiment.train.x), classifies=bool(self._lesson.classes)
        )
        # Weights so large that sums overflow: where, hangs on the order of adding, which no runtime promises.
        if not all(np.isfinite(each.y).all() for each in answers.values() if np.isfinite(each.x).all()):
            raise _non_finite(trainer, f"outputs of {learner.name}, near and far,")
        sample = answers[manifest.SAMPLE]
        described = manifest.describe(trainer, learner, self._snapshot, sample, self._language)
        restored = self.restored[learner.name] = {}
        cases: list[Case] = []
        for name in layout.MODEL_FILES:
            try:
                opened, restored[name] = _there_and_back(folder / name, trainer, learner, manifest.metadata(described))
                cases += compare(name, opened, learner.net, answers, described)
            except BrokenFileError as error:
                cases.append(Case.of_words(name, "read", str(error)))
        report = Parity(tuple(cases))
        for name in report.failed_files:
            (folder / name).unlink()
            restored.pop(name, None)
        self._checked.append(_Checked(learner, folder, answers, described, report))

    def seal(self, snapshot: Snapshot | None) -> list[Bundle]:
        """Write what goes with the model files, with the plot of that snapshot if any, and put all in its place."""
        plot = _plot(snapshot, self._language) if snapshot else None
        bundles = [_describe(self._lesson, each, plot) for each in self._checked]
        _put_in_place(self._root / self._lesson.key, self._out / self._lesson.key, self._root / OLD)
        return [Bundle(self._out / each.name, each.manifest, each.parity) for each in bundles]


@dataclass(frozen=True, eq=False)
class _Checked:
    """A net whose model files are written."""

    learner: Learner
    folder: Path
    answers: Answers
    described: manifest.Manifest
    report: Parity


def _plot(snapshot: Snapshot, language: Language) -> bytes:
    from charts import figure  # matplotlib takes half a second to import, which the start of the page need not wait for

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
    """Raise ForeignFolderError if replacing `target` would lose a file that is no part of a bundle."""
    files = [path for path in sorted(target.rglob("*")) if path.is_file()] if target.is_dir() else [target]
    for path in files:
        known = path.name in layout.FILES or path.parent.name == "__pycache__"  # left there by who imported net.py
        if path.exists() and not known:
            raise ForeignFolderError(f"{path} is no part of a bundle and would be lost; move it away first.")


def _put_in_place(made: Path, target: Path, old: Path) -> None:
    """Move `made` to `target`; a bundle that is there already moves aside, to `made` or to `old`."""
    if target.exists() and swap.exchange(made, target):
        return
    if target.exists():  # in two steps, between which a killed process leaves it aside: see `_put_back`
        target.rename(old)
    try:
        made.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _put_back(out: Path, key: str) -> None:
    """Put a bundle back that a killed process has moved aside and not replaced."""
    for old in out.glob(f".{key}-*{PARTIAL}/{OLD}"):
        if not (out / key).exists():
            old.rename(out / key)


def _there_and_back(
    path: Path, trainer: Trainer, learner: Learner, metadata: Mapping[str, str]
) -> tuple[Opened, Restored]:
    start = time.perf_counter()
    written = formats.write(path.name, learner.net, trainer.experiment.train.x, metadata)
    path.write_bytes(written)
    on_disk = time.perf_counter()
    content = path.read_bytes()
    if content != written:
        raise BrokenFileError(path.name, "is not what was written")
    opened = formats.read(path.name, content, learner.net)
    return opened, Restored(len(content), on_disk - start, time.perf_counter() - on_disk, opened.predict)


def compare(name: str, opened: Opened, net: nn.Module, answers: Answers, described: manifest.Manifest) -> list[Case]:
    """A model file as it was read against the net and its description. Raises BrokenFileError."""
    with blaming(name, "cannot be used"):
        tensors = formats.same_tensors(name, opened.state, net.state_dict())
        cases = [Case.of_words(name, "tensors", tensors, "names, shapes, dtypes and bytes are the net's")]
        if name == layout.PICKLE:
            cases.append(Case.of_words(name, "mode", TRAIN_MODE if opened.training else "", "saved in eval mode"))
        if name == layout.ONNX:
            wrong = other_words(opened.metadata, manifest.metadata(described))
            cases.append(Case.of_words(name, "metadata", wrong, "says of itself what manifest.json says"))
        if not opened.training:
            cases += parity.compare(name, opened.predict, answers, exactly=name != layout.ONNX)
        return cases


def other_words(found: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """Empty if a file says of itself what it should; else the names that differ."""
    differing = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    return f"metadata_props differ from manifest.json in {', '.join(differing)}" if differing else ""


def _describe(lesson: Training, net: _Checked, plot: bytes | None) -> Bundle:
    """Write what goes with the model files, and seal the folder."""
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
    np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for allow_pickle
    return file.getvalue()


def archive(bundles: list[Bundle]) -> bytes:
    """The bundles of one run as a zip, each under its name; no dates in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for bundle in bundles:
            for name in sorted([layout.MANIFEST, *bundle.manifest["files"]]):
                entry = zipfile.ZipInfo(f"{bundle.name}/{name}")  # dated 1980, as zip must have a date
                entry.create_system = UNIX  # on every system: the same bytes
                entry.external_attr = (stat.S_IFREG | 0o644) << 16  # else its owner alone may read what is unpacked
                made.writestr(entry, (bundle.folder / name).read_bytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()
