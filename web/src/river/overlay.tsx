// What is drawn above the water: levels, what orders it, solved paths, drops. Vectors, so that a figure of them is sharp.
import { Component, type ComponentType } from "preact";
import type { FixedPoint } from "../wire/types";
import { near, offAt } from "./off";
import { type Box, type Point } from "./samples";
import { type Drop, KINDS, LOOKS, type Picture, placeAt, type Shores, type Solving, told } from "./state";

export interface Frame {
  box: Box;
  width: number;
  height: number;
}

export const toScreen = ({ box: [x0, x1, y0, y1], width, height }: Frame, [x, y]: Point): Point => [
  ((x - x0) / (x1 - x0)) * width, ((y1 - y) / (y1 - y0)) * height,
];
export const toField = ({ box: [x0, x1, y0, y1], width, height }: Frame, [x, y]: Point): Point => [
  x0 + (x / width) * (x1 - x0), y1 - (y / height) * (y1 - y0),
];

/** A box grown so that both axes have one scale, where its own sides are not too unlike; with a little room around. */
export function fitted(box: Box, { width, height }: Frame): Box {
  const [x0, x1, y0, y1] = box;
  const ratio = (x1 - x0) / (y1 - y0);
  if (ratio < 0.2 || ratio > 5 || width < 2) return box;
  const scale = 1.05 * Math.max((x1 - x0) / width, (y1 - y0) / height);
  const [cx, cy] = [(x0 + x1) / 2, (y0 + y1) / 2];
  return [cx - (scale * width) / 2, cx + (scale * width) / 2, cy - (scale * height) / 2, cy + (scale * height) / 2];
}

/** The box that a frame of another size shows around the same middle, at the same scale. */
export function stretched({ box: [x0, x1, y0, y1], width, height }: Frame, wide: number, tall: number): Box {
  const [cx, cy] = [(x0 + x1) / 2, (y0 + y1) / 2];
  const scale = Math.max((x1 - x0) / width, (y1 - y0) / height);
  return [cx - (scale * wide) / 2, cx + (scale * wide) / 2, cy - (scale * tall) / 2, cy + (scale * tall) / 2];
}

/** The box of a frame made larger or smaller around a point, its middle where none is named; none where numbers give out. */
export function zoomed(frame: Frame, factor: number, at?: Point): Box | null {
  const [cx, cy] = at ?? toField(frame, [frame.width / 2, frame.height / 2]);
  const [x0, x1, y0, y1] = frame.box;
  const size = (x1 - x0) * factor;
  if (!(size > 1e-7 * Math.max(1, Math.abs(cx), Math.abs(cy)) && size < 1e6)) return null;
  return [cx + (x0 - cx) * factor, cx + (x1 - cx) * factor, cy + (y0 - cy) * factor, cy + (y1 - cy) * factor];
}

/** A path of SVG through points; what is far outside is left out, for browsers lose count there. */
export function line(frame: Frame, points: readonly (readonly [number, number])[]): string {
  let out = "", pen = false;
  const far = 20 * Math.max(frame.width, frame.height);
  for (const p of points) {
    const [x, y] = toScreen(frame, p as Point);
    if (!(Math.abs(x) < far && Math.abs(y) < far)) { pen = false; continue; }
    out += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = true;
  }
  return out;
}

/** The parts of a shadow that lie in the plane, up to a distance, and those that do not. */
export function parted(points: readonly (readonly [number, number])[], off: readonly number[], far: number): [(readonly [number, number])[][], (readonly [number, number])[][]] {
  if (!off.length) return [[points as (readonly [number, number])[]], []];
  const parts: [(readonly [number, number])[][], (readonly [number, number])[][]] = [[], []];
  let was = -1;
  points.forEach((p, k) => {
    const side = +(off[k]! > far);
    if (side !== was) parts[side]!.push(k ? [points[k - 1]!] : []);
    parts[side]!.at(-1)!.push(p);
    was = side;
  });
  return parts;
}

/** Two sheets: what stays while a drop is dragged is not drawn anew with it. */
export function Overlay({ picture: p, frame, describe, Hatched }: { picture: Picture; frame: Frame; describe: string; Hatched: ComponentType<{ shores: Shores; frame: Frame }> | null }) {
  const size = { width: frame.width, height: frame.height, viewBox: `0 0 ${frame.width} ${frame.height}` };
  return (
    <>
      <Ground levels={p.levels} order={p.order} lines={p.lines} frame={frame} shores={p.shores} Hatched={Hatched} />
      <svg class="over" {...size} role="img" aria-label={describe}>
        {p.drops.map((d) => <Paths drop={d} on={p.on} active={d.id === p.active} frame={frame} />)}
        {p.order?.fixed.map((f) => <Rest point={f} frame={frame} />)}
        {p.drops.map((d, k) => <Marks drop={d} index={k + 1} picture={p} frame={frame} />)}
        {p.cursor && <Cursor at={toScreen(frame, p.cursor)} />}
      </svg>
    </>
  );
}

/** A part of the picture that is drawn anew only when one of its own properties is another. */
abstract class Kept<P> extends Component<P> {
  override shouldComponentUpdate(next: Readonly<P>): boolean {
    return (Object.keys(next as object) as (keyof P)[]).some((k) => next[k] !== (this.props as P)[k]);
  }
}

class Ground extends Kept<{ levels: Point[][]; order: Picture["order"]; lines: Picture["lines"]; frame: Frame; shores: Shores | null; Hatched: ComponentType<{ shores: Shores; frame: Frame }> | null }> {
  render() {
    const { levels, order, lines, frame, shores, Hatched } = this.props;
    return (
      <svg class="over" width={frame.width} height={frame.height} viewBox={`0 0 ${frame.width} ${frame.height}`} aria-hidden="true">
        {shores && Hatched && <Hatched shores={shores} frame={frame} />}
        <g class="levels">{levels.length > 0 && <path d={levels.map((l) => line(frame, l)).join("")} />}</g>
        {order && <>
          <g class="separatrices">{order.separatrices.map((l) => <path d={line(frame, l)} />)}</g>
          <g class="valleys">{order.valleys.map((l) => <path d={line(frame, l)} />)}</g>
          <g class="ridges">{order.ridges.map((l) => <path d={line(frame, l)} />)}</g>
        </>}
        {lines.map((many) => (
          <g class="crowd">
            {many.trails.map((trail) => <path d={line(frame, trail)} />)}
            {many.start.map((at) => <Dot at={toScreen(frame, at)} r={2.6} />)}
          </g>
        ))}
      </svg>
    );
  }
}

const Dot = ({ at, r }: { at: Point; r: number }) => <circle cx={at[0].toFixed(1)} cy={at[1].toFixed(1)} r={r} />;

class Paths extends Kept<{ drop: Drop; on: Picture["on"]; active: boolean; frame: Frame }> {
  render() {
    const { drop, on, active, frame } = this.props;
    const [inside, outside] = drop.flow ? parted(drop.flow.track.points, drop.flow.off, near(frame.box)) : [[], []];
    const [d, far] = [inside, outside].map((parts) => parts.map((part) => line(frame, part)).join(""));
    return (
      <g class={"paths" + (active ? "" : " dim")}>
        {drop.back && <path class="back" d={line(frame, drop.back.points)} />}
        {KINDS.map((k) => on[k] && drop.rivals[k] && <Steps kind={k} solving={drop.rivals[k]!} frame={frame} />)}
        {drop.flow && <>{far && <path class="flow far" d={far}><title>{`off the plane: up to ${told(Math.max(...drop.flow.off), 2)}`}</title></path>}<path class="casing" d={d} /><path class="flow" d={d}><title>{residual(drop)}</title></path></>}
      </g>
    );
  }
}

/** A descent: its steps as marks, joined by straight lines, for between two steps there is nothing. */
interface Stepped {
  kind: "gd" | "momentum" | "adam";
  solving: Solving;
  frame: Frame;
}
class Steps extends Kept<Stepped> {
  render() {
    return steps(this.props);
  }
}

function steps({ kind, solving: { track, off }, frame }: Stepped) {
  const [inside, outside] = parted(track.points, off, near(frame.box));
  const points = track.points as Point[];
  const shown: Point[] = [];
  let last: Point | null = null;
  for (const at of points) {
    const s = toScreen(frame, at);
    if (!(s[0] > -20 && s[0] < frame.width + 20 && s[1] > -20 && s[1] < frame.height + 20)) continue;
    if (last && Math.hypot(s[0] - last[0], s[1] - last[1]) < 3.5) continue;
    shown.push((last = s));
  }
  return (
    <g class={kind}>
      <path d={inside.map((part) => line(frame, part)).join("")} stroke-dasharray={LOOKS[kind].dash} />
      {outside.length > 0 && <path class="far" d={outside.map((part) => line(frame, part)).join("")} />}
      <path class="dots" d={shown.map((s) => mark(kind, s)).join("")}><title>{`${LOOKS[kind].name}: ${track.label}`}</title></path>
    </g>
  );
}

function mark(kind: "gd" | "momentum" | "adam", [x, y]: Point): string {
  const r = 2.7, X = x.toFixed(1), Y = y.toFixed(1);
  if (kind === "gd") return `M${X} ${Y}m${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
  if (kind === "momentum") return `M${X} ${Y}m${-r + 0.4} ${-r + 0.4}h${2 * r - 0.8}v${2 * r - 0.8}h${-2 * r + 0.8}z`;
  return `M${X} ${Y}m0 ${-r - 0.4}l${r + 0.3} ${2 * r}h${-2 * r - 0.6}z`;
}

function Marks({ drop, index, picture, frame }: { drop: Drop; index: number; picture: Picture; frame: Frame }) {
  const [x, y] = toScreen(frame, drop.at);
  const active = drop.id === picture.active;
  const far = near(frame.box);
  const heads = picture.clock < picture.t * 0.9999 || drop.flow ? heads_(drop, picture, frame) : [];
  return (
    <g class={"drop" + (active ? " active" : "")}>
      {active && heads.map((h) => <><circle class={`head ${h.kind}`} cx={h.at[0]} cy={h.at[1]} r="5.5" />{h.off > far && <text class={`off ${h.kind}`} x={h.at[0] + 9} y={h.at[1] + (h.kind === "flow" ? -7 : 15)}>{told(h.off, 2)} off</text>}</>)}
      <circle class={drop.off > far ? "pin far" : "pin"} cx={x} cy={y} r="9" data-drop={drop.id} />
      <text x={x} y={y + 3.8}>{index}</text>
    </g>
  );
}

function heads_(drop: Drop, picture: Picture, frame: Frame): { kind: string; at: Point; off: number }[] {
  const out: { kind: string; at: Point; off: number }[] = [];
  const add = (kind: string, solved: Solving | null | undefined) => {
    const at = solved && placeAt(solved.track, picture.clock);
    if (!at) return;
    const s = toScreen(frame, at);
    if (s[0] > -9 && s[1] > -9 && s[0] < frame.width + 9 && s[1] < frame.height + 9) out.push({ kind, at: s, off: offAt(solved.track.clock, solved.off, picture.clock) });
  };
  for (const k of KINDS) if (picture.on[k]) add(k, drop.rivals[k]);
  add("flow", drop.flow);
  return out;
}

export const SIGNS: Record<string, { sign: string; text: string }> = {
  sink: { sign: "●", text: "sink: the flow comes to rest" },
  "spiral-sink": { sign: "●", text: "spiral sink" },
  saddle: { sign: "◇", text: "saddle: slow, then away" },
  source: { sign: "○", text: "source: the flow leaves" },
  "spiral-source": { sign: "○", text: "spiral source" },
  centre: { sign: "◎", text: "centre: the flow goes round it" },
  valley: { sign: "═", text: "valley: every point is at rest" },
  ridge: { sign: "┄", text: "ridge: at rest, and unstable" },
  degenerate: { sign: "✳", text: "degenerate point" },
};

function Rest({ point, frame }: { point: FixedPoint; frame: Frame }) {
  const [x, y] = toScreen(frame, point.at);
  const about = `${SIGNS[point.kind]?.text ?? point.kind}, at (${told(point.at[0])}, ${told(point.at[1])})${point.loss === null ? "" : `, loss ${told(point.loss)}`}`;
  const shape = point.kind === "saddle"
    ? <path d={`M${x} ${y - 9}l9 9l-9 9l-9 -9z`} />
    : <circle cx={x} cy={y} r={7} />;
  return <g class={`rest ${point.kind}`}>{shape}{point.kind === "centre" && <circle cx={x} cy={y} r={2.5} />}<title>{about}</title></g>;
}

const Cursor = ({ at: [x, y] }: { at: Point }) => (
  <path class="cursor" d={`M${x - 14} ${y}h10M${x + 4} ${y}h10M${x} ${y - 14}v10M${x} ${y + 4}v10`} />
);

function residual(drop: Drop): string {
  const track = drop.flow!.track;
  const checks = track.checks.map((c) => `${c.ok === false ? "✗" : c.ok ? "✓" : "–"} ${c.name}${c.value === null ? "" : ` ${told(c.value)}`}`);
  return drop.flow!.exact ? `solved: ${track.method}\n${checks.join("\n")}` : "a first answer; the solved one follows";
}
