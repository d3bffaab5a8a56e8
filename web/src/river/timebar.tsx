// The time bar: loss and gradient, sharpness with its line, on one clock; a click or a drag puts the clock there.
import { Component, createRef } from "preact";
import uPlot from "uplot";
import type { Track } from "../wire/types";
import type { TimeProps } from "./river";
import { type Kind, KINDS, LOOKS, told } from "./state";
import { active } from "./words";

type Row = (number | null)[];
interface Line {
  label: string;
  name: "flow" | Kind;
  times: number[];
  values: Row;
  dash?: number[];
  floor?: Row;
}

export class TimeBar extends Component<TimeProps> {
  private left = createRef<HTMLDivElement>();
  private right = createRef<HTMLDivElement>();
  private plots: uPlot[] = [];
  private drawn = "";
  private watcher = new ResizeObserver(() => this.draw(true));

  override componentDidMount(): void {
    this.watcher.observe(this.left.current!);
    this.draw(true);
  }

  override componentDidUpdate(): void {
    this.draw(false);
  }

  override componentWillUnmount(): void {
    this.watcher.disconnect();
    for (const p of this.plots) p.destroy();
  }

  private draw(anew: boolean): void {
    const { picture: p, theme } = this.props;
    const d = active(p);
    const tracks: [("flow" | Kind), Track][] = [];
    if (d?.flow) tracks.push(["flow", d.flow.track]);
    for (const k of KINDS) if (p.on[k] && d?.rivals[k]) tracks.push([k, d.rivals[k]!.track]);
    const key = tracks.map(([k, t]) => `${k}${t.moments}${t.times.at(-1)}${t.final}${t.threshold}${t.sharpness.filter((x) => x !== null).length}${t.grad_norm[1]}`).join("|") + theme + p.t;
    if (anew || key !== this.drawn) {
      this.drawn = key;
      for (const old of this.plots) old.destroy();
      this.plots = [];
      const slow = p.t / 200;
      const fall: Line[] = tracks.filter(([, t]) => t.loss).map(([name, t]) => ({ label: `L ${LOOKS[name].name}`, name, times: t.times, values: t.loss!, floor: name === "flow" ? t.loss_floor : undefined }));
      const slope: Line[] = tracks.filter(([k]) => k === "flow").map(([name, t]) => ({ label: "‖∇L‖ flow", name, times: t.times, values: t.grad_norm, dash: [2, 4] }));
      this.plot(this.left.current!, p.opened?.potential ? "loss, and ‖∇L‖ of the flow (dotted)" : "speed ‖dθ/dt‖", [...fall, ...slope], slow, true, null);
      const sharp: Line[] = tracks.filter(([, t]) => t.sharpness.some((x) => x !== null)).map(([name, t]) => ({ label: `λ ${LOOKS[name].name}`, name, times: t.times, values: t.sharpness }));
      const edge = tracks.map(([, t]) => t).find((t) => t.threshold !== null);
      if (sharp.length) this.plot(this.right.current!, edge ? `sharpness λ, and ${edge.threshold_name}` : "sharpness λ", sharp, slow, false, edge ?? null);
    } else for (const plot of this.plots) plot.redraw(false);
  }

  private plot(into: HTMLElement, title: string, lines: Line[], slow: number, log: boolean, edge: Track | null): void {
    if (!lines.length || into.clientWidth < 60) return;
    const style = getComputedStyle(into);
    const ink = (name: string) => style.getPropertyValue(name).trim();
    const times = [...new Set(lines.flatMap((l) => l.times))].sort((a, b) => a - b);
    const rows = lines.map((l) => {
      const at = new Map(l.times.map((t, k) => [t, l.values[k] ?? null]));
      return times.map((t) => { const y = at.get(t) ?? null; return y !== null && (!log || y > 0) && Math.abs(y) < 1e200 ? y : null; });
    });
    const flat = rows.flat().filter((y): y is number => y !== null);
    if (!flat.length) return;
    const top = log ? Math.max(...flat) : Math.max(...flat, edge?.threshold && edge.threshold < 4 * Math.max(...flat) ? edge.threshold : -1e300) * 1.08;
    const bottom = log ? Math.max(Math.min(...flat), Math.min(top, Math.max(...rows.map((r) => r.find((y) => y !== null) ?? 0))) * 1e-14) : Math.min(0, ...flat);
    const noise = floorFrom(lines);
    const grey = { stroke: ink("--soft"), grid: { stroke: ink("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const { picture, scrub } = this.props;
    const made = new uPlot({
      width: into.clientWidth, height: into.clientHeight - 18, padding: [6, 10, 0, 0],
      legend: { show: false }, cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: {
        x: { time: false, distr: 100, fwd: (t: number) => Math.asinh(t / slow), inv: (a: number) => slow * Math.sinh(a), range: [0, picture.t] } as uPlot.Scale,
        y: log ? { distr: 3, range: [bottom, top * 2] } : { range: [bottom, top] },
      },
      axes: [
        { ...grey, size: 24, splits: () => [0, ...[...Array(9)].map((_, k) => 10 ** (k - 4)).flatMap((x) => [x, 3 * x]).filter((x) => x >= 2 * slow && x <= picture.t)], values: (_u, vs) => vs.map((v) => (v === null ? "" : told(v))), filter: (_u, vs) => vs, space: 34 },
        { ...grey, size: 52, ...(log ? { splits: () => decades(bottom, top), filter: (_u: uPlot, vs: number[]) => vs } : {}), values: (_u, vs) => vs.map((v) => (v === null ? "" : told(v, 2))) },
      ],
      series: [{}, ...lines.map((l): uPlot.Series => ({
        label: l.label, stroke: ink(`--${l.name}`), width: l.name === "flow" && !l.dash ? 2 : 1.4, spanGaps: true, points: { show: false },
        dash: l.dash ?? (LOOKS[l.name].dash ? LOOKS[l.name].dash.split(" ").map(Number) : undefined),
      }))],
      hooks: { draw: [(u) => {
        const c = u.ctx, { left, top: y0, width, height } = u.bbox;
        c.save();
        c.beginPath();
        c.rect(left, y0, width, height);
        c.clip();
        if (noise !== null) {
          const x = u.valToPos(noise, "x", true);
          c.fillStyle = ink("--shade");
          c.fillRect(x, y0, left + width - x, height);
        }
        if (edge?.threshold) {
          const y = u.valToPos(edge.threshold, "y", true);
          c.strokeStyle = ink("--edge");
          c.setLineDash([6, 4]);
          c.lineWidth = 1.5 * devicePixelRatio;
          c.beginPath();
          c.moveTo(left, y);
          c.lineTo(left + width, y);
          c.stroke();
        }
        const x = u.valToPos(this.props.picture.clock, "x", true);
        c.setLineDash([]);
        c.strokeStyle = ink("--text");
        c.lineWidth = devicePixelRatio;
        c.beginPath();
        c.moveTo(x, y0);
        c.lineTo(x, y0 + height);
        c.stroke();
        c.restore();
      }] },
    }, [times, ...rows], into);
    const to = (e: PointerEvent) => scrub(made.posToVal(e.clientX - made.over.getBoundingClientRect().left, "x"));
    made.over.addEventListener("pointerdown", (e) => { made.over.setPointerCapture(e.pointerId); to(e); });
    made.over.addEventListener("pointermove", (e) => { if (e.buttons) to(e); });
    into.querySelector("figcaption")!.textContent = title + (noise !== null ? "; shaded: below what the tolerance resolves" : "");
    this.plots.push(made);
  }

  render({ picture: p, scrub }: TimeProps) {
    const slow = p.t / 200, whole = Math.asinh(p.t / slow);
    return (
      <>
        <div class="plots">
          <figure ref={this.left}><figcaption /></figure>
          <figure ref={this.right}><figcaption /></figure>
        </div>
        <label class="clock">t <input type="range" min="0" max="1" step="0.001" value={Math.asinh(p.clock / slow) / whole} aria-label="flow time" aria-valuetext={told(p.clock)}
          onInput={(e) => scrub(slow * Math.sinh(Number(e.currentTarget.value) * whole))} /><output>{told(p.clock)}</output></label>
      </>
    );
  }
}

/** Powers of ten between two numbers, six at most. */
function decades(low: number, high: number): number[] {
  const [a, b] = [Math.ceil(Math.log10(low)), Math.floor(Math.log10(high * 2))];
  const every = Math.max(1, Math.ceil((b - a) / 5));
  return [...Array(Math.max(0, Math.floor((b - a) / every) + 1))].map((_, k) => 10 ** (b - k * every));
}

/** From when on the loss of the flow is the solver's noise, to the end; null where it never is. */
function floorFrom(lines: Line[]): number | null {
  const l = lines.find((x) => x.floor?.length);
  if (!l) return null;
  let from: number | null = null;
  for (let k = l.times.length - 1; k >= 0; k--) {
    const y = l.values[k], f = l.floor![k];
    if (y === null || y === undefined || f === null || f === undefined || y > f) break;
    from = l.times[k]!;
  }
  return from;
}
