// @microsoft/fetch-event-source: node fetch-event-source.mjs URL
import { createRequire } from 'node:module';
import { report, untilInputEnds } from './report.mjs';

// It was written for pages: this is all of one that it touches.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };

// Its package.json doesn't declare its ES modules as such, so Node.js finds the CommonJS ones only.
const { fetchEventSource } = createRequire(import.meta.url)('@microsoft/fetch-event-source');

const controller = new AbortController();
untilInputEnds(() => controller.abort());
await fetchEventSource(process.argv[2], {
  signal: controller.signal,
  openWhenHidden: true,
  onmessage({ event, data, id }) {
    // It takes the blank line behind a comment for an event.
    if (event || data) report({ type: event, data, id });
  },
  onerror(error) {
    report({ error: String(error), forGood: false });
  },
  onclose() {
    report({ error: 'the stream ended as if it were complete', forGood: true });
  },
});
