"""What goes on while the page is served: workers, the pace of frames, sweeping up, and word of the server's health."""

import asyncio
import ipaddress
import logging
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import gradio as gr
import uvicorn
from gradio import http_server
from gradio.route_utils import CustomCORSMiddleware
from gradio.routes import App
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Route

from charts.text import Text
from export import VERSION
from runs import pace, pool, visitors
from tabs import checkpoints_tab, files, live
from tabs.connection import Connection
from tabs.gate import Gate, OwnSite
from tabs.kept import Kept
from tabs.lean import Sessions, make_lean, sweep

IDLE_SWEEP_SECONDS = 15
CLOSE_SECONDS = 1  # that open connections are given to end by themselves

CLOSING = Text(
    "The server is closing, and this run ended with it. Your settings are kept: press Train again in a minute.",
    "服务器正在关闭，这次训练随之结束。设置都还在：请过一分钟再按“训练”。",
)

INSTANCE = secrets.token_hex(4)  # tells the replicas of a server apart

_log = logging.getLogger(__name__)
_loop: asyncio.AbstractEventLoop | None = None  # that the page is served on
_sessions: Sessions | None = None


def worker_count() -> int:
    """How many processes train: LIVE_NETS_WORKERS, or 2; with 0, the page's own. Ends the program for other values."""
    text = os.environ.get("LIVE_NETS_WORKERS", str(pool.WORKERS))
    if not re.fullmatch("[0-9]{1,2}", text) or int(text) > 64:
        sys.exit(f"LIVE_NETS_WORKERS must be a whole number from 0 to 64, not {text!r}.")
    return int(text)


def open_files() -> None:
    """Have as many connections as the system lets a process have: a thousand idle ones would shut out everybody."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    """While the page is served."""
    global _loop, _sessions
    _sessions = make_lean(app)
    _loop = asyncio.get_running_loop()
    async with pool.opened(worker_count()):
        tasks = [asyncio.create_task(work) for work in (pace.keep(), _sweep_files(), _sweep_runs())]
        _log.info("server started version=%s instance=%s", VERSION, INSTANCE)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            _loop = None
    _log.info("server ended")


async def _sweep_files() -> None:
    while True:
        await asyncio.sleep(files.SWEEP_SECONDS)
        try:
            removed = await asyncio.to_thread(files.sweep)
        except OSError:  # the disk's trouble may pass
            _log.exception("files not swept")
        else:
            if removed:
                _log.info("files removed folders=%d", removed)


async def _sweep_runs() -> None:
    while True:
        await asyncio.sleep(IDLE_SWEEP_SECONDS)
        visitors.put_away_idle()
        if _sessions is not None:
            sweep(_sessions.blocks)


async def _health(request: Request) -> JSONResponse:
    """How the server is doing; 503 while no worker is alive or the queue stands: another replica should be tried."""
    alive = len(pool.workers())
    told: dict[str, Any] = {
        "version": VERSION,
        "instance": INSTANCE,
        "workers": alive,
        "runs": visitors.training(),
        "waiting": visitors.waiting(),
        "kept": visitors.kept(),
        "frames_per_second": round(25 / pace.stretch(), 1),
    }
    stopped = _sessions is not None and _sessions.blocks._queue.stopped
    well = not stopped and (alive or not worker_count())
    return JSONResponse(told, 200 if well else 503, {"Cache-Control": "no-store"})


async def _bokeh(request: Request) -> FileResponse:
    """What draws the charts, under an address that tells nothing of this machine."""
    return FileResponse(live.BOKEH_JS)


APP: dict[str, Any] = {  # for FastAPI
    "lifespan": lifespan,
    "routes": [Route("/health", _health), Route(f"/{live.BOKEH_JS.name}", _bokeh), *checkpoints_tab.ROUTES],
    "middleware": [Middleware(Gate), Middleware(Kept, fixed=lambda path: path == f"/{live.BOKEH_JS.name}")],
    "docs_url": None,
    "redoc_url": None,
}


def forget(session: str) -> None:
    """Keep nothing of a page that is closed."""
    if _sessions is not None:
        _sessions.forget(session)
        # Gradio's own list of it, which it would keep for ever.
        _sessions.blocks._queue.pending_event_ids_session.pop(session, None)


@contextmanager
def listening_at(host: str, port: int, sockets: Sequence[socket.socket]) -> Iterator[None]:
    """Have Gradio serve at sockets that are open. Of a launch within, host and port are only printed.

    Gradio binds one address, hands no bound on connections to uvicorn, and knows no IPv6 address as this machine.
    """

    def start(app: App, *_: Any, **__: Any) -> tuple[str, int, str, http_server.Server]:
        middleware: list[Any] = app.user_middleware
        for each in middleware:
            if each.cls is CustomCORSMiddleware:
                each.cls = OwnSite
        server = _Server(uvicorn.Config(app, http=Connection, log_level="warning"), sockets)
        server.run_in_thread()  # type: ignore[no-untyped-call]
        return host, port, f"http://{_reached_at(sockets[-1])}:{port}/", server

    gradios = http_server.start_server
    http_server.start_server = start
    try:
        yield
    finally:
        http_server.start_server = gradios


class _Server(http_server.Server):
    def __init__(self, config: uvicorn.Config, sockets: Sequence[socket.socket]) -> None:
        super().__init__(config)
        self._sockets = sockets

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        super().run([*self._sockets])


def _reached_at(listening: socket.socket) -> str:
    """How Gradio gets to a socket, to ask whether the page is up: at every address is at none that can be asked."""
    host = ipaddress.ip_address(listening.getsockname()[0])
    if host.is_unspecified:
        return "127.0.0.1"  # a server at all addresses of IPv6 is at all of IPv4 too
    return f"[{host}]" if host.version == 6 else str(host)


def close(demo: gr.Blocks) -> None:
    """End all runs, tell those who watch them, and stop serving: in a few seconds, whoever is connected."""
    loop = _loop
    if loop is not None:
        with suppress(TimeoutError):  # a busy moment: then it ends without their last frames
            asyncio.run_coroutine_threadsafe(_end_runs(), loop).result(2 * CLOSE_SECONDS)
    demo.server.config.timeout_graceful_shutdown = CLOSE_SECONDS
    demo.close(verbose=False)


async def _end_runs() -> None:
    visitors.end_all(CLOSING)
    end = time.monotonic() + CLOSE_SECONDS
    while visitors.training() and time.monotonic() < end:  # each gives its last frame
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.4)  # for these to go out
