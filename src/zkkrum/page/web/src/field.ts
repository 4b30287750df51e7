/**
 * Bytes, 32-byte words and the BN254 scalar field. Must not know what the numbers mean.
 */

export type Bytes = Uint8Array<ArrayBuffer>;

/** Order of the BN254 scalar field. */
export const P = 0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001n;

/** Widest packed word: 2^252 < P. */
export const PACKABLE_BITS = 252;

/** Two hexadecimal digits a byte. */
export function hex(data: Uint8Array): string {
  return Array.from(data, (x) => x.toString(16).padStart(2, '0')).join('');
}

/** `0x` and two hexadecimal digits a byte. */
export function hexOf(data: Uint8Array): string {
  return `0x${hex(data)}`;
}

/** The bytes that an even number of hexadecimal digits stands for. */
export function fromHex(digits: string): Bytes {
  const data = new Uint8Array(digits.length / 2);
  for (let k = 0; k < data.length; k++) data[k] = parseInt(digits.slice(2 * k, 2 * k + 2), 16);
  return data;
}

/** `0x` and 64 hexadecimal digits. */
export function toHex(x: bigint): string {
  return `0x${x.toString(16).padStart(64, '0')}`;
}

/** One 32-byte big-endian word. */
export function toWord(x: bigint | number): Bytes {
  return fromHex(x.toString(16).padStart(64, '0'));
}

/** The integer of big-endian bytes. */
export function fromWord(data: Uint8Array): bigint {
  return BigInt(data.length ? hexOf(data) : 0);
}

/** Split 32-byte big-endian words; the length must be a multiple of 32. */
export function fromBytes(data: Uint8Array): bigint[] {
  return splitWords(data).map(fromWord);
}

/** Split 32-byte words without reading them. */
export function splitWords(data: Uint8Array): Uint8Array[] {
  return Array.from({ length: data.length / 32 }, (_, k) => data.subarray(32 * k, 32 * k + 32));
}

/** Join bytes. */
export function concat(...parts: Uint8Array[]): Bytes {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let end = 0;
  for (const part of parts) {
    joined.set(part, end);
    end += part.length;
  }
  return joined;
}

export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((x, k) => x === b[k]);
}

/** SHA-256, by the browser. */
export async function sha256(...parts: Uint8Array[]): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', concat(...parts)));
}

/** Pack integers of `width` bits into 32-byte words, the first in the lowest bits, zero-filled. */
export function packWords(values: ArrayLike<number>, width: number): Bytes[] {
  const per = Math.floor(PACKABLE_BITS / width);
  const words: Bytes[] = [];
  for (let start = 0; start < values.length; start += per) {
    let word = 0n;
    for (let k = Math.min(start + per, values.length) - 1; k >= start; k--) {
      word = (word << BigInt(width)) | BigInt(values[k]!);
    }
    words.push(toWord(word));
  }
  return words;
}

/** Bits of a number that is not negative. */
export function bitLength(x: bigint): number {
  return x ? x.toString(2).length : 0;
}
