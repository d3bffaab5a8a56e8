// River: the screen. (Begun.)
import type { Theme } from "../shell/theme";

export function River({ theme }: { theme: Theme }) {
  return <main class="page" data-theme={theme}>River</main>;
}
