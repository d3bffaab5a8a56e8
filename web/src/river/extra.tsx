// What few need at once: the keys, and what can be taken away: a link, Python, pictures.
import { Component, createRef } from "preact";
import type { ExtraProps } from "./river";
import { type Drop, type Kind, KINDS, type Picture, short } from "./state";
import { active } from "./words";

const KEYS: [string, string][] = [
  ["click", "put a drop on the water"], ["drag a drop", "its solved path answers while you drag"], ["drag on the water", "paint a line of drops"],
  ["wheel, + −", "zoom (the water is sampled anew)"], ["⇧ drag", "move the view; 0 brings it back"], ["← → ↑ ↓", "move a cursor; with ⇧ finely"], ["Enter", "drop where the cursor is"],
  ["m", "hold the drop, and move it with the arrows"], ["l", "a line of drops from the drop to the cursor"], ["n", "next drop; x removes it"], ["[ ]", "the clock back and on; p plays it"], ["g o a", "gradient descent, momentum, Adam"],
  ["<", "where it came from"], ["r", "on a plane: the plane rides with the drop"], ["w", "on a plane: the gradient through the layers, where the drop is"], ["b", "basins: where drops end"], ["v", "true time or bent"], ["Space", "still water"], ["1 2 3 4", "the stories"], ["s", "share"], ["t", "dark or light"], ["? Esc", "these keys"],
];

export class Extra extends Component<ExtraProps, { done: string; filming: number | null }> {
  private dialog = createRef<HTMLDialogElement>();
  private open = true;
  override state = { done: "", filming: null as number | null };

  override componentWillUnmount(): void {
    this.open = false;
  }

  /** Record the journey; closing the window ends it. */
  private async film(): Promise<void> {
    const { river, stage, picture } = this.props;
    const { film, missing } = await import("./film");
    if (missing()) return this.setState({ done: missing() });
    this.setState({ filming: 0, done: "" });
    try {
      const made = await film(river, () => drawn(figure(stage, false, ".head, .off, .cursor").text), (share) => {
        this.setState({ filming: share });
        return this.open;
      });
      if (made) save(made, `${nameOf(picture)}.mp4`);
      this.setState({ filming: null, done: made ? "MP4 saved." : "" });
    } catch (problem) {
      this.setState({ filming: null, done: `There is no film: ${(problem as Error).message}` });
    }
  }

  override componentDidMount(): void {
    this.dialog.current!.showModal();
  }

  private async copy(text: string, what: string): Promise<void> {
    try {
      await navigator.clipboard.writeText(text);
      this.setState({ done: `${what} copied.` });
    } catch {
      this.setState({ done: "The browser does not let the page copy: select the lines and copy them by hand." });
    }
  }

  render({ which, picture, stage, close }: ExtraProps) {
    const python = pythonOf(picture);
    return (
      <dialog ref={this.dialog} class="extra" onClose={close} aria-label={which === "keys" ? "keys" : "share"}>
        {which === "keys"
          ? <table><caption>Mouse and keys</caption><tbody>{KEYS.map(([k, what]) => <tr><th scope="row"><kbd>{k}</kbd></th><td>{what}</td></tr>)}</tbody></table>
          : <>
            <h2>Take it away</h2>
            <p><button onClick={() => this.copy(location.href, "Link")}>copy the link</button> it holds field, view, drops, rates and time; it opens where this app runs.</p>
            <pre tabIndex={0} aria-label="Python">{python}</pre>
            <p><button onClick={() => this.copy(python, "Python")}>copy as Python</button> these lines redo it.</p>
            <p><button onClick={() => savePng(stage, nameOf(picture)).then(() => this.setState({ done: "PNG saved." }))}>PNG</button> <button onClick={() => { saveSvg(stage, nameOf(picture)); this.setState({ done: "SVG saved." }); }}>SVG</button> <button disabled={this.state.filming !== null} onClick={() => void this.film()}>MP4</button> the water with all that is drawn on it; in the SVG paths stay lines; the MP4 is the drops' journey, 7 seconds.</p>
            {this.state.filming !== null && <p><progress value={this.state.filming} aria-label="filming" /> filming {Math.round(100 * this.state.filming)} %: leave this page in front; closing the window ends it.</p>}
            <p role="status" class="soft">{this.state.done}</p>
          </>}
        <form method="dialog"><button autofocus onClick={(e) => { e.preventDefault(); this.dialog.current!.close(); }}>close</button></form>
      </dialog>
    );
  }
}

const MAKERS: Record<Kind, string> = { gd: "torch.optim.SGD", momentum: "torch.optim.SGD", adam: "torch.optim.Adam" };

/** Lines that redo the active drop. What is put into them is quoted, whatever it is called. */
export function pythonOf(p: Picture): string {
  const d = active(p);
  const target = p.opened?.target ?? "w1w2";
  const named = p.opened?.fields.some((f) => f.name === target);
  const lines = ["import torch", "import gradientflow as gf", ""];
  if (named) lines.push(`field = gf.zoo.named(${JSON.stringify(target)}).field`);
  else lines.push(`field = ...  # what ${JSON.stringify(target)} returns`);
  if (!d) return lines.join("\n");
  if (p.plane) return onPlane(p, d, lines);
  const start = `[${d.at.map((x) => short(x, 7)).join(", ")}]`;
  lines.push(`path = gf.flow(field, t=${short(p.t)}, start=${start})`);
  const beside: string[] = [];
  for (const k of KINDS) {
    if (!p.on[k]) continue;
    lines.push(`${k} = gf.descend(field, ${MAKERS[k]}, t=${short(p.t)}, lr=${short(p.lr[k])}, start=${start}${k === "momentum" ? ", momentum=0.9" : ""})`);
    beside.push(k);
  }
  lines.push(beside.length && p.opened?.potential ? `print(gf.compare(path, ${beside.join(", ")}))` : "print(path)");
  return lines.join("\n");
}

/** The same on a plane: a drop begins where its foot is lifted to, and paths are seen as shadows. */
function onPlane(p: Picture, d: Drop, lines: string[]): string {
  const t = short(p.t);
  const planes = new Map<string, string>();
  const plane = (text: string): string => {
    const known = planes.get(text);
    if (known) return known;
    const [, kind, seed, time, inner] = /^([a-z]+)(?:-(\d+))?~([-+.\de]+)(?:\((.*)\))?$/.exec(text) ?? [];
    const feet = apart(inner ?? "own").map(foot);
    const paths = feet.map((start) => `gf.flow(field, t=${time}${start === "None" ? "" : `, start=${start}`}, keep=gf.Keep(at=gf.Keep.early(${time}, 160), theta=True))`);
    const name = `plane${planes.size ? planes.size + 1 : ""}`;
    planes.set(text, name);
    if (kind === "points") lines.push(`${name} = gf.Plane.through(${paths.map((x) => `${x}.final`).join(", ")})`);
    else lines.push(`${name} = gf.plane(${paths[0]}, ${JSON.stringify(kind)}${seed ? `, seed=${seed}` : ""})`);
    return name;
  };
  const foot = (text: string): string => {
    if (text === "own") return "None";
    const cut = text.lastIndexOf("@");
    return `${plane(text.slice(0, cut))}.lift(${text.slice(cut + 1).replace(",", ", ")})`;
  };
  const seen = plane(p.plane!.text);
  const start = foot(d.foot);
  const from = start === "None" ? "" : `, start=${start}`;
  lines.push(`path = gf.flow(field, t=${t}${from}, keep=gf.Keep(plane=${seen}))`);
  const beside = KINDS.filter((k) => p.on[k]);
  for (const k of beside) lines.push(`${k} = gf.descend(field, ${MAKERS[k]}, t=${t}, lr=${short(p.lr[k])}${from}, keep=gf.Keep(plane=${seen})${k === "momentum" ? ", momentum=0.9" : ""})`);
  lines.push(`gf.draw(gf.portrait(path, (${p.view!.map((x) => short(x)).join(", ")}), plane=${seen}, along=[${beside.join(", ")}]), "plane.png")`);
  return lines.join("\n");
}

/** Places that stand one after the other, of which each may hold others in brackets. */
function apart(text: string): string[] {
  const out = [""];
  let deep = 0;
  for (const c of text) {
    deep += c === "(" ? 1 : c === ")" ? -1 : 0;
    if (c === ";" && !deep) out.push("");
    else out[out.length - 1] += c;
  }
  return out;
}

const nameOf = (p: Picture): string => `river-${(p.opened?.name ?? "w1w2").replace(/[^\w-]+/g, "-")}`;

/** The overlay with its styles written into it, and the water as a picture below. */
function figure(stage: HTMLElement, water: boolean, without = ""): { text: string; width: number; height: number } {
  const sheets = [...stage.querySelectorAll("svg")];
  const copy = sheets[0]!.cloneNode(false) as SVGSVGElement;
  for (const sheet of sheets) for (const one of sheet.children) copy.append(one.cloneNode(true));
  const mine = copy.querySelectorAll<SVGElement>("*");
  sheets.flatMap((sheet) => [...sheet.querySelectorAll<SVGElement>("*")]).forEach((one, k) => {
    const style = getComputedStyle(one);
    for (const name of ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity", "fill-opacity", "stroke-opacity", "font-family", "font-size", "font-weight", "text-anchor", "paint-order"]) {
      mine[k]!.setAttribute(name, style.getPropertyValue(name));
    }
  });
  if (without) for (const one of copy.querySelectorAll(without)) one.remove();
  const { clientWidth: width, clientHeight: height } = stage;
  if (water) {
    const image = document.createElementNS("http://www.w3.org/2000/svg", "image");
    image.setAttribute("href", stage.querySelector("canvas")!.toDataURL("image/png"));
    image.setAttribute("width", String(width));
    image.setAttribute("height", String(height));
    copy.prepend(image);
  }
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  return { text: new XMLSerializer().serializeToString(copy), width, height };
}

function save(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function saveSvg(stage: HTMLElement, name: string): void {
  save(new Blob([figure(stage, true).text], { type: "image/svg+xml" }), `${name}.svg`);
}

/** A figure as a picture. */
async function drawn(text: string): Promise<HTMLImageElement> {
  const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
  const image = new Image();
  image.src = url;
  await image.decode();
  URL.revokeObjectURL(url);
  return image;
}

export async function savePng(stage: HTMLElement, name: string): Promise<void> {
  const { text, width, height } = figure(stage, false);
  const water = stage.querySelector("canvas")!;
  const scale = Math.max(2, devicePixelRatio);
  const canvas = new OffscreenCanvas(width * scale, height * scale);
  const flat = canvas.getContext("2d")!;
  flat.drawImage(water, 0, 0, canvas.width, canvas.height);
  flat.drawImage(await drawn(text), 0, 0, canvas.width, canvas.height);
  save(await canvas.convertToBlob({ type: "image/png" }), `${name}.png`);
}
