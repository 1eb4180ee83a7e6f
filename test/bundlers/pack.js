// Bundles entry.js of the folder that it is run in, with the tool that is named, into out/entry.js.
const path = require('node:path');
const { execFileSync } = require('node:child_process');

const tool = process.argv[2];
const [entry, out] = [path.resolve('entry.js'), path.resolve('out')];
const bin = (name) => path.join(__dirname, 'node_modules', '.bin', name);

const webpack = (name) => new Promise((resolve, reject) => {
  require(name)({ mode: 'production', entry, output: { path: out, filename: 'entry.js' } }, (error, stats) => {
    if (error || stats.hasErrors()) reject(error ?? new Error(stats.toString()));
    else resolve();
  });
});

const tools = {
  webpack4: () => webpack('webpack4'),
  webpack5: () => webpack('webpack'),
  vite: async () => {
    const { build } = await import('vite');
    await build({ root: process.cwd(), logLevel: 'warn', build: { outDir: out, lib: { entry, formats: ['es'], fileName: 'entry' } } });
  },
  parcel: async () => execFileSync(bin('parcel'), ['build', entry, '--dist-dir', out, '--no-cache', '--cache-dir', path.resolve('cache'), '--no-source-maps', '--log-level', 'error'], { stdio: 'inherit' }),
};
tools[tool]().catch((error) => {
  console.error(error);
  process.exit(1);
});
