// What the browser remembers: settings of every lesson, for all tabs, and the runs on show, for each tab. Only the
// visitor's browser stores it. The server checks what comes back like any input. Storage may be missing or full.

const VERSION = 1; // of the stored data; data of another version are ignored and left alone
const SETTINGS = `live-nets-settings-${VERSION}`;
const RUNS = `live-nets-runs-${VERSION}`;
const LANGUAGE = "live-nets-language";

/**
 * @param {Storage} storage
 * @param {string} key
 * @returns {Record<string, any>}
 */
function load(storage, key) {
  try {
    const value = JSON.parse(storage.getItem(key) ?? "{}");
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
  } catch {
    return {};
  }
}

/**
 * @param {Storage} storage
 * @param {string} key
 * @param {object} value
 */
function save(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch {
    // Private mode, or full: the page works without memory.
  }
}

/**
 * Storage of that kind; a frame of another site may not have one.
 *
 * @param {"localStorage" | "sessionStorage"} kind
 * @returns {Storage | null}
 */
function open(kind) {
  try {
    return window[kind];
  } catch {
    return null;
  }
}

const local = open("localStorage");
const session = open("sessionStorage");
let forgotten = false; // then nothing more is stored

/**
 * @param {string} lesson
 * @returns {{settings?: Settings, speed?: number}}
 */
export function storedSettings(lesson) {
  const stored = local ? load(local, SETTINGS)[lesson] : null;
  return stored && typeof stored === "object" ? stored : {};
}

/**
 * @param {string} lesson
 * @param {Settings} settings
 * @param {number} speed
 */
export function storeSettings(lesson, settings, speed) {
  if (local && !forgotten) save(local, SETTINGS, { ...load(local, SETTINGS), [lesson]: { settings, speed } });
}

const LONGEST = 32_000; // characters of a stored run that are sent to the server

/**
 * The run on show, and the settings of the controls beside it.
 *
 * @typedef {{run: ShownRun, settings: Settings, speed: number}} StoredRun
 */

/**
 * @param {string} lesson
 * @returns {StoredRun | null}
 */
export function storedRun(lesson) {
  /** @type {any} */
  const stored = session ? load(session, RUNS)[lesson] : null;
  /** @type {(value: unknown) => boolean} */
  const isObject = (value) => typeof value === "object" && value !== null;
  if (!isObject(stored) || !isObject(stored.run) || !isObject(stored.run.metrics) || !isObject(stored.settings)) return null;
  const valid = Number.isSafeInteger(stored.run.step) && stored.run.step > 0 && JSON.stringify(stored).length < LONGEST;
  return valid ? stored : null;
}

/**
 * @param {string} lesson
 * @param {StoredRun | null} run - null to forget it
 */
export function storeRun(lesson, run) {
  if (!session || forgotten) return;
  const runs = load(session, RUNS);
  if (run === null && !(lesson in runs)) return;
  save(session, RUNS, { ...runs, [lesson]: run ?? undefined });
}

/** @returns {string | null} */
export function storedLanguage() {
  try {
    return local?.getItem(LANGUAGE) ?? null;
  } catch {
    return null;
  }
}

/** @param {string} language */
export function storeLanguage(language) {
  try {
    local?.setItem(LANGUAGE, language);
  } catch {
    // The language lasts until the page is closed.
  }
}

/** Forget everything. */
export function forgetAll() {
  forgotten = true;
  for (const [storage, keys] of /** @type {[Storage | null, string[]][]} */ ([[local, [SETTINGS, LANGUAGE]], [session, [RUNS]]])) {
    for (const key of keys) storage?.removeItem(key);
  }
}
