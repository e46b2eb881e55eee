"""Atomic exchange of two folders, so that a killed process never leaves a path without a folder."""

import ctypes
import errno
import os
import sys
from pathlib import Path

_AT_FDCWD = -100  # relative paths are relative to the working directory
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # not supported by the kernel or file system


def exchange(one: Path, other: Path) -> bool:
    """Exchange two paths on one file system and return True. Raises OSError if it fails.

    Returns False and changes nothing if the operating system or file system does not support it. Calls renameat2(2) on
    Linux and renamex_np(2) on macOS, which Python does not provide.
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
