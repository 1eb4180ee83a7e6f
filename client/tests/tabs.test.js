// Many tabs of one origin.
import assert from 'node:assert/strict';
import { keepSignedIn } from '../client.js';
import { answer, inWorld, issue, open, problem } from './world.js';

const alice = { user: 'alice' };
const bob = { user: 'bob' };
const channelOf = (world, n) => [...world.channels.open][n];

inWorld('tabs that open together make one request', async (world) => {
  const pages = [open(keepSignedIn), open(keepSignedIn), open(keepSignedIn)];
  await world.pass(1);
  assert.equal(world.requests.length, 1);
  for (const page of pages) assert.deepEqual(page.tokens, ['token-1']);
  assert.deepEqual(pages.map((page) => page.infos[0].fromTab), [false, true, true]);
});

inWorld('tabs that wait for a slow server are told, not kept waiting for their turn', async (world) => {
  const { serve } = world;
  world.serve = (request) => new Promise((resolve) => setTimeout(() => resolve(serve(request)), 3000));
  const pages = [open(keepSignedIn), open(keepSignedIn)];
  await world.pass(3.2);
  assert.equal(world.requests.length, 1);
  for (const page of pages) assert.deepEqual(page.tokens, ['token-1']);
});

inWorld('a new tab of the same user is given the valid token, with its true life', async (world) => {
  open(keepSignedIn, alice);
  await world.pass(1800);
  const second = open(keepSignedIn, alice);
  await world.pass(0.1);
  assert.deepEqual(second.tokens, ['token-1']);
  assert.equal(world.requests.length, 1);
  assert.equal(Math.round((second.source.state.expiresAt - world.wall) / 1000), 1800);
});

inWorld('a new tab that does not say who its user is takes no token from before it was there', async (world) => {
  world.serve = async () => issue(`of ${world.user}`);
  open(keepSignedIn);
  await world.pass(0.5);
  world.user = 'bob';
  const second = open(keepSignedIn);
  await world.pass(1);
  assert.deepEqual(second.tokens, ['of bob']);
});

inWorld('a request in flight when such a tab opens may be another user\'s too', async (world) => {
  world.serve = () => {
    const token = `of ${world.user}`;
    return new Promise((resolve) => setTimeout(() => resolve(issue(token)), 2000));
  };
  open(keepSignedIn);
  await world.pass(1);
  world.user = 'bob';
  const second = open(keepSignedIn);
  await world.pass(10);
  assert.deepEqual(second.tokens, ['of bob']);
});

inWorld('tabs that do not say who their user is share what is fetched from then on', async (world) => {
  const pages = [open(keepSignedIn)];
  await world.pass(1);
  pages.push(open(keepSignedIn));
  await world.pass(3000);
  assert.equal(world.requests.length, 3);
  assert.equal(pages[0].tokens.at(-1), 'token-3');
  assert.equal(pages[1].tokens.at(-1), 'token-3');
});

inWorld('of all tabs one refreshes, and all are told', async (world) => {
  const pages = [open(keepSignedIn, alice), open(keepSignedIn, alice), open(keepSignedIn, alice)];
  await world.pass(3000);
  assert.equal(world.requests.length, 2);
  for (const page of pages) assert.deepEqual(page.tokens, ['token-1', 'token-2']);
});

inWorld('what one tab fetches reaches the others at once', async (world) => {
  const pages = [open(keepSignedIn, alice), open(keepSignedIn, alice)];
  await world.pass(100);
  await world.during(pages[0].source.refresh());
  await world.pass(0);
  assert.deepEqual(pages[1].tokens, ['token-1', 'token-2']);
});

inWorld('tabs of different users never share', async (world) => {
  world.serve = async ({ headers }) => answer({ token: `of ${headers.get('Authorization')}`, expires_in: 3600 });
  const of = (user) => open(keepSignedIn, { user, headers: () => ({ Authorization: user }) });
  const pages = [of('alice'), of('bob'), of('alice'), of('bob')];
  await world.pass(3000);
  pages.forEach((page, i) => assert.deepEqual([...new Set(page.tokens)], [`of ${['alice', 'bob'][i % 2]}`]));
  assert.equal(world.requests.length, 4);
});

inWorld('bearer sessions that do not say who their user is share once the server has', async (world) => {
  world.serve = async ({ headers }) => issue(`token-${world.requests.length}`, { user_hash: headers.get('Authorization') });
  const pages = ['a', 'a', 'b'].map((hash) => open(keepSignedIn, { headers: () => ({ Authorization: hash }) }));
  await world.pass(1);
  assert.equal(world.requests.length, 3, 'until the first answer nothing is known');
  await world.during(pages[0].source.refresh());
  await world.pass(0.1);
  assert.deepEqual(pages.map((page) => page.tokens), [['token-1', 'token-4'], ['token-2'], ['token-3']], 'a token of one\'s own stays');
  await world.pass(3000);
  assert.equal(pages[0].tokens.at(-1), pages[1].tokens.at(-1));
  assert.ok(!pages[2].tokens.includes(pages[0].tokens.at(-1)));
});

inWorld('pages that name the same user differently share all the same', async (world) => {
  const pages = [open(keepSignedIn, { user: '42' }), open(keepSignedIn, { user: 'alice@example.com' })];
  await world.pass(3);
  assert.deepEqual(pages.map((page) => page.source.state.status), ['signed-in', 'signed-in']);
  await world.pass(3000);
  assert.equal(pages[0].tokens.at(-1), pages[1].tokens.at(-1));
});

inWorld('signOut() takes the token away in every tab of the user', async (world) => {
  const pages = [open(keepSignedIn, alice), open(keepSignedIn, alice)];
  await world.pass(1);
  pages[0].source.signOut();
  await world.pass(1);
  assert.deepEqual(pages.map((page) => page.source.state.status), ['signed-out', 'signed-out']);
  assert.deepEqual(pages.map((page) => page.signedOut.map((e) => e.code)), [[], ['signed_out_elsewhere']]);
  await world.pass(7200);
  assert.equal(world.requests.length, 1);
});

inWorld('a 401 for the shared cookie is a sign-out in every tab, once each', async (world) => {
  const pages = [open(keepSignedIn), open(keepSignedIn), open(keepSignedIn)];
  await world.pass(1);
  world.serve = async () => problem(401, 'unauthenticated');
  await assert.rejects(world.during(pages[1].source.refresh()), { status: 401 });
  await world.pass(7200);
  assert.deepEqual(pages.map((page) => page.signedOut.length), [1, 1, 1]);
  assert.equal(world.requests.length, 2);
});

inWorld('a 401 for one tab\'s bearer is that tab\'s alone', async (world) => {
  const pages = [0, 1].map(() => open(keepSignedIn, { ...alice, headers: () => ({}) }));
  await world.pass(1);
  world.serve = async () => problem(401, 'unauthenticated');
  await assert.rejects(world.during(pages[1].source.refresh()), { status: 401 });
  await world.pass(1);
  assert.deepEqual(pages.map((page) => page.source.state.status), ['signed-in', 'signed-out']);
});

inWorld('stop() ends one tab and leaves the others', async (world) => {
  const pages = [open(keepSignedIn, alice), open(keepSignedIn, alice)];
  await world.pass(1);
  pages[0].source.stop();
  await world.pass(3000);
  assert.deepEqual(pages[1].tokens, ['token-1', 'token-2']);
});

inWorld('a frozen tab that holds the lock keeps the others waiting for five seconds, no longer', async (world) => {
  world.locks.request('tokenvend2 cookie https://tokens.example.com/token', {}, () => new Promise(() => {}));
  const page = open(keepSignedIn, alice);
  await world.pass(4.9);
  assert.equal(world.requests.length, 0);
  await world.pass(0.3);
  assert.deepEqual(page.tokens, ['token-1']);
});

inWorld('who waits behind a frozen tab is served by one that went ahead', async (world) => {
  world.locks.request('tokenvend2 cookie https://tokens.example.com/token', {}, () => new Promise(() => {}));
  open(keepSignedIn, alice);
  await world.pass(3);
  const second = open(keepSignedIn, alice);
  let token;
  second.source.token().then((value) => { token = value; });
  await world.pass(2.2);
  assert.equal(token, 'token-1');
});

inWorld('stop() ends the wait for the lock', async (world) => {
  world.locks.request('tokenvend2 cookie https://tokens.example.com/token', {}, () => new Promise(() => {}));
  const page = open(keepSignedIn, alice);
  const waiting = page.source.token();
  waiting.catch(() => {});
  await world.pass(1);
  page.source.stop();
  await assert.rejects(waiting, { code: 'stopped' });
  await world.pass(60);
  assert.equal(world.requests.length, 0);
  assert.equal(world.timers.size, 0);
});

inWorld('a message that waited for a frozen tab is as old as it is', async (world) => {
  world.life = 100;
  const pages = [open(keepSignedIn, alice), open(keepSignedIn, alice)];
  await world.pass(1);
  world.channels.freeze(channelOf(world, 1));
  await world.during(pages[0].source.refresh());
  world.sleep(200);
  world.channels.thaw(channelOf(world, 1));
  assert.deepEqual(pages[1].tokens, ['token-1'], 'token-2 is dead by now');
});

inWorld('a shorter life than the one in hand is not taken', async (world) => {
  const pages = [open(keepSignedIn, alice), open(keepSignedIn, alice)];
  await world.pass(1);
  world.life = 60;
  const longer = pages[0].source.token({ minLife: 3600 }).catch(() => {});
  await world.pass(1);
  await longer;
  assert.equal(pages[0].tokens.length, 2);
  assert.deepEqual(pages[1].tokens, ['token-1']);
});

inWorld('a token of unknown life is not shared', async (world) => {
  world.serve = async () => answer({ token: `token-${world.requests.length}` });
  const pages = [open(keepSignedIn, alice), open(keepSignedIn, alice)];
  await world.pass(1);
  assert.deepEqual(pages.map((page) => page.tokens), [['token-1'], ['token-2']]);
});

inWorld('different token servers are different sources', async (world) => {
  const pages = ['/a', '/b'].map((url) => open(keepSignedIn, { ...alice, url }));
  await world.pass(1);
  assert.deepEqual(pages.map((page) => page.tokens), [['token-1'], ['token-2']]);
});

for (const [what, change] of Object.entries({
  'no BroadcastChannel': () => { globalThis.BroadcastChannel = undefined; },
  'a BroadcastChannel that throws': () => {
    globalThis.BroadcastChannel = class { constructor() { throw new DOMException('opaque', 'SecurityError'); } };
  },
  'no navigator': () => { globalThis.navigator = undefined; },
  'no locks': () => { globalThis.navigator = {}; },
  'locks that refuse': (world) => { world.locks.request = async () => { throw new DOMException('opaque', 'SecurityError'); }; },
  'no document': () => { globalThis.document = undefined; },
})) {
  inWorld(`each tab works alone where there is ${what}`, async (world) => {
    change(world);
    const pages = [open(keepSignedIn, alice), open(keepSignedIn, alice)];
    await world.pass(3000);
    for (const page of pages) {
      assert.ok(page.tokens.length >= 2);
      assert.deepEqual(page.errors, []);
      page.source.signOut();
    }
  });
}
