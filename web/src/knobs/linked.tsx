// Both rivers linked: the network's flow through time, and at any time of it the gradient through its layers.
import { Component } from "preact";
import { number, percent } from "../depth/spell";
import { More, Word } from "../depth/word";
import { get, stream } from "../wire/ask";
import type { Course, KnobsSeen, Linked as Solved, LinkedAt } from "../wire/types";
import { type Curve, Plot } from "./plot";

interface Props {
  seen: KnobsSeen;
  course: Course | null;
  lane: string;
  path: string | null; // the module of the line that is chosen in the way back
  moment: LinkedAt | null;
  show(moment: LinkedAt | null): void;
}

interface State {
  solved: Solved | null;
  layer: string;
  solving: boolean;
  problem: string;
}

const WIDE = 401; // places along the axis of time

export class Linked extends Component<Props, State> {
  override state: State = { solved: null, layer: "", solving: false, problem: "" };
  private stop: AbortController | null = null;
  private wanted: number | null = null; // a moment that is asked for next
  private asking = false;
  private readonly onKey = (e: KeyboardEvent) => this.key(e);

  override componentDidMount() { addEventListener("keydown", this.onKey); }
  override componentWillUnmount() {
    removeEventListener("keydown", this.onKey);
    this.stop?.abort();
  }

  override componentDidUpdate(before: Props) {
    if (before.seen !== this.props.seen) {
      this.stop?.abort();
      this.wanted = null;
      this.setState({ solved: null, solving: false, problem: "" });
    } else if (before.path !== this.props.path && this.props.path !== null) {
      const layer = this.state.solved?.layers.find((l) => this.props.path === l || this.props.path!.startsWith(`${l}.`));
      if (layer) this.setState({ layer });
    }
  }

  private key(e: KeyboardEvent): void {
    if (e.ctrlKey || e.metaKey || e.altKey || (e.target instanceof HTMLElement && e.target.matches("input:not([type=range], [type=checkbox]), textarea, select"))) return;
    const now = this.props.moment?.index ?? 0;
    if (e.key === "f") void this.solve();
    else if (e.key === "[" && this.state.solved) this.go(now - 1);
    else if (e.key === "]" && this.state.solved) this.go(now + 1);
    else return;
    e.preventDefault();
  }

  private solve = async (): Promise<void> => {
    if (this.state.solving) return;
    const { seen, lane, path } = this.props;
    const stop = new AbortController();
    this.stop = stop;
    this.setState({ solving: true, problem: "" });
    try {
      for await (const { head } of stream<Solved>("/api/knobs/flow", { knobs: seen.knobs, lane }, stop.signal)) {
        if (this.props.seen !== seen) return;
        const layer = head.layers.find((l) => path !== null && (path === l || path.startsWith(`${l}.`))) ?? head.layers[0]!;
        this.setState({ solved: head, layer });
      }
    } catch (problem) {
      if (!stop.signal.aborted) this.setState({ problem: problem instanceof Error ? problem.message : String(problem) });
    }
    if (this.props.seen === seen) this.setState({ solving: false });
  };

  /** Show the way back at a moment; of those that were wished for while one is worked out only the last is asked for. */
  private go(index: number): void {
    const { solved } = this.state;
    if (!solved) return;
    this.wanted = Math.min(solved.times.length - 1, Math.max(0, index));
    void this.ask();
  }

  private async ask(): Promise<void> {
    if (this.asking || this.wanted === null) return;
    const { seen, lane } = this.props;
    const index = this.wanted;
    this.wanted = null;
    this.asking = true;
    try {
      const moment = await get<LinkedAt>(`/api/knobs/at?${new URLSearchParams({ lane, index: String(index) })}`);
      if (this.props.seen === seen) this.props.show(moment);
    } catch (problem) {
      this.setState({ problem: problem instanceof Error ? problem.message : String(problem) });
    }
    this.asking = false;
    void this.ask();
  }

  render() {
    const { solved, layer, solving, problem } = this.state;
    const { course, moment } = this.props;
    const index = moment?.index ?? 0;
    const time = solved?.times[index] ?? 0;
    return (
      <section class="card linked" aria-labelledby="k-flow">
        <h2 id="k-flow">both rivers: its flow, and the gradient on the way</h2>
        {problem && <p class="problem" role="alert">{problem}</p>}
        {!solved && <p class="fine"><button type="button" disabled={solving} onClick={() => void this.solve()}><kbd>f</kbd> {solving ? "solving …" : "solve its flow"}</button> dθ/dt = −∇L(θ) from the same start, over the time that the {course?.steps ?? 60} steps take; then choose a time, and see the way back there.</p>}
        {solved && (
          <>
            <label class="knob"><span>time on the path <output>{number(time)} of {number(solved.until)}</output></span>
              <input type="range" name="moment" min={0} max={solved.times.length - 1} step={1} value={index} aria-valuetext={`flow time ${number(time)}, loss ${number(solved.loss[index])}`} onInput={(e) => this.go(Number(e.currentTarget.value))} />
            </label>
            <p class="fine"><kbd>[</kbd> <kbd>]</kbd> earlier, later. {solved.text} At this time: loss {number(solved.loss[index])}{moment && <>; {moment.law.text.split("; ")[1]}</>}.</p>
            <div class="cols-law">{this.loss(solved, index)}{this.share(solved, index, layer)}</div>
          </>
        )}
      </section>
    );
  }

  private loss(solved: Solved, index: number) {
    const { course, seen } = this.props;
    const at = (t: number) => ((WIDE - 1) * t) / solved.until;
    const all = [...solved.loss, ...(course?.losses ?? [])].filter((v): v is number => v !== null && v > 0);
    const log = all.length > 0 && Math.max(...all) / Math.min(...all) > 30;
    const up = (v: number | null) => (v === null || v === undefined ? null : log ? Math.log10(Math.max(v, 1e-12)) : v);
    const curves: Curve[] = [
      ...(course ? [{ name: "descent", kind: "before" as const, x: course.losses.map((_, k) => at(k * seen.knobs.lr)), y: course.losses.map(up) }] : []),
      { name: "flow", kind: "is", x: solved.times.map(at), y: solved.loss.map(up) },
    ];
    return (
      <div>
        <h3>loss on one clock</h3>
        <Plot label={`Loss of the flow and of gradient descent over flow time; at ${number(solved.times[index])} the flow has ${number(solved.loss[index])}`} curves={curves} count={WIDE} now={at(solved.times[index]!)} x={["t = 0", `t = ${number(solved.until)}`]} spell={(y) => number(log ? 10 ** y : y, 2)} least={log ? 1 : 0.2} />
        <p class="inks"><span><i class="stroke" /> flow</span><span><i class="stroke before" /> gradient descent, η = {number(seen.knobs.lr)}</span></p>
      </div>
    );
  }

  private share(solved: Solved, index: number, layer: string) {
    const own = Math.max(0, solved.layers.indexOf(layer));
    const at = (t: number) => ((WIDE - 1) * t) / solved.until;
    const x = solved.times.map(at);
    const curves: Curve[] = [
      ...solved.shares.map((y, k) => ({ name: solved.layers[k]!, kind: "faint" as const, x, y })),
      { name: layer, kind: "is", x, y: solved.shares[own]! },
    ];
    return (
      <div>
        <h3><Word of="gradient" text="share of dθ/dt" /> of <select aria-label="layer" value={layer} onChange={(e) => this.setState({ layer: e.currentTarget.value })}>{solved.layers.map((l) => <option value={l}>{l}</option>)}</select> {percent(solved.shares[own]![index])}</h3>
        <Plot label={`Share of ${layer} in the square of dθ/dt over time; now ${percent(solved.shares[own]![index])}`} curves={curves} count={WIDE} now={x[index]!} x={["t = 0", `t = ${number(solved.until)}`]} spell={(y) => percent(y)} least={0.05} />
        <p class="inks"><span><i class="stroke" /> {layer}</span><span><i class="stroke faint" /> the other layers; together 100 %</span></p>
        <More text="as a table" make={() => (
          <table class="facts"><thead><tr><th scope="col">layer</th><th scope="col">at t = 0</th><th scope="col">at this time</th></tr></thead>
            <tbody>{solved.layers.map((l, k) => <tr><th scope="row">{l}</th><td>{percent(solved.shares[k]![0])}</td><td>{percent(solved.shares[k]![index])}</td></tr>)}</tbody></table>
        )} />
      </div>
    );
  }
}
