"""Comparison of two functions, timed alternately so that changes in machine load affect both."""

import time
from collections.abc import Callable
from statistics import median


def compare(name: str, ours: Callable[[], object], baseline: Callable[[], object], *, rounds: int) -> None:
    """Print the median time of each and the median of their ratios by round."""
    ours()
    baseline()
    pairs = [(_seconds(ours), _seconds(baseline)) for _ in range(rounds)]
    our_time, baseline_time = (median(times) * 1000 for times in zip(*pairs, strict=True))
    ratio = median(a / b for a, b in pairs)
    print(f"  {name}: {our_time:.2f} ms, baseline {baseline_time:.2f} ms, ratio {ratio:.3f} (medians of {rounds})")


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
