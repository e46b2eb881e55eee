// The page's language, and what a translating browser does to the page.
import { storeLanguage, storedLanguage } from "./memory.js";
import { language } from "./texts.js";

const root = document.documentElement;

/** Set the language that the visitor has chosen or that the browser prefers. @param {string | null} requested */
export function startLanguage(requested) {
  // Every Chinese language tag is treated as zh-CN; Gradio's own fallback is English.
  setLanguage(requested ?? storedLanguage() ?? navigator.language ?? "en");
}

// A browser that translates the page changes `lang`; `data-spoken` keeps the page's own language.
/** @param {string} tag */
function setLanguage(tag) {
  const chinese = tag.startsWith("zh");
  root.lang = chinese ? "zh-CN" : "en";
  root.dataset.spoken = chinese ? "zh" : "en";
}

/** @param {string} tag */
export function chooseLanguage(tag) {
  setLanguage(tag);
  storeLanguage(root.lang);
  setGradioLanguage();
}

// Gradio takes the language of its components from the browser and changes it only in its settings dialog, with this
// function. If a version of Gradio has moved it, the new language shows after a reload.
export async function setGradioLanguage() {
  const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
  const core = loaded.find((url) => /\/assets\/core-[^/]+\.js$/.test(url));
  if (core) (await import(core)).changeLocale?.(language() === "en" ? "en" : "zh-CN");
}

// A browser that translates the page replaces text nodes by <font> elements, and Svelte keeps writing to the detached
// nodes. A node is put back when its text changes, so that the new text is shown and translated.
/** @type {WeakMap<Node, Element>} */
const translated = new WeakMap(); // text node -> its replacement
const textObserver = new MutationObserver((records) => {
  for (const { target } of records) {
    translated.get(target)?.replaceWith(target);
    translated.delete(target);
  }
});

/** @param {MutationRecord[]} records */
function findTranslated(records) {
  for (const { removedNodes, addedNodes, previousSibling, nextSibling } of records) {
    const text = removedNodes[0];
    if (text?.nodeType !== Node.TEXT_NODE || text.isConnected) continue;
    const font = [...addedNodes, previousSibling, nextSibling].find((node) => node?.nodeName === "FONT");
    if (!(font instanceof Element)) continue;
    translated.set(text, font);
    textObserver.observe(text, { characterData: true });
  }
}

export function watchTranslation() {
  new MutationObserver(findTranslated).observe(document, { childList: true, subtree: true });
}
