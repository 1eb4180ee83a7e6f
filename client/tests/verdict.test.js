// Answers that are not tokenvend's say nothing about the session.
import assert from 'node:assert/strict';
import { keepSignedIn } from '../client.js';
import { answer, inWorld, open, problem } from './world.js';

const json = { 'Content-Type': 'application/json' };
const foreign = {
  'a middlebox page with 403': () => new Response('<h1>Blocked</h1>', { status: 403 }),
  'a 401 with a body like ours in plain JSON': () => problem(401, 'unauthenticated', json),
  'a 401 of a proxy': () => new Response('', { status: 401 }),
  'a problem of another service': () => problem(401, 'login_required'),
  'a 404 of a router': () => new Response('', { status: 404 }),
  'a 404 that quotes our 403': () => answer({ status: 403, code: 'forbidden' }, { status: 404, headers: { 'Content-Type': 'application/problem+json' } }),
  'a 405': () => new Response('', { status: 405 }),
  'a 407': () => new Response('', { status: 407 }),
  'a 408': () => new Response('', { status: 408 }),
  'a 413': () => new Response('', { status: 413 }),
  'a 421': () => new Response('', { status: 421 }),
  'a 511 of a captive portal': () => new Response('<html>', { status: 511 }),
  'a 503 that asks for an hour': () => new Response('', { status: 503, headers: { 'Retry-After': '3600' } }),
  'problem details cut short': () => new Response('{"status":403,"code":"forbi', { status: 403, headers: { 'Content-Type': 'application/problem+json' } }),
};
for (const [what, make] of Object.entries(foreign)) {
  inWorld(`${what} is no verdict: the token stays, nobody is signed out, and it passes within seconds`, async (world) => {
    const pages = [open(keepSignedIn), open(keepSignedIn)];
    await world.pass(0.1);
    const { serve } = world;
    world.serve = async () => make();
    await assert.rejects(world.during(pages[0].source.refresh()), { code: `http_${make().status}` });
    for (const { source, signedOut } of pages) {
      assert.equal(await source.token(), 'token-1');
      assert.equal(signedOut.length, 0);
    }
    await world.pass(60);
    world.serve = serve;
    await world.pass(16);
    assert.equal(pages[0].source.state.status, 'signed-in');
    assert.equal(pages[0].errors.length, 1);
    pages.forEach((page) => assert.equal(page.tokens.length, 2));
  });
}
