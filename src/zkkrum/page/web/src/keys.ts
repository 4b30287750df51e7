/**
 * The verification keys this page knows: SHA-256 by circuit, as they were written into it. Must not know bundles.
 */

import { KeyUnknown } from './errors';
import { type Circuit } from './form';

/** What the page was made with; `zkkrum.page.make` writes it. */
export interface Made {
  zkkrum: string;
  noir: string;
  bb: string;
  /** SHA-256 of a verification key by `Circuit.name`. */
  keys: Record<string, string>;
}

/** SHA-256 of the key of a circuit; `KeyUnknown` where this page was not made for its shape. */
export function expectedKeyHash(circuit: Circuit, file: string, made: Made): string {
  if (Object.hasOwn(made.keys, circuit.name)) return made.keys[circuit.name]!;
  throw new KeyUnknown(
    `${file}: this page does not know the verification key of this shape (circuit '${circuit.crate}')`,
    'that is neither valid nor invalid: verify it with `zkkrum verify`, or with a page made for it by ' +
      '`zkkrum page --bundle BUNDLE`',
  );
}
