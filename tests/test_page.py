"""The page in a real browser."""

import re
import zipfile
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from export.layout import find
from export.verify import verify
from lab.lesson import GROUPS
from lab.training import Trainer
from nets import LESSONS, TRAININGS
from tabs import checkpoints_tab
from tabs.page import TAKE_AWAY
from tests.client import until
from tests.conftest import VIEWPORT, follow


class Tab:
    """One lesson's tab, as a visitor sees it."""

    def __init__(self, page: Page, key: str) -> None:
        self.page = page
        page.get_by_role("tab", name=LESSONS[key].title.en, exact=True).click()
        self.key = key
        self.chart = page.locator(f'[data-lesson="{key}"]')
        panels = self.chart.locator(".live-panels")
        expect(panels).to_have_attribute("data-count", re.compile(r"\d"))
        expect(panels.locator(".bk-Figure")).to_have_count(int(panels.get_attribute("data-count") or 0))

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def link(self, name: str) -> Locator:
        return self.page.get_by_role("link", name=name, exact=True)

    def choose(self, name: str) -> None:
        self.page.get_by_role("radio", name=name, exact=True).check()

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


@pytest.fixture
def regression(page: Page) -> Tab:
    return Tab(page, "regression")


@pytest.mark.parametrize("key", TRAININGS)
def test_a_run_trains_live_fits_a_phone_and_leaves_a_bundle_that_verifies(key: str, page: Page, tmp_path: Path) -> None:
    tab = Tab(page, key)
    tab.expect_state("idle")
    tab.press("Step")
    tab.expect_state("paused")
    tab.expect_step(1)
    tab.choose("full speed")
    tab.press("Continue")
    tab.expect_state("done")
    expect(tab.status).to_contain_text(re.compile(r"^Done, \d+ steps · "))
    nets = len(Trainer(TRAININGS[tab.key], TRAININGS[tab.key].recipe()).learners)
    expect(tab.verdict).to_have_count(nets)
    for verdict in tab.verdict.all():
        expect(verdict).to_contain_text("All 4 files, read back from disk, agree with the net in all")

    with tab.page.expect_download() as download:
        tab.link("Bundle (zip)").click()
    assert re.fullmatch(r"live-nets-\w+\.zip", download.value.suggested_filename)
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path)
    assert len(find(tmp_path)) == nets
    for folder in find(tmp_path):
        assert verify(folder).parity.passed

    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("details:visible > summary").first.click()
    expect(page.locator(".parity-table:visible").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_each_format_downloads_under_a_name_that_says_what_it_is(regression: Tab) -> None:
    regression.press("Train")
    expect(regression.verdict).to_be_visible()
    names = []
    for label in ("ONNX", "state_dict", "safetensors", "Pickle"):
        with regression.page.expect_download() as download:
            regression.link(label).click()
        names.append(download.value.suggested_filename)
    files = ["net.onnx", "net_params.pkl", "net.safetensors", "net.pkl"]
    assert names == [f"regression-{name}" for name in files]


def test_a_run_shows_its_graph_and_how_to_use_it_in_the_tab(regression: Tab) -> None:
    regression.press("Train")
    expect(regression.verdict).to_be_visible()
    details = regression.page.locator("#regression .live-files")
    details.get_by_text("The ONNX graph").click()
    expect(details.locator(".tall text.label:visible")).to_have_text(["x", "Gemm hidden", "Relu", "Gemm predict", "y"])
    details.get_by_text("How to use it").click()
    expect(details.locator(".snippet > div:visible")).to_contain_text('InferenceSession("net.onnx")')
    details.get_by_role("button", name="Node.js, onnxruntime-web").click()
    expect(details.locator(".snippet > div:visible")).to_contain_text("npm install onnxruntime-web")


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


def test_full_speed_ends_a_long_run_soon(regression: Tab) -> None:
    regression.set("Steps", "2000")
    regression.choose("full speed")
    regression.press("Train")
    regression.expect_step(2000)
    regression.expect_state("done")


def test_a_diverging_run_says_so_and_offers_no_download(regression: Tab) -> None:
    regression.set("Learning rate", "10")
    regression.press("Train")
    regression.expect_state("diverged")
    expect(regression.status).to_contain_text(re.compile(r"Diverged at step \d+ of 100:.*Try a smaller learning rate"))
    expect(regression.link("ONNX")).to_have_count(0)
    expect(regression.verdict).to_have_count(0)


def test_a_bad_setting_is_refused_in_one_sentence_and_nothing_is_lost(regression: Tab) -> None:
    regression.set("Steps", "5")
    regression.press("Train")
    expect(regression.verdict).to_be_visible()
    regression.set("Learning rate", "11")
    regression.press("Train")
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
        const press = (name) => document.querySelector(`#regression [data-do=${name}]`).click();
        press("train"); press("step"); press("train");
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
    regression.press("Train")
    regression.expect_state("error")
    regression.set("Learning rate", "0.5")
    regression.expect_state("done")
    expect(regression.verdict).to_be_visible()
    with regression.page.expect_download() as download:
        regression.link("ONNX").click()
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
    for kind, magic in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        with regression.page.expect_download() as download:
            regression.link(kind.upper()).click()
        assert download.value.path().read_bytes().startswith(magic)


def test_the_charts_background_is_the_pages_and_its_text_is_read_in_light_and_in_dark(regression: Tab) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        regression.page.evaluate("scheme => document.body.classList.toggle('dark', scheme === 'dark')", scheme)
        expect(regression.chart).to_have_attribute("data-scheme", scheme)
        _pixels(regression)
        picture = Image.open(BytesIO(regression.chart.locator(".live-panels").screenshot())).convert("RGB")
        colors, counts = np.unique(np.asarray(picture).reshape(-1, 3), axis=0, return_counts=True)
        background = tuple(map(int, colors[counts.argmax()]))
        page = regression.page.evaluate("getComputedStyle(document.body).getPropertyValue('--background-fill-primary')")
        assert "#{:02x}{:02x}{:02x}".format(*background) == WHITE.get(page.strip(), page.strip())
        for color in regression.page.evaluate(TEXT_COLORS):
            assert _contrast(tuple(color), background) > 4.5  # WCAG 2.2, 1.4.3
        backgrounds.append(background)
    light, dark = map(_luminance, backgrounds)
    assert light > 0.8
    assert dark < 0.1


# The colors of the axes' texts, as the browser paints them: [red, green, blue] each.
TEXT_COLORS = """() => {
  const context = document.createElement("canvas").getContext("2d");
  const plots = Bokeh.documents.flatMap((document) => document.roots());
  const axes = plots.flatMap((plot) => [...plot.below, ...plot.left]);
  if (!axes.length) throw new Error("the page has no chart");
  return axes.flatMap((axis) => [axis.major_label_text_color, axis.axis_label_text_color]).map((color) => {
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  });
}"""
WHITE = {"white": "#ffffff"}


def _luminance(color: tuple[int, ...]) -> float:
    """Relative luminance of a color in sRGB, by WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_chart_speaks_to_those_who_cannot_see_it(regression: Tab) -> None:
    picture = regression.chart.get_by_role("img").first
    expect(picture).to_have_attribute("aria-label", re.compile("^Data and fit. Ready: 100 steps · loss"))
    regression.press("Train")
    regression.expect_state("done")
    expect(picture).to_have_attribute("aria-label", re.compile("^Data and fit. Done, 100 steps · loss 0.0"))
    expect(regression.chart.get_by_role("status")).to_contain_text("Done, 100 steps")


def test_what_a_lesson_computes_follows_what_is_tried_and_fits_a_phone(page: Page) -> None:
    computing = [key for key in LESSONS if key not in TRAININGS]
    assert computing
    for key in computing:
        page.set_viewport_size(VIEWPORT)
        tab = Tab(page, key)
        before = page.locator(".live-blocks:visible").inner_html()
        page.locator(".idea:visible button").first.click()
        expect(page.locator(".live-blocks:visible")).not_to_have_text(_text_of(before))
        tab.expect_state("idle")
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, key


def _text_of(html: str) -> str:
    return re.sub("<[^>]*>", "", html)


def test_an_idea_sets_its_settings_and_runs_in_one_click(regression: Tab) -> None:
    regression.choose("full speed")
    regression.press("Leap across the valley")
    regression.expect_state("diverged")
    expect(regression.page.get_by_label("Learning rate", exact=True).locator("visible=true")).to_have_value("3")
    regression.press("The tutorial's settings")
    regression.expect_state("done")
    expect(regression.page.get_by_label("Learning rate", exact=True).locator("visible=true")).to_have_value("0.5")
    expect(regression.status).not_to_contain_text("Settings have changed")


def test_dead_units_are_told_in_plain_words(regression: Tab) -> None:
    regression.choose("full speed")
    regression.press("Kill the ReLUs")
    regression.expect_state("done")
    expect(regression.chart.locator(".live-notes")).to_contain_text("All ReLUs are dead, 10 of 10")


def test_a_view_changes_the_picture_of_a_run_and_not_the_run(page: Page) -> None:
    race = Tab(page, "optimizers")
    race.press("Train")
    race.expect_state("running")
    race.choose("logarithmic")
    race.expect_state("done")
    race.expect_step(384)
    expect(race.status).to_contain_text("Done, 384 steps")
    expect(race.status).not_to_contain_text("Settings have changed")


def test_the_page_speaks_chinese_at_a_click_and_remembers_it(page: Page) -> None:
    tab = Tab(page, "regression")
    page.get_by_role("button", name="中文").click()
    for name in ("训练", "暂停", "单步", "停止", "重置"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
    expect(tab.status).to_contain_text("准备就绪：共 100 步 · 损失")
    expect(page.get_by_role("tab", name="优化器", exact=True)).to_be_visible()
    expect(page.get_by_text("学习率").first).to_be_visible()
    page.get_by_role("button", name="训练", exact=True).click()
    tab.expect_state("done")
    expect(tab.verdict).to_contain_text("4 个文件从磁盘读回后")
    page.reload()
    expect(page.get_by_role("button", name="训练", exact=True)).to_be_visible()
    expect(page.get_by_role("tab", name="回归", exact=True)).to_be_visible()
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_visible()
    expect(page.get_by_role("tab", name="Regression", exact=True)).to_be_visible()


@pytest.mark.parametrize(
    "locale", ["zh", "zh-TW", *(pytest.param(each, marks=pytest.mark.long) for each in ("zh-CN", "zh-HK"))]
)
def test_the_page_follows_a_chinese_browser(locale: str, browser: Browser, app_url: str) -> None:
    context = browser.new_context(locale=locale)
    page = context.new_page()
    page.goto(app_url)
    expect(page.get_by_role("button", name="训练", exact=True)).to_be_visible()
    expect(page.get_by_role("tab", name="回归", exact=True)).to_be_visible()
    expect(page.locator('[data-lesson="regression"] h3').first).to_contain_text("数据与拟合")
    expect(page.locator('[data-lesson="regression"] .live-status')).to_contain_text("准备就绪")
    context.close()


def test_a_page_that_may_store_nothing_works_all_the_same(browser: Browser, app_url: str) -> None:
    context = browser.new_context(locale="en-US")
    refuse = (
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    context.add_init_script(refuse)
    page = context.new_page()
    page.goto(app_url)
    expect(page.locator(".tab-group")).to_have_count(len(GROUPS) + 1)
    page.get_by_role("button", name="中文").click()
    expect(page.get_by_role("button", name="训练", exact=True)).to_be_visible()
    context.close()


def test_a_bad_setting_is_refused_in_the_pages_language(regression: Tab) -> None:
    regression.page.get_by_role("button", name="中文").click()
    box = regression.page.get_by_label("学习率").locator("visible=true").first
    box.fill("11")
    box.press("Tab")
    expect(regression.status).to_have_text("学习率必须是 0.0001 到 10 之间的数，不能是 11。")


def test_every_lesson_has_its_tab_in_sight_and_in_its_group(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for title in (*(lesson.title for lesson in LESSONS.values()), checkpoints_tab.TITLE):
        expect(page.get_by_role("tab", name=title.en, exact=True)).to_be_visible()
    for group in (*GROUPS.values(), TAKE_AWAY):
        expect(page.locator(".tab-group", has_text=group.en)).to_be_visible()
    expect(page.get_by_role("button", name="Train", exact=True)).to_be_in_viewport()


def test_arrow_keys_move_between_tabs(page: Page) -> None:
    Tab(page, "regression")
    page.get_by_role("tab", name="Regression", exact=True).focus()
    page.keyboard.press("ArrowRight")
    after = page.get_by_role("tab", name="Classification", exact=True)
    expect(after).to_be_focused()
    expect(after).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Home")
    expect(page.get_by_role("tab", name="Install", exact=True)).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tab", name="Checkpoints", exact=True)).to_be_focused()
    assert page.locator('[role=tab][tabindex="0"]').count() == 1


def test_a_link_opens_its_lesson(page: Page, app_url: str) -> None:
    follow(page, f"{app_url}#classification")
    expect(page.get_by_role("tab", name="Classification", exact=True)).to_have_attribute("aria-selected", "true")
    expect(page.locator('[data-lesson="classification"]')).to_be_visible()


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


def test_closing_the_page_ends_its_run(page: Page, browser: Browser, app_url: str) -> None:
    def runs() -> tuple[int, int]:
        health = httpx.get(f"{app_url}health").json()
        return health["kept"], health["runs"]

    until(lambda: runs() == (0, 0))  # those of earlier pages have ended
    other = browser.new_page()
    other.goto(app_url)
    tab = Tab(other, "regression")
    tab.set("Steps", "2000")
    tab.press("Train")
    tab.expect_state("running")
    assert runs() == (1, 1)
    other.close()
    until(lambda: runs() == (0, 0))
