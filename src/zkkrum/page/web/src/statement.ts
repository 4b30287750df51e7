/**
 * What is proved: the named public inputs of each circuit, the verdict, and the sentence that says it in words; the twin
 * of `zkkrum.proof.statement`. Must not know files.
 */

import { type Bytes, P, concat, fromBytes, hexOf, toWord } from './field';
import { type Params, type Round, fractionText } from './params';
import { general, repr } from './text';

/** Named field elements, in order. */
export type Words = (readonly [string, bigint])[];

/** The public inputs of a proof are not what they must be; the message says why. */
export class BadInputs extends Error {}

/** The public outcome of a round, by client numbers in ascending order. */
export interface Verdict {
  malicious: boolean;
  flagged: readonly number[];
  selected: readonly number[];
}

/** Who is aggregated, ascending. */
export function accepted(verdict: Verdict, params: Params): number[] {
  const pool = params.acceptance === 'selected' ? verdict.selected : Array.from({ length: params.n }, (_, i) => i);
  return pool.filter((i) => !verdict.flagged.includes(i));
}

function bitmap(clients: readonly number[]): bigint {
  return clients.reduce((sum, i) => sum | (1n << BigInt(i)), 0n);
}

/** What a sharded round shows of its challenges: ρ, x_1 … x_(n-1), s'. */
export interface PublicChallenge {
  rho: bigint;
  x: bigint[];
  scaledS: bigint;
}

export function challengeWords(round: Round, public_: PublicChallenge): Words {
  const named = public_.x.map((value, i) => [`x[${round.roster[i + 1]}]`, value] as const);
  return [['rho', public_.rho], ...named, ['s', public_.scaledS]];
}

function outputWords(verdict: Verdict): Words {
  return [
    ['malicious', BigInt(verdict.malicious)],
    ['flagged', bitmap(verdict.flagged)],
    ['selected', bitmap(verdict.selected)],
  ];
}

/** The public inputs of the `round` circuit; `leaves` are one a client, then the aggregate's. */
export function roundWords(round: Round, statement: bigint, leaves: readonly bigint[], verdict: Verdict): Words {
  const names = [...round.roster.map((client) => `leaf[${client}]`), 'leaf_of_aggregate'];
  return [['statement', statement], ...names.map((name, i) => [name, leaves[i]!] as const), ...outputWords(verdict)];
}

/** The public inputs of the `verdict` circuit. */
export function verdictWords(
  round: Round,
  statement: bigint,
  public_: PublicChallenge,
  link: bigint,
  verdict: Verdict,
): Words {
  return [['statement', statement], ...challengeWords(round, public_), ['link', link], ...outputWords(verdict)];
}

/** Public inputs as bb reads them: 32-byte big-endian words. */
export function encode(words: Words): Bytes {
  return concat(...words.map(([, value]) => toWord(value)));
}

function canonical(data: Uint8Array, count: number): bigint[] {
  if (data.length !== 32 * count) throw new BadInputs(`expected ${32 * count} bytes, found ${data.length}`);
  const words = fromBytes(data);
  if (words.some((word) => word >= P)) throw new BadInputs('a word is not below the field modulus');
  return words;
}

function parseChallenge(words: readonly bigint[]): PublicChallenge {
  return { rho: words[0]!, x: words.slice(1, -1), scaledS: words.at(-1)! };
}

/** The leaves that the public inputs of a `round` proof say. */
export function parseRoundInputs(data: Uint8Array, n: number): bigint[] {
  return canonical(data, n + 5).slice(1, n + 2);
}

/** What the public inputs of a shard say. */
export function parseShardInputs(data: Uint8Array, n: number) {
  const words = canonical(data, 2 * n + 4);
  const [before, after] = words.slice(-2) as [bigint, bigint];
  return { public: parseChallenge(words.slice(0, n + 1)), leaves: words.slice(n + 1, -2), before, after };
}

/** What the public inputs of a verdict say. */
export function parseVerdictInputs(data: Uint8Array, n: number) {
  const words = canonical(data, n + 6);
  return { public: parseChallenge(words.slice(1, n + 2)), link: words[n + 2]! };
}

/** Say in words what a valid proof states; `aggregate` is A. Client ids are quoted, lest one read as a word. */
export function sentence(round: Round, verdict: Verdict, aggregate: Bytes): string {
  const p = round.params;
  const names = (clients: readonly number[]) => clients.map((i) => repr(round.roster[i]!)).join(', ');
  const gamma = p.detection === 'mad' ? `, gamma = ${fractionText(p.gamma)}` : '';
  const rules = `score ${p.score} (f = ${p.f}), detection ${p.detection} (z = ${fractionText(p.z)}${gamma})`;
  const outcome = verdict.flagged.length
    ? `flagged: ${names(verdict.flagged)}`
    : verdict.malicious
      ? 'malicious, but unattributed: nobody is flagged, and there are no grounds for slashing'
      : 'honest: nobody is flagged';
  const kind = p.m === 1 ? 'Krum' : `Multi-Krum (m = ${p.m})`;
  const summed = accepted(verdict, p);
  const who =
    p.acceptance === 'selected'
      ? `accepted are the selected that are not flagged: ${names(summed)}`
      : verdict.flagged.length
        ? `accepted are all but the flagged (${summed.length} of ${p.n})`
        : `accepted are all ${p.n}`;
  return (
    `In round ${hexOf(round.roundId)}, on the very updates behind the ${p.n} commitments (d = ${p.d} coordinates, ` +
    `b = ${p.b} bits, clip ${general(round.clip)}), under ${rules}, the verdict is: ${outcome}. ` +
    `${kind} selects: ${names(verdict.selected)}. For the aggregate ${who}; the sum of their committed values is ` +
    `what A = ${hexOf(aggregate)} commits to.`
  );
}
