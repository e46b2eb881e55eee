"""The process that opens files from elsewhere: `python -m export.confined`, which `export.child` starts and asks.

Reads requests as lines of JSON on stdin, and answers on stdout: the name of each file that is about to be parsed, and
then what was found. Nothing that it is sent or sends is a pickle.
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
from export.cases import BrokenFileError, NonFiniteError, blaming, telling
from export.manifest import settings
from export.verify import publishable, verify

MEMORY = 2**30  # bytes beyond what the libraries take; a bundle of ours needs a tenth

Found = dict[str, Any]


def main() -> None:
    """Answer until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks, which ends this one
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # From here on, what a library prints must be taken neither for an answer nor for a word of ours.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())
    limit_memory()
    send(answers, {"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        limit_seconds(request["seconds"])
        with telling(lambda file: send(answers, {"reading": file})):
            send(answers, answer(request["command"], Path(request["path"])))


def send(answers: TextIO, value: Found) -> None:
    """Send a line."""
    print(json.dumps(value), file=answers, flush=True)


def answer(command: str, path: Path) -> Found:
    """What became of a request."""
    try:
        with blaming(path.name, "cannot be checked"):
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
    """Take MEMORY beyond what is in use, and leave no core. Linux alone keeps such a limit."""
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_seconds(seconds: int) -> None:
    """Take so many more seconds of a processor; where no system keeps that, the process that asks keeps time."""
    if sys.platform != "win32":
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        wanted = int(used.ru_utime + used.ru_stime) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


if __name__ == "__main__":
    main()
