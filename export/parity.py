"""Parity: comparison of each file, read back from disk, with the net in memory, on a range of inputs.

Relative tolerances fail for outputs near zero, and fixed absolute tolerances fail for large inputs. The reference is
therefore the net in float64: the error of another runtime may be at most MARGIN times the rounding error of float32.
That error is estimated as the larger of torch's own distance from float64, over the range of inputs, and float32's
epsilon times the scale |W||h| + |b| of the terms that the last layer sums (N. Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., section 3.1).
Files that torch reads back must give outputs equal bit by bit, since no other arithmetic is involved.
A classifier must also predict the same classes, except where two scores are within float32's rounding error.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from export.cases import FAR, MARGIN, Case, ExportError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Predict = Callable[[Float32], Float32]

BATCHES = (1, 2, 17, 1024)
EPSILON, TINY = float(np.finfo(np.float32).eps), float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Reference:
    """Outputs of the net for `x`: `y` in float32, `exact` in float64; `allowed` is the rounding error of float32.

    `classifies` tells whether the largest output of a row is a predicted class.
    """

    x: Float32
    y: Float32
    exact: Float64
    allowed: Float64
    classifies: bool = False

    @property
    def tolerance(self) -> Float64:
        """Maximum distance of another runtime's outputs from `y`, including the error of `y` itself."""
        return (MARGIN + 1) * np.maximum(self.allowed, TINY)


def inputs(x: Tensor) -> dict[str, Float32]:
    """Inputs (batch, features) of all cases by name, generated from the training inputs `x`.

    "train" is in the range of x and "far" in FAR times that range, for each batch size in BATCHES;
    "special" contains NaN and infinities.
    """
    low, high = x.amin(dim=0).double().numpy(), x.amax(dim=0).double().numpy()
    random = np.random.default_rng(0)  # fixed, so that reports are reproducible
    made = {}
    for name, factor in (("train", 1.0), ("far", FAR)):
        for batch in BATCHES:
            values = random.uniform(low, high, size=(batch, len(low))) * factor
            made[f"{name}_{batch}"] = values.astype(np.float32)
    special = np.array([np.nan, np.inf, -np.inf, 0.0], dtype=np.float32)
    made["special_4"] = np.repeat(special[:, None], len(low), axis=1)
    return made


def references(net: nn.Module, cases: Mapping[str, Float32], *, classifies: bool = False) -> dict[str, Reference]:
    """Compute the reference outputs of the net. Raises ExportError unless its last layer is Linear."""
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
                raise ExportError(
                    f"{type(net).__qualname__} must end in a Linear layer, at which parity is measured: return"
                    " scores, and apply functions such as softmax in the loss"
                )
            outputs[name] = y, exact.numpy(), _scale(*last[:2]).numpy()

    answers = {}
    for name, (y, exact_y, scale) in outputs.items():
        # torch's own error is the maximum over all batches of a range, because a single row may be exact by chance,
        # and is taken for each output separately, because outputs may differ in scale.
        group = [outputs[other] for other in outputs if _range_of(other) == _range_of(name)]
        own = np.max([_distance(y, exact_y).max(axis=0) for y, exact_y, _ in group], axis=0)
        allowed = np.maximum(own, EPSILON * np.where(np.isfinite(scale), scale, 0.0))
        answers[name] = Reference(cases[name], y, exact_y, allowed, classifies)
    return answers


def _scale(layer: nn.Linear, h: Tensor) -> Tensor:
    """Magnitude of the terms that the layer sums for h (N, in_features): |W||h| + |b|."""
    scale = h.abs() @ layer.weight.abs().T
    return scale if layer.bias is None else scale + layer.bias.abs()


def _range_of(name: str) -> str:
    return name.rpartition("_")[0]


def compare(file: str, predict: Predict, answers: Mapping[str, Reference], *, exactly: bool) -> list[Case]:
    """Compare the file's predictions on every case; `exactly` requires equality bit by bit."""
    return [compare_outputs(file, name, predict(answer.x), answer, exactly=exactly) for name, answer in answers.items()]


def compare_outputs(file: str, name: str, y: Float32, answer: Reference, *, exactly: bool) -> Case:
    """Compare the file's outputs `y` in the case `name` with those of the net."""

    def refused(why: str) -> Case:
        return Case(file, name, answer.x.shape, None, None, None, False, why)

    if y.shape != answer.y.shape or y.dtype != answer.y.dtype:
        got, want = (f"{array.dtype} {array.shape}" for array in (y, answer.y))
        return refused(f"returns {got} where torch returns {want}")
    if not np.array_equal(_kinds(y), _kinds(answer.y)):
        row = int(np.argwhere(_kinds(y) != _kinds(answer.y))[0][0])
        return refused(f"NaN or infinity in different places, first at x = {_row(answer.x, row)}")
    difference = _distance(y, answer.y)
    max_abs = float(difference.max(initial=0.0))
    if exactly:
        why = f"differs by {max_abs:.3g}, {_at(difference, answer.x)}" if max_abs else "equal to the last bit"
        return Case(file, name, answer.x.shape, max_abs, max_abs, 0.0, not max_abs, why)

    distance, bounds = _distance(y, answer.exact), MARGIN * np.maximum(answer.allowed, TINY)
    worst = np.unravel_index((distance / bounds).argmax(), distance.shape)
    measured, bound = float(distance[worst]), float(bounds[worst])
    passed = measured <= bound
    ratio = error_ratio(measured, bound)
    why = ratio if passed else f"{ratio}, {_at(distance / bounds, answer.x)}"
    if passed and answer.classifies:
        wrong = _misclassified_row(y, answer)
        passed = wrong is None
        if wrong is not None:
            chosen, wanted = y[wrong].argmax(), answer.y[wrong].argmax()
            why = f"chooses class {chosen} where torch chooses {wanted}, at x = {_row(answer.x, wrong)}"
    return Case(file, name, answer.x.shape, max_abs, measured, bound, passed, why)


def error_ratio(measured: float, bound: float) -> str:
    """Message with the distance from the net in float64 as a multiple of float32's rounding error."""
    return f"{MARGIN * measured / bound:.2g} times float32's own error, {MARGIN:g} allowed"


def _misclassified_row(y: Float32, answer: Reference) -> int | None:
    """First row with another class than the net's, beyond float32's rounding error of the scores, or None."""
    rows = np.arange(len(y))
    ours, theirs = answer.y.argmax(axis=1), y.argmax(axis=1)
    # In rows with NaN or infinity the largest score is at the same index, which `_kinds` has checked.
    gap = np.abs(answer.exact[rows, ours] - answer.exact[rows, theirs])
    distinct = gap > answer.allowed[rows, ours] + answer.allowed[rows, theirs]
    wrong = np.flatnonzero((ours != theirs) & distinct)
    return int(wrong[0]) if len(wrong) else None


def _kinds(y: Float32) -> npt.NDArray[np.int8]:
    """0 for finite numbers, 1 for NaN, 2 for infinity, 3 for -infinity."""
    kinds: npt.NDArray[np.int8] = np.select([np.isnan(y), y == np.inf, y == -np.inf], [1, 2, 3]).astype(np.int8)
    return kinds


def _distance(a: Float32, b: Float32 | Float64) -> Float64:
    """|a - b| in float64; 0 where either is not finite, which `_kinds` compares."""
    finite = np.isfinite(a) & np.isfinite(b)
    with np.errstate(invalid="ignore"):  # some processors also subtract masked elements, and warn
        return np.abs(np.subtract(a, b, out=np.zeros(a.shape), where=finite, dtype=np.float64))


def _at(differences: Float64, x: Float32) -> str:
    row = int(np.unravel_index(differences.argmax(), differences.shape)[0])
    return f"worst at x = {_row(x, row)}"


def _row(x: Float32, row: int) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in x[row].ravel()) + ")"
