// What was proven, the way from the gradient to the step, every finding with its evidence, what was tried, and what was run.
import type { RunView } from "../wire/types";
import { MARKS, SIGNS } from "../wire/words";
import { Diff } from "./hero";
import { gainInk, tone } from "./inks";
import { Source } from "./source";
import { decades } from "./spell";
import { Copy, Prose, Word } from "./word";

export function Certificates({ view }: { view: RunView }) {
  const { certificates } = view.verdict;
  if (!certificates.length) return null;
  const held = certificates.filter((c) => c.state === "held").length;
  return (
    <section class="card" aria-labelledby="d-proof">
      <h2 id="d-proof"><Word of="certificate" text={`what was proven: ${held} of ${certificates.length} held`} /></h2>
      <table class="facts proof"><thead><tr><th scope="col">certificate</th><th scope="col">state</th><th scope="col">why</th></tr></thead><tbody>
        {certificates.map((c) => <tr class={c.state}><th scope="row">{c.name}</th><td><span class="mk">{SIGNS[c.state] ?? "?"}</span> {c.state.replaceAll("-", " ")}</td><td>{c.why}</td></tr>)}
      </tbody></table>
    </section>
  );
}

export function StepBudgets({ view }: { view: RunView }) {
  if (!view.stages.length) return null;
  return (
    <section class="card" aria-labelledby="d-step">
      <h2 id="d-step"><Word of="step budget" text="from the gradient to the step" /></h2>
      {view.stages.map((t) => (
        <>
          <h3>{t.title}</h3>
          <div class="scroll" tabIndex={0} role="region" aria-label={`step budget of ${t.title}`}>
            <table class="facts stages"><thead><tr><th scope="col">stage</th>{t.steps.map((s) => <th scope="col">{s}</th>)}</tr></thead><tbody>
              {t.rows.map(([name, cells, done]) => (
                <tr class={name.startsWith("‖") ? "end" : ""}><th scope="row">{name}</th>
                  {cells.map((cell, k) => <td title={done[k] === null || done[k] === undefined ? undefined : `${decades(done[k])} decades`}>
                    {cell}{Math.abs(done[k] ?? 0) >= 0.005 ? <i class="dot" style={{ background: gainInk(done[k]! / 3) }} aria-hidden="true" /> : null}
                  </td>)}
                </tr>
              ))}
            </tbody></table>
          </div>
          {t.boxed && <p class="fine">The rule of this optimizer is not known: it is one stage.</p>}
        </>
      ))}
      <p class="fine">Factors from ‖∇L‖ to ‖Δw‖; along a column they multiply to the whole.</p>
    </section>
  );
}

export function Findings({ view, look }: { view: RunView; look(file: string | null, line: number | null): void }) {
  const { findings } = view.verdict;
  if (!findings.length) return null;
  return (
    <section class="card" aria-labelledby="d-found">
      <h2 id="d-found">what was found</h2>
      {findings.slice(0, view.told.length).map((f, k) => {
        const told = view.told[k]!;
        return (
          <details class={`finding ${tone(f.symptom)}`} open={k === 0}>
            <summary><span class="mk">{MARKS[f.symptom] ?? "•"}</span> {f.symptom} <small>because of</small> {f.cause} <small class="sure">{told.sure}</small></summary>
            <p class="say"><Prose text={f.summary} /></p>
            {k > 0 && <Source excerpt={told.excerpt ?? null} mark={MARKS[f.symptom] ?? "▸"} />}
            {f.reason && <p class="fine">ranks lower: {f.reason}</p>}
            {told.where.length > 0 && <p class="fine"><code>{told.where.join("  ")}</code> <button type="button" class="copy" onClick={() => look(f.place?.file ?? null, f.place?.line ?? null)}>show in the way back</button></p>}
            <div class="cols">
              {told.facts.length > 0 && <table class="facts"><thead><tr><th scope="col">measured</th><th scope="col">value</th><th scope="col">held against</th></tr></thead><tbody>
                {told.facts.map(([name, value, threshold]) => <tr><th scope="row">{name}</th><td>{value}</td><td>{threshold}</td></tr>)}
              </tbody></table>}
              {f.remedies.length > 0 && <div><h3>what would help</h3><ul>{f.remedies.map((r, n) => <li><b>{r.kind}</b> <Prose text={r.text} /> <small>{told.replayed[n]}</small></li>)}</ul></div>}
            </div>
          </details>
        );
      })}
    </section>
  );
}

const HEADS = ["", "remedy", "what was done", "loss", "against baseline, 95 %", "decades", "symptom", "outcome"];

export function Tried({ view }: { view: RunView }) {
  if (!view.tried.length) return null;
  return (
    <section class="card" aria-labelledby="d-tried">
      <h2 id="d-tried"><Word of="replayed" text="tried on this script" /></h2>
      <p class="say">{view.tried_title}</p>
      <div class="scroll" tabIndex={0} role="region" aria-label="remedies that were tried">
        <table class="facts"><thead><tr>{HEADS.map((h) => <th scope="col">{h}</th>)}</tr></thead>
          <tbody>{view.tried.map((cells) => <tr>{cells.map((c, k) => (k === 1 ? <th scope="row">{c}</th> : <td>{c}</td>))}</tr>)}</tbody></table>
      </div>
      {view.tried_notes.map((note) => <p class="fine">{note}</p>)}
      {view.edit && <><h3>{view.edit[0]}</h3><Diff text={view.edit[1]} /><p class="fine"><Copy label="copy the edit" text={view.edit[1]} /></p></>}
    </section>
  );
}

export function About({ view }: { view: RunView }) {
  return (
    <section class="card about-run" aria-labelledby="d-about">
      <h2 id="d-about">what was watched, and where</h2>
      <dl>{view.about.map(([a, b]) => <><dt>{a}</dt><dd>{b}</dd></>)}</dl>
      {view.error && <details open={view.crash !== ""}><summary>how the script ended</summary><pre class="ended" tabIndex={0} aria-label="what Python told">{view.error}</pre></details>}
      {view.notes.length > 0 && <ul class="notes">{view.notes.map(([kind, text]) => <li><b>{kind}</b> <Prose text={text} /></li>)}</ul>}
    </section>
  );
}
