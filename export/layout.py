"""File names in a bundle, the search for bundles in a folder, and safe reading of untrusted files.

Must not import torch: the command line uses it in the process that opens no untrusted files.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

from export.cases import BrokenFileError

PICKLE, PARAMS, SAFETENSORS, ONNX = "net.pkl", "net_params.pkl", "net.safetensors", "net.onnx"
MODEL_FILES = (PICKLE, PARAMS, SAFETENSORS, ONNX)
MANIFEST, GOLDEN, REPORT, PLOT = "manifest.json", "golden.npz", "parity.json", "plot.png"
README, SOURCE, PAGE = "README.md", "net.py", "try.html"
FILES = {*MODEL_FILES, MANIFEST, GOLDEN, REPORT, PLOT, README, SOURCE, PAGE}

MAX_BYTES = 2**24  # of a file; the largest that we write, a plot, takes a hundredth of this


def place(lesson: str, net: str, nets: list[str]) -> str:
    """Relative path of the bundle of a net: KEY, or KEY/NET for a lesson of several nets."""
    return lesson if len(nets) == 1 else f"{lesson}/{net}"


def find(root: Path) -> list[Path]:
    """Sorted folders of the bundles under `root`, including `root` itself.

    A folder with a model file counts as a bundle, so that a missing manifest is reported. So does a symbolic link to
    a folder, which is not searched. Hidden folders are skipped: they hold bundles that are being written.
    """
    marks = {MANIFEST, *MODEL_FILES}
    paths = list(root.rglob("*"))
    links = {path for path in paths if path.is_symlink() and path.is_dir()}
    found = links | {path.parent for path in paths if path.name in marks and path.is_file()}
    return sorted(
        folder for folder in found if not any(part.startswith(".") for part in folder.relative_to(root).parts)
    )


def read_file(path: Path, name: str, size: int | None = None, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file. Raises BrokenFileError, with `name` as the file's name.

    The file's size is compared with `size`, if given, and with `max_bytes` before it is read. Other kinds of files
    are refused: reading a pipe, or some files in /proc whose size is 0, might never end.
    """
    try:
        # Non-blocking, because opening a pipe would wait. Links are followed: the Hub's cache consists of links.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            content = _read(descriptor, name, size, max_bytes)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise BrokenFileError(name, "is missing") from error
    except OSError as error:
        raise BrokenFileError(name, f"cannot be read: {error.strerror}") from error
    return content


def _read(descriptor: int, name: str, size: int | None, max_bytes: int) -> bytes:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise BrokenFileError(name, "is not a regular file")
    if size is not None and found.st_size != size:
        raise BrokenFileError(name, f"has {found.st_size} bytes and not {size}")
    if found.st_size > max_bytes:
        raise BrokenFileError(name, f"has {found.st_size} bytes, more than the maximum of {max_bytes}")
    content = b""
    while len(content) < found.st_size and (more := os.read(descriptor, found.st_size - len(content))):
        content += more
    if len(content) != found.st_size:
        raise BrokenFileError(name, f"has {len(content)} bytes and not {found.st_size}")
    return content


def from_json(content: bytes | str) -> Any:
    """Parse JSON by RFC 8259, more strictly than json.loads. Raises ValueError.

    Duplicate keys are refused, because parsers differ in which one they use. So are numbers that JSON or float64
    cannot represent.
    """
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"the key {twice!r} is a duplicate")
    return made


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is out of range for float64")
    return value
