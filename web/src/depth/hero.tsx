// The first thing seen, in three parts: what is wrong, the line, and what mends it.
import type { RunView } from "../wire/types";
import { MARKS, SIGNS } from "../wire/words";
import { tone } from "./inks";
import { Source } from "./source";
import { count, decades, gain, number } from "./spell";
import { Copy, Prose, Word } from "./word";

const EXPLAINED: Record<string, string> = { vanishing: "▼ vanishing", exploding: "▲ exploding", "not-finite": "✕ not finite", dead: "○ dead" };

/** The one number that goes with a symptom. */
function figure(view: RunView): { big: string; what: string } {
  const { symptom, budget, loss, certificates, findings } = view.verdict;
  const way = budget.body_decades ?? budget.total_decades;
  const step = findings[0]?.evidence["step"];
  if ((symptom === "vanishing" || symptom === "exploding") && way !== null) return { big: decades(way), what: "decades from the last to the first layer" };
  if (symptom === "not-finite" && typeof step === "number") return { big: `step ${step}`, what: "where it began" };
  if (symptom === "healthy") return { big: `${certificates.filter((c) => c.state === "held").length} of ${certificates.length}`, what: "certificates held" };
  if (loss.first !== null || loss.last !== null) return { big: `${number(loss.first)} → ${number(loss.last)}`, what: "loss" };
  return { big: "—", what: "nothing was measured" };
}

export function Hero({ view }: { view: RunView }) {
  const { verdict, fix, told } = view;
  const mark = MARKS[verdict.symptom] ?? "•";
  const first = told[0];
  const big = figure(view);
  const healthy = verdict.symptom === "healthy";
  return (
    <section class={`hero ${tone(verdict.symptom)}`} aria-label="verdict">
      <div class="card wrong-is">
        <h2>{view.state === "going" ? "so far" : healthy || !view.judged ? "the verdict" : "what is wrong"}</h2>
        {view.judged && <p class="badge"><span class="mk" aria-hidden="true">{mark}</span> {EXPLAINED[verdict.symptom] ? <Word of={EXPLAINED[verdict.symptom]!} text={verdict.symptom} /> : verdict.symptom}</p>}
        <p class="big"><b>{big.big}</b> <span>{big.what}</span></p>
        <p class="say"><Prose text={view.headline} /></p>
        <p class="fine">{lossTold(view)}</p>
        {view.crash && <p class="crash">✗ {view.crash}</p>}
        {view.mend && <p class="say"><b>mend</b> {view.mend}</p>}
      </div>
      {healthy && (
        <div class="card the-line">
          <h2>what was proven</h2>
          <ul class="proofs">{verdict.certificates.map((c) => <li title={c.why}><span class="mk">{SIGNS[c.state] ?? "?"}</span> {c.name}</li>)}</ul>
        </div>
      )}
      {!healthy && <div class="card the-line">
        <h2>{first ? "the line" : "where to look"}</h2>
        {first?.excerpt ? <Source excerpt={first.excerpt} mark={mark} /> : <p class="say">{first?.where.join(" · ") || (view.judged ? "No line is to blame." : "…")}</p>}
        {first && <p class="fine">{first.cause}. <Word of="confidence" /> {first.sure}</p>}
      </div>}
      <div class="card the-fix">
        <h2>{fix?.proven ? "the fix, proven" : "what would help"}</h2>
        {!fix && <p class="say">{!view.judged ? "…" : healthy ? "Nothing needs to be mended." : "No remedy is known for this."}</p>}
        {fix?.after && <p class="big"><span>loss</span> <b>{fix.before} → {fix.after}</b></p>}
        {fix && <p class="say"><Prose text={fix.text} /></p>}
        {fix?.diff && <Diff text={fix.diff} />}
        {fix && <p class="fine">
          {fix.proven ? <><Word of="replayed" />: {fix.outcome}. {fix.checked}</> : <Word of="advice" text={fix.outcome} />}
          {" "}<Copy label={fix.diff ? "copy the edit" : "copy"} text={fix.diff || fix.text} />
        </p>}
        {fix && !fix.proven && !view.tried.length && view.name && <p class="fine">Try it: <code>gradientflow replay {view.name}</code></p>}
      </div>
    </section>
  );
}

function lossTold(view: RunView): string {
  const { first, last } = view.verdict.loss;
  if (first === null && last === null) return "";
  const told = (x: number | null) => (x === null ? "not finite" : number(x));
  return `loss ${told(first)} → ${told(last)} in ${count(view.verdict.steps, "step")}`;
}

/** The lines of an edit that say something; what is copied holds all of them. */
function seen(diff: string): string[] {
  const lines = diff.trimEnd().split("\n").filter((line) => !/^(---|\+\+\+) /.test(line));
  return lines.filter((line, k) => line.trim() || (lines.slice(k).some((l) => /^[+-]/.test(l)) && lines.slice(0, k).some((l) => /^[+-]/.test(l))));
}

export function Diff({ text }: { text: string }) {
  const kind = (line: string) => (/^(---|\+\+\+|@@)/.test(line) ? "at" : line[0] === "+" ? "in" : line[0] === "-" ? "out" : "");
  return <pre class="diff" tabIndex={0} aria-label="the edit">{seen(text).map((line) => <span class={`ln ${kind(line)}`}><code>{line || " "}</code></span>)}</pre>;
}

/** The verdict in one sentence, for whoever does not see the picture. */
export const sentence = (view: RunView): string =>
  `${view.state === "going" ? "Still going, " : ""}${count(view.steps, "step")}. ${view.verdict.symptom}: ${view.headline}`;

export const gained = (decade: number | null, value: number | null): string => (value === null && decade !== null ? gain(10 ** decade) : gain(value));
