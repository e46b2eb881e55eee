"""Files for visitors to download, each set in a folder with an unguessable name, deleted after an hour.

The oldest are deleted sooner if one address exceeds its share of the disk, or all together exceed MOST_OF_ALL. The
folders are in Gradio's cache, which it serves, so that it need not copy the files. Gradio deletes old files of its
cache, but not their folders, nor files that were written but never offered.
"""

import atexit
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from charts.text import Text
from runs import turns

FILE_AGE = 3600  # seconds that files for download are kept
SWEEP_SECONDS = 300
MOST_OF_ADDRESS = 256 * 2**20  # bytes; a run writes one to ten million
MOST_OF_ALL = 768 * 2**20

GONE = Text(
    "This file has been deleted. Files are kept for an hour, or less if one address has more than {most} MB of them or"
    " the server's disk fills up: the oldest are deleted first. Train again to get it.",
    "这个文件已经不在了。文件保留一小时；如果一个地址的文件超过 {most} MB，或服务器磁盘将满，会提前删除最早的文件。"
    "请重新训练以获得它。",
).format(most=MOST_OF_ADDRESS // 2**20)

PREFIX = "live-nets-"  # of the folder of one server
LOCK = "lock"  # file in that folder, locked while its server runs
STARTING_SECONDS = 60  # for a server to lock it

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Made:
    """A folder of files: its address, and its size in bytes."""

    address: str
    size: int


_made: dict[Path, _Made] = {}  # the oldest first
_temporary: list[Path] = []  # this server's folder for other temporary files


def cache() -> Path:
    """Gradio's cache, which holds all files for download; `use_own_folder` has set it to a folder of this server."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")


@contextmanager
def new_folder() -> Iterator[tuple[Path, Path]]:
    """A folder for files to download, and a folder in it for work, which is deleted at the end.

    An exception deletes both. At the end, older folders beyond the shares of the disk are deleted. Raises OSError.
    """
    folder = cache() / secrets.token_urlsafe(24)
    folder.mkdir(parents=True)
    try:
        # An abandoned worker may still be writing here; `sweep` removes what is left.
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as work:
            yield folder, Path(work)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _made[folder] = _Made(turns.address.get(), _size(folder))
    _keep_to_shares(newest=folder)


def _keep_to_shares(newest: Path) -> None:
    """Remove the oldest folders, but not `newest`, until its address and all together are within their shares."""
    address = _made[newest].address
    for addresses, most in (({address}, MOST_OF_ADDRESS), (None, MOST_OF_ALL)):
        # A copy: `sweep` removes items in another thread.
        made = [
            (path, each.size) for path, each in list(_made.items()) if addresses is None or each.address in addresses
        ]
        total = sum(size for _, size in made)
        for path, size in made:
            if total > most and path != newest:
                total -= size
                _remove(path)


def sweep(age: float = FILE_AGE) -> int:
    """Remove files and folders older than `age` seconds, and return their number.

    Then remove the oldest of the others until all are within MOST_OF_ALL, including files that Gradio or a dead worker
    has left.
    """
    before = time.time() - age
    found = []
    for path in [entry for folder in (cache(), *_temporary) for entry in _entries(folder)]:
        try:
            found.append((_latest(path), _size(path), path))
        except FileNotFoundError:  # removed meanwhile
            continue
    left, removed = sum(size for _, size, _ in found), 0
    for latest, size, path in sorted(found):
        if latest >= before and left <= MOST_OF_ALL:
            break
        removed += _remove(path)
        left -= size
    return removed


def _remove(path: Path) -> bool:
    """Remove a file or folder, and return whether it was removed. A failure is logged; the next sweep tries again."""
    _made.pop(path, None)
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    except FileNotFoundError:
        return False
    except OSError:
        _log.exception("file not removed")
        return False
    return True


def is_gone(requested: str) -> bool:
    """Whether the path names a deleted download of this server or of an earlier one."""
    path = Path(requested)
    folders = path.parents
    ours = len(folders) > 2 and (folders[1] == cache() or folders[2].name.startswith(PREFIX))
    return ours and not os.path.lexists(path)


def _size(path: Path) -> int:
    """Size in bytes of a file, or of all files in a folder."""
    files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _latest(path: Path) -> float:
    """Modification time of a file, of the newest file in a folder, or of an empty folder."""
    inside = [each.stat().st_mtime for each in path.rglob("*") if each.is_file()] if path.is_dir() else []
    return max(inside, default=path.stat().st_mtime)


def use_own_folder() -> None:
    """Create a folder of this server alone, in GRADIO_TEMP_DIR or the system's, and remove it when the process exits.

    It holds Gradio's cache and the temporary files of this process and the workers. `sweep` must find only our files,
    and other programs use the system's folder. Folders of servers that were killed are removed first. Call it before
    gradio is imported.
    """
    parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(parent)
    root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    lock = (root / LOCK).open("wb")
    if not _try_lock(lock):
        raise RuntimeError(f"{lock.name} is locked by another process")
    kept, temporary = root / "files", root / "temporary"
    kept.mkdir()
    temporary.mkdir()
    _temporary.append(temporary)
    os.environ["GRADIO_TEMP_DIR"] = str(kept)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    atexit.register(lock.close)  # called first: atexit calls in reverse order


def _remove_leftovers(parent: Path) -> None:
    before = time.time() - STARTING_SECONDS
    for root in sorted(parent.glob(f"{PREFIX}*")):
        try:
            if root.is_symlink() or (root / LOCK).stat().st_mtime > before:
                continue
            with (root / LOCK).open("r+b") as lock:
                dead = _try_lock(lock)
            if dead:
                (root / LOCK).unlink()  # fails on Windows while its server has it open
                shutil.rmtree(root)
        except OSError:  # of another user, or open in a live server
            continue


def _try_lock(lock: IO[bytes]) -> bool:
    """Lock the file as long as it is open; False if another process has locked it."""
    try:
        import fcntl
    except ImportError:  # Windows, which does not delete open files
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
