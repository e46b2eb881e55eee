"""A visitor without a browser: the requests that the page makes, and what the app's processes cost meanwhile.

Frames are only counted, never decoded, and their stream is read from a bare socket: this driver shares its processors
with the app that it measures.
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

START_SECONDS = 90  # that an app may take until it answers
LARGEST = 2**25  # bytes of a message
TRIVIAL = "/gradio_api/run/lessons"
TICK = os.sysconf("SC_CLK_TCK")
DONE = re.compile(rb'\\"state\\":\s*\\"done\\"')  # in a frame, which is JSON in JSON


class FailedError(Exception):
    """The app did not do what the page would have waited for."""


@dataclass(frozen=True)
class Usage:
    """Processor seconds so far."""

    page: float
    workers: float
    driver: float

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.page - other.page, self.workers - other.workers, self.driver - other.driver)


@dataclass(frozen=True)
class App:
    """A server in a session of its own, so that all its processes can be told from others."""

    url: str
    port: int
    folder: Path  # all its temporary files
    process: subprocess.Popen[bytes]
    log: Path

    def usage(self) -> Usage:
        """What it has used, its workers with those that are gone, and what this process has."""
        stats = self._stats()
        page = stats.pop(self.process.pid)
        gone = sum(map(int, page[13:15]))
        workers = sum(int(ticks) for stat in stats.values() for ticks in stat[11:15])
        return Usage(sum(map(int, page[11:13])) / TICK, (gone + workers) / TICK, time.process_time())

    def memory(self) -> dict[int, float]:
        """Resident megabytes of each process, the page's first."""
        size = os.sysconf("SC_PAGE_SIZE") / 1e6
        found = {pid: int(stat[21]) * size for pid, stat in self._stats().items()}
        return {self.process.pid: found.pop(self.process.pid), **found}

    def files(self) -> tuple[int, int]:
        """How many files and folders it keeps."""
        kinds = [path.is_dir() for path in self.folder.rglob("*")]
        return kinds.count(False), kinds.count(True)

    def tracebacks(self) -> int:
        return self.log.read_bytes().count(b"Traceback (most recent call last)")

    def _stats(self) -> dict[int, list[str]]:
        """Of each process, /proc's stat after the command's name: fields 3 and on of proc(5)."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):  # it ended just now
                continue
            if int(fields[3]) == self.process.pid and fields[0] != "Z":
                found[int(path.parent.name)] = fields
        return found


@contextmanager
def serve(*command: str, **settings: str) -> Iterator[App]:
    """Run python with this command until the block ends; it has to serve at PORT. `settings` go to its environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="load-", ignore_cleanup_errors=True) as made:
        folder, log, url = Path(made) / "temporary", Path(made) / "log", f"http://127.0.0.1:{port}"
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
            _await(url, process, log)
            yield App(url, port, folder, process, log)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            try:
                os.killpg(process.pid, signal.SIGKILL)  # workers that outlived it
                print(f"  processes of {' '.join(command)} outlived it")
            except ProcessLookupError:
                pass


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            httpx.get(f"{url}/config", timeout=START_SECONDS)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise FailedError(f"no answer from the app; its log ends with {log.read_text(encoding='utf-8')[-500:]!r}")


@dataclass(frozen=True)
class Call:
    """A request of the page to one handler."""

    name: str
    index: int
    trigger: int | None
    data: list[Any]


async def calls(client: httpx.AsyncClient, tab: str, settings: Mapping[str, Any]) -> list[Call]:
    """Those that the button Train of the tab sets off, one after the other.

    Settings go by their names, `speed` among them; the others are as the page shows them first.
    """
    config = (await client.get("/config")).json()
    parts = {part["id"]: part["props"] for part in config["components"]}
    handlers = [handler for handler in config["dependencies"] if handler["backend_fn"]]
    first = call(config, tab, "train", settings)
    trigger = first.trigger
    found = [first]
    while following := [handler for handler in handlers if handler["trigger_after"] == found[-1].index]:
        data = [parts[part].get("value") for part in following[0]["inputs"]]
        found.append(Call(_name(following[0]), following[0]["id"], trigger, data))
    return found


def call(config: dict[str, Any], tab: str, name: str, settings: Mapping[str, Any]) -> Call:
    """The first call of that name on the tab, of the page with this configuration."""
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
    """Without the number that tells the tabs' handlers apart."""
    return re.sub(r"_\d+$", "", str(handler["api_name"]))


def _value(props: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    names = re.findall(r"setting-(\w+)", " ".join(props.get("elem_classes") or ()))
    return settings.get(names[0] if names else "speed", props.get("value"))


@dataclass
class Visit:
    """What one visitor saw: times are of `time.perf_counter`."""

    began: float
    frames: list[float] = field(default_factory=list)
    ended: float = 0.0  # when the run was over, and the page at rest
    taken: float = 0.0  # when its files were there
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
    """Open a page, make these calls in turn, and close it.

    The visitor trains again until that time by `time.perf_counter`, and leaves after so many frames of `leave_after`.
    What the client sends as X-Forwarded-For, its streams send too.
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
        seen.failure = f"not done in {limit:.0f} s"
    except (FailedError, OSError, EOFError, httpx.HTTPError) as error:
        seen.failure = f"{type(error).__name__}: {error}"
    return seen


async def _make(
    app: App, client: httpx.AsyncClient, session: str, call: Call, seen: Visit, leave_after: int | None
) -> None:
    body = {"data": call.data, "event_data": None, "fn_index": call.index, "trigger_id": call.trigger}
    answer = await client.post("/gradio_api/queue/join", json={**body, "session_hash": session})
    if answer.status_code != 200:
        raise FailedError(f"{call.name} was refused: {answer.text[:200]}")
    files = call.name == "take_away"
    last = await _follow(app.port, session, [] if files else seen.frames, leave_after, client)
    if call.name == "stream" and len(seen.frames) != leave_after and not DONE.search(last):
        raise FailedError(f"the stream ended undone: {last[-300:]!r}")
    if files:
        seen.taken = time.perf_counter()
    else:
        seen.ended = time.perf_counter()


async def _follow(
    port: int, session: str, frames: list[float], leave_after: int | None, client: httpx.AsyncClient
) -> bytes:
    """Listen until the call is completed, and give its last message."""
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
    """A GET whose answer is read as it comes: what frames it in HTTP stands before the messages, and does no harm."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LARGEST)
    try:
        sent = client.headers.get("X-Forwarded-For")
        forwarded = f"X-Forwarded-For: {sent}\r\n" if sent else ""
        writer.write(f"GET /gradio_api/{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{forwarded}\r\n".encode())
        yield reader
    finally:
        writer.close()


async def ask(client: httpx.AsyncClient, times: list[float], failures: list[str]) -> None:
    """Make one trivial request, and note what it took."""
    start = time.perf_counter()
    try:
        answer = await client.post(TRIVIAL, json={"data": [], "session_hash": "trivial"}, timeout=60)
        if answer.status_code != 200:
            failures.append(answer.text[:200])
    except httpx.HTTPError as error:
        failures.append(repr(error))
    times.append(time.perf_counter() - start)
