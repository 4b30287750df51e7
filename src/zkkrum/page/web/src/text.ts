/**
 * How Python writes strings, numbers and fractions, so that reasons read as those of `zkkrum verify`.
 * Must not know what they mean.
 */

/** What Python's `str.isprintable` says, by the Unicode of this browser. */
export function isPrintable(text: string): boolean {
  return /^(?:[^\p{C}\p{Z}]| )*$/u.test(text);
}

/** Python's `repr` of a string. */
export function repr(text: string): string {
  return quoted(text, (c) => !isPrintable(c));
}

/** Python's `ascii` of a string. */
export function ascii(text: string): string {
  return quoted(text, (c) => c > '~' || !isPrintable(c));
}

function quoted(text: string, escaped: (c: string) => boolean): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const short: Record<string, string> = { '\t': '\\t', '\n': '\\n', '\r': '\\r', '\\': '\\\\', [quote]: `\\${quote}` };
  const body = [...text].map((c) => short[c] ?? (escaped(c) ? codePoint(c.codePointAt(0)!) : c));
  return quote + body.join('') + quote;
}

function codePoint(c: number): string {
  const [letter, digits] = c < 0x100 ? ['x', 2] : c < 0x10000 ? ['u', 4] : ['U', 8];
  return `\\${letter}${c.toString(16).padStart(digits as number, '0')}`;
}

/** The first `count` code points, as Python's slices count them. */
export function first(text: string, count: number): string {
  return text.length <= count ? text : [...text].slice(0, count).join('');
}

/** Python's order of strings: by code points, where JavaScript's is by UTF-16 units. */
export function compare(a: string, b: string): number {
  const [x, y] = [[...a], [...b]];
  for (let k = 0; k < Math.min(x.length, y.length); k++) {
    const difference = x[k]!.codePointAt(0)! - y[k]!.codePointAt(0)!;
    if (difference) return difference;
  }
  return x.length - y.length;
}

/** Python's `repr` of a float. */
export function floatRepr(x: number): string {
  if (!Number.isFinite(x)) return special(x);
  if (Object.is(x, -0)) return '-0.0';
  const [digits, exponent] = scientific(x.toExponential());
  if (exponent < -4 || exponent >= 16) return `${digits}${exponentOf(exponent)}`;
  const plain = String(x);
  return plain.includes('.') ? plain : `${plain}.0`;
}

/** Python's `format(x, "g")`: six significant digits. */
export function general(x: number): string {
  if (!Number.isFinite(x)) return special(x);
  if (x === 0) return Object.is(x, -0) ? '-0' : '0';
  const [digits, exponent] = sixDigits(x);
  const trimmed = (text: string) => (text.includes('.') ? text.replace(/\.?0+$/, '') : text);
  return exponent < -4 || exponent >= 6 ? `${trimmed(digits)}${exponentOf(exponent)}` : trimmed(Number(`${digits}e${exponent}`).toFixed(5 - exponent));
}

/** Six significant digits and the exponent, ties to even as Python has them; JavaScript rounds ties away from zero. */
function sixDigits(x: number): [string, number] {
  const tie = /^(-?\d\.\d{4}[02468])50*e(.*)$/.exec(x.toExponential(100));
  return tie ? [tie[1]!, Number(tie[2])] : scientific(x.toExponential(5));
}

function special(x: number): string {
  return Number.isNaN(x) ? 'nan' : x < 0 ? '-inf' : 'inf';
}

function scientific(text: string): [string, number] {
  const [digits, exponent] = text.split('e') as [string, string];
  return [digits, Number(exponent)];
}

function exponentOf(exponent: number): string {
  return `e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`;
}

/** An integer with commas between groups of three digits. */
export function grouped(x: number): string {
  return String(x).replace(/\B(?=(\d{3})+$)/g, ',');
}
