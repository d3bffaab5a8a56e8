(() => {
"use strict";
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const make = (tag, text, cls) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (cls) node.className = cls;
  return node;
};

// ── theme ──
const root = document.documentElement;
const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
const flipTheme = () => {
  root.dataset.theme = dark() ? "light" : "dark";
  try { localStorage.setItem("gradientflow-theme", root.dataset.theme); } catch { /* storage may be shut off */ }
};
try {
  const kept = localStorage.getItem("gradientflow-theme");
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
} catch { /* storage may be shut off */ }
$("theme").addEventListener("click", flipTheme);
const help = () => ($("keys").open ? $("keys").close() : $("keys").showModal());
$("help").addEventListener("click", help);

// ── the waterfall: select, sort, unfold; where several optimizers train, one for each ──
let order = "way";
const ways = [...document.querySelectorAll("table.wf")].filter((table) => data.ways[+table.dataset.way]).map((table) => {
  const body = table.tBodies[0];
  const own = [...body.rows];
  const lines = own.filter((tr) => tr.dataset.i !== undefined);
  const selected = lines.findIndex((tr) => tr.classList.contains("sel"));
  return { table, body, own, lines, selected, ...data.ways[+table.dataset.way] };
});
let way = ways[0];

const shown = () => [...way.body.rows].filter((tr) => tr.dataset.i !== undefined && tr.offsetParent !== null);

function leave(one) {
  const tr = one.lines[one.selected];
  if (!tr) return;
  tr.classList.remove("sel");
  tr.setAttribute("aria-selected", "false");
}

function select(i, focus, on = way) {
  if (!on.lines[i]) return;
  leave(way);
  leave(on);
  way = on;
  way.selected = i;
  const tr = way.lines[i];
  for (const old of way.table.querySelectorAll("tr[tabindex='0']")) old.tabIndex = -1; // one row of each table is on the tab key's way
  tr.classList.add("sel");
  tr.tabIndex = 0;
  tr.setAttribute("aria-selected", "true");
  if (tr.classList.contains("in-fold") && !tr.classList.contains("open") && order === "way") {
    unfold(way, way.own.find((f) => f.dataset.from !== undefined && +f.dataset.from <= i && i < +f.dataset.to), true);
  }
  if (focus) {
    tr.focus({ preventScroll: true });
    tr.scrollIntoView({ block: "nearest" });
  }
  describe(way.rows[i], way.facts[i]);
}

function describe(row, facts) {
  const glyph = row.mark ? data.marks[row.mark] || "•" : "";
  const pick = $("pick");
  pick.className = "card pick" + (row.mark ? " tone-" + row.mark : "");
  const name = $("pick-name");
  name.replaceChildren(...(glyph ? [make("span", glyph, "mk"), " "] : []), row.name);
  const file = row.file ? row.file.split(/[\\/]/).pop() + ":" + row.line : "";
  $("pick-place").textContent = [file, row.module || ""].filter(Boolean).join(" · ");
  const excerpt = data.sources[row.file + ":" + row.line] || data.sources["None:None"] || [];
  const pre = make("pre", undefined, "src");
  for (const [no, text, hit] of row.file ? excerpt : []) {
    const line = make("span", undefined, hit ? "ln hit" : "ln");
    line.append(make("span", (hit ? glyph || "▸" : "") + " " + no, "no"), make("code", text || " "));
    pre.append(line);
  }
  $("pick-src").replaceChildren(...(pre.childNodes.length ? [pre] : []));
  const groups = [];
  for (const [title, pairs] of Object.entries(facts)) {
    const list = make("dl");
    for (const [a, b] of pairs) list.append(make("dt", a), make("dd", b));
    groups.push(make("h3", title), list);
  }
  $("pick-facts").replaceChildren(...groups);
  const gain = facts[Object.keys(facts)[0]][0][1];
  $("says").textContent = `${row.name} ${row.module || ""}, gain ${gain}${row.mark ? ", " + row.mark : ""}, ${file}`;
}

function unfold(on, fold, open) {
  if (!fold) return;
  fold.querySelector("button").setAttribute("aria-expanded", String(open));
  for (let i = +fold.dataset.from; i < +fold.dataset.to; i++) on.lines[i].classList.toggle("open", open);
}

function sort(by) {
  order = by;
  for (const b of document.querySelectorAll("[data-order]")) b.setAttribute("aria-pressed", String(b.dataset.order === by));
  for (const one of ways) arrange(one, by);
  if (way && way.lines[way.selected]) way.lines[way.selected].scrollIntoView({ block: "nearest" });
}

function arrange({ table, body, own, lines, rows, kinds: sums, total }, by) {
  table.classList.toggle("all", by !== "way");
  const lost = (i) => (rows[i].decades === null ? (rows[i].gain === null ? Infinity : -Infinity) : rows[i].decades);
  const all = lines.map((_, i) => i);
  // biggest loss first; where the whole gradient grew, biggest growth first
  const sign = total !== null && total > 0 ? -1 : 1;
  const cmp = (a, b) => { const x = lost(a), y = lost(b); return x === y ? a - b : Number.isFinite(x - y) ? sign * (x - y) : x < y ? -1 : 1; };
  if (by === "way") body.replaceChildren(...own);
  else if (by === "big") body.replaceChildren(...all.sort(cmp).map((i) => lines[i]));
  else {
    const kinds = new Map();
    for (const i of all) kinds.set(rows[i].kind, [...(kinds.get(rows[i].kind) || []), i]);
    const sum = (k) => kinds.get(k).reduce((s, i) => s + Math.abs(rows[i].decades || 0), 0);
    const parts = [];
    for (const kind of [...kinds.keys()].sort((a, b) => sum(b) - sum(a))) {
      const head = make("tr", undefined, "kind-head");
      const cell = make("th", `${kind}  ${sums[kind] || ""} decades, ${kinds.get(kind).length} ops`);
      cell.colSpan = 5;
      head.append(cell);
      parts.push(head, ...kinds.get(kind).map((i) => lines[i]));
    }
    body.replaceChildren(...parts);
  }
}

function step(by) {
  const seen = shown();
  const at = seen.indexOf(way.lines[way.selected]);
  const to = seen[Math.min(Math.max(at + by, 0), seen.length - 1)];
  if (to) select(+to.dataset.i, true);
}

function culprit(by) {
  const marked = ways.flatMap((one) => [...one.body.rows].filter((tr) => tr.classList.contains("marked")).map((tr) => [one, tr]));
  if (!marked.length) { $("says").textContent = "no op is to blame"; return; }
  const at = marked.findIndex(([, tr]) => tr === way.lines[way.selected]);
  const [one, tr] = marked[(at + by + marked.length) % marked.length];
  select(+tr.dataset.i, true, one);
}

for (const one of ways) {
  one.table.setAttribute("role", "grid");
  for (const [i, tr] of one.lines.entries()) {
    tr.tabIndex = i === one.selected || (one.selected < 0 && !i) ? 0 : -1;
    tr.setAttribute("aria-selected", String(i === one.selected));
  }
  one.body.addEventListener("click", (event) => {
    const tr = event.target.closest("tr");
    if (!tr) return;
    const button = tr.querySelector("button");
    if (button) unfold(one, tr, button.getAttribute("aria-expanded") !== "true");
    else if (tr.dataset.i !== undefined) select(+tr.dataset.i, true, one);
  });
}
for (const a of document.querySelectorAll("a.go")) {
  const one = ways.find(({ table }) => table.dataset.way === a.dataset.way);
  if (one) a.addEventListener("click", (event) => { event.preventDefault(); select(+a.dataset.row, true, one); });
}
for (const b of document.querySelectorAll("[data-order]")) b.addEventListener("click", () => sort(b.dataset.order));

// ── loss and heat map ──
const loss = $("loss");
const flipLog = () => {
  if ($("log")) $("log").setAttribute("aria-pressed", String(loss.classList.toggle("is-log")));
};
if ($("log")) {
  $("log").setAttribute("aria-pressed", String(loss.classList.contains("is-log")));
  $("log").addEventListener("click", flipLog);
}

const plot = $("heat");
const heat = data.heat;
if (plot && heat) {
  const codes = Uint8Array.from(atob(heat.codes), (c) => c.charCodeAt(0));
  const n = heat.params.length, m = heat.steps.length;
  const cell = plot.querySelector(".cell");
  const crosses = [plot.querySelector(".cross"), ...(loss ? [loss.querySelector(".cross")] : [])];
  const rest = $("heat-says").textContent;
  let at = [0, 0];
  const short = (x) => (x === 0 ? "0" : x.toPrecision(3).replace(/e([+-])(\d+)/, (_, s, d) => "e" + (s === "-" ? "−" : "") + d));
  const tell = (r, c) => {
    at = [r, c];
    const code = codes[r * m + c];
    const power = heat.low * (1 - (code - heat.lowest) / (255 - heat.lowest));
    const most = heat.largest[c];
    const says = code === 0 ? "no gradient, or not kept"
      : code === 1 ? "✕ not finite" : code === 2 ? "○ exactly zero"
      : `about 10^${power.toFixed(1).replace("-", "−")} of the largest` + (most === null ? "" : `, norm about ${short(most * 10 ** power)}`);
    $("heat-says").textContent = `step ${heat.steps[c]} · ${heat.params[r]} · ${says}`;
    plot.classList.add("on");
    if (loss) loss.classList.add("on");
    Object.assign(cell.style, { left: `${(100 * c) / m}%`, width: `${100 / m}%`, top: `${(100 * r) / n}%`, height: `${100 / n}%` });
    for (const cross of crosses) cross.style.left = `${(100 * (c + 0.5)) / m}%`;
  };
  const off = () => {
    plot.classList.remove("on");
    if (loss) loss.classList.remove("on");
    $("heat-says").textContent = rest;
  };
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const part = (v, size, k) => Math.min(Math.max(Math.floor((v / size) * k), 0), k - 1);
    tell(part(event.clientY - box.top, box.height, n), part(event.clientX - box.left, box.width, m));
  });
  plot.addEventListener("pointerleave", () => document.activeElement !== plot && off());
  plot.addEventListener("focus", () => tell(...at));
  plot.addEventListener("blur", off);
  plot.addEventListener("keydown", (event) => {
    const far = event.shiftKey ? 10 : 1;
    const move = { ArrowUp: [-far, 0], ArrowDown: [far, 0], ArrowLeft: [0, -far], ArrowRight: [0, far], Home: [0, -m], End: [0, m] }[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    tell(Math.min(Math.max(at[0] + move[0], 0), n - 1), Math.min(Math.max(at[1] + move[1], 0), m - 1));
  });
}

// ── keys ──
const keys = {
  ArrowDown: () => step(1), j: () => step(1), ArrowUp: () => step(-1), k: () => step(-1),
  Home: () => step(-1e9), End: () => step(1e9), g: () => culprit(1), G: () => culprit(-1),
  1: () => sort("way"), 2: () => sort("big"), 3: () => sort("kind"),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || ($("keys").open && event.key !== "?")) return;
  if (event.target.closest && event.target.closest("input, select, textarea, summary")) return;
  const act = { "?": help, t: flipTheme, l: flipLog }[event.key] || (way ? keys[event.key] : undefined);
  if (!act) return;
  // arrows scroll the page as ever, unless the waterfall has the focus or nothing has
  const inside = ways.find(({ table }) => table.contains(document.activeElement));
  const free = document.activeElement === document.body || inside;
  if (inside && inside !== way) { leave(way); way = inside; } // reached by the tab key
  if (/^(Arrow|Home|End)/.test(event.key) && !free) return;
  event.preventDefault();
  act();
});
})();
