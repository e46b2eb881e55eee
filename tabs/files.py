"""Files for visitors to download: each visitor's in a folder with a name that nobody can guess, and gone after an hour.

Or before, where an address has more of them than its share of the disk, or all have more than theirs: the oldest go
first. The folders are in Gradio's own cache, which it serves, so that it makes no copy of them. Gradio deletes files
that have aged, but leaves their folders, and knows nothing of files that were made and then not offered.
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

FILE_AGE = 3600  # seconds that a visitor's downloads stay
SWEEP_SECONDS = 300
MOST_OF_ADDRESS = 256 * 2**20  # bytes; a run leaves one to ten million
MOST_OF_ALL = 768 * 2**20

GONE = Text(
    "This file is no longer here. Files are kept for an hour, and for less where one address has more than {most} MB of"
    " them or the server's disk fills up: the oldest go first. Train again to get it.",
    "这个文件已经不在了。文件保留一小时；如果一个地址的文件超过 {most} MB，或服务器磁盘将满，会提前删除最早的文件。"
    "请重新训练以获得它。",
).format(most=MOST_OF_ADDRESS // 2**20)

PREFIX = "live-nets-"  # of the folder of a server's own
LOCK = "lock"  # in it: held for as long as that server lives
STARTING_SECONDS = 60  # that a server may take to hold it

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Made:
    """A folder of files: whose, and how many bytes."""

    address: str
    size: int


_made: dict[Path, _Made] = {}  # the oldest first
_temporary: list[Path] = []  # the folder of a server's own for these


def cache() -> Path:
    """Where all files for visitors are: Gradio's cache, which the app has set to a folder of its own."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")


@contextmanager
def new_folder() -> Iterator[tuple[Path, Path]]:
    """A folder for one visitor's files, gone at once if they cannot be made, and one within that is gone at the end.

    When the files are there, older ones go that are too many. Raises OSError where none can be made.
    """
    folder = cache() / secrets.token_urlsafe(24)
    folder.mkdir(parents=True)
    try:
        # A worker may still be at it, of whose run nobody wants to know any more: what is left is swept away later.
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as work:
            yield folder, Path(work)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _made[folder] = _Made(turns.address.get(), _size(folder))
    _keep_to_shares(newest=folder)


def _keep_to_shares(newest: Path) -> None:
    """Remove the oldest folders until its address, and then all together, have no more than they may. It stays."""
    address = _made[newest].address
    for whose, most in (({address}, MOST_OF_ADDRESS), (None, MOST_OF_ALL)):
        # Copied at once: `sweep` removes some of them in another thread.
        made = [(path, each.size) for path, each in list(_made.items()) if whose is None or each.address in whose]
        total = sum(size for _, size in made)
        for path, size in made:
            if total > most and path != newest:
                total -= size
                _remove(path)


def sweep(age: float = FILE_AGE) -> int:
    """Remove all that is older than `age` seconds, empty folders too; how much that was.

    And of what is younger the oldest, until no more is left on the disk than there may be: also of files that Gradio
    or a worker that has ended has left behind.
    """
    before = time.time() - age
    found = []
    for path in [entry for folder in (cache(), *_temporary) for entry in _entries(folder)]:
        try:
            found.append((_latest(path), _size(path), path))
        except FileNotFoundError:  # another was quicker
            continue
    left, removed = sum(size for _, size, _ in found), 0
    for latest, size, path in sorted(found):
        if latest >= before and left <= MOST_OF_ALL:
            break
        removed += _remove(path)
        left -= size
    return removed


def _remove(path: Path) -> bool:
    """Whether it could be removed; if not, the log tells why, and it is tried again with the next sweep."""
    _made.pop(path, None)
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    except FileNotFoundError:
        return False
    except OSError:
        _log.exception("file not removed")
        return False
    return True


def is_gone(asked: str) -> bool:
    """Whether that path is of a file for a visitor, of this server or one before it, that is no longer there."""
    path = Path(asked)
    folders = path.parents
    ours = len(folders) > 2 and (folders[1] == cache() or folders[2].name.startswith(PREFIX))
    return ours and not os.path.lexists(path)


def _size(path: Path) -> int:
    """Bytes of all files in there, or of the file."""
    files = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _latest(path: Path) -> float:
    """When the newest file in there was written; for an empty folder, when it was last changed."""
    inside = [each.stat().st_mtime for each in path.rglob("*") if each.is_file()] if path.is_dir() else []
    return max(inside, default=path.stat().st_mtime)


def own_cache() -> None:
    """Have folders of this server alone, in the one that GRADIO_TEMP_DIR names, if it does; removed at its end.

    One is Gradio's cache, the other for temporary files, of workers too. What is swept away must be ours: others may
    keep files in a folder for temporary ones. What a server has left that was killed is removed first.
    """
    parent = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(parent)
    root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    lock = (root / LOCK).open("wb")
    _is_free(lock)
    kept, temporary = root / "files", root / "temporary"
    kept.mkdir()
    temporary.mkdir()
    _temporary.append(temporary)
    os.environ["GRADIO_TEMP_DIR"] = str(kept)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    atexit.register(lock.close)  # the last that is registered is the first that is done


def _remove_leftovers(parent: Path) -> None:
    before = time.time() - STARTING_SECONDS
    for root in sorted(parent.glob(f"{PREFIX}*")):
        try:
            if root.is_symlink() or (root / LOCK).stat().st_mtime > before:
                continue
            with (root / LOCK).open("r+b") as lock:
                dead = _is_free(lock)
            if dead:
                (root / LOCK).unlink()  # first, as Windows does not let it go where a live server holds it open
                shutil.rmtree(root)
        except OSError:  # another's, or one that a live server holds open
            continue


def _is_free(lock: IO[bytes]) -> bool:
    """Take the lock for as long as the file is open, if no other process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows, which removes no file that is open
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
