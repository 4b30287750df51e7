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
import { ascii, first, floatRepr } from './text';

/** No tensor has more. */
const AXES_MAX = 32;
const LAYOUT_BYTES_MAX = 16 * 2 ** 20;
const DTYPES = ['float16', 'bfloat16', 'float32', 'float64'];

/** Poseidon2 of words. */
export type Hash = (words: readonly Bytes[]) => Promise<Bytes>;

/** The contents of an `aggregate.npz`, checked against a round's parameters. */
export interface AggregateFile {
  total: Int32Array;
  salt: bigint;
  count: bigint;
}

/** Read an `aggregate.npz` for a round; the range of S and the canonical σ are checked. */
export async function loadAggregate(file: Named, round: Round): Promise<AggregateFile> {
  const p = round.params;
  const arrays = await readArchive(file, 'an aggregate', {
    sum: { dtype: 'int64', shape: [p.d] },
    salt: { dtype: 'uint8', shape: [32] },
    count: { dtype: 'int64', shape: [] },
    bits: { dtype: 'int64', shape: [] },
    clip: { dtype: 'float64', shape: [] },
    layout: { dtype: 'uint8', sizeMax: LAYOUT_BYTES_MAX },
  });
  const { sum, salt, count, bits, clip, layout } = arrays;
  const sizes = layoutSizes(file.name, new Uint8Array(layout.data.buffer));
  const found: AggregateFile = {
    total: new Int32Array(p.d),
    salt: fromWord(new Uint8Array(salt.data.buffer)),
    count: count.data.getBigInt64(0, count.little),
  };
  const limit = 1n << BigInt(p.sumBits);
  for (let k = 0; k < p.d; k++) {
    const value = sum.data.getBigInt64(8 * k, sum.little);
    if (value < 0n || value >= limit) {
      throw new InputError(
        `${file.name}: sum[${k}] = ${value} is not in [0, 2^${p.sumBits}), ` +
          `as a sum of at most n = ${p.n} values of ${p.b} bits is`,
      );
    }
    found.total[k] = Number(value);
  }
  if (found.salt >= P) throw new InputError(`${file.name}: the salt is not a canonical field element`);
  const ownBits = bits.data.getBigInt64(0, bits.little);
  if (ownBits !== BigInt(p.b)) throw new InputError(`${file.name}: bits: expected the round's ${p.b}, found ${ownBits}`);
  const ownClip = clip.data.getFloat64(0, clip.little);
  if (ownClip !== round.clip) {
    throw new InputError(
      `${file.name}: clip: expected the round's ${floatRepr(round.clip)}, found ${floatRepr(ownClip)}`,
    );
  }
  const values = sizes.reduce((a, b) => a + b, 0n);
  if (sizes.length && values !== BigInt(p.d)) {
    throw new InputError(`${file.name}: layout: expected tensors of ${p.d} values (d) in all, found ${values}`);
  }
  return found;
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

/** A: the commitment chain of "client n". */
export async function commitmentOf(found: AggregateFile, round: Round, hash: Hash): Promise<Bytes> {
  const p = round.params;
  const leaves: bigint[] = [];
  for (let t = 0; t < p.chunks; t++) {
    const values = found.total.subarray(t * p.chunk, t * p.chunk + p.chunkSize(t));
    const salt = await hash([toWord(found.salt), toWord(t)]);
    leaves.push(fromWord(await hash([...packWords(values, p.sumBits), salt])));
  }
  return chain(round.context, p.n, leaves);
}
