// A field of many parameters is seen in a plane: which one, and its panel. Loaded when such a field is opened.
import { Told, stream } from "../wire/ask";
import type { Opened, PlaneAsk, PlaneSeen } from "../wire/types";
import type { River } from "./river";
import { type Drop, type Picture, short, TAB, told, type Wanted } from "./state";
import { share } from "./off";
import { active } from "./words";

const NAMES: Record<string, string> = {
  pca: "principal directions of the flow", sharpest: "two sharpest directions, at its end", gradient: "gradient and sharpest direction, at its start",
  random: "two random directions, at its end", points: "through the ends of drops 1, 2, 3",
};

/** Ask for a plane, and where feet stand above it. */
async function find(target: string, plane: string, feet: string[]): Promise<PlaneSeen> {
  const ask: PlaneAsk = { target, plane, lane: `${TAB}:plane`, feet };
  for await (const { head } of stream<PlaneSeen & { part?: string }>("/api/plane", ask)) {
    if (head.part === "refused") throw new Told(head.text);
    return head;
  }
  throw new Told("another plane was asked for.");
}

/** The plane that a field opens with: the one in the link, else that of the flow from its own start, where that moves. */
export async function begin(opened: Opened, wanted: Wanted, t: number): Promise<{ plane: PlaneSeen; feet: string[] }> {
  const feet = wanted.feet.length ? wanted.feet : ["own"];
  const texts = wanted.plane ? [wanted.plane] : [`pca~${short(t)}`, `random~${short(t)}`];
  for (const text of texts) {
    try {
      return { plane: await find(opened.target, text, feet), feet };
    } catch (problem) {
      if (!(problem instanceof Told) || text === texts.at(-1)) throw problem;
    }
  }
  throw new Told("there is no plane.");
}

const kindOf = (text: string): string => /^[a-z]+/.exec(text)?.[0] ?? "";
const seedOf = (text: string): number => Number(/^random-(\d+)/.exec(text)?.[1] ?? 0);

/** The text of a plane: of the flow of the active drop, or through the ends of the first three. */
export function textOf(kind: string, seed: number, p: Picture): string {
  const head = `${kind}${kind === "random" && seed ? `-${seed}` : ""}~${short(p.t)}`;
  if (kind === "points") return `${head}(${p.drops.slice(0, 3).map((d) => d.foot).join(";")})`;
  const foot = active(p)?.foot ?? "own";
  return foot === "own" ? head : `${head}(${foot})`;
}

/** Show another plane; drops stay where they are in the whole space, and are seen from above it. */
export async function choose(river: River, kind: string, seed = 0): Promise<void> {
  const { opened, drops } = river.state;
  river.setState({ busy: "finding the plane …" });
  try {
    const plane = await find(opened!.target, textOf(kind, seed, river.state), drops.map((d) => d.foot));
    const moved = drops.map((d, k): Drop => {
      const [x, y, off] = plane.feet[k]!;
      return { ...d, at: [x, y], off, flow: null, back: null, rivals: {}, apart: {} };
    });
    river.show(plane, moved);
  } catch (problem) {
    river.setState({ busy: "", problem: (problem as Error).message });
  }
}

/** Which plane, what it is, and how much of the gradient leaves it. */
export function Slice({ p, river }: { p: Picture; river: River }) {
  const { plane, samples, opened } = p;
  if (!plane || !opened) return null;
  const kind = kindOf(plane.text);
  const { share: held, curvature } = plane.plane;
  const leak = samples?.middleLeak ?? plane.leak;
  return (
    <section class="slice" aria-label="the plane">
      <label class="row"><span class="soft">plane</span>
        <select aria-label="plane" value={kind} onChange={(e) => void choose(river, e.currentTarget.value)}>
          {opened.planes.map((k) => <option value={k} disabled={k === "points" && p.drops.length < 3}>{NAMES[k] ?? k}</option>)}
        </select>
        {kind === "random" && <button onClick={() => void choose(river, "random", seedOf(plane.text) + 1)}>another</button>}
      </label>
      <p class="soft">a slice of {plane.plane.size.toLocaleString("en")} dimensions{held ? `, with ${told(100 * (held[0] + held[1]))} % of where the path goes` : ""}{curvature?.[0] ? `, λ ${told(curvature[0])}${curvature[1] ? ` and ${told(curvature[1])}` : ""}` : ""}. {opened.potential ? "The loss in it is true. " : ""}{leak !== null && <>Half of it leaks more than <b>{share(leak)}</b>: {truth(leak)}</>}</p>
      <label><input type="checkbox" checked={p.riding} onChange={(e) => river.ride(e.currentTarget.checked)} /> <kbd>r</kbd> ride: the plane moves with the drop along the clock</label>
      {opened.layers && <button aria-pressed={p.ways} onClick={() => river.through(!p.ways)}><kbd>w</kbd> the gradient through the layers here</button>}
      {plane.notes.map((note) => <p class="soft">{note}</p>)}
    </section>
  );
}

function truth(leak: number): string {
  if (leak < 0.05) return "the water is true.";
  return leak < 0.5 ? "read the water with care." : "the water is hardly the flow. The path is, solved in all dimensions.";
}
