"""The pace of all frames: 25 a second, and fewer while the page's process or a worker is busy, down to 10.

Frames are what a crowd costs: each goes through Gradio's queue, which takes this process a millisecond or more. With
fewer of them a click is still answered at once, and runs take no longer, since each frame has more steps. The addresses
that make it busy are the first to get fewer, and others only if that does not do.
"""

import asyncio
import time
from collections import Counter

from runs import pool

SLOWEST = 2.5  # times the usual time between frames
BUSY = 1.25  # from here on, visitors are told
LATE_LOOP = 0.01  # seconds that a turn of the event loop may come late
LATE_WORKER = 0.04  # seconds that a call may wait for its turn: as long as a frame lasts
PROBE_SECONDS = 0.02
MEMORY = 0.9  # of what was measured before, a probe ago

watched: Counter[str] = Counter()  # runs that give frames, by address

# Times the usual time between frames: of the addresses that have the most runs, of the others, and of those whose
# runs wait for each other's turns.
_stretch = 1.0
_stretch_of_others = 1.0
_stretches: dict[str, float] = {}


def stretch(address: str = "") -> float:
    """How many times the usual time there is between frames of that address's runs: 1 to SLOWEST."""
    # An address with fewer runs than the mean is not what makes the page's process late.
    many = watched[address] * len(watched) >= watched.total()
    return max(_stretch if many else _stretch_of_others, _stretches.get(address, 1.0))


def is_busy(address: str = "") -> bool:
    """Whether frames come noticeably less often than usual."""
    return stretch(address) >= BUSY


async def keep() -> None:
    """Set the pace from now on, until this is cancelled."""
    global _stretch, _stretch_of_others
    late = 0.0
    try:
        while True:
            asked = time.monotonic()
            await asyncio.sleep(PROBE_SECONDS)
            late = MEMORY * late + (1 - MEMORY) * (time.monotonic() - asked - PROBE_SECONDS)
            is_late = late > LATE_LOOP
            _stretch_of_others = _moved(_stretch_of_others, up=is_late and _stretch >= SLOWEST)
            _stretch = _moved(_stretch, up=is_late)
            _see_to_turns()
    finally:
        _stretch = _stretch_of_others = 1.0
        _stretches.clear()


def _see_to_turns() -> None:
    slow = {each for worker in pool.workers() for each, seconds in worker.delays().items() if seconds > LATE_WORKER}
    for address in {*slow, *_stretches}:
        _stretches[address] = _moved(_stretches.get(address, 1.0), up=address in slow)
        if _stretches[address] == 1:
            del _stretches[address]


def _moved(value: float, *, up: bool) -> float:
    """A stretch, a probe later: down in a second at most, and up again in one and a half, so that it does not swing."""
    return min(SLOWEST, value * 1.03) if up else max(1.0, value * 0.985)
