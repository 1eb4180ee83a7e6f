// What the module makes of each answer.
import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { keepSignedIn, TokenError } from '../client.js';
import { answer, inWorld, open, problem } from './world.js';

const start = async (world, options) => {
  const page = open(keepSignedIn, options);
  await world.pass(0.1);
  return page;
};

inWorld('one call is enough: a token is fetched and handed to onToken', async (world) => {
  const page = await start(world);
  assert.deepEqual(page.tokens, ['token-1']);
  assert.equal(page.source.state.status, 'signed-in');
  const [request] = world.requests;
  assert.equal(request.method, 'POST');
  assert.equal(request.url, 'https://tokens.example.com/token');
  assert.equal(request.credentials, 'include');
  assert.equal(request.redirect, 'error');
  assert.equal(request.body, undefined);
  assert.deepEqual([...request.headers], [], 'a request with a cookie alone needs no preflight');
});

inWorld('a relative url is the page\'s own origin', async (world) => {
  await start(world, { url: '/token' });
  assert.equal(world.requests[0].url, 'https://app.example.com/token');
});

inWorld('wrong options are said at once', async () => {
  assert.throws(() => keepSignedIn({ url: '/token' }), /onToken/);
  assert.throws(() => keepSignedIn({ onToken() {} }), { name: 'TypeError', message: /url/ });
  assert.throws(() => keepSignedIn({ url: 'http://[', onToken() {} }), /Invalid URL/);
});

inWorld('bearer sessions: headers() is asked before each request, and no cookie goes elsewhere', async (world) => {
  let calls = 0;
  const page = await start(world, { headers: async () => ({ Authorization: `Bearer b${++calls}` }) });
  await page.source.refresh();
  assert.deepEqual(world.requests.map((r) => r.headers.get('Authorization')), ['Bearer b1', 'Bearer b2']);
  assert.equal(world.requests[0].credentials, 'same-origin');
});

inWorld('credentials can be chosen', async (world) => {
  await start(world, { credentials: 'omit' });
  assert.equal(world.requests[0].credentials, 'omit');
});

inWorld('headers() that throws is tried again', async (world) => {
  let broken = true;
  const cause = new Error('no session yet');
  const headers = () => {
    if (broken) throw cause;
  };
  const page = await start(world, { headers });
  assert.equal(page.errors[0].code, 'headers_failed');
  assert.equal(page.errors[0].cause, cause);
  assert.equal(world.requests.length, 0);
  broken = false;
  await world.pass(3);
  assert.deepEqual(page.tokens, ['token-1']);
});

inWorld('401 is onSignedOut once, and the end', async (world) => {
  world.serve = async () => problem(401, 'unauthenticated');
  const page = await start(world);
  await world.pass(7200);
  await world.wake();
  await world.wake('online');
  assert.equal(world.requests.length, 1);
  assert.equal(page.signedOut.length, 1);
  assert.equal(page.errors.length, 0);
  assert.equal(page.source.state.status, 'signed-out');
  await assert.rejects(page.source.token(), { code: 'unauthenticated', status: 401 });
  await assert.rejects(page.source.refresh(), { code: 'unauthenticated' });
});

inWorld('401 later takes the valid token away', async (world) => {
  const page = await start(world);
  world.serve = async () => problem(401, 'unauthenticated');
  await assert.rejects(page.source.refresh(), { status: 401 });
  await assert.rejects(page.source.token(), { status: 401 });
  assert.equal(page.source.state.expiresAt, undefined);
});

for (const [status, code] of [[400, 'invalid_request'], [403, 'forbidden'], [403, 'origin_not_allowed'], [404, 'not_found'], [405, 'method_not_allowed'], [413, 'request_too_large'], [415, 'unsupported_media_type']]) {
  inWorld(`${status} ${code} is onError once, and the end`, async (world) => {
    world.serve = async () => problem(status, code);
    const page = await start(world);
    await world.pass(7200);
    assert.equal(world.requests.length, 1);
    assert.equal(page.errors.length, 1);
    assert.equal(page.signedOut.length, 0);
    const [error] = page.errors;
    assert.ok(error instanceof TokenError && error instanceof Error);
    assert.deepEqual([error.code, error.status, error.requestId], [code, status, `req-${code}`]);
    assert.equal(page.source.state.status, 'failed');
    await assert.rejects(page.source.token(), { code });
  });
}

for (const [status, code] of [[429, 'rate_limited'], [500, 'internal'], [502, 'upstream_rejected'], [502, 'upstream_invalid'], [503, 'upstream_unavailable'], [503, 'session_check_unavailable'], [503, 'overloaded'], [503, 'not_ready'], [504, 'upstream_timeout']]) {
  inWorld(`${status} ${code} keeps the valid token and goes on trying`, async (world) => {
    const page = await start(world);
    const serve = world.serve;
    world.serve = async () => problem(status, code);
    await world.pass(3000); // 0.8 of the life is at 2880 s
    assert.equal(page.source.state.status, 'retrying');
    assert.equal(await page.source.token(), 'token-1', 'it lives for another 600 s');
    const tries = world.requests.length - 1;
    assert.ok(tries >= 15 && tries <= 40, `tries back off: ${tries} in 120 s`);
    assert.equal(page.errors.length, 1, 'an episode is told once');
    assert.equal(page.errors[0].code, code);
    world.serve = serve;
    await world.pass(8);
    assert.equal(page.tokens.length, 2, 'seconds after the server is back');
    assert.equal(page.source.state.status, 'signed-in');
    assert.equal(page.source.state.lastError, undefined);
  });
}

inWorld('a token that died in an outage is not handed out', async (world) => {
  const page = await start(world);
  world.serve = async () => problem(503, 'upstream_unavailable');
  await world.pass(3601);
  await assert.rejects(page.source.token(), { code: 'upstream_unavailable', status: 503 });
  assert.equal(page.source.state.expiresAt, undefined);
});

inWorld('an outage that changes its face is told again, and a new episode too', async (world) => {
  const serve = world.serve;
  world.serve = async () => problem(503, 'upstream_unavailable');
  const page = await start(world);
  world.serve = async () => problem(504, 'upstream_timeout');
  await world.pass(10);
  world.serve = serve;
  await world.pass(60);
  assert.equal(page.tokens.length, 1);
  world.serve = async () => problem(504, 'upstream_timeout');
  await assert.rejects(page.source.refresh());
  assert.deepEqual(page.errors.map((e) => e.code), ['upstream_unavailable', 'upstream_timeout', 'upstream_timeout']);
});

inWorld('Retry-After is honoured by the timer, token() and refresh()', async (world) => {
  world.random = 0;
  world.serve = async () => problem(429, 'rate_limited', { 'Retry-After': '30' });
  const page = await start(world);
  assert.equal(page.errors[0].retryAfter, 30);
  await assert.rejects(page.source.token(), { code: 'rate_limited', retryAfter: 30 });
  await assert.rejects(page.source.refresh(), { code: 'rate_limited' });
  await world.wake();
  await world.wake('online');
  await world.pass(29);
  assert.equal(world.requests.length, 1);
  await world.pass(2);
  assert.equal(world.requests.length, 2);
});

inWorld('a Retry-After may be a date, as proxies send it', async (world) => {
  world.serve = async () => problem(503, 'overloaded', { 'Retry-After': 'Mon, 23 Nov 2026 12:00:30 GMT' });
  const page = await start(world);
  assert.ok(Math.abs(page.errors[0].retryAfter - 30) < 0.2, `${page.errors[0].retryAfter}`);
  await world.pass(29);
  assert.equal(world.requests.length, 1);
  await world.pass(2.5);
  assert.equal(world.requests.length, 2);
});

for (const value of ['Wed, 21 Oct 2026 07:28:00 GMT', 'soon', '-30', '']) {
  inWorld(`a Retry-After of '${value}' is none`, async (world) => {
    world.serve = async () => problem(503, 'overloaded', { 'Retry-After': value });
    const page = await start(world);
    assert.equal(page.errors[0].retryAfter, undefined);
    await world.pass(5);
    assert.ok(world.requests.length > 1);
  });
}

for (const value of ['99999999999', 'Infinity', 'Fri, 23 Nov 2096 12:00:00 GMT']) {
  inWorld(`a Retry-After of '${value}' is an hour`, async (world) => {
    const { serve } = world;
    world.serve = async () => problem(503, 'overloaded', { 'Retry-After': value });
    const page = await start(world);
    world.serve = serve;
    await world.pass(3590);
    assert.equal(world.requests.length, 1);
    await world.pass(20);
    assert.deepEqual(page.tokens, ['token-2']);
  });
}

inWorld('refresh() does not sit out a pause of our own, token() does', async (world) => {
  world.serve = async () => problem(503, 'overloaded');
  const page = await start(world);
  await assert.rejects(page.source.token(), { code: 'overloaded' });
  assert.equal(world.requests.length, 1, 'a loop in the app cannot hammer the server');
  await assert.rejects(page.source.refresh(), { code: 'overloaded' });
  assert.equal(world.requests.length, 2);
});

inWorld('a network failure backs off, and "online" cuts the pause short', async (world) => {
  const serve = world.serve;
  const cause = new TypeError('Failed to fetch');
  world.serve = async () => Promise.reject(cause);
  const page = await start(world);
  assert.equal(page.errors[0].code, 'network');
  assert.equal(page.errors[0].cause, cause);
  assert.equal(page.errors[0].status, undefined);
  world.random = 1;
  await world.pass(200);
  const before = world.requests.length;
  world.random = 0;
  world.serve = serve;
  await world.wake('online');
  await world.pass(0.1);
  assert.equal(world.requests.length, before + 1);
  assert.equal(page.tokens.length, 1);
});

inWorld('a server that does not answer times out', async (world) => {
  world.serve = () => new Promise(() => {});
  const page = await start(world);
  await world.pass(15);
  assert.equal(page.errors[0].code, 'timeout');
  assert.ok(world.requests[0].signal.aborted);
});

inWorld('a headers() that does not answer times out, and so does a body without end', async (world) => {
  let hang = true;
  const page = await start(world, { headers: () => (hang ? new Promise(() => {}) : {}) });
  await world.pass(15);
  assert.equal(page.errors[0].code, 'timeout');
  hang = false;
  world.serve = async () => new Response(new ReadableStream({}));
  await world.pass(17);
  assert.equal(world.requests.length, 1);
  assert.equal(page.source.state.lastError.code, 'timeout');
});

for (const [what, make] of Object.entries({
  'HTML': () => new Response('<html>sign in, secret-token</html>'),
  'cut JSON': () => new Response('{"token":"secret-token'),
  'null': () => answer(null),
  'no token': () => answer({ expires_in: 3600 }),
  'an empty token': () => answer({ token: '', expires_in: 3600 }),
  'a token that is no string': () => answer({ token: { a: 'secret-token' }, expires_in: 3600 }),
  'a dead token': () => answer({ token: 'secret-token', expires_in: 0 }),
  'a life that is no number': () => answer({ token: 'secret-token', expires_in: 'soon' }),
})) {
  inWorld(`200 with ${what} is an invalid answer, tried again later`, async (world) => {
    world.serve = async () => make();
    const page = await start(world);
    assert.deepEqual(page.tokens, []);
    assert.equal(page.errors[0].code, 'invalid_answer');
    assert.equal(page.source.state.status, 'retrying');
    assert.doesNotMatch(inspect(page.errors[0], { depth: 9, showHidden: true }), /secret/);
  });
}

inWorld('an answer of another make has a code by its status, and its request id', async (world) => {
  world.serve = async () => new Response('<h1>Bad gateway</h1>', { status: 502, headers: { 'X-Request-Id': 'r1' } });
  const page = await start(world);
  assert.deepEqual([page.errors[0].code, page.errors[0].requestId], ['http_502', 'r1']);
});

inWorld('onToken may throw or reject: onError hears of it, and the token stays', async (world) => {
  const cause = new Error('SDK not initialized');
  for (const onToken of [() => { throw cause; }, async () => { throw cause; }]) {
    const page = await start(world, { onToken });
    assert.equal(page.errors[0].code, 'on_token_failed');
    assert.equal(page.errors[0].cause, cause);
    assert.match(await page.source.token(), /^token-/);
    page.source.stop();
  }
});

inWorld('without onError a failure is a warning without any token', async (world) => {
  const page = await start(world, { onError: undefined, onToken: (token) => { throw new Error(token); } });
  assert.deepEqual(world.warnings, [['TokenError: no token: on_token_failed']]);
  page.source.stop();
});

inWorld('the token is nowhere but in onToken and token()', async (world) => {
  const page = await start(world);
  world.serve = async () => problem(503, 'overloaded');
  await assert.rejects(page.source.refresh());
  const seen = inspect([page.source, page.source.state, page.errors], { depth: 9, showHidden: true, getters: true });
  assert.doesNotMatch(seen + JSON.stringify(page.source) + page.source, /token-1/);
  assert.deepEqual(world.warnings, []);
});
