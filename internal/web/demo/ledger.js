// @ts-check
// What a client has had and what it still must get: the page's proof that nothing is lost, doubled or reordered.

/** @import {SSEEvent} from './sse.js' */

/** How many ids are remembered to tell a duplicate by. */
const memory = 10_000;

/** Ledger keeps the account of one stream, across its reconnects. */
export class Ledger {
  events = 0;
  duplicates = 0;
  /** Of the events sent while the stream was down last, how many have arrived. */
  late = 0;
  /** How many events came a second time since it went down last. */
  twice = 0;

  /** @type {Set<string>} ids that have arrived, oldest first */
  #seen = new Set();
  /** @type {Map<string, number>} sent while the stream was down: id to when, on the clock of performance.now() */
  #awaited = new Map();
  /** @type {Map<string, {next: number, seen: number, ordered: boolean}>} */
  #bursts = new Map();

  /** How many events this stream is owed. */
  get awaited() {
    return this.#awaited.size;
  }

  /** @param {string} id */
  has(id) {
    return this.#seen.has(id);
  }

  /**
   * Notes an event that was accepted while the stream was down.
   * @param {string} id
   */
  expect(id) {
    this.#awaited.set(id, performance.now());
  }

  /** Begins a new account of what comes late: the stream went down. */
  fall() {
    this.late = 0;
    this.twice = 0;
  }

  /** Gives up what is owed. */
  forgive() {
    this.#awaited.clear();
  }

  /**
   * Notes an event's arrival.
   * @param {SSEEvent} event
   * @returns {{duplicate: boolean, sentAt: number | undefined}} sentAt where it was sent while the stream was down
   */
  arrive({ id, ownId }) {
    this.events++;
    const duplicate = ownId && this.#seen.has(id);
    if (duplicate) {
      this.duplicates++;
      this.twice++;
    }
    if (ownId) {
      this.#seen.add(id);
      if (this.#seen.size > memory) this.#seen.delete(/** @type {string} */ (this.#seen.values().next().value));
    }
    const sentAt = this.#awaited.get(id);
    this.#awaited.delete(id);
    if (sentAt !== undefined) this.late++;
    return { duplicate, sentAt };
  }

  /**
   * Checks an event of a burst, whose data is numbered, and says how the burst went once its last event is there.
   * @param {string} json
   * @returns {{whole: boolean, text: string} | undefined}
   */
  burst(json) {
    /** @type {{burst?: unknown, n?: unknown, of?: unknown}} */
    let data;
    try {
      data = JSON.parse(json) ?? {};
    } catch {
      return undefined;
    }
    const { burst, n, of } = data;
    if (typeof burst !== 'string' || typeof n !== 'number' || typeof of !== 'number') return undefined;
    const run = this.#bursts.get(burst) ?? { next: 1, seen: 0, ordered: true };
    this.#bursts.set(burst, run);
    run.seen++;
    if (n !== run.next) run.ordered = false;
    run.next = n + 1;
    if (n !== of) return undefined;
    const whole = run.ordered && run.seen === of;
    return {
      whole,
      text: whole
        ? `Burst ${burst}: ${of} of ${of}, in order, each once.`
        : `Burst ${burst}: ${run.seen} of ${of} arrived, not all in order.`,
    };
  }
}
