// @ts-check
// The log of one panel: events as they came, the stream's own control events, and what this page has to say.

import { dataView } from './json.js';
import { h, one, soon, spell } from './dom.js';

/** @import {SSEEvent} from './sse.js' */

/** A panel keeps this many entries in view. */
const longest = 250;

/** EventLog follows its newest entry, unless the reader scrolled away from it. */
export class EventLog {
  #list;
  #jump;
  #empty;
  /** @type {(() => HTMLElement)[]} entries not drawn yet */
  #due = [];
  #drawing = false;
  #following = true;
  #height = 0;
  #unseen = 0;

  /** @param {HTMLElement} panel */
  constructor(panel) {
    this.#list = one(panel, '.log', HTMLOListElement);
    this.#jump = one(panel, '[data-action=latest]', HTMLButtonElement);
    this.#empty = one(panel, '.log-empty', HTMLElement);
    this.#jump.addEventListener('click', () => this.#follow());
    this.#list.addEventListener('scroll', () => this.#scrolled());
    new ResizeObserver(() => this.#scrolled()).observe(this.#list);
  }

  /**
   * @param {SSEEvent} event
   * @param {{late: boolean, duplicate: boolean}} marks
   */
  event(event, { late, duplicate }) {
    const at = new Date();
    this.#add(() => {
      const entry = h('li', { class: 'entry event', 'data-type': event.type, 'data-id': event.id });
      const head = h('div', { class: 'entry-head' }, clock(at), h('span', { class: 'type' }, event.type));
      if (late) {
        entry.dataset.late = '';
        head.append(h('span', { class: 'badge late' }, 'sent while down'));
      }
      if (duplicate) {
        entry.dataset.duplicate = '';
        head.append(h('span', { class: 'badge bad' }, 'duplicate'));
      }
      head.append(idOf(event));
      entry.append(head, dataView(event.data));
      return entry;
    });
  }

  /** @param {SSEEvent} event whose type starts with "tidings." */
  control(event) {
    const at = new Date();
    this.#add(() => {
      const entry = h('li', { class: 'entry control', 'data-type': event.type, 'data-id': event.id });
      if (event.type === 'tidings.gap') entry.classList.add('bad');
      const head = h('div', { class: 'entry-head' }, clock(at), h('span', { class: 'type' }, event.type));
      if (event.ownId) head.append(idOf(event));
      entry.append(head, h('p', { class: 'meaning' }, meaning(event)));
      if (event.data !== '{}') entry.append(dataView(event.data, true));
      return entry;
    });
  }

  /**
   * Something this page has to say.
   * @param {string} kind cut, lost, resumed, incomplete, closed, burst
   * @param {string} text
   */
  note(kind, text) {
    const at = new Date();
    this.#add(() =>
      h('li', { class: 'entry note', 'data-note': kind }, clock(at), h('span', { class: 'note-text' }, text)),
    );
  }

  clear() {
    this.#due = [];
    this.#list.replaceChildren();
    this.#empty.hidden = false;
    this.#seen();
  }

  /** @param {() => HTMLElement} entry */
  #add(entry) {
    this.#due.push(entry);
    if (this.#due.length > longest) this.#due.shift();
    if (this.#drawing) return;
    this.#drawing = true;
    soon(() => this.#draw());
  }

  #draw() {
    this.#drawing = false;
    if (this.#due.length === 0) return;
    const entries = this.#due.map((make) => make());
    this.#due = [];
    this.#list.append(...entries);
    while (this.#list.childElementCount > longest) this.#list.firstElementChild?.remove();
    this.#empty.hidden = true;
    if (this.#following) this.#follow();
    else {
      this.#unseen += entries.length;
      this.#jump.textContent = `↓ ${this.#unseen} new`;
      this.#jump.hidden = false;
    }
  }

  /** A log that changed its height was not scrolled away from: only a reader does that. */
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#list;
    const resized = clientHeight !== this.#height;
    this.#height = clientHeight;
    if (resized && this.#following) this.#follow();
    else this.#following = scrollHeight - scrollTop - clientHeight < 24;
    if (this.#following) this.#seen();
  }

  #follow() {
    this.#following = true;
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#seen();
  }

  #seen() {
    this.#unseen = 0;
    this.#jump.hidden = true;
  }
}

/**
 * An event's id. Where there is no room for all of it, its beginning goes: the end is what differs.
 * @param {SSEEvent} event
 */
function idOf({ id }) {
  return h('span', { class: 'id', title: `id ${id}` }, h('bdi', {}, id));
}

/** @param {Date} at */
function clock(at) {
  const two = (/** @type {number} */ n) => String(n).padStart(2, '0');
  const text = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const ms = String(at.getMilliseconds()).padStart(3, '0');
  return h('time', { datetime: at.toISOString() }, text, h('span', { class: 'ms' }, `.${ms}`));
}

/**
 * A control event in words.
 * @param {SSEEvent} event
 */
function meaning(event) {
  /** @type {{resume?: string, reason?: string, retryMs?: number, refetchAfterMs?: number}} */
  let data = {};
  try {
    data = JSON.parse(event.data) ?? {};
  } catch {
    // Shown as it came, below.
  }
  const back = data.retryMs === undefined ? 'come back' : `come back in ${spell(data.retryMs)}`;
  switch (event.type) {
    case 'tidings.connected':
      if (data.resume === 'complete') return 'Resumed: everything since the cursor follows.';
      if (data.resume === 'gap') return 'Back, but the history does not reach to the cursor.';
      return 'Connected. Events from here on arrive.';
    case 'tidings.gap':
      return data.refetchAfterMs === undefined
        ? 'Some events can’t be replayed. Your page would fetch its state again.'
        : `Some events can’t be replayed. Your page would fetch its state again, in ${spell(data.refetchAfterMs)}.`;
    case 'tidings.checkpoint':
      return 'A fresh cursor, so that a quiet stream does not fall out of history.';
    case 'tidings.unavailable':
      return `The server can’t take this stream now: ${back}.`;
    case 'tidings.disconnected':
      return `The server ends this stream: ${back}.`;
    default:
      return 'A control event this page does not know.';
  }
}
