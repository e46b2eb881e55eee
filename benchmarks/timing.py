"""Two ways of doing the same, timed in turn: the machine's moods hit both."""

import time
from collections.abc import Callable
from statistics import median


def compare(name: str, ours: Callable[[], object], baseline: Callable[[], object], *, rounds: int) -> None:
    """Print both medians, and the median of the ratios round by round."""
    ours()
    baseline()
    pairs = [(_seconds(ours), _seconds(baseline)) for _ in range(rounds)]
    mine, theirs = (median(times) * 1000 for times in zip(*pairs, strict=True))
    ratio = median(a / b for a, b in pairs)
    print(f"  {name}: {mine:.2f} ms against {theirs:.2f} ms, ratio {ratio:.3f} (medians of {rounds})")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
