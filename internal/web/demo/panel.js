// @ts-check
// One client: its identity, its stream, and what it learned.

import { age, announce, copies, count, one, soon, spell } from './dom.js';
import { codeOf, describe, meets, urlOf } from './identity.js';
import { Ledger } from './ledger.js';
import { EventLog } from './log.js';
import { Stream } from './stream.js';
import { Wire } from './wire.js';

/** @import {Target} from './api.js' */
/** @import {Identity} from './identity.js' */
/** @import {SSEEvent} from './sse.js' */
/** @import {Report} from './stream.js' */

/**
 * What was sent, as far as a panel must know it to say whether it should have it.
 * @typedef {object} Sent
 * @property {string} id
 * @property {Target | undefined} target everyone where absent
 * @property {Target | undefined} exclude
 * @property {boolean} mayVanish it has a TTL or a collapse key: not arriving is no loss
 */

/** After this long of connecting, the page says what may be the matter. In ms. */
const patience = 3000;
/** A resumed stream has this long for what was sent while it was down. In ms. */
const grace = 2000;

/** Panel is a client of the demo. */
export class Panel {
  /** @type {HTMLElement} */
  root;

  #hooks;
  #stream = new Stream((report) => this.#on(report));
  #log;
  #wire;
  #fields;

  /** @type {Identity} the identity of the current stream */
  #identity = { clientId: '', userId: '', sessionId: '', topics: [] };
  #why = '';
  #since = 0;
  #retryAt = 0;
  #attempts = 0;
  #downSince = 0;
  #everOpen = false;
  #lastBeat = 0;
  #ticker = 0;

  #ledger = new Ledger();
  #settle = 0;
  #connectionId = '';
  #resume = '';
  #gaps = 0;
  #heartbeats = 0;
  #drawing = false;

  /**
   * @param {number} index stable for the panel's life: its data-panel
   * @param {Identity} identity
   * @param {{changed: () => void, arrived: (panel: Panel, event: SSEEvent) => void, removed: (panel: Panel) => void}} hooks
   */
  constructor(index, identity, hooks) {
    this.#hooks = hooks;
    const template = one(document, '#panel-template', HTMLTemplateElement);
    const fragment = /** @type {DocumentFragment} */ (template.content.cloneNode(true));
    this.root = one(fragment, '.panel', HTMLElement);
    this.root.dataset.panel = String(index);
    for (const label of this.root.querySelectorAll('label')) {
      const field = one(label, 'input, select', HTMLElement);
      field.id = `panel-${index}-${field.dataset.field}`;
      label.htmlFor = field.id;
    }
    const field = (/** @type {string} */ name) => one(this.root, `[data-field=${name}]`, HTMLInputElement);
    this.#fields = {
      clientId: field('clientId'),
      userId: field('userId'),
      sessionId: field('sessionId'),
      topics: field('topics'),
    };
    this.#fields.clientId.value = identity.clientId;
    this.#fields.userId.value = identity.userId;
    this.#fields.sessionId.value = identity.sessionId;
    this.#fields.topics.value = identity.topics.join(', ');

    this.#log = new EventLog(this.root);
    this.#wire = new Wire(one(this.root, '.wire', HTMLCanvasElement));
    copies(one(this.root, '[data-action=copy-code]', HTMLButtonElement), one(this.root, '.code', HTMLElement));

    one(this.root, '.identity', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      this.connect();
    });
    one(this.root, '.identity', HTMLFormElement).addEventListener('input', () => this.#draw());
    this.#click('disconnect', () => this.#disconnect());
    this.#click('cut', () => this.#cut());
    this.#click('resume', () => this.#stream.resume());
    this.#click('clear', () => this.#log.clear());
    this.#click('remove', () => this.#remove());
    this.#ticker = setInterval(() => this.#draw(), 250);
    this.#draw();
  }

  /** What the page calls this client. */
  get name() {
    return this.#identity.clientId || 'unnamed client';
  }

  get state() {
    return this.#stream.state;
  }

  get connectionId() {
    return this.#connectionId;
  }

  /** @returns {Readonly<Identity>} */
  get identity() {
    return this.#identity;
  }

  /** Connects anew with the identity in the form. */
  connect() {
    this.#identity = this.#typed();
    this.#ledger = new Ledger();
    this.#everOpen = false;
    this.#attempts = 0;
    this.#downSince = 0;
    this.#connectionId = '';
    this.#resume = '';
    this.#gaps = 0;
    this.#heartbeats = 0;
    this.#stream.open(urlOf(this.#identity));
  }

  /**
   * Learns that an event was accepted, and says what it means here.
   * @param {Sent} sent
   * @returns {'meant' | 'waiting' | 'not meant'}
   */
  sent({ id, target, exclude, mayVanish }) {
    if (this.state === 'closed') return 'not meant';
    if ((target && !meets(this.#identity, target)) || (exclude && meets(this.#identity, exclude))) return 'not meant';
    if (this.state === 'open' || this.#ledger.has(id) || !this.#everOpen) return 'meant';
    if (!mayVanish) {
      this.#ledger.expect(id);
      this.#wire.tick('waiting');
      this.#draw();
    }
    return 'waiting';
  }

  /** @param {string} action @param {() => void} does */
  #click(action, does) {
    one(this.root, `[data-action=${action}]`, HTMLButtonElement).addEventListener('click', does);
  }

  #disconnect() {
    clearTimeout(this.#settle);
    this.#stream.close();
    this.#log.note('closed', 'Disconnected by you. Connect starts anew, without a cursor.');
    this.#fields.clientId.focus();
  }

  #cut() {
    const hold = one(this.root, '[data-field=hold]', HTMLSelectElement).value;
    this.#stream.cut(hold === 'retry' ? undefined : hold === 'manual' ? Infinity : Number(hold) * 1000);
  }

  #remove() {
    clearTimeout(this.#settle);
    clearInterval(this.#ticker);
    this.#wire.stop();
    this.#stream.close();
    this.root.remove();
    this.#hooks.removed(this);
  }

  /** @param {Report} report */
  #on(report) {
    switch (report.kind) {
      case 'heartbeat':
        this.#heartbeats++;
        this.#lastBeat = performance.now();
        this.#wire.tick('heartbeat');
        break;
      case 'event':
        if (report.event.type.startsWith('tidings.')) this.#onControl(report.event);
        else this.#onEvent(report.event);
        break;
      case 'state':
        this.#onState(report);
        break;
    }
    this.#draw();
  }

  /** @param {Extract<Report, {kind: 'state'}>} report */
  #onState({ state, why, retryAt }) {
    const now = performance.now();
    this.#since = now;
    this.#why = why;
    this.#retryAt = retryAt;
    this.#wire.state(state);
    if (state === 'connecting') this.#attempts++;
    if (state === 'open') this.#attempts = 0;
    if (state === 'retrying') {
      clearTimeout(this.#settle);
      if (this.#downSince === 0) {
        this.#downSince = now;
        this.#ledger.fall();
        const from = this.#stream.cursor === '' ? 'without a cursor' : `from ${this.#stream.cursor}`;
        if (why === 'cut') this.#log.note('cut', `Cut by you. The server was not told. Resumes ${from}.`);
        else this.#log.note('lost', `${why} Resumes ${from}.`);
        announce(`${this.name}: ${why === 'cut' ? 'cut' : why}`);
      }
    }
    if (state === 'closed') {
      this.#downSince = 0;
      this.#ledger.forgive();
      if (why !== '') {
        this.#log.note('refused', `${why} That is final: this client does not retry.`);
        announce(`${this.name}: ${why}`);
      }
    }
    this.#hooks.changed();
  }

  /** @param {SSEEvent} event */
  #onControl(event) {
    this.#wire.tick('control');
    this.#log.control(event);
    if (event.type === 'tidings.gap') {
      this.#gaps++;
      this.#ledger.forgive();
      clearTimeout(this.#settle);
    }
    if (event.type !== 'tidings.connected') return;
    try {
      const { clientId, connectionId, resume } = JSON.parse(event.data);
      this.#connectionId = String(connectionId);
      this.#resume = String(resume);
      if (typeof clientId === 'string') this.#identity = { ...this.#identity, clientId };
    } catch {
      this.#resume = '';
    }
    if (this.#everOpen && this.#resume === 'complete') this.#judge();
    else announce(`${this.name}: connected`);
    if (this.#resume !== 'complete') {
      this.#downSince = 0;
      this.#ledger.forgive();
    }
    this.#everOpen = true;
    this.#hooks.changed();
  }

  /** @param {SSEEvent} event */
  #onEvent(event) {
    const { duplicate, sentAt } = this.#ledger.arrive(event);
    this.#wire.tick('event', sentAt);
    this.#log.event(event, { late: sentAt !== undefined, duplicate });
    const burst = event.type === 'burst' ? this.#ledger.burst(event.data) : undefined;
    if (burst) this.#log.note(burst.whole ? 'burst' : 'incomplete', burst.text);
    this.#hooks.arrived(this, event);
  }

  /** Says how a resume went, once everything this page knows of has arrived, or had its time to. */
  #judge() {
    const away = spell(performance.now() - this.#downSince);
    const deadline = performance.now() + grace;
    clearTimeout(this.#settle);
    const look = () => {
      if (this.#ledger.awaited > 0 && performance.now() < deadline) {
        this.#settle = setTimeout(look, 50);
        return;
      }
      this.#downSince = 0;
      if (this.#ledger.awaited > 0) {
        const text = `Resumed after ${away}, but ${count(this.#ledger.awaited, 'event')} sent while it was down did not arrive.`;
        this.#ledger.forgive();
        this.#log.note('incomplete', text);
        announce(`${this.name}: ${text}`);
        return;
      }
      const { late, twice } = this.#ledger;
      let text = `Resumed after ${away}, nothing lost.`;
      if (late > 0) text += ` ${count(late, 'event')} sent while it was down arrived, ${twice === 0 ? 'each once' : `${twice} of them twice`}.`;
      this.#log.note('resumed', text);
      announce(`${this.name}: ${text}`);
    };
    this.#settle = setTimeout(look, 150);
  }

  /** @returns {Identity} */
  #typed() {
    const { clientId, userId, sessionId, topics } = this.#fields;
    return {
      clientId: clientId.value.trim(),
      userId: userId.value.trim(),
      sessionId: sessionId.value.trim(),
      topics: topics.value.split(',').map((topic) => topic.trim()).filter((topic) => topic !== ''),
    };
  }

  #draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    soon(() => {
      this.#drawing = false;
      this.#render();
    });
  }

  #render() {
    const { root } = this;
    const { state, cursor } = this.#stream;
    const now = performance.now();
    const live = state !== 'closed';
    const typed = live ? this.#identity : this.#typed();

    set(root, 'state', state);
    set(root, 'resume', this.#resume);
    set(root, 'connectionId', this.#connectionId);
    set(root, 'cursor', cursor);
    set(root, 'events', this.#ledger.events);
    set(root, 'duplicates', this.#ledger.duplicates);
    set(root, 'gaps', this.#gaps);
    set(root, 'heartbeats', this.#heartbeats);
    set(root, 'awaited', this.#ledger.awaited);

    this.#put('name', typed.clientId || 'unnamed client');
    this.#put('state', state);
    const sentence = this.#sentence(now);
    this.#put('why', sentence);
    this.#put('resume', this.#resume || '–');
    this.#put('cursor', cursor || '–');
    this.#put('connectionId', (live && this.#connectionId) || '–');
    this.#put('events', String(this.#ledger.events));
    this.#put('duplicates', String(this.#ledger.duplicates));
    this.#put('gaps', String(this.#gaps));
    this.#put('heartbeats', String(this.#heartbeats));
    this.#put('beat', this.#heartbeats === 0 ? '' : `${age(now - this.#lastBeat)} ago`);
    this.#beatHeart(now);

    this.#put('who', describe(typed));
    this.#put('code', codeOf(this.#typed()));

    this.#show('.identity', !live);
    this.#show('.live', live);
    this.#show('.who', live && sentence === '');
    this.#show('[data-action=cut]', state !== 'retrying');
    this.#show('.hold', state !== 'retrying');
    this.#show('[data-action=resume]', state === 'retrying');
    one(root, '[data-action=cut]', HTMLButtonElement).disabled = state !== 'open';
  }

  /** @param {number} now */
  #beatHeart(now) {
    one(this.root, '.heart', HTMLElement).classList.toggle('beating', this.#lastBeat > 0 && now - this.#lastBeat < 700);
  }

  /**
   * The line under the name: what is going on, where a word does not do.
   * @param {number} now
   */
  #sentence(now) {
    const { state } = this.#stream;
    const waiting = this.#ledger.awaited > 0 ? ` ${count(this.#ledger.awaited, 'event')} waiting on the server.` : '';
    if (state === 'closed') return this.#why;
    if (state === 'connecting' && now - this.#since > patience) {
      return 'Still connecting. A browser opens six HTTP/1.1 connections to one host, all tabs together, and the seventh waits: other tabs of this page may hold them. Close one, or disconnect a client.';
    }
    if (state !== 'retrying') return '';
    if (this.#retryAt === Infinity) return `Down until you reconnect it.${waiting}`;
    const left = `${Math.max(0, (this.#retryAt - now) / 1000).toFixed(1)} s`;
    if (this.#why === 'cut') return `Cut. Back in ${left}.${waiting}`;
    const next = this.#attempts === 0 ? 'Back' : `Attempt ${this.#attempts + 1}`;
    return `${this.#why} ${next} in ${left}.${waiting}`;
  }

  /** @param {string} slot @param {string} text */
  #put(slot, text) {
    for (const element of this.root.querySelectorAll(`[data-slot=${slot}]`)) {
      if (element.textContent !== text) element.textContent = text;
    }
  }

  /** @param {string} selector @param {boolean} visible */
  #show(selector, visible) {
    one(this.root, selector, HTMLElement).hidden = !visible;
  }
}

/**
 * @param {HTMLElement} root
 * @param {string} key
 * @param {string | number} value
 */
function set(root, key, value) {
  if (root.dataset[key] !== String(value)) root.dataset[key] = String(value);
}
