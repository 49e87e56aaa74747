// @ts-check
// The demo page: clients on one side, a back end on the other.

import { copies, one } from './dom.js';
import { Online } from './online.js';
import { Panel } from './panel.js';
import { SendForm } from './send.js';

/** @import {Identity} from './identity.js' */

/**
 * A browser opens six HTTP/1.1 connections to one host, for all its tabs together. Four streams leave one for sending
 * and one for asking who is online; a seventh would hang, and everything after it.
 */
const mostPanels = 4;

/** @type {Identity[]} who the clients are at first: the second device of alice shows what "user" means */
const cast = [
  { clientId: 'alice-laptop', userId: 'alice', sessionId: 'alice-1', topics: ['news'] },
  { clientId: 'bob-phone', userId: 'bob', sessionId: 'bob-1', topics: ['news', 'sport'] },
  { clientId: 'alice-phone', userId: 'alice', sessionId: 'alice-2', topics: ['sport'] },
  { clientId: 'carol-desk', userId: 'carol', sessionId: 'carol-1', topics: [] },
];

/** @type {(Panel | undefined)[]} by their place in the cast */
const panels = cast.map(() => undefined);
const present = () => panels.filter((panel) => panel !== undefined);

const list = one(document, '#panels', HTMLElement);
const add = one(document, '#add-panel', HTMLButtonElement);

const form = new SendForm(present);
const online = new Online(() => new Set(present().filter(({ state }) => state === 'open').map(({ connectionId }) => connectionId)));

/** @param {number} index */
function addPanel(index) {
  const panel = new Panel(index, cast[index], {
    changed,
    arrived: (at, event) => form.arrived(at, event.id),
    removed: () => {
      panels[index] = undefined;
      changed();
      add.focus();
    },
  });
  panels[index] = panel;
  list.append(panel.root);
  return panel;
}

function changed() {
  const streams = present().filter(({ state }) => state !== 'closed').length;
  const budget = one(document, '#budget', HTMLElement);
  budget.dataset.streams = String(streams);
  one(document, '#budget-text', HTMLElement).textContent = `${streams} of ${mostPanels} streams`;
  one(document, '#limit-note', HTMLElement).hidden = present().length < mostPanels;
  add.disabled = present().length >= mostPanels;
  form.refresh();
  online.refresh();
}

add.addEventListener('click', () => {
  const index = panels.indexOf(undefined);
  if (index < 0) return;
  const panel = addPanel(index);
  panel.connect();
  changed();
  panel.root.scrollIntoView({ block: 'nearest' });
});

for (const block of document.querySelectorAll('[data-copies]')) {
  const source = block.querySelector('code');
  if (source) copies(one(block, 'button', HTMLButtonElement), source);
}

// On a narrow screen the clients come after the form: the request would push them out of sight.
if (matchMedia('(max-width: 640px)').matches) one(document, '#request-fold', HTMLDetailsElement).open = false;

// There, once the form is out of sight, the dock sends what it holds.
new IntersectionObserver(([{ isIntersecting }]) => {
  one(document, '#dock', HTMLElement).hidden = isIntersecting;
}).observe(one(document, '#send-button', HTMLElement));

addPanel(0).connect();
addPanel(1).connect();
