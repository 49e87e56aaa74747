// fetchStream reads an event stream with fetch, so that a token can go into the header, and comes back as EventSource does:
// after the server's retry time, with the last event's id. It goes on until the returned function is called.
//
// newToken returns a token, or a promise of one; it is asked before each connection. onEvent gets {type, data, id}.
export function fetchStream(url, newToken, onEvent) {
  const stop = new AbortController();
  let lastEventId = '';
  let retry = 3000; // milliseconds

  async function connect() {
    const headers = { Accept: 'text/event-stream', Authorization: `Bearer ${await newToken()}` };
    if (lastEventId) headers['Last-Event-ID'] = lastEventId;
    const res = await fetch(url, { headers, cache: 'no-store', signal: stop.signal });
    if (!res.ok) return res.status >= 500 || res.status === 429;
    const reader = res.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    let event = { type: '', data: [], id: lastEventId };
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return true;
      const lines = (rest + value).split('\n'); // Tidings ends lines with LF only
      rest = lines.pop();
      for (const line of lines) {
        if (line === '') { // an id counts once its whole event is there
          lastEventId = event.id;
          if (event.data.length > 0) onEvent({ type: event.type || 'message', data: event.data.join('\n'), id: event.id });
          event = { type: '', data: [], id: lastEventId };
          continue;
        }
        const colon = line.indexOf(':');
        const field = colon < 0 ? line : line.slice(0, colon);
        const text = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
        switch (field) {
          case 'event': event.type = text; break;
          case 'data': event.data.push(text); break;
          case 'id': if (!text.includes('\0')) event.id = text; break;
          case 'retry': if (/^\d+$/.test(text)) retry = Number(text); break;
        }
      }
    }
  }

  (async () => {
    for (let again = true; again && !stop.signal.aborted;) {
      try {
        again = await connect();
      } catch {
        // The network: it may come back.
      }
      await new Promise((resolve) => { setTimeout(resolve, retry); });
    }
  })();
  return () => stop.abort();
}
