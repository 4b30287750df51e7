/**
 * NumPy archives from strangers: names, dtypes and shapes are checked before anything is believed; the twin of
 * `zkkrum.rounds.archive`. Must not know what the arrays mean.
 */

import { InputError } from './errors';
import { type Bytes } from './field';
import { type Named } from './folder';
import { ascii, compare, first, grouped } from './text';
import { BadZip, type Member, readZip } from './zip';

const [HEADER_BYTES_MAX, MAGIC_BYTES] = [4096, 12];
/** As NumPy writes it: what it also reads differs from one version to the next. */
const HEADER =
  /^\{'descr': '([<>|][a-zA-Z][1-9][0-9]*|\|O)', 'fortran_order': (True|False), 'shape': \((|(?:0|[1-9][0-9]{0,18}),|(?:(?:0|[1-9][0-9]{0,18}), )+(?:0|[1-9][0-9]{0,18}))\), \} *\n$/;

/** What an array must be: exactly a shape, or at most so many entries in one dimension. */
export interface Expected {
  dtype: 'int64' | 'uint8' | 'float64';
  shape?: readonly number[];
  sizeMax?: number;
}

/** An array as its bytes, little-endian where it has words. */
export interface Found {
  data: DataView<ArrayBuffer>;
  count: number;
  little: boolean;
}

/** Bytes are no archive that can be read; the message says why. */
class Damaged extends Error {}

/** Read an `.npz` that has exactly these arrays. */
export async function readArchive<K extends string>(
  file: Named,
  what: string,
  arrays: Record<K, Expected>,
): Promise<Record<K, Found>> {
  try {
    const members = readZip(await file.read(), true);
    const wanted = Object.keys(arrays).map((name) => `${name}.npy`);
    const names = members.map((member) => member.name).sort(compare);
    if (names.join('\0') !== wanted.sort(compare).join('\0')) {
      const expected = Object.keys(arrays).sort(compare).join(', ');
      const shown = first(`[${names.map(ascii).join(', ')}]`, 100);
      throw new InputError(`${file.name}: not ${what}: expected arrays ${expected}, found ${shown}`);
    }
    const found: Partial<Record<K, Found>> = {};
    for (const [name, expected] of Object.entries(arrays) as [K, Expected][]) {
      const member = members.find((candidate) => candidate.name === `${name}.npy`)!;
      found[name] = await readArray(member, `${file.name}: not ${what}: ${name}`, expected);
    }
    return found as Record<K, Found>;
  } catch (error) {
    if (error instanceof BadZip || error instanceof Damaged) {
      throw new InputError(`${file.name}: not ${what} that can be read: ${error.message}`);
    }
    throw error;
  }
}

const ITEM_BYTES: Record<string, number> = { i8: 8, f8: 8, u1: 1 };
const DTYPES: Record<string, string> = {
  i1: 'int8', i2: 'int16', i4: 'int32', i8: 'int64', u1: 'uint8', u2: 'uint16', u4: 'uint32', u8: 'uint64',
  f2: 'float16', f4: 'float32', f8: 'float64', b1: 'bool', O: 'object', // prettier-ignore
};

async function readArray(member: Member, place: string, expected: Expected): Promise<Found> {
  const largest = expected.shape ? expected.shape.reduce((a, b) => a * b, 1) : expected.sizeMax!;
  const most = largest * (expected.dtype === 'uint8' ? 1 : 8);
  if (member.size > most + HEADER_BYTES_MAX + MAGIC_BYTES) {
    throw new InputError(`${place}: expected at most ${grouped(most)} bytes, found ${grouped(member.size)}`);
  }
  const { data, end } = await member.unpack(member.size + 1);
  end();
  const { descr, fortran, shape, start } = header(data);
  const [order, kind] = /^[<>|=]/.test(descr) ? [descr[0], descr.slice(1)] : ['=', descr];
  const name = DTYPES[kind] ?? descr;
  if (name !== expected.dtype || (fortran && shape.length > 1)) {
    const shown = order === '>' && name !== 'uint8' ? descr : name;
    throw new InputError(`${place}: expected ${expected.dtype}, found ${shown}`);
  }
  const fits = expected.shape
    ? shape.length === expected.shape.length && shape.every((x, k) => x === expected.shape![k])
    : shape.length === 1 && shape[0]! <= expected.sizeMax!;
  if (!fits) {
    const wanted = expected.shape ? tuple(expected.shape) : `at most ${expected.sizeMax} in one dimension`;
    throw new InputError(`${place}: expected shape ${wanted}, found ${first(tuple(shape), 60)}`);
  }
  const count = shape.reduce((a, b) => a * b, 1);
  const size = count * ITEM_BYTES[kind]!;
  if (data.length - start !== size) throw new InputError(`${place}: its data are not as long as its header says`);
  return { data: new DataView(data.slice(start).buffer), count, little: order !== '>' };
}

function tuple(shape: readonly number[]): string {
  return shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
}

/** Read the header of an `.npy`, of bounded length. */
function header(data: Bytes): { descr: string; fortran: boolean; shape: number[]; start: number } {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
  if (data.length < 12 || magic.some((x, k) => data[k] !== x)) throw new Damaged('no NumPy array');
  if (view.getUint16(6, false) !== 0x0100) throw new Damaged('the header of an array is not one that NumPy writes');
  const [length, start] = [view.getUint16(8, true), 10];
  if (length > HEADER_BYTES_MAX || start + length > data.length) throw new Damaged('Header info length is too large');
  const text = new TextDecoder('latin1').decode(data.subarray(start, start + length));
  const found = HEADER.exec(text);
  if (!found) throw new Damaged('the header of an array is not one that NumPy writes');
  const shape = found[3]!.split(',').filter((x) => x.trim()).map(Number);
  return { descr: found[1]!, fortran: found[2] === 'True', shape, start: start + length };
}
