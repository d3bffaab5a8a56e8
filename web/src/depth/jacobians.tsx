// The singular values of the Jacobians: from layer to layer, and of the whole network end to end.
import type { Jacobians, Reach } from "../wire/types";
import { tone } from "./inks";
import { power } from "./spell";

const percent = (x: number): string => `${(100 * x).toFixed(2)}%`;

export function Spectra({ views }: { views: Jacobians[] }) {
  if (!views.length) return null;
  return (
    <section class="card spectra" aria-labelledby="d-spectra">
      <h2 id="d-spectra">singular values of the Jacobians</h2>
      <p class="fine">From one layer’s output to the next one’s, in the order of the forward pass; log scale. σ² = 1 in every direction would be dynamical isometry; the dot is the mean, the bar runs from least to largest, each tick is a quantile.</p>
      {views.map((v) => (
        <>
          <h3>step {v.step}</h3>
          <p class="say">{v.summary}</p>
          <div class="scroll" tabIndex={0} role="region" aria-label={`singular values at step ${v.step}`}>
            <table class="facts"><thead><tr>
              <th scope="col">from → to</th>
              <th scope="col" class="sv" aria-label="σ² on a log scale">{v.ticks.filter(([at]) => at < 0.96).map(([at, d]) => <i aria-hidden="true" style={{ left: percent(at) }}>{power(d)}</i>)}</th>
              <th scope="col">mean σ²</th><th scope="col">largest</th><th scope="col">least</th><th scope="col"><span class="sr">word</span></th>
            </tr></thead>
              <tbody>{v.rows.map((row) => line(row, v.one))}</tbody></table>
          </div>
        </>
      ))}
    </section>
  );
}

function line(row: Reach, one: number) {
  return (
    <tr class={tone(row.symptom)} title={row.how}>
      <th scope="row">{row.whole ? <b>{row.name}</b> : row.name} <small>{row.where}</small></th>
      <td class="sv" aria-hidden="true">
        <i class="one" style={{ left: percent(one) }} />
        {row.off ? <em class={row.off === "<" ? "" : "high"}>{row.off === "<" ? "◂" : "▸"} off this scale</em> : row.mean !== null && (
          <>
            <i class="range" style={{ left: percent(row.low), width: percent(Math.max(0.004, row.high - row.low)) }} />
            {row.quantiles.map((q) => <i class="q" style={{ left: percent(q) }} />)}
            <i class="mean" style={{ left: percent(row.mean) }} />
          </>
        )}
      </td>
      {row.numbers.map((x) => <td class="num">{x}</td>)}
      <td><span class="mk">{row.mark}</span> {row.word}</td>
    </tr>
  );
}
