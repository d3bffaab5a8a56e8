// What a single way back does not show: where the gradient takes several routes, and how it fares over the time of a recurrence.
import { Component, createRef } from "preact";
import type { Branch, Routes, TimeRow } from "../wire/types";
import { MARKS } from "../wire/words";
import { fit, Heat, heightOf } from "./heat";
import { gainInk, ramp, tone } from "./inks";
import { count, gain, number, percent, power } from "./spell";
import { More, Word } from "./word";

const SHOWN = 14;
const NAMES = 84; // pixels beside the map
const LISTED = 25; // time steps of the table

export function Branches({ routes }: { routes: Routes }) {
  const { branches } = routes;
  if (!branches.length) return null;
  const blocks = branches.filter((b) => b.residual).length;
  return (
    <section class="card" aria-labelledby="d-branches">
      <h2 id="d-branches">where routes part <small>at step {routes.step}; {blocks ? `${count(blocks, "residual block")}: trunk and branch` : count(branches.length, "split")}, the loss side on top</small></h2>
      {table(branches.slice(0, SHOWN))}
      {branches.length > SHOWN && <More text={`${branches.length - SHOWN} more`} make={() => table(branches.slice(SHOWN))} />}
      <p class="fine"><Word of="share" />: of the sum of squares, as norms of a sum do not add. <Word of="gain" />: of the branch, against the gradient where it joins the trunk. <Word of="cosine" />: between the two routes.</p>
    </section>
  );
}

function table(branches: Branch[]) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="routes of the gradient">
      <table class="facts branches">
        <thead><tr><th scope="col">line</th><th scope="col">route</th><th scope="col">share</th><th scope="col">gain</th><th scope="col">cosine</th></tr></thead>
        <tbody>
          {branches.map((b) => {
            const side = b.routes.filter((r) => !r.trunk);
            return (
              <tr title={`${b.name} ${b.module}: ${b.routes.map((r) => `${r.name} ${number(r.norm)}`).join(", ")}`}>
                <td class="place">{b.site}</td>
                <th scope="row">{b.residual ? side.map((r) => <Branching name={r.name} />) : b.routes.map((r) => r.name).join(" · ")}</th>
                <td class="shares"><span class="shares-bar" aria-hidden="true">{b.routes.map((r) => <i class={r.trunk ? "trunk" : ""} style={{ flexGrow: r.share ?? 0, background: r.trunk ? undefined : gainInk(r.gain === null ? -0.2 : Math.log10(r.gain)) }} />)}</span>
                  {b.residual ? percent(side[0]?.share) : b.routes.map((r) => percent(r.share)).join(" · ")}</td>
                <td class="num">{b.residual ? gain(side[0]?.gain) : "—"}</td>
                <td class="num">{b.cosine === null ? "—" : `${b.cosine < 0 ? "−" : "+"}${Math.abs(b.cosine).toFixed(2)}`}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

/** What a branch is made of, and the operation that it begins with. */
function Branching({ name }: { name: string }) {
  const [, made, begins] = /^branch: (\S+) \((.*)\)$/.exec(name) ?? [];
  return made ? <>{made} <small>{begins}</small></> : <>{name}</>;
}

export class Times extends Component<{ routes: Routes; theme: string }, { width: number }> {
  private box = createRef<HTMLDivElement>();
  private watch: ResizeObserver | null = null;
  override state = { width: 0 };

  override componentDidMount() {
    this.watch = new ResizeObserver(([entry]) => this.setState({ width: Math.floor(entry!.contentRect.width) }));
    if (this.box.current) this.watch.observe(this.box.current);
  }

  override componentWillUnmount() { this.watch?.disconnect(); }

  render() {
    const { routes, theme } = this.props;
    const { maps, times } = routes;
    if (!times.length) return null;
    return (
      <section class="card" aria-labelledby="d-times">
        <h2 id="d-times">over the time steps of the recurrence <small>at step {routes.step} of training</small></h2>
        <div class="fits" ref={this.box} style={{ "--fit": fit(this.state.width) }}>
          {this.state.width > 120 && maps.map((map) => {
            const [first, last] = [map.steps[0] ?? 1, map.steps[map.steps.length - 1] ?? 1];
            return (
              <div class="heat-row">
              <div class="names" style={{ width: `${NAMES}px`, height: `${heightOf(map.names.length)}px` }} aria-hidden="true">{map.params.map((k, i) => <span style={{ top: `${(100 * (i + 0.5)) / map.names.length}%` }} title={map.names[i]}>{times[k]?.short}</span>)}</div>
              <div><Heat map={map} width={this.state.width - NAMES} axis="t" of="of its row" theme={theme} cell={null} pick={() => undefined}>
                <div class="steps-axis" aria-hidden="true"><span style={{ left: "1.5em" }}>t = {first}</span>{first > 1 && <span style={{ left: "50%" }}>the first {first - 1} time steps were not run again</span>}<b>t = {last}</b></div>
              </Heat></div>
              </div>
            );
          })}
        </div>
        {maps[0] && <p class="inks"><span>{power(Math.round(maps[0].low))} <i class="ramp" style={{ background: ramp(0, 1) }} /> 1, the largest of its row</span><span>→ reads forwards, ← backwards</span></p>}
        <div class="scroll" tabIndex={0} role="region" aria-label="recurrences">
          <table class="facts">
            <thead><tr><th scope="col">recurrence</th><th scope="col"><Word of="carried" /></th><th scope="col"><Word of="reach" /></th><th scope="col"><Word of="ρ" /></th><th scope="col"><Word of="σ" /></th><th scope="col"><Word of="λ" /></th><th scope="col">rows</th></tr></thead>
            <tbody>{times.map((t) => (
              <tr class={t.mark ? tone(t.mark) : ""}><th scope="row">{t.mark && <span class="mk">{MARKS[t.mark]} </span>}{t.name}</th><td>{t.carried}</td><td>{t.reach}</td><td>{t.radius}</td><td>{t.sigma}</td><td>{t.exponent}</td><td>{t.rows}</td></tr>
            ))}</tbody>
          </table>
        </div>
        <More text="the norms as a table" make={() => <Norms routes={routes} />} />
        {routes.left_out > 0 && <p class="fine">{count(routes.left_out, "more recurrence")} left out.</p>}
      </section>
    );
  }
}

function Norms({ routes }: { routes: Routes }) {
  return <>{routes.maps.map((map) => norms(map.params.flatMap((k) => routes.times[k] ?? [])))}</>;
}

function norms(alike: TimeRow[]) {
  const [one] = alike;
  if (!one) return null;
  const n = Math.min(LISTED, one.values.length);
  const at = [...new Set(Array.from({ length: n }, (_, k) => Math.round((k * (one.values.length - 1)) / Math.max(1, n - 1))))];
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="norms over time"><table class="facts">
      <thead><tr><th scope="col">t</th>{alike.map((t) => <th scope="col">{t.name}</th>)}</tr></thead>
      <tbody>{at.map((k) => <tr><th scope="row">{k + one.first}</th>{alike.map((t) => <td>{t.values[k] === null ? "✕ not finite" : number(t.values[k])}</td>)}</tr>)}</tbody>
    </table></div>
  );
}
