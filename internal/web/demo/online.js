// @ts-check
// Who is online, asked every 2 s while somebody looks at the page.

import { connections, disconnect, problemFrom } from './api.js';
import { age, announce, h, one } from './dom.js';

/** @import {Connection} from './api.js' */

/** Between the end of a poll and the next, in ms. */
const pace = 2000;
const paceAfterFault = 5000;
/** A poll that takes longer is waiting for one of the browser's six connections. In ms. */
const patience = 5000;
/** How long a refusal stays before the next poll may replace it, in ms. */
const readable = 8000;

/** Online is the "Who is online" card. */
export class Online {
  #ours;
  #body = one(document, '#online-rows', HTMLTableSectionElement);
  #table = one(document, '#online-table', HTMLTableElement);
  #note = one(document, '#online-note', HTMLElement);
  #count = one(document, '#online-count', HTMLElement);
  #pulse = one(document, '#online-pulse', HTMLElement);
  /** @type {Map<string, {row: HTMLTableRowElement, cells: HTMLElement[]}>} by connectionId */
  #rows = new Map();
  #timer = 0;
  /** Until when a refusal stays readable, on the clock of performance.now(). */
  #refusedUntil = 0;
  /** @type {AbortController | undefined} the poll under way */
  #poll;

  /** @param {() => Set<string>} ours the connectionIds of this page's own clients */
  constructor(ours) {
    this.#ours = ours;
    document.addEventListener('visibilitychange', () => this.#look());
    this.#look();
  }

  /** Asks soon, because something changed. */
  refresh() {
    if (document.visibilityState !== 'visible' || this.#poll) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#ask(), 150);
  }

  #look() {
    clearTimeout(this.#timer);
    this.#poll?.abort();
    this.#poll = undefined;
    const visible = document.visibilityState === 'visible';
    this.#pulse.textContent = visible ? 'asks every 2 s' : 'paused while hidden';
    if (visible) void this.#ask();
  }

  async #ask() {
    const poll = new AbortController();
    this.#poll = poll;
    let next = pace;
    const late = setTimeout(() => poll.abort(), patience);
    try {
      const answer = await connections(poll.signal);
      if (this.#poll === poll) this.#show(answer.connections ?? [], answer.next !== undefined && answer.next !== '');
    } catch (thrown) {
      next = paceAfterFault;
      if (this.#poll === poll) {
        this.#say(poll.signal.aborted
          ? 'No answer in 5 s. Other tabs of this page may hold the browser’s six connections to this host.'
          : problemFrom(thrown).detail);
      }
    }
    clearTimeout(late);
    if (this.#poll !== poll) return;
    this.#poll = undefined;
    this.#timer = setTimeout(() => void this.#ask(), next);
  }

  /** @param {Connection[]} online @param {boolean} more */
  #show(online, more) {
    const ours = this.#ours();
    const gone = new Set(this.#rows.keys());
    for (const connection of online) {
      gone.delete(connection.connectionId);
      this.#row(connection, ours.has(connection.connectionId));
    }
    for (const id of gone) {
      this.#rows.get(id)?.row.remove();
      this.#rows.delete(id);
    }
    this.#count.textContent = `${online.length}${more ? '+' : ''}`;
    this.#table.hidden = online.length === 0;
    if (performance.now() > this.#refusedUntil) this.#say(more ? `The first ${online.length} are shown.` : online.length === 0 ? 'Nobody. Connect a client above.' : '');
  }

  /** @param {Connection} connection @param {boolean} ours */
  #row(connection, ours) {
    let known = this.#rows.get(connection.connectionId);
    if (!known) {
      known = this.#newRow(connection);
      this.#rows.set(connection.connectionId, known);
    }
    const { row, cells } = known;
    row.classList.toggle('ours', ours);
    const texts = [
      connection.clientId,
      connection.userId || '–',
      connection.sessionId || '–',
      (connection.topics ?? []).join(', ') || '–',
      age(Date.now() - Date.parse(connection.connectedAt)),
      String(connection.events),
      String(connection.queued),
      connection.lastEventId || '–',
    ];
    texts.forEach((text, i) => {
      if (cells[i].textContent !== text) cells[i].textContent = text;
    });
  }

  /** @param {Connection} connection */
  #newRow({ connectionId, clientId, remoteAddr }) {
    const row = h('tr', { role: 'row', 'data-connection-id': connectionId, title: `${connectionId}${remoteAddr ? ` from ${remoteAddr}` : ''}` });
    /** @type {HTMLElement[]} */
    const cells = [];
    for (const head of this.#table.tHead?.rows[0].cells ?? []) {
      const cell = h('td', { role: 'cell', 'data-label': head.textContent ?? '', class: head.className });
      const value = h('span', { class: 'value' });
      cell.append(value);
      cells.push(value);
      row.append(cell);
    }
    const button = h('button', { type: 'button', class: 'quiet', 'data-action': 'kick', 'aria-label': `Disconnect ${clientId}` }, 'Disconnect');
    button.addEventListener('click', () => void this.#kick(connectionId, clientId, button));
    cells.pop()?.replaceWith(button);
    this.#body.append(row);
    return { row, cells };
  }

  /** @param {string} connectionId @param {string} clientId @param {HTMLButtonElement} button */
  async #kick(connectionId, clientId, button) {
    button.disabled = true;
    try {
      await disconnect(connectionId);
      announce(`Disconnected ${clientId}`);
      this.refresh();
    } catch (thrown) {
      const { detail, hint } = problemFrom(thrown);
      this.#say(`${clientId} was not disconnected: ${detail}${hint ? ` (${hint})` : ''}`);
      this.#refusedUntil = performance.now() + readable;
      button.disabled = false;
    }
  }

  /** @param {string} text */
  #say(text) {
    this.#note.textContent = text;
    this.#note.hidden = text === '';
  }
}
