// npm's eventsource: node eventsource.mjs URL
import { EventSource } from 'eventsource';
import { report, types, untilInputEnds } from './report.mjs';

const source = new EventSource(process.argv[2]);
for (const type of types) {
  source.addEventListener(type, (event) => report({ type, data: event.data, id: event.lastEventId }));
}
source.onerror = (event) => {
  report({ error: String(event.message ?? event), forGood: source.readyState === EventSource.CLOSED });
};
untilInputEnds(() => source.close());
