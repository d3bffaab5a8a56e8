// Depth's screen: one run, its verdict, its way back at a step, and what led there over training.
import { Component, createRef } from "preact";
import { type Frame, Locked } from "../wire/ask";
import type { Cell, Curves, HeatMap, OpSeen, Routes, RunView, Way } from "../wire/types";
import { Budget, Chosen } from "./aside";
import { Hero, sentence } from "./hero";
import { Spectra } from "./jacobians";
import { POINTS, Lanes } from "./lanes";
import { Branches, Times } from "./routes";
import { Remedies } from "./remedies";
import { About, Certificates, Findings, StepBudgets, Tried } from "./proof";
import { count, decades, whole } from "./spell";
import type { Listener, Transport } from "./transport";
import type { Order } from "./tree";
import { Waterfall } from "./waterfall";
import { Still, Word } from "./word";

const KEPT = 24; // ways back that are kept
const REST = 2000; // milliseconds between two askings of a run that still goes on

interface Props {
  transport: Transport;
  theme: string;
  start: { probe: number | null; row: number | null };
  chosen(probe: number | null, row: number | null): void;
  /** Other runs that may be laid beside this one, and how to read them; absent where there is only this one. */
  others?: { names: string[]; read(name: string): Transport };
}

/** A way back that stands pale beside the one that is shown. */
interface Beside {
  way: Way;
  what: string;
}

interface State {
  view: RunView | null;
  way: Way | null;
  op: OpSeen | null;
  routes: Routes | null;
  curves: Frame<Curves> | null;
  map: HeatMap | null;
  cell: Cell | null;
  pinned: number | null; // the probe that the reader chose; null: the newest of a run that goes on, else the verdict's
  own: number | null; // the optimizer whose way is shown, where it is not the probe's
  row: number | null;
  order: Order;
  biases: boolean;
  problem: string;
  keys: boolean;
  beside: Beside | null;
}

export class Screen extends Component<Props, State> {
  override state: State = {
    view: null, way: null, op: null, routes: null, curves: null, map: null, cell: null, pinned: this.props.start.probe, own: null, row: this.props.start.row, order: "way", biases: false, problem: "", keys: false, beside: null,
  };
  private stop: () => void = () => undefined;
  private asked = 0;
  private readonly ways = new Map<number, Promise<Way>>();
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly main = createRef<HTMLElement>();
  private readonly onKey = (e: KeyboardEvent) => this.key(e);

  override componentDidMount() {
    addEventListener("keydown", this.onKey);
    void this.load(true);
    const listener: Listener = {
      grown: (news) => { if (news.version !== this.state.view?.version || news.state !== this.state.view.state) this.soon(); },
      wait: (problem) => this.setState({ problem }),
      away: (problem) => { if (problem || this.state.problem.startsWith("The app")) this.setState({ problem }); if (!problem && !this.state.view) this.soon(); },
    };
    this.stop = this.props.transport.follow(0, listener);
  }

  override componentWillUnmount() {
    removeEventListener("keydown", this.onKey);
    clearTimeout(this.timer);
    this.stop();
  }

  private soon(): void {
    if (this.timer !== undefined) return;
    const wait = Math.max(0, this.asked + REST - Date.now());
    this.timer = setTimeout(() => { this.timer = undefined; void this.load(false); }, wait);
  }

  /** Ask for all that may have changed. */
  private async load(first: boolean): Promise<void> {
    this.asked = Date.now();
    const { transport } = this.props;
    await this.asking(async () => {
      const view = await transport.view();
      if (view.version !== this.state.view?.version) this.ways.clear();
      if (this.state.pinned !== null && !view.probes.some((p) => p.index === this.state.pinned)) this.state.pinned = null;
      this.setState({ view, problem: "" });
      const probe = this.probe(view);
      const again = probe !== null && (first || this.state.way?.probe !== probe || probe === view.at);
      await together([
        again ? this.look(probe, this.state.row) : null,
        transport.curves(POINTS).then((curves) => this.setState({ curves })),
        transport.heat(this.state.biases).then((map) => this.setState({ map })),
      ]);
    });
  }

  private async asking(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (problem) {
      this.setState({ problem: problem instanceof Error ? problem.message : String(problem) });
      if (problem instanceof Locked) this.stop();
    }
  }

  private probe(view: RunView | null = this.state.view): number | null {
    if (!view) return null;
    if (this.state.pinned !== null) return this.state.pinned;
    const traced = view.probes.filter((p) => p.traced);
    return view.state === "going" && traced.length ? traced[traced.length - 1]!.index : view.at;
  }

  /** Show the way back of a probe; marks say how long it took from the wish to the picture. */
  private async look(probe: number, row: number | null): Promise<void> {
    performance.mark("depth-asked");
    const { own } = this.state;
    const way = await (own === null ? this.way(probe) : this.props.transport.way(probe, own));
    const kept = row !== null && row < way.budget.by_op.length ? row : way.first;
    this.setState({ way, row: kept }, () => {
      performance.mark("depth-drawn");
      performance.measure("depth-way", "depth-asked", "depth-drawn");
    });
    this.props.chosen(this.state.pinned, this.state.pinned === null ? null : kept);
    await this.detail(probe, kept);
    const routes = await this.props.transport.routes(probe);
    if (this.state.way?.probe === probe) this.setState({ routes });
    const steps = this.state.view?.probes.filter((p) => p.traced).map((p) => p.index) ?? [];
    const now = steps.indexOf(probe);
    for (const near of [steps[now + 1], steps[now - 1]]) if (near !== undefined) this.way(near).catch(() => undefined);
  }

  /** The way back of a probe, asked for once; its neighbours are asked for ahead, as somebody who scrubs goes there next. */
  private way(probe: number): Promise<Way> {
    const known = this.ways.get(probe);
    if (known) return known;
    const asked = this.props.transport.way(probe, null);
    this.ways.set(probe, asked);
    asked.catch(() => this.ways.delete(probe));
    if (this.ways.size > KEPT) this.ways.delete(this.ways.keys().next().value!);
    return asked;
  }

  private async detail(probe: number, row: number | null): Promise<void> {
    const op = row === null ? null : await this.props.transport.op(probe, row, this.state.own);
    if (this.state.row === row && this.state.way?.probe === probe) this.setState({ op });
  }

  private choose = (probe: number, own: number | null = null): void => {
    const way = this.state.way;
    const row = way && this.state.row !== null ? this.state.row : null;
    this.setState({ pinned: probe, own });
    this.state.pinned = probe;
    this.state.own = own;
    void this.asking(() => this.look(probe, row));
  };

  private pickRow = (row: number): void => {
    const { way } = this.state;
    if (!way) return;
    this.setState({ row });
    this.state.row = row;
    this.props.chosen(this.state.pinned, row);
    void this.asking(() => this.detail(way.probe, row));
  };

  private pickCell = (param: number, step: number): void => {
    void this.asking(async () => {
      const cell = await this.props.transport.cell(param, step);
      this.setState({ cell });
      if (cell.probe !== null) {
        this.state.pinned = cell.probe;
        this.state.own = null;
        await this.look(cell.probe, cell.row);
      }
    });
  };

  private swap = (): void => {
    const biases = !this.state.biases;
    this.setState({ biases, cell: null });
    void this.asking(async () => this.setState({ map: await this.props.transport.heat(biases) }));
  };

  /** To the line of a finding; nothing where it is not on this way. */
  private toLine = (file: string | null, line: number | null): void => {
    const k = this.state.way?.budget.by_op.findIndex((r) => r.file === file && r.line === line) ?? -1;
    if (k >= 0) this.toRow(k);
  };

  private toRow(row: number): void {
    this.pickRow(row);
    document.querySelector<HTMLElement>(".wf-rows")?.focus();
  }

  private step(by: number): void {
    const { view } = this.state;
    const probes = view?.probes.filter((p) => p.traced) ?? [];
    const now = probes.findIndex((p) => p.index === this.probe());
    const to = probes[Math.min(probes.length - 1, Math.max(0, now + by))];
    if (to && probes.length) this.choose(to.index);
  }

  private next(): void {
    const rows = this.state.way?.budget.by_op ?? [];
    const marked = rows.flatMap((r, i) => (r.mark ? [i] : []));
    const after = marked.find((i) => i > (this.state.row ?? -1)) ?? marked[0];
    if (after !== undefined) this.toRow(after);
  }

  private key(e: KeyboardEvent): void {
    if (e.ctrlKey || e.metaKey || e.altKey || (e.target instanceof HTMLElement && e.target.matches("input, textarea, select"))) return;
    const orders: Record<string, Order> = { "1": "way", "2": "loss", "3": "kind" };
    if (orders[e.key]) this.setState({ order: orders[e.key]! });
    else if (e.key === "[") this.step(-1);
    else if (e.key === "]") this.step(1);
    else if (e.key === "g") this.next();
    else if (e.key === "0") this.home();
    else if (e.key === "k") this.keep();
    else if (e.key === "?") this.setState({ keys: !this.state.keys });
    else if (e.key === "Escape") this.setState({ keys: false });
    else return;
    e.preventDefault();
  }

  /** Keep the step that is shown, to compare others with; or let go of it. */
  private keep = (): void => {
    const { way, beside } = this.state;
    this.setState({ beside: beside || !way ? null : { way, what: `step ${whole(way.step)}` } });
  };

  /** Lay the way back of another run beside this one, at the step that its verdict looks at. */
  private compare = (name: string): void => {
    void this.asking(async () => {
      const other = this.props.others!.read(name);
      const { at } = await other.view();
      if (at === null) throw new Error(`${name} has no way back to compare with.`);
      const way = await other.way(at, null);
      this.setState({ beside: { way, what: `${name}, step ${whole(way.step)}` } });
    });
  };

  private home = (): void => {
    this.state.pinned = null;
    this.state.own = null;
    const probe = this.probe();
    if (probe !== null) void this.asking(() => this.look(probe, null));
  };

  render() {
    const { view, way, problem, order, row, op, keys, routes } = this.state;
    if (!view) return <main class="depth" ref={this.main}><p class="card fine" role="status">{problem || "Reading the run …"}</p></main>;
    const whose = whoseOf(view, way?.probe ?? null);
    const tick = way ? view.probes[way.probe] : undefined;
    return (
      <main class={`depth ${view.state}`} ref={this.main}>
        <h1 class="sr">Depth: {view.script}</h1>
        <p class="sr" role="status" aria-live="polite">{sentence(view)} {way && `Shown: the way back at step ${way.step}, ${decades(way.budget.total_decades)} decades.`}</p>
        {problem && <p class="problem" role="alert">{problem}</p>}
        <p class="state">
          <span class={`pill ${view.state}`}>{{ ended: "■ ended", going: "● still going", silent: "◌ killed, or silent" }[view.state]}</span>
          <span>{view.script}</span><span>{count(view.steps, view.unit === "optimizer" ? "step" : "backward call")}</span><span>{count(view.probes.length, "probed step")}</span>
          {this.props.transport.file && <a class="one-file" href={this.props.transport.file} download="">one file to share</a>}
          <button type="button" class="quiet" aria-expanded={keys} onClick={() => this.setState({ keys: !keys })}><kbd>?</kbd> keys</button>
        </p>
        {keys && <Keys />}
        <Still of={view} make={() => <Hero view={view} />} />
        <div class="cols-way">
          <div class="left">
          <section class="card way" aria-labelledby="d-way">
            <h2 id="d-way"><Word of="way back" text="the gradient’s way back" /> <span class="at">at step {way ? whole(way.step) : "—"}</span>
              {tick && <small><Word of="probed step" text={`probe ${tick.index + 1} of ${view.probes.length}`} />: {tick.reason}{whose && `, ${whose}`}{tick.index === view.at ? ", the verdict’s" : ""}</small>}
            </h2>
            <p class="scrub">
              <button type="button" onClick={() => this.step(-1)} title="the probed step before ([)"><kbd>[</kbd> earlier</button>
              <button type="button" onClick={() => this.step(1)} title="the next probed step (])">later <kbd>]</kbd></button>
              {this.state.pinned !== null && <button type="button" onClick={this.home}><kbd>0</kbd> {view.state === "going" ? "the newest" : "the verdict’s step"}</button>}
              {way && <button type="button" aria-pressed={!!this.state.beside} onClick={this.keep} title="keep this step, and compare others with it (k)"><kbd>k</kbd> {this.state.beside ? "let go" : "keep, to compare"}</button>}
              {!!this.props.others?.names.length && (
                <select aria-label="another run beside this one" value="" onChange={(e) => { if (e.currentTarget.value) this.compare(e.currentTarget.value); }}>
                  <option value="">beside a run …</option>{this.props.others.names.map((n) => <option value={n}>{n}</option>)}
                </select>
              )}
              {way && way.budget.total_decades !== null && <span>in all <b>{decades(way.budget.total_decades)}</b> <Word of="decade" text="decades" />, read from the loss down</span>}
            </p>
            {view.own.length > 1 && <Owns view={view} probe={way?.probe ?? null} own={this.state.own} choose={this.choose} />}
            {this.state.beside && way && (
              <p class="fine beside-told" role="status"><i class="sw was" /> pale: {this.state.beside.what}, {decades(this.state.beside.way.budget.total_decades)} decades in all; here {decades(way.budget.total_decades)}</p>
            )}
            {way && <Waterfall way={way} beside={this.state.beside?.way ?? null} order={order} row={row} choose={this.pickRow} sort={(o) => this.setState({ order: o })} />}
            {!way && <p class="empty">{view.verdict.budget.note || "No step was probed yet."}</p>}
          </section>
          {routes && routes.step === way?.step && <Still of={routes} make={() => <Branches routes={routes} />} />}
          {routes && routes.step === way?.step && <Times routes={routes} theme={this.props.theme} />}
          </div>
          <div class="beside">
            {way && <Still of={way} make={() => <Budget way={way} />} />}
            {way && <Chosen op={op} mark={row === null ? null : (way.budget.by_op[row]?.mark ?? null)} step={way.step} />}
          </div>
        </div>
        <Lanes
          view={view} curves={this.state.curves} map={this.state.map} probe={this.probe()} cell={this.state.cell} theme={this.props.theme} biases={this.state.biases}
          choose={this.choose} pick={this.pickCell} swap={this.swap} toRow={(cell) => { if (cell.row !== null) this.toRow(cell.row); }}
        />
        {this.props.transport.tries && view.judged && <Remedies tries={this.props.transport.tries} view={view} />}
        <Still of={view} make={() => (
          <>
            <div class="cols-proof"><Certificates view={view} /><StepBudgets view={view} /></div>
            <Spectra views={view.jacobians} />
            <Tried view={view} />
            <Findings view={view} look={this.toLine} />
            <About view={view} />
          </>
        )} />
      </main>
    );
  }
}

/** Wait for all; what fails costs no other its place, and is told at the end. */
async function together(works: (Promise<void> | null)[]): Promise<void> {
  const done = await Promise.allSettled(works);
  const failed = done.find((d) => d.status === "rejected");
  if (failed) throw failed.reason;
}

/** Of several optimizers the one whose step was probed. */
function whoseOf(view: RunView, probe: number | null): string {
  const index = probe === null ? null : view.probes[probe]?.optimizer;
  const k = view.verdict.optimizers.findIndex((o) => o.index === index);
  return k < 0 ? "" : (view.optimizers[k] ?? "");
}

/** Of several optimizers each one's own way back. */
function Owns({ view, probe, own, choose }: { view: RunView; probe: number | null; own: number | null; choose(probe: number, own: number | null): void }) {
  return (
    <p class="owns" role="group" aria-label="whose way back">
      {view.own.map((o) => (
        <button type="button" aria-pressed={o.probe === probe && o.way === own} disabled={o.probe === null} onClick={() => { if (o.probe !== null) choose(o.probe, o.way); }}>
          <b>{o.name}</b> {o.decades === null ? "" : `${decades(o.decades)} decades`} <small>{o.course}</small>
        </button>
      ))}
    </p>
  );
}

function Keys() {
  const rows: [string, string][] = [
    ["↑ ↓", "a line up or down, in the way back"], ["Enter → ←", "open and shut a module"], ["1 2 3", "the way back, biggest first, by kind"], ["[ ]", "the probed step before, and the next"],
    ["0", "back to the verdict’s step"], ["k", "keep this step, and see others beside it"], ["g", "the next line that is to blame"], ["arrows, Enter", "in the map: move, and go to that parameter and step"], ["?", "these keys"],
  ];
  return <dl class="card keys">{rows.map(([k, t]) => <><dt><kbd>{k}</kbd></dt><dd>{t}</dd></>)}</dl>;
}
