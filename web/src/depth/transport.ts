// Where Depth's records come from: the app's server, or records that lie in the page itself. The screen knows only this interface.
import { Away, type Frame, frames, get, Locked, post } from "../wire/ask";
import type { Cell, Curves, HeatMap, Offers, OpSeen, Routes, RunList, RunView, Trying, Way } from "../wire/types";

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
  way(probe: number): Promise<Way>;
  op(probe: number, row: number): Promise<OpSeen>;
  routes(probe: number): Promise<Routes>;
  curves(points: number): Promise<Frame<Curves>>;
  heat(biases: boolean): Promise<HeatMap>;
  cell(param: number, step: number): Promise<Cell>;
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
    way: (probe) => get(url("/way", { probe })),
    op: (probe, row) => get(url("/op", { probe, row })),
    routes: (probe) => get(url("/routes", { probe })),
    heat: (biases) => get(url("/heat", { biases: biases ? 1 : 0 })),
    cell: (param, step) => get(url("/cell", { param, step })),
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

/** What a page may hold of a run: every answer that the screen may ask for. */
export interface Inlined {
  view: RunView;
  ways: Record<number, Way>;
  ops: Record<string, OpSeen>;
  routes: Record<number, Routes>;
  curves: { head: Curves; floats: number[] };
  heat: Record<"weights" | "biases", HeatMap>;
  cells: Record<string, Cell>;
}

/** Records that lie in the page. */
export function inline(held: Inlined): Transport {
  const there = async <T>(found: T | undefined, what: string): Promise<T> => {
    if (found === undefined) throw new Error(`This page holds no ${what}. Open the run with gradientflow app.`);
    return found;
  };
  return {
    view: async () => held.view,
    way: (probe) => there(held.ways[probe], "way back of this step"),
    op: (probe, row) => there(held.ops[`${probe}/${row}`], "details of this row"),
    routes: (probe) => there(held.routes[probe], "routes of this step"),
    curves: async () => ({ head: held.curves.head, floats: Float32Array.from(held.curves.floats) }),
    heat: (biases) => there(held.heat[biases ? "biases" : "weights"], "such map"),
    cell: (param, step) => there(held.cells[`${param}/${step}`], "norms of this parameter at this step"),
    follow: () => () => undefined,
  };
}
