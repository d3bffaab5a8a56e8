// How much of the gradient leaves the picture where the pointer or the cursor is.
import { leakAt, share } from "./off";
import type { Point, Samples } from "./samples";

export function Leak({ samples, at }: { samples: Samples | null; at: Point | null }) {
  const leak = at && leakAt(samples, at);
  if (leak === null) return null;
  return <p class="here">leak here <b>{share(leak)}</b> <span class="soft">{leak < 0.05 ? "the water is true" : `${Math.round((180 / Math.PI) * Math.asin(Math.min(1, leak)))}° out of the plane${leak < 0.7 ? "" : ": the picture lies"}`}</span></p>;
}
