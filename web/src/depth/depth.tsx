// Depth: the gradient's way through the layers. Which run is shown, and a link that holds the place in it.
import { Component, type ComponentType } from "preact";
import { Locked } from "../wire/ask";
import type { RunList } from "../wire/types";
import { Screen } from "./screen";
import * as spelling from "./spell";
import { runs, server, type Transport } from "./transport";

interface State {
  list: RunList | null;
  name: string | null;
  transport: Transport | null;
  theme: string;
  problem: string;
  Knobs: ComponentType | null; // a small network to turn, as long as there is no run
}

Object.assign(globalThis, { spelling }); // a test holds it against the terminal's

const LOOK = 5000; // milliseconds between two looks at which runs there are

const asked = (): URLSearchParams => new URLSearchParams(location.hash.split("?")[1] ?? "");
const numbered = (text: string | null): number | null => (text !== null && /^\d{1,9}$/.test(text) ? Number(text) : null);
const themed = (): string => document.documentElement.dataset["theme"] ?? "dark";

export class Depth extends Component<object, State> {
  override state: State = { list: null, name: asked().get("run"), transport: null, theme: themed(), problem: "", Knobs: null };
  private watch: MutationObserver | null = null;
  private timer: ReturnType<typeof setInterval> | undefined;

  override componentDidMount() {
    this.watch = new MutationObserver(() => this.setState({ theme: themed() }));
    this.watch.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    void this.look();
    this.timer = setInterval(() => void this.look(), LOOK);
  }

  override componentWillUnmount() {
    this.watch?.disconnect();
    clearInterval(this.timer);
  }

  private async look(): Promise<void> {
    try {
      const list = await runs();
      const wanted = this.state.name;
      const known = wanted !== null && list.runs.some((r) => r.name === wanted);
      const name = known ? wanted : this.state.transport ? wanted : (list.called ?? list.runs[0]?.name ?? null);
      this.setState({ list, problem: "" });
      if (name === null && !this.state.Knobs) void import("../knobs/knobs").then((m) => this.setState({ Knobs: m.Knobs }));
      if (this.state.Knobs && !location.hash.startsWith("#depth")) return; // who turns a knob goes on turning
      if (name !== null && (!this.state.transport || name !== this.state.name)) this.setState({ name, transport: server(name) });
    } catch (problem) {
      this.setState({ problem: problem instanceof Error ? problem.message : String(problem) });
      if (problem instanceof Locked) clearInterval(this.timer);
    }
  }

  private open(name: string): void {
    history.replaceState(null, "", `#depth?${new URLSearchParams({ run: name })}`);
    this.setState({ name, transport: server(name) });
  }

  private chosen = (probe: number | null, row: number | null): void => {
    const kept = new URLSearchParams({ run: this.state.name ?? "" });
    if (probe !== null) kept.set("probe", String(probe));
    if (probe !== null && row !== null) kept.set("row", String(row));
    if (location.hash.startsWith("#depth")) history.replaceState(null, "", `#depth?${kept}`);
  };

  render() {
    const { list, name, transport, theme, problem, Knobs } = this.state;
    if (Knobs && !transport) {
      return (
        <div class="depth-frame">
          <p class="which">There is no run here yet. Watch a script, and it appears by itself: <code>gradientflow run train.py</code>. Meanwhile, a small network with knobs:</p>
          <Knobs />
        </div>
      );
    }
    if (!transport || name === null) {
      return (
        <main class="depth"><div class="card empty-depth">
          <h1>Depth</h1>
          {problem ? <p class="problem" role="alert">{problem}</p> : <p>…</p>}
        </div></main>
      );
    }
    const start = asked();
    return (
      <div class="depth-frame">
        {list && list.runs.length > 1 && (
          <label class="which">run <select value={name} onChange={(e) => this.open(e.currentTarget.value)}>
            {!list.runs.some((r) => r.name === name) && <option value={name}>{name}</option>}
            {list.runs.map((r) => <option value={r.name}>{r.name}</option>)}
          </select></label>
        )}
        <Screen
          key={name} transport={transport} theme={theme} others={{ names: list?.runs.map((r) => r.name).filter((n) => n !== name) ?? [], read: server }} start={{ probe: numbered(start.get("probe")), row: numbered(start.get("row")) }} chosen={this.chosen}
        />
      </div>
    );
  }
}
