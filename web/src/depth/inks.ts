// The colours of Depth: vik for what an op took or added, batlow for levels, both from the one place they stand in.
import { BATLOW, VIK } from "../wire/colours";

const bytes = (table: string): Uint8Array => Uint8Array.from(atob(table), (c) => c.charCodeAt(0));
const vik = bytes(VIK);
export const batlow = bytes(BATLOW);

const FULL = 1; // decades at which the colour of an op is as strong as it gets

const colour = (table: Uint8Array, at: number): string => {
  const k = 3 * Math.min(255, Math.max(0, Math.round(255 * at)));
  return `rgb(${table[k]} ${table[k + 1]} ${table[k + 2]})`;
};

/** What an op did: warm where it took, blue where it added, pale where it did little. */
export function gainInk(decades: number | null): string {
  const x = Math.min(1, Math.max(-1, (decades ?? 0) / FULL));
  const side = Math.sign(-x) * (0.1 + 0.26 * Math.abs(x)); // (the ends of vik are too dark for a dark page)
  return colour(vik, 0.5 + (x === 0 ? 0 : side));
}

/** The scale of those colours, from ×0.1 to ×10. */
export const gainRamp = (): string => `linear-gradient(90deg, ${Array.from({ length: 17 }, (_, k) => gainInk(-1 + k / 8)).join(", ")})`;

export const ramp = (from: number, to: number): string => {
  const stops = Array.from({ length: 9 }, (_, k) => colour(batlow, from + ((to - from) * k) / 8));
  return `linear-gradient(90deg, ${stops.join(", ")})`;
};

/** The class that gives a symptom its ink; symptoms without one share that of vanishing. */
export const tone = (symptom: string | null): string =>
  `tone-${["vanishing", "exploding", "not-finite", "dead", "healthy", "not-measured"].includes(symptom ?? "") ? symptom : "vanishing"}`;
