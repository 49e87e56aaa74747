import { fetchStream } from './fetch-stream.js';

const show = (id, what) => { document.getElementById(id).textContent += `${what}\n`; };

// newToken asks the application's back end, which knows who this is.
async function newToken() {
  const res = await fetch('/token', { method: 'POST' });
  return (await res.json()).token;
}

const bearer = (token) => ({ headers: { Authorization: `Bearer ${token}` } });

// keepSession turns a token into the cookie, and does it again while the page is open, well before the cookie is over.
async function keepSession() {
  const res = await fetch('/api/sse/session', { method: 'POST', ...bearer(await newToken()) });
  const { expires } = await res.json();
  setTimeout(keepSession, Math.max((Date.parse(expires) - Date.now()) / 2, 500));
}

// listen shows what comes on an EventSource.
function listen(id, url) {
  const es = new EventSource(url);
  es.addEventListener('tidings.connected', (e) => show(id, `connected, resume: ${JSON.parse(e.data).resume}`));
  es.addEventListener('tidings.disconnected', (e) => show(id, `ended: ${JSON.parse(e.data).reason}`));
  es.addEventListener('note', (e) => show(id, `note ${JSON.parse(e.data)}`));
  return es;
}

// With the cookie, plain EventSource works and resumes by itself.
await keepSession();
listen('cookie', '/api/sse?clientId=cookie');

// A ticket goes into the URL. Its first use sets the cookie, with which the same URL goes on working.
const { ticket } = await (await fetch('/api/sse/tickets', { method: 'POST', ...bearer(await newToken()) })).json();
listen('ticket', `/api/sse?clientId=ticket&ticket=${encodeURIComponent(ticket)}`);

// A header needs a client that is not EventSource, which asks for a token each time that it connects.
fetchStream('/api/sse?clientId=header', newToken, (event) => {
  switch (event.type) {
    case 'tidings.connected': show('header', `connected, resume: ${JSON.parse(event.data).resume}`); break;
    case 'tidings.disconnected': show('header', `ended: ${JSON.parse(event.data).reason}`); break;
    case 'note': show('header', `note ${JSON.parse(event.data)}`); break;
  }
});

let sent = 0;
document.getElementById('send').addEventListener('click', async () => {
  sent += 1;
  await fetch('/api/sse/send', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' }, // the cookie says who sends
    body: JSON.stringify({ type: 'note', data: sent, target: { userId: 'user123' } }),
  });
});
