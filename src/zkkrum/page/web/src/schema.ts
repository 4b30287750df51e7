/**
 * Models that take nothing they were not told of: typed readers of JSON, with the complaints of `zkkrum`'s own.
 * Must not know what is read.
 */

import { type Json, InvalidJson, parseJson } from './json';
import { ascii, first, isPrintable } from './text';

/** What is wrong with a value, and where; the message has both. */
export class Problem extends Error {}

export type Reader<T> = ((value: Json, where: readonly string[]) => T) & { readonly fallback?: T };
export type Read<R> = R extends Reader<infer T> ? T : never;

function complain(where: readonly string[], what: string): never {
  const place = where.join('.') || 'file';
  throw new Problem(first(`${isPrintable(place) ? place : ascii(place)}: ${what}`, 300));
}

/** Read bytes as JSON of a model; a `Problem` says the first thing that is wrong. */
export function validate<T>(reader: Reader<T>, data: Uint8Array): T {
  let parsed;
  try {
    parsed = parseJson(data);
  } catch (error) {
    if (error instanceof InvalidJson) complain([], error.message);
    throw error;
  }
  const found = reader(parsed.value, []);
  if (parsed.complaint) throw new Problem(parsed.complaint);
  return found;
}

export const text: Reader<string> = (value, where) =>
  typeof value === 'string' ? value : complain(where, 'Input should be a valid string');

export const integer: Reader<bigint> = (value, where) =>
  typeof value === 'bigint' ? value : complain(where, 'Input should be a valid integer');

export const truth: Reader<boolean> = (value, where) =>
  typeof value === 'boolean' ? value : complain(where, 'Input should be a valid boolean');

/** A number; integers are numbers. */
export const number: Reader<number> = (value, where) =>
  typeof value === 'number' || typeof value === 'bigint' ? Number(value) : complain(where, 'Input should be a valid number');

/** Text, or an integer as text: never a binary fraction, which would not be exact. */
export const exact: Reader<string> = (value, where) =>
  typeof value === 'string' || typeof value === 'bigint'
    ? String(value)
    : complain(where, 'Value error, write it as text, such as "5", "1.25" or "5/4"');

/** One of these words. */
export function oneOf<T extends string>(...words: T[]): Reader<T> {
  const quoted = words.map((word) => `'${word}'`);
  const shown = quoted.length > 1 ? `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}` : quoted[0];
  return (value, where) => words.find((word) => word === value) ?? complain(where, `Input should be ${shown}`);
}

export function listOf<T>(reader: Reader<T>): Reader<T[]> {
  return (value, where) =>
    Array.isArray(value)
      ? value.map((entry, k) => reader(entry, [...where, String(k)]))
      : complain(where, 'Input should be a valid array');
}

export function mapOf<T>(reader: Reader<T>): Reader<Map<string, T>> {
  return (value, where) =>
    value instanceof Map
      ? new Map([...value].map(([name, entry]) => [name, reader(entry, [...where, name])]))
      : complain(where, 'Input should be an object');
}

/** A field that may be missing. */
export function optional<T>(reader: Reader<T>, fallback: T): Reader<T> {
  return Object.assign((value: Json, where: readonly string[]) => reader(value, where), { fallback });
}

/** Exactly these fields. */
export function model<S extends Record<string, Reader<unknown>>>(fields: S): Reader<{ [K in keyof S]: Read<S[K]> }> {
  return (value, where) => {
    if (!(value instanceof Map)) return complain(where, 'Input should be an object');
    const found: Record<string, unknown> = {};
    for (const [name, reader] of Object.entries(fields)) {
      const entry = value.get(name);
      if (entry !== undefined) found[name] = reader(entry, [...where, name]);
      else if ('fallback' in reader) found[name] = reader.fallback;
      else complain([...where, name], 'Field required');
    }
    for (const name of value.keys()) if (!Object.hasOwn(fields, name)) complain([...where, name], 'Extra inputs are not permitted');
    return found as { [K in keyof S]: Read<S[K]> };
  };
}
