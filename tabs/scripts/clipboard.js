// Code snippets: one of several is shown, and can be copied.

/**
 * Copy a text, and say so on the button for a moment; the button has both texts.
 *
 * @param {string} text
 * @param {Element} button
 * @param {Element | null} [source] - selected where the clipboard is not available, to copy it by hand
 */
export async function copyText(text, button, source = null) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // In a frame or without https the clipboard may be unavailable.
    if (source) getSelection()?.selectAllChildren(source);
    else window.prompt("", text);
    return;
  }
  const [before, after] = [...button.children].filter((child) => child instanceof HTMLElement);
  [before.hidden, after.hidden] = [true, false];
  setTimeout(() => ([before.hidden, after.hidden] = [false, true]), 2000);
}

export function watchSnippets() {
  document.addEventListener("click", ({ target }) => {
    const button = target instanceof Element ? target.closest("[data-snippet], [data-copy]") : null;
    if (!(button instanceof HTMLElement)) return;
    const code = button.parentElement?.querySelector("code");
    if (button.dataset.snippet) showSnippet(button);
    else if (code) copyText(code.innerText, button, code);
  });
}

/** @param {HTMLElement} chip */
function showSnippet(chip) {
  for (const each of chip.parentElement?.children ?? []) each.setAttribute("aria-pressed", String(each === chip));
  const shown = chip.closest(".snippets")?.querySelector(".snippet")?.children ?? [];
  for (const [number, each] of [...shown].entries()) {
    if (each instanceof HTMLElement) each.hidden = number !== Number(chip.dataset.snippet);
  }
}
