// The buttons that control a run.
import { query } from "./query.js";

/**
 * Enable the buttons that make sense now, and keep the keyboard focus among them.
 *
 * @param {Element} bar
 * @param {State} activity - what the run does or will do
 */
export function showButtons(bar, activity) {
  const [running, paused] = [activity === "running", activity === "paused"];
  /** @type {Record<string, boolean>} */
  const enabled = { train: !running, pause: running, step: !running, stop: running || paused, reset: true };
  const focused = bar.contains(document.activeElement);
  for (const button of bar.querySelectorAll("button")) button.disabled = !enabled[button.dataset.do ?? ""];
  query(bar, ".train", HTMLElement).hidden = paused;
  query(bar, ".continue", HTMLElement).hidden = !paused;
  // Browsers drop the focus of a disabled button, some of them later.
  if (focused && (document.activeElement === document.body || document.activeElement?.matches(":disabled"))) {
    /** @type {HTMLElement | null} */ (bar.querySelector("button:enabled"))?.focus();
  }
}
