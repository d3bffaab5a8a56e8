// The gradient's way back: a line for each module or op, from the loss down; the bar is what is left, its end what the op took.
import { Component, createRef } from "preact";
import type { Share, Way } from "../wire/types";
import { MARKS, MEANINGS } from "../wire/words";
import { gained } from "./hero";
import { gainInk, gainRamp, tone } from "./inks";
import { decades, gain, percent, power } from "./spell";
import { broken, keysOf, type Line, linesOf, type Node, openAtFirst, type Order, tree } from "./tree";
import { Word } from "./word";

const HIGH = 23; // pixels of a line
const HEAD = 24; // and of their head
const PIECES = 80; // of one bar, at most
const AROUND = 12; // lines beyond what is seen that are drawn

interface Props {
  way: Way;
  beside?: Way | null; // another way back, drawn pale where its rows are the same
  order: Order;
  row: number | null;
  choose(row: number): void;
  sort(order: Order): void;
}
interface State {
  open: Set<string>;
  at: string | null; // the line that has the cursor
  top: number;
  tall: number;
  paper: boolean; // it is being printed: every line is drawn, every module open
}

const PAPER = matchMedia("print");
const PRINTED = 600; // lines, at most
const ORDERS: [Order, string, string][] = [["way", "1", "the way back"], ["loss", "2", "biggest first"], ["kind", "3", "by kind"]];

export class Waterfall extends Component<Props, State> {
  private nodes: Node[] = [];
  private of: Way | null = null;
  private made: unknown[] = [];
  private found: Line[] = [];
  private box = createRef<HTMLDivElement>();
  private pair: { of: Way; way: Way; left: (number | null)[] } | null = null;
  override state: State = { open: new Set(), at: null, top: 0, tall: 600, paper: PAPER.matches };
  private readonly onPaper = () => this.setState({ paper: PAPER.matches });

  private readonly trees = (): Node[] => {
    if (this.of !== this.props.way) {
      const before = this.nodes.map((n) => n.key).join();
      this.nodes = tree(this.props.way);
      if (before !== this.nodes.map((n) => n.key).join()) this.state.open = openAtFirst(this.nodes);
      this.of = this.props.way;
    }
    return this.nodes;
  };

  /** The lines, worked out anew only where something changed. */
  lines(): Line[] {
    const nodes = this.trees();
    const { open, paper } = this.state;
    const of = [nodes, this.props.order, open, paper];
    if (of.some((x, k) => x !== this.made[k])) {
      const all = paper ? linesOf(this.props.way, nodes, this.props.order, new Set(keysOf(nodes))) : [];
      this.found = all.length && all.length <= PRINTED ? all : linesOf(this.props.way, nodes, this.props.order, open);
    }
    this.made = of;
    return this.found;
  }

  override componentDidMount() {
    PAPER.addEventListener("change", this.onPaper);
    this.setState({ tall: this.box.current?.clientHeight ?? 600 });
    this.show(this.props.row);
  }

  override componentWillUnmount() { PAPER.removeEventListener("change", this.onPaper); }

  override componentDidUpdate(before: Props) {
    if (before.row !== this.props.row || before.order !== this.props.order || before.way !== this.props.way) this.show(this.props.row);
  }

  /** Bring a row's line, or that of the module that hides it, into sight. */
  private show(row: number | null): void {
    const k = this.lines().findIndex(({ node, open }) => row !== null && node.rows.includes(row) && !open);
    const box = this.box.current;
    if (k < 0 || !box) return;
    const y = k * HIGH;
    if (y < box.scrollTop || y > box.scrollTop + box.clientHeight - HEAD - 2 * HIGH) box.scrollTop = Math.max(0, y - box.clientHeight / 3);
  }

  /** Of each row what was left behind it on the other way. */
  private matched(): (number | null)[] | null {
    const { way, beside } = this.props;
    if (!beside) return null;
    if (this.pair?.of !== beside || this.pair.way !== way) this.pair = { of: beside, way, left: matching(way, beside) };
    return this.pair.left;
  }

  private pick(line: Line, toggle: boolean): void {
    const { node } = line;
    if (node.children.length && toggle) {
      const open = new Set(this.state.open);
      if (!open.delete(node.key)) open.add(node.key);
      this.setState({ open, at: node.key });
    } else this.setState({ at: node.key });
    this.props.choose(strongest(this.props.way, node));
  }

  private key(e: KeyboardEvent): void {
    const lines = this.lines();
    const now = Math.max(0, lines.findIndex((l) => l.node.key === this.current(lines)));
    const line = lines[now];
    if (!line) return;
    const isModule = line.node.children.length > 0;
    const steps: Record<string, number> = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: lines.length - 1, PageDown: now + 15, PageUp: now - 15 };
    if (e.key in steps) this.pick(lines[Math.min(lines.length - 1, Math.max(0, steps[e.key]!))]!, false);
    else if (e.key === "Enter" || e.key === " ") this.pick(line, true);
    else if (e.key === "ArrowRight" && isModule && !line.open) this.pick(line, true);
    else if (e.key === "ArrowLeft" && isModule && line.open) this.pick(line, true);
    else return;
    e.preventDefault();
    e.stopPropagation();
  }

  private current(lines: Line[]): string | null {
    const { row } = this.props;
    const mine = lines.find((l) => l.node.key === this.state.at);
    if (mine && (row === null || mine.node.rows.includes(row))) return mine.node.key;
    return lines.find((l) => row !== null && l.node.rows.includes(row) && !l.open)?.node.key ?? lines[0]?.node.key ?? null;
  }

  render() {
    const { way, order, sort } = this.props;
    const lines = this.lines();
    const axis = scaleOf(way, order, lines, this.props.beside ?? null);
    const was = order === "way" ? this.matched() : null;
    const at = this.current(lines);
    const { paper } = this.state;
    const from = paper ? 0 : Math.max(0, Math.floor(this.state.top / HIGH) - AROUND);
    const to = Math.min(lines.length, paper ? PRINTED : Math.ceil((this.state.top + this.state.tall) / HIGH) + AROUND);
    const alone = new Set(way.sites.map((s) => s.replace(/:\d+$/, "")).filter(Boolean)).size <= 1;
    const merges = way.budget.by_op.some((r) => r.kind === "branch");
    if (!lines.length) return <p class="empty">{way.budget.note || "No op was measured in this step, so there is no way back to draw."}</p>;
    return (
      <div class={alone ? "waterfall alone" : "waterfall"}>
        <div class="orders" role="group" aria-label="order of the lines">
          {ORDERS.map(([name, key, text]) => <button type="button" aria-pressed={order === name} onClick={() => sort(name)} title={`key ${key}`}><kbd>{key}</kbd> {text}</button>)}
        </div>
        <div
          class="wf-rows" ref={this.box} tabIndex={0} role="treegrid" aria-rowcount={lines.length} aria-label={`The gradient's way back at step ${way.step}, the loss first; arrow keys move, Enter opens a module`}
          aria-activedescendant={at ? `wf-${at}` : undefined} onKeyDown={(e) => this.key(e)}
          onScroll={(e) => this.setState({ top: e.currentTarget.scrollTop, tall: e.currentTarget.clientHeight })}
          style={{ "--decade": `${100 / (axis.high - axis.low)}%`, "--origin": `${100 * axis.origin}%`, height: `${lines.length * HIGH + HEAD + 2}px` }}
        >
          <div class="wf-head" role="row">
            <span class="site" role="columnheader" title={alone ? way.sites.find(Boolean) : undefined}>line</span><span role="columnheader">operation</span>
            <span class="axis" role="columnheader" aria-label={order === "way" ? "what is left" : "decades"}>{axis.ticks.map((d) => <i aria-hidden="true" class={axis.at(d) > 0.97 ? "end" : ""} style={{ left: `${100 * axis.at(d)}%` }}>{order === "way" ? power(d) : decades(d, false)}</i>)}</span>
            <span class="num" role="columnheader" title={MEANINGS["gain"]}>gain</span><span class="mk" role="columnheader" aria-label="mark" />
          </div>
          <div role="presentation" style={{ height: `${from * HIGH}px` }} />
          {lines.slice(from, to).map((line, k) => this.line(line, from + k, line.node.key === at, axis, alone, was))}
          <div role="presentation" style={{ height: `${(lines.length - to) * HIGH}px` }} />
        </div>
        <p class="inks">
          <span><i class="sw left-bar" /> left</span>
          <span>this op: ×0.1 <i class="ramp" style={{ background: gainRamp() }} /> ×10 (taken … added)</span>
          {order === "way" && <span><i class="sw dashed" /> the network’s output</span>}
          {merges && <span><i class="sw merge" /> ⊕ other routes join</span>}
          <span>▼ ▲ ✕ ○ to blame</span>
          <span><span><Word of="gain" />: from line to line, a grid line each <Word of="decade" /></span></span>
        </p>
        {way.budget.branched && way.budget.note && <p class="fine">{way.budget.note}</p>}
      </div>
    );
  }

  private line(line: Line, k: number, now: boolean, axis: Axis, alone: boolean, was: (number | null)[] | null) {
    const { node, open } = line;
    const { way, order } = this.props;
    const share = way.budget.by_op[node.rows[0]!]!;
    const single = node.rows.length === 1;
    const mark = node.mark;
    const isModule = node.children.length > 0;
    const told = single && share.kind === "branch" && share.share !== null ? `${percent(share.share)} this way` : node.about;
    const value = single ? (share.gain === null && broken(share, way.spans[node.rows[0]!]![1]) ? "nan/inf" : gain(share.gain)) : gained(node.decades, null);
    const edge = order === "way" && single && share.body && node.rows[0]! > 0 && !way.budget.by_op[node.rows[0]! - 1]!.body;
    return (
      <div
        key={node.key} id={`wf-${node.key}`} role="row" aria-rowindex={k + 1} aria-level={node.level + 1} aria-selected={now} aria-expanded={isModule ? open : undefined}
        class={`wf-row ${mark ? `${tone(mark)} marked` : ""} ${now ? "sel" : ""} ${share.body ? "" : "side"} ${edge ? "edge" : ""}`}
        onClick={() => this.pick(line, true)} data-row={node.rows[0]} title={`${node.name} ${told} · ${decades(node.decades)} decades`}
      >
        <span class="site" role="gridcell" title={node.site}>{alone ? node.site.replace(/^.*(?=:\d+$)/, "") : node.site}</span>
        <span class="name" role="rowheader" style={{ paddingLeft: `${12 * node.level}px` }}>
          <i class="turn" aria-hidden="true">{isModule ? (open ? "▾" : "▸") : ""}</i><b>{node.name}</b> <small>{told}</small>
        </span>
        <span class="wf-bar" role="gridcell" aria-label={`${decades(node.decades)} decades`}>{order === "way" ? wayBar(way, node, axis) : tookBar(way, node, axis)}{pale(was?.[node.rows[node.rows.length - 1]!] ?? null, axis)}</span>
        <span class="num" role="gridcell">{value}</span>
        <span class="mk" role="gridcell">{mark ? <span title={mark}>{MARKS[mark]}</span> : ""}</span>
      </div>
    );
  }
}

/** The row of a module that did most. */
function strongest(way: Way, node: Node): number {
  const size = (i: number) => (way.budget.by_op[i]!.mark ? 1000 : 0) + Math.abs(way.budget.by_op[i]!.decades ?? 0);
  return node.rows.reduce((best, i) => (size(i) > size(best) ? i : best), node.rows[0]!);
}

interface Axis {
  low: number;
  high: number;
  origin: number;
  ticks: number[];
  at(x: number): number;
}

/** Rows are the same where name and module are, counted from the loss. */
function matching(way: Way, beside: Way): (number | null)[] {
  const keys = (w: Way): string[] => {
    const counts = new Map<string, number>();
    return w.budget.by_op.map((r, i) => {
      const key = `${w.paths[i] ?? ""}|${r.name}`;
      const nth = counts.get(key) ?? 0;
      counts.set(key, nth + 1);
      return `${key}|${nth}`;
    });
  };
  const left = new Map(keys(beside).map((key, i) => [key, beside.spans[i]![1]]));
  return keys(way).map((key) => left.get(key) ?? null);
}

/** What was left on the other way. */
const pale = (left: number | null, axis: Axis) => (left === null ? null : <i class="was" style={{ width: `${100 * axis.at(left)}%` }} />);

function scaleOf(way: Way, order: Order, lines: Line[], beside: Way | null): Axis {
  let [low, high] = [Math.min(way.low, beside?.low ?? way.low), Math.max(way.high, beside?.high ?? way.high)];
  if (order !== "way") {
    low = 0;
    high = Math.max(0.5, ...lines.map((l) => Math.abs(l.node.decades ?? 0))) * 1.04;
  }
  const step = order === "way" ? Math.max(1, Math.ceil((high - low) / 8)) : high > 4 ? Math.ceil(high / 6) : high > 1.4 ? 0.5 : 0.2;
  const ticks: number[] = [];
  for (let d = Math.ceil(low / step) * step; d <= high + 1e-9; d += step) if ((d - low) / (high - low) > 0.015) ticks.push(Math.round(d * 10) / 10);
  const span = high - low;
  return { low, high, origin: span > 1 ? (Math.ceil(low) - low) / (span - 1) : 0, ticks, at: (x) => Math.min(1, Math.max(0, (x - low) / span)) };
}

/** What is left, and at its end a piece for every op of the line. What lets nothing through has no bar, and says so. */
function wayBar(way: Way, node: Node, axis: Axis) {
  const spans = node.rows.map((i) => way.spans[i]!);
  const [before] = spans[0]!;
  const shares = node.rows.map((i) => way.budget.by_op[i]!);
  if (shares.some((s, k) => broken(s, spans[k]![1]))) return <i class="lost nf">✕ not finite</i>;
  if (before === null && spans.every(([, after]) => after === null)) return <i class="lost zero">○ nothing arrives</i>;
  const drawn = pieces(spans, shares);
  const least = Math.min(...drawn.flatMap((p) => [p.from, p.to]).filter((x): x is number => x !== null));
  const dead = spans.some(([, after]) => after === null);
  return (
    <>
      {!dead && <i class="left-bar" style={{ width: `${100 * axis.at(least)}%` }} />}
      {drawn.map((p) => piece(p.from, p.to, p.merge, p.each, axis))}
      {dead && <i class="lost zero" style={{ left: `${100 * (before === null ? 0 : axis.at(before))}%` }}>○ to zero</i>}
    </>
  );
}

interface Piece {
  from: number | null;
  to: number | null;
  merge: boolean;
  each: number | null; // decades of one op of it
}

/** A piece for every op; of very many, neighbours share one. */
function pieces(spans: [number | null, number | null][], shares: Share[]): Piece[] {
  const by = Math.ceil(spans.length / PIECES);
  const out: Piece[] = [];
  for (let k = 0; k < spans.length; k += by) {
    const last = Math.min(spans.length, k + by) - 1;
    const [from, to] = [spans[k]![0], spans[last]![1]];
    const each = by === 1 ? shares[k]!.decades : from !== null && to !== null ? (to - from) / (last - k + 1) : null;
    out.push({ from, to, merge: by === 1 && shares[k]!.kind === "branch", each });
  }
  return out;
}

function piece(a: number | null, b: number | null, merge: boolean, done: number | null, axis: Axis) {
  if (a === null || b === null || a === b) return null;
  const [low, high] = [axis.at(Math.min(a, b)), axis.at(Math.max(a, b))];
  return <i class={merge ? "piece merge" : b > a ? "piece grew" : "piece"} style={{ left: `${100 * low}%`, width: `${100 * (high - low)}%`, background: merge ? undefined : gainInk(done) }} />;
}

/** Only what was taken or added, from a common line, so that it can be compared. */
function tookBar(way: Way, node: Node, axis: Axis) {
  if (node.decades === null) {
    const bad = node.rows.some((i) => broken(way.budget.by_op[i]!, way.spans[i]![1]));
    const zero = node.rows.some((i) => way.budget.by_op[i]!.gain === 0 || way.budget.by_op[i]!.norm === 0);
    return bad ? <i class="lost nf">✕ not finite</i> : zero ? <i class="lost zero">○ to zero</i> : null; // (the first layer passes nothing on)
  }
  const only = node.rows.length === 1;
  const branch = only && way.budget.by_op[node.rows[0]!]!.kind === "branch";
  return <i class={`piece ${branch ? "merge" : ""} ${node.decades > 0 ? "grew" : ""}`} style={{ left: 0, width: `${100 * axis.at(Math.abs(node.decades))}%`, background: branch ? undefined : gainInk(only ? node.decades : node.decades / node.rows.length) }} />;
}
