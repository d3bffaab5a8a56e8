// Basins: where the drops of a grid end, told by hatching and colour, and by a letter at each place. Loaded when they are asked for.
import { stream } from "../wire/ask";
import type { Answer, Basins } from "../wire/types";
import type { River } from "./river";
import { type Frame, toScreen } from "./overlay";
import { type Shores, TAB, told } from "./state";

/** Hatchings that differ in form, so that colour is not needed to tell them apart. Eight by eight pixels each. */
const HATCHES = [
  "M-2 2l4 -4M0 8l8 -8M6 10l4 -4", "M-2 6l4 4M0 0l8 8M6 -2l4 4", "M0 4h8", "M4 0v8", "M2.6 4a1.4 1.4 0 1 0 2.8 0a1.4 1.4 0 1 0 -2.8 0", "M0 4h8M4 0v8",
  "M1 2h3M5 6h3", "M4 2l2.2 3.8h-4.4z", "M2 2l4 4M6 2l-4 4",
];
export const LETTERS = "ABCDEFGHI";
let asking: AbortController | null = null;

/** Ask for the basins of what is shown; a newer ask ends this one. */
export async function survey(river: River): Promise<void> {
  const { opened, view, t } = river.state;
  asking?.abort();
  if (!opened || !view || river.state.plane || !river.state.basins) return;
  const mine = (asking = new AbortController());
  river.setState({ shores: null, busy: "finding where drops end …" });
  try {
    for await (const { head, floats } of stream<Basins | Answer>("/api/basins", { target: opened.target, box: view, t, lane: `${TAB}:basins` }, mine.signal)) {
      if (mine.signal.aborted) return;
      if ("places" in head) river.setState({ shores: { ...head, which: floats }, busy: "" });
      else river.setState({ problem: head.text });
    }
  } catch (problem) {
    if (!mine.signal.aborted) river.failed(problem as Error);
  } finally {
    if (asking === mine) river.setState({ busy: "" });
  }
}

export const leave = (): void => asking?.abort();

/** One shape for each basin: runs of cells, row by row. */
function shape({ box: [x0, x1, y0, y1], n, which }: Shores, k: number, frame: Frame): string {
  const [w, h] = [(x1 - x0) / (n - 1), (y1 - y0) / (n - 1)];
  let out = "";
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      if (which[i * n + j] !== k) continue;
      const from = j;
      while (j < n - 1 && which[i * n + j + 1] === k) j++;
      const [a, b] = toScreen(frame, [x0 + (from - 0.5) * w, y0 + (i + 0.5) * h]);
      const [c, d] = toScreen(frame, [x0 + (j + 0.5) * w, y0 + (i - 0.5) * h]);
      out += `M${a.toFixed(1)} ${b.toFixed(1)}H${c.toFixed(1)}V${d.toFixed(1)}H${a.toFixed(1)}z`;
    }
  }
  return out;
}

export function Hatched({ shores, frame }: { shores: Shores; frame: Frame }) {
  return (
    <g class="shores">
      <defs>
        {shores.places.map((_, k) => <pattern id={`shore${k}`} width="8" height="8" patternUnits="userSpaceOnUse"><path class={`shore s${k}`} d={HATCHES[k]} /></pattern>)}
      </defs>
      {shores.places.map((at, k) => {
        const d = shape(shores, k, frame), [x, y] = toScreen(frame, at);
        return <>
          <path class={`bed s${k}`} d={d} /><path class="hatch" d={d} style={{ fill: `url(#shore${k})` }} />
          <text x={x + 12} y={y - 9}>{LETTERS[k]}</text>
        </>;
      })}
    </g>
  );
}

/** The legend's rows. */
export function Told({ shores }: { shores: Shores }) {
  if (!shores.places.length) return <p class="soft">basins: of a grid of drops none comes to rest.</p>;
  const unit = 10 ** Math.floor(Math.log10((shores.box[1] - shores.box[0]) / 300)); // finer than a pixel nothing is told
  return (
    <ul class="shores">
      {shores.places.map((at, k) => (
        <li><svg width="20" height="14" aria-hidden="true"><rect class={`bed s${k}`} width="20" height="14" /><path class={`shore s${k}`} d={HATCHES[k]} /><path class={`shore s${k}`} d={HATCHES[k]} transform="translate(8)" /></svg>
          <b>{LETTERS[k]}</b> {Math.round(100 * shores.shares[k]!)} % end near ({at.map((x) => told(unit * Math.round(x / unit))).join(", ")})</li>
      ))}
    </ul>
  );
}
