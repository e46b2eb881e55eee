// The tab bar: groups, titles in the page's language, and keyboard navigation. Lessons in the address and the history.
import { chooseLanguage, setGradioLanguage } from "./language.js";
import { parse } from "./links.js";
import { language } from "./texts.js";

// On Hugging Face the page is in a frame, and people copy the URL of the outer page. That page passes its query and hash
// to the frame and accepts a new hash from it: https://huggingface.co/docs/hub/spaces-handle-url-parameters. Nothing is
// sent to other outer pages.
const SPACES = "https://huggingface.co";
const MOVE_DELAY = 300; // ms
const framed = window.parent !== window;

/** @typedef {{groups: Record<string, Bilingual>, tabs: Record<string, {title: Bilingual, group: string}>}} Words */

export class Tabs {
  /**
   * @param {(key: string, parameters: Record<string, string>, own: boolean) => void} follow - a link to a lesson was
   *   opened; whether this page has written it itself, before a reload
   * @param {(key: string) => string | null} hashOf - the present hash of a lesson
   * @param {(key: string) => void} unknown - a link names a lesson that does not exist
   */
  constructor(follow, hashOf, unknown) {
    this.follow = follow;
    this.hashOf = hashOf;
    this.unknown = unknown;
    this.first = ""; // the lesson that the plain address shows
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.moving = undefined;
    /** @type {Words | null} */
    this.words = null;
    this.sentHash = location.hash;
    addEventListener("popstate", () => this.#navigated());
    document.addEventListener("keydown", (event) => this.#moved(event));
    document.addEventListener("click", ({ target }) => target instanceof Element && this.#clicked(target));
    if (location.hash) this.#request(location.hash, history.state?.liveNets === true);
    // The page is complete when its tabs exist.
    const observer = new MutationObserver(() => {
      const described = document.getElementById("lesson-words");
      if (!described || !this.bar?.querySelector("[role=tab]")) return;
      observer.disconnect();
      this.#complete(JSON.parse(described.dataset.words ?? "{}"));
    });
    observer.observe(document, { childList: true, subtree: true });
  }

  /** @returns {Element | null} */
  get bar() {
    return document.querySelector("#lessons [role=tablist]");
  }

  /** @returns {HTMLElement[]} */
  get tabs() {
    return [...(this.bar?.querySelectorAll("[role=tab]") ?? [])].filter((tab) => tab instanceof HTMLElement);
  }

  /** The key of the open tab. @returns {string} */
  get current() {
    return this.tabs.find((tab) => tab.getAttribute("aria-selected") === "true")?.dataset.tabId ?? "";
  }

  /** @param {Words} words */
  #complete(words) {
    this.words = words;
    this.#group(words);
    this.#translate();
    this.#markStops();
    setGradioLanguage();
    const bar = this.bar;
    if (bar) new MutationObserver(() => this.#markStops()).observe(bar, { subtree: true, attributeFilter: ["aria-selected"] });
    this.first = this.current;
    if (location.hash) this.#show(parse(location.hash).key);
  }

  /** Open the lesson of a link. @param {string} key */
  #show(key) {
    if (!key || key in (this.words?.tabs ?? {})) this.open(key || this.first);
    else this.unknown(key);
  }

  // The group headings are last in the tab bar and are positioned by CSS `order`, since Gradio reorders its own tabs.
  /** @param {Words} words */
  #group(words) {
    const groups = Object.keys(words.groups);
    for (const [index, group] of groups.entries()) {
      const heading = document.createElement("span");
      heading.className = "tab-group";
      heading.setAttribute("aria-hidden", "true");
      heading.dataset.group = group;
      heading.style.order = String(2 * index);
      this.bar?.append(heading);
    }
    for (const tab of this.tabs) {
      tab.style.order = String(2 * groups.indexOf(words.tabs[tab.dataset.tabId ?? ""].group) + 1);
    }
  }

  #translate() {
    const words = this.words;
    if (!words) return;
    for (const heading of this.bar?.querySelectorAll(".tab-group") ?? []) {
      if (heading instanceof HTMLElement) heading.textContent = words.groups[heading.dataset.group ?? ""][language()];
    }
    for (const tab of this.tabs) titleOf(tab).textContent = words.tabs[tab.dataset.tabId ?? ""].title[language()];
    for (const button of document.querySelectorAll("[data-language]")) {
      if (!(button instanceof HTMLElement)) continue;
      const spoken = button.dataset.language === "en" ? "en" : "zh";
      button.setAttribute("aria-pressed", String(spoken === language()));
    }
  }

  // One tab stop, and arrow keys within: https://www.w3.org/WAI/ARIA/apg/patterns/tabs/
  #markStops() {
    for (const tab of this.tabs) tab.tabIndex = tab.getAttribute("aria-selected") === "true" ? 0 : -1;
    const title = this.words?.tabs[this.current]?.title[language()];
    if (title) document.title = `${title} · Live Nets`;
  }

  /**
   * Open a lesson's tab. Gradio may select its first tab only later.
   *
   * @param {string} key
   * @param {number} [tries]
   */
  open(key, tries = 40) {
    const tab = document.getElementById(`${key}-button`);
    if (!tab || tries === 0 || tab.getAttribute("aria-selected") === "true") return;
    tab.click();
    setTimeout(() => this.open(key, tries - 1), 50);
  }

  /**
   * @param {string} hash
   * @param {boolean} own
   */
  #request(hash, own) {
    const { key, parameters } = parse(hash);
    if (Object.keys(parameters).length) this.follow(key, parameters, own);
    this.#sendHash();
  }

  /** A link in the page, an edited address, or Back and Forward: of these, only the last have a state of ours. */
  #navigated() {
    const { key } = parse(location.hash);
    if (history.state?.liveNets !== true) this.#request(location.hash, false);
    this.#show(key);
    this.moved(key); // of an entry that was left, the settings may have changed since
  }

  /** Show a lesson's present hash in the address soon: browsers limit how often it may change. @param {string} key */
  moved(key) {
    clearTimeout(this.moving);
    this.moving = setTimeout(() => this.#replace(key), MOVE_DELAY);
  }

  /** @param {string} key */
  #replace(key) {
    const hash = this.hashOf(key);
    if (hash === null || key !== this.current || hash === location.hash) return;
    if (!location.hash && hash === `#${key}`) return; // the plain address shows the first lesson
    history.replaceState({ liveNets: true }, "", hash);
    this.#sendHash();
  }

  /** @param {string} key */
  #visit(key) {
    const hash = this.hashOf(key) ?? `#${key}`;
    if (parse(location.hash).key === key) return;
    if (framed) history.replaceState({ liveNets: true }, "", hash);
    else history.pushState({ liveNets: true }, "", hash);
    this.#sendHash();
  }

  #sendHash() {
    if (!framed || location.hash === this.sentHash) return;
    this.sentHash = location.hash;
    window.parent.postMessage({ hash: this.sentHash }, SPACES);
  }

  /** @param {KeyboardEvent} event */
  #moved(event) {
    const tab = event.target instanceof Element ? event.target.closest("#lessons [role=tab]") : null;
    if (!(tab instanceof HTMLElement)) return;
    const tabs = this.tabs;
    const at = tabs.indexOf(tab);
    /** @type {Record<string, number>} */
    const keys = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 };
    const to = keys[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = tabs[(to + tabs.length) % tabs.length];
    next.click();
    next.focus();
  }

  /** @param {Element} target */
  #clicked(target) {
    const button = target.closest("[data-language]");
    if (button instanceof HTMLElement) {
      chooseLanguage(button.dataset.language ?? "en");
      this.#translate();
      this.#markStops();
    }
    const tab = target.closest("#lessons [role=tab]");
    if (tab instanceof HTMLElement) this.#visit(tab.dataset.tabId ?? "");
  }
}

// Gradio sets the tab titles once, as text nodes, which a translating browser may have replaced.
/** @param {HTMLElement} tab */
function titleOf(tab) {
  const existing = tab.querySelector(":scope > .tab-word");
  if (existing) return existing;
  const title = document.createElement("span");
  title.className = "tab-word";
  for (const node of [...tab.childNodes]) if (node.nodeType === Node.TEXT_NODE || node.nodeName === "FONT") node.remove();
  tab.prepend(title);
  return title;
}
