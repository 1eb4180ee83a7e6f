// The demo page: what a team's own page does, with every step shown.
import { loadSdk } from './sdk.js';

const $ = (id) => document.getElementById(id);
const MAX_LOG = 100;

let config;
let source; // while somebody is signed in
let sdk; // a promise of the SDK, or of nothing
let fullLife; // seconds, the longest seen
let asked; // what the next fetch is for, if it is not the timer

// ---- showing

// Newest first. What is heard of late stands where it happened: `at` is in the time of performance.now().
function log(kind, text, { at = performance.now(), bad = kind === 'trouble' || kind === 'signed out' } = {}) {
  const item = document.createElement('li');
  const now = new Date(performance.timeOrigin + at);
  Object.assign(item.dataset, { kind, at, ...(bad && { bad }) });
  const time = Object.assign(document.createElement('time'), {
    dateTime: now.toISOString(),
    textContent: now.toLocaleTimeString([], { hour12: false }),
  });
  const label = Object.assign(document.createElement('b'), { textContent: kind });
  const what = Object.assign(document.createElement('span'), { textContent: text });
  item.append(time, ' ', label, ' ', what);
  $('log').insertBefore(item, [...$('log').children].find((other) => other.dataset.at <= at) ?? null);
  $('log').children[MAX_LOG]?.remove();
  $('empty').hidden = true;
}

// A token is never shown whole.
const mask = (token) => `${token.slice(0, 4)}… (${token.length} characters)`;
const seconds = (ms) => `${Math.max(0, Math.round(ms / 1000))} s`;

function pill(element, status, text = status) {
  element.dataset.status = status;
  if (element.textContent !== text) element.textContent = text;
}

function showLife() {
  const state = source?.state ?? { status: 'none' };
  pill($('status'), state.status);
  const left = Math.max(0, (state.expiresAt ?? 0) - Date.now());
  const share = fullLife ? Math.min(1, left / 1000 / fullLife) : 0;
  const next = state.nextFetchAt && state.nextFetchAt - Date.now();
  $('bar').style.transform = `scaleX(${share})`;
  $('bar').classList.toggle('low', share < 0.2);
  $('mark').hidden = !(next > 0 && left > next && share > 0);
  $('mark').style.left = `${((left - next) / 1000 / fullLife) * 100}%`;
  $('life').ariaValueNow = String(Math.round(share * 100));
  $('life').ariaValueText = left ? `${seconds(left)} left` : 'no token';
  $('left').textContent = left ? `${seconds(left)} left.` : source ? 'No living token.' : 'No token yet.';
  $('next').textContent = next > 0 ? `${state.status === 'retrying' ? 'Next try' : 'A new one'} in ${seconds(next)}.` : '';
  if (!left) $('masked').textContent = '—';
}

function showUser(user) {
  $('sign-in').hidden = Boolean(user);
  $('signed-in').hidden = !user;
  $('who').textContent = user ?? '';
  if (!user) $('sdk-call').textContent = '—';
  for (const id of ['refresh', 'longer']) $(id).disabled = !user;
  document.title = user ? `${user} · tokenvend demo` : 'tokenvend demo';
}

// ---- talking to the backend

async function call(path, body) {
  const response = await fetch(path, body && {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok && response.status !== 401) throw new Error(`${path} answered ${response.status}`);
  return response;
}

async function showStats() {
  const { upstreamCalls, mode } = await (await call('stats')).json();
  const text = String(upstreamCalls);
  if ($('calls').textContent !== text) $('calls').textContent = text;
  pill($('sethealth'), { ok: 'well', slow: 'slow', down: 'down' }[mode]);
  for (const button of document.querySelectorAll('[aria-pressed]')) button.ariaPressed = String(button.dataset.fault === mode);
}

const guarded = (action) => async (event) => {
  event?.preventDefault();
  try {
    await action(event);
  } catch (error) {
    log('trouble', error.code === 'life_too_short' ? 'life_too_short: no longer life can be had now.' : error.message);
  }
};

// ---- the token

function onToken(token, { expiresIn, fromTab }) {
  const why = fromTab ? 'another tab fetched it and told us' : `fetched here, ${asked ?? 'because the timer was due'}`;
  asked = undefined;
  if (expiresIn) fullLife = Math.max(expiresIn, fullLife ?? 0);
  $('masked').textContent = mask(token);
  log(fromTab ? 'told' : 'token', `${mask(token)}, ${expiresIn === undefined ? 'of unknown life' : `${Math.round(expiresIn)} s of life`}; ${why}.`);
  showLife();
  showStats().catch(() => {});
  return toSdk(token);
}

async function toSdk(token) {
  const { sethealth, text, status } = await sdk;
  $('sdk').textContent = text;
  pill($('sdk-status'), status, sethealth ? 'loaded' : 'not here');
  $('sdk-call').replaceChildren('sethealth.auth.', document.createElement('wbr'), `setAccessToken("${token.slice(0, 4)}…")`);
  await sethealth?.auth.setAccessToken(token);
  log('sdk', sethealth ? 'setAccessToken has the token.' : 'setAccessToken would be called now.');
}

function onError(error) {
  const parts = [error.code, error.status && `status ${error.status}`, error.retryAfter !== undefined && `wait ${error.retryAfter} s`, error.requestId && `request ${error.requestId}`];
  const then = { retrying: 'Trying again by itself.', failed: 'Not tried again.' }[source?.state.status] ?? '';
  log('trouble', `${parts.filter(Boolean).join(', ')}. ${then}`);
}

function onSignedOut(error) {
  const why = {
    signed_out_elsewhere: 'You signed out in another tab.',
    user_changed: 'Somebody else signed in in another tab.',
  };
  log('signed out', why[error.code] ?? 'The session has ended.');
  source = fullLife = undefined;
  showUser(undefined);
  showLife();
}

async function keep(user) {
  const { keepSignedIn } = await import(config.clientUrl);
  if (!sdk) $('sdk').textContent = 'It waits for its first token.';
  sdk ??= loadSdk(config);
  showUser(user);
  asked = 'because there was none yet';
  source = keepSignedIn({ url: config.tokenUrl, user, onToken, onError, onSignedOut });
  showLife();
}

// Each request as the browser itself timed it.
function watchRequests() {
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (entry.name !== config.tokenUrl) continue;
      const status = entry.responseStatus ? `${entry.responseStatus} in ` : '';
      log('fetch', `POST ${new URL(entry.name).pathname}: ${status}${Math.round(entry.duration)} ms, as the browser timed it.`,
        { at: entry.responseEnd || entry.startTime, bad: entry.responseStatus >= 400 });
    }
  }).observe({ type: 'resource' });
}

// ---- what can be pressed

$('sign-in').addEventListener('submit', guarded(async () => {
  const user = $('user').value.trim();
  await call('sign-in', { user });
  log('you', `signed in as ${user}.`);
  await keep(user);
  $('sign-out').focus();
}));

$('sign-out').addEventListener('click', guarded(async () => {
  source?.signOut();
  source = fullLife = undefined;
  showUser(undefined);
  showLife();
  await call('sign-out', {});
  log('you', 'signed out.');
  $('user').focus();
}));

$('refresh').addEventListener('click', guarded(async () => {
  asked = 'because you asked';
  await source.refresh();
}));

$('longer').addEventListener('click', guarded(async () => {
  asked = 'because you asked for a longer life';
  const minLife = Math.floor((fullLife ?? 60) * 0.9);
  await source.token({ minLife });
  asked = undefined;
  log('you', `have a token that lives for at least ${minLife} s.`);
}));

for (const button of document.querySelectorAll('[data-fault]')) {
  button.addEventListener('click', guarded(async () => {
    const mode = button.dataset.fault;
    await call('fault', { mode });
    await showStats();
    log('you', { slow: 'made Sethealth slow.', down: 'took Sethealth down.', ok: 'brought Sethealth back.' }[mode]);
  }));
}

for (const [target, type] of [[document, 'visibilitychange'], [window, 'online'], [window, 'pageshow']]) {
  target.addEventListener(type, () => {
    if (!document.hidden) showStats().catch(() => {});
    if (source && !document.hidden && source.state.nextFetchAt < Date.now()) asked ??= 'because the page woke up';
  });
}

await guarded(async () => {
  config = await (await call('config.json')).json();
  watchRequests();
  setInterval(showLife, 250);
  setInterval(() => document.hidden || showStats().catch(() => {}), 2000);
  await showStats();
  const session = await call('session');
  if (session.ok) await keep((await session.json()).user);
  else showUser(undefined);
})();
