// The demo page does what a team's page would do, and shows each step.
import { loadSdk } from './sdk.js';
import { steps } from './server.js';
import { $, log, pill, seconds, write } from './show.js';

const opened = Date.now();

let config; // { module, url } of tokenvend
let source; // set while a user is signed in
let sdk; // a promise of the real SDK, with ?sdk
let lifetime = 60; // of a new token, in seconds
let reason; // why the next token is requested, unless by the timer
let shown; // id of the token

// The tokenvend card shows the source of this function.
async function start(user) {
  const { keepSignedIn } =
    await import(config.module);
  source = keepSignedIn({
    url: config.url,
    user,
    onToken: async (token, info) => {
      await showToken(token, info);
      await setAccessToken(token);
    },
    onSignedOut: showSignedOut,
    onError: showError,
  });
}

// ---- display

function showLife() {
  const state = source?.state;
  pill('status', { 'signed-in': 'valid', starting: 'requesting', retrying: 'retrying', failed: 'error' }[state?.status] ?? 'none');
  const left = Math.max(0, (state?.expiresAt ?? 0) - Date.now());
  const next = state?.nextFetchAt && state.nextFetchAt - Date.now();
  const share = Math.min(1, left / 1000 / lifetime);
  $('bar').style.transform = `scaleX(${share})`;
  $('bar').classList.toggle('low', share < 0.2);
  $('mark').hidden = !(next > 0 && left > next);
  $('mark').style.left = `${((left - next) / 10 / lifetime)}%`;
  $('life').ariaValueNow = String(Math.round(share * 100));
  $('life').ariaValueText = left ? `${seconds(left)} left` : 'no token';
  const coming = next > 0 ? ` ${state.status === 'retrying' ? 'Next attempt' : 'Next request'} in ${seconds(next)}.` : '';
  write('left', (left ? `${seconds(left)} left.` : 'No valid token.') + coming);
  if (!left) $('masked').textContent = '—';
}

function showUser(user) {
  const hadFocus = $('signed-in').contains(document.activeElement);
  $('sign-in').hidden = Boolean(user);
  $('signed-in').hidden = !user;
  write('who', user ?? '');
  pill('session', user ? 'signed in' : 'signed out');
  for (const id of ['use', 'refresh', 'longer']) $(id).disabled = !user;
  document.title = user ? `${user} · tokenvend demo` : 'tokenvend demo';
  if (hadFocus && !user) $('user').focus();
  showLife();
}

// Shows the token_id of tokenvend's answer and log, the start of the token's SHA-256, and never the token.
async function showToken(token, { expiresIn, fromTab }) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(token)));
  const [before, why] = [shown, reason];
  reason = undefined;
  shown = [...digest.slice(0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  lifetime = Math.max(lifetime, expiresIn ?? 0);
  write('masked', `token_id ${shown}`);
  const what = shown === before ? 'The same token' : `New token${why?.replaces ? ' in place of the rejected one' : ''}`;
  write('news', `${what}, valid for ${Math.round(expiresIn)} s${fromTab ? ', shared by another tab' : ''}.`);
  log(fromTab ? 'shared' : 'token', `${shown}: valid for ${Math.round(expiresIn)} s, ${fromTab ? 'requested by another tab'
    : why?.replaces ? `replaces ${why.replaces}` : why?.text ?? 'requested before the old one expires'}.`);
  showLife();
}

async function setAccessToken(token) {
  if (!sdk) return;
  const { sethealth, problem } = await sdk;
  pill('sdk-status', problem ? 'error' : 'loaded');
  write('sdk', problem ?? 'setAccessToken gets each token.');
  await sethealth?.auth.setAccessToken(token);
  log('sdk', problem ? 'not loaded: setAccessToken was not called.' : `setAccessToken has the token ${shown}.`, { bad: Boolean(problem) });
}

function showError(error) {
  const parts = [error.code, error.status && `status ${error.status}`, error.retryAfter !== undefined && `Retry-After ${error.retryAfter} s`, error.requestId && `request ${error.requestId}`];
  const then = { retrying: 'The page tries again.', failed: 'The page does not try again.' }[source?.state.status] ?? '';
  log('error', `${parts.filter(Boolean).join(', ')}. ${then}`, { bad: true });
  write('news', `No new token: ${error.code}. ${then}`);
}

function showSignedOut(error) {
  const why = {
    signed_out_elsewhere: 'Signed out in another tab.',
    user_changed: 'Another user has signed in. Reload the page to continue as that user.',
    unauthenticated: 'Signed out: tokenvend answered 401, because the session has ended.',
  };
  log('session', why[error.code] ?? `Signed out: ${error.code}.`, { bad: true });
  write('news', why[error.code] ?? '');
  forget();
}

function forget() {
  source = shown = undefined;
  showUser(undefined);
}

// ---- requests

const send = globalThis.fetch;

async function call(path, init = { method: 'POST' }) {
  const response = await send(path, init).catch(() => {
    throw new Error('The backend does not answer.');
  });
  if (response.status >= 500) throw new Error(`${path}: status ${response.status}`);
  return response;
}

// Logs the module's requests to tokenvend.
const sent = new Map(); // by X-Request-Id
let waiting = 0; // requests without an answer
globalThis.fetch = async (url, init) => {
  if (url !== config?.url) return send(url, init);
  const began = performance.now();
  waiting++;
  const request = `POST /token ${init.body ?? ''}`.trim();
  const done = (text, bad) => log('request', `${request}: ${text} after ${Math.round(performance.now() - began)} ms`, { bad });
  try {
    const response = await send(url, init);
    sent.set(response.headers.get('X-Request-Id'), request);
    done(response.status, !response.ok);
    return response;
  } catch (error) {
    done('no answer', true);
    throw error;
  } finally {
    waiting--;
    setTimeout(poll, 100);
  }
};

let polling;
async function poll() {
  if (polling || document.hidden) return;
  polling = true;
  try {
    const state = await (await call('state', {})).json();
    showState(state);
    for (const event of await (await call('events', {})).json()) showEvent(event);
    $('banner').hidden = true;
  } catch {
    for (const id of ['session', 'tokenvend', 'sethealth']) pill(id, 'unknown');
    for (const button of document.querySelectorAll('[aria-pressed]')) button.ariaPressed = 'false';
    write('calls', 'unknown');
    write('banner', 'The backend of this demo does not answer. If the demo was stopped, start it again: make demo');
    $('banner').hidden = false;
  }
  polling = false;
}

function showState({ tokens, tokenvend, slow, fault, calls }) {
  config ??= { module: `${tokens}/client.js`, url: `${tokens}/token` };
  write('module', config.module);
  write('url', config.url);
  pill('session', source ? 'signed in' : 'signed out');
  pill('tokenvend', tokenvend);
  pill('sethealth', fault || 'up');
  write('calls', String(calls));
  $('network').ariaPressed = String(slow);
  for (const button of document.querySelectorAll('[data-fault]')) button.ariaPressed = String(button.dataset.fault === (fault || 'ok'));
}

const seen = new Set();
function showEvent(event) {
  const at = Date.parse(event.time);
  if (seen.has(event.request_id) || at < opened || (waiting && !sent.has(event.request_id))) return;
  seen.add(event.request_id);
  const all = { request: sent.get(event.request_id) ?? 'POST /token, from elsewhere', ...steps(event) };
  for (const [step, text] of Object.entries(all)) write(`step-${step}`, text);
  log('tokenvend', `${all.answer}; cache: ${all.cache}; Sethealth: ${all.sethealth}.`, { at, bad: event.outcome !== 'ok' });
}

// ---- controls

const on = (id, type, action) => (typeof id === 'string' ? $(id) : id).addEventListener(type, async (event) => {
  event.preventDefault();
  try {
    await action(event);
  } catch (error) {
    const text = error.code ? `Failed: ${error.code}.` : error.message;
    log('error', text, { bad: true });
    if (source || !error.code) write('news', text); // otherwise showSignedOut has written the reason
  }
  poll();
});

on('sign-in', 'submit', async () => {
  const user = $('user').value.trim();
  const response = await call('sign-in', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ user }) });
  write('user-error', response.ok ? '' : await response.text());
  $('user').ariaInvalid = String(!response.ok);
  if (!response.ok) return $('user').focus();
  log('session', `Signed in as ${user}.`);
  await begin(user);
  $('sign-out').focus();
});

on('sign-out', 'click', async () => {
  source.signOut();
  forget();
  write('news', 'Signed out.');
  $('user').focus();
  await call('sign-out').catch(() => {
    throw new Error('Signed out in the tabs only: the backend does not answer, so its session remains.');
  });
  log('session', 'Signed out, in all tabs.');
});

on('end', 'click', async () => {
  await call('sign-out');
  log('session', 'The backend has ended the session without telling the page, which requests a token now.');
  await source.refresh().catch(() => {});
});

// Asks the emulator whether Sethealth would accept the token.
async function use() {
  const token = await source.token();
  const { status } = await (await call('sethealth/verify', { method: 'POST', body: JSON.stringify({ token }) })).json();
  const text = $('sethealth').textContent === 'down' ? 'Sethealth is down.'
    : `Sethealth ${status === 'valid' ? 'accepts' : 'rejects'} the token ${shown}${status === 'valid' ? '' : `: ${status}`}.`;
  log('sethealth', text, { bad: !text.includes('accepts') });
  write('news', text);
}

async function refresh() {
  reason = { replaces: shown };
  await source.refresh();
}

const setFault = (fault) => call('sethealth/faults', { method: 'PUT', body: JSON.stringify({ fault }) });

on('use', 'click', use);
on('refresh', 'click', refresh);

on('longer', 'click', async () => {
  reason = { text: 'requested for a long upload' };
  await source.token({ minLife: 54 }).finally(() => { reason = undefined; });
  log('token', `${shown} is valid for at least 54 s.`);
});

on('revoke', 'click', async () => {
  await setFault('revoke');
  log('sethealth', 'Sethealth has revoked every token issued until now.', { bad: true });
  if (!source) return;
  await use();
  await refresh();
  await use();
});

for (const button of document.querySelectorAll('[data-fault]')) {
  on(button, 'click', async () => {
    await setFault(button.dataset.fault);
    log('sethealth', `Sethealth is now ${{ ok: 'up', slow: 'slow: it answers after 2 s', down: 'down' }[button.dataset.fault]}.`);
  });
}

on('network', 'click', async () => {
  const slow = $('network').ariaPressed !== 'true';
  await call(`network?slow=${slow}`, { method: 'PUT' });
  log('network', `The network to the backend is ${slow ? 'slow' : 'fast'} now.`);
});

async function begin(user) {
  reason = { text: 'the first token of this page' };
  await start(user);
  showUser(user);
}

write('code', String(start));
if (new URLSearchParams(location.search).has('sdk')) {
  sdk = loadSdk();
  pill('sdk-status', 'loading');
  write('sdk', 'The SDK is loading.');
  Object.assign($('sdk-link'), { href: './', textContent: 'Unload the SDK' });
  $('sdk-hint').hidden = true;
}
showUser(undefined);
setInterval(showLife, 250);
setInterval(poll, 1000);
await poll();
const session = await call('session', {}).catch(() => undefined);
if (session?.ok) await begin((await session.json()).user);
