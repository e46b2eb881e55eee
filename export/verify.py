"""Check a bundle on disk, which may have come from anywhere, by making it again.

All that a bundle holds follows from its recipe and its weights. The weights are read without running
anything, and whatever is made of them has to be what is there: the model files, the manifest's claims and the golden
outputs; the texts, where this version of the program wrote them; the plot, where the run can be trained again.
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
from export.cases import MARGIN, BrokenFileError, Case, NonFiniteError, Parity, blaming
from export.layout import GOLDEN, ONNX, PAGE, PARAMS, PICKLE, PLOT, README, REPORT, SAFETENSORS, SOURCE
from export.manifest import Manifest
from lab.evaluation import is_finite
from lab.experiment import Learner
from lab.lesson import Snapshot
from lab.settings import SettingError
from lab.training import Trainer
from nets import TRAININGS

Contents = Mapping[str, bytes]
Unchecked = dict[str, str]  # by file, why
Measured = Mapping[str, list[Case]]  # by file, how our own compares with the net

# The order in which the weights are looked for: the simplest format first.
SOURCES = (SAFETENSORS, PARAMS, PICKLE, ONNX)

RECIPE = "the recipe in manifest.json"  # whether it gives these weights
SLACK = 4.0  # times: how far two processors may be apart in what rounding brings, which both measured


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """What recipe and weights give: the trainer with its net, what the net answers, and its description."""

    trainer: Trainer
    learner: Learner
    snapshot: Snapshot
    answers: Answers
    described: Manifest


def verify(folder: Path, *, retrain: bool = False) -> Bundle:
    """Make a bundle again, on this machine, and hold its files against what comes out. See `Bundle.unchecked`, too.

    `retrain` also trains the run again, as long as it was trained, to check the plot.

    Raises BrokenFileError for a file that is missing, altered, unreadable or not what this program writes, before
    anything in it is used; NonFiniteError for weights that are not finite. A model file or golden output of another
    net than the manifest describes shows in `Bundle.parity`. Nothing from elsewhere is unpickled or run.
    """
    described, contents = manifest.read(folder)
    return _check(folder, described, contents, retrain=retrain)[1]


def _check(folder: Path, described: Manifest, contents: Contents, *, retrain: bool) -> tuple[Rebuilt, Bundle]:
    strange = contents.keys() - layout.FILES
    if strange:
        raise BrokenFileError(min(strange), "is no part of a bundle")
    rebuilt, same_version = rebuild(described, contents)
    net, words = rebuilt.learner.net, manifest.metadata(described)
    # One that failed when the bundle was written is not there.
    there = [name for name in layout.MODEL_FILES if name in contents]
    own = {name: formats.write(name, net, rebuilt.trainer.experiment.train.x, words) for name in there}
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
    for name in there:
        if found := wrong.get(name):
            cases.append(found)
            continue
        if name == ONNX:
            cases.append(Case.of_words(ONNX, "graph", "", "the operators that the net exports to"))
        cases += measured[name]
    cases += _compare_golden(contents[GOLDEN], rebuilt)
    if same_version:
        unchecked = _check_texts(described, contents, rebuilt, own, measured)
    else:
        why = f"version {described.get('version', '0.5.0 or older')} wrote it"
        unchecked = {name: why for name in (README, SOURCE, PAGE, REPORT) if name in contents}
    return rebuilt, Bundle(
        folder, described, Parity(tuple(cases)), {**unchecked, **_check_run(described, contents, rebuilt, retrain)}
    )


def rebuild(described: Manifest, contents: Contents) -> tuple[Rebuilt, bool]:
    """The lesson's net with the weights that the manifest describes, and whether this version described it.

    Raises BrokenFileError and NonFiniteError.
    """
    recipe = manifest.recipe(described)
    lesson = TRAININGS[recipe.lesson]
    try:
        trainer = Trainer(lesson, recipe)
        learner = next(each for each in trainer.learners if each.name == described["net"])
    except (KeyError, TypeError, StopIteration, SettingError) as error:
        raise BrokenFileError(layout.MANIFEST, f"must name a run of its lesson, and a net of it: {error!r}") from error
    _load(learner, trainer.experiment.train.x, described, contents)
    with blaming(ONNX, "has nothing to be compared with"):
        graph.prepare(learner.net, trainer.experiment.train.x)  # its operators are known by it
    answers = parity.references(learner.net, parity.inputs(trainer.experiment.train.x), classifies=bool(lesson.classes))
    steps = trainer.steps if recipe.stop is None else recipe.stop
    language = described.get("language", "en")
    if type(described.get("steps")) is not int or described["steps"] != steps:
        raise BrokenFileError(
            layout.MANIFEST, f"must give the steps of its run, {steps}, and gives {described.get('steps')!r}"
        )
    if language not in get_args(Language):
        raise BrokenFileError(layout.MANIFEST, f"must name a language of {get_args(Language)}, and names {language!r}")
    snapshot = dataclasses.replace(trainer.snapshot(), step=steps)
    made = manifest.describe(trainer, learner, snapshot, answers[manifest.SAMPLE], language)
    same_version = manifest.check(described, made)
    rebuilt = Rebuilt(trainer, learner, snapshot, answers, made)
    _check_sample(described.get("sample"), rebuilt)
    return rebuilt, same_version


def _load(learner: Learner, x: Tensor, described: Manifest, contents: Contents) -> None:
    """Give the net the weights that the manifest describes, from any file that has them."""
    for name in filter(contents.__contains__, SOURCES):
        with blaming(name, "cannot be read"):
            try:
                state = _tensors(name, contents[name], learner, x)
            except pickles.OtherOperationsError:
                if _is_of_this_torch(described):
                    raise
                continue
        with blaming(name, "does not fit the lesson's net"):
            if manifest.weights_digest(state) != described.get("weights"):
                continue
            learner.net.load_state_dict(state, strict=name != ONNX)  # which leaves out what it does not need
        if not is_finite(learner.net):
            raise NonFiniteError(f"{name} holds weights that are not finite numbers.")
        return
    raise BrokenFileError(layout.MANIFEST, "must have the digest of the weights of a file; it has that of none")


def _tensors(name: str, content: bytes, learner: Learner, x: Tensor) -> Mapping[str, Tensor]:
    """The tensors in a model file, of which nothing is run. Raises ValueError, and what parsers raise."""
    if name == ONNX:
        return formats.tensors(content)
    if name == SAFETENSORS:
        return safetensors.torch.load(content)
    formats.refuse_packed(content)
    return pickles.tensors(content, formats.write(name, learner.net, x), learner.net.state_dict())


def _is_of_this_torch(described: Manifest) -> bool:
    versions = described.get("versions")
    return isinstance(versions, Mapping) and versions.get("torch") == torch.__version__.partition("+")[0]


def _compare(name: str, content: bytes, ours: bytes, net: nn.Module, described: Manifest) -> Case | None:
    """What is wrong with a model file that is not byte for byte our own; None if it has the same in another form."""
    with blaming(name, "cannot be read"):
        match name:
            case "net.onnx":
                return _compare_onnx(content, ours)
            case "net.safetensors":
                return _compare_safetensors(content, ours, net)
            case _:
                return _compare_pickle(name, content, ours, net, described)


def _compare_onnx(content: bytes, ours: bytes) -> Case | None:
    formats.refuse_strangers(content)
    if wrong := formats.other_graph(content, ours):
        return Case.of_words(ONNX, "graph", wrong)
    if wrong := formats.same_tensors(ONNX, formats.tensors(content), formats.tensors(ours)):
        return Case.of_words(ONNX, "tensors", wrong)
    if wrong := bundle.other_words(formats.words(content), formats.words(ours)):
        return Case.of_words(ONNX, "metadata", wrong)
    return None


def _compare_safetensors(content: bytes, ours: bytes, net: nn.Module) -> Case | None:
    if wrong := formats.same_tensors(SAFETENSORS, safetensors.torch.load(content), net.state_dict()):
        return Case.of_words(SAFETENSORS, "tensors", wrong)
    found_keys, wanted_keys = ({*_safetensors_header(each)} for each in (content, ours))
    if found_keys != wanted_keys:
        strange = ", ".join(sorted(found_keys ^ wanted_keys))
        return Case.of_words(SAFETENSORS, "metadata", f"has {strange} in its header, which our own has not")
    return None


def _safetensors_header(content: bytes) -> dict[str, Any]:
    """The header: JSON, whose length stands in the first eight bytes."""
    header: dict[str, Any] = layout.from_json(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header


def _compare_pickle(name: str, content: bytes, ours: bytes, net: nn.Module, described: Manifest) -> Case | None:
    formats.refuse_packed(content)
    state = net.state_dict()
    try:
        found = pickles.tensors(content, ours, state)
    except pickles.OtherOperationsError as error:
        if name == PICKLE and _is_in_train_mode(content, net):
            return Case.of_words(name, "mode", bundle.TRAIN_MODE)
        if _is_of_this_torch(described):
            raise
        why = f"not checked: another torch wrote it, and otherwise than this one would: {error}"
        return Case.of_words(name, "operations", why)
    wrong = formats.same_tensors(name, found, state)
    return Case.of_words(name, "tensors", wrong) if wrong else None


def _is_in_train_mode(content: bytes, net: nn.Module) -> bool:
    """Whether a pickle is that of the net, but left in train mode."""
    try:
        pickles.tensors(content, formats.saved(copy.deepcopy(net).train()), net.state_dict())
    except pickles.OtherOperationsError:
        return False
    return True


def _compare_golden(content: bytes, rebuilt: Rebuilt) -> list[Case]:
    ours, classifies = rebuilt.answers, bool(rebuilt.trainer.lesson.classes)
    with blaming(GOLDEN, "must hold the inputs and outputs of every case"):
        formats.refuse_packed(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            strange = {*arrays.files} ^ {f"{axis}_{name}" for name in ours for axis in "xy"}
            if strange or len(arrays.files) != 2 * len(ours):
                raise ValueError(f"{', '.join(sorted(strange)) or 'a member'} is missing, too much or there twice")
            golden = {name: (arrays[f"x_{name}"], arrays[f"y_{name}"]) for name in sorted(ours)}
        for name, (x, _) in golden.items():
            # Another processor may round them otherwise, and no more: inputs of its own choice would set its own bound.
            if x.shape != ours[name].x.shape or not np.allclose(x, ours[name].x, rtol=1e-3, equal_nan=True):
                raise ValueError(f"x_{name} is not what the lesson's data give")
        inputs = {name: x for name, (x, _) in golden.items()}
        same = all(np.array_equal(x, ours[name].x, equal_nan=True) for name, x in inputs.items())
        answers = ours if same else parity.references(rebuilt.learner.net, inputs, classifies=classifies)
        # Recorded on another machine, maybe: held to the bound for other runtimes.
        return [
            parity.compare_outputs(GOLDEN, name, y, answers[name], exactly=False) for name, (_, y) in golden.items()
        ]


def _check_sample(sample: Any, rebuilt: Rebuilt) -> None:
    """Hold the manifest's golden case against the net. Raises BrokenFileError."""
    ours = rebuilt.answers[manifest.SAMPLE]
    with blaming(layout.MANIFEST, f"must hold the inputs and outputs of the case {manifest.SAMPLE}"):
        if {*sample} != {"x", "y", "tolerance"}:
            raise ValueError(f"it holds {', '.join(sorted(sample))}")
        x, y, tolerance = (np.array(sample[key], np.float32) for key in ("x", "y", "tolerance"))
        if x.shape != ours.x.shape or not np.allclose(x, ours.x, rtol=1e-3):
            raise ValueError("x is not what the lesson's data give")
        answers = parity.references(rebuilt.learner.net, {manifest.SAMPLE: x}, classifies=ours.classifies)
        case = parity.compare_outputs(layout.MANIFEST, manifest.SAMPLE, y, answers[manifest.SAMPLE], exactly=False)
        if not case.passed:
            raise ValueError(f"y is not what the net gives: {case.why}")
        if tolerance.shape != y.shape or not _alike(tolerance, ours.tolerance):
            raise ValueError("the tolerance is not that of float32")


def _alike(found: npt.NDArray[Any], ours: npt.NDArray[Any]) -> bool:
    """Whether what rounding brought on one machine can have brought the other."""
    return bool(np.all((found <= ours * SLACK) & (found >= ours / SLACK)))


def _check_texts(
    described: Manifest, contents: Contents, rebuilt: Rebuilt, own: Contents, measured: Measured
) -> Unchecked:
    """Hold the texts against those that this version writes. Raises BrokenFileError.

    A model file that was withheld when the bundle was written has left its reasons in two of them; no more is known of
    it, and these two cannot be checked.
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
        why = "tells of files that are not there, and was not made anew"
        unchecked = {name: why for name in (REPORT, README) if name in contents}
    for name in (README, SOURCE, PAGE):
        if name in unchecked:
            continue
        if contents.get(name) != wanted.get(name):
            raise BrokenFileError(name, _not_ours(name, contents, wanted))
    return unchecked


def _not_ours(name: str, contents: Contents, wanted: Contents) -> str:
    if name not in contents:
        return "is missing"
    return "is not what this version writes of the net" if name in wanted else "has no net.onnx to go with"


def _check_report(content: bytes, measured: Measured, answers: Answers) -> Parity:
    """The comparisons that parity.json recorded, which another machine may have measured. Raises BrokenFileError."""
    expected = [case for cases in measured.values() for case in cases]
    if content == manifest.to_json(Parity(tuple(expected)).to_dict()):
        return Parity(tuple(expected))
    with blaming(REPORT, "cannot be read"):
        listed = layout.from_json(content)["cases"]
        cases = list(map(Case.from_dict, listed))
        report = Parity(tuple(cases))
        if content != manifest.to_json(report.to_dict()) or len(cases) != len(expected):
            raise ValueError("it is not the report of its cases")
        for found, ours in zip(cases, expected, strict=True):
            if not _is_measured(found, ours, answers):
                raise ValueError(f"{found.file} cannot have given what it says in the case {found.case}")
        return report


def _is_measured(found: Case, ours: Case, answers: Answers) -> bool:
    """Whether another machine can have measured what a case says."""
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
    told = dataclasses.replace(
        ours,
        max_abs=found.max_abs,
        measured=found.measured,
        bound=found.bound,
        why=parity.told(found.measured, found.bound),
    )
    return measured and bool(bounded) and found == told


def _check_run(described: Manifest, contents: Contents, rebuilt: Rebuilt, retrain: bool) -> Unchecked:
    """Hold what the run alone determines, its plot and how many steps it took, against the run trained again.

    Raises BrokenFileError.
    """
    claimed = [RECIPE, *([PLOT] if PLOT in contents else [])]
    if not retrain:
        return dict.fromkeys(claimed, "the run was not trained again, as verify --retrain does")
    trainer = _trained_again(rebuilt)
    if trainer is None:
        return dict.fromkeys(claimed, "the run, trained again on this machine, gives other weights")
    return _check_plot(described, contents[PLOT], rebuilt, trainer) if PLOT in contents else {}


def _check_plot(described: Manifest, content: bytes, rebuilt: Rebuilt, trainer: Trainer) -> Unchecked:
    with tempfile.TemporaryDirectory() as out:
        ours = _made_again(rebuilt, trainer, Path(out)).folder.joinpath(PLOT).read_bytes()
    if content == ours:
        return {}
    if any(described.get(key) != rebuilt.described[key] for key in ("version", "versions")):
        return {PLOT: "other versions drew it, and this one draws another"}
    raise BrokenFileError(PLOT, "is not the plot of the run")


def _trained_again(rebuilt: Rebuilt) -> Trainer | None:
    """The run, trained as long as it was; None if that does not give the weights, bit by bit.

    It may not on another processor.
    """
    trainer = Trainer(rebuilt.trainer.lesson, rebuilt.trainer.recipe).finish()
    net = next(each.net for each in trainer.learners if each.name == rebuilt.learner.name)
    digests = (manifest.weights_digest(each.state_dict()) for each in (net, rebuilt.learner.net))
    return trainer if len({*digests}) == 1 and trainer.step_number == rebuilt.snapshot.step else None


def _made_again(rebuilt: Rebuilt, trainer: Trainer | None, out: Path) -> Bundle:
    """The net's bundle, written anew under `out`: by the run that was trained again, or without a plot."""
    language = rebuilt.described["language"]
    if trainer is None:
        with Draft(rebuilt.trainer, rebuilt.snapshot, out, language) as draft:
            draft.check(rebuilt.learner)
            (made,) = draft.seal(None)
            return made
    made_all = bundle.write(trainer, out, language)
    return next(each for each in made_all if each.manifest["net"] == rebuilt.learner.name)


def publishable(folder: Path) -> tuple[Bundle, dict[str, bytes]]:
    """A bundle checked as by `verify`, its run trained again, and its files as they may be published.

    These are the very bytes that are there, if all of them were checked. Else all are written anew of the verified
    weights, by this version, and without a plot that cannot be drawn again. None if the bundle fails parity.
    """
    described, contents = manifest.read(folder)
    rebuilt, checked = _check(folder, described, contents, retrain=True)
    if not checked.parity.passed:
        return checked, {}
    if not checked.unchecked:
        return checked, {layout.MANIFEST: manifest.to_json(described), **contents}
    with tempfile.TemporaryDirectory() as out:
        made = _made_again(rebuilt, _trained_again(rebuilt), Path(out))
        if not made.parity.passed:
            raise BrokenFileError(
                layout.MANIFEST, f"describes a net that cannot be written anew: {made.parity.summary}"
            )
        return checked, {path.name: path.read_bytes() for path in made.folder.iterdir()}
