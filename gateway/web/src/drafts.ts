/**
 * What is written and not sent yet, by conversation. What is typed here holds here; the server gets
 * it soon, for the other devices of this user, and what they write is shown here, except over a text
 * that somebody is at. Until the server has it, it outlives the page in `localStorage`.
 */

import { DRAFT_MAX, LoquatError, type ConvId, type Millis } from "../sdk/index.ts";
import { Observed } from "./observe.ts";

export interface DraftHooks {
  /** What the server has, as far as is known. */
  known(c: ConvId): string;
  live(): boolean;
  save(c: ConvId, draft: string | null): Promise<void>;
}

/** What was typed here, kept for as long as nothing else may take its place. */
interface Held {
  text: string;
  /** What the server has of it; null: nobody knows. */
  saved: string | null;
  /** Before that it stays, whatever other devices do. */
  until: Millis;
  timer: ReturnType<typeof setTimeout> | undefined;
  /** When the timer runs out. */
  due: Millis;
  saving: boolean;
}

/** While somebody types it is saved so often. */
export const SAVE_MS = 3000;
/** So long after the last key, or after it was saved, a draft gives way to that of another device. */
export const HOLD_MS = 6000;
const encoder = new TextEncoder();

export class Drafts extends Observed {
  #held = new Map<ConvId, Held>();
  #prefix: string;
  #hooks: DraftHooks;

  constructor(user: string, hooks: DraftHooks) {
    super();
    this.#prefix = `loquat.draft.${user}.`;
    this.#hooks = hooks;
    for (const key of Object.keys(localStorage)) {
      if (!key.startsWith(this.#prefix)) continue;
      const text = localStorage.getItem(key) ?? "";
      this.#hold(key.slice(this.#prefix.length), text, null);
    }
  }

  of(c: ConvId): string {
    return this.#held.get(c)?.text ?? this.#hooks.known(c);
  }

  /** Typed here. */
  change(c: ConvId, text: string): void {
    const held = this.#held.get(c) ?? this.#hold(c, text, this.#hooks.known(c));
    held.text = text;
    held.until = Date.now() + HOLD_MS;
    this.#keep(c, held);
    this.#later(c, held);
    this.changed();
  }

  /** Nobody is at it any more: it need not wait. */
  flush(c: ConvId): void {
    const held = this.#held.get(c);
    if (held && unsaved(held)) void this.#save(c, held);
  }

  /** There is a connection, or the page is out of sight. */
  flushAll(): void {
    for (const c of this.#held.keys()) this.flush(c);
  }

  /** The page goes: what is on its way now arrives, or nobody hears of it. */
  close(): void {
    const live = this.#hooks.live();
    for (const [c, held] of this.#held) {
      clearTimeout(held.timer);
      if (!live || !unsaved(held)) continue;
      this.#hooks.save(c, held.text || null).catch(() => undefined);
      this.#forget(c);
    }
  }

  remove(c: ConvId): void {
    clearTimeout(this.#held.get(c)?.timer);
    this.#held.delete(c);
    this.#forget(c);
  }

  #hold(c: ConvId, text: string, saved: string | null): Held {
    const held = { text, saved, until: 0, timer: undefined, due: Infinity, saving: false };
    this.#held.set(c, held);
    return held;
  }

  /** Saves it in a while, or lets it go. */
  #later(c: ConvId, held: Held): void {
    const now = Date.now();
    const due = unsaved(held) ? now + SAVE_MS : Math.max(now, held.until);
    if (held.saving || due >= held.due) return;
    clearTimeout(held.timer);
    held.due = due;
    held.timer = setTimeout(() => {
      held.due = Infinity;
      if (unsaved(held)) void this.#save(c, held);
      else if (Date.now() < held.until) this.#later(c, held);
      else if (this.#held.get(c) === held) this.#release(c);
    }, due - now);
  }

  async #save(c: ConvId, held: Held): Promise<void> {
    if (held.saving || !this.#hooks.live()) return; // once that is over, and when there is one
    clearTimeout(held.timer);
    held.due = Infinity;
    const { text } = held;
    if (encoder.encode(text).length > DRAFT_MAX) return; // it stays here alone
    held.saving = true;
    try {
      await this.#hooks.save(c, text || null);
      held.saved = text;
    } catch (err) {
      if (!LoquatError.from(err).retry) held.saved = text; // it will never be
    }
    held.saving = false;
    if (this.#held.get(c) !== held) return;
    held.until = Math.max(held.until, Date.now() + HOLD_MS); // the word of it may still be coming
    this.#keep(c, held);
    if (held.text === "" && unsaved(held))
      void this.#save(c, held); // sent meanwhile
    else this.#later(c, held);
  }

  #release(c: ConvId): void {
    this.#held.delete(c);
    this.changed();
  }

  #keep(c: ConvId, held: Held): void {
    if (!unsaved(held)) return this.#forget(c);
    try {
      localStorage.setItem(this.#prefix + c, held.text);
    } catch {
      // No room: it lives as long as the page.
    }
  }

  #forget(c: ConvId): void {
    localStorage.removeItem(this.#prefix + c);
  }
}

const unsaved = (held: Held): boolean => held.text !== held.saved;
