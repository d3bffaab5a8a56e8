// Sentences: one for the picture as it is, the same that a screen reader hears. What an answer says of itself comes first.
import { type Drop, type Kind, KINDS, LOOKS, type Picture, told } from "./state";

export function active(p: Picture): Drop | undefined {
  return p.drops.find((d) => d.id === p.active);
}

export function sentence(p: Picture): string {
  if (p.problem) return p.problem;
  const d = active(p);
  if (!p.opened) return "";
  if (p.tale) {
    const tale = p.opened.tales.find((x) => x.key === p.tale);
    if (tale) return tale.text;
  }
  if (!d) return "Click the water: a drop flows from there to where the loss lets it rest.";
  if (d.problem) return d.problem;
  const flow = d.flow?.track;
  if (!flow) return "…";
  const parts: string[] = [];
  if (!flow.ending.reason.match(/reached|event|budget|cancelled/)) parts.push(`The flow ends early: ${flow.ending.text} ${flow.ending.remedy}`.trim());
  for (const kind of KINDS) {
    const said = p.on[kind] ? why(d, kind) : "";
    if (said) parts.push(said);
  }
  if (!parts.length) {
    const end = flow.points.at(-1);
    parts.push(`From (${d.at.map((x) => told(x)).join(", ")}) the flow goes to (${end ? end.map((x) => told(x)).join(", ") : "—"})${flow.loss ? `, loss ${told(flow.loss.at(-1))}` : ""}.`);
  }
  return parts.join(" ");
}

function why(d: Drop, kind: Kind): string {
  const name = LOOKS[kind].name[0]!.toUpperCase() + LOOKS[kind].name.slice(1);
  const track = d.rivals[kind]?.track;
  if (!track) return "";
  if (track.ending.reason === "diverged") {
    const edge = track.threshold === null ? "" : ` its step is stable where λ < ${track.threshold_name} = ${told(track.threshold)}.`;
    return `${name} diverges:${edge || " " + track.ending.text}`;
  }
  const apart = d.apart[kind];
  return apart?.why ? `${name}: ${apart.why[0]!.toLowerCase()}${apart.why.slice(1)}` : "";
}

/** Sharpness at the end of the solved flow, and the largest on the way. */
export function sharpnessOf(d: Drop | undefined): { end: number; top: number } | null {
  const known = d?.flow?.track.sharpness.filter((x): x is number => x !== null) ?? [];
  return known.length ? { end: known.at(-1)!, top: Math.max(...known) } : null;
}
