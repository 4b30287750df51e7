/**
 * Zip archives from strangers: the list of members, each unpacked when it is read and never beyond what is asked for.
 * Must not know what is in them.
 */

import { type Bytes, concat } from './field';
import { ascii } from './text';

/** The archive is damaged, or of a kind that is not read here. */
export class BadZip extends Error {}

/** A member of an archive. */
export interface Member {
  readonly name: string;
  /** Bytes when unpacked, by the archive's own word. */
  readonly size: number;
  /** Unpack at most `limit` bytes; `end` checks that nothing is missing and that the checksum fits. */
  unpack(limit: number): Promise<{ data: Bytes; end(): void }>;
}

const NOT_A_ZIP = 'File is not a zip file';
/** Readers may take such an archive for different ones. */
const NOT_IN_ONE_PIECE = 'its members and the list of them do not make up the file, each of it once, as NumPy writes it';
const [VERSION_MAX, LOCAL_EXTRA_MAX] = [63, 20];
const PLAIN_NAME = /^[0-9A-Za-z_]+\.npy$/;

/**
 * List the members of an archive.
 *
 * `asNumPy`: only of one that every reader reads alike, as `zkkrum.rounds.archive` does: members follow each other from
 * the first byte up to their list, names are plain and stand in both places, and nothing else has a name.
 */
export function readZip(data: Bytes, asNumPy = false): Member[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  try {
    return [...members(data, view, asNumPy)];
  } catch (error) {
    if (error instanceof RangeError) throw new BadZip(NOT_A_ZIP);
    throw error;
  }
}

/** The list of members: it stands before the end, which is the end of the file, and the archive begins with it. */
function directory(view: DataView): { count: number; at: number; end: number } {
  const end = view.byteLength - 22;
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50) throw new BadZip(NOT_A_ZIP);
  const [count, size, at] = [view.getUint16(end + 10, true), view.getUint32(end + 12, true), view.getUint32(end + 16, true)];
  const alone = view.getUint32(end + 4, true) === 0 && view.getUint16(end + 8, true) === count; // one disk
  const uncommented = view.getUint16(end + 20, true) === 0;
  const large = end >= 20 && view.getUint32(end - 20, true) === 0x07064b50;
  if (!alone || !uncommented || large || at + size !== end) throw new BadZip(NOT_IN_ONE_PIECE);
  return { count, at, end };
}

function* members(data: Bytes, view: DataView, asNumPy: boolean): Generator<Member> {
  let { count, at, end } = directory(view);
  const list = at;
  let reach = 0;
  for (; count > 0; count--) {
    if (view.getUint32(at, true) !== 0x02014b50) throw new BadZip('Bad magic number for central directory');
    const [flags, method] = [view.getUint16(at + 8, true), view.getUint16(at + 10, true)];
    const crc = view.getUint32(at + 16, true);
    const lengths = [28, 30, 32].map((offset) => view.getUint16(at + offset, true)) as [number, number, number];
    const name = new TextDecoder('utf-8', { ignoreBOM: true }).decode(data.subarray(at + 46, at + 46 + lengths[0]));
    const [size, packed, start] = wide(view, at, at + 46 + lengths[0], lengths[1]);
    if (view.getUint16(at + 6, true) > VERSION_MAX) throw new BadZip('zip file version is not supported');
    if (asNumPy) {
      if (method !== 0 && method !== 8) throw new BadZip(`${ascii(name)}: expected a member that is stored or deflated`);
      const [own, ownExtra] = [view.getUint16(start + 26, true), view.getUint16(start + 28, true)];
      const plain =
        !(flags & ~0x800) && !lengths[1] && !lengths[2] && !view.getUint16(at + 34, true) && PLAIN_NAME.test(name) &&
        start === reach && view.getUint32(start, true) === 0x04034b50 && own === lengths[0] &&
        view.getUint16(start + 6, true) === flags && view.getUint16(start + 8, true) === method &&
        new TextDecoder('latin1').decode(data.subarray(start + 30, start + 30 + own)) === name &&
        (method !== 0 || packed === size) && ownExtra <= LOCAL_EXTRA_MAX; // prettier-ignore
      if (!plain) throw new BadZip(NOT_IN_ONE_PIECE);
      reach = start + 30 + own + ownExtra + packed;
    }
    yield member(data, view, { name, flags, method, crc, size, packed, start });
    at += 46 + lengths[0] + lengths[1] + lengths[2];
  }
  if (at !== end || (asNumPy && reach !== list)) throw new BadZip(NOT_IN_ONE_PIECE);
}

/** Size, packed size and place of a member, from the 64-bit fields where the short ones do not suffice. */
function wide(view: DataView, at: number, extra: number, length: number): [number, number, number] {
  const short = [24, 20, 42].map((offset) => view.getUint32(at + offset, true)) as [number, number, number];
  for (let k = extra; k + 4 <= extra + length; k += 4 + view.getUint16(k + 2, true)) {
    if (view.getUint16(k, true) !== 1) continue;
    let field = k + 4;
    for (let which = 0; which < 3; which++) {
      if (short[which] !== 0xffffffff) continue;
      short[which] = Number(view.getBigUint64(field, true));
      field += 8;
    }
  }
  return short;
}

interface Header {
  name: string;
  flags: number;
  method: number;
  crc: number;
  size: number;
  packed: number;
  start: number;
}

function member(data: Bytes, view: DataView, header: Header): Member {
  const { name, flags, method, crc, size, packed, start } = header;
  return {
    name,
    size,
    async unpack(limit) {
      if (flags & 0x60) throw new BadZip(`File '${name}' is patched or encrypted`);
      if (flags & 1) throw new BadZip(`File '${name}' is encrypted, password required for extraction`);
      if (method !== 0 && method !== 8) throw new BadZip('That compression method is not supported');
      if (start + 30 > data.length || view.getUint32(start, true) !== 0x04034b50) {
        throw new BadZip('Bad magic number for file header');
      }
      const own = data.subarray(start + 30, start + 30 + view.getUint16(start + 26, true));
      if (new TextDecoder('utf-8', { ignoreBOM: true }).decode(own) !== name) throw new BadZip(`File name in directory '${name}' and header differ`);
      const from = start + 30 + view.getUint16(start + 26, true) + view.getUint16(start + 28, true);
      if (from + packed > data.length) throw new BadZip('a part of it claims to be larger than the file');
      const raw = data.subarray(from, from + packed);
      const { found, whole } = method === 0 ? { found: raw.slice(0, limit), whole: raw.length <= limit } : await inflate(raw, limit);
      const end = () => {
        if (whole && (found.length !== size || crc32(found) !== crc)) throw new BadZip(`Bad CRC-32 for file '${name}'`);
      };
      return { data: found, end };
    },
  };
}

/** Inflate at most `limit` bytes; `whole` where that is all there is. */
async function inflate(raw: Bytes, limit: number): Promise<{ found: Bytes; whole: boolean }> {
  const reader = new Blob([raw]).stream().pipeThrough(new DecompressionStream('deflate-raw')).getReader();
  const parts: Uint8Array[] = [];
  let size = 0;
  try {
    while (size <= limit) {
      const { done, value } = await reader.read();
      if (done) return { found: concat(...parts), whole: true };
      parts.push(value);
      size += value.length;
    }
  } catch (error) {
    throw new BadZip(`Error while decompressing data: ${error instanceof Error ? error.message : error}`);
  } finally {
    reader.cancel().catch(() => undefined);
  }
  return { found: concat(...parts).slice(0, limit), whole: false };
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function crc32(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const x of data) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ x) & 0xff]!;
  return (crc ^ 0xffffffff) >>> 0;
}
