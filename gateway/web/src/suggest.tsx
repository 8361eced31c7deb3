/** The list of members that opens at an @ in the composer. The focus stays in the field. */

import type { RefObject } from "preact";
import { useEffect, useId, useState } from "preact/hooks";
import type { Conv } from "../sdk/index.ts";
import { ALL, openMention } from "./mentions.ts";
import { useObserved } from "./observe.ts";
import { Avatar, Icon } from "./parts.tsx";
import type { Store } from "./store.ts";
import { plural } from "./words.ts";

const MOST = 8;

export interface Suggesting {
  /** Of the list; each entry has one that begins with it. */
  id: string;
  names: string[];
  chosen: string | undefined;
  /** For the field. */
  attributes: Record<string, string | undefined>;
  /** The caret moved, or the text changed. */
  look: () => void;
  pick: (name: string) => void;
  /** True: the key was for the list. */
  onKey: (event: KeyboardEvent) => boolean;
}

export function useSuggestions(props: {
  store: Store;
  conv: Conv;
  field: RefObject<HTMLTextAreaElement | null>;
  change: (text: string) => void;
}): Suggesting {
  const { store, conv, field, change } = props;
  const people = useObserved(store.people);
  const id = useId();
  const [open, setOpen] = useState<{ at: number; name: string } | null>(null);
  const [closed, setClosed] = useState(-1); // the @ that Escape was pressed at
  const [index, setIndex] = useState(0);
  const wanted = conv.kind === "group" && open !== null && open.at !== closed;
  const names = wanted ? people.matching(conv, open.name, store.me, MOST) : [];
  const at = Math.min(index, names.length - 1);
  useEffect(() => {
    if (wanted) void people.load(conv);
  }, [wanted, conv.members]);
  useEffect(() => {
    if (names.length > 0) store.say(`${plural(names.length, "person", "people")} to mention`);
  }, [names.length]);

  const look = (): void => {
    const { value, selectionStart, selectionEnd } = field.current!;
    const next = selectionStart === selectionEnd ? openMention(value, selectionStart) : null;
    if (next?.at === open?.at && next?.name === open?.name) return;
    setOpen(next);
    setIndex(0);
    if (next?.at !== closed) setClosed(-1);
  };
  const pick = (name: string): void => {
    const element = field.current!;
    const { value, selectionStart } = element;
    const end = `@${name} `;
    const rest = value.slice(selectionStart).replace(/^ /, "");
    // Into the field at once: the caret has its place only there.
    element.value = value.slice(0, open!.at) + end + rest;
    element.selectionStart = element.selectionEnd = open!.at + end.length;
    setOpen(null);
    change(element.value);
    element.focus();
  };
  const onKey = (event: KeyboardEvent): boolean => {
    if (names.length === 0 || event.isComposing) return false;
    if (event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return false;
    if (event.key === "ArrowDown") setIndex((at + 1) % names.length);
    else if (event.key === "ArrowUp") setIndex((at + names.length - 1) % names.length);
    else if (event.key === "Enter" || event.key === "Tab") pick(names[at]!);
    else if (event.key === "Escape") setClosed(open!.at);
    else return false;
    return true;
  };
  const chosen = names[at];
  return {
    id,
    names,
    chosen,
    attributes: {
      "aria-autocomplete": conv.kind === "group" ? "list" : undefined,
      "aria-haspopup": conv.kind === "group" ? "listbox" : undefined,
      "aria-controls": names.length > 0 ? id : undefined,
      "aria-activedescendant": chosen === undefined ? undefined : `${id}-${chosen}`,
    },
    look,
    pick,
    onKey,
  };
}

export function Suggestions(props: { list: Suggesting; conv: Conv }) {
  const { id, names, chosen, pick } = props.list;
  if (names.length === 0) return null;
  return (
    <div class="suggestions" id={id} role="listbox" aria-label="Whom to mention">
      {names.map((name) => (
        <div
          key={name}
          id={`${id}-${name}`}
          class="suggestion"
          role="option"
          aria-selected={name === chosen}
          onMouseDown={(event) => event.preventDefault()}
          onClick={() => pick(name)}
        >
          {name === ALL ? (
            <span class="avatar small group everybody" aria-hidden="true">
              <Icon name="people" />
            </span>
          ) : (
            <Avatar name={name} small />
          )}
          <span class="name">{name}</span>
          {name === ALL && (
            <span class="hint">everybody, {plural(props.conv.members, "member")}</span>
          )}
        </div>
      ))}
    </div>
  );
}
