// Numbers as the terminal writes them (report/words.py); a test holds the two against each other.

const trimmed = (text: string): string => (text.includes(".") ? text.replace(/0+$/, "").replace(/\.$/, "") : text);

/** A number in few digits: 0.0312, 1.9e−7, 12,300; "—" where there is none. */
export function number(x: number | null | undefined, digits = 3): string {
  if (x === null || x === undefined) return "—";
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "−inf";
  const told = Math.abs(Number(x.toExponential(digits - 1)));
  if (x !== 0 && !(told >= 1e-3 && told < 10 ** Math.max(digits + 1, 5))) {
    const [mantissa, exponent] = x.toExponential(digits - 1).split("e") as [string, string];
    return `${trimmed(mantissa)}e${Number(exponent)}`.replaceAll("-", "−");
  }
  const places = x ? Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(x)))) : 0;
  return trimmed(x.toFixed(places)).replaceAll("-", "−");
}

/** A whole number: 345, 12,300. */
export const whole = (n: number): string => (Math.abs(n) >= 10_000 ? n.toLocaleString("en-US") : String(n)).replaceAll("-", "−");

/** A gain as a factor: ×0.25, ×12.3, ×1.9e−7. */
export function gain(x: number | null | undefined): string {
  if (x === null || x === undefined) return "—";
  if (!Number.isFinite(x) || x === 0) return `×${number(x)}`;
  if (x >= 0.01 && x < 10) return `×${x.toFixed(2)}`;
  if (x >= 10 && x < 10_000) return x < 100 ? `×${x.toFixed(1)}` : `×${x.toFixed(0)}`;
  return `×${number(x, 2)}`;
}

/** Decades with one digit after the point; two where one would round the number away. */
export function decades(x: number | null | undefined, sign = true): string {
  if (x === null || x === undefined) return "—";
  if (!Number.isFinite(x)) return number(x);
  const text = Math.abs(x) >= 0.95 ? Math.abs(x).toFixed(1) : Math.abs(x).toFixed(2);
  if (!sign || Number(text) === 0) return text;
  return (x < 0 ? "−" : "+") + text;
}

/** A share of one as percent. */
export function percent(x: number | null | undefined): string {
  if (x === null || x === undefined) return "—";
  if (!Number.isFinite(x)) return number(x);
  if (Math.abs(x) > 0 && Math.abs(x) < 0.001) return "<0.1 %";
  return Math.abs(x) < 0.0995 ? `${(100 * x).toFixed(1)} %` : `${(100 * x).toFixed(0)} %`;
}

/** "1 step", "200 steps". */
export const count = (n: number, noun: string): string => `${whole(n)} ${noun}${n === 1 ? "" : "s"}`;

/** 10 to a whole power, as it stands at an axis. */
export const power = (d: number): string =>
  d === 0 ? "1" : `10${String(d).replace(/./g, (c) => ({ "-": "⁻", "0": "⁰", "1": "¹", "2": "²", "3": "³", "4": "⁴", "5": "⁵", "6": "⁶", "7": "⁷", "8": "⁸", "9": "⁹" })[c] ?? c)}`;
