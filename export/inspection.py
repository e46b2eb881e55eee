"""What an ONNX file, or a bundle's, holds: `python -m export inspect`."""

from dataclasses import dataclass
from pathlib import Path

from export import formats, manifest, summary
from export.formats import BrokenFileError
from export.manifest import Manifest
from export.parity import Case
from export.summary import Summary


@dataclass(frozen=True)
class Inspection:
    """What an ONNX file holds, how its own test ended if it carries one, and the manifest that it came with, if any."""

    summary: Summary
    test: Case | None
    manifest: Manifest | None = None


def inspect_file(path: Path) -> Inspection:
    """An ONNX file of whatever name. Raises BrokenFileError, and OSError if it cannot be read."""
    return _inspected(path.read_bytes(), path.name, None)


def inspect_bundle(folder: Path) -> Inspection:
    """A bundle, whose hashes are checked before its ONNX file is read. Raises BrokenFileError."""
    described, contents = manifest.read(folder)
    if formats.ONNX not in contents:
        raise BrokenFileError(formats.ONNX, f"is not among the files that {manifest.NAME} lists")
    return _inspected(contents[formats.ONNX], formats.ONNX, described)


def _inspected(content: bytes, name: str, described: Manifest | None) -> Inspection:
    found = summary.summarize(content, name)
    return Inspection(found, summary.self_test(content, found, name), described)
