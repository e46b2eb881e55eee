"""A process with an Engine: `python -m runs.worker` reads calls from stdin and writes answers to stdout.

A call is (number, method, (args, kwargs)). An answer is (number, whether it succeeded, result or exception, seconds
taken). Each is pickled and preceded by its length in four bytes. Both ends of the pipe are ours, and no visitor's input
is unpickled: it reaches a worker as validated plain settings.
"""

import os
import pickle
import signal
import struct
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

LENGTH = struct.Struct("<I")
Call = tuple[int, str, tuple[tuple[Any, ...], dict[str, Any]]]
SWITCH_SECONDS = 0.0005  # thread switch interval: drawing must not delay training; Python's default is 5 ms


def packed(message: object) -> bytes:
    """A message, pickled, with its length."""
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(content)) + content


def main() -> None:
    """Answer calls until the pipe is closed: the parent process has closed it or has died."""
    # Answers get a separate file descriptor, so that output printed to stdout cannot corrupt them.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for each in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C reaches the whole process group; the parent decides
        signal.signal(each, signal.SIG_IGN)
    _prefer_as_oom_victim()
    from runs import logs

    logs.set_up()
    from charts import plot  # noqa: F401  # Bokeh takes half a second to import, so import it before a visitor waits for it
    from runs.engine import BACKGROUND_METHODS, Engine

    sys.setswitchinterval(SWITCH_SECONDS)
    engine = Engine()
    lock = threading.Lock()

    def answer(number: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        reply: tuple[int, bool, object, float]
        start = time.perf_counter()
        try:
            value = getattr(engine, name)(*args, **kwargs)
            reply = number, True, value, time.perf_counter() - start
        except Exception as error:  # noqa: BLE001  # raised again in the parent
            error.add_note(traceback.format_exc())  # tracebacks are not pickled
            reply = number, False, error, time.perf_counter() - start
        try:
            message = packed(reply)
            if isinstance(reply[2], StopIteration):
                raise TypeError("a future cannot raise it")
            if not reply[1]:
                pickle.loads(message[LENGTH.size :])  # noqa: S301  # our own; not every exception can be unpickled
        except Exception:  # noqa: BLE001  # such as a lambda, or a class that takes other arguments than it stores
            unsent = RuntimeError(f"{name}: the result cannot be pickled: {reply[2]!r}")
            message = packed((number, False, unsent, reply[3]))
        with lock:
            answers.write(message)
            answers.flush()

    threads = {name: ThreadPoolExecutor(1, thread_name_prefix=name) for name in set(BACKGROUND_METHODS.values())}
    calls = sys.stdin.buffer
    while (call := _next(calls)) is not None:
        number, name, (args, kwargs) = call
        if name in BACKGROUND_METHODS:
            threads[BACKGROUND_METHODS[name]].submit(answer, number, name, args, kwargs)
        else:
            answer(number, name, args, kwargs)
    os._exit(0)  # without waiting for background threads, whose answers are not read


def _next(calls: BinaryIO) -> Call | None:
    head = calls.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    content = calls.read(length)
    if len(content) < length:
        return None
    call: Call = pickle.loads(content)  # noqa: S301  # written by the parent process
    return call


def _prefer_as_oom_victim() -> None:
    """Have Linux kill a worker first when memory runs out: the pool replaces it, and the server survives."""
    adjustment = Path("/proc/self/oom_score_adj")
    if adjustment.exists():
        adjustment.write_text("500", encoding="utf-8")


if __name__ == "__main__":
    main()
