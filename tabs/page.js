// The page as a whole: language, groups of tabs, keyboard navigation between tabs, and links to a lesson.
window.liveNets ??= {};
(() => {
  const STORAGE_KEY = "live-nets-language";
  const root = document.documentElement;

  // Storage may be unavailable, for example in a frame of another site; then the language is not stored.
  function storedLanguage() {
    try {
      return localStorage.getItem(STORAGE_KEY);
    } catch {
      return null;
    }
  }

  function storeLanguage(language) {
    try {
      localStorage.setItem(STORAGE_KEY, language);
    } catch {
      // The language lasts until the page is closed.
    }
  }

  // Every Chinese language tag is treated as zh-CN; Gradio's own fallback is English.
  const preferred = storedLanguage() ?? navigator.language ?? "en";
  setLanguage(preferred.startsWith("zh") ? "zh-CN" : "en");

  // A browser that translates the page changes `lang`; `data-spoken` keeps the page's own language.
  function setLanguage(language) {
    root.lang = language;
    root.dataset.spoken = short(language);
  }

  function short(language) {
    return language === "en" ? "en" : "zh";
  }

  // Gradio takes the language of its components from the browser and changes it only in its settings dialog, with this
  // function. If a version of Gradio has moved it, the new language shows after a reload.
  async function setGradioLanguage() {
    const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
    const core = loaded.find((name) => /\/assets\/core-[^/]+\.js$/.test(name));
    if (core) (await import(core)).changeLocale?.(root.dataset.spoken === "en" ? "en" : "zh-CN");
  }

  function chooseLanguage(language) {
    setLanguage(language);
    storeLanguage(language);
    setGradioLanguage();
    translateTabs();
  }

  let words = null;
  const bar = () => document.querySelector("#lessons [role=tablist]");

  // The group headings are last in the tab bar and are positioned by CSS `order`, since Gradio reorders its own tabs.
  function groupTabs() {
    const groups = Object.keys(words.groups);
    for (const [index, group] of groups.entries()) {
      const heading = document.createElement("span");
      heading.className = "tab-group";
      heading.setAttribute("aria-hidden", "true");
      heading.dataset.group = group;
      heading.style.order = 2 * index;
      bar().append(heading);
    }
    for (const tab of bar().querySelectorAll("[role=tab]")) {
      const lesson = words.tabs[tab.dataset.tabId];
      tab.style.order = 2 * groups.indexOf(lesson.group) + 1;
    }
  }

  // Gradio sets the tab titles once, as text nodes, which a translating browser may have replaced.
  function titleOf(tab) {
    const existing = tab.querySelector(":scope > .tab-word");
    if (existing) return existing;
    const title = document.createElement("span");
    title.className = "tab-word";
    for (const node of [...tab.childNodes]) if (node.nodeType === Node.TEXT_NODE || node.nodeName === "FONT") node.remove();
    tab.prepend(title);
    return title;
  }

  function translateTabs() {
    if (!words) return;
    for (const heading of bar().querySelectorAll(".tab-group")) {
      heading.textContent = words.groups[heading.dataset.group][root.dataset.spoken];
    }
    for (const tab of bar().querySelectorAll("[role=tab]")) {
      titleOf(tab).textContent = words.tabs[tab.dataset.tabId].title[root.dataset.spoken];
    }
    for (const button of document.querySelectorAll("[data-language]")) {
      button.setAttribute("aria-pressed", String(short(button.dataset.language) === root.dataset.spoken));
    }
  }

  // One tab stop, and arrow keys within: https://www.w3.org/WAI/ARIA/apg/patterns/tabs/
  function markStops() {
    for (const tab of bar().querySelectorAll("[role=tab]")) {
      tab.tabIndex = tab.getAttribute("aria-selected") === "true" ? 0 : -1;
    }
  }

  // Gradio may select its first tab only later.
  function open(key, tries = 40) {
    const tab = document.getElementById(`${key}-button`);
    if (!tab || tries === 0 || tab.getAttribute("aria-selected") === "true") return;
    tab.click();
    setTimeout(open, 50, key, tries - 1);
  }

  // On Hugging Face the page is in a frame, and people copy the URL of the outer page. That page passes its query and
  // hash to the frame and accepts a new hash from it: https://huggingface.co/docs/hub/spaces-handle-url-parameters.
  // Nothing is sent to other outer pages.
  const SPACES = "https://huggingface.co";
  let sentHash = location.hash;

  function sendHash() {
    if (window.parent === window || location.hash === sentHash) return;
    sentHash = location.hash;
    window.parent.postMessage({ hash: sentHash }, SPACES);
  }

  function goTo(hash) {
    history.replaceState(history.state, "", hash);
    sendHash();
  }

  // A hash names a lesson and may give settings: #regression?seed=7&steps=300. The lesson's script sends them when the
  // tab is open; the server parses and validates them.
  const keyOf = (hash) => hash.slice(1).split("?")[0];

  function follow() {
    const key = keyOf(location.hash);
    const query = location.hash.split("?")[1];
    if (query) {
      const settings = Object.fromEntries(new URLSearchParams(query)); // unparsed
      window.liveNets.requested = { lesson: key, settings };
    }
    open(key);
    sendHash();
    dispatchEvent(new Event("live-nets-open"));
  }

  // A browser that translates the page replaces text nodes by <font> elements, and Svelte keeps writing to the detached
  // nodes. A node is put back when its text changes, so that the new text is shown and translated.
  const translated = new WeakMap(); // text node -> its replacement
  const textObserver = new MutationObserver((records) => {
    for (const { target } of records) {
      translated.get(target)?.replaceWith(target);
      translated.delete(target);
    }
  });

  function findTranslated(records) {
    for (const { removedNodes, addedNodes, previousSibling, nextSibling } of records) {
      const text = removedNodes[0];
      if (text?.nodeType !== Node.TEXT_NODE || text.isConnected) continue;
      const font = [...addedNodes, previousSibling, nextSibling].find((node) => node?.nodeName === "FONT");
      if (!font) continue;
      translated.set(text, font);
      textObserver.observe(text, { characterData: true });
    }
  }
  new MutationObserver(findTranslated).observe(document, { childList: true, subtree: true });

  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest?.("#lessons [role=tab]");
    if (!tab) return;
    const tabs = [...bar().querySelectorAll("[role=tab]")];
    const at = tabs.indexOf(tab);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    next.click();
    next.focus();
  });

  document.addEventListener("click", ({ target }) => {
    const language = target.closest?.("[data-language]")?.dataset.language;
    if (language) chooseLanguage(language);
    const tab = target.closest?.("#lessons [role=tab]");
    if (tab && tab.dataset.tabId !== keyOf(location.hash)) goTo(`#${tab.dataset.tabId}`);
    const button = target.closest?.("[data-snippet], [data-copy]");
    if (button?.dataset.snippet) showSnippet(button);
    else if (button) copy(button);
  });

  function showSnippet(chip) {
    for (const each of chip.parentElement.children) each.setAttribute("aria-pressed", String(each === chip));
    const shown = chip.closest(".snippets").querySelector(".snippet").children;
    for (const [number, each] of [...shown].entries()) each.hidden = number !== Number(chip.dataset.snippet);
  }

  async function copy(button) {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.innerText);
    } catch {
      // In a frame or without https the clipboard may be unavailable; the selected text can be copied by hand.
      getSelection().selectAllChildren(code);
      return;
    }
    const [before, after] = button.children;
    [before.hidden, after.hidden] = [true, false];
    setTimeout(() => ([before.hidden, after.hidden] = [false, true]), 2000);
  }
  addEventListener("hashchange", follow);

  // The page is complete when its tabs exist.
  const readyObserver = new MutationObserver(() => {
    const described = document.getElementById("lesson-words");
    if (!described || !bar()?.querySelector("[role=tab]")) return;
    readyObserver.disconnect();
    words = JSON.parse(described.dataset.words);
    groupTabs();
    translateTabs();
    markStops();
    setGradioLanguage();
    new MutationObserver(markStops).observe(bar(), { subtree: true, attributeFilter: ["aria-selected"] });
    if (location.hash) follow();
  });
  readyObserver.observe(document, { childList: true, subtree: true });
})();
