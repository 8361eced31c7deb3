/** The async iterator of a client: a short buffer that says when it has no room. */

import type { ConvId, Hole, Rec } from "./types.ts";

export interface Given {
  c: ConvId;
  item: Rec | Hole;
}

/** So much waits for a slow loop; then the delivery stands still and goes on from the log. */
export const READER_MAX = 256;

export class Reader implements AsyncIterableIterator<Given> {
  #buffer: Given[] = [];
  #ended = false;
  #wakeReader: (() => void) | null = null;
  #wakeWriters: (() => void)[] = [];
  #onEnd: () => void;

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  put(given: Given): void {
    if (this.#ended) return;
    this.#buffer.push(given);
    this.#wakeReader?.();
  }

  hasRoom(): boolean {
    return this.#buffer.length < READER_MAX;
  }

  room(): Promise<void> {
    if (this.hasRoom()) return Promise.resolve();
    return new Promise((resolve) => this.#wakeWriters.push(resolve));
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#buffer = [];
    this.#wakeReader?.();
    this.#letIn();
    this.#onEnd();
  }

  async next(): Promise<IteratorResult<Given>> {
    while (this.#buffer.length === 0 && !this.#ended)
      await new Promise<void>((resolve) => (this.#wakeReader = resolve));
    const value = this.#buffer.shift();
    if (!value) return { done: true, value: undefined };
    if (this.#buffer.length < READER_MAX / 2) this.#letIn();
    return { done: false, value };
  }

  async return(): Promise<IteratorResult<Given>> {
    this.end();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #letIn(): void {
    for (const wake of this.#wakeWriters.splice(0)) wake();
  }
}
