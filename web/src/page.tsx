// A report that is one file: Depth's screen on records that lie in the page itself.
import { Component, render } from "preact";
import { Screen } from "./depth/screen";
import { inline, type Transport } from "./depth/transport";
import { applyTheme, nextTheme, printsLight, startTheme, type Theme } from "./shell/theme";
import type { Inlined } from "./wire/types";

class Page extends Component<{ held: Inlined }, { theme: Theme }> {
  override state = { theme: startTheme() };
  private readonly transport: Transport = inline(this.props.held);
  private readonly onKey = (e: KeyboardEvent) => { if (e.key === "t" && !e.ctrlKey && !e.metaKey && !e.altKey) this.flip(); };
  private stop: () => void = () => undefined;

  override componentDidMount() {
    applyTheme(this.state.theme);
    addEventListener("keydown", this.onKey);
    this.stop = printsLight(() => this.state.theme, (theme) => this.setState({ theme }));
  }

  override componentWillUnmount() { removeEventListener("keydown", this.onKey); this.stop(); }

  private flip(): void { this.setState({ theme: nextTheme(this.state.theme) }); }

  render() {
    const { held } = this.props;
    const { theme } = this.state;
    const asked = new URLSearchParams(location.hash.slice(1));
    const numbered = (name: string): number | null => (/^\d{1,9}$/.test(asked.get(name) ?? "") ? Number(asked.get(name)) : null);
    return (
      <div class="shell">
        <header class="bar">
          <span class="mark">gradientflow</span><span class="grow" />
          <button type="button" class="quiet" title="dark or light (t)" onClick={() => this.flip()}>{theme === "dark" ? "☾ dark" : "☀ light"}</button>
        </header>
        {held.problems.map((problem) => <p class="problem" role="alert">{problem}</p>)}
        <div class="depth-frame"><Screen transport={this.transport} theme={theme} start={{ probe: numbered("probe"), row: numbered("row") }} chosen={keep} /></div>
        <footer class="foot">{[...held.thinned, "Made by gradientflow from this run’s own records; the page loads nothing. Colour maps by Fabio Crameri."].join(" ")}</footer>
      </div>
    );
  }
}

/** The place in the page stands in its link. */
function keep(probe: number | null, row: number | null): void {
  const kept = new URLSearchParams();
  if (probe !== null) kept.set("probe", String(probe));
  if (probe !== null && row !== null) kept.set("row", String(row));
  try {
    history.replaceState(null, "", kept.size ? `#${kept}` : location.href.replace(/#.*$/, ""));
  } catch { /* a page inside another one may have no link */ }
}

async function unpacked(): Promise<Inlined> {
  const packed = Uint8Array.from(atob(document.getElementById("records")!.textContent!), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return (await new Response(stream).json()) as Inlined;
}

const root = document.getElementById("app")!;
unpacked().then(
  (held) => render(<Page held={held} />, root),
  (problem: unknown) => { // an old browser: the same as text
    const told = new DOMParser().parseFromString(document.querySelector("noscript")?.textContent ?? "", "text/html").body.textContent;
    render(<main class="page"><p class="problem" role="alert">This browser cannot unpack the records: {String(problem)}</p><pre class="as-text">{told}</pre></main>, root);
  },
);
