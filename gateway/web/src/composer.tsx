/** Where messages are written, answered and changed. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Conv, Rec, Seq } from "../sdk/index.ts";
import { useObserved } from "./observe.ts";
import { Icon } from "./parts.tsx";
import type { Store } from "./store.ts";
import { Suggestions, useSuggestions } from "./suggest.tsx";
import { mayWrite } from "./tools.tsx";
import { textOf } from "./words.ts";

export type Mode = { kind: "new" } | { kind: "reply"; rec: Rec } | { kind: "edit"; rec: Rec };

interface Props {
  store: Store;
  conv: Conv;
  /** What is written goes into this thread. */
  thread?: Seq;
  mode: Mode;
  onDone: () => void;
  /** Arrow up in an empty field. */
  onEditLast: () => void;
}

/** The server's bound on a text, in bytes. */
const TEXT_MAX = 32_768;
/** The field grows up to this, then it scrolls. */
const FIELD_MAX_PX = 200;
const encoder = new TextEncoder();
const touch = matchMedia("(pointer: coarse)");

export function Composer({ store, conv, thread, mode, onDone, onEditLast }: Props) {
  const field = useRef<HTMLTextAreaElement>(null);
  const drafts = useObserved(store.drafts);
  const blocked = useObserved(store.blocks).has(conv.with);
  const [edited, setEdited] = useState("");
  const editing = mode.kind === "edit" ? mode.rec : null;
  // The one draft of a conversation is not for its threads: this page keeps what is begun there.
  const key = `${conv.c} ${thread}`;
  const [begun, setBegun] = useState(store.begun.get(key) ?? "");
  const text = editing ? edited : thread === undefined ? drafts.of(conv.c) : begun;
  useEffect(() => () => drafts.flush(conv.c), []);

  // Before the next key is pressed: the focus must not move later.
  useLayoutEffect(() => {
    if (editing) setEdited(textOf(editing));
    if (editing || mode.kind === "reply" || !touch.matches) field.current?.focus();
  }, [mode]);
  useLayoutEffect(() => {
    if (!field.current) return; // nobody writes here
    const { style } = field.current;
    style.height = "auto";
    style.height = `${Math.min(FIELD_MAX_PX, field.current.scrollHeight)}px`;
  }, [text]);

  const change = (value: string): void => {
    if (editing) return setEdited(value);
    if (value !== "") store.client.typing(conv.c);
    if (thread === undefined) drafts.change(conv.c, value);
    else {
      store.begun.set(key, value);
      setBegun(value);
    }
  };
  const list = useSuggestions({ store, conv, field, change });
  const submit = (): void => {
    const trimmed = text.replace(/\s+$/, "");
    if (trimmed.trim() === "") return;
    if (encoder.encode(trimmed).length > TEXT_MAX)
      return store.tell("This text is too long for one message.", true);
    // What becomes of it, the queue tells.
    if (editing) {
      if (trimmed !== textOf(editing))
        store.client.edit(conv.c, editing.s, { ...editing.body, text: trimmed });
    } else {
      store.send(conv, trimmed, {
        ...(mode.kind === "reply" && { reply: mode.rec.s }),
        ...(thread !== undefined && { thread }),
      });
      change("");
      if (thread === undefined) drafts.flush(conv.c);
    }
    onDone();
    field.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.isComposing) return;
    if (!editing && list.onKey(event)) return event.preventDefault();
    if (event.key === "Enter" && !event.shiftKey && !touch.matches) submit();
    else if (event.key === "Escape" && mode.kind !== "new") onDone();
    else if (event.key === "ArrowUp" && text === "") onEditLast();
    else return;
    event.preventDefault();
  };

  if (blocked && !editing)
    return (
      <div class="composer">
        <p class="closed">
          You have blocked {conv.with}.{" "}
          <button type="button" onClick={() => store.block(conv.with!, false)}>
            Unblock
          </button>
        </p>
      </div>
    );
  if (!mayWrite(conv) && !editing)
    return (
      <div class="composer">
        <p class="closed">Only owners and admins write here.</p>
      </div>
    );
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      {mode.kind !== "new" && (
        <div class="about">
          <Icon name={mode.kind} />
          <div>
            <b>
              {editing
                ? "Edit message"
                : `Reply to ${mode.rec.from === store.me ? "yourself" : mode.rec.from}`}
            </b>
            <span>{textOf(mode.rec).slice(0, 200)}</span>
          </div>
          <button type="button" class="round" aria-label="Cancel" onClick={onDone}>
            <Icon name="close" />
          </button>
        </div>
      )}
      <div class="field">
        {!editing && <Suggestions list={list} conv={conv} />}
        <textarea
          {...list.attributes}
          ref={field}
          rows={1}
          value={text}
          placeholder={thread === undefined ? "Write a message" : "Reply in the thread"}
          aria-label={thread === undefined ? "Message" : "Reply in the thread"}
          enterkeyhint="send"
          onInput={(event) => {
            change(event.currentTarget.value);
            list.look();
          }}
          onSelect={list.look}
          onKeyDown={onKeyDown}
        />
        <button
          type="submit"
          class="send"
          aria-label={editing ? "Save" : "Send"}
          disabled={text.trim() === ""}
        >
          <Icon name={editing ? "check" : "send"} />
        </button>
      </div>
    </form>
  );
}
