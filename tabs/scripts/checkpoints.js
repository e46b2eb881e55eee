// The Checkpoints tab: its cards are loaded when it is opened; a click shows the details of one net below them.
import { query } from "./query.js";

export const KEY = "checkpoints";

export class Checkpoints {
  /**
   * @param {HTMLElement} element
   * @param {(command: Command) => boolean} send
   * @param {() => number} count
   */
  constructor(element, send, count) {
    this.cards = query(element, ".checkpoints", HTMLElement);
    this.detail = query(element, ".checkpoint", HTMLElement);
    this.send = send;
    this.count = count;
    this.chosen = "";
    this.cards.addEventListener("click", ({ target }) => {
      const card = target instanceof Element ? target.closest("[data-checkpoint]") : null;
      if (card instanceof HTMLElement) this.#choose(card.dataset.checkpoint ?? "");
    });
    this.#ask("open");
  }

  /** @param {string} name */
  #choose(name) {
    this.chosen = name;
    this.#mark();
    this.#ask("choose", { checkpoint: name });
  }

  #mark() {
    for (const each of this.cards.querySelectorAll("[data-checkpoint]")) {
      if (each instanceof HTMLElement) each.setAttribute("aria-pressed", String(each.dataset.checkpoint === this.chosen));
    }
  }

  /**
   * @param {string} what
   * @param {object} [extra]
   */
  #ask(what, extra = {}) {
    this.send({ lesson: KEY, do: what, n: this.count(), ...extra });
  }

  /** @param {boolean} live */
  connected(live) {
    if (!live) return;
    this.#ask("open");
    if (this.chosen) this.#ask("choose", { checkpoint: this.chosen });
  }

  /** @param {Message} message */
  receive(message) {
    if (message.cards !== undefined) {
      this.cards.innerHTML = message.cards;
      this.#mark();
    }
    if (message.detail === undefined || this.detail.innerHTML === message.detail) return;
    this.detail.innerHTML = message.detail;
    requestAnimationFrame(() => {
      this.detail.querySelector("h3")?.focus({ preventScroll: true });
      this.detail.scrollIntoView({ behavior: "smooth" });
    });
  }
}
