/**
 * bb in WebAssembly: proofs and Poseidon2. Must not know zkkrum's statement.
 */

import { BackendType, BarretenbergSync } from '@aztec/bb.js';

import { type Bytes, fromHex, splitWords } from './field';

/** Verification needs one point of the reference string, the generator (1, 2), and [x]_2 of the second group. */
const G1 = `${'0'.repeat(63)}1${'0'.repeat(63)}2`;
const G2 =
  '0118c4d5b837bcc2bc89b5b398b5974e9f5944073b32078b7e231fec938883b0' +
  '260e01b251f6f1c7e7ff4e580791dee8ea51d87a358e038b4efe30fac09383c1' +
  '22febda3c0c0632a56475b4214e5615e11e6dd3f96e6cea2854a87d4dacc5e55' +
  '04fc6369f7110fe3d25156c1bb9a72859cf2a04641f99ba4ee413c80da6a5fe4';

/** Keccak transcript, zero knowledge: what `bb … -t evm` means. */
const EVM = { ipaAccumulation: false, oracleHashType: 'keccak', disableZk: false, optimizedSolidityVerifier: false };

/** One bb, started when it is first needed and anew after it has thrown. */
export class Bb {
  private running: Promise<BarretenbergSync> | undefined;

  /** Start it, so that the first verdict need not wait. */
  start(): Promise<BarretenbergSync> {
    this.running ??= (async () => {
      const api = await BarretenbergSync.new({ backend: BackendType.Wasm });
      api.srsInitSrs({ pointsBuf: fromHex(G1), numPoints: 1, g2Point: fromHex(G2) });
      return api;
    })();
    return this.running;
  }

  /**
   * Whether a proof holds for public inputs under a key, which must be a genuine one.
   *
   * bb throws what it has against a proof (a point off the curve, a word that is too large): that is an answer, too.
   * Only what the browser throws, such as memory that ran out, is none.
   */
  async verify(vk: Bytes, proof: Bytes, publicInputs: Bytes): Promise<boolean> {
    if (publicInputs.length % 32 || proof.length % 32) return false;
    const api = await this.start();
    const [words, inputs] = [splitWords(proof), splitWords(publicInputs)];
    try {
      return api.circuitVerify({ verificationKey: vk, publicInputs: inputs, proof: words, settings: EVM }).verified;
    } catch (error) {
      this.running = undefined;
      if (error instanceof WebAssembly.RuntimeError || error instanceof RangeError || !(error instanceof Error)) throw error;
      return false;
    }
  }

  /** Poseidon2 of canonical words. */
  async hash(words: readonly Bytes[]): Promise<Bytes> {
    const api = await this.start();
    return new Uint8Array(api.poseidon2Hash({ inputs: [...words] }).hash);
  }
}
