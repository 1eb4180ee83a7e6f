// The files themselves: what they hold, what the package exports, and its types.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { inWorld, open } from './world.js';

const path = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));
const source = readFileSync(path('client.js'), 'utf8');
const code = source.replace(/\/\*\*[^]*?\*\/|\/\/ .*/g, '');

for (const name of ['client.min.js', 'client.cjs']) {
  inWorld(`${name} works too`, async (world) => {
    const { keepSignedIn, TokenError } = await import(`../${name}`);
    const page = open(keepSignedIn);
    await world.pass(3000);
    assert.deepEqual(page.tokens, ['token-1', 'token-2']);
    world.serve = async () => new Response('', { status: 403 });
    await assert.rejects(page.source.refresh(), TokenError);
    assert.equal(page.errors[0].code, 'http_403');
  });
}

test('it imports nothing, stores nothing and logs no more than the one warning', () => {
  assert.doesNotMatch(code, /\bimport\b|localStorage|sessionStorage|indexedDB|document\.cookie|\beval\b/);
  assert.deepEqual(code.match(/console\.\w+\([^)]*\)/g), ['console.warn(String(error)']);
});

test('the package publishes what its exports name, and nothing else runs', () => {
  const manifest = JSON.parse(readFileSync(path('package.json'), 'utf8'));
  for (const file of [...manifest.files, manifest.types, manifest.main, ...Object.values(manifest.exports['.'])]) assert.ok(existsSync(path(file)), file);
  assert.equal(manifest.publishConfig.access, 'public', 'npm takes a scoped package for a private one');
  assert.equal(readFileSync(path('LICENSE'), 'utf8'), readFileSync(path('../LICENSE'), 'utf8'));
  assert.equal(manifest.dependencies, undefined);
  assert.equal(manifest.scripts.postinstall, undefined);
});

const tsc = path('node_modules/typescript/bin/tsc');
test('the types say what the module does', { skip: !existsSync(tsc) && 'typescript is not installed: run npm ci in client/' }, () => {
  const run = spawnSync(process.execPath, [tsc, '--project', path('tests/tsconfig.json')], { encoding: 'utf8' });
  assert.equal(run.stdout + run.stderr, '');
  assert.equal(run.status, 0);
});
