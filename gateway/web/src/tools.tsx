/** What can be done to a message, by the buttons beside it and by their keys. */

import type { Conv, Rec, Seq } from "../sdk/index.ts";
import { Icon, type IconName } from "./parts.tsx";
import { mayPin } from "./pins.tsx";

export interface RowActions {
  reply(rec: Rec): void;
  edit(rec: Rec): void;
  remove(rec: Rec): void;
  /** Opens the picker of emoji beside the row of a message. */
  react(rec: Rec, row: HTMLElement | null): void;
  pin(rec: Rec, on: boolean): void;
  /** Opens the thread of a root; undefined: this is it. */
  thread: ((s: Seq) => void) | undefined;
  /** Shows what it said before. */
  versions(rec: Rec): void;
  /** Shows who has read it. */
  readers(rec: Rec): void;
  jump(s: Seq): void;
}

/** The author may, and in a group those who run it. */
export function mayDelete(conv: Conv, rec: Rec, me: string): boolean {
  if (rec.from === me) return true;
  return conv.kind === "group" && (conv.role === "owner" || conv.role === "admin");
}

/** While only announcements are wanted, those who run the group. */
export function mayWrite(conv: Conv): boolean {
  return !conv.announce || conv.role === "owner" || conv.role === "admin";
}

/** The author of a text. */
export function mayEdit(rec: Rec, me: string): boolean {
  return rec.from === me && rec.kind === "text";
}

export interface Deed {
  icon: IconName;
  name: string;
  key: string;
  on?: boolean;
  run(row: HTMLElement | null): void;
}

export function deedsOf(rec: Rec, conv: Conv, me: string, actions: RowActions): Deed[] {
  const pinned = rec.pinned !== undefined;
  const { thread } = actions;
  const deeds: (Deed | false | undefined)[] = [
    { icon: "smile", name: "React", key: "+", run: (row) => actions.react(rec, row) },
    mayWrite(conv) && {
      icon: "reply",
      name: "Reply",
      key: "r",
      run: () => actions.reply(rec),
    },
    thread &&
      mayWrite(conv) && {
        icon: "thread",
        name: "Thread",
        key: "t",
        run: () => thread(rec.thread ?? rec.s),
      },
    mayPin(conv) && {
      icon: "pin",
      name: pinned ? "Unpin" : "Pin",
      key: "p",
      on: pinned,
      run: () => actions.pin(rec, !pinned),
    },
    conv.kind === "group" && {
      icon: "eye",
      name: "Read by",
      key: "i",
      run: () => actions.readers(rec),
    },
    mayEdit(rec, me) && { icon: "edit", name: "Edit", key: "e", run: () => actions.edit(rec) },
    { icon: "trash", name: "Delete", key: "Delete", run: () => actions.remove(rec) },
  ];
  return deeds.filter((deed) => !!deed);
}

export function Tools(props: { deeds: Deed[] }) {
  return (
    <div class="tools" role="toolbar" aria-label="Message">
      {props.deeds.map(({ icon, name, key, on, run }) => (
        <button
          key={key}
          type="button"
          class={on ? "on" : undefined}
          title={`${name} (${key === "Delete" ? "Del" : key.toUpperCase()})`}
          aria-label={name}
          onClick={(event) => run(event.currentTarget.closest("[role=article]"))}
        >
          <Icon name={icon} />
        </button>
      ))}
    </div>
  );
}
