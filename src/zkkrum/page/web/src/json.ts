/**
 * JSON from strangers, as `zkkrum` reads it: integers stay exact, and what is wrong is said in the same words.
 * Must not know what the values mean.
 */

import { ascii, first } from './text';

export type Json = null | boolean | bigint | number | string | Json[] | Map<string, Json>;

/** The text is not JSON; the message says what and where. */
export class InvalidJson extends Error {}

const DEPTH_MAX = 201;
/** Files here need four. */
const NESTING_MAX = 64;
const DIGITS_MAX = 100;
const SPACE = new Set([0x20, 0x09, 0x0a, 0x0d]);
const ESCAPES: Record<string, string> = {
  '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', // prettier-ignore
};
const WORDS: [string, Json][] = [
  ['null', null],
  ['true', true],
  ['false', false],
  ['NaN', NaN],
  ['Infinity', Infinity],
  ['-Infinity', -Infinity],
];

/** What was parsed, and what makes it JSON that not every parser reads alike: a name that stands twice in an object. */
export interface Parsed {
  value: Json;
  complaint: string | undefined;
}

/** Parse UTF-8 JSON; objects become maps, whose last entry of a name counts. */
export function parseJson(data: Uint8Array): Parsed {
  const parser = new Parser(data);
  return { value: parser.whole(), complaint: parser.complaint };
}

class Parser {
  /** The first thing that is JSON, but not for everybody. */
  complaint: string | undefined;
  private at = 0;
  private depth = 0;
  private readonly utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  constructor(private readonly data: Uint8Array) {}

  whole(): Json {
    const value = this.value();
    this.skip();
    if (this.at < this.data.length) this.fail('trailing characters');
    return value;
  }

  private fail(what: string, at = this.at): never {
    let [line, column] = [1, 0];
    for (const c of this.data.subarray(0, at + 1)) [line, column] = c === 0x0a ? [line + 1, 0] : [line, column + 1];
    throw new InvalidJson(`Invalid JSON: ${what} at line ${line} column ${column}`);
  }

  private skip(): void {
    while (SPACE.has(this.data[this.at]!)) this.at++;
  }

  private peek(): string {
    return this.at < this.data.length ? String.fromCharCode(this.data[this.at]!) : '';
  }

  private value(): Json {
    this.skip();
    const c = this.peek();
    if (!c) this.fail('EOF while parsing a value');
    if (c === '"') return this.string();
    if (c === '{' || c === '[') {
      if (++this.depth > DEPTH_MAX) this.fail('recursion limit exceeded');
      if (this.depth > NESTING_MAX) this.complaint ??= 'nested too deeply';
      const nested = c === '{' ? this.object() : this.list();
      this.depth--;
      return nested;
    }
    for (const [word, value] of WORDS) if (c === word[0] && this.word(word)) return value;
    if (c === '-' || (c >= '0' && c <= '9')) return this.number();
    return this.fail('expected value');
  }

  private word(word: string): boolean {
    if (word === '-Infinity' && String.fromCharCode(this.data[this.at + 1] ?? 0) !== 'I') return false;
    for (let k = 0; k < word.length; k++) {
      if (this.at + k >= this.data.length) this.fail('EOF while parsing a value', this.data.length);
      if (this.data[this.at + k] !== word.charCodeAt(k)) this.fail('expected ident', this.at + k);
    }
    this.at += word.length;
    if (/N|I/.test(word)) this.complaint ??= `${word} is not a finite number`;
    return true;
  }

  private number(): bigint | number {
    const start = this.at;
    const digits = () => {
      const from = this.at;
      while (this.peek() >= '0' && this.peek() <= '9') this.at++;
      if (this.at === from) this.fail(this.peek() ? 'invalid number' : 'EOF while parsing a value');
    };
    if (this.peek() === '-') this.at++;
    const first = this.peek();
    digits();
    const leading = this.at - start > (this.data[start] === 0x2d ? 2 : 1);
    if (first === '0' && leading) this.fail('invalid number', start + (this.data[start] === 0x2d ? 2 : 1));
    let whole = true;
    if (this.peek() === '.') {
      whole = false;
      this.at++;
      digits();
    }
    if (this.peek() === 'e' || this.peek() === 'E') {
      whole = false;
      this.at++;
      if (this.peek() === '+' || this.peek() === '-') this.at++;
      digits();
    }
    const text = String.fromCharCode(...this.data.subarray(start, this.at));
    if (whole && text.length > DIGITS_MAX) this.complaint ??= `an integer of more than ${DIGITS_MAX} digits`;
    const value = whole ? BigInt(text) : Number(text);
    if (value === Infinity || value === -Infinity) this.complaint ??= `${text.slice(0, 20)} is not a finite number`;
    return value;
  }

  private string(): string {
    let text = '';
    let from = ++this.at;
    const plain = (to: number) => {
      try {
        return this.utf8.decode(this.data.subarray(from, to));
      } catch {
        return this.fail('invalid unicode code point', this.badByte(from, to));
      }
    };
    for (;;) {
      const c = this.data[this.at];
      if (c === undefined) this.fail('EOF while parsing a string');
      if (c === 0x22) {
        text += plain(this.at++);
        return text;
      }
      if (c < 0x20) this.fail('control character (\\u0000-\\u001F) found while parsing a string');
      if (c === 0x5c) {
        text += plain(this.at++);
        text += this.escape();
        from = this.at;
      } else this.at++;
    }
  }

  /** The index up to which a range is UTF-8. */
  private badByte(from: number, to: number): number {
    const valid = (end: number) => {
      try {
        new TextDecoder('utf-8', { fatal: true }).decode(this.data.subarray(from, end));
        return true;
      } catch {
        return false;
      }
    };
    const whole = new TextDecoder('utf-8', { fatal: true });
    let end = from;
    try {
      while (end < to) whole.decode(this.data.subarray(end, ++end), { stream: true });
    } catch {
      end--;
    }
    while (!valid(end)) end--;
    return end;
  }

  private escape(): string {
    const c = this.peek();
    if (!c) this.fail('EOF while parsing a string');
    if (c !== 'u') {
      if (!(c in ESCAPES)) this.fail('invalid escape');
      this.at++;
      return ESCAPES[c]!;
    }
    this.at++;
    const high = this.hex4();
    if (high >= 0xdc00 && high < 0xe000) this.fail('lone leading surrogate in hex escape', this.at - 1);
    if (high < 0xd800 || high >= 0xdc00) return String.fromCharCode(high);
    for (const wanted of ['\\', 'u']) {
      if (!this.peek()) this.fail('EOF while parsing a string');
      if (this.peek() !== wanted) this.fail('unexpected end of hex escape');
      this.at++;
    }
    const low = this.hex4();
    if (low < 0xdc00 || low >= 0xe000) this.fail('lone leading surrogate in hex escape', this.at - 1);
    return String.fromCharCode(high, low);
  }

  private hex4(): number {
    if (this.at + 4 > this.data.length) this.fail('EOF while parsing a string', this.data.length);
    for (let k = 0; k < 4; k++) {
      if (!/[0-9a-fA-F]/.test(this.peek())) this.fail('invalid escape');
      this.at++;
    }
    return parseInt(String.fromCharCode(...this.data.subarray(this.at - 4, this.at)), 16);
  }

  private list(): Json[] {
    const found: Json[] = [];
    this.at++;
    this.skip();
    if (this.peek() === ']') return this.at++, found;
    if (!this.peek()) this.fail('EOF while parsing a list');
    for (;;) {
      found.push(this.value());
      if (!this.more(']', 'expected `,` or `]`', 'EOF while parsing a list')) return found;
    }
  }

  private object(): Map<string, Json> {
    const found = new Map<string, Json>();
    let twice: string | undefined;
    this.at++;
    this.skip();
    if (this.peek() === '}') return this.at++, found;
    if (!this.peek()) this.fail('EOF while parsing an object');
    for (;;) {
      if (this.peek() !== '"') this.fail(this.peek() ? 'key must be a string' : 'EOF while parsing a value');
      const name = this.string();
      this.skip();
      if (this.peek() !== ':') this.fail(this.peek() ? 'expected `:`' : 'EOF while parsing an object');
      this.at++;
      const value = this.value();
      if (found.has(name)) twice ??= name;
      found.set(name, value);
      if (!this.more('}', 'expected `,` or `}`', 'EOF while parsing an object')) break;
    }
    if (twice !== undefined) this.complaint ??= `key ${ascii(first(twice, 60))} stands twice in one object`;
    return found;
  }

  /** Step over a comma, or over the end. */
  private more(end: string, otherwise: string, eof: string): boolean {
    this.skip();
    const c = this.peek();
    if (c !== ',' && c !== end) this.fail(c ? otherwise : eof);
    this.at++;
    if (c === end) return false;
    this.skip();
    if (this.peek() === end) this.fail('trailing comma');
    if (!this.peek()) this.fail('EOF while parsing a value');
    return true;
  }
}
