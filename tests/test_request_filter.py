"""What lies before Gradio: which addresses are let through, and answers that are made just once."""

import asyncio
import gzip
import json
import os
import re
import socket
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from runs import turns
from runs.logs import OneLine
from server import temporary_files
from server.request_filter import LARGEST_BODY, RequestFilter
from server.response_cache import MOST_PAGES, ResponseCache
from tests.client import Served
from tests.test_runs import go


def lessons() -> list[Any]:
    return []


BLOCKS: Any = SimpleNamespace(fns={0: SimpleNamespace(api_name="lessons", inputs=[], fn=lessons)})

CLOSED = [
    *("/gradio_api/upload", "/gradio_api/upload_progress", "/gradio_api/deep_link", "/gradio_api/proxy=http://x"),
    *("/gradio_api/file=http://x/y", "/gradio_api/vibe-code", "/gradio_api/runs", "/monitoring", "/monitoring/summary"),
    *("/docs", "/redoc", "/openapi.json", "/login", "/gradio_api/token", "/gradio_api/component_server", "/pwa_icon"),
    *("/gradio_api/dev/reload", "/gradio_api/file/etc/passwd", "/gradio_api/stream/a/b/1/playlist.m3u8", "/x"),
    *("/gradio_api/heartbeat/x", "/gradio_api/startup-events", "/gradio_api/login_check", "/live", "/scripts/x"),
]


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_this_page_does_not_use_is_not_found(path: str, method: str, app_url: str) -> None:
    answer = httpx.request(method, app_url.rstrip("/") + path, content=b"{}" if method == "POST" else None)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("path", ["call/lessons/unknown", "queue/data?session_hash=nobody"])
def test_an_event_that_is_unknown_is_refused_and_fills_no_log(path: str, served: Served) -> None:
    url, _, log = served
    httpx.get(f"{url}/gradio_api/{path}", timeout=20)
    before = log.stat().st_size
    answer = httpx.get(f"{url}/gradio_api/{path}", timeout=20)
    assert "404: Not Found" in answer.text
    assert httpx.get(f"{url}/health").status_code == 200  # it has been logged by now, if it is
    assert log.read_bytes()[before:] == b""


@pytest.mark.parametrize("started", [True, False])
def test_what_gradio_raises_ends_in_one_line_of_the_log(started: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("insides")

    answer = get(RequestFilter(app, BLOCKS), "/config")
    assert "insides" not in answer.text
    assert answer.status_code == (200 if started else 500)
    (record,) = caplog.records
    assert record.getMessage() == "request failed"
    line = OneLine("%(levelname)s %(message)s").format(record)
    assert "\n" not in line
    assert line.endswith("ValueError: insides")


@pytest.mark.parametrize("path", ["", "config"])
def test_nobody_can_say_for_others_where_the_page_is(path: str, app_url: str) -> None:
    said = {"Host": "a-new-one.example", "X-Gradio-Server": "https://evil.example"}
    for headers in (said, {"Host": "a-new-one.example"}):
        answer = httpx.get(app_url + path, headers=headers)
        assert answer.status_code == 200
        assert "a-new-one.example" in answer.text
        assert "evil.example" not in answer.text


NAMES = ["", "a b", "x" * 65, "a/b", "<gradio-sep>", "ü", 7, ["a"], {"a": 1}]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_client_has_a_plain_name_and_a_short_one(name: Any, app_url: str) -> None:
    body = {"data": [], "fn_index": 0, "session_hash": name}
    answer = httpx.post(f"{app_url}gradio_api/queue/join", json=body)
    assert answer.status_code == 422
    assert answer.json() == {"detail": "session_hash must be 1 to 64 letters and digits."}


def test_sixty_clients_without_a_name_stop_nothing(app_url: str) -> None:
    body = {"data": [], "fn_index": 0, "session_hash": ""}
    for _ in range(60):
        httpx.post(f"{app_url}gradio_api/queue/join", json=body)
    assert httpx.get(f"{app_url}health").status_code == 200
    call = {"data": ["regression", {"steps": 3}]}
    assert httpx.post(f"{app_url}gradio_api/run/train", json=call, timeout=60).status_code == 200


WRONG = [
    ("queue/join", {"data": [], "fn_index": 99999}, "There is no such function."),
    ("queue/join", {"data": [], "fn_index": -1}, "There is no such function."),
    ("queue/join", {"data": []}, "There is no such function."),
    ("queue/join", {"data": [], "fn_index": True}, "fn_index must be a whole number."),
    ("queue/join", [1], "The body must be a JSON object."),
    ("run/nope", {"data": []}, "There is no such function."),
    ("run/js_fn", {"data": []}, "There is no such function."),  # the page's own, which runs in the browser
    ("call/v2/js_fn_1", {}, "There is no such function."),
    ("run/lessons", {"data": [1, 2]}, "data must be a list of 0 values."),
    ("run/lessons", {"data": "x"}, "data must be a list of 0 values."),
    ("call/train", {"data": ["regression"]}, "data must be a list of 2 to 3 values."),
    ("call/v2/stop", {}, "There is no such function."),
    ("call/v2/train", {"lesson": "regression"}, "The body must have the keys lesson, settings and may have changes."),
    ("run/lessons", {"data": [], "batched": True}, "batched must be false."),
]


@pytest.mark.parametrize(("path", "body", "told"), WRONG)
def test_a_body_that_gradio_would_trip_on_is_refused_in_a_sentence(
    path: str, body: Any, told: str, app_url: str
) -> None:
    answer = httpx.post(f"{app_url}gradio_api/{path}", json=body)
    assert (answer.status_code, answer.json()) == (422, {"detail": told})


def test_no_event_of_the_page_has_a_function_on_the_server(app_url: str) -> None:
    functions = httpx.get(f"{app_url}config").json()["dependencies"]
    public = {"lessons", "train"}
    assert {each["api_name"] for each in functions} > public
    for each in functions:
        body = {"data": [None] * len(each["inputs"]), "fn_index": each["id"], "session_hash": "x"}
        answer = httpx.post(f"{app_url}gradio_api/queue/join", json=body)
        told = {"detail": "There is no such function."}
        assert answer.json() != told if each["api_name"] in public else answer.json() == told


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [("/live", "here", 101), ("/live/", "here", 403), ("/gradio_api/live", "here", 403), ("/live", "<script>", 403)],
)
def test_only_the_live_channel_is_a_websocket(path: str, host: str, status: int, app_url: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    with socket.create_connection((urlsplit(app_url).hostname, urlsplit(app_url).port), timeout=20) as client:
        client.sendall((head + key).encode())
        assert client.recv(100).startswith(f"HTTP/1.1 {status}".encode())


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"data":[NaN]}', b"[" * 10_000, b'["\\ud800"]', b"9" * 5000])
def test_a_body_that_is_no_json_is_refused(body: bytes, app_url: str) -> None:
    answer = httpx.post(f"{app_url}gradio_api/queue/join", content=body)
    assert answer.status_code == 422
    assert answer.json()["detail"] in ("The body must be JSON.", "The body must be a JSON object.")


@pytest.mark.parametrize("path", ["assets/./x.js", "assets/x/../y.js", "assets//x.js", f"assets/{'x' * 300}.js"])
def test_an_address_has_one_spelling(path: str, app_url: str) -> None:
    with socket.create_connection((urlsplit(app_url).hostname, urlsplit(app_url).port)) as client:
        client.sendall(f"GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize("header", ["bytes=1-2-3", "bytes=0-1,2-3", "bytes=" + "9" * 5000 + "-"])
def test_a_range_that_is_none_is_passed_over(header: str, app_url: str) -> None:
    assert httpx.get(f"{app_url}theme.css", headers={"Range": header}).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods_are_not_found(method: str, app_url: str) -> None:
    assert httpx.request(method, app_url).status_code == 404


def test_a_body_that_is_too_large_is_refused_before_it_is_read(app_url: str) -> None:
    body = json.dumps({"data": ["x" * LARGEST_BODY]})
    answer = httpx.post(f"{app_url}gradio_api/queue/join", content=body)
    assert answer.status_code == 413
    assert answer.json() == {"detail": "The body must have at most 65536 bytes."}


def test_a_body_that_tells_no_length_is_refused_where_it_gets_too_large(app_url: str) -> None:
    chunks = (b" " * 1024 for _ in range(200))
    assert httpx.post(f"{app_url}gradio_api/queue/join", content=chunks).status_code == 413


def test_a_page_under_a_root_path_is_let_through_by_what_follows_it() -> None:
    async def here(request: Request) -> Response:
        return PlainTextResponse("here")

    app = Starlette(
        routes=[Route("/config", here), Route("/docs", here)], middleware=[Middleware(RequestFilter, blocks=BLOCKS)]
    )
    assert get(app, "/live/config", root="/live").text == "here"
    assert get(app, "/live/docs", root="/live").status_code == 404


def get(app: Any, path: str, root: str = "", **headers: str) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app, root_path=root)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path, headers=headers)

    return go(asked())


def test_requests_of_an_address_wait_beyond_its_share_while_anybody_else_is_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def unused(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("no such address")

    gate = RequestFilter(unused, BLOCKS)
    gate._requests = turns.Allowance(60, lambda: 0.0, most=2)
    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def ask(times: int) -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://here") as client:
            for number in range(times):  # a file may have to be computed
                await (client.get("/files//x") if number % 2 else client.post("/nothing", json={}))
                await client.get("/nothing")

    go(ask(4))
    assert not any(waits)  # alone
    gate._active["other"] += 1
    waits.clear()
    go(ask(4))
    assert waits == [0, 0, 1, 2]  # seconds; the first two are its share


def test_the_body_of_a_request_that_is_answered_itself_waits_for_the_app() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)  # as middleware may
        await PlainTextResponse((await receive())["body"])(scope, receive, send)

    async def asked() -> httpx.Response:
        app = Starlette(routes=[Mount("/", slow)], middleware=[Middleware(RequestFilter, blocks=BLOCKS)])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return await client.post("/gradio_api/run/lessons", json={"data": []})

    assert go(asyncio.wait_for(asked(), 5)).json() == {"data": []}


class Counting:
    """An application that says how often it was asked."""

    def __init__(self, **headers: str) -> None:
        self.asked = 0

        async def answer(request: Request) -> Response:
            self.asked += 1
            await asyncio.sleep(0.01)
            status = 404 if request.url.path.endswith("missing.js") else 200
            told = {"asked": self.asked, "host": request.headers["host"], "query": request.url.query}
            return JSONResponse(told, status, headers)

        self.app = ResponseCache(Starlette(routes=[Route("/{path:path}", answer)]))


def test_the_page_is_made_once_for_all_who_ask_for_it_at_once() -> None:
    counting = Counting()

    async def crowd() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(counting.app), base_url="http://here") as client:
            return await asyncio.gather(*(client.get("/") for _ in range(20)))

    assert {answer.text for answer in go(crowd())} == {'{"asked":1,"host":"here","query":""}'}


def test_a_visitor_who_leaves_in_the_middle_cuts_nothing_short_for_others(app_url: str) -> None:
    address = urlsplit(app_url)
    script = re.findall(r'(?:src|href)="\./(assets/[^"]+\.js)"', httpx.get(app_url).text)[0]
    for _ in range(3):
        with socket.create_connection((address.hostname, address.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leaves without a word
            client.sendall(
                f"GET /{script} HTTP/1.1\r\nHost: {address.netloc}\r\nAccept-Encoding: gzip\r\n\r\n".encode()
            )
    whole = httpx.get(app_url + script, headers={"accept-encoding": "identity"}).content
    assert len(whole) > 1000
    assert httpx.get(app_url + script, headers={"accept-encoding": "gzip"}).content == whole


def test_a_page_is_kept_for_each_host_and_not_for_endless_ones() -> None:
    counting = Counting()
    for number in range(3 * MOST_PAGES):
        assert get(counting.app, "/config", host=f"host{number}").json()["host"] == f"host{number}"
    assert len(counting.app._responses) == MOST_PAGES
    get(counting.app, "/config", host=f"host{3 * MOST_PAGES - 1}")
    assert counting.asked == 3 * MOST_PAGES


def test_what_is_asked_of_a_page_is_left_to_its_scripts() -> None:
    counting = Counting()
    assert get(counting.app, "/?deep_link=somebodys").json()["query"] == ""
    assert get(counting.app, "/?__theme=dark").json()["asked"] == 1


def test_scripts_are_compressed_once_and_go_out_plain_to_those_who_cannot_read_that() -> None:
    counting = Counting()
    zipped = get(counting.app, "/assets/index.js", **{"accept-encoding": "gzip, br"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.headers["vary"] == "Accept-Encoding"
    assert zipped.json()["asked"] == 1
    plain = get(counting.app, "/assets/index.js", **{"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert get(counting.app, "/assets/index.js", **{"accept-encoding": "gzip"}).json()["asked"] == 1


@pytest.mark.parametrize("path", ["/assets/missing.js", "/gradio_api/info"])
def test_what_is_missing_or_may_differ_is_not_kept(path: str) -> None:
    counting = Counting()
    assert [get(counting.app, path).json()["asked"] for _ in range(2)] == [1, 2]


def test_what_sets_a_cookie_is_somebodys_own_and_not_kept() -> None:
    counting = Counting(**{"set-cookie": "a=b"})
    assert [get(counting.app, "/").json()["asked"] for _ in range(2)] == [1, 2]


def test_a_part_or_a_newer_one_is_asked_of_the_app_itself() -> None:
    counting = Counting()
    for headers in ({"range": "bytes=0-1"}, {"if-none-match": "x"}):
        get(counting.app, "/assets/index.js", **headers)
    assert counting.asked == 2


def test_the_real_page_comes_compressed_and_whole(app_url: str) -> None:
    with httpx.stream("GET", app_url, headers={"accept-encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert len(raw) < 100_000
    assert gzip.decompress(raw) == httpx.get(app_url, headers={"accept-encoding": "identity"}).content
    assert b"window.gradio_config" in gzip.decompress(raw)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(temporary_files, "_made", {})
    return tmp_path


def test_every_folder_for_files_has_a_name_that_nobody_can_guess(cache: Path) -> None:
    folders = set()
    for _ in range(10):
        with temporary_files.new_folder() as (folder, work):
            (folder / "net.onnx").write_bytes(b"x")
            (work / "other").write_bytes(b"x")
        folders.add(folder)
        assert [path.name for path in folder.iterdir()] == ["net.onnx"]
    assert len({folder.name for folder in folders}) == 10
    assert min(len(folder.name) for folder in folders) >= 32


def test_files_that_cannot_be_made_leave_nothing(cache: Path) -> None:
    def write() -> None:
        with temporary_files.new_folder() as (folder, _):
            (folder / "half").write_bytes(b"x")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write()
    assert list(cache.iterdir()) == []


def test_old_files_go_with_their_folders_and_new_ones_stay(cache: Path) -> None:
    for name, age in (("old", 2 * temporary_files.FILE_AGE), ("new", 0)):
        with temporary_files.new_folder() as (folder, _):
            (folder / name).write_bytes(b"x")
        then = (folder / name).stat().st_mtime - age
        os.utime(folder / name, (then, then))
    (cache / "empty" / "folder").mkdir(parents=True)
    long_ago = (cache / "empty").stat().st_mtime - 2 * temporary_files.FILE_AGE
    os.utime(cache / "empty", (long_ago, long_ago))
    assert temporary_files.sweep() == 2
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["new"]
    assert temporary_files.sweep() == 0


def made(whose: str, size: int) -> Path:
    turns.address.set(whose)
    with temporary_files.new_folder() as (folder, work):
        (folder / "net.onnx").write_bytes(bytes(size))
        (work / "other").write_bytes(bytes(1000))
    return folder


@pytest.fixture
def small_disk(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary_files, "MOST_OF_ADDRESS", 100)
    monkeypatch.setattr(temporary_files, "MOST_OF_ALL", 250)


@pytest.mark.usefixtures("small_disk")
def test_an_address_that_has_too_much_on_the_disk_loses_its_oldest_files_and_nobody_elses() -> None:
    other = made("b", 60)
    mine = [made("a", 40) for _ in range(5)]
    assert [path.exists() for path in mine] == [False, False, False, True, True]
    assert other.exists()
    large = made("a", 150)  # one that is too large stays alone
    assert [path.exists() for path in (*mine[3:], large, other)] == [False, False, True, True]


@pytest.mark.usefixtures("small_disk")
def test_when_all_have_too_much_on_the_disk_the_oldest_files_go() -> None:
    folders = [made(whose, 80) for whose in "abcde"]
    assert [path.exists() for path in folders] == [False, False, True, True, True]
    assert len(temporary_files._made) == 3


@pytest.mark.usefixtures("small_disk")
def test_what_others_leave_in_the_cache_counts_and_goes_the_oldest_first(
    cache: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(temporary_files, "_temporary", [temporary])
    for age, path in enumerate([cache / "c" / "newest", temporary / "b" / "x", temporary / "a", cache / "oldest"]):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(100))
        then = path.stat().st_mtime - age
        os.utime(path, (then, then))
    assert temporary_files.sweep() == 2
    assert [path.name for path in (*cache.iterdir(), *temporary.iterdir())] == ["c", "b"]


def test_a_file_that_has_gone_is_told_of_in_both_languages(cache: Path) -> None:
    async def passed(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("there")(scope, receive, send)

    folder = made("a", 10)
    asked = [folder / "net.onnx", folder / "lost", "/tmp/live-nets-old/files/token/net.onnx", folder, "/etc/passwd"]
    answers = [get(RequestFilter(passed, BLOCKS), f"/gradio_api/file={path}") for path in asked]
    assert [answer.status_code for answer in answers] == [200, 404, 404, 200, 200]
    assert answers[1].text == f"{temporary_files.GONE.en}\n{temporary_files.GONE.zh}\n"
    assert "256 MB" in temporary_files.GONE.en
    assert "256 MB" in temporary_files.GONE.zh


def test_a_server_removes_what_dead_ones_have_left_and_nothing_else(tmp_path: Path) -> None:
    ours = {name: tmp_path / f"live-nets-{name}" for name in ("dead", "alive", "starting", "no-lock")}
    for folder in ours.values():
        (folder / "files").mkdir(parents=True)
        (folder / temporary_files.LOCK).touch()
    long_ago = ours["dead"].stat().st_mtime - 2 * temporary_files.STARTING_SECONDS
    for name in ("dead", "alive"):
        os.utime(ours[name] / temporary_files.LOCK, (long_ago, long_ago))
    (ours["no-lock"] / temporary_files.LOCK).unlink()
    (tmp_path / "live-nets-link").symlink_to(ours["alive"])
    (tmp_path / "others").mkdir()
    with (ours["alive"] / temporary_files.LOCK).open("rb") as lock:
        assert temporary_files._try_lock(lock)  # and held from now on
        temporary_files._remove_leftovers(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"live-nets-alive", "live-nets-starting", "live-nets-no-lock", "live-nets-link", "others"}
