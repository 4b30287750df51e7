// nargo's command line over the official npm packages, for machines without a native nargo.
//
//   node nargo.mjs --version
//   node nargo.mjs compile --program-dir DIR
//   node nargo.mjs execute [WITNESS] --program-dir DIR [-p PROVER_NAME]
//   node nargo.mjs serve            one JSON array of arguments per line in, one JSON answer per line out
//
// Same artefacts as nargo (Prover.toml in; target/<package>.json, target/<witness>.gz out), same exit codes.
// Two differences: `serve` is ours (Node and the artefact are loaded once for many executes), and `execute`
// compiles only when there is no artefact yet; it does not look whether the sources are newer.
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { gzipSync } from 'node:zlib';

const require = createRequire(import.meta.url); // packages are loaded on first use: each costs start-up time
const FAST = { level: 1 };

/** A failure that is the user's to repair: printed without a JavaScript stack. */
class Refusal extends Error {}

function writeWhole(path, data) {
  mkdirSync(dirname(path), { recursive: true });
  const partial = join(dirname(path), `.${basename(path)}.${process.pid}`);
  writeFileSync(partial, data);
  renameSync(partial, path);
}

function read(path, what) {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Refusal(`cannot read ${what} ${path}: ${error.code ?? error.message}`);
  }
}

function parseToml(path, what) {
  const { parse } = require('smol-toml');
  try {
    return parse(read(path, what), { integersAsBigInt: 'asNeeded' });
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal(`${path}: ${error.message}`);
  }
}

function packageName(dir) {
  const name = parseToml(join(dir, 'Nargo.toml'), 'the manifest').package?.name;
  if (!name) throw new Refusal(`${join(dir, 'Nargo.toml')}: expected [package] with a name`);
  return name;
}

/** Line of a byte offset, counted from 1; undefined if the file cannot be read. */
function lineOf(path, offset) {
  try {
    return readFileSync(path).subarray(0, offset).toString('utf8').split('\n').length;
  } catch {
    return undefined;
  }
}

async function compile(dir) {
  const name = packageName(dir);
  const { compile: compileProgram, createFileManager } = require('@noir-lang/noir_wasm');
  const quiet = () => {};
  const print = console.log;
  console.log = quiet; // the package announces itself on stdout
  try {
    const { program, warnings } = await compileProgram(createFileManager(dir), undefined, quiet, quiet);
    writeWhole(join(dir, 'target', `${name}.json`), JSON.stringify(program));
    return describe(warnings ?? [], 'warning');
  } catch (error) {
    const diagnostics = error.cause?.diagnostics;
    throw new Refusal(diagnostics ? describe(diagnostics, 'error') : error.message);
  } finally {
    console.log = print;
  }
}

function describe(diagnostics, kind) {
  return diagnostics
    .map(({ message, file, secondaries = [] }) => {
      const places = secondaries.map((s) => {
        const line = isAbsolute(file) ? lineOf(file, s.start) : undefined;
        return `\n  at ${file}${line === undefined ? '' : `:${line}`}${s.message ? ` (${s.message})` : ''}`;
      });
      return `${kind}: ${message}${places.join('')}`;
    })
    .join('\n');
}

const artefacts = new Map();

/** The parsed artefact, kept per path until the file changes. */
function load(path) {
  const { mtimeMs, size } = statSync(path, { throwIfNoEntry: false }) ?? {};
  const stamp = `${mtimeMs} ${size}`;
  let entry = artefacts.get(path);
  if (entry?.stamp !== stamp) {
    const program = JSON.parse(read(path, 'the artefact'));
    const { abi, bytecode } = program;
    entry = { stamp, abi, bytecode: Buffer.from(bytecode, 'base64') };
    artefacts.set(path, entry);
  }
  return entry;
}

/** TOML integers beyond 2^53 arrive as BigInt, which the ABI encoder does not take. */
function plain(value) {
  if (typeof value === 'bigint') return value.toString();
  if (Array.isArray(value)) return value.map(plain);
  if (value !== null && typeof value === 'object')
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
  return value;
}

/**
 * A witness stack of one frame in nargo's format: 0x03, then MessagePack [[[0, {index: 32 bytes, …}]]], gzipped.
 * The package's own compressWitnessStack gives the same content in five times the time.
 */
function encodeWitness(witness) {
  const out = Buffer.allocUnsafe(16 + witness.size * 39);
  let n = out.write('0391919200', 0, 'hex');
  const { size } = witness;
  if (size < 0x10) out[n++] = 0x80 | size;
  else if (size < 0x10000) n = out.writeUInt16BE(size, out.writeUInt8(0xde, n));
  else n = out.writeUInt32BE(size, out.writeUInt8(0xdf, n));
  for (const [index, value] of witness) {
    if (index < 0x80) out[n++] = index;
    else if (index < 0x100) n = out.writeUInt8(index, out.writeUInt8(0xcc, n));
    else if (index < 0x10000) n = out.writeUInt16BE(index, out.writeUInt8(0xcd, n));
    else n = out.writeUInt32BE(index, out.writeUInt8(0xce, n));
    out[n++] = 0xc4;
    out[n++] = 32;
    n += out.write(value.slice(2).padStart(64, '0'), n, 'hex');
  }
  return gzipSync(out.subarray(0, n), FAST);
}

async function execute(dir, witnessName, proverName) {
  const artefact = join(dir, 'target', `${packageName(dir)}.json`);
  const { return: expected, ...inputs } = plain(parseToml(join(dir, `${proverName}.toml`), 'the inputs'));
  const { Noir, acvm, abi: codec } = require('@noir-lang/noir_js');
  const { abi, bytecode } = load(artefact);
  let initial;
  try {
    initial = codec.abiEncode(abi, inputs, expected);
  } catch (error) {
    throw new Refusal(`${proverName}.toml does not fit the program: ${error.message}`);
  }
  let stack;
  try {
    stack = await acvm.executeProgram(bytecode, initial, foreignCall);
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) throw error;
    throw await unsatisfied(Noir, artefact, inputs, error);
  }
  const solved = stack.length === 1 ? encodeWitness(stack[0].witness) : acvm.compressWitnessStack(stack);
  const path = join(dir, 'target', `${witnessName}.gz`);
  writeWhole(path, solved);
  return path;
}

async function foreignCall(name) {
  if (name === 'print') return [];
  throw new Error(`unexpected oracle during execution: ${name}`);
}

/** Message and call stack of a failed assertion; solves once more, through the package that knows the debug symbols. */
// Locations are byte offsets, which noir_js takes for characters: give it sources of one character a byte.
function byteIndexed(program) {
  for (const file of Object.values(program.file_map ?? {})) {
    file.source = Buffer.from(file.source, 'utf8').toString('latin1');
  }
  return program;
}

async function unsatisfied(Noir, artefact, inputs, first) {
  let error = first;
  try {
    await new Noir(byteIndexed(JSON.parse(readFileSync(artefact, 'utf8')))).execute(inputs);
  } catch (second) {
    error = second;
  }
  const message = String(error.message ?? error).replace(/^Circuit execution failed: (Error: )?/, '');
  const decoded = (text) => Buffer.from(text, 'latin1').toString('utf8');
  const calls = [...(error.noirCallStack ?? [])].reverse().map((call) => `  ${decoded(call).replace(/\s+/g, ' ')}`);
  return new Refusal([`error: ${message}`, ...calls, 'Failed to solve program: the witness does not satisfy it'].join('\n'));
}

function parseArguments(argv) {
  const [command, ...rest] = argv;
  const found = { command, positional: [], dir: '.', prover: 'Prover' };
  while (rest.length) {
    const word = rest.shift();
    if (word === '--program-dir') found.dir = rest.shift();
    else if (word === '-p' || word === '--prover-name') found.prover = rest.shift();
    else if (word === '--silence-warnings') found.silent = true;
    else if (word.startsWith('-')) throw new Refusal(`unexpected argument ${word}`);
    else found.positional.push(word);
  }
  if (found.dir === undefined || found.prover === undefined) throw new Refusal('an option lacks its value');
  found.dir = resolve(found.dir);
  return found;
}

/** Run one command line; returns what it prints and its exit code. */
async function answer(argv, serving = false) {
  try {
    if (argv[0] === '--version' || argv[0] === '-V') {
      const manifest = new URL('./node_modules/@noir-lang/noir_wasm/package.json', import.meta.url);
      const { version } = JSON.parse(readFileSync(manifest, 'utf8'));
      return { code: 0, stdout: `nargo version = ${version}\nnoirc version = ${version}\n`, stderr: '' };
    }
    const { command, positional, dir, prover, silent } = parseArguments(argv);
    if (command === 'compile' && !serving) {
      const warnings = await compile(dir);
      return { code: 0, stdout: '', stderr: warnings && !silent ? `${warnings}\n` : '' };
    }
    if (command === 'execute') {
      const name = packageName(dir);
      if (!serving && !statSync(join(dir, 'target', `${name}.json`), { throwIfNoEntry: false })) await compile(dir);
      const path = await execute(dir, positional[0] ?? name, prover);
      return { code: 0, stdout: `[${name}] Witness saved to ${path}\n`, stderr: '' };
    }
    throw new Refusal(`expected compile, execute, serve or --version, found ${JSON.stringify(command ?? '')}`);
  } catch (error) {
    const text = error instanceof Refusal ? error.message : `error: ${error?.stack ?? error}`;
    // A trap leaves the WebAssembly instance in an unknown state: answer, then let a fresh process take over.
    return { code: 1, stdout: '', stderr: `${text}\n`, fatal: error instanceof WebAssembly.RuntimeError };
  }
}

async function serve() {
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    if (!line.trim()) continue;
    const { fatal, ...reply } = await answer(JSON.parse(line), true);
    await new Promise((done) => process.stdout.write(`${JSON.stringify(reply)}\n`, done));
    if (fatal) process.exit(1);
  }
}

if (process.argv[2] === 'serve') await serve();
else {
  const { code, stdout, stderr } = await answer(process.argv.slice(2));
  process.stdout.write(stdout);
  process.stderr.write(stderr);
  process.exitCode = code;
}
