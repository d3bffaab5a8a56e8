// Where Depth's records come from: the app's server, or records that lie in the page itself. The screen knows only this interface.
import { Away, type Frame, frames, get, Locked, post } from "../wire/ask";
import type { Cell, Curves, HeatMap, Inlined, Offers, OpSeen, Routes, RunList, RunView, Trying, Way } from "../wire/types";
import { levelOf } from "./levels";
import { gain, number } from "./spell";

export interface News {
  version: number;
  state: RunView["state"];
  steps: number;
  probes: number;
}

export interface Listener {
  grown(news: News): void;
  wait(problem: string): void;
  away(problem: string): void;
}

export interface Transport {
  view(): Promise<RunView>;
  /** The way back of a probe; of one optimizer by its number, where that of the probe is another's. */
  way(probe: number, own: number | null): Promise<Way>;
  op(probe: number, row: number, own: number | null): Promise<OpSeen>;
  routes(probe: number): Promise<Routes>;
  curves(points: number): Promise<Frame<Curves>>;
  heat(biases: boolean): Promise<HeatMap>;
  cell(param: number, step: number): Promise<Cell>;
  /** Where the same is had as one file; null: this is one. */
  file: string | null;
  /** Tell when there is more; returns how to stop. Records in a page do not grow. */
  follow(version: number, listener: Listener): () => void;
  /** Remedies can be tried; absent where no server is there to do so. */
  tries?: Tries;
}

export interface Tries {
  offers(): Promise<Offers>;
  start(kind: string): Promise<Trying>;
  cancel(): Promise<Trying>;
  /** Tell how it goes, to its end; returns how to stop. */
  watch(seen: (trying: Trying) => void): () => void;
}

export const runs = (): Promise<RunList> => get<RunList>("/api/runs");

/** Records from the app's server, by the run's name. */
export function server(name: string): Transport {
  const url = (what: string, asked: Record<string, string | number> = {}) =>
    `/api/run${what}?${new URLSearchParams({ name, ...Object.fromEntries(Object.entries(asked).map(([k, v]) => [k, String(v)])) })}`;
  return {
    tries: {
      offers: () => get(url("/remedies")),
      start: async (kind) => (await post("/api/run/try", { name, kind })).json() as Promise<Trying>,
      cancel: async () => (await post("/api/run/cancel", { name, kind: "" })).json() as Promise<Trying>,
      watch(seen) {
        const source = new EventSource(url("/trying"));
        source.addEventListener("trying", (e) => {
          const now = JSON.parse((e as MessageEvent<string>).data) as Trying | null;
          if (now?.state !== "going") source.close();
          if (now) seen(now);
        });
        return () => source.close();
      },
    },
    view: () => get(url("")),
    way: (probe, own) => get(url("/way", { probe, ...(own === null ? {} : { own }) })),
    op: (probe, row, own) => get(url("/op", { probe, row, ...(own === null ? {} : { own }) })),
    routes: (probe) => get(url("/routes", { probe })),
    heat: (biases) => get(url("/heat", { biases: biases ? 1 : 0 })),
    cell: (param, step) => get(url("/cell", { param, step })),
    file: url("/page"),
    async curves(points) {
      const answer = await fetch(url("/curves", { points })).catch(() => {
        throw new Away("The app does not answer.");
      });
      if (answer.status === 401) throw new Locked("The app does not know this browser: open the link that it printed.");
      for await (const frame of frames<Curves>(answer)) return frame;
      throw new Away("The app stopped answering.");
    },
    follow(version, listener) {
      const source = new EventSource(url("/follow", { version }));
      source.addEventListener("grown", (e) => listener.grown(JSON.parse((e as MessageEvent<string>).data) as News));
      source.addEventListener("wait", (e) => listener.wait((JSON.parse((e as MessageEvent<string>).data) as { problem: string }).problem));
      source.onerror = () => listener.away("The app does not answer. Start it again with gradientflow app: this page goes on by itself.");
      source.onopen = () => listener.away("");
      return () => source.close();
    },
  };
}

/** Records that lie in the page. */
export function inline(held: Inlined): Transport {
  const there = async <T>(found: T | null | undefined, what: string): Promise<T> => {
    if (found === undefined || found === null) throw new Error(held.problems[0] ?? `This page holds no ${what}. gradientflow app shows it.`);
    return found;
  };
  return {
    view: async () => held.view,
    way: (probe, own) => there((own === null ? held.ways[probe] : held.owns[own])?.way, "way back of this step"),
    async op(probe, row, own) {
      const one = await there(own === null ? held.ways[probe] : held.owns[own], "way back of this step");
      const source = one.sources[row];
      return { ...(await there(one.ops[row], "details of this row")), excerpt: typeof source === "number" ? (held.excerpts[source] ?? null) : null };
    },
    routes: (probe) => there(held.ways[probe]?.routes, "routes of this step"),
    async curves() {
      const head = await there(held.curves, "curves");
      return { head, floats: new Float32Array(bytes(held.floats).buffer) };
    },
    heat: async (biases) => (await there(biases ? held.biases : held.weights, "map of gradients")).map,
    cell: async (param, step) => cellOf(held, param, step),
    file: null,
    follow: () => () => undefined,
  };
}

const bytes = (packed: string): Uint8Array<ArrayBuffer> => Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));

/** A cell as far as the map tells it; its row is that of the nearest step that the page holds. */
function cellOf(held: Inlined, param: number, step: number): Cell {
  const drawn = [held.weights, held.biases].find((m) => m?.map.params.includes(param));
  if (!drawn) throw new Error("This page holds no such parameter.");
  const { map, largest } = drawn;
  const row = map.params.indexOf(param);
  const nearest = (of: number[]) => of.reduce((best, s, k) => (Math.abs(s - step) < Math.abs(of[best]! - step) ? k : best), 0);
  const column = nearest(map.steps);
  const level = levelOf(map, bytes(map.codes), row, column);
  const most = largest[column];
  const facts: [string, string][] = [["‖gradient‖", typeof level === "string" ? level : most === null || most === undefined ? "—" : `about ${number(most * 10 ** level, 2)}`]];
  if (typeof level === "number") facts.push(["of the largest in this step", `about ${gain(10 ** level)}`]);
  const probe = held.view.probes.length ? nearest(held.view.probes.map((p) => p.step)) : null;
  const marks = typeof level === "string" && /^[✕○]/.test(level) ? [level.startsWith("✕") ? "not-finite" : "dead"] : [];
  return { param, name: map.names[row] ?? "", step: map.steps[column] ?? step, facts, marks, row: probe === null ? null : (held.ways[probe]?.users[param] ?? null), probe };
}
