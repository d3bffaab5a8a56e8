// A small network with knobs: each turn is answered by its way back, with theory beside it, and by its first steps.
import { Component } from "preact";
import { Budget, Chosen } from "../depth/aside";
import { tone } from "../depth/inks";
import { decades, number } from "../depth/spell";
import type { Order } from "../depth/tree";
import { Waterfall } from "../depth/waterfall";
import { Copy, More, Prose } from "../depth/word";
import { get, stream } from "../wire/ask";
import type { Course, Knobs as Turned, KnobsOpened, KnobsSeen, LinkedAt, OpSeen, Preset } from "../wire/types";
import { MARKS } from "../wire/words";
import { Board } from "./board";
import { Linked } from "./linked";
import { type Curve, Plot } from "./plot";
import { fromLink, same, toLink } from "./state";

const REST = 250; // milliseconds after the last turn before it is trained
const PRESETS = ["q", "w", "e", "r"]; // their keys
const LANE = Math.random().toString(36).slice(2);

interface Look {
  seen: KnobsSeen;
  course: Course | null;
}

interface State {
  opened: KnobsOpened | null;
  knobs: Turned | null;
  now: Look | null;
  before: Look | null; // what it was before it was mended, or what the reader keeps
  moment: LinkedAt | null; // the way back at a time of the flow, in the place of that at the start
  row: number | null;
  op: OpSeen | null;
  order: Order;
  problem: string;
}

export class Knobs extends Component<object, State> {
  override state: State = { opened: null, knobs: null, now: null, before: null, moment: null, row: null, op: null, order: "way", problem: "" };
  private busy = false;
  private training: AbortController | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private gone = false;
  private readonly onKey = (e: KeyboardEvent) => this.key(e);
  private readonly onLink = () => { if (this.state.opened && location.hash.startsWith("#knobs")) this.turn(fromLink(this.state.opened, location.hash)); };

  override componentDidMount() {
    addEventListener("keydown", this.onKey);
    addEventListener("hashchange", this.onLink);
    void this.trying(async () => {
      const opened = await get<KnobsOpened>("/api/knobs");
      this.setState({ opened });
      this.state.opened = opened;
      this.turn(fromLink(opened, location.hash));
    });
  }

  override componentWillUnmount() {
    this.gone = true;
    removeEventListener("keydown", this.onKey);
    removeEventListener("hashchange", this.onLink);
    clearTimeout(this.timer);
    this.training?.abort();
  }

  private async trying(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (problem) {
      if (!this.gone) this.setState({ problem: problem instanceof Error ? problem.message : String(problem) });
    }
  }

  private turn = (turned: Partial<Turned>): void => {
    const { knobs, opened } = this.state;
    const next = { ...(knobs ?? opened!.knobs), ...turned };
    if (knobs && same(knobs, next) && this.state.now) return;
    this.state.knobs = next;
    this.setState({ knobs: next });
    clearTimeout(this.timer);
    this.training?.abort();
    if (location.hash !== "" && knobs) history.replaceState(null, "", toLink(next, opened!));
    void this.ask();
  };

  /** Ask for the network as it is turned now; what was turned while an answer was awaited is asked for next, and nothing between. */
  private async ask(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    performance.mark("knobs-asked");
    await this.trying(async () => {
      const wanted = this.state.knobs!;
      for await (const { head } of stream<KnobsSeen & { text?: string }>("/api/knobs/look", { knobs: wanted, lane: LANE })) {
        if (!head.way) throw new Error(head.text);
        this.show(head);
      }
    });
    this.busy = false;
    const { now, knobs, problem } = this.state;
    if (this.gone) return;
    if (now && knobs && !same(now.seen.knobs, knobs) && !problem) void this.ask();
    else if (now && !problem) this.timer = setTimeout(() => void this.train(), REST);
  }

  private show(seen: KnobsSeen): void {
    const row = seen.way.first;
    this.state.now = { seen, course: null };
    this.setState({ now: this.state.now, moment: null, row, op: null, problem: "" }, () => {
      performance.mark("knobs-drawn");
      performance.measure("knobs-answer", "knobs-asked", "knobs-drawn");
    });
    this.state.problem = "";
    if (row !== null) void this.pick(row);
  }

  /** Train what is shown, and what it is compared with, where its training was broken off. */
  private async train(): Promise<void> {
    const { opened } = this.state;
    const stop = new AbortController();
    this.training = stop;
    for (const which of ["now", "before"] as const) {
      const look = this.state[which];
      if (!look || look.course?.text) continue;
      try {
        const asked = { knobs: look.seen.knobs, lane: LANE, steps: opened!.steps };
        for await (const { head } of stream<Course>("/api/knobs/train", asked, stop.signal)) {
          if (this.state[which]?.seen !== look.seen) return;
          this.state[which] = { seen: look.seen, course: head };
          this.setState({ [which]: this.state[which] });
        }
      } catch (problem) {
        if (!stop.signal.aborted && !this.gone) this.setState({ problem: problem instanceof Error ? problem.message : String(problem) });
        return;
      }
    }
  }

  private pick = async (row: number): Promise<void> => {
    this.setState({ row });
    const seen = this.state.now?.seen;
    await this.trying(async () => {
      const op = await get<OpSeen>(`/api/knobs/op?${new URLSearchParams({ lane: LANE, row: String(row) })}`);
      if (this.state.now?.seen === seen) this.setState({ op });
    });
  };

  private preset = (preset: Preset): void => {
    this.setState({ before: null });
    this.turn(preset.knobs);
  };

  private mend = (): void => {
    const { now } = this.state;
    if (!now?.seen.mend) return;
    this.setState({ before: now });
    this.turn(now.seen.mend.knobs);
  };

  private back = (): void => {
    const { before } = this.state;
    if (!before) return;
    this.setState({ before: null });
    this.turn(before.seen.knobs);
  };

  private key(e: KeyboardEvent): void {
    if (e.ctrlKey || e.metaKey || e.altKey || (e.target instanceof HTMLElement && e.target.matches("input:not([type=range], [type=checkbox]), textarea, select"))) return;
    const { opened, now, before } = this.state;
    const preset = opened?.presets[PRESETS.indexOf(e.key)];
    const orders: Record<string, Order> = { "1": "way", "2": "loss", "3": "kind" };
    if (orders[e.key]) this.setState({ order: orders[e.key]! });
    else if (preset) this.preset(preset);
    else if (e.key === "m") this.mend();
    else if (e.key === "k" && now) this.setState({ before: now });
    else if (e.key === "z" && before) this.back();
    else return;
    e.preventDefault();
  }

  render() {
    const { opened, knobs, now, before, moment, row, op, order, problem } = this.state;
    if (!opened || !knobs) return <main class="depth knobs"><p class="card fine" role="status">{problem || "…"}</p></main>;
    const way = moment?.way ?? now?.seen.way ?? null;
    const beside = moment ? (now?.seen.way ?? null) : (before?.seen.way ?? null);
    const preset = opened.presets.find((p) => same(p.knobs, before?.seen.knobs ?? knobs));
    return (
      <main class="depth knobs">
        <h1 class="sr">A small network with knobs</h1>
        {problem && <p class="problem" role="alert">{problem}</p>}
        <div class="presets" role="group" aria-label="networks that are sick in a known way">
          {opened.presets.map((p, k) => <button type="button" aria-pressed={p === preset} onClick={() => this.preset(p)} title={p.text}><kbd>{PRESETS[k]}</kbd> {p.title}</button>)}
          <span class="fine">{preset?.text ?? "Four that are sick, or turn the knobs yourself."}</span>
        </div>
        <div class="cols-knobs">
          <Board knobs={knobs} ranges={opened.ranges} critical={now?.seen.law.critical ?? null} turn={this.turn} />
          {now && <Told now={now} before={before} mend={this.mend} back={this.back} keep={() => this.setState({ before: now })} />}
          {!now && !problem && <p class="card fine verdict-told" role="status">Building the network …</p>}
          <div class="left">
            {now && (
              <div class="cols-law">
                <LawCard now={now} before={before} />
                <CourseCard now={now} before={before} />
              </div>
            )}
            {now && <Linked seen={now.seen} course={now.course} lane={LANE} path={way && row !== null ? (way.paths.slice(row).find(Boolean) ?? null) : null} moment={moment} show={(m) => this.setState({ moment: m })} />}
            {way && (
              <div class="cols-way">
                <section class="card way" aria-labelledby="k-way">
                  <h2 id="k-way">the gradient’s way back{moment ? <span class="at"> at t = {number(moment.time)}</span> : null}{beside && <small>pale: {moment ? "at the start" : "before"}</small>}</h2>
                  <Waterfall way={way} beside={beside} order={order} row={row} choose={(r) => void this.pick(r)} sort={(o) => this.setState({ order: o })} />
                </section>
                <div class="beside"><Budget way={way} /><Chosen op={moment ? null : op} mark={row === null ? null : (way.budget.by_op[row]?.mark ?? null)} step={way.step} /></div>
              </div>
            )}
          </div>
        </div>
      </main>
    );
  }
}

interface Telling {
  now: Look;
  before: Look | null;
  mend(): void;
  back(): void;
  keep(): void;
}

function Told({ now, before, mend, back, keep }: Telling) {
  const { seen } = now;
  const { verdict } = seen.view;
  const found = seen.view.told[0];
  return (
    <section class={`card verdict-told ${tone(verdict.symptom)}`} aria-label="verdict">
      <p class="badge" role="status"><span class="mk" aria-hidden="true">{MARKS[verdict.symptom] ?? "•"}</span> {verdict.symptom}{found && <small> because of {verdict.findings[0]!.cause}, <code>{found.where[0]}</code></small>}</p>
      <p class="say"><Prose text={verdict.summary} /></p>
      <p class="acts">
        {seen.mend && <button type="button" class="mend" onClick={mend}><kbd>m</kbd> mend it: {seen.mend.text}</button>}
        {before ? <button type="button" onClick={back}><kbd>z</kbd> back to what it was</button> : <button type="button" onClick={keep}><kbd>k</kbd> keep, to compare</button>}
        <Copy label="copy as Python" text={seen.script} />
        <span class="fine">then <code>gradientflow run small_net.py</code></span>
      </p>
      {before && <p class="fine">before: {MARKS[before.seen.view.verdict.symptom] ?? "•"} {before.seen.view.verdict.symptom}, {before.course?.text || "training …"}; now {MARKS[verdict.symptom] ?? "•"} {verdict.symptom}, {now.course?.text || "training …"}</p>}
    </section>
  );
}

function LawCard({ now, before }: { now: Look; before: Look | null }) {
  const { law } = now.seen;
  const count = Math.max(law.theory.length, before?.seen.law.theory.length ?? 0);
  const curves: Curve[] = [
    ...(before ? [{ name: "before, measured", kind: "before" as const, y: before.seen.law.measured }] : []),
    { name: "theory", kind: "theory", y: law.theory },
    { name: "measured", kind: "is", y: law.measured, dots: true },
  ];
  return (
    <section class="card law" aria-labelledby="k-law">
      <h2 id="k-law">theory beside measured</h2>
      <p class="fine">{law.text}</p>
      <Plot label={`The gradient at each ${law.unit}, in decades against the last: ${law.text}`} curves={curves} count={count} x={[`the last ${law.unit}`, "the first"]} spell={(y) => decades(y)} />
      <p class="inks"><span><i class="stroke" /> measured, in decades</span><span><i class="stroke theory" /> mean-field theory</span>{before && <span><i class="stroke before" /> before</span>}</p>
      <More text="as a table" make={() => (
        <table class="facts"><thead><tr><th scope="col">{law.unit} from the last</th><th scope="col">theory</th><th scope="col">measured</th></tr></thead>
          <tbody>{law.theory.map((t, k) => <tr><th scope="row">{k}</th><td>{decades(t)}</td><td>{decades(law.measured[k] ?? null)}</td></tr>)}</tbody></table>
      )} />
    </section>
  );
}

function CourseCard({ now, before }: { now: Look; before: Look | null }) {
  const losses = (look: Look | null) => look?.course?.losses ?? [];
  const all = [...losses(now), ...losses(before)].filter((v): v is number => v !== null && v > 0);
  const log = all.length > 0 && Math.max(...all) / Math.min(...all) > 30;
  const drawn = (look: Look | null) => losses(look).map((v) => (v === null ? null : log ? Math.log10(Math.max(v, 1e-12)) : v));
  const curves: Curve[] = [...(before ? [{ name: "before", kind: "before" as const, y: drawn(before) }] : []), { name: "now", kind: "is", y: drawn(now) }];
  const steps = now.course?.steps ?? before?.course?.steps ?? 60;
  return (
    <section class="card law" aria-labelledby="k-course">
      <h2 id="k-course">the first {steps} steps</h2>
      <p class="fine">{now.course?.text || "training …"}{before?.course?.text ? `; before: ${before.course.text}` : ""}</p>
      {all.length > 0 && <Plot label={`Loss over the steps. ${now.course?.text ?? ""}`} curves={curves} count={steps} x={["step 1", `step ${steps}`]} spell={(y) => number(log ? 10 ** y : y, 2)} least={log ? 1 : 0.2} />}
      <p class="inks"><span><i class="stroke" /> loss</span>{before && <span><i class="stroke before" /> before</span>}<span>SGD, learning rate {number(now.seen.knobs.lr)}</span></p>
    </section>
  );
}
