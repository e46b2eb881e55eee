"""Boxes for numbers, in a browser: what is typed reaches the server as it is, and its verdict comes back."""

import re

import pytest
from playwright.sync_api import Page, expect

from nets import LESSONS
from tabs import controls
from tests.conftest import follow
from tests.test_page import Tab


def test_a_number_box_sends_what_is_typed_and_shows_what_the_server_reads(page: Page) -> None:
    tab = Tab(page, "regression")
    box = page.get_by_role("textbox", name="Learning rate", exact=True)
    expect(box).to_have_accessible_description("Step size of an update, 0.0001 to 10")
    for typed in ("0,25", "２。５", "5×10⁻³"):
        box.fill("")
        box.press_sequentially(typed)  # key by key, as a number input would drop the comma
        expect(box).to_have_value(typed)
        box.press("Enter")
        expect(box).to_have_value({"0,25": "0.25", "２。５": "2.5", "5×10⁻³": "0.005"}[typed])
        expect(box).to_have_attribute("aria-invalid", "false")

    for typed, shown in (("0.5.5", "'0.5.5'"), ("1e999", "1e999"), ("½", "'½'"), ("", "empty")):
        box.fill(typed)
        box.press("Enter")
        told = f"Learning rate must be a number from 0.0001 to 10, not {shown}."
        expect(tab.status).to_have_text(told)
        expect(box).to_have_value(typed)
        expect(box).to_have_attribute("aria-invalid", "true")
        expect(box).to_have_accessible_description(f"Step size of an update, 0.0001 to 10 {told}")
    steps = page.get_by_role("textbox", name="Steps", exact=True)
    steps.fill("1,000")
    steps.press("Enter")
    wrong = page.locator("[data-setting=steps] .number-wrong")
    expect(wrong).to_have_text(re.compile("without thousands separators, not '1,000'."))
    expect(box).to_have_attribute("aria-invalid", "true")  # each box has its own verdict
    page.get_by_role("button", name="中文").click()
    expect(wrong.locator("visible=true")).to_contain_text("不用千位分隔符")
    page.get_by_role("button", name="English").click()
    page.get_by_role("button", name="Train", exact=True).click()
    tab.expect_state("error")

    box.fill("0.5")
    box.press("Enter")
    steps.fill("1 000")
    steps.press("Tab")
    expect(tab.status).to_contain_text("Ready: 1000 steps")
    expect(box).to_have_attribute("aria-invalid", "false")
    expect(wrong).to_be_hidden()
    slider = page.get_by_role("slider", name="Slider: Steps")
    expect(slider).to_have_value("1000")
    slider.fill("1500")
    expect(steps).to_have_value("1500")
    steps.press("ArrowUp")
    steps.press("PageDown")
    expect(slider).to_have_value("1491")
    expect(tab.status).to_contain_text("Ready: 1491 steps")
    steps.fill("2000")
    steps.press("ArrowUp")
    expect(steps).to_have_value("2000")

    tab.press("Step")
    tab.expect_state("paused")
    expect(steps).to_be_disabled()
    expect(slider).to_be_disabled()
    expect(box).to_be_enabled()  # the learning rate can change on the way
    tab.press("Reset")
    expect(steps).to_be_enabled()


def test_a_number_in_a_link_is_told_as_it_stands_there(page: Page, app_url: str) -> None:
    follow(page, f"{app_url}#regression?learning_rate=1e999")
    status = page.locator('[data-lesson="regression"] .live-status')
    notice = page.locator('[data-lesson="regression"] .live-notice')
    expect(notice).to_contain_text("Learning rate must be a number from 0.0001 to 10, not 1e999.")
    page.evaluate("location.hash = '#regression?learning_rate=0,25&steps=１２'")
    expect(status).to_contain_text("Ready: 12 steps")
    expect(notice).to_be_hidden()
    expect(page.get_by_role("textbox", name="Learning rate", exact=True)).to_have_value("0.25")
    page.evaluate("location.hash = '#operations?a=[[１，２],[３，４]]'")
    expect(page.locator("#operations [data-setting=a] input")).to_have_value("[[1, 2], [3, 4]]")


@pytest.mark.parametrize(
    ("key", "name", "keypad"),
    [("regression", "steps", "numeric"), ("regression", "noise", "decimal"), ("activations", "low", "")],
)
def test_phones_show_the_keypad_that_has_what_is_typed(key: str, name: str, keypad: str) -> None:
    box = controls.component(LESSONS[key], name, LESSONS[key].config.controls()[name])
    assert re.findall('inputmode="(.*?)"', box.html_template) == list(filter(None, [keypad]))  # none has a minus


def test_a_setting_that_makes_no_difference_beside_the_others_is_not_shown(page: Page) -> None:
    tab = Tab(page, "optimizers")
    momentum = page.get_by_role("textbox", name="Momentum", exact=True)
    expect(momentum).to_be_visible()
    page.get_by_role("checkbox", name="Momentum", exact=True).uncheck()
    expect(momentum).to_be_hidden()
    page.get_by_role("checkbox", name="Nesterov", exact=True).check()
    expect(momentum).to_be_visible()
    tab.expect_state("idle")
