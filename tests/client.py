"""A client without a browser: sends what the page sends, and reads what comes back."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from nets import TRAININGS

ROOT = Path(__file__).parent.parent
Served = tuple[str, "subprocess.Popen[bytes]", Path]  # an app: where it serves, its process, and its log
LESSON = TRAININGS["regression"]
PATIENCE = 30


class Visitor:
    """An open page at the regression lesson, whose handlers are asked for one after the other."""

    def __init__(self, url: str, session: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.session = session or secrets.token_hex(8)
        self.client = httpx.Client(base_url=url, timeout=PATIENCE, headers=headers)
        config = self.client.get("/config").json()
        self._handlers = {each["api_name"]: each["id"] for each in config["dependencies"]}

    def ask(self, handler: str, data: list[Any]) -> Iterator[dict[str, Any]]:
        """The messages of one event, until it is completed."""
        body = {"data": data, "fn_index": self._handlers[handler], "session_hash": self.session}
        event = self.client.post("/gradio_api/queue/join", json=body).raise_for_status().json()["event_id"]
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as answer:
            for line in answer.iter_lines():
                message = json.loads(line.removeprefix("data: ")) if line else {}
                if message.get("event_id") == event:
                    yield message
                    if message["msg"] == "process_completed":
                        return

    def press_train(self, speed: int = 1, **settings: Any) -> dict[str, Any]:
        """What becomes of the chart, once the run has begun."""
        values = [speed, *LESSON.config.parse(settings).to_dict().values()]
        *_, last = self.ask("train_1", values)
        return dict(last["output"]["data"][0])

    def watch(self) -> Generator[dict[str, Any], None, None]:
        """The frames of the run that is on."""
        value = ""
        for message in self.ask("stream", []):
            if message["msg"] == "process_generating":
                value = _patched(value, message["output"]["data"][0])
                yield json.loads(value)

    def take_away(self) -> list[Any]:
        """What is offered of the run that is done."""
        *_, last = self.ask("take_away", ["en"])
        return list(last["output"]["data"])


def _patched(before: str, sent: Any) -> str:
    """The chart's value: the first frame comes whole, of later ones what has changed."""
    if isinstance(sent, dict):
        return str(sent["value"])
    for action, path, value in sent:
        if path == ["value"]:
            assert action == "replace"
            return str(value)
    return before


@contextmanager
def app(**environment: str) -> Iterator[Served]:
    """An app of one's own: where it serves, its process, and its log. Its temporary files are beside the log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        log = Path(made) / "log"
        (Path(made) / "tmp").mkdir()
        env = {**os.environ, "PORT": str(port), "TMPDIR": str(Path(made) / "tmp"), **environment}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True
            )
        url, workers = f"http://127.0.0.1:{port}", int(environment.get("LIVE_NETS_WORKERS", "2"))
        try:
            until(lambda: _answers(url, workers) or process.poll() is not None)
            assert process.poll() is None, log.read_text(encoding="utf-8")
            yield url, process, log
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(PATIENCE)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what a killed app has left


def _answers(url: str, workers: int) -> bool:
    try:
        return bool(httpx.get(f"{url}/health", timeout=PATIENCE).json()["workers"] == workers)
    except httpx.TransportError:
        return False


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait until it holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """The processes that this one has started: first of all its workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found
