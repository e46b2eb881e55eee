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
    """The live net's answers. Raises ExportError for a net whose output is not that of a Linear layer."""
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
                    f"{type(net).__qualname__} must end in a Linear layer, at which parity is measured: let it give"
                    " scores, and leave softmax and the like to the loss"
                )
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
    why = told(measured, bound) if passed else f"{told(measured, bound)}, {_at(distance / bounds, answer.x)}"
    if passed and answer.classifies:
        other = _other_class(y, answer)
        passed = other is None
        if other is not None:
            chosen, wanted = y[other].argmax(), answer.y[other].argmax()
            why = f"chooses class {chosen} where torch chooses {wanted}, at x = {_row(answer.x, other)}"
    return Case(file, name, answer.x.shape, max_abs, measured, bound, passed, why)


def told(measured: float, bound: float) -> str:
    """How a distance from the net in float64 compares with its bound, in words."""
    return f"{MARGIN * measured / bound:.2g} times float32's own error, {MARGIN:g} allowed"


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
