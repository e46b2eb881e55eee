"""The stream that a page reads its answers from, in a browser."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.test_page import Tab

# What the server streams reaches the page in pieces, most of which end within a message.
CHOPPED = """
const send = window.fetch;
window.fetch = async (input, init) => {
  const response = await send(input, init);
  if (!new URL(input.url ?? input, location).pathname.endsWith("/queue/data")) return response;
  const chopped = new TransformStream({
    transform: async (chunk, controller) => {
      const size = Math.ceil(chunk.length / 20);
      for (let start = 0; start < chunk.length; start += size) {
        controller.enqueue(chunk.slice(start, start + size));
        await new Promise((resolve) => setTimeout(resolve));
      }
    },
  });
  return new Response(response.body.pipeThrough(chopped), response);
};
"""

# What the server streams reaches the page half a second late, and answers to its requests do not.
LATE = """
const send = window.fetch;
window.fetch = async (input, init) => {
  const response = await send(input, init);
  if (!new URL(input.url ?? input, location).pathname.endsWith("/queue/data")) return response;
  const late = new TransformStream({
    transform: async (chunk, controller) => {
      await new Promise((resolve) => setTimeout(resolve, 500));
      controller.enqueue(chunk);
    },
  });
  return new Response(response.body.pipeThrough(late), response);
};
"""


@pytest.fixture
def altered(browser: Browser, app_url: str) -> Iterator[Callable[[str], Page]]:
    """Opens the page with a script that runs before its own."""
    context = browser.new_context(locale="en-US")

    def opened(script: str) -> Page:
        page = context.new_page()
        page.add_init_script(script)
        page.goto(app_url)
        return page

    yield opened
    context.close()


def test_an_event_sent_while_the_close_of_the_stream_is_on_its_way_is_answered(
    altered: Callable[[str], Page],
) -> None:
    page = altered(LATE)
    regression = Tab(page, "regression")
    with page.expect_response(lambda response: "queue/join" in response.url):
        regression.set("Learning rate", "11")
    with page.expect_response(lambda response: "queue/join" in response.url):
        regression.set("Seed", "")
    with page.expect_response(lambda response: "queue/join" in response.url):
        regression.press("Step")
    expect(regression.status).to_have_text("Learning rate must be a number from 0.0001 to 10, not 11.")
    regression.set("Seed", "2")
    regression.set("Learning rate", "0.5")
    regression.expect_state("idle")


def test_messages_that_come_in_pieces_are_read(altered: Callable[[str], Page]) -> None:
    page = altered(CHOPPED)
    batchnorm = Tab(page, "batchnorm")
    batchnorm.press("Step")
    batchnorm.expect_state("paused")
