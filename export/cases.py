"""What comparisons of a bundle's files came to, and the errors that a file or a net can end in.

Imports no torch: the command line uses it in the process that no file from elsewhere is opened in.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any

from charts.text import Text, Words, said, visible

MARGIN = 16.0  # over 50 seeds of each lesson the largest ratio is 4.5; soon after batch norm's start it was 8.4
FAR = 1000.0  # times the training range
RULE = (
    "Weights equal to the last bit. Pickles and safetensors: outputs equal to the last bit. ONNX: each output at most"
    f" {MARGIN:g} times as far from the net in float64 as float32 has to be. That is torch's own largest distance over"
    " the range of inputs, or float32's epsilon times the scale |W||h| + |b| of the terms that the last layer adds up,"
    " whichever is larger. NaN and infinities in the same places; the same classes from a classifier, but where"
    " float32's own error leaves them open."
)
MOST_TOLD = 300  # letters of a reason

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
    """A file that does not hold what its name promises; `file` is its name, the message says why."""

    def __init__(self, file: str, why: str) -> None:
        # Parsers quote what they stumble over: it may not take up a page, nor pass for a sentence of ours.
        self.file, self.why = file, why if len(why) <= MOST_TOLD else f"{why[:MOST_TOLD]} …"
        super().__init__(visible(f"{file} {self.why}"))

    def __reduce__(self) -> tuple[type["BrokenFileError"], tuple[str, str]]:
        return type(self), (self.file, self.why)  # or it could not leave the process that read the file


class ExportError(RuntimeError):
    """A net that cannot be written faithfully; the message says which and why, `told` in both languages."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.told = Text("The net cannot be written as an ONNX file: {why}.", "网络无法写成 ONNX 文件：{why}。").format(
            why=why
        )


class ForeignFolderError(ValueError):
    """A file in the place of a bundle that is no part of one, and so is not replaced."""


class NonFiniteError(ValueError):
    """A net with weights or metrics that are not finite numbers."""

    def __init__(self, told: Words) -> None:
        super().__init__(said(told, "en"))
        self.told = told


_told: ContextVar[Callable[[str], None]] = ContextVar("_told", default=lambda file: None)


@contextmanager
def telling(tell: Callable[[str], None]) -> Iterator[None]:
    """Within, `tell` is called with the name of each file that is about to be parsed: it may end the process."""
    token = _told.set(tell)
    try:
        yield
    finally:
        _told.reset(token)


@contextmanager
def blaming(file: str, what: str) -> Iterator[None]:
    """Whatever is raised within becomes a BrokenFileError of that file.

    A file from elsewhere can make a parser, torch or onnxruntime trip in any way; it is the file that is wrong.
    """
    _told.get()(file)
    try:
        yield
    except (BrokenFileError, NonFiniteError):
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BrokenFileError(file, f"{what}: {reason}") from error


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

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Case":
        """The case that `asdict` made JSON of."""
        return cls(**{**values, "shape": tuple(values["shape"])})

    @property
    def share(self) -> float:
        """How much of its bound the case takes up; 0 if there is nothing to measure."""
        return self.measured / self.bound if self.measured and self.bound else 0.0


def grouped(unchecked: Mapping[str, str]) -> str:
    """The files that could not be checked, by the reason, in a line."""
    reasons: dict[str, list[str]] = {}
    for name, why in sorted(unchecked.items()):
        reasons.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())


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
        return self.summary_text.en

    @property
    def summary_text(self) -> Text:
        """`summary` in both languages; the reason for a failure is in English."""
        files = len({case.file for case in self.cases})
        if self.passed:
            return _AGREE.format(files=files, cases=len(self.cases))
        reasons = {case.file: case for case in reversed(self.cases) if not case.passed}
        failed = "; ".join(f"{name} ({case.case}: {case.why})" for name, case in reasons.items())
        return _DISAGREE.format(failed=len(reasons), files=files, reasons=failed)

    @property
    def differences(self) -> str:
        """The largest differences that were measured, in a line."""
        return self.differences_text.en

    @property
    def differences_text(self) -> Text:
        """`differences` in both languages."""
        return _LARGEST.format(train=self.worst("train"), far=self.worst("far"), times=f"{FAR:g}")

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
