/** Names with an @ in a text: the one that is being written, and those that it means. */

import type { Client, Conv, ConvId } from "../sdk/index.ts";
import { Observed } from "./observe.ts";

/** The server's bound. */
const MENTIONS_MAX = 100;
/** Up to so many members everybody may mention all. */
const ALL_MAX = 32;
/** Pages of members that are read, most. */
const PAGES = 5;
const NAMED = /(?<![A-Za-z0-9._@-])@([A-Za-z0-9._@-]{1,64})/g;
const OPEN = /(?<![A-Za-z0-9._@-])@([A-Za-z0-9._@-]*)$/;

export const ALL = "all";

export function mayMentionAll(conv: Conv): boolean {
  return conv.members <= ALL_MAX || conv.role === "owner" || conv.role === "admin";
}

/** The name that ends at the caret, and where its @ stands. */
export function openMention(text: string, caret: number): { at: number; name: string } | null {
  const found = OPEN.exec(text.slice(0, caret));
  return found && { at: found.index, name: found[1]! };
}

/** Where names stand that are known; what follows of punctuation is not part of them. */
export function* namesIn(
  text: string,
  known: (name: string) => boolean,
): Generator<{ at: number; name: string }> {
  for (const match of text.matchAll(NAMED)) {
    let name = match[1]!;
    while (!known(name) && /[._@-]$/.test(name)) name = name.slice(0, -1);
    if (name !== "" && known(name)) yield { at: match.index, name };
  }
}

/** What `send` takes. `users` undefined: not known here, so every name counts. */
export function mentionsOf(
  text: string,
  conv: Conv,
  users: string[] | undefined,
): string[] | "all" | undefined {
  if (conv.kind !== "group") return undefined;
  const all = mayMentionAll(conv);
  const set = users && new Set(users);
  const plain = (name: string): boolean => !/[._@-]$/.test(name);
  const known = (name: string): boolean =>
    (all && name === ALL) || (set ? set.has(name) : plain(name));
  const names = new Set([...namesIn(text, known)].map(({ name }) => name));
  if (all && names.has(ALL)) return "all";
  return names.size > 0 ? [...names].slice(0, MENTIONS_MAX) : undefined;
}

/** Who is in a group, for those who write: read when an @ is typed, anew when their number is. */
export class People extends Observed {
  #client: Client;
  #users = new Map<ConvId, { users: string[]; members: number }>();
  #loading = new Set<ConvId>();

  constructor(client: Client) {
    super();
    this.#client = client;
  }

  of(c: ConvId): string[] | undefined {
    return this.#users.get(c)?.users;
  }

  async load(conv: Conv): Promise<void> {
    const { c, members } = conv;
    if (conv.kind !== "group" || this.#loading.has(c)) return;
    if (this.#users.get(c)?.members === members) return;
    this.#loading.add(c);
    try {
      const users: string[] = [];
      let page: string | undefined;
      for (let i = 0; i < PAGES; i++) {
        const reply = await this.#client.members(c, page);
        users.push(...reply.members.map(({ user }) => user));
        page = reply.next ?? undefined;
        if (page === undefined) break;
      }
      this.#users.set(c, { users, members });
    } catch {
      // The next @ tries again.
    }
    this.#loading.delete(c);
    this.changed();
  }

  /** Those whose names begin with, else hold, what was typed; all of the group first. */
  matching(conv: Conv, typed: string, me: string, most: number): string[] {
    const wanted = typed.toLowerCase();
    const others = (this.of(conv.c) ?? []).filter((user) => user !== me && user !== ALL);
    const begin = others.filter((user) => user.toLowerCase().startsWith(wanted));
    const hold = others.filter(
      (user) => !begin.includes(user) && user.toLowerCase().includes(wanted),
    );
    const all = mayMentionAll(conv) && ALL.startsWith(wanted) ? [ALL] : [];
    return [...all, ...begin, ...hold].slice(0, most);
  }
}
