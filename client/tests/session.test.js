// A session that changes: a refused token, a refused bearer, another user, a page that comes back.
import assert from 'node:assert/strict';
import { keepSignedIn } from '../client.js';
import { idOf, inWorld, issue, open, problem } from './world.js';

const start = async (world, options) => {
  const page = open(keepSignedIn, options);
  await world.pass(0.1);
  return page;
};
const codes = (page) => page.signedOut.map((error) => error.code);
const outage = async () => problem(503, 'upstream_unavailable');

// A token server that has issued one token to each user and keeps to it until it is reported.
const caching = (world) => {
  let n = 1;
  world.serve = async ({ body }) => {
    if (body && JSON.parse(body).rejected === idOf(`token-${n}`)) n++;
    return issue(`token-${n}`, { user_hash: `hash of ${world.user}` });
  };
};

inWorld('refresh() reports the token in hand, and a new one comes for all tabs by one request', async (world) => {
  caching(world);
  const pages = [await start(world), await start(world), await start(world)];
  const before = world.requests.length;
  const all = Promise.all(pages.map(({ source }) => source.refresh()));
  await world.pass(0.1);
  assert.deepEqual(await all, ['token-2', 'token-2', 'token-2']);
  assert.deepEqual(world.reports.slice(before), [idOf('token-1')]);
  for (const page of pages) assert.deepEqual(page.tokens, ['token-1', 'token-2']);
});

inWorld('a tab that hears of the refusal a moment later takes what another tab was given', async (world) => {
  caching(world);
  const pages = [await start(world), await start(world)];
  await world.during(pages[0].source.refresh());
  await world.pass(0.5);
  assert.equal(await world.during(pages[1].source.refresh()), 'token-2');
  assert.equal(world.requests.length, 3);
  await world.pass(1);
  assert.equal(await world.during(pages[1].source.refresh()), 'token-3', 'later it speaks of the new one');
});

inWorld('refresh() during a request that does not report the token asks once more', async (world) => {
  caching(world);
  const { serve } = world;
  world.serve = (request) => new Promise((resolve) => setTimeout(() => resolve(serve(request)), 500));
  const page = open(keepSignedIn);
  await world.pass(3600 * 0.8 + 0.6); // the request ahead of the end is on its way
  const fresh = page.source.refresh();
  await world.pass(2);
  assert.equal(await fresh, 'token-2');
  assert.deepEqual(world.reports, [undefined, undefined, idOf('token-1')]);
});

inWorld('while the server cannot replace it, refresh() rejects, the token stays, and each try reports it', async (world) => {
  caching(world);
  const { serve } = world;
  const page = await start(world);
  world.serve = outage;
  await assert.rejects(page.source.refresh(), { code: 'upstream_unavailable' });
  assert.equal(await page.source.token(), 'token-1');
  await world.pass(20);
  world.serve = serve;
  await world.pass(8);
  assert.deepEqual(page.tokens, ['token-1', 'token-2']);
  assert.ok(world.reports.slice(1).every((id) => id === idOf('token-1')));
});

inWorld('a server that gives the refused token again has not replaced it', async (world) => {
  world.serve = async () => issue('token-1');
  const page = await start(world);
  await assert.rejects(page.source.refresh(), { code: 'not_replaced' });
  assert.deepEqual(page.tokens, ['token-1']);
  assert.equal(await page.source.token(), 'token-1');
});

inWorld('a token that comes again is not given as new', async (world) => {
  world.serve = async () => issue('token-1');
  const page = await start(world);
  await world.pass(3000);
  assert.ok(world.requests.length > 1);
  assert.deepEqual(page.tokens, ['token-1']);
});

inWorld('a refused token is not shared with a tab that opens', async (world) => {
  caching(world);
  const page = await start(world, { user: 'alice' });
  world.serve = outage;
  await assert.rejects(page.source.refresh());
  const late = await start(world, { user: 'alice' });
  assert.deepEqual(late.tokens, []);
});

inWorld('refresh() right after a Retry-After makes a request', async (world) => {
  const page = await start(world);
  const { serve } = world;
  world.random = 0.999;
  world.serve = async () => problem(503, 'upstream_unavailable', { 'Retry-After': '2' });
  await assert.rejects(page.source.refresh());
  await assert.rejects(page.source.refresh(), { retryAfter: 2 });
  assert.equal(world.requests.length, 2, 'refused without a request');
  await world.pass(2);
  world.serve = serve;
  assert.equal(await page.source.refresh(), 'token-3');
});

inWorld('a bearer that is refused is asked for once more, as refused', async (world) => {
  const asked = [];
  let bearer = 'old';
  world.serve = async ({ headers }) =>
    (headers.get('Authorization') === 'new' ? issue('token') : problem(401, 'unauthenticated'));
  const headers = ({ refused }) => {
    asked.push(refused);
    if (refused) bearer = 'new';
    return { Authorization: bearer };
  };
  const page = await start(world, { headers });
  assert.deepEqual(page.tokens, ['token']);
  assert.deepEqual(asked, [false, true]);
});

for (const [what, given, requests] of [['the same', () => ({ Authorization: 'a' }), 1], ['another that is refused too', ({ refused }) => ({ Authorization: String(refused) }), 2]]) {
  inWorld(`signed out where the bearer given for a refused one is ${what}`, async (world) => {
    world.serve = async () => problem(401, 'unauthenticated');
    const page = await start(world, { headers: given });
    assert.deepEqual(codes(page), ['unauthenticated']);
    assert.equal(world.requests.length, requests);
  });
}

inWorld('headers({ refused: true }) that throws is tried again, and signs nobody out', async (world) => {
  let broken = true;
  world.serve = async ({ headers }) =>
    (headers.get('Authorization') === 'new' ? issue('token') : problem(401, 'unauthenticated'));
  const page = await start(world, { headers: ({ refused }) => {
    if (refused && broken) throw new Error('identity provider is down');
    return { Authorization: refused ? 'new' : 'old' };
  } });
  assert.deepEqual([page.errors.map((error) => error.code), codes(page)], [['headers_failed'], []]);
  broken = false;
  await world.pass(3);
  assert.deepEqual(page.tokens, ['token']);
});

inWorld('a 401 that is not tokenvend\'s asks for no other bearer', async (world) => {
  const asked = [];
  world.serve = async () => new Response('', { status: 401 });
  await start(world, { headers: ({ refused }) => { asked.push(refused); } });
  assert.deepEqual(asked, [false]);
});

inWorld('an answer for another user ends the source in every tab, and its token goes to nobody', async (world) => {
  const pages = [await start(world), await start(world), await start(world, { user: 'me' })];
  world.user = 'bob';
  await assert.rejects(world.during(pages[0].source.refresh()), { code: 'user_changed' });
  await world.pass(1);
  for (const page of pages) {
    assert.deepEqual(codes(page), ['user_changed']);
    assert.equal(page.source.state.status, 'signed-out');
    await assert.rejects(page.source.token(), { code: 'user_changed' });
    assert.ok(!page.tokens.includes(`token-${world.requests.length}`));
  }
  assert.equal(world.timers.size, 0);
});

inWorld('where somebody else signs in and opens a page, the other tabs are signed out', async (world) => {
  const old = await start(world);
  world.user = 'bob';
  const fresh = await start(world);
  assert.deepEqual(codes(old), ['user_changed']);
  assert.deepEqual([fresh.tokens, fresh.source.state.status], [['token-2'], 'signed-in']);
});

inWorld('the user is remembered when the token has expired', async (world) => {
  const page = await start(world);
  world.user = 'bob';
  world.sleep(7200);
  await world.wake();
  assert.deepEqual([codes(page), page.tokens], [['user_changed'], ['token-1']]);
});

inWorld('news that is older than the token in hand changes nothing', async (world) => {
  const old = await start(world);
  world.channels.freeze([...world.channels.open][0]);
  world.user = 'bob';
  const fresh = await start(world);
  const { serve } = world;
  world.serve = async () => issue('late', { user_hash: 'hash of alice' }); // asked before bob signed in, as it were
  [...world.channels.open][0].postMessage({ token: 'late', hash: 'hash of alice', at: Date.now(), age: 5000, left: 3e6 });
  await world.pass(0.1);
  assert.equal(fresh.source.state.status, 'signed-in');
  world.serve = serve;
  await assert.rejects(world.during(old.source.refresh()), { code: 'user_changed' });
});

inWorld('where a page names another user, the token is withheld until the server has been asked', async (world) => {
  const old = await start(world, { user: 'alice' });
  world.serve = outage;
  const fresh = await start(world, { user: 'bob' });
  await world.pass(2);
  await assert.rejects(old.source.token(), { code: 'upstream_unavailable' });
  assert.equal(old.source.state.status, 'retrying');
  assert.deepEqual(fresh.tokens, []);
});

inWorld('a bearer\'s change of user makes the tabs of the old user ask', async (world) => {
  let user = 'alice';
  world.serve = async ({ headers }) => issue(`token-${world.requests.length}`, { user_hash: headers.get('Authorization') });
  const carol = await start(world, { headers: () => ({ Authorization: 'carol' }) });
  const pages = [await start(world, { headers: () => ({ Authorization: user }) }), await start(world, { headers: () => ({ Authorization: user }) })];
  user = 'bob';
  await assert.rejects(world.during(pages[1].source.refresh()), { code: 'user_changed' });
  await world.pass(1);
  assert.deepEqual(codes(pages[0]), ['user_changed']);
  assert.equal(carol.source.state.status, 'signed-in');
});

inWorld('from pagehide on the token is withheld, and on the way back the server is asked first', async (world) => {
  const page = await start(world);
  world.hide();
  assert.equal(world.channels.open.size, 0, 'an open channel keeps a page out of the back-forward cache');
  assert.equal(page.source.state.expiresAt, undefined);
  const waiting = page.source.token();
  await world.pass(60);
  assert.equal(world.requests.length, 1);
  world.serve = async () => issue('token-1', { user_hash: 'hash of alice' });
  await world.show();
  assert.equal(await waiting, 'token-1');
  assert.equal(world.requests.length, 2);
  assert.deepEqual([page.tokens, page.errors, page.signedOut], [['token-1'], [], []], 'nothing has changed');
  assert.equal(world.channels.open.size, 1);
});

for (const [what, change, expected] of [
  ['a session that is gone', (world) => { world.serve = async () => problem(401, 'unauthenticated'); }, 'unauthenticated'],
  ['another user', (world) => { world.user = 'bob'; }, 'user_changed'],
]) {
  inWorld(`a page that comes back to ${what} is signed out`, async (world) => {
    const page = await start(world);
    world.hide();
    change(world);
    await world.show();
    assert.deepEqual([codes(page), page.tokens], [[expected], ['token-1']]);
  });
}

inWorld('a page that comes back while the server is down has no token, is not signed out, and recovers', async (world) => {
  const page = await start(world);
  const { serve } = world;
  world.hide();
  world.serve = outage;
  await world.show();
  await assert.rejects(page.source.token(), { code: 'upstream_unavailable' });
  assert.equal(page.source.state.status, 'retrying');
  assert.deepEqual(page.signedOut, []);
  world.serve = serve;
  await world.pass(8);
  assert.equal(await page.source.token(), page.tokens.at(-1));
});

inWorld('a page that comes back takes no older token from another tab', async (world) => {
  const page = await start(world, { user: 'alice' });
  world.hide();
  const other = await start(world, { user: 'alice' });
  await world.pass(10);
  world.user = 'bob';
  await world.show();
  assert.deepEqual([codes(page), codes(other)], [['user_changed'], ['user_changed']]);
});

inWorld('a page that leaves during a request asks again when it is back', async (world) => {
  const { serve } = world;
  world.serve = () => new Promise(() => {});
  const page = open(keepSignedIn);
  const waiting = [page.source.token(), page.source.refresh()];
  await world.pass(1);
  world.hide();
  assert.ok(world.requests[0].signal.aborted);
  world.serve = serve;
  await world.pass(10);
  await world.show();
  assert.deepEqual(await Promise.all(waiting), ['token-2', 'token-2']);
  assert.deepEqual(page.errors, []);
});

inWorld('stop() while the page is away ends a wait', async (world) => {
  const page = await start(world);
  world.hide();
  const waiting = page.source.token();
  page.source.stop();
  await assert.rejects(waiting, { code: 'stopped' });
  await world.show();
  assert.equal(world.requests.length, 1);
});
