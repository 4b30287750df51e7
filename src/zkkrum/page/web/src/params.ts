/**
 * The parameters of a round, their bounds, and `context`; the twin of `zkkrum.protocol.params`.
 * Must not know files. Bounds are checked here, once.
 */

import { InputError, UnknownCharacter } from './errors';
import { type Bytes, PACKABLE_BITS, bitLength, concat, fromHex, sha256, toWord } from './field';
import { ascii, first, floatRepr, isPrintable, repr } from './text';

export const PROTOCOL = 'zkkrum-2';
export const SCORES = ['krum-2017', 'all-pairs'] as const;
export const DETECTIONS = ['mad', 'brackets'] as const;
export const ACCEPTANCES = ['unflagged', 'selected'] as const;
const BITS = [8n, 10n, 12n, 14n, 16n];
export const [N_MIN, N_MAX] = [3n, 253n];
export const D_MAX = 2n ** 31n - 1n;
const DISTANCE_BITS_MAX = 63;
const ID_BYTES_MAX = 200;
/** Characters that count as printable and show nothing: joiners, fillers, variation selectors. */
const INVISIBLE =
  /[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\u{e0100}-\u{e01ef}]/u;
const MAD_N_MIN = 5n;

/** A fraction in lowest terms. */
export interface Fraction {
  readonly numerator: bigint;
  readonly denominator: bigint;
}

export function fractionText(x: Fraction): string {
  return x.denominator === 1n ? `${x.numerator}` : `${x.numerator}/${x.denominator}`;
}

/** Parse `5`, `1.25` or `5/4` exactly, into lowest terms. */
export function parseFraction(text: string, name: string): Fraction {
  const found = /^(?:([0-9]{1,10})(?:\.([0-9]{1,10}))?|([0-9]{1,10})\/(0*[1-9][0-9]{0,9}))$/.exec(text);
  if (!found) {
    const example = 'expected a decimal or a fraction such as 5, 1.25 or 5/4';
    throw new InputError(`${name}: ${example}, found ${repr(first(text, 40))}`);
  }
  const [, whole, decimals = '', numerator, denominator] = found;
  const value = whole
    ? lowest(BigInt(whole + decimals), 10n ** BigInt(decimals.length))
    : lowest(BigInt(numerator!), BigInt(denominator!));
  if (value.numerator >= 2n ** 32n || value.denominator >= 2n ** 32n) {
    throw new InputError(`${name}: numerator and denominator must be in [0, 2^32), found ${fractionText(value)}`);
  }
  return value;
}

function lowest(numerator: bigint, denominator: bigint): Fraction {
  let [a, b] = [numerator, denominator];
  while (b) [a, b] = [b, a % b];
  return { numerator: numerator / a, denominator: denominator / a };
}

/** What the circuits are made of, as a file says it. */
export interface ParametersFields {
  n: bigint;
  d: bigint;
  b: bigint;
  chunk: bigint;
  f: bigint;
  m: bigint;
  score: string;
  detection: string;
  z: string;
  gamma: string;
  acceptance: string;
}

/** What a circuit, hence its verification key, is made of. All of it is public. */
export class Params {
  readonly n: number;
  readonly d: number;
  readonly b: number;
  readonly chunk: number;
  readonly f: number;
  readonly m: number;
  readonly score: string;
  readonly detection: string;
  readonly acceptance: string;
  readonly z: Fraction;
  readonly gamma: Fraction;

  /** Check the bounds; `InputError` names the one that is broken. */
  constructor(fields: ParametersFields) {
    const rules = { score: SCORES, detection: DETECTIONS, acceptance: ACCEPTANCES } as const;
    for (const [name, known] of Object.entries(rules) as ['score' | 'detection' | 'acceptance', readonly string[]][]) {
      if (!known.includes(fields[name])) {
        throw new InputError(`parameters: ${name} must be one of ${known.join(', ')}, found ${repr(fields[name])}`);
      }
    }
    const z = parseFraction(fields.z, 'parameters: z');
    const gamma = parseFraction(fields.gamma, 'parameters: gamma');
    const { n, d, b, chunk, f, m } = fields;
    const require = (ok: boolean, rule: string, found: unknown) => {
      if (!ok) throw new InputError(`parameters: ${rule}, found ${found}`);
    };
    require(N_MIN <= n && n <= N_MAX, `n (clients) must be in [${N_MIN}, ${N_MAX}]`, n);
    require(1n <= d && d <= D_MAX, 'd (coordinates) must be in [1, 2^31)', d);
    require(BITS.includes(b), `b (bits) must be one of ${BITS.join(', ')}`, b);
    require(
      f >= 0n && 2n * f + 2n < n,
      'f (tolerated Byzantine clients) must satisfy 0 <= f and 2f + 2 < n',
      `f = ${f}, n = ${n}`,
    );
    require(1n <= m && m <= n - f, 'm (selected clients) must be in [1, n - f]', `m = ${m}, n = ${n}, f = ${f}`);
    const pack = BigInt(PACKABLE_BITS) / b;
    require(
      0n < chunk && chunk <= D_MAX + pack && chunk % pack === 0n,
      `chunk must be a positive multiple of ${pack} at b = ${b}`,
      chunk,
    );
    const bits = bitLength(d * (2n ** b - 1n) ** 2n);
    require(
      bits <= DISTANCE_BITS_MAX,
      `squared distances must fit ${DISTANCE_BITS_MAX} bits`,
      `${bits} at d = ${d}, b = ${b}`,
    );
    if (fields.score === 'all-pairs') require(f === 0n, 'f must be 0 under all-pairs', f);
    if (fields.detection === 'mad') require(n >= MAD_N_MIN, `mad needs n >= ${MAD_N_MIN}`, n);
    else {
      require(gamma.numerator === 0n, 'gamma must be 0 under brackets', fractionText(gamma));
      require(
        z.numerator ** 2n < (n - 1n) * z.denominator ** 2n,
        'z^2 must be < n - 1 under brackets (no score can lie further out)',
        `z = ${fractionText(z)}, n = ${n}`,
      );
    }
    [this.n, this.d, this.b, this.chunk, this.f, this.m] = [n, d, b, chunk, f, m].map(Number) as [
      number, number, number, number, number, number, // prettier-ignore
    ];
    this.score = fields.score;
    this.detection = fields.detection;
    this.acceptance = fields.acceptance;
    this.z = z;
    this.gamma = gamma;
  }

  /** Number T of chunks, hence leaves per client. */
  get chunks(): number {
    return Math.ceil(this.d / this.chunk);
  }

  /** How many coordinates chunk t has; the last may have fewer. */
  chunkSize(t: number): number {
    return Math.min(this.d, (t + 1) * this.chunk) - t * this.chunk;
  }

  /** SB: bits of the largest possible sum of values, n·(2^b - 1). */
  get sumBits(): number {
    return bitLength(BigInt(this.n) * (2n ** BigInt(this.b) - 1n));
  }

  /** All of it as text: equal for equal parameters. */
  get key(): string {
    const { n, d, b, chunk, f, m, score, detection, acceptance } = this;
    return [n, d, b, chunk, f, m, score, detection, acceptance, fractionText(this.z), fractionText(this.gamma)].join(' ');
  }
}

/** Refuse an id that cannot name a file, be printed on a line, and be read there for what it is. */
function checkClientId(client: string): void {
  if (/(?!\p{Noncharacter_Code_Point})\p{Cn}/u.test(client)) {
    throw new UnknownCharacter(
      `roster: ${ascii(first(client, ID_BYTES_MAX))} has a character that the Unicode of this program does not know`,
      'where Unicode is newer it may be a good one',
    );
  }
  const size = new TextEncoder().encode(client).length;
  const readable = 0 < size && size <= ID_BYTES_MAX && isPrintable(client) && !/^[. ]|[ /\\]$|[/\\]/.test(client);
  if (!readable || INVISIBLE.test(client)) {
    throw new InputError(
      `roster: ${ascii(first(client, ID_BYTES_MAX))} is not usable as a file name and in a sentence: expected 1 to ` +
        `${ID_BYTES_MAX} bytes of printable and visible UTF-8 without slashes, not starting with a dot or a space, ` +
        'nor ending with a space',
    );
  }
  if (client !== client.normalize('NFC')) {
    throw new InputError(
      `roster: ${ascii(client)} is not in Unicode's normal form C: expected ${ascii(client.normalize('NFC'))}`,
    );
  }
}

/** What two ids of one roster must not share: how they read without regard to case and typography. */
function folded(client: string): string {
  return client.normalize('NFKC').toLowerCase().toUpperCase().normalize('NFKC');
}

/** The 32-byte roster word of a client: its address left-padded, or SHA-256 of its UTF-8 id. */
async function clientWord(client: string): Promise<Bytes> {
  if (/^0x[0-9a-fA-F]{40}$/.test(client)) return concat(new Uint8Array(12), fromHex(client.slice(2)));
  return sha256(new TextEncoder().encode(client));
}

/** What binds a round to a place, a time and a roster. */
export interface RoundFields {
  params: Params;
  clip: number;
  roster: readonly string[];
  roundId: Bytes;
  subject: Bytes;
  chainId: bigint;
  contract: Bytes;
}

/** One round. All of it is public. */
export interface Round extends RoundFields {
  /** SHA-256 of the context words. */
  readonly context: Bytes;
}

/** Check a round and compute its context; `InputError` says what is out of its bounds. */
export async function round(fields: RoundFields): Promise<Round> {
  const { params, clip, roster, chainId } = fields;
  if (!(Number.isFinite(clip) && clip > 0)) {
    throw new InputError(`clip: expected a finite number > 0, found ${floatRepr(clip)}`);
  }
  if (roster.length !== params.n) {
    throw new InputError(`roster: expected n = ${params.n} clients, found ${roster.length}`);
  }
  const seen = new Map<string, string>();
  const words: Bytes[] = [];
  for (const client of roster) {
    checkClientId(client);
    const other = seen.get(folded(client));
    if (other !== undefined) {
      throw new InputError(
        'roster: clients must be distinct, whatever the case and form of their letters, found ' +
          `${ascii(other)} and ${ascii(client)}`,
      );
    }
    seen.set(folded(client), client);
    words.push(await clientWord(client));
  }
  if (chainId >= 2n ** 256n) throw new InputError(`round: expected a chain id in [0, 2^256), found ${chainId}`);
  const context = await sha256(...contextWords(fields, await sha256(...words)));
  return { ...fields, context };
}

/** The 32-byte words whose SHA-256 is `context`; equal to `abi.encode`. */
function contextWords(fields: RoundFields, rosterHash: Bytes): Bytes[] {
  const { params: p, clip, subject, roundId, chainId, contract } = fields;
  const ascii32 = (text: string) => {
    const word = new Uint8Array(32);
    word.set(new TextEncoder().encode(text));
    return word;
  };
  const clipBits = new DataView(new ArrayBuffer(8));
  clipBits.setFloat64(0, clip);
  const thresholds = [p.z.numerator, p.z.denominator, p.gamma.numerator, p.gamma.denominator];
  return [
    ...[PROTOCOL, p.score, p.detection, p.acceptance].map(ascii32),
    ...[p.n, p.d, p.b, p.chunk, p.f, p.m, ...thresholds, clipBits.getBigUint64(0)].map(toWord),
    rosterHash,
    subject,
    roundId,
    toWord(chainId),
    concat(new Uint8Array(12), contract),
  ];
}
