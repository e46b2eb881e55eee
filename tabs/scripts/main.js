// The page: its lessons, their live channel, and the address. Gradio calls the functions that `liveNets` resolves to.
import { Channel } from "./channel.js";
import { Checkpoints, KEY } from "./checkpoints.js";
import { copyText, watchSnippets } from "./clipboard.js";
import { startLanguage, watchTranslation } from "./language.js";
import { Lesson } from "./lesson.js";
import { parse } from "./links.js";
import { forgetAll } from "./memory.js";
import { number } from "./numbers.js";
import { Tabs } from "./tabs.js";
import { noSuchLesson } from "./texts.js";

startLanguage(parse(location.hash).parameters.lang ?? null);
watchTranslation();
watchSnippets();

/** @type {Map<string, Lesson>} */
const lessons = new Map();
/** @type {Map<string, import("./lesson.js").Requested>} */
const requested = new Map(); // links, by lesson
/** @type {Checkpoints | null} */
let checkpoints = null;
let counted = 0;
/** @type {Bilingual | null} */
let reason = null; // of a lost connection

const count = () => ++counted;
let unknownLesson = ""; // of a link
const tabs = new Tabs(follow, (key) => lessons.get(key)?.hash ?? null, showUnknown);
const version = /** @type {HTMLElement} */ (document.querySelector("script[data-version]")).dataset.version ?? "";
const channel = new Channel(version, receive, connected);

/** @param {Message} message */
function receive(message) {
  if (message.lesson === KEY) checkpoints?.receive(message);
  else lessons.get(message.lesson ?? "")?.receive(message);
}

/**
 * @param {boolean} live
 * @param {Bilingual | null} why
 */
function connected(live, why) {
  reason = why;
  // Commands that were sent before have lower numbers, and are sent again in their order.
  const inOrder = [...lessons.values()].sort((one, other) => one.pendingNumber - other.pendingNumber);
  for (const lesson of inOrder) lesson.connected(live, why);
  checkpoints?.connected(live);
}

/**
 * @param {string} key
 * @param {Record<string, string>} parameters
 * @param {boolean} own
 */
function follow(key, parameters, own) {
  const lesson = lessons.get(key);
  if (lesson) lesson.follow(parameters);
  else requested.set(key, { parameters, own });
}

/** Say that a link names no lesson, in the one on show. @param {string} key */
function showUnknown(key) {
  unknownLesson = key;
  lessons.get(tabs.current)?.status.notice([noSuchLesson(key)]);
}

/** @type {import("./lesson.js").Page} */
const page = {
  send: (command) => channel.send(command),
  count,
  isLive: () => channel.live,
  moved: (lesson) => tabs.moved(lesson.key),
  requested: (key) => {
    const link = requested.get(key) ?? null;
    requested.delete(key);
    return link;
  },
  copy: copyText,
  base: () => location.href.split("#")[0],
};

const ASK_AGAIN = 5000; // ms in which the button that forgets everything must be pressed again

document.addEventListener("click", ({ target }) => {
  const button = target instanceof Element ? target.closest("[data-forget]") : null;
  if (!(button instanceof HTMLElement)) return;
  if (button.dataset.forget === "sure") {
    forgetAll();
    history.replaceState(null, "", location.pathname + location.search);
    location.reload();
    return;
  }
  button.dataset.forget = "sure";
  setTimeout(() => (button.dataset.forget = ""), ASK_AGAIN);
});

window.liveNetsLoaded({
  /**
   * A lesson's chart, when its tab is first opened.
   *
   * @param {HTMLElement} element
   * @param {Gradio.Trigger} trigger
   * @param {string} key
   */
  lesson(element, trigger, key) {
    const lesson = new Lesson(element, trigger, key, page);
    lessons.set(key, lesson);
    if (!channel.live) lesson.connected(false, reason);
    if (unknownLesson) lesson.status.notice([noSuchLesson(unknownLesson)]);
    unknownLesson = "";
  },
  /**
   * The controls of a lesson have these values.
   *
   * @param {string} key
   * @param {unknown[]} values
   */
  changed(key, values) {
    lessons.get(key)?.changed(values);
  },
  /** The updates of the controls of a lesson. @param {string} key */
  values: (key) => lessons.get(key)?.updates() ?? [],
  /**
   * A number box of a lesson.
   *
   * @param {HTMLElement} element
   * @param {Gradio.Props} props
   * @param {Gradio.Watch} watch
   * @param {string} key
   */
  number(element, props, watch, key) {
    number(element, props, watch, (name, value) => lessons.get(key)?.set(name, value));
  },
  /** The Checkpoints tab. @param {HTMLElement} element */
  checkpoints(element) {
    checkpoints = new Checkpoints(element, page.send, count);
  },
});
