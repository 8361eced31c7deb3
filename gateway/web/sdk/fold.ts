/**
 * What a record makes of a message, or of a conversation, as they were before it: so that what was
 * read by `range` folded, or came by `convs`, is kept up by the records that follow.
 *
 * Exact as long as each record after the head of that reading is folded in once and in order, which
 * is how `rec` gives them; after `skipped` it has to be read again.
 */

import { isHole, isMessage, type Conv, type Hole, type Millis } from "./types.ts";
import type { Prefs, Rec, Seq, Thread } from "./types.ts";

/** What a `meta` may set. */
const SETTINGS = ["name", "topic", "ttl", "history", "announce", "lang", "searchable"] as const;

/** `me`: whose view this is. */
export function foldMessage(old: Rec, change: Rec, me: string | null): Rec | Hole {
  if (change.thread === old.s && isMessage(change))
    return { ...old, replies: (old.replies ?? 0) + 1 };
  if (change.thread === old.s && change.kind === "delete")
    return { ...old, replies: Math.max(0, (old.replies ?? 0) - 1) };
  if (change.target !== old.s) return old;
  const body = change.body ?? {};
  switch (change.kind) {
    case "edit":
      return change.body ? { ...old, body, edited: change.ts } : old;
    case "delete":
      return { c: old.c, hole: [old.s, old.s], why: "erased" };
    case "react":
      return typeof body["emoji"] === "string"
        ? foldReaction(old, body["emoji"], body["on"] !== false, change.from === me)
        : old;
    case "pin": {
      const { pinned: _, ...rest } = old;
      return body["on"] !== false ? { ...rest, pinned: change.ts } : rest;
    }
    default:
      return old;
  }
}

/**
 * One user puts an emoji on a message, or takes it off. One's own may be folded in again, ahead of
 * the record of it; others' count each time.
 */
export function foldReaction(old: Rec, emoji: string, on: boolean, mine: boolean): Rec {
  const { reactions = {}, ...rest } = old;
  const was = reactions[emoji] ?? { n: 0, me: false };
  if (mine && was.me === on) return old;
  const now = { n: was.n + (on ? 1 : -1), me: mine ? on : was.me };
  const { [emoji]: _, ...others } = reactions;
  const left = now.n > 0 ? { ...reactions, [emoji]: now } : others;
  return Object.keys(left).length > 0 ? { ...rest, reactions: left } : rest;
}

/** One's own word that a message is deleted for oneself. */
export function foldHide(old: Rec | Hole, s: Seq): Rec | Hole {
  return isHole(old) || old.s !== s ? old : { c: old.c, hole: [s, s], why: "hidden" };
}

/** A thread after a message came into it, or was deleted; who writes has read what came before. */
export function foldThread(thread: Thread, rec: Rec, me: string | null): Thread {
  if (rec.thread === thread.s && rec.kind === "delete") {
    const unread = (rec.target ?? 0) > thread.read ? Math.max(0, thread.unread - 1) : thread.unread;
    return { ...thread, replies: Math.max(0, thread.replies - 1), unread };
  }
  if (rec.thread !== thread.s || !isMessage(rec) || rec.s <= thread.last) return thread;
  const next = { ...thread, replies: thread.replies + 1, last: rec.s };
  return rec.from === me
    ? { ...next, read: rec.s, unread: 0 }
    : { ...next, unread: thread.unread + 1 };
}

/** Settings, pins, the number of members and one's own role; a message brings back what is hidden. */
export function foldConv(conv: Conv, change: Rec, me: string | null): Conv {
  const body = change.body ?? {};
  const unpinned = (conv.pins ?? []).filter((s) => s !== change.target);
  switch (change.kind) {
    case "pin":
      if (change.target === undefined) return conv;
      return { ...conv, pins: body["on"] !== false ? [...unpinned, change.target] : unpinned };
    case "delete":
      return { ...conv, pins: unpinned };
    case "meta": {
      const settings = { ...conv };
      for (const key of SETTINGS)
        if (key in body) Object.assign(settings, { [key]: body[key] });
      return settings;
    }
    case "member": {
      const { user, set, role } = body;
      if (set === "add") return { ...conv, members: conv.members + 1 };
      if (set === "remove") return { ...conv, members: Math.max(0, conv.members - 1) };
      return set === "role" && user === me && typeof role === "string"
        ? { ...conv, role }
        : conv;
    }
    default:
      return isMessage(change) && conv.hidden && change.ts > (conv.hidden_at ?? 0)
        ? { ...conv, hidden: false }
        : conv;
  }
}

/**
 * What `prefs` of the user made of a conversation at `ts`. Its messages come by another way: one
 * that is newer may be here already.
 */
export function foldPrefs(conv: Conv, prefs: Prefs, ts: Millis): Conv {
  const out: Conv = { ...conv };
  for (const key of ["muted_until", "pinned", "draft"] as const)
    if (key in prefs) Object.assign(out, { [key]: prefs[key] });
  if (prefs.hidden !== undefined) {
    const newest = conv.last && !isHole(conv.last) ? conv.last.ts : 0;
    out.hidden = prefs.hidden && newest <= ts;
    out.hidden_at = ts;
  }
  return out;
}
