"""Random requests: the app answers or refuses each, and serves as before.

The requests are the same each time; `make test-long` has more examples. Commands over the live channel are in
test_live_channel.py.
"""

import json
import re
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from server import temporary_files
from tabs.run_files import ARCHIVE, LABELS
from tests.client import ROOT, Served, Visitor, children, until

EXAMPLES = 2
LONG_EXAMPLES = 20
SECONDS = 10  # that an answer may take
MEGABYTES = 60  # that the page's process may grow by
EVENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) (runs|server|tabs)\.\w+ \w")  # and no error
INVALID = "Invalid HTTP request received."  # what uvicorn answers to what is none
GONE = f"{temporary_files.GONE.en}\n{temporary_files.GONE.zh}\n"  # what stands in the place of a file, for who looks
INSIDES = ("Traceback", 'File "', "object at 0x", "<function", "site-packages")

NASTY: list[Any] = [
    *(None, True, -1, 0, 10**30, -(10**4000), 1e308, -0.0, float("nan"), float("inf"), float("-inf"), "", "\0"),
    *("\ud800", "ü", "../" * 9 + "etc/passwd", "<script>", "{}", "%s{0}", "9" * 300, "NaN", "x" * 5000, [], {}),
    *([[]] * 50, {"__class__": 1}, {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}),
    *({"__type__": "update", "value": 1}, {"url": "http://127.0.0.1/", "path": "x"}, "[[1, 2], [3]]", "[1e999]"),
]
LEAVES = st.sampled_from(NASTY) | st.integers() | st.floats() | st.text(max_size=9)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
) | st.builds(lambda depth: json.loads("[" * depth + "]" * depth), st.integers(1, 400))
TEXT = st.text(st.characters(max_codepoint=255), max_size=20)
PAGES = st.sampled_from(["fuzz-0", "fuzz-1", "fuzz-2", "fuzz-3"])
"""Few, so that handlers find there what others have left."""


class Fuzzed:
    """The app, what was sent to it, and what came back."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.url, self.process, self.log = url, process, log
        self.client = httpx.Client(base_url=f"{url}/gradio_api/", timeout=SECONDS)
        self.statuses: Counter[str] = Counter()
        config = self.client.get(f"{url}/config").json()
        self.handlers: list[dict[str, Any]] = config["dependencies"]
        self.memory = 0
        self.workers = children(process.pid)
        self.log_start = log.stat().st_size

    def values(self, handler: dict[str, Any]) -> list[Any]:
        """Some that do."""
        if handler["api_name"] == "train":
            return ["regression", {"steps": 3}, None]
        return [None for _ in handler["inputs"]]

    def resident(self) -> int:
        """Of the page's process, in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmRSS:")[1].split()[0]) // 1024

    def send(self, path: str, body: Any, infinity: str) -> Any:
        """Post what need not be JSON, and give the answer's, if it is one of success."""
        text = json.dumps(body).replace("Infinity", infinity)
        answer = self.client.post(path, content=text, headers={"Content-Type": "application/json"})
        self.judge(answer.status_code, answer.text)
        return answer.json() if answer.status_code == 200 else {}

    def judge(self, status: int, text: str, alone: bool = False) -> None:
        self.statuses[str(status)] += 1
        answer = {} if status < 400 or text in (INVALID, GONE) or (alone and not text) else json.loads(text)
        told = answer.get("error" if status == 500 else "detail", status != 500 and not answer)
        assert status <= 500, text
        assert told, (status, text)  # Gradio's run/NAME tells a sentence of ours with a 500
        assert [inside for inside in INSIDES if inside in text] == []

    def listen(self, path: str, ends: Callable[[str], bool], most: int) -> None:
        """Read a stream to its end, or some messages of it."""
        start = time.monotonic()
        with self.client.stream("GET", path) as answer:
            for line in answer.iter_lines():
                assert [inside for inside in INSIDES if inside in line] == []
                assert time.monotonic() - start < SECONDS, line
                most -= bool(line)
                if ends(line) or not most:
                    break
        self.statuses[f"{answer.status_code} stream"] += 1

    def raw(self, request: bytes, half: bool = False) -> tuple[int, str]:
        """The status and text of what is answered to these bytes, 0 if nothing is."""
        address = urlsplit(self.url)
        answer = b""
        with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as client:
            try:
                client.sendall(request)
                if half:
                    client.shutdown(socket.SHUT_WR)
                while b"text/event-stream" not in answer and (got := client.recv(65536)):
                    answer += got
            except TimeoutError:
                raise
            except OSError:  # it need not read to the end what it refuses
                pass
        head, _, body = answer.partition(b"\r\n\r\n")
        return (int(head.split()[1]), body.decode("utf-8", "replace")) if head else (0, "")


def tried(check: Callable[[Any], None], strategy: st.SearchStrategy[Any], examples: int, number: int = 0) -> None:
    """Check examples of it, others for another number."""
    quiet = settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    quiet(seed(number)(given(strategy)(lambda value: check(value))))()


def nearly(values: list[Any]) -> st.SearchStrategy[Any]:
    """These values with one or two replaced, more seldom something else."""

    def replaced(changes: dict[int, Any]) -> list[Any]:
        return [changes.get(index, value) for index, value in enumerate(values)]

    changes = st.dictionaries(st.integers(0, max(len(values) - 1, 0)), JSON, min_size=min(1, len(values)), max_size=2)
    return st.one_of(changes.map(replaced), changes.map(replaced), changes.map(replaced), JSON)


def bodies(values: list[Any], number: Any) -> st.SearchStrategy[tuple[dict[str, Any], str]]:
    """What to post for a handler, and how infinity is written."""
    event = st.none() | st.fixed_dictionaries({}, optional={"checkpoint": JSON, "idea": JSON, "value": JSON}) | JSON
    body = st.fixed_dictionaries(
        {"data": nearly(values), "session_hash": PAGES | PAGES | PAGES | JSON, "event_data": event},
        optional={"trigger_id": st.integers(0, 200) | JSON},
    )
    outside = st.just(number) | st.just(number) | st.just(number) | JSON
    return st.tuples(st.builds(lambda made, which: {**made, "fn_index": which}, body, outside), INFINITY)


INFINITY = st.sampled_from(["Infinity", "1e999"])


@pytest.fixture(scope="module")
def fuzzed(served: Served) -> Iterator[Fuzzed]:
    """The app, once it has served a visitor; afterwards it must serve as before, and have logged no error."""
    made = Fuzzed(*served)
    trains(made.url)
    made.memory = made.resident()
    yield made
    made.client.close()
    until(lambda: httpx.get(f"{made.url}/health").json()["runs"] == 0)
    answer = httpx.get(f"{made.url}/health")
    assert (answer.status_code, answer.json()["workers"], made.workers) == (200, 2, children(made.process.pid))
    trains(made.url)
    assert made.resident() - made.memory < MEGABYTES
    log = made.log.read_bytes()[made.log_start :].decode()
    lines = [line for line in log.splitlines() if line]
    assert [line for line in lines if not EVENT.match(line)] == []


def sample(handlers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The functions of the API, and one of those that run in the browser."""
    return [*{re.sub(r"_\d+$", "", each["api_name"]): each for each in handlers}.values()]


long_too = pytest.mark.parametrize(
    ("examples", "chosen"), [(EXAMPLES, sample), pytest.param(LONG_EXAMPLES, list, marks=pytest.mark.long)]
)
Chosen = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


def trains(url: str) -> str:
    """Have a visitor and a client of the API train three steps, and give the file that the client gets."""
    with Visitor(url) as visitor:
        visitor.press_train(speed=0, steps=3)
        assert visitor.finish()["state"] == "done"
        assert visitor.client.get(visitor.urls()["bundle.zip"]).content.startswith(b"PK")
        call = {"data": ["regression", {"steps": 3}]}
        made = visitor.client.post("/gradio_api/run/train", json=call).raise_for_status().json()["data"]
        return str(made[2]["path"])


@long_too
def test_every_handler_answers_whatever_is_in_the_queue(examples: int, chosen: Chosen, fuzzed: Fuzzed) -> None:
    def check(sent: tuple[dict[str, Any], str]) -> None:
        event = fuzzed.send("queue/join", *sent).get("event_id")
        if event:
            path = f"queue/data?session_hash={sent[0]['session_hash']}"
            fuzzed.listen(path, lambda line: "process_completed" in line and event in line, 99)

    for handler in chosen(fuzzed.handlers):
        tried(check, bodies(fuzzed.values(handler), handler["id"]), examples, handler["id"])


@long_too
@pytest.mark.parametrize("path", ["run", "call", "call/v2"])
def test_every_name_answers_whatever_is_asked_of_it(path: str, examples: int, chosen: Chosen, fuzzed: Fuzzed) -> None:
    for handler in chosen(fuzzed.handlers):
        name = handler["api_name"]

        def check(sent: tuple[dict[str, Any], str], name: str = name) -> None:
            event = fuzzed.send(f"{path}/{name}", *sent).get("event_id")
            if event:
                fuzzed.listen(f"call/{name}/{event}", lambda line: line in ("event: complete", "event: error"), 9)

        own = fuzzed.values(handler)
        named = st.fixed_dictionaries({}, optional={"lesson": st.just("regression") | JSON, "settings": JSON})
        made = st.tuples(named | JSON, INFINITY) if path == "call/v2" else bodies(own, handler["id"])
        tried(check, made, examples if path == "run" or handler["api_visibility"] == "public" else 1, handler["id"])


QUERY = st.dictionaries(
    st.sampled_from(["steps", "learning_rate", "seed", "changes", "stop", "language", "step", "run", "page", "x"]),
    st.sampled_from(["", "3", "0.1", "-1", "1e999", "NaN", "9" * 400, "zh", "1:learning_rate=0.2", "0:net.x=1", "ü\0"])
    | TEXT,
    max_size=4,
)


@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(LONG_EXAMPLES, marks=pytest.mark.long)])
def test_every_url_of_a_file_gives_it_or_says_in_a_sentence_why_not(examples: int, fuzzed: Fuzzed) -> None:
    names = [*LABELS, ARCHIVE, "figure.png", "figure.svg", "figure.exe", "nope"]

    def check(sent: tuple[str, str, dict[str, str]]) -> None:
        lesson, name, query = sent
        answer = fuzzed.client.get(f"{fuzzed.url}/files/{lesson}/{name}", params={"steps": "3", **query}, timeout=60)
        assert answer.status_code in (200, 404, 422)
        if answer.status_code != 200:
            assert 1 <= len(answer.text.splitlines()) <= 2
            assert [inside for inside in INSIDES if inside in answer.text] == []

    lessons = st.sampled_from(["regression", "regression", "saving", "tensors", "nope"])
    tried(check, st.tuples(lessons, st.sampled_from(names), QUERY), 20 * examples)


LINES = r"""Host: [::|Host: y|Content-Length: -1|Content-Length: 9999999999999999999|Content-Length: 1|Origin: http://[::
|Transfer-Encoding: chunked|Transfer-Encoding: gzip, chunked|Range: bytes=1-2,3-4|Range: bytes=9-1|Cookie: a=ÿ; b
|X-Forwarded-For: ÿ|X-Forwarded-Host: [::|Content-Type: multipart/form-data; boundary=|Content-Type: a; charset=ÿ|: x
|Authorization: Basic ÿ|Expect: 100-continue|A: BIG|Upgrade: websocket|X-Gradio-User: app|If-Modified-Since: z
|If-None-Match: *|Accept-Encoding: gzip;q=ÿ|X-Gradio-Server: http://x|Referer: ÿ://[| folded"""
METHODS = "GET GET POST POST HEAD OPTIONS PUT DELETE PATCH TRACE CONNECT PRI get ÿ"
TARGETS = """/ * /config /health http://evil.example/ //evil.example/ evil:443 /%zz%ff%c0%af /%00 ?
/?deep_link=../../etc /?__theme=ÿ /assets/../app.py /static/img/logo.svg /theme.css /svelte/x
/gradio_api/info /gradio_api/upload
/gradio_api/queue/data?session_hash=nobody /gradio_api/queue/data?session_hash=%ff%00 /gradio_api/heartbeat/fuzz-0
/gradio_api/heartbeat/%0a /gradio_api/call/lessons/x /gradio_api/queue/join /gradio_api/cancel /gradio_api/reset
/gradio_api/run/lessons /gradio_api/call/train /live /live/ /files/regression/bundle.zip?steps=3 /files/regression/x
/files/no/figure.png?run=ÿ /scripts/x/main.js"""
CONTENTS = """|{}|{"data": []}|{"data": [], "event_id": "x", "session_hash": "x", "fn_index": 0}|ÿ|2\r\n{}\r\n0\r\n\r\n
|zz\r\n|-1\r\n|ffffffffffffffff\r\nx|11170\r\nBIG\r\n|BIG"""
BIG = "x" * 70_000  # by its name till it is sent: Hypothesis warns of what is long


@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(LONG_EXAMPLES, marks=pytest.mark.long)])
def test_every_request_is_answered_or_refused_however_it_is_written(examples: int, fuzzed: Fuzzed) -> None:
    def check(sent: tuple[str, str, list[str], str, int, bool]) -> None:
        method, target, lines, content, cut, whole = sent
        head = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *lines]
        told = [] if not whole else [f"Content-Length: {len(content.replace('BIG', BIG))}"]
        request = "\r\n".join([*head, *told, "", content]).replace("BIG", BIG).encode("latin-1")
        status, text = fuzzed.raw(request[: cut or None], half=not whole or cut > 0 or bool(lines))
        page = status == 200 and not target.startswith("/gradio_api")
        public = method == "GET" and (page or target.startswith("/files/"))
        fuzzed.judge(status, "" if public or not text else text, alone=True)

    lines = st.lists(st.sampled_from(LINES.replace("\n", "").split("|")) | TEXT, max_size=3)
    cuts = st.just(0) | st.just(0) | st.integers(1, 200)
    methods, targets = st.sampled_from(METHODS.split()) | TEXT, st.sampled_from(TARGETS.split()) | TEXT
    contents = st.sampled_from(CONTENTS.replace("\n|", "|").split("|"))
    tried(check, st.tuples(methods, targets, lines, contents, cuts, st.booleans()), 100 * examples)


@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(LONG_EXAMPLES, marks=pytest.mark.long)])
def test_no_file_is_given_but_to_who_knows_its_whole_name(examples: int, fuzzed: Fuzzed) -> None:
    folder = Path(trains(fuzzed.url)).parent
    roots = ["", "/", "~", "file://", "data:", "//", "\\\\evil\\", str(ROOT), str(ROOT / "checkpoints"), str(folder)]
    roots += [str(folder.parent), str(folder.parent / ("0" * len(folder.name))), str(fuzzed.log.parent)]
    ways = ["/", "/../", "/..%2f", "/%2e%2e/", "/..\\", "//", "/./", "/%00/", "/%ff/", "/~/"]
    ends = ["", ".", "..", "app.py", "log", "net.onnx", "etc/passwd", "proc/self/environ", "dev/zero", ".git/config"]

    def check(sent: tuple[str, list[str], str]) -> None:
        root, way, end = sent
        target = f"/gradio_api/file={root}{''.join(way)}{end}"
        status, text = fuzzed.raw(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
        assert status in (400, 403, 404), target
        fuzzed.judge(status, text)

    way = st.lists(st.sampled_from(ways), max_size=5)
    tried(check, st.tuples(st.sampled_from(roots), way, st.sampled_from(ends) | TEXT.map(quote)), 50 * examples)
