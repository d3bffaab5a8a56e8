// Remedies of what was found, each with a button that tries it on the script: both losses grow, and what came of it is told.
import { Component } from "preact";
import { type Curve, Plot } from "../knobs/plot";
import type { Offers, RunView, TrialCourse, Trying } from "../wire/types";
import { number } from "./spell";
import type { Tries } from "./transport";
import { Prose, Word } from "./word";

interface State {
  offers: Offers | null;
  trying: Trying | null;
  problem: string;
}

export class Remedies extends Component<{ tries: Tries; view: RunView }, State> {
  override state: State = { offers: null, trying: null, problem: "" };
  private stop: () => void = () => undefined;
  private gone = false;

  override componentDidMount() { void this.look(); }
  override componentDidUpdate(before: { view: RunView }) { if (before.view.version !== this.props.view.version) void this.look(); }
  override componentWillUnmount() {
    this.gone = true;
    this.stop();
  }

  private async doing(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (problem) {
      if (!this.gone) this.setState({ problem: problem instanceof Error ? problem.message : String(problem) });
    }
  }

  private look = (): Promise<void> => this.doing(async () => {
    const offers = await this.props.tries.offers();
    if (this.gone) return;
    const following = this.state.trying?.state === "going";
    this.setState({ offers, ...(following ? {} : { trying: offers.trying }) });
    if (offers.trying?.state === "going" && !following) this.follow(offers.trying);
  });

  private follow(trying: Trying): void {
    this.setState({ trying, problem: "" });
    this.state.trying = trying;
    this.stop();
    this.stop = this.props.tries.watch((now) => {
      this.setState({ trying: now });
      this.state.trying = now;
      if (now.state !== "going") void this.look();
    });
  }

  private start = (kind: string): Promise<void> => this.doing(async () => this.follow(await this.props.tries.start(kind)));
  private cancel = (): Promise<void> => this.doing(async () => this.setState({ trying: await this.props.tries.cancel() }));

  render() {
    const { offers, trying, problem } = this.state;
    if (!offers?.remedies.length) return null;
    const going = trying?.state === "going";
    return (
      <section class="card remedies" aria-labelledby="d-try">
        <h2 id="d-try">try a remedy on this script</h2>
        <p class="fine">{offers.refused ? <>Nothing can be tried here: {offers.refused}</> : <>A click runs <code>{offers.runs}</code>. What the script writes, it writes again.</>}</p>
        {problem && <p class="problem" role="alert">{problem}</p>}
        <ul>
          {offers.remedies.map((r) => (
            <li class={trying?.kind === r.kind ? "on" : ""}>
              <button type="button" disabled={!!offers.refused || going} onClick={() => void this.start(r.kind)} aria-label={`try ${r.kind}`}>▸ try it</button>
              <span><b>{r.kind}</b> {r.outcome && <em class={r.won ? "won" : ""}>{r.outcome}</em>} <small><Prose text={r.text} /></small></span>
            </li>
          ))}
        </ul>
        {trying && (
          <div class="trying">
            <p role="status">{{ going: "●", ended: "■", cancelled: "◌", failed: "✗" }[trying.state]} <b>{trying.kind}</b> {trying.text} {going && <button type="button" onClick={() => void this.cancel()}>cancel</button>}</p>
            {trying.trials.length > 0 && <Courses trials={trying.trials} />}
          </div>
        )}
      </section>
    );
  }
}

/** The baseline and what is tried, step by step; on a scale of powers of ten where they lie far apart. */
function Courses({ trials }: { trials: TrialCourse[] }) {
  const seen = trials.flatMap((t) => t.losses.filter((v): v is number => v !== null));
  const log = seen.length > 0 && Math.min(...seen) > 0 && Math.max(...seen) / Math.min(...seen) > 30;
  const last = Math.max(1, ...trials.flatMap((t) => t.steps));
  const kinds: Curve["kind"][] = ["before", "is", "other", "third"];
  const curves: Curve[] = trials.map((t, k) => ({
    name: t.text, kind: kinds[Math.min(3, k)]!, x: t.steps.map((s) => s - 1), y: t.losses.map((v) => (v === null ? null : log ? Math.log10(v) : v)),
  }));
  const ends = trials.map((t) => `${t.text}: ${number([...t.losses].reverse().find((v) => v !== null) ?? null)} at step ${t.steps[t.steps.length - 1] ?? 0}`);
  return (
    <>
      <Plot label={`Losses. ${ends.join("; ")}`} curves={curves} count={last} x={["step 1", `step ${last}`]} spell={(y) => number(log ? 10 ** y : y, 2)} least={log ? 1 : 0.1} />
      <p class="inks">{curves.map((c, k) => <span><i class={`stroke ${c.kind}`} /> {ends[k]}</span>)}</p>
      <p class="fine"><Word of="replayed" text="Losses" /> of the same seeds and batches.</p>
    </>
  );
}
