"""Files for visitors to download: each visitor's in a folder with a name that nobody can guess, and gone after an hour.

The folders are in Gradio's own cache, which it serves, so that it makes no copy of them. Gradio deletes files that
have aged, but leaves their folders, and knows nothing of files that were made and then not offered.
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
from pathlib import Path

FILE_AGE = 3600  # seconds that a visitor's downloads stay
SWEEP_SECONDS = 300

_log = logging.getLogger(__name__)


def cache() -> Path:
    """Where all files for visitors are: Gradio's cache, which the app has set to a folder of its own."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")


@contextmanager
def new_folder() -> Iterator[tuple[Path, Path]]:
    """A folder for one visitor's files, gone at once if they cannot be made, and one within that is gone at the end.

    Raises OSError where none can be made.
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


def sweep(age: float = FILE_AGE) -> int:
    """Remove all that is older than `age` seconds, empty folders too; how much that was."""
    before = time.time() - age
    removed = 0
    for path in _entries(cache()):
        try:
            if _latest(path) < before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed += 1
        except FileNotFoundError:  # another was quicker
            continue
        except OSError:
            _log.exception("file not removed")
    return removed


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _latest(path: Path) -> float:
    """When the newest file in there was written; for an empty folder, when it was last changed."""
    inside = [each.stat().st_mtime for each in path.rglob("*") if each.is_file()] if path.is_dir() else []
    return max(inside, default=path.stat().st_mtime)


def own_cache() -> None:
    """Have a cache of this process alone, removed at its end, in the folder that GRADIO_TEMP_DIR names, if it does.

    What is swept away must be ours: others may keep files in a folder for temporary ones.
    """
    parent = os.environ.get("GRADIO_TEMP_DIR")
    if parent:
        Path(parent).mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="live-nets-", dir=parent or None)
    os.environ["GRADIO_TEMP_DIR"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
