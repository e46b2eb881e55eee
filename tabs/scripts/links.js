// Links: #LESSON?setting=value&…&changes=STEP:NAME=VALUE,…&stop=STEP, with speed, lang and, for a class, lock, hide, note
// and embed. v is the version of the format.

import { LINK_TOO_LONG, otherVersion } from "./texts.js";

export const VERSION = "1";
export const LONGEST = 8000; // characters of settings, changes and stop
export const LONGEST_NOTE = 500; // characters
const OTHERS = ["speed", "lang", "v", "lock", "hide", "note", "embed"]; // parameters that are no settings

/**
 * @typedef {object} LinkOptions - what a teacher adds to a link: locks, hidden settings, a note, and the lesson alone
 * @property {string[]} lock - names of settings
 * @property {string[]} hide - names of settings
 * @property {string} note
 * @property {boolean} embed
 */

/** @returns {LinkOptions} */
export const nothing = () => ({ lock: [], hide: [], note: "", embed: false });

/**
 * The query of a recipe, with every setting written out, as tabs/links.py writes and reads it.
 *
 * @param {Settings} settings
 * @param {Change[]} changes
 * @param {number | null} stop
 * @param {Record<string, string>} others
 * @returns {string}
 */
export function query(settings, changes, stop, others) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(settings)) parameters.set(name, text(value));
  if (changes.length) parameters.set("changes", changes.map((each) => `${each.step}:${each.name}=${text(each.value)}`).join(","));
  if (stop !== null) parameters.set("stop", String(stop));
  for (const [name, value] of Object.entries(others)) parameters.set(name, value);
  const readable = { "%3A": ":", "%3D": "=", "%2C": ",", "%5B": "[", "%5D": "]" };
  return parameters.toString().replace(/%(3A|3D|2C|5B|5D)/g, (code) => readable[/** @type {keyof typeof readable} */ (code)]);
}

/**
 * @param {unknown} value
 * @returns {string}
 */
function text(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/**
 * The parameters of a link for a class.
 *
 * @param {LinkOptions} wanted
 * @returns {Record<string, string>}
 */
export function forClass({ lock, hide, note, embed }) {
  return {
    ...(lock.length ? { lock: lock.join(",") } : {}),
    ...(hide.length ? { hide: hide.join(",") } : {}),
    ...(note ? { note: note.slice(0, LONGEST_NOTE) } : {}),
    ...(embed ? { embed: "1" } : {}),
  };
}

/**
 * The lesson and the parameters in a hash. Values are not parsed: the server does that.
 *
 * @param {string} hash
 * @returns {{key: string, parameters: Record<string, string>}}
 */
export function parse(hash) {
  const [key, ...rest] = hash.slice(1).split("?");
  return { key, parameters: Object.fromEntries(new URLSearchParams(rest.join("?"))) };
}

/**
 * The parameters for the server, the speed, the language, what a teacher has added, and what this page leaves out.
 *
 * @param {Record<string, string>} parameters
 * @returns {{settings: Record<string, string>, speed: string | null, lang: string | null, wanted: LinkOptions, leftOut: Bilingual[]}}
 */
export function split(parameters) {
  const names = (/** @type {string | undefined} */ list) => (list ?? "").split(",").filter(Boolean);
  const { speed, lang, v, lock, hide, note, embed } = parameters;
  const given = Object.entries(parameters).filter(([name]) => !OTHERS.includes(name));
  const tooLong = given.reduce((length, [name, value]) => length + name.length + value.length, 0) > LONGEST;
  return {
    settings: tooLong ? {} : Object.fromEntries(given),
    leftOut: [...(tooLong ? [LINK_TOO_LONG] : []), ...(v === undefined || v === VERSION ? [] : [otherVersion(v, VERSION)])],
    speed: speed ?? null,
    lang: lang ?? null,
    wanted: { lock: names(lock), hide: names(hide), note: (note ?? "").slice(0, LONGEST_NOTE), embed: embed === "1" },
  };
}
