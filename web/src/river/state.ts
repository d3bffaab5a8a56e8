// What the River shows, and the part of it that a link holds.
import type { Answer, Apart, Basins, Drops, Opened, Order, PlaneSeen, Tale, Track } from "../wire/types";
import type { Box, Point, Samples } from "./samples";

/** This page among the others that the same browser has open. */
export const TAB = Math.random().toString(36).slice(2, 10);

export type Kind = "gd" | "momentum" | "adam";
export const KINDS: readonly Kind[] = ["gd", "momentum", "adam"];

/** How each path is called and drawn. Never by colour alone: the dash and the mark tell them apart too. */
export const LOOKS: Record<"flow" | Kind, { name: string; mark: string; dash: string }> = {
  flow: { name: "flow", mark: "━", dash: "" },
  gd: { name: "gradient descent", mark: "●", dash: "" },
  momentum: { name: "momentum 0.9", mark: "■", dash: "7 3" },
  adam: { name: "Adam", mark: "▲", dash: "2 3" },
};

export interface Solving {
  track: Track;
  exact: boolean;
  off: readonly number[]; // distance from the plane at each of its points; empty: there is nothing beside the plane
}

export interface Drop {
  id: number;
  at: Point;
  foot: string; // on a plane: where it begins, as a place
  off: number; // and how far that is from the plane
  flow: Solving | null;
  back: Track | null;
  rivals: Partial<Record<Kind, Solving>>;
  apart: Partial<Record<Kind, Apart>>;
  problem: string;
}

export interface Shores extends Basins {
  which: Float32Array; // for each point of the grid the number of its place, −1: nowhere
}

export interface Picture {
  opened: Opened | null;
  view: Box | null;
  plane: PlaneSeen | null; // of a field of more than two parameters
  riding: boolean; // the plane moves with the active drop
  ways: boolean; // the gradient through the layers is shown, where the active drop is
  pointer: Point | null;
  samples: Samples | null;
  order: Order | null;
  levels: Point[][];
  drops: Drop[];
  active: number; // id of a drop
  lines: Drops[];
  basins: boolean; // they are shown
  shores: Shores | null;
  on: Record<Kind, boolean>;
  lr: Record<Kind, number>;
  t: number;
  clock: number; // flow time that is shown on all paths
  back: boolean;
  trueTime: boolean;
  paused: boolean;
  tale: string;
  cursor: Point | null;
  problem: string; // of the field or the app, not of a drop
}

export const emptyDrop = (id: number, at: Point, foot = "", off = 0): Drop => ({ id, at, foot, off, flow: null, back: null, rivals: {}, apart: {}, problem: "" });

/** A drop with one part of an answer; an answer to where it was before it was moved is left out. */
export function answered(d: Drop, answer: Answer, start: readonly number[], level: string): Drop {
  const { part, exact, shadow } = answer;
  const track = answer.track && shadow ? { ...answer.track, points: shadow.points, clock: shadow.times } : answer.track;
  const off = shadow?.off ?? [];
  if (part === "refused") return { ...d, problem: answer.text };
  if (level !== "drag" && (d.at[0] !== start[0] || d.at[1] !== start[1])) return d;
  if (part === "flow" && track) return { ...d, flow: { track, exact, off }, problem: "" };
  if (part === "back") return { ...d, back: track };
  if (part === "apart") {
    const apart: Drop["apart"] = {};
    for (const a of answer.apart) {
      const kind = KINDS.find((k) => d.rivals[k]?.track.label === a.label);
      if (kind) apart[kind] = a;
    }
    return { ...d, apart };
  }
  return track ? { ...d, rivals: { ...d.rivals, [part]: { track, exact, off } } } : d;
}

/** The link's part: everything that redoes the picture. */
export function hashOf(p: Picture): string {
  const q = new URLSearchParams();
  if (p.opened) q.set("f", p.opened.target);
  if (p.view) q.set("v", p.view.map((x) => short(x)).join(","));
  if (p.plane) q.set("plane", p.plane.text);
  if (p.plane && p.drops.length) q.set("d", p.drops.map((d) => d.foot).join("!"));
  else if (p.drops.length) q.set("d", p.drops.map((d) => d.at.map((x) => short(x, 7)).join(",")).join(";"));
  for (const k of KINDS) if (p.on[k]) q.set(k, short(p.lr[k]));
  q.set("t", short(p.t));
  if (p.clock < p.t) q.set("at", short(p.clock));
  if (p.back) q.set("from", "1");
  if (p.trueTime) q.set("true", "1");
  if (p.tale) q.set("tale", p.tale);
  if (p.riding) q.set("ride", "1");
  if (p.basins) q.set("basins", "1");
  return "#river?" + q.toString().replace(/%(2C|3B|3A|2F|7E|40|28|29|21)/g, decodeURIComponent);
}

export interface Wanted {
  target: string;
  view: Box | null;
  plane: string;
  feet: string[];
  riding: boolean;
  basins: boolean;
  drops: Point[];
  on: Record<Kind, boolean>;
  lr: Partial<Record<Kind, number>>;
  t: number | null;
  clock: number | null;
  back: boolean;
  trueTime: boolean;
  tale: string;
}

export function wantedOf(hash: string): Wanted {
  const q = new URLSearchParams(hash.replace(/^#river\??/, ""));
  const numbers = (text: string | null) => (text ?? "").split(",").map(Number).filter(Number.isFinite);
  const one = (name: string) => (q.has(name) && numbers(q.get(name)).length === 1 ? numbers(q.get(name))[0]! : null);
  const view = q.has("v") ? numbers(q.get("v")) : [];
  const lr: Wanted["lr"] = {};
  for (const k of KINDS) {
    const x = one(k);
    if (x !== null && x > 0) lr[k] = x;
  }
  return {
    target: q.get("f") ?? "",
    view: view.length === 4 && view[0]! < view[1]! && view[2]! < view[3]! ? (view as Box) : null,
    plane: q.get("plane") ?? "",
    feet: q.has("plane") ? (q.get("d") ?? "").split("!").filter((x) => x).slice(0, 9) : [],
    riding: q.has("ride"),
    basins: q.has("basins"),
    drops: (q.get("d") ?? "").split(";").map(numbers).filter((x) => x.length === 2).slice(0, 9) as Point[],
    on: Object.fromEntries(KINDS.map((k) => [k, k in lr])) as Record<Kind, boolean>,
    lr,
    t: one("t"),
    clock: one("at"),
    back: q.has("from"),
    trueTime: q.has("true"),
    tale: q.get("tale") ?? "",
  };
}

/** What a story shows, as a link would hold it. */
export function toldBy(tale: Tale): Wanted {
  const wanted = { ...wantedOf(""), target: tale.target, drops: [tale.start as Point], t: tale.t, tale: tale.key };
  for (const r of tale.rivals) {
    wanted.on[r.kind] = true;
    wanted.lr[r.kind] = r.lr;
  }
  return wanted;
}

/** A number in few digits, as one would write it. */
export function short(x: number, digits = 4): string {
  if (!Number.isFinite(x)) return String(x);
  return String(Number(x.toPrecision(digits)));
}

/** A number for people: a true minus, few digits, powers of ten where they help. */
export function told(x: number | null | undefined, digits = 3): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "—";
  const size = Math.abs(x);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? x.toExponential(Math.max(digits - 2, 0)) : String(Number(x.toPrecision(digits)));
  return text.replace("e+", "e").replaceAll("-", "−");
}

/** Where a path is at a flow time: between two points of it on the line, for a descent at its last step. */
export function placeAt(track: Track, t: number): Point | null {
  const { clock, points } = track;
  if (!points.length) return null;
  let low = 0, high = clock.length - 1;
  if (t >= clock[high]!) return points[high] as Point;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (clock[middle]! <= t) low = middle;
    else high = middle;
  }
  const a = points[low]!, b = points[high]!;
  if (track.kind === "descent") return a as Point;
  const s = Math.min(1, Math.max(0, (t - clock[low]!) / Math.max(clock[high]! - clock[low]!, 1e-300)));
  return [a[0] + s * (b[0] - a[0]), a[1] + s * (b[1] - a[1])];
}
