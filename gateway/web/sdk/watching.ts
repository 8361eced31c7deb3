/**
 * Whom this client wants to be told of, and whether its user is at it. Watching ends with a
 * connection: each new one is told all of it again.
 */

import { pause } from "./session.ts";
import { LoquatError } from "./types.ts";

/** Users watched at once, most. */
export const WATCH_MAX = 1000;
/** Users of one request, most: the frames stay small. */
const STEP = 200;
const RETRY_MS = 500;

interface Step {
  watch?: string[];
  unwatch?: string[];
  set?: "online" | "away";
}

export class Watching {
  #wanted = new Set<string>();
  #away = false;
  /** What this connection has been told. */
  #told = new Set<string>();
  /** Of these, whom it has to be told off: who is watched again then is heard of anew. */
  #off = new Set<string>();
  #toldAway = false;
  #running = false;
  /** Counts connections: a loop of an earlier one ends by itself. */
  #epoch = 0;
  #live = false;
  #request: (fields: { [key: string]: unknown }) => Promise<unknown>;

  constructor(request: (fields: { [key: string]: unknown }) => Promise<unknown>) {
    this.#request = request;
  }

  watch(users: string[]): void {
    const wanted = new Set([...this.#wanted, ...users]);
    if (wanted.size > WATCH_MAX)
      throw new LoquatError({ code: "too_large", msg: `more than ${WATCH_MAX} users watched` });
    this.#wanted = wanted;
    this.#later();
  }

  unwatch(users: string[]): void {
    for (const user of users)
      if (this.#wanted.delete(user) && this.#told.has(user)) this.#off.add(user);
    this.#later();
  }

  has(user: string): boolean {
    return this.#wanted.has(user);
  }

  set(away: boolean): void {
    this.#away = away;
    this.#later();
  }

  live(): void {
    this.#live = true;
    this.#later();
  }

  down(): void {
    this.#live = false;
    this.#epoch++;
    this.#running = false;
    this.#told.clear();
    this.#off.clear();
    this.#toldAway = false;
  }

  /** Once for all that is asked for in one turn. */
  #later(): void {
    if (!this.#live || this.#running) return;
    this.#running = true;
    const epoch = this.#epoch;
    queueMicrotask(() => void this.#run(epoch));
  }

  async #run(epoch: number): Promise<void> {
    for (let step = this.#next(); step && epoch === this.#epoch; step = this.#next()) {
      let wait = 0;
      try {
        await this.#request({ ...step });
        if (epoch === this.#epoch) this.#took(step);
      } catch (err) {
        const error = LoquatError.from(err);
        if (!error.retry && epoch === this.#epoch) this.#took(step); // it never will be
        wait = error.afterMs ?? RETRY_MS * (0.5 + Math.random());
      }
      if (wait > 0) await pause(wait);
    }
    if (epoch === this.#epoch) this.#running = false;
  }

  /** What the connection does not know yet; null: it knows all. */
  #next(): Step | null {
    const step: Step = {};
    const unwatch = [...this.#off].slice(0, STEP);
    const watch = [...this.#wanted].filter((user) => !this.#told.has(user)).slice(0, STEP);
    if (unwatch.length > 0) step.unwatch = unwatch;
    else if (watch.length > 0) step.watch = watch;
    if (this.#away !== this.#toldAway) step.set = this.#away ? "away" : "online";
    return Object.keys(step).length > 0 ? step : null;
  }

  #took(step: Step): void {
    for (const user of step.watch ?? []) {
      this.#told.add(user);
      if (!this.#wanted.has(user)) this.#off.add(user); // changed its mind meanwhile
    }
    for (const user of step.unwatch ?? []) {
      this.#told.delete(user);
      this.#off.delete(user);
    }
    if (step.set) this.#toldAway = step.set === "away";
  }
}
