// The clock of all paths: flow time, for an optimizer Σ η. It is put somewhere, or runs from 0 to the end once.
import type { River } from "./river";

const PLAY = 4.5; // seconds in which it runs

export class Clock {
  private frame = 0;

  constructor(private readonly river: River) {}

  stop(): void {
    cancelAnimationFrame(this.frame);
  }

  /** Put it to a flow time. */
  scrub = (t: number): void => {
    this.stop();
    this.river.set({ clock: Math.min(Math.max(t, 0), this.river.state.t) });
  };

  /** A little back or on: even in asinh(t), for more happens early. */
  by(sign: number): void {
    const { t, clock } = this.river.state;
    const slow = t / 200;
    const at = Math.asinh(clock / slow) + (sign * Math.asinh(t / slow)) / 40;
    this.scrub(slow * Math.sinh(Math.max(0, at)));
  }

  play(): void {
    this.stop();
    const { t, paused } = this.river.state;
    if (paused || matchMedia("(prefers-reduced-motion: reduce)").matches) return this.river.setState({ clock: t });
    const began = performance.now();
    const slow = t / 200;
    const whole = Math.asinh(t / slow);
    const tick = (now: number) => {
      const share = Math.min(1, Math.max(0, (now - began) / 1000 / PLAY));
      this.river.setState({ clock: share >= 1 ? t : slow * Math.sinh(share * whole) });
      if (share < 1) this.frame = requestAnimationFrame(tick);
    };
    this.frame = requestAnimationFrame(tick);
  }
}
