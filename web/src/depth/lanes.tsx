// Over training: curves, probed steps and the map of gradients, one below the other on one axis of steps.
import { Component, createRef } from "preact";
import type { Frame } from "../wire/ask";
import type { Cell, Curves, HeatMap, RunView } from "../wire/types";
import { MARKS, MEANINGS } from "../wire/words";
import { Chart, RIGHT, type Series } from "./chart";
import { fit, Heat, heightOf, told } from "./heat";
import { ramp } from "./inks";
import { count, number, power, whole } from "./spell";
import { More, Word } from "./word";

const POINTS = 800;
const LISTED = 20; // lines of a table behind a picture
const TALL = { loss: 130, other: 78 };

interface Props {
  view: RunView;
  curves: Frame<Curves> | null;
  map: HeatMap | null;
  probe: number | null;
  cell: Cell | null;
  theme: string;
  biases: boolean;
  choose(probe: number): void;
  pick(param: number, step: number): void;
  swap(): void;
  toRow(cell: Cell): void;
}

interface Lane {
  name: string;
  word: string;
  series: Series[];
  log: boolean;
}

export class Lanes extends Component<Props, { width: number }> {
  private box = createRef<HTMLDivElement>();
  private watch: ResizeObserver | null = null;
  private of: Frame<Curves> | null = null; // what was drawn last, so that a step further costs no new curves
  private drawn: Lane[] = [];
  override state = { width: 0 };

  override componentDidMount() {
    this.watch = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry!.contentRect.width);
      if (width !== this.state.width) this.setState({ width });
    });
    if (this.box.current) this.watch.observe(this.box.current);
  }

  override componentWillUnmount() { this.watch?.disconnect(); }

  render() {
    const { view, curves, map, probe, theme, cell } = this.props;
    const { width } = this.state;
    const gutter = width < 560 ? 58 : 136;
    const plot = width - gutter - RIGHT;
    const head = curves?.head;
    const [first, last] = [head?.first ?? 0, Math.max(head?.last ?? 1, (head?.first ?? 0) + 1)];
    const step = probe === null ? first : (view.probes[probe]?.step ?? first);
    const at = (s: number) => gutter + (plot * (s - first)) / (last - first);
    const axis = (
      <div class="steps-axis" style={{ width: `${plot}px` }} aria-hidden="true">{axisOf(first, last, plot).map((s) => <span style={{ left: `${(100 * (s - first)) / (last - first)}%` }}>{whole(s)}</span>)}<b>step</b></div>
    );
    if (this.of !== curves) {
      this.drawn = curves ? lanesOf(curves, view) : [];
      this.of = curves;
    }
    const lanes = this.drawn;
    return (
      <section class="card course" aria-labelledby="d-over">
        <h2 id="d-over">over training <small>step {whole(first)} to {whole(last)}; the line stands at step {whole(step)}</small></h2>
        <div class="lanes fits" ref={this.box} style={{ "--fit": fit(width) }}>
          {plot > 20 && curves && (
            <>
              <i class="now" style={{ left: `${at(Math.min(last, Math.max(first, step)))}px` }} aria-hidden="true" />
              {this.ticks(first, last, gutter, plot)}
              {lanes.map((lane) => flat(lane) ? (
                <p key={lane.name} class="lane-name flat" style={{ marginLeft: `${gutter}px` }}><b>{MEANINGS[lane.name] ? <Word of={lane.name} /> : lane.name}</b> <span>{flat(lane)}</span></p>
              ) : (
                <Chart key={lane.name} name={lane.name} series={lane.series} log={lane.log} height={lane.name === "loss" ? TALL.loss : TALL.other} width={width} gutter={gutter} first={first} last={last} theme={theme} at={step} pick={(s) => this.nearest(s)} />
              ))}
              {head && head.broken.length > 0 && <p class="broken-steps tone-not-finite" style={{ marginLeft: `${gutter}px` }}>✕ not finite in {count(head.broken.length + head.broken_more, "step")}, first at step {head.broken[0]![0]}: {head.broken[0]![1]}</p>}
              {view.adaptive && lanes.some((l) => l.word === "sharpness") && <p class="fine" style={{ marginLeft: `${gutter}px` }}>This optimizer rescales each coordinate: <Word of="2/η" /> is the limit of plain gradient descent, and none of it.</p>}
              {!map?.names.length && <div style={{ marginLeft: `${gutter}px` }}>{axis}</div>}
              {map && map.names.length > 0 && (
                <div class="lane">
                  <p class="lane-name" style={{ marginLeft: `${gutter}px` }}>
                    <b><Word of="heat map" text={`gradient of ${count(map.names.length, "parameter")}`} /></b>
                    <button type="button" class="copy" aria-pressed={this.props.biases} onClick={this.props.swap}>{this.props.biases ? "show weights" : "show biases and scales"}</button>
                    {map.left_out > 0 && <span>{whole(map.left_out)} more left out</span>}
                  </p>
                  <div class="heat-row">
                    <div class="names" style={{ width: `${gutter}px`, height: `${heightOf(map.names.length)}px` }} aria-hidden="true">{namesOf(map).map(([name, y]) => <span style={{ top: `${y}%` }} title={name}>{tail(name.replace(/\.(weight|bias)$/, ""), Math.floor((gutter - 10) / 6.1))}</span>)}</div>
                    <div><Heat map={map} width={plot} theme={theme} cell={cell ? { param: cell.param, step: cell.step } : null} pick={this.props.pick}>{axis}</Heat></div>
                  </div>
                  <p class="inks" style={{ marginLeft: `${gutter}px` }}>
                    <span>{power(Math.round(map.low))} <i class="ramp" style={{ background: ramp(0, 1) }} /> 1, the largest of its step</span>
                    <span><i class="sw x-nf" /> ✕ not finite</span><span><i class="sw x-dead" /> ○ exactly zero</span>
                  </p>
                </div>
              )}
              {cell && this.cell(cell, gutter)}
            </>
          )}
          {!curves && <p class="fine">…</p>}
        </div>
        {curves && <More text="the curves as a table" make={() => <CurveTable lanes={lanes} />} />}
        {map && map.names.length > 0 && <More text="the map as a table" make={() => <MapTable map={map} />} />}
      </section>
    );
  }

  private nearest(step: number): void {
    const { probes } = this.props.view;
    if (!probes.length) return;
    const best = probes.reduce((a, b) => (Math.abs(b.step - step) < Math.abs(a.step - step) ? b : a));
    this.props.choose(best.index);
  }

  private ticks(first: number, last: number, gutter: number, plot: number) {
    const { view, probe, choose } = this.props;
    const { probes } = view;
    if (!probes.length) return null;
    const now = Math.max(0, probes.findIndex((p) => p.index === probe));
    const tick = probes[now]!;
    const key = (e: KeyboardEvent) => {
      const to = { ArrowLeft: now - 1, ArrowRight: now + 1, ArrowDown: now - 1, ArrowUp: now + 1, Home: 0, End: probes.length - 1 }[e.key];
      if (to === undefined) return;
      e.preventDefault();
      choose(probes[Math.min(probes.length - 1, Math.max(0, to))]!.index);
    };
    return (
      <div
        class="ticks" role="slider" tabIndex={0} aria-label="probed step" aria-valuemin={0} aria-valuemax={probes.length - 1} aria-valuenow={now}
        aria-valuetext={`step ${tick.step}, probe ${now + 1} of ${probes.length}`} style={{ marginLeft: `${gutter}px`, width: `${plot}px` }} onKeyDown={key}
        onClick={(e) => this.nearest(first + ((e.clientX - e.currentTarget.getBoundingClientRect().left) / plot) * (last - first))}
      >
        {probes.map((p) => <i class={`${p.index === probe ? "on" : ""} ${p.broken ? "bad" : ""} ${p.index === view.at ? "told" : ""}`} data-probe={p.index} title={`step ${p.step}: ${p.reason}${p.broken ? ", not finite" : ""}`} style={{ left: `${(100 * (p.step - first)) / (last - first)}%` }}>{p.broken ? "✕" : ""}</i>)}
      </div>
    );
  }

  private cell(cell: Cell, gutter: number) {
    return (
      <div class="cell-told" style={{ marginLeft: `${gutter}px` }} role="status">
        <p><b>{cell.marks.map((m) => MARKS[m]).join(" ")} {cell.name}</b> at step {whole(cell.step)}
          {cell.row !== null && cell.probe !== null && <button type="button" class="copy" onClick={() => this.props.toRow(cell)}>its line in the way back at step {whole(this.props.view.probes[cell.probe]?.step ?? 0)}</button>}
        </p>
        <dl>{cell.facts.map(([a, b]) => <><dt>{a}</dt><dd>{b}</dd></>)}</dl>
      </div>
    );
  }
}

export { POINTS };

/** What a lane says in words where a picture would show nothing: one point, or the same value throughout. */
function flat(lane: Lane): string | null {
  const told = lane.series.map((s) => {
    const seen = s.y.filter((v): v is number => v !== null);
    if (seen.length === 1) return `${number(seen[0])} at step ${whole(s.x[s.y.findIndex((v) => v !== null)]!)}, measured once`;
    return seen.length && seen.every((v) => v === seen[0]) ? `${number(seen[0])} throughout` : null;
  });
  return lane.name !== "loss" && told.every((t) => t !== null) ? told.map((t, k) => (told.length > 1 ? `${lane.series[k]!.label} ${t}` : t)).join(" · ") : null;
}

/** Round numbers for the axis of steps. */
function axisOf(first: number, last: number, plot: number): number[] {
  const rough = (last - first) / Math.max(2, Math.floor(plot / 90));
  const ten = 10 ** Math.floor(Math.log10(Math.max(1, rough)));
  const step = Math.max(1, [1, 2, 5, 10].map((k) => k * ten).find((s) => s >= rough) ?? 10 * ten);
  const found: number[] = [];
  for (let s = Math.ceil(first / step) * step; ((s - first) / (last - first)) * plot < plot - 46; s += step) found.push(s); // (there stands what is counted)
  return found;
}

/** The end of a name, where names of parameters differ most. */
const tail = (name: string, room: number): string => (name.length <= room ? name : `…${name.slice(1 - room)}`);

/** The names that fit beside the map, and where they stand. */
function namesOf(map: HeatMap): [string, number][] {
  const n = map.names.length;
  const every = Math.max(1, Math.ceil(12 / Math.min(16, Math.max(2, 300 / n))));
  return map.names.map((name, k): [string, number] => [name, (100 * (k + 0.5)) / n]).filter((_, k) => k % every === 0);
}

function lanesOf(frame: Frame<Curves>, view: RunView): Lane[] {
  const { head, floats } = frame;
  const found = new Map<string, Lane>();
  const lane = (name: string, word: string): Lane => found.get(name) ?? found.set(name, { name, word, series: [], log: false }).get(name)!;
  let k = 0;
  for (const line of head.lines) {
    const x = Array.from(floats.subarray(k, k + line.count), (s) => s + head.first);
    const y = Array.from(floats.subarray(k + line.count, k + 2 * line.count), (v) => (Number.isFinite(v) ? v : null));
    k += 2 * line.count;
    const which = view.verdict.optimizers.findIndex((o) => o.index === line.optimizer);
    const own = which >= 0 && line.name !== "sharpness" ? (view.optimizers[which] ?? line.name) : line.name;
    const into = lane(line.name === "2/η" ? "sharpness" : line.name, line.name);
    if (line.name === "2/η" && view.adaptive) continue;
    const sparse = (line.name === "sharpness" && line.count < 200) || y.filter((v) => v !== null).length < 4;
    into.series.push({ label: line.name === "2/η" ? "2/η" : own, x, y: line.log ? y.map((v) => (v !== null && v > 0 ? v : null)) : y, dash: line.name === "2/η", points: sparse });
    if (line.name !== "2/η" || !into.series.length) into.log = into.log || line.log;
  }
  const order = ["loss", "learning rate", "sharpness", "update/weight", "gradient"];
  for (const one of found.values()) if (one.log) one.series.forEach((s) => (s.y = s.y.map((v) => (v !== null && v > 0 ? v : null))));
  return [...found.values()].filter((l) => l.series.length).sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
}

function CurveTable({ lanes }: { lanes: Lane[] }) {
  const x = lanes[0]?.series[0]?.x ?? [];
  const n = Math.min(LISTED, x.length);
  const steps = Array.from({ length: n }, (_, k) => x[Math.round((k * (x.length - 1)) / Math.max(1, n - 1))]!);
  const near = (s: Series, at: number) => s.y[s.x.reduce((best, v, k) => (Math.abs(v - at) < Math.abs(s.x[best]! - at) ? k : best), 0)] ?? null;
  const columns = lanes.flatMap((l) => l.series.map((s) => ({ s, name: s.label === l.name || l.series.length === 1 ? l.name : `${l.name} ${s.label}` })));
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="curves as a table"><table class="facts">
      <thead><tr><th scope="col">step</th>{columns.map((c) => <th scope="col">{c.name}</th>)}</tr></thead>
      <tbody>{steps.map((at) => <tr><th scope="row">{whole(at)}</th>{columns.map((c) => <td>{number(near(c.s, at))}</td>)}</tr>)}</tbody>
    </table></div>
  );
}

function MapTable({ map }: { map: HeatMap }) {
  const codes = Uint8Array.from(atob(map.codes), (c) => c.charCodeAt(0));
  const n = Math.min(6, map.steps.length);
  const columns = [...new Set(Array.from({ length: n }, (_, k) => Math.round((k * (map.steps.length - 1)) / Math.max(1, n - 1))))];
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="map as a table"><table class="facts">
      <thead><tr><th scope="col">parameter</th>{columns.map((c) => <th scope="col">step {map.steps[c]}</th>)}</tr></thead>
      <tbody>{map.names.slice(0, 200).map((name, r) => <tr><th scope="row">{name}</th>{columns.map((c) => <td>{told(map, codes, r, c).replace(" of the largest of its step", "")}</td>)}</tr>)}</tbody>
    </table></div>
  );
}
