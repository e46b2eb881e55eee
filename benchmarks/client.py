"""A client that sends the page's requests without a browser, and measures CPU time and memory of the app's processes.

It shares the CPU with the app that it measures. So it counts frames without decoding them, and reads their stream from
a plain socket.
"""

import asyncio
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 90  # timeout for the first response of an app
MAX_MESSAGE = 2**25  # bytes
TRIVIAL = "/gradio_api/run/lessons"
TICK = os.sysconf("SC_CLK_TCK")
DONE = re.compile(rb'\\"state\\":\s*\\"done\\"')  # in a frame, which is JSON encoded in JSON


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
            _wait_for_response(url, process, log)
            yield App(url, port, folder, process, log)
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


def _wait_for_response(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            httpx.get(f"{url}/config", timeout=START_SECONDS)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise FailedError(f"no response from the app; its log ends with {log.read_text(encoding='utf-8')[-500:]!r}")


@dataclass(frozen=True)
class Call:
    """A request of the page to an event handler."""

    name: str
    index: int
    trigger: int | None
    data: list[Any]


async def calls(client: httpx.AsyncClient, tab: str, settings: Mapping[str, Any]) -> list[Call]:
    """Calls that the tab's Train button triggers, in order.

    `settings` maps names, including `speed`, to values; other settings have their defaults.
    """
    config = (await client.get("/config")).json()
    parts = {part["id"]: part["props"] for part in config["components"]}
    handlers = [handler for handler in config["dependencies"] if handler["backend_fn"]]
    first = call(config, tab, "train", settings)
    trigger = first.trigger
    chain = [first]
    while following := [handler for handler in handlers if handler["trigger_after"] == chain[-1].index]:
        data = [parts[part].get("value") for part in following[0]["inputs"]]
        chain.append(Call(_name(following[0]), following[0]["id"], trigger, data))
    return chain


def call(config: dict[str, Any], tab: str, name: str, settings: Mapping[str, Any]) -> Call:
    """The first call with that name on the tab. `config` is the page's configuration."""
    parts = {part["id"]: part["props"] for part in config["components"]}
    inside = _inside(config["layout"], {id_ for id_, props in parts.items() if props.get("id") == tab})
    first = next(
        handler
        for handler in config["dependencies"]
        if handler["backend_fn"] and _name(handler) == name and {target for target, _ in handler["targets"]} & inside
    )
    data = [_value(parts[part], settings) for part in first["inputs"]]
    return Call(name, first["id"], first["targets"][0][0], data)


def _inside(node: dict[str, Any], tabs: set[int], found: bool = False) -> set[int]:
    found = found or node["id"] in tabs
    below = [_inside(child, tabs, found) for child in node.get("children") or ()]
    return set().union({node["id"]} if found else (), *below)


def _name(handler: Mapping[str, Any]) -> str:
    """API name without the suffix that makes it unique."""
    return re.sub(r"_\d+$", "", str(handler["api_name"]))


def _value(props: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    names = re.findall(r"setting-(\w+)", " ".join(props.get("elem_classes") or ()))
    return settings.get(names[0] if names else "speed", props.get("value"))


@dataclass
class Visit:
    """Times of one visit by `time.perf_counter`."""

    began: float
    frames: list[float] = field(default_factory=list)
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
    client: httpx.AsyncClient,
    plan: list[Call],
    *,
    limit: float,
    until: float = 0.0,
    leave_after: int | None = None,
) -> Visit:
    """Open a page, make the calls of `plan` in order, and close the page.

    Repeats the calls until the time `until` by `time.perf_counter`, and closes the page early after `leave_after`
    frames. Streams send the client's X-Forwarded-For header. `failure` of the result has the error, if any.
    """
    seen, session = Visit(time.perf_counter()), secrets.token_hex(6)
    try:
        async with asyncio.timeout(limit), _connection(app.port, f"heartbeat/{session}", client):
            while not seen.ended or time.perf_counter() < until:
                for call in plan:
                    await _make(app, client, session, call, seen, leave_after)
                    if len(seen.frames) == leave_after:
                        return seen
    except TimeoutError:
        seen.failure = f"timeout after {limit:.0f} s"
    except (FailedError, OSError, EOFError, httpx.HTTPError) as error:
        seen.failure = f"{type(error).__name__}: {error}"
    return seen


async def _make(
    app: App, client: httpx.AsyncClient, session: str, call: Call, seen: Visit, leave_after: int | None
) -> None:
    body = {"data": call.data, "event_data": None, "fn_index": call.index, "trigger_id": call.trigger}
    response = await client.post("/gradio_api/queue/join", json={**body, "session_hash": session})
    if response.status_code != 200:
        raise FailedError(f"{call.name} was refused: {response.text[:200]}")
    files = call.name == "take_away"
    last = await _follow(app.port, session, [] if files else seen.frames, leave_after, client)
    if call.name == "stream" and len(seen.frames) != leave_after and not DONE.search(last):
        raise FailedError(f"the stream ended before the run: {last[-300:]!r}")
    if files:
        seen.taken = time.perf_counter()
    else:
        seen.ended = time.perf_counter()


async def _follow(
    port: int, session: str, frames: list[float], leave_after: int | None, client: httpx.AsyncClient
) -> bytes:
    """Read the event stream until the call is completed, and return its last message."""
    last = b""
    async with _connection(port, f"queue/data?session_hash={session}", client) as reader:
        while True:
            message = await reader.readuntil(b"\n\n")
            if b'"msg":"process_generating"' in message:
                frames.append(time.perf_counter())
                if len(frames) == leave_after:
                    return message
            elif b'"msg":"process_completed"' in message:
                last = message
            elif b'"msg":"close_stream"' in message:
                break
            if b'"success":false' in message or b'"msg":"unexpected_error"' in message:
                raise FailedError(message[-300:].decode(errors="replace"))
    return last


@asynccontextmanager
async def _connection(port: int, path: str, client: httpx.AsyncClient) -> AsyncIterator[asyncio.StreamReader]:
    """Send a GET request and yield the raw response stream, including its HTTP headers and chunk sizes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MAX_MESSAGE)
    try:
        address = client.headers.get("X-Forwarded-For")
        forwarded = f"X-Forwarded-For: {address}\r\n" if address else ""
        writer.write(f"GET /gradio_api/{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{forwarded}\r\n".encode())
        yield reader
    finally:
        writer.close()


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
