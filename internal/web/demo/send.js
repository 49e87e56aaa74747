// @ts-check
// The back end's side: any event to any target, the request that does it, and what came of it.

import { problemFrom, send } from './api.js';
import { copies, count, h, one, spell } from './dom.js';
import { compact, jsonFault } from './json.js';

/** @import {Receipt, Target} from './api.js' */
/** @import {Panel} from './panel.js' */

/** @typedef {keyof Target} Condition */
/** @type {Condition[]} */
const conditions = ['clientId', 'userId', 'sessionId', 'topic'];

/** How many events a burst has. One after the other, so that their order is the sender's. */
const burstSize = 50;
/** How many arrivals are remembered: an event often arrives before its own receipt. */
const memory = 500;

/** SendForm is the "Send" card. */
export class SendForm {
  #panels;
  #form = one(document, '#send-form', HTMLFormElement);
  #type = one(document, '#send-type', HTMLInputElement);
  #data = one(document, '#send-data', HTMLTextAreaElement);
  #dataFault = one(document, '#send-data-fault', HTMLElement);
  #kind = one(document, '#send-target-kind', HTMLSelectElement);
  #value = one(document, '#send-target-value', HTMLInputElement);
  #targetFault = one(document, '#send-target-fault', HTMLElement);
  #choices = one(document, '#send-choices', HTMLElement);
  #request = one(document, '#request', HTMLElement);
  #receipt = one(document, '#receipt', HTMLElement);
  #deliveries = one(document, '#deliveries', HTMLElement);
  #sendButton = one(document, '#send-button', HTMLButtonElement);
  #burstButton = one(document, '#burst-button', HTMLButtonElement);

  /** @type {Map<string, Map<Panel, number>>} event id to where and when it arrived, oldest first */
  #arrivals = new Map();
  /** @type {{id: string, at: number, fates: Map<Panel, 'meant' | 'waiting' | 'not meant'>} | undefined} */
  #last;

  /** @param {() => Panel[]} panels the panels there are now */
  constructor(panels) {
    this.#panels = panels;
    this.#form.addEventListener('input', () => this.#draw());
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#send();
    });
    this.#form.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) this.#form.requestSubmit(this.#sendButton);
    });
    this.#burstButton.addEventListener('click', () => void this.#burst());
    copies(one(document, '#copy-request', HTMLButtonElement), this.#request);
    this.#draw();
  }

  /** Looks again at the panels: their ids are what the form suggests. */
  refresh() {
    this.#draw();
  }

  /**
   * Notes that an event arrived.
   * @param {Panel} panel
   * @param {string} id
   */
  arrived(panel, id) {
    const where = this.#arrivals.get(id) ?? new Map();
    where.set(panel, performance.now());
    this.#arrivals.set(id, where);
    if (this.#arrivals.size > memory) this.#arrivals.delete(/** @type {string} */ (this.#arrivals.keys().next().value));
    if (this.#last?.id === id) this.#drawDeliveries();
  }

  async #send() {
    if (!this.#valid()) return;
    this.#sendButton.disabled = true;
    const at = performance.now();
    try {
      const receipt = await send(this.#body());
      this.#accepted([receipt.id], receipt, at);
    } catch (thrown) {
      this.#refused(thrown);
    } finally {
      this.#sendButton.disabled = false;
    }
  }

  async #burst() {
    if (!this.#valid()) return;
    const label = this.#burstButton.textContent;
    this.#burstButton.disabled = true;
    const burst = Math.random().toString(36).slice(2, 5);
    const at = performance.now();
    /** @type {string[]} */
    const ids = [];
    /** @type {Receipt | undefined} */
    let receipt;
    try {
      for (let n = 1; n <= burstSize; n++) {
        receipt = await send(this.#body({ type: 'burst', data: JSON.stringify({ burst, n, of: burstSize }) }));
        ids.push(receipt.id);
        this.#tell(receipt.id);
        this.#burstButton.textContent = `${n} of ${burstSize}`;
      }
      if (receipt) this.#accepted(ids, receipt, at);
    } catch (thrown) {
      this.#refused(thrown);
    } finally {
      this.#burstButton.textContent = label;
      this.#burstButton.disabled = false;
    }
  }

  /** @param {string} id */
  #tell(id) {
    const { target, exclude } = this.#aim();
    const mayVanish = this.#option('ttlMs') !== '' || this.#option('collapseKey') !== '';
    /** @type {Map<Panel, 'meant' | 'waiting' | 'not meant'>} */
    const fates = new Map();
    for (const panel of this.#panels()) fates.set(panel, panel.sent({ id, target, exclude, mayVanish }));
    return fates;
  }

  /**
   * @param {string[]} ids more than one for a burst
   * @param {Receipt} receipt the last one
   * @param {number} at when the first was sent
   */
  #accepted(ids, receipt, at) {
    const took = spell(performance.now() - at);
    const { id, matched, scope, hint } = receipt;
    const whole = ids.length === 1 ? 'Accepted' : `${count(ids.length, 'event')} accepted`;
    const where = scope === 'node' ? 'on this node' : `on the ${scope}`;
    this.#receipt.dataset.status = 'accepted';
    this.#receipt.dataset.id = id;
    this.#receipt.dataset.matched = String(matched ?? '');
    this.#receipt.replaceChildren(
      h('p', { class: 'receipt-title' }, whole, h('span', { class: 'muted' }, ` in ${took}`)),
      h('dl', { class: 'facts' },
        h('dt', {}, 'matched'), matched === undefined ? h('dd', {}, 'your token may not be told') : h('dd', {}, `${count(matched, 'connection')} `, h('span', { class: 'muted' }, where)),
        h('dt', {}, ids.length === 1 ? 'id' : 'last id'), h('dd', { class: 'mono' }, id)),
    );
    if (hint) this.#receipt.append(h('p', { class: 'hint' }, hint));
    this.#last = { id, at, fates: ids.length === 1 ? this.#tell(id) : new Map() };
    this.#drawDeliveries();
  }

  /** @param {unknown} thrown */
  #refused(thrown) {
    const problem = problemFrom(thrown);
    this.#receipt.dataset.status = 'refused';
    delete this.#receipt.dataset.id;
    delete this.#receipt.dataset.matched;
    const facts = h('dl', { class: 'facts' });
    const fact = (/** @type {string} */ name, /** @type {string} */ value) =>
      facts.append(h('dt', {}, name), h('dd', { class: 'mono' }, value));
    if (problem.field) fact('field', problem.field);
    if (problem.type !== 'about:blank') fact('type', problem.type);
    this.#receipt.replaceChildren(
      h('p', { class: 'receipt-title' }, problem.title, h('span', { class: 'muted' }, problem.status ? ` ${problem.status}` : '')),
      h('p', {}, problem.detail),
    );
    if (problem.hint) this.#receipt.append(h('p', { class: 'hint' }, problem.hint));
    if (facts.childElementCount > 0) this.#receipt.append(facts);
    this.#last = undefined;
    this.#deliveries.replaceChildren();
  }

  #drawDeliveries() {
    if (!this.#last) return;
    const { id, at, fates } = this.#last;
    const arrivals = this.#arrivals.get(id);
    const chips = [];
    for (const [panel, fate] of fates) {
      if (panel.state === 'closed' && !arrivals?.has(panel)) continue;
      const arrived = arrivals?.get(panel);
      const [status, text] =
        arrived !== undefined ? ['arrived', `after ${spell(arrived - at)}`]
        : fate === 'waiting' ? ['waiting', 'down: gets it on resume']
        : fate === 'meant' ? ['meant', 'on its way']
        : ['other', 'not for it'];
      chips.push(h('li', { 'data-delivery': status, 'data-to': panel.name }, h('b', {}, panel.name), ` ${text}`));
    }
    this.#deliveries.replaceChildren(...chips);
  }

  #valid() {
    this.#draw();
    const faulty = this.#form.querySelector('[aria-invalid=true]');
    if (faulty instanceof HTMLElement) faulty.focus();
    return faulty === null;
  }

  #isText() {
    return new FormData(this.#form).get('mode') === 'text';
  }

  /** @param {string} name @returns {string} */
  #option(name) {
    return one(this.#form, `[data-option=${name}]`, HTMLInputElement).value.trim();
  }

  /** @returns {{target?: Target, exclude?: Target}} */
  #aim() {
    const exclude = this.#option('exclude') ? { clientId: this.#option('exclude') } : undefined;
    const kind = this.#kind.value;
    if (kind === 'everyone') return { exclude };
    if (kind !== 'combination') return { target: { [kind]: this.#value.value.trim() }, exclude };
    /** @type {Target} */
    const target = {};
    for (const condition of conditions) {
      const value = one(document, `#send-target-${condition}`, HTMLInputElement).value.trim();
      if (value !== '') target[condition] = value;
    }
    return { target, exclude };
  }

  /**
   * The request's body, with the data as it was typed.
   * @param {{type: string, data: string}} [instead] what to send instead of what is typed; data is JSON
   */
  #body(instead) {
    const { target, exclude } = this.#aim();
    const type = instead?.type ?? this.#type.value.trim();
    const members = [];
    const member = (/** @type {string} */ name, /** @type {unknown} */ value) =>
      members.push(`${JSON.stringify(name)}:${JSON.stringify(value)}`);
    if (type !== '') member('type', type);
    if (instead) members.push(`"data":${instead.data}`);
    else if (this.#isText()) member('text', this.#data.value);
    else members.push(`"data":${compact(this.#data.value)}`);
    if (target) member('target', target);
    if (exclude) member('exclude', exclude);
    if (this.#option('ttlMs')) member('ttlMs', Number(this.#option('ttlMs')));
    if (this.#option('collapseKey')) member('collapseKey', this.#option('collapseKey'));
    // Every event of a burst is another event: one key for all of them would make one event of them.
    if (this.#option('idempotencyKey') && !instead) member('idempotencyKey', this.#option('idempotencyKey'));
    return `{${members.join(',')}}`;
  }

  #draw() {
    const kind = this.#kind.value;
    one(document, '#dock-text', HTMLElement).textContent =
      `${this.#type.value.trim() || 'message'} to ${this.#kind.selectedOptions[0].text.toLowerCase()}`;
    one(document, '#send-single', HTMLElement).hidden = kind === 'everyone' || kind === 'combination';
    one(document, '#send-combination', HTMLElement).hidden = kind !== 'combination';
    one(document, '#send-target-value-label', HTMLElement).textContent = kind;

    const dataFault = this.#isText() ? undefined : jsonFault(this.#data.value);
    fault(this.#data, this.#dataFault, dataFault);
    const { target } = this.#aim();
    const empty = target !== undefined && Object.values(target).every((value) => value === '');
    const asked = kind === 'combination' ? one(document, '#send-target-clientId', HTMLInputElement) : this.#value;
    fault(this.#value, this.#targetFault, undefined);
    fault(
      asked,
      this.#targetFault,
      empty
        ? `Fill in ${kind === 'combination' ? 'at least one' : `the ${kind}`}. An empty target never means everyone; choose Everyone for that.`
        : undefined,
    );

    this.#drawChoices(kind);
    if (dataFault !== undefined || empty) this.#request.textContent = 'Nothing to send yet: see above.';
    else this.#request.textContent = curl(this.#body());
  }

  /** @param {string} kind */
  #drawChoices(kind) {
    /** @type {Set<string>} */
    const values = new Set();
    for (const { identity } of this.#panels()) {
      if (kind === 'topic') identity.topics.forEach((topic) => values.add(topic));
      else if (kind === 'clientId' || kind === 'userId' || kind === 'sessionId') values.add(identity[kind]);
    }
    values.delete('');
    const buttons = [...values].map((value) => {
      const chosen = value === this.#value.value.trim();
      const button = h('button', { type: 'button', class: 'chip', 'aria-pressed': String(chosen), 'data-choice': value }, value);
      button.addEventListener('click', () => {
        this.#value.value = value;
        this.#draw();
        // The chips were drawn anew: keep the keyboard where it was.
        one(this.#choices, `[data-choice="${CSS.escape(value)}"]`, HTMLButtonElement).focus();
      });
      return button;
    });
    const same = [...this.#choices.children].every((child, i) => child.isEqualNode(buttons[i] ?? null));
    if (!same || this.#choices.childElementCount !== buttons.length) this.#choices.replaceChildren(...buttons);
  }
}

/**
 * @param {HTMLInputElement | HTMLTextAreaElement} field
 * @param {HTMLElement} message
 * @param {string | undefined} text
 */
function fault(field, message, text) {
  field.setAttribute('aria-invalid', String(text !== undefined));
  message.textContent = text ?? '';
  message.hidden = text === undefined;
}

/**
 * The request as a command for a POSIX shell.
 * @param {string} body
 */
function curl(body) {
  const quoted = `'${body.replaceAll("'", `'\\''`)}'`;
  return `curl ${location.origin}/api/sse/send \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted}`;
}
