"""deploy/ as it is shipped, but without Docker: nginx before two replicas of the app, as processes of this machine."""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from gradio_client import Client
from playwright.sync_api import Page, expect
from websockets import Origin
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from server import live_channel
from tests.client import ROOT, Visitor, until
from tests.conftest import trained

pytestmark = pytest.mark.deploy

TEMPLATE = (ROOT / "deploy" / "nginx.conf.template").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(  # with the defaults of its variables
    re.sub(r"\$\{\w+:-(.*?)\}", r"\1", (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
)
SERVICES = COMPOSE["services"]
NAMES = [name for name in SERVICES if name != "nginx"]
NGINX = SERVICES["nginx"]["environment"]

POST = "gradio_api/run/lessons"  # something small that is asked by POST
CALL = "gradio_api/call/train"

Arrive = Callable[[], httpx.Client]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Replica:
    """The app with the environment that compose.yaml gives it, and all its processes."""

    def __init__(self, name: str) -> None:
        self.name, self.port = name, free_port()
        self.start()

    def start(self) -> None:
        here = {"PORT": str(self.port), "GRADIO_SERVER_NAME": "127.0.0.1", "LIVE_NETS_WORKERS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env={**os.environ, **SERVICES[self.name]["environment"], **here},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def ready(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # ends when the process does
            if f"127.0.0.1:{self.port}".encode() in line:
                return

    @property
    def app_id(self) -> int:
        """The number that Gradio gives each process, and writes into its page."""
        return _app_id(httpx.get(f"http://127.0.0.1:{self.port}/gradio_api/app_id"))

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=20)


def _app_id(answer: httpx.Response) -> int:
    found = re.search(r'"app_id": ?(\d+)', answer.raise_for_status().text)
    assert found
    return int(found[1])


@pytest.fixture(scope="module")
def replicas() -> Iterator[list[Replica]]:
    started: list[Replica] = []
    try:
        started.extend(map(Replica, NAMES))  # both start at once
        for replica in started:
            replica.ready()
        yield started
    finally:
        for replica in started:
            replica.stop()


@pytest.fixture(scope="module")
def nginx() -> str:
    found = shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        if os.environ.get("CI"):  # there, it must be had
            pytest.fail("no nginx")
        pytest.skip("no nginx")
    return found


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nginx") / "log"


@pytest.fixture(scope="module")
def app_url(nginx: str, replicas: list[Replica], log: Path) -> Iterator[str]:
    """Where nginx serves the page; this takes the place of the fixture for all other tests."""
    folder, port = log.parent, free_port()
    places = {f"{replica.name}:7860 resolve": f"127.0.0.1:{replica.port}" for replica in replicas}
    servers = re.sub("|".join(places), lambda match: places[match[0]], NGINX["LIVE_NETS_REPLICAS"])
    filled = {**NGINX, "LIVE_NETS_REPLICAS": servers, "LIVE_NETS_LISTEN": f"127.0.0.1:{port}"}
    (folder / "nginx.conf").write_text(
        re.sub(r"\$\{(LIVE_NETS_\w+)\}", lambda match: filled[match[1]], TEMPLATE), encoding="utf-8"
    )
    _, *arguments = [part.replace("/tmp", str(folder)) for part in SERVICES["nginx"]["command"]]
    with log.open("ab") as out:
        process = subprocess.Popen([nginx, *arguments], stdout=out, stderr=out)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=6)) as client:
            client.get(f"http://127.0.0.1:{port}/health").raise_for_status()
        yield f"http://127.0.0.1:{port}{NGINX['LIVE_NETS_ROOT_PATH']}/"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def arrive(app_url: str) -> Iterator[Arrive]:
    """Gives a new visitor, with a cookie once it is given one."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(httpx.Client(base_url=app_url, timeout=30))


def served_by(visitor: httpx.Client) -> int:
    return _app_id(visitor.get("gradio_api/app_id"))


def test_a_visitor_stays_with_the_replica_that_served_the_page(arrive: Arrive) -> None:
    for visitor in [arrive() for _ in range(8)]:
        home = _app_id(visitor.get(""))
        assert [served_by(visitor) for _ in range(4)] == [home] * 4
        assert _app_id(visitor.get("?__theme=dark")) == home


def test_visitors_behind_one_address_spread_over_the_replicas(arrive: Arrive, replicas: list[Replica]) -> None:
    visitors = [arrive() for _ in range(40)]
    for visitor in visitors:
        visitor.cookies.set("live_nets_visitor", secrets.token_hex(16))
    assert {served_by(visitor) for visitor in visitors} == {replica.app_id for replica in replicas}


def test_only_a_new_visitor_is_given_a_cookie_and_only_for_this_page(arrive: Arrive) -> None:
    visitor = arrive()
    assert "Set-Cookie" not in visitor.get("config").headers
    given = visitor.head("").headers["Set-Cookie"]
    assert re.fullmatch(r"live_nets_visitor=[0-9a-f]{32}; Path=/live-nets; HttpOnly; SameSite=Lax", given)
    assert "Set-Cookie" not in visitor.head("").headers
    forged = httpx.head(f"{visitor.base_url}", headers={"Cookie": "live_nets_visitor=mine"})
    assert re.match(r"live_nets_visitor=[0-9a-f]{32};", forged.headers["Set-Cookie"])
    secure = httpx.head(f"{visitor.base_url}", headers={"X-Forwarded-Proto": "https"})
    assert secure.headers["Set-Cookie"].endswith("; Secure")


def test_a_client_without_cookies_has_its_run_and_its_files_from_one_replica(app_url: str, tmp_path: Path) -> None:
    assert len({_app_id(httpx.get(f"{app_url}gradio_api/app_id")) for _ in range(12)}) == 1
    client = Client(app_url, verbose=False, download_files=tmp_path)
    _, parity, archive = client.predict("regression", {"steps": 20}, api_name="/train")
    client.close()
    assert all(report["passed"] for report in parity.values())
    assert zipfile.is_zipfile(archive)


def test_the_page_works_below_its_root_path(page: Page) -> None:
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator('[data-lesson="regression"]')).to_have_attribute("data-state", "done")
    with page.expect_download() as download:
        page.get_by_role("link", name="Bundle (zip)", exact=True).click()
    assert zipfile.is_zipfile(download.value.path())


def test_frames_reach_the_page_one_by_one(page: Page) -> None:
    chart = page.locator('[data-lesson="regression"]')
    steps = page.get_by_label(re.compile("^(number input for )?Steps")).first
    steps.fill("60")
    steps.press("Tab")
    expect(chart.locator(".live-status")).to_contain_text("Ready: 60 steps")
    page.get_by_role("radio", name="1", exact=True).check()
    chart.evaluate(
        """chart => {
          window.times = [];
          const note = () => chart.dataset.step > 0 && times.push(performance.now());
          new MutationObserver(note).observe(chart, { attributeFilter: ["data-step"] });
        }"""
    )
    page.get_by_role("button", name="Train", exact=True).click()
    expect(chart).to_have_attribute("data-state", "done")
    times = page.evaluate("times")
    assert len(times) > 10
    assert times[-1] - times[0] > 1000  # ms; held back, they would come within half a second


def test_nginx_and_the_replicas_tell_their_health(app_url: str) -> None:
    assert httpx.get(httpx.URL(app_url).join("/health")).text == "ok\n"
    answer = httpx.get(f"{app_url}health")
    assert answer.json().keys() >= {"version", "instance", "workers"}
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_only_the_root_path_leads_to_the_replicas(app_url: str) -> None:
    site = httpx.URL(app_url)
    assert httpx.get(site.join("/config")).status_code == 404
    for path in ("/", app_url.rstrip("/")):
        assert site.join(httpx.get(site.join(path)).headers["Location"]) == site
    assert httpx.post(f"{app_url}{POST}", content=b" " * 70_000).status_code == 413


def test_the_live_channel_is_for_the_page_that_nginx_serves_and_for_no_other_site(app_url: str) -> None:
    site = httpx.URL(app_url)
    socket_url = str(site.copy_with(scheme="ws").join("live"))
    with connect(socket_url, origin=Origin(f"http://{site.netloc.decode()}")) as socket:
        socket.send('{"hello": {}}')
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == live_channel.MALFORMED
    with pytest.raises(InvalidStatus, match="403"):
        connect(socket_url, origin=Origin("https://evil.example"))


def test_the_run_of_a_killed_replica_goes_on_at_the_other_to_the_same_end(
    app_url: str, arrive: Arrive, replicas: list[Replica]
) -> None:
    of = {replica.app_id: replica for replica in replicas}
    with Visitor(app_url) as visitor:
        home = of[_app_id(httpx.get(f"{app_url}gradio_api/app_id"))]
        visitor.press_train(steps=500)
        frames = visitor.watch()
        while visitor.step < 20:
            next(frames)
        home.kill()
        with pytest.raises(ConnectionClosed):
            list(frames)
        visitor.connect()
        assert of[_app_id(httpx.get(f"{app_url}gradio_api/app_id"))] is not home
        before = visitor.step
        visitor.ask("train", speed=0)
        last = visitor.finish()
        assert before < last["step"] == 500
        assert last["metrics"] == trained("regression", steps=500).snapshot().metrics
        assert visitor.client.get(visitor.urls()["bundle.zip"]).content.startswith(b"PK")
    home.start()
    home.ready()
    until(lambda: _app_id(arrive().get("")) == home.app_id)  # nginx tries it again after ten seconds


def test_the_log_tells_no_addresses_sessions_or_files(app_url: str, log: Path) -> None:
    before = len(log.read_bytes())
    with httpx.Client(base_url=app_url, headers={"X-Forwarded-For": "203.0.113.7"}) as client:
        client.get("gradio_api/app_id?session_hash=secret1")
        client.get("gradio_api/file=/tmp/secret2")
        client.get("gradio_api/call/train/secret3/")
        client.get("files/regression/nothing?page=secret4")
        client.get("theme.css")  # over the same connection: all before it has been written down
    told = log.read_bytes()[before:].decode()
    assert told.count("/live-nets/gradio_api/") >= 3
    assert "/live-nets/files/regression/nothing 404" in told
    assert "secret" not in told
    line = r"[\d:T+-]+ [A-Z]+ \S+ \d+ \d+B [\d.]+s from (-|127\.0\.0\.1:\d{4,5}) (-|\d+)"
    assert all(re.fullmatch(line, each) for each in told.splitlines())


def test_a_killed_replicas_visitors_go_to_the_other_and_come_back_once_it_lives(
    arrive: Arrive, replicas: list[Replica]
) -> None:
    of = {replica.app_id: replica for replica in replicas}
    visitors: dict[int, httpx.Client] = {}
    while len(visitors) < len(replicas):
        visitor = arrive()
        visitors[_app_id(visitor.get(""))] = visitor
    (here, one), (there, other) = visitors.items()
    event = other.post(CALL, json={"data": ["regression", {"steps": 300}]}).json()["event_id"]

    of[here].kill()
    assert one.post(POST, json={"data": []}).status_code == 200
    assert served_by(one) == there
    assert "event: complete" in other.get(f"{CALL}/{event}").text

    of[here].start()
    of[here].ready()
    end = time.monotonic() + 30  # nginx tries it again after ten seconds
    while _app_id(one.get("")) == there and time.monotonic() < end:
        pass
    assert served_by(one) == of[here].app_id
    assert served_by(other) == there


def test_nginx_knows_the_replicas_that_compose_starts() -> None:
    assert re.findall(r"server (\S+):7860 resolve ", NGINX["LIVE_NETS_REPLICAS"]) == NAMES
    assert list(SERVICES["nginx"]["depends_on"]) == NAMES
    assert set(re.findall(r"\$\{(LIVE_NETS_\w+)\}", TEMPLATE)) == {each for each in NGINX if each.startswith("LIVE_")}
    (root_path,) = {SERVICES[name]["environment"]["GRADIO_ROOT_PATH"] for name in NAMES}
    assert root_path == NGINX["LIVE_NETS_ROOT_PATH"]
