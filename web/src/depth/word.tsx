// A word that explains itself: by the pointer, by the focus, and by a press where there is neither.
import { Component, type ComponentChildren } from "preact";
import { MEANINGS } from "../wire/words";

export class Word extends Component<{ of: string; text?: string }, { open: boolean }> {
  override state = { open: false };

  render() {
    const { of, text } = this.props;
    const told = MEANINGS[of];
    if (!told) return <>{text ?? of}</>;
    return (
      <span class="word">
        <button
          type="button" title={told} aria-expanded={this.state.open}
          onClick={(e) => { e.stopPropagation(); this.setState({ open: !this.state.open }); }}
          onKeyDown={(e) => { if (e.key === "Escape") this.setState({ open: false }); }}
          onBlur={() => this.setState({ open: false })}
        >{text ?? of}</button>
        {this.state.open && <span class="meaning" role="note">{told}</span>}
      </span>
    );
  }
}

/** What changes only with what it is told of. */
export class Still extends Component<{ of: unknown; make: () => ComponentChildren }> {
  override shouldComponentUpdate(next: { of: unknown }) { return next.of !== this.props.of; }
  render() { return <>{this.props.make()}</>; }
}

/** What is made only when it is opened. */
export class More extends Component<{ text: string; make: () => ComponentChildren }, { open: boolean }> {
  override state = { open: false };

  render() {
    return <details onToggle={(e) => this.setState({ open: e.currentTarget.open })}><summary>{this.props.text}</summary>{this.state.open && this.props.make()}</details>;
  }
}

/** A sentence, in which what stands in backticks is code. */
export const Prose = ({ text }: { text: string }) => <>{text.split(/`([^`]+)`/).map((part, k) => (k % 2 ? <code>{part}</code> : part))}</>;

/** The old way to copy, for pages that open from disk or stand in a frame. */
function byHand(text: string): boolean {
  const held = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: text }));
  Object.assign(held.style, { position: "fixed", opacity: "0" });
  const had = document.activeElement;
  held.select();
  const done = document.execCommand("copy");
  held.remove();
  if (had instanceof HTMLElement) had.focus();
  return done;
}

/** Copies a text, and says so. */
export class Copy extends Component<{ text: string; label: string }, { done: string }> {
  override state = { done: "" };

  async copy() {
    let done = "copied";
    try {
      await navigator.clipboard.writeText(this.props.text);
    } catch {
      if (!byHand(this.props.text)) done = "the browser does not let this page copy";
    }
    this.setState({ done });
    setTimeout(() => this.setState({ done: "" }), 1800);
  }

  render() {
    return <button type="button" class="copy" onClick={() => void this.copy()}><span aria-live="polite">{this.state.done || this.props.label}</span></button>;
  }
}
