"""Time from a click on Pause to the paused chart: five tabs of one browser train, shown in turn, against one tab."""

from statistics import median

from playwright.sync_api import BrowserContext, Page

from benchmarks.painting import serve
from tests.browser import chromium

STEPS = 2000
SETTLE_MILLISECONDS = 1200  # for the frames of a page that is seen again
ROUNDS = 3

PAUSE = """() => new Promise((resolve) => {
  const chart = document.querySelector('[data-lesson="regression"]');
  const clicked = performance.now();
  new MutationObserver(() => chart.dataset.state === "paused" && resolve(performance.now() - clicked))
    .observe(chart, { attributes: true });
  chart.querySelector("[data-do=pause]").click();
})"""

# A window shows one of its tabs; without a window, Chromium calls all of them visible.
SET_HIDDEN = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def run() -> None:
    """Train in one tab and in five, pause each, and print the median and the longest time."""
    with serve(["app.py"]) as url, chromium() as browser:
        for count in (1, 5):
            seconds: list[float] = []
            for _ in range(ROUNDS):
                context = browser.new_context()
                pages = [_training(context, url) for _ in range(count)]
                for page in pages:
                    page.bring_to_front()
                    page.evaluate(SET_HIDDEN, False)
                    page.wait_for_timeout(SETTLE_MILLISECONDS)
                    seconds.append(page.evaluate(PAUSE) / 1000)
                context.close()
            tabs = "one tab" if count == 1 else f"{count} tabs"
            print(f"  {tabs}: pause after {median(seconds) * 1000:.0f} ms, at most {max(seconds) * 1000:.0f} ms")


def _training(context: BrowserContext, url: str) -> Page:
    page = context.new_page()
    page.goto(f"{url}#regression?steps={STEPS}")
    page.locator(".bk-Figure").first.wait_for()
    page.get_by_role("button", name="Train", exact=True).click()
    page.locator('[data-lesson="regression"][data-state="running"]').wait_for()
    page.evaluate(SET_HIDDEN, True)
    return page
