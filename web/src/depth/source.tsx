// Lines of source that the run recorded, as text; copied, or opened in an editor where the reader asks for it.
import type { Excerpt } from "../wire/types";
import { Copy } from "./word";

const inEditor = (e: Excerpt): string => `vscode://file/${(e.path ?? "").split(/[\\/]/).map(encodeURIComponent).join("/").replace(/^\//, "")}:${e.line}`;

export function Source({ excerpt, mark }: { excerpt: Excerpt | null; mark: string }) {
  if (!excerpt) return null;
  const hit = excerpt.lines.find((l) => l[2]);
  return (
    <figure class="excerpt">
      <figcaption>
        <code title={excerpt.path ?? excerpt.site}>{excerpt.site}</code>
        <span class="acts">
          <Copy label="copy line" text={hit?.[1].trim() ?? ""} />
          <Copy label="copy place" text={`${excerpt.path ?? excerpt.file}:${excerpt.line}`} />
          {excerpt.path && <a href={inEditor(excerpt)}>open in editor</a>}
        </span>
      </figcaption>
      <pre tabIndex={0} aria-label={`source, line ${excerpt.line}`}>
        {excerpt.lines.map(([no, text, marked]) => (
          <span class={marked ? "ln hit" : "ln"}><span class="no">{marked ? mark : " "} {no}</span><code>{text || " "}</code></span>
        ))}
      </pre>
    </figure>
  );
}
