// The page begins here: River at once, Depth when it is asked for.
import { render } from "preact";
import { Shell } from "./shell/shell";

render(<Shell />, document.getElementById("app")!);
