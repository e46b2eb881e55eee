"""Results of comparing a bundle's files with its net, and the errors of files and nets.

Must not import torch: the command line uses it in the process that opens no untrusted files.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any

from charts.text import Text, Words, said, visible

MARGIN = 16.0  # the largest ratio over 50 seeds of each lesson is 4.5; 8.4 in the first steps of batch norm
FAR = 1000.0  # scale of the "far" inputs, relative to the training range
RULE = (
    "Weights equal to the last bit. Pickles and safetensors: outputs equal to the last bit. ONNX: each output at most"
    f" {MARGIN:g} times as far from the net in float64 as float32 has to be. That is torch's own largest distance over"
    " the range of inputs, or float32's epsilon times the scale |W||h| + |b| of the terms that the last layer adds up,"
    " whichever is larger. NaN and infinities in the same places; the same classes from a classifier, but where"
    " float32's own error leaves them open."
)
MAX_REASON_LENGTH = 300  # characters

_AGREE = Text(
    "All {files} files, read back from disk, agree with the net in all {cases} comparisons.",
    "{files} 个文件从磁盘读回后，与网络的 {cases} 项比较全部一致。",
)
_DISAGREE = Text(
    "{failed} of {files} files do not agree with the net: {reasons}.",
    "{files} 个文件中有 {failed} 个与网络不一致：{reasons}。",
)
_LARGEST = Text(
    "The largest difference is {train} on inputs like those of the training, {far} on inputs {times} times as large.",
    "与训练数据同范围的输入上，最大差别是 {train}；放大 {times} 倍的输入上，最大差别是 {far}。",
)


class BrokenFileError(ValueError):
    """Missing, altered or invalid file. The message is `file`, its name, followed by the reason `why`."""

    def __init__(self, file: str, why: str) -> None:
        # Parser messages quote the file: limit their length, and escape control characters, which could forge output.
        self.file, self.why = file, why if len(why) <= MAX_REASON_LENGTH else f"{why[:MAX_REASON_LENGTH]} …"
        super().__init__(visible(f"{file} {self.why}"))

    def __reduce__(self) -> tuple[type["BrokenFileError"], tuple[str, str]]:
        return type(self), (self.file, self.why)  # needed to unpickle it in another process


class ExportError(RuntimeError):
    """Net that cannot be exported. The message gives the reason, `told` is the message in both languages."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.told = Text("The net cannot be written as an ONNX file: {why}.", "网络无法写成 ONNX 文件：{why}。").format(
            why=why
        )


class ForeignFolderError(ValueError):
    """File that does not belong to a bundle, in a folder that a bundle would replace."""


class NonFiniteError(ValueError):
    """Net with NaN or infinite weights or metrics; `told` is the message in both languages."""

    def __init__(self, told: Words) -> None:
        super().__init__(said(told, "en"))
        self.told = told


_parse_hook: ContextVar[Callable[[str], None]] = ContextVar("_parse_hook", default=lambda file: None)


@contextmanager
def parse_hook(hook: Callable[[str], None]) -> Iterator[None]:
    """Context in which `hook` is called with the name of each file before it is parsed, which may end the process."""
    token = _parse_hook.set(hook)
    try:
        yield
    finally:
        _parse_hook.reset(token)


@contextmanager
def wrap_errors(file: str, what: str) -> Iterator[None]:
    """Context in which any exception is reraised as a BrokenFileError of `file`, with `what` before its message.

    An untrusted file can cause any kind of exception in a parser, torch or onnxruntime.
    """
    _parse_hook.get()(file)
    try:
        yield
    except (BrokenFileError, NonFiniteError):
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BrokenFileError(file, f"{what}: {reason}") from error


@dataclass(frozen=True)
class Case:
    """Comparison of one file with the net on one batch of inputs.

    `max_abs` is the largest absolute difference from the net's outputs. `measured` and `bound` are the error and its
    limit at the output with the largest ratio of the two: for ONNX the distance from the net in float64, for other
    files the distance from the net itself, with limit 0. All three are None if outputs cannot be subtracted, and
    for the cases that compare no outputs: "tensors", the weights in the file, byte for byte; "mode", whether a whole
    model was saved in eval mode; "metadata", the metadata_props of an ONNX file.
    `why` is the reason for the verdict.
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
    def from_check(cls, file: str, case: str, wrong: str, right: str = "") -> "Case":
        """Case that compares no outputs. It fails with the reason `wrong`, or passes with `right` if that is empty."""
        return cls(file, case, (), None, None, None, not wrong, wrong or right)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Case":
        """Create a case from its JSON, as `asdict` returns it."""
        return cls(**{**values, "shape": tuple(values["shape"])})

    @property
    def share(self) -> float:
        """Ratio of `measured` to `bound`; 0 if either is 0 or None."""
        return self.measured / self.bound if self.measured and self.bound else 0.0


def grouped(unchecked: Mapping[str, str]) -> str:
    """One line with the unchecked files, grouped by reason."""
    reasons: dict[str, list[str]] = {}
    for name, why in sorted(unchecked.items()):
        reasons.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())


@dataclass(frozen=True)
class Parity:
    """All comparisons of a net's files."""

    cases: tuple[Case, ...]

    @property
    def passed(self) -> bool:
        """Whether every comparison of every file passed."""
        return all(case.passed for case in self.cases)

    @property
    def failed_files(self) -> list[str]:
        """Names of the files with a failed comparison."""
        return list(dict.fromkeys(case.file for case in self.cases if not case.passed))

    @property
    def summary(self) -> str:
        """Verdict in one line."""
        return self.summary_text.en

    @property
    def summary_text(self) -> Text:
        """`summary` in both languages; reasons of failures are in English."""
        files = len({case.file for case in self.cases})
        if self.passed:
            return _AGREE.format(files=files, cases=len(self.cases))
        reasons = {case.file: case for case in reversed(self.cases) if not case.passed}
        failed = "; ".join(f"{name} ({case.case}: {case.why})" for name, case in reasons.items())
        return _DISAGREE.format(failed=len(reasons), files=files, reasons=failed)

    @property
    def differences(self) -> str:
        """Largest differences in one line."""
        return self.differences_text.en

    @property
    def differences_text(self) -> Text:
        """`differences` in both languages."""
        return _LARGEST.format(train=self.worst("train"), far=self.worst("far"), times=f"{FAR:g}")

    def worst(self, group: str) -> str:
        """Largest difference in the cases of a group, "train" or "far", as a string."""
        worst = max((case.max_abs or 0.0 for case in self.cases if case.case.startswith(group)), default=0.0)
        return f"{worst:.1e}" if worst else "0"

    def to_dict(self) -> dict[str, Any]:
        """Content of parity.json."""
        return {
            "passed": self.passed,
            "summary": self.summary,
            "rule": RULE,
            "cases": [asdict(case) for case in self.cases],
        }
