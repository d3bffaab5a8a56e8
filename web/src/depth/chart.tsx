// One lane over training: a quantity against the step, drawn by uPlot; clicked, the probed step nearest to the place is chosen.
import { Component, createRef } from "preact";
import uPlot from "uplot";
import { MEANINGS } from "../wire/words";
import { number } from "./spell";
import { Word } from "./word";

export interface Series {
  label: string;
  x: number[];
  y: (number | null)[];
  dash?: boolean;
  points?: boolean;
}

interface Props {
  name: string;
  series: Series[];
  log: boolean;
  height: number;
  width: number; // with the gutter
  gutter: number;
  first: number;
  last: number;
  theme: string;
  at: number;
  pick(step: number): void;
}

export const RIGHT = 12; // pixels right of every lane

export class Chart extends Component<Props> {
  private box = createRef<HTMLDivElement>();
  private plot: uPlot | null = null;

  override componentDidMount() { this.make(); }
  override componentWillUnmount() { this.plot?.destroy(); }

  override componentDidUpdate(before: Props) {
    const p = this.props;
    const same = (["theme", "log", "height", "gutter"] as const).every((k) => p[k] === before[k]) && p.series.length === before.series.length;
    if (!same || !this.plot) this.make();
    else {
      if (p.width !== before.width) this.plot.setSize({ width: p.width, height: p.height });
      if (p.series !== before.series || p.first !== before.first || p.last !== before.last) {
        this.plot.setData(data(p.series), false);
        this.plot.setScale("x", { min: p.first, max: Math.max(p.last, p.first + 1) });
      }
    }
  }

  private make(): void {
    this.plot?.destroy();
    const { series, log, height, width, gutter, first, last } = this.props;
    if (!this.box.current || width < 40) return;
    const css = getComputedStyle(document.documentElement);
    const ink = (name: string) => css.getPropertyValue(name).trim();
    const inks = [ink("--accent"), ink("--curve-2"), ink("--curve-3"), ink("--curve-4")];
    const soft = ink("--soft");
    const y: uPlot.Scale = log ? { distr: 3, range: (_u, low, high) => logRange(low, high) } : { range: (_u, low, high) => range(low, high) };
    this.plot = new uPlot({
      width, height, padding: [6, RIGHT, 4, 0], legend: { show: false }, cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: false, range: () => [this.props.first, Math.max(this.props.last, this.props.first + 1)] }, y },
      series: [{}, ...series.map((s, k) => ({
        label: s.label, stroke: inks[k % inks.length], width: 1.6, spanGaps: true, ...(s.dash ? { dash: [5, 4] } : {}),
        points: { show: s.points ?? false, size: 5, fill: inks[k % inks.length] },
      } as uPlot.Series))],
      axes: [
        { show: false },
        {
          size: gutter, stroke: soft, font: "11px system-ui, 'DejaVu Sans', sans-serif", gap: 4, space: 26, ticks: { show: false },
          grid: { stroke: ink("--line"), width: 1 }, values: (_u, splits) => splits.map((v) => (v === null ? "" : number(v, 3))),
          ...(log ? { splits: (_u: uPlot, _k: number, low: number, high: number) => powers(low, high) } : {}),
        },
      ],
    }, data(series), this.box.current);
    this.plot.setScale("x", { min: first, max: Math.max(last, first + 1) });
    this.plot.over.addEventListener("click", (e) => {
      const u = this.plot;
      if (u) this.props.pick(u.posToVal(e.offsetX, "x"));
    });
  }

  render() {
    const { name, series, at, gutter } = this.props;
    const values = series.map((s) => `${series.length > 1 ? `${s.label} ` : ""}${number(nearest(s, at))}`);
    return (
      <div class="lane">
        <p class="lane-name" style={{ marginLeft: `${gutter}px` }}><b>{MEANINGS[name] ? <Word of={name} /> : name}</b> <span>{values.join(" · ")}</span></p>
        <div ref={this.box} role="img" aria-label={`${name} over the steps; at step ${at}: ${values.join(", ")}`} />
      </div>
    );
  }
}

/** Whole powers of ten on a log scale, as many as there is room for. */
function powers(low: number, high: number): number[] {
  const [a, b] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  const by = Math.max(1, Math.ceil((b - a) / 3));
  return Array.from({ length: Math.floor((b - a) / by) + 1 }, (_, k) => 10 ** (a + k * by));
}

function nearest(s: Series, at: number): number | null {
  let best: number | null = null;
  s.x.forEach((x, k) => { if (s.y[k] !== null && (best === null || Math.abs(x - at) < Math.abs(s.x[best]! - at))) best = k; });
  return best === null ? null : s.y[best]!;
}

function range(low: number | null, high: number | null): [number, number] {
  if (low === null || high === null) return [0, 1];
  const margin = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low - margin, high + margin];
}

function logRange(low: number | null, high: number | null): [number, number] {
  if (low === null || high === null || !(low > 0)) return [0.1, 1];
  return [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high) + 1e-9)];
}

/** Curves on one axis of steps. */
function data(series: Series[]): uPlot.AlignedData {
  if (!series.length) return [[]];
  const tables = series.map((s) => [s.x, s.y] as unknown as uPlot.AlignedData);
  return tables.length === 1 ? tables[0]! : uPlot.join(tables);
}
