"""Contents of an ONNX file or a bundle: `python -m export inspect`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export import layout, manifest, summary
from export.cases import BrokenFileError, Case
from export.manifest import Manifest
from export.summary import Summary

MAX_BYTES = 2**26  # of a single ONNX file, which may contain any net


@dataclass(frozen=True)
class Inspection:
    """Summary of an ONNX file, the result of the test in its metadata if any, and the manifest of its bundle if any."""

    summary: Summary
    test: Case | None
    manifest: Manifest | None = None

    def to_dict(self) -> dict[str, Any]:
        """The inspection as JSON-serializable data."""
        test = self.test and asdict(self.test)
        return {"onnx": self.summary.to_dict(), "test": test, "manifest": self.manifest}


def inspect_file(path: Path) -> Inspection:
    """Inspect an ONNX file of any name. Raises BrokenFileError."""
    return _inspected(layout.read_file(path, path.name, max_bytes=MAX_BYTES), path.name, None)


def inspect_bundle(folder: Path) -> Inspection:
    """Inspect a bundle: check its hashes, then read its ONNX file. Raises BrokenFileError."""
    described, contents = manifest.read(folder)
    if layout.ONNX not in contents:
        raise BrokenFileError(layout.ONNX, f"is not among the files that {layout.MANIFEST} lists")
    return _inspected(contents[layout.ONNX], layout.ONNX, described)


def _inspected(content: bytes, name: str, described: Manifest | None) -> Inspection:
    found = summary.summarize(content, name)
    return Inspection(found, summary.self_test(content, found, name), described)
