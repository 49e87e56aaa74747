// @ts-check
// The event stream format alone, as a browser reads it: text in, events out.
// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

/**
 * An event as its block described it.
 * @typedef {object} SSEEvent
 * @property {string} type  "message" where the block named none
 * @property {string} data  its data lines, joined by LF
 * @property {string} id    the last event ID once this event was read
 * @property {boolean} ownId whether this very block carried an id line
 */

/**
 * What a piece of the stream held. A comment is what servers send as a heartbeat; a native
 * EventSource hides it.
 * @typedef {{kind: 'event', event: SSEEvent} | {kind: 'comment', text: string} | {kind: 'retry', ms: number}} Item
 */

/** Parser reads one response body, already decoded from UTF-8 with its byte order mark gone. */
export class Parser {
  /** The last event ID: what to send as Last-Event-ID. It moves at the end of a block, never inside one. */
  lastEventId;

  #rest = '';
  #afterCR = false;
  #type = '';
  #data = '';
  #id;
  #ownId = false;

  /**
   * @param {string} lastEventId  the last event ID of the stream before this one. The section starts every stream
   *   with none, which would forget the cursor at the first event without an id; browsers carry it over, and so do we.
   */
  constructor(lastEventId) {
    this.lastEventId = lastEventId;
    this.#id = lastEventId;
  }

  /**
   * Takes the next piece of text, cut anywhere, and yields what it completes. An unfinished block at the end of the
   * stream is never yielded: it was torn.
   * @param {string} text
   * @returns {Generator<Item, void, void>}
   */
  *push(text) {
    if (text === '') return;
    // A CR at the end of a piece already ended its line; the LF of a CRLF may come with the next piece.
    if (this.#afterCR && text[0] === '\n') text = text.slice(1);
    this.#afterCR = text.endsWith('\r');
    const lines = (this.#rest + text).split(/\r\n|\r|\n/);
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const item = line === '' ? this.#dispatch() : this.#field(line);
      if (item) yield item;
    }
  }

  /** @param {string} line @returns {Item | undefined} */
  #field(line) {
    const colon = line.indexOf(':');
    if (colon === 0) return { kind: 'comment', text: line.slice(1) };
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value[0] === ' ') value = value.slice(1);
    switch (name) {
      case 'event':
        this.#type = value;
        break;
      case 'data':
        this.#data += value + '\n';
        break;
      case 'id':
        if (!value.includes('\0')) {
          this.#id = value;
          this.#ownId = true;
        }
        break;
      case 'retry':
        if (/^[0-9]+$/.test(value)) return { kind: 'retry', ms: Number(value) };
        break;
    }
    return undefined;
  }

  /** @returns {Item | undefined} */
  #dispatch() {
    this.lastEventId = this.#id;
    const type = this.#type || 'message';
    const data = this.#data;
    const ownId = this.#ownId;
    this.#type = '';
    this.#data = '';
    this.#ownId = false;
    if (data === '') return undefined;
    return { kind: 'event', event: { type, data: data.slice(0, -1), id: this.lastEventId, ownId } };
  }
}
