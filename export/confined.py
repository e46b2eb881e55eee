"""Process that opens untrusted files: `python -m export.confined`, started by `export.child`.

Reads requests as JSON lines from stdin. Writes to stdout, also as JSON lines, the name of each file before it is
parsed, and then the result. Pickle is not used in either direction.
"""

import base64
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from charts.text import both
from export import inspection
from export.bundle import Bundle
from export.cases import BrokenFileError, NonFiniteError, parse_hook, wrap_errors
from export.manifest import settings
from export.verify import publishable, verify

MEMORY = 2**30  # bytes, in addition to the imported libraries; a bundle of ours needs a tenth

Found = dict[str, Any]


def main() -> None:
    """Answer requests until stdin is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles Ctrl-C and ends this one
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # Output that libraries print must not be mistaken for answers or for our own messages.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.dup2(null, sys.stderr.fileno())
    limit_memory()
    send(answers, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        limit_seconds(request["seconds"])
        with parse_hook(lambda file: send(answers, {"reading": file})):
            send(answers, answer(request["command"], Path(request["path"])))


def send(answers: TextIO, value: Found) -> None:
    """Write an answer as a JSON line."""
    print(json.dumps(value), file=answers, flush=True)


def answer(command: str, path: Path) -> Found:
    """Run a command and return its result or error."""
    try:
        with wrap_errors(path.name, "cannot be checked"):
            return {"found": COMMANDS[command](path)}
    except BrokenFileError as error:
        return {"broken": error.file, "why": error.why}
    except NonFiniteError as error:
        return {"non_finite": list(both(error.told).values())}


def _verify(path: Path) -> Found:
    return _checked(verify(path))


def _retrain(path: Path) -> Found:
    return _checked(verify(path, retrain=True))


def _checked(bundle: Bundle) -> Found:
    return {
        "metrics": bundle.manifest["metrics"],
        "cases": bundle.parity.to_dict()["cases"],
        "unchecked": dict(bundle.unchecked),
    }


def _inspect(path: Path) -> Found:
    return (inspection.inspect_bundle if path.is_dir() else inspection.inspect_file)(path).to_dict()


def _publish(path: Path) -> Found:
    bundle, files = publishable(path)
    encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
    seed = settings(bundle.manifest)["seed"]
    return {**_checked(bundle), "name": bundle.name, "seed": seed, "files": encoded}


COMMANDS: dict[str, Callable[[Path], Found]] = {
    "verify": _verify,
    "retrain": _retrain,
    "inspect": _inspect,
    "publish": _publish,
}


def limit_memory() -> None:
    """Limit the address space to the current use plus MEMORY, and disable core dumps. Linux only."""
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_seconds(seconds: int) -> None:
    """Limit CPU time to `seconds` from now. Not on Windows, where the parent process's timer is the only limit."""
    if sys.platform != "win32":
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        wanted = int(used.ru_utime + used.ru_stime) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


if __name__ == "__main__":
    main()
