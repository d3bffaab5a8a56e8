// The canvas under everything: the liquid where there is WebGL2, else, and where nothing should move, a picture that stands still.
import { Component, createRef } from "preact";
import type { Theme } from "../shell/theme";
import { Liquid } from "./liquid";
import type { Box, Samples } from "./samples";

const SPARED = 160; // ms between two pictures of the water while a drop is dragged, where one takes long

interface Props {
  samples: Samples | null;
  box: Box;
  width: number;
  height: number;
  theme: Theme;
  paused: boolean;
  trueTime: boolean;
  busy: () => boolean; // a drop is being dragged, and its answers come first
  ready: (view: WaterView) => void;
}
export interface WaterView {
  liquid: Liquid | null;
  kind: "" | "still" | "flat"; // moving; streaks that stand still; drawn without WebGL
}

export class Water extends Component<Props> {
  private canvas = createRef<HTMLCanvasElement>();
  private liquid: Liquid | null = null;
  private before = 0;
  private running = 0;
  private taken: Samples | null = null;
  private flat = 0;

  override componentDidMount(): void {
    try {
      this.liquid = new Liquid(this.canvas.current!);
    } catch {
      this.liquid = null; // software without WebGL2, or a browser that shuts it off
    }
    this.props.ready({ liquid: this.liquid, kind: this.liquid ? "" : "flat" });
    this.canvas.current!.addEventListener("webglcontextlost", () => { this.liquid = null; cancelAnimationFrame(this.running); });
    this.follow();
  }

  override shouldComponentUpdate(next: Props): boolean {
    const was = this.props;
    return (["samples", "box", "width", "height", "theme", "paused", "trueTime"] as const).some((k) => next[k] !== was[k]);
  }

  override componentDidUpdate(): void {
    this.follow();
  }

  override componentWillUnmount(): void {
    cancelAnimationFrame(this.running);
    clearTimeout(this.flat);
    this.liquid?.end();
  }

  private follow(): void {
    const { samples, box, theme, trueTime, paused } = this.props;
    if (!samples) return;
    const water = this.liquid;
    if (!water) return this.flatly();
    const themed = water.dark !== (theme === "dark");
    water.dark = theme === "dark";
    water.trueTime = trueTime;
    water.resize();
    water.look(box);
    if (themed) water.clear();
    if (samples !== this.taken) water.take((this.taken = samples));
    if (!paused) this.running ||= requestAnimationFrame(this.tick); // not anew at each change: it would never come round
    else if (matchMedia("(prefers-reduced-motion: reduce)").matches) water.still();
    else water.frame(0);
  }

  private tick = (now: number): void => {
    this.running = 0;
    if (!this.liquid || this.props.paused) return;
    if (this.liquid.heavy && this.props.busy() && now - this.before < SPARED) {
      this.running = requestAnimationFrame(this.tick);
      return;
    }
    const seconds = this.before ? (now - this.before) / 1000 : 1 / 60;
    this.before = now;
    this.liquid.frame(seconds);
    if (!performance.getEntriesByName("river:first-frame").length) performance.mark("river:first-frame");
    this.running = requestAnimationFrame(this.tick);
  };

  /** Without WebGL: the same samples, drawn once when the view has come to rest. */
  private flatly(): void {
    clearTimeout(this.flat);
    const { samples, box, width, height, theme } = this.props;
    this.flat = window.setTimeout(() => {
      import("./flat").then((m) => this.canvas.current && m.draw(this.canvas.current, samples!, box, width, height, theme === "dark"));
    }, 60);
  }

  render() {
    return <canvas class={this.props.samples ? "water" : "water none"} ref={this.canvas} aria-hidden="true" />;
  }
}
