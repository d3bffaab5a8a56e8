// A film of the moving water with the drops' journey, as the browser's own encoder makes it: MP4 (H.264), where it can.
import { toScreen } from "./overlay";
import type { River } from "./river";
import { KINDS, placeAt } from "./state";

const SECONDS = 6; // of the journey, from 0 to the end, bent as the clock is when it plays
const REST = 1; // seconds that the end is shown
const RATE = 30; // pictures a second, at most
const BITS = 8e6; // a second
const KINDS_OF_FILE = ["video/mp4;codecs=avc1.42E01F", "video/mp4;codecs=avc1", "video/mp4"];

/** Why there is no film; "" where there can be one. */
export function missing(): string {
  if (typeof MediaRecorder === "undefined" || !KINDS_OF_FILE.some((k) => MediaRecorder.isTypeSupported(k))) return "This browser makes no MP4: Chrome, Edge and Safari do.";
  return "";
}

/** Record the clock's way from 0 to the end; `progress` hears how far it is, 0 to 1, and ends it by returning false. */
export async function film(river: River, still: () => Promise<HTMLImageElement>, progress: (share: number) => boolean): Promise<Blob | null> {
  const stage = river.stage.current!;
  const water = stage.querySelector<HTMLCanvasElement>("canvas.water")!;
  const [width, height] = [stage.clientWidth & ~1, stage.clientHeight & ~1]; // the encoder wants even sides
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const flat = canvas.getContext("2d", { alpha: false })!;
  const above = await still();
  const style = getComputedStyle(stage);
  const inks = Object.fromEntries(["flow", ...KINDS, "casing"].map((k) => [k, style.getPropertyValue(`--${k}`).trim()]));
  const paint = (t: number): void => {
    flat.drawImage(water, 0, 0, width, height);
    flat.drawImage(above, 0, 0, stage.clientWidth, stage.clientHeight);
    const { drops, on, frame } = river.state;
    for (const d of drops) {
      for (const [kind, solved] of [...KINDS.filter((k) => on[k]).map((k) => [k, d.rivals[k]] as const), ["flow", d.flow] as const]) {
        const at = solved && placeAt(solved.track, t);
        if (!at) continue;
        const [x, y] = toScreen(frame, at);
        flat.beginPath();
        flat.arc(x, y, 7, 0, 7);
        Object.assign(flat, { fillStyle: inks[kind]!, strokeStyle: inks.casing!, lineWidth: 2 });
        flat.fill();
        flat.stroke();
      }
    }
  };
  paint(0);
  const stream = canvas.captureStream(RATE);
  const recorder = new MediaRecorder(stream, { mimeType: KINDS_OF_FILE.find((k) => MediaRecorder.isTypeSupported(k))!, videoBitsPerSecond: BITS });
  const parts: Blob[] = [];
  recorder.ondataavailable = (e) => parts.push(e.data);
  const ended = new Promise<void>((done) => (recorder.onstop = () => done()));
  recorder.start(500);
  const began = performance.now(), { t } = river.state, slow = t / 200, whole = Math.asinh(t / slow);
  let wanted = true;
  await new Promise<void>((done) => {
    const tick = (): void => {
      const seconds = (performance.now() - began) / 1000;
      const share = Math.min(1, seconds / SECONDS);
      wanted = progress(Math.min(1, seconds / (SECONDS + REST)));
      if (!wanted || seconds > SECONDS + REST) return done();
      if (river.state.paused) river.liquid?.frame(1 / RATE); // the water moves in the film, whether or not it does on the page
      paint(share >= 1 ? t : slow * Math.sinh(share * whole));
      requestAnimationFrame(tick);
    };
    tick();
  });
  recorder.stop();
  await ended;
  for (const track of stream.getTracks()) track.stop();
  return wanted ? new Blob(parts, { type: "video/mp4" }) : null;
}
