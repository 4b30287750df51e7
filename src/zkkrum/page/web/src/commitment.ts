/**
 * Commitment chains and the statement; the twin of `zkkrum.protocol.commitment`. Must not know files.
 */

import { type Bytes, P, fromWord, sha256, toWord } from './field';

/**
 * h_(T-1) with h_0 = SHA-256(context ‖ i ‖ leaf[0]) and h_t = SHA-256(h_(t-1) ‖ leaf[t]): the commitment of client i,
 * or A where i = n.
 */
export async function chain(context: Bytes, i: number, leaves: readonly bigint[]): Promise<Bytes> {
  let head: Bytes[] = [context, toWord(i)];
  for (const leaf of leaves) head = [await sha256(...head, toWord(leaf))];
  return head[0]!;
}

/** SHA-256(context ‖ commitment[0] ‖ … ‖ commitment[n-1] ‖ A) mod p. */
export async function statement(context: Bytes, commitments: readonly Bytes[], aggregate: Bytes): Promise<bigint> {
  return fromWord(await sha256(context, ...commitments, aggregate)) % P;
}
