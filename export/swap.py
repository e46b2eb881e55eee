"""Exchanging two folders in one step, so that whatever ends the process leaves one of them in the place."""

import ctypes
import errno
import os
import sys
from pathlib import Path

_AT_FDCWD = -100  # relative paths are relative to the working directory
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # of a file system or kernel that does not offer it


def exchange(one: Path, other: Path) -> bool:
    """Whether the two, on one file system, have taken each other's place. Raises OSError if they must not.

    False where the operating system or the file system does not offer it (renameat2(2) of Linux, renamex_np(2) of
    macOS, of which Python has neither): both are as they were.
    """
    if sys.platform not in ("linux", "darwin"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    a, b = os.fsencode(one), os.fsencode(other)
    if hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, a, _AT_FDCWD, b, _EXCHANGE)
    elif hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(a, b, _EXCHANGE)
    else:
        return False
    code = ctypes.get_errno()
    if failed and code not in _CANNOT:
        raise OSError(code, os.strerror(code), str(one), None, str(other))
    return not failed
