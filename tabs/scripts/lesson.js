// One lesson on the page: its controls and buttons, the run on show, and what the server says about it.
import { showButtons } from "./buttons.js";
import { Chart, decodeAll } from "./chart.js";
import * as links from "./links.js";
import { storeRun, storeSettings, storedRun, storedSettings } from "./memory.js";
import { query } from "./query.js";
import { openDialog } from "./share.js";
import { Status } from "./status.js";
import { LEFT_OUT, NOT_DRAWN, PAUSED_BY_RELOAD, language, noSuchSetting, otherResult, speedRule } from "./texts.js";

const CATCHING_UP_AFTER = 500; // ms without an answer, after which the page says that a run is trained again
const CHANGE_INTERVAL = 300; // ms between two changes of a running run
const STORE_INTERVAL = 1000; // ms between two stores of a running run

// Commands that are sent again after a reconnect; of those that were not acknowledged, the last one of the lesson.
const LASTING = ["train", "step", "pause", "stop", "reset", "idea"];

/**
 * @typedef {object} Control
 * @property {string} name
 * @property {boolean} box - whether it is a number box rather than a component of Gradio
 * @property {boolean} free - whether it can be changed during a run
 * @property {Bilingual} label
 */

/**
 * @typedef {object} Page - what lessons share
 * @property {(command: Command) => boolean} send
 * @property {() => number} count - the next number of a command or a run
 * @property {() => boolean} isLive
 * @property {(lesson: Lesson) => void} moved - the lesson's link has changed
 * @property {(key: string) => Requested | null} requested - a link to the lesson, once
 * @property {(text: string, button: Element) => Promise<void>} copy
 * @property {() => string} base - the page's URL, without a hash
 */

/**
 * @typedef {object} Requested
 * @property {Record<string, string>} parameters - not parsed
 * @property {boolean} own - whether this page has written the link itself, into its address
 */

export class Lesson {
  /**
   * @param {HTMLElement} element
   * @param {Gradio.Trigger} trigger
   * @param {string} key
   * @param {Page} page
   */
  constructor(element, trigger, key, page) {
    this.key = key;
    this.page = page;
    this.trigger = trigger;
    this.live = query(element, ".live", HTMLElement);
    const lesson = element.closest(".lesson");
    if (!(lesson instanceof HTMLElement)) throw new TypeError(`The chart of ${key} must be in a .lesson.`);
    this.lesson = lesson;
    this.notes = query(element, ".live-notes", HTMLElement);
    this.chart = new Chart(this.live, query(element, ".live-panels", HTMLElement));
    this.status = new Status(this.live, this.chart);
    /** @type {Control[]} */
    this.controls = JSON.parse(this.live.dataset.controls ?? "[]");

    /** @type {Settings} */
    this.settings = {}; // values of the controls, unparsed
    /** @type {Settings} */
    this.defaults = {};
    /** @type {number[]} */
    this.speeds = JSON.parse(this.live.dataset.speeds ?? "[]");
    this.speed = Number(this.live.dataset.pace ?? 1);
    /** @type {ShownRun | null} */
    this.run = null; // on show
    this.number = 0; // of the run on show, or of the one that was asked for last
    this.shownNumber = 0;
    this.stale = false; // whether the server has not been asked since the connection was made
    /** @type {(() => void) | null} */
    this.early = null; // what was pressed before the first answer
    /** @type {string | null} */
    this.lang = null; // of the link
    this.linked = false; // whether the settings are those of a link
    this.pageKey = ""; // of the run on show, in the URL of its figure
    this.hasText = false;
    this.settingsDiffer = false; // from those of the run on show
    this.settingsUnsent = false;
    this.settingsSentAt = -Infinity;
    /** @type {Bilingual[]} */
    this.leftOut = []; // of a link, by this page; the server leaves out other parts
    this.options = links.nothing(); // of the link
    this.remembers = false; // whether the visitor has chosen the settings, so that they are stored
    /** @type {{step: number, metrics: Record<string, number | null>} | null} */
    this.expected = null; // of a run that is trained again
    /** @type {Command | null} */
    this.pending = null; // the last of LASTING that was not acknowledged
    /** @type {Map<number, Command>} */
    this.unanswered = new Map();

    /** @type {Message[]} */
    this.queue = []; // messages to show
    this.working = false;
    this.structure = "";
    /** @type {{arrays: Arrays, blocks: string}} */
    this.base = { arrays: {}, blocks: "" };
    /** @type {WeakMap<Element, string>} */
    this.contents = new WeakMap();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.catchingUp = undefined;
    this.storedAt = -Infinity;

    lesson.addEventListener("click", ({ target }) => target instanceof Element && this.#clicked(target));
    addEventListener("pagehide", () => this.#store(true));
    new IntersectionObserver(() => {
      if (this.stale && this.live.offsetParent !== null && this.page.isLive()) this.resume();
    }).observe(this.live);
    this.open();
  }

  // Commands

  /** Show the lesson for the first time: as in a link, or as the browser remembers it. */
  open() {
    const requested = this.page.requested(this.key);
    if (requested) this.#bind(links.split(requested.parameters).wanted);
    const stored = storedRun(this.key);
    if (requested && !(requested.own && stored)) {
      this.follow(requested.parameters);
      return;
    }
    const { settings, speed } = stored ?? storedSettings(this.key);
    if (this.speeds.includes(speed ?? NaN)) this.speed = Number(speed);
    this.settings = { ...settings };
    if (stored) this.run = { ...stored.run, state: stored.run.state === "running" ? "paused" : stored.run.state };
    if (stored?.run.state === "running") this.status.notice([PAUSED_BY_RELOAD]);
    this.number = this.shownNumber = this.page.count();
    if (this.page.isLive()) this.resume();
  }

  /**
   * Show the lesson as a link says.
   *
   * @param {Record<string, string>} parameters - not parsed
   */
  follow(parameters) {
    const { settings, speed, lang, wanted, leftOut } = links.split(parameters);
    const known = this.speeds.includes(Number(speed ?? NaN));
    if (known) this.speed = Number(speed);
    this.leftOut = [...leftOut, ...(known || speed === null ? [] : [speedRule(this.speeds)]), ...this.#unknown(wanted)];
    this.#showLeftOut([]);
    this.#bind(wanted);
    this.settings = settings;
    this.lang = lang;
    this.remembers = false;
    this.linked = true;
    // What was under way is about what was on show before.
    this.run = this.pending = this.expected = null;
    this.early = null;
    this.settingsUnsent = this.settingsDiffer = false;
    this.unanswered.clear();
    this.number = this.shownNumber = this.page.count();
    if (this.page.isLive()) this.resume();
  }

  /**
   * Lock and hide settings, and show a note, as a link says.
   *
   * @param {links.LinkOptions} options
   */
  #bind(options) {
    this.options = options;
    for (const { name } of this.controls) {
      this.lesson.querySelector(`.setting-${name}`)?.classList.toggle("hidden-by-link", options.hide.includes(name));
    }
    this.lesson.classList.toggle("locked-by-link", options.lock.length > 0); // ideas would change locked settings
    document.documentElement.classList.toggle("embedded", options.embed);
    const note = query(this.live, ".live-note", HTMLElement);
    note.hidden = !options.note;
    query(note, "q", HTMLElement).textContent = options.note; // text: not ours
    this.#enable();
  }

  /** @param {Bilingual[]} sentences - of the server, about parts of a link or of what the browser remembers */
  #showLeftOut(sentences) {
    const all = [...this.leftOut, ...sentences];
    this.status.notice(all.length ? [LEFT_OUT, ...all] : []);
  }

  /**
   * Sentences about settings that a link locks or hides and that the lesson does not have.
   *
   * @param {links.LinkOptions} options
   * @returns {Bilingual[]}
   */
  #unknown({ lock, hide }) {
    const names = this.controls.map(({ name }) => name);
    return [...lock, ...hide].filter((name) => !names.includes(name)).map((name) => noSuchSetting(name, names));
  }

  /** Go on after the connection was made: send the pending command, or ask for what is on show. */
  resume() {
    const { pending, run } = this;
    this.stale = false;
    if (run && !this.expected) this.expected = { step: run.step, metrics: run.metrics };
    this.unanswered.clear();
    if (pending) this.#send(pending);
    else if (run?.state === "running") this.#send(this.#command("train"));
    else this.#send(this.#command("open", { text: this.hasText }));
  }

  /** Resume now if the lesson trains, has a pending command or is seen, and else when its tab is opened. */
  #resumeIfSeen() {
    this.stale = true;
    if (this.pending || this.run?.state === "running" || this.live.offsetParent !== null) this.resume();
  }

  /**
   * @param {string} what
   * @param {object} [extra]
   * @returns {Command}
   */
  #command(what, extra = {}) {
    const run = this.run;
    return {
      do: what,
      lesson: this.key,
      n: this.page.count(),
      run: this.number,
      settings: this.settings,
      speed: this.speed,
      language: language(),
      ...(run && this.number === this.shownNumber ? { recipe: run.recipe, step: run.step } : {}),
      ...extra,
    };
  }

  /** @param {Command} command */
  #send(command) {
    if (LASTING.includes(command.do)) this.pending = command;
    if (this.page.send(command) && command.n !== undefined) {
      this.unanswered.set(command.n, command);
      if (command.step) this.catchingUp ??= setTimeout(() => this.status.connection("catching-up"), CATCHING_UP_AFTER);
    }
    this.#showButtons();
  }

  /** The number of the pending command, since those of all lessons are sent again in order. @returns {number} */
  get pendingNumber() {
    return this.pending?.n ?? Infinity;
  }

  /** What the run does, or will do when the pending command is executed. @returns {State} */
  get activity() {
    if (this.pending && ["train", "idea"].includes(this.pending.do)) return "running";
    return this.run?.state ?? "idle";
  }

  /** @param {string} what - the name of a button */
  press(what) {
    if (!this.hasText) {
      this.early = () => this.press(what); // the page does not know its settings yet
      return;
    }
    const fresh = this.pending?.fresh ? this.pending : null; // a new run that was asked for
    if (what === "reset") {
      this.#begin(what);
    } else if (what === "train" || what === "step") {
      if (this.activity === "running") return;
      if (fresh) this.#send({ ...fresh, do: what, n: this.page.count() });
      else if (this.activity === "paused") this.#send(this.#command(what));
      else this.#begin(what);
    } else {
      if (fresh && !this.unanswered.has(fresh.n ?? 0)) {
        this.pending = null; // it was never sent: there is only the run on show
        this.number = this.shownNumber;
      }
      if (["running", "paused"].includes(this.activity)) this.#send(this.#command(what));
      this.#showButtons();
    }
  }

  /**
   * Ask for a new run, of the recipe on show if it has not begun.
   *
   * @param {string} what
   * @param {object} [extra]
   */
  #begin(what, extra = {}) {
    const shown = this.run?.state === "idle" ? { recipe: this.run.recipe } : { recipe: undefined };
    this.expected = null;
    this.number = this.page.count();
    this.#send(this.#command(what, { fresh: true, step: 0, ...shown, ...extra }));
  }

  /**
   * The controls have these values, in the order of `controls`, and last the speed.
   *
   * @param {unknown[]} values
   */
  changed(values) {
    this.controls.forEach(({ name }, index) => this.set(name, values[index]));
    const speed = values[this.controls.length];
    if (typeof speed === "number" && speed !== this.speed) {
      this.speed = speed;
      if (!this.linked) storeSettings(this.key, this.settings, this.speed);
      this.#send(this.#command("speed"));
    }
  }

  /**
   * One control has another value.
   *
   * @param {string} name
   * @param {unknown} value
   */
  set(name, value) {
    if (value === undefined || JSON.stringify(this.settings[name]) === JSON.stringify(value)) return;
    this.settings = { ...this.settings, [name]: value };
    if (!this.hasText) return; // before the first answer
    this.remembers = true;
    this.linked = false;
    storeSettings(this.key, this.settings, this.speed);
    this.settingsUnsent = true;
    queueMicrotask(() => this.#sendSettings());
  }

  /**
   * Send the settings, one command at a time: while one is under way, only the last values count. During a run each is
   * a change of its recipe, so that fewer are sent.
   */
  #sendSettings() {
    if (!this.settingsUnsent || !this.page.isLive()) return;
    if (this.#isUnanswered("settings")) return;
    const wait = this.activity === "running" ? this.settingsSentAt + CHANGE_INTERVAL - performance.now() : 0;
    if (wait > 0) {
      setTimeout(() => this.#sendSettings(), wait);
      return;
    }
    this.settingsSentAt = performance.now();
    this.settingsUnsent = false;
    this.#send(this.#command("settings"));
  }

  /** @param {string} what */
  #isUnanswered(what) {
    return [...this.unanswered.values()].some((command) => command.do === what);
  }

  // Messages

  /** @param {Message} message */
  receive(message) {
    if (message.done !== undefined) {
      this.#acknowledged(message.done);
      return;
    }
    const last = this.queue.at(-1);
    if (message.frame && !message.base && last?.frame && !last.base && last.run === message.run) this.queue[this.queue.length - 1] = message;
    else this.queue.push(message);
    if (this.working) return;
    this.working = true;
    const work = () => this.#work();
    if (document.hidden) setTimeout(work);
    else requestAnimationFrame(work); // of several frames only the newest is drawn
  }

  /** @param {number} number */
  #acknowledged(number) {
    this.unanswered.delete(number);
    if (this.pending?.n === number) this.pending = null;
    if (![...this.unanswered.values()].some(({ step }) => step)) {
      this.#caughtUp();
      this.status.connection("live");
    }
    this.#sendSettings();
    this.receive({ lesson: this.key }); // shows the buttons after the messages before
  }

  async #work() {
    try {
      let message;
      while ((message = this.queue.shift())) await this.#show(message);
    } catch (error) {
      this.queue.length = 0;
      this.status.say(NOT_DRAWN, "error");
      throw error;
    } finally {
      this.working = false;
      if (!this.pending && !this.unanswered.size) this.number = this.shownNumber; // no other run was asked for
      this.#showButtons();
    }
  }

  /** @param {Message} message */
  async #show(message) {
    if (message.text !== undefined) {
      this.hasText = true; // the values of the controls follow
      this.defaults = message.defaults ?? {};
      replace(this, query(this.lesson, ".live-text", HTMLElement), message.text);
      replace(this, query(this.lesson, ".live-code", HTMLElement), message.code ?? "");
    }
    if (message.left_out) this.#showLeftOut(message.left_out);
    if (message.values) this.#setValues(message.values);
    if (message.judged) {
      this.settingsDiffer = message.same === false;
      this.lesson.dispatchEvent(new CustomEvent("judged", { detail: message.judged }));
    }
    if (message.problem) this.#refused(message.problem, message.run);
    if (message.run !== undefined && message.run < this.shownNumber) return; // of an earlier run
    if (message.base) await this.#start(message, message.base, message.frame === undefined);
    else if (message.recipe && this.run && message.run === this.shownNumber) this.run.recipe = message.recipe;
    if (message.frame && message.run === this.shownNumber) this.#frame(message.frame);
    if (message.files !== undefined && message.run === this.shownNumber) this.#offer(message.files);
    if (message.base || message.recipe || message.judged) this.page.moved(this);
    if (this.early && message.base) {
      const press = this.early;
      this.early = null;
      queueMicrotask(press);
    }
  }

  /**
   * Another run, or another view of it.
   *
   * @param {Message} message
   * @param {Frame} base
   * @param {boolean} draw - whether to draw the base, since no frame comes with it
   */
  async #start(message, base, draw) {
    if (message.structure !== undefined && message.structure !== this.structure) {
      this.structure = message.structure;
      await this.chart.build(message.structure);
    }
    if (message.run !== this.shownNumber) this.#offer("");
    this.shownNumber = this.number = message.run ?? 0;
    this.pageKey = message.page ?? "";
    const recipe = message.recipe ?? this.run?.recipe;
    if (recipe) this.run = { recipe, step: base.step, state: base.state, metrics: base.metrics };
    this.base = { arrays: decodeAll(base.arrays ?? {}), blocks: base.blocks ?? "" };
    this.settingsDiffer = false;
    if (draw) this.#frame(base);
  }

  /** @param {Frame} frame */
  #frame(frame) {
    this.chart.draw({ ...this.base.arrays, ...decodeAll(frame.arrays ?? {}) });
    replace(this, this.notes, frame.notes);
    replace(this, query(this.lesson, ".live-blocks", HTMLElement), frame.blocks ?? this.base.blocks);
    if (this.run) Object.assign(this.run, { step: frame.step, state: frame.state, metrics: frame.metrics });
    this.live.dataset.step = String(frame.step);
    this.status.say(frame.text, frame.state);
    if (frame.state !== "paused" && this.status.noticed[0] === PAUSED_BY_RELOAD) this.status.notice([]);
    this.#compare(frame);
    this.#store(frame.state !== "running");
  }

  /**
   * Say so if a run that was trained again has another result than before.
   *
   * @param {Frame} frame
   */
  #compare(frame) {
    const expected = this.expected;
    if (!expected || frame.step < expected.step) return;
    this.expected = null;
    if (frame.step > expected.step) return;
    for (const [metric, before] of Object.entries(expected.metrics)) {
      const after = frame.metrics[metric] ?? null;
      if (before !== after) {
        this.status.notice([otherResult(metric, before, after)]);
        return;
      }
    }
  }

  /**
   * @param {Bilingual} problem
   * @param {number | undefined} number - of the run that was asked for
   */
  #refused(problem, number) {
    if (number === this.number) this.number = this.shownNumber || this.number;
    this.status.say(problem, "error");
  }

  /** @param {Settings} values */
  #setValues(values) {
    if (this.settingsUnsent || this.#isUnanswered("settings")) return; // changed by the visitor meanwhile
    this.settings = { ...values };
    if (this.remembers) storeSettings(this.key, this.settings, this.speed);
    this.trigger("submit"); // Gradio asks for `updates`
  }

  /** The updates of the controls, and last of the speed. @returns {object[]} */
  updates() {
    const updates = this.controls.map(({ name, box }) => ({
      __type__: "update",
      ...(name in this.settings ? { value: this.settings[name] } : {}),
      ...(box ? {} : { interactive: this.#isFree(name) }),
    }));
    return this.speeds.length ? [...updates, { __type__: "update", value: this.speed }] : updates;
  }

  /**
   * Whether a setting can be changed now.
   *
   * @param {string} name
   */
  #isFree(name) {
    const active = ["running", "paused"].includes(this.activity);
    const always = this.controls.some((control) => control.name === name && control.free);
    return (always || !active) && !this.options.lock.includes(name);
  }

  /** Enable the controls that can be changed now: the number boxes themselves, the others by Gradio. */
  #enable() {
    const free = Object.fromEntries(this.controls.map(({ name }) => [name, this.#isFree(name)]));
    this.lesson.dispatchEvent(new CustomEvent("freed", { detail: free }));
    if (this.hasText) this.trigger("submit");
  }

  // The page

  /** @param {Element} target */
  #clicked(target) {
    const button = target.closest("button, a");
    if (!(button instanceof HTMLElement)) return;
    if (button.dataset.do) this.press(button.dataset.do);
    if (button.dataset.idea) {
      this.remembers = true;
      this.linked = false;
      const idea = Number(button.dataset.idea);
      if (this.hasText) this.#begin("idea", { idea });
      else this.early = () => this.#begin("idea", { idea });
      const run = query(this.lesson, ".lesson-run", HTMLElement);
      if (run.getBoundingClientRect().top < 0) run.scrollIntoView({ behavior: "smooth" }); // on phones the chart is far above
    }
    if (button instanceof HTMLAnchorElement && button.dataset.figure) button.href = this.#figure(button.dataset.figure);
    if (button.classList.contains("copy-link")) this.page.copy(this.#link(this.options), button);
    if (button.classList.contains("share-link")) {
      openDialog(this.controls, this.options, (wanted) => this.#link(wanted), this.page.copy);
    }
  }

  /** The parameters of a link to what is on show: a run, or the settings that differ from it. @returns {[Settings, Change[], number | null]} */
  get recipe() {
    const recipe = this.run?.recipe;
    if (!recipe || this.settingsDiffer) return [this.settings, [], null];
    return [recipe.settings, recipe.changes, recipe.stop];
  }

  /** The hash of what is on show: short if all settings have their defaults. @returns {string} */
  get hash() {
    const [settings, changes, stop] = this.recipe;
    const differs = Object.keys(this.defaults).some((name) => name in settings && !equal(settings[name], this.defaults[name]));
    /** @type {Record<string, string>} */
    const others = links.forClass(this.options);
    if (this.speeds.length && this.speed !== Number(this.live.dataset.pace)) others.speed = String(this.speed);
    if (this.lang !== null) others.lang = this.lang;
    const full = this.hasText && (differs || changes.length > 0 || stop !== null || Object.keys(others).length > 0);
    return full ? `#${this.key}?${links.query(settings, changes, stop, others)}` : `#${this.key}`;
  }

  /**
   * The complete link to what is on show.
   *
   * @param {links.LinkOptions} options
   * @returns {string}
   */
  #link(options) {
    /** @type {Record<string, string>} */
    const others = { lang: language(), v: links.VERSION, ...links.forClass(options) };
    if (this.speeds.length) others.speed = String(this.speed);
    return `${this.page.base()}#${this.key}?${links.query(...this.recipe, others)}`;
  }

  /** The URL of a figure. @param {string} kind @returns {string} */
  #figure(kind) {
    const others = { step: String(this.run?.step ?? 0), page: this.pageKey, run: String(this.shownNumber), language: language() };
    const { settings, changes, stop } = this.run?.recipe ?? { settings: this.settings, changes: [], stop: null };
    return `files/${this.key}/figure.${kind}?${links.query(settings, changes ?? [], stop ?? null, others)}`;
  }

  #showButtons() {
    const bar = this.live.querySelector(".lesson-buttons");
    if (!bar) return;
    showButtons(bar, this.activity);
    const locked = String(["running", "paused"].includes(this.activity));
    if (this.lesson.dataset.locked !== locked) {
      this.lesson.dataset.locked = locked;
      this.#enable();
    }
  }

  /**
   * The state of the connection, and why it is lost.
   *
   * @param {boolean} live
   * @param {Bilingual | null} reason
   */
  connected(live, reason) {
    this.#caughtUp();
    this.status.connection(live ? "live" : "away", reason);
    if (live) this.#resumeIfSeen();
  }

  /** The server answers: no run is trained again. */
  #caughtUp() {
    clearTimeout(this.catchingUp);
    this.catchingUp = undefined;
  }

  /** @param {string} html */
  #offer(html) {
    replace(this, query(this.lesson, ".live-files", HTMLElement), html);
  }

  /** @param {boolean} now - else at most once a second */
  #store(now) {
    if (!this.run || (!now && performance.now() - this.storedAt < STORE_INTERVAL)) return;
    this.storedAt = performance.now();
    storeRun(this.key, this.run.step ? { run: this.run, settings: this.settings, speed: this.speed } : null);
  }
}

/**
 * Replace content only if it differs, so that selection and scroll position survive frames.
 *
 * @param {Lesson} lesson
 * @param {HTMLElement} container
 * @param {string} html
 */
function replace(lesson, container, html) {
  if (lesson.contents.get(container) === html) return;
  lesson.contents.set(container, html);
  container.innerHTML = html;
}

/**
 * @param {unknown} one
 * @param {unknown} other
 * @returns {boolean}
 */
function equal(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}
