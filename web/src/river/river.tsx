// River: the screen. It holds the picture's state and what mouse, keys and the app's answers do to it.
import { Component, type ComponentType, createRef } from "preact";
import { Away, frames, get, Locked } from "../wire/ask";
import type { Answer, Opened, PlaneSeen, Water } from "../wire/types";
import type { Theme } from "../shell/theme";
import { Dock } from "./dock";
import { Clock } from "./clock";
import { Hands } from "./hands";
import { Leak } from "./leak";
import { placed } from "./off";
import { onKey } from "./keys";
import { fitted, Overlay, stretched, type Frame, zoomed } from "./overlay";
import { type Box, type Point, samplesOf } from "./samples";
import { answered, type Drop, emptyDrop, hashOf, type Kind, KINDS, type Picture, toldBy, wantedOf } from "./state";
import { Springs } from "./springs";
import { isAway, Lane, solveLine, startsOf } from "./solve";
import { sentence, spoken } from "./words";
import { Water as Canvas, type WaterView } from "./water";

const SETTLE = 140; // ms after the last move of a drag until the whole answer is asked for

interface State extends Picture {
  frame: Frame;
  Time: ComponentType<TimeProps> | null;
  Extra: ComponentType<ExtraProps> | null;
  extra: "" | "keys" | "share";
  said: string;
  Shore: typeof import("./shores") | null; // what draws basins, where it was asked for
  Slice: ComponentType<{ p: Picture; river: River }> | null;
  Ways: ComponentType<{ p: Picture; river: River }> | null;
  busy: string;
}
export interface TimeProps {
  picture: Picture;
  theme: Theme;
  scrub: (t: number) => void;
}
export interface ExtraProps {
  which: "keys" | "share";
  picture: Picture;
  river: River;
  stage: HTMLElement;
  close: () => void;
}

/** Where the River was when the other picture was looked at. */
let kept = "";

export class River extends Component<{ theme: Theme }, State> {
  stage = createRef<HTMLDivElement>();
  private sized = new ResizeObserver(() => this.resized());
  private water: WaterView | null = null;
  private lanes = new Map<number, Lane>();
  private turn = 0;
  private next = 1;
  private settling = 0;
  private ended = false;
  private last = 0;
  private hands = new Hands(this);
  private springs = new Springs(this);
  clock = new Clock(this);
  /** Counts answers to drags, for the page's own figures. */
  answers = { drag: 0, settled: 0, began: 0, last: 0 };

  override state: State = {
    opened: null, view: null, plane: null, riding: false, pointer: null, Slice: null, Shore: null, Ways: null, ways: false, busy: "", basins: false, shores: null, samples: null, order: null, levels: [], drops: [], active: 0, lines: [],
    on: { gd: true, momentum: false, adam: false }, lr: { gd: 0.1, momentum: 0.02, adam: 0.1 }, t: 20, clock: 20, back: false, trueTime: false,
    paused: matchMedia("(prefers-reduced-motion: reduce)").matches, tale: "", cursor: null, problem: "",
    frame: { box: [-1, 1, -1, 1], width: 1, height: 1 }, Time: null, Extra: null, extra: "", said: "",
  };

  override componentDidMount(): void {
    addEventListener("keydown", this.key);
    addEventListener("hashchange", this.hash);
    this.sized.observe(this.stage.current!);
    this.resized();
    this.begin();
    Object.assign(globalThis, { gradientflow: this }); // for tests of the page, which read what it knows
  }

  private key = (e: KeyboardEvent): void => onKey(this, e);

  override componentWillUnmount(): void {
    if (this.state.opened) kept = hashOf(this.state);
    this.ended = true;
    removeEventListener("keydown", this.key);
    removeEventListener("hashchange", this.hash);
    this.sized.disconnect();
    this.clock.stop();
    this.springs.stop();
    for (const lane of this.lanes.values()) lane.stop();
  }

  // ── opening ────────────────────────────────────────────────────────────────────────────────────────────────────────

  private async begin(): Promise<void> {
    const hash = location.hash.startsWith("#river?") ? location.hash : kept;
    const wanted = wantedOf(hash);
    try {
      const packaged = document.body.dataset.first; // the field that the app was called with, where its water is packaged
      if (packaged && (!wanted.target || wanted.target === packaged)) await this.first(wanted.view);
      await this.open(wanted.target, wanted);
    } catch (problem) {
      this.failed(problem as Error);
    }
    import("./timebar").then((m) => this.setState({ Time: m.TimeBar }));
  }

  /** The packaged water, so that something moves before the app has loaded what it solves with. */
  private async first(view: Box | null): Promise<void> {
    const answer = await fetch("/static/first.bin");
    for await (const frame of frames<Water>(answer)) {
      if (this.state.samples) return;
      const box = view ?? this.fitted([-2, 2, -2, 2]);
      this.setState({ samples: samplesOf(frame), view: box, frame: { ...this.state.frame, box } });
      performance.mark("river:first-water");
    }
  }

  async open(target: string, wanted = wantedOf("")): Promise<void> {
    const opened = await get<Opened>("/api/open?target=" + encodeURIComponent(target));
    const greeting = !wanted.drops.length && !target ? opened.tales.find((x) => x.target === opened.target) : undefined;
    if (greeting) wanted = toldBy(greeting);
    const tale = opened.tales.find((x) => x.key === wanted.tale);
    const some = KINDS.some((k) => wanted.on[k]);
    for (const lane of this.lanes.values()) lane.stop();
    const t = wanted.t && wanted.t > 0 ? wanted.t : opened.t;
    const lr = { gd: opened.lr, momentum: opened.lr / 5, adam: opened.lr, ...wanted.lr };
    const many = opened.planes.length ? await import("./slice") : null;
    if (many) this.setState({ busy: "solving the flow that spans the plane …" });
    const slice = await many?.begin(opened, wanted, t);
    const plane = slice?.plane ?? null;
    const view = wanted.view ?? this.fitted(plane?.box ?? opened.box);
    const starts = wanted.drops.length ? wanted.drops : [opened.start];
    const drops = slice ? slice.plane.feet.map(([x, y, off], k) => emptyDrop(this.next++, [x, y], slice.feet[k], off)) : starts.map((at) => emptyDrop(this.next++, at));
    this.setState({
      opened, view, plane, riding: !!plane && wanted.riding, pointer: null, Slice: many?.Slice ?? null, busy: "", ways: false, shores: null, basins: !plane && wanted.basins, order: null, levels: [], lines: [], problem: "", t, clock: wanted.clock ?? t, back: wanted.back,
      trueTime: wanted.trueTime, lr, on: some || wanted.drops.length ? wanted.on : { gd: true, momentum: false, adam: false }, drops, active: drops[0]!.id, tale: tale?.key ?? "",
      frame: { ...this.state.frame, box: view },
    }, () => {
      performance.mark("river:opened");
      this.springs.sample();
      for (const d of this.state.drops) this.settle(d.id);
      this.setBasins(this.state.basins);
      if (wanted.clock === null) this.clock.play();
    });
  }

  fitted(box: Box): Box {
    return fitted(box, this.state.frame);
  }

  private resized(): void {
    const stage = this.stage.current!;
    const [width, height] = [stage.clientWidth, stage.clientHeight];
    const before = this.state.frame;
    if (!width || (width === before.width && height === before.height)) return;
    const box = this.state.view ? stretched(before, width, height) : before.box;
    this.setState({ frame: { box, width, height }, view: this.state.view && box }, () => this.state.opened && this.springs.later());
  }

  // ── the water ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The plane rides with the active drop: where the clock moves, the water is that around where the drop is. */
  override componentDidUpdate(_: unknown, was: State): void {
    const s = this.state;
    if (!s.plane || s.plane !== was.plane || !(s.riding && (s.clock !== was.clock || s.active !== was.active))) return;
    this.springs.ride();
  }

  ride(riding: boolean): void {
    this.setState({ riding }, () => {
      this.springs.sample();
      if (riding) this.clock.play();
      else this.settleAll();
      this.link();
    });
  }

  /** Another plane was found, with the drops above it. */
  show(plane: PlaneSeen, drops: Drop[]): void {
    const view = this.fitted(plane.box);
    this.setState({ plane, drops, view, samples: null, levels: [], busy: "", problem: "", frame: { ...this.state.frame, box: view } }, () => {
      this.springs.sample();
      this.settleAll();
    });
  }

  zoom(factor: number, at?: Point): void {
    const box = zoomed(this.state.frame, factor, at);
    if (box) this.moveTo(box);
  }

  moveTo(box: Box): void {
    this.setState({ view: box, frame: { ...this.state.frame, box } });
    this.springs.later();
    this.link();
  }

  // ── drops ──────────────────────────────────────────────────────────────────────────────────────────────────────────

  private lane(id: number): Lane {
    if (!this.lanes.has(id)) {
      this.lanes.set(id, new Lane(`drop${id}`, (answer, ask) => this.take(id, answer, ask.start, ask.level), (p) => this.failed(p, id)));
    }
    return this.lanes.get(id)!;
  }

  private ask(d: Drop, level: "drag" | "settled", flow = true) {
    const { opened, on, lr, t, back } = this.state;
    const rivals = KINDS.filter((k) => on[k]).map((kind) => ({ kind, lr: lr[kind] }));
    return { target: opened!.target, start: d.at, t, rivals, level, turn: this.turn++, back, flow, plane: this.state.plane?.text ?? "", foot: d.foot };
  }

  private take(id: number, answer: Answer, start: readonly number[], level: string): void {
    this.answers[level === "drag" ? "drag" : "settled"]++;
    this.answers.last = performance.now();
    this.changeDrop(id, (d) => answered(d, answer, start, level));
    if (this.state.riding && id === this.state.active && answer.part === "flow") this.springs.ride(); // it came from above the plane as it lay
    if (answer.part === "flow" && answer.exact) performance.mark("river:solved");
  }

  changeDrop(id: number, change: (d: Drop) => Drop): void {
    this.setState((s: State) => ({ drops: s.drops.map((d) => (d.id === id ? change(d) : d)) }));
  }

  dropAt(at: Point): void {
    const made = { ...emptyDrop(this.next++, at), ...placed(this.state, at) };
    this.setState((s: State) => ({ drops: [...s.drops.slice(-8), made], active: made.id, tale: "" }), () => {
      this.settle(made.id);
      this.clock.play();
    });
  }

  removeDrop(id: number): void {
    this.lanes.get(id)?.stop();
    this.lanes.delete(id);
    const drops = this.state.drops.filter((d) => d.id !== id);
    this.setState({ drops, active: drops.at(-1)?.id ?? 0 }, () => this.link());
  }

  dragTo(id: number, at: Point): void {
    if (!this.answers.began) this.answers = { drag: 0, settled: 0, began: performance.now(), last: 0 };
    this.changeDrop(id, (d) => ({ ...d, ...placed(this.state, at), back: null, apart: {} }));
    this.setState({ tale: "", clock: this.state.t }, () => {
      const d = this.state.drops.find((x) => x.id === id);
      if (d && this.state.opened) this.lane(id).drag(this.ask(d, "drag"));
    });
    this.settleSoon(id);
  }

  settleSoon(id: number, wait = SETTLE): void {
    clearTimeout(this.settling);
    this.settling = window.setTimeout(() => { if (!this.hands.pressed?.drop) this.settle(id); }, wait);
  }

  private settle(id: number): void {
    const d = this.state.drops.find((x) => x.id === id);
    if (d && this.state.opened) this.lane(id).settle(this.ask(d, "settled"));
    this.link();
  }

  private settleAll(): void {
    clearTimeout(this.settling);
    this.settling = window.setTimeout(() => {
      for (const d of [...this.state.drops].sort((a, b) => +(b.id === this.state.active) - +(a.id === this.state.active))) this.settle(d.id);
    }, SETTLE);
  }

  /** A slider is being moved: the active drop's optimizers answer at once, everything whole a moment later. */
  setRate = (kind: Kind, lr: number): void => {
    this.setState({ lr: { ...this.state.lr, [kind]: lr }, on: { ...this.state.on, [kind]: true }, tale: "" }, () => {
      const d = this.state.drops.find((x) => x.id === this.state.active);
      if (d && this.state.opened) {
        const ask = this.ask(d, "drag", false);
        this.lane(d.id).drag({ ...ask, rivals: ask.rivals.filter((r) => r.kind === kind) });
      }
      this.settleAll();
    });
  };

  setOn = (kind: Kind, on: boolean): void => this.setState({ on: { ...this.state.on, [kind]: on } }, () => this.settleAll());
  setBack = (back: boolean): void => this.setState({ back }, () => {
    if (!back) this.setState({ drops: this.state.drops.map((d) => ({ ...d, back: null })) });
    this.settleAll();
  });
  setBasins = (basins: boolean): void => this.setState({ basins, shores: null }, () => {
    this.link();
    if (!basins) return this.state.Shore?.leave();
    import("./shores").then((m) => this.setState({ Shore: m }, () => void m.survey(this)));
  });
  setTime = (t: number): void => this.setState({ t, clock: t }, () => this.settleAll());
  set = (part: Partial<Picture>): void => this.setState(part as State, () => this.link());

  tell = (key: string): void => {
    const { opened } = this.state;
    const tale = opened?.tales.find((x) => x.key === key);
    if (!opened || !tale) return;
    this.open(tale.target, toldBy(tale)).then(() => this.link(), (p) => this.failed(p));
  };

  choose = (target: string): void => {
    this.open(target).then(() => this.link(), (p) => this.failed(p));
  };

  async paintLine(trail: Point[]): Promise<void> {
    try {
      const answer = await solveLine({ target: this.state.opened!.target, starts: startsOf(trail), t: this.state.t });
      if (answer?.drops) this.setState({ lines: [...this.state.lines.slice(-2), answer.drops] });
      else if (answer) this.setState({ problem: answer.text });
    } catch (problem) {
      this.failed(problem as Error);
    }
  }

  // ── the link, and what fails ───────────────────────────────────────────────────────────────────────────────────────

  extra = (which: "" | "keys" | "share"): void => {
    this.setState({ extra: which });
    if (which && !this.state.Extra) import("./extra").then((m) => this.setState({ Extra: m.Extra }));
  };

  /** Depth's picture of the network where the active drop is on its path. */
  through = (ways: boolean): void => {
    this.setState({ ways });
    if (ways && !this.state.Ways) import("./ways").then((m) => this.setState({ Ways: m.Ways }));
  };

  private link(): void {
    clearTimeout(this.last);
    this.last = window.setTimeout(() => {
      if (this.state.opened && !this.ended && !location.hash.startsWith("#depth")) history.replaceState(null, "", hashOf(this.state));
    }, 200);
  }

  private hash = (e: HashChangeEvent): void => {
    const { hash } = new URL(e.newURL); // what was asked for: the address may have been written anew since
    const wanted = wantedOf(hash);
    if (hash.startsWith("#river?")) this.open(wanted.target, wanted).catch((p) => this.failed(p));
  };

  failed(problem: Error, id?: number): void {
    if (this.ended) return;
    if (isAway(problem)) {
      this.setState({ problem: problem.message });
      setTimeout(() => void this.again(), 1200);
    } else if (id !== undefined) this.changeDrop(id, (d) => ({ ...d, problem: problem.message }));
    else this.setState({ problem: problem.message });
  }

  /** The app was away: when it answers again, go on where we were. */
  private async again(): Promise<void> {
    if (this.ended) return;
    try {
      const target = this.state.opened?.target ?? wantedOf(location.hash).target;
      await get<Opened>("/api/open?target=" + encodeURIComponent(target));
    } catch (problem) {
      if (problem instanceof Away || problem instanceof Locked) {
        this.setState({ problem: problem.message });
        setTimeout(() => void this.again(), 1200);
      } else this.setState({ problem: (problem as Error).message });
      return;
    }
    this.setState({ problem: "" });
    if (!this.state.opened) return void this.begin();
    this.springs.sample();
    for (const d of this.state.drops) this.settle(d.id);
  }

  render({ theme }: { theme: Theme }, s: State) {
    const { Time, Extra } = s;
    const said = sentence(s);
    return (
      <main class="river">
        <div class={"stage" + (s.said === "held" ? " held" : "")} ref={this.stage} tabIndex={0} role="application" aria-label="the water: arrow keys move a cursor, Enter drops, ? lists the keys"
          onPointerDown={this.hands.down} onPointerMove={this.hands.move} onPointerUp={this.hands.up} onPointerCancel={this.hands.up} onWheel={this.hands.wheel}>
          <Canvas samples={s.samples} box={s.frame.box} width={s.frame.width} height={s.frame.height} theme={theme} paused={s.paused} trueTime={s.trueTime}
            busy={() => !!this.hands.pressed?.drop} ready={(w) => (this.water = w)} />
          {s.view && <Overlay picture={s} frame={s.frame} describe={spoken(said)} Hatched={s.Shore?.Hatched ?? null} />}
          {(s.busy || (!s.opened && !s.problem)) && <p class="wait">{s.busy || "loading what solves it …"}</p>}
          {s.plane && <Leak samples={s.samples} at={s.cursor ?? s.pointer} />}
        </div>
        <Dock picture={s} said={said} river={this} still={this.water?.kind ?? ""} />
        <section class="time" aria-label="the time bar">{Time ? <Time picture={s} theme={theme} scrub={this.clock.scrub} /> : null}</section>
        {s.ways && s.Ways && <s.Ways p={s} river={this} />}
        {s.extra && Extra && <Extra which={s.extra} picture={s} river={this} stage={this.stage.current!} close={() => this.extra("")} />}
      </main>
    );
  }

  get liquid() {
    return this.water?.liquid ?? null;
  }

  /** The liquid's true shader, for tests. */
  trial(points: number[][], steps: number, dt: number): number[][] {
    return this.water!.liquid!.trial(points, steps, dt);
  }
}
