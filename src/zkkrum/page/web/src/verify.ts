/**
 * Verification: decides whether a bundle proves what it claims, trusting nothing in it; the twin of
 * `zkkrum.proof.verify`, whose reasons are its reasons. Must not know the page.
 */

import { checkAggregate, commitmentOf, loadAggregate } from './aggregate';
import { type Bb } from './bb';
import { type Manifest, Unreadable, look, readManifest } from './bundle';
import { chain, statement } from './commitment';
import { readCommitments } from './directory';
import { InputError, Rejected, UnknownCharacter } from './errors';
import { type Bytes, equal, fromBytes, fromWord, hex, sha256, toHex } from './field';
import { type Folder, type Named } from './folder';
import { type Form, PUBLIC_INPUTS, circuits, files, formOf, parts, shardPart, wordsOf } from './form';
import { type Made, expectedKeyHash } from './keys';
import { N_MAX, type Round } from './params';
import { loadRound, parseBytes, roundOf } from './roundfile';
import { Problem } from './schema';
import {
  BadInputs,
  type Verdict,
  accepted,
  challengeWords,
  encode,
  parseRoundInputs,
  parseShardInputs,
  parseVerdictInputs,
  roundWords,
  sentence,
  verdictWords,
} from './statement';
import { ascii, compare, first, grouped, repr } from './text';

/** The size of a verification key of this bb. */
const KEY_BYTES = 1888;

/** The size of one proof for a circuit of 2^log rows. */
const proofBytes = (log: number) => 2624 + 384 * log;

/** No file of a bundle but the manifest is larger; each one's own size is known exactly. */
const PART_BYTES_MAX = Math.max(KEY_BYTES, proofBytes(31), 32 * (2 * Number(N_MAX) + 4));

/** What comes from elsewhere than the bundle, to compare it with. */
export interface Outside {
  commitments?: Folder | undefined;
  roundFile?: Named | undefined;
  aggregate?: Named | undefined;
}

export interface Tools {
  bb: Bb;
  made: Made;
}

export type Progress = (what: string, done: number, total: number) => void | Promise<void>;

/** The answer yes, with what was proved. */
export interface Verified {
  ok: true;
  statement: string;
  round: Round;
  verdict: Verdict;
  form: Form;
  /** A. */
  aggregate: Bytes;
  /** Who committed, by the bundle's own word. */
  commitmentsBy: string;
  commitmentsCompared: boolean;
  roundCompared: boolean;
  aggregateCompared: boolean;
}

/** The answer: whether the proof holds, and if not the first thing that fails. */
export type Verification = Verified | { ok: false; reason: string };

/**
 * Verify a bundle.
 *
 * Throws `InputError` where nothing can be decided: no bundle, an unreadable file from elsewhere, an unknown key.
 */
export async function verify(
  bundle: Folder,
  tools: Tools,
  outside: Outside = {},
  progress: Progress = () => undefined,
): Promise<Verification> {
  try {
    const claimed = await readClaimed(bundle);
    const claim = await claims(claimed);
    if (outside.roundFile) sameRound(claim.round, await loadRound(outside.roundFile), outside.roundFile.name);
    if (outside.commitments) await sameCommitments(claim, outside.commitments);
    checkFiles(bundle, claimed, claim.round);
    const data = await readKnown(bundle, claimed, claim.round, progress);
    await checkWords(claimed, claim, data, tools);
    await checkKeys(claim.round, data, tools, progress);
    await checkProofs(bundle, claimed, claim.round, data, tools, progress);
    if (outside.aggregate) await openAggregate(claim, outside.aggregate, tools);
    return {
      ok: true,
      statement: sentence(claim.round, claim.verdict, claim.aggregate),
      round: claim.round,
      verdict: claim.verdict,
      form: formOf(claim.round.params),
      aggregate: claim.aggregate,
      commitmentsBy: claimed.commitments_by,
      commitmentsCompared: outside.commitments !== undefined,
      roundCompared: outside.roundFile !== undefined,
      aggregateCompared: outside.aggregate !== undefined,
    };
  } catch (error) {
    if (error instanceof Rejected) return { ok: false, reason: error.message };
    throw error;
  }
}

/** What the manifest says was proved, well-formed and not yet believed. */
interface Claim {
  round: Round;
  commitments: Bytes[];
  aggregate: Bytes;
  verdict: Verdict;
  statement: bigint;
}

async function readClaimed(bundle: Folder): Promise<Manifest> {
  try {
    return await readManifest(bundle);
  } catch (error) {
    if (error instanceof Problem) throw new Rejected(`manifest: ${error.message}`);
    throw error;
  }
}

/** Turn the manifest's claims into checked values. */
async function claims(claimed: Manifest): Promise<Claim> {
  let round: Round;
  let commitments: Bytes[];
  let aggregate: Bytes;
  try {
    round = await roundOf(claimed.round);
    const named = claimed.commitments.map((entry) => entry.client);
    if (named.length !== round.roster.length || named.some((client, i) => client !== round.roster[i])) {
      throw new Rejected('manifest: its commitments are not those of the roster, in roster order');
    }
    commitments = claimed.commitments.map((entry) => parseBytes(entry.commitment, 32, 'commitment'));
    aggregate = parseBytes(claimed.aggregate, 32, 'aggregate');
  } catch (error) {
    if (error instanceof UnknownCharacter) throw new InputError(`manifest: ${error.message}`, error.hint);
    if (error instanceof InputError) throw new Rejected(`manifest: ${error.message}`);
    throw error;
  }
  const p = round.params;
  if (claimed.form !== formOf(p)) {
    const made = `d = ${p.d} in chunks of ${p.chunk} makes ${p.chunks}`;
    throw new Rejected(`manifest: form: ${made}, so it is not ${repr(claimed.form)}`);
  }
  const position = new Map(round.roster.map((client, i) => [client, i]));
  const numbers = (clients: readonly string[]): number[] => {
    for (const client of clients) {
      if (!position.has(client)) throw new Rejected(`manifest: verdict: client ${ascii(first(client, 80))} is not in the roster`);
    }
    if (new Set(clients).size !== clients.length) throw new Rejected('manifest: verdict: a client is named twice');
    return clients.map((client) => position.get(client)!).sort((a, b) => a - b);
  };
  const said = claimed.verdict;
  const verdict = { malicious: said.malicious, flagged: numbers(said.flagged), selected: numbers(said.selected) };
  if (numbers(said.accepted).join() !== accepted(verdict, p).join()) {
    throw new Rejected('manifest: verdict: accepted does not follow from flagged and selected');
  }
  const bound = await statement(round.context, commitments, aggregate);
  return { round, commitments, aggregate, verdict, statement: bound };
}

function sameRound(ours: Round, published: Round, source: string): void {
  if (equal(ours.context, published.context)) return;
  const pairs: [string, boolean][] = [
    ['parameters', ours.params.key === published.params.key],
    ['clip', ours.clip === published.clip],
    ['roster', ours.roster.join('\0') === published.roster.join('\0')],
    ['round_id', equal(ours.roundId, published.roundId)],
    ['subject', equal(ours.subject, published.subject)],
    ['chain_id', ours.chainId === published.chainId],
    ['contract', equal(ours.contract, published.contract)],
  ];
  const different = pairs.filter(([, same]) => !same).map(([name]) => name);
  throw new Rejected(`round: ${different.join(', ')} of the bundle differ from ${source}`);
}

async function sameCommitments(claim: Claim, folder: Folder): Promise<void> {
  const published = await readCommitments(folder, claim.round.roster);
  for (const [i, client] of claim.round.roster.entries()) {
    const { context, commitment } = published[i]!;
    if (!equal(context, claim.round.context)) {
      throw new Rejected(
        `commitment of ${repr(client)}: published under another context than the bundle's ` +
          '(another round, roster or parameters)',
      );
    }
    if (!equal(claim.commitments[i]!, commitment)) {
      throw new Rejected(`commitment of ${repr(client)}: the bundle's is not the one in ${folder.name}`);
    }
  }
}

type Data = ReadonlyMap<string, Bytes>;

/** See that a bundle has exactly the files of its form, none larger than it can be. */
function checkFiles(bundle: Folder, claimed: Manifest, round: Round): void {
  const p = round.params;
  if (formOf(p) === 'sharded') {
    const shards = [...claimed.files.keys()].filter((name) => name.startsWith('shards/') && name.endsWith('.proof'));
    if (shards.length !== p.chunks) {
      throw new Rejected(
        `shards: d = ${p.d} in chunks of ${p.chunk} makes ${p.chunks}, found ${shards.length}: a verdict without all its ` +
          'shards proves nothing',
      );
    }
  }
  const wanted = files(p);
  const needed = new Set(wanted);
  const different = [
    ...wanted.filter((name) => !claimed.files.has(name)),
    ...[...claimed.files.keys()].filter((name) => !needed.has(name)),
  ];
  if (different.length) {
    const name = different.reduce((a, b) => (compare(a, b) <= 0 ? a : b));
    if (needed.has(name)) throw new Rejected(`manifest: ${name} is missing`);
    throw new Rejected(`manifest: ${ascii(first(name, 80))} is not a file of this form`);
  }
  for (const name of wanted) {
    const { size } = explained(name, () => look(bundle, name));
    if (size > PART_BYTES_MAX) {
      throw new Rejected(`${name}: expected at most ${grouped(PART_BYTES_MAX)} bytes, found ${grouped(size)}`);
    }
  }
}

/** Read a file of exactly the size it must have, and compare it with the manifest's hash. */
async function readFile(bundle: Folder, claimed: Manifest, name: string, size: number): Promise<Bytes> {
  const entry = explained(name, () => look(bundle, name));
  if (entry.size !== size) {
    throw new Rejected(`${name}: expected ${grouped(size)} bytes, found ${grouped(entry.size)}`);
  }
  const found = await entry.read();
  if (hex(await sha256(found)) !== claimed.files.get(name)) {
    throw new Rejected(`${name}: its hash is not the one in the manifest`);
  }
  return found;
}

function explained<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof Unreadable) throw new Rejected(`${name}: ${error.message}`);
    throw error;
  }
}

/** Read keys and public inputs, whose sizes are known; those of the proofs follow from the keys. */
async function readKnown(bundle: Folder, claimed: Manifest, round: Round, progress: Progress): Promise<Data> {
  const p = round.params;
  const sizes = new Map([...circuits(p).keys()].map((name) => [name, KEY_BYTES]));
  for (const part of parts(p)) sizes.set(part.publicInputs, 32 * wordsOf(p, part));
  const data = new Map<string, Bytes>();
  for (const [name, size] of sizes) {
    await progress('files', data.size, sizes.size);
    data.set(name, await readFile(bundle, claimed, name, size));
  }
  return data;
}

/** Check every public input: what we know we assemble, what we cannot know must fit together. */
async function checkWords(claimed: Manifest, claim: Claim, data: Data, tools: Tools): Promise<void> {
  const { round, verdict } = claim;
  const n = round.params.n;
  const found = data.get(PUBLIC_INPUTS)!;
  let words;
  try {
    if (formOf(round.params) === 'round') {
      const leaves = parseRoundInputs(found, n);
      await checkLeaves(claim, [leaves]);
      words = roundWords(round, claim.statement, leaves, verdict);
    } else {
      const top = parseVerdictInputs(found, n);
      await checkLeaves(claim, await leavesOfChain(round, top, data, tools));
      words = verdictWords(round, claim.statement, top.public, top.link, verdict);
    }
  } catch (error) {
    if (error instanceof BadInputs) throw new Rejected(`${PUBLIC_INPUTS}: ${error.message}`);
    throw error;
  }
  if (!equal(found, encode(words))) {
    const theirs = fromBytes(found);
    const [name] = words.find(([, ours], k) => ours !== theirs[k])!;
    throw new Rejected(`${PUBLIC_INPUTS}: ${name} is not that of this round`);
  }
  const named = claimed.public_inputs;
  if (named.length !== words.length || words.some(([name, value], k) => named[k]!.name !== name || named[k]!.value !== toHex(value))) {
    throw new Rejected('manifest: its named public inputs are not those of the proof');
  }
}

/** Check that every shard has the verdict's challenges and starts where the one before ends; return the leaves. */
async function leavesOfChain(
  round: Round,
  top: ReturnType<typeof parseVerdictInputs>,
  data: Data,
  tools: Tools,
): Promise<bigint[][]> {
  const zero = new Uint8Array(32);
  let link = fromWord(await tools.bb.hash([zero, zero, zero])); // c_0
  const leaves: bigint[][] = [];
  const ours = challengeWords(round, top.public);
  for (let t = 0; t < round.params.chunks; t++) {
    const part = shardPart(round.params, t);
    let shard;
    try {
      shard = parseShardInputs(data.get(part.publicInputs)!, round.params.n);
    } catch (error) {
      if (error instanceof BadInputs) throw new Rejected(`${part.publicInputs}: ${error.message}`);
      throw error;
    }
    for (const [k, [name, theirs]] of challengeWords(round, shard.public).entries()) {
      if (ours[k]![1] !== theirs) throw new Rejected(`shard ${t}: its ${name} is not the verdict's`);
    }
    if (shard.before !== link) {
      const where = t === 0 ? 'the constant c_0' : `where shard ${t - 1} ends`;
      throw new Rejected(`shard ${t}: the chain is broken: it does not start at ${where}`);
    }
    link = shard.after;
    leaves.push(shard.leaves);
  }
  if (top.link !== link) {
    throw new Rejected('verdict: the chain is broken: it does not start where the last shard ends');
  }
  return leaves;
}

/** Check that commitments and A are the chains over the leaves, which are given by chunk. */
async function checkLeaves(claim: Claim, leaves: readonly bigint[][]): Promise<void> {
  const { context, roster } = claim.round;
  for (let i = 0; i <= roster.length; i++) {
    const found = await chain(context, i, leaves.map((chunk) => chunk[i]!)); // prettier-ignore
    if (i === roster.length) {
      if (!equal(found, claim.aggregate)) throw new Rejected('aggregate: the leaves of the proof do not make up A');
    } else if (!equal(found, claim.commitments[i]!)) {
      throw new Rejected(`commitment of ${repr(roster[i]!)}: the leaves of the proof do not make it up`);
    }
  }
}

/** Compare each key with the one that this page stands for. */
async function checkKeys(round: Round, data: Data, tools: Tools, progress: Progress): Promise<void> {
  const needed = circuits(round.params);
  await progress('keys', 0, needed.size);
  for (const [name, circuit] of needed) {
    const expected = expectedKeyHash(circuit, name, tools.made);
    if (hex(await sha256(data.get(name)!)) !== expected) {
      throw new Rejected(`${name}: not the verification key of this statement (circuit ${repr(circuit.crate)})`);
    }
  }
}

/** Run bb on every proof, read when its turn comes, under the key that belongs to it. */
async function checkProofs(
  bundle: Folder,
  claimed: Manifest,
  round: Round,
  data: Data,
  tools: Tools,
  progress: Progress,
): Promise<void> {
  const work = parts(round.params);
  for (const [done, part] of work.entries()) {
    await progress('proofs', done, work.length);
    const key = data.get(part.key)!;
    const proof = await readFile(bundle, claimed, part.proof, proofBytes(key[31]!));
    const holds = await tools.bb.verify(key, proof, data.get(part.publicInputs)!);
    if (!holds) {
      throw new Rejected(`${part.name}: bb refutes it: the proof does not hold for these public inputs`);
    }
  }
  await progress('proofs', work.length, work.length);
}

/** Read and check an aggregate's file against what was proved: the range of S, then A, then how many it sums. */
async function openAggregate(claim: Claim, file: Named, tools: Tools): Promise<void> {
  const found = await loadAggregate(file, claim.round.params.d);
  try {
    checkAggregate(found, claim.round, file.name);
  } catch (error) {
    if (error instanceof InputError) throw new Rejected(`aggregate: ${error.message}`);
    throw error;
  }
  if (!equal(await commitmentOf(found, claim.round, (words) => tools.bb.hash(words)), claim.aggregate)) {
    throw new Rejected(`aggregate: ${file.name} is not what A commits to`);
  }
  const count = accepted(claim.verdict, claim.round.params).length;
  if (found.count !== BigInt(count)) {
    throw new Rejected(`aggregate: ${file.name} counts ${found.count} accepted clients, the proof ${count}`);
  }
}
