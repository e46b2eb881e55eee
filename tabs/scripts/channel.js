// The live channel: one WebSocket to the server, which is opened again whenever it is lost.
import { CONNECTION } from "./texts.js";

const PATIENCE = 6_000; // ms without an answer to a ping, after which the connection is dead
const STABLE = 5_000; // ms after which a connection counts as made, and failures are forgotten
const PING = 4_000; // ms without a message after which the server is asked for one
const FIRST_WAIT = 250; // ms before the first attempt to reconnect; doubled for each, with jitter
const LONGEST_WAIT = 10_000;
const BLOCKED_AFTER = 3; // attempts, if none has ever succeeded

// Close codes of server/live_channel.py.
const OUTDATED = 4000;
const REPLACED = 4001;
const FULL = 1013;

export class Channel {
  /**
   * @param {string} version - of the page's scripts
   * @param {(message: Message) => void} receive
   * @param {(live: boolean, reason: Bilingual | null) => void} changed - called when the connection is made or lost
   */
  constructor(version, receive, changed) {
    this.version = version;
    this.receive = receive;
    this.changed = changed;
    this.name = randomName();
    this.live = false;
    this.failures = 0;
    this.everLive = false;
    this.ended = false;
    this.blocked = false; // whether a network between forbids WebSockets
    this.heardAt = 0;
    this.pingedAt = 0; // 0 if no ping is unanswered
    this.welcomedAt = Infinity;
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.retry = undefined;
    addEventListener("online", () => this.#connectNow());
    document.addEventListener("visibilitychange", () => {
      this.#send({ hidden: document.hidden });
      if (!document.hidden) this.#connectNow();
    });
    setInterval(() => this.#watch(), 1000);
    this.#connect();
  }

  /**
   * Send a command; false while the server is away.
   *
   * @param {Command} command
   * @returns {boolean}
   */
  send(command) {
    return this.live && this.#send(command);
  }

  #connect() {
    clearTimeout(this.retry);
    const url = new URL("live", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.hash = url.search = "";
    const socket = (this.socket = new WebSocket(url));
    this.heardAt = this.pingedAt = performance.now();
    socket.onopen = () => this.#send({ hello: { page: this.name, version: this.version } });
    socket.onmessage = ({ data }) => {
      this.heardAt = performance.now();
      this.pingedAt = 0;
      const message = JSON.parse(data);
      if (message.welcome) this.#welcomed();
      else if (!message.pong) this.receive(message);
    };
    socket.onclose = ({ code }) => {
      if (socket === this.socket) this.#lost(code);
    };
  }

  #connectNow() {
    if (this.socket === null && !this.ended) this.#connect();
  }

  #welcomed() {
    this.live = this.everLive = true;
    this.blocked = false;
    this.welcomedAt = performance.now();
    if (document.hidden) this.#send({ hidden: true });
    this.changed(true, null);
  }

  /** @param {number} code */
  #lost(code) {
    this.socket = null;
    this.live = false;
    if (performance.now() - this.welcomedAt > STABLE) this.failures = 0;
    this.welcomedAt = Infinity;
    this.failures += 1;
    this.ended = code === OUTDATED || code === REPLACED;
    if (this.ended) {
      this.changed(false, code === OUTDATED ? CONNECTION.outdated : CONNECTION.replaced);
      return;
    }
    if (!this.blocked) this.changed(false, code === FULL ? CONNECTION.full : CONNECTION.away);
    if (!this.everLive && this.failures >= BLOCKED_AFTER && code !== FULL) this.#explain();
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** (this.failures - 1));
    this.retry = setTimeout(() => this.#connect(), wait * (0.5 + Math.random() / 2));
  }

  /** Say so if the server answers plain requests: then a network between forbids WebSockets. */
  async #explain() {
    const answered = await fetch("health", { cache: "no-store" }).then(
      ({ ok }) => ok,
      () => false,
    );
    this.blocked = answered && !this.live;
    if (this.blocked) this.changed(false, CONNECTION.blocked);
  }

  #watch() {
    if (this.socket === null) return;
    const now = performance.now();
    // Only an unanswered ping says that the peer is dead: a browser calls this once a minute in a hidden tab.
    if (this.pingedAt && now - this.pingedAt > PATIENCE) {
      const socket = this.socket;
      this.#lost(0);
      socket.close();
    } else if (!this.pingedAt && now - this.heardAt > PING && this.live) {
      this.#send({ ping: true });
      this.pingedAt = now;
    }
  }

  /**
   * @param {object} message
   * @returns {boolean}
   */
  #send(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }
}

/** A name that no other page has: 128 random bits. @returns {string} */
function randomName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
