"""`python app.py` as a program: where it listens, what it asks for, and what it says."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from server import application

ROOT = Path(__file__).parent.parent

# Every name that is looked up and every address that is connected to, from before the first import.
WATCH = """
import contextlib, os, signal, socket, sys, threading, time, urllib.request
asked = []
def watch(name, place):
    real = getattr(*name)
    def watched(*args, **options):
        asked.append(str(args[place]))
        return real(*args, **options)
    setattr(*name, watched)
watch((socket, "getaddrinfo"), 0)
watch((socket.socket, "connect"), 1)
import app

def end():
    url = f"http://127.0.0.1:{os.environ['PORT']}/health"
    for _ in range(600):  # until the server answers
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url).close()
            break
        time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=end, daemon=True).start()
with contextlib.suppress(SystemExit):  # of SIGTERM
    app.main()
print("asked", *asked, sep="\\n", flush=True)
"""


def test_nothing_leaves_the_machine_at_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        environment = {**os.environ, "PORT": str(probe.getsockname()[1]), "LIVE_NETS_WORKERS": "0"}
    command = [sys.executable, "-c", WATCH]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, encoding="utf-8")
    asked = done.stdout.partition("asked\n")[2].splitlines()
    assert asked  # by the request above
    assert [each for each in asked if "127.0.0.1" not in each and "localhost" not in each] == []


@pytest.mark.parametrize("port", ["x", "65536", "٣"])
def test_a_port_that_is_none_is_refused_in_one_sentence(port: str) -> None:
    environment = {**os.environ, "PORT": port}
    done = subprocess.run([sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 1
    assert done.stderr == f"PORT must be a whole number from 1 to 65535, not {port!r}.\n"


def test_a_port_that_is_taken_is_named(app_url: str) -> None:
    port = app_url.rstrip("/").rpartition(":")[2]
    environment = {**os.environ, "PORT": port}
    done = subprocess.run([sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 1
    assert port in done.stderr
    assert "set PORT to another port" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_page_is_served_as_it_should_be_to_strangers(app_url: str) -> None:
    config = httpx.get(f"{app_url}config").json()
    assert config["title"] == "Live Nets"
    assert config["analytics_enabled"] is False
    assert config["show_error"] is False
    assert config["footer_links"] == ["api"]
    assert httpx.get(f"{app_url}monitoring").status_code == 404
    upload = httpx.post(f"{app_url}gradio_api/upload", files={"files": b"x" * 2000})
    assert upload.status_code == 404


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
@pytest.mark.parametrize("path", ["config", "gradio_api/info"])
def test_pages_of_other_sites_may_use_a_public_server(path: str, method: str, app_url: str) -> None:
    headers = {"Host": "live-nets.example", "Origin": "https://blog.example", "Access-Control-Request-Method": "POST"}
    answer = httpx.request(method, f"{app_url}{path}", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://blog.example"


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "https://127.0.0.1.evil.example"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_no_other_site_may_read_a_server_on_ones_own_machine(origin: str, method: str, app_url: str) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answer = httpx.request(method, f"{app_url}config", headers=headers)
    assert "access-control-allow-origin" not in answer.headers


def test_an_open_page_holds_its_live_channel_and_no_other_connection(page: Page) -> None:
    asked: list[str] = []
    sockets: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.reload()
    expect(page.locator('[data-lesson="regression"]')).to_have_attribute("data-connection", "live")
    page.wait_for_load_state("networkidle")  # never comes while a stream is open
    assert len(asked) > 50
    assert [url for url in asked if "/gradio_api/" in url] == []
    assert [url.rpartition("/")[2] for url in sockets] == ["live"]


def test_the_settings_that_the_app_cannot_be_asked_for_are_as_announced() -> None:
    assert application.MOUNT["allowed_paths"] == []
    assert application.MOUNT["run_history"] is False
    assert application.MOUNT["max_file_size"] == "1kb"
    assert application.MOUNT["mcp_server"] is False


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_figure_with_a_script_in_it_would_be_saved_and_not_run(kind: str, app_url: str) -> None:
    answer = httpx.get(f"{app_url}files/regression/figure.{kind}?steps=20&step=3", timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="regression.{kind}"'


@pytest.mark.parametrize("path", ["", "config"])
def test_the_page_tells_nothing_of_where_it_is_installed(path: str, app_url: str) -> None:
    text = httpx.get(app_url + path).text
    for told in (str(ROOT), sys.prefix):
        assert told not in text
