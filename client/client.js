/**
 * Keeps a page signed in to Sethealth with tokens from a tokenvend server. No dependencies. Tokens are kept in
 * memory only, never in storage, a URL, a log or an error.
 *
 * @module
 */

// Times are in milliseconds, except on the wire and in the API, where they are in seconds.
const REQUEST_TIMEOUT = 15e3;
const LOCK_TIMEOUT = 5e3; // a frozen tab may hold the lock: after this time, each tab works alone
const ANSWER_TIMEOUT = 50; // other tabs answer within a few ms, if there are any
const NEWS_TIMEOUT = 250; // a token of the tab that held the lock may arrive after the lock is released
const MAX_SLEEP = 15e3; // timers stop while a laptop sleeps: look at the clocks at least this often
const MAX_BACKOFF = 8e3;
const MAX_WAIT = 36e5; // the longest Retry-After that is obeyed
const SAME_REFUSAL = 1e3; // within this time of each other, tabs notice that Sethealth refuses their token

// The codes of tokenvend's problem documents. An answer with any other code is not tokenvend's.
const FINAL_CODES = `invalid_request unauthenticated forbidden origin_not_allowed not_found method_not_allowed
  request_too_large unsupported_media_type`.split(/\s+/);
const RETRIED_CODES = `rate_limited internal upstream_rejected upstream_invalid upstream_unavailable upstream_timeout
  session_check_unavailable overloaded not_ready`.split(/\s+/);

/** The reason why there is no token. It never contains a token. */
export class TokenError extends Error {
  /**
   * @param {string} code
   * @param {{status?: number, requestId?: string, retryAfter?: number, cause?: unknown}} [details]
   */
  constructor(code, { cause, ...details } = {}) {
    super(`no token: ${code}`, cause && { cause });
    this.name = 'TokenError';
    Object.assign(this, { code }, details);
  }
}

/**
 * Requests a token now and a new one before each expires, and passes each to `onToken`.
 *
 * @param {import('./client.d.ts').KeepSignedInOptions} options
 * @returns {import('./client.d.ts').TokenSource}
 */
export function keepSignedIn(options) {
  const { onToken, user, headers, onSignedOut, signal } = options;
  const { onError = (error) => console.warn(String(error)) } = options;
  if (!options.url || typeof onToken !== 'function') throw new TypeError('keepSignedIn: no url or onToken');
  const url = new URL(options.url, globalThis.document?.baseURI).href;
  const name = `tokenvend2 ${headers ? 'bearer' : 'cookie'} ${url}`;

  const clock = newClock();
  const ending = new AbortController();
  const over = new Promise((resolve) => ending.signal.addEventListener('abort', resolve));
  let held; // the newest token: { token, id, born (when it was requested), end, refused, replaces, swapped }
  let hash; // identifies the user of the token
  let since = -Infinity; // a token requested earlier may be of a session that has ended
  let lastError; // the last one since the last token
  let failures = 0;
  let next = 0; // time of the next request
  let barred = 0; // end of the server's Retry-After
  let ended; // how this source ended, as in state.status
  let endError;
  let flight; // the request in progress, including the wait for the lock
  let delivered; // the last call of onToken
  let timer;
  let tabs;
  let hasPeers = false;
  let leaving; // aborts what would keep the page out of the back-forward cache
  let away; // from pagehide on: resolves when the page returns
  let comeBack;

  // When token() resolves, onToken must have finished: its caller uses the SDK next.
  const settled = () => Promise.race([delivered, over]);

  const isValid = (minLife = 0, at = clock()) =>
    !away && held?.born >= since && held.end > clock() && held.end - at > minLife * 1e3 && !(minLife && held.end === Infinity);

  const end = (status, error, news) => {
    if (ended) return;
    if (news) post(news);
    ended = status;
    lastError = error;
    endError = error ?? new TokenError('stopped');
    held = undefined;
    clearTimeout(timer);
    ending.abort();
    comeBack?.();
    tabs.close();
  };

  const signedOut = (code, news, error = new TokenError(code)) => {
    if (ended) return;
    end('signed-out', error, news);
    call(onSignedOut, error);
  };

  const schedule = () => {
    clearTimeout(timer);
    if (ended || away || flight || next === Infinity) return;
    timer = setTimeout(tick, Math.min(Math.max(next - clock(), 0), MAX_SLEEP));
  };

  const tick = () => {
    if (!ended && !away && !flight && clock() >= next) begin().catch(() => {});
    schedule();
  };

  // Distrusts every token requested before now.
  const doubt = (delay) => {
    since = clock();
    next = Math.max(Math.min(next, since + delay), barred);
    schedule();
  };

  const adopt = (got, fromTab) => {
    const isNews = lastError || held?.token !== got.token;
    held = got;
    hash = got.hash ?? hash;
    lastError = undefined;
    failures = barred = 0;
    const left = held.end - clock();
    // Jitter, so that pages that were opened at the same time do not renew at the same time.
    next = clock() + Math.max(left * (0.75 + Math.random() / 10), 1e3);
    if (!isNews) return;
    delivered = call(onToken, held.token, { fromTab, expiresIn: left < Infinity ? left / 1e3 : undefined })
      .catch((cause) => {
        call(onError, new TokenError('on_token_failed', { cause }));
      });
  };

  const post = (message) => tabs.post({ user, hash, at: Date.now(), age: 0, ...message });

  const share = () => {
    if (!isValid() || held.refused || held.end === Infinity) return;
    const { token, id, replaces, born, end } = held;
    post({ token, id, replaces, age: clock() - born, left: end - clock() });
  };

  const isOurs = (message, born) => {
    if (hash && message.hash) return hash === message.hash;
    if (user && message.user) return user === message.user;
    // All tabs share a cookie, but before this page was opened it may have been another user's.
    return !headers && born >= 0;
  };

  const hear = (message) => {
    const { news } = message;
    hasPeers = true;
    // The message may have waited while this tab was frozen.
    const late = Math.max(Date.now() - message.at, 0);
    const born = clock() - message.age - late;
    const isNewer = !(held?.born > born);
    if (news === 'ask') {
      share();
    } else if (news === 'hello') {
      if (!headers && user && message.user && user !== message.user) doubt(1e3);
    } else if (news === 'out') {
      if (message.all ? isNewer : isOurs(message, born)) signedOut('signed_out_elsewhere');
    } else if (!headers && hash && message.hash && hash !== message.hash) {
      if (isNewer) signedOut('user_changed');
    } else if (news === 'changed') {
      if (headers && hash === message.was) doubt(0);
    } else if (message.token && isOurs(message, born)) {
      hearToken(message, born, clock() + message.left - late);
    }
  };

  const hearToken = ({ token, id, replaces, hash }, born, end) => {
    if (end < clock() || born < since || (held?.refused && held.token === token)) return;
    const swaps = replaces && replaces === held?.id;
    if (isValid() && !swaps && !(held.refused ? born > held.refused : end > held.end + 1e3)) return;
    adopt({ token, id, replaces, hash, born, end, swapped: swaps && clock() }, true);
    tabs.interrupt();
    schedule();
  };

  const take = (got, rejected) => {
    if (ended || away || got.born < since) return;
    if (hash && got.hash && hash !== got.hash) {
      // If another tab has a newer token, this answer is of the previous session.
      if (held?.born > got.born) return;
      signedOut('user_changed', { news: 'changed', hash: got.hash, was: hash, age: clock() - got.born });
    } else if (held?.refused && held.token === got.token) {
      if (rejected) throw new TokenError('not_replaced');
    } else {
      adopt({ ...got, replaces: rejected }, false);
      share();
    }
  };

  const fail = (error, born, asked) => {
    const { code, retryAfter = 0 } = error;
    if (code === 'unauthenticated') {
      signedOut(code, !headers && { news: 'out', all: true, age: clock() - born }, error);
    } else if (FINAL_CODES.includes(code)) {
      if (code === 'invalid_request' && asked) throw error; // min_life of this caller was too long
      end('failed', error);
      call(onError, error);
    } else {
      barred = RETRIED_CODES.includes(code) ? clock() + Math.min(retryAfter * 1e3, MAX_WAIT) : 0;
      next = Math.max(barred, clock()) + Math.random() * Math.min(1e3 * 2 ** ++failures, MAX_BACKOFF);
      const isTold = lastError?.code === code;
      lastError = error;
      if (!isTold) call(onError, error);
    }
    throw error;
  };

  const begin = (minLife = 0, fresh = false) => {
    const before = held;
    const done = () => ended || away || (held !== before && isValid(minLife) && !held.refused);
    const lock = headers ? (hash ?? user) && `${name} ${hash ?? user}` : name;
    let born = clock();
    flight ??= tabs
      .inTurn(lock, async (hasWaited) => {
        if (!done() && (hasWaited || hasPeers || !fresh)) {
          await tabs.ask(() => post({ news: 'ask' }), hasWaited ? NEWS_TIMEOUT : ANSWER_TIMEOUT);
        }
        if (done()) return;
        born = clock();
        const rejected = held?.refused ? held.id : undefined;
        take(await fetchToken({ ...options, url, minLife, rejected, clock }, [ending.signal, leaving.signal]), rejected);
      })
      .catch((error) => {
        if (!done()) fail(error, born, minLife);
      })
      .finally(() => {
        flight = undefined;
        schedule();
      });
    return flight;
  };

  const token = async ({ minLife = 0 } = {}) => {
    if (!(minLife >= 0 && minLife < Infinity)) throw new TypeError('token: minLife must be a number of seconds');
    for (let tries = 0; ;) {
      await away;
      if (ended) throw endError;
      // The server rounds to whole seconds, and counts from its answer.
      if (isValid(minLife, tries ? held?.born - 1 : clock()) && !(flight && held.refused)) return held.token;
      if (flight) {
        await flight.catch(() => {});
      } else if (lastError && clock() < next) {
        throw lastError;
      } else if (tries > 2 || (tries && isValid())) {
        throw new TokenError('life_too_short');
      } else {
        tries++;
        await begin(minLife);
      }
      await settled();
    }
  };

  const refresh = async () => {
    const refused = held;
    // Another tab has already replaced the token that the caller means.
    const isReplaced = isValid() && clock() < refused.swapped + SAME_REFUSAL;
    if (refused?.id && !isReplaced) refused.refused = clock();
    for (let first = isReplaced; ; first = false) {
      await away;
      if (ended) throw endError;
      if ((first || held !== refused) && isValid() && !held.refused) break;
      if (!flight && clock() < barred) throw lastError;
      await begin(0, true);
    }
    await settled();
    if (ended) throw endError;
    return held.token;
  };

  const stop = () => end('stopped');
  const signOut = () => end('signed-out', new TokenError('signed_out'), { news: 'out' });

  const arrive = () => {
    away = undefined;
    leaving = new AbortController();
    tabs = openTabs(name, hear);
    post({ news: 'hello' });
  };

  // An open channel, a lock or a request would keep the page out of the back-forward cache.
  const leave = () => {
    away ??= new Promise((resolve) => { comeBack = resolve; });
    clearTimeout(timer);
    leaving.abort();
    tabs.close();
  };

  const wake = ({ type }) => {
    if (type === 'pageshow' && away) {
      // The session may have ended, or be another user's.
      arrive();
      comeBack();
      doubt(0);
    }
    // Back online: shorten our own back-off, but not the server's Retry-After.
    if (type === 'online' && lastError) next = Math.max(barred, Math.min(next, clock() + Math.random() * 1e3));
    tick();
  };

  const listen = (target, type, listener) => target?.addEventListener?.(type, listener, { signal: ending.signal });

  arrive();
  if (signal?.aborted) {
    stop();
  } else {
    listen(globalThis.document, 'visibilitychange', wake);
    listen(globalThis, 'online', wake);
    listen(globalThis, 'pagehide', leave);
    listen(globalThis, 'pageshow', wake);
    listen(signal, 'abort', stop);
    tick();
  }

  return {
    token,
    refresh,
    stop,
    signOut,
    get state() {
      const alive = isValid();
      const date = (time) => (time < Infinity ? Date.now() + time - clock() : undefined);
      return {
        status: ended ?? (lastError ? 'retrying' : alive ? 'signed-in' : 'starting'),
        expiresAt: alive ? date(held.end) : undefined,
        nextFetchAt: ended || away ? undefined : date(next),
        lastError,
      };
    },
  };
}

const call = async (callback, ...args) => callback?.(...args);

const failWith = (code) => (cause) => {
  throw new TokenError(code, { cause });
};

// Settles within REQUEST_TIMEOUT or at the first signal, even if headers() or the network hangs.
const fetchToken = (options, signals) => new Promise((resolve, reject) => {
  const controller = new AbortController();
  const { signal } = controller;
  const finish = () => {
    clearTimeout(limit);
    controller.abort();
    reject(new TokenError('timeout')); // no effect once settled
  };
  const limit = setTimeout(finish, REQUEST_TIMEOUT);
  for (const each of signals) each.addEventListener('abort', finish, { signal });
  request(options, signal).then(resolve, reject).finally(finish);
});

const request = async ({ url, headers, credentials, minLife, rejected, clock }, signal) => {
  const init = { method: 'POST', cache: 'no-store', redirect: 'error', signal };
  init.credentials = credentials ?? (headers ? 'same-origin' : 'include');
  if (minLife || rejected) init.body = JSON.stringify({ min_life: minLife ? Math.ceil(minLife) : undefined, rejected });
  for (let refused = false, sent, error; ; refused = true) {
    init.headers = await call(headers, { refused }).then((given) => new Headers(given ?? {})).catch(failWith('headers_failed'));
    const given = String([...init.headers]);
    if (given === sent) throw error;
    sent = given;
    if (init.body) init.headers.set('Content-Type', 'application/json');
    const born = clock(); // not later, so that the token's lifetime is never overestimated
    const response = await fetch(url, init).catch(failWith('network'));
    // A parser's message may quote the body, token included, so it is not passed on.
    const body = await response.json().catch(() => {}) ?? {};
    if (response.ok) return { ...read(body, response), born, end: born + (body.expires_in ?? Infinity) * 1e3 };
    error = refusal(response, body);
    if (!headers || refused || error.code !== 'unauthenticated') throw error;
  }
};

const read = ({ token, token_id: id, user_hash: hash, expires_in: life = 1 }, { status }) => {
  if (typeof token !== 'string' || !token || !(life > 0)) throw new TokenError('invalid_answer', { status });
  return { token, id: /^[0-9a-f]{16}$/.test(id) ? id : undefined, hash: typeof hash === 'string' && hash ? hash : undefined };
};

const refusal = ({ status, headers }, { code, status: stated = status, request_id: requestId }) => {
  const isOurs = /^application\/problem\+json/i.test(headers.get('Content-Type')) && stated === status &&
    [...FINAL_CODES, ...RETRIED_CODES].includes(code);
  const wait = headers.get('Retry-After');
  const retryAfter = wait > '' && wait >= 0 ? +wait : (Date.parse(wait) - Date.now()) / 1e3;
  return new TokenError(isOurs ? code : `http_${status}`, {
    status,
    requestId: requestId ?? headers.get('X-Request-Id') ?? undefined,
    retryAfter: retryAfter >= 0 ? retryAfter : undefined,
  });
};

// Messages and locks shared with other tabs of that name. Without a BroadcastChannel, this tab works alone.
const openTabs = (name, hear) => {
  let channel;
  let interrupt = () => {};
  try {
    channel = new BroadcastChannel(name);
    channel.onmessage = ({ data }) => hear(data);
  } catch {
    // An old browser or a sandboxed frame has none.
  }

  return {
    post: (message) => channel?.postMessage(message),
    close: () => {
      channel?.close();
      channel = undefined;
      interrupt();
    },
    // Ends ask() or the wait for the lock early.
    interrupt: () => interrupt(),
    ask: (post, timeout) => channel && new Promise((resolve) => {
      interrupt = resolve;
      setTimeout(resolve, timeout);
      post();
    }),
    // Runs work while holding the lock, or without it if there is none or another tab does not release it.
    inTurn: async (lock, work) => {
      const locks = globalThis.navigator?.locks;
      if (!channel || !locks || !lock) return work();
      const waiting = new AbortController();
      let mine;
      interrupt = () => waiting.abort();
      const limit = setTimeout(interrupt, LOCK_TIMEOUT);
      const asked = performance.now();
      try {
        return await locks.request(lock, { signal: waiting.signal }, () => {
          mine = true;
          clearTimeout(limit);
          return work(performance.now() - asked > 20);
        });
      } catch (error) {
        clearTimeout(limit);
        if (mine) throw error;
        return work();
      }
    },
  };
};

// A clock that advances with the faster of the monotonic clock, which stops while some laptops sleep, and the wall
// clock, which may be set back.
const newClock = () => {
  let mono = performance.now();
  let wall = Date.now();
  let time = 0;
  return () => {
    const m = performance.now();
    const w = Date.now();
    const past = Math.max(m - mono, w - wall);
    // Only now and then, because each step may round up by the resolution of the coarser clock.
    if (past > 1e4 || w < wall) {
      time += past;
      mono = m;
      wall = w;
      return time;
    }
    return time + past;
  };
};
