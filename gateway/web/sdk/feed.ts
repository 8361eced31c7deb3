/**
 * Gives out each conversation's log once and in order, whatever the connection does. A cursor per
 * conversation is all that is kept: what is missing is read from the log by `range`, never queued.
 */

import { pause } from "./session.ts";
import { isHole, LoquatError, type Conv, type ConvId, type Hole, type Page } from "./types.ts";
import type { Rec, Seq } from "./types.ts";

export interface FeedHooks {
  give(c: ConvId, item: Rec | Hole): void;
  /** `[from, to]` was too long to be caught up with, or was lost: it is not given out. */
  skipped(c: ConvId, from: Seq, to: Seq): void;
  /** False: the reader is slow; `room` resolves when it takes more. */
  ready(): boolean;
  room(): Promise<void>;
  range(fields: { c: ConvId; from?: Seq; max: number; order: "asc" | "desc" }): Promise<Page>;
  resume(c: ConvId, cur: Seq): Promise<unknown>;
  /** The conversation can't be read on this connection. */
  broken(c: ConvId, err: LoquatError): void;
}

interface Cursor {
  /** The last sequence given out. */
  at: Seq;
  /** Set from a head that nobody was given: the first record that comes says where it starts. */
  soft: boolean;
  /** The highest sequence known to exist. */
  top: Seq;
  /** The server waits for `resume`. */
  lagging: boolean;
  filling: boolean;
}

const PAGE_MAX = 500;
const RETRIES_MAX = 8;
const RETRY_MS = 200;

export class Feed {
  #cursors = new Map<ConvId, Cursor>();
  #hooks: FeedHooks;
  #lagMax: number;
  /** Counts connections: a loop of an earlier one ends by itself. */
  #epoch = 0;

  constructor(hooks: FeedHooks, start: Record<ConvId, Seq>, lagMax: number) {
    this.#hooks = hooks;
    this.#lagMax = lagMax;
    for (const [c, at] of Object.entries(start)) this.#set(c, at, false);
  }

  /** The last sequence given out of each conversation: what `sync` takes. */
  cursors(): Record<ConvId, Seq> {
    return Object.fromEntries([...this.#cursors].map(([c, cursor]) => [c, cursor.at]));
  }

  /** The connection is gone; the next `synced` goes on from the cursors. */
  down(): void {
    this.#epoch++;
    for (const cursor of this.#cursors.values()) {
      cursor.lagging = false;
      cursor.filling = false;
    }
  }

  /** A conversation as of `sync`; `sent`: its cursor went along, the server sends what follows. */
  synced(conv: Conv, sent: boolean): void {
    const cursor = this.#cursors.get(conv.c);
    if (!cursor) {
      this.#set(conv.c, conv.head, true);
    } else if (conv.head < cursor.at && sent) {
      // The server knows less than it once acknowledged (restored from a backup).
      this.#hooks.skipped(conv.c, conv.head + 1, cursor.at);
      this.#set(conv.c, conv.head, false);
    } else if (conv.head > cursor.at && !sent) {
      cursor.top = Math.max(cursor.top, conv.head);
      void this.#fill(conv.c, cursor);
    }
  }

  joined(conv: Conv): void {
    if (!this.#cursors.has(conv.c)) this.#set(conv.c, conv.head, true);
  }

  left(c: ConvId): void {
    this.#cursors.delete(c);
  }

  /** A live record, or a hole where the server caught up for the client. */
  live(c: ConvId, item: Rec | Hole): void {
    const [first, last] = isHole(item) ? item.hole : [item.s, item.s];
    let cursor = this.#cursors.get(c);
    if (!cursor || (cursor.soft && first <= cursor.at)) cursor = this.#set(c, first - 1, false);
    if (last <= cursor.at) return;
    cursor.top = Math.max(cursor.top, last);
    if (first <= cursor.at + 1 && this.#hooks.ready()) this.#give(c, cursor, item, last);
    else void this.#fill(c, cursor);
  }

  lag(c: ConvId, head: Seq): void {
    const cursor = this.#cursors.get(c);
    if (!cursor) return;
    cursor.top = Math.max(cursor.top, head);
    cursor.lagging = true;
    void this.#fill(c, cursor);
  }

  #set(c: ConvId, at: Seq, soft: boolean): Cursor {
    const cursor = { at, soft, top: at, lagging: false, filling: false };
    this.#cursors.set(c, cursor);
    return cursor;
  }

  /** The item ends at `last` and leaves no gap; a hole may begin before what was given. */
  #give(c: ConvId, cursor: Cursor, item: Rec | Hole, last: Seq): void {
    const first = cursor.at + 1;
    cursor.at = last;
    cursor.soft = false;
    this.#hooks.give(c, isHole(item) ? { ...item, hole: [first, last] } : item);
  }

  /** Reads on until nothing known is missing, then tells a server that waits for it. */
  async #fill(c: ConvId, cursor: Cursor): Promise<void> {
    if (cursor.filling) return;
    cursor.filling = true;
    const epoch = this.#epoch;
    const current = (): boolean => epoch === this.#epoch && this.#cursors.get(c) === cursor;
    for (let tries = 0; ;) {
      try {
        if (!(await this.#step(c, cursor, current))) break;
        tries = 0;
      } catch (err) {
        if (!current()) break;
        const error = LoquatError.from(err);
        if (error.code === "not_found") this.#cursors.delete(c);
        if (error.code === "closed" || error.code === "not_found") break;
        if (!error.retry || ++tries > RETRIES_MAX) {
          this.#hooks.broken(c, error);
          break;
        }
        await pause((error.afterMs ?? 0) + RETRY_MS * 2 ** tries * Math.random());
      }
    }
    if (current()) cursor.filling = false;
  }

  /** One step of the way; false when there is nothing left to do. */
  async #step(c: ConvId, cursor: Cursor, current: () => boolean): Promise<boolean> {
    if (!current()) return false;
    if (!this.#hooks.ready()) {
      await this.#hooks.room();
    } else if (cursor.top - cursor.at > this.#lagMax) {
      const from = cursor.at + 1;
      cursor.at = cursor.top;
      this.#hooks.skipped(c, from, cursor.top);
    } else if (cursor.at < cursor.top) {
      await this.#page(c, cursor, current);
    } else if (cursor.lagging) {
      cursor.lagging = false; // a `lag` that comes before the answer sets it again
      await this.#hooks.resume(c, cursor.at);
    } else {
      return false;
    }
    return true;
  }

  async #page(c: ConvId, cursor: Cursor, current: () => boolean): Promise<void> {
    const page = await this.#hooks
      .range({ c, from: cursor.at + 1, max: PAGE_MAX, order: "asc" })
      .catch((err: unknown) => this.#trimmed(c, cursor, current, LoquatError.from(err)));
    if (!page || !current()) return;
    const before = cursor.at;
    for (const item of page.records) {
      const [first, last] = isHole(item) ? item.hole : [item.s, item.s];
      if (last <= cursor.at) continue; // came live meanwhile
      if (first > cursor.at + 1)
        throw new LoquatError({ code: "protocol", msg: `${c}: ${first} after ${cursor.at}` });
      if (!this.#hooks.ready()) return;
      this.#give(c, cursor, item, last);
      if (!current()) return; // a listener stopped the client
    }
    if (cursor.at === before && cursor.at < cursor.top)
      throw new LoquatError({
        code: "unavailable",
        msg: `${c}: nothing at ${before + 1}`,
        retry: true,
      });
  }

  /** What lies below the floor is given out as a hole. */
  async #trimmed(
    c: ConvId,
    cursor: Cursor,
    current: () => boolean,
    err: LoquatError,
  ): Promise<null> {
    if (err.code !== "trimmed") throw err;
    const { floor } = await this.#hooks.range({ c, max: 1, order: "desc" });
    if (!current()) return null;
    if (floor <= cursor.at + 1) throw err;
    this.#give(c, cursor, { hole: [cursor.at + 1, floor - 1], why: "trimmed" }, floor - 1);
    return null;
  }
}
