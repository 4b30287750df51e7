/**
 * `round.toml` and the `round` of a manifest; the twin of `zkkrum.rounds.roundfile`. Must not know proofs.
 */

import { TomlError, parse as parseToml } from 'smol-toml';

import { InputError } from './errors';
import { type Bytes, fromHex } from './field';
import { type Named } from './folder';
import { type Json } from './json';
import { PROTOCOL, Params, type Round, round } from './params';
import { Problem, type Read, exact, integer, listOf, model, number, optional, text } from './schema';
import { first, grouped, repr } from './text';

/** A roster of the longest ids takes a fifth of it. */
const TOML_BYTES_MAX = 2 ** 19;
/** What this parser of TOML takes for space, or leaves out, and others do not. */
const STRANGE_SPACE = /[\v\f\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]/;

const parametersFile = model({
  n: integer,
  d: integer,
  b: integer,
  chunk: integer,
  f: integer,
  m: integer,
  score: text,
  detection: text,
  z: exact,
  gamma: exact,
  acceptance: text,
});

/** Everything `context` is made of. */
export const roundFile = model({
  protocol: text,
  round_id: text,
  clip: number,
  roster: listOf(text),
  subject: optional(text, `0x${'0'.repeat(64)}`),
  chain_id: optional(exact, '0'),
  contract: optional(text, `0x${'0'.repeat(40)}`),
  parameters: parametersFile,
});

/** The checked round; `InputError` otherwise. */
export async function roundOf(file: Read<typeof roundFile>): Promise<Round> {
  if (file.protocol !== PROTOCOL) {
    throw new InputError(
      `protocol: expected ${repr(PROTOCOL)}, found ${repr(file.protocol)}`,
      'this zkkrum speaks one protocol: open the round again with it, or use the version that wrote this',
    );
  }
  return round({
    params: new Params(file.parameters),
    clip: file.clip,
    roster: file.roster,
    roundId: parseBytes(file.round_id, 32, 'round_id'),
    subject: parseBytes(file.subject, 32, 'subject'),
    chainId: parseInteger(file.chain_id, 'chain_id'),
    contract: parseBytes(file.contract, 20, 'contract'),
  });
}

/** Parse `0x` and exactly `2 * size` hexadecimal digits. */
export function parseBytes(value: string, size: number, name: string): Bytes {
  if (value.length !== 2 + 2 * size || !/^0x[0-9a-fA-F]*$/.test(value)) {
    throw new InputError(`${name}: expected 0x and ${2 * size} hexadecimal digits, found ${repr(first(value, 80))}`);
  }
  return fromHex(value.slice(2));
}

function parseInteger(value: string, name: string): bigint {
  if (!/^(?:0x[0-9a-fA-F]{1,64}|[0-9]{1,78})$/.test(value)) {
    throw new InputError(`${name}: expected an integer below 2^256, found ${repr(first(value, 80))}`);
  }
  return BigInt(value);
}

/** Read `round.toml`; `InputError` names the file and the field. */
export async function loadRound(file: Named): Promise<Round> {
  try {
    if (file.size > TOML_BYTES_MAX) {
      const [most, found] = [grouped(TOML_BYTES_MAX), grouped(file.size)];
      throw new InputError(`cannot be read: Too large: expected at most ${most} bytes, found ${found}`);
    }
    const source = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(await file.read());
    if (STRANGE_SPACE.test(source)) throw new InputError('cannot be read as TOML: a character that is no space there');
    return await roundOf(roundFile(asJson(parseToml(source, { integersAsBigInt: true })), []));
  } catch (error) {
    if (error instanceof InputError) throw new InputError(`${file.name}: ${error.message}`, error.hint);
    if (error instanceof Problem) throw new InputError(`${file.name}: ${error.message}`);
    if (error instanceof TomlError || error instanceof TypeError) {
      throw new InputError(`${file.name}: cannot be read as TOML: ${error.message.split('\n')[0]}`);
    }
    throw error;
  }
}

/** TOML's tables as JSON's objects; what JSON does not have (dates) becomes null, which fits no model. */
function asJson(value: unknown): Json {
  if (Array.isArray(value)) return value.map(asJson);
  if (value instanceof Date || value === undefined) return null;
  if (typeof value === 'object' && value) {
    return new Map(Object.entries(value).map(([name, entry]) => [name, asJson(entry)]));
  }
  return value as Json;
}
