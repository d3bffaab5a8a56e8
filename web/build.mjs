// Bundles the front end into the Python package. `--check` writes nothing and fails where the committed bundle is stale.
// The output holds no path of this machine and no time, so that two machines write the same bytes.
import { build } from "esbuild";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "src", "gradientflow", "app", "static");
const KEPT = new Set(["first.bin"]); // made by scripts/wire_types.py, not here

const made = await build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx", style: "src/style.css" },
  outdir: out,
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  charset: "utf8",
  legalComments: "none",
  jsx: "automatic",
  jsxImportSource: "preact",
  entryNames: "[name]",
  chunkNames: "chunk-[hash]",
  loader: { ".svg": "text", ".glsl": "text" },
  write: false,
  logLevel: "warning",
});
const files = new Map(made.outputFiles.map((f) => [relative(out, f.path), f.contents]));
files.set("index.html", readFileSync(join(here, "src", "index.html")));

const there = existsSync(out) ? readdirSync(out) : [];
if (process.argv.includes("--check")) {
  const stale = [...files].filter(([name, bytes]) => !there.includes(name) || !readFileSync(join(out, name)).equals(bytes));
  const extra = there.filter((name) => !files.has(name) && !KEPT.has(name));
  if (stale.length || extra.length) {
    const told = [...stale.map(([name]) => name), ...extra].join(", ");
    console.error(`the committed bundle is not what web/src says (${told}). Mend: make web`);
    process.exit(1);
  }
} else {
  mkdirSync(out, { recursive: true });
  for (const name of there) if (!files.has(name) && !KEPT.has(name)) rmSync(join(out, name));
  for (const [name, bytes] of files) writeFileSync(join(out, name), bytes);
}
