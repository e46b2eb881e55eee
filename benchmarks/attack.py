"""Beside somebody who asks for all that one address can: what becomes of another visitor's frames and clicks."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.client import TRIVIAL, App, Call, FailedError, call, calls, serve, visit
from benchmarks.load import Times

SECONDS = 12.0  # of each attack
CLICK_SECONDS = 0.5  # from click to click
TRAININGS, FIGURES, PREVIEWS = 140, 30, 60  # of the attacker, at once
PAGES, REQUESTS = 40, 100
LARGEST = {"steps": 2000, "hidden_units": 300}  # of the dropout lesson: six seconds of processor time


Attack = Callable[[App, httpx.AsyncClient], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Seen:
    """What the other visitor saw meanwhile."""

    rate: float  # frames a second
    clicks: Times
    failures: list[str]
    workers: float  # processor seconds

    def show(self, name: str, alone: "Seen | None") -> None:
        over = "" if alone is None else f", over alone {self.rate / alone.rate:.2f}"
        print(f"  {name}: {self.rate:.1f} frames a second{over}; a click: {self.clicks}", end="")
        print(f"; workers {self.workers:.1f} processor seconds")
        for failure in self.failures[:2]:
            print(f"    FAILED: {failure}")


def run(only: str = "") -> None:
    """Each attack on a server of its own, after the same visitor alone; or those alone with that in their names."""
    for name, attack in (
        (f"beside {TRAININGS} calls of /train that nobody reads", _abandoned),
        (f"beside {TRAININGS} calls of /train that are read", _read),
        (f"beside {FIGURES} figures and {PREVIEWS} looks at settings at a time", _figures),
        (f"beside {PAGES} pages that train at full speed", _pages),
        (f"beside {REQUESTS} small calls at a time", _small),
        (f"beside {REQUESTS} requests for the page at a time", _loads),
    ):
        if only not in name:
            continue
        with serve("app.py", LIVE_NETS_PROXIES="1") as app:
            asyncio.run(_measure(app, name, attack))


async def _measure(app: App, name: str, attack: Attack) -> None:
    async with _client(app, "192.0.2.1") as visitor, _client(app, "198.51.100.1") as attacker:
        await _ready(app, visitor)
        alone = await _seen(app, visitor, SECONDS)
        alone.show("alone", None)
        attacking = asyncio.create_task(attack(app, attacker))
        await asyncio.sleep(1)
        (await _seen(app, visitor, SECONDS)).show(name, alone)
        attacking.cancel()
        with suppress(asyncio.CancelledError):
            await attacking


async def _ready(app: App, client: httpx.AsyncClient) -> None:
    """Wait until both workers are there and warm: they draw nothing before that is so."""
    while (await client.get("/health")).json()["workers"] < 2:
        await asyncio.sleep(0.2)
    config = (await client.get("/config")).json()
    figure = call(config, "regression", "save_figure", {})
    await asyncio.gather(*(visit(app, client, [figure], limit=120) for _ in range(4)))
    await _seen(app, client, 1.0)  # what is the first of its kind takes longer


@asynccontextmanager
async def _client(app: App, address: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)  # the server closes idle ones
    headers = {"X-Forwarded-For": address}
    async with httpx.AsyncClient(base_url=app.url, limits=limits, timeout=120, headers=headers) as client:
        yield client


async def _seen(app: App, client: httpx.AsyncClient, seconds: float) -> Seen:
    """Train for so long with five steps a frame, and click meanwhile."""
    config = (await client.get("/config")).json()
    plan = [each for each in await calls(client, "regression", {"speed": 5, "steps": 2000}) if each.name != "take_away"]
    click = call(config, "classification", "changed", {})
    clicks, failures, before = list[float](), list[str](), app.usage()
    training = asyncio.create_task(visit(app, client, plan, limit=seconds))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        made = await visit(app, client, [click], limit=60)
        clicks.append(made.seconds)
        if made.failure:
            failures.append(made.failure)
        await asyncio.sleep(CLICK_SECONDS)
    frames = (await training).frames
    return Seen(len(frames) / seconds, Times.of(clicks), failures, (app.usage() - before).workers)


async def _abandoned(app: App, client: httpx.AsyncClient) -> None:
    await asyncio.gather(*(_train(client) for _ in range(TRAININGS)))


async def _read(app: App, client: httpx.AsyncClient) -> None:
    async def read() -> None:
        event = await _train(client)
        if event is not None:
            await client.get(f"/gradio_api/call/train/{event}", timeout=None)

    await asyncio.gather(*(read() for _ in range(TRAININGS)))


async def _train(client: httpx.AsyncClient) -> str | None:
    answer = await client.post("/gradio_api/call/train", json={"data": ["dropout", LARGEST]})
    return str(answer.json()["event_id"]) if answer.status_code == 200 else None


async def _figures(app: App, client: httpx.AsyncClient) -> None:
    """So many of each at any time."""
    config = (await client.get("/config")).json()
    figure = call(config, "dropout", "save_figure", LARGEST)
    preview = call(config, "dropout", "changed", LARGEST)

    async def again(asked: Call) -> None:
        while True:
            with suppress(FailedError):
                await visit(app, client, [asked], limit=600)

    await asyncio.gather(*(again(asked) for asked in [figure] * FIGURES + [preview] * PREVIEWS))


async def _pages(app: App, client: httpx.AsyncClient) -> None:
    plan = [each for each in await calls(client, "dropout", LARGEST) if each.name != "take_away"]
    await asyncio.gather(*(visit(app, client, plan, limit=2 * SECONDS) for _ in range(PAGES)))


async def _small(app: App, client: httpx.AsyncClient) -> None:
    await _over_and_over(lambda: client.post(TRIVIAL, json={"data": []}))


async def _loads(app: App, client: httpx.AsyncClient) -> None:
    await _over_and_over(lambda: client.get("/"))


async def _over_and_over(ask: Callable[[], Awaitable[httpx.Response]]) -> None:
    """So many at any time."""

    async def again() -> None:
        while True:
            with suppress(httpx.HTTPError):
                await ask()

    await asyncio.gather(*(again() for _ in range(REQUESTS)))


if __name__ == "__main__":
    run(*sys.argv[1:])
