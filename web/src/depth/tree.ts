// The rows of a way back as a tree of modules, and the three orders in which they may be read.
import type { Share, Way } from "../wire/types";
import { count } from "./spell";

export type Order = "way" | "loss" | "kind";

export interface Node {
  key: string;
  name: string;
  about: string; // module of an op, or how many ops a module holds
  site: string;
  rows: number[]; // of the way back, in its order
  children: Node[]; // empty: it is one op
  level: number;
  decades: number | null; // sum over the rows
  mark: string | null;
}

export interface Line {
  node: Node;
  open: boolean;
}

const START = 30; // lines that a way back opens with, at most

/** Whether what comes out of a row is not finite. (What is not finite travels as null.) */
export const broken = (row: Share, after: number | null): boolean => after === null && (row.mark === "not-finite" || (row.decades === null && row.norm === null));

export function tree(way: Way): Node[] {
  const rows = way.budget.by_op;
  const paths = pathsOf(way);
  const at = rows.map((_, i) => i);
  const nodes = grouped(way, at, paths, 0, "");
  return folded(way, nodes);
}

/** The module of each row; an activation that stands in the forward of a container goes with the layer whose output it takes. */
function pathsOf(way: Way): string[][] {
  const rows = way.budget.by_op;
  const paths = rows.map((_, i) => (way.paths[i] ? way.paths[i]!.split(".") : []));
  for (let i = rows.length - 2; i >= 0; i--) {
    const own = paths[i]!;
    const next = paths[i + 1]!;
    const above = own.length < next.length && own.every((part, k) => part === next[k]);
    if (above && rows[i]!.kind === "activation" && rows[i]!.body && rows[i + 1]!.body) paths[i] = next;
  }
  return paths;
}

function grouped(way: Way, at: number[], paths: string[][], depth: number, key: string): Node[] {
  const found: Node[] = [];
  for (let i = 0; i < at.length; ) {
    const name = paths[at[i]!]![depth];
    let j = i + 1;
    if (name !== undefined) while (j < at.length && paths[at[j]!]![depth] === name && body(way, at[j]!) === body(way, at[i]!)) j++;
    const part = at.slice(i, j);
    if (name === undefined || part.length === 1) found.push(leaf(way, part[0]!, depth));
    else found.push(compressed(inner(way, part, paths[part[0]!]!.slice(0, depth + 1).join("."), grouped(way, part, paths, depth + 1, `${key}/${name}`), `${key}/${name}@${part[0]}`, depth)));
    i = j;
  }
  return found;
}

const body = (way: Way, row: number): boolean => way.budget.by_op[row]!.body;

function leaf(way: Way, row: number, level: number): Node {
  const share = way.budget.by_op[row]!;
  const branch = share.kind === "branch";
  const module = way.paths[row] ?? "";
  const about = branch ? "" : module === share.name || share.name.startsWith(`${module}.`) ? "" : module;
  return { key: `row-${row}`, name: branch ? "⊕ routes join" : share.name, about, site: way.sites[row] ?? "", rows: [row], children: [], level, decades: share.decades, mark: share.mark };
}

function inner(way: Way, rows: number[], name: string, children: Node[], key: string, level: number): Node {
  const shares = rows.map((i) => way.budget.by_op[i]!);
  const end = way.budget.by_op.length - 1; // what the first layer would pass on is not asked for
  const known = shares.every((s, k) => (s.decades !== null && Number.isFinite(s.decades)) || (s.decades === null && rows[k] === end && s.gain === null));
  const marks = ["not-finite", "dead", "exploding", "vanishing"].filter((m) => shares.some((s) => s.mark === m));
  const sites = new Set(rows.map((i) => way.sites[i] ?? ""));
  return {
    key, name, about: count(rows.length, "op"), site: sites.size === 1 ? [...sites][0]! : "", rows, children, level,
    decades: known ? shares.reduce((sum, s) => sum + (s.decades ?? 0), 0) : null, mark: marks[0] ?? null,
  };
}

/** A module that holds nothing but one other module is that one. */
function compressed(node: Node): Node {
  const only = node.children.length === 1 ? node.children[0]! : null;
  return only && only.children.length ? { ...only, level: node.level } : node;
}

/** Long stretches of ops that repeat become one line each, as on the terminal. */
function folded(way: Way, nodes: Node[]): Node[] {
  const out: Node[] = [];
  for (let i = 0; i < nodes.length; ) {
    const first = nodes[i]!;
    const fold = first.children.length ? undefined : way.folds.find(([start]) => start === first.rows[0]);
    const stop = fold ? i + (fold[1] - fold[0]) : i;
    const part = nodes.slice(i, stop);
    if (fold && part.length > 2 && part.every((n) => !n.children.length) && part[part.length - 1]!.rows[0] === fold[1] - 1) {
      const rows = part.map((n) => n.rows[0]!);
      const children = part.map((n) => ({ ...n, level: n.level + 1 }));
      out.push({ ...inner(way, rows, fold[2], children, `fold-${fold[0]}`, first.level), about: "" });
      i = stop;
    } else {
      out.push(first.children.length ? { ...first, children: folded(way, first.children) } : first);
      i += 1;
    }
  }
  return out;
}

/** Which modules are open at first: the outer ones, as long as the lines fit on a screen; what holds only ops stays shut. */
export function openAtFirst(nodes: Node[]): Set<string> {
  const open = new Set<string>();
  let shown = nodes.length;
  let level = nodes;
  while (level.length) {
    const next: Node[] = [];
    for (const node of level) {
      const modules = node.children.some((c) => c.children.length);
      if (modules && shown + node.children.length - 1 <= START) {
        open.add(node.key);
        shown += node.children.length - 1;
        next.push(...node.children);
      }
    }
    level = next;
  }
  return open;
}

export function linesOf(way: Way, nodes: Node[], order: Order, open: Set<string>): Line[] {
  if (order === "way") return walked(nodes, open);
  const leaves = way.budget.by_op.map((_, i) => leaf(way, i, 0)).sort((a, b) => size(b) - size(a));
  if (order === "loss") return leaves.map((node) => ({ node, open: false }));
  const kinds = new Map<string, Node[]>();
  for (const node of leaves) {
    const kind = way.budget.by_op[node.rows[0]!]!.kind;
    kinds.set(kind, [...(kinds.get(kind) ?? []), { ...node, level: 1 }]);
  }
  const groups = [...kinds].map(([kind, found]) => inner(way, found.map((n) => n.rows[0]!), kind, found, `kind-${kind}`, 0));
  return walked(groups.sort((a, b) => size(b) - size(a)), open);
}

const size = (node: Node): number => (node.decades === null ? (node.mark === "not-finite" || node.mark === "dead" ? Infinity : -1) : Math.abs(node.decades));

function walked(nodes: Node[], open: Set<string>): Line[] {
  return nodes.flatMap((node) => {
    const isOpen = node.children.length > 0 && open.has(node.key);
    return [{ node, open: isOpen }, ...(isOpen ? walked(node.children, open) : [])];
  });
}

/** Keys of all that can be opened. */
export const keysOf = (nodes: Node[]): string[] => nodes.flatMap((n) => (n.children.length ? [n.key, ...keysOf(n.children)] : []));

/** Keys of the modules that hide a row. */
export function around(nodes: Node[], row: number): string[] {
  const holds = nodes.find((n) => n.children.length && n.rows.includes(row));
  return holds ? [holds.key, ...around(holds.children, row)] : [];
}
