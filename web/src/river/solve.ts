// Asks for drops, the newest first: an ask that a newer one overtakes is dropped here, and ended there.
import { stream, Away, Locked } from "../wire/ask";
import type { Answer, DropAsk, LineAsk } from "../wire/types";
import type { Point } from "./samples";
import { TAB } from "./state";

export class Lane {
  private ending: AbortController | null = null;
  private waiting: (() => void) | null = null;
  private busy = false;

  constructor(
    private readonly name: string,
    private readonly take: (answer: Answer, ask: DropAsk) => void,
    private readonly fail: (problem: Error) => void,
  ) {}

  /** While dragging: one ask at a time is on its way; of those that come meanwhile the last one is sent next. */
  drag(ask: Omit<DropAsk, "lane">): void {
    this.waiting = () => this.drag(ask);
    if (this.busy) return;
    this.waiting = null;
    this.run(ask);
  }

  /** What a drop does, whole: ends whatever else was asked on this lane. */
  settle(ask: Omit<DropAsk, "lane">): void {
    this.waiting = null;
    this.run(ask);
  }

  stop(): void {
    this.waiting = null;
    this.ending?.abort();
  }

  private async run(ask: Omit<DropAsk, "lane">): Promise<void> {
    this.ending?.abort();
    const mine = (this.ending = new AbortController());
    this.busy = true;
    const whole: DropAsk = { ...ask, lane: `${TAB}:${this.name}` };
    try {
      for await (const { head } of stream<Answer>("/api/drop", whole, mine.signal)) {
        if (mine.signal.aborted) return;
        this.take(head, whole);
      }
    } catch (problem) {
      if (mine.signal.aborted) return;
      this.fail(problem as Error);
    } finally {
      if (this.ending === mine) {
        this.busy = false;
        const next = this.waiting;
        this.waiting = null;
        next?.();
      }
    }
  }
}

/** Drops along a line that was painted: as many as half of its points, 5 to 40. */
export function startsOf(trail: Point[]): Point[] {
  const last = trail.length - 1, count = Math.min(40, Math.max(5, Math.round(trail.length / 2)));
  return [...Array(count)].map((_, k) => trail[Math.round((k * last) / (count - 1))]!);
}

export async function solveLine(ask: Omit<LineAsk, "lane">): Promise<Answer | null> {
  for await (const { head } of stream<Answer>("/api/line", { ...ask, lane: `${TAB}:line` })) return head;
  return null;
}

export const isAway = (problem: unknown): boolean => problem instanceof Away || problem instanceof Locked;
