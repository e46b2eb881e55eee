"""The app as users meet it, once for all tests: a process of its own, and a browser."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from export.layout import place
from lab.training import Trainer
from nets import TRAININGS
from tests.browser import chromium

expect.set_options(timeout=30_000)  # machines are slow at times; a test that waits for what never comes is rare

ROOT = Path(__file__).parent.parent

Train = Callable[..., Trainer]

OURS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("charts", "lab", "nets", "export", "runs", "server", "tabs")
    for path in sorted((ROOT / folder).glob("*.py"))
]
# The app is tested where none of this may matter to it: proxies that do not work, a console without letters beyond
# ASCII, a locale that is not UTF-8, other threads. A text of ours that is opened without an encoding is an error.
ADVERSE = {
    "http_proxy": "http://127.0.0.1:9",
    "HTTPS_PROXY": "socks5://127.0.0.1:9",
    "all_proxy": "::::",
    "no_proxy": "",
    "SSL_CERT_FILE": "/no/such/file",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONIOENCODING": "ascii",
    "OMP_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
    "PYTHONWARNDEFAULTENCODING": "1",
    "PYTHONWARNINGS": ",".join(
        ["ignore::EncodingWarning", *(f"error::EncodingWarning:{name}" for name in ("__main__", *OURS))]
    ),
}


@pytest.fixture(scope="session")
def app_url() -> Iterator[str]:
    """Where `python app.py` serves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, **ADVERSE, "PORT": str(port)}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    url = f"http://127.0.0.1:{port}/"
    try:
        assert process.stdout is not None
        for line in process.stdout:  # ends when the process does
            if url.rstrip("/").encode() in line:
                break
        _wait_until_healthy(url)
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _wait_until_healthy(url: str) -> None:
    """Wait until the workers of the app have started."""
    end = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}health", timeout=30).close()
        except urllib.error.HTTPError as error:
            assert error.code == 503
            assert time.monotonic() < end, "no worker has started"
            time.sleep(0.1)
        else:
            return


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as started:
            yield started
    except Error as error:
        if os.environ.get("CI"):  # there, a browser must be had
            raise
        pytest.skip(f"no Chromium, neither the system's nor Playwright's: {error.message.splitlines()[0]}")


@pytest.fixture
def page(browser: Browser, app_url: str) -> Iterator[Page]:
    """The open page. Fails the test on any script error and on any request that leaves this machine."""
    problems: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: problems.extend(_outside(request.url, app_url)))
    page.goto(app_url)
    yield page
    context.close()
    assert problems == []


def _outside(url: str, home: str) -> list[str]:
    return [] if url.startswith((home, "data:", "blob:")) else [f"left this machine: {url}"]


def short(key: str) -> dict[str, Any]:
    """Settings of a lesson's run that ends soon."""
    return {"steps": 20} if "steps" in TRAININGS[key].config.controls() else {"epochs": 1}


def place_of(key: str) -> str:
    """Where the bundle of a lesson's last net is, under a folder of bundles."""
    lesson = TRAININGS[key]
    names = [learner.name for learner in Trainer(lesson, lesson.recipe()).learners]
    return place(key, names[-1], names)


def trained(key: str, **settings: Any) -> Trainer:
    """A trainer at the end of its run, a short one unless steps are set."""
    lesson = TRAININGS[key]
    trainer = Trainer(lesson, lesson.recipe({**short(key), **settings}))
    trainer.finish()
    return trainer


@pytest.fixture
def train() -> Train:
    """train(key, **settings): see `trained`."""
    return trained


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of test_conformance.py: a column a runtime, a row a net."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    found = [value for report in reports for name, value in report.user_properties if name == "conformance"]
    if not found:
        return
    columns = sorted(found, key=lambda column: column["runtime"])
    terminalreporter.section("largest difference from torch: on inputs as in training, and 1000 times as large")
    for index in (0, 1):
        heads = [column["runtime"].rsplit(" ", 1)[index] for column in columns]
        terminalreporter.write_line(" " * 26 + "".join(f"{head:18}" for head in heads).rstrip())
    for net in columns[0]["rows"]:
        cells = [column["rows"][net] for column in columns]
        terminalreporter.write_line(f"{net:26}" + "".join(f"{cell:18}" for cell in cells).rstrip())
