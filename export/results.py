"""Results of a command by bundle: exit code, JSON, and text for the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from rich.table import Column

from export import terminal
from export.cases import BrokenFileError, Case, NonFiniteError, Parity, grouped
from export.publish import Publication

MAX_CELL_LENGTH = 200  # characters of a text from a file, in a table


class Exit(IntEnum):
    """Exit codes. HUB: a request to the Hub failed."""

    OK = 0
    USAGE = 1
    PARITY = 2
    BROKEN = 3
    NON_FINITE = 4
    HUB = 5


@dataclass(frozen=True)
class Checked:
    """Metrics of a bundle, the comparison of its files with the net, and unchecked files with the reasons."""

    metrics: Mapping[str, float]
    parity: Parity
    unchecked: Mapping[str, str]

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Checked":
        """Create from the result of `export.child`."""
        return cls(found["metrics"], Parity(tuple(map(Case.from_dict, found["cases"]))), found["unchecked"])


@dataclass(frozen=True)
class Inspected:
    """Summary of an ONNX file, the result of the test in its metadata if any, and the manifest of its bundle if any."""

    onnx: Mapping[str, Any]
    test: Case | None
    manifest: Mapping[str, Any] | None

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Inspected":
        """Create from the result of `export.child`."""
        return cls(found["onnx"], found["test"] and Case.from_dict(found["test"]), found["manifest"])


Found = Checked | Publication | Inspected | BrokenFileError | NonFiniteError


@dataclass(frozen=True)
class Result:
    """Result for one bundle or file: its contents, its upload, or an error."""

    folder: Path
    found: Found

    @property
    def exit(self) -> Exit:
        """Exit code of this result alone."""
        match self.found:
            case Checked():
                return Exit.OK if self.found.parity.passed else Exit.PARITY
            case Inspected(test=Case(passed=False)):
                return Exit.PARITY
            case Publication() | Inspected():
                return Exit.OK
            case BrokenFileError():
                return Exit.BROKEN
            case NonFiniteError():
                return Exit.NON_FINITE

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-serializable data."""
        report: dict[str, Any] = {"folder": str(self.folder), "exit": int(self.exit)}
        match self.found:
            case Checked(metrics=metrics, parity=parity, unchecked=unchecked):
                return {**report, "metrics": dict(metrics), "parity": parity.to_dict(), "unchecked": dict(unchecked)}
            case Publication():
                return {**report, **self.found.to_dict()}
            case Inspected(onnx=onnx, test=test, manifest=described):
                return {**report, "onnx": onnx, "test": test and asdict(test), "manifest": described}
            case error:
                return {**report, "error": str(error)}


def worst(results: Sequence[Result]) -> Exit:
    """Exit code of several results: the most severe one."""
    order = (Exit.BROKEN, Exit.NON_FINITE, Exit.PARITY, Exit.OK)
    return min((result.exit for result in results), key=order.index)


def print_all(results: Sequence[Result]) -> None:
    """Print each result with all details."""
    for result in results:
        _print(result)


def print_overview(results: Sequence[Result]) -> None:
    """Print one row per verified bundle, and the reasons for failures."""
    columns = (Column("bundle", overflow="fold"), "comparisons", "max |difference|", "far", "of the bound", "verdict")
    rows = []
    for result in results:
        if isinstance(result.found, Checked):
            parity = result.found.parity
            share = max(case.share for case in parity.cases)
            cells = (str(len(parity.cases)), parity.worst("train"), parity.worst("far"), f"{share:.0%}")
            verdict = "all agree with the net" if parity.passed else f"FAILED: {', '.join(parity.failed_files)}"
        else:
            cells, verdict = ("-",) * 4, "NOT VERIFIED"
        rows.append((str(result.folder), *cells, verdict))
    terminal.table(columns, rows)
    wrong = [result for result in results if result.exit is not Exit.OK]
    for result in wrong:
        terminal.line(f"{result.folder}: {_message(result.found)}", style="red")
    terminal.line(f"{len(results) - len(wrong)} of {len(results)} bundles agree with their nets.")
    reasons: dict[str, list[Result]] = {}
    for result in results:
        if isinstance(result.found, Checked) and result.found.unchecked:
            reasons.setdefault(grouped(result.found.unchecked), []).append(result)
    for reason, bundles in reasons.items():
        terminal.line(f"Not checked in {len(bundles)} of them: {reason}.")


def _message(found: Found) -> str:
    return found.parity.summary if isinstance(found, Checked) else str(found)


def _print(result: Result) -> None:
    terminal.line(str(result.folder), style="bold green" if result.exit is Exit.OK else "bold red")
    match result.found:
        case Publication():
            for indent, text in result.found.report():
                terminal.line(text, indent=2 + indent)
        case Checked(parity=parity, unchecked=unchecked):
            _print_cases(parity.cases)
            terminal.line(parity.summary, indent=2)
            terminal.line(parity.differences, indent=2)
            if unchecked:
                terminal.line(f"Not checked: {grouped(unchecked)}.", indent=2)
        case Inspected():
            _print_inspected(result.found)
        case error:
            terminal.line(str(error), indent=2)


def _print_cases(cases: Sequence[Case]) -> None:
    rows = []
    for case in cases:
        numbers = ("-" if each is None else f"{each:.2e}" for each in (case.max_abs, case.measured, case.bound))
        verdict = f"{'ok' if case.passed else 'FAILED'}: {case.why}"
        rows.append((case.file, case.case, _sizes(case.shape), *numbers, verdict))
    terminal.table(("file", "case", "inputs", "max |difference|", "measured", "bound", "verdict"), rows)


def _print_inspected(found: Inspected) -> None:
    onnx = found.onnx
    if found.manifest:
        entries = found.manifest["files"].items()
        terminal.table(
            ("file", "bytes", "sha256"), [(name, str(each["size"]), each["sha256"]) for name, each in entries]
        )
    signature = [
        f"{tensor['name']} {tensor['dtype']} {_sizes(tensor['shape'])}"
        for tensor in (*onnx["inputs"], *onnx["outputs"])
    ]
    terminal.line(
        f"{onnx['size']} bytes, opset {onnx['opset']}, IR version {onnx['ir_version']};"
        f" {_short(', '.join(signature))}; {onnx['parameters']} parameters",
        indent=2,
    )
    rows = []
    for each in onnx["operators"]:
        weights = _short(", ".join(f"{name} {_sizes(shape)}" for name, shape in each["weights"].items()))
        rows.append((each["operator"], weights or "-", str(each["parameters"] or "-"), _sizes(each["shape"])))
    terminal.table(("operator", "weights", "parameters", "output"), rows)
    if onnx["metadata"]:
        entries = [(_short(key), _short(value)) for key, value in onnx["metadata"].items()]
        terminal.table(("metadata", ""), entries)
    if found.test is None:
        terminal.line("The file contains no test sample.", indent=2)
    else:
        test = found.test
        verdict = "ok" if test.passed else "FAILED"
        measured = "" if test.measured is None else f", {test.measured:.2e} measured, {test.bound:.2e} allowed"
        terminal.line(f"Test sample: {verdict}{measured}; {test.why}.", indent=2)


def _short(text: str) -> str:
    return text if len(text) <= MAX_CELL_LENGTH else f"{text[:MAX_CELL_LENGTH]} …"


def _sizes(shape: Sequence[int | str]) -> str:
    return _short("×".join(map(str, shape)) or "-")
