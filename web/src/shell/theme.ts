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
