"""What a bundle's folder holds, where to find one, and how to read a file that may be anything.

Imports no torch: the command line uses it in the process that no file from elsewhere is opened in.
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

MOST_BYTES = 2**24  # of a file; the largest that we write is a plot of a hundredth of them


def place(lesson: str, net: str, nets: list[str]) -> str:
    """Where the bundle of that net belongs: KEY, or KEY/NET for a lesson of several nets."""
    return lesson if len(nets) == 1 else f"{lesson}/{net}"


def find(root: Path) -> list[Path]:
    """The folders of the bundles under `root`, in order, `root` itself among them.

    A folder with a model file counts, so that a lost manifest is noticed, and so does a link to a folder:
    what lies deeper behind it is not looked for. Hidden folders do not count: those of bundles being written are.
    """
    marks = {MANIFEST, *MODEL_FILES}
    paths = list(root.rglob("*"))
    links = {path for path in paths if path.is_symlink() and path.is_dir()}
    found = links | {path.parent for path in paths if path.name in marks and path.is_file()}
    return sorted(
        folder for folder in found if not any(part.startswith(".") for part in folder.relative_to(root).parts)
    )


def read_file(path: Path, name: str, size: int | None = None, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file, which is told of as `name`. Raises BrokenFileError.

    Its size is compared with `size`, if given, and with `most` before a byte is read. A pipe would never end, nor
    would some files of /proc, whose size is 0.
    """
    try:
        # Nothing that opening would wait for. A link is followed: the Hub's own cache consists of links.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            content = _read(descriptor, name, size, most)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise BrokenFileError(name, "is missing") from error
    except OSError as error:
        raise BrokenFileError(name, f"cannot be read: {error.strerror}") from error
    return content


def _read(descriptor: int, name: str, size: int | None, most: int) -> bytes:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise BrokenFileError(name, "is no file")
    if size is not None and found.st_size != size:
        raise BrokenFileError(name, f"has {found.st_size} bytes and not {size}")
    if found.st_size > most:
        raise BrokenFileError(name, f"has {found.st_size} bytes and may have {most}")
    content = b""
    while len(content) < found.st_size and (more := os.read(descriptor, found.st_size - len(content))):
        content += more
    if len(content) != found.st_size:
        raise BrokenFileError(name, f"has {len(content)} bytes and not {found.st_size}")
    return content


def from_json(content: bytes | str) -> Any:
    """The value of a JSON text as the standard has it (RFC 8259), of which json.loads takes more. Raises ValueError.

    No key may come twice: readers differ in which one counts. No number may be one that JSON or float64 does not have.
    """
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    return json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_constant, parse_float=_finite)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"the key {twice!r} comes twice")
    return made


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is larger than a number can be")
    return value
