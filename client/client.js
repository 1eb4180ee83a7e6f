/**
 * Keeps a page signed in to Sethealth with tokens from a tokenvend server. No dependencies. Tokens live in
 * memory alone: never in storage, a URL, a log or an error.
 *
 * @module
 */

// Times are milliseconds; seconds only on the wire and in the API.
const REQUEST_TIMEOUT = 15e3;
const LOCK_PATIENCE = 5e3; // a frozen tab may hold the lock: after this each tab works alone
const ANSWER_PATIENCE = 50; // other tabs answer within a few ms, or are not there
const NEWS_PATIENCE = 250; // a tab that has just had its turn may have news, which come by another way than the lock
const LONGEST_NAP = 15e3; // timers stand still while a laptop sleeps: look at the clocks this often
const LONGEST_BACKOFF = 8e3;
const LONGEST_WAIT = 36e5; // no answer, however wrong, keeps a page away for good
const SAME_REFUSAL = 1e3; // tabs learn within this time of each other that Sethealth refuses their token

// The codes of tokenvend's problem documents. Any other answer says nothing about the session.
const VERDICTS = `invalid_request unauthenticated forbidden origin_not_allowed not_found method_not_allowed
  request_too_large unsupported_media_type`.split(/\s+/);
const OUTAGES = `rate_limited internal upstream_rejected upstream_invalid upstream_unavailable upstream_timeout
  session_check_unavailable overloaded not_ready`.split(/\s+/);

/** Why there is no token. It never holds one. */
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
  let held; // the newest token: { token, id, born, end, refused, replaces, swapped }; born: when it was requested
  let hash; // whose token it is
  let since = -Infinity; // what was born earlier may be of a session that is gone
  let lastError; // since the last token
  let failures = 0;
  let next = 0; // when to request
  let barred = 0; // the server's Retry-After runs until then
  let ended; // how this source ended, as in state.status
  let endError;
  let flight; // the one request, with the wait for its turn
  let delivered; // the last onToken
  let timer;
  let tabs;
  let hasPeers = false;
  let leaving; // aborts what keeps a page out of the back-forward cache
  let away; // from pagehide on: a promise of the page's return
  let comeBack;

  // A caller of token() may go on to use what onToken was for.
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
    timer = setTimeout(tick, Math.min(Math.max(next - clock(), 0), LONGEST_NAP));
  };

  const tick = () => {
    if (!ended && !away && !flight && clock() >= next) begin().catch(() => {});
    schedule();
  };

  // Only what is requested from now on counts.
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
    // Jitter keeps pages that were opened together from coming back together.
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
    // A cookie is every tab's, but before this page was here it may have been somebody else's.
    return !headers && born >= 0;
  };

  const hear = (message) => {
    const { news } = message;
    hasPeers = true;
    // The message may have waited for a frozen tab to wake.
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
      // An answer that another tab has overtaken is of the session before.
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
    } else if (VERDICTS.includes(code)) {
      if (code === 'invalid_request' && asked) throw error; // only this caller asked too much
      end('failed', error);
      call(onError, error);
    } else {
      barred = OUTAGES.includes(code) ? clock() + Math.min(retryAfter * 1e3, LONGEST_WAIT) : 0;
      next = Math.max(barred, clock()) + Math.random() * Math.min(1e3 * 2 ** ++failures, LONGEST_BACKOFF);
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
          await tabs.ask(() => post({ news: 'ask' }), hasWaited ? NEWS_PATIENCE : ANSWER_PATIENCE);
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
      // The server counts whole seconds, and up to its answer.
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
    // Another tab has replaced the token that this one's caller still speaks of.
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
      // The session may be gone, or somebody else's.
      arrive();
      comeBack();
      doubt(0);
    }
    // Back on the network: no need to sit out a pause of our own.
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

// Settles within REQUEST_TIMEOUT or at the first of the signals, whatever headers() and the network do.
const fetchToken = (options, signals) => new Promise((resolve, reject) => {
  const controller = new AbortController();
  const { signal } = controller;
  const finish = () => {
    clearTimeout(limit);
    controller.abort();
    reject(new TokenError('timeout')); // unless it has settled
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
    const born = clock(); // so that a token's life is never overrated
    const response = await fetch(url, init).catch(failWith('network'));
    // A parser's message may quote the body, token and all, so it is nobody's cause.
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
    [...VERDICTS, ...OUTAGES].includes(code);
  const wait = headers.get('Retry-After');
  const retryAfter = wait > '' && wait >= 0 ? +wait : (Date.parse(wait) - Date.now()) / 1e3;
  return new TokenError(isOurs ? code : `http_${status}`, {
    status,
    requestId: requestId ?? headers.get('X-Request-Id') ?? undefined,
    retryAfter: retryAfter >= 0 ? retryAfter : undefined,
  });
};

// The other tabs with this name. Where the browser has no channel, this tab is alone.
const openTabs = (name, hear) => {
  let channel;
  let interrupt = () => {};
  try {
    channel = new BroadcastChannel(name);
    channel.onmessage = ({ data }) => hear(data);
  } catch {
    // An old browser, or a sandboxed frame.
  }

  return {
    post: (message) => channel?.postMessage(message),
    close: () => {
      channel?.close();
      channel = undefined;
      interrupt();
    },
    // Ends a wait early: what was waited for is here, or no longer wanted.
    interrupt: () => interrupt(),
    ask: (post, patience) => channel && new Promise((resolve) => {
      interrupt = resolve;
      setTimeout(resolve, patience);
      post();
    }),
    // Runs work while no other tab does; alone where that cannot be, or where a tab does not let go.
    inTurn: async (lock, work) => {
      const locks = globalThis.navigator?.locks;
      if (!channel || !locks || !lock) return work();
      const patience = new AbortController();
      let mine;
      interrupt = () => patience.abort();
      const limit = setTimeout(interrupt, LOCK_PATIENCE);
      const asked = performance.now();
      try {
        return await locks.request(lock, { signal: patience.signal }, () => {
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

// A clock that runs at least as fast as the monotonic and as the wall clock: the first stands still while
// some laptops sleep, the second may be set back. What either saw pass has passed.
const newClock = () => {
  let mono = performance.now();
  let wall = Date.now();
  let time = 0;
  return () => {
    const m = performance.now();
    const w = Date.now();
    const past = Math.max(m - mono, w - wall);
    // Seldom, for each step may round up by the coarser clock's grain.
    if (past > 1e4 || w < wall) {
      time += past;
      mono = m;
      wall = w;
      return time;
    }
    return time + past;
  };
};
