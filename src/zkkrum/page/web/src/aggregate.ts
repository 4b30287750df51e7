/**
 * `aggregate.npz`: the sum S of the accepted clients' values and what opens its commitment; the twin of
 * `zkkrum.rounds.aggregate` and `zkkrum.protocol.aggregate`. Must not know proofs.
 */

import { readArchive } from './archive';
import { chain } from './commitment';
import { InputError } from './errors';
import { type Bytes, P, fromWord, packWords, toWord } from './field';
import { type Named } from './folder';
import { type Json } from './json';
import { D_MAX, type Round } from './params';
import { Problem, integer, listOf, text, validate } from './schema';
import { ascii, compare, first, floatRepr, grouped } from './text';

/** No tensor has more. */
const AXES_MAX = 32;
const NAME_BYTES_MAX = 1000;
const LAYOUT_BYTES_MAX = 16 * 2 ** 20;
const DTYPES = ['float16', 'bfloat16', 'float32', 'float64'];

/** Poseidon2 of words. */
export type Hash = (words: readonly Bytes[]) => Promise<Bytes>;

/** The contents of an `aggregate.npz`. */
export interface AggregateFile {
  total: BigInt64Array;
  salt: bigint;
  count: bigint;
  bits: bigint;
  clip: number;
  /** Those of the tensors in its layout. */
  sizes: bigint[];
}

/** Read an `aggregate.npz` of d values; `checkAggregate` says whether they can be those of a round. */
export async function loadAggregate(file: Named, d: number): Promise<AggregateFile> {
  const arrays = await readArchive(file, 'an aggregate', {
    sum: { dtype: 'int64', shape: [d] },
    salt: { dtype: 'uint8', shape: [32] },
    count: { dtype: 'int64', shape: [] },
    bits: { dtype: 'int64', shape: [] },
    clip: { dtype: 'float64', shape: [] },
    layout: { dtype: 'uint8', sizeMax: LAYOUT_BYTES_MAX },
  });
  const { sum, salt, count, bits, clip, layout } = arrays;
  const total = new BigInt64Array(d);
  for (let k = 0; k < d; k++) total[k] = sum.data.getBigInt64(8 * k, sum.little);
  return {
    total,
    salt: fromWord(new Uint8Array(salt.data.buffer)),
    count: count.data.getBigInt64(0, count.little),
    bits: bits.data.getBigInt64(0, bits.little),
    clip: clip.data.getFloat64(0, clip.little),
    sizes: layoutSizes(file.name, new Uint8Array(layout.data.buffer)),
  };
}

/** Throw `InputError` naming `who`, and the array and index, unless all values are such as this round has. */
export function checkAggregate(found: AggregateFile, round: Round, who: string): void {
  const p = round.params;
  const limit = 1n << BigInt(p.sumBits);
  const bad = found.total.findIndex((value) => value < 0n || value >= limit);
  if (bad >= 0) {
    throw new InputError(
      `${who}: sum[${bad}] = ${found.total[bad]} is not in [0, 2^${p.sumBits}), ` +
        `as a sum of at most n = ${p.n} values of ${p.b} bits is`,
    );
  }
  if (found.salt >= P) throw new InputError(`${who}: the salt is not a canonical field element`);
  if (found.bits !== BigInt(p.b)) throw new InputError(`${who}: bits: expected the round's ${p.b}, found ${found.bits}`);
  if (found.clip !== round.clip) {
    const [ours, theirs] = [floatRepr(found.clip), floatRepr(round.clip)];
    throw new InputError(`${who}: clip: expected the round's ${theirs}, found ${ours}`);
  }
  const values = found.sizes.reduce((a, b) => a + b, 0n);
  if (found.sizes.length && values !== BigInt(p.d)) {
    throw new InputError(`${who}: layout: expected tensors of ${p.d} values (d) in all, found ${values}`);
  }
}

/** The sizes of the tensors that a layout lists. */
function layoutSizes(name: string, data: Bytes): bigint[] {
  try {
    const specs = validate(listOf(tensor), data);
    if (specs.some((spec) => !DTYPES.includes(spec.dtype) || !isShape(spec.shape))) {
      const shown = specs.map(
        ({ name, shape, dtype }) =>
          `TensorSpec(name=${ascii(name)}, shape=(${shape.join(', ')}${shape.length === 1 ? ',' : ''}), dtype=${ascii(dtype)})`,
      );
      const all = `(${shown.join(', ')}${shown.length === 1 ? ',' : ''})`;
      throw new InputError(`${name}: layout: expected tensors of dtype ${DTYPES.join(', ')}, found ${first(all, 100)}`);
    }
    for (const spec of specs) {
      const size = new TextEncoder().encode(spec.name).length;
      if (size <= NAME_BYTES_MAX && spec.name !== '__metadata__' && !/[\0-\x1f\x7f]/.test(spec.name)) continue;
      throw new InputError(
        `${name}: layout: expected names of tensors of at most ${grouped(NAME_BYTES_MAX)} bytes, without control ` +
          `characters and other than __metadata__, found ${first(ascii(spec.name), 100)}`,
      );
    }
    if (specs.some((spec, k) => k > 0 && compare(specs[k - 1]!.name, spec.name) >= 0)) {
      const found = first(`[${specs.map((spec) => ascii(spec.name)).join(', ')}]`, 100);
      throw new InputError(`${name}: layout: expected names in ascending order, found ${found}`);
    }
    return specs.map((spec) => spec.shape.reduce((a, b) => a * b, 1n));
  } catch (error) {
    if (error instanceof Problem) throw new InputError(`${name}: layout: ${error.message}`);
    throw error;
  }
}

/** Whether NumPy can hold it: not too many axes, not too long, none of them negative. */
function isShape(shape: readonly bigint[]): boolean {
  const largest = shape.reduce((a, x) => a * (x || 1n), 1n);
  return shape.length <= AXES_MAX && shape.every((x) => x >= 0n && x <= D_MAX) && largest <= D_MAX;
}

const tensor = (value: Json, where: readonly string[]) => {
  const parts = listOf((part: Json) => part)(value, where);
  const place = (k: number) => [...where, String(k)];
  if (parts.length < 3) throw new Problem(`${place(parts.length).join('.')}: Field required`);
  if (parts.length > 3) {
    const found = `Tuple should have at most 3 items after validation, not ${parts.length}`;
    throw new Problem(`${where.join('.')}: ${found}`);
  }
  return {
    name: text(parts[0]!, place(0)),
    shape: listOf(integer)(parts[1]!, place(1)),
    dtype: text(parts[2]!, place(2)),
  };
};

/** A: the commitment chain of "client n"; of values in range, which pack. */
export async function commitmentOf(found: AggregateFile, round: Round, hash: Hash): Promise<Bytes> {
  const p = round.params;
  const total = Int32Array.from(found.total, Number);
  const leaves: bigint[] = [];
  for (let t = 0; t < p.chunks; t++) {
    const values = total.subarray(t * p.chunk, t * p.chunk + p.chunkSize(t));
    const salt = await hash([toWord(found.salt), toWord(t)]);
    leaves.push(fromWord(await hash([...packWords(values, p.sumBits), salt])));
  }
  return chain(round.context, p.n, leaves);
}
