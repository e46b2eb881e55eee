"""The app as a server: how it is doing, what goes wrong around it, and how it ends."""

import json
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
from tabs.training_tab import NOT_WRITTEN

from export import VERSION
from runs.run import LOST
from server import client_address, connection, lifespan, settings
from tests.client import PATIENCE, ROOT, Served, Visitor, app, children, until

Arrive = Callable[..., Visitor]
Frames = Generator[dict[str, Any], None, None]


@pytest.fixture
def arrive() -> Iterator[Arrive]:
    """Makes visitors, who have left at the end."""
    with ExitStack() as leaving:

        def arrived(url: str, *who: Any, **told: Any) -> Visitor:
            visitor = Visitor(url, *who, **told)
            leaving.callback(visitor.client.close)
            return visitor

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
    frames = running(visitor)
    assert health(url)["runs"] == 1
    frames.close()
    until(lambda: health(url)["runs"] == 0)


def test_a_client_that_is_cut_in_mid_stream_stops_its_run(served: Served, arrive: Arrive) -> None:
    url, *_ = served
    visitor = arrive(url)
    for frame in running(visitor):
        if frame["step"] > 5:
            visitor.client.close()
            break
    until(lambda: health(url)["runs"] == 0)
    again = arrive(url, visitor.session)  # the same page, back on line
    (paused,) = [message for message in again.ask("step", [1, 0.5, 2000, 10, 100, 0.2, 2]) if "output" in message]
    assert 5 < json.loads(paused["output"]["data"][0]["value"])["step"] < 1000


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


def test_a_killed_worker_is_told_of_in_a_sentence_and_replaced_and_nobody_else_notices(
    served: Served, arrive: Arrive
) -> None:
    url, process, _ = served
    visitors = [arrive(url) for _ in range(2)]
    frames = [running(each) for each in visitors]  # on a worker each, as the least busy one is taken
    first, second = children(process.pid)
    os.kill(first, signal.SIGKILL)
    last = [list(_take(each, 150))[-1] for each in frames]
    assert sorted(frame["state"] for frame in last) == ["error", "running"]
    (lost,) = [frame for frame in last if frame["state"] == "error"]
    assert lost["text"] == {"en": LOST.en, "zh": LOST.zh}
    until(lambda: health(url)["workers"] == 2)
    assert second in children(process.pid)
    again = visitors[last.index(lost)]
    again.press_train(speed=0, steps=30)
    assert list(again.watch())[-1]["state"] == "done"
    for each in frames:
        each.close()


def _take(frames: Iterator[dict[str, Any]], most: int) -> Iterator[dict[str, Any]]:
    for _, frame in zip(range(most), frames, strict=False):
        yield frame
        if frame["state"] != "running":
            return


def test_a_worker_killed_in_an_export_leaves_a_sentence_and_a_server(served: Served, arrive: Arrive) -> None:
    url, process, _ = served
    visitor = arrive(url)
    visitor.press_train(speed=0, steps=20)
    assert list(visitor.watch())[-1]["state"] == "done"
    for message in visitor.ask("take_away", ["en"]):
        if message["msg"] == "process_generating" and "Writing the files" in json.dumps(message):
            for worker in children(process.pid):
                os.kill(worker, signal.SIGKILL)
        last = message
    assert NOT_WRITTEN.en in json.dumps(last, ensure_ascii=False)
    until(lambda: health(url)["workers"] == 2)


def test_a_run_takes_its_files_away_and_they_are_nobody_elses(served: Served, arrive: Arrive) -> None:
    url, *_ = served
    folders = set()
    for _ in range(2):
        visitor = arrive(url)
        visitor.press_train(speed=0, steps=20)
        assert list(visitor.watch())[-1]["state"] == "done"
        path = visitor.take_away()[2]["value"]["path"]
        fetched = visitor.client.get(f"/gradio_api/file={path}")
        assert fetched.content.startswith(b"PK")
        assert "attachment" in fetched.headers["content-disposition"]
        folder = Path(path).parent
        folders.add(folder)
        for shorter in (folder, folder.parent, f"{folder}/", f"{folder}/../"):
            assert visitor.client.get(f"/gradio_api/file={shorter}").status_code in (403, 404)
    assert len(folders) == 2  # though the same settings make the same files


def test_the_log_has_a_line_an_event_and_nothing_of_a_visitor(served: Served, arrive: Arrive) -> None:
    url, _, log = served
    visitor = arrive(url, headers={"User-Agent": "somebody's browser"})
    visitor.press_train(speed=0, steps=20, seed=987654)
    list(visitor.watch())
    text = log.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("* ")]
    assert lines
    event = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR) (runs|server|tabs)\.\w+ \w")
    assert [line for line in lines if not event.match(line)] == []
    for private in ("987654", visitor.session, "browser", "127.0.0.1 "):
        assert private not in text


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_told_to_end_it_ends_the_runs_and_removes_its_files_within_five_seconds(
    number: signal.Signals, arrive: Arrive
) -> None:
    with app(LIVE_NETS_WORKERS="1") as (url, process, log), ExitStack() as leaving:
        visitor = arrive(url)
        frames = running(visitor)
        # As each open page holds one.
        heartbeat = leaving.enter_context(
            visitor.client.stream("GET", f"/gradio_api/heartbeat/{visitor.session}", timeout=PATIENCE)
        )
        workers = children(process.pid)
        start = time.monotonic()
        process.send_signal(number)
        last = list(frames)[-1]
        assert process.wait(20) == 0
        assert time.monotonic() - start < 5
        assert last["text"]["en"] == lifespan.CLOSING.en
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
        assert list((log.parent / "tmp").glob("live-nets-*")) == []
        heartbeat.read()  # ends, and is not cut off
        text = log.read_text(encoding="utf-8")
        assert "Traceback" not in text
        assert " ERROR " not in text


def test_a_killed_app_leaves_no_worker_behind(arrive: Arrive) -> None:
    with app(LIVE_NETS_WORKERS="1") as (url, process, _):
        frames = running(arrive(url))
        workers = children(process.pid)
        assert workers
        process.kill()
        process.wait()
        until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
        frames.close()


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
            visitor = arrive(url)
            visitor.press_train(speed=0, steps=20)
            assert list(visitor.watch())[-1]["state"] == "done"
            (disk / "ballast").write_bytes(bytes(1_000_000))
            assert NOT_WRITTEN.en in json.dumps(visitor.take_away(), ensure_ascii=False)
            assert health(url)["workers"] == 1
            assert "No space left on device" in log.read_text(encoding="utf-8")
            (disk / "ballast").unlink()
            visitor.press_train(speed=0, steps=20)
            assert list(visitor.watch())[-1]["state"] == "done"
            assert visitor.take_away()[2]["value"]["path"].endswith("live-nets-regression.zip")
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
