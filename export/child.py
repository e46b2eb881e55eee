"""The process that opens files from elsewhere, seen from the one that asks it to.

Parsers of torch, numpy, onnx and onnxruntime are large, and a file may make one crash, or take all memory or time.
That then ends another process (`export.confined`), whose limits the operating system keeps; here it is one sentence.
Imports no torch: what is started here is all that needs it.
"""

import atexit
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from charts.text import Text
from export.cases import BrokenFileError, NonFiniteError

ROOT = Path(__file__).parents[1]
# s of a processor for each command. Ours take a fifth of a second, and training a run again at most a minute.
SECONDS = {"inspect": 10, "verify": 60, "retrain": 300, "publish": 300}
PATIENCE = 4.0  # times as long by the clock, on a machine that has other work


class Child:
    """A process of `export.confined`, which answers one request after another until one ends it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "export.confined"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        assert self._process.stdout
        if not self._process.stdout.readline():
            code = self._process.wait()
            self.close()
            raise RuntimeError(f"the process that reads files could not start (exit code {code})")

    def ask(self, command: str, path: Path) -> dict[str, Any]:
        """What the command found in the file or folder. Raises BrokenFileError and NonFiniteError.

        A file that ends the process is a BrokenFileError too; after it, this object is of no more use.
        """
        seconds = SECONDS[command]
        late = threading.Timer(PATIENCE * seconds, self._process.kill)
        late.start()
        try:
            return self._ask(command, path, seconds, late)
        finally:
            late.cancel()

    def _ask(self, command: str, path: Path, seconds: int, late: threading.Timer) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        reading = path.name
        try:
            self._process.stdin.write(json.dumps({"command": command, "path": str(path), "seconds": seconds}) + "\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                answer = json.loads(line)
                if "reading" not in answer:
                    return _found(answer)
                reading = answer["reading"]
        except BrokenPipeError:
            pass  # it has ended, and its exit code says how
        code = self._process.wait()
        raise BrokenFileError(reading, _ended(code, seconds, late.finished.is_set()))

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        with self._process:  # which closes its pipes and waits
            pass


_child: Child | None = None


def ask(command: str, path: Path) -> dict[str, Any]:
    """Have "verify", "retrain", "inspect" or "publish" look at a path, in a process of its own. See `Child.ask`."""
    global _child  # starting one takes a second and a half, so that many bundles share it
    if _child is None:
        _child = Child()
        atexit.register(close)
    try:
        return _child.ask(command, path.absolute())
    except BaseException:
        if not _child.is_alive:
            close()
        raise


def close() -> None:
    """End the process, if there is one."""
    global _child
    if _child:
        atexit.unregister(close)
        _child.close()
        _child = None


def _found(answer: dict[str, Any]) -> dict[str, Any]:
    match answer:
        case {"broken": str(file), "why": str(why)}:
            raise BrokenFileError(file, why)
        case {"non_finite": [str(en), str(zh)]}:
            raise NonFiniteError(Text(en, zh))
        case {"found": dict(found)}:
            return found
        case _:
            raise RuntimeError(f"the child answers {answer!r}")


def _ended(code: int, seconds: int, late: bool) -> str:
    if late or code == -getattr(signal, "SIGXCPU", 0):
        return f"takes more than {seconds} s to read"
    why = signal.strsignal(-code) if code < 0 else f"exit code {code}"
    return f"ended the process that read it: {why}"
