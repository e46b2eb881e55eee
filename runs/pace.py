"""The pace of all frames: 25 a second, and fewer while the page's process or a worker is busy, down to 10.

Frames are what a crowd costs: each goes through Gradio's queue, which takes this process a millisecond or more. With
fewer of them a click is still answered at once, and runs take no longer, since each frame has more steps.
"""

import asyncio
import time

from runs import pool

SLOWEST = 2.5  # times the usual time between frames
BUSY = 1.25  # from here on, visitors are told
LATE_LOOP = 0.01  # seconds that a turn of the event loop may come late
LATE_WORKER = 0.04  # seconds that a call may wait for those before it: as long as a frame lasts
PROBE_SECONDS = 0.02
MEMORY = 0.9  # of what was measured before, a probe ago

_stretch = 1.0


def stretch() -> float:
    """How many times the usual time there is between frames: 1 to SLOWEST."""
    return _stretch


def is_busy() -> bool:
    """Whether frames come noticeably less often than usual."""
    return _stretch >= BUSY


async def keep() -> None:
    """Set the pace from now on, until this is cancelled."""
    global _stretch
    late = 0.0
    try:
        while True:
            asked = time.monotonic()
            await asyncio.sleep(PROBE_SECONDS)
            late = MEMORY * late + (1 - MEMORY) * (time.monotonic() - asked - PROBE_SECONDS)
            load = max([late / LATE_LOOP, *(worker.delay / LATE_WORKER for worker in pool.workers())])
            # Down in a second at most, and up again in one and a half, so that the pace does not swing.
            _stretch = min(SLOWEST, _stretch * 1.03) if load > 1 else max(1.0, _stretch * 0.985)
    finally:
        _stretch = 1.0
