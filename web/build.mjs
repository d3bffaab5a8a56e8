// Bundles the front end into the Python package. `--check` writes nothing and fails where the committed bundle is stale.
// The output holds no path of this machine and no time, so that two machines write the same bytes.
import { build } from "esbuild";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const room = (name) => join(here, "..", "src", "gradientflow", name, "static");
const KEPT = new Set(["first.bin"]); // made by scripts/wire_types.py, not here
const SHARED = {
  absWorkingDir: here,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  charset: "utf8",
  legalComments: "none",
  jsx: "automatic",
  jsxImportSource: "preact",
  entryNames: "[name]",
  loader: { ".svg": "text", ".glsl": "text" },
  write: false,
  logLevel: "warning",
};

// The app: what is not needed at first paint is loaded later. The page of a report: one script, which it carries in itself.
const [app, page] = [room("app"), room("report")];
const made = [
  [app, await build({ ...SHARED, entryPoints: { app: "src/main.tsx", style: "src/style.css" }, outdir: app, splitting: true, chunkNames: "chunk-[hash]" })],
  [page, await build({ ...SHARED, entryPoints: { page: "src/page.tsx", "page.css": "src/page.css" }, entryNames: "page", outdir: page })],
];
const files = new Map(made.flatMap(([, found]) => found.outputFiles.map((f) => [f.path, f.contents])));
files.set(join(app, "index.html"), readFileSync(join(here, "src", "index.html")));

const there = [app, page].flatMap((folder) => (existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : []));
const stray = there.filter((path) => !files.has(path) && !KEPT.has(basename(path)));
if (process.argv.includes("--check")) {
  const stale = [...files].filter(([path, bytes]) => !there.includes(path) || !readFileSync(path).equals(bytes));
  if (stale.length || stray.length) {
    const told = [...stale.map(([path]) => path), ...stray].map((path) => relative(join(here, ".."), path)).join(", ");
    console.error(`the committed bundle is not what web/src says (${told}). Mend: make web`);
    process.exit(1);
  }
} else {
  for (const path of stray) rmSync(path);
  for (const [path, bytes] of files) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, bytes);
  }
}
