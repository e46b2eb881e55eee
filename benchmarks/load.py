"""Load test: frame rate, latency, page loads and memory with many visitors, compared with a baseline app."""

import argparse
import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urljoin

import httpx

from benchmarks.client import App, Plan, Usage, pauses, ping, serve, visit, visit_queue

TAB = "regression"
PACE = 25  # frames per second
PROBE_SECONDS = 0.1
PAUSE_SECONDS = 0.7  # between two clicks on Pause
BASELINE_VISITORS, BASELINE_TIMEOUT = 8, 60.0  # the baseline serves one at a time: 32 would take minutes
BATCH, RUNS_PER_ROW = 20, 100
SCENARIO_TIMEOUT = 1800.0  # seconds
MAX_SLOWDOWN = 20  # timeout of a visit, as a multiple of its ideal duration


@dataclass(frozen=True)
class Options:
    """Number and behavior of the visitors."""

    visitors: int = 32
    speed: int = 5
    steps: int = 500
    seconds: int = 60  # duration of the page loads
    loads: int = 200  # page loads per minute
    runs: int = 1000
    take_away: bool = False


@dataclass(frozen=True)
class Times:
    """Count, percentiles and maximum of durations, in seconds."""

    count: int
    p50: float
    p95: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Times":
        ordered = sorted(values) or [0.0]
        p50, p95 = (ordered[int(share * (len(ordered) - 1) + 0.5)] for share in (0.5, 0.95))
        return cls(len(values), p50, p95, ordered[-1])

    def __str__(self) -> str:
        return f"p50 {self.p50 * 1000:.0f}, p95 {self.p95 * 1000:.0f}, max {self.most * 1000:.0f} ms ({self.count})"


@dataclass(frozen=True)
class Crowd:
    """Results of visitors who train at the same time."""

    visitors: int
    finished: int
    failures: list[str]
    wall: float
    seconds: Times  # of finished runs
    frames: list[int]  # by visitor
    first: Times  # from Train to the first frame
    gaps: Times  # between frames
    taking: Times  # from the end of a run to its files
    pauses: Times  # from Pause to the frame that shows it
    trivial: Times
    received: int  # bytes of all frames
    usage: Usage
    tracebacks: int

    @property
    def rate(self) -> float:
        """Frames per second of all visitors together."""
        return sum(self.frames) / self.wall

    def show(self, name: str, alone: "Crowd | None" = None) -> None:
        print(f"  {name}: {self.finished} of {self.visitors} finished in {self.wall:.1f} s")
        ratio = ""
        if alone is not None:
            times = self.seconds.p50 / alone.seconds.p50, self.seconds.most / alone.seconds.p50
            ratio = ", {:.2f} and {:.2f} times that of one visitor".format(*times)
        print(f"    duration of a run: median {self.seconds.p50:.2f} s, max {self.seconds.most:.2f} s{ratio}")
        least, total = min(self.frames), sum(self.frames)
        print(f"    frames: {least} to {max(self.frames)} per visitor, {self.rate:.0f} per second in total")
        print(f"    time to the first frame: {self.first}")
        print(f"    time between frames: {self.gaps}")
        print(f"    time from Pause to its frame: {self.pauses}")
        print(f"    trivial requests: {self.trivial}")
        if self.taking.count:
            print(f"    time from the end of a run to its files: {self.taking}")
        used = self.usage
        print(f"    CPU seconds: page {used.page:.1f}, workers {used.workers:.1f}, driver {used.driver:.1f}")
        cost, size = used.page / max(total, 1) * 1000, self.received / max(total, 1)
        print(f"    per frame: {cost:.2f} ms of CPU of the page, {size:.0f} bytes")
        _show_failures(self.failures, self.tracebacks)


@dataclass(frozen=True)
class Loads:
    """Results of page loads while visitors train."""

    times: Times
    requests: int  # per page load
    bytes: int
    failures: list[str]
    beside: Crowd

    def show(self) -> None:
        print(f"  page loads of {self.requests} requests, {self.bytes / 1e6:.1f} MB: {self.times}")
        _show_failures(self.failures, 0)
        self.beside.show("visitors at the same time")


@dataclass(frozen=True)
class Memory:
    """Resident memory in MB by number of runs, and number of remaining temporary files and folders."""

    rows: dict[int, list[float]] = field(default_factory=dict)  # the page's process, then its children
    failures: list[str] = field(default_factory=list)
    files: tuple[int, int] = (0, 0)
    tracebacks: int = 0

    @property
    def growth(self) -> float:
        totals = [sum(row) for row in self.rows.values()]
        return totals[-1] / totals[0]

    def show(self) -> None:
        for runs, (page, *children) in self.rows.items():
            each = ", ".join(f"{child:.0f}" for child in children)
            print(f"  after {runs} runs: {page + sum(children):.0f} MB; page {page:.0f}, children {each or 'none'}")
        print(f"  last over first row: {self.growth:.3f}; {self.files[0]} files and {self.files[1]} folders left")
        _show_failures(self.failures, self.tracebacks)


def _show_failures(failures: list[str], tracebacks: int) -> None:
    for failure in dict.fromkeys(failures[:3]):
        print(f"    FAILED ({len(failures)} in total): {failure}")
    if tracebacks:
        print(f"    {tracebacks} tracebacks in the log")


@asynccontextmanager
async def _client(app: App) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=app.url, limits=limits, timeout=120) as client:
        yield client


async def _every(seconds: float, action: Callable[[], Coroutine[Any, Any, None]], count: int | None = None) -> None:
    """Start the action every `seconds`, `count` times or until cancelled, and wait for all to finish."""
    due, number = time.monotonic(), 0
    async with asyncio.TaskGroup() as group:
        while count is None or number < count:
            group.create_task(action())
            due, number = due + seconds, number + 1
            await asyncio.sleep(due - time.monotonic())


async def crowd(
    app: App, options: Options, limit: float | None = None, seconds: float = 0.0, *, plain: bool = False
) -> Crowd:
    """Let visitors train at the same time, repeatedly for `seconds`, with trivial requests and pauses in parallel.

    `plain` says that the app is the baseline.
    """
    ideal = options.steps / options.speed / PACE if options.speed else 5.0
    plan = Plan(TAB, {"steps": options.steps}, options.speed, take_away=options.take_away)
    pings, paused, failures = list[float](), list[float](), list[str]()

    async def pause() -> None:
        async with aclosing(pauses(app, Plan(TAB, {"steps": 2000}), PAUSE_SECONDS)) as seen:
            async for each in seen:
                paused.append(each)

    async with _client(app) as client:
        if plain:
            once = await visit_queue(app, client, 5, limit=60)
        else:
            once = await visit(app, Plan(TAB, {"steps": 5}, speed=0, take_away=True), limit=60)
        await ping(client, [], failures)  # warm up, as the visit above
        before, began = app.usage(), time.perf_counter()
        beside = [asyncio.create_task(_every(PROBE_SECONDS, lambda: ping(client, pings, failures)))]
        if not plain:
            beside.append(asyncio.create_task(pause()))
        each, until = limit or MAX_SLOWDOWN * ideal + 60 + seconds, began + seconds
        if plain:
            visits = [visit_queue(app, client, options.steps, limit=each) for _ in range(options.visitors)]
        else:
            visits = [visit(app, plan, limit=each, until=until) for _ in range(options.visitors)]
        seen = await asyncio.gather(*visits)
        wall, usage = time.perf_counter() - began, app.usage() - before
        for task in beside:
            task.cancel()
        done, _ = await asyncio.wait(beside)
        failures += [repr(task.exception()) for task in done if not task.cancelled() and task.exception()]
    fine = [one for one in seen if not one.failure]
    return Crowd(
        options.visitors,
        len(fine),
        [one.failure for one in (once, *seen) if one.failure] + failures,
        wall,
        Times.of([one.seconds for one in fine]),
        [len(one.frames) for one in seen],
        Times.of([one.frames[0] - one.began for one in seen if one.frames]),
        Times.of([gap for one in seen for gap in one.gaps]),
        Times.of([one.taken - one.ended for one in fine if one.taken]),
        Times.of(paused),
        Times.of(pings),
        sum(one.received for one in seen),
        usage,
        app.tracebacks(),
    )


async def page_loads(app: App, options: Options) -> Loads:
    """Load the page and its resources at a constant rate, without a cache, while visitors train."""
    times, sizes, failures, parts = list[float](), list[int](), list[str](), ["/config"]
    count = max(1, options.loads * options.seconds // 60)
    async with _client(app) as client:
        page = (await client.get("/")).text
        for found in re.findall(r'<(?:script|link)[^>]*?(?:src|href)="([^"]+)"', page):
            address = urljoin(app.url + "/", found)
            if address.startswith(app.url) and address.rstrip("/") != app.url and address not in parts:
                parts.append(address)

    async def load() -> None:
        start = time.perf_counter()
        try:
            async with _client(app) as fresh:
                first = await _size(fresh, "/")
                sizes.append(first + sum(await asyncio.gather(*(_size(fresh, part) for part in parts))))
        except httpx.HTTPError as error:
            failures.append(repr(error))
        times.append(time.perf_counter() - start)

    beside, _ = await asyncio.gather(
        crowd(app, options, seconds=options.seconds), _every(60 / options.loads, load, count)
    )
    return Loads(Times.of(times), len(parts) + 1, max(sizes, default=0), failures, beside)


async def _size(client: httpx.AsyncClient, address: str) -> int:
    """Size of the response in bytes, not decompressed, because that is the browser's work."""
    async with client.stream("GET", address) as response:
        response.raise_for_status()
        return sum([len(part) async for part in response.aiter_raw()])


async def memory(app: App, options: Options) -> Memory:
    """Start many runs in batches. Half the visitors leave during the run; a tenth of the rest wait for their files."""
    rows, failures = dict[int, list[float]](), list[str]()
    fast = Plan(TAB, {"steps": 20}, speed=0)
    slow = replace(fast, speed=1)  # slow enough to leave during the run
    for started in range(0, options.runs, BATCH):
        visits = []
        for number in range(started, started + BATCH):
            plan, leave = (slow, 3) if number % 2 else (replace(fast, take_away=number % 20 == 0), None)
            visits.append(visit(app, plan, limit=120, leave_after=leave))
        failures += [one.failure for one in await asyncio.gather(*visits) if one.failure]
        if (started + BATCH) % RUNS_PER_ROW == 0 or started + BATCH >= options.runs:
            rows[started + BATCH] = list(app.memory().values())
    await asyncio.sleep(1)
    return Memory(rows, failures, app.files(), app.tracebacks())


Measured = TypeVar("Measured")

SCENARIOS = {
    "alone": "one visitor",
    "crowd": "many visitors at once",
    "packed": "twice as many",
    "loads": "page loads beside many visitors",
    "plain": "the baseline app (a generator, gr.Plot and the default queue), with one visitor and many",
    "memory": "many runs, half of them abandoned",
}


def run(names: Sequence[str] = tuple(SCENARIOS), options: Options | None = None) -> dict[str, Any]:
    """Measure and print scenarios. A single visitor is always measured, as reference for the others."""
    options, found = options or Options(), dict[str, Any]()
    many = options.visitors
    if {*names} - {"memory"}:
        with serve("app.py") as app:
            found["alone"] = single = _measured(app, options, 1, "one visitor")
            if {"crowd", "plain"} & {*names}:
                found["crowd"] = ours = _measured(app, options, many, f"{many} visitors at once", single)
                if "plain" in names:
                    found["plain"] = _baseline(options, single, ours)
            if "packed" in names:
                found["packed"] = _measured(app, options, 2 * many, f"{2 * many} visitors at once", single)
            if "loads" in names:
                found["loads"] = loads = _bounded(page_loads(app, options))
                loads.show()
    if "memory" in names:
        with serve("app.py") as app:
            found["memory"] = used = _bounded(memory(app, options))
            used.show()
    return found


def _bounded(scenario: Coroutine[Any, Any, Measured]) -> Measured:
    return asyncio.run(asyncio.wait_for(scenario, SCENARIO_TIMEOUT))


def _measured(
    app: App,
    options: Options,
    visitors: int,
    name: str,
    single: Crowd | None = None,
    limit: float | None = None,
    *,
    plain: bool = False,
) -> Crowd:
    measured = _bounded(crowd(app, replace(options, visitors=visitors), limit, plain=plain))
    measured.show(name, single)
    return measured


def _baseline(options: Options, our_single: Crowd, ours: Crowd) -> Crowd:
    """Measure the baseline app with one visitor and with several, and print the ratios of ours to it."""
    with serve("-m", "benchmarks.load_plain") as app:
        single = _measured(app, options, 1, "baseline, one visitor", plain=True)
        name = f"baseline, {BASELINE_VISITORS} visitors at once"
        baseline = _measured(app, options, BASELINE_VISITORS, name, single, BASELINE_TIMEOUT, plain=True)
    print(f"  baseline, estimate for {ours.visitors} visitors in turn: {ours.visitors * single.wall:.0f} s")
    print(f"  ours over baseline, duration with one visitor: {our_single.seconds.p50 / single.seconds.p50:.2f}")
    print(f"  ours over baseline, frames per second in total: {ours.rate / baseline.rate:.2f}")
    print(f"  ours over baseline, p95 of trivial requests: {ours.trivial.p95 / baseline.trivial.p95:.2f}")
    return baseline


def main() -> None:
    """Parse the command line and run the scenarios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    shown = "; ".join(f"{name}: {what}" for name, what in SCENARIOS.items())
    parser.add_argument(
        "scenario", nargs="*", choices=[*SCENARIOS, []], default=[], metavar="scenario", help=f"{shown}; default: all"
    )
    for name, value in asdict(Options()).items():
        if name != "take_away":
            parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    parser.add_argument("--take-away", action="store_true", help="wait for the files, as the page does")
    parser.add_argument("--json", action="store_true", help="print all results as JSON in the last line")
    given = vars(parser.parse_args())
    names, as_json = given.pop("scenario"), given.pop("json")
    found = run(names or tuple(SCENARIOS), Options(**given))
    if as_json:
        print(json.dumps({name: asdict(figures) for name, figures in found.items()}))


if __name__ == "__main__":
    main()
