// token(), refresh(), stop() and state.
import assert from 'node:assert/strict';
import { keepSignedIn } from '../client.js';
import { answer, inWorld, open, problem } from './world.js';

const start = async (world, options) => {
  const page = open(keepSignedIn, options);
  await world.pass(0.1);
  return page;
};

// pass lets time go by until the promise is settled.
const during = async (world, promise, seconds = 1) => {
  promise.catch(() => {});
  await world.pass(seconds);
  return promise;
};

inWorld('one request in flight, however many ask', async (world) => {
  const page = open(keepSignedIn);
  const all = [page.source.token(), page.source.token(), page.source.refresh(), page.source.refresh()];
  await world.pass(1);
  assert.deepEqual(await Promise.all(all), ['token-1', 'token-1', 'token-1', 'token-1']);
  assert.equal(world.requests.length, 1);
});

inWorld('token() answers from memory while the token lives', async (world) => {
  const page = await start(world);
  assert.equal(await page.source.token(), 'token-1');
  assert.equal(await page.source.token({ minLife: 3500 }), 'token-1');
  assert.equal(world.requests.length, 1);
});

inWorld('token({minLife}) asks the server for that life if the one in hand is too short', async (world) => {
  const page = await start(world);
  await world.pass(2000);
  assert.equal(await during(world, page.source.token({ minLife: 1800.2 })), 'token-2');
  assert.equal(world.requests[1].body, '{"min_life":1801}');
  assert.equal(world.requests[1].headers.get('Content-Type'), 'application/json');
  assert.deepEqual(page.tokens, ['token-1', 'token-2'], 'the SDK has it before token() resolves');
});

inWorld('token() resolves when onToken has', async (world) => {
  let done;
  const page = open(keepSignedIn, { onToken: () => new Promise((resolve) => { done = resolve; }) });
  let resolved = false;
  const promise = page.source.token().then(() => { resolved = true; });
  await world.pass(5);
  assert.equal(resolved, false);
  done();
  await promise;
});

inWorld('an onToken that never ends does not keep the next token away, nor stop() from ending a wait', async (world) => {
  let calls = 0;
  const page = open(keepSignedIn, { onToken: () => { calls++; return new Promise(() => {}); } });
  const first = page.source.token();
  first.catch(() => {});
  await world.pass(3000);
  assert.equal(calls, 2);
  page.source.stop();
  await assert.rejects(first, { code: 'stopped' });
});

inWorld('a minLife that the server does not give is refused, and the shorter token kept', async (world) => {
  const page = await start(world);
  world.life = 600;
  await assert.rejects(during(world, page.source.token({ minLife: 3599.99 })), { code: 'life_too_short' });
  assert.deepEqual(page.tokens, ['token-1', 'token-2']);
  assert.equal(await page.source.token(), 'token-2');
});

inWorld('a minLife is had if the answer gave it: the way from the server takes time too', async (world) => {
  world.life = 600;
  const page = await start(world);
  world.serve = (request) => new Promise((resolve) => setTimeout(() => {
    resolve(answer({ token: 'long', expires_in: JSON.parse(request.body).min_life })); // rounded down
  }, 900));
  assert.equal(await during(world, page.source.token({ minLife: 3599 })), 'long');
  assert.equal(await during(world, page.source.token({ minLife: 3590 })), 'long');
  assert.equal(world.requests.length, 2, 'the second is from memory');
});

inWorld('a minLife that the server calls wrong fails that call alone', async (world) => {
  const page = await start(world);
  const serve = world.serve;
  world.serve = async () => problem(400, 'invalid_request');
  await assert.rejects(during(world, page.source.token({ minLife: 99999 })), { code: 'invalid_request' });
  assert.equal(page.source.state.status, 'signed-in');
  assert.deepEqual(page.errors, []);
  world.serve = serve;
  await world.pass(3000);
  assert.equal(page.tokens.length, 2);
});

inWorld('two demands of different lives each get theirs', async (world) => {
  world.life = 100;
  const page = await start(world);
  world.serve = async ({ body }) => answer({ token: body, expires_in: 1 + JSON.parse(body).min_life });
  const [a, b] = [page.source.token({ minLife: 200 }), page.source.token({ minLife: 300 })];
  await world.pass(1);
  assert.deepEqual(await Promise.all([a, b]), ['{"min_life":200}', '{"min_life":300}']);
});

inWorld('a minLife that is no number of seconds is a TypeError', async (world) => {
  const page = await start(world);
  for (const minLife of [-1, NaN, Infinity, 'long']) {
    await assert.rejects(page.source.token({ minLife }), TypeError);
  }
});

inWorld('refresh() always asks the server', async (world) => {
  const page = await start(world);
  assert.equal(await page.source.refresh(), 'token-2');
  assert.deepEqual(page.tokens, ['token-1', 'token-2']);
});

inWorld('a token of unknown life is fetched again on demand only', async (world) => {
  world.serve = async () => answer({ token: `token-${world.requests.length}` });
  const page = await start(world);
  assert.equal(page.source.state.status, 'signed-in');
  assert.equal(page.source.state.expiresAt, undefined);
  assert.equal(page.source.state.nextFetchAt, undefined);
  await world.pass(90000);
  world.sleep(90000);
  await world.wake();
  assert.equal(await page.source.token(), 'token-1');
  assert.equal(world.requests.length, 1);
  await assert.rejects(during(world, page.source.token({ minLife: 10 })), { code: 'life_too_short' });
  assert.equal(await during(world, page.source.refresh()), 'token-3');
});

inWorld('state is a snapshot of plain values', async (world) => {
  const page = open(keepSignedIn);
  assert.equal(page.source.state.status, 'starting');
  await world.pass(0.1);
  const { state } = page.source;
  assert.equal(Math.round((state.expiresAt - world.wall) / 1000), 3600);
  assert.equal(Math.round((state.nextFetchAt - world.wall) / 1000), 2880);
  assert.deepEqual(Object.keys(state), ['status', 'expiresAt', 'nextFetchAt', 'lastError']);
});

inWorld('stop() in the middle of a request aborts it and leaves nothing running', async (world) => {
  world.serve = () => new Promise(() => {});
  const page = await start(world);
  const waiting = [page.source.token(), page.source.refresh()];
  waiting.forEach((promise) => promise.catch(() => {}));
  page.source.stop();
  page.source.stop();
  for (const promise of waiting) await assert.rejects(promise, { code: 'stopped' });
  assert.ok(world.requests[0].signal.aborted);
  await world.pass(7200);
  await world.wake();
  assert.equal(world.requests.length, 1);
  assert.deepEqual([page.tokens, page.errors, page.signedOut], [[], [], []]);
  assert.equal(page.source.state.status, 'stopped');
  assert.equal(world.timers.size, 0);
  assert.equal(world.channels.open.size, 0);
});

inWorld('an answer that comes after stop() reaches nobody', async (world) => {
  let reply;
  world.serve = () => new Promise((resolve) => { reply = resolve; });
  const page = await start(world);
  page.source.stop();
  reply(answer({ token: 'late', expires_in: 60 }));
  await world.pass(1);
  assert.deepEqual(page.tokens, []);
});

inWorld('stop() while headers() hangs leaves no timer', async (world) => {
  const page = await start(world, { headers: () => new Promise(() => {}) });
  page.source.stop();
  await world.pass(0.1);
  assert.equal(world.timers.size, 0);
});

inWorld('stop() before anything happened costs no request, as when React mounts twice', async (world) => {
  const page = open(keepSignedIn);
  page.source.stop();
  const again = open(keepSignedIn);
  await world.pass(1);
  assert.equal(world.requests.length, 1);
  assert.deepEqual([page.tokens, again.tokens], [[], ['token-1']]);
});

inWorld('stop() while all is well leaves no timer', async (world) => {
  const page = await start(world);
  page.source.stop();
  assert.equal(world.timers.size, 0);
});

inWorld('token({minLife}) resolves when onToken has the longer token', async (world) => {
  const had = [];
  const page = await start(world, { onToken: async (token) => {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    had.push(token);
  } });
  await world.pass(1800);
  const promise = page.source.token({ minLife: 3000 }).then((token) => assert.ok(had.includes(token)));
  await world.pass(5);
  await promise;
});

inWorld('an AbortSignal stops it, also one that is aborted already', async (world) => {
  const controller = new AbortController();
  const page = await start(world, { signal: controller.signal });
  controller.abort();
  assert.equal(page.source.state.status, 'stopped');
  await assert.rejects(page.source.token(), { code: 'stopped' });
  const late = await start(world, { signal: AbortSignal.abort() });
  assert.equal(late.source.state.status, 'stopped');
  assert.equal(world.requests.length, 1);
});

inWorld('onToken may stop the source', async (world) => {
  const page = open(keepSignedIn, { onToken: () => page.source.stop() });
  await world.pass(1);
  assert.equal(page.source.state.status, 'stopped');
  assert.equal(world.timers.size, 0);
});
