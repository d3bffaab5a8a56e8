// Beside the way back: where its decades went, and the chosen operation in full.
import type { OpSeen, Share, Way } from "../wire/types";
import { MARKS } from "../wire/words";
import { gainInk, tone } from "./inks";
import { Source } from "./source";
import { count, decades } from "./spell";
import { More, Word } from "./word";

const SHOWN = 8;

/** What changed the gradient by as much as is told, the most first. */
const sorted = (shares: Share[]): Share[] =>
  shares.filter((s) => s.decades !== null && Number.isFinite(s.decades) && Math.abs(s.decades) >= 0.005).sort((a, b) => Math.abs(b.decades!) - Math.abs(a.decades!));

export function Budget({ way }: { way: Way }) {
  const kinds = sorted(way.budget.by_kind);
  const modules = sorted(way.budget.by_module);
  if (!kinds.length && !modules.length) return null;
  const { residual } = way.budget;
  const all = kinds.reduce((sum, s) => sum + Math.abs(s.decades!), 0);
  return (
    <section class="card budget" aria-labelledby="d-budget">
      <h2 id="d-budget"><Word of="budget" text={way.took} /></h2>
      <div class="strip" aria-hidden="true">
        {kinds.map((s) => <span style={{ flexGrow: Math.abs(s.decades!), background: gainInk(s.decades! / Math.max(1, s.count)) }} title={`${s.name} ${decades(s.decades)} decades`}>{Math.abs(s.decades!) > 0.028 * s.name.length * all && <b>{s.name}</b>}</span>)}
      </div>
      <Table name="by kind" rows={kinds} />
      <Table name="by module" rows={modules} />
      {residual !== null && Number.isFinite(residual) && <p class="fine">sum of the parts minus the total (<Word of="residual" />): {decades(residual)} decades</p>}
    </section>
  );
}

function Table({ name, rows }: { name: string; rows: Share[] }) {
  if (!rows.length) return null;
  const most = Math.max(...rows.map((s) => Math.abs(s.decades!)));
  const body = (part: Share[]) => (
    <table class="mini"><tbody>
      {part.map((s) => (
        <tr><th scope="row" title={s.name}>{s.name}</th>
          <td class="track" aria-hidden="true"><i style={{ width: `${(100 * Math.abs(s.decades!)) / most}%`, background: gainInk(s.decades! / Math.max(1, s.count)) }} /></td>
          <td class="num">{decades(s.decades)}</td><td class="of">{count(s.count, "op")}</td></tr>
      ))}
    </tbody></table>
  );
  return (
    <>
      <h3>{name}</h3>
      {body(rows.slice(0, SHOWN))}
      {rows.length > SHOWN && <More text={`${rows.length - SHOWN} more`} make={() => body(rows.slice(SHOWN, 500))} />}
    </>
  );
}

export function Chosen({ op, mark, step }: { op: OpSeen | null; mark: string | null; step: number }) {
  if (!op) return null;
  return (
    <section class={`card chosen ${mark ? tone(mark) : ""}`} aria-labelledby="d-op">
      <h2 id="d-op">{mark && <span class="mk">{MARKS[mark]} </span>}{op.name} <small>at step {step}</small></h2>
      {op.where && !op.excerpt && <p class="fine"><code>{op.where}</code></p>}
      <Source excerpt={op.excerpt} mark={mark ? (MARKS[mark] ?? "▸") : "▸"} />
      <div class="groups">
        {op.groups.map(([name, facts]) => (
          <div><h3>{name}</h3><dl>{facts.map(([a, b]) => <><dt>{a}</dt><dd>{b}</dd></>)}</dl></div>
        ))}
      </div>
    </section>
  );
}
