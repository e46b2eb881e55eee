// The dialog in which a teacher makes a link: settings to lock or hide, a note, and whether to show the lesson alone.
import * as links from "./links.js";
import { language } from "./texts.js";

/** @type {Record<string, Bilingual>} */
const TEXTS = {
  title: { en: "Link for a class", zh: "给全班的链接" },
  info: {
    en: "The link opens this lesson with what you see now. Locks and hidden settings bind the page, not the server.",
    zh: "链接会以当前的内容打开本课。锁定和隐藏只作用于页面，不作用于服务器。",
  },
  lock: { en: "Lock", zh: "锁定" },
  hide: { en: "Hide", zh: "隐藏" },
  note: { en: "Note to the class", zh: "给全班的话" },
  embed: { en: "Show the lesson alone, to embed it in a page", zh: "只显示本课，便于嵌入网页" },
  link: { en: "Link", zh: "链接" },
  copy: { en: "Copy", zh: "复制" },
  copied: { en: "Copied", zh: "已复制" },
  close: { en: "Close", zh: "关闭" },
};

/**
 * @param {keyof typeof TEXTS} key
 * @returns {string}
 */
const say = (key) => TEXTS[key][language()];

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Partial<HTMLElementTagNameMap[T]>} properties
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/**
 * Open the dialog.
 *
 * @param {import("./lesson.js").Control[]} controls
 * @param {import("./links.js").LinkOptions} before - of the link that opened the page
 * @param {(wanted: import("./links.js").LinkOptions) => string} url - the link for these choices
 * @param {(text: string, button: Element) => Promise<void>} copy
 */
export function openDialog(controls, before, url, copy) {
  const rows = controls.map(({ name, label }) => {
    const lock = make("input", { type: "checkbox", checked: before.lock.includes(name) });
    const hide = make("input", { type: "checkbox", checked: before.hide.includes(name) });
    const row = make("tr", {}, make("th", { scope: "row" }, label[language()]), cell("lock", lock), cell("hide", hide));
    return { name, lock, hide, row };
  });
  const note = make("textarea", { maxLength: links.LONGEST_NOTE, rows: 2, value: before.note });
  const embed = make("input", { type: "checkbox", checked: before.embed });
  const link = make("input", { type: "text", readOnly: true });
  const copyButton = make("button", { type: "button", className: "action primary" }, make("span", {}, say("copy")));
  copyButton.append(make("span", { hidden: true }, say("copied")));
  const closeButton = make("button", { type: "button", className: "action" }, say("close"));
  const dialog = make(
    "dialog",
    { className: "share prose" },
    make("h3", {}, say("title")),
    make("p", {}, say("info")),
    make("div", { className: "share-settings" }, make("table", {}, ...rows.map(({ row }) => row))),
    make("label", {}, say("note"), note),
    make("label", { className: "share-embed" }, embed, say("embed")),
    make("label", {}, say("link"), link),
    make("div", { className: "actions" }, copyButton, closeButton),
  );
  dialog.translate = false;
  dialog.setAttribute("aria-label", say("title"));

  function update() {
    const chosen = (/** @type {"lock" | "hide"} */ what) => rows.filter((row) => row[what].checked).map(({ name }) => name);
    link.value = url({ lock: chosen("lock"), hide: chosen("hide"), note: note.value, embed: embed.checked });
  }

  dialog.addEventListener("input", update);
  copyButton.addEventListener("click", () => copy(link.value, copyButton));
  closeButton.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  update();
  (document.querySelector(".gradio-container") ?? document.body).append(dialog);
  dialog.showModal();
}

/**
 * @param {"lock" | "hide"} key
 * @param {HTMLInputElement} box
 */
function cell(key, box) {
  return make("td", {}, make("label", {}, box, say(key)));
}
