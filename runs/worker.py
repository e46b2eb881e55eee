"""A process of its own for an Engine: `python -m runs.worker` takes calls from its stdin and answers on its stdout.

A call is (number, method, arguments) and an answer (number, whether it went well, value or exception, seconds that it
took), each pickled behind its length in four bytes. Both ends are ours, and nothing of a visitor is unpickled: what
visitors send reaches a worker as plain settings that have been checked.
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
SWITCH_SECONDS = 0.0005  # after which a thread that draws lets the one that trains go on; Python's own are 5 ms


def packed(message: object) -> bytes:
    """A message as it goes over the pipe."""
    content = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(content)) + content


def main() -> None:
    """Answer calls until there are no more: whoever started this process has closed the pipe, or is gone."""
    # The pipe's end of its own, so that nothing that prints can garble an answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for each in (signal.SIGINT, signal.SIGTERM):  # they may reach all processes: whoever started this one decides
        signal.signal(each, signal.SIG_IGN)
    _offer_to_be_killed_first()
    from runs import logs

    logs.set_up()
    from charts import plot  # noqa: F401  # Bokeh takes half a second to import, which no visitor need wait for
    from runs.engine import ASIDE, Engine

    sys.setswitchinterval(SWITCH_SECONDS)
    engine = Engine()
    lock = threading.Lock()

    def answer(number: int, name: str, arguments: tuple[Any, ...]) -> None:
        reply: tuple[int, bool, object, float]
        start = time.perf_counter()
        try:
            value = getattr(engine, name)(*arguments)
            reply = number, True, value, time.perf_counter() - start
        except Exception as error:  # noqa: BLE001  # it is raised where the call came from
            error.add_note(traceback.format_exc())  # which would stay here
            reply = number, False, error, time.perf_counter() - start
        try:
            message = packed(reply)
            if isinstance(reply[2], StopIteration):
                raise TypeError("no future takes it")
            if not reply[1]:
                pickle.loads(message[LENGTH.size :])  # noqa: S301  # our own; not every exception comes back
        except Exception:  # noqa: BLE001  # one that holds a lambda, or whose class takes other arguments than it keeps
            unsent = RuntimeError(f"{name} gave what cannot be sent: {reply[2]!r}")
            message = packed((number, False, unsent, reply[3]))
        with lock:
            answers.write(message)
            answers.flush()

    threads = {name: ThreadPoolExecutor(1, thread_name_prefix=name) for name in set(ASIDE.values())}
    calls = sys.stdin.buffer
    while (call := _next(calls)) is not None:
        number, name, arguments = call
        if name in ASIDE:
            threads[ASIDE[name]].submit(answer, number, name, arguments)
        else:
            answer(number, name, arguments)
    os._exit(0)  # at once, whatever a thread may still be at: nobody waits for it any more


def _next(calls: BinaryIO) -> tuple[int, str, tuple[Any, ...]] | None:
    head = calls.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    content = calls.read(length)
    if len(content) < length:
        return None
    call: tuple[int, str, tuple[Any, ...]] = pickle.loads(content)  # noqa: S301  # from the process that started this
    return call


def _offer_to_be_killed_first() -> None:
    """A machine out of memory kills a worker, which is replaced, rather than the page's process."""
    adjustment = Path("/proc/self/oom_score_adj")
    if adjustment.exists():
        adjustment.write_text("500", encoding="utf-8")


if __name__ == "__main__":
    main()
