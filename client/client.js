/**
 * Keeps a page signed in to Sethealth with tokens from a tokenvend server: one call, one module, no
 * dependencies. Tokens live in memory alone: never in storage, never in a URL, a log or an error.
 *
 * @module
 */

// Times are milliseconds; seconds only on the wire and in the API.
const REQUEST_TIMEOUT = 15e3;
const LOCK_PATIENCE = 5e3; // a frozen tab may hold the lock: after this each tab works alone
const ANSWER_PATIENCE = 50; // other tabs answer within a few ms, or are not there
const LONGEST_NAP = 15e3; // timers stand still while a laptop sleeps: look at the clocks this often
const LONGEST_BACKOFF = 60e3;
const LONGEST_WAIT = 36e5; // no answer, however wrong, keeps a page away for good

/** Why there is no token: `code` is the server's, or one of this module's own. It never holds a token. */
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
 * Fetches a token now and a new one before each ends, and hands each to `onToken`.
 *
 * @param {import('./client.d.ts').KeepSignedInOptions} options
 * @returns {import('./client.d.ts').TokenSource}
 */
export function keepSignedIn(options) {
  const { onToken, user, headers, onSignedOut, signal } = options;
  const { onError = (error) => console.warn(String(error)) } = options;
  if (!options.url || typeof onToken !== 'function') throw new TypeError('keepSignedIn: no url or onToken');
  const url = new URL(options.url, globalThis.document?.baseURI).href;

  const clock = newClock();
  const ending = new AbortController();
  let held; // the newest token: { token, born, end } in the clock's time
  let lastError; // since the last token
  let failures = 0;
  let next = 0; // when to fetch
  let ended; // how this source ended, as in state.status
  let endError;
  let flight; // the one request, with the wait for its turn
  let delivered; // the last onToken
  let timer;
  // Whoever asked for a token may go on to use what onToken was for.
  const settled = () => Promise.race([delivered, over]);
  const over = new Promise((resolve) => ending.signal.addEventListener('abort', resolve));

  const lives = (minLife, at = clock()) => held?.end - at > minLife * 1e3 && !(minLife && held.end === Infinity);

  const end = (status, error, tellTabs) => {
    if (ended) return;
    if (tellTabs) tabs.post({ out: true });
    ended = status;
    lastError = error;
    endError = error ?? new TokenError('stopped');
    held = undefined;
    clearTimeout(timer);
    ending.abort();
    tabs?.close();
  };

  const signedOut = (error, tellTabs) => {
    if (ended) return;
    end('signed-out', error, tellTabs);
    call(onSignedOut, error);
  };

  const schedule = () => {
    clearTimeout(timer);
    if (ended || flight || next === Infinity) return;
    timer = setTimeout(tick, Math.min(Math.max(next - clock(), 0), LONGEST_NAP));
  };

  const tick = () => {
    if (!ended && !flight && clock() >= next) begin().catch(() => {});
    schedule();
  };

  const adopt = (token, born, end, fromTab) => {
    held = { token, born, end };
    lastError = undefined;
    failures = 0;
    const left = end - clock();
    // Jitter keeps pages that were opened together from coming back together.
    next = clock() + Math.max(left * (0.75 + Math.random() / 10), 1e3);
    delivered = call(onToken, token, { fromTab, expiresIn: left < Infinity ? left / 1e3 : undefined })
      .catch((cause) => {
        call(onError, new TokenError('on_token_failed', { cause }));
      });
  };

  const share = () => {
    const left = held?.end - clock();
    if (left > 0 && left < Infinity) tabs.post({ token: held.token, age: clock() - held.born, left });
  };

  const hear = (message) => {
    if (message.user !== user) {
      // Tabs share their cookies: where somebody else has signed in, this tab's session is gone.
      if (message.hello && message.user && user && !headers) signedOut(new TokenError('user_changed'));
    } else if (message.out) {
      signedOut(new TokenError('signed_out_elsewhere'));
    } else if (message.token) {
      // The message may have waited for a frozen tab to wake.
      const late = Math.max(Date.now() - message.at, 0);
      const born = clock() - message.age - late;
      const end = clock() + message.left - late;
      // Before this page was here, its cookie may have been somebody else's.
      if (end < clock() || held?.end + 1e3 > end || (!user && born < 0)) return;
      adopt(message.token, born, end, true);
      tabs.interrupt();
      schedule();
    } else if (user) {
      share();
    }
  };

  const fail = (error, minLife) => {
    const { status, code, retryAfter = 0 } = error;
    if (ended) throw endError;
    if (status === 401) {
      signedOut(error, !headers);
    } else if (/^4(?!08|29)/.test(status)) {
      if (status === 400 && minLife) throw error; // only this caller asked too much
      end('failed', error);
      call(onError, error);
    } else {
      next = clock() + Math.min(retryAfter * 1e3, LONGEST_WAIT) + Math.random() * Math.min(1e3 * 2 ** ++failures, LONGEST_BACKOFF);
      const told = lastError?.code === code;
      lastError = error;
      if (!told) call(onError, error);
    }
    throw error;
  };

  const begin = (minLife = 0, forced = false) => {
    const before = held;
    const done = () => ended || (held !== before && lives(minLife));
    flight ??= tabs
      .inTurn(async () => {
        if (!done() && !forced) await tabs.ask();
        if (done()) return;
        const fetched = await fetchToken({ ...options, url, minLife, clock, ending: ending.signal });
        if (ended) return;
        adopt(...fetched, false);
        share();
      })
      .catch((error) => fail(error, minLife))
      .finally(() => {
        flight = undefined;
        schedule();
      });
    return flight;
  };

  const token = async ({ minLife = 0 } = {}) => {
    if (!(minLife >= 0 && minLife < Infinity)) throw new TypeError('token: minLife must be a number of seconds');
    while (flight && !ended && !lives(minLife)) {
      await flight.catch(() => {});
      await settled();
    }
    if (!ended && !lives(minLife)) {
      if (lastError && clock() < next) throw lastError;
      await begin(minLife);
      await settled();
    }
    if (ended) throw endError;
    // The server counts whole seconds, and up to its answer.
    if (!lives(0) || !lives(minLife, held.born - 1)) throw new TokenError('life_too_short');
    return held.token;
  };

  const refresh = async () => {
    if (!ended) {
      if (!flight && lastError?.retryAfter && clock() < next) throw lastError;
      await begin(0, true);
      await settled();
    }
    if (ended) throw endError;
    return held.token;
  };

  const stop = () => end('stopped');
  const signOut = () => end('signed-out', new TokenError('signed_out'), true);

  const wake = ({ type }) => {
    // Back on the network: no need to sit out a pause that was about the network.
    if (type === 'online' && lastError && !lastError.status) next = Math.min(next, clock() + Math.random() * 1e3);
    tick();
  };

  const listen = (target, type, listener) => target?.addEventListener?.(type, listener, { signal: ending.signal });

  // A bearer session may be this tab's alone, so without `user` it is not shared.
  const tabs = openTabs(user || !headers ? `tokenvend1 ${url}` : '', user, hear, ending.signal);
  if (signal?.aborted) {
    stop();
  } else {
    listen(globalThis.document, 'visibilitychange', wake);
    listen(globalThis, 'online', wake);
    listen(globalThis, 'pageshow', wake);
    listen(signal, 'abort', stop);
    tabs.post({ hello: true });
    tick();
  }

  return {
    token,
    refresh,
    stop,
    signOut,
    get state() {
      const alive = lives(0);
      const date = (time) => (time < Infinity ? Date.now() + time - clock() : undefined);
      return {
        status: ended ?? (lastError ? 'retrying' : alive ? 'signed-in' : 'starting'),
        expiresAt: alive ? date(held.end) : undefined,
        nextFetchAt: ended ? undefined : date(next),
        lastError,
      };
    },
  };
}

const call = async (callback, ...args) => callback?.(...args);

const failWith = (code) => (cause) => {
  throw new TokenError(code, { cause });
};

// Settles within REQUEST_TIMEOUT or at `ending`, whatever headers() and the network do.
const fetchToken = (options) => new Promise((resolve, reject) => {
  const controller = new AbortController();
  const { signal } = controller;
  const finish = () => {
    clearTimeout(limit);
    controller.abort();
    reject(new TokenError('timeout')); // unless it has settled
  };
  const limit = setTimeout(finish, REQUEST_TIMEOUT);
  options.ending.addEventListener('abort', finish, { signal });
  request(options, signal).then(resolve, reject).finally(finish);
});

// Resolves to [token, born, end]: life counts from before the request, so it is never overrated.
const request = async ({ url, headers, credentials, minLife, clock }, signal) => {
  const init = { method: 'POST', cache: 'no-store', redirect: 'error', signal };
  init.credentials = credentials ?? (headers ? 'same-origin' : 'include');
  init.headers = await call(headers).then((given) => new Headers(given ?? {})).catch(failWith('headers_failed'));
  if (minLife) {
    init.headers.set('Content-Type', 'application/json');
    init.body = JSON.stringify({ min_life: Math.ceil(minLife) });
  }
  const born = clock();
  const response = await fetch(url, init).catch(failWith('network'));
  // A parser's message may quote the body, token and all, so it is nobody's cause.
  const body = await response.json().catch(() => {}) ?? {};
  if (!response.ok) throw refusal(response, body);
  const { token, expires_in: life = Infinity } = body;
  if (typeof token !== 'string' || !token || !(life > 0)) {
    throw new TokenError('invalid_answer', { status: response.status });
  }
  return [token, born, born + life * 1e3];
};

const refusal = ({ status, headers }, { code, request_id: requestId }) => {
  const wait = headers.get('Retry-After');
  const retryAfter = wait > '' && wait >= 0 ? +wait : (Date.parse(wait) - Date.now()) / 1e3;
  return new TokenError(typeof code === 'string' && /^\w{1,64}$/.test(code) ? code : `http_${status}`, {
    status,
    requestId: requestId ?? headers.get('X-Request-Id') ?? undefined,
    retryAfter: retryAfter >= 0 ? retryAfter : undefined,
  });
};

// The other tabs with this name. Without a name, or where the browser has no channel, this tab is alone.
const openTabs = (name, user, hear, ending) => {
  let channel;
  let interrupt = () => {};
  try {
    if (name) channel = new BroadcastChannel(name);
  } catch {
    // An old browser, or a sandboxed frame.
  }
  if (channel) channel.onmessage = ({ data }) => hear(data);
  ending.addEventListener('abort', () => interrupt());
  const post = (message) => channel?.postMessage({ user, at: Date.now(), ...message });

  return {
    post,
    close: () => channel?.close(),
    // Ends a wait early: what was waited for is here, or no longer wanted.
    interrupt: () => interrupt(),
    ask: () => channel && new Promise((resolve) => {
      interrupt = resolve;
      setTimeout(resolve, ANSWER_PATIENCE);
      post();
    }),
    // Runs work while no other tab does; alone where that cannot be, or where a tab does not let go.
    inTurn: async (work) => {
      const locks = globalThis.navigator?.locks;
      if (!channel || !locks) return work();
      const patience = new AbortController();
      let mine;
      interrupt = () => patience.abort();
      const limit = setTimeout(interrupt, LOCK_PATIENCE);
      try {
        return await locks.request(`${name} ${user}`, { signal: patience.signal }, () => {
          mine = true;
          clearTimeout(limit);
          return work();
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
