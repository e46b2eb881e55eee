"""The page in a real browser."""

import re
import threading
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from export.verify import find, verify
from nets import LESSONS
from runs import visitors
from runs.run import State
from tabs.page import build, launch_options


class Tab:
    """One lesson's tab, as a visitor sees it."""

    def __init__(self, page: Page, key: str) -> None:
        self.page = page
        page.get_by_role("tab", name=LESSONS[key].title, exact=True).click()
        self.chart = page.locator(f'[data-lesson="{key}"]')
        expect(self.chart.locator(".bk-Figure")).to_have_count(2)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def press_to_the_end(self, name: str) -> None:
        """Press, and wait for the last of the events that follow one upon another."""
        dependencies = self.page.evaluate("window.gradio_config.dependencies.map(({ id, api_name }) => [id, api_name])")
        last = {id for id, name in dependencies if (name or "").startswith("take_away")}  # noqa: A001
        with self.page.expect_request(
            lambda request: "queue/join" in request.url and (request.post_data_json or {}).get("fn_index") in last
        ):
            self.press(name)

    def set(self, label: str, value: str) -> None:
        box = self.page.get_by_label(re.compile(f"^(number input for )?{label}", re.IGNORECASE)).first
        box.fill(value)
        box.press("Tab")

    def expect_state(self, state: str) -> None:
        expect(self.chart).to_have_attribute("data-state", state)

    def expect_step(self, step: int) -> None:
        expect(self.chart).to_have_attribute("data-step", str(step))

    @property
    def step(self) -> int:
        return int(self.chart.get_attribute("data-step") or -1)

    @property
    def status(self) -> Locator:
        return self.chart.locator(".live-status")

    @property
    def verdict(self) -> Locator:
        return self.page.locator(".verdict:visible")


@pytest.fixture(params=LESSONS)
def tab(page: Page, request: pytest.FixtureRequest) -> Tab:
    return Tab(page, request.param)


@pytest.fixture
def regression(page: Page) -> Tab:
    return Tab(page, "regression")


def test_a_run_trains_live_and_leaves_a_bundle_that_verifies(tab: Tab, tmp_path: Path) -> None:
    tab.expect_state("idle")
    tab.press("Train")
    tab.expect_state("done")
    tab.expect_step(100)
    expect(tab.status).to_contain_text("Done, 100 steps · loss 0.0")
    expect(tab.verdict).to_contain_text("All 4 files, read back from disk, agree with the net in all")

    with tab.page.expect_download() as download:
        tab.press("Bundle (zip)")
    assert re.fullmatch(r"live-nets-\w+\.zip", download.value.suggested_filename)
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path)
    (folder,) = find(tmp_path)
    assert verify(folder).parity.passed


def test_each_format_downloads_under_a_name_that_says_what_it_is(regression: Tab) -> None:
    regression.press("Train")
    expect(regression.verdict).to_be_visible()
    names = []
    for label in ("ONNX", "state_dict", "safetensors", "Pickle"):
        with regression.page.expect_download() as download:
            regression.press(label)
        names.append(download.value.suggested_filename)
    files = ["net.onnx", "net_params.pkl", "net.safetensors", "net.pkl"]
    assert names == [f"regression-{name}" for name in files]


def test_pause_holds_a_run_and_continue_takes_it_to_the_end(regression: Tab) -> None:
    regression.press("Train")
    regression.expect_state("running")
    regression.press("Pause")
    regression.expect_state("paused")
    held = regression.step
    assert 0 < held < 100
    regression.press("Step")
    regression.expect_step(held + 1)
    regression.expect_state("paused")
    regression.press("Continue")
    regression.expect_state("done")
    regression.expect_step(100)


def test_stop_ends_a_run_early_and_offers_what_it_learned(regression: Tab) -> None:
    regression.press("Train")
    regression.expect_state("running")
    regression.press("Stop")
    regression.expect_state("done")
    assert 0 < regression.step < 100
    expect(regression.status).to_contain_text("Stopped at step")
    expect(regression.verdict).to_contain_text("agree with the net")


def test_reset_forgets_the_run(regression: Tab) -> None:
    regression.press("Train")
    regression.expect_state("running")
    regression.press("Reset")
    regression.expect_state("idle")
    regression.expect_step(0)
    expect(regression.status).to_contain_text("Ready: 100 steps")
    expect(regression.verdict).to_have_count(0)


def test_step_from_the_start_takes_one_step(tab: Tab) -> None:
    tab.press("Step")
    tab.expect_state("paused")
    tab.expect_step(1)


def test_full_speed_ends_a_long_run_soon(regression: Tab) -> None:
    regression.set("Steps", "2000")
    regression.page.get_by_role("radio", name="full speed").check()
    regression.press("Train")
    regression.expect_step(2000)
    regression.expect_state("done")


def test_a_diverging_run_says_so_and_offers_no_download(regression: Tab) -> None:
    regression.set("Learning rate", "10")
    regression.press("Train")
    regression.expect_state("diverged")
    expect(regression.status).to_contain_text(re.compile(r"Diverged at step \d+ of 100:.*Try a smaller learning rate"))
    expect(regression.page.get_by_role("button", name="ONNX")).to_have_count(0)
    expect(regression.verdict).to_have_count(0)


def test_a_bad_setting_is_refused_in_one_sentence_and_nothing_is_lost(regression: Tab) -> None:
    regression.set("Steps", "5")
    regression.press("Train")
    expect(regression.verdict).to_be_visible()
    regression.set("Learning rate", "11")
    regression.press_to_the_end("Train")
    expect(regression.status).to_have_text("Learning rate must be a number from 0.0001 to 10, not 11.")
    regression.expect_state("error")
    expect(regression.verdict).to_be_visible()  # of the run before, which still stands
    regression.set("Learning rate", "0.4")
    regression.expect_state("done")
    expect(regression.status).to_contain_text("Settings have changed since")
    regression.set("Learning rate", "0.5")
    expect(regression.status).not_to_contain_text("Settings have changed since")


def test_an_empty_box_is_refused_in_words(regression: Tab) -> None:
    regression.set("Seed", "")
    expect(regression.status).to_have_text("Seed must be a whole number from 0 to 2147483647, not empty.")


def test_clicks_that_come_at_once_leave_a_page_that_works(regression: Tab) -> None:
    regression.page.evaluate("""() => {
        const press = (name) => [...document.querySelectorAll(".lesson-buttons button")]
            .find((button) => button.textContent.trim() === name).click();
        press("Train"); press("Step"); press("Train");
    }""")
    expect(regression.chart).not_to_have_attribute("data-step", "0")
    for name in ("Pause", "Step", "Stop", "Reset"):
        expect(regression.page.get_by_role("button", name=name, exact=True)).to_be_visible()
    regression.press("Reset")
    regression.expect_state("idle")
    regression.press("Train")
    regression.expect_state("done")


def test_a_refused_run_leaves_the_downloads_of_the_one_before(regression: Tab) -> None:
    regression.set("Steps", "5")
    regression.press("Train")
    expect(regression.verdict).to_be_visible()
    regression.set("Learning rate", "11")
    regression.press_to_the_end("Train")
    regression.expect_state("error")
    regression.set("Learning rate", "0.5")
    regression.expect_state("done")
    expect(regression.verdict).to_be_visible()
    with regression.page.expect_download() as download:
        regression.press("ONNX")
    assert download.value.suggested_filename == "regression-net.onnx"


def test_moving_a_control_shows_the_untrained_net_of_the_new_settings(regression: Tab) -> None:
    regression.set("Steps", "7")
    expect(regression.status).to_contain_text("Ready: 7 steps")
    before = _pixels(regression)
    regression.set("Seed", "5")
    expect(regression.status).not_to_contain_text("loss 0.3825")
    assert _pixels(regression) != before


def test_the_figure_is_saved_in_three_formats(regression: Tab) -> None:
    regression.press("Step")
    regression.expect_step(1)
    regression.press("Save figure")
    for kind, magic in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        with regression.page.expect_download() as download:
            regression.page.locator(f'a[download="regression.{kind}"]').click()
        assert download.value.path().read_bytes().startswith(magic)


def test_the_chart_follows_dark_mode(regression: Tab) -> None:
    light = _pixels(regression)
    regression.page.evaluate("document.body.classList.add('dark')")
    regression.page.wait_for_function("before => document.querySelector('.live').dataset.scheme === 'dark'")
    assert _pixels(regression) != light


def test_the_chart_speaks_to_those_who_cannot_see_it(regression: Tab) -> None:
    picture = regression.chart.get_by_role("img").first
    expect(picture).to_have_attribute("aria-label", re.compile("^Data and fit. Ready: 100 steps · loss"))
    regression.press("Train")
    regression.expect_state("done")
    expect(picture).to_have_attribute("aria-label", re.compile("^Data and fit. Done, 100 steps · loss 0.0"))
    expect(regression.chart.get_by_role("status")).to_contain_text("Done, 100 steps")


def test_nothing_scrolls_sideways_on_a_phone(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": 390, "height": 844})
    tab.press("Train")
    tab.expect_state("done")
    expect(tab.verdict).to_be_visible()
    tab.page.locator("details:visible > summary").click()
    tab.page.get_by_text("The code that runs here").locator("visible=true").click()
    expect(tab.page.locator(".parity-table:visible")).to_be_visible()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_keyboard_alone_trains_and_pauses(regression: Tab) -> None:
    regression.page.get_by_role("button", name="Train", exact=True).focus()
    regression.page.keyboard.press("Enter")
    regression.expect_state("running")
    expect(regression.page.get_by_role("button", name="Pause", exact=True)).to_be_focused()
    regression.page.keyboard.press("Enter")
    regression.expect_state("paused")
    expect(regression.page.get_by_role("button", name="Continue", exact=True)).to_be_focused()


def test_a_visitor_cannot_see_or_stop_anothers_run(regression: Tab, browser: Browser, app_url: str) -> None:
    other = browser.new_page()
    other.goto(app_url)
    mine = Tab(other, "regression")
    regression.press("Train")
    regression.expect_state("running")
    mine.press("Reset")
    mine.expect_state("idle")
    regression.expect_state("done")
    mine.expect_step(0)
    other.close()


def _pixels(tab: Tab) -> str:
    """The chart as it is painted, once the browser has painted."""
    tab.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return str(tab.chart.locator(".live-panels").screenshot())


def test_closing_the_page_ends_its_run(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = build()  # in this process, to look into it
    closed = threading.Event()
    close = visitors.close

    def close_and_tell(session: str) -> None:
        close(session)
        closed.set()

    monkeypatch.setattr(visitors, "close", close_and_tell)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    try:
        page = browser.new_page()
        page.goto(url)
        tab = Tab(page, "regression")
        tab.set("Steps", "2000")
        tab.press("Train")
        tab.expect_state("running")
        (run,) = visitors._runs.values()
        page.close()
        assert closed.wait(timeout=30)
        assert run.state is State.IDLE
        assert not visitors._runs
    finally:
        demo.close()
