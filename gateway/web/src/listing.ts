/** The order of the conversation list, and what in it asks for attention. */

import { isHole, type Conv, type Millis } from "../sdk/index.ts";

/** When a message was last written. */
export function when(conv: Conv): Millis {
  return conv.last && !isHole(conv.last) ? conv.last.ts : 0;
}

/** Pinned ones first, then those of which `at` is the latest. */
export function sorted(convs: Iterable<Conv>, at: (conv: Conv) => Millis): Conv[] {
  const rank = (conv: Conv): number => (conv.pinned ? 1 : 0);
  return [...convs].sort((a, b) => rank(b) - rank(a) || at(b) - at(a));
}

export function isMuted(conv: Conv, now: Millis): boolean {
  return (conv.muted_until ?? 0) > now;
}

/** Of a muted one only what names the user counts. */
export function urgent(conv: Conv, now: Millis): number {
  if (conv.hidden) return 0;
  return isMuted(conv, now) ? (conv.mentions ?? 0) : conv.unread;
}

const PREFS = ["muted_until", "pinned", "hidden", "hidden_at", "draft"] as const;

/** What the user's own log has told since `conv` was read holds. */
export function withPrefs(conv: Conv, known: Conv | undefined): Conv {
  if (!known) return conv;
  const out = { ...conv };
  for (const key of PREFS) {
    delete out[key];
    if (key in known) Object.assign(out, { [key]: known[key] });
  }
  return out;
}
