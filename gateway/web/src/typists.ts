/** Who writes just now, in each conversation. */

import type { ConvId, Millis } from "../sdk/index.ts";
import { Observed } from "./observe.ts";

/** Longer than this nobody is believed. */
const MOST_MS = 30_000;

export class Typists extends Observed {
  #timers = new Map<ConvId, Map<string, ReturnType<typeof setTimeout>>>();

  of(c: ConvId): string[] {
    return [...(this.#timers.get(c)?.keys() ?? [])];
  }

  add(c: ConvId, user: string, ms: Millis): void {
    const timers = this.#timers.get(c) ?? new Map();
    this.#timers.set(c, timers);
    clearTimeout(timers.get(user));
    timers.set(
      user,
      setTimeout(() => this.remove(c, user), Math.min(ms, MOST_MS)),
    );
    this.changed();
  }

  /** A message of that user came, or nothing more. */
  remove(c: ConvId, user: string): void {
    const timers = this.#timers.get(c);
    const timer = timers?.get(user);
    if (timer === undefined) return;
    clearTimeout(timer);
    timers!.delete(user);
    if (timers!.size === 0) this.#timers.delete(c);
    this.changed();
  }

  clear(c: ConvId): void {
    for (const user of this.of(c)) this.remove(c, user);
  }
}
