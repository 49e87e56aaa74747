// @ts-check
// JSON as text: compacted and laid out token by token, never through JSON.stringify, which would change what it shows
// (1.0 becomes 1, and large numbers are rounded).

import { h } from './dom.js';

const tokens = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null|[{}[\],:]/g;

/** Above this many characters, data is shown cut short. */
const longest = 4000;
/** Up to this many characters, data stays on one line. */
const oneLine = 64;

/**
 * The same JSON without white space between its tokens.
 * @param {string} json must be valid
 */
export function compact(json) {
  return (json.match(tokens) ?? []).join('');
}

/**
 * What is wrong with a text as JSON, in words for the person who typed it; undefined if nothing is.
 * @param {string} text
 */
export function jsonFault(text) {
  if (text.trim() === '') return 'Write some JSON, null for no data, or switch to text.';
  try {
    JSON.parse(text);
    return undefined;
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    let remedy = 'To send it as it stands, switch to text.';
    if (/^\s*'|[{[,:]\s*'/.test(text)) remedy = 'JSON wants double quotes.';
    else if (/,\s*[}\]]/.test(text)) remedy = 'JSON has no comma after the last entry.';
    else if (/[{,]\s*[A-Za-z_$][\w$]*\s*:/.test(text)) remedy = 'JSON wants its keys in double quotes.';
    return `Not JSON: ${message.replace(/^JSON\.parse: /, '').replace(/\.?$/, '.')} ${remedy}`;
  }
}

/**
 * An event's data as an element: JSON laid out and coloured, anything else as it is.
 * @param {string} data
 * @param {boolean} [flat] JSON on one line, however long
 */
export function dataView(data, flat = data.length <= oneLine) {
  const pre = h('pre', { class: 'data' });
  if (data.length > longest) {
    pre.append(data.slice(0, longest), h('span', { class: 'more' }, ` … ${data.length - longest} more characters`));
    return pre;
  }
  try {
    JSON.parse(data);
  } catch {
    pre.classList.add('text');
    pre.append(data);
    return pre;
  }
  pre.append(...laidOut(data, flat));
  return pre;
}

/**
 * @param {string} json
 * @param {boolean} flat
 * @returns {(string | Node)[]}
 */
function laidOut(json, flat) {
  const all = json.match(tokens) ?? [];
  /** @type {(string | Node)[]} */
  const out = [];
  let depth = 0;
  const line = () => out.push(flat ? ' ' : '\n' + '  '.repeat(depth));
  all.forEach((token, i) => {
    const next = all[i + 1];
    if (token === '{' || token === '[') {
      out.push(token);
      if (next === '}' || next === ']') return;
      depth++;
      line();
    } else if (token === '}' || token === ']') {
      if (all[i - 1] !== '{' && all[i - 1] !== '[') {
        depth--;
        line();
      }
      out.push(token);
    } else if (token === ',') {
      out.push(',');
      line();
    } else if (token === ':') {
      out.push(': ');
    } else {
      out.push(h('span', { class: next === ':' ? 'key' : kindOf(token) }, token));
    }
  });
  return out;
}

/** @param {string} token */
function kindOf(token) {
  if (token[0] === '"') return 'string';
  return /^[-\d]/.test(token) ? 'number' : 'literal';
}
