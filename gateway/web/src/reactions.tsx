/** The reactions below a message, and where one is picked. */

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Rec } from "../sdk/index.ts";
import { COLUMNS, COMMON, isEmoji, nameOf } from "./emoji.ts";
import { Icon } from "./parts.tsx";
import { count, plural } from "./words.ts";

/** One's own are marked; a press puts one on or takes it off. */
export function Reactions(props: {
  rec: Rec;
  reachable: boolean;
  onToggle: (emoji: string) => void;
}) {
  return (
    <div class="reactions" role="group" aria-label="Reactions">
      {Object.entries(props.rec.reactions ?? {}).map(([emoji, { n, me }]) => {
        const others = me ? n - 1 : n;
        const who = me
          ? others > 0
            ? `you and ${plural(others, "other")}`
            : "you"
          : plural(n, "person", "people");
        return (
          <button
            key={emoji}
            type="button"
            class={`reaction${me ? " mine" : ""}`}
            aria-pressed={me}
            aria-label={`${nameOf(emoji)}, ${who}`}
            title={`${emoji} ${who}`}
            tabIndex={props.reachable ? 0 : -1}
            data-emoji={emoji}
            onClick={() => props.onToggle(emoji)}
          >
            <span class="emoji">{emoji}</span>
            <span>{count(n)}</span>
          </button>
        );
      })}
    </div>
  );
}

const STEPS: Record<string, number> = {
  ArrowLeft: -1,
  ArrowRight: 1,
  ArrowUp: -COLUMNS,
  ArrowDown: COLUMNS,
};
/** Room between the picker and the message, and the edges of the window. */
const GAP_PX = 8;

/** Beside a message: the common ones by mouse or arrows, any other one by its field. */
export function Picker(props: {
  rec: Rec;
  /** The row of the message. */
  row: HTMLElement | null;
  onPick: (emoji: string) => void;
  onClose: () => void;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const grid = useRef<HTMLDivElement>(null);
  const [at, setAt] = useState(0);
  const [text, setText] = useState("");
  const [wrong, setWrong] = useState(false);
  // Before the next key is pressed: it is for the picker.
  useLayoutEffect(() => {
    const element = dialog.current!;
    element.showModal();
    place(element, props.row?.querySelector(".bubble") ?? null);
    focus(0);
    return () => {
      element.close();
      props.row?.focus({ preventScroll: true });
    };
  }, []);
  const focus = (index: number): void => {
    setAt(index);
    (grid.current!.children[index] as HTMLElement).focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const next = at + (STEPS[event.key] ?? 0);
    if (event.key === "Home") focus(0);
    else if (event.key === "End") focus(COMMON.length - 1);
    else if (!(event.key in STEPS)) return;
    else if (next >= 0 && next < COMMON.length) focus(next);
    event.preventDefault();
  };
  const submit = (event: Event): void => {
    event.preventDefault();
    if (isEmoji(text.trim())) props.onPick(text.trim());
    else setWrong(true);
  };
  return (
    <dialog
      ref={dialog}
      class="picker"
      aria-label="React"
      onCancel={(event) => {
        event.preventDefault();
        props.onClose();
      }}
      onClick={(event) => event.target === dialog.current && props.onClose()}
    >
      <div
        class="emojis"
        ref={grid}
        role="toolbar"
        aria-label="Common emoji"
        onKeyDown={onKeyDown}
      >
        {COMMON.map(([emoji, name], i) => (
          <button
            key={emoji}
            type="button"
            class="emoji"
            title={name}
            aria-label={name}
            aria-pressed={props.rec.reactions?.[emoji]?.me ?? false}
            tabIndex={i === at ? 0 : -1}
            onFocus={() => setAt(i)}
            onClick={() => props.onPick(emoji)}
          >
            {emoji}
          </button>
        ))}
      </div>
      <form onSubmit={submit}>
        <input
          value={text}
          placeholder="Any other emoji"
          aria-label="Any other emoji"
          aria-invalid={wrong}
          autocomplete="off"
          onInput={(event) => {
            setText(event.currentTarget.value);
            setWrong(false);
          }}
        />
        <button
          type="submit"
          class="round"
          aria-label="React with it"
          disabled={text.trim() === ""}
        >
          <Icon name="check" />
        </button>
      </form>
      {wrong && (
        <p class="error" role="alert">
          That is not one emoji.
        </p>
      )}
    </dialog>
  );
}

/** Above the bubble where there is room, else below it; always inside the window. */
function place(dialog: HTMLElement, bubble: Element | null): void {
  if (!bubble) return;
  const [box, size] = [bubble.getBoundingClientRect(), dialog.getBoundingClientRect()];
  const right = box.left + box.width / 2 > innerWidth / 2;
  const left = right ? box.right - size.width : box.left;
  const above = box.top - size.height - GAP_PX;
  const top = above >= GAP_PX ? above : box.bottom + GAP_PX;
  const within = (x: number, most: number): number => Math.max(GAP_PX, Math.min(x, most));
  dialog.style.left = `${within(left, innerWidth - size.width - GAP_PX)}px`;
  dialog.style.top = `${within(top, innerHeight - size.height - GAP_PX)}px`;
}
