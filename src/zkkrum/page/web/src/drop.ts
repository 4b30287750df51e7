/**
 * What somebody dropped or chose, as named folders and files. Must not know what is right about them.
 */

import { InputError } from './errors';
import { type Entry, type Folder, type Named, entryOf } from './folder';
import { BadZip, readZip } from './zip';

const MEMBER_BYTES_MAX = 64 * 2 ** 20;

/** Everything of one drop, by path: a folder's files under its name, single files under theirs. */
export type Dropped = Map<string, Entry>;

/** What a browser that has it gives for a dropped item; the DOM's types do not know all of it yet. */
interface Handle {
  readonly kind: 'file' | 'directory';
  readonly name: string;
  getFile(): Promise<File>;
  values(): AsyncIterable<Handle>;
}
type Item = DataTransferItem & { getAsFileSystemHandle?(): Promise<Handle | null> };

/**
 * Read what was dropped; folders are walked.
 *
 * Browsers built on Chromium do not open the entries of a folder for a page from disk, but its handles; others have
 * entries alone. Items are gone after the event, so all of them are asked before anything is waited for.
 */
export async function ofTransfer(transfer: DataTransfer): Promise<Dropped> {
  const items = ([...transfer.items] as Item[]).filter((item) => item.kind === 'file');
  const asked = items.map((item) => ({
    file: item.getAsFile(),
    entry: item.webkitGetAsEntry(),
    handle: item.getAsFileSystemHandle?.().catch(() => null),
  }));
  const found: Dropped = new Map();
  for (const { file, entry, handle } of asked) {
    if (file && !entry?.isDirectory) {
      found.set(file.name, entryOf(file));
      continue;
    }
    const folder = await handle;
    if (folder) await walkHandle(folder, folder.name, found);
    else if (entry) await walkEntry(entry, entry.name, found);
  }
  return found;
}

async function walkHandle(handle: Handle, path: string, found: Dropped): Promise<void> {
  if (handle.kind === 'file') {
    found.set(path, entryOf(await handle.getFile()));
    return;
  }
  for await (const child of handle.values()) await walkHandle(child, `${path}/${child.name}`, found);
}

async function walkEntry(entry: FileSystemEntry, path: string, found: Dropped): Promise<void> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    found.set(path, entryOf(file));
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const child of some) await walkEntry(child, `${path}/${child.name}`, found);
  }
}

/** Read what was chosen with a button. */
export function ofFiles(files: Iterable<File>): Dropped {
  return new Map([...files].map((file) => [file.webkitRelativePath || file.name, entryOf(file)]));
}

/** Replace every zip archive by its members, under its name without the suffix. */
export async function unzipped(dropped: Dropped): Promise<Dropped> {
  const found: Dropped = new Map();
  for (const [path, entry] of dropped) {
    if (!/\.zip$/i.test(path)) {
      found.set(path, entry);
      continue;
    }
    try {
      for (const member of readZip(await entry.read())) {
        if (member.name.endsWith('/')) continue;
        const read = async () => {
          const { data, end } = await member.unpack(MEMBER_BYTES_MAX);
          end();
          return data;
        };
        found.set(`${path.slice(0, -4)}/${member.name}`, { size: member.size, read });
      }
    } catch (error) {
      if (error instanceof BadZip) throw new InputError(`${path}: ${error.message}`);
      throw error;
    }
  }
  return found;
}

/** The folder of the only file of this name. */
export function folderWith(dropped: Dropped, file: string): Folder | undefined {
  const places = [...dropped.keys()].filter((path) => path === file || path.endsWith(`/${file}`));
  if (places.length > 1) throw new InputError(`expected one bundle, found ${places.length}: ${places.join(', ')}`);
  if (!places[0]) return undefined;
  return below(dropped, places[0].slice(0, -file.length).replace(/\/$/, ''));
}

/** The folder of all files with a suffix, where they stand together. */
export function folderOf(dropped: Dropped, suffix: string): Folder | undefined {
  const paths = [...dropped.keys()].filter((path) => path.endsWith(suffix));
  const parents = new Set(paths.map((path) => path.slice(0, path.lastIndexOf('/') + 1)));
  if (!paths.length) return undefined;
  if (parents.size > 1) throw new InputError(`expected one folder of ${suffix} files, found ${[...parents].join(', ')}`);
  return below(dropped, [...parents][0]!.replace(/\/$/, ''));
}

function below(dropped: Dropped, parent: string): Folder {
  const start = parent ? `${parent}/` : '';
  const inside = [...dropped].filter(([path]) => path.startsWith(start));
  const entries = new Map(inside.map(([path, entry]) => [path.slice(start.length), entry]));
  return { name: parent || 'the dropped files', entries };
}

/** The only file with a suffix. */
export function fileWith(dropped: Dropped, suffix: string): Named | undefined {
  const paths = [...dropped.keys()].filter((path) => path.endsWith(suffix));
  if (paths.length > 1) throw new InputError(`expected one ${suffix} file, found ${paths.length}: ${paths.join(', ')}`);
  const path = paths[0];
  return path === undefined ? undefined : { name: path, ...dropped.get(path)! };
}
