// Bundles a TypeScript entry and everything it imports into one script that loads nothing: node build.mjs ENTRY OUT.
// What comes out depends on the sources and the packages of the lock file alone.
import { build } from 'esbuild';

/** bb's WebAssembly exists twice; the one for threads needs a server's headers, which a file on disk does not have. */
const oneThread = {
  name: 'one-thread',
  setup(b) {
    b.onLoad({ filter: /barretenberg-threads\.js$/ }, () => ({ contents: 'export default ""' }));
  },
};

await build({
  entryPoints: [process.argv[2]],
  outfile: process.argv[3],
  bundle: true,
  minify: true,
  format: 'iife',
  platform: 'browser',
  target: 'es2022',
  charset: 'ascii',
  legalComments: 'none',
  define: { SharedArrayBuffer: 'undefined' }, // even where a server offers threads
  plugins: [oneThread],
  logLevel: 'warning',
});
