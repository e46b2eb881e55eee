"""A client that sends the page's commands without a browser, and measures CPU time and memory of the app's processes.

It shares the CPU with the app that it measures. So it counts frames without decoding them.
"""

import asyncio
import itertools
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

START_SECONDS = 90  # timeout for the first response of an app
MAX_MESSAGE = 2**25  # bytes
TRIVIAL = "/gradio_api/run/lessons"
TICK = os.sysconf("SC_CLK_TCK")
BASE, FRAME = b'"base": {', b'"frame": {'  # in a message
DONE = b'"state": "done"'


class FailedError(Exception):
    """The app did not respond as the page expects."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds since the start."""

    page: float
    workers: float
    driver: float

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.page - other.page, self.workers - other.workers, self.driver - other.driver)


@dataclass(frozen=True)
class App:
    """A server in a separate process session, by which its processes are found."""

    url: str
    port: int
    folder: Path  # its temporary files
    process: subprocess.Popen[bytes]
    log: Path
    version: str = ""  # of the page's scripts

    def usage(self) -> Usage:
        """CPU time of the page's process, of all workers including terminated ones, and of this process."""
        stats = self._stats()
        page = stats.pop(self.process.pid)
        terminated = sum(map(int, page[13:15]))
        workers = sum(int(ticks) for stat in stats.values() for ticks in stat[11:15])
        return Usage(sum(map(int, page[11:13])) / TICK, (terminated + workers) / TICK, time.process_time())

    def memory(self) -> dict[int, float]:
        """Resident memory of each process in MB, the page's process first."""
        size = os.sysconf("SC_PAGE_SIZE") / 1e6
        found = {pid: int(stat[21]) * size for pid, stat in self._stats().items()}
        return {self.process.pid: found.pop(self.process.pid), **found}

    def files(self) -> tuple[int, int]:
        """Number of temporary files and of folders."""
        kinds = [path.is_dir() for path in self.folder.rglob("*")]
        return kinds.count(False), kinds.count(True)

    def tracebacks(self) -> int:
        return self.log.read_bytes().count(b"Traceback (most recent call last)")

    def _stats(self) -> dict[int, list[str]]:
        """Fields of /proc/PID/stat from field 3 on (proc(5)) for each process, by process id."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):  # the process has ended in the meantime
                continue
            if int(fields[3]) == self.process.pid and fields[0] != "Z":
                found[int(path.parent.name)] = fields
        return found


@contextmanager
def serve(*command: str, **settings: str) -> Iterator[App]:
    """Run python with a command that serves at $PORT until the block ends. `settings` are environment variables."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="load-", ignore_cleanup_errors=True) as parent:
        folder, log, url = Path(parent) / "temporary", Path(parent) / "log", f"http://127.0.0.1:{port}"
        folder.mkdir()
        environment = {
            **os.environ,
            "PORT": str(port),
            "TMPDIR": str(folder),
            "GRADIO_TEMP_DIR": str(folder / "gradio"),
        }
        environment |= {"GRADIO_ANALYTICS_ENABLED": "False", **settings}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, *command], env=environment, stdout=out, stderr=out, start_new_session=True
            )
        try:
            page = _wait_for_response(url, process, log)
            version = re.search(r'data-version=\\?"([0-9a-f]+)', page)
            yield App(url, port, folder, process, log, version[1] if version else "")
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            try:
                os.killpg(process.pid, signal.SIGKILL)  # remaining workers
                print(f"  processes of {' '.join(command)} were still running")
            except ProcessLookupError:
                pass


def _wait_for_response(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    """The page, once the app serves it."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            return httpx.get(f"{url}/", timeout=START_SECONDS).text
        except httpx.TransportError:
            time.sleep(0.1)
    raise FailedError(f"no response from the app; its log ends with {log.read_text(encoding='utf-8')[-500:]!r}")


@dataclass(frozen=True)
class Plan:
    """What a visitor does: commands of one lesson, or the download of a figure."""

    lesson: str
    settings: Mapping[str, Any] = field(default_factory=dict)  # other settings have their defaults
    speed: int = 1
    do: str = "train"
    take_away: bool = False  # wait for the files of the run


class Page:
    """The live channel of an open page."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._counted = itertools.count(1)
        self.run = 0
        self.received = 0  # bytes

    async def send(self, plan: Plan, do: str, **fields: Any) -> int:
        """Send a command about the run on show; return its number."""
        number = next(self._counted)
        command = {"do": do, "lesson": plan.lesson, "n": number, "run": self.run, "settings": dict(plan.settings)}
        await self._connection.send(json.dumps({**command, "speed": plan.speed, **fields}))
        return number

    async def want_run(self, plan: Plan) -> None:
        """Send the plan's command, for a new run."""
        self.run = next(self._counted)
        await self.send(plan, plan.do, fresh=True, step=0)

    async def read(self) -> bytes:
        """The next message, not decoded. Raises FailedError if a command was refused or the connection was closed."""
        try:
            message = await self._connection.recv(decode=False)
        except ConnectionClosed as error:
            raise FailedError(f"connection closed: {error}") from error
        assert isinstance(message, bytes)
        self.received += len(message)
        if b'"problem": ' in message:
            raise FailedError(message[-300:].decode(errors="replace"))
        return message


@asynccontextmanager
async def opened(app: App, address: str | None = None) -> AsyncIterator[Page]:
    """An open page. `address` is sent as X-Forwarded-For."""
    headers = {"X-Forwarded-For": address} if address else None
    async with connect(
        f"ws://127.0.0.1:{app.port}/live",
        additional_headers=headers,
        compression=None,
        proxy=None,
        open_timeout=60,
        max_size=MAX_MESSAGE,
    ) as connection:
        await connection.send(json.dumps({"hello": {"page": secrets.token_hex(16), "version": app.version}}))
        if await connection.recv() != '{"welcome": true}':
            raise FailedError("the page was not welcomed")
        yield Page(connection)


@dataclass
class Visit:
    """Times of one visit by `time.perf_counter`."""

    began: float
    frames: list[float] = field(default_factory=list)
    received: int = 0  # bytes of all frames
    ended: float = 0.0  # when the run had ended
    taken: float = 0.0  # when its files were available
    failure: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def gaps(self) -> list[float]:
        return [after - before for before, after in zip(self.frames, self.frames[1:], strict=False)]


async def visit(
    app: App,
    plan: Plan,
    *,
    address: str | None = None,
    limit: float,
    until: float = 0.0,
    leave_after: int | None = None,
) -> Visit:
    """Open a page, follow the plan, and close the page.

    Repeats the plan until the time `until` by `time.perf_counter`, and closes the page early after `leave_after`
    frames. `failure` of the result has the error, if any.
    """
    seen = Visit(time.perf_counter())
    try:
        async with asyncio.timeout(limit), opened(app, address) as page:
            while not seen.ended or time.perf_counter() < until:
                await _follow(page, plan, seen, leave_after)
                if len(seen.frames) == leave_after:
                    return seen
    except TimeoutError:
        seen.failure = f"timeout after {limit:.0f} s"
    except (FailedError, OSError, WebSocketException) as error:
        seen.failure = f"{type(error).__name__}: {error}"
    return seen


async def _follow(page: Page, plan: Plan, seen: Visit, leave_after: int | None) -> None:
    """Send the plan's command, and read until the run has ended, or until the command is done if it starts none."""
    await page.want_run(plan)
    trains = plan.do == "train"
    while True:
        message = await page.read()
        if BASE in message:
            continue
        if FRAME in message and trains:
            seen.frames.append(time.perf_counter())
            seen.received += len(message)
            if len(seen.frames) == leave_after:
                return
            if DONE in message:
                break
        elif not trains and b'"done": ' in message:
            break
    seen.ended = time.perf_counter()
    if plan.take_away:
        while b'"files": ' not in message or b"role=status" in message:
            message = await page.read()
        seen.taken = time.perf_counter()


async def pauses(app: App, plan: Plan, every: float) -> AsyncGenerator[float, None]:
    """Train, and pause and continue again and again; seconds from each Pause to the frame that shows it."""
    async with opened(app) as page:
        await page.want_run(plan)
        while True:
            await asyncio.sleep(every)
            start = time.perf_counter()
            await page.send(plan, "pause")
            while b'"state": "paused"' not in await page.read():
                pass
            yield time.perf_counter() - start
            await page.send(plan, "train")


async def visit_queue(app: App, client: httpx.AsyncClient, steps: int, *, limit: float) -> Visit:
    """Press the only button of a Gradio app, the baseline of `load`, and follow its frames through Gradio's queue."""
    seen, session = Visit(time.perf_counter()), secrets.token_hex(6)
    body = {"data": [steps], "event_data": None, "fn_index": 0, "trigger_id": None, "session_hash": session}
    try:
        async with asyncio.timeout(limit):
            (await client.post("/gradio_api/queue/join", json=body)).raise_for_status()
            async with client.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as stream:
                async for line in stream.aiter_lines():
                    if '"msg":"process_generating"' in line:
                        seen.frames.append(time.perf_counter())
                        seen.received += len(line)
                    elif '"msg":"close_stream"' in line:
                        break
            seen.ended = time.perf_counter()
    except TimeoutError:
        seen.failure = f"timeout after {limit:.0f} s"
    except httpx.HTTPError as error:
        seen.failure = f"{type(error).__name__}: {error}"
    return seen


async def ping(client: httpx.AsyncClient, times: list[float], failures: list[str]) -> None:
    """Send a trivial request and append its duration to `times`."""
    start = time.perf_counter()
    try:
        response = await client.post(TRIVIAL, json={"data": [], "session_hash": "trivial"}, timeout=60)
        if response.status_code != 200:
            failures.append(response.text[:200])
    except httpx.HTTPError as error:
        failures.append(repr(error))
    times.append(time.perf_counter() - start)
