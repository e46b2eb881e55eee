"""The app as users meet it, once for all tests: a process of its own, and a browser."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, ViewportSize, expect

from export.layout import place
from lab.training import Trainer
from nets import TRAININGS
from tests.browser import chromium
from tests.client import ROOT, Served, app

expect.set_options(timeout=30_000)  # machines are slow at times; a test that waits for what never comes is rare

VIEWPORT: ViewportSize = {"width": 1280, "height": 900}

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
def served() -> Iterator[Served]:
    """The app, once for all tests that leave it as it was: where it serves, its process, and its log."""
    with app(LOG_LEVEL="INFO", **ADVERSE) as made:
        yield made


@pytest.fixture(scope="session")
def app_url(served: Served) -> str:
    """Where the app serves."""
    url, *_ = served
    return f"{url}/"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as started:
            yield started
    except Error as error:
        if os.environ.get("CI"):  # there, a browser must be had
            raise
        pytest.skip(f"no Chromium, neither the system's nor Playwright's: {error.message.splitlines()[0]}")


# Gradio logs these in a document that is unloaded while a request is pending.
ABORTED = ("AbortError: signal is aborted", "Unexpected error Connection errored out")


class Window:
    """A browser page that tests use one after the other: loading the app again takes half the time of a new page."""

    def __init__(self, browser: Browser) -> None:
        self.problems: list[str] = []
        self._home = ""
        self.context = browser.new_context(viewport=VIEWPORT)
        self.page = page = self.context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: self.problems.append(f"script error: {error}"))
        page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: self.problems.extend(_outside(request.url, self._home)))
        page.on("framenavigated", lambda frame: self._forget_aborted())

    def open(self, url: str) -> None:
        """Load the app as a visitor who comes for the first time."""
        self._home = url
        if self.page.url.startswith("http"):
            self.page.goto(f"{url}robots.txt")  # leaving the app, it stores what is on show
            self.page.evaluate("localStorage.clear(), sessionStorage.clear()")
        self.page.set_viewport_size(VIEWPORT)
        self.page.once("framenavigated", lambda frame: self.problems.clear())  # those of the last test's document
        self.page.goto(url)

    def _forget_aborted(self) -> None:
        self.problems[:] = [problem for problem in self.problems if not problem.startswith(ABORTED)]


def follow(page: Page, link: str) -> None:
    """Open a link to the app in the page, as from another site."""
    page.goto("about:blank")
    page.goto(link)


@pytest.fixture(scope="session")
def window(browser: Browser) -> Iterator[Window]:
    made = Window(browser)
    yield made
    made.context.close()


@pytest.fixture
def page(window: Window, app_url: str) -> Iterator[Page]:
    """The open page. Fails the test on any script error and on any request that leaves this machine."""
    window.open(app_url)
    yield window.page
    assert window.problems == []


def _outside(url: str, home: str) -> list[str]:
    return [] if url.startswith((home, "data:", "blob:")) else [f"left this machine: {url}"]


def short(key: str) -> dict[str, Any]:
    """Settings of a lesson's run that ends soon."""
    return {"steps": 20} if "steps" in TRAININGS[key].config.controls() else {"epochs": 1}


def lessons_with(*keys: str) -> list[Any]:
    """Parameters for a test of a lesson that trains: these lessons and, among the long tests, all others."""
    return [pytest.param(key, marks=[] if key in keys else pytest.mark.long) for key in TRAININGS]


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
