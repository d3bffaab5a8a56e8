// Both rivers linked: where the active drop is on its path, the gradient's way back through the layers; and their shares of dθ/dt.
import { Component, createRef } from "preact";
import { decades, number, percent } from "../depth/spell";
import type { Order } from "../depth/tree";
import { Waterfall } from "../depth/waterfall";
import { More, Word } from "../depth/word";
import { type Curve, Plot } from "../knobs/plot";
import { stream, Told } from "../wire/ask";
import type { LayerShares, Way, WayAsk, WaySeen } from "../wire/types";
import type { River } from "./river";
import { type Drop, type Picture, TAB } from "./state";
import { active } from "./words";

interface Props {
  p: Picture;
  river: River;
}
interface Shares extends LayerShares {
  of: Float32Array[]; // for each layer its share at each time
}
interface State {
  seen: WaySeen | null;
  drop: number; // whose path that is on, as it is numbered on the water
  start: Way | null; // the way back where this drop began
  shares: Shares | null;
  row: number | null;
  layer: string;
  order: Order;
  problem: string;
}

const WIDE = 401; // places along the axis of time
const FAINT = 24; // layers that are drawn beside the chosen one, the strongest
const ORDERS: Order[] = ["way", "loss", "kind"]; // their keys are 1, 2, 3

/** Which path it is, by what the app keeps of it: a better one that is the same to the last number is the same. */
function pathOf(d: Drop | undefined, p: Picture): string {
  const track = d?.flow?.exact ? d.flow.track : null;
  return track && p.opened ? [p.opened.target, d!.foot, p.t, track.moments, track.times.at(-1), track.final].join(" ") : "";
}

/** What took, or added, most. */
function taken(way: Way): string {
  const [most] = way.budget.by_kind.filter((s) => s.decades).sort((a, b) => Math.abs(b.decades!) - Math.abs(a.decades!));
  return most ? `, most by ${most.name}: ${decades(most.decades)}` : "";
}

/** The layer that holds a row, or that the row's module holds. */
function layerOf(row: number | null, way: Way | undefined, layers: string[] | undefined): string {
  const path = row === null ? "" : way?.paths.slice(row).find(Boolean);
  return (path && layers?.find((l) => path === l || path.startsWith(`${l}.`) || l.startsWith(`${path}.`))) || "";
}

export class Ways extends Component<Props, State> {
  override state: State = { seen: null, drop: 0, start: null, shares: null, row: null, layer: "", order: "way", problem: "" };
  private box = createRef<HTMLElement>();
  private stop = new AbortController();
  private asking = false;
  private asked = ""; // path and time that were asked for last
  private begun = ""; // path whose start is shown, and whose shares were asked for
  private readonly onKey = (e: KeyboardEvent) => this.key(e);

  override componentDidMount(): void {
    addEventListener("keydown", this.onKey, true); // ahead of the water's own keys: 1, 2, 3 are stories there
    this.box.current!.scrollIntoView({ block: "nearest" });
    void this.ask();
  }

  override componentDidUpdate(): void { void this.ask(); }

  override componentWillUnmount(): void {
    removeEventListener("keydown", this.onKey, true);
    this.stop.abort();
  }

  private key(e: KeyboardEvent): void {
    const { p, river } = this.props;
    if (e.key === "Escape" && !river.state.extra && !p.cursor) river.through(false);
    const order = ORDERS[Number(e.key) - 1];
    if (!order || e.ctrlKey || e.metaKey || e.altKey || (e.target as HTMLElement).matches("select, textarea, input:not([type=range], [type=checkbox])")) return;
    this.setState({ order });
    e.stopPropagation();
    e.preventDefault();
  }

  /** Ask for the way back at the clock: one ask at a time is on its way, and where the clock has moved meanwhile the next is for where it is. */
  private async ask(): Promise<void> {
    const { p } = this.props;
    const d = active(p), path = pathOf(d, p);
    if (this.asking || !path) return;
    const fresh = path !== this.begun; // first where it began, to be set beside
    const at = fresh ? 0 : p.clock;
    if (this.asked === `${path} ${at}`) return;
    this.asked = `${path} ${at}`;
    this.asking = true;
    try {
      for await (const { head } of this.answers<WaySeen>(d!, at, false)) {
        if (fresh) this.setState({ start: head.way, shares: null });
        if (!fresh || p.clock === 0 || !this.state.seen) this.show(head, p.drops.indexOf(d!) + 1);
      }
      if (fresh) {
        this.begun = path;
        void this.share(d!, path);
      }
    } catch (problem) {
      this.failed(problem);
      this.begun = path;
    }
    this.asking = false;
    if (!this.stop.signal.aborted) void this.ask();
  }

  private async share(d: Drop, path: string): Promise<void> {
    try {
      for await (const { head, floats } of this.answers<LayerShares>(d, 0, true)) {
        if (this.begun !== path) return;
        const n = head.times.length;
        const of = head.layers.map((_, k) => floats.subarray(k * n, (k + 1) * n));
        this.setState((s: State) => ({ shares: { ...head, of }, layer: head.layers.includes(s.layer) ? s.layer : layerOf(s.row, s.seen?.way, head.layers) || head.layers[0]! }));
      }
    } catch (problem) {
      this.failed(problem);
    }
  }

  private async *answers<T>(d: Drop, at: number, shares: boolean) {
    const { opened, t } = this.props.p;
    const ask: WayAsk = { target: opened!.target, foot: d.foot, at, t, lane: `${TAB}:${shares ? "shares" : "way"}`, shares };
    for await (const one of stream<T & { part?: string; text?: string }>("/api/way", ask, this.stop.signal)) {
      if (one.head.part === "refused") throw new Told(one.head.text);
      yield one;
    }
  }

  private failed(problem: unknown): void {
    if (!this.stop.signal.aborted) this.setState({ problem: (problem as Error).message });
  }

  private show(seen: WaySeen, drop: number): void {
    const same = this.state.seen?.way.budget.by_op.length === seen.way.budget.by_op.length;
    this.setState({ seen, drop, problem: "", ...(same ? {} : { row: seen.way.first }) });
  }

  private choose = (row: number): void => {
    const { seen, shares } = this.state;
    const layer = layerOf(row, seen?.way, shares?.layers);
    this.setState({ row, ...(layer ? { layer } : {}) });
  };

  render({ p, river }: Props, { seen, drop, start, shares, row, order, problem }: State) {
    const path = pathOf(active(p), p);
    const total = seen?.way.budget.total_decades;
    return (
      <section class="ways depth" ref={this.box} aria-labelledby="r-ways">
        <h2 id="r-ways">the gradient through the layers{seen && active(p) && <span class="at"> at t = {number(seen.time)}</span>}<button type="button" class="quiet" aria-label="close" title="close (w)" onClick={() => river.through(false)}>✕</button></h2>
        {problem && <p class="problem" role="alert">{problem}</p>}
        {!problem && !active(p) && <p class="fine">There is no drop: put one on the water.</p>}
        {!problem && active(p) && (!path || !seen) && <p class="fine" role="status">{path ? "looking at the network …" : "the path is being solved …"}</p>}
        {seen && active(p) && (
          <>
            <p class="fine"><b>{total === null || total === undefined ? "No total" : `${decades(total)} decades`}</b> from the loss to the first layer{taken(seen.way)}. This is the kept moment of drop {drop}’s path nearest to the clock, one of {seen.moments}; <kbd>[</kbd> <kbd>]</kbd> move the clock. {seen.text}</p>
            <Waterfall way={seen.way} beside={seen.time > 0 ? start : null} order={order} row={row} choose={this.choose} sort={(o) => this.setState({ order: o })} />
            {seen.time > 0 && start && <p class="fine"><i class="sw was" /> pale: at t = 0</p>}
            {shares ? this.curves(shares, seen) : !problem && <p class="fine" role="status">the layers’ shares of dθ/dt: a gradient at each of {seen.moments} moments …</p>}
          </>
        )}
      </section>
    );
  }

  private curves(shares: Shares, seen: WaySeen) {
    const { t } = this.props.p;
    const chosen = Math.max(0, shares.layers.indexOf(this.state.layer));
    const layer = shares.layers[chosen]!;
    const here = shares.times.reduce((best, at, k) => (Math.abs(at - seen.time) < Math.abs(shares.times[best]! - seen.time) ? k : best), 0);
    const bent = (at: number) => ((WIDE - 1) * Math.asinh((200 * at) / t)) / Math.asinh(200); // as the clock runs
    const x = shares.times.map(bent);
    const values = (k: number) => [...shares.of[k]!].map((v) => (Number.isFinite(v) ? v : null));
    const most = shares.of.map((own, k) => [Math.max(...own), k] as const).filter(([, k]) => k !== chosen).sort((a, b) => b[0] - a[0]).slice(0, FAINT);
    const curves: Curve[] = [...most.map(([, k]): Curve => ({ name: shares.layers[k]!, kind: "faint", x, y: values(k) })), { name: layer, kind: "is", x, y: values(chosen) }];
    const now = shares.of[chosen]![here]!;
    return (
      <section class="card" aria-labelledby="r-share">
        <h3 id="r-share"><Word of="gradient" text="share of dθ/dt" /> of layer <select aria-label="layer" value={layer} onChange={(e) => this.setState({ layer: e.currentTarget.value })}>{shares.layers.map((l) => <option value={l}>{l}</option>)}</select> <b>{percent(now)}</b></h3>
        <Plot label={`Share of ${layer} in the square of dθ/dt over time; now ${percent(now)}`} curves={curves} count={WIDE} now={x[here]!} x={["t = 0", `t = ${number(t)}`]} spell={(y) => percent(y)} least={0.05} />
        <p class="inks"><span><i class="stroke" /> {layer}</span><span><i class="stroke faint" /> {most.length < shares.layers.length - 1 ? `the ${FAINT} next; all` : "the other layers;"} together 100 %</span><span>time bent, as on the clock</span></p>
        <More text="as a table" make={() => (
          <table class="facts"><thead><tr><th scope="col">layer</th><th scope="col">at t = 0</th><th scope="col">here</th><th scope="col">at the end</th></tr></thead>
            <tbody>{shares.layers.map((l, k) => <tr><th scope="row">{l}</th><td>{percent(shares.of[k]![0])}</td><td>{percent(shares.of[k]![here])}</td><td>{percent(shares.of[k]!.at(-1))}</td></tr>)}</tbody></table>
        )} />
      </section>
    );
  }
}
