// @ts-check
// The few lines between this page and the DOM.

/**
 * Makes an element. A child that is a string becomes text, so nothing that came from outside is ever markup.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} name
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/**
 * The one element that matches; its absence is a fault in index.html.
 * @template {Element} T
 * @param {ParentNode} root
 * @param {string} selector
 * @param {new (...args: any[]) => T} type
 * @returns {T}
 */
export function one(root, selector, type) {
  const found = root.querySelector(selector);
  if (!(found instanceof type)) throw new Error(`index.html has no ${type.name} ${selector}`);
  return found;
}

/**
 * Runs something at the next frame, or soon where the page is hidden and has no frames.
 * @param {() => void} work
 */
export function soon(work) {
  if (document.visibilityState === 'visible') requestAnimationFrame(work);
  else setTimeout(work, 250);
}

/**
 * Tells a screen reader what changed elsewhere on the page.
 * @param {string} text
 */
export function announce(text) {
  one(document, '#announcer', HTMLElement).textContent = text;
}

/**
 * Makes a button copy a text, and say that it did.
 * @param {HTMLButtonElement} button
 * @param {HTMLElement} source what is copied: its text
 */
export function copies(button, source) {
  const label = button.textContent ?? '';
  button.addEventListener('click', async () => {
    let done = 'Copied';
    try {
      await navigator.clipboard.writeText(source.textContent ?? '');
    } catch {
      // No clipboard outside a secure context: leave the text selected for the person to copy.
      getSelection()?.selectAllChildren(source);
      done = 'Selected: press Ctrl+C';
    }
    button.textContent = done;
    announce(done);
    setTimeout(() => (button.textContent = label), 1600);
  });
}

/**
 * A duration in ms as a person would say it.
 * @param {number} ms
 */
export function spell(ms) {
  if (ms < 1) return 'under 1 ms';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 60_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
  return `${Math.floor(ms / 3_600_000)} h ${Math.floor((ms % 3_600_000) / 60_000)} min`;
}

/**
 * A duration in ms in whole seconds, and at least one: for what is drawn again and again.
 * @param {number} ms
 */
export function age(ms) {
  const seconds = Math.max(1, Math.floor(ms / 1000));
  return seconds < 60 ? `${seconds} s` : spell(seconds * 1000);
}

/**
 * A count with its noun.
 * @param {number} n
 * @param {string} noun
 */
export function count(n, noun) {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
