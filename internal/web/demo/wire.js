// @ts-check
// The last half minute of a stream as a line: whole while it is open, broken while it is not, with a tick for each event.
// It only repeats what the log says in words, so it is hidden from screen readers.

/** @import {State} from './stream.js' */

/** @typedef {'event' | 'control' | 'heartbeat' | 'waiting'} TickKind */

/** What the line shows, in ms. */
const span = 30_000;
/** Between two drawings, in ms: the line creeps a pixel in about 70. */
const pace = 66;
const calmPace = 1000;

/** Wire draws one stream's line. */
export class Wire {
  /** @type {HTMLCanvasElement} */
  #canvas;
  /** @type {{at: number, state: State}[]} when the stream changed its state, oldest first */
  #states = [{ at: -Infinity, state: 'closed' }];
  /** @type {{at: number, kind: TickKind, sentAt?: number}[]} oldest first */
  #ticks = [];
  #timer = 0;
  #calm = matchMedia('(prefers-reduced-motion: reduce)');

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.#canvas = canvas;
    this.#beat();
  }

  /** @param {State} state */
  state(state) {
    this.#states.push({ at: performance.now(), state });
  }

  /**
   * Marks something now. sentAt joins an event that arrived late to the moment it was sent.
   * @param {TickKind} kind
   * @param {number} [sentAt]
   */
  tick(kind, sentAt) {
    this.#ticks.push({ at: performance.now(), kind, sentAt });
  }

  /** Stops drawing for good. */
  stop() {
    clearTimeout(this.#timer);
  }

  #beat() {
    this.#forget();
    if (document.visibilityState === 'visible') requestAnimationFrame(() => this.#draw());
    this.#timer = setTimeout(() => this.#beat(), this.#calm.matches ? calmPace : pace);
  }

  #forget() {
    const horizon = performance.now() - span;
    while (this.#ticks.length > 0 && this.#ticks[0].at < horizon) this.#ticks.shift();
    while (this.#states.length > 1 && this.#states[1].at < horizon) this.#states.shift();
  }

  #draw() {
    const canvas = this.#canvas;
    const { clientWidth: width, clientHeight: height } = canvas;
    const pen = canvas.getContext('2d');
    if (!pen || width === 0) return;
    const density = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * density) || canvas.height !== Math.round(height * density)) {
      canvas.width = Math.round(width * density);
      canvas.height = Math.round(height * density);
    }
    pen.setTransform(density, 0, 0, density, 0, 0);
    pen.clearRect(0, 0, width, height);

    const style = getComputedStyle(canvas);
    const ink = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
    const now = performance.now();
    const edge = width - 5;
    const x = (/** @type {number} */ at) => edge - ((now - Math.max(at, now - span)) / span) * edge;
    const mid = Math.round(height / 2) + 0.5;

    pen.strokeStyle = ink('--line');
    pen.lineWidth = 1;
    pen.beginPath();
    for (let second = 0; second <= 30; second += 5) {
      pen.moveTo(x(now - second * 1000), mid - 3);
      pen.lineTo(x(now - second * 1000), mid + 3);
    }
    pen.moveTo(0, mid);
    pen.lineTo(edge, mid);
    pen.stroke();

    this.#states.forEach(({ at, state }, i) => {
      const to = this.#states[i + 1]?.at ?? now;
      if (state === 'closed') return;
      if (state !== 'open') pen.clearRect(x(at), 0, x(to) - x(at), height);
      pen.strokeStyle = ink(state === 'open' ? '--open' : '--retrying');
      pen.lineWidth = state === 'open' ? 2 : 1.5;
      pen.setLineDash(state === 'open' ? [] : [3, 3]);
      pen.beginPath();
      pen.moveTo(x(at), mid);
      pen.lineTo(x(to), mid);
      pen.stroke();
    });
    pen.setLineDash([]);

    for (const { at, kind, sentAt } of this.#ticks) {
      const here = x(at);
      if (kind === 'heartbeat') {
        pen.fillStyle = ink('--open');
        dot(pen, here, mid, 2.5);
      } else if (kind === 'control') {
        pen.fillStyle = ink('--ink-3');
        pen.fillRect(here - 1, mid - 5, 2, 9);
      } else if (kind === 'event') {
        pen.fillStyle = ink('--accent');
        pen.fillRect(here - 1, mid - 10, 2, 19);
      } else {
        pen.strokeStyle = ink('--accent');
        pen.fillStyle = ink('--surface');
        pen.lineWidth = 1.5;
        dot(pen, here, mid, 3.5);
        pen.stroke();
      }
      if (sentAt === undefined || now - sentAt > span) continue;
      const there = x(sentAt);
      pen.strokeStyle = ink('--accent');
      pen.lineWidth = 1;
      pen.globalAlpha = 0.4;
      pen.beginPath();
      pen.moveTo(there, mid - 4);
      pen.bezierCurveTo(there + 3, mid - 15, here - 3, mid - 15, here, mid - 10);
      pen.stroke();
      pen.globalAlpha = 1;
    }

    const last = this.#states[this.#states.length - 1];
    if (last.state !== 'open') return;
    pen.fillStyle = ink('--open');
    dot(pen, edge, mid, 4);
  }
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {number} x
 * @param {number} y
 * @param {number} radius
 */
function dot(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}
