"""Does a file compute what the live net computes? Each file, read back from disk, on a range of inputs.

Outputs near zero make relative tolerances useless, and large inputs break any fixed absolute one. So the
measure is the net itself, run in float64: another runtime may round differently, but it has to stay within
MARGIN times the rounding error that float32 brings anyway. That error is taken as the larger of torch's own
distance from float64, over the range of inputs, and float32's epsilon times the scale |W||h| + |b| of the terms that
the last layer adds up (N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1).
A pickle read back by the same torch has nothing to round: its outputs must be equal, bit by bit.
A classifier must also choose the classes that the net chooses, but where float32's own error leaves that open.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Predict = Callable[[Float32], Float32]

MARGIN = 16.0  # over 50 seeds of each lesson the largest ratio is 4.5; soon after batch norm's start it was 8.4
BATCHES = (1, 2, 17, 1024)
FAR = 1000.0  # times the training range
EPSILON, TINY = float(np.finfo(np.float32).eps), float(np.finfo(np.float32).tiny)
RULE = (
    "Weights equal to the last bit. Pickles and safetensors: outputs equal to the last bit. ONNX: each output at most"
    f" {MARGIN:g} times as far from the net in float64 as float32 has to be. That is torch's own largest distance over"
    " the range of inputs, or float32's epsilon times the scale |W||h| + |b| of the terms that the last layer adds up,"
    " whichever is larger. NaN and infinities in the same places; the same classes from a classifier, but where"
    " float32's own error leaves them open."
)


@dataclass(frozen=True)
class Case:
    """One file on one batch of inputs.

    `max_abs` is the largest difference from the live net's outputs. At the output that is worst by its own bound,
    `measured` is the distance from what must be met, and `bound` is how large it may be: the distance from the net
    in float64 for ONNX, that from the net itself, and 0, for the other files. All three are None where outputs cannot
    be subtracted, and for the cases that compare no outputs: "tensors", the weights in the file, byte for byte;
    "mode", whether a whole model was saved in eval mode; "metadata", what an ONNX file says of itself.
    `why` is the reason for the verdict, in words.
    """

    file: str
    case: str
    shape: tuple[int, ...]
    max_abs: float | None
    measured: float | None
    bound: float | None
    passed: bool
    why: str

    @classmethod
    def of_words(cls, file: str, case: str, wrong: str, right: str = "") -> "Case":
        """A case that compares no outputs: `wrong` says what is wrong with it, and if that is empty, `right` holds."""
        return cls(file, case, (), None, None, None, not wrong, wrong or right)

    @property
    def share(self) -> float:
        """How much of its bound the case takes up; 0 if there is nothing to measure."""
        return self.measured / self.bound if self.measured and self.bound else 0.0


@dataclass(frozen=True)
class Parity:
    """The comparisons of a net's files."""

    cases: tuple[Case, ...]

    @property
    def passed(self) -> bool:
        """Whether every comparison of every file passed."""
        return all(case.passed for case in self.cases)

    @property
    def failed_files(self) -> list[str]:
        """The files with a comparison that did not pass."""
        return list(dict.fromkeys(case.file for case in self.cases if not case.passed))

    @property
    def summary(self) -> str:
        """One line for people."""
        files = len({case.file for case in self.cases})
        if self.passed:
            return f"All {files} files, read back from disk, agree with the net in all {len(self.cases)} comparisons."
        reasons = {case.file: case for case in reversed(self.cases) if not case.passed}
        failed = "; ".join(f"{name} ({case.case}: {case.why})" for name, case in reasons.items())
        return f"{len(reasons)} of {files} files do not agree with the net: {failed}."

    @property
    def differences(self) -> str:
        """The largest differences that were measured, in a line."""
        return (
            f"The largest difference is {self.worst('train')} on inputs like those of the training,"
            f" {self.worst('far')} on inputs {FAR:g} times as large."
        )

    def worst(self, group: str) -> str:
        """The largest difference in the cases of a group: "train" or "far"."""
        worst = max((case.max_abs or 0.0 for case in self.cases if case.case.startswith(group)), default=0.0)
        return f"{worst:.1e}" if worst else "0"

    def to_dict(self) -> dict[str, Any]:
        """The report for parity.json."""
        return {
            "passed": self.passed,
            "summary": self.summary,
            "rule": RULE,
            "cases": [asdict(case) for case in self.cases],
        }


@dataclass(frozen=True)
class Reference:
    """What the live net says to `x`: `y` in float32, `exact` in float64, `allowed` the error of float32.

    `classifies` tells whether the largest output of a row is an answer by itself.
    """

    x: Float32
    y: Float32
    exact: Float64
    allowed: Float64
    classifies: bool = False

    @property
    def tolerance(self) -> Float64:
        """How far another runtime's outputs may be from `y`, which itself is not exact."""
        return (MARGIN + 1) * np.maximum(self.allowed, TINY)


def inputs(x: Tensor) -> dict[str, Float32]:
    """The cases to compare: by name, inputs (batch, features) made from the training inputs `x`.

    "train" lies in the range of x, "far" in FAR times that range, each in every batch of BATCHES;
    "special" holds NaN and the infinities.
    """
    low, high = x.amin(dim=0).double().numpy(), x.amax(dim=0).double().numpy()
    random = np.random.default_rng(0)  # fixed: the same net gives the same report
    made = {}
    for name, factor in (("train", 1.0), ("far", FAR)):
        for batch in BATCHES:
            values = random.uniform(low, high, size=(batch, len(low))) * factor
            made[f"{name}_{batch}"] = values.astype(np.float32)
    special = np.array([np.nan, np.inf, -np.inf, 0.0], dtype=np.float32)
    made["special_4"] = np.repeat(special[:, None], len(low), axis=1)
    return made


def references(net: nn.Module, cases: Mapping[str, Float32], *, classifies: bool = False) -> dict[str, Reference]:
    """The live net's answers. Raises TypeError for a net whose output is not that of a Linear layer."""
    exact_net = copy.deepcopy(net).double().eval()
    net = copy.deepcopy(net).eval()
    last: tuple[nn.Linear, Tensor, Tensor] | None = None

    def remember(layer: nn.Linear, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal last
        last = layer, args[0], output

    for module in exact_net.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(remember)

    outputs: dict[str, tuple[Float32, Float64, Float64]] = {}
    with torch.no_grad():
        for name, x in cases.items():
            y = net(torch.from_numpy(x)).numpy()
            exact = exact_net(torch.from_numpy(x).double())
            if last is None or last[2] is not exact:
                raise TypeError(f"parity is measured at a last Linear layer, and {type(net).__name__} has none")
            outputs[name] = y, exact.numpy(), _scale(*last[:2]).numpy()

    answers = {}
    for name, (y, exact_y, scale) in outputs.items():
        # torch's own error is taken over all batches of a range, since a single row may be right by luck,
        # and output by output, since one of small numbers must not borrow from one of large.
        group = [outputs[other] for other in outputs if _range_of(other) == _range_of(name)]
        own = np.max([_distance(y, exact_y).max(axis=0) for y, exact_y, _ in group], axis=0)
        allowed = np.maximum(own, EPSILON * np.where(np.isfinite(scale), scale, 0.0))
        answers[name] = Reference(cases[name], y, exact_y, allowed, classifies)
    return answers


def _scale(layer: nn.Linear, h: Tensor) -> Tensor:
    """The magnitude of the terms that the layer adds up for h (N, in_features): |W||h| + |b|."""
    scale = h.abs() @ layer.weight.abs().T
    return scale if layer.bias is None else scale + layer.bias.abs()


def _range_of(name: str) -> str:
    return name.rpartition("_")[0]


def compare(file: str, predict: Predict, answers: Mapping[str, Reference], *, exactly: bool) -> list[Case]:
    """The file's `predict` on every case; `exactly` asks for the live net's very bits."""
    return [compare_outputs(file, name, predict(answer.x), answer, exactly=exactly) for name, answer in answers.items()]


def compare_outputs(file: str, name: str, y: Float32, answer: Reference, *, exactly: bool) -> Case:
    """The file's outputs `y` in the case of that name, against the live net's answer."""

    def refused(why: str) -> Case:
        return Case(file, name, answer.x.shape, None, None, None, False, why)

    if y.shape != answer.y.shape or y.dtype != answer.y.dtype:
        got, want = (f"{array.dtype} {array.shape}" for array in (y, answer.y))
        return refused(f"gives {got} where torch gives {want}")
    if not np.array_equal(_kinds(y), _kinds(answer.y)):
        row = int(np.argwhere(_kinds(y) != _kinds(answer.y))[0][0])
        return refused(f"NaN or infinity in other places, first at x = {_row(answer.x, row)}")
    difference = _distance(y, answer.y)
    max_abs = float(difference.max(initial=0.0))
    if exactly:
        why = f"differs by {max_abs:.3g}, {_at(difference, answer.x)}" if max_abs else "equal to the last bit"
        return Case(file, name, answer.x.shape, max_abs, max_abs, 0.0, not max_abs, why)

    distance, bounds = _distance(y, answer.exact), MARGIN * np.maximum(answer.allowed, TINY)
    worst = np.unravel_index((distance / bounds).argmax(), distance.shape)
    measured, bound = float(distance[worst]), float(bounds[worst])
    passed = measured <= bound
    times = f"{MARGIN * measured / bound:.2g} times float32's own error, {MARGIN:g} allowed"
    why = times if passed else f"{times}, {_at(distance / bounds, answer.x)}"
    if passed and answer.classifies:
        other = _other_class(y, answer)
        passed = other is None
        if other is not None:
            chosen, wanted = y[other].argmax(), answer.y[other].argmax()
            why = f"chooses class {chosen} where torch chooses {wanted}, at x = {_row(answer.x, other)}"
    return Case(file, name, answer.x.shape, max_abs, measured, bound, passed, why)


def _other_class(y: Float32, answer: Reference) -> int | None:
    """The first row whose class is another than the live net's, though float32 can tell the two apart."""
    rows = np.arange(len(y))
    ours, theirs = answer.y.argmax(axis=1), y.argmax(axis=1)
    # A row with NaN or infinities has its largest in the same place: `_kinds` has seen to that.
    gap = np.abs(answer.exact[rows, ours] - answer.exact[rows, theirs])
    sure = gap > answer.allowed[rows, ours] + answer.allowed[rows, theirs]
    wrong = np.flatnonzero((ours != theirs) & sure)
    return int(wrong[0]) if len(wrong) else None


def _kinds(y: Float32) -> npt.NDArray[np.int8]:
    """0 for a finite number, and for NaN and either infinity a number of its own."""
    kinds: npt.NDArray[np.int8] = np.select([np.isnan(y), y == np.inf, y == -np.inf], [1, 2, 3]).astype(np.int8)
    return kinds


def _distance(a: Float32, b: Float32 | Float64) -> Float64:
    """|a - b| in float64, 0 where either is not finite: `_kinds` compares those."""
    finite = np.isfinite(a) & np.isfinite(b)
    with np.errstate(invalid="ignore"):  # some processors subtract the others too, and say so
        return np.abs(np.subtract(a, b, out=np.zeros(a.shape), where=finite, dtype=np.float64))


def _at(differences: Float64, x: Float32) -> str:
    row = int(np.unravel_index(differences.argmax(), differences.shape)[0])
    return f"worst at x = {_row(x, row)}"


def _row(x: Float32, row: int) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in x[row].ravel()) + ")"
