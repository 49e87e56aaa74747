// @ts-check
// One stream over fetch(): what EventSource does, with its heartbeats, its cursor and its wounds in view.

import { problemOf } from './api.js';
import { Parser } from './sse.js';

/** @import {SSEEvent} from './sse.js' */

/** @typedef {'closed' | 'connecting' | 'open' | 'retrying'} State */

/**
 * What a stream tells its owner.
 * @typedef {{kind: 'state', state: State, why: string, retryAt: number}
 *   | {kind: 'event', event: SSEEvent}
 *   | {kind: 'heartbeat'}} Report
 *   retryAt is on the clock of performance.now(); Infinity waits for resume().
 */

/**
 * How an attempt ended. retryMs is what the server asked for, where it did.
 * @typedef {object} End
 * @property {string} why
 * @property {boolean} [final] nothing to come back for
 * @property {number} [retryMs]
 */

/** The longest wait between two attempts while the server can't be reached, in ms. */
const longestWait = 30_000;

/** Stream keeps one event stream going: it reconnects with Last-Event-ID until it is closed. */
export class Stream {
  /** @type {State} */
  state = 'closed';
  /** The last event ID, or '' before the first. */
  cursor = '';
  /** The reconnection time in ms: the server's retry:, else what the specification suggests. */
  retryMs = 3000;

  /** @type {(report: Report) => void} */
  #report;
  #url = '';
  /** Counts open() and close(), so that a loop knows when it is no longer the stream's. */
  #generation = 0;
  #attempt = new AbortController();
  /** @type {number | undefined} How long to stay away after cut(), in ms. */
  #hold;
  /** @type {() => void} */
  #wake = () => {};

  /** @param {(report: Report) => void} report */
  constructor(report) {
    this.#report = report;
  }

  /**
   * Connects anew, without a cursor, as `new EventSource(url)` would.
   * @param {string} url
   */
  open(url) {
    this.close();
    this.#url = url;
    this.cursor = '';
    void this.#run(this.#generation);
  }

  /** Leaves, and stays away. */
  close() {
    this.#generation++;
    this.#attempt.abort();
    this.#wake();
    if (this.state !== 'closed') this.#to('closed', '');
  }

  /**
   * Tears the connection as a dying network would, and comes back with the cursor.
   * @param {number} [holdMs] how long to stay away; the reconnection time where absent, Infinity until resume()
   */
  cut(holdMs) {
    if (this.state !== 'open') return;
    this.#hold = holdMs ?? this.retryMs;
    this.#attempt.abort();
  }

  /** Comes back now instead of waiting. */
  resume() {
    this.#wake();
  }

  /** @param {number} generation */
  async #run(generation) {
    for (let failures = 0; ; ) {
      this.#to('connecting', '');
      this.#hold = undefined;
      this.#attempt = new AbortController();
      const { end, opened } = await this.#read(this.#attempt);
      if (generation !== this.#generation) return;
      this.#attempt.abort(); // whatever is left of the response gives its connection back
      if (end.final) {
        this.#to('closed', end.why);
        return;
      }
      failures = opened ? 0 : failures + 1;
      const backoff = Math.min(this.retryMs * 2 ** Math.max(0, failures - 1), longestWait);
      const wait = this.#hold ?? end.retryMs ?? backoff;
      this.#to('retrying', this.#hold === undefined ? end.why : 'cut', performance.now() + wait);
      await this.#sleep(wait);
      if (generation !== this.#generation) return;
    }
  }

  /**
   * One attempt, from request to end.
   * @param {AbortController} attempt
   * @returns {Promise<{end: End, opened: boolean}>}
   */
  async #read(attempt) {
    /** @type {Record<string, string>} */
    const headers = { Accept: 'text/event-stream' };
    if (this.cursor !== '') headers['Last-Event-ID'] = utf8Bytes(this.cursor);
    /** @type {End} */
    const end = { why: 'The server can’t be reached.' };
    let opened = false;
    try {
      const response = await fetch(this.#url, { headers, signal: attempt.signal, cache: 'no-store' });
      const refusal = await refusalOf(response);
      if (refusal) return { end: refusal, opened };
      end.why = 'The connection was lost.';
      const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
      const decoder = new TextDecoder(); // drops a byte order mark, as the specification asks
      const parser = new Parser(this.cursor);
      for (;;) {
        const { done, value } = await reader.read();
        if (attempt.signal.aborted) break;
        if (done) {
          end.why = 'The server ended the stream.';
          break;
        }
        for (const item of parser.push(decoder.decode(value, { stream: true }))) {
          if (item.kind === 'retry') this.retryMs = item.ms;
          if (item.kind === 'comment') this.#report({ kind: 'heartbeat' });
          if (item.kind !== 'event') continue;
          this.cursor = parser.lastEventId;
          if (item.event.type === 'tidings.connected') {
            opened = true;
            this.#to('open', '');
          }
          const notice = noticeOf(item.event);
          if (notice) Object.assign(end, notice);
          this.#report({ kind: 'event', event: item.event });
          if (attempt.signal.aborted) break; // the owner cut or closed it while looking at the event
        }
        this.cursor = parser.lastEventId; // an id without data moves it too
        if (attempt.signal.aborted) break;
      }
    } catch {
      // A torn connection or our own abort: `end` already says which kind of attempt it was.
    }
    return { end, opened };
  }

  /** @param {number} ms */
  #sleep(ms) {
    return new Promise((/** @type {(value?: unknown) => void} */ resolve) => {
      const timer = Number.isFinite(ms) ? setTimeout(resolve, ms) : undefined;
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** @param {State} state @param {string} why @param {number} [retryAt] */
  #to(state, why, retryAt = 0) {
    this.state = state;
    this.#report({ kind: 'state', state, why, retryAt });
  }
}

/**
 * Why a response is no stream, or undefined if it is one.
 * @param {Response} response
 * @returns {Promise<End | undefined>}
 */
async function refusalOf(response) {
  if (response.status === 200) {
    const type = response.headers.get('Content-Type') ?? '';
    if (/^text\/event-stream\s*(;|$)/i.test(type)) return undefined;
    return { final: true, why: `Something answered that is no event stream (${type || 'no content type'}).` };
  }
  const problem = await problemOf(response);
  const seconds = Number(response.headers.get('Retry-After'));
  return {
    final: response.status < 500,
    why: [`${problem.title} (${response.status})`, problem.detail, problem.hint ?? '']
      .filter((text) => text !== '')
      .map((text) => text.replace(/[.]?$/, '.'))
      .join(' '),
    retryMs: seconds > 0 ? seconds * 1000 : undefined,
  };
}

/**
 * What a notice before the end of a stream says about coming back.
 * @param {SSEEvent} event
 * @returns {End | undefined}
 */
function noticeOf(event) {
  if (event.type !== 'tidings.unavailable' && event.type !== 'tidings.disconnected') return undefined;
  const verb = event.type === 'tidings.unavailable' ? 'refused the stream for now' : 'ended the stream';
  try {
    const { reason, retryMs } = JSON.parse(event.data);
    return { why: `The server ${verb}: ${reason}.`, retryMs: typeof retryMs === 'number' ? retryMs : undefined };
  } catch {
    return { why: `The server ${verb}.` };
  }
}

/**
 * The UTF-8 bytes of a text as the byte string a header takes.
 * @param {string} text
 */
function utf8Bytes(text) {
  return Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join('');
}
