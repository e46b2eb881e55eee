/**
 * The first element below `root` that matches a CSS selector, with its type.
 *
 * @template {Element} T
 * @param {ParentNode} root
 * @param {string} selector
 * @param {new () => T} type - such as HTMLInputElement
 * @returns {T}
 * @throws {TypeError} if there is no such element, or it has another type
 */
export function query(root, selector, type) {
  const found = root.querySelector(selector);
  if (found instanceof type) return found;
  throw new TypeError(`${selector} must match an ${type.name}, not ${found?.constructor.name ?? "nothing"}.`);
}
