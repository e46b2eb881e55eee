// A setting that is a number or a matrix: a text box and, for some, a slider. props.value is the typed text, or a number
// set by the slider or the server. Only the server parses text; its verdict arrives as the event "judged".
import { query } from "./query.js";
import { language } from "./texts.js";

const MAX_LENGTH = 501; // characters sent; the server rejects more than 500
/** @type {Record<string, number>} */
const KEYS = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 }; // in steps
const UNAMBIGUOUS = /^-?\d*\.?\d+$/; // numbers that the server need not parse

/**
 * @param {HTMLElement} element
 * @param {Gradio.Props} props
 * @param {Gradio.Watch} watch
 * @param {(name: string, value: unknown) => void} changed - called at once, before Gradio's own event
 */
export function number(element, props, watch, changed) {
  const box = query(element, "input[type=text]", HTMLInputElement);
  const slider = /** @type {HTMLInputElement | null} */ (element.querySelector("input[type=range]"));
  const wrong = query(element, ".number-wrong", HTMLElement);
  const name = query(element, "[data-setting]", HTMLElement).dataset.setting ?? "";
  const lesson = query(document, `.lesson:has(#${box.id})`, HTMLElement);
  /** @type {string | null} */
  let text = null; // the box's text for `current`
  let current = NaN;

  /** @param {unknown} value */
  function setNumber(value) {
    current = Number(value);
    box.value = text = String(value);
    if (slider) slider.value = String(current);
  }

  /** @param {unknown} value */
  function send(value) {
    props.value = value;
    changed(name, value);
  }

  /** @param {number} value */
  function move(value) {
    setNumber(value);
    send(current);
  }

  /** @param {KeyboardEvent} event */
  function step(event) {
    const steps = KEYS[event.key];
    const { by, minimum, maximum } = box.dataset;
    if (!steps || !by || event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
    const from = box.value === text ? current : UNAMBIGUOUS.test(box.value) ? Number(box.value) : NaN;
    if (!Number.isFinite(from)) return;
    event.preventDefault();
    const to = Number((from + steps * Number(by)).toPrecision(12)); // avoids 0.30000000000000004
    move(Math.min(Math.max(to, Number(minimum)), Number(maximum)));
  }

  /** @param {CustomEvent<Record<string, Verdict>>} event */
  function showVerdict({ detail }) {
    const verdict = detail[name];
    const setting = element.closest(".setting");
    if (setting instanceof HTMLElement) setting.hidden = !verdict.matters;
    if (String(verdict.typed ?? "") !== String(props.value ?? "")) return; // the text has changed since
    const { refused, value } = verdict;
    if (!refused && box.value === String(verdict.typed)) setNumber(value);
    box.setAttribute("aria-invalid", String(Boolean(refused)));
    wrong.hidden = !refused;
    wrong.replaceChildren(...Object.entries(refused ?? {}).map(translation));
  }

  /** @param {[string, string]} entry */
  function translation([spoken, sentence]) {
    const span = document.createElement("span");
    span.lang = spoken;
    span.textContent = sentence;
    return span;
  }

  function setLanguage() {
    box.setAttribute("aria-labelledby", `${box.id}-${language()}`);
    slider?.setAttribute("aria-label", slider.dataset[language()] ?? "");
  }

  /** @param {CustomEvent<Record<string, boolean>>} event */
  function enable({ detail }) {
    for (const input of [box, slider]) if (input) input.disabled = !detail[name];
  }

  box.addEventListener("change", () => send(box.value.slice(0, MAX_LENGTH)));
  box.addEventListener("keydown", step);
  slider?.addEventListener("input", () => move(slider.valueAsNumber));
  lesson.addEventListener("judged", showVerdict);
  lesson.addEventListener("freed", enable);
  new MutationObserver(setLanguage).observe(document.documentElement, { attributes: true, attributeFilter: ["data-spoken"] });
  watch("value", () => setNumber(props.value));
  setNumber(props.value);
  setLanguage();
}
