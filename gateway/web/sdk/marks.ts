/** Read and delivered marks: the newest of each conversation, sent soon, kept until answered. */

import type { Fields } from "./link.ts";
import { LoquatError, type ConvId, type Seq } from "./types.ts";

interface Mark {
  read?: Seq;
  delivered?: Seq;
}

const SOON_MS = 400;
const AGAIN_MS = 2000;

export class Marks {
  #waiting = new Map<ConvId, Mark>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #send: (fields: Fields) => Promise<unknown>;

  constructor(send: (fields: Fields) => Promise<unknown>) {
    this.#send = send;
  }

  add(c: ConvId, mark: Mark): void {
    this.#merge(c, mark);
    this.#timer ??= setTimeout(() => this.flush(), SOON_MS);
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const all = [...this.#waiting];
    this.#waiting.clear();
    for (const [c, mark] of all) {
      this.#send({ c, ...mark }).catch((err: unknown) => {
        const error = LoquatError.from(err);
        if (!error.retry) return;
        this.#merge(c, mark);
        // Without a connection the next one flushes.
        if (error.code !== "closed") this.#timer ??= setTimeout(() => this.flush(), AGAIN_MS);
      });
    }
  }

  #merge(c: ConvId, mark: Mark): void {
    const waiting = this.#waiting.get(c) ?? {};
    for (const key of ["read", "delivered"] as const) {
      const s = mark[key];
      if (s !== undefined) waiting[key] = Math.max(waiting[key] ?? 0, s);
    }
    this.#waiting.set(c, waiting);
  }
}
