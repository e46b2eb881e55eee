"""A page that the browser has translated, as Google Translate does it."""

import re

from playwright.sync_api import Page, expect

from tests.test_page import Tab

# Every text node makes room for two <font>, `lang` says the language translated to, and what comes later follows.
TRANSLATE = """() => {
  const left = "script, style, textarea, font, [translate=no]";
  const kept = (node) => !node.nodeValue.trim() || node.parentElement?.closest(left);
  const translate = (node) => {
    const outer = document.createElement("font"), inner = document.createElement("font");
    outer.style.verticalAlign = inner.style.verticalAlign = "inherit";
    inner.textContent = `«${node.nodeValue.trim()}»`;
    outer.append(inner);
    node.replaceWith(outer);
  };
  const all = (root) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), found = [];
    if (root.nodeType === Node.TEXT_NODE) found.push(root);
    while (walker.nextNode()) found.push(walker.currentNode);
    for (const node of found) if (node.isConnected && !kept(node)) translate(node);
  };
  document.documentElement.lang = "es";
  document.documentElement.classList.add("translated-ltr");
  all(document.body);
  new MutationObserver((records) => {
    for (const { addedNodes, target, type } of records) {
      if (type === "characterData") all(target);
      else for (const node of addedNodes) if (node.isConnected) all(node);
    }
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""


def test_a_translated_page_trains_and_switches_its_language(page: Page) -> None:
    tab = Tab(page, "regression")
    page.evaluate(TRANSLATE)
    expect(page.locator("html")).to_have_attribute("lang", "es")
    expect(page.get_by_role("button", name="«Train»", exact=True)).to_be_visible()
    expect(page.locator(".lesson-summary:visible [lang=zh]")).to_be_hidden()  # one language, not both

    page.get_by_role("button", name="«Train»", exact=True).click()
    tab.expect_state("running")
    page.get_by_role("button", name="«Pause»", exact=True).click()
    tab.expect_state("paused")
    expect(tab.status).to_have_text(
        re.compile(r"^Paused at step \d+ of 100 · loss [\d.]+ ")
    )  # a live value is as it is
    page.get_by_text("«full speed»").locator("visible=true").click()
    page.get_by_role("button", name="«Continue»", exact=True).click()  # Svelte wrote it into a node that was gone
    tab.expect_state("done")
    expect(page.get_by_role("button", name="«Train»", exact=True)).to_be_visible()
    expect(tab.verdict).to_contain_text("agree with the net")

    page.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    expect(tab.status).to_have_text(re.compile("^完成，共 100 步"))
    expect(page.get_by_role("tab", name="«优化器»", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="«训练»", exact=True)).to_be_visible()
    expect(page.get_by_text("«全速»")).to_be_visible()
    box = page.get_by_label("学习率").locator("visible=true").first
    box.fill("1,125")
    box.press("Tab")
    expect(tab.status).to_contain_text("不能是 '1,125'")

    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    page.get_by_role("tab", name="«Tensors»", exact=True).click()
    expect(page.locator(".live-blocks:visible pre code").first).to_be_visible()
    assert page.locator("pre code font, .live-status font, .languages font").count() == 0
