"""What a visitor has done outlives reloads, lost connections, and dead servers and workers.

After each fault the run goes on, and ends with the metrics of a run that nothing happened to, to the last bit.
"""

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.client import Served, app, children, until
from tests.conftest import trained
from tests.wire import Wire, wire

STEPS = 400
AWAY = re.compile("The server does not answer")


class Run:
    """The run of the regression lesson on a page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.chart = page.locator('[data-lesson="regression"]')
        expect(self.chart.locator(".bk-Figure")).to_have_count(2)
        expect(self.chart).to_have_attribute("data-connection", "live")

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def begin(self) -> int:
        """Train, and wait until it is well under way."""
        box = self.page.get_by_label("Steps", exact=True).locator("visible=true").first
        box.fill(str(STEPS))
        box.press("Tab")
        expect(self.chart.locator(".live-status")).to_contain_text(f"Ready: {STEPS} steps")
        self.press("Train")
        return self.reach(20)

    def reach(self, step: int) -> int:
        until(lambda: self.step >= step)
        return self.step

    @property
    def step(self) -> int:
        return int(self.chart.get_attribute("data-step") or 0)

    def expect(self, state: str) -> None:
        expect(self.chart).to_have_attribute("data-state", state)

    def end(self) -> None:
        """Finish at full speed, and compare the metrics with those of a run that nothing happened to."""
        self.page.get_by_role("radio", name="full speed", exact=True).check()
        self.expect("done")
        expect(self.page.locator(".verdict:visible")).to_contain_text("agree with the net in all")
        assert self.stored()["metrics"] == dict(trained("regression", steps=STEPS).snapshot().metrics)
        expect(self.chart.locator(".live-notice")).to_be_hidden()

    def stored(self) -> dict[str, Any]:
        """The run on show as the browser remembers it."""
        stored = json.loads(self.page.evaluate("sessionStorage.getItem('live-nets-runs-1')") or "{}")
        return dict(stored.get("regression", {}).get("run", {}))


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900})
    yield made
    made.close()


def opened(context: BrowserContext, url: str) -> Run:
    page = context.new_page()
    page.goto(url)
    return Run(page)


@pytest.fixture
def cable(app_url: str) -> Iterator[Wire]:
    with wire(app_url) as made:
        yield made


def test_a_reloaded_page_shows_its_run_paused_and_goes_on(context: BrowserContext, app_url: str) -> None:
    run = opened(context, app_url)
    before = run.begin()
    run.page.reload()
    again = Run(run.page)
    again.expect("paused")
    assert before <= again.step < STEPS
    expect(run.page.get_by_label("Steps", exact=True).locator("visible=true").first).to_have_value(str(STEPS))
    again.press("Continue")
    again.end()


def test_a_finished_run_has_its_files_after_a_reload(context: BrowserContext, app_url: str) -> None:
    run = opened(context, app_url)
    run.begin()
    run.end()
    run.page.reload()
    again = Run(run.page)
    again.expect("done")
    again.end()
    with run.page.expect_download() as download:
        run.page.get_by_role("link", name="ONNX", exact=True).click()
    assert download.value.suggested_filename == "regression-net.onnx"


def test_back_and_forward_return_to_the_run(context: BrowserContext, app_url: str) -> None:
    run = opened(context, app_url)
    run.begin()
    run.press("Pause")
    run.expect("paused")
    held = run.step
    run.page.goto(f"{app_url}robots.txt")
    run.page.go_back()
    again = Run(run.page)
    again.expect("paused")
    assert again.step == held
    again.press("Continue")
    again.end()


def test_a_duplicated_tab_has_a_run_of_its_own(context: BrowserContext, app_url: str) -> None:
    run = opened(context, app_url)
    run.begin()
    run.press("Pause")
    run.expect("paused")
    held = run.step
    with context.expect_page() as copied:
        # As browsers duplicate a tab: with its storage, and the state of its history.
        run.page.evaluate("""() => {
            const copy = window.open("robots.txt");
            copy.onload = () => {
              copy.history.replaceState(history.state, "", location.href);
              copy.location.reload();
            };
        }""")
    copy = Run(copied.value)
    copy.expect("paused")
    assert copy.step == held
    copy.press("Continue")
    copy.end()
    assert run.step == held
    run.press("Continue")
    run.end()


@pytest.mark.parametrize("seconds", [1, pytest.param(10, marks=pytest.mark.long)])
def test_a_running_run_goes_on_by_itself_after_a_cut(seconds: int, context: BrowserContext, cable: Wire) -> None:
    run = opened(context, cable.url)
    run.begin()
    cable.cut()
    expect(run.chart).to_have_attribute("data-connection", "away")
    expect(run.chart.locator(".live-connection")).to_have_text(AWAY)
    run.page.wait_for_timeout(1000 * seconds)  # the fault itself takes that long
    held = run.step
    cable.mend()
    expect(run.chart).to_have_attribute("data-connection", "live")
    run.reach(held + 10)
    expect(run.chart.locator(".live-connection")).to_be_hidden()
    run.end()


def test_what_is_pressed_last_while_the_server_is_away_is_done_when_it_is_back(
    context: BrowserContext, cable: Wire
) -> None:
    run = opened(context, cable.url)
    run.begin()
    cable.cut()
    expect(run.chart).to_have_attribute("data-connection", "away")
    run.press("Stop")
    run.press("Pause")
    cable.mend()
    run.expect("paused")
    assert run.step < STEPS
    run.press("Continue")
    run.end()


def test_of_two_presses_while_the_server_is_away_the_last_counts(context: BrowserContext, cable: Wire) -> None:
    run = opened(context, cable.url)
    run.begin()
    run.press("Pause")
    run.expect("paused")
    cable.cut()
    expect(run.chart).to_have_attribute("data-connection", "away")
    run.press("Reset")
    run.press("Step")
    cable.mend()
    expect(run.chart).to_have_attribute("data-step", "1")  # of a new run
    run.expect("paused")
    cable.cut()
    expect(run.chart).to_have_attribute("data-connection", "away")
    run.press("Reset")
    run.press("Stop")  # takes the Reset back
    cable.mend()
    run.expect("done")
    assert run.step == 1


def test_what_is_pressed_before_the_first_answer_is_done(context: BrowserContext, cable: Wire) -> None:
    context.add_init_script("""
        const Original = WebSocket;
        window.WebSocket = class extends Original {
          send(data) { setTimeout(() => super.send(data), 1500); }
        };
    """)
    page = context.new_page()
    page.goto(cable.url)
    page.get_by_role("button", name="Train", exact=True).click()
    expect(page.locator('[data-lesson="regression"]')).to_have_attribute("data-state", "done")


def test_what_is_set_beside_a_run_outlives_a_cut(context: BrowserContext, cable: Wire) -> None:
    run = opened(context, cable.url)
    run.begin()
    run.press("Pause")
    run.expect("paused")
    rate = run.page.get_by_label("Learning rate", exact=True).locator("visible=true").first
    rate.fill("0.25")
    rate.press("Tab")
    run.press("Stop")
    run.expect("done")
    steps = run.page.get_by_label("Steps", exact=True).locator("visible=true").first
    steps.fill("7")
    steps.press("Tab")
    status = run.chart.locator(".live-status")
    expect(status).to_contain_text("Settings have changed since")
    cable.cut()
    expect(run.chart).to_have_attribute("data-connection", "away")
    cable.mend()
    expect(run.chart).to_have_attribute("data-connection", "live")
    expect(status).to_contain_text("Settings have changed since")
    run.page.reload()
    expect(status).to_contain_text("Settings have changed since")
    expect(rate).to_have_value("0.25")
    expect(steps).to_have_value("7")


@pytest.mark.parametrize("how", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGKILL])
def test_a_run_goes_on_at_another_server(how: signal.Signals, context: BrowserContext, served: Served) -> None:
    url, *_ = served
    with ExitStack() as stack:
        first, process, log = stack.enter_context(app())
        cable = stack.enter_context(wire(first))
        run = opened(context, cable.url)
        run.begin()
        process.send_signal(how)
        process.wait(30)
        expect(run.chart).to_have_attribute("data-connection", "away")
        held = run.step
        cable.mend(int(url.rpartition(":")[2]))  # as nginx does when a replica is dead, or with a restarted server
        run.reach(held + 10)
        run.end()
        if how is signal.SIGTERM:
            assert " ERROR " not in log.read_text(encoding="utf-8")


@pytest.mark.long
def test_a_run_whose_worker_dies_goes_on(context: BrowserContext) -> None:
    with app(LIVE_NETS_WORKERS="1") as (url, process, _):
        run = opened(context, url)
        run.begin()
        for worker in children(process.pid):
            os.kill(worker, signal.SIGKILL)
        run.reach(run.step + 10)
        run.press("Pause")
        run.expect("paused")
        for worker in children(process.pid):
            os.kill(worker, signal.SIGKILL)
        run.press("Continue")
        run.end()


@pytest.mark.long
def test_five_tabs_of_one_browser_train_at_once_and_each_can_be_paused(context: BrowserContext, app_url: str) -> None:
    runs = [opened(context, app_url) for _ in range(5)]
    for run in runs:
        run.begin()
    sixth = opened(context, app_url)
    for run in runs:
        # The number of steps from the click to the pause; the run takes 25 a second.
        late = run.page.evaluate("""() => new Promise((resolve) => {
            const chart = document.querySelector('[data-lesson="regression"]');
            const at = Number(chart.dataset.step);
            new MutationObserver(() => chart.dataset.state === "paused" && resolve(Number(chart.dataset.step) - at))
              .observe(chart, { attributes: true });
            chart.querySelector("[data-do=pause]").click();
        })""")
        assert late < 25
    sixth.begin()


def test_an_open_page_holds_no_http_connection(context: BrowserContext, app_url: str) -> None:
    page = context.new_page()
    pending: set[Any] = set()
    page.on("request", lambda request: pending.add(request))
    page.on("requestfinished", lambda request: pending.discard(request))
    page.on("requestfailed", lambda request: pending.discard(request))
    page.goto(app_url)
    run = Run(page)
    run.begin()
    until(lambda: not pending)
    run.end()
    assert not {request.url for request in pending}


def test_settings_are_remembered_and_forgotten_at_a_click(context: BrowserContext, app_url: str) -> None:
    run = opened(context, app_url)
    run.begin()
    run.press("Pause")
    run.expect("paused")
    run.page.close()
    other = opened(context, app_url)  # another tab: the settings, and no run
    expect(other.chart.locator(".live-status")).to_contain_text(f"Ready: {STEPS} steps")
    other.press("Forget everything")
    other.press("Press again to forget settings and runs")
    expect(other.chart.locator(".live-status")).to_contain_text("Ready: 100 steps")
    assert other.page.evaluate("[localStorage, sessionStorage].flatMap(Object.keys)") == []


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param("no JSON", marks=pytest.mark.long),
        '{"regression": {"settings": {"steps": "<img src=x onerror=alert(1)>", "nonsense": 1}}}',
        pytest.param('{"regression": {"settings": {"learning_rate": 1e999}}}', marks=pytest.mark.long),
    ],
)
def test_bad_settings_in_storage_are_left_out(stored: str, context: BrowserContext, app_url: str) -> None:
    context.add_init_script(f"localStorage.setItem('live-nets-settings-1', {json.dumps(stored)})")
    run = opened(context, app_url)
    expect(run.chart.locator(".live-status")).to_contain_text("Ready: 100 steps")
    assert run.page.locator("img[src=x]").count() == 0
    run.begin()


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ('{"lesson": "regression", "settings": {"steps": 1e9}}', "Steps must be"),
        ('{"version": 99, "lesson": "regression"}', "Version must be 1, not 99."),
        pytest.param('{"lesson": "nothing"}', "Lesson must be one of", marks=pytest.mark.long),
        pytest.param("[]", "Recipe must be an object", marks=pytest.mark.long),
    ],
)
def test_a_bad_run_in_storage_is_told_in_one_sentence(
    recipe: str, sentence: str, context: BrowserContext, app_url: str
) -> None:
    shown = f'{{"step": 7, "state": "paused", "metrics": {{}}, "recipe": {recipe}}}'
    stored = f'{{"regression": {{"run": {shown}, "settings": {{}}, "speed": 1}}}}'
    context.add_init_script(f"sessionStorage.setItem('live-nets-runs-1', {json.dumps(stored)})")
    run = opened(context, app_url)
    expect(run.chart.locator(".live-notice")).to_contain_text(sentence)
    expect(run.chart.locator(".live-status")).to_contain_text("Ready: 100 steps")


def test_a_network_that_blocks_websockets_is_told(context: BrowserContext, app_url: str) -> None:
    page = context.new_page()
    page.route_web_socket("**/live", lambda socket: socket.close())
    page.goto(app_url)
    chart = page.locator('[data-lesson="regression"]')
    expect(chart.locator(".live-connection")).to_contain_text("This network blocks WebSockets")
    expect(chart).to_have_attribute("data-connection", "away")


def test_a_page_of_an_older_version_is_told_to_reload(context: BrowserContext, app_url: str) -> None:
    page = context.new_page()
    page.add_init_script("""
        const Original = WebSocket;
        window.WebSocket = class extends Original {
          send(data) { super.send(data.replace(/"version":"[^"]+"/, '"version":"older"')); }
        };
    """)
    page.goto(app_url)
    told = page.locator('[data-lesson="regression"] .live-connection')
    expect(told).to_have_text("This page is out of date. Please reload it: nothing is lost.")


def test_a_run_that_ends_with_another_loss_than_before_says_so(context: BrowserContext, app_url: str) -> None:
    run = opened(context, app_url)
    run.begin()
    run.press("Pause")
    run.expect("paused")
    stored = run.stored()
    stored["metrics"]["loss"] += 1e-9  # as another processor might have had it
    run.page.close()
    remembered = json.dumps({"regression": {"run": stored, "settings": {}, "speed": 1}})
    context.add_init_script(f"sessionStorage.setItem('live-nets-runs-1', {json.dumps(remembered)})")
    again = opened(context, app_url)
    again.expect("paused")
    expect(again.chart.locator(".live-notice")).to_contain_text(
        "Trained again on another processor or version: loss is"
    )


@pytest.mark.long
def test_a_hidden_page_gets_fewer_frames_and_trains_as_fast(context: BrowserContext, app_url: str) -> None:
    run = opened(context, app_url)
    frames: list[str] = []
    run.page.on("websocket", lambda socket: socket.on("framereceived", lambda data: frames.append(str(data))))
    run.page.reload()
    run = Run(run.page)
    run.page.evaluate("""() => {
        Object.defineProperty(document, "hidden", { value: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }""")
    run.begin()
    seen = len([each for each in frames if '"frame"' in each])
    at = run.step
    run.reach(at + 75)
    assert len([each for each in frames if '"frame"' in each]) - seen < 20  # 75 with a frame a step
