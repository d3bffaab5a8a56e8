// The water without WebGL: the same sparse streaks as the shader draws, on a plain canvas, once.
import { BEND, TINT } from "../wire/colours";
import type { Box, Samples } from "./samples";
import { leakAt } from "./off";

export function draw(canvas: HTMLCanvasElement, s: Samples, box: Box, width: number, height: number, dark: boolean): void {
  canvas.width = width;
  canvas.height = height;
  const flat = canvas.getContext("2d");
  if (!flat) return;
  flat.fillStyle = dark ? "rgb(11,16,32)" : "rgb(246,245,241)";
  flat.fillRect(0, 0, width, height);
  const tint = Uint8Array.from(atob(TINT), (c) => c.charCodeAt(0));
  const shade = dark ? 1 : 0.66;
  let seed = 7;
  const chance = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  for (let y = -8; y < height + 8; y += 6) {
    for (let x = -8; x < width + 8; x += 6) {
      let [px, py] = [x + 6 * chance(), y + 6 * chance()];
      const light = 0.1 + 0.8 * chance() ** 4;
      const v = at(s, box, px / width, 1 - py / height);
      const speed = Math.hypot(v[0], v[1]);
      if (!(speed > 0)) continue;
      const level = Math.min(1, Math.max(0, (Math.log10(speed) - s.low) / (s.high - s.low)));
      const reach = 80 * Math.max(0.12, Math.min(1, (speed / s.fast) ** BEND));
      const k = 3 * Math.round(255 * level);
      const [dull, grey] = [dark ? 95 : 157, leakAt(s, [box[0] + (px / width) * (box[1] - box[0]), box[3] - (py / height) * (box[3] - box[2])]) ?? 0];
      const ink = [0, 1, 2].map((c) => Math.round(shade * tint[k + c]! * (1 - grey) + dull * grey));
      flat.strokeStyle = `rgba(${ink.join()},${light})`;
      flat.beginPath();
      flat.moveTo(px, py);
      for (let gone = 0; gone < reach; gone += 3) {
        const w = at(s, box, px / width, 1 - py / height);
        const [dx, dy] = [(w[0] / (box[1] - box[0])) * width, (-w[1] / (box[3] - box[2])) * height];
        const size = Math.hypot(dx, dy);
        if (!(size > 0)) break;
        flat.lineTo((px += (3 * dx) / size), (py += (3 * dy) / size));
      }
      flat.stroke();
    }
  }
}

/** The nearest sample: good enough for streaks. */
function at(s: Samples, box: Box, x: number, y: number): [number, number] {
  const [a0, a1, b0, b1] = s.box;
  const j = Math.round((((box[0] + x * (box[1] - box[0]) - a0) / (a1 - a0)) * (s.n - 1)));
  const i = Math.round((((box[2] + y * (box[3] - box[2]) - b0) / (b1 - b0)) * (s.n - 1)));
  const k = Math.min(s.n - 1, Math.max(0, i)) * s.n + Math.min(s.n - 1, Math.max(0, j));
  return [s.u[k]!, s.v[k]!];
}
