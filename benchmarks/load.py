"""Many visitors at once: how the app holds its pace, answers others, and forgets who has left; and the plain way."""

import argparse
import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urljoin

import httpx

from benchmarks.client import App, Usage, ask, calls, serve, visit

TAB = "regression"
PACE = 25  # frames a second
PROBE_SECONDS = 0.1
PLAIN_VISITORS, PLAIN_LIMIT = 8, 60.0  # one after the other: 32 would take minutes
BATCH, RUNS_A_ROW = 20, 100
MOST_SECONDS = 1800.0  # of a scenario, whatever happens
SLOWEST = 20  # times its ideal length that a visit is waited for


@dataclass(frozen=True)
class Options:
    """What the visitors do."""

    visitors: int = 32
    speed: int = 5
    steps: int = 500
    seconds: int = 60  # of page loads
    loads: int = 200  # in a minute
    runs: int = 1000
    take_away: bool = False


@dataclass(frozen=True)
class Times:
    """A distribution, in seconds."""

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
    """What visitors saw who came at once, and what it cost."""

    visitors: int
    finished: int
    failures: list[str]
    wall: float
    seconds: Times  # of those who finished
    frames: list[int]  # of each visitor
    first: Times  # from Train to the first of them
    gaps: Times
    taking: Times  # from rest to files
    trivial: Times
    usage: Usage
    tracebacks: int

    @property
    def rate(self) -> float:
        """Frames a second, of all visitors together."""
        return sum(self.frames) / self.wall

    def show(self, name: str, alone: "Crowd | None" = None) -> None:
        print(f"  {name}: {self.finished} of {self.visitors} finished in {self.wall:.1f} s")
        over = ""
        if alone is not None:
            times = self.seconds.p50 / alone.seconds.p50, self.seconds.most / alone.seconds.p50
            over = ", over the lone one's {:.2f} and {:.2f}".format(*times)
        print(f"    a run: median {self.seconds.p50:.2f} s, max {self.seconds.most:.2f} s{over}")
        least, total = min(self.frames), sum(self.frames)
        print(f"    frames: {least} to {max(self.frames)} a visitor, {self.rate:.0f} a second in all")
        print(f"    from Train to the first: {self.first}")
        print(f"    between frames: {self.gaps}")
        print(f"    a trivial request: {self.trivial}")
        if self.taking.count:
            print(f"    from rest to files: {self.taking}")
        used = self.usage
        print(f"    processor seconds: page {used.page:.1f}, workers {used.workers:.1f}, driver {used.driver:.1f}")
        print(f"    page, a frame: {used.page / max(total, 1) * 1000:.1f} ms of processor")
        _complain(self.failures, self.tracebacks)


@dataclass(frozen=True)
class Loads:
    """Pages that were opened beside visitors who train."""

    times: Times
    requests: int  # of one load
    bytes: int
    failures: list[str]
    beside: Crowd

    def show(self) -> None:
        print(f"  page loads of {self.requests} requests, {self.bytes / 1e6:.1f} MB: {self.times}")
        _complain(self.failures, 0)
        self.beside.show("visitors meanwhile")


@dataclass(frozen=True)
class Memory:
    """Resident megabytes after so many runs, and what is left in the folder of temporary files."""

    rows: dict[int, list[float]] = field(default_factory=dict)  # the page's process first, then its children
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
        print(f"  end over first row: {self.growth:.3f}; {self.files[0]} files and {self.files[1]} folders left")
        _complain(self.failures, self.tracebacks)


def _complain(failures: list[str], tracebacks: int) -> None:
    for failure in dict.fromkeys(failures[:3]):
        print(f"    FAILED ({len(failures)} in all): {failure}")
    if tracebacks:
        print(f"    {tracebacks} tracebacks in the log")


@asynccontextmanager
async def _client(app: App) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=app.url, limits=limits, timeout=120) as client:
        yield client


async def _every(seconds: float, action: Callable[[], Coroutine[Any, Any, None]], count: int | None = None) -> None:
    """Begin it at a steady pace, however long each takes, and wait for all; until cancelled, if no count is given."""
    due, number = time.monotonic(), 0
    async with asyncio.TaskGroup() as group:
        while count is None or number < count:
            group.create_task(action())
            due, number = due + seconds, number + 1
            await asyncio.sleep(due - time.monotonic())


async def crowd(app: App, options: Options, limit: float | None = None, seconds: float = 0.0) -> Crowd:
    """Let that many visitors train at once, again and again for so long, beside somebody's trivial requests."""
    ideal = options.steps / options.speed / PACE if options.speed else 5.0
    async with _client(app) as client:
        plan = await calls(client, TAB, {"speed": options.speed, "steps": options.steps})
        plan = [call for call in plan if options.take_away or call.name != "take_away"]
        asked, failures = list[float](), list[str]()
        once = await visit(app, client, await calls(client, TAB, {"speed": 0, "steps": 5}), limit=60)
        await ask(client, [], failures)  # and what the first of these takes is no other's either
        before, began = app.usage(), time.perf_counter()
        probe = asyncio.create_task(_every(PROBE_SECONDS, lambda: ask(client, asked, failures)))
        each, until = limit or SLOWEST * ideal + 60 + seconds, began + seconds
        visits = [visit(app, client, plan, limit=each, until=until) for _ in range(options.visitors)]
        seen = await asyncio.gather(*visits)
        wall, usage = time.perf_counter() - began, app.usage() - before
        probe.cancel()
        await asyncio.wait([probe])
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
        Times.of(asked),
        usage,
        app.tracebacks(),
    )


async def page_loads(app: App, options: Options) -> Loads:
    """Open pages at a steady pace while visitors train; each load is the page and what it refers to, with no cache."""
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
    """How many bytes come for this; as they are, since unpacking them is a browser's work, not the server's."""
    async with client.stream("GET", address) as answer:
        answer.raise_for_status()
        return sum([len(part) async for part in answer.aiter_raw()])


async def memory(app: App, options: Options) -> Memory:
    """Start many runs, some at a time: half the visitors leave in the midst, a tenth of the others take the nets."""
    rows, failures = dict[int, list[float]](), list[str]()
    async with _client(app) as client:
        whole = await calls(client, TAB, {"speed": 0, "steps": 20})
        slow = await calls(client, TAB, {"speed": 1, "steps": 20})  # at full speed nobody could leave in the midst
        rest = [call for call in whole if call.name != "take_away"]
        for started in range(0, options.runs, BATCH):
            visits = []
            for number in range(started, started + BATCH):
                plan, leave = (slow, 3) if number % 2 else (whole if number % 20 == 0 else rest, None)
                visits.append(visit(app, client, plan, limit=120, leave_after=leave))
            failures += [one.failure for one in await asyncio.gather(*visits) if one.failure]
            if (started + BATCH) % RUNS_A_ROW == 0 or started + BATCH >= options.runs:
                rows[started + BATCH] = list(app.memory().values())
    await asyncio.sleep(1)
    return Memory(rows, failures, app.files(), app.tracebacks())


Measured = TypeVar("Measured")

SCENARIOS = {
    "alone": "one visitor",
    "crowd": "many visitors at once",
    "packed": "twice as many",
    "loads": "page loads beside many visitors",
    "plain": "a sync generator, gr.Plot and the default queue, against one visitor and many",
    "memory": "many runs, half of them abandoned",
}


def run(names: Sequence[str] = tuple(SCENARIOS), options: Options | None = None) -> dict[str, Any]:
    """Measure and print these scenarios; the lone visitor always, since all others are held against one."""
    options, found = options or Options(), dict[str, Any]()
    many = options.visitors
    if {*names} - {"memory"}:
        with serve("app.py") as app:
            found["alone"] = lone = _measured(app, options, 1, "one visitor")
            if {"crowd", "plain"} & {*names}:
                found["crowd"] = ours = _measured(app, options, many, f"{many} visitors at once", lone)
                if "plain" in names:
                    found["plain"] = _plain(options, lone, ours)
            if "packed" in names:
                found["packed"] = _measured(app, options, 2 * many, f"{2 * many} visitors at once", lone)
            if "loads" in names:
                found["loads"] = loads = _bounded(page_loads(app, options))
                loads.show()
    if "memory" in names:
        with serve("app.py") as app:
            found["memory"] = kept = _bounded(memory(app, options))
            kept.show()
    return found


def _bounded(scenario: Coroutine[Any, Any, Measured]) -> Measured:
    return asyncio.run(asyncio.wait_for(scenario, MOST_SECONDS))


def _measured(
    app: App, options: Options, visitors: int, name: str, lone: Crowd | None = None, limit: float | None = None
) -> Crowd:
    measured = _bounded(crowd(app, replace(options, visitors=visitors), limit))
    measured.show(name, lone)
    return measured


def _plain(options: Options, our_lone: Crowd, ours: Crowd) -> Crowd:
    """One visitor and some at once to the plain way, and ours over it."""
    with serve("-m", "benchmarks.load_plain") as app:
        lone = _measured(app, options, 1, "the plain way, one visitor")
        plain = _measured(app, options, PLAIN_VISITORS, f"the plain way, {PLAIN_VISITORS} at once", lone, PLAIN_LIMIT)
    print(f"  the plain way, {ours.visitors} would take {ours.visitors * lone.wall:.0f} s, one after the other")
    print(f"  ours over plain, seconds of one alone: {our_lone.seconds.p50 / lone.seconds.p50:.2f}")
    print(f"  ours over plain, frames a second in all: {ours.rate / plain.rate:.2f}")
    print(f"  ours over plain, p95 of a trivial request: {ours.trivial.p95 / plain.trivial.p95:.2f}")
    return plain


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    shown = "; ".join(f"{name}: {what}" for name, what in SCENARIOS.items())
    parser.add_argument(
        "scenario", nargs="*", choices=[*SCENARIOS, []], default=[], metavar="scenario", help=f"{shown}; else all"
    )
    for name, value in asdict(Options()).items():
        if name != "take_away":
            parser.add_argument(f"--{name}", type=int, default=value, help=f"{value} if not given")
    parser.add_argument("--take-away", action="store_true", help="visitors wait for their files, as the page does")
    parser.add_argument("--json", action="store_true", help="all figures as JSON in the last line")
    given = vars(parser.parse_args())
    names, as_json = given.pop("scenario"), given.pop("json")
    found = run(names or tuple(SCENARIOS), Options(**given))
    if as_json:
        print(json.dumps({name: asdict(figures) for name, figures in found.items()}))


if __name__ == "__main__":
    main()
