"""Verification of an untrusted bundle by regenerating its files.

The recipe and the weights determine the content of a bundle. The weights are read without running any code, and the
files regenerated from them must match the bundle: the model files, the manifest and the golden outputs; the texts, if
this version of the program wrote them; the plot, if retraining gives the same weights.
"""

import copy
import dataclasses
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor, nn

from charts.text import Language
from export import bundle, formats, graph, layout, manifest, model_card, parity, pickles, try_page
from export.bundle import Answers, Bundle, Draft
from export.cases import MARGIN, BrokenFileError, Case, NonFiniteError, Parity, wrap_errors
from export.layout import GOLDEN, ONNX, PAGE, PARAMS, PICKLE, PLOT, README, REPORT, SAFETENSORS, SOURCE
from export.manifest import Manifest
from lab.evaluation import is_finite
from lab.experiment import Learner
from lab.lesson import Snapshot
from lab.settings import SettingError
from lab.training import Trainer
from nets import TRAININGS

Contents = Mapping[str, bytes]
Unchecked = dict[str, str]  # reasons by file
Measured = Mapping[str, list[Case]]  # by file, comparison of our own file with the net

# Files with the weights in the order in which they are tried: the simplest format first.
SOURCES = (SAFETENSORS, PARAMS, PICKLE, ONNX)

RECIPE = "the recipe in manifest.json"  # unchecked unless retraining gives the same weights
SLACK = 4.0  # maximum ratio between rounding errors measured on two processors


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """Trainer and net created from recipe and weights, with the net's reference outputs and manifest."""

    trainer: Trainer
    learner: Learner
    snapshot: Snapshot
    answers: Answers
    described: Manifest


def verify(folder: Path, *, retrain: bool = False) -> Bundle:
    """Regenerate a bundle on this machine and compare its files with the result.

    `retrain` also repeats the training, to check the plot. `Bundle.unchecked` lists what could not be checked.

    Raises BrokenFileError for a file that is missing, altered, unreadable or not one that this program writes, before
    its content is used, and NonFiniteError for weights that are not finite. `Bundle.parity` reports model files and
    golden outputs that do not match the manifest's net. Untrusted files are never unpickled or run.
    """
    described, contents = manifest.read(folder)
    return _check(folder, described, contents, retrain=retrain)[1]


def _check(folder: Path, described: Manifest, contents: Contents, *, retrain: bool) -> tuple[Rebuilt, Bundle]:
    unexpected = contents.keys() - layout.FILES
    if unexpected:
        raise BrokenFileError(min(unexpected), "does not belong to a bundle")
    rebuilt, same_version = rebuild(described, contents)
    net, metadata = rebuilt.learner.net, manifest.metadata(described)
    # Files that failed parity when the bundle was written are missing.
    present = [name for name in layout.MODEL_FILES if name in contents]
    own = {name: formats.write(name, net, rebuilt.trainer.experiment.train.x, metadata) for name in present}
    wrong = {
        name: _compare(name, contents[name], ours, net, described)
        for name, ours in own.items()
        if contents[name] != ours
    }
    measured = {
        name: bundle.compare(name, formats.read(name, ours, net), net, rebuilt.answers, described)
        for name, ours in own.items()
    }
    cases: list[Case] = []
    for name in present:
        if found := wrong.get(name):
            cases.append(found)
            continue
        if name == ONNX:
            cases.append(Case.from_check(ONNX, "graph", "", "same operators as the export of the net"))
        cases += measured[name]
    cases += _compare_golden(contents[GOLDEN], rebuilt)
    if same_version:
        unchecked = _check_texts(described, contents, rebuilt, own, measured)
    else:
        why = f"written by version {described.get('version', '0.5.0 or older')}"
        unchecked = {name: why for name in (README, SOURCE, PAGE, REPORT) if name in contents}
    return rebuilt, Bundle(
        folder, described, Parity(tuple(cases)), {**unchecked, **_check_run(described, contents, rebuilt, retrain)}
    )


def rebuild(described: Manifest, contents: Contents) -> tuple[Rebuilt, bool]:
    """Create the lesson's net with the manifest's weights. Also returns whether this version wrote the manifest.

    Raises BrokenFileError and NonFiniteError.
    """
    recipe = manifest.recipe(described)
    lesson = TRAININGS[recipe.lesson]
    try:
        trainer = Trainer(lesson, recipe)
        learner = next(each for each in trainer.learners if each.name == described["net"])
    except (KeyError, TypeError, StopIteration, SettingError) as error:
        raise BrokenFileError(
            layout.MANIFEST, f"must describe a run of its lesson and name one of its nets: {error!r}"
        ) from error
    trainer.apply_all()  # a change can set an attribute of a layer, which a net's files contain beside its weights
    _load(learner, trainer.experiment.train.x, described, contents)
    with wrap_errors(ONNX, "cannot be compared, because the export failed"):
        graph.prepare(learner.net, trainer.experiment.train.x)  # so that known_operators includes its operators
    answers = parity.references(learner.net, parity.inputs(trainer.experiment.train.x), classifies=bool(lesson.classes))
    steps = trainer.steps if recipe.stop is None else recipe.stop
    language = described.get("language", "en")
    if type(described.get("steps")) is not int or described["steps"] != steps:
        raise BrokenFileError(
            layout.MANIFEST, f"must give the number of steps of its run, {steps}, not {described.get('steps')!r}"
        )
    if language not in get_args(Language):
        raise BrokenFileError(layout.MANIFEST, f"must name a language of {get_args(Language)}, not {language!r}")
    snapshot = dataclasses.replace(trainer.snapshot(), step=steps)
    made = manifest.describe(trainer, learner, snapshot, answers[manifest.SAMPLE], language)
    same_version = manifest.check(described, made)
    rebuilt = Rebuilt(trainer, learner, snapshot, answers, made)
    _check_sample(described.get("sample"), rebuilt)
    return rebuilt, same_version


def _load(learner: Learner, x: Tensor, described: Manifest, contents: Contents) -> None:
    """Load weights that match the manifest's hash into the net, from the first file that contains them."""
    for name in filter(contents.__contains__, SOURCES):
        with wrap_errors(name, "cannot be read"):
            try:
                state = _tensors(name, contents[name], learner, x)
            except pickles.OperationMismatchError:
                if _has_this_torch(described):
                    raise
                continue
        with wrap_errors(name, "does not fit the lesson's net"):
            if manifest.weights_digest(state) != described.get("weights"):
                continue
            learner.net.load_state_dict(state, strict=name != ONNX)  # net.onnx omits num_batches_tracked
        if not is_finite(learner.net):
            raise NonFiniteError(f"{name} contains weights that are not finite.")
        return
    raise BrokenFileError(layout.MANIFEST, "must have the digest of the weights of a file, but no file matches")


def _tensors(name: str, content: bytes, learner: Learner, x: Tensor) -> Mapping[str, Tensor]:
    """Return the tensors in a model file without running it. Raises ValueError and the errors of parsers."""
    if name == ONNX:
        return formats.tensors(content)
    if name == SAFETENSORS:
        return safetensors.torch.load(content)
    formats.refuse_compressed(content)
    return pickles.tensors(content, formats.write(name, learner.net, x), learner.net.state_dict())


def _has_this_torch(described: Manifest) -> bool:
    versions = described.get("versions")
    return isinstance(versions, Mapping) and versions.get("torch") == torch.__version__.partition("+")[0]


def _compare(name: str, content: bytes, ours: bytes, net: nn.Module, described: Manifest) -> Case | None:
    """Failed case of a model file whose bytes differ from our own; None if its content is equivalent."""
    with wrap_errors(name, "cannot be read"):
        match name:
            case "net.onnx":
                return _compare_onnx(content, ours)
            case "net.safetensors":
                return _compare_safetensors(content, ours, net)
            case _:
                return _compare_pickle(name, content, ours, net, described)


def _compare_onnx(content: bytes, ours: bytes) -> Case | None:
    formats.refuse_unknown_operators(content)
    if wrong := formats.graph_difference(content, ours):
        return Case.from_check(ONNX, "graph", wrong)
    if wrong := formats.tensor_difference(ONNX, formats.tensors(content), formats.tensors(ours)):
        return Case.from_check(ONNX, "tensors", wrong)
    if wrong := bundle.metadata_difference(formats.metadata(content), formats.metadata(ours)):
        return Case.from_check(ONNX, "metadata", wrong)
    return None


def _compare_safetensors(content: bytes, ours: bytes, net: nn.Module) -> Case | None:
    if wrong := formats.tensor_difference(SAFETENSORS, safetensors.torch.load(content), net.state_dict()):
        return Case.from_check(SAFETENSORS, "tensors", wrong)
    found_keys, wanted_keys = ({*_safetensors_header(each)} for each in (content, ours))
    if found_keys != wanted_keys:
        differing = ", ".join(sorted(found_keys ^ wanted_keys))
        return Case.from_check(SAFETENSORS, "metadata", f"has another header than our own: {differing}")
    return None


def _safetensors_header(content: bytes) -> dict[str, Any]:
    """Parse the header: JSON, preceded by its length in eight bytes."""
    header: dict[str, Any] = layout.from_json(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header


def _compare_pickle(name: str, content: bytes, ours: bytes, net: nn.Module, described: Manifest) -> Case | None:
    formats.refuse_compressed(content)
    state = net.state_dict()
    try:
        found = pickles.tensors(content, ours, state)
    except pickles.OperationMismatchError as error:
        if name == PICKLE and _is_in_train_mode(content, net):
            return Case.from_check(name, "mode", bundle.TRAIN_MODE)
        if _has_this_torch(described):
            raise
        why = f"not checked: written by another version of torch, in a different way: {error}"
        return Case.from_check(name, "operations", why)
    wrong = formats.tensor_difference(name, found, state)
    return Case.from_check(name, "tensors", wrong) if wrong else None


def _is_in_train_mode(content: bytes, net: nn.Module) -> bool:
    """Whether a pickle contains the net in train mode."""
    try:
        pickles.tensors(content, formats.saved(copy.deepcopy(net).train()), net.state_dict())
    except pickles.OperationMismatchError:
        return False
    return True


def _compare_golden(content: bytes, rebuilt: Rebuilt) -> list[Case]:
    ours, classifies = rebuilt.answers, bool(rebuilt.trainer.lesson.classes)
    with wrap_errors(GOLDEN, "must hold the inputs and outputs of every case"):
        formats.refuse_compressed(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            differing = {*arrays.files} ^ {f"{axis}_{name}" for name in ours for axis in "xy"}
            if differing or len(arrays.files) != 2 * len(ours):
                raise ValueError(f"{', '.join(sorted(differing)) or 'a member'} is missing, unexpected or duplicate")
            golden = {name: (arrays[f"x_{name}"], arrays[f"y_{name}"]) for name in sorted(ours)}
        for name, (x, _) in golden.items():
            # Only rounding may differ: the bound depends on the inputs, so others could weaken it.
            if x.shape != ours[name].x.shape or not np.allclose(x, ours[name].x, rtol=1e-3, equal_nan=True):
                raise ValueError(f"x_{name} does not match the lesson's data")
        inputs = {name: x for name, (x, _) in golden.items()}
        same = all(np.array_equal(x, ours[name].x, equal_nan=True) for name, x in inputs.items())
        answers = ours if same else parity.references(rebuilt.learner.net, inputs, classifies=classifies)
        # Possibly recorded on another machine, so the bound for other runtimes applies.
        return [
            parity.compare_outputs(GOLDEN, name, y, answers[name], exactly=False) for name, (_, y) in golden.items()
        ]


def _check_sample(sample: Any, rebuilt: Rebuilt) -> None:
    """Compare the manifest's golden case with the net. Raises BrokenFileError."""
    ours = rebuilt.answers[manifest.SAMPLE]
    with wrap_errors(layout.MANIFEST, f"must hold the inputs and outputs of the case {manifest.SAMPLE}"):
        if {*sample} != {"x", "y", "tolerance"}:
            raise ValueError(f"it contains {', '.join(sorted(sample))}")
        x, y, tolerance = (np.array(sample[key], np.float32) for key in ("x", "y", "tolerance"))
        if x.shape != ours.x.shape or not np.allclose(x, ours.x, rtol=1e-3):
            raise ValueError("x does not match the lesson's data")
        answers = parity.references(rebuilt.learner.net, {manifest.SAMPLE: x}, classifies=ours.classifies)
        case = parity.compare_outputs(layout.MANIFEST, manifest.SAMPLE, y, answers[manifest.SAMPLE], exactly=False)
        if not case.passed:
            raise ValueError(f"y does not match the net: {case.why}")
        if tolerance.shape != y.shape or not _within_slack(tolerance, ours.tolerance):
            raise ValueError("the tolerance does not match float32's rounding error")


def _within_slack(found: npt.NDArray[Any], ours: npt.NDArray[Any]) -> bool:
    """Whether rounding errors of two machines differ by at most a factor of SLACK."""
    return bool(np.all((found <= ours * SLACK) & (found >= ours / SLACK)))


def _check_texts(
    described: Manifest, contents: Contents, rebuilt: Rebuilt, own: Contents, measured: Measured
) -> Unchecked:
    """Compare the texts with those that this version writes. Raises BrokenFileError.

    If a model file failed parity when the bundle was written, two texts contain the reasons. The file is missing, so
    these texts cannot be checked.
    """
    net = rebuilt.learner.net
    wanted = {SOURCE: model_card.source(net, rebuilt.learner.arguments).encode()}
    if ONNX in contents:
        wanted[PAGE] = try_page.render(described, own[ONNX])
    unchecked = {}
    if own.keys() == {*layout.MODEL_FILES}:
        if REPORT not in contents:
            raise BrokenFileError(REPORT, "is missing")
        report = _check_report(contents[REPORT], measured, rebuilt.answers)
        wanted[README] = model_card.text(rebuilt.trainer.lesson, described, list(contents), report).encode()
    else:
        why = "describes files that are missing, and could not be regenerated"
        unchecked = {name: why for name in (REPORT, README) if name in contents}
    for name in (README, SOURCE, PAGE):
        if name in unchecked:
            continue
        if contents.get(name) != wanted.get(name):
            raise BrokenFileError(name, _text_mismatch(name, contents, wanted))
    return unchecked


def _text_mismatch(name: str, contents: Contents, wanted: Contents) -> str:
    if name not in contents:
        return "is missing"
    return "differs from what this version writes" if name in wanted else "is unexpected without net.onnx"


def _check_report(content: bytes, measured: Measured, answers: Answers) -> Parity:
    """Parse and check parity.json, which another machine may have measured. Raises BrokenFileError."""
    expected = [case for cases in measured.values() for case in cases]
    if content == manifest.to_json(Parity(tuple(expected)).to_dict()):
        return Parity(tuple(expected))
    with wrap_errors(REPORT, "cannot be read"):
        listed = layout.from_json(content)["cases"]
        cases = list(map(Case.from_dict, listed))
        report = Parity(tuple(cases))
        if content != manifest.to_json(report.to_dict()) or len(cases) != len(expected):
            raise ValueError("it does not match its cases")
        for found, ours in zip(cases, expected, strict=True):
            if not _is_plausible(found, ours, answers):
                raise ValueError(f"{found.file} cannot have the recorded result in the case {found.case}")
        return report


def _is_plausible(found: Case, ours: Case, answers: Answers) -> bool:
    """Whether another machine can have measured the values of a case."""
    if found == ours:
        return True
    numbers = (found.max_abs, found.measured, found.bound)
    if ours.case not in answers or not ours.bound or not all(type(each) is float for each in numbers):
        return False
    assert found.max_abs is not None
    assert found.measured is not None
    assert found.bound is not None
    bounds = MARGIN * np.maximum(answers[ours.case].allowed, parity.TINY)
    measured = 0 <= found.measured <= found.bound and 0 <= found.max_abs <= SLACK * bounds.max()
    bounded = bounds.min() / SLACK <= found.bound <= bounds.max() * SLACK
    expected = dataclasses.replace(
        ours,
        max_abs=found.max_abs,
        measured=found.measured,
        bound=found.bound,
        why=parity.error_ratio(found.measured, found.bound),
    )
    return measured and bool(bounded) and found == expected


def _check_run(described: Manifest, contents: Contents, rebuilt: Rebuilt, retrain: bool) -> Unchecked:
    """Compare the plot and the number of steps, which only the run determines, with a retrained run.

    Raises BrokenFileError.
    """
    names = [RECIPE, *([PLOT] if PLOT in contents else [])]
    if not retrain:
        return dict.fromkeys(names, "the run was not retrained: use verify --retrain")
    trainer = _retrain(rebuilt)
    if trainer is None:
        return dict.fromkeys(names, "retraining the run on this machine gives different weights")
    return _check_plot(described, contents[PLOT], rebuilt, trainer) if PLOT in contents else {}


def _check_plot(described: Manifest, content: bytes, rebuilt: Rebuilt, trainer: Trainer) -> Unchecked:
    with tempfile.TemporaryDirectory() as out:
        ours = _rewrite(rebuilt, trainer, Path(out)).folder.joinpath(PLOT).read_bytes()
    if content == ours:
        return {}
    if any(described.get(key) != rebuilt.described[key] for key in ("version", "versions")):
        return {PLOT: "drawn by other versions, and differs from that of this version"}
    raise BrokenFileError(PLOT, "is not the plot of the run")


def _retrain(rebuilt: Rebuilt) -> Trainer | None:
    """Repeat the training; None if that does not give equal weights bit by bit.

    Weights may differ on another processor.
    """
    trainer = Trainer(rebuilt.trainer.lesson, rebuilt.trainer.recipe).finish()
    net = next(each.net for each in trainer.learners if each.name == rebuilt.learner.name)
    digests = (manifest.weights_digest(each.state_dict()) for each in (net, rebuilt.learner.net))
    return trainer if len({*digests}) == 1 and trainer.step_number == rebuilt.snapshot.step else None


def _rewrite(rebuilt: Rebuilt, trainer: Trainer | None, out: Path) -> Bundle:
    """Write the net's bundle to `out`, from the retrained run, or without a plot if that is None."""
    language = rebuilt.described["language"]
    if trainer is None:
        with Draft(rebuilt.trainer, rebuilt.snapshot, out, language) as draft:
            draft.check(rebuilt.learner)
            (made,) = draft.seal(None)
            return made
    made_all = bundle.write(trainer, out, language)
    return next(each for each in made_all if each.manifest["net"] == rebuilt.learner.name)


def publishable(folder: Path) -> tuple[Bundle, dict[str, bytes]]:
    """Verify a bundle with `retrain` and return it with the files to publish.

    If all files could be checked, they are returned unchanged. Otherwise this version regenerates all files from the
    verified weights, without the plot if retraining gives different weights. No files if the bundle fails parity.
    """
    described, contents = manifest.read(folder)
    rebuilt, checked = _check(folder, described, contents, retrain=True)
    if not checked.parity.passed:
        return checked, {}
    if not checked.unchecked:
        return checked, {layout.MANIFEST: manifest.to_json(described), **contents}
    with tempfile.TemporaryDirectory() as out:
        made = _rewrite(rebuilt, _retrain(rebuilt), Path(out))
        if not made.parity.passed:
            raise BrokenFileError(
                layout.MANIFEST, f"describes a net that cannot be exported again: {made.parity.summary}"
            )
        return checked, {path.name: path.read_bytes() for path in made.folder.iterdir()}
