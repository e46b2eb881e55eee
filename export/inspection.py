"""What an ONNX file, or a bundle's, holds: `python -m export inspect`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export import layout, manifest, summary
from export.cases import BrokenFileError, Case
from export.manifest import Manifest
from export.summary import Summary

MOST_BYTES = 2**26  # of a lone file, which may be of a net that is none of ours


@dataclass(frozen=True)
class Inspection:
    """What an ONNX file holds, how its own test ended if it carries one, and the manifest that it came with, if any."""

    summary: Summary
    test: Case | None
    manifest: Manifest | None = None

    def to_dict(self) -> dict[str, Any]:
        """The inspection for JSON."""
        test = self.test and asdict(self.test)
        return {"onnx": self.summary.to_dict(), "test": test, "manifest": self.manifest}


def inspect_file(path: Path) -> Inspection:
    """An ONNX file of whatever name. Raises BrokenFileError."""
    return _inspected(layout.read_file(path, path.name, most=MOST_BYTES), path.name, None)


def inspect_bundle(folder: Path) -> Inspection:
    """A bundle, whose hashes are checked before its ONNX file is read. Raises BrokenFileError."""
    described, contents = manifest.read(folder)
    if layout.ONNX not in contents:
        raise BrokenFileError(layout.ONNX, f"is not among the files that {layout.MANIFEST} lists")
    return _inspected(contents[layout.ONNX], layout.ONNX, described)


def _inspected(content: bytes, name: str, described: Manifest | None) -> Inspection:
    found = summary.summarize(content, name)
    return Inspection(found, summary.self_test(content, found, name), described)
