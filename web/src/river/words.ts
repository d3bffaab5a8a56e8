// Sentences: one for the picture as it is, the same that a screen reader hears. What an answer says of itself comes first.
import { near } from "./off";
import { type Drop, type Kind, KINDS, LOOKS, type Picture, told } from "./state";

export function active(p: Picture): Drop | undefined {
  return p.drops.find((d) => d.id === p.active);
}

/** What is said of the picture: what it shows, and of each optimizer why it does what it does. */
export interface Said {
  text: string;
  why: [Kind, string][];
}

export const spoken = (said: Said): string => [said.text, ...said.why.map(([kind, text]) => `${LOOKS[kind].name}: ${text}`)].join(" ");

export function sentence(p: Picture): Said {
  const text = first(p);
  const d = active(p);
  const why: [Kind, string][] = [];
  if (d && !p.problem) {
    for (const kind of KINDS) {
      const said = p.on[kind] ? because(d, kind) : "";
      if (said) why.push([kind, said]);
    }
  }
  return { text, why };
}

function first(p: Picture): string {
  if (p.problem) return p.problem;
  const d = active(p);
  if (!p.opened) return "";
  if (!d) return "Click the water: a drop flows from there to where the loss lets it rest.";
  if (d.problem) return d.problem;
  const flow = d.flow?.track;
  if (!flow) return p.opened.tales.find((x) => x.key === p.tale)?.text ?? "…";
  const tale = p.opened.tales.find((x) => x.key === p.tale);
  if (tale) return tale.text;
  if (!flow.ending.reason.match(/reached|event|budget|cancelled/)) return `The flow ends early: ${flow.ending.text} ${flow.ending.remedy}`.trim();
  const end = flow.points.at(-1);
  if (p.plane) {
    const off = d.flow!.off, end = off.at(-1) ?? 0, far = near(p.view!), most = Math.max(...off);
    const loss = flow.loss ? ` from loss ${told(flow.loss[0])} to ${told(flow.loss.at(-1))}` : "";
    const where = most > far ? `, dashed where the path is off the plane, up to ${told(most, 2)}; it ends ${end > far ? `${told(end, 2)} off` : "in it"}` : "; the path keeps to the plane";
    return `In all ${p.plane.plane.size.toLocaleString("en")} dimensions the flow goes${loss}. What is drawn is its shadow${where}.`;
  }
  return `From (${d.at.map((x) => told(x)).join(", ")}) the flow goes to (${end ? end.map((x) => told(x)).join(", ") : "—"})${flow.loss ? `, loss ${told(flow.loss.at(-1))}` : ""}.`;
}

/** One sentence, in the app's own words; the first of several. */
function because(d: Drop, kind: Kind): string {
  const track = d.rivals[kind]?.track;
  if (!track) return "";
  if (track.ending.reason === "diverged") {
    const edge = track.threshold === null ? "" : ` its step is stable where λ < ${track.threshold_name} = ${told(track.threshold)}.`;
    return `diverges:${edge || " " + track.ending.text}`;
  }
  const apart = d.apart[kind];
  return (apart?.why ?? "").replace(/^It /, "").split(/(?<=\.) (?=[A-Z])/)[0]!;
}

/** Sharpness at the end of the solved flow, and the largest on the way. */
export function sharpnessOf(d: Drop | undefined): { end: number; top: number } | null {
  const known = d?.flow?.track.sharpness.filter((x): x is number => x !== null) ?? [];
  return known.length ? { end: known.at(-1)!, top: Math.max(...known) } : null;
}
