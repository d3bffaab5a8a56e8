// Where the water comes from: the samples of what is shown, asked for anew when the view has moved; the newest ask wins.
import { stream } from "../wire/ask";
import type { Answer, Order, Water } from "../wire/types";
import type { River } from "./river";
import { type Box, contours, samplesOf } from "./samples";
import { TAB } from "./state";

const SAMPLES = 256;
const SLICE = 65; // samples along a side of a plane, each of which is a gradient of the whole network
const RIDE = 17; // and while it rides
const SMOOTH = 17; // samples along a side from which on levels are drawn

export class Springs {
  private waiting = 0;
  private asking: AbortController | null = null;
  private afloat = false; // water for a riding plane is on its way
  private behind = false; // and the clock has moved on since

  private noted = "";

  constructor(private readonly river: River) {}

  later(): void {
    clearTimeout(this.waiting);
    this.waiting = window.setTimeout(() => this.sample(), 160);
  }

  /** The clock has moved, and the plane with it: at the pace at which the answers come. */
  ride(): void {
    if (this.afloat) this.behind = true;
    else void this.sample();
  }

  stop(): void {
    clearTimeout(this.waiting);
    this.asking?.abort();
  }

  async sample(): Promise<void> {
    const { river } = this;
    const { opened, view, plane, riding, drops, active, clock, t } = river.state;
    if (!opened || !view) return;
    if (river.state.basins && river.state.shores && river.state.shores.box.some((x, k) => x !== view[k])) river.setBasins(true);
    this.asking?.abort();
    const mine = (this.asking = new AbortController());
    const box = view.map((x, k) => x + (k % 2 ? 0.02 : -0.02) * (k < 2 ? view[1] - view[0] : view[3] - view[2])) as Box;
    const d = plane && riding ? drops.find((x) => x.id === active) : undefined;
    this.afloat = !!d;
    this.behind = false;
    const asked = { target: opened.target, box };
    const ask = plane
      ? { ...asked, n: d ? RIDE : SLICE, plane: plane.text, ride: d?.foot ?? "", at: clock, t, lane: `${TAB}:water` }
      : { ...asked, n: SAMPLES, structure: true };
    try {
      for await (const { head, floats } of stream<Water | Order | Answer>("/api/water", ask, mine.signal)) {
        if (mine.signal.aborted) return;
        if ("n" in head) {
          const samples = samplesOf({ head, floats });
          river.setState({ samples, levels: samples.n < SMOOTH && !d ? river.state.levels : contours(samples) });
          this.note(plane ? "" : samples.notes[0] ?? "");
          if (d && head.shadow) this.above(d.id, head.shadow);
          performance.mark("river:sampled");
          if (this.behind) break;
        } else if ("fixed" in head) river.setState({ order: head });
        else river.setState({ problem: head.text });
      }
    } catch (problem) {
      if (!mine.signal.aborted) river.failed(problem as Error);
    } finally {
      if (this.asking === mine) {
        this.afloat = false;
        if (this.behind) void this.sample();
      }
    }
  }

  /** What the samples tell is shown in the place of what earlier ones told, and of nothing else. */
  private note(text: string): void {
    if (text || this.river.state.problem === this.noted) this.river.setState({ problem: text });
    this.noted = text;
  }

  /** Where the flow that the plane rides with stands above it now. */
  private above(id: number, shadow: NonNullable<Water["shadow"]>): void {
    this.river.changeDrop(id, (x) => {
      if (!x.flow) return x;
      const track = { ...x.flow.track, points: shadow.points, clock: shadow.times };
      return { ...x, flow: { ...x.flow, off: shadow.off, track } };
    });
  }
}
