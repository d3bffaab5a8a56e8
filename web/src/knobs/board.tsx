// The knobs themselves: words to choose from, and numbers to slide.
import type { Knobs } from "../wire/types";
import { number } from "../depth/spell";
import { type Name, WORDS } from "./state";

interface Props {
  knobs: Knobs;
  ranges: Record<string, [number, number]>;
  critical: number | null;
  turn(turned: Partial<Knobs>): void;
}

const TIME = 40; // steps of a recurrence to begin with
const LOG: ReadonlySet<string> = new Set(["width", "gain", "lr"]);
const FINE = 200; // places of a slider that turns by factors

export function Board({ knobs, ranges, critical, turn }: Props) {
  const slide = (name: "depth" | "width" | "time" | "gain" | "lr", label: string, off = false, low?: number) => (
    <Slide name={name} label={label} value={knobs[name]} range={[low ?? ranges[name]![0], ranges[name]![1]]} off={off} turn={(value) => turn({ [name]: value })} />
  );
  return (
    <form class="card board" aria-label="knobs" onSubmit={(e) => e.preventDefault()}>
      <h2>the network</h2>
      <div class="choice" role="group" aria-label="kind of network">
        <button type="button" aria-pressed={!knobs.time} onClick={() => turn({ time: 0 })}>layers</button>
        <button type="button" aria-pressed={knobs.time > 0} onClick={() => turn({ time: knobs.time || TIME })}>recurrence</button>
      </div>
      {knobs.time ? slide("time", "time steps", false, 1) : slide("depth", "depth")}
      {slide("width", "width")}
      <Choose name="activation" label="activation" knobs={knobs} turn={turn} />
      <Choose name="init" label="initialisation" knobs={knobs} turn={turn} />
      {slide("gain", "gain of the weights")}
      {critical !== null && Math.abs(Math.log(critical / knobs.gain)) > 0.01 && (
        <p class="fine">theory keeps the gradient’s size at <button type="button" class="copy" onClick={() => turn({ gain: critical })}>gain {number(critical)}</button></p>
      )}
      <Choose name="norm" label="normalisation" knobs={knobs} turn={turn} />
      <label class="tick"><input type="checkbox" checked={knobs.skip} onChange={(e) => turn({ skip: e.currentTarget.checked })} /> skip path: x + W φ(x)</label>
      <h2>loss and steps</h2>
      <Choose name="loss" label="loss" knobs={knobs} turn={turn} />
      {slide("lr", "learning rate")}
      <label class="knob"><span>seed</span><input type="number" min={ranges["seed"]![0]} max={ranges["seed"]![1]} value={knobs.seed} onChange={(e) => turn({ seed: clamp(Math.round(Number(e.currentTarget.value)), ranges["seed"]!) })} /></label>
      <p class="fine">Weights are drawn from the seed, the data is fixed: 64 samples, ten classes.</p>
    </form>
  );
}

const clamp = (x: number, [low, high]: [number, number]): number => (Number.isFinite(x) ? Math.min(high, Math.max(low, x)) : low);

const SAID: Record<string, string> = { none: "none", leaky_relu: "leaky relu", classes: "cross entropy", distance: "√ of a distance", "safe distance": "√ with an epsilon" };

function Choose({ name, label, knobs, turn }: { name: Name; label: string; knobs: Knobs; turn(turned: Partial<Knobs>): void }) {
  const words = WORDS[name] as readonly string[];
  return (
    <label class="knob"><span>{label}</span>
      <select value={String(knobs[name])} onChange={(e) => turn({ [name]: e.currentTarget.value } as Partial<Knobs>)}>
        {words.map((w) => <option value={w}>{SAID[w] ?? w}</option>)}
      </select>
    </label>
  );
}

interface Sliding {
  name: string;
  label: string;
  value: number;
  range: [number, number];
  off: boolean;
  turn(value: number): void;
}

function Slide({ name, label, value, range: [low, high], off, turn }: Sliding) {
  const log = LOG.has(name);
  const whole = name !== "gain" && name !== "lr";
  const place = log ? (FINE * Math.log(value / low)) / Math.log(high / low) : value;
  const from = (at: number): number => {
    const x = log ? low * (high / low) ** (at / FINE) : at;
    return whole ? Math.round(x) : Number(x.toPrecision(2));
  };
  return (
    <label class="knob"><span>{label} <output>{number(value)}</output></span>
      <input
        type="range" name={name} disabled={off} min={log ? 0 : low} max={log ? FINE : high} step={1} value={place} aria-valuetext={number(value)}
        onInput={(e) => turn(from(Number(e.currentTarget.value)))}
      />
    </label>
  );
}
