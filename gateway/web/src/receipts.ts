/** What the others have received and read, in conversations whose marks are told. */

import type { Client, Conv, ConvId, Seq } from "../sdk/index.ts";

export interface Peer {
  read: Seq;
  delivered: Seq;
}

/** Of larger ones no marks are told. */
const MEMBERS_MAX = 32;

export function hasMarks(conv: Conv): boolean {
  return conv.kind === "direct" || conv.members <= MEMBERS_MAX;
}

export class Receipts {
  #client: Client;
  #changed: (c: ConvId) => void;
  #marks = new Map<ConvId, Map<string, Peer>>();
  /** What all others have; the same object until it changes. */
  #all = new Map<ConvId, Peer>();
  #loading = new Map<ConvId, object>();

  constructor(client: Client, changed: (c: ConvId) => void) {
    this.#client = client;
    this.#changed = changed;
  }

  /** What every other member has received and read; null: not known, or there is none. */
  of(conv: Conv): Peer | null {
    return hasMarks(conv) ? (this.#all.get(conv.c) ?? null) : null;
  }

  /** A mark of somebody else moved. */
  see(c: ConvId, user: string, read: Seq, delivered: Seq): void {
    const marks = this.#marks.get(c);
    if (!marks) return; // they are read first
    raise(marks, user, read, delivered);
    this.#settle(c);
  }

  /** Reads all of them: when the conversation is opened, and when somebody came or went. */
  async load(conv: Conv): Promise<void> {
    if (!hasMarks(conv)) return;
    const { c } = conv;
    const run = {};
    this.#loading.set(c, run);
    const before = this.#marks.get(c);
    this.#marks.set(c, new Map(before)); // marks that move meanwhile are kept
    try {
      const { members } = await this.#client.members(c);
      if (this.#loading.get(c) !== run) return;
      const marks = this.#marks.get(c)!;
      const others = members.filter(({ user }) => user !== this.#client.user);
      for (const { user, read, delivered } of others)
        raise(marks, user, read ?? 0, delivered ?? 0);
      for (const user of marks.keys())
        if (!others.some((member) => member.user === user)) marks.delete(user);
      this.#loading.delete(c);
      this.#settle(c);
    } catch {
      if (this.#loading.get(c) === run) this.#loading.delete(c);
      // Ticks stay as they are; the next mark or reconnect brings them.
    }
  }

  remove(c: ConvId): void {
    this.#marks.delete(c);
    this.#all.delete(c);
    this.#loading.delete(c);
  }

  #settle(c: ConvId): void {
    const all = [...(this.#marks.get(c)?.values() ?? [])];
    if (this.#loading.has(c)) return; // not all are known
    const old = this.#all.get(c);
    const now = {
      read: Math.min(...all.map(({ read }) => read)),
      delivered: Math.min(...all.map(({ delivered }) => delivered)),
    };
    if (all.length === 0) this.#all.delete(c);
    else if (old?.read === now.read && old.delivered === now.delivered) return;
    else this.#all.set(c, now);
    this.#changed(c);
  }
}

function raise(marks: Map<string, Peer>, user: string, read: Seq, delivered: Seq): void {
  const old = marks.get(user) ?? { read: 0, delivered: 0 };
  const newest = Math.max(old.read, read);
  marks.set(user, { read: newest, delivered: Math.max(old.delivered, delivered, newest) });
}
