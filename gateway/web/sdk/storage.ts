/** Where unsent writes outlive the page: one item for each, so that tabs don't clash. */

import type { Entry } from "./outbox.ts";

/**
 * `load` gives what an earlier run left, oldest first. `put` writes or overwrites by `cid`. It may
 * fail (a full disk, private browsing): the write then lives in memory alone.
 */
export interface Storage {
  load(): Entry[];
  put(entry: Entry): void;
  remove(cid: string): void;
}

/** What is needed of `localStorage`. */
export interface WebStorageLike {
  readonly length: number;
  key(index: number): string | null;
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

export function memoryStorage(): Storage {
  const entries = new Map<string, Entry>();
  return {
    load: () => [...entries.values()].map((entry) => structuredClone(entry)),
    put: (entry) => void entries.set(entry.cid, structuredClone(entry)),
    remove: (cid) => void entries.delete(cid),
  };
}

/**
 * On `localStorage` or the like. Two tabs of one user load each other's writes and may both send
 * them: the same `cid` makes that one message.
 */
export function webStorage(area: WebStorageLike, user: string): Storage {
  const prefix = `loquat.out.${user}.`;
  return {
    load() {
      const keys: string[] = [];
      for (let i = 0; i < area.length; i++) {
        const key = area.key(i);
        if (key?.startsWith(prefix)) keys.push(key);
      }
      // Default cids are ULIDs: the order of the keys is that of the writes.
      return keys.sort().flatMap((key) => parse(area.getItem(key)));
    },
    put: (entry) => area.setItem(prefix + entry.cid, JSON.stringify(entry)),
    remove: (cid) => area.removeItem(prefix + cid),
  };
}

function parse(text: string | null): Entry[] {
  try {
    const entry = JSON.parse(text ?? "") as Entry;
    return typeof entry.cid === "string" && typeof entry.c === "string" ? [entry] : [];
  } catch {
    return []; // somebody else's, or damaged
  }
}
