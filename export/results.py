"""What became of a command, bundle by bundle: its exit code, as JSON, and in words and tables for people."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from export.bundle import Bundle, NonFiniteError
from export.formats import BrokenFileError
from export.inspection import Inspection
from export.parity import Case
from export.publish import Publication


class Exit(IntEnum):
    """How the command ends. HUB: the Hub, or the way to it, did not do what `publish` asked."""

    OK = 0
    USAGE = 1
    PARITY = 2
    BROKEN = 3
    NON_FINITE = 4
    HUB = 5


Found = Bundle | Publication | Inspection | BrokenFileError | NonFiniteError


@dataclass(frozen=True)
class Result:
    """What became of one bundle or file: itself, what is published of it, or the error that it ended in."""

    folder: Path
    found: Found

    @property
    def exit(self) -> Exit:
        """The exit code, if this were all."""
        match self.found:
            case Bundle():
                return Exit.OK if self.found.parity.passed else Exit.PARITY
            case Inspection(test=Case(passed=False)):
                return Exit.PARITY
            case Publication() | Inspection():
                return Exit.OK
            case BrokenFileError():
                return Exit.BROKEN
            case NonFiniteError():
                return Exit.NON_FINITE

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        report: dict[str, Any] = {"folder": str(self.folder), "exit": int(self.exit)}
        match self.found:
            case Bundle(manifest=described, parity=parity):
                return {**report, "metrics": described["metrics"], "parity": parity.to_dict()}
            case Publication():
                return {**report, **self.found.to_dict()}
            case Inspection(summary=summary, test=test, manifest=described):
                return {**report, "onnx": summary.to_dict(), "test": test and asdict(test), "manifest": described}
            case error:
                return {**report, "error": str(error)}


def worst(results: Sequence[Result]) -> Exit:
    """The exit code for all: what most needs a person first."""
    order = (Exit.BROKEN, Exit.NON_FINITE, Exit.PARITY, Exit.OK)
    return min((result.exit for result in results), key=order.index)


def print_all(results: Sequence[Result], console: Console) -> None:
    """Each result in full."""
    for result in results:
        _print(result, console)


def print_overview(results: Sequence[Result], console: Console) -> None:
    """Several bundles that were verified: a row each, and in full only what is wrong with them."""
    table = Table(
        Column("bundle", overflow="fold"), "comparisons", "max |difference|", "far", "of the bound", "verdict"
    )
    for result in results:
        if isinstance(result.found, Bundle):
            parity = result.found.parity
            share = max(case.share for case in parity.cases)
            cells = (str(len(parity.cases)), parity.worst("train"), parity.worst("far"), f"{share:.0%}")
            verdict = "all agree with the net" if parity.passed else f"FAILED: {', '.join(parity.failed_files)}"
        else:
            cells, verdict = ("-",) * 4, "NOT VERIFIED"
        table.add_row(*map(Text, (str(result.folder), *cells, verdict)))
    console.print(table)
    wrong = [result for result in results if result.exit is not Exit.OK]
    for result in wrong:
        console.print(Text(f"{result.folder}: {_told(result.found)}"), style="red")
    console.print(f"{len(results) - len(wrong)} of {len(results)} bundles agree with their nets.")


def _told(found: Found) -> str:
    return found.parity.summary if isinstance(found, Bundle) else str(found)


def _print(result: Result, console: Console) -> None:
    console.print(str(result.folder), style="bold green" if result.exit is Exit.OK else "bold red")
    match result.found:
        case Publication():
            console.print(Text(result.found.report()), soft_wrap=True)  # hashes and metadata as they are
        case Bundle(parity=parity):
            console.print(_cases(parity.cases))
            console.print(f"  {parity.summary}\n  {parity.differences}")
        case Inspection():
            _print_inspection(result.found, console)
        case error:
            console.print(f"  {error}")


def _cases(cases: Sequence[Case]) -> Table:
    table = Table("file", "case", "inputs", "max |difference|", "measured", "bound", "verdict")
    for case in cases:
        numbers = ("-" if each is None else f"{each:.2e}" for each in (case.max_abs, case.measured, case.bound))
        verdict = f"{'ok' if case.passed else 'FAILED'}: {case.why}"
        table.add_row(*map(Text, (case.file, case.case, _sizes(case.shape), *numbers, verdict)))
    return table


def _print_inspection(found: Inspection, console: Console) -> None:
    summary = found.summary
    if found.manifest:
        table = Table("file", "bytes", "sha256")
        for name, entry in found.manifest["files"].items():
            table.add_row(*map(Text, (name, str(entry["size"]), entry["sha256"])))
        console.print(table)
        console.print("  Every file has the size and the hash that manifest.json lists.")
    ports = [f"{_shown(port.name)}: {port.dtype} {_sizes(port.shape)}" for port in (*summary.inputs, *summary.outputs)]
    console.print(
        f"  ONNX, {summary.size} bytes, opset {summary.opset}, IR version {summary.ir_version};"
        f" {', '.join(ports)}; {summary.parameters} parameters"
    )
    table = Table("operator", "weights", "parameters", "gives")
    for each in summary.operators:
        weights = _shown(", ".join(f"{name} {_sizes(shape)}" for name, shape in each.weights.items()))
        table.add_row(*map(Text, (each.operator, weights or "-", str(each.parameters or "-"), _sizes(each.shape))))
    console.print(table)
    if summary.metadata:
        told = Table("what it says of itself", "")
        for key, value in summary.metadata.items():
            told.add_row(Text(_shown(key)), Text(_shown(value)))
        console.print(told)
    if found.test is None:
        console.print("  It carries no sample to test itself with.")
    else:
        test = found.test
        verdict = "ok" if test.passed else "FAILED"
        measured = "" if test.measured is None else f", {test.measured:.2e} measured, {test.bound:.2e} allowed"
        console.print(f"  Its own test: {verdict}{measured}; {test.why}.")


def _shown(text: str) -> str:
    """A text from a file: short, and with nothing that a terminal would obey."""
    short = text if len(text) <= 200 else f"{text[:200]} …"
    return "".join(each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in short)


def _sizes(shape: Sequence[int | str]) -> str:
    return _shown("×".join(map(str, shape)) or "-")
