// @ts-check
// The HTTP API of Tidings, as far as this page uses it.

/** @typedef {{clientId?: string, userId?: string, sessionId?: string, topic?: string}} Target */
/** @typedef {{id: string, matched?: number, scope?: string, hint?: string}} Receipt */
/** @typedef {{type: string, title: string, status: number, detail: string, field?: string, hint?: string}} Problem */
/**
 * @typedef {object} Connection
 * @property {string} connectionId
 * @property {string} clientId
 * @property {string} [userId]
 * @property {string} [sessionId]
 * @property {string[] | null} [topics]
 * @property {string} [remoteAddr]
 * @property {string} connectedAt
 * @property {string} [lastEventId]
 * @property {number} events
 * @property {number} bytes
 * @property {number} queued
 */

/** ProblemError is an answer that was a refusal; its problem says what to do. */
export class ProblemError extends Error {
  /** @param {Problem} problem */
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

/**
 * Sends one event. The body is text, not a value, so that what the user typed reaches the server as it was typed:
 * JSON.parse and JSON.stringify would round large numbers on the way.
 * @param {string} body
 * @returns {Promise<Receipt>}
 */
export async function send(body) {
  const response = await fetch('/api/sse/send', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body,
  });
  return answerOf(response);
}

/**
 * Who is online, the first of them.
 * @param {AbortSignal} signal
 * @returns {Promise<{connections: Connection[] | null, next?: string}>}
 */
export async function connections(signal) {
  return answerOf(await fetch('/api/sse/connections?limit=50', { signal, cache: 'no-store' }));
}

/**
 * Ends a connection from the server's side; its client comes back by itself.
 * @param {string} connectionId
 * @returns {Promise<{disconnected: number}>}
 */
export async function disconnect(connectionId) {
  const query = new URLSearchParams({ clientId: connectionId }); // a connectionId stands for its client everywhere
  return answerOf(await fetch(`/api/sse/connections?${query}`, { method: 'DELETE' }));
}

/** @param {Response} response */
async function answerOf(response) {
  if (!response.ok) throw new ProblemError(await problemOf(response));
  return response.json();
}

/**
 * The problem document of a refusal, or one made from its status line.
 * @param {Response} response
 * @returns {Promise<Problem>}
 */
export async function problemOf(response) {
  const { status, statusText } = response;
  const title = statusText || 'Refused';
  const none = { type: 'about:blank', title, status, detail: 'The answer had no problem document.' };
  try {
    return { ...none, ...(await response.json()) };
  } catch {
    return none;
  }
}

/**
 * The problem document of whatever a call threw.
 * @param {unknown} thrown
 * @returns {Problem}
 */
export function problemFrom(thrown) {
  if (thrown instanceof ProblemError) return thrown.problem;
  return {
    type: 'about:blank',
    title: 'No answer',
    status: 0,
    detail: 'The server can’t be reached. Is “tidings serve” still running?',
  };
}
