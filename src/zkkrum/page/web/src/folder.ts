/**
 * Files as they were dropped, read when they are needed. Must not know what is in them.
 */

import { type Bytes } from './field';

/** One file. */
export interface Entry {
  readonly size: number;
  read(): Promise<Bytes>;
}

/** A file with the name under which it is spoken of. */
export interface Named extends Entry {
  readonly name: string;
}

/** A folder: entries by path, parts joined by slashes. */
export interface Folder {
  readonly name: string;
  readonly entries: ReadonlyMap<string, Entry>;
}

/** A file that the browser hands out. */
export function entryOf(file: Blob): Entry {
  return { size: file.size, read: async () => new Uint8Array(await file.arrayBuffer()) };
}
