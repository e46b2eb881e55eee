"""Client of the process that opens untrusted files, `export.confined`.

A malicious file may crash the parsers of torch, numpy, onnx or onnxruntime, or exhaust memory or time. They run in a
child process with limits set by the operating system; here the failure becomes an error message.
Must not import torch: only the child process needs it.
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
# CPU seconds by command. Our own bundles take 0.2 s; retraining a run takes at most 60 s.
SECONDS = {"inspect": 10, "verify": 60, "retrain": 300, "publish": 300}
WALL_FACTOR = 4.0  # wall-clock limit divided by the CPU limit, for busy machines


class Child:
    """Child process that runs `export.confined` and answers requests one at a time."""

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
        """Return the result of the command for a file or folder. Raises BrokenFileError and NonFiniteError.

        A file that ends the process raises BrokenFileError as well; the object cannot be used afterwards.
        """
        seconds = SECONDS[command]
        timer = threading.Timer(WALL_FACTOR * seconds, self._process.kill)
        timer.start()
        try:
            return self._ask(command, path, seconds, timer)
        finally:
            timer.cancel()

    def _ask(self, command: str, path: Path, seconds: int, timer: threading.Timer) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        reading = path.name
        try:
            self._process.stdin.write(json.dumps({"command": command, "path": str(path), "seconds": seconds}) + "\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                answer = json.loads(line)
                if "reading" not in answer:
                    return _parse_answer(answer)
                reading = answer["reading"]
        except BrokenPipeError:
            pass  # the process has ended; its exit code tells the reason
        code = self._process.wait()
        raise BrokenFileError(reading, _exit_reason(code, seconds, timer.finished.is_set()))

    @property
    def is_alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def close(self) -> None:
        """Kill the process."""
        self._process.kill()
        with self._process:  # closes its pipes and waits
            pass


_child: Child | None = None


def ask(command: str, path: Path) -> dict[str, Any]:
    """Run "verify", "retrain", "inspect" or "publish" on a path in the shared child process. See `Child.ask`."""
    global _child  # shared, since starting a process takes 1.5 s
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
    """Kill the shared child process, if it is running."""
    global _child
    if _child:
        atexit.unregister(close)
        _child.close()
        _child = None


def _parse_answer(answer: dict[str, Any]) -> dict[str, Any]:
    match answer:
        case {"broken": str(file), "why": str(why)}:
            raise BrokenFileError(file, why)
        case {"non_finite": [str(en), str(zh)]}:
            raise NonFiniteError(Text(en, zh))
        case {"found": dict(found)}:
            return found
        case _:
            raise RuntimeError(f"unexpected answer of the child process: {answer!r}")


def _exit_reason(code: int, seconds: int, timed_out: bool) -> str:
    if timed_out or code == -getattr(signal, "SIGXCPU", 0):
        return f"takes more than {seconds} s to read"
    why = signal.strsignal(-code) if code < 0 else f"exit code {code}"
    return f"ended the process that read it: {why}"
