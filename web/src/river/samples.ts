// The samples of a field as they come over the wire, and what is read off them: the scale of speeds, the levels of the loss.
import type { Frame } from "../wire/ask";
import type { Water } from "../wire/types";

export type Box = [number, number, number, number];
export type Point = [number, number];

export interface Samples {
  box: Box;
  n: number;
  u: Float32Array;
  v: Float32Array;
  loss: Float32Array | null;
  leak: Float32Array | null; // on a plane: ‖f⊥‖/‖f‖, the share of the rate that leaves the picture
  middleLeak: number | null;
  low: number; // log10 of the speed at the slow end of the colours
  high: number;
  fast: number; // speed that bent time is measured by
  notes: string[];
}

export function samplesOf(frame: Frame<Water>): Samples {
  const { n, box, notes, leaks } = frame.head;
  const rows = [...Array(frame.floats.length / (n * n))].map((_, k) => frame.floats.subarray(k * n * n, (k + 1) * n * n));
  const leak = leaks ? rows.pop()! : null;
  const [u, v] = [rows[0]!, rows[1]!];
  const speeds: number[] = [];
  for (let k = 0; k < n * n; k++) {
    const s = Math.hypot(u[k]!, v[k]!);
    if (s > 0 && Number.isFinite(s)) speeds.push(s);
  }
  speeds.sort((a, b) => a - b);
  const share = (p: number) => speeds[Math.min(speeds.length - 1, Math.floor(p * speeds.length))] ?? 1;
  const low = Math.log10(share(0.08));
  const high = Math.max(Math.log10(share(0.99)), low + 0.5);
  return { box, n, u, v, loss: rows[2] ?? null, leak, middleLeak: frame.head.middle_leak ?? null, low, high, fast: 10 ** high, notes };
}

/** Lines of equal loss, at levels even in the logarithm: marching squares. Points are in units of the field. */
export function contours(s: Samples, count = 13): Point[][] {
  if (!s.loss) return [];
  const known = Array.from(s.loss).filter(Number.isFinite).sort((a, b) => a - b);
  if (known.length < 16) return [];
  const least = known[0]!;
  const near = Math.max(known[Math.floor(known.length * 0.02)]! - least, 1e-12 * Math.abs(known[known.length - 1]! - least), 1e-300);
  const far = known[Math.floor(known.length * 0.995)]! - least;
  if (!(far > near)) return [];
  const lines: Point[][] = [];
  const thin = halved(s); // fine enough for lines of one pixel
  for (let k = 0; k < count; k++) lines.push(...level(thin, least + near * (far / near) ** ((k + 0.5) / count)));
  return lines;
}

/** Every second sample, where there are many. */
function halved(s: Samples): Samples {
  if (s.n < 200) return s;
  const n = Math.floor((s.n + 1) / 2);
  const loss = new Float32Array(n * n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) loss[i * n + j] = s.loss![2 * i * s.n + 2 * j]!;
  const last = (2 * (n - 1)) / (s.n - 1);
  const [x0, x1, y0, y1] = s.box;
  return { ...s, n, loss, box: [x0, x0 + last * (x1 - x0), y0, y0 + last * (y1 - y0)] };
}

function level(s: Samples, at: number): Point[][] {
  const { n, box: [x0, x1, y0, y1] } = s;
  const f = s.loss!;
  const segments = new Map<number, number[]>(); // edge → the edges it is joined to
  const where = new Map<number, Point>();
  const join = (a: number, b: number) => {
    segments.set(a, [...(segments.get(a) ?? []), b]);
    segments.set(b, [...(segments.get(b) ?? []), a]);
  };
  const cross = (edge: number, i: number, j: number, di: number, dj: number): number => {
    if (!where.has(edge)) {
      const a = f[i * n + j]!, b = f[(i + di) * n + j + dj]!;
      const p = (at - a) / (b - a);
      where.set(edge, [x0 + ((j + dj * p) / (n - 1)) * (x1 - x0), y0 + ((i + di * p) / (n - 1)) * (y1 - y0)]);
    }
    return edge;
  };
  for (let i = 0; i < n - 1; i++) {
    for (let j = 0; j < n - 1; j++) {
      const k = i * n + j;
      const code = +(f[k]! > at) | (+(f[k + 1]! > at) << 1) | (+(f[k + n + 1]! > at) << 2) | (+(f[k + n]! > at) << 3);
      if (code === 0 || code === 15) continue;
      const bottom = () => cross(2 * k, i, j, 0, 1);
      const left = () => cross(2 * k + 1, i, j, 1, 0);
      const top = () => cross(2 * (k + n), i + 1, j, 0, 1);
      const right = () => cross(2 * (k + 1) + 1, i, j + 1, 1, 0);
      const c = code > 7 ? 15 - code : code;
      if (c === 1) join(bottom(), left());
      else if (c === 2) join(bottom(), right());
      else if (c === 3) join(left(), right());
      else if (c === 4) join(top(), right());
      else if (c === 6) join(bottom(), top());
      else if (c === 7) join(left(), top());
      else if (code === 5) { join(bottom(), left()); join(top(), right()); }
      else { join(bottom(), right()); join(left(), top()); }
    }
  }
  return walked(segments, where);
}

function walked(segments: Map<number, number[]>, where: Map<number, Point>): Point[][] {
  const lines: Point[][] = [];
  const starts = [...segments.keys()].sort((a, b) => segments.get(a)!.length - segments.get(b)!.length);
  for (const start of starts) {
    const line: Point[] = [];
    let edge: number | undefined = start;
    while (edge !== undefined) {
      line.push(where.get(edge)!);
      const next: number | undefined = segments.get(edge)?.pop();
      if (next !== undefined) segments.set(next, segments.get(next)!.filter((e) => e !== edge));
      edge = next;
    }
    if (line.length > 6) lines.push(line);
  }
  return lines;
}
