/**
 * One circuit or shards: keys, files and proofs of each form; the twin of `zkkrum.proof.form`.
 * Must not know what is in the files.
 */

import { type Params, fractionText } from './params';

export const [MANIFEST, PROOF, PUBLIC_INPUTS, VK] = ['manifest.json', 'proof', 'public_inputs', 'vk'] as const;
export const [VK_SHARD, VK_LAST] = ['vk.shard', 'vk.last'] as const;

export type Form = 'round' | 'sharded';

/** One proof of a bundle: its name in words and its files. Several parts share a key. */
export interface Part {
  name: string;
  key: string;
  proof: string;
  publicInputs: string;
}

export function formOf(params: Params): Form {
  return params.chunks === 1 ? 'round' : 'sharded';
}

function shardKey(params: Params, t: number): string {
  return params.chunkSize(t) === params.chunkSize(0) ? VK_SHARD : VK_LAST;
}

/** The files of shard t. */
export function shardPart(params: Params, t: number): Part {
  const name = `shards/${String(t).padStart(5, '0')}`;
  return { name: `shard ${t}`, key: shardKey(params, t), proof: `${name}.proof`, publicInputs: `${name}.public_inputs` };
}

/** Every proof of a bundle, the one with the outputs first. */
export function parts(params: Params): Part[] {
  const top = { name: 'proof', key: VK, proof: PROOF, publicInputs: PUBLIC_INPUTS };
  if (formOf(params) === 'round') return [top];
  return [top, ...Array.from({ length: params.chunks }, (_, t) => shardPart(params, t))];
}

/** How many field elements are the public inputs of a proof. */
export function wordsOf(params: Params, part: Part): number {
  if (formOf(params) === 'round') return params.n + 5;
  return part.proof === PROOF ? params.n + 6 : 2 * params.n + 4;
}

/** The circuit behind a verification key. */
export interface Circuit {
  crate: 'round' | 'shard' | 'verdict';
  /** Everything its key depends on, as `zkkrum.page.keys` writes it. */
  name: string;
}

/** The circuit of each verification key file. */
export function circuits(params: Params): Map<string, Circuit> {
  const { n, d, b, f, m, score, detection, acceptance } = params;
  const rules =
    `n=${n} d=${d} b=${b} f=${f} m=${m} ${score} ${detection} ` +
    `z=${fractionText(params.z)} gamma=${fractionText(params.gamma)} ${acceptance}`;
  const shard = (t: number): Circuit => ({ crate: 'shard', name: `shard n=${n} b=${b} coordinates=${params.chunkSize(t)}` });
  if (formOf(params) === 'round') return new Map([[VK, { crate: 'round', name: `round ${rules}` }]]);
  const found = new Map<string, Circuit>([[VK, { crate: 'verdict', name: `verdict ${rules}` }]]);
  for (const t of [0, params.chunks - 1]) found.set(shardKey(params, t), shard(t));
  return found;
}

/** Every file of a bundle but the manifest. */
export function files(params: Params): string[] {
  const names = parts(params).flatMap((part) => [part.proof, part.publicInputs]);
  return [...names.slice(0, 2), ...circuits(params).keys(), ...names.slice(2)];
}
