// What a lesson says about itself: the status line, notices above it, and the state of the connection.
import { query } from "./query.js";
import { CONNECTION, language } from "./texts.js";

const ANNOUNCE_INTERVAL = 3000; // ms between two announcements of a screen reader
const NO_TEXT = { en: "", zh: "" };

export class Status {
  /**
   * @param {HTMLElement} live - the element with data-lesson
   * @param {import("./chart.js").Chart} chart
   */
  constructor(live, chart) {
    this.live = live;
    this.chart = chart;
    this.line = query(live, ".live-status", HTMLElement);
    this.announcer = query(live, ".live-spoken", HTMLElement);
    this.notices = query(live, ".live-notice", HTMLElement);
    this.reasons = query(live, ".live-connection", HTMLElement);
    /** @type {Bilingual | null} */
    this.said = null;
    /** @type {Bilingual | null} */
    this.reason = null;
    /** @type {Bilingual[]} */
    this.noticed = [];
    this.announcedAt = -Infinity;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.announcing = undefined;
    new MutationObserver(() => this.#translate()).observe(document.documentElement, { attributes: true, attributeFilter: ["data-spoken"] });
  }

  /**
   * Show a text in the status line.
   *
   * @param {Bilingual} text
   * @param {State} state
   */
  say(text, state) {
    this.said = text;
    this.line.textContent = text[language()];
    this.line.classList.toggle("live-bad", state === "diverged" || state === "error");
    clearTimeout(this.announcing);
    const wait = state === this.live.dataset.state ? this.announcedAt + ANNOUNCE_INTERVAL - performance.now() : 0;
    this.announcing = setTimeout(() => this.#announce(text[language()]), Math.max(0, wait));
    this.live.dataset.state = state;
  }

  /** @param {string} text */
  #announce(text) {
    this.announcer.textContent = text;
    this.chart.describe(text);
    this.announcedAt = performance.now();
  }

  /**
   * Show sentences above the status line; none to hide them.
   *
   * @param {Bilingual[]} sentences
   */
  notice(sentences) {
    this.noticed = sentences;
    this.notices.hidden = sentences.length === 0;
    this.notices.textContent = sentences.map((each) => each[language()]).join(" ");
  }

  /**
   * Show the state of the connection and, if it is lost, why.
   *
   * @param {Connection} connection
   * @param {Bilingual | null} [reason]
   */
  connection(connection, reason = connection === "catching-up" ? CONNECTION.catchingUp : null) {
    this.live.dataset.connection = connection;
    this.reason = reason;
    this.reasons.hidden = reason === null;
    this.reasons.textContent = (reason ?? NO_TEXT)[language()];
  }

  #translate() {
    this.chart.translate();
    this.announcedAt = -Infinity;
    if (this.said) this.say(this.said, /** @type {State} */ (this.live.dataset.state));
    this.notice(this.noticed);
    this.connection(/** @type {Connection} */ (this.live.dataset.connection), this.reason);
  }
}
