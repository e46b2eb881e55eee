// A setting that is a number or a matrix: a text box and, for some, a slider. Gradio calls this once for each, with
// `element`, `props` and `watch`. props.value is the typed text, or a number set by the slider or the server. Only the
// server parses text; its verdict arrives with the chart as "judged".
window.liveNets ??= {};
window.liveNets.number = (element, props, watch) => {
  const MAX_LENGTH = 501; // characters sent; the server rejects more than 500
  const KEYS = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 }; // in steps
  const UNAMBIGUOUS = /^-?\d*\.?\d+$/; // numbers that the server need not parse

  const box = element.querySelector("input[type=text]");
  const slider = element.querySelector("input[type=range]");
  const wrong = element.querySelector(".number-wrong");
  const name = element.querySelector("[data-setting]").dataset.setting;
  let text = null; // the box's text for `number`
  let number = null;

  function setNumber(value) {
    number = Number(value);
    box.value = text = String(value);
    if (slider) slider.value = number;
  }

  function move(value) {
    setNumber(value);
    props.value = number;
  }

  function step(event) {
    const steps = KEYS[event.key];
    if (!steps || !box.dataset.step || event.isComposing || event.altKey || event.ctrlKey || event.metaKey) return;
    const from = box.value === text ? number : UNAMBIGUOUS.test(box.value) ? Number(box.value) : NaN;
    if (!Number.isFinite(from)) return;
    event.preventDefault();
    const { step: size, minimum, maximum } = box.dataset;
    const to = Number((from + steps * size).toPrecision(12)); // avoids 0.30000000000000004
    move(Math.min(Math.max(to, minimum), maximum));
  }

  function showVerdict({ detail }) {
    const verdict = detail[name];
    element.closest(".setting").hidden = !verdict.matters;
    if (String(verdict.typed ?? "") !== String(props.value ?? "")) return; // the text has changed since
    const { refused, value } = verdict;
    if (!refused && box.value === String(verdict.typed)) setNumber(value);
    box.setAttribute("aria-invalid", String(Boolean(refused)));
    wrong.hidden = !refused;
    wrong.replaceChildren(...Object.entries(refused ?? {}).map(translation));
  }

  function translation([language, text]) {
    const span = document.createElement("span");
    span.lang = language;
    span.textContent = text;
    return span;
  }

  function setLanguage() {
    const language = document.documentElement.dataset.spoken;
    box.setAttribute("aria-labelledby", `${box.id}-${language}`);
    slider?.setAttribute("aria-label", slider.dataset[language]);
  }

  function enable() {
    for (const input of [box, slider]) if (input) input.disabled = !props.enabled;
  }

  box.addEventListener("change", () => (props.value = box.value.slice(0, MAX_LENGTH)));
  box.addEventListener("keydown", step);
  slider?.addEventListener("input", () => move(slider.valueAsNumber));
  element.closest(".lesson").addEventListener("judged", showVerdict);
  new MutationObserver(setLanguage).observe(document.documentElement, { attributes: true, attributeFilter: ["data-spoken"] });
  watch("value", () => setNumber(props.value));
  watch("enabled", enable);
  setNumber(props.value);
  enable();
  setLanguage();
};
