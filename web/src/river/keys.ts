// The keys: everything that the mouse does, and what has no button.
import type { River } from "./river";
import type { Point } from "./samples";

export function onKey(river: River, e: KeyboardEvent): void {
  const target = e.target as HTMLElement;
  if (e.ctrlKey || e.metaKey || e.altKey || location.hash.startsWith("#depth")) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName) && !(target.tagName === "INPUT" && e.key.length === 1)) return;
  const onButton = target.tagName === "BUTTON" || target.tagName === "A";
  if (onButton && (e.key === "Enter" || e.key === " ")) return;
  const s = river.state;
  const step = (e.shiftKey ? 0.002 : 0.02) * (s.frame.box[3] - s.frame.box[2]);
  const arrows: Record<string, Point> = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
  const active = s.drops.find((d) => d.id === s.active);
  const done = (): void => e.preventDefault();
  if (arrows[e.key]) {
    done();
    const [dx, dy] = arrows[e.key]!;
    const from = s.cursor ?? active?.at ?? [(s.frame.box[0] + s.frame.box[1]) / 2, (s.frame.box[2] + s.frame.box[3]) / 2];
    const to: Point = [from[0] + dx, from[1] + dy];
    if (s.cursor && s.said === "held" && active) river.dragTo(active.id, to);
    river.setState({ cursor: to });
  } else if (e.key === "Enter") {
    done();
    if (s.cursor) river.dropAt(s.cursor);
    else if (active) river.setState({ cursor: active.at });
    river.setState({ cursor: null });
  } else if (e.key === "m" && active) {
    const held = s.said === "held";
    river.setState({ said: held ? "" : "held", cursor: held ? null : active.at });
  } else if (e.key === "Escape") river.setState({ cursor: null, said: "", extra: "" });
  else if (e.key === "l" && s.cursor && active && !s.plane) {
    const [from, to] = [active.at, s.cursor];
    void river.paintLine([...Array(24)].map((_, k) => [from[0] + (k / 23) * (to[0] - from[0]), from[1] + (k / 23) * (to[1] - from[1])]));
  } else if (e.key === "[" || e.key === "]") river.clock.by(e.key === "[" ? -1 : 1);
  else if (e.key === " ") { done(); river.set({ paused: !s.paused }); }
  else if (e.key === "p") river.clock.play();
  else if (e.key === "+" || e.key === "=") river.zoom(0.8, s.cursor ?? undefined);
  else if (e.key === "-") river.zoom(1.25, s.cursor ?? undefined);
  else if (e.key === "0" && s.opened) river.moveTo(river.fitted(s.plane?.box ?? s.opened.box));
  else if (e.key === "b" && !s.plane && s.opened) river.setBasins(!s.basins);
  else if (e.key === "r" && s.plane) river.ride(!s.riding);
  else if (e.key === "w" && s.plane) river.through(!s.ways);
  else if (e.key === "?") river.extra(s.extra === "keys" ? "" : "keys");
  else if (e.key === "s") river.extra(s.extra === "share" ? "" : "share");
  else if (e.key === "g" || e.key === "o" || e.key === "a") {
    const kind = ({ g: "gd", o: "momentum", a: "adam" } as const)[e.key];
    river.setOn(kind, !s.on[kind]);
  } else if (e.key === "<" || e.key === ",") river.setBack(!s.back);
  else if (e.key === "v") river.set({ trueTime: !s.trueTime });
  else if (e.key === "n" && s.drops.length) {
    const k = s.drops.findIndex((d) => d.id === s.active);
    river.setState({ active: s.drops[(k + 1) % s.drops.length]!.id });
  } else if ((e.key === "Delete" || e.key === "x") && active) river.removeDrop(active.id);
  else if (/^[1-4]$/.test(e.key) && s.opened?.tales[+e.key - 1]) river.tell(s.opened.tales[+e.key - 1]!.key);
}
