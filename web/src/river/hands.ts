// Mouse and touch on the water: a click drops, a drag moves a drop, paints a line of them, or moves the view.
import { toField, toScreen } from "./overlay";
import type { River } from "./river";
import type { Box, Point } from "./samples";
import type { Drop } from "./state";

export class Hands {
  pressed: { drop: Drop | null; at: Point; trail: Point[]; pan: boolean; box: Box } | null = null;

  constructor(private readonly river: River) {}

  private here(e: PointerEvent | WheelEvent): Point {
    const r = this.river.stage.current!.getBoundingClientRect();
    return [e.clientX - r.left, e.clientY - r.top];
  }

  down = (e: PointerEvent): void => {
    if (e.button > 1 || !this.river.state.opened) return;
    const at = this.here(e);
    const drop = this.river.state.drops.find((d) => {
      const s = toScreen(this.river.state.frame, d.at);
      return Math.hypot(s[0] - at[0], s[1] - at[1]) < (e.pointerType === "touch" ? 24 : 13);
    }) ?? null;
    this.pressed = { drop, at, trail: [at], pan: e.shiftKey || e.button === 1 || (!drop && !!this.river.state.plane), box: this.river.state.frame.box };
    this.river.stage.current!.setPointerCapture(e.pointerId);
    this.river.stage.current!.focus({ preventScroll: true });
    if (drop) this.river.setState({ active: drop.id });
    this.river.setState({ cursor: null });
    this.river.answers.began = 0;
    e.preventDefault();
  };

  move = (e: PointerEvent): void => {
    const p = this.pressed;
    const at = this.here(e);
    if (this.river.state.plane && (!p || p.drop)) this.river.setState({ pointer: toField(this.river.state.frame, at) });
    if (!p) return;
    if (p.drop) return this.river.dragTo(p.drop.id, toField(this.river.state.frame, at));
    if (p.pan) {
      if (p.trail.length < 2 && Math.hypot(at[0] - p.at[0], at[1] - p.at[1]) < 5) return;
      p.trail.push(at);
      const { frame } = this.river.state;
      const dx = ((p.at[0] - at[0]) / frame.width) * (p.box[1] - p.box[0]);
      const dy = ((at[1] - p.at[1]) / frame.height) * (p.box[3] - p.box[2]);
      return this.river.moveTo([p.box[0] + dx, p.box[1] + dx, p.box[2] + dy, p.box[3] + dy]);
    }
    if (Math.hypot(at[0] - p.trail.at(-1)![0], at[1] - p.trail.at(-1)![1]) > 5) p.trail.push(at);
    if (p.trail.length > 2) this.river.setState({ cursor: toField(this.river.state.frame, at) });
  };

  up = (): void => {
    const p = this.pressed;
    this.pressed = null;
    if (!p) return;
    const still = p.trail.length < 2; // on a plane a drag moves the view, for many drops at once are many networks
    if (p.pan && !(this.river.state.plane && still)) return;
    if (p.drop) return this.river.settleSoon(p.drop.id, 0);
    if (p.trail.length > 4) {
      this.river.setState({ cursor: null });
      void this.river.paintLine(p.trail.map((s) => toField(this.river.state.frame, s)));
    } else this.river.dropAt(toField(this.river.state.frame, p.at));
  };

  wheel = (e: WheelEvent): void => {
    e.preventDefault();
    this.river.zoom(Math.exp(Math.max(-0.5, Math.min(0.5, e.deltaY * 0.0016))), toField(this.river.state.frame, this.here(e)));
  };
}
