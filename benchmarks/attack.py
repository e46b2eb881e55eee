"""Frame rate and click latency of a visitor while an attacker sends as many requests as one address can."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.client import TRIVIAL, App, Plan, serve, visit
from benchmarks.load import Times

SECONDS = 12.0  # duration of each attack
CLICK_SECONDS = 0.5  # pause between clicks
TRAININGS, FIGURES, PREVIEWS = 140, 30, 60  # concurrent requests of the attacker
PAGES, REQUESTS = 40, 100
LARGEST = {"steps": 2000, "hidden_units": 300}  # the dropout lesson's maxima: six seconds of CPU time


Attack = Callable[[App, httpx.AsyncClient], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Measurement:
    """Frames and clicks of the visitor."""

    rate: float  # frames per second
    clicks: Times
    failures: list[str]
    workers: float  # CPU seconds

    def show(self, name: str, alone: "Measurement | None") -> None:
        ratio = "" if alone is None else f" ({self.rate / alone.rate:.2f} of those without attack)"
        print(f"  {name}: {self.rate:.1f} frames/s{ratio}; clicks: {self.clicks}", end="")
        print(f"; CPU of workers {self.workers:.1f} s")
        for failure in self.failures[:2]:
            print(f"    FAILED: {failure}")


def run(only: str = "") -> None:
    """Run each attack whose name contains `only` on a new server, after a measurement without attack."""
    for name, attack in (
        (f"{TRAININGS} calls of /train, responses not read", _abandoned),
        (f"{TRAININGS} calls of /train, responses read", _read),
        (f"{FIGURES} concurrent figures and {PREVIEWS} concurrent previews", _figures),
        (f"{PAGES} pages that train at full speed", _pages),
        (f"{REQUESTS} concurrent trivial calls", _small),
        (f"{REQUESTS} concurrent requests for the page", _loads),
    ):
        if only not in name:
            continue
        with serve("app.py", LIVE_NETS_PROXIES="1") as app:
            asyncio.run(_measure(app, name, attack))


async def _measure(app: App, name: str, attack: Attack) -> None:
    async with _client(app, "192.0.2.1") as visitor, _client(app, "198.51.100.1") as attacker:
        await _warm_up(app, visitor)
        alone = await _observe(app, visitor, SECONDS)
        alone.show("without attack", None)
        attacking = asyncio.create_task(attack(app, attacker))
        await asyncio.sleep(1)
        (await _observe(app, visitor, SECONDS)).show(name, alone)
        attacking.cancel()
        with suppress(asyncio.CancelledError):
            await attacking


async def _warm_up(app: App, client: httpx.AsyncClient) -> None:
    """Wait until both workers have started, and let them draw, which takes longer the first time."""
    while (await client.get("/health")).json()["workers"] < 2:
        await asyncio.sleep(0.2)
    await asyncio.gather(*(client.get("/files/regression/figure.png") for _ in range(4)))
    await _observe(app, client, 1.0)  # first calls take longer


@asynccontextmanager
async def _client(app: App, address: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)  # the server closes idle ones
    headers = {"X-Forwarded-For": address}
    async with httpx.AsyncClient(base_url=app.url, limits=limits, timeout=120, headers=headers) as client:
        yield client


async def _observe(app: App, client: httpx.AsyncClient, seconds: float) -> Measurement:
    """Train for `seconds` with five steps per frame, and click at the same time."""
    address = client.headers["X-Forwarded-For"]
    plan, click = Plan("regression", {"steps": 2000}, speed=5), Plan("classification", do="settings")
    clicks, failures, before = list[float](), list[str](), app.usage()
    training = asyncio.create_task(visit(app, plan, address=address, limit=seconds))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        clicked = await visit(app, click, address=address, limit=60)
        clicks.append(clicked.seconds)
        if clicked.failure:
            failures.append(clicked.failure)
        await asyncio.sleep(CLICK_SECONDS)
    frames = (await training).frames
    return Measurement(len(frames) / seconds, Times.of(clicks), failures, (app.usage() - before).workers)


async def _abandoned(app: App, client: httpx.AsyncClient) -> None:
    await asyncio.gather(*(_train(client) for _ in range(TRAININGS)))


async def _read(app: App, client: httpx.AsyncClient) -> None:
    async def read() -> None:
        event = await _train(client)
        if event is not None:
            await client.get(f"/gradio_api/call/train/{event}", timeout=None)

    await asyncio.gather(*(read() for _ in range(TRAININGS)))


async def _train(client: httpx.AsyncClient) -> str | None:
    response = await client.post("/gradio_api/call/train", json={"data": ["dropout", LARGEST]})
    return str(response.json()["event_id"]) if response.status_code == 200 else None


async def _figures(app: App, client: httpx.AsyncClient) -> None:
    """Keep FIGURES figures and PREVIEWS previews in progress."""
    address = client.headers["X-Forwarded-For"]

    async def figure() -> None:
        await client.get("/files/dropout/figure.png", params=LARGEST, timeout=600)

    async def preview() -> None:
        await visit(app, Plan("dropout", LARGEST, do="settings"), address=address, limit=600)

    await asyncio.gather(_repeat(figure, FIGURES), _repeat(preview, PREVIEWS))


async def _pages(app: App, client: httpx.AsyncClient) -> None:
    plan, address = Plan("dropout", LARGEST, speed=0), client.headers["X-Forwarded-For"]
    await asyncio.gather(*(visit(app, plan, address=address, limit=2 * SECONDS) for _ in range(PAGES)))


async def _small(app: App, client: httpx.AsyncClient) -> None:
    await _repeat(lambda: client.post(TRIVIAL, json={"data": []}), REQUESTS)


async def _loads(app: App, client: httpx.AsyncClient) -> None:
    await _repeat(lambda: client.get("/"), REQUESTS)


async def _repeat(send: Callable[[], Awaitable[object]], count: int) -> None:
    """Keep `count` requests in progress."""

    async def repeat() -> None:
        while True:
            with suppress(httpx.HTTPError):
                await send()

    await asyncio.gather(*(repeat() for _ in range(count)))


if __name__ == "__main__":
    run(*sys.argv[1:])
