// The panels beside the water: what is open, the stories, the sentence, the optimizers, the table of the drop, the legend.
import { Component, type ComponentType } from "preact";
import { TINT } from "../wire/colours";
import type { River } from "./river";
import { SIGNS } from "./overlay";
import { type Drop, type Kind, KINDS, LOOKS, type Picture, type Shores, type Solving, told } from "./state";
import { active, type Said, sharpnessOf } from "./words";

interface Props {
  picture: Picture & { Slice: ComponentType<{ p: Picture; river: River }> | null; Shore: typeof import("./shores") | null };
  said: Said;
  river: River;
  still: string;
}
/** What the panels tell; the rest of the picture (clock, cursor, view) moves without them. */
const TOLD = ["opened", "plane", "riding", "ways", "samples", "order", "levels", "drops", "active", "lines", "basins", "shores", "on", "lr", "t", "back", "trueTime", "paused", "tale", "problem"] as const;

export class Dock extends Component<Props> {
  override shouldComponentUpdate(next: Props): boolean {
    return next.still !== this.props.still || TOLD.some((k) => next.picture[k] !== this.told[k]);
  }

  private told: Partial<Picture> = {};

  render() {
    const { picture } = this.props;
    this.told = Object.fromEntries(TOLD.map((k) => [k, picture[k]]));
    return panels(this.props);
  }
}

function panels({ picture: p, said, river, still }: Props) {
  const d = active(p);
  return (
    <aside class="dock" aria-label="panels" tabIndex={-1}>
      <section class="what">
        <h1 class="hidden">River</h1>
        <div class="row">
          <select aria-label="field" value={p.opened?.target ?? ""} onChange={(e) => river.choose(e.currentTarget.value)}>
            {p.opened && !p.opened.fields.some((f) => f.name === p.opened!.target) && <option value={p.opened.target}>{p.opened.name}</option>}
            {p.opened?.fields.map((f) => <option value={f.name}>{f.name}</option>) ?? <option value="">{p.problem ? "no field" : "…"}</option>}
          </select>
          <button onClick={() => river.extra("share")} title="link, Python, pictures (s)">share</button>
          <button onClick={() => river.extra("keys")} title="keys (?)" aria-label="keys">?</button>
        </div>
        <p class="about">{p.opened?.about ?? ""}</p>
      </section>
      {p.plane && p.Slice && <p.Slice p={p} river={river} />}
      <section class="tales" aria-label="stories">
        {!p.plane && p.opened?.tales.map((x, k) => (
          <button aria-pressed={p.tale === x.key} onClick={() => river.tell(x.key)}><kbd>{k + 1}</kbd>{x.title}</button>
        ))}
      </section>
      <p class={"says" + (p.problem || d?.problem ? " wrong" : "")} role="status" aria-live="polite">{said.text}{said.why.map(([kind, text]) => <span class={`why ${kind}`}><span class="key" aria-hidden="true">{LOOKS[kind].mark}</span><span class="hidden">{LOOKS[kind].name}</span> {text}</span>)}</p>
      {p.problem && !p.opened && <button onClick={() => river.choose("w1w2")}>open the smallest deep net instead</button>}
      <section class="rivals" aria-label="paths from the drop">
        <div class="rival flow"><span class="key">{LOOKS.flow.mark}</span><b>flow</b><span class="soft">dθ/dt = −∇L(θ), solved</span></div>
        {KINDS.map((kind) => <Rival kind={kind} p={p} d={d} river={river} />)}
        <Edge p={p} d={d} />
      </section>
      {d && <Table p={p} d={d} />}
      <section class="more" aria-label="view">
        <label><input type="checkbox" checked={p.back} onChange={(e) => river.setBack(e.currentTarget.checked)} /> <kbd>{"<"}</kbd> where it came from</label>
        {!p.plane && <label><input type="checkbox" checked={p.basins} onChange={(e) => river.setBasins(e.currentTarget.checked)} /> <kbd>b</kbd> basins</label>}
        <label><input type="checkbox" checked={p.trueTime} onChange={(e) => river.set({ trueTime: e.currentTarget.checked })} /> <kbd>v</kbd> true time</label>
        <label><input type="checkbox" checked={p.paused} onChange={(e) => river.set({ paused: e.currentTarget.checked })} /> <kbd>␣</kbd> still water</label>
        {p.lines.length > 0 && <button onClick={() => river.set({ lines: [] })}>remove the lines of drops</button>}
      </section>
      <Legend p={p} still={still} Told={p.Shore?.Told ?? null} />
    </aside>
  );
}

const SHORT: Record<string, string> = { flow: "flow", gd: "GD", momentum: "momentum", adam: "Adam" };
const LOW = -4; // decades of the learning rate's slider
const HIGH = 1;

function Rival({ kind, p, d, river }: { kind: Kind; p: Picture; d: Drop | undefined; river: River }) {
  const lr = p.lr[kind];
  const track = p.on[kind] ? d?.rivals[kind]?.track : undefined;
  const state = track?.ending.reason === "diverged" ? "✕ diverged" : track ? `${Math.max(track.moments - 1, 0)} steps` : "";
  return (
    <div class={`rival ${kind}${p.on[kind] ? "" : " off"}`}>
      <label class="key"><input type="checkbox" checked={p.on[kind]} onChange={(e) => river.setOn(kind, e.currentTarget.checked)} aria-label={LOOKS[kind].name} /><span>{LOOKS[kind].mark}</span></label>
      <b title={state}>{LOOKS[kind].name}</b>
      <label class="eta">η <input type="range" min={LOW} max={HIGH} step="0.01" value={Math.log10(lr)} aria-valuetext={told(lr)} aria-label={`learning rate of ${LOOKS[kind].name}`}
        onInput={(e) => river.setRate(kind, Number((10 ** Number(e.currentTarget.value)).toPrecision(3)))} />
        <output>{told(lr)}</output></label>
    </div>
  );
}

/** λ against the line past which descent is unstable. */
function Edge({ p, d }: { p: Picture; d: Drop | undefined }) {
  const sharp = sharpnessOf(d);
  const track = KINDS.filter((k) => p.on[k]).map((k) => d?.rivals[k]?.track).find((x) => x?.threshold);
  if (!sharp || !track?.threshold) return null;
  const edge = track.threshold;
  const most = 1.15 * Math.max(sharp.top, Math.min(edge, 3 * sharp.top));
  const at = (x: number) => `${Math.min(100, Math.max(0, (100 * x) / most)).toFixed(1)}%`;
  const over = sharp.end > edge;
  return (
    <div class={"edge" + (over ? " past" : "")}>
      <div class="soft">sharpness λ where the flow ends, against {track.threshold_name}</div>
      <svg viewBox="0 0 300 26" preserveAspectRatio="none" aria-hidden="true">
        <rect x="0" y="9" width="300" height="8" class="rail" />
        <rect x="0" y="9" width={at(sharp.end)} height="8" class="lambda" />
        <rect x={at(edge)} y="1" width="2.5" height="24" class="line" />
      </svg>
      <div>{over ? "▲" : "▽"} λ {told(sharp.end)} {over ? ">" : "<"} {track.threshold_name} {told(edge)}: <b>{over ? "no rest there" : "stable there"}</b></div>
    </div>
  );
}

function Table({ p, d }: { p: Picture; d: Drop }) {
  const rows: [string, Solving | undefined][] = [["flow", d.flow ?? undefined], ...KINDS.filter((k) => p.on[k]).map((k): [string, Solving | undefined] => [k, d.rivals[k]])];
  const law = Object.keys(d.flow?.track.conserved ?? {})[0];
  const start = law ? d.flow!.track.conserved[law]![0] : null;
  return (
    <section class="table" aria-label="the drop">
      <table>
        <caption>drop {p.drops.indexOf(d) + 1} from ({told(d.at[0])}, {told(d.at[1])}), flow time {told(p.t)}</caption>
        <thead><tr><th scope="col">path</th><th scope="col">ends at</th>{p.plane && <th scope="col" title="distance of its end from the plane">off</th>}<th scope="col">loss</th>{law && <th scope="col" title={law}>{law.replace(/^balance /, "")}</th>}</tr></thead>
        <tbody>
          {rows.map(([name, s]) => {
            const end = p.plane ? s?.track.points.at(-1) : s?.track.final;
            return (
              <tr class={name}>
                <th scope="row"><span class="key">{LOOKS[name as Kind].mark}</span>{SHORT[name]}</th>
                <td>{end?.length === 2 && s!.track.ending.reason !== "diverged" ? end.map((x) => told(x)).join(", ") : s ? "✕ diverged" : "…"}{s && !s.exact ? " …" : ""}</td>
                {p.plane && <td>{s ? told(s.off.at(-1), 2) : ""}</td>}
                <td>{s ? told(s.track.loss?.at(-1)) : ""}</td>
                {law && <td>{told(s?.track.conserved[law]?.[1])}</td>}
              </tr>
            );
          })}
        </tbody>
      </table>
      {law && <p class="soft">the flow keeps {law.replace(/^balance /, "")} = {told(start)}</p>}
      <Proof d={d} />
    </section>
  );
}

function Proof({ d }: { d: Drop }) {
  const flow = d.flow;
  if (!flow?.exact) return <p class="soft">… being solved</p>;
  const broken = flow.track.checks.filter((c) => c.ok === false);
  const held = flow.track.checks.filter((c) => c.ok).map((c) => c.name);
  return broken.length
    ? <p class="wrong">✗ broken: {broken.map((c) => `${c.name} (${c.text})`).join("; ")}</p>
    : <p class="soft" title={flow.track.checks.map((c) => `${c.name}: ${told(c.value)} of ${told(c.bound)} allowed`).join("\n")}>✓ certificates hold: {held.join(", ")}</p>;
}

function Legend({ p, still, Told }: { p: Picture; still: string; Told: ComponentType<{ shores: Shores }> | null }) {
  const kinds = [...new Set(p.order?.fixed.map((f) => f.kind) ?? [])];
  if (p.order?.valleys.length) kinds.push("valley");
  if (p.order?.ridges.length) kinds.push("ridge");
  const seen = kinds.filter((k, n) => kinds.indexOf(k) === n && SIGNS[k]);
  return (
    <section class="legend" aria-label="legend">
      <ul>
        {seen.map((k) => <li><span class={`key ${k}`}>{SIGNS[k]!.sign}</span>{SIGNS[k]!.text}</li>)}
        {(p.order?.separatrices.length ?? 0) > 0 && <li><span class="key">┈</span>separatrix: no path crosses it</li>}
        {p.plane && <li><span class="key">╌</span>path off the plane, with its distance</li>}
        {p.levels.length > 0 && <li><span class="key level">─</span>level of the loss, logarithmic</li>}
      </ul>
      {p.shores && Told && <Told shores={p.shores} />}
      {p.samples && <>
        <Speed />
        <div class="scale"><span>{told(10 ** p.samples.low, 2)}</span><span class="soft">speed ‖dθ/dt‖, logarithmic</span><span>{told(10 ** p.samples.high, 2)}</span></div>
        {p.plane && <><div class="leak" aria-hidden="true" /><div class="scale"><span>0</span><span class="soft">leak: share of {p.opened?.potential ? "∇L" : "dθ/dt"} out of the picture</span><span>1</span></div></>}
        <p class="soft">water: a sketch from {p.samples.n}×{p.samples.n} samples, direction true, speed {p.trueTime ? "true" : "bent"}{still === "flat" ? "; this browser has no WebGL2, so it stands still" : ""}. The paths are solved, not sketched.</p>
      </>}
    </section>
  );
}

function Speed() {
  return <canvas class="speed" width={256} height={1} aria-hidden="true" ref={(c) => {
    const flat = c?.getContext("2d");
    if (!flat) return;
    const from = atob(TINT);
    const picture = flat.createImageData(256, 1);
    for (let k = 0; k < 256; k++) picture.data.set([from.charCodeAt(3 * k), from.charCodeAt(3 * k + 1), from.charCodeAt(3 * k + 2), 255], 4 * k);
    flat.putImageData(picture, 0, 0);
  }} />;
}
