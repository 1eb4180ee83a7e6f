// Bundles entry.js of the folder that it is run in, with the tool that is named, into out/entry.js.
const path = require('node:path');
const { execFileSync } = require('node:child_process');

const tool = process.argv[2];
const [entry, out] = [path.resolve('entry.js'), path.resolve('out')];
const bin = (name) => path.join(__dirname, 'node_modules', '.bin', name);

const tools = {
  webpack4: () => require('webpack4')({ mode: 'production', entry, output: { path: out, filename: 'entry.js' } }, (error, stats) => {
    if (error || stats.hasErrors()) throw error ?? new Error(stats.toString());
  }),
  parcel: () => execFileSync(bin('parcel'), ['build', entry, '--dist-dir', out, '--no-cache', '--cache-dir', path.resolve('cache'), '--no-source-maps', '--log-level', 'error'], { stdio: 'inherit' }),
};
tools[tool]();
