// What the page asks of the app: JSON out, frames back (see app/wire.py). An error the app tells comes as a `Told`.

/** A sentence of the app's own, to be shown where it belongs. */
export class Told extends Error {}
/** The app does not answer: it was ended, or is being started. */
export class Away extends Error {}
/** The app answers, and does not know this browser: it was started anew with another key. */
export class Locked extends Error {}

export interface Frame<T> {
  head: T;
  floats: Float32Array;
}

async function checked(url: string, init: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(url, init);
  } catch (problem) {
    if (init.signal?.aborted) throw problem;
    throw new Away("The app does not answer. Start it again with gradientflow app: this page goes on by itself.");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) throw new Locked("The app was started anew and does not know this browser: open the link that it printed.");
  const text = await answer.text();
  let told = text;
  try {
    told = (JSON.parse(text) as { problem: string }).problem;
  } catch { /* plain words */ }
  throw new Told(told);
}

export async function get<T>(url: string, signal?: AbortSignal): Promise<T> {
  return (await checked(url, { signal: signal ?? null })).json() as Promise<T>;
}

export const post = (url: string, ask: unknown, signal?: AbortSignal): Promise<Response> =>
  checked(url, { method: "POST", body: JSON.stringify(ask), headers: { "content-type": "application/json" }, signal: signal ?? null });

/** Ask, and hand on each frame as it comes. */
export async function* stream<T>(url: string, ask: unknown, signal?: AbortSignal): AsyncGenerator<Frame<T>> {
  yield* frames<T>(await post(url, ask, signal), signal);
}

export async function* frames<T>(answer: Response, signal?: AbortSignal): AsyncGenerator<Frame<T>> {
  const reader = answer.body!.getReader();
  let kept = new Uint8Array(0);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const grown = new Uint8Array(kept.length + value.length);
      grown.set(kept);
      grown.set(value, kept.length);
      kept = grown;
      for (;;) {
        const one = first<T>(kept);
        if (!one) break;
        kept = kept.slice(one.size);
        yield one.frame;
      }
    }
  } catch (problem) {
    if (signal?.aborted) throw problem;
    throw new Away("The app stopped answering. Start it again with gradientflow app: this page goes on by itself.");
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/** The first frame in a buffer, where it is whole. */
function first<T>(bytes: Uint8Array): { frame: Frame<T>; size: number } | null {
  if (bytes.length < 8) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const head = view.getUint32(0, true);
  const count = view.getUint32(4, true);
  const size = 8 + head + 4 * count;
  if (bytes.length < size) return null;
  const text = new TextDecoder().decode(bytes.subarray(8, 8 + head));
  const floats = new Float32Array(bytes.slice(8 + head, size).buffer);
  return { frame: { head: JSON.parse(text) as T, floats }, size };
}
