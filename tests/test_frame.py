"""The page in a frame, as on Hugging Face."""

from itertools import groupby
from typing import Any

from playwright.sync_api import Browser, Page, expect

OUTER = """
<script>
  window.told = [];
  addEventListener("message", ({ origin, data }) => { if ("hash" in data) window.told.push([origin, data]); });
</script>
<iframe src="%s" style="width: 1200px; height: 800px"></iframe>"""


def _framed(browser: Browser, outer: str, inner: str) -> Page:
    # Chromium lets a page from elsewhere frame one of this machine only with permission.
    page = browser.new_page(permissions=["local-network-access"])
    page.route(outer, lambda route: route.fulfill(content_type="text/html", body=OUTER % inner))
    page.goto(outer)
    expect(page.frame_locator("iframe").locator("#lessons .tab-group").first).to_be_visible()
    return page


def _told(page: Page, last: str) -> list[Any]:
    page.wait_for_function("last => window.told.at(-1)?.[1].hash.startsWith(last)", arg=last)
    told: list[Any] = page.evaluate("window.told")
    return told


def test_the_outer_address_on_hugging_face_follows_the_lesson(browser: Browser, app_url: str) -> None:
    page = _framed(browser, "https://huggingface.co/spaces/you/live-nets", f"{app_url}#dropout?p=0.2")
    inner, origin = page.frame_locator("iframe"), app_url.rstrip("/")
    expect(inner.get_by_role("tab", name="Dropout", exact=True)).to_have_attribute("aria-selected", "true")
    inner.get_by_role("tab", name="Optimizers", exact=True).click()
    inner.get_by_role("tab", name="Optimizers", exact=True).press("ArrowRight")
    inner.get_by_role("tab", name="Dropout", exact=True).evaluate("location.hash = '#saving?steps=9'")
    told = _told(page, "#saving?")
    assert {each for each, _ in told} == {origin}
    lessons = [key for key, _ in groupby(data["hash"].partition("?")[0] for _, data in told)]
    assert "steps=9" in told[-1][1]["hash"]
    assert lessons[-3:] == ["#optimizers", "#dropout", "#saving"]
    page.close()


def test_another_outer_page_is_told_nothing(browser: Browser, app_url: str) -> None:
    page = _framed(browser, "https://example.org/", app_url)
    page.frame_locator("iframe").get_by_role("tab", name="Dropout", exact=True).click()
    page.frame_locator("iframe").locator("body").evaluate("parent.postMessage({ hash: 'end' }, '*')")
    assert [data["hash"] for _, data in _told(page, "end")] == ["end"]
    page.close()
