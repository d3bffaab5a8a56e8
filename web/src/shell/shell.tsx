// What stands around the pictures: the name, the tabs, the theme. All but River are loaded when they are first looked at.
import { Component, type ComponentType } from "preact";
import { River } from "../river/river";
import { applyTheme, nextTheme, type Theme, startTheme } from "./theme";

type Tab = "river" | "depth" | "knobs";
interface State {
  tab: Tab;
  theme: Theme;
  pages: Partial<Record<Tab, ComponentType>>;
}

const tabOf = (): Tab => (/^#(depth|knobs)/.exec(location.hash)?.[1] as Tab | undefined) ?? "river";
const LOADED: Partial<Record<Tab, () => Promise<ComponentType>>> = {
  depth: () => import("../depth/depth").then((m) => m.Depth),
  knobs: () => import("../knobs/knobs").then((m) => m.Knobs),
};

export class Shell extends Component<object, State> {
  override state: State = { tab: tabOf(), theme: startTheme(), pages: {} };

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
    if (!this.state.pages[tab]) void LOADED[tab]?.().then((page) => this.setState((s) => ({ pages: { ...s.pages, [tab]: page } })));
  }

  render() {
    const { tab, theme, pages } = this.state;
    const Page = pages[tab];
    return (
      <div class="shell">
        <header class="bar">
          <span class="mark">gradientflow</span>
          <nav aria-label="pictures">
            <a href="#river" aria-current={tab === "river" ? "page" : undefined}>River</a>
            <a href="#depth" aria-current={tab === "depth" ? "page" : undefined}>Depth</a>
            <a href="#knobs" aria-current={tab === "knobs" ? "page" : undefined}>Knobs</a>
          </nav>
          <span class="grow" id="tools" />
          <button class="quiet" title="dark or light (t)" onClick={() => this.setState({ theme: nextTheme(theme) })}>
            {theme === "dark" ? "☾ dark" : "☀ light"}
          </button>
        </header>
        {tab === "river" ? <River theme={theme} /> : Page ? <Page /> : <main class="page">…</main>}
      </div>
    );
  }
}
