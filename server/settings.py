"""Settings of the server, from environment variables.

Imports no torch and no gradio, so that a bad value is reported before they are imported, which takes seconds.
"""

import os
import re
import sys

from runs import logs
from server import client_address, sockets

DEFAULT_WORKERS = 2


def check() -> None:
    """Exit with a message if an environment variable has a bad value, or the port is in use."""
    logs.level()
    worker_count()
    client_address.proxies()
    _, _, opened = sockets.open_sockets()
    for each in opened:  # they are opened again when the app can answer
        each.close()


def worker_count() -> int:
    """Number of training processes: LIVE_NETS_WORKERS, 2 by default; with 0, nets train in the server's own process.

    Exits with a message if the value is not a whole number from 0 to 64.
    """
    text = os.environ.get("LIVE_NETS_WORKERS", str(DEFAULT_WORKERS))
    if not re.fullmatch("[0-9]{1,2}", text) or int(text) > 64:
        sys.exit(f"LIVE_NETS_WORKERS must be a whole number from 0 to 64, not {text!r}.")
    return int(text)


def raise_open_file_limit() -> None:
    """Raise the soft limit on open files to the hard one: a thousand idle connections would exhaust the default."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
