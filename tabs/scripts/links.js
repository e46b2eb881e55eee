// Links: #LESSON?setting=value&…&changes=STEP:NAME=VALUE,…&stop=STEP, with speed, lang and, as a mark, v.

export const VERSION = "1"; // of the link format
export const OTHERS = ["speed", "lang", "v"]; // parameters that are no settings

/**
 * The query of a recipe, with every setting written out, as tabs/links.py writes and reads it.
 *
 * @param {Settings} settings
 * @param {Change[]} [changes]
 * @param {number | null} [stop]
 * @param {Record<string, string>} [others]
 * @returns {string}
 */
export function query(settings, changes = [], stop = null, others = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(settings)) parameters.set(name, text(value));
  if (changes.length) parameters.set("changes", changes.map((each) => `${each.step}:${each.name}=${text(each.value)}`).join(","));
  if (stop !== null) parameters.set("stop", String(stop));
  for (const [name, value] of Object.entries(others)) parameters.set(name, value);
  return parameters.toString().replaceAll("%3A", ":").replaceAll("%3D", "=").replaceAll("%2C", ",").replaceAll("%5B", "[").replaceAll("%5D", "]");
}

/**
 * @param {unknown} value
 * @returns {string}
 */
function text(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
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
