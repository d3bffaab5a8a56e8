// The map of gradients: a line for each parameter, a column for each step; a cell leads to that parameter and step.
import { Component, type ComponentChildren, createRef } from "preact";
import type { HeatMap } from "../wire/types";
import { batlow } from "./inks";
import { BROKEN, DEAD, levelOf, LOWEST } from "./levels";
import { power } from "./spell";

interface Props {
  map: HeatMap;
  width: number; // of the plot, in pixels
  axis?: string; // what its columns are: steps, unless it is said otherwise
  of?: string; // what a level is relative to
  theme: string;
  cell: { param: number; step: number } | null;
  pick(param: number, step: number): void;
  children?: ComponentChildren; // stands below the map
}

const PAPER = 690; // pixels between the margins of a page of paper
/** What is drawn in pixels for a screen is made as much smaller on paper. */
export const fit = (width: number): number => Math.min(1, PAPER / Math.max(1, width));

export const heightOf = (rows: number): number => Math.round(Math.min(16, Math.max(2, 300 / Math.max(1, rows))) * rows);

/** Decades below the largest of the step, in words. */
export function told(map: HeatMap, codes: Uint8Array, row: number, column: number, of = "of its step"): string {
  const level = levelOf(map, codes, row, column);
  return typeof level === "string" ? level : `10^${level.toFixed(1).replace("-", "−")} of the largest ${of}`;
}

export class Heat extends Component<Props, { says: string; row: number; column: number }> {
  private canvas = createRef<HTMLCanvasElement>();
  private codes = new Uint8Array(0);
  private of = "";
  override state = { says: "", row: 0, column: 0 };

  override componentDidMount() { this.draw(); }
  override componentDidUpdate(before: Props) {
    const p = this.props;
    if ((["map", "width", "theme"] as const).some((k) => p[k] !== before[k]) || p.cell?.param !== before.cell?.param || p.cell?.step !== before.cell?.step) this.draw();
  }

  private decoded(): Uint8Array {
    const { map } = this.props;
    if (this.of !== map.codes) {
      this.codes = Uint8Array.from(atob(map.codes), (c) => c.charCodeAt(0));
      this.of = map.codes;
    }
    return this.codes;
  }

  private draw(): void {
    const canvas = this.canvas.current;
    const { map, width } = this.props;
    const columns = map.steps.length;
    const rows = map.names.length;
    if (!canvas || !columns || !rows || width < 2) return;
    const codes = this.decoded();
    const height = heightOf(rows);
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const small = new OffscreenCanvas(columns, rows);
    const image = new ImageData(columns, rows);
    for (let k = 0; k < columns * rows; k++) {
      const code = codes[k]!;
      if (code < LOWEST) continue;
      const at = 3 * Math.round((255 * (code - LOWEST)) / (255 - LOWEST));
      image.data.set([batlow[at]!, batlow[at + 1]!, batlow[at + 2]!, 255], 4 * k);
    }
    small.getContext("2d")!.putImageData(image, 0, 0);
    const pen = canvas.getContext("2d")!;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, canvas.width, canvas.height);
    const [w, h] = [canvas.width / columns, canvas.height / rows];
    const inks = { [BROKEN]: hatch(pen, ink("--broken"), scale, true), [DEAD]: hatch(pen, ink("--dead"), scale, false) };
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; ) {
        const code = codes[r * columns + c]!;
        let d = c + 1;
        while (d < columns && codes[r * columns + d] === code) d++;
        if (code === BROKEN || code === DEAD) {
          pen.fillStyle = inks[code]!;
          pen.fillRect(c * w, r * h, (d - c) * w, h);
        }
        c = d;
      }
    }
    const row = map.params.indexOf(this.props.cell?.param ?? -1);
    if (this.props.cell && row >= 0) {
      const column = columnOf(map, this.props.cell.step);
      pen.strokeStyle = ink("--text");
      pen.lineWidth = 2 * scale;
      pen.strokeRect(column * w - scale, row * h - scale, Math.max(w, 4) + 2 * scale, h + 2 * scale);
    }
  }

  private at(e: MouseEvent): { row: number; column: number } {
    const box = (e.currentTarget as HTMLElement).getBoundingClientRect();
    const { map } = this.props;
    return {
      row: clamp(Math.floor(((e.clientY - box.top) / box.height) * map.names.length), map.names.length),
      column: clamp(Math.floor(((e.clientX - box.left) / box.width) * map.steps.length), map.steps.length),
    };
  }

  private say(row: number, column: number): string {
    const { map, axis, of } = this.props;
    return `${map.names[row]}, ${axis ?? "step"} ${map.steps[column]}: ${told(map, this.decoded(), row, column, of)}`;
  }

  private take(row: number, column: number): void {
    const { map, pick } = this.props;
    pick(map.params[row]!, map.steps[column]!);
  }

  private key(e: KeyboardEvent): void {
    const { map } = this.props;
    let { row, column } = this.state;
    const far = e.shiftKey ? 10 : 1;
    if (e.key === "ArrowUp") row -= far;
    else if (e.key === "ArrowDown") row += far;
    else if (e.key === "ArrowLeft") column -= far;
    else if (e.key === "ArrowRight") column += far;
    else if (e.key === "Home") column = 0;
    else if (e.key === "End") column = map.steps.length - 1;
    else if (e.key === "Enter" || e.key === " ") this.take(row, column);
    else return;
    e.preventDefault();
    e.stopPropagation();
    row = clamp(row, map.names.length);
    column = clamp(column, map.steps.length);
    this.setState({ row, column, says: this.say(row, column) });
  }

  render() {
    const { map, width, axis = "step", of = "of its step" } = this.props;
    const rows = map.names.length;
    const height = heightOf(rows);
    const { row, column, says } = this.state;
    return (
      <>
        <div
          class="heat" tabIndex={0} role="application" aria-describedby={`d-heat-${axis}`} style={{ height: `${height}px`, width: `${width}px` }}
          aria-label={axis === "step" ? `Gradient norm of ${rows} parameters over the steps; arrow keys move, Enter goes to that parameter and step` : `Gradient norm of ${rows} recurrences over time; arrow keys move`}
          onKeyDown={(e) => this.key(e)} onClick={(e) => { const c = this.at(e); this.setState(c); this.take(c.row, c.column); }}
          onMouseMove={(e) => { const c = this.at(e); this.setState({ ...c, says: this.say(c.row, c.column) }); }}
        >
          <canvas ref={this.canvas} style={{ width: `${width}px`, height: `${height}px` }} aria-hidden="true" />
          {says && <i class="cross" style={{ left: `${(100 * (column + 0.5)) / map.steps.length}%`, top: `${(100 * (row + 0.5)) / rows}%` }} />}
        </div>
        {this.props.children}
        <p class="fine heat-says" id={`d-heat-${axis}`} role="status">{says || `Each cell: the norm relative to the largest ${of}, ${power(Math.round(map.low))} to 1${axis === "step" ? "; the loss side on top" : ""}.`}</p>
      </>
    );
  }
}

const clamp = (x: number, n: number): number => Math.min(n - 1, Math.max(0, x));

export const columnOf = (map: HeatMap, step: number): number => {
  let best = 0;
  map.steps.forEach((s, c) => { if (Math.abs(s - step) < Math.abs(map.steps[best]! - step)) best = c; });
  return best;
};

const ink = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "#e5484d";

/** A hatched ink: not finite crosses, zero runs one way, so that neither is told by colour alone. */
function hatch(pen: CanvasRenderingContext2D, colour: string, scale: number, crossed: boolean): CanvasPattern | string {
  const side = Math.round(6 * scale);
  const tile = new OffscreenCanvas(side, side);
  const t = tile.getContext("2d")!;
  t.strokeStyle = colour;
  t.lineWidth = (crossed ? 1.6 : 1.1) * scale;
  t.beginPath();
  t.moveTo(0, side);
  t.lineTo(side, 0);
  if (crossed) { t.moveTo(0, 0); t.lineTo(side, side); }
  t.stroke();
  return pen.createPattern(tile as unknown as CanvasImageSource, "repeat") ?? colour;
}
