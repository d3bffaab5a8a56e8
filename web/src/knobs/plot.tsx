// A few curves over whole numbers, in plain SVG; the numbers stand in a table behind it.
import type { ComponentChildren } from "preact";

export interface Curve {
  name: string;
  kind: "is" | "theory" | "before" | "other" | "third" | "faint";
  x?: number[]; // places, where they are not 0, 1, 2, …
  y: (number | null)[];
  dots?: boolean;
}

interface Props {
  label: string;
  curves: Curve[];
  x: [string, string]; // what stands at the left and at the right end
  count: number; // points from end to end
  spell(y: number): string;
  now?: number; // place of a line that says where one is
  least?: number; // span of the vertical axis, at least
  children?: ComponentChildren;
}

const WIDE = 420;
const TALL = 168;
const LEFT = 44;
const [TOP, BELOW, RIGHT] = [10, 22, 12];

export function Plot({ label, curves, x, count, spell, now, least = 1 }: Props) {
  const seen = curves.flatMap((c) => c.y.filter((v): v is number => v !== null));
  const [low, high] = around(seen, least);
  const at = (k: number): number => LEFT + ((WIDE - LEFT - RIGHT) * k) / Math.max(1, count - 1);
  const up = (v: number): number => TOP + ((TALL - TOP - BELOW) * (high - v)) / (high - low);
  return (
    <svg class="plot" viewBox={`0 0 ${WIDE} ${TALL}`} role="img" aria-label={label}>
      {ticks(low, high).map((v) => (
        <g class="grid"><line x1={LEFT} x2={WIDE - RIGHT} y1={up(v)} y2={up(v)} /><text x={LEFT - 6} y={up(v) + 4} text-anchor="end">{spell(v)}</text></g>
      ))}
      <text x={LEFT} y={TALL - 5}>{x[0]}</text>
      <text x={WIDE - RIGHT} y={TALL - 5} text-anchor="end">{x[1]}</text>
      {now !== undefined && <line class="now-line" x1={at(now)} x2={at(now)} y1={TOP} y2={TALL - BELOW} />}
      {curves.map((c) => (
        <g class={`curve ${c.kind}`}>
          <path d={path(c.y, (k) => at(c.x?.[k] ?? k), up)} />
          {c.dots && c.y.length <= 70 && c.y.map((v, k) => v !== null && <circle cx={at(c.x?.[k] ?? k)} cy={up(v)} r="2.2" />)}
        </g>
      ))}
    </svg>
  );
}

/** A line through what is known; it breaks where something is not. */
function path(y: (number | null)[], at: (k: number) => number, up: (v: number) => number): string {
  let pen = "M";
  return y.map((v, k) => {
    if (v === null) { pen = "M"; return ""; }
    const to = `${pen}${at(k).toFixed(1)} ${up(v).toFixed(1)}`;
    pen = "L";
    return to;
  }).join("");
}

function around(seen: number[], least: number): [number, number] {
  if (!seen.length) return [-least, 0];
  const [low, high] = [Math.min(...seen), Math.max(...seen)];
  const lack = Math.max(0, least - (high - low)) / 2;
  const margin = 0.06 * Math.max(least, high - low);
  return [low - lack - margin, high + lack + margin];
}

function ticks(low: number, high: number): number[] {
  const rough = (high - low) / 4;
  const ten = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * ten).find((s) => s >= rough)!;
  const found: number[] = [];
  for (let v = Math.ceil(low / step) * step; v <= high; v += step) found.push(Math.abs(v) < step / 1e6 ? 0 : v);
  return found;
}
