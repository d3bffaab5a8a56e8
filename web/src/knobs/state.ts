// The knobs as a link holds them, and how each may be turned.
import type { Knobs, KnobsOpened } from "../wire/types";

export type Name = keyof Knobs;

export const WORDS: { [K in Name]?: readonly Knobs[K][] } = {
  activation: ["relu", "gelu", "silu", "leaky_relu", "tanh", "sigmoid", "none"],
  init: ["default", "xavier", "he", "orthogonal"],
  norm: ["none", "layer", "batch"],
  loss: ["classes", "distance", "safe distance"],
};
const WHOLE: ReadonlySet<string> = new Set(["depth", "width", "time", "seed"]);

/** What a link says, over what the knobs start with; what it cannot say is left as it was. */
export function fromLink(opened: KnobsOpened, hash: string): Knobs {
  const asked = new URLSearchParams(hash.split("?")[1] ?? "");
  const found: Record<string, unknown> = { ...opened.knobs };
  for (const [name, text] of asked) {
    const range = opened.ranges[name];
    const words: readonly unknown[] | undefined = WORDS[name as Name];
    if (range && text.trim() !== "" && Number.isFinite(Number(text))) {
      const value = Math.min(range[1], Math.max(range[0], Number(text)));
      found[name] = WHOLE.has(name) ? Math.round(value) : value;
    } else if (words?.includes(text)) found[name] = text;
    else if (name === "skip") found[name] = text === "true";
  }
  return found as unknown as Knobs;
}

/** The part of a link that says how the knobs are turned: those that are not as they start. */
export function toLink(knobs: Knobs, opened: KnobsOpened): string {
  const own = Object.entries(knobs).filter(([name, value]) => value !== opened.knobs[name as Name]);
  const said = new URLSearchParams(own.map(([name, value]) => [name, String(value)])).toString();
  return said ? `#knobs?${said}` : "#knobs";
}

export const same = (a: Knobs, b: Knobs): boolean => Object.entries(a).every(([name, value]) => b[name as Name] === value);
