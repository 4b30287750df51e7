/**
 * Commitments as clients publish them; the twin of `zkkrum.rounds.directory`. Must not know proofs.
 */

import { InputError } from './errors';
import { type Bytes } from './field';
import { type Folder } from './folder';
import { parseBytes } from './roundfile';
import { Problem, model, text, validate } from './schema';
import { compare, grouped, repr } from './text';

const COMMITMENT_BYTES_MAX = 2 ** 14;

/** What a client publishes. */
export const commitmentFile = model({ client: text, context: text, commitment: text });

/** What a client published: a commitment, and the context it is for. */
export interface Published {
  context: Bytes;
  commitment: Bytes;
}

/** Read published commitments by client id, in roster order. */
export async function readCommitments(folder: Folder, roster: readonly string[]): Promise<Published[]> {
  const found = new Map<string, Published & { path: string }>();
  for (const path of [...folder.entries.keys()].sort(compare)) {
    const [top, ...below] = path.split('/');
    if (path.startsWith('.') || !top!.endsWith('.json')) continue;
    const { size } = folder.entries.get(path)!;
    if (below.length) throw new InputError(`${folder.name}/${top}: cannot be read: Not a plain file`);
    if (size > COMMITMENT_BYTES_MAX) {
      const said = `Too large: expected at most ${grouped(COMMITMENT_BYTES_MAX)} bytes, found ${grouped(size)}`;
      throw new InputError(`${folder.name}/${path}: cannot be read: ${said}`);
    }
    const data = await folder.entries.get(path)!.read();
    let file;
    let published;
    try {
      file = validate(commitmentFile, data);
      published = {
        path,
        context: parseBytes(file.context, 32, 'context'),
        commitment: parseBytes(file.commitment, 32, 'commitment'),
      };
    } catch (error) {
      if (!(error instanceof Problem || error instanceof InputError)) throw error;
      throw new InputError(`${folder.name}/${path}: not a commitment: ${error.message}`);
    }
    const other = found.get(file.client);
    if (other) {
      throw new InputError(`${folder.name}: client ${repr(file.client)} commits twice: ${other.path}, ${path}`);
    }
    found.set(file.client, published);
  }
  complete(folder.name, [...found.keys()], roster);
  return roster.map((client) => found.get(client)!);
}

function complete(name: string, found: readonly string[], roster: readonly string[]): void {
  const missing = roster.filter((client) => !found.includes(client));
  if (missing.length) {
    throw new InputError(
      `${name}: nothing from client ${repr(missing[0]!)} (${missing.length} of ${roster.length} missing)`,
      'a roster client that does not deliver makes the round void: reopen it under a new round id and roster',
    );
  }
  const extra = found.filter((client) => !roster.includes(client));
  if (extra.length) {
    throw new InputError(
      `${name}: client ${repr(extra[0]!)} is not in the roster`,
      "a round has exactly its roster's files",
    );
  }
}
