/**
 * A bundle: its manifest and its files; the twin of `zkkrum.proof.bundle`. Must not know how proofs are checked.
 */

import { InputError } from './errors';
import { type Bytes } from './field';
import { type Entry, type Folder } from './folder';
import { MANIFEST } from './form';
import { InvalidJson, parseJson } from './json';
import { roundFile } from './roundfile';
import { type Read, integer, listOf, mapOf, model, number, oneOf, text, truth, validate } from './schema';
import { grouped } from './text';

export const FORMAT = 'zkkrum-bundle-2';
/** No manifest of one circuit is larger; and what each file in shards/ adds at most. */
const [MANIFEST_BYTES, MANIFEST_BYTES_OF_A_FILE] = [2 * 2 ** 20, 256];

/** What a bundle claims. A verifier believes none of it. */
export const manifest = model({
  format: oneOf(FORMAT),
  form: oneOf('round', 'sharded'),
  zkkrum: text,
  noir: text,
  bb: text,
  round: roundFile,
  commitments_by: oneOf('clients', 'server'),
  commitments: listOf(model({ client: text, commitment: text })),
  aggregate: text,
  verdict: model({ malicious: truth, flagged: listOf(text), selected: listOf(text), accepted: listOf(text) }),
  public_inputs: listOf(model({ name: text, value: text })),
  circuits: mapOf(model({ crate: text, key_id: text, gates: integer })),
  files: mapOf(text),
  seconds: mapOf(number),
});

export type Manifest = Read<typeof manifest>;

/** A file of a bundle cannot be read; the message is the system's word for it. */
export class Unreadable extends Error {}

/** Look at a file of a bundle without reading it. */
export function look(folder: Folder, path: string): Entry {
  const entry = folder.entries.get(path);
  if (!entry) {
    const isFolder = [...folder.entries.keys()].some((name) => name.startsWith(`${path}/`));
    throw new Unreadable(isFolder ? 'Not a plain file' : 'No such file or directory');
  }
  return entry;
}

/** Read the manifest of a bundle; `InputError` if there is none, `Problem` if it is not one. */
export async function readManifest(folder: Folder): Promise<Manifest> {
  let data;
  try {
    const shards = [...folder.entries.keys()].filter((name) => name.startsWith('shards/')).length;
    const most = MANIFEST_BYTES + MANIFEST_BYTES_OF_A_FILE * shards;
    const entry = look(folder, MANIFEST);
    if (entry.size > most) {
      throw new Unreadable(`Too large: expected at most ${grouped(most)} bytes, found ${grouped(entry.size)}`);
    }
    data = await entry.read();
  } catch (error) {
    if (error instanceof Unreadable) throw new InputError(`${folder.name}: not a bundle: ${MANIFEST}: ${error.message}`);
    throw error;
  }
  const protocol = protocolOf(data);
  if (protocol === 1) {
    throw new InputError(
      `${folder.name}: a bundle of protocol 1, which proves the verdict but not the aggregate; this zkkrum verifies ` +
        `protocol 2 (${FORMAT})`,
      'verify it with zkkrum 0.1, or have the round proved again: this says nothing about its validity',
    );
  }
  if (protocol && protocol > 2) {
    throw new InputError(
      `${folder.name}: a bundle of protocol ${protocol}, newer than this page, which verifies protocol 2 (${FORMAT})`,
      'verify it with a newer zkkrum: this says nothing about its validity',
    );
  }
  return validate(manifest, data);
}

/** The protocol's version that a manifest names; nothing where it names none. */
function protocolOf(data: Bytes): number | undefined {
  try {
    const { value, complaint } = parseJson(data);
    const format = value instanceof Map && !complaint ? value.get('format') : undefined;
    const match = typeof format === 'string' ? /^zkkrum-bundle-([1-9][0-9]{0,3})$/.exec(format) : null;
    return match ? Number(match[1]) : undefined;
  } catch (error) {
    if (error instanceof InvalidJson) return undefined;
    throw error;
  }
}
