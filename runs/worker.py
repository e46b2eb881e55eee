"""A process of its own for an Engine: `python -m runs.worker` takes calls from its stdin and answers on its stdout.

A call is (number, method, arguments) and an answer (number, whether it went well, value or exception), each pickled
behind its length in four bytes. Both ends are ours, and nothing of a visitor is unpickled: what visitors send reaches
a worker as plain settings that have been checked.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: small nets lose time to threads

import pickle
import signal
import struct
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

LENGTH = struct.Struct("<I")


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

    engine = Engine()
    lock = threading.Lock()

    def answer(number: int, name: str, arguments: tuple[Any, ...]) -> None:
        reply: tuple[int, bool, object]
        try:
            reply = number, True, getattr(engine, name)(*arguments)
        except Exception as error:  # noqa: BLE001  # it is raised where the call came from
            error.add_note(traceback.format_exc())  # which would stay here
            reply = number, False, error
        try:
            message = packed(reply)
            if isinstance(reply[2], StopIteration):
                raise TypeError("no future takes it")
            if not reply[1]:
                pickle.loads(message[LENGTH.size :])  # noqa: S301  # our own; not every exception comes back
        except Exception:  # noqa: BLE001  # one that holds a lambda, or whose class takes other arguments than it keeps
            message = packed((number, False, RuntimeError(f"{name} gave what cannot be sent: {reply[2]!r}")))
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
        adjustment.write_text("500")


if __name__ == "__main__":
    main()
