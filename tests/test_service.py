"""The app as a server: how it is doing, what goes wrong around it, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from export import VERSION
from server import client_address, connection, live_channel, settings
from tabs.run_files import NOT_WRITTEN
from tests.client import ROOT, Served, Visitor, app, children, until

Arrive = Callable[..., Visitor]
Frames = Generator[dict[str, Any], None, None]


@pytest.fixture
def arrive() -> Iterator[Arrive]:
    """Makes visitors, who have left at the end."""
    with ExitStack() as leaving:

        def arrived(url: str, *who: Any, **told: Any) -> Visitor:
            return leaving.enter_context(Visitor(url, *who, **told))

        yield arrived


def health(url: str) -> dict[str, Any]:
    return dict(httpx.get(f"{url}/health", timeout=20).json())


def running(visitor: Visitor, **settings: Any) -> Frames:
    """The frames of a run that has given its first."""
    visitor.press_train(steps=2000, **settings)
    frames = visitor.watch()
    next(frames)
    return frames


def test_health_tells_version_workers_runs_and_the_line(served: Served, arrive: Arrive) -> None:
    url, *_ = served
    told = health(url)
    assert (told["version"], told["workers"], told["runs"], told["waiting"]) == (VERSION, 2, 0, 0)
    visitor = arrive(url)
    running(visitor)
    assert health(url)["runs"] == 1
    visitor.close()
    until(lambda: health(url)["runs"] == 0)


def test_a_page_that_loses_its_connection_stops_its_run_and_finds_it_again(served: Served, arrive: Arrive) -> None:
    url, *_ = served
    visitor = arrive(url)
    frames = running(visitor)
    while visitor.step <= 5:
        next(frames)
    visitor.cut()
    until(lambda: health(url)["runs"] == 0)
    assert health(url)["kept"] >= 1
    before = visitor.step
    visitor.connect()
    visitor.ask("step")
    assert before < visitor.step < 1000
    assert visitor.frame["state"] == "paused"


def test_a_call_of_train_is_begun_when_its_answer_is_read(served: Served) -> None:
    url, *_ = served
    with httpx.Client(base_url=f"{url}/gradio_api/call/train", timeout=60) as client:
        body = {"data": ["regression", {"steps": 20}]}
        events = [client.post("", json=body).json()["event_id"] for _ in range(20)]
        assert (health(url)["runs"], health(url)["waiting"]) == (0, 0)
        assert "event: complete" in client.get(f"/{events[0]}").text


def test_the_served_page_bounds_the_connections_of_an_address(served: Served) -> None:
    url, *_ = served
    with ExitStack() as closing:
        address = (httpx.URL(url).host, httpx.URL(url).port or 0)
        for _ in range(connection.MOST_OF_ADDRESS):  # with those that others of these tests hold, one too many
            last = closing.enter_context(socket.create_connection(address, timeout=20))
        last = closing.enter_context(socket.create_connection(address, timeout=20))
        assert last.recv(1000).endswith(connection.TOO_MANY.encode())
    until(lambda: httpx.get(f"{url}/health", timeout=20).status_code == 200)


def test_a_killed_worker_is_replaced_and_its_run_goes_on_to_the_same_end(served: Served, arrive: Arrive) -> None:
    url, process, _ = served
    visitors = [arrive(url) for _ in range(2)]
    frames = [running(each, learning_rate=0.1) for each in visitors]  # on a worker each: the least busy one is taken
    first, second = children(process.pid)
    os.kill(first, signal.SIGKILL)
    for visitor, each in zip(visitors, frames, strict=True):
        before = visitor.step
        while visitor.step < before + 5:
            assert next(each)["state"] == "running"
        visitor.ask("speed", speed=0)
    last = [visitor.finish() for visitor in visitors]
    assert [frame["state"] for frame in last] == ["done", "done"]
    assert last[0]["metrics"] == last[1]["metrics"]
    until(lambda: health(url)["workers"] == 2)
    assert second in children(process.pid)


def test_workers_killed_in_an_export_delay_the_files_and_nothing_else(served: Served, arrive: Arrive) -> None:
    url, process, _ = served
    visitor = arrive(url)
    visitor.press_train(speed=0, steps=20)
    assert visitor.finish()["state"] == "done"
    while "role=status" not in visitor.files:  # they are being written
        visitor.read()
    for worker in children(process.pid):
        os.kill(worker, signal.SIGKILL)
    assert "bundle.zip" in visitor.urls()
    until(lambda: health(url)["workers"] == 2)


def test_a_run_takes_its_files_away_from_a_url_that_tells_nothing_of_the_server(served: Served, arrive: Arrive) -> None:
    url, *_ = served
    visitor = arrive(url)
    visitor.press_train(speed=0, steps=20)
    assert visitor.finish()["state"] == "done"
    fetched = visitor.client.get(visitor.urls()["bundle.zip"])
    assert fetched.content.startswith(b"PK")
    assert "attachment" in fetched.headers["content-disposition"]


def test_a_file_of_the_api_is_nobody_elses(served: Served) -> None:
    url, *_ = served
    folders = set()
    with httpx.Client(base_url=f"{url}/gradio_api/", timeout=60) as client:
        for _ in range(2):
            made = client.post("run/train", json={"data": ["regression", {"steps": 20}]}).json()["data"]
            path = Path(made[2]["path"])
            fetched = client.get(f"file={path}")
            assert fetched.content.startswith(b"PK")
            assert "attachment" in fetched.headers["content-disposition"]
            folders.add(path.parent)
            for shorter in (path.parent, path.parent.parent, f"{path.parent}/", f"{path.parent}/../"):
                assert client.get(f"file={shorter}").status_code in (403, 404)
    assert len(folders) == 2  # though the same settings make the same files


def test_the_log_has_a_line_an_event_and_nothing_of_a_visitor(served: Served, arrive: Arrive) -> None:
    url, _, log = served
    visitor = arrive(url, headers={"User-Agent": "somebody's browser"})
    visitor.press_train(speed=0, steps=20, seed=987654)
    visitor.take_away()
    text = log.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("* ")]
    assert lines
    event = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR) (runs|server|tabs)\.\w+ \w")
    assert [line for line in lines if not event.match(line)] == []
    for private in ("987654", visitor.name, "browser", "127.0.0.1 ", "127.0.0.1:"):
        assert private not in "\n".join(lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_told_to_end_it_sends_pages_away_answers_calls_and_removes_its_files_within_five_seconds(
    number: signal.Signals, arrive: Arrive
) -> None:
    with app(LIVE_NETS_WORKERS="1") as (url, process, log), httpx.Client(base_url=url, timeout=20) as client:
        frames = running(arrive(url))
        call = {"data": ["batchnorm", {"steps": 2000, "batch_size": 500}]}  # lasts longer than this test
        event = client.post("/gradio_api/call/train", json=call).json()["event_id"]
        with client.stream("GET", f"/gradio_api/call/train/{event}") as answer:
            until(lambda: health(url)["runs"] == 2)
            workers = children(process.pid)
            start = time.monotonic()
            process.send_signal(number)
            with pytest.raises(ConnectionClosed) as closed:
                list(frames)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == live_channel.GOING_AWAY
            assert "the server is shutting down" in "".join(answer.iter_text())
        assert process.wait(20) == 0
        assert time.monotonic() - start < 5
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
        assert list((log.parent / "tmp").glob("live-nets-*")) == []
        text = log.read_text(encoding="utf-8")
        assert "Traceback" not in text
        assert " ERROR " not in text


def test_a_killed_app_leaves_no_worker_behind(arrive: Arrive) -> None:
    with app(LIVE_NETS_WORKERS="1") as (url, process, _):
        running(arrive(url))
        workers = children(process.pid)
        assert workers
        process.kill()
        process.wait()
        until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_a_server_that_was_killed_leaves_nothing_that_the_next_one_does_not_remove(tmp_path: Path) -> None:
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path)}
    killed = (
        "import os; from server import temporary_files as files; files.STARTING_SECONDS = -1; files.use_own_folder();"
        " from tempfile import mkdtemp; mkdtemp(); mkdtemp(dir=os.environ['GRADIO_TEMP_DIR']); os._exit(1)"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-c", killed], cwd=ROOT, env=environment, check=False)
        (left,) = tmp_path.iterdir()
        assert sorted(path.name for path in left.iterdir()) == ["files", "lock", "temporary"]


def test_a_full_disk_is_told_of_and_the_run_stays(tmp_path: Path, arrive: Arrive) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, encoding="utf-8"
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be had: {mounted.stderr.strip()}")
    try:
        with app(GRADIO_TEMP_DIR=str(disk), LIVE_NETS_WORKERS="1") as (url, _, log):
            (disk / "ballast").write_bytes(bytes(1_000_000))
            visitor = arrive(url)
            visitor.press_train(speed=0, steps=20)
            assert NOT_WRITTEN.en in visitor.take_away()
            assert visitor.frame["state"] == "done"
            file = "/files/regression/bundle.zip?steps=20"
            assert visitor.client.get(file).text == f"{NOT_WRITTEN.en}\n{NOT_WRITTEN.zh}\n"
            assert health(url)["workers"] == 1
            assert "No space left on device" in log.read_text(encoding="utf-8")
            (disk / "ballast").unlink()
            assert visitor.client.get(file).content.startswith(b"PK")
            visitor.press_train(speed=0, steps=20)
            assert "bundle.zip" in visitor.urls()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR, not 'LOUD'."),
        ("LIVE_NETS_WORKERS", "-1", "LIVE_NETS_WORKERS must be a whole number from 0 to 64, not '-1'."),
        ("LIVE_NETS_PROXIES", "x", "LIVE_NETS_PROXIES must be a whole number from 0 to 9, not 'x'."),
    ],
)
def test_an_environment_that_is_wrong_is_refused_in_one_sentence(name: str, value: str, told: str) -> None:
    environment = {**os.environ, name: value}
    done = subprocess.run([sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (1, f"{told}\n")


def test_the_server_may_have_as_many_open_files_as_the_system_allows() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[1]), before[1]))
        settings.raise_open_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_space_has_one_proxy_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert client_address.proxies() == 0
    monkeypatch.setenv("SPACE_ID", "somebody/live-nets")
    assert client_address.proxies() == 1


def test_there_are_two_workers_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.worker_count() == settings.DEFAULT_WORKERS == 2
    monkeypatch.setenv("LIVE_NETS_WORKERS", "0")
    assert settings.worker_count() == 0
