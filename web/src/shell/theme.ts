// Dark or light: what the system says, until the user says otherwise; remembered on this machine.
export type Theme = "dark" | "light";
const KEY = "gradientflow-theme";

export function startTheme(): Theme {
  try {
    const kept = localStorage.getItem(KEY);
    if (kept === "dark" || kept === "light") return kept;
  } catch { /* storage is shut: the system's wish it is */ }
  return matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
}

export function applyTheme(theme: Theme): void {
  document.documentElement.dataset.theme = theme;
}

export function nextTheme(theme: Theme): Theme {
  const next = theme === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(KEY, next);
  } catch { /* for this time alone */ }
  applyTheme(next);
  return next;
}

/** Paper is white: while the page is printed it is light. Returns how to stop. */
export function printsLight(theme: () => Theme, show: (theme: Theme) => void): () => void {
  const paper = matchMedia("print");
  let before: Theme | null = null;
  const turn = (): void => {
    if (paper.matches && before === null) before = theme();
    const now = paper.matches ? "light" : before;
    if (!paper.matches) before = null;
    if (now) { applyTheme(now); show(now); }
  };
  paper.addEventListener("change", turn);
  return () => paper.removeEventListener("change", turn);
}
