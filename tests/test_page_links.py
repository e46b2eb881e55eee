"""Links to a lesson, the address of the page, and changes on the way, in a browser."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from lab.recipe import Change, Recipe
from lab.training import Trainer
from nets import TRAININGS
from tests.client import until
from tests.wire import wire

LESSON = TRAININGS["regression"]


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900})
    made.grant_permissions(["clipboard-read", "clipboard-write"])
    yield made
    made.close()


def opened(context: BrowserContext, link: str) -> Page:
    page = context.new_page()
    page.goto(link)
    expect(chart(page).locator(".bk-Figure")).to_have_count(2)
    return page


def chart(page: Page) -> Any:
    return page.locator('[data-lesson="regression"]')


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def box(page: Page, label: str) -> Any:
    return page.get_by_label(label, exact=True).locator("visible=true").first


def stored(page: Page) -> dict[str, Any]:
    runs: dict[str, Any] = json.loads(page.evaluate("sessionStorage.getItem('live-nets-runs-1')"))
    return dict(runs["regression"]["run"])


def train_to_the_end(page: Page) -> dict[str, Any]:
    page.get_by_role("radio", name="full speed", exact=True).check()
    press(page, "Train")
    expect(chart(page)).to_have_attribute("data-state", "done")
    return stored(page)


def test_a_link_with_a_bad_value_and_an_unknown_name_opens_with_all_that_is_good(
    context: BrowserContext, app_url: str
) -> None:
    page = opened(context, f"{app_url}#regression?steps=60&learning_rate=99&bogus=1&speed=3")
    expect(chart(page).locator(".live-status")).to_contain_text("Ready: 60 steps")
    notice = chart(page).locator(".live-notice")
    expect(notice).to_contain_text("Left out:")
    expect(notice).to_contain_text("Learning rate must be a number from 0.0001 to 10, not 99.")
    expect(notice).to_contain_text("Settings must be one of learning_rate")
    expect(notice).to_contain_text("Speed must be one of 1, 2, 5, 20, 0.")
    expect(box(page, "Learning rate")).to_have_value("0.5")


def test_settings_move_into_the_address_and_a_link_does_not_overwrite_those_of_the_browser(
    context: BrowserContext, app_url: str
) -> None:
    page = opened(context, app_url)
    assert page.url == app_url
    box(page, "Seed").fill("7")
    box(page, "Seed").press("Tab")
    expect(page).to_have_url(re.compile("#regression[?].*steps=100.*seed=7$"))
    linked = opened(context, f"{app_url}#regression?seed=5")
    expect(box(linked, "Seed")).to_have_value("5")
    again = opened(context, app_url)
    expect(box(again, "Seed")).to_have_value("7")


def test_a_change_on_the_way_is_marked_linked_and_trained_again_exactly(context: BrowserContext, app_url: str) -> None:
    page = opened(context, f"{app_url}#regression?steps=200")
    press(page, "Train")
    until(lambda: int(chart(page).get_attribute("data-step") or 0) > 10)
    box(page, "Learning rate").fill("0.1")
    box(page, "Learning rate").press("Tab")
    expect(chart(page).get_by_text("change", exact=True)).to_be_visible()  # the legend of the mark on the loss curve
    page.get_by_role("radio", name="full speed", exact=True).check()
    expect(chart(page)).to_have_attribute("data-state", "done")
    run = stored(page)
    (change,) = run["recipe"]["changes"]
    assert (change["name"], change["value"]) == ("learning_rate", 0.1)
    assert 10 < change["step"] < 200
    recipe = Recipe("regression", LESSON.config.parse(run["recipe"]["settings"]), (Change(**change),))
    assert recipe.settings.by_name()["learning_rate"] == 0.5
    assert run["metrics"] == dict(Trainer(LESSON, recipe).finish().snapshot().metrics)

    page.locator(".copy-link:visible").click()
    until(lambda: "changes=" in page.evaluate("navigator.clipboard.readText()"))
    link = page.evaluate("navigator.clipboard.readText()")
    assert f"changes={change['step']}:learning_rate=0.1" in link
    assert all(part in link for part in ("learning_rate=0.5&", "speed=0", "lang=en", "v=1"))
    other = opened(context, link)
    expect(chart(other).locator(".live-notice")).to_be_hidden()
    assert train_to_the_end(other)["metrics"] == run["metrics"]


def test_a_teachers_link_locks_hides_and_says(context: BrowserContext, app_url: str) -> None:
    note = "Try <b>two</b> seeds. https://example.org"
    page = opened(context, f"{app_url}#regression?steps=50&lock=learning_rate&hide=noise,points&note={quote(note)}")
    expect(box(page, "Learning rate")).to_be_disabled()
    expect(box(page, "Seed")).to_be_enabled()
    expect(page.locator(".setting-noise:visible")).to_have_count(0)
    expect(page.locator(".lesson-ideas:visible")).to_have_count(0)
    said = chart(page).locator(".live-note")
    expect(said.locator("q")).to_have_text(note)
    assert said.locator("a, b").count() == 0
    page.reload()
    expect(box(page, "Learning rate")).to_be_disabled()
    expect(said.locator("q")).to_have_text(note)


def test_an_embedded_lesson_is_shown_alone(context: BrowserContext, app_url: str) -> None:
    page = opened(context, f"{app_url}#regression?embed=1")
    expect(page.get_by_role("tablist")).to_be_hidden()
    expect(page.get_by_role("heading", name="Live Nets")).to_be_hidden()
    press(page, "Train")
    expect(chart(page)).to_have_attribute("data-state", "done")


def test_the_dialog_makes_a_link_for_a_class(context: BrowserContext, app_url: str) -> None:
    page = opened(context, app_url)
    page.locator(".share-link:visible").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("row", name="Steps").get_by_label("Lock").check()
    dialog.get_by_role("row", name="Noise").get_by_label("Hide").check()
    dialog.get_by_label("Note to the class").fill("Hello, class")
    link = dialog.get_by_label("Link", exact=True).input_value()
    press(page, "Close")
    expect(dialog).to_have_count(0)
    made = opened(context, link)
    expect(box(made, "Steps")).to_be_disabled()
    expect(made.locator(".setting-noise:visible")).to_have_count(0)
    expect(chart(made).locator(".live-note")).to_contain_text("Hello, class")


def test_back_returns_to_the_plain_address(context: BrowserContext, app_url: str) -> None:
    page = opened(context, app_url)
    page.get_by_role("tab", name="Tensors", exact=True).click()
    expect(page).to_have_url(f"{app_url}#tensors")
    page.go_back()
    expect(page.get_by_role("tab", name="Regression", exact=True)).to_have_attribute("aria-selected", "true")


def test_the_changes_of_a_link_outlive_a_cut_before_the_run(context: BrowserContext, app_url: str) -> None:
    with wire(app_url) as cable:
        page = opened(context, f"{cable.url}#regression?steps=60&changes=20:learning_rate=0.1&speed=0")
        cable.cut()
        expect(chart(page)).to_have_attribute("data-connection", "away")
        cable.mend()
        expect(chart(page)).to_have_attribute("data-connection", "live")
        run = train_to_the_end(page)
        assert [(each["step"], each["value"]) for each in run["recipe"]["changes"]] == [(20, 0.1)]
        expect(box(page, "Learning rate")).to_have_value("0.1")  # it took effect


def test_a_change_is_made_once_whatever_happens_afterwards(context: BrowserContext, app_url: str) -> None:
    page = opened(context, f"{app_url}#regression?steps=1000")
    press(page, "Train")
    until(lambda: int(chart(page).get_attribute("data-step") or 0) > 10)
    box(page, "Learning rate").fill("0.1")
    box(page, "Learning rate").press("Tab")
    expect(chart(page).get_by_text("change", exact=True)).to_be_visible()
    press(page, "Pause")
    expect(chart(page)).to_have_attribute("data-state", "paused")
    page.reload()
    expect(chart(page)).to_have_attribute("data-state", "paused")
    expect(box(page, "Learning rate")).to_have_value("0.1")
    press(page, "Step")
    until(lambda: len(stored(page)["recipe"]["changes"]) == 1)
    press(page, "Stop")
    expect(chart(page)).to_have_attribute("data-state", "done")
    assert len(stored(page)["recipe"]["changes"]) == 1


def test_a_link_that_is_too_long_a_lesson_that_is_unknown_and_another_version_are_told(
    context: BrowserContext, app_url: str
) -> None:
    changes = ",".join(f"{step % 90}:learning_rate=0.1" for step in range(10_000))
    page = opened(context, f"{app_url}#regression?seed=5&changes={changes}")
    notice = chart(page).locator(".live-notice")
    expect(notice).to_contain_text("The settings and changes of a link must have at most 8000 characters.")
    expect(chart(page)).to_have_attribute("data-connection", "live")
    other = opened(context, f"{app_url}#regression?seed=5&v=99&lock=nonsense")
    notice = chart(other).locator(".live-notice")
    expect(notice).to_contain_text("Version must be 1, not 99. Locked and hidden settings must be among")
    expect(box(other, "Seed")).to_have_value("5")
    lost = opened(context, f"{app_url}#nothing?seed=5")
    expect(chart(lost).locator(".live-notice")).to_have_text("There is no lesson “nothing”.")


def test_back_goes_through_the_lessons_visited_and_keeps_their_settings(context: BrowserContext, app_url: str) -> None:
    page = opened(context, app_url)
    box(page, "Seed").fill("7")
    box(page, "Seed").press("Tab")
    expect(page).to_have_url(re.compile("#regression[?].*seed=7$"))

    def selected(title: str) -> None:
        expect(page.get_by_role("tab", name=title, exact=True)).to_have_attribute("aria-selected", "true")

    page.get_by_role("tab", name="Tensors", exact=True).click()
    selected("Tensors")
    page.get_by_role("tab", name="Saving", exact=True).click()
    selected("Saving")
    page.go_back()
    selected("Tensors")
    page.go_back()
    selected("Regression")
    expect(box(page, "Seed")).to_have_value("7")
    page.go_forward()
    selected("Tensors")
