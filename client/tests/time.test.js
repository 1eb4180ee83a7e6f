// When a new token is fetched, whatever the clocks do.
import assert from 'node:assert/strict';
import { keepSignedIn } from '../client.js';
import { inWorld, open, problem } from './world.js';

const start = async (world, options) => {
  const page = open(keepSignedIn, options);
  await world.pass(0.1);
  return page;
};

for (const [random, share] of [[0, 0.75], [0.999, 0.85]]) {
  inWorld(`a new token comes at ${share} of the life when the dice say ${random}`, async (world) => {
    world.random = random;
    const page = await start(world);
    await world.pass(3600 * (share - 0.01));
    assert.equal(page.tokens.length, 1);
    await world.pass(3600 * 0.02);
    assert.equal(page.tokens.length, 2);
  });
}

inWorld('a day goes by without a second in which the token in hand has expired', async (world) => {
  const page = await start(world);
  for (let minute = 0; minute < 24 * 60; minute++) {
    await world.pass(60);
    assert.ok(page.source.state.expiresAt > world.wall, `minute ${minute}`);
  }
  assert.ok(world.requests.length <= 33, `${world.requests.length} requests`);
});

inWorld('a life of many days needs no timer longer than a browser has', async (world) => {
  world.life = 90 * 86400;
  const page = await start(world);
  await world.pass(3600);
  assert.equal(page.tokens.length, 1);
});

inWorld('a life of a second does not make a storm', async (world) => {
  world.life = 1;
  await start(world);
  await world.pass(60);
  assert.ok(world.requests.length <= 61, `${world.requests.length} requests`);
});

for (const event of ['visibilitychange', 'online', 'pageshow']) {
  inWorld(`after a sleep ${event} fetches a new token at once`, async (world) => {
    const page = await start(world);
    world.sleep(8 * 3600);
    await world.wake(event);
    assert.deepEqual(page.tokens, ['token-1', 'token-2']);
  });
}

inWorld('after a sleep that no event told of, the next look at the clocks finds out', async (world) => {
  const page = await start(world);
  world.sleep(8 * 3600);
  await world.pass(16);
  assert.equal(page.tokens.length, 2);
});

inWorld('token() right after a sleep waits for a valid token', async (world) => {
  const page = await start(world);
  world.sleep(3601);
  assert.equal(page.source.state.status, 'starting');
  const promise = page.source.token();
  await world.pass(0.1);
  assert.equal(await promise, 'token-2');
});

inWorld('a short sleep changes nothing', async (world) => {
  const page = await start(world);
  world.sleep(600);
  await world.wake();
  assert.equal(page.tokens.length, 1);
  await world.pass(2300);
  assert.equal(page.tokens.length, 2, 'the sleep counts as life');
});

inWorld('a wall clock set back does not prolong a life', async (world) => {
  const page = await start(world);
  world.wall -= 86400e3;
  await world.pass(2900);
  assert.equal(page.tokens.length, 2);
});

inWorld('a wall clock set back, and then a sleep, does not prolong a life either', async (world) => {
  const page = await start(world);
  world.wall -= 86400e3;
  await world.pass(30);
  world.sleep(3600);
  await world.wake();
  assert.equal(page.tokens.length, 2);
});

inWorld('a wall clock that was always wrong does not matter', async (world) => {
  world.wall = 0;
  const page = await start(world);
  assert.equal(await page.source.token({ minLife: 3500 }), 'token-1');
  assert.equal(world.requests.length, 1);
});

inWorld('a wall clock that leaps ahead costs one early request, not a storm', async (world) => {
  const page = await start(world);
  world.wall += 365 * 86400e3;
  await world.pass(600);
  assert.equal(page.tokens.length, 2);
});

inWorld('asking for the state at every frame does not eat the life', async (world) => {
  const page = await start(world);
  const { mono } = world;
  while (world.mono < mono + 60_000) {
    // Clocks as coarse as a browser that resists fingerprinting has them, stepping out of phase.
    world.mono += 8;
    world.wall += 8;
    page.source.state;
    const { now } = performance;
    performance.now = () => Math.floor(world.mono / 100) * 100;
    page.source.state;
    performance.now = now;
  }
  const left = (page.source.state.expiresAt - world.wall) / 1000;
  assert.ok(left > 3530 && left <= 3541, `${left} s left`);
});

inWorld('a slow answer shortens the life that is left, not lengthens it', async (world) => {
  const { serve } = world;
  world.serve = (request) => new Promise((resolve) => setTimeout(() => resolve(serve(request)), 9000));
  const page = await start(world);
  await world.pass(9);
  assert.ok((page.source.state.expiresAt - world.wall) / 1000 < 3591.1);
});

inWorld('pauses double, never go over eight seconds, and are drawn at random', async (world) => {
  world.random = 0.999;
  world.serve = async () => problem(503, 'overloaded');
  await start(world);
  await world.pass(60);
  const gaps = world.requests.slice(1).map((r, i) => Math.round((r.at - world.requests[i].at) / 1000));
  assert.deepEqual(gaps.slice(0, 5), [2, 4, 8, 8, 8]);
});

inWorld('after a success pauses begin anew', async (world) => {
  const { serve } = world;
  const outage = async () => problem(503, 'overloaded');
  world.serve = outage;
  const page = await start(world);
  await world.pass(100);
  world.serve = serve;
  await world.pass(60);
  assert.equal(page.tokens.length, 1);
  world.serve = outage;
  await assert.rejects(page.source.refresh());
  assert.ok(page.source.state.nextFetchAt - world.wall <= 2000);
});
