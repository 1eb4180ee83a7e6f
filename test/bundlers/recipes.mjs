// Checks the types of the recipes in the folder that it is run in, and bundles each page-*.ts(x) with Vite.
// The SDK's types are the real ones; what runs is sdk.js.
import { readdirSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { build } from 'vite';

const here = process.cwd();
const files = readdirSync(here).filter((name) => /\.tsx?$/.test(name)).map((name) => path.join(here, name));
const { config } = ts.readConfigFile(path.join(import.meta.dirname, 'tsconfig.json'), ts.sys.readFile);
const { options } = ts.parseJsonConfigFileContent(config, ts.sys, here);
const problems = ts.getPreEmitDiagnostics(ts.createProgram(files, options));
if (problems.length) {
  console.error(ts.formatDiagnostics(problems, { getCanonicalFileName: (name) => name, getCurrentDirectory: () => here, getNewLine: () => '\n' }));
  process.exit(1);
}

await Promise.all(readdirSync(here).filter((name) => name.startsWith('page-')).map((name) => build({
  root: here,
  logLevel: 'warn',
  mode: 'development',
  define: { 'process.env.NODE_ENV': '"development"', __VUE_OPTIONS_API__: true, __VUE_PROD_DEVTOOLS__: false, __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: false },
  resolve: { alias: { '@sethealth/core': path.join(here, 'sdk.js') } },
  build: { outDir: path.join(here, 'out', path.parse(name).name), minify: false, lib: { entry: path.join(here, name), formats: ['es'], fileName: 'page' } },
})));
