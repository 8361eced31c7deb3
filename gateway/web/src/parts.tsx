/** Small parts that several views use. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { ALL, namesIn } from "./mentions.ts";

const HUES = 12;

function hueOf(name: string): number {
  let hash = 0x811c9dc5; // FNV-1a, then mixed once more: short names differ little
  for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return ((hash ^ (hash >>> 13)) >>> 0) % HUES;
}

function initialsOf(name: string): string {
  const words = name.split(/[\s._@-]+/).filter((word) => /[\p{L}\p{N}]/u.test(word));
  const letters = words.slice(0, 2).map((word) => [.../[\p{L}\p{N}].*/u.exec(word)![0]][0]!);
  return (letters.join("") || "?").toUpperCase();
}

export const hueClass = (name: string): string => `hue-${hueOf(name)}`;

export function Avatar(props: { name: string; group?: boolean; small?: boolean }) {
  const shape = [props.group && "group", props.small && "small"].filter(Boolean).join(" ");
  return (
    <span class={`avatar ${hueClass(props.name)} ${shape}`} aria-hidden="true">
      {initialsOf(props.name)}
    </span>
  );
}

const PATHS = {
  add: "M12 5v14M5 12h14",
  archive: "M4 5h16v4H4zM5.5 9v10.5h13V9M10 13h4",
  block: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM6 6l12 12",
  thread: "M5 4v9a4 4 0 0 0 4 4h10M15 13l4 4-4 4M9 6h10M9 10.500h7",
  back: "M15 5l-7 7 7 7",
  bell: "M6 16.5V11a6 6 0 0 1 12 0v5.5l1.5 1.5h-15zM10 20.5h4M12 3v2",
  check: "M5 12.5l4.5 4.5L19 7.5",
  checks: "M2.5 12.5L7 17l8.5-9.5M11.5 16l1 1L21 7.5",
  clock: "M12 7v5l3 2M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z",
  close: "M6 6l12 12M18 6L6 18",
  down: "M6 9l6 6 6-6",
  eye:
    "M2.5 12C5 7.500 8.500 5.500 12 5.500s7 2 9.500 6.500c-2.500 4.500-6 6.500-9.500 6.500" +
    "S5 16.500 2.500 12z" +
    "M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  edit: "M4 20h4L19 9l-4-4L4 16zM13.5 6.5l4 4",
  exit: "M14 4h5v16h-5M10 8l-4 4 4 4M6 12h9",
  file: "M7 3h7l4 4v14H7zM14 3v4h4",
  more: "M12 5.5v.1M12 12v.1M12 18.5v.1",
  mute:
    "M8 6.5A6 6 0 0 1 18 11v3.5M18.5 18h-14L6 16.5V11c0-.7.1-1.3.3-2M10 20.5h4M12 3v2" +
    "M4 4l16 16",
  people:
    "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c.5-4 3-6 6.5-6s6 2 6.5 6" +
    "M16 4.5a3.5 3.5 0 0 1 0 6M18.5 14.5c1.8.8 2.8 2.5 3 5.5",
  pin: "M9 4h6l-1 6 3 3.500H7L10 10zM12 13.500V20",
  reply: "M9 6l-5 5 5 5M4 11h9c4 0 7 2.5 7 7",
  smile:
    "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM8.5 14c.8 1.500 2 2.300 3.500 2.300" +
    "s2.700-.8 3.500-2.300M9 9.500v.5M15 9.500v.5",
  settings:
    "M4 7h9M17 7h3M4 17h3M11 17h9M15 5a2 2 0 1 0 0 4 2 2 0 0 0 0-4zM9 15a2 2 0 1 0 0 4 2 2 0 0 0 0-4z",
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.500L20 20",
  send: "M4 12L20 4l-4 16-4.5-6.500zM11.5 13.500L20 4",
  trash: "M5 7h14M10 7V4.500h4V7M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
  unarchive: "M4 5h16v4H4zM5.5 9v10.5h13V9M12 17.500v-5M9.5 14.500l2.500-2.500 2.500 2.500",
  warn: "M12 4l9 16H3zM12 10v4.500M12 17v.5",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon(props: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={PATHS[props.name]} />
    </svg>
  );
}

const LINK = /\bhttps?:\/\/[^\s<>"'`]+/gi;
const TAIL = /[.,;:!?)\]}>’”…]+$/;

/** Text with its http(s) addresses as links, names as marks, and nothing else made of it. */
export function Linked(props: {
  text: string;
  mentions?: string[] | "all" | undefined;
  me?: string;
}) {
  const { text, mentions, me } = props;
  const out: ComponentChildren[] = [];
  const plain = (part: string): void => {
    let from = 0;
    const known = (name: string): boolean =>
      mentions === "all" ? name === ALL : (mentions?.includes(name) ?? false);
    for (const { at, name } of mentions ? namesIn(part, known) : []) {
      const mine = mentions === "all" || name === me;
      out.push(part.slice(from, at));
      out.push(<b class={`at${mine ? " me" : ""}`}>@{name}</b>);
      from = at + 1 + name.length;
    }
    out.push(part.slice(from));
  };
  let from = 0;
  for (const match of text.matchAll(LINK)) {
    let address = match[0];
    const tail = TAIL.exec(address)?.[0] ?? "";
    // A bracket that was opened inside belongs to the address.
    const keep = tail.startsWith(")") && address.includes("(") ? 1 : 0;
    address = address.slice(0, address.length - tail.length + keep);
    if (!URL.canParse(address)) continue;
    plain(text.slice(from, match.index));
    out.push(
      <a href={address} target="_blank" rel="noopener noreferrer nofollow">
        {address}
      </a>,
    );
    from = match.index + address.length;
  }
  plain(text.slice(from));
  return <>{out}</>;
}

/** A modal dialog; Escape and a click beside it close it. */
export function Dialog(props: {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current!;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  return (
    <dialog
      ref={ref}
      class="dialog"
      aria-label={props.title}
      onCancel={(event) => {
        event.preventDefault();
        props.onClose();
      }}
      onClick={(event) => event.target === ref.current && props.onClose()}
    >
      <div class="dialog-body">
        <header>
          <h2>{props.title}</h2>
          <button type="button" class="round" aria-label="Close" onClick={props.onClose}>
            <Icon name="close" />
          </button>
        </header>
        {props.children}
      </div>
    </dialog>
  );
}
