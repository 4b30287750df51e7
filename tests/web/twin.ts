/**
 * The page's own code under Node.js, for the tests: one JSON request a line in, one JSON answer a line out.
 * Compiled beside the page's sources, as `web/tests/twin.ts`.
 */

import { loadAggregate, commitmentOf } from '../src/aggregate';
import { Bb } from '../src/bb';
import { manifest } from '../src/bundle';
import { chain, statement } from '../src/commitment';
import { InputError, KeyUnknown } from '../src/errors';
import { type Bytes, fromHex, hexOf } from '../src/field';
import { type Folder, type Named } from '../src/folder';
import { circuits, files, parts } from '../src/form';
import { type Made } from '../src/keys';
import { loadRound } from '../src/roundfile';
import { Problem, validate } from '../src/schema';
import { type Verdict, accepted, sentence } from '../src/statement';
import { ascii, floatRepr, general, isPrintable, repr } from '../src/text';
import { verify } from '../src/verify';

declare const process: { stdin: AsyncIterable<Uint8Array>; stdout: { write(text: string): void } };

const bb = new Bb();

type Files = Record<string, string>;

/** A folder whose files are given in base64. */
function folder(name: string, files: Files): Folder {
  const entries = Object.entries(files).map(([path, data]) => [path, named(path, data)] as const);
  return { name, entries: new Map(entries) };
}

function named(name: string, data: string): Named {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  return { name, size: bytes.length, read: async () => bytes };
}

function bytes(hex: string): Bytes {
  return fromHex(hex.slice(2));
}

const OPERATIONS: Record<string, (request: any) => unknown> = {
  /** Everything that follows from a round.toml and a verdict. */
  async round({ toml, verdict }: { toml: string; verdict: Verdict }) {
    const round = await loadRound(named('round.toml', toml));
    return {
      context: hexOf(round.context),
      circuits: Object.fromEntries([...circuits(round.params)].map(([file, circuit]) => [file, circuit.name])),
      files: files(round.params),
      parts: parts(round.params).map((part) => [part.name, part.key, part.proof, part.publicInputs]),
      accepted: accepted(verdict, round.params),
      sentence: sentence(round, verdict, round.context),
    };
  },
  chain: async ({ context, i, leaves }) => hexOf(await chain(bytes(context), i, leaves.map(BigInt))),
  statement: async ({ context, commitments, aggregate }) =>
    `0x${(await statement(bytes(context), commitments.map(bytes), bytes(aggregate))).toString(16).padStart(64, '0')}`,
  hash: async ({ words }) => hexOf(await bb.hash(words.map(bytes))),
  /** A, from an aggregate.npz. */
  async aggregate({ toml, npz }) {
    const round = await loadRound(named('round.toml', toml));
    const found = await loadAggregate(named('aggregate.npz', npz), round.params.d);
    return hexOf(await commitmentOf(found, round, (words) => bb.hash(words)));
  },
  text: ({ text }: { text: string }) => [repr(text), ascii(text), isPrintable(text)],
  float: ({ bits }: { bits: string }) => {
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, BigInt(bits));
    return [floatRepr(view.getFloat64(0)), general(view.getFloat64(0))];
  },
  /** What is wrong with a manifest, or nothing. */
  async manifest({ data }: { data: string }) {
    try {
      validate(manifest, await named('manifest.json', data).read());
      return '';
    } catch (error) {
      if (error instanceof Problem) return error.message;
      throw error;
    }
  },
  /** The answer to a bundle: true and the sentence, false and the reason, or null and why nothing is decided. */
  async verify(request: {
    made: Made;
    bundle: Files;
    commitments?: Files;
    round?: string;
    aggregate?: string;
  }) {
    const { made, bundle, commitments, round, aggregate } = request;
    const outside = {
      commitments: commitments && folder('commitments', commitments),
      roundFile: round === undefined ? undefined : named('round.toml', round),
      aggregate: aggregate === undefined ? undefined : named('aggregate.npz', aggregate),
    };
    try {
      const found = await verify(folder('bundle', bundle), { bb, made }, outside);
      return found.ok ? [true, found.statement] : [false, found.reason];
    } catch (error) {
      if (error instanceof InputError) return [null, error.message, error instanceof KeyUnknown];
      throw error;
    }
  },
};

async function answer(line: string): Promise<void> {
  const { operation, ...request } = JSON.parse(line);
  try {
    process.stdout.write(`${JSON.stringify({ result: await OPERATIONS[operation]!(request) })}\n`);
  } catch (error) {
    process.stdout.write(`${JSON.stringify({ error: error instanceof Error ? `${error.message}` : String(error) })}\n`);
  }
}

async function main(): Promise<void> {
  let rest = '';
  const decoder = new TextDecoder();
  for await (const some of process.stdin) {
    const lines = (rest + decoder.decode(some, { stream: true })).split('\n');
    rest = lines.pop()!;
    for (const line of lines) await answer(line);
  }
}

void main();
