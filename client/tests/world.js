// A world to test in: two clocks and timers that move when told, a network, tabs and locks that are plain
// objects. The module under test sees them as the browser's globals.
import { test } from 'node:test';

const realNow = Date.now;
const settle = async () => {
  for (let i = 0; i < 6; i++) await new Promise(setImmediate);
};

export const answer = (body, init) => new Response(JSON.stringify(body), init);
export const problem = (status, code, headers = {}) =>
  answer({ status, code, request_id: `req-${code}`, detail: 'a sentence' }, {
    status, headers: { 'Content-Type': 'application/problem+json', ...headers },
  });
export const idOf = (token) => Buffer.from(`${token}--------`).toString('hex').slice(0, 16);
export const issue = (token, more) => answer({ token, token_id: idOf(token), expires_in: 3600, ...more });

class Channels {
  open = new Set();
  held = []; // messages for a frozen tab
  constructor() {
    const channels = this;
    this.BroadcastChannel = class {
      constructor(name) {
        this.name = name;
        channels.open.add(this);
      }
      postMessage(message) {
        if (!channels.open.has(this)) throw new DOMException('closed', 'InvalidStateError');
        for (const other of channels.open) {
          if (other === this || other.name !== this.name) continue;
          const deliver = () => channels.open.has(other) && other.onmessage?.({ data: structuredClone(message) });
          if (other.frozen) channels.held.push(deliver);
          else queueMicrotask(deliver);
        }
      }
      close() {
        channels.open.delete(this);
      }
    };
  }
  freeze(channel) {
    channel.frozen = true;
  }
  thaw(channel) {
    channel.frozen = false;
    for (const deliver of this.held.splice(0)) deliver();
  }
}

class Locks {
  queues = new Map();
  async request(name, { signal }, work) {
    signal?.throwIfAborted();
    const queue = this.queues.get(name) ?? [];
    this.queues.set(name, queue);
    await new Promise((resolve, reject) => {
      queue.push(resolve);
      if (queue[0] === resolve) return resolve();
      signal?.addEventListener('abort', () => {
        const at = queue.indexOf(resolve);
        if (at > 0) {
          queue.splice(at, 1);
          reject(signal.reason);
        }
      });
    });
    try {
      return await work({ name });
    } finally {
      queue.shift();
      queue[0]?.();
    }
  }
}

export class World {
  mono = 5_000.25;
  wall = Date.UTC(2026, 10, 23, 12);
  random = 0.5;
  timers = new Map();
  requests = [];
  life = 3600;
  user = 'alice'; // whose session the cookie is
  serve = async () => issue(`token-${this.requests.length}`, { expires_in: this.life, user_hash: `hash of ${this.user}` });
  window = new EventTarget();
  document = Object.assign(new EventTarget(), { baseURI: 'https://app.example.com/page' });
  channels = new Channels();
  locks = new Locks();
  warnings = [];

  install() {
    const before = {};
    const world = this;
    const globals = {
      setTimeout: (run, delay = 0) => {
        if (delay > 2 ** 31 - 1) throw new Error('a browser would run this timer at once');
        const id = Symbol();
        this.timers.set(id, { run, at: this.mono + Math.max(delay, 1) }); // browsers wait a millisecond at least
        return id;
      },
      clearTimeout: (id) => this.timers.delete(id),
      performance: { now: () => this.mono },
      document: this.document,
      navigator: { locks: this.locks },
      BroadcastChannel: this.channels.BroadcastChannel,
      addEventListener: (...args) => this.window.addEventListener(...args),
      fetch: (url, init) => {
        const request = { url, ...init, at: this.wall };
        this.requests.push(request);
        return new Promise((resolve, reject) => {
          init.signal.addEventListener('abort', () => reject(init.signal.reason));
          Promise.resolve(world.serve(request)).then(resolve, reject);
        });
      },
    };
    for (const [name, value] of Object.entries(globals)) {
      before[name] = Object.getOwnPropertyDescriptor(globalThis, name);
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    }
    const { random } = Math;
    const { warn } = console;
    Date.now = () => Math.floor(this.wall);
    Math.random = () => this.random;
    console.warn = (...args) => this.warnings.push(args);
    return () => {
      for (const [name, descriptor] of Object.entries(before)) {
        if (descriptor) Object.defineProperty(globalThis, name, descriptor);
        else delete globalThis[name];
      }
      Date.now = realNow;
      Math.random = random;
      console.warn = warn;
    };
  }

  // Time passes, and with it what is due.
  async pass(seconds) {
    const until = this.mono + seconds * 1000;
    await settle();
    for (;;) {
      const [id, due] = [...this.timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (!due || due.at > until) break;
      this.timers.delete(id);
      this.wall += Math.max(due.at - this.mono, 0);
      this.mono = Math.max(due.at, this.mono);
      due.run();
      await settle();
    }
    this.wall += until - this.mono;
    this.mono = until;
    await settle();
  }

  // The time that tabs take to hear of each other passes.
  async during(promise) {
    promise.catch(() => {});
    await this.pass(0.3);
    return promise;
  }

  // The laptop sleeps: the wall clock goes on, timers and the monotonic clock stand still.
  sleep(seconds) {
    this.wall += seconds * 1000;
  }

  async wake(type = 'visibilitychange') {
    (type === 'visibilitychange' ? this.document : this.window).dispatchEvent(new Event(type));
    await this.pass(0.06); // the time other tabs have to answer
  }

  // The page goes into the back-forward cache, and comes back.
  hide() {
    this.window.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: true }));
  }

  async show() {
    this.window.dispatchEvent(Object.assign(new Event('pageshow'), { persisted: true }));
    await this.pass(0.1);
  }

  // What the requests reported as refused by Sethealth.
  get reports() {
    return this.requests.map(({ body }) => body && JSON.parse(body).rejected);
  }
}

// One page's source, with all it was told.
export function open(keepSignedIn, options = {}) {
  const page = { tokens: [], infos: [], errors: [], signedOut: [] };
  page.source = keepSignedIn({
    url: 'https://tokens.example.com/token',
    onToken: (token, info) => {
      page.tokens.push(token);
      page.infos.push(info);
    },
    onError: (error) => page.errors.push(error),
    onSignedOut: (error) => page.signedOut.push(error),
    ...options,
  });
  return page;
}

// A test in a world of its own. An unhandled rejection fails it: node:test sees to that.
export const inWorld = (name, run) =>
  test(name, async () => {
    const world = new World();
    const restore = world.install();
    try {
      await run(world);
    } finally {
      restore();
    }
  });
