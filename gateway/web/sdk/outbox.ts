/**
 * Writes that wait for their acknowledgement: kept in a storage, sent in order within a
 * conversation, sent again with the same `cid` until the server has answered, so that each lands
 * exactly once.
 */

import type { Fields } from "./link.ts";
import type { Storage } from "./storage.ts";
import {
  LoquatError,
  type ConvId,
  type Millis,
  type SendResult,
  type WireError,
} from "./types.ts";

export type QueuedOp = "send" | "edit" | "delete" | "react" | "pin";

export interface Entry {
  cid: string;
  op: QueuedOp;
  c: ConvId;
  fields: Fields;
  /** When it was queued. */
  at: Millis;
  /** The server refused it for good: it waits for `retry` or `discard`, and holds nothing up. */
  error?: WireError;
}

export interface OutboxHooks {
  /** Rejects with `closed` when there is no live connection. */
  request(op: string, fields: Fields): Promise<SendResult>;
  onChange(): void;
  onSent(entry: Entry, result: SendResult): void;
  onFailed(entry: Entry, err: LoquatError): void;
}

interface Waiter {
  resolve(result: SendResult): void;
  reject(err: LoquatError): void;
}

/** Most writes that wait; one more is refused with `queue_full`. */
export const OUTBOX_MAX = 1000;
const RETRY_BASE_MS = 300;
const RETRY_CAP_MS = 15_000;

export class Outbox {
  #entries = new Map<string, Entry>();
  #waiters = new Map<string, Waiter>();
  #busy = new Set<ConvId>();
  /** Conversations that wait before the next try: call to go on (true) or to give up for now. */
  #resting = new Map<ConvId, (go: boolean) => void>();
  #storage: Storage;
  #hooks: OutboxHooks;

  constructor(storage: Storage, hooks: OutboxHooks) {
    this.#storage = storage;
    this.#hooks = hooks;
    for (const entry of storage.load()) this.#entries.set(entry.cid, entry);
  }

  /** Oldest first, refused ones too. */
  entries(): Entry[] {
    return [...this.#entries.values()];
  }

  /** Settles with the answer; a refusal rejects. The write outlives the promise. */
  add(entry: Entry): Promise<SendResult> {
    if (this.#entries.size >= OUTBOX_MAX)
      return Promise.reject(
        new LoquatError({ code: "queue_full", msg: `${OUTBOX_MAX} waiting` }),
      );
    if (this.#entries.has(entry.cid))
      return Promise.reject(new LoquatError({ code: "conflict", msg: "this cid is queued" }));
    const done = new Promise<SendResult>((resolve, reject) => {
      this.#waiters.set(entry.cid, { resolve, reject });
    });
    done.catch(() => undefined); // `failed` tells it too
    this.#entries.set(entry.cid, entry);
    this.#save(entry);
    this.#hooks.onChange();
    void this.#run(entry.c);
    return done;
  }

  /** A refused write once more, with the same `cid`. */
  retry(cid: string): void {
    const entry = this.#entries.get(cid);
    if (!entry?.error) return;
    delete entry.error;
    this.#save(entry);
    this.#hooks.onChange();
    void this.#run(entry.c);
  }

  /** Forgets a refused write. One that may be under way can't be taken back. */
  discard(cid: string): void {
    if (this.#entries.get(cid)?.error) this.#remove(cid);
  }

  /** There is a live connection (again). */
  flush(): void {
    for (const c of new Set(this.entries().map((entry) => entry.c))) void this.#run(c);
  }

  /** Ends the waiting between tries; `flush` goes on. */
  stop(): void {
    for (const wake of [...this.#resting.values()]) wake(false);
  }

  async #run(c: ConvId): Promise<void> {
    this.#resting.get(c)?.(true);
    if (this.#busy.has(c)) return;
    this.#busy.add(c);
    try {
      let entry: Entry | undefined;
      for (let tries = 0; (entry = this.#first(c));) {
        const again = await this.#attempt(entry);
        if (!again) tries = 0;
        else if (again.code === "closed" || !(await this.#rest(c, again, tries++))) return;
      }
    } finally {
      this.#busy.delete(c);
    }
  }

  #first(c: ConvId): Entry | undefined {
    for (const entry of this.#entries.values()) if (entry.c === c && !entry.error) return entry;
    return undefined;
  }

  /** Null when it is settled, one way or the other; else why it has to be tried again. */
  async #attempt(entry: Entry): Promise<LoquatError | null> {
    try {
      const fields = { ...entry.fields, c: entry.c, cid: entry.cid };
      const result = await this.#hooks.request(entry.op, fields);
      this.#hooks.onSent(entry, result);
      this.#remove(entry.cid);
      this.#waiters.get(entry.cid)?.resolve(result);
      this.#waiters.delete(entry.cid);
    } catch (err) {
      const error = LoquatError.from(err);
      // The session sees to a token that ran out.
      if (error.retry || error.code === "unauthorized") return error;
      this.#refuse(entry, error);
    }
    return null;
  }

  /** Waits before the next try; false: not now, `flush` starts again. */
  #rest(c: ConvId, why: LoquatError, tries: number): Promise<boolean> {
    const most = Math.min(RETRY_CAP_MS, RETRY_BASE_MS * 2 ** Math.min(tries, 10));
    return new Promise((resolve) => {
      const wake = (go: boolean): void => {
        clearTimeout(timer);
        this.#resting.delete(c);
        resolve(go);
      };
      const timer = setTimeout(wake, (why.afterMs ?? 0) + Math.random() * most, true);
      this.#resting.set(c, wake);
    });
  }

  #refuse(entry: Entry, error: LoquatError): void {
    entry.error = { code: error.code, msg: error.message };
    this.#save(entry);
    this.#hooks.onChange();
    this.#waiters.get(entry.cid)?.reject(error);
    this.#waiters.delete(entry.cid);
    this.#hooks.onFailed(entry, error);
  }

  #save(entry: Entry): void {
    try {
      this.#storage.put(entry);
    } catch {
      // No room: it is sent all the same, but a reload before that would lose it.
    }
  }

  #remove(cid: string): void {
    this.#entries.delete(cid);
    try {
      this.#storage.remove(cid);
    } catch {
      // A later load sends it again: the same cid, so nothing happens twice.
    }
    this.#hooks.onChange();
  }
}
