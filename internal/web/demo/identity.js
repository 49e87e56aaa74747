// @ts-check
// Who a client is, and what follows from it.

/** @import {Target} from './api.js' */

/** @typedef {{clientId: string, userId: string, sessionId: string, topics: string[]}} Identity */

/**
 * Whether an identity meets all conditions of a target.
 * @param {Identity} identity
 * @param {Target} target
 */
export function meets(identity, target) {
  return (
    (target.clientId === undefined || target.clientId === identity.clientId) &&
    (target.userId === undefined || target.userId === identity.userId) &&
    (target.sessionId === undefined || target.sessionId === identity.sessionId) &&
    (target.topic === undefined || identity.topics.includes(target.topic))
  );
}

/**
 * Where this client's stream is.
 * @param {Identity} identity
 */
export function urlOf({ clientId, userId, sessionId, topics }) {
  const query = new URLSearchParams();
  if (clientId) query.set('clientId', clientId);
  if (userId) query.set('userId', userId);
  if (sessionId) query.set('sessionId', sessionId);
  for (const topic of topics) query.append('topic', topic);
  const text = query.toString();
  return text === '' ? '/api/sse' : `/api/sse?${text}`;
}

/**
 * What a page would write to be this client.
 * @param {Identity} identity
 */
export function codeOf(identity) {
  const url = urlOf(identity).replaceAll("'", '%27');
  return `const events = new EventSource('${url}');\nevents.addEventListener('notification', (e) => console.log(e.data));`;
}

/**
 * An identity in a line, but for its clientId.
 * @param {Identity} identity
 */
export function describe({ userId, sessionId, topics }) {
  const parts = [];
  if (userId) parts.push(`user ${userId}`);
  if (sessionId) parts.push(`session ${sessionId}`);
  if (topics.length > 0) parts.push(`topics ${topics.join(', ')}`);
  return parts.join(' · ') || 'anonymous';
}
