"""A client without a browser: sends what the page's scripts send, and reads what comes back."""

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
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from html import unescape
from pathlib import Path
from typing import Any, Self

import httpx
from websockets.sync.client import ClientConnection, connect

from lab.recipe import Recipe
from nets import LESSONS, TRAININGS, read_recipe

ROOT = Path(__file__).parent.parent
Served = tuple[str, "subprocess.Popen[bytes]", Path]  # an app: where it serves, its process, and its log
LESSON = TRAININGS["regression"]
PATIENCE = 30

Message = dict[str, Any]


def version_of(page: str) -> str:
    """The version of the scripts of the page, as its HTML says it."""
    found = re.search(r'data-version=\\?"([0-9a-f]+)', page)
    assert found is not None
    return found[1]


class Visitor:
    """An open page at a lesson: sends commands over its live channel, and remembers what scripts/lesson.js does."""

    def __init__(
        self, url: str, name: str = "", headers: Mapping[str, str] | None = None, lesson: str = "regression"
    ) -> None:
        self.name = name or secrets.token_hex(16)
        self.lesson = lesson
        self.client = httpx.Client(base_url=url, timeout=PATIENCE, headers=headers)
        self.version = version_of(self.client.get("/").text)
        self.settings: dict[str, Any] = LESSONS[lesson].config().to_dict()
        self.speed = 1
        self.run = 0  # the number of the run on show
        self.recipe: dict[str, Any] | None = None  # of the run on show
        self.frame: Message = {}  # the last one
        self.files = ""  # below the chart, as HTML
        self._counted = itertools.count(1)
        self._unread: deque[Message] = deque()
        self._open = ExitStack()
        self.connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def connect(self) -> None:
        """Connect, also again after `cut`, under the same name."""
        url = f"ws{str(self.client.base_url).removeprefix('http').rstrip('/')}/live"
        headers = {name: value for name, value in self.client.headers.items() if name == "x-forwarded-for"}
        self._open.close()
        self.socket: ClientConnection = self._open.enter_context(
            connect(
                url, additional_headers=headers, compression=None, proxy=None, open_timeout=PATIENCE, max_size=2**25
            )
        )
        self.socket.send(json.dumps({"hello": {"page": self.name, "version": self.version}}))
        assert json.loads(self.socket.recv(PATIENCE)) == {"welcome": True}

    def cut(self) -> None:
        """Lose the connection, without a word."""
        self.socket.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the page."""
        self._open.close()
        self.client.close()

    @property
    def step(self) -> int:
        """The step of the last frame."""
        return int(self.frame.get("step", 0))

    def send(self, do: str, **fields: Any) -> int:
        """Send a command about the run on show, with `fields` replaced; return its number."""
        shown = {} if self.recipe is None else {"recipe": self.recipe, "step": self.step}
        number = next(self._counted)
        command = {"do": do, "lesson": self.lesson, "n": number, "run": self.run, "settings": self.settings}
        self.socket.send(json.dumps({**command, "speed": self.speed, "language": "en", **shown, **fields}))
        return number

    def read(self, patience: float = PATIENCE) -> Message:
        """The next message. Raises TimeoutError, and ConnectionClosed if the connection is lost."""
        message: Message = json.loads(self.socket.recv(patience))
        if message.get("lesson") != self.lesson:
            return message
        if "base" in message:
            if message["run"] != self.run or self.recipe is None:
                self.files = ""
            self.run = message["run"]
            self.frame = message["frame"] if "frame" in message else message["base"]
        elif "frame" in message and message["run"] == self.run:
            self.frame = message["frame"]
        if "recipe" in message and message["run"] == self.run:
            self.recipe = message["recipe"]
        if "files" in message and message["run"] == self.run:
            self.files = message["files"]
        return message

    def ask(self, do: str, **fields: Any) -> list[Message]:
        """Send a command, and return the messages until it is done; `watch` yields their frames as well."""
        self._unread.clear()
        number = self.send(do, **fields)
        messages = []
        while (message := self.read()) != {"lesson": self.lesson, "done": number}:
            messages.append(message)
        self._unread.extend(messages)
        return messages

    def ask_for_a_run(self, do: str, **fields: Any) -> list[Message]:
        """Send a command that wants a new run."""
        return self.ask(do, **{"run": next(self._counted), "fresh": True, "step": 0, "recipe": None, **fields})

    def press_train(self, speed: int = 1, **settings: Any) -> Message:
        """Train a new run; return the message with its chart, or the one that says why there is none."""
        self.speed = speed
        self.settings = LESSONS[self.lesson].config.parse(settings).to_dict()
        found = [message for message in self.ask_for_a_run("train") if "base" in message or "problem" in message]
        return found[-1]

    def watch(self) -> Generator[Message, None, None]:
        """The frames of the run on show, until one says that it no longer runs."""
        while True:
            message = self._unread.popleft() if self._unread else self.read()
            if "frame" in message and "base" not in message and message["run"] == self.run:
                yield message["frame"]
                if message["frame"]["state"] != "running":
                    return

    def finish(self) -> Message:
        """The last frame of the run."""
        *_, last = self.watch()
        return dict(last)

    def take_away(self) -> str:
        """What is offered of the run that is done, as HTML."""
        while not self.files or "role=status" in self.files:
            self.read()
        return self.files

    def urls(self) -> dict[str, str]:
        """The URLs of the files that are offered, by the name of the file."""
        found = map(unescape, re.findall('href="(files/[^"]*)"', self.take_away()))
        return {url.partition("?")[0].rpartition("/")[2]: f"/{url}" for url in found}

    def shown(self) -> Recipe:
        """The recipe of the run on show."""
        return read_recipe(self.recipe)


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
