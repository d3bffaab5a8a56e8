// What stands around both pictures: the name, the two tabs, the theme. Depth is loaded when it is first looked at.
import { Component, type ComponentType } from "preact";
import { River } from "../river/river";
import { applyTheme, nextTheme, type Theme, startTheme } from "./theme";

type Tab = "river" | "depth";
interface State {
  tab: Tab;
  theme: Theme;
  Depth: ComponentType | null;
}

const tabOf = (): Tab => (location.hash.startsWith("#depth") ? "depth" : "river");

export class Shell extends Component<object, State> {
  override state: State = { tab: tabOf(), theme: startTheme(), Depth: null };

  override componentDidMount(): void {
    applyTheme(this.state.theme);
    addEventListener("hashchange", () => this.go(tabOf()));
    addEventListener("keydown", (e) => {
      const typing = /^(INPUT|SELECT|TEXTAREA)$/.test((e.target as HTMLElement).tagName);
      if (e.key === "t" && !typing && !e.ctrlKey && !e.metaKey && !e.altKey) this.setState({ theme: nextTheme(this.state.theme) });
    });
    this.go(this.state.tab);
  }

  go(tab: Tab): void {
    this.setState({ tab });
    if (tab === "depth" && !this.state.Depth) {
      import("../depth/depth").then((m) => this.setState({ Depth: m.Depth }));
    }
  }

  render() {
    const { tab, theme, Depth } = this.state;
    return (
      <div class="shell">
        <header class="bar">
          <span class="mark">gradientflow</span>
          <nav aria-label="pictures">
            <a href="#river" aria-current={tab === "river" ? "page" : undefined}>River</a>
            <a href="#depth" aria-current={tab === "depth" ? "page" : undefined}>Depth</a>
          </nav>
          <span class="grow" id="tools" />
          <button class="quiet" title="dark or light (t)" onClick={() => this.setState({ theme: nextTheme(theme) })}>
            {theme === "dark" ? "☾ dark" : "☀ light"}
          </button>
        </header>
        {tab === "river" ? <River theme={theme} /> : Depth ? <Depth /> : <main class="page">…</main>}
      </div>
    );
  }
}
