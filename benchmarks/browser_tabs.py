"""Time from a click on Pause to the paused chart, with five tabs of one browser training, compared with one tab."""

from statistics import median

from playwright.sync_api import BrowserContext, Page

from benchmarks.painting import serve
from tests.browser import chromium

STEPS = 2000
ROUNDS = 3

PAUSE = """() => new Promise((resolve) => {
  const chart = document.querySelector('[data-lesson="regression"]');
  const clicked = performance.now();
  new MutationObserver(() => chart.dataset.state === "paused" && resolve(performance.now() - clicked))
    .observe(chart, { attributes: true });
  chart.querySelector("[data-do=pause]").click();
})"""


def run() -> None:
    """Train in one tab and in five, pause each, and print the median and the longest time."""
    with serve(["app.py"]) as url, chromium() as browser:
        for count in (1, 5):
            seconds: list[float] = []
            for _ in range(ROUNDS):
                context = browser.new_context()
                pages = [_training(context, url) for _ in range(count)]
                seconds += [page.evaluate(PAUSE) / 1000 for page in pages]
                context.close()
            tabs = "one tab" if count == 1 else f"{count} tabs"
            print(f"  {tabs}: pause after {median(seconds) * 1000:.0f} ms, at most {max(seconds) * 1000:.0f} ms")


def _training(context: BrowserContext, url: str) -> Page:
    page = context.new_page()
    page.goto(f"{url}#regression?steps={STEPS}")
    page.locator(".bk-Figure").first.wait_for()
    page.get_by_role("button", name="Train", exact=True).click()
    page.locator('[data-lesson="regression"][data-state="running"]').wait_for()
    return page
